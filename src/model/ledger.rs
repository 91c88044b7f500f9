//! The books, double entry: each entry moves an amount from one account to another. Written in the commit of the act that
//! it tells of, never changed, never deleted.

use serde::{Deserialize, Serialize};

use super::control::Control;
use crate::base::canonical::Canonical;
use crate::base::id::{CredentialId, EntryId, GrantId, LeaseId, PrincipalId, PurchaseId};
use crate::base::money::Money;
use crate::base::time::Timestamp;

/// Where an amount stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// What payers' wallets moved to `pay_to`: what the chain, or the simulated rail, says too.
    Received,
    /// What payers paid and have nothing for: credit, and payments whose keys are being made.
    Owed,
    /// What was sold.
    Sold,
    /// What vendors' keys may cost us.
    VendorCost,
    /// What we may owe vendors for it.
    Vendors,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A payment settled, and its grant is in force.
    Charge,
    /// A payment settled, and nothing is in force for it yet, or ever.
    Deposit,
    /// What was owed became a grant: settled first and made now.
    Deliver,
    /// Credit paid for a grant.
    SpendCredit,
    /// That grant came to nothing: its credit is there again.
    ReturnCredit,
    /// A grant ended early and unused: what it had paid for minutes and resolves is owed again.
    ReturnUnspent,
    /// The chain took a payment back.
    TakeBack,
    /// A key was made that may cost so much at its vendor.
    VendorCost,
}

/// By what usage is summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// Days, UTC.
    #[default]
    Day,
    /// Whose grants.
    Principal,
    /// Grants.
    Grant,
    /// Wallets that paid, CAIP-10.
    Wallet,
    /// Vendors; of a grant of several, all their names joined by `+`.
    Vendor,
    /// Leases that keys were made for.
    Lease,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Received, Self::Owed, Self::Sold, Self::VendorCost, Self::Vendors];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Owed => "owed",
            Self::Sold => "sold",
            Self::VendorCost => "vendor_cost",
            Self::Vendors => "vendors",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|account| account.as_str() == text)
    }
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Charge,
        Self::Deposit,
        Self::Deliver,
        Self::SpendCredit,
        Self::ReturnCredit,
        Self::ReturnUnspent,
        Self::TakeBack,
        Self::VendorCost,
    ];

    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Deposit => "deposit",
            Self::Deliver => "deliver",
            Self::SpendCredit => "spend_credit",
            Self::ReturnCredit => "return_credit",
            Self::ReturnUnspent => "return_unspent",
            Self::TakeBack => "take_back",
            Self::VendorCost => "vendor_cost",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.as_str() == text)
    }

    /// The account that grows and the one that gives, as bookkeepers write them: debit, credit.
    #[must_use]
    pub const fn sides(self) -> (Account, Account) {
        match self {
            Self::Charge => (Account::Received, Account::Sold),
            Self::Deposit => (Account::Received, Account::Owed),
            Self::Deliver | Self::SpendCredit => (Account::Owed, Account::Sold),
            Self::ReturnCredit | Self::ReturnUnspent => (Account::Sold, Account::Owed),
            Self::TakeBack => (Account::Sold, Account::Received),
            Self::VendorCost => (Account::VendorCost, Account::Vendors),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id.
    pub id: EntryId,
    /// When.
    pub created: Timestamp,
    /// What happened; it says which accounts.
    pub act: Act,
    /// How much; more than nothing.
    pub amount: Money,
    /// Whose grant it is.
    pub principal: PrincipalId,
    /// For which grant.
    pub grant: GrantId,
    /// By which payment.
    pub purchase: Option<PurchaseId>,
    /// Whose wallet, CAIP-10.
    pub wallet: Option<String>,
    /// The grant's vendor; of several, all their names joined by `+`.
    pub vendor: String,
    /// The key that may cost it.
    pub credential: Option<CredentialId>,
    /// The lease that key was made for.
    pub lease: Option<LeaseId>,
}

impl Control for Entry {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.ledger.v1")
            .text(&self.id.to_string())
            .int(self.created.as_millis())
            .text(self.act.as_str())
            .text(&self.amount.to_string())
            .text(&self.principal.to_string())
            .text(&self.grant.to_string())
            .maybe(self.purchase.map(|id| id.to_string()).as_deref())
            .maybe(self.wallet.as_deref())
            .text(&self.vendor)
            .maybe(self.credential.map(|id| id.to_string()).as_deref())
            .maybe(self.lease.map(|id| id.to_string()).as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_two_sides_and_words_are_read_back() {
        for act in Act::ALL {
            let (debit, credit) = act.sides();
            assert_ne!(debit, credit);
            assert_eq!(Act::parse(act.as_str()), Some(act));
        }
        for account in Account::ALL {
            assert_eq!(Account::parse(account.as_str()), Some(account));
        }
    }
}
