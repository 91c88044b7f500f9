//! Reading a backup back into a database, and seeing whether it is sound: every secret opens, every control row is authentic,
//! the log is whole, and the manifest was signed about this very file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use tokio::sync::mpsc::{Sender, channel};

use super::super::error::Error;
use super::super::init::signing_place;
use super::super::provision::place_of;
use super::super::{App, audit};
use super::BackupVerified;
use super::archive::{ArchiveError, Ended, Head, Manifest, PURPOSE, Reader, Unopened};
use crate::audit::{LogKey, LogPublic, open_checkpoint};
use crate::base::id::{InstanceId, base32_lower};
use crate::base::random;
use crate::model::control::{Control, Stored};
use crate::model::sealed::{Place, Sealed};
use crate::store::backup::Dumped;
use crate::store::grants::GrantFilter;
use crate::store::{Page, Store, StoreError};
use crate::vault::Vault;

/// Rows on their way.
const WAITING: usize = 1024;

/// Rows looked at together.
const PAGE: i64 = 500;

/// What a sound backup holds.
#[derive(Debug, Clone)]
pub struct Sound {
    /// What the log signed about it.
    pub manifest: Manifest,
    /// Sealed values that opened.
    pub secrets: i64,
    /// Events on the chain.
    pub events: i64,
}

/// Opens a file and reads its head.
///
/// # Errors
/// [`ArchiveError`].
pub fn open(path: &Path) -> Result<Unopened<BufReader<File>>, ArchiveError> {
    Unopened::read(BufReader::new(File::open(path)?))
}

/// Tries a backup of the folder.
pub(super) async fn verify(app: &App, name: &str) -> Result<BackupVerified, Error> {
    let unopened = open(&app.backups.folder.join(name))?;
    let head = unopened.unverified.clone();
    if head.instance != app.instance.id {
        return Err(Error::BackupInvalid(format!(
            "it is a backup of the instance {}",
            head.instance
        )));
    }
    let tail = base32_lower(&random::bytes::<8>(app.random.as_ref()));
    let scratch = Scratch::new(&app.backups.scratch.join(tail))?;
    let (store, ended) = restored(&scratch.0.join("dekeys.db"), unopened, &app.vault).await?;
    let outcome = sound(&store, &app.vault, &head, &ended).await;
    store.close().await;
    let sound = outcome?;
    Ok(BackupVerified {
        object: "backup_verification".to_owned(),
        name: name.to_owned(),
        created: head.created,
        age: app.now().since(head.created).as_secs(),
        secrets: sound.secrets,
        events: sound.events,
        rows: sound.manifest.rows,
    })
}

/// A folder that goes when it is done with.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(path: &Path) -> Result<Self, Error> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(super::failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a folder of a backup that was tried is left");
        }
    }
}

/// Fills a new SQLite database at `path` with a backup, in the state of its tables then. Nothing of it is believed before
/// [`sound`] said so.
///
/// # Errors
/// [`Error::BackupInvalid`]; [`Error::Store`] with a migration that this binary does not know.
pub async fn restored<R: Read + Send + 'static>(
    path: &Path,
    unopened: Unopened<R>,
    vault: &Vault,
) -> Result<(Store, Ended), Error> {
    let head = &unopened.unverified;
    let wrapped = BASE64URL_NOPAD.decode(head.key.as_bytes());
    let wrapped = wrapped.map_err(|_| ArchiveError::NotABackup)?;
    let key = vault.stream(PURPOSE, &wrapped).map_err(|_| ArchiveError::Key)?;
    let store = Store::open(&format!("sqlite://{}", path.display())).await?;
    store.migrate_to(head.migration).await?;
    let reader = unopened.open(key)?;
    let mut tx = store.begin().await?;
    let (to, from) = channel(WAITING);
    let reading = tokio::task::spawn_blocking(move || send(reader, &to));
    let loaded = tx.load_all(from).await;
    let ended = reading.await.map_err(Error::internal)?;
    // A file that does not open explains why rows are missing.
    let ended = match ended {
        Err(ArchiveError::GivenUp) if loaded.is_err() => Err(ArchiveError::Content),
        other => other,
    }?;
    let loaded = loaded.map_err(|error| match error {
        StoreError::Corrupt(_) | StoreError::Data(_) | StoreError::Duplicate => ArchiveError::Content.into(),
        other => Error::from(other),
    })?;
    if loaded.iter().map(|(_, rows)| rows).sum::<u64>() != ended.rows() {
        return Err(ArchiveError::Content.into());
    }
    tx.commit(&[], &[]).await?;
    Ok((store, ended))
}

fn send<R: Read>(mut reader: Reader<R>, to: &Sender<Dumped>) -> Result<Ended, ArchiveError> {
    while let Some(dumped) = reader.take()? {
        to.blocking_send(dumped).map_err(|_| ArchiveError::GivenUp)?;
    }
    reader.finish()
}

/// Whether a restored database is what its instance had: opens every secret, checks every mark, reads the whole log.
///
/// # Errors
/// [`Error::BackupInvalid`] with what is wrong.
pub async fn sound(store: &Store, vault: &Vault, head: &Head, ended: &Ended) -> Result<Sound, Error> {
    store.migrate().await?;
    let keys = log_keys(store, vault, head.instance).await?;
    let logs: Vec<&LogPublic> = keys.iter().map(LogKey::public).collect();
    let manifest = ended.manifest(&logs)?;
    if manifest.instance != head.instance || manifest.migration != head.migration {
        return Err(ArchiveError::Manifest("it speaks of another instance or state").into());
    }
    let secrets = secrets(store, vault, head.instance).await?;
    marks(store, vault).await?;
    let seen = audit::check(store, &logs).await?;
    if let Some(trouble) = seen.trouble {
        return Err(Error::BackupInvalid(format!("its log does not verify: {trouble}")));
    }
    if seen.events != manifest.events {
        return Err(ArchiveError::Manifest("it tells another number of events").into());
    }
    if let Some(note) = &manifest.checkpoint
        && logs.iter().all(|log| open_checkpoint(note, log).is_err())
    {
        return Err(ArchiveError::Manifest("its checkpoint is not signed by the log").into());
    }
    Ok(Sound {
        manifest,
        secrets,
        events: seen.events,
    })
}

/// The log's key in the restored database and the one before it, which signed what was made just before the change.
/// They open where they were sealed, so they are the instance's own.
async fn log_keys(store: &Store, vault: &Vault, instance: InstanceId) -> Result<Vec<LogKey>, Error> {
    let mut tx = store.read().await?;
    let rows = tx.signing_keys("log").await?;
    tx.end().await?;
    let mut keys = Vec::new();
    for row in rows.iter().rev().take(2) {
        let secret = vault.open_own(&row.sealed, &signing_place(instance, "log", row.number));
        let secret = secret.map_err(|_| unsound("the log's key"))?;
        keys.push(LogKey::new(&instance.to_string(), &secret).map_err(Error::internal)?);
    }
    Ok(keys)
}

fn unsound(what: &str) -> Error {
    Error::BackupInvalid(format!("{what} in it does not open"))
}

/// Opens every sealed value; answers how many there are.
async fn secrets(store: &Store, vault: &Vault, instance: InstanceId) -> Result<i64, Error> {
    let mut tx = store.read().await?;
    let mut count = 0i64;
    let mut check = |sealed: &Sealed, place: &Place, what: String| {
        count = count.saturating_add(1);
        vault.check(sealed, place).map_err(|_| unsound(&what))
    };
    for kind in ["token", "log"] {
        for row in tx.signing_keys(kind).await? {
            check(
                &row.sealed,
                &signing_place(instance, kind, row.number),
                format!("a {kind} key"),
            )?;
        }
    }
    for (stored, sealed) in tx.roots().await? {
        let root = &stored.unverified;
        let place = super::super::control::place_of_root(instance, root);
        check(&sealed, &place, format!("the root credential {}", root.id))?;
    }
    let mut after = None;
    loop {
        let rows = tx.sealed_credentials(after, PAGE).await?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.id);
        for (row, sealed) in &rows {
            check(sealed, &place_of(instance, row), format!("the credential {}", row.id))?;
        }
    }
    Ok(count)
}

/// Checks the marks of what decides who gets a key.
async fn marks(store: &Store, vault: &Vault) -> Result<(), Error> {
    let mut tx = store.read().await?;
    authentic(vault, "instance", tx.instance().await?)?;
    authentic(vault, "manifest", tx.manifest_pins().await?)?;
    authentic(vault, "policy", tx.active_policies().await?)?;
    authentic(vault, "incarnation", tx.incarnations().await?)?;
    let roots = tx.roots().await?.into_iter().map(|(root, _)| root);
    authentic(vault, "root credential", roots)?;
    let mut page = Page::first(PAGE);
    loop {
        let rows = tx.grants(&GrantFilter::default(), &page).await?;
        let Some(last) = rows.last() else { break };
        page.after = Some(last.unverified.id.to_string());
        authentic(vault, "grant", rows)?;
    }
    Ok(())
}

fn authentic<T: Control>(vault: &Vault, what: &str, rows: impl IntoIterator<Item = Stored<T>>) -> Result<(), Error> {
    for row in rows {
        let mark = vault.authenticate(row).map(drop);
        mark.map_err(|_| Error::BackupInvalid(format!("a {what} in it is not authentic")))?;
    }
    Ok(())
}
