//! The histories of the database, the epoch that is kept outside it too, and where the database is.

use std::os::unix::fs::MetadataExt as _;
use std::time::UNIX_EPOCH;

use super::dialect::{MAY_ASK_SYSTEM, PLACE, SYSTEM};
use super::statement::{Cells, Record};
use super::{Engine, ReadTx, StoreError, Tx};
use crate::base::id::{IncarnationId, RootId};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::incarnation::{Cause, Incarnation};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, cause, parent, head_n, head_digest, begun, reconciled, payments_from, mac FROM incarnations ",
            $tail
        )
    };
}

impl Tx {
    /// Keeps a new history. The instance is given it by [`Tx::set_incarnation`].
    pub async fn insert_incarnation(&mut self, stored: &Stored<Incarnation>) -> Result<(), StoreError> {
        let row = &stored.unverified;
        self.ask(
            "INSERT INTO incarnations (id, cause, parent, head_n, head_digest, begun, reconciled, payments_from, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(row.id)
        .bind(row.cause.as_str())
        .bind(row.parent)
        .bind(row.head.0)
        .bind(&row.head.1)
        .bind(row.begun)
        .bind(row.reconciled)
        .bind(row.payments_from)
        .bind(stored.mac)
        .run()
        .await?;
        Ok(())
    }

    /// Says when a history was found to agree with the vendors.
    pub async fn update_incarnation(&mut self, stored: &Stored<Incarnation>) -> Result<(), StoreError> {
        self.ask("UPDATE incarnations SET reconciled = $2, mac = $3 WHERE id = $1")
            .bind(stored.unverified.id)
            .bind(stored.unverified.reconciled)
            .bind(stored.mac)
            .run_on("incarnation")
            .await
    }

    /// Raises the epoch; answers the new one.
    pub async fn raise_epoch(&mut self) -> Result<i64, StoreError> {
        self.ask("UPDATE chain SET epoch = epoch + 1 RETURNING epoch")
            .only()
            .await
    }

    /// No key of the kind signs any more, nor is anything believed that one signed.
    pub async fn drop_signing_keys(&mut self, kind: &str) -> Result<(), StoreError> {
        self.ask("UPDATE signing_keys SET retired = 0 WHERE kind = $1")
            .bind(kind)
            .run_on("signing key")
            .await
    }
}

impl ReadTx {
    /// A history.
    pub async fn incarnation(&mut self, id: IncarnationId) -> Result<Option<Stored<Incarnation>>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// All histories, oldest first.
    pub async fn incarnations(&mut self) -> Result<Vec<Stored<Incarnation>>, StoreError> {
        self.ask(select!("ORDER BY id")).all().await
    }

    /// How often the vault was unsealed on this database; 0 before this was counted.
    pub async fn epoch(&mut self) -> Result<i64, StoreError> {
        self.ask("SELECT epoch FROM chain").only().await
    }

    /// Where the database is, as a text that another copy of it does not have: the file's number on its disk and when it
    /// was made, or the PostgreSQL server and database. Empty where nothing can be told.
    ///
    /// Not told apart: a disk that was copied as a whole, and a server that was.
    pub async fn place(&mut self) -> Result<String, StoreError> {
        let place: String = self.ask_each(PLACE).only().await?;
        if self.engine() == Engine::Sqlite {
            return Ok(file(&place));
        }
        let may: i64 = self.ask(MAY_ASK_SYSTEM).only().await?;
        let system: String = if may == 1 {
            self.ask(SYSTEM).only().await?
        } else {
            String::new()
        };
        Ok(format!("postgres:{system}:{place}"))
    }

    /// Root credentials that are in use, or that keys were made from which may live.
    pub async fn roots_in_use(&mut self) -> Result<Vec<RootId>, StoreError> {
        self.ask(
            "SELECT id FROM roots WHERE current = 1 UNION \
             SELECT root FROM credentials WHERE state NOT IN ('revoked', 'failed') ORDER BY 1",
        )
        .all()
        .await
    }
}

/// A file that was moved keeps both, a copy has others. Disks that do not know when a file was made tell the number alone.
fn file(path: &str) -> String {
    let Ok(about) = std::fs::metadata(path) else {
        return String::new();
    };
    let made = about.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or_else(String::new, |at| at.as_nanos().to_string());
    format!("file:{}:{made}", about.ino())
}

impl Record for Incarnation {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            cause: cells.word(Cause::parse)?,
            parent: cells.maybe_parse()?,
            head: (cells.int()?, cells.hash()?),
            begun: cells.time()?,
            reconciled: cells.maybe_time()?,
            payments_from: Timestamp::from_millis(cells.int()?),
        })
    }
}
