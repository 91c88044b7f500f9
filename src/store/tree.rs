//! The Merkle tree over the log: which events are leaves, the hashes of complete subtrees, and checkpoints. What the
//! hashes are is the engine `audit`'s; here they are 32 bytes.

use std::collections::HashMap;

use super::dialect;
use super::events::{EventRow, select};
use super::set::Set;
use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::EventId;
use crate::base::time::Timestamp;

/// How far the tree has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeState {
    /// How many leaves it has.
    pub size: i64,
    /// The roots of the complete subtrees it consists of, largest first.
    pub edge: Vec<[u8; 32]>,
    /// Its root.
    pub root: [u8; 32],
}

impl Tx {
    /// Makes the events `from_size + 1`, … up to `last` leaves: keeps the new complete subtrees (level, place, hash)
    /// and the new state. `false`, and nothing changed, when the tree no longer has `from_size` leaves.
    ///
    /// # Errors
    /// [`StoreError::Absent`] when `last` is not the event that is the new tree's last leaf.
    pub async fn number_leaves(
        &mut self,
        from_size: i64,
        last: EventId,
        nodes: &[(u8, i64, [u8; 32])],
        new: &TreeState,
    ) -> Result<bool, StoreError> {
        let moved = self
            .ask("UPDATE tree_state SET size = $2, edge = $3, root = $4 WHERE size = $1")
            .bind(from_size)
            .bind(new.size)
            .bind(new.edge.concat().as_slice())
            .bind(&new.root)
            .run()
            .await?;
        if moved == 0 {
            return Ok(false);
        }
        let there: Option<i64> = self
            .ask("SELECT n FROM events WHERE n = $1 AND id = $2")
            .bind(new.size)
            .bind(last)
            .one()
            .await?;
        if there.is_none() {
            return Err(StoreError::Absent("event of the last leaf"));
        }
        let nodes = nodes.iter().fold(Set::default(), |set, (level, place, hash)| {
            set.row().cell(i64::from(*level)).cell(*place).cell(hash)
        });
        if !nodes.is_empty() {
            self.ask_each(dialect::INSERT_NODES).bind_set(&nodes).run().await?;
        }
        Ok(true)
    }

    /// Keeps a checkpoint (its text, signed) of the tree with `size` leaves; the first one of a size stays.
    pub async fn save_checkpoint(&mut self, size: i64, text: &str, at: Timestamp) -> Result<(), StoreError> {
        self.ask("INSERT INTO checkpoints (size, body, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(size)
            .bind(text)
            .bind(at)
            .run()
            .await?;
        Ok(())
    }
}

impl ReadTx {
    /// How far the tree has grown.
    pub async fn tree_state(&mut self) -> Result<TreeState, StoreError> {
        self.ask("SELECT size, edge, root FROM tree_state").only().await
    }

    /// The hashes of complete subtrees (level, place); those that are not kept are left out.
    pub async fn nodes(&mut self, places: &[(u8, i64)]) -> Result<HashMap<(u8, i64), [u8; 32]>, StoreError> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let set = places.iter().fold(Set::default(), |set, (level, place)| {
            set.row().cell(i64::from(*level)).cell(*place)
        });
        let nodes: Vec<Node> = self.ask_each(dialect::NODES).bind_set(&set).all().await?;
        Ok(nodes
            .into_iter()
            .map(|node| ((node.level, node.place), node.hash))
            .collect())
    }

    /// The event that is this leaf.
    pub async fn event_of_leaf(&mut self, leaf: i64) -> Result<Option<EventRow>, StoreError> {
        self.ask(select!("WHERE n = $1 AND n <= (SELECT size FROM tree_state)"))
            .bind(leaf.saturating_add(1))
            .one()
            .await
    }

    /// The checkpoint with the most leaves: its size and its text.
    pub async fn latest_checkpoint(&mut self) -> Result<Option<(i64, String)>, StoreError> {
        self.ask("SELECT size, body FROM checkpoints ORDER BY size DESC LIMIT 1")
            .one()
            .await
    }

    /// The smallest checkpoint of at least `size` leaves.
    pub async fn checkpoint_at_least(&mut self, size: i64) -> Result<Option<(i64, String)>, StoreError> {
        self.ask("SELECT size, body FROM checkpoints WHERE size >= $1 ORDER BY size LIMIT 1")
            .bind(size)
            .one()
            .await
    }
}

impl Record for TreeState {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        let size = cells.int()?;
        let edge = cells.bytes()?;
        let hashes = edge.chunks(32).map(|hash| hash.try_into().map_err(|_| cells.corrupt()));
        let edge = hashes.collect::<Result<_, _>>()?;
        let root = cells.hash()?;
        Ok(Self { size, edge, root })
    }
}

struct Node {
    level: u8,
    place: i64,
    hash: [u8; 32],
}

impl Record for Node {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        let level = cells.int()?;
        Ok(Self {
            level: u8::try_from(level).map_err(|_| cells.corrupt())?,
            place: cells.int()?,
            hash: cells.hash()?,
        })
    }
}
