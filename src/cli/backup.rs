//! `dekeys backup`: made, listed and tried on a running instance; restored locally, on an empty database.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::hook;
use super::init::UnsealWith;
use super::output::{Column, Kind};
use super::serve::DatabaseArgs;
use crate::client::{Request, secret};
use crate::config;

pub(crate) const EXAMPLE: &str = "Example: dekeys backup create --key-file ops.key";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Make one now, while everything goes on
    #[command(after_help = "Example: dekeys backup create --key-file ops.key")]
    Create,
    /// Those in the folder of the server (`backup.folder`), newest first
    #[command(after_help = "Example: dekeys backup ls --key-file ops.key")]
    Ls,
    /// Restore one beside everything, open every secret in it, check its log, and throw it away
    #[command(after_help = "Example: dekeys backup verify latest --key-file ops.key")]
    Verify {
        /// Its name; the newest if left out
        #[arg(default_value = "latest")]
        name: String,
    },
    /// Put one into an empty database, on this machine, with its unseal key alone
    Restore(RestoreArgs),
}

/// What `restore` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys backup restore /mnt/backups/dekeys-20261130T020000Z-abcdefg.backup --data-dir ./data \
    --unseal-key-file unseal.key\n\nThen: dekeys serve, dekeys unseal, dekeys reconcile"
)]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The unseal key of the time when it was made; `-` is standard input
    #[arg(long, value_name = "FILE")]
    unseal_key_file: Option<PathBuf>,
    /// A file with the unseal passphrase of that time; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    passphrase_file: Option<PathBuf>,
    /// A file with one share of that time's unseal key; once for each share that is needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unseal_key_file", "passphrase_file"])]
    share_file: Vec<PathBuf>,
}

const LIST: &[Column] = &[
    Column("backup", "/name", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("bytes", "/bytes", Kind::Plain),
    Column("migration", "/migration", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
];

const VERIFIED: &[Column] = &[
    Column("backup", "/name", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("age in seconds", "/age", Kind::Plain),
    Column("secrets opened", "/secrets", Kind::Plain),
    Column("events verified", "/events", Kind::Plain),
    Column("rows", "/rows", Kind::Plain),
];

const RESTORED: &[Column] = &[
    Column("instance", "/instance", Kind::Plain),
    Column("incarnation", "/incarnation", Kind::Plain),
    Column("database", "/database", Kind::Plain),
    Column("backup of", "/created", Kind::Time),
    Column("secrets opened", "/secrets", Kind::Plain),
    Column("events verified", "/events", Kind::Plain),
    Column("rows", "/rows", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Backup, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Backup::Create => {
            let request = Request::post(&["v1", "sys", "backups"]);
            context.ask_and_show(&request, LIST).await?;
            context.say("try it: dekeys backup verify latest      and keep the unseal key elsewhere")
        }
        Backup::Ls => {
            context
                .page(&Request::get(&["v1", "sys", "backups"]), LIST, "backups")
                .await
        }
        Backup::Verify { name } => {
            let request = Request::post(&["v1", "sys", "backups", name, "verify"]);
            context.ask_and_show(&request, VERIFIED).await.map(drop)
        }
        Backup::Restore(args) => Box::pin(restore(args, context)).await,
    }
}

fn unseal_with(args: &RestoreArgs, context: &mut Context<'_>) -> Result<UnsealWith, Failure> {
    if !args.share_file.is_empty() {
        let shares: Result<Vec<_>, _> = args.share_file.iter().map(|path| context.read_secret(path)).collect();
        return Ok(UnsealWith::Shares(secret::lines(&shares?)));
    }
    match (&args.unseal_key_file, &args.passphrase_file) {
        (Some(path), _) => Ok(UnsealWith::KeyFile(context.read_secret(path)?)),
        (None, Some(path)) => Ok(UnsealWith::Passphrase(context.read_secret(path)?)),
        (None, None) => {
            let flag = "--unseal-key-file, --passphrase-file or --share-file";
            let typed = context.type_secret("Unseal passphrase of the backup", flag)?;
            Ok(UnsealWith::Passphrase(typed))
        }
    }
}

async fn restore(args: &RestoreArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let loaded = config::load(&args.database.flags(), &context.world.env)?;
    let key = unseal_with(args, context)?;
    let restored = hook::restore(&loaded, &args.file, key).await?;
    let facts = json!({
        "object": "restored",
        "instance": restored.instance,
        "incarnation": restored.incarnation,
        "database": loaded.config.shown_database_url(),
        "created": restored.created,
        "secrets": restored.secrets,
        "events": restored.events,
        "rows": restored.rows,
    });
    context.show_value(&facts, RESTORED)?;
    context.say("nothing is done before you compare it with the vendors: dekeys serve, dekeys unseal, dekeys reconcile")
}
