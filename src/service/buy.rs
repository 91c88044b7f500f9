//! Buying a grant: quote, claim, verify, provision held, settle, deliver (DESIGN 17). Free grants take the same
//! way without the payment.
//!
//! Everything from the claim on runs in a task of its own: a client that hangs up leaves nothing half done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::caller::{Caller, Context};
use super::error::Error;
use super::grant::{self, GrantView, Minted};
use super::offer::{self, Deal, Wanted};
use super::provision::{self, Saved};
use super::{App, approve, receipt};
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{GrantId, PrincipalId, PurchaseId};
use crate::base::money::{Currency, Money};
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::Stored;
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::payment::{Purchase, PurchaseState};
use crate::model::policy::GrantApproval;
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::model::scope::{Name, Reference};
use crate::payment::{self, Offered, PaymentError, Resource, Settle, Verify};
use crate::store::Tx;
use crate::store::nonces::IdempotencyOutcome;
use crate::store::purchases::Claim;

/// How long a settlement may be unclear before the reconciler looks.
const RECONCILE_AFTER: Ttl = Ttl::from_secs(1);

const DAY: Ttl = Ttl::from_mins(24 * 60);

/// How long an idempotency key is remembered.
const IDEMPOTENCY_LIFE: Ttl = Ttl::from_mins(7 * 24 * 60);

/// A request for a grant.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuyAsk {
    /// What is wanted, when it is one thing.
    pub reference: Option<Reference>,
    /// What is wanted, when it is several: one quote, one settlement, all or nothing.
    #[serde(default)]
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
    /// The key the holder will sign with. Without one the tokens are bearer class.
    pub public_key: Option<PublicKey>,
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

/// The digest that binds a payment to what it pays for.
#[must_use]
pub fn request_digest(method: &str, path: &str, body: &[u8]) -> Digest {
    Canonical::new("dekeys.purchase.v1")
        .text(method)
        .text(path)
        .bytes(body)
        .digest()
}

/// Buys a grant, or says what it costs.
///
/// # Errors
/// [`Error::PaymentRequired`] with the quote; [`Error::PolicyNotApproved`]; [`Error::PendingApproval`]; and what
/// can go wrong with payments and vendors.
pub async fn buy(app: &App, context: Context, ask: BuyAsk, presented: Presented) -> Result<Bought, Error> {
    app.opened()?;
    refuse_while_broken(app)?;
    let references: Vec<Reference> = ask.reference.iter().chain(&ask.references).cloned().collect();
    let mut wanted = Wanted {
        references: &references,
        ttl: ask.ttl,
        max_resolves: ask.max_resolves,
        audience: &ask.audience,
        wallet: None,
    };
    let quote = offer::deal(app, &context, &wanted).await?;
    let Some(price) = quote.price else {
        return free(app, context, ask, quote, &presented).await;
    };
    let (_, terms) = app
        .rail
        .as_ref()
        .ok_or_else(|| Error::Conflict("this instance takes no payments".to_owned()))?;
    let words = words(&quote, price, &terms.network);
    let required = |error: Option<&str>| {
        let resource = Resource {
            url: format!("{}/v1/grants", app.public_url),
            description: words.clone(),
        };
        Box::new(payment::required(terms, price, &resource, error))
    };
    if presented.payment.is_empty() {
        return Err(Error::PaymentRequired {
            required: required(None),
            words,
        });
    }
    let headers: Vec<&str> = presented.payment.iter().map(String::as_str).collect();
    let offered = payment::read(&headers, terms, price, app.now()).map_err(|error| match error {
        broken if broken.is_malformed() => Error::invalid("/payment-signature", broken),
        other => Error::PaymentInvalid {
            reason: other.to_string(),
            required: required(Some(other.reason())),
            response: None,
        },
    })?;
    let wallet = format!("{}:{}", offered.network, offered.payer);
    wanted.wallet = Some(&wallet);
    let deal = offer::deal(app, &context, &wanted).await?;
    let order = Order {
        deal,
        ask,
        wallet: Some(wallet),
        request: presented.request.unwrap_or_else(|| Digest::of(b"")),
    };
    let (app, failed) = (app.clone(), required(None));
    let task = tokio::spawn(async move { paid(&app, &context, order, offered, failed).await });
    task.await.map_err(Error::internal)?
}

struct Order {
    deal: Deal,
    ask: BuyAsk,
    wallet: Option<String>,
    request: Digest,
}

fn refuse_while_broken(app: &App) -> Result<(), Error> {
    if app.log_is_broken() {
        Err(Error::LogBroken)
    } else {
        Ok(())
    }
}

fn words(deal: &Deal, price: Money, network: &str) -> String {
    let what: Vec<String> = deal
        .items
        .iter()
        .flat_map(|item| item.scopes.iter().map(|scope| format!("{}/{scope}", item.vendor)))
        .collect();
    format!("{} for {} costs {price} on {network}.", what.join(", "), deal.ttl)
}

/// Whom the grant will belong to: who signed, or who pays, known or not.
async fn owner(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    wallet: Option<&str>,
) -> Result<(PrincipalId, Option<Event>), Error> {
    if let Caller::Principal(principal) = &context.caller {
        return Ok((principal.id, None));
    }
    let found = match (wallet, context.key) {
        (Some(wallet), _) => tx.principal_by_wallet(wallet).await?,
        (None, Some(key)) => tx.principal_by_key(&key).await?,
        (None, None) => return Err(Error::SignatureRequired),
    };
    if let Some(stored) = found {
        let principal = app.vault.authenticate(stored).map_err(|_| Error::Forged("principal"))?;
        return if principal.disabled {
            Err(Error::Unauthenticated)
        } else {
            Ok((principal.id, None))
        };
    }
    let principal = stranger(app, wallet, context.key)?;
    tx.insert_principal(&app.stored(principal.clone())?).await?;
    let data =
        json!({ "name": principal.name, "kind": "agent", "wallets": principal.wallets, "public_keys": principal.keys });
    let event = app.event(context, "principal.created", &principal.id, data);
    Ok((principal.id, Some(event)))
}

fn stranger(app: &App, wallet: Option<&str>, key: Option<PublicKey>) -> Result<Principal, Error> {
    let now = app.now();
    let identity = wallet.map_or_else(|| key.map(|key| key.to_string()).unwrap_or_default(), str::to_owned);
    let digest = Digest::of(identity.as_bytes()).to_string();
    let name = format!("agent-{}", digest.get(3..19).unwrap_or_default());
    Ok(Principal {
        id: PrincipalId::new(now, app.random.as_ref()),
        name: name.parse().map_err(Error::internal)?,
        kind: PrincipalKind::Agent,
        // A key that signed nothing here proves nothing: only what was proved is kept.
        keys: key.into_iter().collect(),
        wallets: wallet.map(str::to_owned).into_iter().collect(),
        approver: false,
        disabled: false,
        created: now,
    })
}

fn new_grant(app: &App, order: &Order, principal: PrincipalId, holder: Option<PublicKey>, state: GrantState) -> Grant {
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
    }
}

// ---- without payment ----

async fn free(app: &App, context: Context, ask: BuyAsk, deal: Deal, presented: &Presented) -> Result<Bought, Error> {
    let order = Order {
        deal,
        ask,
        wallet: None,
        request: presented.request.unwrap_or_else(|| Digest::of(b"")),
    };
    let holder = order.ask.public_key.or(context.key);
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let (principal, created) = owner(app, &mut tx, &context, None).await?;
    let asks = match order.deal.approval {
        GrantApproval::Always => true,
        GrantApproval::None => false,
        GrantApproval::First => {
            let mut before = true;
            for item in &order.deal.items {
                before = before && tx.granted_before(principal, &item.policy).await?;
            }
            !before
        }
    };
    let state = if asks {
        GrantState::PendingApproval
    } else {
        GrantState::Provisioning
    };
    let grant = new_grant(app, &order, principal, holder, state);
    if let Some(key) = &presented.idempotency_key {
        let scope = principal.to_string();
        match tx
            .remember_idempotency(&scope, key, order.request, grant.id, app.now().plus(IDEMPOTENCY_LIFE))
            .await?
        {
            IdempotencyOutcome::New => {}
            IdempotencyOutcome::Other => return Err(Error::IdempotencyMismatch),
            IdempotencyOutcome::Same(id) => {
                drop(tx);
                return again(app, &context, id, None).await;
            }
        }
    }
    tx.insert_grant(&app.stored(grant.clone())?).await?;
    let mut events: Vec<Event> = created.into_iter().collect();
    if asks {
        return approve::ask_for_grant(app, &context, tx, events, &grant).await;
    }
    events.push(app.event(&context, "grant.requested", &grant.id, grant_facts(&grant)));
    let app = app.clone();
    let task = tokio::spawn(async move {
        let made = provision_all(&app, tx, events, &grant, &order.deal.lives).await?;
        finish(&app, &context, grant, made, None).await
    });
    task.await.map_err(Error::internal)?
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
    let mut lives = Vec::with_capacity(grant.items.len());
    for item in &grant.items {
        let in_force = app.policy_version(&item.policy, item.policy_version).await?;
        lives.push(
            in_force
                .policy
                .reveal
                .map_or(in_force.policy.grant.max_ttl, |reveal| reveal.max_lease),
        );
    }
    grant.state = GrantState::Provisioning;
    let made = provision_all(app, tx, events, &grant, &lives).await?;
    finish(app, context, grant, made, None).await.map(drop)
}

// ---- provisioning ----

type Made = Vec<(crate::model::credential::Credential, crate::vendor::Created)>;

/// Commits the intents together with the caller's changes, then asks each vendor. All or nothing.
async fn provision_all(app: &App, tx: Tx, events: Vec<Event>, grant: &Grant, lives: &[Ttl]) -> Result<Made, Error> {
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
    let mut failed = grant.clone();
    failed.state = GrantState::Failed;
    tx.update_grant(&app.stored(failed)?).await?;
    events.push(app.own_event("grant.failed", &grant.id, json!({ "grant": grant.id })));
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    Ok(())
}

/// The last commit: keys on record, the purchase settled, the grant in force, its receipt promised.
async fn finish(
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
    let payment_response = settled.map(|(purchase, transaction)| settled_response(&purchase, &transaction));
    Ok(Bought {
        grant: view,
        token: Some(token),
        payment_response,
        replayed: false,
    })
}

/// The grant in force, in the caller's transaction; answers the events.
async fn activate(
    app: &App,
    context: &Context,
    tx: &mut Tx,
    grant: &Grant,
    settled: Option<&(Purchase, String)>,
) -> Result<Vec<Event>, Error> {
    tx.update_grant(&app.stored(grant.clone())?).await?;
    let mut facts = grant_facts(grant);
    if let (Some((purchase, transaction)), Some(fields)) = (settled, facts.as_object_mut()) {
        let mut purchase = purchase.clone();
        purchase.state = PurchaseState::Settled;
        purchase.transaction = Some(transaction.clone());
        purchase.next_at = None;
        tx.update_purchase(&purchase).await?;
        // What the receipt shows, beside the whole payment.
        let paid = Money::new(purchase.amount, Currency::Usdc);
        fields.insert("paid".to_owned(), json!(paid));
        fields.insert("transaction".to_owned(), json!(transaction));
        fields.insert("payment".to_owned(), payment_facts(&purchase));
    }
    let event = app.event(context, "grant.created", &grant.id, facts);
    receipt::promise(app, tx, grant.id, &event).await?;
    Ok(vec![event])
}

// ---- with payment ----

async fn paid(
    app: &App,
    context: &Context,
    order: Order,
    offered: Offered,
    required: Box<payment::Required>,
) -> Result<Bought, Error> {
    let (rail, _) = app.rail.as_ref().ok_or(Error::PaymentUnavailable)?;
    let (purchase, grant) = match claim(app, context, &order, &offered).await? {
        Claimed::Ours(purchase, grant) => (*purchase, *grant),
        Claimed::Before(purchase) => return before(app, context, &order, *purchase, required).await,
    };
    match rail.verify(&offered).await {
        Verify::Valid { payer } if payer.to_lowercase() == purchase.payer => {}
        Verify::Valid { .. } => {
            release(app, &purchase, &grant, "the rail names another payer").await?;
            return Err(Error::PaymentInvalid {
                reason: "the rail names another payer".to_owned(),
                required,
                response: None,
            });
        }
        Verify::Invalid(reason) => {
            release(app, &purchase, &grant, &reason).await?;
            return Err(Error::PaymentInvalid {
                reason,
                required,
                response: None,
            });
        }
        Verify::Unknown(reason) => {
            release(app, &purchase, &grant, &reason).await?;
            return Err(Error::PaymentUnavailable);
        }
    }
    let tx = app.store.begin().await?;
    let verified = app.event(context, "payment.verified", &purchase.id, payment_facts(&purchase));
    let made = match provision_all(app, tx, vec![verified], &grant, &order.deal.lives).await {
        Ok(made) => made,
        Err(error) => {
            release(app, &purchase, &grant, "provisioning failed").await?;
            return Err(error);
        }
    };
    let purchase = settling(app, context, purchase, made).await?;
    match rail.settle(&offered).await {
        Settle::Done { transaction } => finish(app, context, grant, Vec::new(), Some((purchase, transaction))).await,
        Settle::Refused(reason) => {
            refused(app, &purchase, &grant, &reason).await?;
            let outcome = payment::Outcome::Refused { reason: &reason };
            let response = payment::response(outcome, &purchase.network, &purchase.payer);
            Err(Error::PaymentInvalid {
                reason,
                required,
                response: Some(response),
            })
        }
        Settle::Unknown(reason) => {
            unknown(app, &purchase, &grant, &reason).await?;
            Err(Error::PaymentUnknown(grant.id))
        }
    }
}

enum Claimed {
    Ours(Box<Purchase>, Box<Grant>),
    Before(Box<Purchase>),
}

/// Claims the authorization and sets up the grant it will pay for, in one commit.
async fn claim(app: &App, context: &Context, order: &Order, offered: &Offered) -> Result<Claimed, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let (principal, created) = owner(app, &mut tx, context, order.wallet.as_deref()).await?;
    let grant = new_grant(
        app,
        order,
        principal,
        order.ask.public_key.or(context.key),
        GrantState::Provisioning,
    );
    let purchase = Purchase {
        id: PurchaseId::new(now, app.random.as_ref()),
        network: offered.network.clone(),
        asset: offered.asset.clone(),
        payer: offered.payer.clone(),
        nonce: offered.nonce.clone(),
        pay_to: offered.pay_to.clone(),
        amount: offered.amount,
        valid_before: offered.valid_before,
        request: order.request,
        payload: offered.payload.clone(),
        state: PurchaseState::Claimed,
        grant: grant.id,
        transaction: None,
        last_error: None,
        next_at: Some(now.plus(Ttl::from_secs(60))),
        created: now,
    };
    let open = tx.purchases_open_of(&purchase.payer).await?;
    let purchase = match tx.claim_purchase(&purchase).await? {
        Claim::New if open > 0 => {
            drop(tx);
            return Err(Error::RateLimited(Ttl::from_secs(1)));
        }
        Claim::New => purchase,
        Claim::Existing(before)
            if before.state == PurchaseState::Released && before.request == order.request && open == 0 =>
        {
            let again = Purchase {
                id: before.id,
                ..purchase
            };
            tx.update_purchase(&again).await?;
            again
        }
        Claim::Existing(before) => {
            drop(tx);
            return Ok(Claimed::Before(before));
        }
    };
    if let Some(limit) = order.deal.paid_per_day {
        let spent = tx.paid_since(&purchase.payer, now.minus(DAY)).await?;
        if spent.saturating_add(purchase.amount) > limit.atomic() {
            drop(tx);
            return Err(Error::PaidPerDay);
        }
    }
    context.claim_nonce(&mut tx).await?;
    tx.insert_grant(&app.stored(grant.clone())?).await?;
    let mut events: Vec<Event> = created.into_iter().collect();
    events.push(app.event(context, "payment.claimed", &purchase.id, payment_facts(&purchase)));
    let _none = tx.commit(&events, &[]).await?;
    Ok(Claimed::Ours(Box::new(purchase), Box::new(grant)))
}

/// The same authorization came before.
async fn before(
    app: &App,
    context: &Context,
    order: &Order,
    purchase: Purchase,
    required: Box<payment::Required>,
) -> Result<Bought, Error> {
    if purchase.request != order.request {
        return Err(Error::PaymentConflict);
    }
    match purchase.state {
        PurchaseState::Claimed | PurchaseState::Released => Err(Error::PurchaseUnderWay),
        PurchaseState::Settling => Err(Error::PaymentUnknown(purchase.grant)),
        PurchaseState::Settled => {
            let transaction = purchase.transaction.clone().unwrap_or_default();
            let response = settled_response(&purchase, &transaction);
            again(app, context, purchase.grant, Some(response)).await
        }
        PurchaseState::Refused | PurchaseState::Credited => {
            let reason = purchase
                .last_error
                .unwrap_or_else(|| "this authorization was refused before".to_owned());
            Err(Error::PaymentInvalid {
                reason,
                required,
                response: None,
            })
        }
    }
}

/// A repeated request: the grant for anybody who could send it, the token only for its proved holder, since a settled
/// payment header is public.
async fn again(app: &App, context: &Context, id: GrantId, payment_response: Option<String>) -> Result<Bought, Error> {
    let mut tx = app.store.read().await?;
    let (stored, resolves) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    match grant.state {
        GrantState::PendingApproval => return Err(approve::pending(app, &grant).await?),
        GrantState::Provisioning => return Err(Error::PurchaseUnderWay),
        GrantState::PaymentUnknown => return Err(Error::PaymentUnknown(grant.id)),
        _ => {}
    }
    let token =
        match grant::managed_by(context, &grant) && grant.state == GrantState::Active && grant.expires > app.now() {
            true => {
                grant::claim(app, context).await?;
                Some(grant::mint(app, &grant)?)
            }
            false => None,
        };
    Ok(Bought {
        grant: grant::view(app, &grant, resolves).await?,
        token,
        payment_response,
        replayed: true,
    })
}

/// Keys on record, held; then the record that settlement begins.
async fn settling(app: &App, context: &Context, mut purchase: Purchase, made: Made) -> Result<Purchase, Error> {
    let mut tx = app.store.begin().await?;
    let mut events = Vec::with_capacity(made.len().saturating_add(1));
    let mut late = false;
    for (credential, created) in made {
        match provision::save(app, &mut tx, &credential, created).await? {
            Saved::Active(_, event) => events.push(event),
            Saved::Late(event) => {
                late = true;
                events.push(event);
            }
        }
    }
    let current = tx.purchase(purchase.id).await?.map(|row| row.state);
    if late || current != Some(PurchaseState::Claimed) {
        let _none = tx.commit(&events, &[]).await?;
        return Err(Error::Conflict(
            "the purchase took too long and was given up; nothing was charged".to_owned(),
        ));
    }
    purchase.state = PurchaseState::Settling;
    // Until this task answers, the reconciler keeps away for longer than the rail may take.
    purchase.next_at = Some(app.now().plus(Ttl::from_secs(45)));
    tx.update_purchase(&purchase).await?;
    events.push(app.event(context, "payment.settling", &purchase.id, payment_facts(&purchase)));
    let _none = tx.commit(&events, &[]).await?;
    Ok(purchase)
}

async fn release(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<(), Error> {
    close(app, purchase, grant, PurchaseState::Released, "payment.released", why).await
}

async fn refused(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<(), Error> {
    close(app, purchase, grant, PurchaseState::Refused, "payment.failed", why).await
}

/// A purchase that came to nothing: its keys are ended, its grant failed.
pub(super) async fn close(
    app: &App,
    purchase: &Purchase,
    grant: &Grant,
    state: PurchaseState,
    kind: &str,
    why: &str,
) -> Result<(), Error> {
    let now: Timestamp = app.now();
    let mut closed = purchase.clone();
    closed.state = state;
    closed.next_at = None;
    closed.last_error = Some(why.chars().take(200).collect());
    let mut failed = grant.clone();
    failed.state = GrantState::Failed;
    let mut tx = app.store.begin().await?;
    tx.update_purchase(&closed).await?;
    let stored: Stored<Grant> = app.stored(failed)?;
    tx.update_grant(&stored).await?;
    let mut events = vec![app.own_event(kind, &purchase.id, payment_facts(&closed))];
    for credential in tx.credentials_of_grant(grant.id).await? {
        events.extend(provision::abandon(app, &mut tx, credential.id, now).await?);
    }
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(grant.id);
    app.announce_work();
    Ok(())
}

async fn unknown(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<(), Error> {
    let mut open = purchase.clone();
    open.last_error = Some(why.chars().take(200).collect());
    open.next_at = Some(app.now().plus(RECONCILE_AFTER));
    let mut waiting = grant.clone();
    waiting.state = GrantState::PaymentUnknown;
    let mut tx = app.store.begin().await?;
    tx.update_purchase(&open).await?;
    tx.update_grant(&app.stored(waiting)?).await?;
    let event = app.own_event("payment.unknown", &purchase.id, payment_facts(&open));
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// The reconciler found the settlement: the grant comes into force, nobody is answered.
pub(super) async fn settle_late(
    app: &App,
    context: &Context,
    purchase: Purchase,
    mut grant: Grant,
    transaction: String,
) -> Result<(), Error> {
    grant.state = GrantState::Active;
    let mut tx = app.store.begin().await?;
    let settled = (purchase, transaction);
    let events = activate(app, context, &mut tx, &grant, Some(&settled)).await?;
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(grant.id);
    Ok(())
}

fn settled_response(purchase: &Purchase, transaction: &str) -> String {
    payment::response(
        payment::Outcome::Settled { transaction },
        &purchase.network,
        &purchase.payer,
    )
}

/// What events tell of a payment.
pub(super) fn payment_facts(purchase: &Purchase) -> serde_json::Value {
    json!({
        "purchase": purchase.id,
        "grant": purchase.grant,
        "payer": format!("{}:{}", purchase.network, purchase.payer),
        "pay_to": purchase.pay_to,
        "asset": purchase.asset,
        "network": purchase.network,
        "amount": purchase.amount.to_string(),
        "nonce": purchase.nonce,
        "transaction": purchase.transaction,
        "state": purchase.state.as_str(),
        "trouble": purchase.last_error,
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
