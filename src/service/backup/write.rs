//! Writing a backup: rows come from one moment of the database, while writers go on; a thread of its own packs, seals and
//! writes them.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

use super::super::error::Error;
use super::super::{App, Opened};
use super::archive::{ArchiveError, Head, Manifest, PURPOSE, Writer};
use super::failed;
use crate::base::fail::{self, Stage};
use crate::base::id::base64url;
use crate::store::backup::Dumped;
use crate::vault::Keyring;
use crate::vault::stream::StreamKey;

/// Rows on their way.
const WAITING: usize = 1024;

/// What the writing thread needs.
struct Order {
    folder: PathBuf,
    name: String,
    head: Head,
    key: StreamKey,
    manifest: Manifest,
    opened: Arc<Opened>,
}

/// Writes the backup `name`; answers its manifest and its size. A half file is never seen under its name.
pub(super) async fn write(app: &App, name: &str) -> Result<(Manifest, u64), Error> {
    let opened = app.opened()?;
    let (migration, _) = app.store.migrations().await?;
    let mut tx = app.store.read().await?;
    let keyring = tx.keyring().await?.ok_or(Error::NotFound("keyring"))?;
    let keyring: Keyring = serde_json::from_str(&keyring).map_err(|_| Error::Forged("keyring"))?;
    let (key, wrapped) = app.vault.new_stream(PURPOSE)?;
    let (events, digest) = tx.chain_head().await?;
    let created = app.now();
    let order = Order {
        folder: app.backups.folder.clone(),
        name: name.to_owned(),
        head: Head {
            instance: app.instance.id,
            mode: app.instance.mode,
            created,
            migration,
            keyring,
            key: base64url(&wrapped),
        },
        key,
        manifest: Manifest {
            instance: app.instance.id,
            incarnation: opened.instance.incarnation,
            created,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            migration,
            events,
            head: data_encoding::HEXLOWER.encode(&digest),
            checkpoint: tx.latest_checkpoint().await?.map(|(_, note)| note),
            rows: 0,
            content: None,
        },
        opened,
    };
    let (to, from) = channel(WAITING);
    let (whole, all) = oneshot::channel();
    let writing = tokio::task::spawn_blocking(move || save(order, from, all));
    let dumped = tx.dump_all(to).await;
    if dumped.is_ok() {
        let _given_up = whole.send(());
    } else {
        drop(whole);
    }
    tx.end().await?;
    // The thread's trouble tells more than that it does not receive any more.
    let written = writing.await.map_err(Error::internal)?;
    match (written, dumped) {
        (Err(ArchiveError::GivenUp), Err(error)) => Err(error.into()),
        (written, _) => written.map_err(failed),
    }
}

/// Under a name of its own until it is whole and on disk.
fn save(order: Order, from: Receiver<Dumped>, whole: oneshot::Receiver<()>) -> Result<(Manifest, u64), ArchiveError> {
    make_folder(&order.folder)?;
    remove_left(&order.folder);
    let partial = order.folder.join(format!(".{}.partial", order.name));
    let last = order.folder.join(&order.name);
    let folder = order.folder.clone();
    let saved = fill(&partial, order, from, whole).and_then(|(manifest, bytes)| {
        fail::at(Stage::Written, || "backup.partial".to_owned());
        std::fs::rename(&partial, &last)?;
        fail::at(Stage::Written, || "backup".to_owned());
        File::open(&folder)?.sync_all()?;
        Ok((manifest, bytes))
    });
    if saved.is_err() {
        let _gone = std::fs::remove_file(&partial);
    }
    saved
}

fn fill(
    path: &Path,
    order: Order,
    mut from: Receiver<Dumped>,
    whole: oneshot::Receiver<()>,
) -> Result<(Manifest, u64), ArchiveError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    // Until it is whole, the lock says that somebody is at work on it; a process that dies lets go of it.
    file.lock()?;
    let file = BufWriter::new(file);
    let mut writer = Writer::begin(file, &order.head, order.key)?;
    while let Some(dumped) = from.blocking_recv() {
        writer.put(&dumped)?;
    }
    // The rows ended because there are no more, or because reading them failed.
    whole.blocking_recv().map_err(|_| ArchiveError::GivenUp)?;
    let (file, manifest) = writer.finish(order.manifest, &order.opened.log)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let bytes = file.metadata()?.len();
    Ok((manifest, bytes))
}

/// Removes the halves that nobody writes any more: the process that began them is dead.
fn remove_left(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let half = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(".dekeys-") && name.ends_with(".partial")
    };
    for path in entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| half(path))
    {
        if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _gone = std::fs::remove_file(&path);
        }
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
