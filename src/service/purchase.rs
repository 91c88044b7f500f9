//! The paid half of buying: one authorization from its claim to its end, in the order of DESIGN 17. Nothing is charged
//! before the keys exist; nothing is given before the money moved; what is not known is looked for, never asked twice.

use serde_json::json;
use tracing::Instrument as _;

use super::buy::{Bought, Made, Order, Presented, activate, again, finish, new_grant, provision_all};
use super::caller::Context;
use super::error::Error;
use super::offer::Deal;
use super::provision::{self, Saved};
use super::{App, allowance, budget, credit, demand, measure, owner, prepaid, trust};
use crate::base::id::PurchaseId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::Stored;
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::payment::{Purchase, PurchaseState};
use crate::payment::{self, Find, Offered, PaymentRail, Settle, Verify};
use crate::store::Tx;
use crate::store::purchases::Claim;

/// How long a settlement may be unclear before the reconciler looks.
const RECONCILE_AFTER: Ttl = Ttl::from_secs(1);

/// How long a claim lives without progress: longer than vendors and rail may take together.
const CLAIM_LIFE: Ttl = Ttl::from_mins(2);

/// How long after an authorization's end its use would be in a block that is final.
const WATCHED: Ttl = Ttl::from_secs(70);

/// How long the rail may take before the reconciler looks.
const SETTLE_LIFE: Ttl = Ttl::from_secs(45);

/// Buys with a payment whose signature and terms were checked.
pub(super) async fn paid(
    app: &App,
    context: &Context,
    order: Order,
    offered: Offered,
    required: Box<payment::Required>,
) -> Result<Bought, Error> {
    let (rail, _) = app.rail.as_ref().ok_or(Error::PaymentUnavailable)?;
    // Asked before anything is kept: whoever signs with empty wallets must not fill the disk. Asked again under the
    // claim, which alone decides.
    if let Claimed::Before(purchase) = claim(app, context, &order, &offered, Keep::No).await? {
        return before(app, context, &order, *purchase, required).await;
    }
    match rail.verify(&offered).instrument(measure::rail("verify")).await {
        Verify::Valid { .. } => {}
        Verify::Invalid(reason) => {
            // Unless it is used because another request brought it first, and was quicker: then what came of it is the
            // answer. A 402 would have it paid twice.
            if let Claimed::Before(purchase) = claim(app, context, &order, &offered, Keep::No).await? {
                return before(app, context, &order, *purchase, required).await;
            }
            return Err(Error::PaymentInvalid {
                reason,
                required,
                response: None,
            });
        }
        // As above: many same requests at once are much for a facilitator, and one of them may have come through.
        Verify::Unknown(_) => {
            return match claim(app, context, &order, &offered, Keep::No).await? {
                Claimed::Before(purchase) => before(app, context, &order, *purchase, required).await,
                Claimed::Ours(..) => Err(Error::PaymentUnavailable),
            };
        }
    }
    let (purchase, grant) = match claim(app, context, &order, &offered, Keep::Yes).await? {
        Claimed::Ours(purchase, grant) => (*purchase, *grant),
        Claimed::Before(purchase) => return before(app, context, &order, *purchase, required).await,
    };
    if let Some(reason) = unsound(app, rail.as_ref(), &offered, &purchase, &grant).await? {
        return Err(Error::PaymentInvalid {
            reason,
            required,
            response: None,
        });
    }
    if purchase.settle_first {
        return prepaid::pay(
            app,
            context,
            rail.as_ref(),
            order,
            &offered,
            (purchase, grant),
            required,
        )
        .await;
    }
    held(
        app,
        context,
        rail.as_ref(),
        order,
        &offered,
        (purchase, grant),
        required,
    )
    .await
}

/// Verifies what is claimed; released, and why, if it would not settle.
async fn unsound(
    app: &App,
    rail: &dyn PaymentRail,
    offered: &Offered,
    purchase: &Purchase,
    grant: &Grant,
) -> Result<Option<String>, Error> {
    let reason = match rail.verify(offered).instrument(measure::rail("verify")).await {
        Verify::Valid { payer } if payer.to_lowercase() == purchase.payer => return Ok(None),
        Verify::Valid { .. } => "the rail names another payer".to_owned(),
        // Used since it was claimed, by somebody who saw it: the money is here, and settling will find it.
        Verify::Invalid(_) if has_moved(app, rail, purchase).await => return Ok(None),
        Verify::Invalid(reason) => reason,
        Verify::Unknown(reason) => {
            release(app, purchase, grant, &reason).await?;
            return Err(Error::PaymentUnavailable);
        }
    };
    release(app, purchase, grant, &reason).await?;
    Ok(Some(reason))
}

async fn has_moved(app: &App, rail: &dyn PaymentRail, purchase: &Purchase) -> bool {
    matches!(rail.moved(purchase, app.now()).await, Find::Settled { .. })
}

/// Makes the keys, holds them, and settles: nothing is charged before they exist.
async fn held(
    app: &App,
    context: &Context,
    rail: &dyn PaymentRail,
    order: Order,
    offered: &Offered,
    (purchase, grant): (Purchase, Grant),
    required: Box<payment::Required>,
) -> Result<Bought, Error> {
    let tx = app.store.begin().await?;
    let verified = app.event(context, "payment.verified", &purchase.id, payment_facts(&purchase));
    let made = match provision_all(app, tx, vec![verified], &grant, &order.deal.lives).await {
        Ok(made) => made,
        Err(error) => {
            release(app, &purchase, &grant, "provisioning failed").await?;
            return Err(error);
        }
    };
    // Told before it is true, never after: a 202 too many is looked up, a lost one is paid twice.
    context.charging.begins(grant.id);
    let purchase = settling(app, context, purchase, made).await?;
    match measure::settle(rail, offered).await {
        Settle::Done { transaction } => {
            let id = grant.id;
            let finished = finish(app, context, grant, Vec::new(), Some((purchase, transaction))).await;
            // The money moved: whatever went wrong here, the reconciler finds it, and nobody is told to pay again.
            finished.map_err(|error| {
                tracing::error!(%error, grant = %id, "a settled purchase could not be finished at once");
                Error::PaymentUnknown(id)
            })
        }
        Settle::Refused(reason) => Err(refused(app, &purchase, &grant, reason, required).await?),
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

/// Whether a claim is kept, or only tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// Claims the authorization and sets up the grant it will pay for, in one commit.
async fn claim(app: &App, context: &Context, order: &Order, offered: &Offered, keep: Keep) -> Result<Claimed, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    if let Some(before) = identified(app, &mut tx, offered).await? {
        drop(tx);
        return Ok(Claimed::Before(Box::new(before)));
    }
    let (mut grant, created) = paid_for(app, &mut tx, context, order).await?;
    let purchase = claimed(app, order, offered, &grant);
    let open = tx.purchases_open_of(&purchase.payer).await?;
    let stored = app.stored(purchase.clone())?;
    let mut purchase = match tx.claim_purchase(&stored).await? {
        Claim::New if open > 0 => {
            drop(tx);
            return Err(Error::RateLimited(Ttl::from_secs(1)));
        }
        Claim::New => purchase,
        Claim::Existing(before) => {
            let before = authentic(app, *before)?;
            if before.state != PurchaseState::Released || before.request != order.request || open > 0 {
                drop(tx);
                return Ok(Claimed::Before(Box::new(before)));
            }
            if !owner::same(&mut tx, &before, &grant, context.key).await? {
                return Err(Error::PaymentConflict);
            }
            let again = Purchase {
                id: before.id,
                ..purchase
            };
            if !tx.reclaim(&app.stored(again.clone())?).await? {
                return Err(Error::PurchaseUnderWay);
            }
            again
        }
    };
    if order.approved.is_some() {
        grant = resume(app, &mut tx, &grant, order).await?;
    }
    // The claim above counts already.
    let spent = tx.paid_since(&purchase.payer, now.minus(budget::DAY)).await?;
    let limit = order.deal.paid_per_day.as_ref();
    if limit.is_some_and(|(limit, _)| spent > limit.atomic()) {
        drop(tx);
        return Err(Error::PaidPerDay);
    }
    if order.approved.is_none() {
        allowance::take(app, &mut tx, &order.deal, &grant).await?;
    }
    if keep == Keep::No {
        drop(tx);
        return Ok(Claimed::Ours(Box::new(purchase), Box::new(grant)));
    }
    context.claim_nonce(&mut tx).await?;
    let mut near = budget::paid(app, &mut tx, context, &order.deal, &purchase, spent).await?;
    purchase.settle_first = trust::settle_first(app, &mut tx, &order.deal, &purchase, &mut near).await?;
    tx.set_settle_first(purchase.id, purchase.settle_first).await?;
    if let Some(id) = &offered.payment_id {
        tx.keep_payment_id(&purchase.payer, id, purchase.id).await?;
    }
    let stored = app.stored(grant.clone())?;
    match order.approved {
        Some(_) => tx.update_grant(&stored).await?,
        None => tx.insert_grant(&stored).await?,
    }
    let mut events: Vec<Event> = created.into_iter().collect();
    events.push(app.event(context, "payment.claimed", &purchase.id, payment_facts(&purchase)));
    events.extend(near);
    let _none = tx.commit(&events, &[]).await?;
    Ok(Claimed::Ours(Box::new(purchase), Box::new(grant)))
}

/// The claim of an authorization for a grant.
fn claimed(app: &App, order: &Order, offered: &Offered, grant: &Grant) -> Purchase {
    let now = app.now();
    Purchase {
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
        next_at: Some(now.plus(CLAIM_LIFE)),
        created: now,
        settle_first: false,
    }
}

/// What the payer's `payment-identifier` stands for, if another authorization came with it before and did not come to
/// nothing: whoever signs anew because an answer was lost must not pay twice.
async fn identified(app: &App, tx: &mut Tx, offered: &Offered) -> Result<Option<Purchase>, Error> {
    let Some(id) = &offered.payment_id else {
        return Ok(None);
    };
    let Some(stored) = tx.purchase_by_payment_id(&offered.payer, id).await? else {
        return Ok(None);
    };
    let before = authentic(app, stored)?;
    let nothing = matches!(before.state, PurchaseState::Released | PurchaseState::Refused);
    Ok(Some(before).filter(|before| !nothing && before.nonce != offered.nonce))
}

/// The payment as it was claimed, within a transaction: what raises the alarm outside of one is [`App::authentic`].
///
/// # Errors
/// [`Error::Forged`].
pub(super) fn authentic(app: &App, stored: Stored<Purchase>) -> Result<Purchase, Error> {
    app.vault.authenticate(stored).map_err(|_| Error::Forged("payment"))
}

/// What a payment is for: the grant that people approved, or a new one.
async fn paid_for(app: &App, tx: &mut Tx, context: &Context, order: &Order) -> Result<(Grant, Option<Event>), Error> {
    let Some(approved) = &order.approved else {
        return begin(app, tx, context, order).await;
    };
    let _payer = owner::payer(app, tx, context, order).await?;
    Ok((approved.clone(), None))
}

/// A grant that nobody had to be asked about.
pub(super) async fn begin(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    order: &Order,
) -> Result<(Grant, Option<Event>), Error> {
    let (principal, created) = owner::of_order(app, tx, context, order).await?;
    let holder = order.ask.holder(context.key)?;
    Ok((
        new_grant(app, order, principal, holder, GrantState::Provisioning),
        created,
    ))
}

/// The grant that people approved, on its way to be paid; read anew, since another payment may have come first.
pub(super) async fn resume(app: &App, tx: &mut Tx, approved: &Grant, order: &Order) -> Result<Grant, Error> {
    let (stored, _) = tx.grant(approved.id).await?.ok_or(Error::NotFound("grant"))?;
    let mut grant = app.vault.authenticate(stored).map_err(|_| Error::Forged("grant"))?;
    let now = app.now();
    match grant.state {
        GrantState::PaymentRequired if grant.expires <= now => return Err(Error::GrantOver(GrantState::Expired)),
        GrantState::PaymentRequired => {}
        // Another payment came first.
        GrantState::Provisioning | GrantState::PaymentUnknown | GrantState::Active => {
            return Err(Error::PurchaseUnderWay);
        }
        over => return Err(Error::GrantOver(over)),
    }
    if grant.terms() != approved.terms() {
        return Err(Error::Forged("grant"));
    }
    grant.state = GrantState::Provisioning;
    grant.payer.clone_from(&order.wallet);
    grant.expires = now.plus(order.deal.ttl);
    Ok(grant)
}

/// Whether the payment was presented before and has come so far that it cannot begin anew: then its outcome is the
/// answer, and nobody is asked about it.
pub(super) async fn was_tried(app: &App, tx: &mut Tx, deal: &Deal, presented: &Presented) -> Result<bool, Error> {
    let (Some((_, terms)), Some(price)) = (app.rail.as_ref(), deal.price) else {
        return Ok(false);
    };
    let Ok(offered) = demand::read(app, terms, price, presented) else {
        return Ok(false);
    };
    let (network, asset) = (&offered.network, &offered.asset);
    let found = tx
        .purchase_by_nonce(network, asset, &offered.payer, &offered.nonce)
        .await?;
    let state = found.map(|row| row.unverified.state);
    Ok(state.is_some_and(|state| !matches!(state, PurchaseState::Claimed | PurchaseState::Released)))
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
        PurchaseState::Claimed | PurchaseState::Released | PurchaseState::Paid | PurchaseState::Provisioning => {
            Err(Error::PurchaseUnderWay)
        }
        PurchaseState::Settling => Err(Error::PaymentUnknown(purchase.grant)),
        PurchaseState::Settled => {
            let transaction = purchase.transaction.clone().unwrap_or_default();
            let response = settled_response(app, &purchase, &transaction);
            again(app, context, purchase.grant, Some(response)).await
        }
        PurchaseState::Credited => Err(prepaid::credited(&purchase)),
        PurchaseState::Refused => {
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

/// Keys on record, held; then the record that settlement begins.
pub(super) async fn settling(
    app: &App,
    context: &Context,
    mut purchase: Purchase,
    made: Made,
) -> Result<Purchase, Error> {
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
    // Given up meanwhile, or given up and claimed anew for another grant.
    let ours = tx
        .purchase(purchase.id)
        .await?
        .map(|row| row.unverified)
        .is_some_and(|row| row.state == PurchaseState::Claimed && row.grant == purchase.grant);
    if late || !ours {
        let _none = tx.commit(&events, &[]).await?;
        return Err(Error::Conflict(
            "the purchase took too long and was given up; nothing was charged".to_owned(),
        ));
    }
    purchase.state = PurchaseState::Settling;
    // Until this task answers, the reconciler keeps away for longer than the rail may take.
    purchase.next_at = Some(app.now().plus(SETTLE_LIFE));
    tx.update_purchase(&purchase).await?;
    events.push(app.event(context, "payment.settling", &purchase.id, payment_facts(&purchase)));
    let _none = tx.commit(&events, &[]).await?;
    Ok(purchase)
}

async fn release(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<(), Error> {
    close(app, purchase, grant, PurchaseState::Released, "payment.released", why).await
}

/// The rail refused to settle: on record, and what its payer is told.
pub(super) async fn refused(
    app: &App,
    purchase: &Purchase,
    grant: &Grant,
    reason: String,
    required: Box<payment::Required>,
) -> Result<Error, Error> {
    close(app, purchase, grant, PurchaseState::Refused, "payment.failed", &reason).await?;
    let outcome = payment::Outcome::Refused { reason: &reason };
    let response = payment::response(outcome, &purchase.network, &purchase.payer);
    Ok(Error::PaymentInvalid {
        reason,
        required,
        response: Some(response),
    })
}

/// A purchase that came to nothing: its keys are ended, its grant failed. Whoever saw its authorization may use it until
/// that ends, so it is looked at once more then.
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
    closed.next_at = Some(watched(purchase));
    closed.last_error = Some(why.chars().take(200).collect());
    let mut tx = app.store.begin().await?;
    tx.update_purchase(&closed).await?;
    let mut events = vec![app.own_event(kind, &purchase.id, payment_facts(&closed))];
    events.extend(fail_grant(app, &mut tx, grant).await?);
    for credential in tx.credentials_of_grant(grant.id).await? {
        events.extend(provision::abandon(app, &mut tx, credential.id, now).await?);
    }
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(grant.id);
    app.announce_work();
    Ok(())
}

/// When a purchase that came to nothing is looked at for the last time.
pub(super) fn watched(purchase: &Purchase) -> Timestamp {
    purchase.valid_before.plus(WATCHED)
}

pub(super) async fn unknown(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<(), Error> {
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

pub(super) fn settled_response(app: &App, purchase: &Purchase, transaction: &str) -> String {
    let receipt = demand::receipt(app, purchase, transaction);
    let settled = payment::Outcome::Settled {
        transaction,
        receipt: receipt.as_deref(),
    };
    payment::response(settled, &purchase.network, &purchase.payer)
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

/// A grant whose making or payment came to nothing, unless that is on record already. What people approved goes back to
/// where it waits for its payment: their yes was not for one try. Credit that was taken for it is given back.
pub(super) async fn fail_grant(app: &App, tx: &mut Tx, grant: &Grant) -> Result<Vec<Event>, Error> {
    let waits_again = grant.price().is_some();
    let next = if waits_again {
        GrantState::PaymentRequired
    } else {
        GrantState::Failed
    };
    let current = tx.grant(grant.id).await?.map(|(stored, _)| stored.unverified.state);
    if current.is_none_or(|state| state == next || !state.may_become(next)) {
        return Ok(Vec::new());
    }
    let mut over = grant.clone();
    over.state = next;
    if waits_again {
        over.payer = None;
        over.expires = over
            .asked
            .as_ref()
            .and_then(|asked| asked.pay_by)
            .unwrap_or(over.expires);
    }
    tx.update_grant(&app.stored(over)?).await?;
    app.control().forget_grant(grant.id);
    let kind = if waits_again {
        "grant.payment_required"
    } else {
        "grant.failed"
    };
    let mut events = vec![app.own_event(kind, &grant.id, json!({ "grant": grant.id }))];
    events.extend(credit::give_back(app, tx, grant.id).await?);
    Ok(events)
}
