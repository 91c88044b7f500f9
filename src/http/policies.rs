//! Policies and approvals.

use serde::Deserialize;

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use crate::model::approval::ApprovalState;
use crate::model::scope::Name;
use crate::service::App;
use crate::service::caller::Context;
use crate::service::enroll::PageAsk;
use crate::service::error::Error;
use crate::service::propose::{ExplainAsk, ProposeAsk};
use crate::service::{approve, propose};

pub(super) async fn list(app: &App, context: &Context) -> Result<Answer, Refused> {
    Answer::json(200, &propose::list(app, context).await?)
}

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listPolicies" => list(app, context).await,
        "showPolicy" => show(app, context, input).await,
        "proposePolicy" => propose(app, context, input).await,
        "validatePolicy" => validate(app, context, input).await,
        "explainPolicy" => explain(app, context, input).await,
        "listApprovals" => approvals(app, context, input).await,
        "showApproval" => approval(app, context, input).await,
        "reviewApproval" => review(app, context, input).await,
        "cancelApproval" => cancel(app, context, input).await,
        other => Err(unknown(other)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    version: Option<i64>,
}

pub(super) async fn show(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let which: Which = input.query(&["version"])?;
    let name: Name = input.param("name", "policy")?;
    Answer::json(200, &propose::show(app, context, &name, which.version).await?)
}

/// Proposes; the file's own name must be the one in the path.
pub(super) async fn propose(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: ProposeAsk = input.json()?;
    let name: Name = input.param("name", "policy")?;
    if let Ok(policy) = propose::name_of(&ask.text)
        && policy != name
    {
        return Err(Error::invalid("/text", format!("the file is named `{policy}`, the path says `{name}`")).into());
    }
    let proposal = propose::propose(app, context, &ask).await?;
    let location = proposal
        .approval
        .map(|id| format!("/v1/approvals/{id}"))
        .unwrap_or_default();
    Ok(Answer::json(202, &proposal)?.with("location", location))
}

pub(super) async fn validate(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: ProposeAsk = input.json()?;
    Answer::json(200, &propose::validate(app, context, &ask).await?)
}

pub(super) async fn explain(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: ExplainAsk = input.json()?;
    Answer::json(200, &propose::explain(app, context, &ask).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    state: Option<ApprovalState>,
    limit: Option<i64>,
    starting_after: Option<String>,
}

pub(super) async fn approvals(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let wanted: Wanted = input.query(&["state", "limit", "starting_after"])?;
    let page = PageAsk {
        limit: wanted.limit,
        starting_after: wanted.starting_after,
    };
    Answer::json(200, &approve::list(app, context, wanted.state, &page).await?)
}

pub(super) async fn approval(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &approve::show(app, context, input.param("id", "approval")?).await?)
}

pub(super) async fn review(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(
        201,
        &approve::review(app, context, input.param("id", "approval")?, &input.json()?).await?,
    )
}

pub(super) async fn cancel(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(
        200,
        &approve::cancel(app, context, input.param("id", "approval")?).await?,
    )
}
