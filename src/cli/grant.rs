//! `dekeys grant`: rights, bought or given, and the tokens that carry them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::buy;
use super::context::Context;
use super::failure::Failure;
use super::init::public_key;
use super::lease::end;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::GrantId;
use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::client::{Reply, Request, secret};
use crate::model::scope::{Name, Reference};

pub(crate) const EXAMPLE: &str = "Example: dekeys grant create dk://openai/chat:write --ttl 15m --out-token token";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Buy a grant, or be given one
    Create(CreateArgs),
    /// The newest grants of yours
    #[command(after_help = "Example: dekeys grant ls")]
    Ls(Page),
    /// One grant
    #[command(after_help = "Example: dekeys grant show grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The grant
        id: GrantId,
    },
    /// A fresh token for a grant that lives, free of charge
    #[command(after_help = "Example: dekeys grant token grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --out-token token")]
    Token {
        /// The grant
        id: GrantId,
        /// Write the token to this file (mode 0600) instead of printing it
        #[arg(long, value_name = "FILE")]
        out_token: Option<PathBuf>,
    },
    /// Prolong a free grant
    #[command(after_help = "Example: dekeys grant renew grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --ttl 1h")]
    Renew {
        /// The grant
        id: GrantId,
        /// For how long from now; the policy's longest if absent
        #[arg(long, value_name = "SPAN")]
        ttl: Option<Ttl>,
    },
    /// End a grant, its tokens and its keys
    #[command(after_help = "Example: dekeys grant revoke grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --yes")]
    Revoke {
        /// The grant
        id: GrantId,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// What `create` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys grant create dk://openai/chat:write --ttl 15m --out-token token\n\
    Example: dekeys grant create dk://demo/echo:read --pay-key-file wallet.hex --max-price \"0.01 USDC\""
)]
pub(crate) struct CreateArgs {
    /// What: `dk://vendor/scope`, up to 20
    #[arg(required = true, num_args = 1..=20)]
    pub(crate) references: Vec<Reference>,
    /// For how long; the policy's longest if absent
    #[arg(long, value_name = "SPAN")]
    pub(crate) ttl: Option<Ttl>,
    /// How many resolves; the policy's most if absent
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_resolves: Option<i64>,
    /// A prim the tokens are for; any that the policy names if absent. Repeat
    #[arg(long, value_name = "PRIM")]
    pub(crate) audience: Vec<Name>,
    /// Why, for the record and for approvers
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The key its holder will sign with: `ed25519:…` or a file; your key file's if absent
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<String>,
    /// Ask for tokens without a holder's key: whoever has one can use it, through the proxy where a policy says `bearer`
    #[arg(long, conflicts_with = "public_key")]
    pub(crate) bearer: bool,
    /// Repeat a request with the same key and it is done once; made if absent
    #[arg(long, value_name = "TEXT")]
    pub(crate) idempotency_key: Option<String>,
    /// Pay, on test networks, with the wallet key in this file (64 hexadecimal digits)
    #[arg(long, value_name = "FILE")]
    pub(crate) pay_key_file: Option<PathBuf>,
    /// Pay at most this
    #[arg(long, value_name = "AMOUNT", requires = "pay_key_file")]
    pub(crate) max_price: Option<Money>,
    /// Wait this long for approval, or for a payment whose outcome is not known
    #[arg(long, value_name = "SPAN")]
    pub(crate) wait: Option<Ttl>,
    /// Write the token to this file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out_token: Option<PathBuf>,
}

const LIST: &[Column] = &[
    Column("grant", "/id", Kind::Plain),
    Column("for", "/items", Kind::Items),
    Column("left", "/limits/remaining_resolves", Kind::Plain),
    Column("expires", "/expires", Kind::Time),
    Column("state", "/state", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("grant", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("for", "/items", Kind::Items),
    Column("class", "/class", Kind::Plain),
    Column("holder", "/holder", Kind::Plain),
    Column("principal", "/principal", Kind::Plain),
    Column("audience", "/audience", Kind::Plain),
    Column("resolves", "/limits/max_resolves", Kind::Plain),
    Column("left", "/limits/remaining_resolves", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("expires", "/expires", Kind::Time),
    Column("receipt", "/receipt", Kind::Plain),
    Column("token", "/token", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Grant, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Grant::Create(args) => {
            let body = body(args)?;
            let reply = buy::buy(args, &body, context).await?;
            deliver(&reply, args.out_token.as_deref(), context)
        }
        Grant::Ls(page) => context.page(&page.of(&["v1", "grants"]), LIST, "grants").await,
        Grant::Show { id } => {
            let request = Request::get(&["v1", "grants", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Grant::Token { id, out_token } => {
            let request = Request::post(&["v1", "grants", &id.to_string(), "tokens"]).json(&json!({}));
            let reply = context.ask(&request).await?;
            deliver(&reply, out_token.as_deref(), context)
        }
        Grant::Renew { id, ttl } => {
            let request = Request::post(&["v1", "grants", &id.to_string(), "renew"]).json(&json!({ "ttl": ttl }));
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Grant::Revoke { id, reason } => {
            context.confirm(&format!("End {id}, its tokens and its keys?"))?;
            end(&["v1", "grants", &id.to_string(), "revoke"], reason.as_deref(), context).await
        }
    }
}

fn body(args: &CreateArgs) -> Result<Value, Failure> {
    let public_key = args.public_key.as_deref().map(public_key).transpose()?;
    let mut body = json!({
        "ttl": args.ttl,
        "max_resolves": args.max_resolves,
        "audience": args.audience,
        "reason": args.reason.as_deref().unwrap_or_default(),
        "public_key": public_key,
        "bearer": args.bearer,
    });
    if let Some(members) = body.as_object_mut() {
        match args.references.as_slice() {
            [one] => members.insert("reference".to_owned(), json!(one)),
            several => members.insert("references".to_owned(), json!(several)),
        };
    }
    Ok(body)
}

/// Prints a grant with its token, or puts the token into a file.
fn deliver(reply: &Reply, out_token: Option<&Path>, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut answer = reply.json();
    let token = secret::at(&answer, "/token");
    let (Some(path), Some(token)) = (out_token, &token) else {
        if token.is_none() {
            context.say("no token: this request was served before, and you did not prove to be the holder")?;
        }
        return context.show(reply, FULL).map(drop);
    };
    secret::write_over(path, token, context.world.random.as_ref())?;
    if let Some(members) = answer.as_object_mut() {
        members.remove("token");
    }
    context.show_value(&answer, FULL)?;
    context.say(&format!("the token is in {}", path.display()))
}
