//! Whether a payer's keys may be made before the money moves. A key that nobody pays for costs the operator; money for
//! which no key can be made costs the payer nothing but its patience, since it leaves credit. So a payer has to earn
//! it, a vendor may forbid it, and a budget bounds what all payers together can make in vain.

use super::error::Error;
use super::offer::Deal;
use super::{App, budget};
use crate::model::event::Event;
use crate::model::payment::Purchase;
use crate::model::scope::Name;
use crate::store::Tx;

/// Decides, in the transaction of the claim, and notes what is held. `true`: settle first. A budget that is nearly used
/// up is told of in `near`.
pub(super) async fn settle_first(
    app: &App,
    tx: &mut Tx,
    deal: &Deal,
    purchase: &Purchase,
    near: &mut Vec<Event>,
) -> Result<bool, Error> {
    let rules = &app.payment_rules;
    let now = app.now();
    if deal.settle_first
        || tx.paid_before(&purchase.payer).await? < rules.trusted_after
        || tx.refused_since(&purchase.payer, now.minus(rules.strike)).await? > 0
    {
        return Ok(true);
    }
    let wanted = keys_at(deal);
    for (vendor, keys) in &wanted {
        let held = tx.held_keys(vendor, now.minus(budget::DAY)).await?;
        let wanted = held.saturating_add(*keys);
        let fits = wanted <= rules.held_keys;
        near.extend(budget::held(app, tx, vendor, if fits { wanted } else { held }).await?);
        if !fits {
            tracing::warn!(%vendor, held, "the budget of keys held unpaid is used up; buyers pay first");
            return Ok(true);
        }
    }
    for (vendor, keys) in &wanted {
        tx.hold_keys(purchase.id, vendor, *keys).await?;
    }
    Ok(false)
}

/// How many keys the deal makes at each vendor.
fn keys_at(deal: &Deal) -> Vec<(&Name, i64)> {
    let mut all: Vec<(&Name, i64)> = Vec::new();
    for item in &deal.items {
        match all.iter_mut().find(|(vendor, _)| **vendor == item.vendor) {
            Some((_, keys)) => *keys = keys.saturating_add(1),
            None => all.push((&item.vendor, 1)),
        }
    }
    all
}
