//! The prim's side: a token in, a key out.
//!
//! A key is asked for once for each grant and reference and kept until its lease ends; those who want it at the same time
//! wait for one request. While it is kept, a token that was not seen before, or not for five seconds, is still shown to
//! the instance, which answers `unchanged` without sending the key again. With a verifier ([`Prim::verifying`]) tokens
//! are checked here, and nobody is asked until the lease ends.
//!
//! Not protected: keys in the memory of this process. They are wiped when the last user lets go of them.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::address::{Address, InvalidAddress};
use super::cache::{Cache, Slot};
use super::follow::Followed;
use super::refused::Refused;
use super::request::Request;
use super::resolved::{Item, Resolved};
use super::secret::{self, SecretFileError};
use super::send::{Client, ClientError, Reply};
use super::session::Session;
use super::token::{self, TokenError, Use};
use super::verifier::VerifyError;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::httpsig::{KeyFile, KeyFileError};
use crate::model::claims::UseKind;
use crate::model::scope::{Name, Reference};

/// How long a yes of the instance is believed without a verifier.
const BELIEVED: Ttl = Ttl::from_secs(5);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum PrimError {
    /// Not the address of an instance.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The key file cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file is no key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Not a reference such as `dk://openai/chat:write`.
    #[error("`{0}` is not a reference such as `dk://openai/chat:write`")]
    Reference(String),
    /// The token is not good; nobody was asked.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token is for other prims; nobody was asked.
    #[error("the token is for other prims, not for `{0}`")]
    Audience(Name),
    /// dekeys said no, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// dekeys answered something that is not understood here.
    #[error("the answer of dekeys is not understood")]
    Answer,
}

impl PrimError {
    /// What dekeys said no with, if it did.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Client(ClientError::Refused(refused)) => Some(refused),
            _ => None,
        }
    }
}

/// What became of a report; see [`Prim::report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor takes the key.
    Alive,
    /// There is, or will be, a new key.
    Replaced,
    /// The lease is over.
    Ended,
    /// The vendor does not say. Whoever is sure gives the lease up ([`Prim::give_up`]) and resolves again.
    Unknown,
}

/// A prim, connected to its instance.
pub struct Prim {
    client: Arc<Client>,
    name: Name,
    followed: Option<Followed>,
    cache: Cache,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

impl Prim {
    /// Connects with the prim's key file.
    ///
    /// # Errors
    /// [`PrimError`]; [`PrimError::Client`] when the key is of nobody known there.
    pub async fn connect(address: &str, key_file: impl AsRef<Path>) -> Result<Self, PrimError> {
        let key = KeyFile::parse(&secret::read_file(key_file.as_ref())?)?;
        Self::over(Client::signing(address.parse::<Address>()?, key)?).await
    }

    /// Connects over a client of the caller's making.
    ///
    /// # Errors
    /// As [`Prim::connect`].
    pub async fn over(client: Client) -> Result<Self, PrimError> {
        let me = client.send(&Request::get(&["v1", "whoami"])).await?.json();
        let name = me
            .get("name")
            .and_then(Value::as_str)
            .and_then(|name| name.parse().ok());
        Ok(Self {
            client: Arc::new(client),
            name: name.ok_or(PrimError::Answer)?,
            followed: None,
            cache: Cache::default(),
            session: tokio::sync::Mutex::default(),
        })
    }

    /// With a verifier that follows the revocation feed: tokens are checked here, so one call to the instance serves all
    /// of a grant's tokens until the lease ends. While the feed is not heard no token is good
    /// ([`Verifier`](super::Verifier) says for how long).
    ///
    /// # Errors
    /// [`PrimError::Client`].
    pub async fn verifying(mut self) -> Result<Self, PrimError> {
        self.followed = Some(Followed::start(Arc::clone(&self.client)).await?);
        Ok(self)
    }

    /// Its name at the instance: what tokens must be pinned to.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The verifier, if it has one.
    #[must_use]
    pub const fn verifier(&self) -> Option<&Followed> {
        self.followed.as_ref()
    }

    /// The key that `token` allows for `reference`.
    ///
    /// # Errors
    /// [`PrimError::Token`] and [`PrimError::Audience`] before anybody is asked; [`PrimError::Client`] with what dekeys
    /// said.
    pub async fn resolve(&self, reference: &str, token: &SecretText) -> Result<Arc<Resolved>, PrimError> {
        let wanted: Reference = reference
            .parse()
            .map_err(|_| PrimError::Reference(reference.chars().take(80).collect()))?;
        let (slot, until) = self.look(wanted, token)?;
        if let Some(key) = self.kept(&slot, token) {
            return Ok(key);
        }
        let flight = self.cache.flight(&slot);
        let _first = flight.lock().await;
        if let Some(key) = self.kept(&slot, token) {
            return Ok(key);
        }
        self.ask(&slot, token, until).await
    }

    /// Does `work` with the key; if the vendor refuses the key (`status` of what came of it is 401), reports that and
    /// does the work once more with the key in its place, if there is one.
    ///
    /// # Errors
    /// As [`Prim::resolve`]. What the vendor refuses for another reason is an answer like any other.
    pub async fn call<T, F>(
        &self,
        reference: &str,
        token: &SecretText,
        status: impl Fn(&T) -> u16 + Send,
        work: impl Fn(Arc<Resolved>) -> F + Send,
    ) -> Result<T, PrimError>
    where
        F: Future<Output = T> + Send,
        T: Send,
    {
        let key = self.resolve(reference, token).await?;
        let answer = work(Arc::clone(&key)).await;
        if status(&answer) != 401 {
            return Ok(answer);
        }
        match self.report(&key, 401).await {
            Ok(Outcome::Replaced | Outcome::Ended) => {}
            // The vendor takes the key, or it cannot be known: its answer stands. A key for every such answer would be
            // many keys for a request that is refused for another reason.
            Ok(Outcome::Alive | Outcome::Unknown) | Err(_) => return Ok(answer),
        }
        match self.resolve(reference, token).await {
            Ok(again) if (again.lease_id, again.version) != (key.lease_id, key.version) => Ok(work(again).await),
            _ => Ok(answer),
        }
    }

    /// Says that the vendor refused a key with `status` (401 or 403). dekeys asks the vendor itself; a dead key is
    /// replaced.
    ///
    /// # Errors
    /// [`PrimError::Client`].
    pub async fn report(&self, key: &Resolved, status: u16) -> Result<Outcome, PrimError> {
        let body = json!({ "status": status, "version": key.version });
        let request = Request::post(&["v1", "leases", &key.lease_id.to_string(), "report"]).json(&body);
        let answer = self.send(&request).await?.json();
        let outcome = match answer.get("outcome").and_then(Value::as_str) {
            Some("alive") => return Ok(Outcome::Alive),
            Some("replaced") => Outcome::Replaced,
            Some("ended") => Outcome::Ended,
            Some("unknown") => return Ok(Outcome::Unknown),
            _ => return Err(PrimError::Answer),
        };
        self.cache.forget(key.lease_id);
        Ok(outcome)
    }

    /// Ends a lease before its time: its key is ended at the vendor too.
    ///
    /// # Errors
    /// [`PrimError::Client`].
    pub async fn give_up(&self, key: &Resolved) -> Result<(), PrimError> {
        self.cache.forget(key.lease_id);
        let request = Request::post(&["v1", "leases", &key.lease_id.to_string(), "revoke"]).json(&json!({}));
        self.send(&request).await.map(drop)
    }

    /// What can be said without asking: whose token it is, and whether it may be for us at all.
    fn look(&self, wanted: Reference, token: &SecretText) -> Result<(Slot, Timestamp), PrimError> {
        let now = self.client.now();
        let seen = match &self.followed {
            Some(verifier) => {
                let asked = Use {
                    reference: wanted.clone(),
                    kind: UseKind::Resolve,
                    prim: Some(self.name.clone()),
                    method: None,
                    path: None,
                };
                verifier.check(token, &asked, now)?
            }
            None => token::inspect(token, None).map_err(VerifyError::Token)?,
        };
        if seen.until <= now {
            return Err(VerifyError::Token(TokenError::Expired { at: seen.until }).into());
        }
        if !seen.audience.is_empty() && !seen.audience.contains(&self.name) {
            return Err(PrimError::Audience(self.name.clone()));
        }
        Ok(((seen.grant, wanted), seen.until))
    }

    /// The kept key, for a token that is known to allow it.
    fn kept(&self, slot: &Slot, token: &SecretText) -> Option<Arc<Resolved>> {
        let now = self.client.now();
        match &self.followed {
            // The verifier said yes, a moment ago.
            Some(verifier) => self
                .cache
                .key(slot, now)
                .filter(|key| !verifier.has_ended_lease(key.lease_id)),
            None => self.cache.allowed(token::digest(token), slot, now),
        }
    }

    async fn ask(&self, slot: &Slot, token: &SecretText, until: Timestamp) -> Result<Arc<Resolved>, PrimError> {
        let known = self.cache.key(slot, self.client.now());
        let mut item = json!({ "reference": slot.1 });
        if let (Some(key), Some(item)) = (&known, item.as_object_mut()) {
            let known = json!({ "lease_id": key.lease_id, "version": key.version });
            item.insert("known".to_owned(), known);
        }
        let request = Request::post(&["v1", "resolve"])
            .bearer(token::again(token))
            .json(&json!({ "items": [item] }));
        let reply = self.send(&request).await?;
        let item = item_of(&reply)?;
        let key = match known {
            Some(key) if item.unchanged && key.lease_id == item.lease_id => key,
            _ => Arc::new(Resolved::of(&slot.1, item).ok_or(PrimError::Answer)?),
        };
        let now = self.client.now();
        let believed = until.min(now.plus(BELIEVED));
        self.cache.keep(token::digest(token), slot, &key, believed, now);
        Ok(key)
    }

    /// Sends a request in the session; with the key itself when the session is over, or might be.
    async fn send(&self, request: &Request) -> Result<Reply, PrimError> {
        if let Some(session) = self.session().await {
            let reply = self.client.send_in(&session, request).await?;
            if reply.status != 401 {
                return Ok(self.client.check(reply)?);
            }
            // A 401 says the same of a bad token and of a session that another process, or none, knows.
            let reply = self.client.send(request).await;
            if reply.is_ok() {
                self.drop_session(&session).await;
            }
            return Ok(reply?);
        }
        Ok(self.client.send(request).await?)
    }

    /// The session, opened anew when it is over. Without one requests are signed by the key.
    async fn session(&self) -> Option<Arc<Session>> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| session.lives(self.client.now())) {
            return Some(Arc::clone(session));
        }
        let opened = self.client.send(&Session::request()).await.ok()?;
        *kept = Session::read(&opened.json()).map(Arc::new);
        kept.clone()
    }

    async fn drop_session(&self, over: &Arc<Session>) {
        let mut kept = self.session.lock().await;
        if kept.as_ref().is_some_and(|session| Arc::ptr_eq(session, over)) {
            *kept = None;
        }
    }
}

#[derive(serde::Deserialize)]
struct Answer {
    data: Vec<Item>,
}

/// The one item of an answer.
fn item_of(reply: &Reply) -> Result<Item, PrimError> {
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| PrimError::Answer)?;
    answer.data.into_iter().next().ok_or(PrimError::Answer)
}
