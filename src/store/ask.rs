//! What the hot path asks the writer for, and what it is answered.

use crate::base::id::{CredentialId, EventId, GrantId, LeaseId, PrincipalId, RequestId, RootId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::Stored;
use crate::model::credential::Credential;
use crate::model::event::Committed;
use crate::model::grant::{Grant, GrantState};
use crate::model::lease::Lease;
use crate::model::policy::Rate;
use crate::model::scope::{Name, Scope};
use crate::model::sealed::Sealed;

/// A prim wants the key of one grant item, or dekeys wants it to forward a request. All that a signature or MAC proved comes from the caller; what counts
/// and changes (state, uses, rates, leases) the writer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveAsk {
    /// The grant.
    pub grant: GrantId,
    /// Which item of it, from 0.
    pub item: i64,
    /// The prim; [`PrincipalId::NIL`] is dekeys itself.
    pub prim: PrincipalId,
    /// The item's vendor.
    pub vendor: Name,
    /// The item's policy: counts its live leases, and its rate applies.
    pub policy: Name,
    /// The root credential to make a key from.
    pub root: RootId,
    /// The scopes to make it for.
    pub scopes: Vec<Scope>,
    /// The time at the caller. The writer never goes back behind its clock or the database's.
    pub now: Timestamp,
    /// When the grant ends.
    pub grant_expires: Timestamp,
    /// Most resolves of the grant.
    pub max_resolves: i64,
    /// When a new lease would end.
    pub lease_until: Timestamp,
    /// Whom the rate is counted on: the grant's principal, and the wallet that paid.
    pub payers: Vec<String>,
    /// How often each of them may resolve under this policy.
    pub rate: Option<Rate>,
    /// Most live leases of the policy.
    pub live_leases: Option<i64>,
    /// The lease and the version of its key that the prim holds already.
    pub known: Option<(LeaseId, i64)>,
    /// The nonce of the caller's signature: holder, nonce, until when it is remembered.
    pub nonce: Option<(String, String, Timestamp)>,
    /// Revocation ids of the token's blocks.
    pub revocation_ids: Vec<String>,
    /// The id of the lease, should one be made.
    pub new_lease: LeaseId,
    /// The id of the credential, should one be made.
    pub new_credential: CredentialId,
    /// What that credential would be called at the vendor; empty where keys have no names.
    pub new_name: String,
    /// The id of the event.
    pub event: EventId,
    /// Who asks, for the event.
    pub actor: String,
    /// Whether the instance is live, for the event.
    pub livemode: bool,
    /// The request, for the event.
    pub request_id: Option<RequestId>,
    /// Set when dekeys itself uses the key, to forward a request.
    pub forward: Option<Forwarding>,
}

/// A request that dekeys sends with the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Which key.
    pub key: ForwardKey,
    /// The request's method, for the event.
    pub method: String,
    /// The manifest's rule that allows it, for the event: a path may hold what is nobody's business.
    pub rule: String,
    /// What proved the right to it, for the event: `holder`, `owner`, `prim` or `bearer`.
    pub class: &'static str,
}

/// Whose key a forwarded request uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardKey {
    /// One of the grant item's own, in a lease that dekeys itself holds.
    Grant,
    /// One for all grants of a policy: it belongs to the first item of this grant, which is dekeys' own.
    Pool(GrantId),
    /// The root credential itself. There is no lease.
    Root,
}

impl ResolveAsk {
    /// What the rate is counted under, one name for each payer.
    pub(super) fn rate_names(&self) -> impl Iterator<Item = String> {
        self.payers.iter().map(|payer| format!("{payer}/{}", self.policy))
    }

    /// What has one live lease at most; `None` where no lease is needed.
    pub(super) fn slot(&self) -> Option<(GrantId, i64, PrincipalId)> {
        match self.forward.as_ref().map(|forward| &forward.key) {
            None | Some(ForwardKey::Grant) => Some((self.grant, self.item, self.prim)),
            Some(ForwardKey::Pool(pool)) => Some((*pool, 0, self.prim)),
            Some(ForwardKey::Root) => None,
        }
    }
}

/// What became of a resolve. All but `Wait` are on record.
#[derive(Debug)]
pub enum ResolveOutcome {
    /// The prim may have the key.
    Released {
        /// The lease, new or in use.
        lease: Lease,
        /// The credential.
        credential: CredentialId,
        /// The version of its sealed value.
        version: i64,
        /// The sealed value.
        sealed: Option<Sealed>,
        /// Opens the credential.
        committed: Committed,
    },
    /// The prim has the key already; not counted as a use.
    Unchanged {
        /// The lease.
        lease: Lease,
    },
    /// Counted; now the key must be made.
    Make {
        /// The new lease, pending.
        lease: Lease,
        /// The intent.
        credential: Box<Credential>,
        /// Opens the root credential (version 1).
        committed: Committed,
    },
    /// The root credential may be used as it is.
    Root {
        /// Opens the root credential (version 1).
        committed: Committed,
    },
    /// The key is being made for another request; ask again when it is there. Nothing was counted or recorded,
    /// and the nonce was not claimed.
    Wait {
        /// The pending lease.
        lease: LeaseId,
    },
    /// No.
    Refused(Refusal),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such grant.
    UnknownGrant,
    /// The grant is in this other state.
    GrantNotActive(GrantState),
    /// The grant's time is over.
    GrantExpired,
    /// All its resolves are used.
    UsedUp,
    /// Too many in too short a time.
    RateLimited {
        /// When to try again.
        retry_after: Ttl,
    },
    /// The policy's live leases are all out.
    TooManyLeases,
    /// A block of the token was revoked; this is its revocation id.
    TokenRevoked(String),
    /// The signature's nonce was used before.
    NonceReplayed,
}

impl Refusal {
    /// The word in events.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownGrant => "unknown_grant",
            Self::GrantNotActive(_) => "grant_not_active",
            Self::GrantExpired => "grant_expired",
            Self::UsedUp => "used_up",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooManyLeases => "too_many_leases",
            Self::TokenRevoked(_) => "token_revoked",
            Self::NonceReplayed => "nonce_replayed",
        }
    }
}

/// Ends a lease, or a grant with all its leases and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct RevokeAsk {
    /// What to end.
    pub target: RevokeTarget,
    /// The time at the caller.
    pub now: Timestamp,
    /// The id of the event.
    pub event: EventId,
    /// The kind of the event: `lease.revoked`, `grant.revoked`.
    pub kind: String,
    /// Who does it, for the event.
    pub actor: String,
    /// Whether the instance is live, for the event.
    pub livemode: bool,
    /// The request, for the event.
    pub request_id: Option<RequestId>,
    /// The event's facts; the leases and credentials that end are added.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// What to end.
#[derive(Debug, Clone, PartialEq)]
pub enum RevokeTarget {
    /// One lease and its key. It becomes `Expired` when its time is over, else `Revoked`.
    Lease(LeaseId),
    /// A grant: its new row, whose state is `Revoked` or `Expired`; its live leases get the same word.
    Grant(Box<Stored<Grant>>),
}

/// What this call ended. A second call ends nothing, changes nothing and records nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevokeOutcome {
    /// Whether anything was changed, and so an event written.
    pub changed: bool,
    /// Leases that ended now.
    pub leases: Vec<LeaseId>,
    /// Credentials to end at the vendor; a worker finds them due.
    pub credentials: Vec<CredentialId>,
}
