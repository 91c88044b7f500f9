//! The unseal key in shares, one file each, for one person each. They are made here and shown nowhere.

use std::path::{Path, PathBuf};

use clap::Args;

use super::context::Context;
use super::failure::Failure;
use crate::base::secret::SecretText;
use crate::client::secret;

/// What makes shares.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShareArgs {
    /// Unseal with shares: how many are made
    #[arg(long, value_name = "NUMBER", requires_all = ["threshold", "shares_dir"])]
    pub shares: Option<u8>,
    /// How many of them unseal
    #[arg(long, value_name = "NUMBER", requires = "shares")]
    pub threshold: Option<u8>,
    /// Where they are written, a file each (mode 0600); give each to somebody else, and delete the folder
    #[arg(long, value_name = "FOLDER", requires = "shares")]
    pub shares_dir: Option<PathBuf>,
}

/// Makes the shares and writes each to a file of its own, which is never overwritten; answers as many as unseal, read
/// back from their files. `None` when no shares are wanted.
pub(crate) fn made(args: &ShareArgs, context: &mut Context<'_>) -> Result<Option<SecretText>, Failure> {
    let (Some(shares), Some(threshold), Some(folder)) = (args.shares, args.threshold, &args.shares_dir) else {
        return Ok(None);
    };
    let random = context.world.random.as_ref();
    let texts = secret::new_shares(random, shares, threshold)
        .map_err(|error| Failure::usage(format!("{error}"), "--shares 5 --threshold 3"))?;
    std::fs::create_dir_all(folder)?;
    for (number, text) in (1..).zip(&texts) {
        secret::write_new(&file(folder, number), text)?;
    }
    context.say(&format!(
        "made {shares} shares in {}; any {threshold} of them unseal, fewer are worth nothing",
        folder.display()
    ))?;
    read(folder, threshold).map(Some)
}

/// The first shares of a folder, as many as unseal.
pub(crate) fn read(folder: &Path, threshold: u8) -> Result<SecretText, Failure> {
    let read: Result<Vec<SecretText>, _> = (1..=threshold)
        .map(|number| secret::read_file(&file(folder, number)))
        .collect();
    Ok(secret::lines(&read?))
}

fn file(folder: &Path, number: u8) -> PathBuf {
    folder.join(format!("share-{number}"))
}
