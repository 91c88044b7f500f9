//! `dekeys audit`: the log, read and checked.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, raw};
use super::page::{rows, text};
use crate::base::id::EventId;
use crate::client::Request;

pub(crate) const EXAMPLE: &str = "Example: dekeys audit tail --type lease.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// The newest events, oldest of them first
    Tail(TailArgs),
    /// Have the server read and check the whole log
    #[command(after_help = "Example: dekeys audit verify")]
    Verify,
    /// The proof that an event is in the log
    #[command(after_help = "Example: dekeys audit proof evt_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Proof {
        /// The event
        event: EventId,
    },
}

/// What `tail` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: dekeys audit tail --follow\nExample: dekeys audit tail --type grant. --limit 100")]
pub(crate) struct TailArgs {
    /// Stay, and print what happens
    #[arg(long, short)]
    follow: bool,
    /// Only kinds that begin with this: `lease.` or `grant.created`
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Only about this id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Only by this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// How many, 1 to 100
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    limit: u8,
}

const EVENTS: &[Column] = &[
    Column("number", "/sequence", Kind::Plain),
    Column("when", "/event/timestamp", Kind::Time),
    Column("event", "/event/type", Kind::Plain),
    Column("object", "/event/object", Kind::Plain),
    Column("by", "/event/actor", Kind::Plain),
];

const VERIFIED: &[Column] = &[
    Column("ok", "/ok", Kind::Plain),
    Column("events", "/events", Kind::Plain),
    Column("leaves", "/leaves", Kind::Plain),
    Column("root", "/root", Kind::Plain),
    Column("trouble", "/trouble", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Audit, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Audit::Tail(args) => tail(args, context).await,
        Audit::Verify => {
            let verified = context
                .ask_and_show(&Request::post(&["v1", "audit", "verify"]), VERIFIED)
                .await?;
            if verified.get("ok") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            let fix = "keep the database as it is, and compare it with a backup and the copied checkpoints";
            let failure = Failure::new("audit_broken", exit::FAILED, "the audit log does not verify", fix);
            Err(failure.because(text(&verified, "/trouble")))
        }
        Audit::Proof { event } => {
            // A proof is for programs: its own form is its only one.
            let reply = context
                .ask(&Request::get(&["v1", "audit", "proofs", &event.to_string()]))
                .await?;
            raw(&mut context.world.stdout, &reply.body)
        }
    }
}

async fn tail(args: &TailArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if !args.follow && context.style.format == Format::Json {
        return context
            .ask_and_show(&args.request(args.limit, None), EVENTS)
            .await
            .map(drop);
    }
    let first = context.ask(&args.request(args.limit, None)).await?.json();
    let mut seen: Vec<Value> = rows(&first).to_vec();
    seen.reverse();
    print(&seen, context)?;
    if !args.follow {
        return Ok(());
    }
    let mut newest = seen.last().map_or(0, sequence);
    loop {
        tokio::time::sleep(context.world.pace).await;
        let fresh = since(newest, args, context).await?;
        newest = fresh.last().map_or(newest, sequence);
        print(&fresh, context)?;
    }
}

/// Everything after number `newest`, oldest first, however many pages that takes.
async fn since(newest: i64, args: &TailArgs, context: &mut Context<'_>) -> Result<Vec<Value>, Failure> {
    let mut fresh: Vec<Value> = Vec::new();
    let mut before = None;
    loop {
        let answer = context.ask(&args.request(100, before)).await?.json();
        let page = rows(&answer);
        fresh.extend(page.iter().filter(|row| sequence(row) > newest).cloned());
        let more = answer.get("has_more") == Some(&Value::Bool(true));
        match page.last().map(sequence) {
            Some(oldest) if more && oldest > newest => before = Some(oldest),
            _ => break,
        }
    }
    fresh.reverse();
    Ok(fresh)
}

/// Events on their own have no table around them: with `--json` one line each.
fn print(rows: &[Value], context: &mut Context<'_>) -> Result<(), Failure> {
    if rows.is_empty() {
        return Ok(());
    }
    let form = context.style.format;
    if form == Format::Json {
        context.style.format = Format::Jsonl;
    }
    let printed = context.show_value(&json!({ "object": "list", "data": rows, "has_more": false }), EVENTS);
    context.style.format = form;
    printed
}

impl TailArgs {
    fn request(&self, limit: u8, before: Option<i64>) -> Request {
        Request::get(&["v1", "audit", "events"])
            .query("type", self.kind.as_ref())
            .query("object", self.object.as_ref())
            .query("actor", self.actor.as_ref())
            .query("limit", Some(limit))
            .query("before", before)
    }
}

fn sequence(row: &Value) -> i64 {
    row.get("sequence").and_then(Value::as_i64).unwrap_or_default()
}
