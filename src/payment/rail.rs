//! The rail: what moves the money. The outside is behind it, so every answer may also be "unknown", and unknown is
//! never taken for failed.

use std::pin::Pin;

use super::exact::Offered;
use super::sim::SimRail;
use crate::base::time::Timestamp;
use crate::model::payment::Purchase;

/// What a rail gives back: a future that can be sent between threads.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a payment would settle now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// It would.
    Valid {
        /// The payer's address, lower case.
        payer: String,
    },
    /// It would not; nothing is charged. An x402 reason.
    Invalid(String),
    /// The rail does not say; nothing is charged. In safe words.
    Unknown(String),
}

/// What became of the order to settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// The money moved.
    Done {
        /// The transaction's hash.
        transaction: String,
    },
    /// It did not move, and this order will not move it. An x402 reason.
    Refused(String),
    /// It may have moved: ask [`PaymentRail::find`], never the payer. In safe words.
    Unknown(String),
}

/// What the rail's books say about a purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Find {
    /// The money moved.
    Settled {
        /// The transaction's hash.
        transaction: String,
    },
    /// It did not and never will: the authorization is over.
    NotSettled,
    /// Not known yet. In safe words.
    Unknown(String),
}

/// Moves money by signed authorizations. Settling the same payer and nonce again never moves it twice.
pub trait PaymentRail: Send + Sync {
    /// Whether the payment would settle now. Changes nothing.
    fn verify<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Verify>;
    /// Settles the payment. To be awaited to its end: dropping it leaves the outcome unknown.
    fn settle<'a>(&'a self, offered: &'a Offered) -> Answer<'a, Settle>;
    /// Looks for the settlement of a purchase whose outcome is unknown.
    fn find<'a>(&'a self, purchase: &'a Purchase, now: Timestamp) -> Answer<'a, Find>;
    /// Whether the money of a payment that was refused or given up moved all the same: until its authorization ends,
    /// whoever saw it can use it. Orders nothing; a rail that cannot tell without ordering says that it did not.
    fn moved<'a>(&'a self, purchase: &'a Purchase, now: Timestamp) -> Answer<'a, Find> {
        self.find(purchase, now)
    }
    /// Whether what is settled may be taken back for a while, as chains do.
    fn may_take_back(&self) -> bool {
        false
    }
    /// Whether a settled payment stays settled. One that was taken back is ordered again, and then not known yet.
    fn confirm<'a>(&'a self, purchase: &'a Purchase) -> Answer<'a, Find> {
        Box::pin(async move {
            Find::Settled {
                transaction: purchase.transaction.clone().unwrap_or_default(),
            }
        })
    }
    /// The rail's name in events and receipts.
    fn name(&self) -> &str;
    /// Whether the money is only pretended.
    fn simulated(&self) -> bool;
    /// The simulated rail, if it is one: to give it trouble, and to see what wallets have.
    fn sim(&self) -> Option<&SimRail> {
        None
    }
}
