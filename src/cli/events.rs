//! `dekeys events`: what happens, as it happens.

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Format, Kind};
use super::page::{rows, text};
use crate::client::events::EventStream;
use crate::client::{ClientError, Request};

/// What `events` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys events --since 1h\nExample: dekeys events --follow --type 'lease.*,grant.*'\n\nOperators and humans see everything, others what concerns their own grants and leases."
)]
pub(crate) struct EventsArgs {
    /// Stay, and print what happens; goes on by itself after a break
    #[arg(long, short)]
    follow: bool,
    /// Only these types, separated by commas: `lease.*`, `grant.created`
    #[arg(long = "type", value_name = "TYPES")]
    types: Option<String>,
    /// Only what happened since: a time, or a span such as `1h`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only about this id
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// How many, 1 to 100; not with --follow
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100), conflicts_with = "follow")]
    limit: u8,
    /// Go on after this event: to older ones, or with --follow to newer ones
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

const EVENTS: &[Column] = &[
    Column("number", "/sequence", Kind::Plain),
    Column("when", "/timestamp", Kind::Time),
    Column("event", "/type", Kind::Plain),
    Column("object", "/data/id", Kind::Plain),
    Column("by", "/actor", Kind::Plain),
];

impl EventsArgs {
    fn request(&self) -> Request {
        Request::get(&["v1", "events"])
            .query("types", self.types.as_ref())
            .query("since", self.since.as_ref())
            .query("object", self.object.as_ref())
    }
}

/// Runs the command.
pub(crate) async fn run(args: &EventsArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    if args.follow {
        return follow(args, context).await;
    }
    let request = args
        .request()
        .query("limit", Some(args.limit))
        .query("starting_after", args.after.as_ref());
    let answer = context.ask_and_show(&request, EVENTS).await?;
    if context.style.format != Format::Text {
        return Ok(());
    }
    let next = text(&answer, "/next");
    match (next.rsplit_once("starting_after="), rows(&answer).is_empty()) {
        (Some((_, after)), _) => context.say(&format!("more follow: --after {after}")),
        (None, true) => context.say("no events"),
        (None, false) => Ok(()),
    }
}

/// Prints what comes, and goes on where it was when the stream ends.
async fn follow(args: &EventsArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    if context.globals.curl {
        return context.print_curl(&client, &args.request().header("accept", "text/event-stream"));
    }
    let mut last = args.after.clone();
    let mut waiting = false;
    loop {
        match client.events(args.request(), last.as_deref()).await {
            Ok(stream) => {
                if std::mem::take(&mut waiting) {
                    context.say("connected again")?;
                }
                print_all(stream, &mut last, context).await?;
            }
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut waiting, true) {
                    context.say(&format!("{error}; trying again"))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(context.world.pace).await;
        context.style.now = context.now();
    }
}

/// Whether it is worth trying again by itself.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::Lost(_) => true,
        ClientError::Refused(refused) => matches!(refused.status, 429 | 502 | 503 | 504),
        _ => false,
    }
}

async fn print_all(
    mut stream: EventStream,
    last: &mut Option<String>,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    while let Some(message) = stream.next().await {
        let event: Value = serde_json::from_str(&message.data).map_err(|_| {
            Failure::new(
                "foreign",
                exit::FAILED,
                "the stream is not one of dekeys",
                "check --addr",
            )
        })?;
        context.style.now = context.now();
        print(&event, context)?;
        *last = Some(message.id);
    }
    Ok(())
}

/// Events on their own have no table around them: with `--json` one line each.
fn print(event: &Value, context: &mut Context<'_>) -> Result<(), Failure> {
    let form = context.style.format;
    if form == Format::Json {
        context.style.format = Format::Jsonl;
    }
    let printed = context.show_value(&json!({ "object": "list", "data": [event], "has_more": false }), EVENTS);
    context.style.format = form;
    printed
}
