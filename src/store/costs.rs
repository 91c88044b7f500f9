//! What keys may cost at their vendors: the parts of a grant's limit that were set aside.

use super::{ReadTx, StoreError, Tx};
use crate::base::id::{CredentialId, GrantId};
use crate::base::money::{Currency, Money};

impl Tx {
    /// Sets aside what a key may cost.
    pub async fn set_cost_cap(&mut self, id: CredentialId, cap: Money) -> Result<(), StoreError> {
        self.ask("UPDATE credentials SET cost_cap = $2 WHERE id = $1")
            .bind(id)
            .bind(cap.atomic())
            .run_on("credential")
            .await
    }
}

impl ReadTx {
    /// What was set aside for a key.
    pub async fn cost_cap(&mut self, id: CredentialId) -> Result<Option<Money>, StoreError> {
        let cap: Option<i64> = self
            .ask("SELECT cost_cap FROM credentials WHERE id = $1 AND cost_cap IS NOT NULL")
            .bind(id)
            .one()
            .await?;
        Ok(cap.map(|cap| Money::new(cap, Currency::Usd)))
    }

    /// What was set aside for all keys of a grant's item, in millionths; but for those that were never made.
    pub async fn cost_given_out(&mut self, grant: GrantId, item: i64) -> Result<i64, StoreError> {
        self.ask(
            "SELECT CAST(COALESCE(sum(cost_cap), 0) AS BIGINT) FROM credentials \
             WHERE grant_id = $1 AND item = $2 AND state <> 'failed'",
        )
        .bind(grant)
        .bind(item)
        .only()
        .await
    }
}
