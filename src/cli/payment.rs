//! `dekeys payment`: what was paid, and what people must decide.

use clap::{ArgGroup, Subcommand};
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::Page;
use crate::base::id::PurchaseId;
use crate::client::Request;

pub(crate) const EXAMPLE: &str = "Example: dekeys payment ls --unknown";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Payment {
    /// The newest payments
    #[command(after_help = "Example: dekeys payment ls --unknown")]
    Ls {
        /// Only those whose outcome is not known
        #[arg(long)]
        unknown: bool,
        #[command(flatten)]
        page: Page,
    },
    /// One payment
    #[command(after_help = "Example: dekeys payment show pur_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The payment
        id: PurchaseId,
    },
    /// Say what became of a payment whose outcome nobody else tells
    #[command(
        after_help = "Example: dekeys payment resolve pur_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --not-settled --reason \"no transfer on the explorer\"",
        group = ArgGroup::new("outcome").required(true).args(["settled", "not_settled"])
    )]
    Resolve {
        /// The payment
        id: PurchaseId,
        /// The money moved, by this transaction
        #[arg(long, value_name = "TRANSACTION")]
        settled: Option<String>,
        /// It did not, and never will
        #[arg(long)]
        not_settled: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

const LIST: &[Column] = &[
    Column("payment", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("amount", "/amount", Kind::Plain),
    Column("payer", "/payer", Kind::Plain),
    Column("grant", "/grant", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("trouble", "/trouble", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("payment", "/id", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("grant", "/grant", Kind::Plain),
    Column("amount", "/amount", Kind::Plain),
    Column("asset", "/asset", Kind::Plain),
    Column("payer", "/payer", Kind::Plain),
    Column("pay to", "/pay_to", Kind::Plain),
    Column("nonce", "/nonce", Kind::Plain),
    Column("transaction", "/transaction", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
    Column("created", "/created", Kind::Time),
    Column("valid before", "/valid_before", Kind::Time),
    Column("next look", "/next_look", Kind::Time),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Payment, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Payment::Ls { unknown, page } => {
            let request = page
                .of(&["v1", "payments"])
                .query("state", unknown.then_some("settling"));
            context.page(&request, LIST, "payments").await
        }
        Payment::Show { id } => {
            let request = Request::get(&["v1", "payments", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Payment::Resolve {
            id, settled, reason, ..
        } => {
            let outcome = if settled.is_some() { "settled" } else { "not_settled" };
            context.confirm(&format!("Record that {id} is {outcome}?"))?;
            let body = json!({ "outcome": outcome, "transaction": settled, "reason": reason });
            let request = Request::post(&["v1", "payments", &id.to_string(), "resolve"]).json(&body);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
    }
}
