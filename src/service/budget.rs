//! Budgets that are nearly used up: told once for a window, in the transaction that brought them there. What is counted
//! on the grant alone (its uses) is told by the writer (`store/decide`).

use serde_json::{Value, json};

use super::App;
use super::caller::Context;
use super::error::Error;
use super::offer::Deal;
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;
use crate::model::budget::{Budget, THRESHOLD_REACHED, is_near};
use crate::model::event::Event;
use crate::model::payment::Purchase;
use crate::model::scope::Name;
use crate::store::Tx;

/// Over which time payments count against a payer's budget, and keys made in vain against a vendor's.
pub(super) const DAY: Ttl = Ttl::from_mins(24 * 60);

/// What the payer paid in the last 24 hours, this purchase with it, comes near the limit of the policy.
pub(super) async fn paid(
    app: &App,
    tx: &mut Tx,
    context: &Context,
    deal: &Deal,
    purchase: &Purchase,
    spent: i64,
) -> Result<Vec<Event>, Error> {
    let Some((limit, policy)) = &deal.paid_per_day else {
        return Ok(Vec::new());
    };
    let payer = format!("{}:{}", purchase.network, purchase.payer);
    let name = format!("{}/{payer}/{policy}/{}", Budget::PaidPerDay.as_str(), limit.atomic());
    if !is_near(spent, limit.atomic()) || !once(app, tx, &name).await? {
        return Ok(Vec::new());
    }
    let mut data = Budget::PaidPerDay.facts(&Money::new(spent, Currency::Usdc), limit);
    data.insert("grant".to_owned(), json!(purchase.grant));
    data.insert("policy".to_owned(), json!(policy));
    data.insert("payer".to_owned(), json!(payer));
    let event = app.event(context, THRESHOLD_REACHED, &purchase.grant, Value::Object(data));
    Ok(vec![event])
}

/// The keys held unpaid at a vendor come near what is allowed.
pub(super) async fn held(app: &App, tx: &mut Tx, vendor: &Name, keys: i64) -> Result<Option<Event>, Error> {
    let limit = app.payment_rules.held_keys;
    let name = format!("{}/{vendor}/{limit}", Budget::HeldKeys.as_str());
    if limit == 0 || !is_near(keys, limit) || !once(app, tx, &name).await? {
        return Ok(None);
    }
    let mut data = Budget::HeldKeys.facts(&keys, &limit);
    data.insert("vendor".to_owned(), json!(vendor));
    Ok(Some(app.own_event(THRESHOLD_REACHED, vendor, Value::Object(data))))
}

async fn once(app: &App, tx: &mut Tx, name: &str) -> Result<bool, Error> {
    let now = app.now();
    Ok(tx.tell_once(name, now, now.plus(DAY)).await?)
}
