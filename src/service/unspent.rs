//! What a payer has back of a grant that ends early: the minutes and resolves that were paid for and never used, as credit.
//! Only if nothing was revealed or forwarded, and when the end of all its keys is confirmed (DESIGN 17). What a grant costs
//! whatever it does is not given back: its keys were made.

use serde_json::json;

use super::error::Error;
use super::{App, book, credit};
use crate::base::id::GrantId;
use crate::base::money::{Currency, Money};
use crate::model::credit::Credit;
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::ledger::Act;
use crate::model::payment::{Purchase, PurchaseState};
use crate::store::Tx;

/// Gives back what is left of a grant: once, however often it is asked. Nothing to do where its time was not cut short,
/// something was used, or a key may be alive. Trouble with it is told and holds up nothing: that a key is dead stays on
/// record, and whoever revokes the grant again has this settled.
pub(super) async fn settle(app: &App, id: GrantId) {
    if let Err(error) = tried(app, id).await {
        tracing::error!(%error, grant = %id, "what is left of a grant could not be given back");
    }
}

async fn tried(app: &App, id: GrantId) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let found = tx.grant(id).await?;
    tx.end().await?;
    // Most keys end with their lease; these do not take the writer's turn.
    let left = found.is_some_and(|(stored, resolves)| {
        let grant = &stored.unverified;
        grant.state == GrantState::Revoked && grant.payer.is_some() && resolves == 0
    });
    if !left {
        return Ok(());
    }
    let mut tx = app.store.begin().await?;
    if let Some(event) = give_back(app, &mut tx, id).await? {
        let _none = tx.commit(&[event], &[]).await?;
    }
    Ok(())
}

/// In the caller's transaction. A revoked grant is used no more, so its count stands.
async fn give_back(app: &App, tx: &mut Tx, id: GrantId) -> Result<Option<Event>, Error> {
    let Some((stored, _)) = tx.grant(id).await? else {
        return Ok(None);
    };
    if !tx.keys_are_dead(id).await? || tx.is_entered(id, Act::ReturnUnspent).await? {
        return Ok(None);
    }
    let grant = app.vault.authenticate(stored).map_err(|_| Error::Forged("grant"))?;
    let unspent = unspent(app, &grant).await?;
    let returned = match tx.purchase_of_grant(id).await? {
        Some(stored) => of_payment(app, tx, &super::purchase::authentic(app, stored)?, unspent).await?,
        None => credit::return_part(app, tx, id, unspent).await?,
    };
    let Some((wallet, amount)) = returned.filter(|(_, amount)| *amount > 0) else {
        return Ok(None);
    };
    let money = Money::new(amount, Currency::Usdc);
    book::by_credit(app, tx, (&grant, &wallet), Act::ReturnUnspent, money).await?;
    let data = json!({ "grant": id, "payer": wallet, "amount": amount.to_string() });
    Ok(Some(app.own_event("payment.unspent_returned", &id, data)))
}

/// The whole minutes that are left, and all resolves, at the prices it was granted at.
async fn unspent(app: &App, grant: &Grant) -> Result<i64, Error> {
    let left = grant.expires.since(app.now());
    let (mut time, mut dearest) = (0_i64, 0_i64);
    for item in &grant.items {
        let in_force = app.policy_version(&item.policy, item.policy_version).await?;
        if let Some(price) = &in_force.policy.price {
            time = time.saturating_add(price.whole_minutes(left));
            dearest = dearest.max(price.resolves(grant.max_resolves));
        }
    }
    Ok(time.saturating_add(dearest))
}

/// A credit of its own for this payment; what the chain took back, or was credited before, has none.
async fn of_payment(app: &App, tx: &mut Tx, purchase: &Purchase, unspent: i64) -> Result<Option<(String, i64)>, Error> {
    let amount = unspent.min(purchase.amount);
    if purchase.state != PurchaseState::Settled || amount <= 0 {
        return Ok(None);
    }
    let wallet = credit::wallet_of(purchase);
    let owed = Credit {
        purchase: purchase.id,
        payer: wallet.clone(),
        amount,
        remaining: amount,
        reason: "what was not used of a grant that ended early".to_owned(),
        created: app.now(),
    };
    let new = tx.insert_credit(&app.stored(owed)?).await?;
    Ok(new.then_some((wallet, amount)))
}
