//! The rotation of a key that all grants of a policy share, step by step. Each step is one commit, and each state has
//! a timer, so that any instance goes on where another ended. The lease that dekeys holds names the one current key;
//! a step changes that name once, after the vendor took the new key, and never back.
//!
//! Where the vendor makes another value of the same key (`in_place`, `vendor_overlap`) less is promised: from the
//! vendor's switch to the commit here, and for requests that are under way, an in-place vendor refuses the old value;
//! and when its answer is lost, requests fail until the call was made again.

mod old;
mod promote;
mod renew;

use std::sync::Arc;

use serde_json::json;

pub(super) use old::cut_short;
use old::{finish, overlap, retire_old};
use promote::{promote, test};
use renew::{begin_again, renew};

use super::caller::Context;
use super::control::Connected;
use super::error::Error;
use super::provision::{self, DEADLINE, Saved, facts, key_name};
use super::{App, end, root_rotation, schedule};
use crate::base::id::{CredentialId, LeaseId, RotationId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::{Committed, Event};
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::rotation::{RotateMode, Rotation, RotationKind, RotationState};
use crate::store::rotations::SharedKey;
use crate::store::{Release, Tx};
use crate::vendor::Adapter;

/// How long one try may take before another worker may try.
pub(super) const TRY: Ttl = Ttl::from_secs(30);

/// Between two looks at what somebody else has to do first.
pub(super) const LOOK_AGAIN: Ttl = Ttl::from_secs(1);

/// A vendor that cannot be asked about a new key for so long lets the rotation fail.
const PATIENCE: Ttl = Ttl::from_mins(15);

/// How a rotation is wanted.
pub(super) struct Wish {
    /// How long the key before may be used beside the new one.
    pub(super) grace: Ttl,
    /// It may not be used any more once the new one is current, nor those before it.
    pub(super) revoke_previous: bool,
    /// Who asked.
    pub(super) by: String,
}

/// A rotation that was asked for.
pub(super) enum Begun {
    /// It is on record, and the vendor may be asked.
    New(Box<Started>),
    /// One was under way.
    UnderWay(Box<Rotation>),
}

/// A rotation on record, with what its first call needs.
pub(super) struct Started {
    pub(super) rotation: Rotation,
    connected: Arc<Connected>,
    /// The intent of the new key; `None` where the key stays and gets another value.
    intent: Option<Credential>,
    proofs: Vec<Committed>,
}

/// Puts the intent of a rotation on record.
///
/// # Errors
/// [`Error::Conflict`] where the key is over, cannot be rotated, or the vendor has no room for a second one.
pub(super) async fn begin(app: &App, key: &SharedKey, wish: &Wish, context: Option<&Context>) -> Result<Begun, Error> {
    let connected = app.current_root(&key.vendor).await?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let mode = adapter.rotation().ok_or_else(|| {
        Error::Conflict(format!(
            "the key of {} is its root credential: dekeys vendor rotate-root {}",
            key.vendor, key.vendor
        ))
    })?;
    let life = schedule::life(schedule::period_of(app, key).await?, &connected);
    let now = app.now();
    let mut tx = app.store.begin().await?;
    if let Some(context) = context {
        context.claim_nonce(&mut tx).await?;
    }
    let subject = key.lease.to_string();
    if let Some(running) = tx.rotation_pending(&subject).await? {
        return Ok(Begun::UnderWay(Box::new(running)));
    }
    let (lease, old) = current(&mut tx, key.lease).await?.ok_or_else(over)?;
    let open = tx.rotations_open(&subject).await?.len();
    if mode == RotateMode::TwoSlot && open > 0 {
        let words = "the vendor lets two keys be alive, and the one before has not ended yet; try again when it has";
        return Err(Error::Conflict(words.to_owned()));
    }
    let grace = if wish.revoke_previous {
        Ttl::default()
    } else {
        wish.grace
    };
    let intent = mode
        .makes_another()
        .then(|| intent(app, &connected, &old, &lease, now.plus(life)));
    let rotation = Rotation {
        id: RotationId::new(now, app.random.as_ref()),
        kind: RotationKind::Credential,
        subject,
        vendor: key.vendor.clone(),
        policy: Some(lease.policy.clone()),
        mode,
        state: RotationState::PendingIntent,
        old: old.id.to_string(),
        new: intent.as_ref().map_or(old.id, |intent| intent.id).to_string(),
        grace: adapter.overlap(grace),
        by: wish.by.clone(),
        uses: lease.resolves,
        next_at: Some(now.plus(DEADLINE)),
        last_error: None,
        created: now,
        promoted: None,
        ended: None,
    };
    tx.insert_rotation(&rotation).await?;
    let begun = match context {
        Some(context) => app.event(context, "credential.rotation_begun", &rotation.old, told(&rotation)),
        None => app.own_event("credential.rotation_begun", &rotation.old, told(&rotation)),
    };
    let mut releases = vec![root_release(&begun, &connected)];
    let mut events = vec![begun];
    match &intent {
        Some(intent) => {
            tx.insert_credential(intent).await?;
            events.push(app.own_event("credential.intended", &intent.id, facts(intent)));
        }
        None => releases.extend(events.first().map(|event| key_release(event, &old))),
    }
    let proofs = tx.commit(&events, &releases).await?;
    Ok(Begun::New(Box::new(Started {
        rotation,
        connected,
        intent,
        proofs,
    })))
}

fn over() -> Error {
    Error::Conflict("the key is not in use any more; the next request has another one made".to_owned())
}

/// The lease and its key, while both are in use.
async fn current(tx: &mut Tx, id: LeaseId) -> Result<Option<(Lease, Credential)>, Error> {
    let Some(lease) = tx.lease(id).await?.filter(|lease| lease.state == LeaseState::Active) else {
        return Ok(None);
    };
    let grant = tx.grant(lease.grant).await?.map(|(grant, _)| grant.unverified.state);
    let row = tx.credential(lease.credential).await?;
    let row = row.filter(|row| row.state == CredentialState::Active && grant == Some(GrantState::Active));
    Ok(row.map(|row| (lease, row)))
}

fn intent(app: &App, connected: &Connected, old: &Credential, lease: &Lease, expires: Timestamp) -> Credential {
    let now = app.now();
    let id = CredentialId::new(now, app.random.as_ref());
    Credential {
        id,
        name: key_name(app, connected, id),
        root: connected.root.id,
        lease: Some(lease.id),
        state: CredentialState::Intent,
        attempt: 1,
        vendor_key_id: None,
        vendor_expires: None,
        expires,
        next_at: Some(now.plus(DEADLINE)),
        first_failed: None,
        last_error: None,
        version: old.version.saturating_add(1),
        created: now,
        ..old.clone()
    }
}

fn root_release(event: &Event, connected: &Connected) -> Release {
    Release {
        event: event.id,
        object: connected.root.id.to_string(),
        version: 1,
    }
}

fn key_release(event: &Event, row: &Credential) -> Release {
    Release {
        event: event.id,
        object: row.id.to_string(),
        version: row.version,
    }
}

/// What events tell of a rotation.
fn told(rotation: &Rotation) -> serde_json::Value {
    json!({
        "rotation": rotation.id, "vendor": rotation.vendor, "policy": rotation.policy, "mode": rotation.mode,
        "state": rotation.state, "lease": rotation.subject, "old": rotation.old, "new": rotation.new,
        "grace": rotation.grace, "by": rotation.by, "error": rotation.last_error,
    })
}

/// Drives a rotation in a task of its own: whoever asked may hang up.
pub(super) fn go_on(app: &App, started: Started) {
    let app = app.clone();
    tokio::spawn(async move {
        let id = started.rotation.id;
        match drive(&app, started).await {
            Ok(_) | Err(Error::RotationFailed { .. }) => {}
            Err(error) => tracing::warn!(%error, rotation = %id, "a rotation was broken off; a worker goes on"),
        }
    });
}

/// From the intent until the new key is the current one, or the rotation failed. What is left then is a worker's.
///
/// # Errors
/// The vendor's failure, when that ended it: the key in use was not touched.
pub(super) async fn drive(app: &App, started: Started) -> Result<Rotation, Error> {
    let id = started.rotation.id;
    if started.intent.is_some() {
        make(app, started).await?;
    } else {
        renew(app, started).await?;
    }
    loop {
        let rotation = read(app, id).await?;
        match rotation.state {
            RotationState::PendingCreated => test(app, &rotation).await?,
            RotationState::PendingTested => promote(app, &rotation).await?,
            RotationState::Promoted => overlap(app, &rotation).await?,
            _ => return Ok(rotation),
        }
        let after = read(app, id).await?;
        if after.state == rotation.state {
            return Ok(after);
        }
    }
}

pub(super) async fn read(app: &App, id: RotationId) -> Result<Rotation, Error> {
    let mut tx = app.store.read().await?;
    let rotation = tx.rotation(id).await?.ok_or(Error::NotFound("rotation"))?;
    tx.end().await?;
    Ok(rotation)
}

/// One step of a rotation whose time has come; a worker calls it.
///
/// # Errors
/// The store's and the vault's.
pub(super) async fn step(app: &App, id: RotationId) -> Result<(), Error> {
    let rotation = read(app, id).await?;
    if rotation.kind == RotationKind::Root {
        // Whoever rotates it may have gone on since this worker saw it: its next step has its own time.
        if !end::due(rotation.next_at, app.now()) {
            return Ok(());
        }
        return on_record(root_rotation::step(app, &rotation).await);
    }
    on_record(match rotation.state {
        RotationState::PendingIntent if rotation.mode.makes_another() => found_left(app, &rotation).await,
        RotationState::PendingIntent => match begin_again(app, &rotation).await? {
            Some(started) => renew(app, started).await,
            None => Ok(()),
        },
        RotationState::PendingCreated => test(app, &rotation).await,
        RotationState::PendingTested => promote(app, &rotation).await,
        RotationState::Promoted => overlap(app, &rotation).await,
        RotationState::Overlap => retire_old(app, &rotation).await,
        RotationState::OldRevoking => finish(app, &rotation).await,
        RotationState::Done | RotationState::Failed => Ok(()),
    })
}

/// That a rotation failed is on record with it.
fn on_record(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::RotationFailed { .. }) => Ok(()),
        other => other,
    }
}

/// Asks the vendor for the second key, and puts it on record.
async fn make(app: &App, started: Started) -> Result<(), Error> {
    let (rotation, connected) = (started.rotation, started.connected);
    let (Some(intent), Some(proof)) = (started.intent, started.proofs.into_iter().next()) else {
        return Err(Error::internal("no proof of record"));
    };
    let created = match provision::make(app, &intent, &connected, proof).await {
        Ok(created) => created,
        Err(error) => return fail(app, rotation.id, &error).await,
    };
    let mut tx = app.store.begin().await?;
    let saved = provision::save(app, &mut tx, &intent, created).await?;
    let mut now = tx.rotation(rotation.id).await?.ok_or(Error::NotFound("rotation"))?;
    let event = match saved {
        Saved::Active(_, event) if now.state == RotationState::PendingIntent => {
            now.state = RotationState::PendingCreated;
            now.next_at = Some(app.now().plus(TRY));
            tx.update_rotation(&now).await?;
            event
        }
        Saved::Active(made, event) => {
            // Given up meanwhile: the key dies unseen.
            let abandoned = provision::abandon(app, &mut tx, made.id, app.now()).await?;
            let events: Vec<_> = std::iter::once(event).chain(abandoned).collect();
            let _none = tx.commit(&events, &[]).await?;
            app.announce_work();
            return Ok(());
        }
        Saved::Late(event) => event,
    };
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// Whoever asked the vendor for the second key is gone. The vendor is searched for it like for any key; its value is
/// lost, so the rotation is over, and the next one makes another.
async fn found_left(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let id: CredentialId = rotation.new.parse().map_err(Error::internal)?;
    let mut tx = app.store.read().await?;
    let state = tx.credential(id).await?.map(|row| row.state);
    tx.end().await?;
    match state {
        Some(CredentialState::Intent | CredentialState::Probe) => later(app, rotation, LOOK_AGAIN, None).await,
        _ => {
            fail(
                app,
                rotation.id,
                &Error::internal("the new key was not put on record in time"),
            )
            .await
        }
    }
}

/// The rotation as it is now, if it still stands where it was seen.
pub(super) async fn still(tx: &mut Tx, seen: &Rotation) -> Result<Option<Rotation>, Error> {
    let row = tx.rotation(seen.id).await?;
    Ok(row.filter(|row| row.state == seen.state))
}

/// Each wait is about as long as the trouble has lasted.
pub(super) fn again_in(rotation: &Rotation, now: Timestamp) -> Ttl {
    now.since(rotation.created).clamp(LOOK_AGAIN, Ttl::from_mins(1))
}

/// Looks again in a while, unless somebody has taken it further.
pub(super) async fn later(app: &App, seen: &Rotation, wait: Ttl, trouble: Option<String>) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, seen).await?.filter(|row| !row.state.is_final()) else {
        return Ok(());
    };
    row.next_at = Some(app.now().plus(wait));
    row.last_error = trouble.or(row.last_error);
    tx.update_rotation(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// Gives a rotation up before its new key was current: the key in use stays, the new one is ended. Answers with the
/// error for whoever asked.
async fn fail(app: &App, id: RotationId, why: &Error) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.rotation(id).await?.filter(|row| row.state.is_pending()) else {
        return Ok(());
    };
    let mut events = Vec::new();
    if row.mode.makes_another() {
        let new: CredentialId = row.new.parse().map_err(Error::internal)?;
        events.extend(provision::abandon(app, &mut tx, new, now).await?);
    }
    row.state = RotationState::Failed;
    (row.next_at, row.ended) = (None, Some(now));
    row.last_error = Some(why.to_string());
    tx.update_rotation(&row).await?;
    events.push(app.own_event("credential.rotation_failed", &row.old, told(&row)));
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    tracing::warn!(rotation = %row.id, vendor = %row.vendor, error = %why, "a key was not rotated; the one in use stays");
    Err(Error::RotationFailed {
        why: why.to_string(),
        retryable: !matches!(why, Error::Vendor { retryable: false, .. }),
    })
}

/// What a restart takes up.
///
/// # Errors
/// The store's.
pub(super) async fn at_start(app: &App) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let _woken = tx.wake_rotations(app.now()).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}
