//! Counts for the status page.

use super::dialect::SIZE;
use super::statement::{Cells, Record};
use super::{ReadTx, StoreError};

/// How many there are of what an operator looks at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases that are out or being made.
    pub live_leases: i64,
    /// Credentials whose end the vendor does not confirm.
    pub stuck_credentials: i64,
    /// Approval requests that wait.
    pub pending_approvals: i64,
    /// Payments whose settlement is under way or unknown.
    pub unknown_payments: i64,
    /// Grants in force.
    pub active_grants: i64,
}

impl ReadTx {
    /// The counts. Conditions said twice let SQLite use the partial indexes, which say them so.
    pub async fn counts(&mut self) -> Result<Counts, StoreError> {
        self.ask(
            "SELECT (SELECT count(*) FROM leases WHERE state IN ('pending', 'active')), \
             (SELECT count(*) FROM credentials WHERE state = 'stuck' \
              AND state IN ('intent', 'probe', 'revoking', 'stuck')), \
             (SELECT count(*) FROM approvals WHERE state = 'pending'), \
             (SELECT count(*) FROM purchases WHERE state = 'settling'), \
             (SELECT count(*) FROM grants WHERE state = 'active' AND state IN ('active', 'pending_approval'))",
        )
        .only()
        .await
    }
}

impl ReadTx {
    /// Bytes of the database; on SQLite without the write-ahead log.
    pub async fn size(&mut self) -> Result<i64, StoreError> {
        let Bytes(bytes) = self.ask_each(SIZE).only().await?;
        Ok(bytes)
    }
}

struct Bytes(i64);

impl Record for Bytes {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self(cells.int()?))
    }
}

impl Record for Counts {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            live_leases: cells.int()?,
            stuck_credentials: cells.int()?,
            pending_approvals: cells.int()?,
            unknown_payments: cells.int()?,
            active_grants: cells.int()?,
        })
    }
}
