//! `dekeys init`: makes an instance, locally, on the database. There is no way to do this over HTTP.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};

use super::context::Context;
use super::failure::Failure;
use super::serve::DatabaseArgs;
use super::share::{self, ShareArgs};
use super::{exit, hook};
use crate::base::secret::SecretText;
use crate::client::KeyFile;
use crate::client::secret;
use crate::config;
use crate::model::instance::Mode;
use crate::model::principal::PublicKey;
use crate::model::scope::Name;

/// What `init` takes.
#[derive(Debug, Clone, Args)]
#[command(
    group = ArgGroup::new("operators_key").required(true).args(["operator_key", "new_operator_key"]),
    after_help = "Example: dekeys init --mode test --operator ada --new-operator-key ada.key --solo --unseal-key-file unseal.key\n\
        Example: dekeys init --mode live --operator ops --operator-key ops.pub --approver ada=ada.pub \
        --approver grace=grace.pub --quorum 2"
)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// test: vendors on this machine only. live: vendors on the internet only
    #[arg(long)]
    pub mode: Kind,
    /// The first operator's name
    #[arg(long, value_name = "NAME")]
    pub operator: Name,
    /// Their public key: `ed25519:…`, or a file that holds it
    #[arg(long, value_name = "FILE")]
    pub operator_key: Option<String>,
    /// Make a key file for them (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub new_operator_key: Option<PathBuf>,
    /// Who may approve: a name, and `ed25519:…` or a file that holds it. Repeat
    #[arg(long = "approver", value_name = "NAME=KEY", value_parser = super::serve::pair)]
    pub approvers: Vec<(String, String)>,
    /// How many approvers must agree [default: all, at most 2]
    #[arg(long, value_name = "NUMBER")]
    pub quorum: Option<u16>,
    /// One person may approve their own requests; stands in every event
    #[arg(long)]
    pub solo: bool,
    /// Unseal with this key file; made if it is absent
    #[arg(long, value_name = "FILE")]
    pub unseal_key_file: Option<PathBuf>,
    /// Unseal with the passphrase in this file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unseal_key_file")]
    pub passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub shares: ShareArgs,
}

/// [`Mode`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// For developing and trying.
    Test,
    /// For real keys.
    Live,
}

/// What is to be made.
pub(crate) struct InitPlan {
    /// Test or live.
    pub mode: Mode,
    /// The operator.
    pub operator: (Name, PublicKey),
    /// The approvers.
    pub approvers: Vec<(Name, PublicKey)>,
    /// How many must agree.
    pub quorum: i64,
    /// One person may approve their own requests.
    pub solo: bool,
    /// What will unseal the vault.
    pub unseal: UnsealWith,
}

/// What unseals a vault, as it was given.
pub(crate) enum UnsealWith {
    /// A passphrase.
    Passphrase(SecretText),
    /// The text of a key file: 43 characters of base64url.
    KeyFile(SecretText),
    /// Enough shares, one a line.
    Shares(SecretText),
}

/// Makes the instance.
pub(crate) async fn run(args: &InitArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let loaded = config::load(&args.database.flags(), &context.world.env)?;
    let approvers = approvers(args)?;
    let quorum = quorum(args, approvers.len())?;
    let operator = operator_key(args, context)?;
    let unseal = unseal_with(args, context)?;
    let plan = InitPlan {
        mode: if args.mode == Kind::Test {
            Mode::Test
        } else {
            Mode::Live
        },
        operator: (args.operator.clone(), operator),
        approvers,
        quorum,
        solo: args.solo,
        unseal,
    };
    let (mode, names) = (plan.mode, plan.approvers.len());
    let id = hook::init(&loaded, plan).await?;
    let facts = serde_json::json!({
        "object": "instance", "id": id, "mode": mode, "operator": args.operator, "operator_key": operator,
        "approvers": names, "quorum": quorum, "solo": args.solo, "database": loaded.config.shown_database_url(),
    });
    context.show_value(&facts, COLUMNS)?;
    context.say("next: dekeys serve, then dekeys unseal and dekeys login --key-file FILE")
}

const COLUMNS: &[super::output::Column] = {
    use super::output::{Column, Kind::Plain};
    &[
        Column("instance", "/id", Plain),
        Column("mode", "/mode", Plain),
        Column("database", "/database", Plain),
        Column("operator", "/operator", Plain),
        Column("key", "/operator_key", Plain),
        Column("approvers", "/approvers", Plain),
        Column("quorum", "/quorum", Plain),
        Column("solo", "/solo", Plain),
    ]
};

fn operator_key(args: &InitArgs, context: &mut Context<'_>) -> Result<PublicKey, Failure> {
    match (&args.operator_key, &args.new_operator_key) {
        (Some(given), _) => public_key(given),
        (None, Some(path)) => {
            let key = KeyFile::generate(context.world.random.as_ref()).named(args.operator.as_str());
            secret::write_new(path, &key.to_text())?;
            context.say(&format!("made {}; keep it safe, it is the only copy", path.display()))?;
            Ok(key.public())
        }
        (None, None) => Err(Failure::usage(
            "the operator has no key",
            "--operator-key or --new-operator-key",
        )),
    }
}

fn approvers(args: &InitArgs) -> Result<Vec<(Name, PublicKey)>, Failure> {
    let one = |(name, key): &(String, String)| {
        let name: Name = name
            .parse()
            .map_err(|error| Failure::usage(format!("{error}"), "--approver NAME=KEY"))?;
        Ok((name, public_key(key)?))
    };
    args.approvers.iter().map(one).collect()
}

/// All approvers up to two, unless it was said otherwise.
fn quorum(args: &InitArgs, approvers: usize) -> Result<i64, Failure> {
    let reachable = if args.solo { approvers.max(1) } else { approvers };
    let wanted = args.quorum.map_or_else(|| reachable.clamp(1, 2), usize::from);
    if wanted == 0 || wanted > reachable {
        return Err(Failure::usage(
            format!("a quorum of {wanted} needs as many approvers; there are {approvers}"),
            "name them: --approver NAME=KEY; or say --solo if one person approves their own requests",
        ));
    }
    i64::try_from(wanted).map_err(|_| Failure::usage("that quorum is too large", "--quorum 2"))
}

/// A public key as text, or the file that holds it.
pub(crate) fn public_key(given: &str) -> Result<PublicKey, Failure> {
    let text = if given.starts_with("ed25519:") {
        given.to_owned()
    } else {
        let unreadable = |error: std::io::Error| secret::SecretFileError::Read {
            path: given.to_owned(),
            why: error.kind().to_string(),
        };
        std::fs::read_to_string(given).map_err(unreadable)?
    };
    // A private key given by mistake must not be repeated in the error.
    text.trim().parse().map_err(|_| {
        let what = if given.starts_with("ed25519:") {
            format!("`{given}` is not a public key")
        } else {
            format!("`{given}` holds no public key")
        };
        Failure::new(
            "public_key",
            exit::FAILED,
            what,
            "print it: dekeys key public FILE > FILE.pub",
        )
    })
}

fn unseal_with(args: &InitArgs, context: &mut Context<'_>) -> Result<UnsealWith, Failure> {
    if let Some(shares) = share::made(&args.shares, context)? {
        return Ok(UnsealWith::Shares(shares));
    }
    if let Some(path) = &args.unseal_key_file {
        return Ok(UnsealWith::KeyFile(unseal_key(path, context)?));
    }
    if let Some(path) = &args.passphrase_file {
        return Ok(UnsealWith::Passphrase(context.read_secret(path)?));
    }
    new_passphrase(context, "--unseal-key-file or --passphrase-file").map(UnsealWith::Passphrase)
}

/// A passphrase that was typed twice.
pub(crate) fn new_passphrase(context: &mut Context<'_>, flag: &str) -> Result<SecretText, Failure> {
    let first = context.type_secret("New unseal passphrase", flag)?;
    if first.len() < 12 {
        return Err(Failure::usage(
            "the passphrase is too short",
            "at least 12 characters; better six random words",
        ));
    }
    let second = context.type_secret("Once more", flag)?;
    if !secret::same(&first, &second) {
        return Err(Failure::usage("the two are not the same", "try again"));
    }
    Ok(first)
}

/// The unseal key in a file, which is made if it is not there.
pub(crate) fn unseal_key(path: &Path, context: &mut Context<'_>) -> Result<SecretText, Failure> {
    if !path.exists() {
        let key = secret::new_unseal_key(context.world.random.as_ref());
        secret::write_new(path, &key)?;
        context.say(&format!(
            "made {}; without it nothing in the vault can be opened",
            path.display()
        ))?;
    }
    Ok(secret::read_file(path)?)
}
