//! `dekeys lease`: keys that are out.

use clap::Subcommand;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::LeaseId;
use crate::client::Request;

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
    /// End a lease and its key, at the vendor too
    #[command(after_help = "Example: dekeys lease revoke lea_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --reason leaked --yes")]
    Revoke {
        /// The lease
        id: LeaseId,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
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

/// Runs a verb.
pub(crate) async fn run(verb: &Lease, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Lease::Ls(page) => context.page(&page.of(&["v1", "leases"]), LIST, "leases").await,
        Lease::Show { id } => {
            let request = Request::get(&["v1", "leases", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Lease::Revoke { id, reason } => {
            context.confirm(&format!("End {id} and its key at the vendor?"))?;
            end(&["v1", "leases", &id.to_string(), "revoke"], reason.as_deref(), context).await
        }
    }
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
