//! What is sold here, as catalogues of x402 resources read it: `/discovery/resources` (x402 version 2, section 8) and
//! `/.well-known/x402`. It is what `/v1/offers` tells of priced offers, in the words of payers who know no dekeys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Error;
use super::{App, demand, offer};
use crate::model::offer::Offer;
use crate::payment::{self, Terms};

/// Most items in one answer.
const MOST: usize = 100;
/// Items in an answer that is not told how many.
const USUAL: usize = 20;

/// Which resources.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ResourcesAsk {
    /// Only of this kind; all here are `http`.
    pub r#type: Option<String>,
    /// Only those that pay this account.
    pub pay_to: Option<String>,
    /// Only this scheme; all here are `exact`.
    pub scheme: Option<String>,
    /// Only this network, CAIP-2.
    pub network: Option<String>,
    /// 1 to 100; 20 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// How many are passed over.
    #[schemars(range(min = 0))]
    pub offset: Option<i64>,
}

/// A page of what is sold.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Always 2.
    pub x402_version: u8,
    /// One for each priced offer.
    pub items: Vec<Resource>,
    /// Where in the whole this is.
    pub pagination: Pagination,
}

/// A resource that is sold.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Where to send the request and its payment.
    pub resource: String,
    /// Always `http`.
    pub r#type: String,
    /// Always 2.
    pub x402_version: u8,
    /// How it can be paid, x402 `PaymentRequirements`.
    pub accepts: Vec<Value>,
    /// When the policy that sells it came into force, RFC 3339.
    pub last_updated: String,
    /// What it is.
    pub description: String,
    /// Of the answer.
    pub mime_type: String,
    /// `bazaar`: the request that buys it, and what comes back.
    pub extensions: Value,
}

/// Where in the whole a page is.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Pagination {
    /// Most items in this answer.
    pub limit: usize,
    /// How many were passed over.
    pub offset: usize,
    /// How many there are.
    pub total: usize,
}

/// What is said of this server at the address where x402 crawlers look.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// The version of this document's form, 1.
    pub version: u8,
    /// Always 2.
    pub x402_version: u8,
    /// Addresses that answer 402.
    pub resources: Vec<String>,
    /// Where the list of what they sell is.
    pub discovery: String,
}

/// Priced offers; none where payments are off.
///
/// # Errors
/// As [`offer::list`]; [`Error::Invalid`].
pub async fn resources(app: &App, ask: &ResourcesAsk) -> Result<Resources, Error> {
    let limit = within("/limit", ask.limit, 1, MOST)?.unwrap_or(USUAL);
    let offset = within("/offset", ask.offset, 0, usize::MAX)?.unwrap_or(0);
    let mut items = Vec::new();
    if let Some((_, terms)) = app.rail.as_ref().filter(|(_, terms)| ask.fits(terms)) {
        for offer in offer::list(app).await? {
            items.extend(resource(app, terms, &offer).await?);
        }
    }
    let total = items.len();
    let items = items.into_iter().skip(offset).take(limit).collect();
    Ok(Resources {
        x402_version: 2,
        items,
        pagination: Pagination { limit, offset, total },
    })
}

/// Where this server sells.
#[must_use]
pub fn directory(app: &App) -> Directory {
    let sells = app.rail.is_some();
    Directory {
        version: 1,
        x402_version: 2,
        resources: sells.then(|| demand::sold_at(app)).into_iter().collect(),
        discovery: format!("{}/discovery/resources", app.public_url),
    }
}

impl ResourcesAsk {
    fn fits(&self, terms: &Terms) -> bool {
        let is = |wanted: Option<&String>, has: &str| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(has));
        is(self.r#type.as_ref(), "http")
            && is(self.scheme.as_ref(), "exact")
            && is(self.network.as_ref(), &terms.network)
            && is(self.pay_to.as_ref(), &terms.pay_to)
    }
}

/// `None` for what is free.
async fn resource(app: &App, terms: &Terms, offer: &Offer) -> Result<Option<Resource>, Error> {
    let Some(price) = offer.price else {
        return Ok(None);
    };
    let since = app.policy_version(&offer.policy, offer.policy_version).await?;
    let Offer { reference, max_ttl, .. } = offer;
    let body = json!({ "reference": reference, "ttl": max_ttl });
    Ok(Some(Resource {
        resource: demand::sold_at(app),
        r#type: "http".to_owned(),
        x402_version: 2,
        accepts: vec![payment::requirements(terms, price)],
        last_updated: since.version.activated.rfc3339(),
        description: format!(
            "{}/{} for at most {max_ttl}, {price} a grant.",
            reference.vendor, reference.scope
        ),
        mime_type: "application/json".to_owned(),
        extensions: json!({ "bazaar": payment::bazaar(&body) }),
    }))
}

fn within(field: &str, given: Option<i64>, least: usize, most: usize) -> Result<Option<usize>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    let read = usize::try_from(given)
        .ok()
        .filter(|number| (least..=most).contains(number));
    read.map(Some)
        .ok_or_else(|| Error::invalid(field, format!("`{given}` is not {least} to {most}")))
}
