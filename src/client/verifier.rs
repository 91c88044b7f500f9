//! Checking tokens without asking: with the published keys, and with what the revocation feed told.
//!
//! It fails closed: when what it knows of the feed is older than five seconds ([`Verifier::max_age`] changes that), no
//! token is good, because one that ended might be among them. So a service that uses it is down when the instance is out
//! of reach for longer. Clocks must agree: the age is counted from the time the instance signed to the time here.
//!
//! Not known here: how many uses and what budget a grant has left, and whether the policy still names the prim. Those are
//! decided where a key is released.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::feed::{Feed, FeedError, Taken};
use super::keys::Keys;
use super::token::{self, Inspection, TokenError, Use};
use crate::audit;
use crate::base::id::LeaseId;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};

/// How old the feed may be.
const MAX_AGE: Ttl = Ttl::from_secs(5);

/// Why a token is not good here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// By its signatures, time, audience or blocks.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It, one it was narrowed from, or its grant was ended.
    #[error("the token was revoked")]
    Revoked,
    /// Nobody knows: the revocation feed was not heard for too long.
    #[error("the revocation feed was not heard for too long, so no token is good now")]
    Stale {
        /// How old what is known is; `None` when nothing was read yet.
        age: Option<Ttl>,
    },
}

/// Checks the tokens of one instance. Shared by all who check.
pub struct Verifier {
    state: RwLock<State>,
    max_age: Ttl,
    wants_keys: AtomicBool,
}

struct State {
    keys: Keys,
    feed: Feed,
}

impl Verifier {
    /// A verifier with the instance's keys, as `GET /.well-known/dekeys-keys.json` gives them over TLS. Until the feed was
    /// read no token is good.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        let feed = Feed::new(keys.instance, keys.log.clone());
        Self {
            state: RwLock::new(State { keys, feed }),
            max_age: MAX_AGE,
            wants_keys: AtomicBool::new(false),
        }
    }

    /// With another bound for the age of the feed. A longer one keeps a service up while the instance is out of reach,
    /// and lets tokens live on for as long after they were ended.
    #[must_use]
    pub const fn max_age(mut self, max_age: Ttl) -> Self {
        self.max_age = max_age;
        self
    }

    /// Checks a token for one use. Says what it holds.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn check(&self, token: &SecretText, wanted: &Use, now: Timestamp) -> Result<Inspection, VerifyError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let age = state.feed.age(now);
        if age.is_none_or(|age| age > self.max_age) {
            return Err(VerifyError::Stale { age });
        }
        let verified = token::verify(token, &state.keys, Some(wanted), now);
        if verified == Err(TokenError::UnknownRoot) {
            self.wants_keys.store(true, Ordering::Relaxed);
        }
        let (inspection, _) = verified?;
        if state.feed.has_ended(&inspection) {
            return Err(VerifyError::Revoked);
        }
        Ok(inspection)
    }

    /// Whether a lease was ended early, as far as is known.
    #[must_use]
    pub fn has_ended_lease(&self, lease: LeaseId) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.feed.has_ended_lease(lease)
    }

    /// How old what is known of the feed is.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Ttl> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).feed.age(now)
    }

    /// Where to read the feed on (`after`), and what to send as `If-None-Match`.
    #[must_use]
    pub fn place(&self) -> (i64, Option<String>) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.feed.after(), state.feed.tag())
    }

    /// Takes a page of the feed with the statement of its header.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn take(&self, unverified_page: &[u8], unverified_statement: &str) -> Result<Taken, FeedError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.feed.take(unverified_page, unverified_statement)
    }

    /// Takes the statement of a 304.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn still(&self, unverified_statement: &str) -> Result<(), FeedError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.feed.still(unverified_statement)
    }

    /// Whether a token named a root key that is not known: the keys should be fetched again. Asking resets it.
    #[must_use]
    pub fn wants_keys(&self) -> bool {
        self.wants_keys.swap(false, Ordering::Relaxed)
    }

    /// Takes the instance's keys again. Those of another instance, or another log, are not taken; a log's new key is
    /// when the known one names it.
    pub fn renew_keys(&self, keys: Keys) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if keys.instance != state.keys.instance {
            return;
        }
        if keys.log != state.keys.log {
            if !audit::leads(&keys.logs, &state.keys.log, &keys.log) {
                return;
            }
            state.feed.follow_log(keys.log.clone());
        }
        state.keys = keys;
    }
}
