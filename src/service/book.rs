//! Entries of the ledger: written in the commit of the act that they tell of, with a mark.

use super::error::Error;
use super::{App, credit};
use crate::base::id::{EntryId, GrantId};
use crate::base::money::{Currency, Money};
use crate::model::credential::Credential;
use crate::model::grant::Grant;
use crate::model::ledger::{Act, Entry};
use crate::model::payment::{Purchase, PurchaseState};
use crate::store::Tx;

/// What a payment that settled is, by where it stood before: its grant is in force now.
pub(super) async fn delivered(app: &App, tx: &mut Tx, purchase: &Purchase, before: PurchaseState) -> Result<(), Error> {
    let act = if before.is_paid() { Act::Deliver } else { Act::Charge };
    payment(app, tx, purchase, act).await
}

/// A payment settled for which nothing is in force.
pub(super) async fn deposited(app: &App, tx: &mut Tx, purchase: &Purchase) -> Result<(), Error> {
    payment(app, tx, purchase, Act::Deposit).await
}

/// The chain took a payment back.
pub(super) async fn taken_back(app: &App, tx: &mut Tx, purchase: &Purchase) -> Result<(), Error> {
    payment(app, tx, purchase, Act::TakeBack).await
}

async fn payment(app: &App, tx: &mut Tx, purchase: &Purchase, act: Act) -> Result<(), Error> {
    let grant = grant(tx, purchase.grant).await?;
    let amount = Money::new(purchase.amount, Currency::Usdc);
    let entry = Entry {
        purchase: Some(purchase.id),
        wallet: Some(credit::wallet_of(purchase)),
        ..entry(app, &grant, act, amount)
    };
    add(app, tx, entry).await
}

/// Credit paid for a grant, or is there again.
pub(super) async fn by_credit(
    app: &App,
    tx: &mut Tx,
    (grant, wallet): (&Grant, &str),
    act: Act,
    amount: Money,
) -> Result<(), Error> {
    let entry = Entry {
        wallet: Some(wallet.to_owned()),
        ..entry(app, grant, act, amount)
    };
    add(app, tx, entry).await
}

/// A key was made that may cost `cap` at its vendor.
pub(super) async fn vendor_cost(app: &App, tx: &mut Tx, made: &Credential, cap: Money) -> Result<(), Error> {
    let grant = grant(tx, made.grant).await?;
    let entry = Entry {
        wallet: grant.payer.clone(),
        vendor: made.vendor.to_string(),
        credential: Some(made.id),
        lease: made.lease,
        ..entry(app, &grant, Act::VendorCost, cap)
    };
    add(app, tx, entry).await
}

async fn grant(tx: &mut Tx, id: GrantId) -> Result<Grant, Error> {
    let (stored, _) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
    Ok(stored.unverified)
}

fn entry(app: &App, grant: &Grant, act: Act, amount: Money) -> Entry {
    let now = app.now();
    let mut vendors: Vec<&str> = grant.items.iter().map(|item| item.vendor.as_str()).collect();
    vendors.dedup();
    Entry {
        id: EntryId::new(now, app.random.as_ref()),
        created: now,
        act,
        amount,
        principal: grant.principal,
        grant: grant.id,
        purchase: None,
        wallet: None,
        vendor: vendors.join("+"),
        credential: None,
        lease: None,
    }
}

async fn add(app: &App, tx: &mut Tx, entry: Entry) -> Result<(), Error> {
    if entry.amount.atomic() > 0 {
        tx.insert_entry(&app.stored(entry)?).await?;
    }
    Ok(())
}
