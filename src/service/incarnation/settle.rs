//! Settling the difference: what is gone at a vendor ends here, what is unknown here is put on record and ended, now or a
//! little later; then work goes on. Nothing of this happens without an operator's order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::App;
use super::super::caller::Context;
use super::super::end;
use super::super::error::Error;
use super::super::provision::facts;
use super::compare::{Comparison, Difference, ReconcileStatus, comparison, look, status};
use crate::base::id::{CredentialId, GrantId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Event;
use crate::model::lease::LeaseState;
use crate::model::scope::Name;
use crate::store::Tx;
use crate::vendor::Found;

/// How long an adopted key lives, if it is not said: longer than most leases, so that nobody's work is cut off.
const KEEP: Ttl = Ttl::from_mins(60);

/// The longest an adopted key may be kept.
const LONGEST: Ttl = Ttl::from_mins(24 * 60);

/// What to do about keys that are not known here.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleAsk {
    /// At this vendor only.
    pub vendor: Option<Name>,
    /// Adopted keys are ended after this span, `1h` if absent, at most a day: whoever holds one may finish.
    pub keep: Option<Ttl>,
}

/// That the database agrees with the vendors.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DoneAsk {
    /// Go on although a vendor could not be listed: keys there stay unknown.
    #[serde(default)]
    pub accept_unreachable: bool,
}

/// Puts unknown keys on record, to be ended later by the timer, and ends here what is gone there. No vendor is asked to
/// change anything.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::Conflict`] when nothing is being reconciled.
pub async fn adopt(app: &App, context: &Context, ask: &SettleAsk) -> Result<Comparison, Error> {
    let keep = ask.keep.unwrap_or(KEEP);
    if keep > LONGEST || keep < Ttl::from_secs(1) {
        return Err(Error::invalid("/keep", "an adopted key is kept for 1s to 1d"));
    }
    settle(app, context, ask, Some(keep)).await?;
    Ok(comparison(app, look(app, context, ask.vendor.as_ref()).await?))
}

/// Ends unknown keys at their vendors now, and here what is gone there. A vendor that does not confirm is tried again once
/// work goes on.
///
/// # Errors
/// As [`adopt`].
pub async fn revoke_unknown(app: &App, context: &Context, ask: &SettleAsk) -> Result<Comparison, Error> {
    if ask.keep.is_some() {
        return Err(Error::invalid("/keep", "keys that are revoked are not kept"));
    }
    for id in settle(app, context, ask, None).await? {
        end::end_as_ordered(app, id).await?;
    }
    Ok(comparison(app, look(app, context, ask.vendor.as_ref()).await?))
}

/// Ends the reconciling: looks once more, and goes on when no key is unknown.
///
/// # Errors
/// [`Error::Conflict`] when nothing is being reconciled, keys are unknown, or a vendor could not be listed; as [`adopt`].
pub async fn done(app: &App, context: &Context, ask: &DoneAsk) -> Result<ReconcileStatus, Error> {
    let operator = context.operator()?;
    open(app)?;
    let differences = look(app, context, None).await?;
    refuse_unsettled(&differences, ask.accept_unreachable)?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let row = super::end(app, &mut tx).await?;
    // What the incarnation before meant to make is this one's to end.
    let _taken_over = tx.adopt_credentials().await?;
    let data = json!({ "incarnation": row.id, "by": operator.name, "accept_unreachable": ask.accept_unreachable });
    let event = app.event(context, "instance.reconciled", &app.instance.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    super::go_on(app, &row).await?;
    status(app, context)
}

fn open(app: &App) -> Result<(), Error> {
    if app.is_reconciling() {
        return Ok(());
    }
    Err(Error::Conflict(
        "this database is not being reconciled; `dekeys credential ls` shows its keys".to_owned(),
    ))
}

fn refuse_unsettled(differences: &[Difference], accept_unreachable: bool) -> Result<(), Error> {
    let vendors = |which: &dyn Fn(&&Difference) -> bool| {
        let names: std::collections::BTreeSet<&str> = differences
            .iter()
            .filter(which)
            .map(|one| one.vendor().as_str())
            .collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    let unknown = vendors(&|one| !one.unknown.is_empty());
    if !unknown.is_empty() {
        return Err(Error::Conflict(format!(
            "keys that nobody here knows live at {unknown}; adopt or revoke them first"
        )));
    }
    let unreachable = vendors(&|one| one.is_unreachable());
    if !unreachable.is_empty() && !accept_unreachable {
        return Err(Error::Conflict(format!(
            "the keys at {unreachable} could not be listed; try again, enter another root credential, or say that this is \
             accepted"
        )));
    }
    Ok(())
}

/// Puts the difference on record. Answers the keys that were unknown.
async fn settle(app: &App, context: &Context, ask: &SettleAsk, keep: Option<Ttl>) -> Result<Vec<CredentialId>, Error> {
    context.operator()?;
    open(app)?;
    let differences = look(app, context, ask.vendor.as_ref()).await?;
    let now = app.now();
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let (mut events, mut taken) = (Vec::new(), Vec::new());
    for difference in &differences {
        for row in &difference.gone {
            events.extend(gone(app, context, &mut tx, row.clone()).await?);
        }
        for found in &difference.unknown {
            let row = adopted(app, difference, found, now, keep);
            tx.insert_credential(&row).await?;
            let mut data = facts(&row);
            if let Some(fields) = data.as_object_mut() {
                fields.insert("name".to_owned(), json!(found.name));
            }
            events.push(app.event(context, "credential.adopted", &row.id, data));
            taken.push(row.id);
        }
    }
    let _none = tx.commit(&events, &[]).await?;
    Ok(taken)
}

/// A key that was unknown, as a credential of no grant.
fn adopted(app: &App, difference: &Difference, found: &Found, now: Timestamp, keep: Option<Ttl>) -> Credential {
    let ends = now.plus(keep.unwrap_or_default());
    Credential {
        id: CredentialId::new(now, app.random.as_ref()),
        vendor: difference.vendor().clone(),
        root: difference.connected.root.id,
        grant: GrantId::NIL,
        item: 0,
        name: found.name.clone(),
        scopes: Vec::new(),
        prim: None,
        lease: None,
        state: if keep.is_some() {
            CredentialState::Active
        } else {
            CredentialState::Revoking
        },
        attempt: 0,
        vendor_key_id: Some(found.vendor_key_id.clone()),
        vendor_expires: None,
        expires: ends,
        next_at: Some(ends),
        first_failed: None,
        last_error: None,
        version: 1,
        created: now,
    }
}

/// A key that the vendor does not have any more: it and its lease are over. It may have changed since it was read.
async fn gone(app: &App, context: &Context, tx: &mut Tx, seen: Credential) -> Result<Vec<Event>, Error> {
    let Some(mut row) = tx.credential(seen.id).await?.filter(|row| !row.state.is_final()) else {
        return Ok(Vec::new());
    };
    if row.state == CredentialState::Active {
        row.state = CredentialState::Revoking;
        tx.update_credential(&row).await?;
    }
    row.state = CredentialState::Revoked;
    row.next_at = None;
    row.last_error = None;
    tx.update_credential(&row).await?;
    tx.drop_sealed(row.id).await?;
    let mut events = vec![app.event(context, "credential.gone", &row.id, facts(&row))];
    let lease = match row.lease {
        Some(id) => tx.lease(id).await?.filter(|lease| lease.state.is_live()),
        None => None,
    };
    if let Some(mut lease) = lease {
        lease.state = LeaseState::Revoked;
        tx.update_lease(&lease).await?;
        let data = json!({ "lease": lease.id, "reason": "its key is gone at the vendor" });
        events.push(app.event(context, "lease.revoked", &lease.id, data));
    }
    Ok(events)
}
