//! Ways forward for whoever was refused: what could be had now, what to ask people for, what to pay, when to come back.
//! They stand together in one problem document, so that an agent need not find them out by trying.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::App;
use super::buy::BuyAsk;
use super::caller::Context;
use super::error::Error;
use super::offer;
use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::model::principal::PrincipalKind;
use crate::model::scope::{Name, Reference};
use crate::policy::{self, Ask};

/// Offers shown as narrower ways, at most.
const MOST: usize = 10;

/// One way forward.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Way {
    /// Pay, and send the same request again.
    Pay {
        /// What to do.
        words: String,
        /// The header that carries the payment; its terms are the member `x402`.
        header: String,
    },
    /// Ask people: this request opens an approval.
    Ask {
        /// What to do.
        words: String,
        /// The request, ready to be sent by the same caller.
        request: Draft,
    },
    /// Ask for less: this is on offer.
    Narrow {
        /// What to do.
        words: String,
        /// What could be had.
        reference: Reference,
        /// For how long, at most.
        max_ttl: Ttl,
        /// How many resolves, at most.
        max_resolves: i64,
        /// The price; absent is free.
        price: Option<Money>,
        /// Prims that may receive a key.
        prims: Vec<Name>,
    },
    /// Wait, and send the same request again.
    Wait {
        /// What to do.
        words: String,
        /// Seconds.
        seconds: i64,
    },
}

/// A request that is ready to be sent.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Draft {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The body, JSON.
    pub body: serde_json::Value,
}

/// The ways forward for a refused request for a grant. None of them needs what the caller has not; one that cannot be
/// worked out is left out, never an error of its own.
pub async fn for_grant(app: &App, context: &Context, ask: &BuyAsk, error: &Error) -> Vec<Way> {
    match error {
        Error::PolicyNotApproved(explanation) => {
            let wanted = &explanation.reference;
            let mut ways = narrower(app, wanted).await;
            ways.extend(draft(app, context, ask, wanted).await);
            ways
        }
        Error::PaymentRequired { words, .. } => vec![Way::Pay {
            words: format!("{words} Sign the terms in `x402` and send the same request again."),
            header: crate::payment::PAYMENT_SIGNATURE.to_owned(),
        }],
        _ => Vec::new(),
    }
}

/// What is on offer at the same vendor.
async fn narrower(app: &App, wanted: &Reference) -> Vec<Way> {
    let offers = offer::list(app).await.unwrap_or_default();
    let near = offers
        .into_iter()
        .filter(|offer| offer.reference.vendor == wanted.vendor)
        .take(MOST);
    near.map(|offer| Way::Narrow {
        words: format!("ask for {} within these bounds", offer.reference),
        reference: offer.reference,
        max_ttl: offer.max_ttl,
        max_resolves: offer.max_resolves,
        price: offer.price,
        prims: offer.prims,
    })
    .collect()
}

/// The change of the nearest policy that would allow it, as a proposal of the caller's. Only for those who can propose.
async fn draft(app: &App, context: &Context, ask: &BuyAsk, wanted: &Reference) -> Option<Way> {
    let principal = context.caller.principal()?;
    if !matches!(principal.kind, PrincipalKind::Agent | PrincipalKind::Prim) {
        return None;
    }
    let policies = app.policies().await.ok()?;
    let drafted = policies
        .iter()
        .filter(|in_force| in_force.policy.vendor == wanted.vendor)
        .find_map(|in_force| {
            let grant = &in_force.policy.grant;
            let asked = Ask {
                kind: principal.kind,
                name: Some(&principal.name),
                known: true,
                wallets: &principal.wallets,
                vendor: &wanted.vendor,
                scope: &wanted.scope,
                ttl: ask.ttl.unwrap_or(grant.max_ttl),
                max_resolves: ask.max_resolves.unwrap_or(grant.max_resolves),
                audience: &ask.audience,
            };
            let name = &in_force.policy.name;
            let text = policy::amend(&in_force.version.text, name.as_str(), &asked)?;
            Some((name.clone(), text))
        });
    let (name, text) = drafted?;
    let reason = if ask.reason.is_empty() {
        format!("{} was refused {wanted} and needs it", principal.name)
    } else {
        ask.reason.clone()
    };
    Some(Way::Ask {
        words: format!(
            "send this request, signed as you signed yours: it asks the approvers of `{name}` for the smallest change that \
             allows yours; once they have said yes, send yours again"
        ),
        request: Draft {
            method: "PUT".to_owned(),
            path: format!("/v1/policies/{name}"),
            body: json!({ "text": text, "reason": reason }),
        },
    })
}
