//! After a crash or a lost answer: looking for keys whose making was intended, before anything is repeated.

use serde_json::json;

use super::breaker::jitter;
use super::connect::open_root;
use super::error::Error;
use super::provision::{DEADLINE, facts};
use super::search::{self, Sought};
use super::{App, end, provision, reap};
use crate::base::id::{CredentialId, RootId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Event;
use crate::model::lease::LeaseState;
use crate::model::orphan::{OrphanState, Reason};
use crate::store::{Release, Tx};
use crate::vendor::{Adapter, Found};

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

/// Most calls that dekeys has under way by itself with a root credential.
pub async fn at_once(app: &App, root: RootId) -> usize {
    match app.root(root).await {
        Ok(connected) => connected.manifest.at_once(),
        // A row that is not authentic is told by the step that meets it.
        Err(_) => 1,
    }
}

/// One step for a credential whose time has come, whatever its state.
///
/// # Errors
/// The store's and the vault's.
pub async fn step(app: &App, id: CredentialId) -> Result<(), Error> {
    app.refuse_while_reconciling()?;
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

/// Searches the vendor for the key of an intent. A find is ended: its value was lost.
async fn probe(app: &App, id: CredentialId) -> Result<(), Error> {
    let Some((row, root)) = begin(app, id).await? else {
        return Ok(());
    };
    if row.vendor_key_id.is_some() {
        // The answer's first look was put on record: nothing has to be searched.
        return settle(app, row, CredentialState::Revoking, Vec::new()).await;
    }
    let connected = app.root(row.root).await?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    // Before it is asked: what arrives while the vendor answers is not in the answer.
    let under_way = row.created.plus(UNDER_WAY) > app.now();
    match search::search(app, &row, &adapter, &root).await? {
        Ok(Sought::Keys(found)) => settle(app, row, CredentialState::Revoking, found).await,
        Ok(Sought::Never) => settle(app, row, CredentialState::Failed, Vec::new()).await,
        Ok(Sought::Nothing) if row.attempt > SEARCHES && !under_way => {
            settle(app, row, CredentialState::Failed, Vec::new()).await
        }
        Ok(Sought::Nothing) => later(app, row, None, LAG).await,
        Ok(Sought::Appeared(_)) if under_way => later(app, row, None, LAG).await,
        Ok(Sought::Appeared(ids)) => in_doubt(app, row, ids).await,
        Ok(Sought::Wait(wait)) => {
            let row = Credential {
                first_failed: None,
                ..row
            };
            later(app, row, None, wait).await
        }
        Err(failure) => {
            // Each wait may be as long as the trouble has lasted.
            let tried = row
                .first_failed
                .map_or_else(Ttl::default, |since| app.now().since(since));
            let longest = tried.clamp(Ttl::from_secs(5), LONGEST_WAIT);
            let wait = failure
                .retry_after
                .unwrap_or_else(|| jitter(longest, longest, 0, app.random.as_ref()));
            later(app, row, Some(failure.words), wait).await
        }
    }
}

/// A key without a name may be one of several that appeared: they are reported, and people decide. Until then the
/// credential counts as one that may live.
async fn in_doubt(app: &App, mut row: Credential, ids: Vec<String>) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let mut events = Vec::with_capacity(ids.len().saturating_add(1));
    for vendor_key_id in ids {
        let found = Found {
            vendor_key_id,
            name: String::new(),
        };
        let mut orphan = provision::orphan(app, &row, found, Reason::Appeared, now);
        (orphan.state, orphan.next_at) = (OrphanState::Reported, None);
        if tx.keep_orphan(&orphan).await? {
            events.push(app.own_event("credential.orphan_found", &orphan.id, reap::facts(&orphan)));
        }
    }
    tx.end_making(row.id).await?;
    row.state = CredentialState::Stuck;
    row.attempt = 0;
    row.first_failed.get_or_insert(now);
    row.next_at = Some(now.plus(LONGEST_WAIT));
    row.last_error = Some("its answer was lost, and keys there have no names: see the orphans".to_owned());
    tx.update_credential(&row).await?;
    events.push(app.own_event("lease.revocation_failed", &row.id, facts(&row)));
    events.extend(drop_lease(app, &mut tx, &row).await?);
    let _none = tx.commit(&events, &[]).await?;
    app.announce_lease();
    Ok(())
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

async fn settle(app: &App, mut row: Credential, state: CredentialState, keys: Vec<Found>) -> Result<(), Error> {
    let now = app.now();
    row.state = state;
    row.attempt = 0;
    row.next_at = (!state.is_final()).then_some(now);
    let mut keys = keys.into_iter();
    row.vendor_key_id = row
        .vendor_key_id
        .or_else(|| keys.next().map(|found| found.vendor_key_id));
    let mut tx = app.store.begin().await?;
    // An answer that came late may have told more meanwhile.
    let current = tx.credential(row.id).await?.ok_or(Error::NotFound("credential"))?;
    if current.state != CredentialState::Probe {
        return Ok(());
    }
    row.vendor_key_id = current.vendor_key_id.or(row.vendor_key_id);
    if row.vendor_key_id.is_some() && state == CredentialState::Failed {
        (row.state, row.next_at) = (CredentialState::Revoking, Some(now));
    }
    let state = row.state;
    tx.update_credential(&row).await?;
    tx.end_making(row.id).await?;
    let kind = if state == CredentialState::Failed {
        "credential.not_found"
    } else {
        "credential.found"
    };
    let mut events = vec![app.own_event(kind, &row.id, facts(&row))];
    for found in keys.filter(|found| Some(&found.vendor_key_id) != row.vendor_key_id.as_ref()) {
        let orphan = provision::orphan(app, &row, found, Reason::Double, now);
        if tx.keep_orphan(&orphan).await? {
            events.push(app.own_event("credential.orphan_found", &orphan.id, reap::facts(&orphan)));
        }
    }
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

async fn later(app: &App, row: Credential, trouble: Option<String>, wait: Ttl) -> Result<(), Error> {
    let now: Timestamp = app.now();
    let mut tx = app.store.begin().await?;
    // An answer that came late may have told more meanwhile.
    let current = tx.credential(row.id).await?.ok_or(Error::NotFound("credential"))?;
    if current.state != CredentialState::Probe {
        return Ok(());
    }
    let mut row = Credential {
        vendor_key_id: current.vendor_key_id,
        ..row
    };
    if trouble.is_some() {
        // A vendor that cannot be asked has not been searched.
        row.attempt = row.attempt.saturating_sub(1);
        row.first_failed.get_or_insert(now);
    }
    row.last_error = trouble;
    row.next_at = Some(if row.vendor_key_id.is_some() {
        now
    } else {
        now.plus(wait)
    });
    tx.update_credential(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// At start: everything that was left half done is looked at now, not at its timer.
///
/// # Errors
/// The store's.
pub async fn at_start(app: &App) -> Result<u64, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let count = tx.take_up_credentials(now).await?;
    let events = if count == 0 {
        Vec::new()
    } else {
        vec![app.own_event("vault.recovered", &app.instance.id, json!({ "credentials": count }))]
    };
    let _none = tx.commit(&events, &[]).await?;
    Ok(count)
}
