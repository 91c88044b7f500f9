//! Sessions: one signature, then cheaper proofs for a while. Both kinds live in this instance's memory only, so
//! a restart or another instance ends them (DESIGN 8).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::error::Error;
use crate::base::id::{SessionId, base64url};
use crate::base::random;
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::time::{Timestamp, Ttl};
use crate::httpsig::{self, Claimed, CounterWindow, Parts, Proof, SigError};
use crate::model::principal::{PrincipalKind, PublicKey};

const SIGNING_LIFE: Ttl = Ttl::from_mins(5);
const BEARER_LIFE: Ttl = Ttl::from_mins(8 * 60);

/// The sessions of this instance.
#[derive(Default)]
pub struct Sessions {
    signing: RwLock<HashMap<String, Arc<Signing>>>,
    bearer: Mutex<HashMap<[u8; 32], Bearer>>,
}

struct Signing {
    holder: PublicKey,
    key: SecretBytes,
    window: Mutex<CounterWindow>,
    until: Timestamp,
}

struct Bearer {
    holder: PublicKey,
    until: Timestamp,
}

/// What kind of session to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionUse {
    /// An HMAC key for RFC 9421 `hmac-sha256` signatures, five minutes.
    Sign,
    /// A token for the `Authorization` header of people's tools, eight hours; operators and humans only.
    Login,
}

/// A request for a session.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionAsk {
    /// The kind.
    #[serde(rename = "use")]
    pub kind: SessionUse,
}

/// A new session. The secret half is not part of what can be serialised; the surface writes it.
pub struct NewSession {
    /// `keyid` of signatures; absent for a login.
    pub id: Option<SessionId>,
    /// The HMAC key (base64url), or the login token.
    pub secret: SecretText,
    /// When it ends.
    pub expires: Timestamp,
}

/// A session that is over.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SessionClosed {
    /// Always `session`.
    pub object: String,
    /// Always true.
    pub closed: bool,
}

/// Opens a session for the caller, who signed this request.
///
/// # Errors
/// [`Error::SignatureRequired`], [`Error::NotAllowed`].
pub async fn open(app: &App, context: &Context, ask: &SessionAsk) -> Result<NewSession, Error> {
    let holder = context.key.ok_or(Error::SignatureRequired)?;
    let kinds: &[PrincipalKind] = match ask.kind {
        SessionUse::Sign => &[
            PrincipalKind::Agent,
            PrincipalKind::Prim,
            PrincipalKind::Factory,
            PrincipalKind::Operator,
        ],
        SessionUse::Login => &[PrincipalKind::Operator, PrincipalKind::Human],
    };
    let principal = context.require(kinds)?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let event = app.event(
        context,
        "session.opened",
        &principal.id,
        serde_json::json!({ "use": ask.kind }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    Ok(match ask.kind {
        SessionUse::Sign => app.sessions().open_signing(app, holder),
        SessionUse::Login => app.sessions().open_bearer(app, holder),
    })
}

/// Ends the login session whose token proved the caller, at once. One for signing ends by itself after five minutes.
///
/// # Errors
/// [`Error::SignatureRequired`] for strangers, [`Error::Conflict`] when the request was proved otherwise.
pub async fn close(app: &App, context: &Context, bearer: Option<&str>) -> Result<SessionClosed, Error> {
    let principal = context.require(&[
        PrincipalKind::Agent,
        PrincipalKind::Prim,
        PrincipalKind::Factory,
        PrincipalKind::Human,
        PrincipalKind::Operator,
    ])?;
    // A signed request may carry somebody else's token: it proves nothing of it, and ends nothing.
    if context.key.is_some() || !bearer.is_some_and(|token| app.sessions().end_bearer(token)) {
        let words = "the request was not proved by a login token, so there is nothing to end";
        return Err(Error::Conflict(words.to_owned()));
    }
    let event = app.event(
        context,
        "session.closed",
        &principal.id,
        serde_json::json!({ "use": SessionUse::Login }),
    );
    let tx = app.store.begin().await?;
    let _none = tx.commit(&[event], &[]).await?;
    Ok(SessionClosed {
        object: "session".to_owned(),
        closed: true,
    })
}

impl Sessions {
    fn open_signing(&self, app: &App, holder: PublicKey) -> NewSession {
        let now = app.now();
        let id = SessionId::new(now, app.random.as_ref());
        let key: [u8; 32] = random::bytes(app.random.as_ref());
        let secret = SecretText::new(base64url(&key));
        let until = now.plus(SIGNING_LIFE);
        let session = Signing {
            holder,
            key: SecretBytes::new(key.to_vec()),
            window: Mutex::default(),
            until,
        };
        let mut sessions = self.signing.write();
        sessions.retain(|_, session| session.until > now);
        sessions.insert(id.to_string(), Arc::new(session));
        NewSession {
            id: Some(id),
            secret,
            expires: until,
        }
    }

    /// Opens a login session; `setup` uses it for the test instance's operator.
    pub(super) fn open_bearer(&self, app: &App, holder: PublicKey) -> NewSession {
        let now = app.now();
        let key: [u8; 32] = random::bytes(app.random.as_ref());
        let token = format!("dks_{}", base64url(&key));
        let until = now.plus(BEARER_LIFE);
        let mut sessions = self.bearer.lock();
        sessions.retain(|_, session| session.until > now);
        sessions.insert(*blake3::hash(token.as_bytes()).as_bytes(), Bearer { holder, until });
        NewSession {
            id: None,
            secret: SecretText::new(token),
            expires: until,
        }
    }

    /// Checks a signature made in a session; `None` when it names none that lives.
    pub(super) fn verify(
        &self,
        claimed: &Claimed,
        parts: &Parts<'_>,
        now: Timestamp,
    ) -> Option<Result<Proof, SigError>> {
        let id = claimed.unverified_session()?;
        // The lock is not held while the signature is checked: sessions do not wait for each other.
        let session = self.signing.read().get(id).map(Arc::clone);
        let session = session.filter(|session| session.until > now)?;
        Some(httpsig::verify_session(claimed, &session.key, parts, now))
    }

    /// Counts a verified use; a repeated counter is refused. Answers the key of the session's holder.
    pub(super) fn count(&self, id: &str, counter: u64) -> Option<PublicKey> {
        let session = self.signing.read().get(id).map(Arc::clone)?;
        session.window.lock().accept(counter).then_some(session.holder)
    }

    /// The holder of a login token, while it lives. Looked up by digest, so timing tells nothing of the token.
    /// With it the digest, by which [`Sessions::lives`] finds the session again.
    pub(super) fn bearer(&self, token: &str, now: Timestamp) -> Option<(PublicKey, [u8; 32])> {
        let digest = *blake3::hash(token.as_bytes()).as_bytes();
        self.bearer
            .lock()
            .get(&digest)
            .filter(|session| session.until > now)
            .map(|session| (session.holder, digest))
    }

    /// Whether a login session goes on.
    pub(super) fn lives(&self, digest: &[u8; 32], now: Timestamp) -> bool {
        self.bearer
            .lock()
            .get(digest)
            .is_some_and(|session| session.until > now)
    }

    /// Ends one login session; whether there was one.
    fn end_bearer(&self, token: &str) -> bool {
        let digest = *blake3::hash(token.as_bytes()).as_bytes();
        self.bearer.lock().remove(&digest).is_some()
    }

    /// Ends all sessions: the vault was sealed.
    pub(super) fn clear(&self) {
        self.signing.write().clear();
        self.bearer.lock().clear();
    }
}

/// A login token for a principal's first key without a signed request; only `setup` of a test instance may.
#[must_use]
pub fn open_for_test_instance(app: &App, holder: PublicKey) -> Option<NewSession> {
    (!app.livemode()).then(|| app.sessions().open_bearer(app, holder))
}
