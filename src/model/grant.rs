//! Grants: what somebody bought or was given, and the states it goes through.

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::principal::PublicKey;
use super::scope::{Name, Scope};
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{ApprovalId, GrantId, PrincipalId};
use crate::base::money::Money;
use crate::base::time::{Timestamp, Ttl};

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// People decide; nothing was paid and nothing exists at the vendor.
    PendingApproval,
    /// People said yes; it waits for its payment until its end, and nothing exists at the vendor.
    PaymentRequired,
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
    pub const ALL: [Self; 8] = [
        Self::PendingApproval,
        Self::PaymentRequired,
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
            Self::PaymentRequired => "payment_required",
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

    /// Whether it waits, for people or for its payment: nothing was paid, and nothing exists at the vendor.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::PendingApproval | Self::PaymentRequired)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Expired | Self::Revoked | Self::Failed)
    }

    /// Whether `next` may follow.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use GrantState::{
            Active, Expired, Failed, PaymentRequired, PaymentUnknown, PendingApproval, Provisioning, Revoked,
        };
        matches!(
            (self, next),
            (PendingApproval, PaymentRequired | Provisioning | Failed | Revoked | Expired)
                | (PaymentRequired, Provisioning | Failed | Revoked | Expired)
                // Back to where it waits for its payment: people's yes outlives a payment that came to nothing.
                | (Provisioning, PaymentUnknown | Active | Failed | PaymentRequired)
                | (PaymentUnknown, Active | Failed | PaymentRequired)
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

/// What was asked for with a grant that people decide. They approve this, and what is paid later is paid for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The request that people decide.
    pub approval: ApprovalId,
    /// How long it lives, from when it comes into force.
    pub life: Ttl,
    /// What it costs; `None` is free.
    pub price: Option<Money>,
    /// Method, path and body it was asked for with.
    pub request: Digest,
    /// Until when it can be paid, once people said yes.
    pub pay_by: Option<Timestamp>,
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
    /// What was asked for, when people decide it.
    pub asked: Option<Asked>,
}

impl Grant {
    /// Whom limits are counted on: the principal, and the wallet that paid. Both, since a wallet can pay for many
    /// principals, and a principal by many wallets.
    #[must_use]
    pub fn payers(&self) -> Vec<String> {
        let principal = self.principal.to_string();
        std::iter::once(principal).chain(self.payer.clone()).collect()
    }

    /// What people approve: everything that decides what the grant is and costs, and nothing that changes on its way.
    #[must_use]
    pub fn terms(&self) -> Digest {
        let start = Canonical::new("dekeys.grant-terms.v1")
            .text(&self.id.to_string())
            .text(&self.principal.to_string())
            .maybe(self.holder.map(|key| key.to_string()).as_deref())
            .list(self.audience.iter())
            .int(self.max_resolves)
            .text(&self.reason);
        let items = with_items(start, &self.items);
        match &self.asked {
            None => items,
            Some(asked) => items
                .int(asked.life.as_millis())
                .maybe(asked.price.map(|price| price.to_string()).as_deref())
                .text(&asked.request.to_string()),
        }
        .digest()
    }

    /// What it costs, if people decided it and it costs something.
    #[must_use]
    pub fn price(&self) -> Option<Money> {
        self.asked.as_ref()?.price
    }
}

fn with_items(start: Canonical, items: &[GrantItem]) -> Canonical {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    items.iter().fold(start.int(count), |bytes, item| {
        bytes
            .text(item.vendor.as_str())
            .list(item.scopes.iter())
            .text(item.policy.as_str())
            .int(item.policy_version)
            .text(&item.policy_digest.to_string())
    })
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
            .text(&self.reason);
        let items = with_items(start, &self.items);
        // Only where it is: rows without it keep the mark they have.
        match &self.asked {
            None => items,
            Some(asked) => items
                .text(&asked.approval.to_string())
                .int(asked.life.as_millis())
                .maybe(asked.price.map(|price| price.to_string()).as_deref())
                .text(&asked.request.to_string())
                .maybe(asked.pay_by.map(|time| time.as_millis().to_string()).as_deref()),
        }
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
        for waiting in [GrantState::PendingApproval, GrantState::PaymentRequired] {
            assert!(!waiting.may_become(GrantState::Active), "its keys come between");
        }
        assert!(
            !GrantState::PaymentRequired.may_become(GrantState::PendingApproval),
            "people are asked once"
        );
    }
}
