//! Credit: owed to whoever paid and got nothing, and taken for the next grant of whoever proves to be that payer. What
//! is owed and what is taken carry a mark, since a row of credit is as good as a payment.

use serde_json::json;

use super::buy::{self, Bought, Order};
use super::caller::Context;
use super::error::Error;
use super::purchase::{self, payment_facts};
use super::{App, allowance, book};
use crate::base::id::GrantId;
use crate::base::money::{Currency, Money};
use crate::model::control::Stored;
use crate::model::credit::{Credit, CreditUse};
use crate::model::event::Event;
use crate::model::ledger::Act;
use crate::model::payment::{Purchase, PurchaseState};
use crate::store::{ReadTx, Tx};

/// The wallet of a purchase's payer, CAIP-10.
pub(super) fn wallet_of(purchase: &Purchase) -> String {
    format!("{}:{}", purchase.network, purchase.payer)
}

/// Owes the payer what was paid: the purchase ends as credited, in the caller's transaction.
pub(super) async fn owe(app: &App, tx: &mut Tx, mut purchase: Purchase, why: &str) -> Result<Event, Error> {
    let credit = Credit {
        purchase: purchase.id,
        payer: wallet_of(&purchase),
        amount: purchase.amount,
        remaining: purchase.amount,
        reason: why.chars().take(200).collect(),
        created: app.now(),
    };
    if !purchase.state.is_paid() {
        book::deposited(app, tx, &purchase).await?;
    }
    purchase.state = PurchaseState::Credited;
    purchase.next_at = None;
    purchase.last_error = Some(credit.reason.clone());
    tx.update_purchase(&purchase).await?;
    let _new = tx.insert_credit(&app.stored(credit)?).await?;
    Ok(app.own_event("payment.credited", &purchase.id, payment_facts(&purchase)))
}

/// What a wallet is owed, in atomic units.
async fn balance(app: &App, tx: &mut ReadTx, wallet: &str) -> Result<i64, Error> {
    let mut sum: i64 = 0;
    for stored in tx.credits_of(wallet).await? {
        sum = sum.saturating_add(genuine(app, stored)?.remaining);
    }
    Ok(sum)
}

fn genuine(app: &App, stored: Stored<Credit>) -> Result<Credit, Error> {
    app.vault.authenticate(stored).map_err(|_| Error::Forged("credit"))
}

/// The wallet that the caller has proved to be its own and whose credit covers `price`.
///
/// # Errors
/// The store's; [`Error::Forged`].
pub(super) async fn covering(app: &App, context: &Context, price: Money) -> Result<Option<String>, Error> {
    let wallets = context.wallets();
    if wallets.is_empty() {
        return Ok(None);
    }
    let mut tx = app.store.read().await?;
    for wallet in wallets {
        if balance(app, &mut tx, &wallet).await? >= price.atomic() {
            return Ok(Some(wallet));
        }
    }
    Ok(None)
}

/// Buys with what the payer is owed. The nonce of the proof is claimed with it, so that nobody spends twice by one.
pub(super) async fn spend(app: &App, context: &Context, order: Order, price: Money) -> Result<Bought, Error> {
    let wallet = order.wallet.clone().ok_or(Error::SignatureRequired)?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let (grant, created) = match &order.approved {
        Some(approved) => (purchase::resume(app, &mut tx, approved, &order).await?, None),
        None => purchase::begin(app, &mut tx, context, &order).await?,
    };
    let stored = app.stored(grant.clone())?;
    if order.approved.is_some() {
        tx.update_grant(&stored).await?;
    } else if let Some(before) = buy::remembered(app, &mut tx, &order, &grant).await? {
        drop(tx);
        return buy::again(app, context, before, None).await;
    } else {
        allowance::take(app, &mut tx, &order.deal, &grant).await?;
        tx.insert_grant(&stored).await?;
    }
    if !take(app, &mut tx, &wallet, price, grant.id).await? {
        return Err(Error::PurchaseUnderWay);
    }
    book::by_credit(app, &mut tx, (&grant, &wallet), Act::SpendCredit, price).await?;
    let mut events: Vec<Event> = created.into_iter().collect();
    let data = json!({ "grant": grant.id, "payer": wallet, "amount": price.atomic().to_string() });
    events.push(app.event(context, "payment.credit_used", &grant.id, data));
    let lives = order.deal.lives;
    let made = buy::provision_all(app, tx, events, &grant, &lives).await?;
    buy::finish(app, context, grant, made, None).await
}

/// Takes `price` from the oldest of a wallet's credit. `false`, and nothing is changed: there is not so much.
async fn take(app: &App, tx: &mut Tx, wallet: &str, price: Money, grant: GrantId) -> Result<bool, Error> {
    let mut missing = price.atomic();
    for stored in tx.credits_of(wallet).await? {
        let mut credit = genuine(app, stored)?;
        let amount = credit.remaining.min(missing);
        if amount <= 0 || credit.payer != wallet {
            continue;
        }
        credit.remaining = credit.remaining.saturating_sub(amount);
        missing = missing.saturating_sub(amount);
        let taken = CreditUse {
            grant,
            purchase: credit.purchase,
            amount,
            created: app.now(),
        };
        tx.update_credit(&app.stored(credit)?).await?;
        tx.insert_credit_use(&app.stored(taken)?).await?;
    }
    Ok(missing == 0)
}

/// Gives back up to `unspent` of what was taken for a grant. Answers the payer's wallet and how much it was; `None` where
/// nothing was taken.
pub(super) async fn return_part(
    app: &App,
    tx: &mut Tx,
    grant: GrantId,
    unspent: i64,
) -> Result<Option<(String, i64)>, Error> {
    let (mut wallet, mut left) = (None, unspent);
    for stored in tx.credit_uses(grant).await? {
        let taken = app.vault.authenticate(stored).map_err(|_| Error::Forged("credit"))?;
        let Some(stored) = tx.credit(taken.purchase).await? else {
            continue;
        };
        let mut credit = genuine(app, stored)?;
        let room = credit.amount.saturating_sub(credit.remaining);
        let amount = taken.amount.min(left).min(room).max(0);
        credit.remaining = credit.remaining.saturating_add(amount);
        left = left.saturating_sub(amount);
        wallet = Some(credit.payer.clone());
        tx.update_credit(&app.stored(credit)?).await?;
    }
    Ok(wallet.map(|wallet| (wallet, unspent.saturating_sub(left))))
}

/// Gives back what was taken for a grant that came to nothing, in the transaction that says so.
pub(super) async fn give_back(app: &App, tx: &mut Tx, grant: GrantId) -> Result<Option<Event>, Error> {
    let mut sum: i64 = 0;
    let mut wallet = String::new();
    for stored in tx.credit_uses(grant).await? {
        let taken = app.vault.authenticate(stored).map_err(|_| Error::Forged("credit"))?;
        let Some(stored) = tx.credit(taken.purchase).await? else {
            continue;
        };
        let mut credit = genuine(app, stored)?;
        credit.remaining = credit.remaining.saturating_add(taken.amount).min(credit.amount);
        sum = sum.saturating_add(taken.amount);
        wallet.clone_from(&credit.payer);
        tx.update_credit(&app.stored(credit)?).await?;
    }
    if sum == 0 {
        return Ok(None);
    }
    tx.delete_credit_uses(grant).await?;
    let amount = Money::new(sum, Currency::Usdc);
    if let Some((of, _)) = tx.grant(grant).await? {
        book::by_credit(app, tx, (&of.unverified, &wallet), Act::ReturnCredit, amount).await?;
    }
    let data = json!({ "grant": grant, "amount": amount.atomic().to_string() });
    Ok(Some(app.own_event("payment.credit_returned", &grant, data)))
}
