//! `dekeys unseal` and `seal`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Column, Kind};
use crate::client::{Request, secret};

/// What `unseal` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys unseal                       asks for the passphrase\n\
    Example: dekeys unseal --unseal-key-file unseal.key\n\
    Example: pass show unseal | dekeys unseal --passphrase-file -\n\
    Example: dekeys unseal --share               each who has one, within 10 minutes"
)]
pub(crate) struct UnsealArgs {
    /// The key file that `init` made; `-` is standard input
    #[arg(long, value_name = "FILE")]
    unseal_key_file: Option<PathBuf>,
    /// A file with the passphrase; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    passphrase_file: Option<PathBuf>,
    /// A file with one share; `-` is standard input. The vault opens with the last that is needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unseal_key_file", "passphrase_file"])]
    share_file: Option<PathBuf>,
    /// Type one share; nothing is shown
    #[arg(long, conflicts_with_all = ["unseal_key_file", "passphrase_file", "share_file"])]
    share: bool,
    /// Forget the shares that were brought; needs one of them
    #[arg(long)]
    cancel: bool,
}

/// What `seal` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys seal --reason \"kernel update\"")]
pub(crate) struct SealArgs {
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) const SEAL: &[Column] = &[
    Column("sealed", "/sealed", Kind::Plain),
    Column("mode", "/mode", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
];

/// Opens the vault.
pub(crate) async fn unseal(args: &UnsealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.share || args.share_file.is_some() {
        return share(args, context).await;
    }
    if args.cancel {
        return Err(Failure::usage(
            "whoever forgets shares shows one",
            "--share or --share-file FILE",
        ));
    }
    let (name, key) = match (&args.unseal_key_file, &args.passphrase_file) {
        (Some(path), _) => ("key", context.read_secret(path)?),
        (None, Some(path)) => ("passphrase", context.read_secret(path)?),
        (None, None) => {
            let flag = "--unseal-key-file or --passphrase-file";
            ("passphrase", context.type_secret("Unseal passphrase", flag)?)
        }
    };
    let client = context.admin()?;
    let request = Request::post(&["v1", "sys", "unseal"]).bytes(secret::object(&[(name, &key)]));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SEAL)?;
    Ok(())
}

/// Brings one share, or has those that were brought forgotten.
async fn share(args: &UnsealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let share = match &args.share_file {
        Some(path) => context.read_secret(path)?,
        None => context.type_secret("Share", "--share-file")?,
    };
    let path: &[&str] = if args.cancel {
        &["v1", "sys", "unseal", "cancel"]
    } else {
        &["v1", "sys", "unseal"]
    };
    let client = context.admin()?;
    let request = Request::post(path).bytes(secret::object(&[("share", &share)]));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SHARES)?;
    Ok(())
}

const SHARES: &[Column] = &[
    Column("sealed", "/sealed", Kind::Plain),
    Column("shares brought", "/progress/given", Kind::Plain),
    Column("shares needed", "/progress/threshold", Kind::Plain),
    Column("instance", "/instance", Kind::Plain),
];

/// Drops the keys.
pub(crate) async fn seal(args: &SealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    context.confirm("Seal the vault? Nothing that needs a key works until somebody unseals it.")?;
    let client = context.admin()?;
    let request = Request::post(&["v1", "sys", "seal"]).json(&json!({ "reason": args.reason }));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SEAL)?;
    Ok(())
}
