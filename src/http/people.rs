//! Principals: enrolled, seen, shut out.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::enroll::{self, EnrollAsk, PageAsk};
use crate::service::grant::EndAsk;

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listPrincipals" => list(app, context, input).await,
        "createPrincipal" => create(app, context, input).await,
        "showPrincipal" => show(app, context, input).await,
        "disablePrincipal" => disable(app, context, input).await,
        other => Err(unknown(other)),
    }
}

pub(super) fn whoami(app: &App, context: &Context) -> Result<Answer, Refused> {
    Answer::json(200, &enroll::whoami(app, context)?)
}

pub(super) async fn list(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let page: PageAsk = input.query(&["limit", "starting_after"])?;
    Answer::json(200, &enroll::list(app, context, &page).await?)
}

pub(super) async fn create(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: EnrollAsk = input.json()?;
    Answer::json(201, &enroll::enroll(app, context, ask).await?)
}

pub(super) async fn show(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &enroll::show(app, context, input.param("id", "principal")?).await?)
}

pub(super) async fn disable(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: EndAsk = input.json()?;
    Answer::json(
        200,
        &enroll::disable(app, context, input.param("id", "principal")?, ask.reason.as_deref()).await?,
    )
}
