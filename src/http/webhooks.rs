//! Webhooks and their deliveries.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::resolve;
use crate::base::id::WebhookId;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::enroll::PageAsk;
use crate::service::error::Error;
use crate::service::webhook as verb;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listWebhooks" => Answer::json(200, &verb::list(app, context, &page(input)?).await?),
        "createWebhook" => resolve::webhook(201, &verb::create(app, context, input.json()?).await?),
        "showWebhook" => Answer::json(200, &verb::show(app, context, id(input)?).await?),
        "deleteWebhook" => Answer::json(200, &verb::delete(app, context, id(input)?).await?),
        "rotateWebhookSecret" => resolve::webhook(200, &verb::rotate(app, context, id(input)?).await?),
        "enableWebhook" => Answer::json(200, &verb::enable(app, context, id(input)?).await?),
        "testWebhook" => Answer::json(200, &verb::test(app, context, id(input)?).await?),
        "listDeliveries" => {
            let (id, page) = (id(input)?, page(input)?);
            Answer::json(200, &verb::deliveries(app, context, id, &page).await?)
        }
        "replayDelivery" => {
            let id = input.param("id", "delivery")?;
            Answer::json(201, &verb::replay(app, context, id).await?)
        }
        other => Err(unknown(other)),
    }
}

fn id(input: &Input) -> Result<WebhookId, Error> {
    input.param("id", "webhook")
}

fn page(input: &Input) -> Result<PageAsk, Refused> {
    input.query(&["limit", "starting_after"])
}
