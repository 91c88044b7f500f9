//! `dekeys lease`: keys that are out.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::{GrantId, LeaseId};
use crate::client::Request;
use crate::model::scope::Name;

pub(crate) const EXAMPLE: &str = "Example: dekeys lease ls";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    /// The newest leases
    #[command(after_help = "Example: dekeys lease ls --limit 100")]
    Ls(Page),
    /// One lease
    #[command(after_help = "Example: dekeys lease show lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The lease
        id: LeaseId,
    },
    /// End a lease and its key, at the vendor too; or many, after their number was confirmed
    Revoke(RevokeArgs),
}

/// What `revoke` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys lease revoke lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --reason leaked --yes\n\
    Example: dekeys lease revoke --vendor openai                counts, and asks for the number\n\
    Example: dekeys lease revoke --prefix openai/chat: --principal crawler-7 --yes\n\
    Whoever still has a grant can have another key: `dekeys grant revoke`, `dekeys principal disable`."
)]
#[group(id = "which", required = true, multiple = true, args = ["id", "principal", "vendor", "prefix", "grant"])]
pub(crate) struct RevokeArgs {
    /// The lease
    #[arg(conflicts_with_all = ["principal", "vendor", "prefix", "grant"])]
    id: Option<LeaseId>,
    /// Those a principal holds as a prim, and those under its grants: its id or name
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Those at a vendor
    #[arg(long, value_name = "VENDOR")]
    vendor: Option<Name>,
    /// Those whose `vendor` or `vendor/scope` begins so
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Those of a grant
    #[arg(long, value_name = "GRANT")]
    grant: Option<GrantId>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

const LIST: &[Column] = &[
    Column("lease", "/id", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("prim", "/prim", Kind::Plain),
    Column("expires", "/expires", Kind::Time),
    Column("resolves", "/resolves", Kind::Plain),
    Column("state", "/state", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("lease", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("vendor", "/vendor", Kind::Plain),
    Column("grant", "/grant", Kind::Plain),
    Column("prim", "/prim", Kind::Plain),
    Column("credential", "/credential", Kind::Plain),
    Column("resolves", "/resolves", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("expires", "/expires", Kind::Time),
];

const ENDED: &[Column] = &[
    Column("id", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("keys", "/credentials", Kind::Plain),
    Column("confirmed", "/confirmed", Kind::Plain),
];

const MANY: &[Column] = &[
    Column("state", "/state", Kind::Plain),
    Column("leases", "/count", Kind::Plain),
    Column("keys", "/credentials", Kind::Plain),
    Column("confirmed", "/confirmed", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Lease, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Lease::Ls(page) => context.page(&page.of(&["v1", "leases"]), LIST, "leases").await,
        Lease::Show { id } => {
            let request = Request::get(&["v1", "leases", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Lease::Revoke(args) => match &args.id {
            Some(id) => {
                context.confirm(&format!("End {id} and its key at the vendor?"))?;
                let segments = ["v1", "leases", &id.to_string(), "revoke"];
                end(&segments, args.reason.as_deref(), context).await
            }
            None => revoke_many(args, context).await,
        },
    }
}

/// Counts, shows the count, and ends exactly so many.
async fn revoke_many(args: &RevokeArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let mut body = json!({
        "principal": args.principal, "vendor": args.vendor, "prefix": args.prefix, "grant": args.grant,
        "reason": args.reason,
    });
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let counted = context.ask(&request(&body)).await?.json();
    let count = counted.get("count").and_then(Value::as_i64).unwrap_or_default();
    if count == 0 {
        return context.say("no live lease is meant; nothing was done");
    }
    let vendors = counted.get("vendors").and_then(Value::as_object);
    let each: Vec<String> = vendors
        .into_iter()
        .flatten()
        .map(|(vendor, number)| format!("{vendor} {number}"))
        .collect();
    let noun = if count == 1 { "lease" } else { "leases" };
    let what = format!("This ends {count} {noun} and their keys: {}.", each.join(", "));
    context.confirm_count(&what, count)?;
    if let Some(fields) = body.as_object_mut() {
        fields.insert("expected_count".to_owned(), json!(count));
    }
    let ended = context.ask_and_show(&request(&body), MANY).await?;
    if ended.get("confirmed") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    context.say("ended here, nobody gets them any more; their keys are being ended at the vendors: dekeys status")
}

fn request(body: &Value) -> Request {
    Request::post(&["v1", "leases", "revoke"]).json(body)
}

/// Ends something; fails with 10 while a vendor has not confirmed that its key is dead.
pub(crate) async fn end(segments: &[&str], reason: Option<&str>, context: &mut Context<'_>) -> Result<(), Failure> {
    let request = Request::post(segments).json(&json!({ "reason": reason }));
    let ended = context.ask_and_show(&request, ENDED).await?;
    if ended.get("confirmed") != Some(&Value::Bool(false)) {
        return Ok(());
    }
    let failure = Failure::new(
        "revocation_failed",
        exit::LATER,
        "a vendor has not confirmed yet that the key is dead",
        "look again: dekeys credential ls      or end it by hand in the vendor's own console",
    );
    Err(failure.because("It is ended here and nobody gets it any more; dekeys keeps trying at the vendor."))
}
