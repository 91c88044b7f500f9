//! `dekeys webhook`: who is told of events over HTTP.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::context::Context;
use super::exit;
use super::failure::Failure;
use super::output::{Column, Kind};
use super::page::{Page, text};
use crate::base::id::{DeliveryId, WebhookId};
use crate::client::Request;

pub(crate) const EXAMPLE: &str =
    "Example: dekeys webhook create https://ops.example/dekeys --type 'approval.requested,lease.revocation_failed'";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// The newest webhooks
    #[command(after_help = "Example: dekeys webhook ls")]
    Ls(Page),
    /// Tell somebody of events; prints the secret, once
    Create(CreateArgs),
    /// One webhook
    #[command(after_help = "Example: dekeys webhook show whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Show {
        /// The webhook
        id: WebhookId,
    },
    /// Send a ping now, and say what became of it
    #[command(after_help = "Example: dekeys webhook test whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Test {
        /// The webhook
        id: WebhookId,
    },
    /// What was sent, newest first
    #[command(after_help = "Example: dekeys webhook deliveries whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --limit 100")]
    Deliveries {
        /// The webhook
        id: WebhookId,
        #[command(flatten)]
        page: Page,
    },
    /// Send an event once more, with the id it had
    #[command(after_help = "Example: dekeys webhook replay del_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Replay {
        /// The delivery
        id: DeliveryId,
    },
    /// A new secret; the one before signs beside it for a day
    #[command(after_help = "Example: dekeys webhook rotate whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Rotate {
        /// The webhook
        id: WebhookId,
    },
    /// Go on with a webhook that was disabled
    #[command(after_help = "Example: dekeys webhook enable whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3")]
    Enable {
        /// The webhook
        id: WebhookId,
    },
    /// Remove a webhook and what waits for it
    #[command(after_help = "Example: dekeys webhook rm whe_01KAG4C1B2T5Q3V7X9Z0A1B2C3 --yes")]
    Rm {
        /// The webhook
        id: WebhookId,
    },
}

/// What `create` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: dekeys webhook create https://ops.example/dekeys --type '*'\nExample: dekeys webhook create https://hooks.slack.com/services/T0/B0/X --format slack --type approval.requested"
)]
pub(crate) struct CreateArgs {
    /// Where to send; https, in a test instance http to loopback
    url: String,
    /// Which events, separated by commas: `lease.*`, `approval.requested`, everything as `*`
    #[arg(long = "type", value_name = "TYPES", required = true, value_delimiter = ',')]
    types: Vec<String>,
    /// How the body is written
    #[arg(long, value_name = "FORM", default_value = "event")]
    format: Body,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Body {
    /// The event as JSON
    Event,
    /// One sentence, for Slack and what understands it
    Slack,
}

const LIST: &[Column] = &[
    Column("webhook", "/id", Kind::Plain),
    Column("url", "/url", Kind::Plain),
    Column("types", "/types", Kind::Plain),
    Column("state", "/state", Kind::Plain),
];

const FULL: &[Column] = &[
    Column("webhook", "/id", Kind::Plain),
    Column("url", "/url", Kind::Plain),
    Column("types", "/types", Kind::Plain),
    Column("format", "/format", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("public key", "/public_key", Kind::Plain),
    Column("secret", "/secret", Kind::Plain),
    Column("created", "/created", Kind::Time),
];

const DELIVERIES: &[Column] = &[
    Column("delivery", "/id", Kind::Plain),
    Column("event", "/type", Kind::Plain),
    Column("number", "/sequence", Kind::Plain),
    Column("state", "/state", Kind::Plain),
    Column("attempts", "/attempts", Kind::Plain),
    Column("status", "/status", Kind::Plain),
    Column("next", "/next_attempt", Kind::Time),
    Column("error", "/error", Kind::Plain),
];

/// Runs a verb.
pub(crate) async fn run(verb: &Webhook, context: &mut Context<'_>) -> Result<(), Failure> {
    match verb {
        Webhook::Ls(page) => context.page(&page.of(&["v1", "webhooks"]), LIST, "webhooks").await,
        Webhook::Create(args) => create(args, context).await,
        Webhook::Show { id } => {
            let request = Request::get(&["v1", "webhooks", &id.to_string()]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Webhook::Test { id } => test(*id, context).await,
        Webhook::Deliveries { id, page } => {
            let request = page.of(&["v1", "webhooks", &id.to_string(), "deliveries"]);
            context.page(&request, DELIVERIES, "deliveries").await
        }
        Webhook::Replay { id } => {
            let request = Request::post(&["v1", "deliveries", &id.to_string(), "replay"]);
            context.ask_and_show(&request, DELIVERIES).await.map(drop)
        }
        Webhook::Rotate { id } => {
            let request = Request::post(&["v1", "webhooks", &id.to_string(), "rotate-secret"]);
            context.ask_and_show(&request, FULL).await?;
            context.say("keep the secret: it is not shown again; the one before signs too for a day")
        }
        Webhook::Enable { id } => {
            let request = Request::post(&["v1", "webhooks", &id.to_string(), "enable"]);
            context.ask_and_show(&request, FULL).await.map(drop)
        }
        Webhook::Rm { id } => {
            context.confirm(&format!("Remove {id} and what waits for it?"))?;
            let request = Request::delete(&["v1", "webhooks", &id.to_string()]);
            context.ask_and_show(&request, LIST).await.map(drop)
        }
    }
}

async fn create(args: &CreateArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let format = match args.format {
        Body::Event => "event",
        Body::Slack => "slack",
    };
    let types: Vec<&str> = args.types.iter().map(|word| word.trim()).collect();
    let body = json!({ "url": args.url, "types": types, "format": format, "description": args.description });
    let made = context
        .ask_and_show(&Request::post(&["v1", "webhooks"]).json(&body), FULL)
        .await?;
    let id = text(&made, "/id");
    context.say(&format!(
        "keep the secret: it is not shown again. Try it: dekeys webhook test {id}"
    ))
}

/// Fails with 10 when the ping did not arrive.
async fn test(id: WebhookId, context: &mut Context<'_>) -> Result<(), Failure> {
    let request = Request::post(&["v1", "webhooks", &id.to_string(), "test"]);
    let told = context.ask_and_show(&request, DELIVERIES).await?;
    if told.get("state") == Some(&Value::from("delivered")) {
        return Ok(());
    }
    let fix = "see that the receiver runs and answers 2xx within 20 s; dekeys tries again by itself";
    let failure = Failure::new("not_delivered", exit::LATER, "the ping did not arrive", fix);
    Err(failure.because(text(&told, "/error")))
}
