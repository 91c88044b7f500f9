//! Purchases: one payment authorization, from its claim to its end (DESIGN 17).

use serde::{Deserialize, Serialize};

use crate::base::canonical::Digest;
use crate::base::id::{GrantId, PurchaseId};
use crate::base::time::{Timestamp, Ttl};

/// How careful this instance is with money; from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaymentRules {
    /// How long a grant that people approved waits for its payment.
    pub pay_within: Ttl,
}

impl Default for PaymentRules {
    fn default() -> Self {
        Self {
            pay_within: Ttl::from_mins(24 * 60),
        }
    }
}

/// Where a purchase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurchaseState {
    /// The authorization is ours; verification and provisioning go on. Nothing was charged.
    Claimed,
    /// Settlement was begun; it may have happened.
    Settling,
    /// Settled, and the grant is active.
    Settled,
    /// Settled, but there is no grant for it: the payer has credit.
    Credited,
    /// Given up before settlement; the same request may claim the authorization again.
    Released,
    /// The rail refused settlement; nothing was charged.
    Refused,
}

impl PurchaseState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Claimed,
        Self::Settling,
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

    /// Whether `next` may follow. Released only before settlement was begun.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        use PurchaseState::{Claimed, Credited, Refused, Released, Settled, Settling};
        matches!(
            (self, next),
            (Claimed, Settling | Released) | (Released, Claimed) | (Settling, Settled | Credited | Refused)
        )
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
}
