//! The store: SQLite or PostgreSQL behind one set of methods, and the writer of the hot path.
//!
//! A [`ReadTx`] sees one moment; a [`Tx`] may also change things and ends with [`Tx::commit`], which puts the
//! events on the chain and answers the [`Committed`](crate::model::event::Committed) that the vault asks for.
//! Write transactions lock the `chain` row first, so that they run one after another on both engines: what a
//! transaction read stays true until it commits, and deadlocks cannot happen.
//!
//! Rows whose content decides who gets a key carry a MAC ([`Stored`](crate::model::control::Stored)). The store
//! keeps it and does not check it.

pub mod approvals;
mod ask;
pub mod backup;
mod batch;
mod connect;
mod costs;
pub mod credentials;
pub mod credits;
mod decide;
mod dialect;
mod error;
pub mod events;
pub mod grants;
pub mod incarnations;
pub mod instance;
pub mod leases;
pub mod ledger;
mod migrate;
mod news;
pub mod nonces;
pub mod orphans;
pub mod policies;
pub mod principals;
pub mod purchases;
pub mod receipts;
pub mod reseal;
pub mod revocations;
pub mod rotations;
mod set;
mod statement;
pub mod status;
pub mod tree;
mod tx;
pub mod vendors;
pub mod watch;
pub mod webhooks;
pub mod writer;

use std::sync::Arc;
use std::time::Instant;

use connect::Pools;
pub use error::StoreError;
use news::News;
pub use tx::{ReadTx, Release, Tx};

/// Which database holds the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One file, one machine.
    Sqlite,
    /// A server that several instances may share.
    Postgres,
}

impl Engine {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// At most so many rows.
    pub limit: i64,
    /// Only rows after this id, which the last page ended with; the id itself is left out.
    pub after: Option<String>,
}

impl Page {
    /// The first `limit` rows.
    #[must_use]
    pub const fn first(limit: i64) -> Self {
        Self { limit, after: None }
    }
}

/// The database. Copies share its connections.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    news: News,
    fatal: Arc<dyn Fn() + Send + Sync>,
    watched: watch::Watched,
}

impl Store {
    /// Opens `sqlite:///absolute/path.db`, `sqlite://./relative.db` or `postgres://…`. A SQLite file that is
    /// not there is made, readable by its owner only. Writes nothing else: see [`Store::migrate`].
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::MigrationMismatch`] for a database newer than this binary,
    /// [`StoreError::SynchronousCommit`] when PostgreSQL would confirm what a crash can lose.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self {
            pools: connect::open(url).await?,
            news: News::new(),
            fatal: Arc::new(|| std::process::abort()),
            watched: watch::Watched::default(),
        };
        let (applied, known) = store.migrations().await?;
        migrate::refuse_newer(applied, known)?;
        Ok(store)
    }

    /// What happens when the disk fails under a commit. Without this call the process is aborted: what SQLite
    /// holds in memory may then differ from what the disk holds, and only a restart finds out. For tests.
    #[must_use]
    pub fn on_fatal(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.fatal = Arc::new(hook);
        self
    }

    /// Brings the tables up to this binary. Does nothing when they are.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        migrate::run(&self.pools).await
    }

    /// Brings empty tables up to an older state, into which a backup of that state fits.
    ///
    /// # Errors
    /// [`StoreError::MigrationMismatch`] when this binary does not know it.
    pub async fn migrate_to(&self, version: i64) -> Result<(), StoreError> {
        migrate::run_to(&self.pools, version).await
    }

    /// The latest migration of the database (0 for none), and the latest this binary knows.
    pub async fn migrations(&self) -> Result<(i64, i64), StoreError> {
        Ok((migrate::applied(&self.pools).await?, migrate::known(self.engine())?))
    }

    /// Which engine.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        match self.pools {
            Pools::Sqlite { .. } => Engine::Sqlite,
            Pools::Postgres { .. } => Engine::Postgres,
        }
    }

    /// Has `watch` told of what happens, in all copies. The first one stays.
    pub fn watched_by(&self, watch: watch::Watch) {
        self.watched.by(watch);
    }

    /// Begins a transaction that may write. Waits for the one before it.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let since = Instant::now();
        let tx = self.watched.see(Tx::begin(self.clone()).await)?;
        self.watched.waited("write", since.elapsed());
        Ok(tx)
    }

    /// Begins a transaction that only reads and sees one moment. Does not wait for writers.
    pub async fn read(&self) -> Result<ReadTx, StoreError> {
        let since = Instant::now();
        let tx = ReadTx::begin(&self.pools).await?;
        self.watched.waited("read", since.elapsed());
        Ok(tx)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut tx = self.read().await?;
        tx.ask("SELECT 1").run().await?;
        tx.end().await
    }

    /// Closes all connections, waiting for transactions under way.
    pub async fn close(&self) {
        self.pools.close().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}
