//! Tokens: introspected, ended.

use serde_json::json;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::introspect::{self, TokenAsk};
use crate::service::revoke_token;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "introspectToken" => introspect(app, context, input).await,
        "revokeToken" => revoke(app, context, input).await,
        other => Err(unknown(other)),
    }
}

const FIELDS: &[&str] = &["token", "token_type_hint"];

pub(super) async fn introspect(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: TokenAsk = input.form_or_json(FIELDS)?;
    Answer::json(200, &introspect::introspect(app, context, &ask).await?)
}

/// The same answer whether there was such a token or not (RFC 7009 §2.2).
pub(super) async fn revoke(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: TokenAsk = input.form_or_json(FIELDS)?;
    revoke_token::revoke(app, context, &ask).await?;
    Ok(Answer::value(200, &json!({})))
}
