//! `dekeys offer`: what can be had.

use clap::Subcommand;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::{rows, text};
use crate::client::Request;
use crate::model::scope::Reference;

pub(crate) const EXAMPLE: &str = "Example: dekeys offer ls";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Offer {
    /// Everything on offer
    #[command(after_help = "Example: dekeys offer ls --json")]
    Ls,
    /// What is offered under one reference
    #[command(after_help = "Example: dekeys offer show dk://openai/chat:write")]
    Show {
        /// `dk://vendor/scope`
        reference: Reference,
    },
}

const COLUMNS: &[Column] = &[
    Column("reference", "/reference", Kind::Plain),
    Column("policy", "/policy", Kind::Plain),
    Column("version", "/policy_version", Kind::Plain),
    Column("price", "/price", Kind::Plain),
    Column("longest", "/max_ttl", Kind::Plain),
    Column("resolves", "/max_resolves", Kind::Plain),
    Column("prims", "/prims", Kind::Plain),
    Column("approval", "/approval", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Offer, context: &mut Context<'_>) -> Result<(), Failure> {
    let request = Request::get(&["v1", "offers"]);
    match verb {
        Offer::Ls => context.page(&request, COLUMNS, "offers").await,
        Offer::Show { reference } => {
            let answer = context.ask(&request).await?.json();
            let all = rows(&answer);
            let wanted = reference.to_string();
            let name = |offer: &Value| text(offer, "/reference");
            let found: Vec<&Value> = all.iter().filter(|offer| name(offer) == wanted).collect();
            if found.is_empty() {
                let fix = super::principal::nearest(&wanted, all.iter().map(name))
                    .map_or_else(|| "dekeys offer ls".to_owned(), |near| format!("did you mean {near}?"));
                let what = format!("nothing is offered as {wanted}");
                return Err(Failure::new("not_found", exit::NOT_FOUND, what, fix));
            }
            context.show_value(&json!({ "object": "list", "data": found, "has_more": false }), COLUMNS)
        }
    }
}
