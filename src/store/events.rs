//! The audit log: committed events on a dense chain.
//!
//! Each event has a number `n`, counted from 1 without gaps, and a digest over the one before, its number and its
//! body. A row that is taken away or changed breaks the chain. Not protected: cutting off the newest events
//! together with the head. The checkpoints that were copied elsewhere show that.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError};
use crate::base::id::EventId;
use crate::base::time::{Timestamp, Ttl};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT n, id, body, prev, digest, CASE WHEN n <= (SELECT size FROM tree_state) THEN n - 1 END, created \
             FROM events ",
            $tail
        )
    };
}
pub(super) use select;

/// Longer than any commit takes.
const LONGEST_COMMIT: Ttl = Ttl::from_mins(1);

/// One event as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its place on the chain, from 1.
    pub n: i64,
    /// The id.
    pub id: EventId,
    /// The event as JSON, byte for byte as it was hashed.
    pub body: String,
    /// The digest of the event before; zeros for the first.
    pub prev: [u8; 32],
    /// BLAKE3 over `prev`, `n` (64 bits, big-endian) and the body.
    pub digest: [u8; 32],
    /// Its place in the Merkle tree once it has one: `n - 1`. It follows from the tree's size and is not kept.
    pub leaf: Option<i64>,
    /// When it happened.
    pub at: Timestamp,
}

/// Which events to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose kind begins so: `lease.`, `lease.created`.
    pub kind_prefix: Option<String>,
    /// That happened to this id.
    pub object: Option<String>,
    /// That this actor did.
    pub actor: Option<String>,
    /// Later than this place on the chain. Then the oldest come first.
    pub after_n: Option<i64>,
    /// Earlier than this place on the chain.
    pub before_n: Option<i64>,
    /// At this place on the chain or later, whatever the order.
    pub from_n: Option<i64>,
}

/// The digest of event `n` with this body, after the event with digest `prev`.
#[must_use]
pub fn link(prev: &[u8; 32], n: i64, body: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prev);
    hasher.update(&n.to_be_bytes());
    hasher.update(body.as_bytes());
    *hasher.finalize().as_bytes()
}

impl ReadTx {
    /// When the last event of a kind happened.
    pub async fn last_of_kind(&mut self, kind: &str) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<i64> = self
            .ask("SELECT created FROM events WHERE kind = $1 ORDER BY n DESC LIMIT 1")
            .bind(kind)
            .one()
            .await?;
        Ok(at.map(Timestamp::from_millis))
    }

    /// By id.
    pub async fn event(&mut self, id: EventId) -> Result<Option<EventRow>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// Those that match: newest first, or oldest first when `after_n` is given.
    pub async fn events(&mut self, filter: &EventFilter, limit: i64) -> Result<Vec<EventRow>, StoreError> {
        // No kind has a character above `z`.
        let end = filter.kind_prefix.as_ref().map(|prefix| format!("{prefix}\u{7f}"));
        let order = if filter.after_n.is_some() {
            " ORDER BY n LIMIT "
        } else {
            " ORDER BY n DESC LIMIT "
        };
        self.ask(select!("WHERE 1 = 1"))
            .filter(" AND kind >= ", filter.kind_prefix.as_ref())
            .filter(" AND kind < ", end)
            .filter(" AND object = ", filter.object.as_ref())
            .filter(" AND actor = ", filter.actor.as_ref())
            .filter(" AND n > ", filter.after_n)
            .filter(" AND n < ", filter.before_n)
            .filter(" AND n >= ", filter.from_n)
            .filter(order, Some(limit))
            .all()
            .await
    }

    /// A place on the chain before which nothing happened at `at` or later. Events are on the chain in the order of
    /// their commits, which is that of their times but for the length of a commit: callers look at the times too.
    pub async fn events_since(&mut self, at: Timestamp) -> Result<i64, StoreError> {
        let at = at.minus(LONGEST_COMMIT);
        let (mut low, mut high) = (1, self.chain_head().await?.0.saturating_add(1));
        while low < high {
            let middle = low.midpoint(high);
            let created: Option<i64> = self
                .ask("SELECT created FROM events WHERE n >= $1 ORDER BY n LIMIT 1")
                .bind(middle)
                .one()
                .await?;
            if created.is_some_and(|created| created < at.as_millis()) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The number and digest of the latest event; 0 and zeros before the first.
    pub async fn chain_head(&mut self) -> Result<(i64, [u8; 32]), StoreError> {
        let head: ChainHead = self.ask("SELECT n, digest FROM chain").only().await?;
        Ok((head.0, head.1))
    }

    /// Events from `from_n` on, in chain order.
    pub async fn chain(&mut self, from_n: i64, limit: i64) -> Result<Vec<EventRow>, StoreError> {
        self.ask(select!("WHERE n >= $1 ORDER BY n LIMIT $2"))
            .bind(from_n)
            .bind(limit)
            .all()
            .await
    }
}

struct ChainHead(i64, [u8; 32]);

impl Record for ChainHead {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self(cells.int()?, cells.hash()?))
    }
}

impl Record for EventRow {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            n: cells.int()?,
            id: cells.parse()?,
            body: cells.text()?,
            prev: cells.hash()?,
            digest: cells.hash()?,
            leaf: cells.maybe_int()?,
            at: cells.time()?,
        })
    }
}
