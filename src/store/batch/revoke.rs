//! Ending a lease, or a grant with all that hangs on it.

use std::collections::HashMap;

use serde_json::Value;

use crate::base::id::{CredentialId, GrantId, LeaseId};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::event::Event;
use crate::model::grant::{Grant, GrantState};
use crate::model::lease::{Lease, LeaseState};
use crate::model::scope::Name;
use crate::store::ask::{RevokeAsk, RevokeOutcome, RevokeTarget};
use crate::store::{StoreError, Tx};

/// Ends what the ask names. No event when nothing was left to end.
pub(super) async fn apply(
    tx: &mut Tx,
    ask: &RevokeAsk,
    now: Timestamp,
) -> Result<(RevokeOutcome, Option<Event>), StoreError> {
    let outcome = match &ask.target {
        RevokeTarget::Lease(id) => lease(tx, *id, now).await?,
        RevokeTarget::Grant(stored) => grant(tx, stored, now).await?,
    };
    let event = outcome.changed.then(|| event(ask, &outcome, now));
    Ok((outcome, event))
}

async fn lease(tx: &mut Tx, id: LeaseId, now: Timestamp) -> Result<RevokeOutcome, StoreError> {
    let lease = tx.lease(id).await?.ok_or(StoreError::Absent("lease"))?;
    if !lease.state.is_live() {
        return Ok(RevokeOutcome::default());
    }
    let word = if lease.expires > now {
        LeaseState::Revoked
    } else {
        LeaseState::Expired
    };
    tx.ask("UPDATE leases SET state = $2 WHERE id = $1")
        .bind(id)
        .bind(word.as_str())
        .run_on("lease")
        .await?;
    tx.count_live(&lease.policy, -1).await?;
    let credentials = tx
        .ask(
            "UPDATE credentials SET state = CASE state WHEN 'active' THEN 'revoking' ELSE 'probe' END, next_at = $2 \
             WHERE id = $1 AND state IN ('intent', 'active') RETURNING id",
        )
        .bind(lease.credential)
        .bind(now)
        .all()
        .await?;
    Ok(RevokeOutcome {
        changed: true,
        leases: vec![id],
        credentials: ids(credentials)?,
    })
}

async fn grant(tx: &mut Tx, stored: &Stored<Grant>, now: Timestamp) -> Result<RevokeOutcome, StoreError> {
    let id = stored.unverified.id;
    let state = tx.grant_state(id).await?.ok_or(StoreError::Absent("grant"))?;
    if state.is_final() {
        return Ok(RevokeOutcome::default());
    }
    tx.update_grant(stored).await?;
    let word = match stored.unverified.state {
        GrantState::Expired => LeaseState::Expired,
        _ => LeaseState::Revoked,
    };
    Ok(RevokeOutcome {
        changed: true,
        leases: end_leases(tx, id, word).await?,
        credentials: end_credentials(tx, id, now).await?,
    })
}

async fn end_leases(tx: &mut Tx, grant: GrantId, word: LeaseState) -> Result<Vec<LeaseId>, StoreError> {
    let live: Vec<Lease> = tx
        .leases_of_grant(grant)
        .await?
        .into_iter()
        .filter(|lease| lease.state.is_live())
        .collect();
    tx.ask("UPDATE leases SET state = $2 WHERE grant_id = $1 AND state IN ('pending', 'active')")
        .bind(grant)
        .bind(word.as_str())
        .run()
        .await?;
    let mut counts: HashMap<&Name, i64> = HashMap::new();
    for lease in &live {
        *counts.entry(&lease.policy).or_default() -= 1;
    }
    for (policy, more) in counts {
        tx.count_live(policy, more).await?;
    }
    Ok(live.into_iter().map(|lease| lease.id).collect())
}

/// Keys that are out or held, and keys that are being made: their maker may be at the vendor just now.
async fn end_credentials(tx: &mut Tx, grant: GrantId, now: Timestamp) -> Result<Vec<CredentialId>, StoreError> {
    let ended = tx
        .ask(
            "UPDATE credentials SET state = CASE state WHEN 'active' THEN 'revoking' ELSE 'probe' END, next_at = $2 \
             WHERE grant_id = $1 AND state IN ('intent', 'active') RETURNING id",
        )
        .bind(grant)
        .bind(now)
        .all()
        .await?;
    ids(ended)
}

fn ids(texts: Vec<String>) -> Result<Vec<CredentialId>, StoreError> {
    let parse = |text: String| text.parse().map_err(|_| StoreError::corrupt("credentials.id"));
    texts.into_iter().map(parse).collect()
}

fn event(ask: &RevokeAsk, outcome: &RevokeOutcome, now: Timestamp) -> Event {
    let object = match &ask.target {
        RevokeTarget::Lease(id) => id.to_string(),
        RevokeTarget::Grant(stored) => stored.unverified.id.to_string(),
    };
    let mut data = ask.data.clone();
    let list = |ids: Vec<String>| Value::from(ids);
    data.insert(
        "leases".to_owned(),
        list(outcome.leases.iter().map(ToString::to_string).collect()),
    );
    data.insert(
        "credentials".to_owned(),
        list(outcome.credentials.iter().map(ToString::to_string).collect()),
    );
    Event {
        id: ask.event,
        kind: ask.kind.clone(),
        timestamp: now,
        livemode: ask.livemode,
        actor: ask.actor.clone(),
        object,
        data: Value::Object(data),
        request_id: ask.request_id,
    }
}
