//! A signed session: one Ed25519 signature, then five minutes of cheaper proofs (RFC 9421 `hmac-sha256`) with a counter
//! instead of a nonce. For the hot path of prims.

use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::request::Request;
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::httpsig::{self, Parts, SigError, SignedHeaders};

/// So long before its end a session counts as over: the last request must still arrive.
const MARGIN: Ttl = Ttl::from_secs(10);

/// A session with one process of the server. Without `Debug`: it holds the key.
pub struct Session {
    id: String,
    key: SecretBytes,
    counter: AtomicU64,
    until: Timestamp,
}

impl Session {
    /// The request that opens one; it is signed with the principal's key.
    #[must_use]
    pub fn request() -> Request {
        Request::post(&["v1", "sessions"]).json(&json!({ "use": "sign" }))
    }

    /// Reads the answer to [`Session::request`].
    #[must_use]
    pub fn read(answer: &Value) -> Option<Self> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str);
        let key = BASE64URL_NOPAD.decode(text("secret")?.as_bytes()).ok()?;
        Some(Self {
            id: text("session_id")?.to_owned(),
            key: SecretBytes::new(key),
            counter: AtomicU64::new(1),
            until: Timestamp::parse_rfc3339(text("expires")?)?,
        })
    }

    /// Whether another request may be signed in it.
    #[must_use]
    pub fn lives(&self, now: Timestamp) -> bool {
        now.plus(MARGIN) < self.until
    }

    /// Signs with the next number of the counter.
    pub(super) fn sign(&self, parts: &Parts<'_>, created: Timestamp) -> Result<SignedHeaders, SigError> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        httpsig::sign_session(&self.id, &self.key, counter, parts, created)
    }
}
