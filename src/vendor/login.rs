//! Root credentials that are first swapped for a token: OAuth client credentials and vendors' own logins. A token is
//! kept in memory until shortly before its end, since some vendors count or charge each one.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::adapter::{Declared, other};
use super::answer::{failure, json, no_answer, succeeded, unreadable};
use super::call::{self, Call};
use super::inject::authorize_login;
use super::jwt::Assertion;
use super::native;
use super::pace::Pace;
use super::tables::{As, Auth, Encoding, Verb};
use super::template::{Text, Tree};
use super::words::Pointer;
use super::{Existence, RootSecret, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::egress::{Egress, Incoming, Outgoing};
use crate::base::secret::SecretText;
use crate::base::time::{Clock, Timestamp, Ttl};

/// A token is not used so close to its end.
const MARGIN: Ttl = Ttl::from_secs(30);
/// However long a vendor says that a token holds, it is asked anew after this time.
const LONGEST: Ttl = Ttl::from_secs(3600);

/// Tokens of root credentials and how fast each makes keys, in memory only. Cheap to clone; clones share.
#[derive(Clone)]
pub struct Logins {
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<HashMap<Digest, Kept>>>,
    pub(super) pace: Arc<Pace>,
}

struct Kept {
    token: Arc<SecretText>,
    until: Timestamp,
}

/// `style = "login"`: the call, and where its token stands in other requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// Where to ask, on one of `http.hosts`.
    pub(crate) url: Text,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    /// A token that stands in the call as `${assertion}` (RFC 7523).
    pub(crate) assertion: Option<Assertion>,
    /// Name and password of `Authorization: Basic …` for this call.
    pub(crate) basic: Option<Pair>,
    /// The token in the answer.
    pub(crate) token: Pointer,
    /// Seconds for which it holds, in the answer; without it the token serves one operation only.
    pub(crate) expires_in: Option<Pointer>,
    #[serde(default = "authorization")]
    pub(crate) header: String,
    /// The header's value; `{token}` is the token.
    #[serde(default = "bearer")]
    pub(crate) format: String,
}

/// A user name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) user: Text,
    pub(crate) password: Text,
}

impl Logins {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            kept: Arc::default(),
            pace: Arc::default(),
        }
    }

    /// Forgets all tokens: when the vault is sealed.
    pub fn clear(&self) {
        self.kept.lock().clear();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn get(&self, key: Digest) -> Option<Arc<SecretText>> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        kept.retain(|_, kept| kept.until > now);
        kept.get(&key).map(|kept| Arc::clone(&kept.token))
    }

    fn keep(&self, key: Digest, token: &Arc<SecretText>, until: Timestamp) {
        let token = Arc::clone(token);
        self.kept.lock().insert(key, Kept { token, until });
    }

    /// A vendor refused the token: it is asked for anew.
    fn forget(&self, key: Digest) {
        self.kept.lock().remove(&key);
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} logins", self.kept.lock().len())
    }
}

impl Declared {
    /// The token by which the root credential proves itself now, where it needs one.
    pub(super) async fn login(
        &self,
        egress: &Egress,
        root: &RootSecret,
    ) -> Result<Option<Arc<SecretText>>, VendorFailure> {
        let auth = &self.manifest.root.auth;
        if !matches!(auth, Auth::Login(_) | Auth::Jwt(_)) {
            return Ok(None);
        }
        let key = root.digest();
        if let Some(token) = self.logins.get(key) {
            return Ok(Some(token));
        }
        let (token, until) = match auth {
            Auth::Jwt(shown) => self.asserted(root, &shown.assertion)?,
            Auth::Login(table) => self.log_in(egress, root, table).await.map_err(other)?,
            _ => return Ok(None),
        };
        let token = Arc::new(token);
        if let Some(until) = until {
            self.logins.keep(key, &token, until);
        }
        Ok(Some(token))
    }

    /// Sends a request. After a 401 to the root credential the next one logs in anew: the vendor may have ended the
    /// token early. A dead key's 401 says nothing about the token.
    pub(super) async fn send(
        &self,
        egress: &Egress,
        root: &RootSecret,
        who: As,
        outgoing: Outgoing,
    ) -> Result<Incoming, VendorFailure> {
        let sent = if native::speaks(outgoing.url.scheme()) {
            native::answer(egress, &outgoing).await
        } else {
            egress.send(outgoing).await
        };
        let incoming = sent.map_err(|error| no_answer(&self.manifest, error))?;
        if who == As::Root && incoming.status == 401 {
            self.logins.forget(root.digest());
        }
        Ok(incoming)
    }

    async fn log_in(
        &self,
        egress: &Egress,
        root: &RootSecret,
        table: &Login,
    ) -> Result<(SecretText, Option<Timestamp>), VendorFailure> {
        let assertion = table.assertion.as_ref().map(|assertion| self.asserted(root, assertion));
        let assertion = assertion.transpose()?.map(|(token, _)| token);
        let outgoing = self.login_request(root, table, assertion.as_ref())?;
        let incoming = egress
            .send(outgoing)
            .await
            .map_err(|error| no_answer(&self.manifest, error))?;
        let body = json(&incoming);
        if !(200..300).contains(&incoming.status) || !succeeded(&self.manifest, body.as_ref()) {
            return Err(failure(&self.manifest, &incoming, body.as_ref()));
        }
        let unread = || unreadable(&self.manifest, incoming.status, Existence::No);
        let body = body.ok_or_else(unread)?;
        let token = table.token.text(&body.0).map(SecretText::new).ok_or_else(unread)?;
        let place = table.expires_in.as_ref();
        let seconds = place.and_then(|pointer| pointer.text(&body.0)?.parse::<i64>().ok());
        let now = self.logins.clock.now();
        let holds = seconds.map(|seconds| Ttl::from_secs(seconds).min(LONGEST));
        let until = holds
            .map(|holds| now.plus(holds).minus(MARGIN))
            .filter(|until| *until > now);
        Ok((token, until))
    }

    /// A token of the root credential's own, and until when it serves.
    fn asserted(
        &self,
        root: &RootSecret,
        assertion: &Assertion,
    ) -> Result<(SecretText, Option<Timestamp>), VendorFailure> {
        let now = self.logins.clock.now();
        let (token, until) = assertion.token(root.values(), now)?;
        Ok((token, Some(until.minus(MARGIN)).filter(|until| *until > now)))
    }

    fn login_request(
        &self,
        root: &RootSecret,
        table: &Login,
        assertion: Option<&SecretText>,
    ) -> Result<Outgoing, VendorFailure> {
        let mut values = root.values();
        if let Some(assertion) = assertion {
            values = values.secret("assertion", assertion);
        }
        let call = Call {
            table: "root.auth",
            verb: Verb::Post,
            path: &table.url,
            query: call::no_texts(),
            headers: &table.headers,
            encoding: table.encoding,
            body: table.body.as_ref(),
        };
        let url = call.url(root, &values)?;
        let mut outgoing = call.unproven(&self.manifest, url.clone(), &values)?;
        authorize_login(&self.manifest, root, table, &url, &mut outgoing.headers)?;
        Ok(outgoing)
    }
}

pub(super) fn authorization() -> String {
    "Authorization".to_owned()
}

pub(super) fn bearer() -> String {
    "Bearer {token}".to_owned()
}
