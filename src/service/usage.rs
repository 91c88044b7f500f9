//! What was paid, sold, owed and may be owed to vendors, summed from the ledger; and whether the ledger agrees with what
//! it tells of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::{Caller, Context};
use super::error::Error;
use crate::base::id::EntryId;
use crate::base::money::{Currency, Money};
use crate::base::time::Timestamp;
use crate::model::control::Stored;

use crate::model::ledger::{Account, Entry, UsageBy};
use crate::model::principal::PrincipalKind;
use crate::store::ledger::{EntryFilter, Sum};

/// How many entries are read at once.
const PAGE: i64 = 1_000;

/// The most sums of one answer: what is left out would be missed in the total.
const MOST: i64 = 100_000;

/// Which usage.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageAsk {
    /// By what it is summed; `day` if absent.
    pub by: Option<UsageBy>,
    /// From here on.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Sums of the ledger.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Usage {
    /// Always `usage`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// By what it is summed.
    pub by: UsageBy,
    /// One for each key, in the order of keys.
    pub data: Vec<UsageRow>,
}

/// The sums of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageRow {
    /// The day (`2026-12-01`), id, wallet or name.
    pub key: String,
    /// How many payments settled.
    pub payments: i64,
    /// What they moved.
    pub received: Money,
    /// What the chain took back of it.
    pub taken_back: Money,
    /// What was sold, for payments and for credit; without what came to nothing.
    pub sold: Money,
    /// What became owed to payers. Less what was taken of it, this is what is owed.
    pub owed: Money,
    /// What of it became grants.
    pub redeemed: Money,
    /// What keys may cost at their vendors, by the caps that these keep.
    pub vendor_cost: Money,
}

/// Whether the ledger agrees with what it tells of.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LedgerCheck {
    /// Always `ledger_check`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Whether all of it agrees.
    pub agrees: bool,
    /// How many entries there are; each has its mark.
    pub entries: i64,
    /// What was received, in atomic units: what the chain must say too.
    pub received: i64,
    /// What is owed to payers, in atomic units.
    pub owed: i64,
    /// What does not agree.
    pub differences: Vec<Difference>,
}

/// What the ledger says, and what is on record elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// Of what: `received`, `owed` or `marks`.
    pub of: String,
    /// The ledger, in atomic units.
    pub ledger: i64,
    /// The purchases, or the credits.
    pub records: i64,
}

/// Usage: an operator sees all, everybody else what is their own.
///
/// # Errors
/// [`Error::SignatureRequired`] for who is unknown; [`Error::Invalid`] for more than one answer holds; the store's.
pub async fn usage(app: &App, context: &Context, ask: &UsageAsk) -> Result<Usage, Error> {
    let principal = match &context.caller {
        Caller::Principal(principal) if principal.kind == PrincipalKind::Operator => None,
        Caller::Principal(principal) => Some(principal.id),
        Caller::Anonymous | Caller::Key(_) | Caller::Wallet(_) => return Err(Error::SignatureRequired),
    };
    let filter = EntryFilter {
        since: ask.since,
        until: ask.until,
        principal,
    };
    let by = ask.by.unwrap_or_default();
    let mut tx = app.store.read().await?;
    let sums = tx.sums(by, filter, MOST.saturating_add(1)).await?;
    if i64::try_from(sums.len()).is_ok_and(|count| count > MOST) {
        return Err(Error::invalid(
            "/since",
            "these are too many sums for one answer; narrow the time",
        ));
    }
    let mut data: Vec<UsageRow> = Vec::new();
    for sum in sums {
        if data.last().is_none_or(|row| row.key != sum.key) {
            data.push(UsageRow::new(&sum.key));
        }
        if let Some(row) = data.last_mut() {
            row.add(&sum);
        }
    }
    if by == UsageBy::Day {
        for row in &mut data {
            row.key = day(&row.key);
        }
        data.sort_by(|one, other| one.key.cmp(&other.key));
    }
    Ok(Usage {
        object: "usage".to_owned(),
        livemode: app.livemode(),
        by,
        data,
    })
}

impl UsageRow {
    fn new(key: &str) -> Self {
        let none = Money::new(0, Currency::Usdc);
        Self {
            key: key.to_owned(),
            payments: 0,
            received: none,
            taken_back: none,
            sold: none,
            owed: none,
            redeemed: none,
            vendor_cost: Money::new(0, Currency::Usd),
        }
    }

    fn add(&mut self, sum: &Sum) {
        match sum.debit {
            Account::Received => {
                self.payments = self.payments.saturating_add(sum.entries);
                grow(&mut self.received, sum.amount);
            }
            Account::Owed => grow(&mut self.redeemed, sum.amount),
            Account::Sold => grow(&mut self.sold, sum.amount.saturating_neg()),
            Account::VendorCost => grow(&mut self.vendor_cost, sum.amount),
            Account::Vendors => {}
        }
        match sum.credit {
            Account::Received => grow(&mut self.taken_back, sum.amount),
            Account::Owed => grow(&mut self.owed, sum.amount),
            Account::Sold => grow(&mut self.sold, sum.amount),
            Account::VendorCost | Account::Vendors => {}
        }
    }
}

fn grow(money: &mut Money, by: i64) {
    *money = Money::new(money.atomic().saturating_add(by), money.currency());
}

/// A day since 1970 as people write it.
fn day(number: &str) -> String {
    let since = number.parse::<i64>().unwrap_or_default().saturating_mul(86_400);
    let text = Timestamp::from_secs(since).rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Reads the whole ledger, every mark, and compares it with purchases and credits, at one moment.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::Sealed`]; the store's.
pub async fn check(app: &App, context: &Context) -> Result<LedgerCheck, Error> {
    context.operator()?;
    app.opened()?;
    let mut tx = app.store.read().await?;
    let mut books = Books::default();
    let mut after: Option<EntryId> = None;
    loop {
        let entries = tx.entries(after, PAGE).await?;
        after = entries.last().map(|stored| stored.unverified.id);
        let full = i64::try_from(entries.len()).unwrap_or(i64::MAX) == PAGE;
        for stored in entries {
            books.add(app, stored);
        }
        if !full {
            break;
        }
    }
    let purchases = tx.purchased().await?;
    let paid = purchases.iter().filter(|(state, _)| state.is_paid());
    let paid = paid.fold(0_i64, |sum, (_, amount)| sum.saturating_add(*amount));
    let credit = tx.credit_left().await?;
    // Paid, and neither delivered nor credited yet: owed as well.
    let open = purchases.iter().filter(|(state, _)| state.is_being_made());
    let owed = open.fold(credit, |sum, (_, amount)| sum.saturating_add(*amount));
    drop(tx);
    let compared = [
        ("received", books.received, paid),
        ("owed", books.owed, owed),
        ("marks", books.forged, 0),
    ];
    let differs = |(of, ledger, records): (&str, i64, i64)| {
        (ledger != records).then(|| Difference {
            of: of.to_owned(),
            ledger,
            records,
        })
    };
    let differences: Vec<Difference> = compared.into_iter().filter_map(differs).collect();
    Ok(LedgerCheck {
        object: "ledger_check".to_owned(),
        livemode: app.livemode(),
        agrees: differences.is_empty(),
        entries: books.entries,
        received: books.received,
        owed: books.owed,
        differences,
    })
}

#[derive(Default)]
struct Books {
    entries: i64,
    received: i64,
    owed: i64,
    /// Entries without their mark: they count for nothing.
    forged: i64,
}

impl Books {
    fn add(&mut self, app: &App, stored: Stored<Entry>) {
        self.entries = self.entries.saturating_add(1);
        let Ok(entry) = app.vault.authenticate(stored) else {
            self.forged = self.forged.saturating_add(1);
            return;
        };
        let (amount, (debit, credit)) = (entry.amount.atomic(), entry.act.sides());
        match debit {
            Account::Received => self.received = self.received.saturating_add(amount),
            Account::Owed => self.owed = self.owed.saturating_sub(amount),
            _ => {}
        }
        match credit {
            Account::Received => self.received = self.received.saturating_sub(amount),
            Account::Owed => self.owed = self.owed.saturating_add(amount),
            _ => {}
        }
    }
}
