//! `dekeys audit`: the log, read and checked.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind, raw};
use super::page::{rows, text};
use crate::base::id::EventId;
use crate::base::time::{Timestamp, Ttl};
use crate::client::Request;

pub(crate) const EXAMPLE: &str = "Example: dekeys audit tail --type lease.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// The newest events, oldest of them first
    Tail(TailArgs),
    /// Events that fit, newest first, however far back they are
    Search(SearchArgs),
    /// The whole log, oldest first, one line of JSON for each event
    #[command(
        after_help = "Example: dekeys audit export > audit.jsonl\nExample: dekeys audit export --after 18204 >> audit.jsonl"
    )]
    Export {
        /// Go on after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: i64,
    },
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

/// What `search` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys audit search --type lease. --since 24h\nExample: dekeys audit search openai --limit 50"
)]
pub(crate) struct SearchArgs {
    /// Only events in which this stands, in whatever place
    word: Option<String>,
    /// Only kinds that begin with this: `lease.` or `grant.created`
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    /// Only about this id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Only by this actor
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only of the last such span
    #[arg(long, value_name = "SPAN")]
    since: Option<Ttl>,
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
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
        Audit::Search(args) => search(args, context).await,
        Audit::Export { after } => export(*after, context).await,
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

/// How many events one page of the log has at most.
const PAGE: i64 = 100;

async fn search(args: &SearchArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let from = args.since.map(|span| context.now().minus(span));
    let old = |row: &Value| {
        let when = Timestamp::parse_rfc3339(&text(row, "/event/timestamp"));
        when.zip(from).is_some_and(|(when, from)| when < from)
    };
    let word = args.word.as_deref().unwrap_or_default().to_lowercase();
    let (mut found, mut before) = (Vec::new(), None);
    while found.len() < args.limit {
        let request = Request::get(&["v1", "audit", "events"])
            .query("type", args.kind.as_ref())
            .query("object", args.object.as_ref())
            .query("actor", args.actor.as_ref())
            .query("limit", Some(PAGE))
            .query("before", before);
        let answer = context.ask(&request).await?.json();
        let page = rows(&answer);
        let fits = page
            .iter()
            .take_while(|row| !old(row))
            .filter(|row| row.to_string().to_lowercase().contains(&word));
        found.extend(fits.take(args.limit.saturating_sub(found.len())).cloned());
        before = page.last().filter(|row| !old(row)).map(sequence);
        if before.is_none() || answer.get("has_more") != Some(&Value::Bool(true)) {
            break;
        }
    }
    let none = found.is_empty();
    context.show_value(&json!({ "object": "list", "data": found, "has_more": false }), EVENTS)?;
    if none { context.say("no events") } else { Ok(()) }
}

/// Numbers are dense, so that the log can be had from its beginning although pages begin at its end.
async fn export(after: i64, context: &mut Context<'_>) -> Result<(), Failure> {
    let page = |before: Option<i64>, limit: i64| {
        Request::get(&["v1", "audit", "events"])
            .query("limit", Some(limit))
            .query("before", before)
    };
    let newest = context.ask(&page(None, 1)).await?.json();
    let newest = rows(&newest).first().map_or(0, sequence);
    let (mut from, mut written) = (after.max(0), 0usize);
    while from < newest {
        let until = from.saturating_add(PAGE).min(newest);
        let answer = context.ask(&page(Some(until.saturating_add(1)), PAGE)).await?.json();
        for row in rows(&answer).iter().rev().filter(|row| sequence(row) > from) {
            context.print(&row.to_string())?;
            written = written.saturating_add(1);
        }
        from = until;
    }
    context.say(&format!(
        "{written} events up to number {newest}; what comes later: --after {newest}"
    ))
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
