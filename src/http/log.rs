//! The audit log and receipts.

use futures_util::stream::unfold;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::stream::{self, Message};
use crate::service::App;
use crate::service::audit::{self, EventsAsk};
use crate::service::caller::Context;
use crate::service::error::Error;
use crate::service::follow::{self, FollowAsk};
use crate::service::receipt;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listEvents" => events(app, context, input).await,
        "followEvents" => follow_events(app, context, input).await,
        "latestCheckpoint" => checkpoint(app).await,
        "showProof" => proof(app, context, input).await,
        "verifyAudit" => verify(app, context).await,
        "showReceipt" => receipt(app, input).await,
        other => Err(unknown(other)),
    }
}

pub(super) async fn events(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: EventsAsk = input.query(&["type", "object", "actor", "limit", "before"])?;
    Answer::json(200, &audit::events(app, context, &ask).await?)
}

/// A list; or, when a stream is asked for, all that happens after `Last-Event-ID`.
pub(super) async fn follow_events(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: FollowAsk = input.query(&["types", "since", "object", "limit", "starting_after"])?;
    if !input.wants_events() {
        return Answer::json(200, &follow::list(app, context, &ask).await?);
    }
    let last = input.header("last-event-id");
    let follower = follow::follow(app, context, &ask, last.first().map(String::as_str)).await?;
    let messages = unfold(follower, async |mut follower| {
        let notice = follower.next().await?;
        let message = Message {
            id: notice.id.to_string(),
            data: serde_json::to_string(&notice).unwrap_or_default(),
            event: notice.kind,
        };
        Some((message, follower))
    });
    stream::events(app, context, messages)
}

pub(super) async fn checkpoint(app: &App) -> Result<Answer, Refused> {
    Answer::json(200, &audit::latest(app).await?)
}

pub(super) async fn proof(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &audit::proof(app, context, input.param("id", "event")?).await?)
}

pub(super) async fn verify(app: &App, context: &Context) -> Result<Answer, Refused> {
    Answer::json(200, &audit::verify(app, context).await?)
}

/// The exact bytes that `receipt verify` takes.
pub(super) async fn receipt(app: &App, input: &Input) -> Result<Answer, Refused> {
    let receipt = receipt::show(app, input.param("id", "receipt")?).await?;
    let text = receipt.to_json().map_err(Error::internal)?;
    Ok(Answer::raw(200, text.into_bytes()))
}
