//! Backups: made while everything goes on, sealed and signed, and tried by restoring them. One is a file that the unseal key
//! opens by itself: nothing else of the instance is needed (decision 0035).
//!
//! Not protected: a backup that is taken away still opens with an unseal key of its time, after a rekey too.

pub mod archive;
mod read;
mod write;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::enroll::List;
use super::error::Error;
use super::grant::claim;
use crate::base::id::base32_lower;
use crate::base::random;
use crate::base::time::{Timestamp, Ttl};
use archive::ArchiveError;
pub use read::{Sound, open, restored, sound};

/// How names of backups end.
const END: &str = ".backup";

/// Most backups of a list.
const MOST: usize = 100;

/// Where backups go, and how often they are made and tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// The folder.
    pub folder: PathBuf,
    /// How often one is made; `None`: by hand alone.
    pub every: Option<Ttl>,
    /// How often the newest is tried; `None`: by hand alone.
    pub verify_every: Option<Ttl>,
    /// How many are kept; the others go when a new one is there.
    pub keep: usize,
    /// Where one is restored to be tried.
    pub scratch: PathBuf,
}

/// A backup in the folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BackupView {
    /// Always `backup`.
    pub object: String,
    /// The file's name.
    pub name: String,
    /// When it was begun; `None` for a file whose head cannot be read.
    pub created: Option<Timestamp>,
    /// Bytes of the file.
    pub bytes: u64,
    /// The instance.
    pub instance: Option<String>,
    /// The state of the tables.
    pub migration: Option<i64>,
    /// Why the file is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A backup that was restored to be tried.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct BackupVerified {
    /// Always `backup_verification`.
    pub object: String,
    /// The file's name.
    pub name: String,
    /// When it was begun.
    pub created: Timestamp,
    /// How old it is, in seconds: what happened since is not in it.
    pub age: i64,
    /// Sealed values that opened.
    pub secrets: i64,
    /// Events whose chain, tree and checkpoint are sound.
    pub events: i64,
    /// Rows of all tables.
    pub rows: u64,
}

/// How long what failed is left alone by the worker.
const AGAIN: Ttl = Ttl::from_mins(60);

/// Makes a backup now.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::BackupFailed`].
pub async fn create(app: &App, context: &Context) -> Result<BackupView, Error> {
    context.operator()?;
    claim(app, context).await?;
    take(app, &context.caller.actor()).await
}

/// Makes a backup and puts on record how that went.
///
/// # Errors
/// [`Error::BackupFailed`], [`Error::Sealed`].
pub async fn take(app: &App, by: &str) -> Result<BackupView, Error> {
    let name = name(app);
    let outcome = write::write(app, &name).await;
    let (kind, data) = match &outcome {
        Ok((manifest, bytes)) => (
            "backup.completed",
            json!({
                "name": name, "by": by, "bytes": bytes, "rows": manifest.rows, "events": manifest.events,
                "content": manifest.content,
            }),
        ),
        Err(error) => {
            tracing::error!(%error, name, "a backup could not be made");
            (
                "backup.failed",
                json!({ "name": name, "by": by, "why": error.to_string() }),
            )
        }
    };
    let event = app.own_event(kind, &app.instance.id, data);
    let _none = app.store.begin().await?.commit(&[event], &[]).await?;
    outcome?;
    prune(&app.backups);
    Ok(view(&app.backups.folder, &name))
}

/// The backups of the folder, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::BackupFailed`] for a folder that cannot be read.
pub fn list(app: &App, context: &Context) -> Result<List<BackupView>, Error> {
    context.operator()?;
    let folder = &app.backups.folder;
    let mut names = names(folder).map_err(failed)?;
    let has_more = names.len() > MOST;
    names.truncate(MOST);
    Ok(List {
        object: "list".to_owned(),
        data: names.iter().map(|name| view(folder, name)).collect(),
        has_more,
        omitted: 0,
    })
}

/// Restores a backup beside everything, opens every secret in it, checks its log, and throws it away again. `latest` is the
/// newest.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::NotFound`]; [`Error::BackupInvalid`].
pub async fn verify(app: &App, context: &Context, name: &str) -> Result<BackupVerified, Error> {
    context.operator()?;
    claim(app, context).await?;
    tried(app, name, &context.caller.actor()).await
}

/// Tries a backup and puts on record how that went.
///
/// # Errors
/// As [`verify`].
pub async fn tried(app: &App, name: &str, by: &str) -> Result<BackupVerified, Error> {
    let name = known(&app.backups.folder, name)?;
    let outcome = Box::pin(read::verify(app, &name)).await;
    let (kind, data) = match &outcome {
        Ok(verified) => (
            "backup.verified",
            json!({
                "name": name, "by": by, "created": verified.created, "secrets": verified.secrets,
                "events": verified.events,
            }),
        ),
        Err(error) => {
            tracing::error!(%error, name, "a backup is not sound");
            (
                "backup.failed",
                json!({ "name": name, "by": by, "why": error.to_string() }),
            )
        }
    };
    let event = app.own_event(kind, &app.instance.id, data);
    let _none = app.store.begin().await?.commit(&[event], &[]).await?;
    outcome
}

/// Makes and tries what is due; a worker calls it. Among instances of one database whoever looks first does it.
///
/// # Errors
/// As [`take`] and [`tried`].
pub async fn due(app: &App) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let last = tx.last_of_kind("backup.completed").await?;
    let verified = tx.last_of_kind("backup.verified").await?;
    let failed = tx.last_of_kind("backup.failed").await?;
    tx.end().await?;
    let now = app.now();
    // It was told; a full disk or a bent file is not told again at every look.
    if failed.is_some_and(|at| now.since(at) < AGAIN) {
        return Ok(());
    }
    let over = |every: Option<Ttl>, last: Option<Timestamp>| {
        every.is_some_and(|every| last.is_none_or(|last| now.since(last) >= every))
    };
    if over(app.backups.every, last) {
        take(app, super::record::SELF).await?;
    }
    let some = names(&app.backups.folder).is_ok_and(|names| !names.is_empty());
    if some && over(app.backups.verify_every, verified) {
        tried(app, "latest", super::record::SELF).await?;
    }
    Ok(())
}

/// A name that sorts by time.
fn name(app: &App) -> String {
    let time: String = app
        .now()
        .rfc3339()
        .chars()
        .take_while(|letter| *letter != '.')
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let tail = base32_lower(&random::bytes::<4>(app.random.as_ref()));
    let time = time.trim_end_matches('Z');
    format!("dekeys-{time}Z-{tail}{END}")
}

/// The name of a file that is there: never a path.
fn known(folder: &Path, name: &str) -> Result<String, Error> {
    let names = names(folder).map_err(failed)?;
    let found = if name == "latest" {
        names.into_iter().next()
    } else {
        names.into_iter().find(|known| known == name)
    };
    found.ok_or(Error::NotFound("backup"))
}

/// The names of backups, newest first.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(END) && !name.starts_with('.'))
        .collect();
    names.sort_by(|one, other| other.cmp(one));
    Ok(names)
}

fn view(folder: &Path, name: &str) -> BackupView {
    let path = folder.join(name);
    let bytes = std::fs::metadata(&path).map_or(0, |about| about.len());
    let mut view = BackupView {
        object: "backup".to_owned(),
        name: name.to_owned(),
        created: None,
        bytes,
        instance: None,
        migration: None,
        trouble: None,
    };
    match open(&path) {
        Ok(unopened) => {
            let head = unopened.unverified;
            view.created = Some(head.created);
            view.instance = Some(head.instance.to_string());
            view.migration = Some(head.migration);
        }
        Err(error) => view.trouble = Some(error.to_string()),
    }
    view
}

/// Removes the oldest beyond what is kept.
fn prune(backups: &Backups) {
    let Ok(names) = names(&backups.folder) else { return };
    for name in names.iter().skip(backups.keep.max(1)) {
        if let Err(error) = std::fs::remove_file(backups.folder.join(name)) {
            tracing::warn!(%error, name, "an old backup could not be removed");
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::BackupFailed(error.to_string())
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(_) | ArchiveError::GivenUp => Self::BackupFailed(error.to_string()),
            other => Self::BackupInvalid(other.to_string()),
        }
    }
}
