//! Settled payments, looked at twice more: in a reorganisation a chain takes back what it had. First when half of the
//! authorization's time is over, so that it can be settled again, which moves its money at most once; and when every
//! block that it can be in is final. What is unpaid then ends its grant.
//!
//! Not protected: what the grant was used for until then, and credit for a payment that is taken back.

use super::caller::Context;
use super::error::Error;
use super::purchase::{self, payment_facts};
use super::{App, book, end, reconcile};
use crate::base::id::RequestId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::grant::{Grant, GrantState};
use crate::model::payment::{Purchase, PurchaseState};
use crate::payment::Find;

/// The first look is not sooner than this.
const SOONEST: Ttl = Ttl::from_secs(5);

/// When a payment that is settled now is looked at first; `None` where nothing is taken back.
pub(super) fn at(app: &App, purchase: &Purchase) -> Option<Timestamp> {
    let (rail, _) = app.rail.as_ref()?;
    let now = app.now();
    let half = Ttl::from_millis(purchase.valid_before.since(now).as_millis() / 2).max(SOONEST);
    rail.may_take_back().then_some(now.plus(half))
}

/// One look.
pub(super) async fn confirm(app: &App, purchase: Purchase, grant: Grant) -> Result<(), Error> {
    let Some((rail, _)) = app.rail.as_ref() else {
        return Ok(());
    };
    match rail.confirm(&purchase).await {
        Find::Settled { transaction } => settled(app, purchase, transaction).await,
        Find::NotSettled => taken_back(app, purchase, &grant).await,
        Find::Unknown(trouble) => reconcile::later(app, purchase, &trouble).await,
    }
}

/// In a block, maybe by another transaction. Looked at for the last time when that is final.
async fn settled(app: &App, mut purchase: Purchase, transaction: String) -> Result<(), Error> {
    let same = purchase
        .transaction
        .as_ref()
        .is_some_and(|before| before.eq_ignore_ascii_case(&transaction));
    let last = purchase::watched(&purchase);
    purchase.next_at = (app.now() < last).then_some(last);
    purchase.last_error = None;
    purchase.transaction = Some(transaction);
    let event = (!same).then(|| app.own_event("payment.settled_again", &purchase.id, payment_facts(&purchase)));
    let events: Vec<_> = event.into_iter().collect();
    let mut tx = app.store.begin().await?;
    tx.update_purchase(&purchase).await?;
    let _none = tx.commit(&events, &[]).await?;
    Ok(())
}

/// Nobody paid for the grant after all: it ends, and then this is on record, once.
async fn taken_back(app: &App, mut purchase: Purchase, grant: &Grant) -> Result<(), Error> {
    const WHY: &str = "the chain took its payment back";
    if grant.state.may_become(GrantState::Revoked) {
        let context = Context::anonymous(RequestId::new(app.now(), app.random.as_ref()));
        let _keys = end::revoke_grant(app, &context, grant.id, Some(WHY)).await?;
    }
    let mut tx = app.store.begin().await?;
    let state = tx.purchase(purchase.id).await?.map(|row| row.unverified.state);
    if state != Some(PurchaseState::Settled) {
        return Ok(());
    }
    purchase.state = PurchaseState::Refused;
    purchase.next_at = None;
    purchase.last_error = Some(WHY.to_owned());
    let event = app.own_event("payment.taken_back", &purchase.id, payment_facts(&purchase));
    tx.update_purchase(&purchase).await?;
    book::taken_back(app, &mut tx, &purchase).await?;
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}
