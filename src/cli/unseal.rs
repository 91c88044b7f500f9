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
    Example: pass show unseal | dekeys unseal --passphrase-file -"
)]
pub(crate) struct UnsealArgs {
    /// The key file that `init` made; `-` is standard input
    #[arg(long, value_name = "FILE")]
    unseal_key_file: Option<PathBuf>,
    /// A file with the passphrase; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    passphrase_file: Option<PathBuf>,
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

/// Drops the keys.
pub(crate) async fn seal(args: &SealArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    context.confirm("Seal the vault? Nothing that needs a key works until somebody unseals it.")?;
    let client = context.admin()?;
    let request = Request::post(&["v1", "sys", "seal"]).json(&json!({ "reason": args.reason }));
    let reply = context.send(&client, &request).await?;
    context.show(&reply, SEAL)?;
    Ok(())
}
