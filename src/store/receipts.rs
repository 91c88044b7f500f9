//! Receipts: the promise given at once, replaced by the proof later.

use super::{ReadTx, StoreError, Tx};
use crate::base::id::{EventId, GrantId, ReceiptId};

impl Tx {
    /// Keeps a receipt (JSON), in place of the one with the same id.
    pub async fn save_receipt(
        &mut self,
        id: ReceiptId,
        grant: GrantId,
        event: EventId,
        json: &str,
    ) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO receipts (id, grant_id, event, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )
        .bind(id)
        .bind(grant)
        .bind(event)
        .bind(json)
        .run()
        .await?;
        Ok(())
    }
}

impl ReadTx {
    /// By id (JSON).
    pub async fn receipt(&mut self, id: ReceiptId) -> Result<Option<String>, StoreError> {
        self.ask("SELECT body FROM receipts WHERE id = $1").bind(id).one().await
    }

    /// The latest receipt of a grant (JSON).
    pub async fn receipt_of_grant(&mut self, grant: GrantId) -> Result<Option<String>, StoreError> {
        self.ask("SELECT body FROM receipts WHERE grant_id = $1 ORDER BY id DESC LIMIT 1")
            .bind(grant)
            .one()
            .await
    }
}
