//! Vendors: seen, connected, tested.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::base::secret::SecretText;
use crate::model::scope::Name;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::connect::{self, ConnectAsk};
use crate::service::error::Error;

pub(super) async fn list(app: &App, context: &Context) -> Result<Answer, Refused> {
    context.caller.principal().ok_or(Error::SignatureRequired)?;
    Answer::json(200, &connect::list(app).await?)
}

pub(super) async fn show(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    context.caller.principal().ok_or(Error::SignatureRequired)?;
    let name: Name = input.param("name", "vendor")?;
    Answer::json(200, &connect::look(app, context, &name).await?)
}

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listVendors" => list(app, context).await,
        "showVendor" => show(app, context, input).await,
        "connectVendor" => connect(app, context, input).await,
        "testVendor" => test(app, context, input).await,
        other => Err(unknown(other)),
    }
}

/// The body as it comes; its secrets go into their own type at once and are never printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    fields: BTreeMap<String, String>,
    #[serde(default)]
    params: BTreeMap<String, String>,
    manifest: Option<String>,
    base_url: Option<String>,
}

pub(super) async fn connect(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    context.operator()?;
    let body: Body = input.json()?;
    let ask = ConnectAsk {
        vendor: input.param("name", "vendor")?,
        manifest: body.manifest,
        base_url: body.base_url,
        params: body.params.into_iter().collect(),
        fields: body
            .fields
            .into_iter()
            .map(|(name, value)| (name, SecretText::new(value)))
            .collect(),
    };
    Answer::json(200, &connect::connect(app, context, ask).await?)
}

pub(super) async fn test(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let name: Name = input.param("name", "vendor")?;
    Answer::json(200, &connect::test(app, context, &name).await?)
}
