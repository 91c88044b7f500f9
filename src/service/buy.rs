//! Buying a grant: quote, claim, verify, provision held, settle, deliver (DESIGN 17). Free grants take the same
//! way without the payment.
//!
//! Everything from the claim on runs in a task of its own: a client that hangs up leaves nothing half done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::Instrument as _;

use super::ask::Next;
use super::caller::Context;
use super::demand::Demand;
use super::error::Error;
use super::grant::{self, GrantView, Minted};
use super::offer::{self, Deal};
use super::provision::{self, Saved};
use super::{App, allowance, ask, book, confirm, credit, purchase, receipt, sign_in};
use crate::base::canonical::Digest;
use crate::base::id::{GrantId, PrincipalId};
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::payment::{Purchase, PurchaseState};
use crate::model::principal::PublicKey;
use crate::model::scope::{Name, Reference};
pub use crate::payment::request_digest;
use crate::payment::{Binding, binding, signed_request};
use crate::store::Tx;
use crate::store::nonces::IdempotencyOutcome;

/// How long an idempotency key is remembered.
pub(super) const IDEMPOTENCY_LIFE: Ttl = Ttl::from_mins(7 * 24 * 60);

/// A request for a grant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuyAsk {
    /// What is wanted, when it is one thing.
    pub reference: Option<Reference>,
    /// What is wanted, when it is several: one quote, one settlement, all or nothing.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub references: Vec<Reference>,
    /// For how long; the policy's longest if absent.
    pub ttl: Option<Ttl>,
    /// How many resolves; the policy's most if absent.
    pub max_resolves: Option<i64>,
    /// Prims the tokens are for; any that the policy names if absent.
    #[serde(default)]
    pub audience: Vec<Name>,
    /// Why, for the record and for approvers.
    #[serde(default)]
    pub reason: String,
    /// The key the holder will sign with; who signs this request, if absent.
    pub public_key: Option<PublicKey>,
    /// Asks for tokens without a holder's key although the request is signed: bearer class. Whoever has such a token
    /// can use it: unsigned through the proxy, where a policy says `bearer`, and nowhere else.
    #[serde(default)]
    pub bearer: bool,
}

impl BuyAsk {
    /// The key the grant will name, given who signed the request.
    pub(super) fn holder(&self, signer: Option<PublicKey>) -> Result<Option<PublicKey>, Error> {
        match (self.bearer, self.public_key) {
            (true, Some(_)) => Err(Error::invalid(
                "/bearer",
                "a bearer token names no holder; leave out `public_key`",
            )),
            (true, None) => Ok(None),
            (false, key) => Ok(key.or(signer)),
        }
    }
}

/// The payment headers of a request, as they came.
#[derive(Debug, Clone, Default)]
pub struct Presented {
    /// Values of `PAYMENT-SIGNATURE`.
    pub payment: Vec<String>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Digest of method, path and body.
    pub request: Option<Digest>,
}

impl Presented {
    /// The payment headers' values.
    pub(super) fn headers(&self) -> Vec<&str> {
        self.payment.iter().map(String::as_str).collect()
    }

    pub(super) fn request(&self) -> Digest {
        self.request.unwrap_or_else(|| Digest::of(b""))
    }
}

/// What a purchase gave.
pub struct Bought {
    /// The grant.
    pub grant: GrantView,
    /// Its token; absent when the caller did not prove to be the holder on a repeated request.
    pub token: Option<Minted>,
    /// The `PAYMENT-RESPONSE` header.
    pub payment_response: Option<String>,
    /// Whether this answers a request that had been served before.
    pub replayed: bool,
}

/// Buys a grant, or says what it costs.
///
/// # Errors
/// [`Error::PaymentRequired`] with the quote; [`Error::PolicyNotApproved`]; [`Error::PendingApproval`]; and what
/// can go wrong with payments and vendors.
pub async fn buy(app: &App, context: Context, ask: BuyAsk, presented: Presented) -> Result<Bought, Error> {
    app.opened()?;
    app.refuse_while_reconciling()?;
    app.refuse_wrong_clock()?;
    refuse_while_broken(app)?;
    let references: Vec<Reference> = ask.reference.iter().chain(&ask.references).cloned().collect();
    if presented.payment.is_empty()
        && let Some(bought) = sign_in::bought_before(app, &context, &presented).await?
    {
        return Ok(bought);
    }
    let quote = offer::deal(app, &context, &wanted(&ask, &references, None)).await?;
    let approved = match ask::people(app, &context, &ask, &quote, &presented).await? {
        Next::Answered(bought) => return Ok(*bought),
        Next::Approved(grant) => Some(*grant),
        Next::Unasked => None,
    };
    let quote = match &approved {
        Some(grant) => still(app, &context, grant, None).await?,
        None => quote,
    };
    let Some(price) = quote.price else {
        return free(app, context, ask, quote, &presented).await;
    };
    app.refuse_payments_too_early()?;
    if presented.payment.is_empty() {
        if approved.is_none()
            && let Some(before) = served(app, &context, &presented).await?
        {
            return again(app, &context, before, None).await;
        }
        if let Some(wallet) = credit::covering(app, &context, price).await? {
            return by_credit(app, context, ask, &references, &presented, approved, (wallet, price)).await;
        }
    }
    let demand = Demand::new(app, &quote, price, &presented, approved.as_ref().map(|grant| grant.id))?;
    let offered = demand.read(&presented)?;
    let wallet = format!("{}:{}", offered.network, offered.payer);
    let bound = binding(
        &offered.nonce,
        signed_request(presented.request(), context.key, ask.public_key),
    );
    if bound == Binding::Elsewhere {
        return Err(Error::PaymentConflict);
    }
    let mut order = match with_wallet(app, &context, ask, &references, wallet, &presented, approved).await? {
        Ok(order) => order,
        Err(bought) => return Ok(bought),
    };
    order.bound = bound == Binding::Here;
    if order.deal.price != Some(price) {
        return Err(Error::PaymentConflict);
    }
    let (app, failed) = (app.clone(), Box::new(demand.required(None)));
    let task =
        tokio::spawn(async move { purchase::paid(&app, &context, order, offered, failed).await }.in_current_span());
    task.await.map_err(Error::internal)?
}

fn wanted<'a>(ask: &'a BuyAsk, references: &'a [Reference], wallet: Option<&'a str>) -> offer::Wanted<'a> {
    offer::Wanted {
        references,
        ttl: ask.ttl,
        max_resolves: ask.max_resolves,
        audience: &ask.audience,
        wallet,
    }
}

/// The deal for the wallet that pays. Another policy may let it in than was quoted, and that may ask people; then the
/// answer may be there already.
async fn with_wallet(
    app: &App,
    context: &Context,
    ask: BuyAsk,
    references: &[Reference],
    wallet: String,
    presented: &Presented,
    mut approved: Option<Grant>,
) -> Result<Result<Order, Bought>, Error> {
    let deal = if let Some(grant) = &approved {
        still(app, context, grant, Some(&wallet)).await?
    } else {
        let deal = offer::deal(app, context, &wanted(&ask, references, Some(&wallet))).await?;
        match ask::people(app, context, &ask, &deal, presented).await? {
            Next::Answered(bought) => return Ok(Err(*bought)),
            Next::Unasked => deal,
            Next::Approved(grant) => {
                let deal = still(app, context, &grant, Some(&wallet)).await?;
                approved = Some(*grant);
                deal
            }
        }
    };
    Ok(Ok(Order {
        deal,
        approved,
        ask,
        wallet: Some(wallet),
        bound: false,
        request: presented.request(),
        idempotency_key: presented.idempotency_key.clone(),
    }))
}

/// The grant that credit paid for when the same idempotency key came before.
async fn served(app: &App, context: &Context, presented: &Presented) -> Result<Option<GrantId>, Error> {
    let (Some(key), Some(principal)) = (&presented.idempotency_key, context.caller.principal()) else {
        return Ok(None);
    };
    let mut tx = app.store.read().await?;
    match tx.idempotency(&principal.id.to_string(), key).await? {
        Some((before, grant)) if before == presented.request() => Ok(Some(grant)),
        Some(_) => Err(Error::IdempotencyMismatch),
        None => Ok(None),
    }
}

/// Buys with what the caller's own wallet is owed.
async fn by_credit(
    app: &App,
    context: Context,
    ask: BuyAsk,
    references: &[Reference],
    presented: &Presented,
    approved: Option<Grant>,
    (wallet, price): (String, Money),
) -> Result<Bought, Error> {
    let order = match with_wallet(app, &context, ask, references, wallet, presented, approved).await? {
        Ok(order) => order,
        Err(bought) => return Ok(bought),
    };
    if order.deal.price != Some(price) {
        return Err(Error::PaymentConflict);
    }
    let app = app.clone();
    let task = tokio::spawn(async move { credit::spend(&app, &context, order, price).await }.in_current_span());
    task.await.map_err(Error::internal)?
}

/// The deal that people approved, if it still holds. If not, their yes is void.
async fn still(app: &App, context: &Context, grant: &Grant, wallet: Option<&str>) -> Result<Deal, Error> {
    if let Some(deal) = offer::approved(app, context, grant, wallet).await? {
        return Ok(deal);
    }
    ask::void(app, grant.clone()).await?;
    Err(Error::Conflict(
        "a policy changed since people approved this; send the request again, and they are asked anew".to_owned(),
    ))
}

/// A request that was priced.
pub(super) struct Order {
    pub(super) deal: Deal,
    /// The grant that people approved and that this pays for.
    pub(super) approved: Option<Grant>,
    pub(super) ask: BuyAsk,
    pub(super) wallet: Option<String>,
    /// The wallet signed for this very request and signer; else its payment is like cash, and proves nobody.
    pub(super) bound: bool,
    pub(super) request: Digest,
    pub(super) idempotency_key: Option<String>,
}

fn refuse_while_broken(app: &App) -> Result<(), Error> {
    if app.log_is_broken() {
        Err(Error::LogBroken)
    } else {
        Ok(())
    }
}

pub(super) fn new_grant(
    app: &App,
    order: &Order,
    principal: PrincipalId,
    holder: Option<PublicKey>,
    state: GrantState,
) -> Grant {
    let now = app.now();
    Grant {
        id: GrantId::new(now, app.random.as_ref()),
        principal,
        holder,
        payer: order.wallet.clone(),
        items: order.deal.items.clone(),
        audience: order.ask.audience.clone(),
        max_resolves: order.deal.max_resolves,
        state,
        created: now,
        expires: now.plus(order.deal.ttl),
        reason: order.ask.reason.chars().take(500).collect(),
        asked: None,
    }
}

async fn free(app: &App, context: Context, ask: BuyAsk, deal: Deal, presented: &Presented) -> Result<Bought, Error> {
    let order = Order {
        deal,
        approved: None,
        ask,
        wallet: None,
        bound: false,
        request: presented.request(),
        idempotency_key: presented.idempotency_key.clone(),
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let (grant, created) = purchase::begin(app, &mut tx, &context, &order).await?;
    if let Some(before) = remembered(app, &mut tx, &order, &grant).await? {
        drop(tx);
        return again(app, &context, before, None).await;
    }
    allowance::take(app, &mut tx, &order.deal, &grant).await?;
    tx.insert_grant(&app.stored(grant.clone())?).await?;
    let mut events: Vec<Event> = created.into_iter().collect();
    events.push(app.event(&context, "grant.requested", &grant.id, grant_facts(&grant)));
    let app = app.clone();
    let work = async move {
        let made = provision_all(&app, tx, events, &grant, &order.deal.lives).await?;
        finish(&app, &context, grant, made, None).await
    };
    tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
}

/// The grant that the same idempotency key stands for already; if none, it stands for this one from now on.
pub(super) async fn remembered(app: &App, tx: &mut Tx, order: &Order, grant: &Grant) -> Result<Option<GrantId>, Error> {
    let Some(key) = &order.idempotency_key else {
        return Ok(None);
    };
    let (scope, until) = (grant.principal.to_string(), app.now().plus(IDEMPOTENCY_LIFE));
    match tx
        .remember_idempotency(&scope, key, order.request, grant.id, until)
        .await?
    {
        IdempotencyOutcome::New => Ok(None),
        IdempotencyOutcome::Same(id) => Ok(Some(id)),
        IdempotencyOutcome::Other => Err(Error::IdempotencyMismatch),
    }
}

/// Provisions a grant that people have approved.
///
/// # Errors
/// As [`buy`].
pub(super) async fn provision_approved(
    app: &App,
    context: &Context,
    tx: Tx,
    events: Vec<Event>,
    mut grant: Grant,
) -> Result<(), Error> {
    let lives = lives(app, &grant).await?;
    grant.state = GrantState::Provisioning;
    let made = provision_all(app, tx, events, &grant, &lives).await?;
    finish(app, context, grant, made, None).await.map(drop)
}

/// How long a key made for each item of a grant lives, by the policies it was granted under.
pub(super) async fn lives(app: &App, grant: &Grant) -> Result<Vec<Ttl>, Error> {
    let mut lives = Vec::with_capacity(grant.items.len());
    for item in &grant.items {
        let in_force = app.policy_version(&item.policy, item.policy_version).await?;
        let policy = &in_force.policy;
        lives.push(
            policy
                .reveal
                .as_ref()
                .map_or(policy.grant.max_ttl, |reveal| reveal.max_lease),
        );
    }
    Ok(lives)
}

pub(super) type Made = Vec<(crate::model::credential::Credential, crate::vendor::Created)>;

/// Commits the intents together with the caller's changes, then asks each vendor. All or nothing.
pub(super) async fn provision_all(
    app: &App,
    tx: Tx,
    events: Vec<Event>,
    grant: &Grant,
    lives: &[Ttl],
) -> Result<Made, Error> {
    let intents = match provision::intents(app, grant, lives).await {
        Ok(intents) => intents,
        Err(error) => {
            drop(tx);
            return Err(error);
        }
    };
    let proofs = provision::commit_intents(app, tx, events, &intents).await?;
    let mut made: Made = Vec::with_capacity(intents.len());
    for ((credential, connected), proof) in intents.iter().zip(proofs) {
        match provision::make(app, credential, connected, proof).await {
            Ok(created) => made.push((credential.clone(), created)),
            Err(error) => {
                give_up(app, grant, made, &intents).await?;
                return Err(error);
            }
        }
    }
    Ok(made)
}

/// Ends what was made of a grant that cannot be whole, and looks for what may have been made.
async fn give_up(
    app: &App,
    grant: &Grant,
    made: Made,
    intents: &[(
        crate::model::credential::Credential,
        std::sync::Arc<super::control::Connected>,
    )],
) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let mut events = Vec::new();
    for (credential, created) in made {
        let (Saved::Active(_, event) | Saved::Late(event)) =
            provision::save(app, &mut tx, &credential, created).await?;
        events.push(event);
    }
    let now = app.now();
    for (credential, _) in intents {
        events.extend(provision::abandon(app, &mut tx, credential.id, now).await?);
    }
    events.extend(purchase::fail_grant(app, &mut tx, grant).await?);
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    Ok(())
}

/// The last commit: keys on record, the purchase settled, the grant in force, its receipt promised.
pub(super) async fn finish(
    app: &App,
    context: &Context,
    mut grant: Grant,
    made: Made,
    settled: Option<(Purchase, String)>,
) -> Result<Bought, Error> {
    grant.state = GrantState::Active;
    let mut tx = app.store.begin().await?;
    let mut events = Vec::with_capacity(made.len().saturating_add(2));
    for (credential, created) in made {
        match provision::save(app, &mut tx, &credential, created).await? {
            Saved::Active(_, event) => events.push(event),
            Saved::Late(event) => {
                let _none = tx.commit(&[event], &[]).await?;
                return Err(Error::Conflict(
                    "the purchase took too long and was given up".to_owned(),
                ));
            }
        }
    }
    let receipt = activate(app, context, &mut tx, &grant, settled.as_ref()).await?;
    events.extend(receipt);
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(grant.id);
    let token = grant::mint(app, &grant)?;
    let view = grant::view(app, &grant, 0).await?;
    let payment_response =
        settled.map(|(purchase, transaction)| purchase::settled_response(app, &purchase, &transaction));
    Ok(Bought {
        grant: view,
        token: Some(token),
        payment_response,
        replayed: false,
    })
}

/// The grant in force, in the caller's transaction; answers the events. There are none when the buyer's task and the
/// reconciler both found the settlement and this is the second.
pub(super) async fn activate(
    app: &App,
    context: &Context,
    tx: &mut Tx,
    grant: &Grant,
    settled: Option<&(Purchase, String)>,
) -> Result<Vec<Event>, Error> {
    let mut facts = grant_facts(grant);
    if let (Some((purchase, transaction)), Some(fields)) = (settled, facts.as_object_mut()) {
        let mut purchase = purchase.clone();
        // The reconciler and the buyer's own task may both find the settlement; the first one tells of it.
        let state = tx.purchase(purchase.id).await?.map(|row| row.unverified.state);
        if state == Some(PurchaseState::Settled) {
            return Ok(Vec::new());
        }
        purchase.state = PurchaseState::Settled;
        purchase.transaction = Some(transaction.clone());
        purchase.next_at = confirm::at(app, &purchase);
        tx.update_purchase(&purchase).await?;
        book::delivered(app, tx, &purchase, state.unwrap_or(PurchaseState::Settling)).await?;
        // What the receipt shows, beside the whole payment.
        let paid = Money::new(purchase.amount, Currency::Usdc);
        fields.insert("paid".to_owned(), json!(paid));
        fields.insert("transaction".to_owned(), json!(transaction));
        fields.insert("payment".to_owned(), purchase::payment_facts(&purchase));
    }
    tx.update_grant(&app.stored(grant.clone())?).await?;
    let event = app.event(context, "grant.created", &grant.id, facts);
    receipt::promise(app, tx, grant.id, &event).await?;
    Ok(vec![event])
}

/// A repeated request: the grant for anybody who could send it, the token only for its proved holder, since a settled
/// payment header is public.
pub(super) async fn again(
    app: &App,
    context: &Context,
    id: GrantId,
    payment_response: Option<String>,
) -> Result<Bought, Error> {
    let mut tx = app.store.read().await?;
    let (stored, resolves) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    match grant.state {
        GrantState::PendingApproval => return Err(ask::pending(&grant)?),
        GrantState::Provisioning => return Err(Error::PurchaseUnderWay),
        GrantState::PaymentUnknown => return Err(Error::PaymentUnknown(grant.id)),
        GrantState::Failed => {
            return Err(Error::Conflict(format!(
                "{} came to nothing, and nothing was charged for it; ask again with another Idempotency-Key",
                grant.id
            )));
        }
        _ => {}
    }
    let proved = grant::held_by(context, &grant)
        && grant.state == GrantState::Active
        && grant.expires.as_secs() > app.now().as_secs();
    let token = if proved {
        grant::claim(app, context).await?;
        Some(grant::mint(app, &grant)?)
    } else {
        None
    };
    Ok(Bought {
        grant: grant::view(app, &grant, resolves).await?,
        token,
        payment_response,
        replayed: true,
    })
}

/// What events tell of a grant.
pub(super) fn grant_facts(grant: &Grant) -> serde_json::Value {
    json!({
        "grant": grant.id,
        "principal": grant.principal,
        "holder": grant.holder,
        "payer": grant.payer,
        "items": grant.items,
        "audience": grant.audience,
        "max_resolves": grant.max_resolves,
        "expires": grant.expires,
    })
}
