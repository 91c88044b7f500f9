//! Settled first, made afterwards (DESIGN 17): for payers who are new or were struck, and vendors where a key in vain
//! costs. Settling, paid, provisioning, and then the grant is in force or its payer has credit. Nothing paid is lost:
//! each step is on record before the next begins, and the reconciler goes on from where a process ended.

use super::App;
use super::buy::{Bought, Order, finish, provision_all};
use super::caller::Context;
use super::error::Error;
use super::purchase::{self, payment_facts, refused, settling, unknown};
use super::{book, credit, measure, provision};
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;
use crate::model::control::Stored;
use crate::model::grant::Grant;
use crate::model::payment::{Purchase, PurchaseState};
use crate::payment::{self, Offered, PaymentRail, Settle};

/// How long making the keys may take before the reconciler takes over: longer than the largest grant needs.
const MAKING: Ttl = Ttl::from_mins(5);

/// Goes on from a claim that was verified.
pub(super) async fn pay(
    app: &App,
    context: &Context,
    rail: &dyn PaymentRail,
    order: Order,
    offered: &Offered,
    (purchase, grant): (Purchase, Grant),
    required: Box<payment::Required>,
) -> Result<Bought, Error> {
    // Told before it is true, never after: a 202 too many is looked up, a lost one is paid twice.
    context.charging.begins(grant.id);
    let purchase = settling(app, context, purchase, Vec::new()).await?;
    match measure::settle(rail, offered).await {
        Settle::Done { transaction } => {
            let id = grant.id;
            let made = match paid(app, purchase, transaction).await {
                Ok(Some(purchase)) => make(app, context, purchase, grant, &order.deal.lives).await,
                // The reconciler found the settlement first, and goes on with it.
                Ok(None) => Err(Error::PaymentUnknown(id)),
                Err(error) => Err(error),
            };
            made.map_err(|error| match error {
                told @ (Error::PaymentCredited { .. } | Error::PaymentUnknown(_)) => told,
                other => {
                    tracing::error!(error = %other, grant = %id, "a settled purchase could not be finished at once");
                    Error::PaymentUnknown(id)
                }
            })
        }
        Settle::Refused(reason) => Err(refused(app, &purchase, &grant, reason, required).await?),
        Settle::Unknown(reason) => {
            unknown(app, &purchase, &grant, &reason).await?;
            Err(Error::PaymentUnknown(grant.id))
        }
    }
}

/// The money moved: on record before anything is made. `None`: it is on record already.
pub(super) async fn paid(app: &App, purchase: Purchase, transaction: String) -> Result<Option<Purchase>, Error> {
    let mut tx = app.store.begin().await?;
    let found = tx.purchase(purchase.id).await?;
    let Some(row) = found.filter(|row| row.unverified.state == PurchaseState::Settling) else {
        return Ok(None);
    };
    let mut row = purchase::authentic(app, row)?;
    row.state = PurchaseState::Paid;
    row.transaction = Some(transaction);
    row.last_error = None;
    row.next_at = Some(app.now().plus(MAKING));
    tx.update_purchase(&row).await?;
    book::deposited(app, &mut tx, &row).await?;
    let event = app.own_event("payment.paid", &row.id, payment_facts(&row));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(Some(row))
}

/// Makes the keys of what is paid; the grant is in force then, or its payer has credit.
///
/// # Errors
/// [`Error::PaymentCredited`] when they cannot be made.
pub(super) async fn make(
    app: &App,
    context: &Context,
    mut purchase: Purchase,
    grant: Grant,
    lives: &[Ttl],
) -> Result<Bought, Error> {
    let mut tx = app.store.begin().await?;
    let state = tx.purchase(purchase.id).await?.map(|row| row.unverified.state);
    if state != Some(PurchaseState::Paid) {
        return Err(Error::PaymentUnknown(grant.id));
    }
    purchase.state = PurchaseState::Provisioning;
    purchase.next_at = Some(app.now().plus(MAKING));
    tx.update_purchase(&purchase).await?;
    let event = app.event(context, "payment.provisioning", &purchase.id, payment_facts(&purchase));
    match provision_all(app, tx, vec![event], &grant, lives).await {
        Ok(made) => {
            let transaction = purchase.transaction.clone().unwrap_or_default();
            finish(app, context, grant, made, Some((purchase, transaction))).await
        }
        Err(error) => {
            let why = match &error {
                Error::Vendor { .. } | Error::VendorNotConnected(_) => error.to_string(),
                _ => "the keys could not be made".to_owned(),
            };
            give_up(app, &purchase, &grant, &why).await
        }
    }
}

/// What is paid cannot be made: the keys that may exist are ended, and the payer has credit.
pub(super) async fn give_up<T>(app: &App, purchase: &Purchase, grant: &Grant, why: &str) -> Result<T, Error> {
    let mut tx = app.store.begin().await?;
    let found = tx.purchase(purchase.id).await?;
    let open =
        |row: &Stored<Purchase>| matches!(row.unverified.state, PurchaseState::Paid | PurchaseState::Provisioning);
    let Some(row) = found.filter(open) else {
        return Err(Error::PaymentUnknown(grant.id));
    };
    let row = purchase::authentic(app, row)?;
    let mut events = vec![credit::owe(app, &mut tx, row, why).await?];
    for key in tx.credentials_of_grant(grant.id).await? {
        events.extend(provision::abandon(app, &mut tx, key.id, app.now()).await?);
    }
    events.extend(purchase::fail_grant(app, &mut tx, grant).await?);
    let _none = tx.commit(&events, &[]).await?;
    app.control().forget_grant(grant.id);
    app.announce_work();
    let mut told = purchase.clone();
    told.last_error = Some(why.to_owned());
    Err(credited(&told))
}

/// What a payer is told who paid and has credit for it.
pub(super) fn credited(purchase: &Purchase) -> Error {
    let settled = purchase.transaction.as_deref();
    Error::PaymentCredited {
        amount: Money::new(purchase.amount, Currency::Usdc),
        why: purchase.last_error.clone().unwrap_or_default(),
        // No receipt: nothing was delivered.
        response: settled.map(|transaction| {
            let moved = payment::Outcome::Settled {
                transaction,
                receipt: None,
            };
            payment::response(moved, &purchase.network, &purchase.payer)
        }),
    }
}
