//! `dekeys receipt`: shown, and checked offline on any machine.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand};

use super::context::Context;
use super::failure::Failure;
use super::output::{Format, visible_lines};
use crate::base::id::ReceiptId;
use crate::client::receipt::{self, LogPublic, Standing, Verdict};
use crate::client::{Keys, Request};

pub(crate) const EXAMPLE: &str = "Example: dekeys receipt verify receipt.json --keys keys.json";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// A receipt, exactly as it can be checked
    #[command(after_help = "Example: dekeys receipt show rcp_01KAG4C1B2T5Q3V7X9Z0A1B2C3 > receipt.json")]
    Show {
        /// The receipt
        id: ReceiptId,
    },
    /// Check a receipt offline against its log's public key
    #[command(
        after_help = "Example: dekeys receipt verify receipt.json --public-key log.pub\n\
            Example: dekeys api /v1/keys > keys.json; dekeys receipt verify receipt.json --keys keys.json\n\
            Example: dekeys receipt verify receipt.json --addr https://dekeys.example.org",
        group = ArgGroup::new("log_key").args(["public_key", "keys"])
    )]
    Verify {
        /// The receipt; `-` is standard input
        file: PathBuf,
        /// The log's C2SP verifier key, or a file that holds it
        #[arg(long, value_name = "KEY")]
        public_key: Option<String>,
        /// What `GET /v1/keys` answered
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
}

/// Runs a verb.
pub(crate) async fn run(verb: &Receipt, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Receipt::Show { id } => {
            // A receipt has one spelling, so it is never rendered.
            let reply = context.ask(&Request::get(&["v1", "receipts", &id.to_string()])).await?;
            super::output::raw(&mut context.world.stdout, &reply.body)
        }
        Receipt::Verify { file, public_key, keys } => {
            let believed = believed(public_key.as_deref(), keys.as_deref(), context).await?;
            let text = context.read_text(file)?;
            let verdict = match believed {
                Believed::Key(public) => receipt::verify(&text, &public)?,
                Believed::Keys(keys) => receipt::verify_by_keys(&text, &keys)?,
            };
            show(&verdict, context)
        }
    }
}

/// What the receipt is checked against.
enum Believed {
    /// One key, which it must be of.
    Key(LogPublic),
    /// All keys of an instance, each for its time.
    Keys(Box<Keys>),
}

/// The key the receipt must be of: given, or those that the named server says are its own.
async fn believed(given: Option<&str>, keys: Option<&Path>, context: &mut Context<'_>) -> Result<Believed, Failure> {
    if let Some(path) = keys {
        return Ok(Believed::Keys(Box::new(Keys::parse(
            context.read_text(path)?.as_bytes(),
        )?)));
    }
    let Some(given) = given else {
        return asked(context).await;
    };
    if let Ok(key) = given.parse() {
        return Ok(Believed::Key(key));
    }
    let text = context.read_text(Path::new(given))?;
    text.trim().parse().map(Believed::Key).map_err(|_| {
        let what = format!("`{given}` holds no verifier key such as `ins_…+8 digits+base64`");
        Failure::usage(what, "it is `log` in what dekeys api /v1/keys prints")
    })
}

async fn asked(context: &mut Context<'_>) -> Result<Believed, Failure> {
    if context.globals.addr.is_none() {
        let fix = "--public-key KEY or --keys FILE; or --addr URL, to believe the server that is there";
        return Err(Failure::usage("a receipt is checked against a key from elsewhere", fix));
    }
    let client = context.stranger()?;
    let reply = context.send(&client, &Request::get(&["v1", "keys"])).await?;
    context.say(&format!("the log's key is what {} says", client.address()))?;
    Ok(Believed::Keys(Box::new(Keys::parse(&reply.body)?)))
}

fn show(verdict: &Verdict, context: &mut Context<'_>) -> Result<(), Failure> {
    if context.style.format != Format::Text {
        let value = serde_json::to_value(verdict).unwrap_or_default();
        return context.show_value(&value, &[]);
    }
    let proved = match verdict.standing {
        Standing::Promised => "VALID as a promise: the log signed that it is on record",
        Standing::Included { .. } => "VALID: it is in the signed tree",
    };
    if context.style.terminal.stdout {
        return context.print(&format!("{}{proved}\n", visible_lines(&verdict.to_string()) + "\n"));
    }
    let lines: Vec<String> = verdict
        .words()
        .into_iter()
        .map(|(name, fact)| format!("{name}\t{}", super::output::visible(&fact)))
        .collect();
    context.print(&format!(
        "receipt\t{}\n{}\nverdict\t{proved}",
        verdict.id,
        lines.join("\n")
    ))
}
