//! The reaper: compares what each vendor lists under this instance's names with what is on record, every few minutes and
//! after a start. A key whose intent is on record here, of this incarnation, and that nobody accounts for is ended; every
//! other one is reported, and people decide. A copy of the database therefore ends nothing that it only sees.
//!
//! Keys of other instances are their own affair: their names begin otherwise. Lists may show keys; only ids and names are
//! read, and none of them is logged but as an orphan.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::App;
use super::breaker::jitter;
use super::connect::open_root;
use super::control::Connected;
use super::error::Error;
use super::provision;
use super::root_rotation::root_name;
use crate::base::id::{OrphanId, RootId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState, vendor_name_prefix};
use crate::model::event::Event;
use crate::model::orphan::{Orphan, OrphanState, Reason};
use crate::model::scope::Name;
use crate::store::orphans::Claimant;
use crate::store::{Release, Tx};
use crate::vendor::{Adapter, Found, Recovery, RootSecret};

/// How soon a vendor that is left alone is looked at again: its list tells whether it is back.
const SOON: Ttl = Ttl::from_secs(60);

/// How long one try to end an orphan may take before another may begin.
const TRY: Ttl = Ttl::from_secs(60);

/// First and longest wait between tries.
const FIRST_WAIT: Ttl = Ttl::from_secs(1);
const LONGEST_WAIT: Ttl = Ttl::from_mins(60);

/// A vendor may list a key for a while after it said that it is dead.
const LAG: Ttl = Ttl::from_mins(1);

/// What is told of an orphan that nobody here ended.
const UNSEEN: &str = "credential.orphan_gone";

/// Names looked up at a time.
const CHUNK: usize = 500;

/// Orphans ended at a time.
const BATCH: i64 = 64;

/// The root credentials whose keys are to be compared now; other instances of a shared database leave them alone.
///
/// # Errors
/// The store's.
pub async fn due(app: &App) -> Result<Vec<(RootId, Name)>, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let due = tx.take_reaps(now, now.plus(app.reap_interval)).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(due)
}

/// Compares one root credential's keys with the vendor's list.
///
/// # Errors
/// The store's and the vault's; a vendor's failure is kept with the comparison.
pub async fn compare(app: &App, id: RootId) -> Result<(), Error> {
    let connected = app.root(id).await?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let now = app.now();
    if connected.manifest.create.is_none() || !adapter.can_list() {
        return keep(app, id, now.plus(app.reap_interval), Some((now, 0)), None).await;
    }
    if app.breakers().take(id, now, 1) == 0 {
        return keep(
            app,
            id,
            now.plus(SOON.min(app.reap_interval)),
            None,
            Some("it is left alone for a while"),
        )
        .await;
    }
    let root = opened(
        app,
        &connected,
        "vendor.listed",
        json!({ "vendor": connected.root.vendor }),
    )
    .await?;
    let named = connected.manifest.recovery() != Recovery::ByDifference;
    let prefix = if named {
        vendor_name_prefix(app.instance.id)
    } else {
        String::new()
    };
    let listed = adapter.list(&app.egress, &root, &prefix);
    match app.asked((id, &connected.root.vendor), "list", listed).await {
        Ok(listed) => {
            let count = i64::try_from(listed.len()).unwrap_or(i64::MAX);
            settle(app, &connected, listed, named).await?;
            keep(app, id, now.plus(app.reap_interval), Some((app.now(), count)), None).await
        }
        Err(failure) => {
            let again = if app.breakers().is_open(id) {
                SOON
            } else {
                app.reap_interval
            };
            keep(
                app,
                id,
                now.plus(again.min(app.reap_interval)),
                None,
                Some(&failure.words),
            )
            .await
        }
    }
}

async fn keep(
    app: &App,
    root: RootId,
    next: Timestamp,
    passed: Option<(Timestamp, i64)>,
    trouble: Option<&str>,
) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    tx.keep_reap(root, next, passed, trouble).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// Opens the root credential for what the event tells.
async fn opened(app: &App, connected: &Connected, kind: &str, data: serde_json::Value) -> Result<RootSecret, Error> {
    let event = app.own_event(kind, &connected.root.id, data);
    let release = Release {
        event: event.id,
        object: connected.root.id.to_string(),
        version: 1,
    };
    let tx = app.store.begin().await?;
    let proofs = tx.commit(&[event], &[release]).await?;
    open_root(app, connected, proofs).await
}

/// Puts on record what the list shows: keys nobody accounts for, and orphans that it no longer holds.
async fn settle(app: &App, connected: &Connected, listed: Vec<Found>, named: bool) -> Result<(), Error> {
    let now = app.now();
    let ids: HashSet<String> = listed.iter().map(|found| found.vendor_key_id.clone()).collect();
    if named {
        let roots = root_names(app, connected).await?;
        let listed: Vec<Found> = listed
            .into_iter()
            .filter(|found| !roots.contains(&found.name))
            .collect();
        for chunk in listed.chunks(CHUNK) {
            let mut tx = app.store.begin().await?;
            let events = account(app, &mut tx, connected, chunk, now).await?;
            let _none = tx.commit(&events, &[]).await?;
        }
    }
    let mut tx = app.store.begin().await?;
    let mut events = Vec::new();
    for mut orphan in tx.orphans_of_root(connected.root.id).await? {
        if ids.contains(&orphan.vendor_key_id) {
            orphan.seen = now;
            tx.update_orphan(&orphan).await?;
        } else {
            events.push(gone(app, &mut tx, unseen(orphan), UNSEEN).await?);
        }
    }
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    Ok(())
}

/// The names of root credentials that dekeys made by itself: some vendors list them among the others.
async fn root_names(app: &App, connected: &Connected) -> Result<HashSet<String>, Error> {
    let mut tx = app.store.read().await?;
    let ids = tx.root_ids().await?;
    tx.end().await?;
    let name = |id: &String| connected.manifest.shaped(&root_name(app, id));
    Ok(ids.iter().map(name).collect())
}

/// What each listed key is to dekeys.
async fn account(
    app: &App,
    tx: &mut Tx,
    connected: &Connected,
    listed: &[Found],
    now: Timestamp,
) -> Result<Vec<Event>, Error> {
    let names: Vec<String> = listed.iter().map(|found| found.name.clone()).collect();
    let keys: Vec<String> = listed.iter().map(|found| found.vendor_key_id.clone()).collect();
    let claimants = tx.claimants(&connected.root.vendor, &names, &keys).await?;
    let by_key: HashMap<&str, &Claimant> = claimants
        .iter()
        .filter_map(|claimant| Some((claimant.vendor_key_id.as_deref()?, claimant)))
        .collect();
    let by_name: HashMap<&str, &Claimant> = claimants
        .iter()
        .filter(|claimant| !claimant.name.is_empty())
        .map(|claimant| (claimant.name.as_str(), claimant))
        .collect();
    let mut events = Vec::new();
    for found in listed {
        let same = by_key.get(found.vendor_key_id.as_str());
        let claimant = same.or_else(|| by_name.get(found.name.as_str()));
        match verdict(claimant.copied(), same.is_some(), connected.root.id) {
            Verdict::Known => {}
            Verdict::Late(claimant) => events.extend(late(app, tx, claimant, found, now).await?),
            Verdict::Orphan(claimant, reason) => {
                let known = (claimant.map(|claimant| claimant.id), reason);
                events.extend(report(app, tx, connected, found, known, now).await?);
            }
        }
    }
    Ok(events)
}

/// What a listed key is.
enum Verdict<'c> {
    /// As it should be, or its own recovery looks after it.
    Known,
    /// The key of an intent that counted as never made.
    Late(&'c Claimant),
    /// Nobody accounts for it.
    Orphan(Option<&'c Claimant>, Reason),
}

/// `same`: the claimant is known to have this very key, and not only its name. One that is ended with another root
/// credential than the one that lists it is ended as an orphan, with the latter.
fn verdict(claimant: Option<&Claimant>, same: bool, root: RootId) -> Verdict<'_> {
    use CredentialState::{Active, Failed, Intent, Probe, Revoked, Revoking, Stuck};
    let Some(claimant) = claimant else {
        return Verdict::Orphan(None, Reason::UnknownName);
    };
    let other = claimant.vendor_key_id.is_some() && !same;
    match claimant.state {
        Intent | Probe => Verdict::Known,
        Active | Revoking | Stuck if same => Verdict::Known,
        // Not acted on by a copy of the database: another incarnation has the say.
        _ if !claimant.own => Verdict::Orphan(Some(claimant), Reason::OtherIncarnation),
        _ if other => Verdict::Orphan(Some(claimant), Reason::Double),
        Failed if claimant.root != root => Verdict::Orphan(Some(claimant), Reason::Double),
        Active | Revoking | Stuck | Failed => Verdict::Late(claimant),
        Revoked => Verdict::Orphan(Some(claimant), Reason::StillListed),
    }
}

/// An intent whose key is found only now: the id is known from now on, and the key is ended.
async fn late(
    app: &App,
    tx: &mut Tx,
    claimant: &Claimant,
    found: &Found,
    now: Timestamp,
) -> Result<Option<Event>, Error> {
    let Some(mut row) = tx.credential(claimant.id).await? else {
        return Ok(None);
    };
    if row.vendor_key_id.is_some() {
        return Ok(None);
    }
    row.vendor_key_id = Some(found.vendor_key_id.clone());
    if row.state == CredentialState::Failed {
        row.state = CredentialState::Revoking;
        row.attempt = 0;
    }
    if matches!(row.state, CredentialState::Revoking | CredentialState::Stuck) {
        row.next_at = Some(now);
    }
    tx.update_credential(&row).await?;
    Ok(Some(app.own_event("credential.found", &row.id, provision::facts(&row))))
}

/// Keeps an orphan, once.
async fn report(
    app: &App,
    tx: &mut Tx,
    connected: &Connected,
    found: &Found,
    (credential, reason): (Option<crate::base::id::CredentialId>, Reason),
    now: Timestamp,
) -> Result<Option<Event>, Error> {
    let wait = connected.manifest.settles_in().max(LAG);
    let (state, next_at) = match reason {
        Reason::StillListed => (OrphanState::Revoking, Some(now.plus(wait))),
        _ if reason.is_ours() => (OrphanState::Revoking, Some(now)),
        _ => (OrphanState::Reported, None),
    };
    let orphan = Orphan {
        id: OrphanId::new(now, app.random.as_ref()),
        vendor: connected.root.vendor.clone(),
        root: connected.root.id,
        vendor_key_id: found.vendor_key_id.clone(),
        name: found.name.clone(),
        credential,
        reason,
        state,
        attempt: 0,
        next_at,
        last_error: None,
        found: now,
        seen: now,
    };
    if !tx.keep_orphan(&orphan).await? {
        return Ok(None);
    }
    tracing::warn!(orphan = %orphan.id, vendor = %orphan.vendor, reason = reason.as_str(), "a vendor lists a key that nobody here accounts for");
    Ok(Some(app.own_event(
        "credential.orphan_found",
        &orphan.id,
        facts(&orphan),
    )))
}

/// Those to be ended now.
///
/// # Errors
/// The store's.
pub async fn to_end(app: &App) -> Result<Vec<Orphan>, Error> {
    let mut tx = app.store.read().await?;
    let due = tx.orphans_due(app.now(), BATCH).await?;
    tx.end().await?;
    Ok(due)
}

/// Ends one orphan. The vendor is asked again under which name it has the key: what this database says of an orphan is
/// not authentic, and a key with another name is never ended.
///
/// # Errors
/// The store's and the vault's; a vendor's failure is put on record.
pub async fn end(app: &App, id: OrphanId) -> Result<(), Error> {
    let Some((orphan, connected, root)) = begin(app, id).await? else {
        return Ok(());
    };
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let place = (orphan.root, &orphan.vendor);
    let named = connected.manifest.recovery() != Recovery::ByDifference;
    if named {
        let listed = adapter.find(&app.egress, &root, &orphan.name);
        let found = match app.asked(place, "find", listed).await {
            Ok(found) => found,
            Err(failure) => return not_yet(app, orphan, failure.words, failure.retry_after).await,
        };
        if !found.iter().any(|found| found.vendor_key_id == orphan.vendor_key_id) {
            return ended(app, unseen(orphan), UNSEEN).await;
        }
    }
    let revoked = adapter.revoke(&app.egress, &root, &orphan.vendor_key_id, None);
    match app.asked(place, "revoke", revoked).await {
        Ok(_gone) => ended(app, orphan, "credential.orphan_revoked").await,
        Err(failure) => not_yet(app, orphan, failure.words, failure.retry_after).await,
    }
}

/// Takes the try, and opens the root credential for it. `None`: somebody was first, or it may not be ended.
async fn begin(app: &App, id: OrphanId) -> Result<Option<(Orphan, std::sync::Arc<Connected>, RootSecret)>, Error> {
    let mut tx = app.store.read().await?;
    let Some(before) = tx.orphan(id).await? else {
        return Ok(None);
    };
    tx.end().await?;
    let connected = app.root(before.root).await?;
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let Some(mut orphan) = tx
        .orphan(id)
        .await?
        .filter(|orphan| orphan.state == OrphanState::Revoking)
    else {
        return Ok(None);
    };
    if orphan.next_at.is_none_or(|at| at > now) {
        return Ok(None);
    }
    if orphan.reason.is_ours() && !is_own(&mut tx, &orphan).await? {
        orphan.state = OrphanState::Reported;
        orphan.next_at = None;
        tx.update_orphan(&orphan).await?;
        let event = app.own_event("credential.orphan_reported", &orphan.id, facts(&orphan));
        let _none = tx.commit(&[event], &[]).await?;
        return Ok(None);
    }
    orphan.attempt = orphan.attempt.saturating_add(1);
    orphan.next_at = Some(now.plus(TRY));
    tx.update_orphan(&orphan).await?;
    let event = app.own_event("credential.orphan_revoking", &orphan.id, facts(&orphan));
    let release = Release {
        event: event.id,
        object: orphan.root.to_string(),
        version: 1,
    };
    let proofs = tx.commit(&[event], &[release]).await?;
    let root = open_root(app, &connected, proofs).await?;
    Ok(Some((orphan, connected, root)))
}

/// Whether the intent of an orphan is on record here, of this incarnation, under the name that the orphan bears.
async fn is_own(tx: &mut Tx, orphan: &Orphan) -> Result<bool, Error> {
    let names = [orphan.name.clone()];
    let claimants = tx.claimants(&orphan.vendor, &names, &[]).await?;
    Ok(claimants
        .iter()
        .any(|claimant| claimant.own && Some(claimant.id) == orphan.credential))
}

async fn ended(app: &App, orphan: Orphan, kind: &'static str) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let event = gone(app, &mut tx, orphan, kind).await?;
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// Gone as far as a list tells, and lists may lag: should the vendor list it again, it is taken up anew.
fn unseen(orphan: Orphan) -> Orphan {
    Orphan { attempt: 0, ..orphan }
}

/// The vendor does not have it any more. A credential that was in doubt because of it is looked at again.
async fn gone(app: &App, tx: &mut Tx, mut orphan: Orphan, kind: &'static str) -> Result<Event, Error> {
    orphan.state = OrphanState::Gone;
    orphan.next_at = None;
    orphan.last_error = None;
    tx.update_orphan(&orphan).await?;
    look_again(app, tx, &orphan).await?;
    Ok(app.own_event(kind, &orphan.id, facts(&orphan)))
}

/// Has the credential looked at that waits for this orphan to be settled.
pub(super) async fn look_again(app: &App, tx: &mut Tx, orphan: &Orphan) -> Result<(), Error> {
    let Some(id) = orphan.credential.filter(|_| orphan.reason == Reason::Appeared) else {
        return Ok(());
    };
    if let Some(row) = tx.credential(id).await?
        && row.state == CredentialState::Stuck
    {
        let row = Credential {
            next_at: Some(app.now()),
            ..row
        };
        tx.update_credential(&row).await?;
    }
    Ok(())
}

async fn not_yet(app: &App, orphan: Orphan, words: String, told: Option<Ttl>) -> Result<(), Error> {
    let doublings = u32::try_from(orphan.attempt.clamp(1, 13))
        .unwrap_or(13)
        .saturating_sub(1);
    let wait = told.unwrap_or_else(|| jitter(FIRST_WAIT, LONGEST_WAIT, doublings, app.random.as_ref()));
    let mut tx = app.store.begin().await?;
    let orphan = Orphan {
        next_at: Some(app.now().plus(wait)),
        last_error: Some(words),
        ..orphan
    };
    tx.update_orphan(&orphan).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// What events tell of an orphan.
pub(super) fn facts(orphan: &Orphan) -> serde_json::Value {
    json!({
        "vendor": orphan.vendor,
        "vendor_key_id": orphan.vendor_key_id,
        "name": orphan.name,
        "credential": orphan.credential,
        "reason": orphan.reason,
        "state": orphan.state,
    })
}
