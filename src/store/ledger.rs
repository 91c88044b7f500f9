//! The books: entries are added and read, and nothing else.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::{EntryId, GrantId, PrincipalId};
use crate::base::money::{Currency, Money};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::ledger::{Account, Act, Entry, UsageBy};
use crate::model::payment::PurchaseState;

/// Which entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// From here on.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Of this principal's grants.
    pub principal: Option<PrincipalId>,
}

/// What moved between two accounts, for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// The day since 1970, id, wallet or name.
    pub key: String,
    /// The account that grew.
    pub debit: Account,
    /// The account that gave.
    pub credit: Account,
    /// How often.
    pub entries: i64,
    /// How much; of one currency, since no two accounts move more.
    pub amount: i64,
}

macro_rules! sums {
    ($key:literal) => {
        concat!(
            "SELECT ",
            $key,
            " AS of_what, debit, credit, count(*), CAST(sum(amount) AS BIGINT) FROM ledger WHERE ",
            $key,
            " IS NOT NULL"
        )
    };
}

impl Tx {
    /// Adds an entry.
    pub async fn insert_entry(&mut self, stored: &Stored<Entry>) -> Result<(), StoreError> {
        let entry = &stored.unverified;
        let (debit, credit) = entry.act.sides();
        self.ask(
            "INSERT INTO ledger (id, created, act, debit, credit, amount, currency, principal, grant_id, purchase, \
             wallet, vendor, credential, lease, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        )
        .bind(entry.id)
        .bind(entry.created)
        .bind(entry.act.as_str())
        .bind(debit.as_str())
        .bind(credit.as_str())
        .bind(entry.amount.atomic())
        .bind(entry.amount.currency().to_string())
        .bind(entry.principal)
        .bind(entry.grant)
        .bind(entry.purchase)
        .bind(entry.wallet.as_deref())
        .bind(&entry.vendor)
        .bind(entry.credential)
        .bind(entry.lease)
        .bind(stored.mac)
        .run()
        .await?;
        Ok(())
    }
}

impl ReadTx {
    /// Entries after `after`, in the order of their ids, which is that of their making.
    pub async fn entries(&mut self, after: Option<EntryId>, limit: i64) -> Result<Vec<Stored<Entry>>, StoreError> {
        self.ask(
            "SELECT id, created, act, debit, credit, amount, currency, principal, grant_id, purchase, wallet, vendor, \
             credential, lease, mac FROM ledger WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(limit)
        .all()
        .await
    }

    /// Whether an act was entered for a grant.
    pub async fn is_entered(&mut self, grant: GrantId, act: Act) -> Result<bool, StoreError> {
        let found: Option<i64> = self
            .ask("SELECT count(*) FROM ledger WHERE grant_id = $1 AND act = $2")
            .bind(grant)
            .bind(act.as_str())
            .one()
            .await?;
        Ok(found.is_some_and(|count| count > 0))
    }

    /// What moved between accounts, for each key, in the order of keys; at most `limit` of them.
    pub async fn sums(&mut self, by: UsageBy, filter: EntryFilter, limit: i64) -> Result<Vec<Sum>, StoreError> {
        let text = match by {
            UsageBy::Day => sums!("CAST(created / 86400000 AS TEXT)"),
            UsageBy::Principal => sums!("principal"),
            UsageBy::Grant => sums!("grant_id"),
            UsageBy::Wallet => sums!("wallet"),
            UsageBy::Vendor => sums!("vendor"),
            UsageBy::Lease => sums!("lease"),
        };
        self.ask(text)
            .filter(" AND created >= ", filter.since)
            .filter(" AND created < ", filter.until)
            .filter(" AND principal = ", filter.principal)
            .filter(" GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT ", Some(limit))
            .all()
            .await
    }

    /// What payments moved, by their state.
    pub async fn purchased(&mut self) -> Result<Vec<(PurchaseState, i64)>, StoreError> {
        let sums: Vec<StateSum> = self
            .ask("SELECT state, CAST(sum(amount) AS BIGINT) FROM purchases GROUP BY state")
            .all()
            .await?;
        Ok(sums.into_iter().map(|StateSum(state, sum)| (state, sum)).collect())
    }

    /// What is left of all credit.
    pub async fn credit_left(&mut self) -> Result<i64, StoreError> {
        self.ask("SELECT CAST(COALESCE(sum(remaining), 0) AS BIGINT) FROM credits")
            .only()
            .await
    }
}

struct StateSum(PurchaseState, i64);

impl Record for StateSum {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self(cells.word(PurchaseState::parse)?, cells.int()?))
    }
}

impl Record for Sum {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            key: cells.text()?,
            debit: cells.word(Account::parse)?,
            credit: cells.word(Account::parse)?,
            entries: cells.int()?,
            amount: cells.int()?,
        })
    }
}

/// The accounts stand in the row for those who sum; the act decides, since it carries the mark.
impl Record for Entry {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        let (id, created, act) = (cells.parse()?, cells.time()?, cells.word(Act::parse)?);
        let sides = (cells.word(Account::parse)?, cells.word(Account::parse)?);
        if sides != act.sides() {
            return Err(StoreError::corrupt("ledger.debit"));
        }
        let amount = cells.int()?;
        let currency = cells.word(|word| {
            [Currency::Usd, Currency::Usdc]
                .into_iter()
                .find(|currency| currency.to_string() == word)
        })?;
        Ok(Self {
            id,
            created,
            act,
            amount: Money::new(amount, currency),
            principal: cells.parse()?,
            grant: cells.parse()?,
            purchase: cells.maybe_parse()?,
            wallet: cells.maybe_text()?,
            vendor: cells.text()?,
            credential: cells.maybe_parse()?,
            lease: cells.maybe_parse()?,
        })
    }
}
