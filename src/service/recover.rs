//! After a crash or a lost answer: looking for keys whose making was intended, before anything is repeated.

use serde_json::json;

use super::connect::open_root;
use super::error::Error;
use super::provision::{DEADLINE, facts};
use super::{App, end};
use crate::base::id::CredentialId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState, vendor_name};
use crate::model::event::Event;
use crate::model::lease::LeaseState;
use crate::store::{Release, Tx};
use crate::vendor::Adapter;

const TRY: Ttl = Ttl::from_secs(30);

/// A key that a vendor's list did not show is looked for again after this long, in case the list lags; after more
/// each time.
const LAG: Ttl = Ttl::from_secs(2);

/// How often a vendor is searched without a find, at least, before the key counts as never made. Also not before a
/// request that outlived its sender must have arrived: [`DEADLINE`] after the intent.
const SEARCHES: i64 = 2;

/// Nor before its creation could not be under way any more: a vendor may take its time, and an answer may come late.
const UNDER_WAY: Ttl = DEADLINE;

/// The longest wait between searches at a vendor that does not answer.
const LONGEST_WAIT: Ttl = Ttl::from_mins(60);

/// One step for a credential whose time has come, whatever its state.
///
/// # Errors
/// The store's and the vault's.
pub async fn step(app: &App, id: CredentialId) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let Some(row) = tx.credential(id).await? else {
        return Ok(());
    };
    drop(tx);
    if !end::due(row.next_at, app.now()) {
        return Ok(());
    }
    match row.state {
        CredentialState::Intent | CredentialState::Probe => probe(app, id).await,
        CredentialState::Active => over(app, id).await,
        CredentialState::Revoking | CredentialState::Stuck => end::end(app, id).await.map(drop),
        CredentialState::Revoked | CredentialState::Failed => Ok(()),
    }
}

/// A live key whose time is over: to be ended.
async fn over(app: &App, id: CredentialId) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.credential(id).await? else {
        return Ok(());
    };
    if row.state != CredentialState::Active || !end::due(row.next_at, now) {
        return Ok(());
    }
    row.state = CredentialState::Revoking;
    row.attempt = 0;
    row.next_at = Some(now);
    tx.update_credential(&row).await?;
    let event = app.own_event("credential.expired", &row.id, facts(&row));
    let _none = tx.commit(&[event], &[]).await?;
    end::end(app, id).await.map(drop)
}

/// Searches the vendor for every name this credential may have. A find is ended: its value was lost.
async fn probe(app: &App, id: CredentialId) -> Result<(), Error> {
    let Some((row, root)) = begin(app, id).await? else {
        return Ok(());
    };
    let connected = app.root(row.root).await?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let name = vendor_name(app.instance.id, row.id, 1);
    let found = adapter.find(&app.egress, &root, &name);
    match app.asked(&row.vendor, "find", found).await {
        Ok(found) => match found.into_iter().next() {
            Some(found) => settle(app, row, CredentialState::Revoking, Some(found.vendor_key_id)).await,
            None if row.attempt > SEARCHES && row.created.plus(UNDER_WAY) <= app.now() => {
                settle(app, row, CredentialState::Failed, None).await
            }
            None => later(app, row, None, LAG).await,
        },
        Err(failure) => {
            let tried = row
                .first_failed
                .map_or_else(Ttl::default, |since| app.now().since(since));
            // Each wait is about as long as the trouble has lasted.
            let wait = failure
                .retry_after
                .unwrap_or_else(|| tried.clamp(Ttl::from_secs(5), LONGEST_WAIT));
            later(app, row, Some(failure.words), wait).await
        }
    }
}

async fn begin(app: &App, id: CredentialId) -> Result<Option<(Credential, crate::vendor::RootSecret)>, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.credential(id).await? else {
        return Ok(None);
    };
    if !matches!(row.state, CredentialState::Intent | CredentialState::Probe) || !end::due(row.next_at, now) {
        drop(tx);
        return Ok(None);
    }
    row.attempt = if row.state == CredentialState::Intent {
        1
    } else {
        row.attempt.saturating_add(1)
    };
    row.state = CredentialState::Probe;
    row.next_at = Some(now.plus(TRY));
    tx.update_credential(&row).await?;
    let event = app.own_event("credential.probed", &row.id, facts(&row));
    let mut events = vec![event.clone()];
    events.extend(drop_lease(app, &mut tx, &row).await?);
    let release = Release {
        event: event.id,
        object: row.root.to_string(),
        version: 1,
    };
    let proofs = tx.commit(&events, &[release]).await?;
    app.announce_lease();
    let connected = app.root(row.root).await?;
    let root = open_root(app, &connected, proofs).await?;
    Ok(Some((row, root)))
}

async fn settle(app: &App, mut row: Credential, state: CredentialState, key: Option<String>) -> Result<(), Error> {
    let now = app.now();
    row.state = state;
    row.attempt = 0;
    row.next_at = (!state.is_final()).then_some(now);
    row.vendor_key_id = key.or(row.vendor_key_id);
    let mut tx = app.store.begin().await?;
    tx.update_credential(&row).await?;
    let kind = if state == CredentialState::Failed {
        "credential.not_found"
    } else {
        "credential.found"
    };
    let mut events = vec![app.own_event(kind, &row.id, facts(&row))];
    events.extend(drop_lease(app, &mut tx, &row).await?);
    let _none = tx.commit(&events, &[]).await?;
    app.announce_lease();
    if state == CredentialState::Revoking {
        return end::end(app, row.id).await.map(drop);
    }
    Ok(())
}

/// A lease that waits for a key whose value is lost will never get it; the prim may have another at once.
async fn drop_lease(app: &App, tx: &mut Tx, row: &Credential) -> Result<Option<Event>, Error> {
    let Some(id) = row.lease else { return Ok(None) };
    let Some(mut lease) = tx.lease(id).await?.filter(|lease| lease.state == LeaseState::Pending) else {
        return Ok(None);
    };
    lease.state = LeaseState::Revoked;
    tx.update_lease(&lease).await?;
    let reason = json!({ "reason": "its key could not be made" });
    Ok(Some(app.own_event("lease.revoked", &lease.id, reason)))
}

async fn later(app: &App, mut row: Credential, trouble: Option<String>, wait: Ttl) -> Result<(), Error> {
    let now: Timestamp = app.now();
    if trouble.is_some() {
        // A vendor that cannot be asked has not been searched.
        row.attempt = row.attempt.saturating_sub(1);
        row.last_error = trouble;
    }
    row.first_failed.get_or_insert(now);
    row.next_at = Some(now.plus(wait));
    let mut tx = app.store.begin().await?;
    tx.update_credential(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// At start: everything that was left half done is looked at now, not at its timer.
///
/// # Errors
/// The store's.
pub async fn at_start(app: &App) -> Result<usize, Error> {
    let mut tx = app.store.begin().await?;
    let rows = tx.unfinished_credentials().await?;
    let now = app.now();
    let mut count = 0usize;
    for mut row in rows.into_iter().filter(|row| row.state != CredentialState::Active) {
        if row.state == CredentialState::Revoking {
            // It should have been dead since then: starting anew does not restart the alarm's clock.
            row.first_failed = row.first_failed.or_else(|| row.next_at.filter(|due| *due < now));
        }
        row.next_at = Some(now);
        tx.update_credential(&row).await?;
        count = count.saturating_add(1);
    }
    let events = if count == 0 {
        Vec::new()
    } else {
        vec![app.own_event("vault.recovered", &app.instance.id, json!({ "credentials": count }))]
    };
    let _none = tx.commit(&events, &[]).await?;
    Ok(count)
}
