//! Credit: what a payer is owed because it paid and got nothing, and what of it pays for a grant.

use super::control::Control;
use crate::base::canonical::Canonical;
use crate::base::id::{GrantId, PurchaseId};
use crate::base::time::Timestamp;

/// What one purchase left its payer with. One for each purchase at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// The purchase that was paid and could not be delivered.
    pub purchase: PurchaseId,
    /// The payer's wallet, CAIP-10.
    pub payer: String,
    /// What was owed at first, atomic units.
    pub amount: i64,
    /// What is left of it.
    pub remaining: i64,
    /// Why, in safe words.
    pub reason: String,
    /// Since when.
    pub created: Timestamp,
}

impl Control for Credit {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.credit.v1")
            .text(&self.purchase.to_string())
            .text(&self.payer)
            .int(self.amount)
            .int(self.remaining)
            .text(&self.reason)
            .int(self.created.as_millis())
    }
}

/// What of a credit was taken for a grant. Given back when that grant comes to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditUse {
    /// The grant.
    pub grant: GrantId,
    /// Whose credit.
    pub purchase: PurchaseId,
    /// How much, atomic units.
    pub amount: i64,
    /// When.
    pub created: Timestamp,
}

impl Control for CreditUse {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.credit-use.v1")
            .text(&self.grant.to_string())
            .text(&self.purchase.to_string())
            .int(self.amount)
            .int(self.created.as_millis())
    }
}
