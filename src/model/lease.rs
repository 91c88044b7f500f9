//! Leases: a credential that is out, to one prim, for a time.

use serde::{Deserialize, Serialize};

use super::scope::Name;
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::base::time::Timestamp;

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Counted, its key is being made.
    Pending,
    /// The prim may have the key.
    Active,
    /// Its time is over.
    Expired,
    /// Ended by somebody, or its key could not be made.
    Revoked,
}

impl LeaseState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Active, Self::Expired, Self::Revoked];

    /// The word stored and shown; a lease whose credential is stuck is shown as `revocation_failed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether it counts against `live_leases`.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Active)
    }
}

/// One credential that is out. At most one live lease for each grant item and prim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The id.
    pub id: LeaseId,
    /// The grant.
    pub grant: GrantId,
    /// Which item of the grant, from 0.
    pub item: i64,
    /// The prim.
    pub prim: PrincipalId,
    /// The vendor.
    pub vendor: Name,
    /// The policy whose `live_leases` it counts against.
    pub policy: Name,
    /// Its credential.
    pub credential: CredentialId,
    /// Where it stands.
    pub state: LeaseState,
    /// How often it was resolved.
    pub resolves: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}
