//! Credit: what payers are owed, and what of it was taken for which grant.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::{GrantId, PurchaseId};
use crate::model::control::Stored;
use crate::model::credit::{Credit, CreditUse};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT purchase, payer, amount, remaining, reason, created, mac FROM credits ",
            $tail
        )
    };
}

impl Tx {
    /// Owes a payer. `false`: this purchase was credited before, and nothing was changed.
    pub async fn insert_credit(&mut self, stored: &Stored<Credit>) -> Result<bool, StoreError> {
        let credit = &stored.unverified;
        let rows = self
            .ask(
                "INSERT INTO credits (purchase, payer, amount, remaining, reason, created, mac) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (purchase) DO NOTHING",
            )
            .bind(credit.purchase)
            .bind(&credit.payer)
            .bind(credit.amount)
            .bind(credit.remaining)
            .bind(&credit.reason)
            .bind(credit.created)
            .bind(stored.mac)
            .run()
            .await?;
        Ok(rows == 1)
    }

    /// Replaces what is left of a credit.
    pub async fn update_credit(&mut self, stored: &Stored<Credit>) -> Result<(), StoreError> {
        self.ask("UPDATE credits SET remaining = $2, mac = $3 WHERE purchase = $1")
            .bind(stored.unverified.purchase)
            .bind(stored.unverified.remaining)
            .bind(stored.mac)
            .run_on("credit")
            .await
    }

    /// Notes what was taken for a grant.
    pub async fn insert_credit_use(&mut self, stored: &Stored<CreditUse>) -> Result<(), StoreError> {
        let taken = &stored.unverified;
        self.ask("INSERT INTO credit_uses (grant_id, purchase, amount, created, mac) VALUES ($1, $2, $3, $4, $5)")
            .bind(taken.grant)
            .bind(taken.purchase)
            .bind(taken.amount)
            .bind(taken.created)
            .bind(stored.mac)
            .run()
            .await?;
        Ok(())
    }

    /// Forgets what was taken for a grant: it was given back.
    pub async fn delete_credit_uses(&mut self, grant: GrantId) -> Result<(), StoreError> {
        self.ask("DELETE FROM credit_uses WHERE grant_id = $1")
            .bind(grant)
            .run()
            .await?;
        Ok(())
    }
}

impl ReadTx {
    /// What of a payer's credit is left, oldest first.
    pub async fn credits_of(&mut self, payer: &str) -> Result<Vec<Stored<Credit>>, StoreError> {
        self.ask(select!("WHERE payer = $1 AND remaining > 0 ORDER BY created, purchase"))
            .bind(payer)
            .all()
            .await
    }

    /// The credit that a purchase left.
    pub async fn credit(&mut self, purchase: PurchaseId) -> Result<Option<Stored<Credit>>, StoreError> {
        self.ask(select!("WHERE purchase = $1")).bind(purchase).one().await
    }

    /// What was taken for a grant.
    pub async fn credit_uses(&mut self, grant: GrantId) -> Result<Vec<Stored<CreditUse>>, StoreError> {
        self.ask(
            "SELECT grant_id, purchase, amount, created, mac FROM credit_uses WHERE grant_id = $1 ORDER BY purchase",
        )
        .bind(grant)
        .all()
        .await
    }
}

impl Record for Credit {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            purchase: cells.parse()?,
            payer: cells.text()?,
            amount: cells.int()?,
            remaining: cells.int()?,
            reason: cells.text()?,
            created: cells.time()?,
        })
    }
}

impl Record for CreditUse {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            grant: cells.parse()?,
            purchase: cells.parse()?,
            amount: cells.int()?,
            created: cells.time()?,
        })
    }
}
