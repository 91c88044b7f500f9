//! dekeys' own keys: seen, rotated, and another unseal key.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::system::unseal_key;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::keys as verb;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let status = match operation {
        "keyStatus" => verb::status(app, context).await,
        "rotateKey" => verb::rotate(app, context, &input.json()?).await,
        "beginRekey" => verb::begin_rekey(app, context, unseal_key(input)?).await,
        "confirmRekey" => verb::confirm_rekey(app, context, unseal_key(input)?).await,
        "cancelRekey" => verb::cancel_rekey(app, context).await,
        other => return Err(unknown(other)),
    };
    Answer::json(200, &status?)
}
