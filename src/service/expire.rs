//! What time ends: leases, grants, approvals, and grants whose maker is gone. Called by a worker; each step is one
//! transaction.

use serde_json::json;

use super::App;
use super::approve::let_go;
use super::error::Error;
use super::{provision, purchase};
use crate::base::id::{CredentialId, LeaseId};
use crate::base::time::Timestamp;
use crate::model::approval::ApprovalState;
use crate::model::event::Event;
use crate::model::grant::GrantState;
use crate::model::lease::LeaseState;
use crate::store::leases::EndedLease;

const BATCH: i64 = 100;

/// Leases that end in one transaction.
const LEASES: i64 = 500;

/// Ends what is over. Answers how many things that were.
///
/// # Errors
/// The store's; [`Error::Sealed`], since grants and approvals cannot be written while sealed.
pub async fn step(app: &App) -> Result<usize, Error> {
    let now = app.now();
    let ended = leases(app, now).await?;
    Ok(ended
        .saturating_add(grants(app, now).await?)
        .saturating_add(approvals(app, now).await?))
}

/// Fails grants that were being made when their process ended: those whose keys were all intended at `before` or
/// earlier. Nothing was paid for them; their keys are looked for and ended. A task that does go on finds its keys
/// given up.
///
/// # Errors
/// As [`step`].
pub async fn left(app: &App, before: Timestamp) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let left = tx.grants_left(before, BATCH).await?;
    drop(tx);
    for stored in left {
        // A forged row is raised, and keeps neither the others nor the unsealing waiting.
        let grant = match app.authentic("grant", stored).await {
            Err(Error::Forged(_)) => continue,
            other => other?,
        };
        let mut tx = app.store.begin().await?;
        let row = tx.grant(grant.id).await?.map(|(row, _)| row.unverified.state);
        if row != Some(GrantState::Provisioning) {
            drop(tx);
            continue;
        }
        let mut events = purchase::fail_grant(app, &mut tx, &grant).await?;
        for credential in tx.credentials_of_grant(grant.id).await? {
            events.extend(provision::abandon(app, &mut tx, credential.id, app.now()).await?);
        }
        let _none = tx.commit(&events, &[]).await?;
        app.control().forget_grant(grant.id);
        app.announce_work();
    }
    Ok(())
}

async fn leases(app: &App, now: Timestamp) -> Result<usize, Error> {
    let mut tx = app.store.read().await?;
    let none = tx.leases_due(now, 1).await?.is_empty();
    tx.end().await?;
    if none {
        return Ok(0);
    }
    let mut tx = app.store.begin().await?;
    let due: Vec<LeaseId> = tx
        .leases_due(now, LEASES)
        .await?
        .into_iter()
        .map(|lease| lease.id)
        .collect();
    let ended = tx.end_leases(&due, LeaseState::Expired).await?;
    let keys: Vec<CredentialId> = ended.iter().map(|lease| lease.credential).collect();
    tx.end_credentials(&keys, now).await?;
    let event = |lease: &EndedLease| {
        let data = json!({ "lease": lease.id, "grant": lease.grant, "vendor": lease.vendor });
        app.own_event("lease.expired", &lease.id, data)
    };
    let events: Vec<Event> = ended.iter().map(event).collect();
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    Ok(ended.len())
}

async fn grants(app: &App, now: Timestamp) -> Result<usize, Error> {
    let mut tx = app.store.read().await?;
    let due = tx.grants_due(now, BATCH).await?;
    drop(tx);
    let count = due.len();
    for stored in due {
        // A forged row is raised and left: it must not keep the others from their end.
        let mut grant = match app.authentic("grant", stored).await {
            Ok(grant) => grant,
            Err(Error::Forged(_)) => continue,
            Err(error) => return Err(error),
        };
        if !grant.state.may_become(GrantState::Expired) {
            continue;
        }
        grant.state = GrantState::Expired;
        let mut tx = app.store.begin().await?;
        let still = tx
            .grant(grant.id)
            .await?
            .is_some_and(|(row, _)| row.unverified.state.may_become(GrantState::Expired));
        if !still {
            drop(tx);
            continue;
        }
        tx.update_grant(&app.stored(grant.clone())?).await?;
        let event = app.own_event("grant.expired", &grant.id, json!({ "grant": grant.id }));
        let _none = tx.commit(&[event], &[]).await?;
        app.control().forget_grant(grant.id);
    }
    Ok(count)
}

async fn approvals(app: &App, now: Timestamp) -> Result<usize, Error> {
    let mut tx = app.store.read().await?;
    let due = tx.approvals_due(now, BATCH).await?;
    drop(tx);
    let count = due.len();
    for stored in due {
        let mut approval = match app.authentic("approval", stored).await {
            Ok(approval) => approval,
            Err(Error::Forged(_)) => continue,
            Err(error) => return Err(error),
        };
        approval.state = ApprovalState::Expired;
        let mut tx = app.store.begin().await?;
        let still = tx
            .approval(approval.id)
            .await?
            .is_some_and(|row| row.unverified.state == ApprovalState::Pending);
        if !still {
            drop(tx);
            continue;
        }
        tx.update_approval(&app.stored(approval.clone())?).await?;
        let mut events = vec![app.own_event("approval.expired", &approval.id, json!({ "approval": approval.id }))];
        events.extend(let_go(app, &mut tx, &approval).await?);
        let _none = tx.commit(&events, &[]).await?;
    }
    Ok(count)
}
