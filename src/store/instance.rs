//! The instance, its keyring, its own signing keys and its durable clock.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::instance::{Instance, Mode};
use crate::model::sealed::Sealed;

/// A key dekeys itself signs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// Counts from 1 within its kind.
    pub number: i64,
    /// The public half, as text.
    pub public: String,
    /// The private half.
    pub sealed: Sealed,
    /// When it was made.
    pub created: Timestamp,
    /// When it stopped signing.
    pub retired: Option<Timestamp>,
    /// The signature by which the key before names this one as its successor.
    pub endorsed: Option<String>,
}

impl Tx {
    /// Keeps what `init` fixed. Once only: [`StoreError::Duplicate`] after that.
    pub async fn insert_instance(&mut self, stored: &Stored<Instance>) -> Result<(), StoreError> {
        let instance = &stored.unverified;
        self.ask("INSERT INTO instance (one, id, incarnation, mode, quorum, solo, created, mac) VALUES (1, $1, $2, $3, $4, $5, $6, $7)")
            .bind(instance.id)
            .bind(instance.incarnation)
            .bind(instance.mode.as_str())
            .bind(instance.quorum)
            .bind(instance.solo)
            .bind(instance.created)
            .bind(stored.mac)
            .run()
            .await?;
        self.continue_as(&instance.incarnation.to_string()).await
    }

    /// Gives this copy of the database its own incarnation: later events are written under it. The chain goes on.
    pub async fn set_incarnation(&mut self, stored: &Stored<Instance>) -> Result<(), StoreError> {
        let instance = &stored.unverified;
        self.ask("UPDATE instance SET incarnation = $1, mac = $2 WHERE id = $3")
            .bind(instance.incarnation)
            .bind(stored.mac)
            .bind(instance.id)
            .run_on("instance")
            .await?;
        self.continue_as(&instance.incarnation.to_string()).await
    }

    async fn continue_as(&mut self, incarnation: &str) -> Result<(), StoreError> {
        incarnation.clone_into(&mut self.head_mut().incarnation);
        self.ask("UPDATE chain SET incarnation = $1")
            .bind(incarnation)
            .run_on("chain")
            .await
    }

    /// Keeps the keyring (JSON without secrets), in place of the one before.
    pub async fn save_keyring(&mut self, keyring: &str) -> Result<(), StoreError> {
        self.ask("INSERT INTO keyring (one, body) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET body = excluded.body")
            .bind(keyring)
            .run()
            .await?;
        Ok(())
    }

    /// Promises `count` wraps of the key-encryption key to this process: from the first number, up to but not
    /// with the second. A number is promised once, whatever crashes.
    pub async fn reserve_wraps(&mut self, count: i64) -> Result<(i64, i64), StoreError> {
        let until: i64 = self
            .ask("UPDATE wraps SET reserved = reserved + $1 RETURNING reserved")
            .bind(count)
            .only()
            .await?;
        Ok((until - count, until))
    }

    /// Begins to count the wraps of a fresh key-encryption key and promises the first `count` of them to this process.
    pub async fn restart_wraps(&mut self, count: i64) -> Result<(), StoreError> {
        self.ask("UPDATE wraps SET reserved = $1")
            .bind(count)
            .run_on("wraps")
            .await
    }

    /// A key that signed so far signs no more.
    pub async fn retire_signing_key(&mut self, kind: &str, number: i64, now: Timestamp) -> Result<(), StoreError> {
        self.ask("UPDATE signing_keys SET retired = $3 WHERE kind = $1 AND number = $2 AND retired IS NULL")
            .bind(kind)
            .bind(number)
            .bind(now)
            .run_on("signing key")
            .await
    }

    /// Keeps a key dekeys signs with; `kind` is `token` or `log`.
    pub async fn insert_signing_key(
        &mut self,
        kind: &str,
        number: i64,
        public: &str,
        sealed: &Sealed,
        created: Timestamp,
    ) -> Result<(), StoreError> {
        self.ask("INSERT INTO signing_keys (kind, number, public_key, sealed, created) VALUES ($1, $2, $3, $4, $5)")
            .bind(kind)
            .bind(number)
            .bind(public)
            .bind(sealed)
            .bind(created)
            .run()
            .await?;
        Ok(())
    }

    /// Keeps the signature by which the key before names this one as its successor.
    pub async fn endorse_signing_key(&mut self, kind: &str, number: i64, endorsed: &str) -> Result<(), StoreError> {
        self.ask("UPDATE signing_keys SET endorsed = $3 WHERE kind = $1 AND number = $2")
            .bind(kind)
            .bind(number)
            .bind(endorsed)
            .run_on("signing key")
            .await
    }

    /// Raises the durable clock; it never goes back.
    pub async fn raise_high_water(&mut self, to: Timestamp) -> Result<(), StoreError> {
        let head = self.head_mut();
        head.high_water = head.high_water.max(to.as_millis());
        self.ask("UPDATE chain SET high_water = $1 WHERE high_water < $1")
            .bind(to)
            .run()
            .await?;
        Ok(())
    }
}

impl ReadTx {
    /// What `init` fixed; `None` before.
    pub async fn instance(&mut self) -> Result<Option<Stored<Instance>>, StoreError> {
        self.ask("SELECT id, incarnation, mode, quorum, solo, created, mac FROM instance")
            .one()
            .await
    }

    /// The keyring (JSON).
    pub async fn keyring(&mut self) -> Result<Option<String>, StoreError> {
        self.ask("SELECT body FROM keyring").one().await
    }

    /// The keys of one kind, in the order of their numbers.
    pub async fn signing_keys(&mut self, kind: &str) -> Result<Vec<SigningKeyRow>, StoreError> {
        self.ask(
            "SELECT number, public_key, sealed, created, retired, endorsed FROM signing_keys WHERE kind = $1 ORDER BY number",
        )
        .bind(kind)
        .all()
        .await
    }

    /// The latest time that was written.
    pub async fn high_water(&mut self) -> Result<Timestamp, StoreError> {
        self.ask("SELECT high_water FROM chain")
            .only()
            .await
            .map(Timestamp::from_millis)
    }
}

impl Record for Instance {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            incarnation: cells.parse()?,
            mode: cells.word(|word| [Mode::Test, Mode::Live].into_iter().find(|mode| mode.as_str() == word))?,
            quorum: cells.int()?,
            solo: cells.flag()?,
            created: cells.time()?,
        })
    }
}

impl Record for SigningKeyRow {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            number: cells.int()?,
            public: cells.text()?,
            sealed: Sealed::read(cells)?,
            created: cells.time()?,
            retired: cells.maybe_time()?,
            endorsed: cells.maybe_text()?,
        })
    }
}
