//! Grants: what somebody bought or was given, and the states it goes through.

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::principal::PublicKey;
use super::scope::{Name, Scope};
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{GrantId, PrincipalId};
use crate::base::time::Timestamp;

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// People decide; nothing was paid and nothing exists at the vendor.
    PendingApproval,
    /// Keys are being made and payment is under way; no token works yet.
    Provisioning,
    /// The settlement's outcome is not known; keys are held.
    PaymentUnknown,
    /// In force.
    Active,
    /// Its time is over.
    Expired,
    /// Ended by somebody.
    Revoked,
    /// Never came into force: provisioning or payment failed. Nothing was charged, or it was credited.
    Failed,
}

impl GrantState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::PendingApproval,
        Self::Provisioning,
        Self::PaymentUnknown,
        Self::Active,
        Self::Expired,
        Self::Revoked,
        Self::Failed,
    ];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingApproval => "pending_approval",
            Self::Provisioning => "provisioning",
            Self::PaymentUnknown => "payment_unknown",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked | Self::Failed)
    }

    /// Whether `next` may follow.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use GrantState::{Active, Expired, Failed, PaymentUnknown, PendingApproval, Provisioning, Revoked};
        matches!(
            (self, next),
            (PendingApproval, Provisioning | Failed | Revoked | Expired)
                | (Provisioning, PaymentUnknown | Active | Failed)
                | (PaymentUnknown, Active | Failed)
                | (Active, Expired | Revoked)
        )
    }
}

/// One thing a grant allows: scopes at a vendor, under the grant's policy version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct GrantItem {
    /// The vendor.
    pub vendor: Name,
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// The policy that allows it.
    pub policy: Name,
    /// The version in force when it was granted.
    pub policy_version: i64,
    /// That version's digest.
    pub policy_digest: Digest,
}

/// A right, its holder and its bounds. Counters (uses) are kept in the row beside it, not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The id.
    pub id: GrantId,
    /// Whom it belongs to.
    pub principal: PrincipalId,
    /// The key its holder signs with; `None` makes its tokens bearer class.
    pub holder: Option<PublicKey>,
    /// The payer's wallet (CAIP-10), when it was bought.
    pub payer: Option<String>,
    /// 1 to 20 items.
    pub items: Vec<GrantItem>,
    /// Prims its tokens are for; empty when the holder narrows that later.
    pub audience: Vec<Name>,
    /// Most resolves, over all items.
    pub max_resolves: i64,
    /// Where it stands.
    pub state: GrantState,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Why it was asked for, in the requester's words.
    pub reason: String,
}

impl Control for Grant {
    fn canonical(&self) -> Canonical {
        let start = Canonical::new("dekeys.grant.v1")
            .text(&self.id.to_string())
            .text(&self.principal.to_string())
            .maybe(self.holder.map(|key| key.to_string()).as_deref())
            .maybe(self.payer.as_deref())
            .list(self.audience.iter())
            .int(self.max_resolves)
            .text(self.state.as_str())
            .int(self.created.as_millis())
            .int(self.expires.as_millis())
            .text(&self.reason)
            .int(i64::try_from(self.items.len()).unwrap_or(i64::MAX));
        self.items.iter().fold(start, |bytes, item| {
            bytes
                .text(item.vendor.as_str())
                .list(item.scopes.iter())
                .text(item.policy.as_str())
                .int(item.policy_version)
                .text(&item.policy_digest.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_final_state_and_nothing_returns_to_active() {
        for state in GrantState::ALL {
            for next in GrantState::ALL {
                if state.is_final() {
                    assert!(!state.may_become(next), "{state:?} -> {next:?}");
                }
            }
            assert_eq!(GrantState::parse(state.as_str()), Some(state));
        }
        assert!(!GrantState::Revoked.may_become(GrantState::Active));
        assert!(
            !GrantState::PendingApproval.may_become(GrantState::Active),
            "payment comes between"
        );
    }
}
