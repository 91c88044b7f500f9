//! Payments as operators see them, and the few that people must decide: what no rail and no chain tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::gather::Gather;
use super::purchase::payment_facts;
use super::reconcile;
use crate::base::id::{GrantId, PurchaseId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::payment::{Purchase, PurchaseState};
use crate::payment::Find;

/// How long after its authorization's end nothing can settle a payment any more, whatever a clock says.
const SURELY_OVER: Ttl = Ttl::from_mins(10);

/// A payment: one authorization, from its claim to its end.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PaymentView {
    /// The id.
    pub id: PurchaseId,
    /// Always `payment`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Where it stands; `settling` is the one whose outcome is not known.
    pub state: PurchaseState,
    /// The grant it pays for.
    pub grant: GrantId,
    /// CAIP-10 account that pays.
    pub payer: String,
    /// The account that is paid.
    pub pay_to: String,
    /// The token's contract.
    pub asset: String,
    /// Atomic units.
    pub amount: String,
    /// The authorization's nonce: what to look for on the chain.
    pub nonce: String,
    /// The settlement's transaction.
    pub transaction: Option<String>,
    /// The last trouble.
    pub trouble: Option<String>,
    /// When it was claimed.
    pub created: Timestamp,
    /// When the authorization ends.
    pub valid_before: Timestamp,
    /// When dekeys looks again.
    pub next_look: Option<Timestamp>,
}

/// Which payments.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentsAsk {
    /// Only those in this state.
    pub state: Option<PurchaseState>,
    /// 1 to 100; 20 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// The id after which to go on.
    pub starting_after: Option<String>,
}

/// What people found out about a payment whose outcome is not known.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveAsk {
    /// What became of it.
    pub outcome: Outcome,
    /// The transaction that moved the money; needed for `settled`.
    pub transaction: Option<String>,
    /// For the record.
    pub reason: Option<String>,
}

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The money moved.
    Settled,
    /// It did not, and never will.
    NotSettled,
}

fn view(app: &App, purchase: Purchase) -> PaymentView {
    PaymentView {
        id: purchase.id,
        object: "payment".to_owned(),
        livemode: app.livemode(),
        state: purchase.state,
        grant: purchase.grant,
        payer: format!("{}:{}", purchase.network, purchase.payer),
        pay_to: purchase.pay_to,
        asset: purchase.asset,
        amount: purchase.amount.to_string(),
        nonce: purchase.nonce,
        transaction: purchase.transaction,
        trouble: purchase.last_error,
        created: purchase.created,
        valid_before: purchase.valid_before,
        next_look: purchase.next_at,
    }
}

/// Payments, newest first. What each moves, to whom and for what is authentic; where it stands is what the database
/// says, and money is believed from the rail alone.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn list(app: &App, context: &Context, ask: PaymentsAsk) -> Result<List<PaymentView>, Error> {
    context.operator()?;
    let page = PageAsk {
        limit: ask.limit,
        starting_after: ask.starting_after,
    };
    let mut found = Gather::page(&page)?;
    while let Some(page) = found.next() {
        let mut tx = app.store.read().await?;
        let rows = tx.purchases(ask.state, &page).await?;
        drop(tx);
        found.read(&page, &rows, |row| row.unverified.id.to_string());
        for stored in rows {
            let shown = app.authentic("payment", stored).await;
            found.add(shown.map(|purchase| view(app, purchase)))?;
        }
    }
    Ok(found.list())
}

/// One payment.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(app: &App, context: &Context, id: PurchaseId) -> Result<PaymentView, Error> {
    context.operator()?;
    let mut tx = app.store.read().await?;
    let stored = tx.purchase(id).await?.ok_or(Error::NotFound("payment"))?;
    drop(tx);
    Ok(view(app, app.authentic("payment", stored).await?))
}

/// An operator says what became of a payment that nobody else tells of. The rail is asked once more, and its word wins.
///
/// # Errors
/// [`Error::Conflict`] when the outcome is known, or when the authorization may still settle and `not_settled` is said.
pub async fn resolve(app: &App, context: &Context, id: PurchaseId, ask: &ResolveAsk) -> Result<PaymentView, Error> {
    context.operator()?;
    let said = said(ask)?;
    let now = app.now();
    let mut tx = app.store.read().await?;
    let stored = tx.purchase(id).await?.ok_or(Error::NotFound("payment"))?;
    let Some((of, _)) = tx.grant(stored.unverified.grant).await? else {
        return Err(Error::internal("a payment without a grant"));
    };
    drop(tx);
    let purchase = app.authentic("payment", stored).await?;
    let grant = app.authentic("grant", of).await?;
    if purchase.state != PurchaseState::Settling {
        let known = format!("its outcome is known: {}", purchase.state.as_str());
        return Err(Error::Conflict(known));
    }
    let over = purchase.valid_before.plus(SURELY_OVER);
    if ask.outcome == Outcome::NotSettled && now < over {
        let words = format!("the authorization may still settle; say so after {}", over.rfc3339());
        return Err(Error::Conflict(words));
    }
    let purchase = record(app, context, purchase, ask).await?;
    let known = match &app.rail {
        Some((rail, _)) => rail.find(&purchase, now).await,
        None => Find::Unknown("payments are off".to_owned()),
    };
    let outcome = match known {
        Find::Unknown(_) => said,
        known => known,
    };
    reconcile::apply(app, purchase, grant, outcome).await?;
    app.announce_work();
    show(app, context, id).await
}

/// What was said is on record, and the payment held: no worker asks the rail while this does.
async fn record(app: &App, context: &Context, mut purchase: Purchase, ask: &ResolveAsk) -> Result<Purchase, Error> {
    let mut facts = payment_facts(&purchase);
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("outcome".to_owned(), json!(ask.outcome));
        facts.insert("reason".to_owned(), json!(ask.reason));
        facts.insert("said_transaction".to_owned(), json!(ask.transaction));
    }
    let event = app.event(context, "payment.resolved", &purchase.id, facts);
    purchase.next_at = Some(app.now().plus(reconcile::LOOK));
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    tx.update_purchase(&purchase).await?;
    let _none = tx.commit(&[event], &[]).await?;
    Ok(purchase)
}

fn said(ask: &ResolveAsk) -> Result<Find, Error> {
    match (ask.outcome, &ask.transaction) {
        (Outcome::NotSettled, None) => Ok(Find::NotSettled),
        (Outcome::NotSettled, Some(_)) => Err(Error::invalid("/transaction", "what did not settle has no transaction")),
        (Outcome::Settled, Some(hash)) if is_hash(hash) => Ok(Find::Settled {
            transaction: hash.clone(),
        }),
        (Outcome::Settled, _) => Err(Error::invalid(
            "/transaction",
            "name the transaction: 0x and 64 hexadecimal digits",
        )),
    }
}

fn is_hash(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
