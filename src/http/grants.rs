//! Offers, grants, leases, credentials.

use super::answer::{Answer, Refused, unknown};
use super::input::Input;
use super::resolve;
use crate::model::offer::Offer;
use crate::service::App;
use crate::service::buy::{self, BuyAsk, Presented, request_digest};
use crate::service::caller::Context;
use crate::service::enroll::{List, PageAsk};
use crate::service::error::Error;
use crate::service::orphan::{self, DecideAsk, OrphansAsk};
use crate::service::{credential, discovery, grant, lease, offer, report, revoke_leases, ways};

/// Hands an operation of this part to its verb.
pub async fn answer(app: &App, operation: &str, context: &Context, input: &Input) -> Result<Answer, Refused> {
    match operation {
        "listOffers" => offers(app).await,
        "listResources" => resources(app, input).await,
        "x402Directory" => Answer::json(200, &discovery::directory(app)),
        "createGrant" => create(app, context, input).await,
        "listGrants" => list(app, context, input).await,
        "showGrant" => show(app, context, input).await,
        "freshToken" => fresh_token(app, context, input).await,
        "renewGrant" => renew(app, context, input).await,
        "revokeGrant" => revoke(app, context, input).await,
        "resolve" => resolve::resolve(app, context, input).await,
        "listLeases" => leases(app, context, input).await,
        "showLease" => lease(app, context, input).await,
        "revokeLease" => revoke_lease(app, context, input).await,
        "revokeLeases" => revoke_leases(app, context, input).await,
        "listOrphans" => orphans(app, context, input).await,
        "decideOrphan" => decide(app, context, input).await,
        "reportLease" => report(app, context, input).await,
        "listCredentials" => credentials(app, context, input).await,
        "showCredential" => credential(app, context, input).await,
        other => Err(unknown(other)),
    }
}

const PAGE: &[&str] = &["limit", "starting_after"];

async fn resources(app: &App, input: &Input) -> Result<Answer, Refused> {
    let ask = input.query(&["type", "payTo", "scheme", "network", "limit", "offset"])?;
    Answer::json(200, &discovery::resources(app, &ask).await?)
}

pub(super) async fn offers(app: &App) -> Result<Answer, Refused> {
    let data: Vec<Offer> = offer::list(app).await?;
    Answer::json(200, &List::whole(data))
}

/// Buys. A payment and an idempotency key are read from their headers; one that comes twice is refused.
pub(super) async fn create(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: BuyAsk = input.json()?;
    let presented = Presented {
        payment: once(input, "payment-signature")?.into_iter().collect(),
        idempotency_key: once(input, "idempotency-key")?,
        request: Some(request_digest("POST", input.path(), input.body())),
    };
    if presented
        .idempotency_key
        .as_ref()
        .is_some_and(|key| key.is_empty() || key.len() > 255)
    {
        return Err(Error::invalid("/Idempotency-Key", "an idempotency key has 1 to 255 characters").into());
    }
    let bought = match buy::buy(app, context.clone(), ask.clone(), presented).await {
        Ok(bought) => bought,
        Err(error) => {
            let ways = ways::for_grant(app, context, &ask, &error).await;
            return Err(Refused::from(error).with_ways(&ways));
        }
    };
    let status = if bought.replayed { 200 } else { 201 };
    let mut answer = resolve::grant(app, status, &bought.grant, bought.token.as_ref())?;
    if let Some(response) = bought.payment_response {
        answer = answer.with("payment-response", response);
    }
    Ok(answer.with("location", format!("/v1/grants/{}", bought.grant.id)))
}

fn once(input: &Input, name: &str) -> Result<Option<String>, Error> {
    let mut values = input.header(name);
    if values.len() > 1 {
        return Err(Error::invalid(
            &format!("/{name}"),
            format!("the header `{name}` came more than once"),
        ));
    }
    Ok(values.pop())
}

pub(super) async fn list(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let page: PageAsk = input.query(PAGE)?;
    Answer::json(200, &grant::list(app, context, &page).await?)
}

pub(super) async fn show(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &grant::show(app, context, input.param("id", "grant")?).await?)
}

pub(super) async fn fresh_token(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let (view, minted) = grant::fresh_token(app, context, input.param("id", "grant")?).await?;
    resolve::grant(app, 201, &view, Some(&minted))
}

pub(super) async fn renew(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(
        200,
        &grant::renew(app, context, input.param("id", "grant")?, &input.json()?).await?,
    )
}

pub(super) async fn revoke(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ended = grant::revoke(app, context, input.param("id", "grant")?, &input.json()?).await?;
    Answer::json(200, &ended)
}

pub(super) async fn leases(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let page: PageAsk = input.query(PAGE)?;
    Answer::json(200, &lease::list(app, context, &page).await?)
}

pub(super) async fn lease(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &lease::show(app, context, input.param("id", "lease")?).await?)
}

pub(super) async fn revoke_lease(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ended = lease::revoke(app, context, input.param("id", "lease")?, &input.json()?).await?;
    Answer::json(200, &ended)
}

pub(super) async fn revoke_leases(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(200, &revoke_leases::revoke(app, context, &input.json()?).await?)
}

pub(super) async fn orphans(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: OrphansAsk = input.query(&["limit", "starting_after", "vendor", "state"])?;
    Answer::json(200, &orphan::list(app, context, &ask).await?)
}

pub(super) async fn decide(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let ask: DecideAsk = input.json()?;
    let decided = orphan::decide(app, context, input.param("id", "orphan")?, &ask).await?;
    Answer::json(200, &decided)
}

pub(super) async fn report(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let reported = report::report(app, context, input.param("id", "lease")?, input.json()?).await?;
    Answer::json(200, &reported)
}

pub(super) async fn credentials(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    let page: PageAsk = input.query(PAGE)?;
    Answer::json(200, &credential::list(app, context, &page).await?)
}

pub(super) async fn credential(app: &App, context: &Context, input: &Input) -> Result<Answer, Refused> {
    Answer::json(
        200,
        &credential::show(app, context, input.param("id", "credential")?).await?,
    )
}
