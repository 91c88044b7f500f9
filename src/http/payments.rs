//! Payments, and what people decide of them.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::base::id::PurchaseId;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::error::Error;
use crate::service::payments as verb;
use crate::service::usage;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listPayments" => {
            let ask = input.query(&["state", "limit", "starting_after"])?;
            Answer::json(200, &verb::list(app, context, ask).await?)
        }
        "showPayment" => Answer::json(200, &verb::show(app, context, id(input)?).await?),
        "resolvePayment" => {
            let ask = input.json()?;
            Answer::json(200, &verb::resolve(app, context, id(input)?, &ask).await?)
        }
        "showUsage" => {
            let ask: usage::UsageAsk = input.query(&["by", "since", "until"])?;
            Answer::json(200, &usage::usage(app, context, &ask).await?)
        }
        "checkLedger" => Answer::json(200, &usage::check(app, context).await?),
        other => Err(unknown(other)),
    }
}

fn id(input: &Input) -> Result<PurchaseId, Error> {
    input.param("id", "payment")
}
