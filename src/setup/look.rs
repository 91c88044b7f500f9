//! The database looked at from outside, for operators: nothing is migrated, nothing unsealed, nothing made.

use std::path::Path;

use super::SetupError;
use crate::config::Config;
use crate::store::{Engine, Store, StoreError};

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseLook {
    /// `sqlite` or `postgres`.
    pub engine: &'static str,
    /// The instance in it, if `init` was run.
    pub instance: Option<String>,
    /// Its latest migration; 0 for none.
    pub migrations: i64,
    /// The latest migration of this binary.
    pub known: i64,
    /// Its size; `None` when the database is newer than this binary.
    pub bytes: Option<i64>,
    /// The size of SQLite's write-ahead log.
    pub wal_bytes: Option<u64>,
    /// A running dekeys holds it; `None` for PostgreSQL, which several may share.
    pub in_use: Option<bool>,
}

/// Looks at the configured database.
///
/// # Errors
/// [`SetupError::NotInitialized`] when there is no file; the store's.
pub async fn look(config: &Config) -> Result<DatabaseLook, SetupError> {
    let file = sqlite_file(config);
    if file.is_some_and(|file| !file.exists()) {
        return Err(SetupError::NotInitialized);
    }
    let mut looked = DatabaseLook {
        engine: if file.is_some() { "sqlite" } else { "postgres" },
        instance: None,
        migrations: 0,
        known: 0,
        bytes: None,
        wal_bytes: file.and_then(|file| size_of(&beside(file, "-wal"))),
        in_use: file.map(|file| is_held(&beside(file, ".lock"))),
    };
    let store = match Store::open(&config.database_url).await {
        Err(StoreError::MigrationMismatch { database, binary }) => {
            (looked.migrations, looked.known) = (database, binary);
            return Ok(looked);
        }
        opened => opened?,
    };
    (looked.migrations, looked.known) = store.migrations().await?;
    debug_assert_eq!(store.engine() == Engine::Sqlite, file.is_some());
    let mut tx = store.read().await?;
    looked.bytes = Some(tx.size().await?);
    if looked.migrations > 0 {
        looked.instance = tx.instance().await?.map(|row| row.unverified.id.to_string());
    }
    drop(tx);
    store.close().await;
    Ok(looked)
}

/// Brings the configured database to this binary's migrations.
///
/// # Errors
/// [`SetupError::NotInitialized`] when there is no file; the store's.
pub async fn migrate(config: &Config) -> Result<(), SetupError> {
    if sqlite_file(config).is_some_and(|file| !file.exists()) {
        return Err(SetupError::NotInitialized);
    }
    let store = Store::open(&config.database_url).await?;
    let done = store.migrate().await;
    store.close().await;
    Ok(done?)
}

/// The file of a SQLite database.
pub(super) fn sqlite_file(config: &Config) -> Option<&Path> {
    config.database_url.strip_prefix("sqlite://").map(Path::new)
}

fn beside(file: &Path, end: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn size_of(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().map(|about| about.len())
}

/// Whether a process holds the lock of a database.
fn is_held(lock: &Path) -> bool {
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(lock) else {
        return false;
    };
    matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}
