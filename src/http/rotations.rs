//! Rotations: what is due, and what somebody wants now.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::base::secret::SecretText;
use crate::base::time::Ttl;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::rotate;
use crate::service::rotate_root::{self, RotateRootAsk};

/// Hands an operation of this part to its verb.
pub(super) async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listRotations" => Answer::json(200, &rotate::due(app, context).await?),
        "rotateRoot" => root(app, context, input).await,
        "rotateCredential" => credential(app, context, input).await,
        other => Err(unknown(other)),
    }
}

/// The body as it comes; its secrets go into their own type at once and are never printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootBody {
    fields: Option<BTreeMap<String, String>>,
    grace: Option<Ttl>,
}

async fn root(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    context.operator()?;
    let body: RootBody = input.json()?;
    let secret = |(name, value)| (name, SecretText::new(value));
    let ask = RotateRootAsk {
        vendor: input.param("name", "vendor")?,
        grace: body.grace,
        fields: body.fields.map(|fields| fields.into_iter().map(secret).collect()),
    };
    let rotation = rotate_root::rotate_root(app, context, ask).await?;
    let status = if rotation.state.is_pending() { 202 } else { 200 };
    Answer::json(status, &rotation)
}

async fn credential(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let rotation = rotate::rotate(app, context, input.text("id"), input.json()?).await?;
    let status = if rotation.state.is_pending() { 202 } else { 200 };
    Answer::json(status, &rotation)
}
