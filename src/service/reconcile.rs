//! Purchases whose outcome is not known: found out from the rail, never from the payer (DESIGN 17).

use super::caller::Context;
use super::error::Error;
use super::{App, buy, confirm, credit, end, prepaid, purchase};
use crate::base::id::{PurchaseId, RequestId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::grant::Grant;
use crate::model::payment::{Purchase, PurchaseState};
use crate::payment::Find;

/// Between two looks: a quarter of the time since the claim, within these.
const SOONEST: Ttl = Ttl::from_secs(1);
const LATEST: Ttl = Ttl::from_mins(10);

/// How long one look may take before another worker may look.
pub(super) const LOOK: Ttl = Ttl::from_secs(30);

/// One step for a purchase whose time has come.
///
/// # Errors
/// The store's.
pub async fn step(app: &App, id: PurchaseId) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let Some(stored) = tx.purchase(id).await? else {
        return Ok(());
    };
    drop(tx);
    if !end::due(stored.unverified.next_at, app.now()) {
        return Ok(());
    }
    let purchase = app.authentic("payment", stored).await?;
    let mut tx = app.store.read().await?;
    let Some((stored, _)) = tx.grant(purchase.grant).await? else {
        return Ok(());
    };
    drop(tx);
    let grant = app.authentic("grant", stored).await?;
    match purchase.state {
        // The task that claimed it is gone, or it would have gone on long ago: nothing was charged.
        PurchaseState::Claimed => {
            purchase::close(
                app,
                &purchase,
                &grant,
                PurchaseState::Released,
                "payment.released",
                "given up after a restart",
            )
            .await
        }
        state if is_open(state) => match take(app, &purchase).await? {
            Some(purchase) => settling(app, purchase, grant).await,
            None => Ok(()),
        },
        PurchaseState::Settled => match take(app, &purchase).await? {
            Some(purchase) => confirm::confirm(app, purchase, grant).await,
            None => Ok(()),
        },
        PurchaseState::Refused | PurchaseState::Released => match take(app, &purchase).await? {
            Some(purchase) => watch(app, purchase).await,
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Money moved for it, or may have.
const fn is_open(state: PurchaseState) -> bool {
    matches!(
        state,
        PurchaseState::Settling | PurchaseState::Paid | PurchaseState::Provisioning
    )
}

/// Takes the look: workers of other instances keep away while this one asks the rail. `None`: somebody was first.
async fn take(app: &App, seen: &Purchase) -> Result<Option<Purchase>, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let found = tx.purchase(seen.id).await?;
    let same = |row: &Purchase| row.state == seen.state && end::due(row.next_at, now);
    let Some(stored) = found.filter(|row| same(&row.unverified)) else {
        return Ok(None);
    };
    let mut purchase = purchase::authentic(app, stored)?;
    purchase.next_at = Some(now.plus(LOOK));
    tx.update_purchase(&purchase).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(Some(purchase))
}

/// Asks the rail, also where the row says that the money moved: a row's state carries no mark, what the rail says counts.
async fn settling(app: &App, purchase: Purchase, grant: Grant) -> Result<(), Error> {
    let Some((rail, _)) = app.rail.as_ref() else {
        return Ok(());
    };
    let found = rail.find(&purchase, app.now()).await;
    apply(app, purchase, grant, found).await
}

/// What was found out about a purchase has its effect.
pub(super) async fn apply(app: &App, purchase: Purchase, grant: Grant, found: Find) -> Result<(), Error> {
    match found {
        Find::Settled { transaction } if purchase.settle_first => paid(app, purchase, grant, transaction).await,
        Find::Settled { transaction } => settled(app, purchase, grant, transaction).await,
        Find::NotSettled if purchase.state == PurchaseState::Settling => {
            purchase::close(
                app,
                &purchase,
                &grant,
                PurchaseState::Refused,
                "payment.failed",
                "the authorization ended unsettled",
            )
            .await
        }
        Find::NotSettled => later(app, purchase, "the rail does not know this settlement any more").await,
        Find::Unknown(trouble) => later(app, purchase, &trouble).await,
    }
}

/// Settled first: its keys are made now, unless somebody began to. What that left is ended, and the payer has credit.
async fn paid(app: &App, purchase: Purchase, grant: Grant, transaction: String) -> Result<(), Error> {
    let now = app.now();
    let purchase = match purchase.state {
        PurchaseState::Settling => match prepaid::paid(app, purchase, transaction).await? {
            Some(purchase) => purchase,
            None => return Ok(()),
        },
        _ => purchase,
    };
    let outcome = if purchase.state == PurchaseState::Provisioning {
        prepaid::give_up(app, &purchase, &grant, "the keys could not be made in time").await
    } else if grant.expires <= now || grant.state.is_final() {
        prepaid::give_up(app, &purchase, &grant, "settled after the grant was over").await
    } else {
        let context = Context::anonymous(RequestId::new(now, app.random.as_ref()));
        let lives = buy::lives(app, &grant).await?;
        prepaid::make(app, &context, purchase, grant, &lives).await.map(drop)
    };
    match outcome {
        Err(Error::PaymentCredited { .. } | Error::PaymentUnknown(_)) => Ok(()),
        other => other,
    }
}

/// Settled: the grant comes into force, or, when its time is over before anybody could use it, the payer has credit.
async fn settled(app: &App, purchase: Purchase, grant: Grant, transaction: String) -> Result<(), Error> {
    let now = app.now();
    if grant.expires > now && !grant.state.is_final() {
        let context = Context::anonymous(RequestId::new(now, app.random.as_ref()));
        return purchase::settle_late(app, &context, purchase, grant, transaction).await;
    }
    let mut credited = purchase;
    credited.transaction = Some(transaction);
    let mut tx = app.store.begin().await?;
    let mut events = vec![credit::owe(app, &mut tx, credited, "settled after the grant was over").await?];
    events.extend(purchase::fail_grant(app, &mut tx, &grant).await?);
    let _none = tx.commit(&events, &[]).await?;
    Ok(())
}

/// Refused or given up, and its authorization is over: if it was used all the same, its payer has credit.
async fn watch(app: &App, mut purchase: Purchase) -> Result<(), Error> {
    let Some((rail, _)) = app.rail.as_ref() else {
        return Ok(());
    };
    let now = app.now();
    let moved = rail.moved(&purchase, now).await;
    let mut tx = app.store.begin().await?;
    let state = tx.purchase(purchase.id).await?.map(|row| row.unverified.state);
    if state != Some(purchase.state) {
        return Ok(());
    }
    let mut events = Vec::new();
    match moved {
        Find::Settled { transaction } => {
            purchase.transaction = Some(transaction);
            events.push(credit::owe(app, &mut tx, purchase, "settled after it had come to nothing").await?);
        }
        Find::NotSettled => {
            purchase.next_at = None;
            tx.update_purchase(&purchase).await?;
        }
        Find::Unknown(_) => {
            purchase.next_at = Some(purchase::watched(&purchase).max(now.plus(wait(&purchase, now))));
            tx.update_purchase(&purchase).await?;
        }
    }
    let _none = tx.commit(&events, &[]).await?;
    Ok(())
}

fn wait(purchase: &Purchase, now: Timestamp) -> Ttl {
    Ttl::from_millis(now.since(purchase.created).as_millis() / 4).clamp(SOONEST, LATEST)
}

/// Nothing is certain yet: another look, the later the longer it takes.
pub(super) async fn later(app: &App, mut purchase: Purchase, trouble: &str) -> Result<(), Error> {
    let now = app.now();
    purchase.next_at = Some(now.plus(wait(&purchase, now)));
    purchase.last_error = Some(trouble.chars().take(200).collect());
    let mut tx = app.store.begin().await?;
    tx.update_purchase(&purchase).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// At start of the only instance: nobody works on open purchases any more, so they are looked at now. Settled ones wait
/// until their blocks are final.
///
/// # Errors
/// The store's.
pub async fn at_start(app: &App) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    // Far enough ahead to see every open purchase, whatever its timer says.
    let open = tx.purchases_due(now.plus(Ttl::from_mins(60)), 10_000).await?;
    for stored in open {
        let mut purchase = stored.unverified;
        if purchase.state == PurchaseState::Settled {
            continue;
        }
        purchase.next_at = Some(now);
        tx.update_purchase(&purchase).await?;
    }
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}
