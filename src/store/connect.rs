//! Opening the two engines, with the settings their durability rests on.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgPool, SqlitePool};

use super::StoreError;

/// The connections.
#[derive(Clone)]
pub(super) enum Pools {
    /// `write` has one connection: whoever wants to write waits in line for it, so the writer's batches and
    /// slow transactions take turns.
    Sqlite {
        /// For transactions that write.
        write: SqlitePool,
        /// For transactions that read.
        read: SqlitePool,
    },
    /// Writers that wait for the chain keep a connection each, so readers have their own.
    Postgres {
        /// For transactions that write.
        write: PgPool,
        /// For transactions that read.
        read: PgPool,
    },
}

impl Pools {
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres { write, read } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

/// How long to wait for a connection before answering that the store is busy.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn open(url: &str) -> Result<Pools, StoreError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(url).await;
    }
    match url.strip_prefix("sqlite://") {
        // A file in memory would lose the record of every key that is out.
        Some(path) if !path.is_empty() && !path.starts_with(':') && !path.contains('?') => {
            sqlite(Path::new(path)).await
        }
        _ => Err(StoreError::Address),
    }
}

async fn sqlite(path: &Path) -> Result<Pools, StoreError> {
    make_private(path);
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("secure_delete", "ON")
        // Pages of indexes change with every batch: the longer the log, the fewer times each is copied. 16 MB.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("trusted_schema", "OFF");
    let pool = || {
        SqlitePoolOptions::new()
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            // When the disk is full SQLite ends the transaction by itself, and sqlx, whose ROLLBACK then fails, takes
            // the connection for being in one for ever. Such a connection is closed and another one opened.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
    };
    let write = pool().max_connections(1).connect_with(options.clone()).await?;
    let read = pool()
        .max_connections(4)
        .connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Pools::Sqlite { write, read })
}

/// Makes the file so that only its owner can read it; SQLite gives its companions the same rights. A failure
/// shows when SQLite opens the file.
fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

async fn postgres(url: &str) -> Result<Pools, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Address)?;
    // A process that hangs within a transaction would hold the chain, and so every writer of every instance.
    let options = options
        .application_name("dekeys")
        .options([("idle_in_transaction_session_timeout", "30s"), ("lock_timeout", "10s")]);
    let pool = |most| PgPoolOptions::new().max_connections(most).acquire_timeout(PATIENCE);
    let read = pool(12).connect_with(options.clone()).await?;
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&read).await?;
    if setting != "on" && setting != "remote_apply" {
        return Err(StoreError::SynchronousCommit(setting));
    }
    let write = pool(4).connect_lazy_with(options);
    Ok(Pools::Postgres { write, read })
}
