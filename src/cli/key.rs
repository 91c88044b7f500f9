//! `dekeys key`: key files, made on the side of whoever they prove; and the keys of the instance itself.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use super::context::Context;
use super::failure::Failure;
use super::init::{new_passphrase, unseal_key};
use super::output::{Column, Format, Kind};
use super::share::{self, ShareArgs};
use crate::base::secret::SecretText;
use crate::client::{KeyFile, Reply, Request, secret};
use crate::model::principal::PublicKey;

pub(crate) const EXAMPLE: &str = "Example: dekeys key new prim.key --name prim-infer";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a key file (mode 0600) and print its public key
    #[command(after_help = "Example: dekeys key new ada.key --name ada > ada.pub")]
    New {
        /// Where; never overwritten
        file: PathBuf,
        /// A name for people, kept as a comment
        #[arg(long)]
        name: Option<String>,
    },
    /// Print a key file's public key
    #[command(after_help = "Example: dekeys key public ada.key > ada.pub")]
    Public {
        /// The key file
        file: PathBuf,
    },
    /// The instance's own keys: versions, ages, what waits to be sealed anew
    #[command(after_help = "Example: dekeys key status")]
    Status,
    /// Give the instance a fresh key; everything goes on while it changes
    #[command(
        after_help = "Example: dekeys key rotate\nExample: dekeys key rotate --kind token\nExample: dekeys key rotate --kind log"
    )]
    Rotate {
        /// The key that seals values, the one that signs tokens, or the one that signs the log
        #[arg(long, value_enum, default_value_t = Rotated::Kek)]
        kind: Rotated,
    },
    /// Change what unseals the vault: announce it, read it back, then drop the one before
    #[command(
        after_help = "Example: dekeys key rekey --unseal-key-file new-unseal.key     made if it is not there\n\
        Example: dekeys key rekey                                      asks for a new passphrase\n\
        Example: dekeys key rekey --shares 5 --threshold 3 --shares-dir shares\n\
        Example: dekeys key rekey --cancel"
    )]
    Rekey(RekeyArgs),
}

/// What may be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotated {
    /// The key-encryption key.
    Kek,
    /// The token key.
    Token,
    /// The log key.
    Log,
}

/// What `rekey` takes.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The new key file; made if it is not there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase_file", "cancel"])]
    unseal_key_file: Option<PathBuf>,
    /// A file with the new passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "cancel")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    shares: ShareArgs,
    /// Give up what was announced and not confirmed
    #[arg(long)]
    cancel: bool,
}

const STATUS: &[Column] = &[
    Column("key version", "/kek_version", Kind::Plain),
    Column("made", "/kek_created", Kind::Time),
    Column("wraps", "/kek_wraps", Kind::Plain),
    Column("to be sealed anew", "/to_reseal", Kind::Plain),
    Column("rekeying", "/rekeying", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Key, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Key::New { file, name } => {
            let key = KeyFile::generate(context.world.random.as_ref()).named(name.as_deref().unwrap_or_default());
            secret::write_new(file, &key.to_text())?;
            context.say(&format!("made {}; keep it safe, it is the only copy", file.display()))?;
            print(context, key.public())
        }
        Key::Public { file } => {
            let key = context.read_key(file)?;
            print(context, key.public())
        }
        Key::Status => {
            let client = context.client()?;
            let reply = context.send(&client, &Request::get(&["v1", "sys", "keys"])).await?;
            context.show(&reply, STATUS).map(drop)
        }
        Key::Rotate { kind } => {
            let kind = match kind {
                Rotated::Kek => "kek",
                Rotated::Token => "token",
                Rotated::Log => "log",
            };
            let request = Request::post(&["v1", "sys", "keys", "rotate"]).json(&json!({ "kind": kind }));
            let reply = ask(context, request).await?;
            context.show(&reply, STATUS).map(drop)
        }
        Key::Rekey(args) if args.cancel => {
            let reply = ask(context, Request::post(&["v1", "sys", "rekey", "cancel"])).await?;
            context.show(&reply, STATUS).map(drop)
        }
        Key::Rekey(args) => rekey(args, context).await,
    }
}

async fn ask(context: &mut Context<'_>, request: Request) -> Result<Reply, Failure> {
    let client = context.admin()?;
    context.send(&client, &request).await
}

/// Both halves in one: the key is announced, read back from where it was put (a passphrase is typed again), and
/// confirmed. When the second half fails both keys open the vault, and the command can be repeated.
async fn rekey(args: &RekeyArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if let Some(shares) = share::made(&args.shares, context)? {
        return rekey_to_shares(args, &shares, context).await;
    }
    let announce = Request::post(&["v1", "sys", "rekey"]).bytes(body(args, context, false)?);
    ask(context, announce).await?;
    let confirm = Request::post(&["v1", "sys", "rekey", "confirm"]).bytes(body(args, context, true)?);
    let reply = ask(context, confirm).await?;
    context.show(&reply, STATUS)?;
    context.say("the key before opens nothing any more, but for backups that were made before")
}

/// The same with shares: as many as unseal are read back from their files before they count alone.
async fn rekey_to_shares(args: &RekeyArgs, shares: &SecretText, context: &mut Context<'_>) -> Result<(), Failure> {
    let announce = Request::post(&["v1", "sys", "rekey"]).bytes(secret::object(&[("shares", shares)]));
    ask(context, announce).await?;
    let (Some(folder), Some(threshold)) = (&args.shares.shares_dir, args.shares.threshold) else {
        return Err(Failure::usage("shares are written somewhere", "--shares-dir FOLDER"));
    };
    let again = share::read(folder, threshold)?;
    let confirm = Request::post(&["v1", "sys", "rekey", "confirm"]).bytes(secret::object(&[("shares", &again)]));
    let reply = ask(context, confirm).await?;
    context.show(&reply, STATUS)?;
    context.say("the key before opens nothing any more; give each share to somebody else, and delete the folder")
}

fn body(args: &RekeyArgs, context: &mut Context<'_>, again: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let flag = "--unseal-key-file or --passphrase-file";
    let (name, key): (_, SecretText) = match (&args.unseal_key_file, &args.passphrase_file) {
        (Some(path), _) => ("key", unseal_key(path, context)?),
        (None, Some(path)) => ("passphrase", context.read_secret(path)?),
        (None, None) if again => ("passphrase", context.type_secret("Once more, to confirm", flag)?),
        (None, None) => ("passphrase", new_passphrase(context, flag)?),
    };
    Ok(secret::object(&[(name, &key)]))
}

fn print(context: &mut Context<'_>, key: PublicKey) -> Result<(), Failure> {
    if context.style.format == Format::Text {
        return context.print(&key.to_string());
    }
    context.show_value(&json!({ "object": "public_key", "public_key": key }), &[])
}
