//! Purchases: one payment authorization, from its claim to its end (DESIGN 17).

use serde::{Deserialize, Serialize};

use super::control::Control;
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{GrantId, PurchaseId};
use crate::base::time::{Timestamp, Ttl};

/// How careful this instance is with money; from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentRules {
    /// How long a grant that people approved waits for its payment.
    pub pay_within: Ttl,
    /// How often somebody must have paid before keys are made for it ahead of the payment; 0 trusts everybody.
    pub trusted_after: i64,
    /// How long a payer whose payment was refused after its keys were made has to pay first.
    pub strike: Ttl,
    /// Most keys at one vendor, within a day, that are held unpaid or were made in vain. Above it everybody pays first.
    pub held_keys: i64,
}

impl Default for PaymentRules {
    fn default() -> Self {
        Self {
            pay_within: Ttl::from_mins(24 * 60),
            trusted_after: 1,
            strike: Ttl::from_mins(7 * 24 * 60),
            held_keys: 50,
        }
    }
}

/// Where a purchase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PurchaseState {
    /// The authorization is ours; verification and provisioning go on. Nothing was charged.
    Claimed,
    /// Settlement was begun; it may have happened.
    Settling,
    /// Settled first; nothing was made yet.
    Paid,
    /// Settled first; its keys are being made.
    Provisioning,
    /// Settled, and the grant is active.
    Settled,
    /// Settled, but there is no grant for it: the payer has credit.
    Credited,
    /// Given up before settlement; the same request may claim the authorization again.
    Released,
    /// The rail refused settlement, or the chain took it back; nothing was charged.
    Refused,
}

impl PurchaseState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Claimed,
        Self::Settling,
        Self::Paid,
        Self::Provisioning,
        Self::Settled,
        Self::Credited,
        Self::Released,
        Self::Refused,
    ];

    /// The word stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Settling => "settling",
            Self::Paid => "paid",
            Self::Provisioning => "provisioning",
            Self::Settled => "settled",
            Self::Credited => "credited",
            Self::Released => "released",
            Self::Refused => "refused",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether `next` may follow. Released only before settlement was begun. Credited also what was refused or given up,
    /// when its money moved all the same; refused also what was settled, when the chain took it back.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use PurchaseState::{Claimed, Credited, Paid, Provisioning, Refused, Released, Settled, Settling};
        matches!(
            (self, next),
            (Claimed, Settling | Released)
                | (Released, Claimed)
                | (Settling, Settled | Credited | Refused | Paid)
                | (Paid, Provisioning | Credited)
                | (Provisioning, Settled | Credited)
                | (Released | Refused, Credited)
                | (Settled, Refused)
        )
    }

    /// Whether the money moved and nothing is there for it yet.
    #[must_use]
    pub const fn is_being_made(self) -> bool {
        matches!(self, Self::Paid | Self::Provisioning)
    }

    /// Whether the money moved, whatever came of it.
    #[must_use]
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Paid | Self::Provisioning | Self::Settled | Self::Credited)
    }
}

/// One authorization to pay. Unique by network, asset, payer and nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// The id.
    pub id: PurchaseId,
    /// CAIP-2 network, `eip155:84532`.
    pub network: String,
    /// The token contract, lower case.
    pub asset: String,
    /// The payer's address, lower case.
    pub payer: String,
    /// The authorization's nonce, `0x` and 64 lower-case hexadecimal digits.
    pub nonce: String,
    /// Whom it pays, lower case.
    pub pay_to: String,
    /// Atomic units.
    pub amount: i64,
    /// When the authorization ends.
    pub valid_before: Timestamp,
    /// What was asked for with it: method, path and body.
    pub request: Digest,
    /// The payment as the rail needs it to settle or to look for its settlement (not secret after settlement).
    pub payload: String,
    /// Where it stands.
    pub state: PurchaseState,
    /// The grant it pays for.
    pub grant: GrantId,
    /// The settlement's transaction.
    pub transaction: Option<String>,
    /// The last trouble, in safe words.
    pub last_error: Option<String>,
    /// When the reconciler looks next; `None` where nothing is left to do.
    pub next_at: Option<Timestamp>,
    /// When it was claimed.
    pub created: Timestamp,
    /// Whether the money moves before the keys are made.
    pub settle_first: bool,
}

/// What moves, from whom, to whom, for what. Not where it stands: the rail is asked for that, and what only changes on
/// the way (state, transaction, trouble, next look, whether the money moves first) gives nobody anything by itself.
impl Control for Purchase {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.purchase.v1")
            .text(&self.id.to_string())
            .text(&self.network)
            .text(&self.asset)
            .text(&self.payer)
            .text(&self.nonce)
            .text(&self.pay_to)
            .int(self.amount)
            .int(self.valid_before.as_millis())
            .text(&self.request.to_string())
            .text(&self.payload)
            .text(&self.grant.to_string())
            .int(self.created.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_paid_is_lost_but_by_the_chain() {
        for state in PurchaseState::ALL {
            assert_eq!(PurchaseState::parse(state.as_str()), Some(state));
            for next in PurchaseState::ALL {
                let taken_back = (state, next) == (PurchaseState::Settled, PurchaseState::Refused);
                let lost = state.is_paid() && !next.is_paid() && !taken_back;
                assert!(!(lost && state.may_become(next)), "{state:?} -> {next:?}");
            }
        }
    }
}
