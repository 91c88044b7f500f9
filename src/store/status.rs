//! Counts for the status page.

use super::dialect::SIZE;
use super::statement::{Cells, Record};
use super::{ReadTx, StoreError};
use crate::base::time::Timestamp;
use crate::model::scope::Name;

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
    /// Credentials that are being ended.
    pub revoking_credentials: i64,
    /// Keys that nobody accounts for, and that wait for somebody.
    pub orphans: i64,
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
             (SELECT count(*) FROM grants WHERE state = 'active' AND state IN ('active', 'pending_approval', 'payment_required')), \
             (SELECT count(*) FROM credentials WHERE state = 'revoking' \
              AND state IN ('intent', 'probe', 'revoking', 'stuck')), \
             (SELECT count(*) FROM orphans WHERE state = 'reported' AND state IN ('revoking', 'reported'))",
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

/// What comes next, and since when something waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Live leases that end before the time asked about.
    pub leases_ending: i64,
    /// When the approval request that has waited longest was made.
    pub oldest_approval: Option<Timestamp>,
    /// Leaves under the latest checkpoint, and when it was signed.
    pub checkpoint: Option<(i64, Timestamp)>,
}

impl ReadTx {
    /// The outlook until a moment.
    pub async fn outlook(&mut self, until: Timestamp) -> Result<Outlook, StoreError> {
        self.ask(
            "SELECT (SELECT count(*) FROM leases WHERE state IN ('pending', 'active') AND expires < $1), \
             (SELECT min(created) FROM approvals WHERE state = 'pending'), \
             (SELECT max(size) FROM checkpoints), \
             (SELECT created FROM checkpoints ORDER BY size DESC LIMIT 1)",
        )
        .bind(until)
        .only()
        .await
    }
}

impl Record for Outlook {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            leases_ending: cells.int()?,
            oldest_approval: cells.maybe_time()?,
            checkpoint: cells.maybe_int()?.zip(cells.maybe_time()?),
        })
    }
}

struct Bytes(i64);

impl Record for Bytes {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self(cells.int()?))
    }
}

/// How many things of a vendor are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InState {
    /// The vendor.
    pub vendor: Name,
    /// The state, as it is shown.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// The oldest of what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oldest {
    /// When the oldest approval request that waits was made.
    pub approval: Option<Timestamp>,
    /// Since when the key that should be dead longest is not.
    pub overdue: Option<Timestamp>,
}

impl ReadTx {
    /// Leases that are out, keys that are being ended, and keys whose end the vendor does not confirm, by vendor and
    /// state.
    pub async fn out(&mut self) -> Result<Vec<InState>, StoreError> {
        self.ask(
            "SELECT vendor, state, count(*) FROM leases WHERE state IN ('pending', 'active') GROUP BY vendor, state \
             UNION ALL SELECT vendor, 'revocation_failed', count(*) FROM credentials WHERE state = 'stuck' \
             AND state IN ('intent', 'probe', 'revoking', 'stuck') GROUP BY vendor \
             UNION ALL SELECT vendor, 'revoking', count(*) FROM credentials WHERE state = 'revoking' \
             AND state IN ('intent', 'probe', 'revoking', 'stuck') GROUP BY vendor",
        )
        .all()
        .await
    }

    /// The oldest approval request that waits, and the oldest key that should be dead: one whose end was due, and one
    /// whose end failed.
    pub async fn oldest(&mut self, now: Timestamp) -> Result<Oldest, StoreError> {
        self.ask(
            "SELECT (SELECT min(created) FROM approvals WHERE state = 'pending'), (SELECT min(CASE \
             WHEN first_failed < next_at THEN first_failed ELSE next_at END) FROM credentials WHERE next_at IS NOT NULL \
             AND (state IN ('revoking', 'stuck') OR (state = 'active' AND next_at <= $1) \
             OR (state = 'probe' AND first_failed IS NOT NULL)))",
        )
        .bind(now)
        .only()
        .await
    }

    /// Each connected vendor with the time its root credential was entered. Not authenticated: for figures only.
    pub async fn root_times(&mut self) -> Result<Vec<(Name, Timestamp)>, StoreError> {
        self.ask("SELECT vendor, created FROM roots WHERE current = 1 ORDER BY vendor")
            .all()
            .await
    }
}

impl Record for InState {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            vendor: cells.parse()?,
            state: cells.text()?,
            count: cells.int()?,
        })
    }
}

impl Record for Oldest {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            approval: cells.maybe_time()?,
            overdue: cells.maybe_time()?,
        })
    }
}

impl Record for (Name, Timestamp) {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok((cells.parse()?, cells.time()?))
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
            revoking_credentials: cells.int()?,
            orphans: cells.int()?,
        })
    }
}
