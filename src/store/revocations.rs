//! What ended early, read from the log itself: the feed can tell no more and no less than is on record, its order is
//! the order of the commits, and every instance of a database sees the same.

use super::events::{EventRow, select};
use super::{ReadTx, StoreError};
use crate::base::time::Timestamp;

impl ReadTx {
    /// The events `token.revoked`, `grant.revoked` and `lease.revoked` after place `after_n` on the chain that happened
    /// at `since` or later, oldest first.
    ///
    /// The plus signs keep SQLite from walking the log by number: the index over what ended is far smaller.
    pub async fn revocations(
        &mut self,
        after_n: i64,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        self.ask(select!(
            "WHERE kind IN ('grant.revoked', 'lease.revoked', 'token.revoked') AND created >= $2 AND +n > $1 \
             ORDER BY +n LIMIT $3"
        ))
        .bind(after_n)
        .bind(since)
        .bind(limit)
        .all()
        .await
    }
}
