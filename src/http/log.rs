//! The audit log and receipts.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::service::App;
use crate::service::audit::{self, EventsAsk};
use crate::service::caller::Context;
use crate::service::error::Error;
use crate::service::receipt;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listEvents" => events(app, context, input).await,
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
