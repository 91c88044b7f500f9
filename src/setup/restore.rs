//! Whole databases, locally and without a server: a backup restored into an empty database, and an instance moved to
//! PostgreSQL. Nothing is put in place before it is known to be sound, and nothing that is there is overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::server::alone;
use super::{SetupError, look, prepare_data_dir, reach};
use crate::base::egress::Egress;
use crate::base::random::{OsRandom, Random};
use crate::base::time::{Clock, SystemClock, Timestamp, Ttl};
use crate::config::{Config, Rail};
use crate::model::instance::Instance;
use crate::service::backup::{self, Sound};
use crate::service::error::Error;
use crate::service::{App, Parts, incarnation};
use crate::store::writer::Writer;
use crate::store::{Engine, Store, StoreError};
use crate::vault::{UnsealKey, Vault};

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The instance.
    pub instance: String,
    /// Its new incarnation.
    pub incarnation: String,
    /// When the backup was begun: what happened since is lost.
    pub created: Timestamp,
    /// Sealed values that open.
    pub secrets: i64,
    /// Events on record, before the one that says that it was restored.
    pub events: i64,
    /// Rows of all tables.
    pub rows: u64,
}

/// Restores a backup into the configured database, which must be empty or not be there. It gets a new incarnation and other
/// token keys, and waits to be reconciled.
///
/// # Errors
/// [`SetupError::NotEmpty`], [`SetupError::Newer`]; [`SetupError::Vault`] for a wrong unseal key; [`Error::BackupInvalid`].
/// Nothing is changed then.
pub async fn restore(config: &Config, file: &Path, key: UnsealKey) -> Result<Restored, SetupError> {
    let unopened = backup::open(file).map_err(|error| match error {
        backup::archive::ArchiveError::Io(source) => SetupError::file("read", file, source),
        other => Error::from(other).into(),
    })?;
    let head = unopened.unverified.clone();
    prepare_data_dir(&config.data_dir)?;
    refuse_filled(config).await?;
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let vault = Vault::new(head.instance, Arc::clone(&random));
    let (opening, keyring) = (vault.clone(), head.keyring.clone());
    // Argon2 takes a good part of a second.
    let unsealed = tokio::task::spawn_blocking(move || opening.unseal(&keyring, &key)).await;
    unsealed.map_err(Error::internal)??;
    let scratch = Scratch::new(config)?;
    let (store, ended) = backup::restored(&scratch.database(), unopened, &vault)
        .await
        .map_err(of_store)?;
    let begun = begin(config, &store, &vault, &head, &ended, random).await;
    let placed = match begun {
        Ok(restored) => place(config, &store, &scratch).await.map(|()| restored),
        Err(error) => {
            store.close().await;
            Err(error)
        }
    };
    vault.seal();
    placed
}

/// A newer backup is told as a newer database is.
fn of_store(error: Error) -> SetupError {
    match error {
        Error::Store(error) => error.into(),
        other => other.into(),
    }
}

/// Sees that the restored database is sound, and begins its new history.
async fn begin(
    config: &Config,
    store: &Store,
    vault: &Vault,
    head: &backup::archive::Head,
    ended: &backup::archive::Ended,
    random: Arc<dyn Random>,
) -> Result<Restored, SetupError> {
    let Sound {
        manifest,
        secrets,
        events,
    } = backup::sound(store, vault, head, ended).await?;
    let mut tx = store.read().await?;
    let instance = tx.instance().await?.ok_or(SetupError::NotInitialized)?.unverified;
    let floor = tx.high_water().await?;
    tx.end().await?;
    let app = app(config, store, vault, instance, floor, random)?;
    let closed = if config.payment.rail == Rail::Off {
        Ttl::default()
    } else {
        config.payment.max_timeout
    };
    let begun = incarnation::restored(&app, head.created, closed).await;
    app.writer.stop().await;
    Ok(Restored {
        instance: head.instance.to_string(),
        incarnation: begun?.to_string(),
        created: head.created,
        secrets,
        events,
        rows: manifest.rows,
    })
}

/// The verbs over a database that is not in its place yet.
fn app(
    config: &Config,
    store: &Store,
    vault: &Vault,
    instance: Instance,
    floor: Timestamp,
    random: Arc<dyn Random>,
) -> Result<App, SetupError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(floor));
    Ok(App::new(Parts {
        writer: Writer::spawn(store.clone(), Arc::clone(&clock)),
        vault: vault.clone(),
        egress: Egress::new(reach(config, &instance)?)?,
        rail: None,
        payment_rules: config.payment.rules,
        rotation_rules: config.rotation,
        reap_interval: config.reap_interval,
        checkpoint_copy: None,
        mark: None,
        backups: super::backups(config),
        disk: None,
        store: store.clone(),
        clock,
        random,
        instance,
        public_url: String::new(),
    }))
}

/// Puts the restored database where the configuration says.
async fn place(config: &Config, store: &Store, scratch: &Scratch) -> Result<(), SetupError> {
    if let Some(file) = look::sqlite_file(config) {
        store.close().await;
        refuse_filled(config).await?;
        return std::fs::rename(scratch.database(), file).map_err(|source| SetupError::file("make", file, source));
    }
    let target = Store::open(&config.database_url).await?;
    let copied = store.copy_into(&target).await;
    target.close().await;
    store.close().await;
    match copied {
        Err(StoreError::Duplicate) => Err(SetupError::NotEmpty {
            database: config.shown_database_url(),
        }),
        copied => Ok(copied.map(drop)?),
    }
}

/// Nothing that is there is overwritten, not even an empty file.
async fn refuse_filled(config: &Config) -> Result<(), SetupError> {
    let filled = || SetupError::NotEmpty {
        database: config.shown_database_url(),
    };
    if let Some(file) = look::sqlite_file(config) {
        return if file.exists() { Err(filled()) } else { Ok(()) };
    }
    let store = Store::open(&config.database_url).await?;
    let (applied, _) = store.migrations().await?;
    let mut taken = false;
    if applied > 0 {
        let mut tx = store.read().await?;
        taken = tx.instance().await?.is_some();
        tx.end().await?;
    }
    store.close().await;
    if taken { Err(filled()) } else { Ok(()) }
}

/// A folder beside the database that is to be, which goes when it is done with. What an earlier try left goes first.
struct Scratch(PathBuf);

impl Scratch {
    fn new(config: &Config) -> Result<Self, SetupError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let beside = look::sqlite_file(config)
            .and_then(Path::parent)
            .unwrap_or(&config.data_dir);
        let folder = beside.join("restoring");
        let _left = std::fs::remove_dir_all(&folder);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| SetupError::file("make the directory", &folder, source))?;
        Ok(Self(folder))
    }

    fn database(&self) -> PathBuf {
        self.0.join("dekeys.db")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// What was moved, or would be.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The instance.
    pub instance: String,
    /// Rows of each table.
    pub tables: Vec<(String, u64)>,
    /// Events on record.
    pub events: i64,
    /// Root of the log's tree, hexadecimal.
    pub root: String,
}

/// Copies the configured SQLite database into an empty PostgreSQL database and compares the rows of each table and the log's
/// head and root. Needs no unseal key. `dry_run` only looks whether it could be done.
///
/// # Errors
/// [`SetupError::InUse`] while a server runs on it; [`SetupError::NotEmpty`]; [`SetupError::Differs`], after which the target
/// is to be thrown away.
pub async fn to_postgres(config: &Config, target: &str, dry_run: bool) -> Result<Moved, SetupError> {
    let Some(file) = look::sqlite_file(config) else {
        return Err(SetupError::Step {
            step: "to-postgres",
            why: "the configured database is not SQLite".to_owned(),
        });
    };
    if !file.exists() {
        return Err(SetupError::NotInitialized);
    }
    let _only = alone(config)?;
    let from = Store::open(&config.database_url).await?;
    from.migrate().await?;
    let to = Store::open(target).await?;
    let moved = transfer(config, &from, &to, dry_run).await;
    to.close().await;
    from.close().await;
    moved
}

async fn transfer(config: &Config, from: &Store, to: &Store, dry_run: bool) -> Result<Moved, SetupError> {
    if to.engine() != Engine::Postgres {
        return Err(SetupError::Step {
            step: "to-postgres",
            why: "the target is not PostgreSQL".to_owned(),
        });
    }
    let mut tx = from.read().await?;
    let instance = tx.instance().await?.ok_or(SetupError::NotInitialized)?.unverified;
    let (tables, head, tree) = (tx.row_counts().await?, tx.chain_head().await?, tx.tree_state().await?);
    tx.end().await?;
    let not_empty = || SetupError::NotEmpty {
        database: "the target".to_owned(),
    };
    let moved = Moved {
        instance: instance.id.to_string(),
        events: head.0,
        root: data_encoding::HEXLOWER.encode(&tree.root),
        tables,
    };
    if dry_run {
        let taken = to.migrations().await?.0 > 0 && to.read().await?.instance().await?.is_some();
        return if taken { Err(not_empty()) } else { Ok(moved) };
    }
    match from.copy_into(to).await {
        Err(StoreError::Duplicate) => return Err(not_empty()),
        copied => copied.map(drop)?,
    }
    let mut tx = to.read().await?;
    let there = (tx.row_counts().await?, tx.chain_head().await?, tx.tree_state().await?);
    let place = tx.place().await?;
    tx.end().await?;
    if there != (moved.tables.clone(), head, tree) {
        return Err(SetupError::Differs);
    }
    // From now on the file that was copied is the copy.
    incarnation::move_mark(&super::mark(config), &place)
        .map_err(|source| SetupError::file("write", &super::mark(config), source))?;
    Ok(moved)
}
