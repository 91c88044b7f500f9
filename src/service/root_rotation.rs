//! The rotation of a root credential, step by step, each one commit. The new one must prove that it can list keys and
//! make one before it becomes the current one; what the old one made is the new one's from that commit on. The old one
//! is ended where the vendor's API can, and else by people: dekeys asks the vendor with it now and then until it is
//! refused.
//!
//! Not protected: where the vendor switches in place and its answer is lost, nobody has the root credential any more,
//! and somebody must make one at the vendor by hand. So no schedule does that.

mod prove;

use std::sync::Arc;

use serde_json::json;

use prove::proves;

use super::App;
use super::caller::Context;
use super::connect::open_root;
use super::control::{Connected, root_place};
use super::error::Error;
use super::provision::DEADLINE;
use super::rotation::{LOOK_AGAIN, TRY, again_in, later, read, still};
use crate::base::canonical::Canonical;
use crate::base::id::{CredentialId, RootId, RotationId};
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::vendor_name;
use crate::model::event::Committed;
use crate::model::root::Root;
use crate::model::rotation::{RotateMode, Rotation, RotationKind, RotationState};
use crate::model::scope::Name;
use crate::store::{Release, Tx};
use crate::vendor::{Adapter, Alive, Existence, FailureClass, RootSecret, VendorFailure};

/// What was begun with the old root credential ends within this, whatever grace is asked for.
const LEAST_GRACE: Ttl = Ttl::from_mins(1);

/// A vendor that cannot be asked about a new root credential for so long lets the rotation fail.
const PATIENCE: Ttl = Ttl::from_mins(15);

/// How often the vendor is asked whether an old root credential that people must end is still accepted.
const REMINDER: Ttl = Ttl::from_mins(60);

/// A rotation to be begun.
pub(super) struct Wish {
    pub(super) vendor: Name,
    pub(super) grace: Ttl,
    pub(super) by: String,
    /// What somebody made at the vendor: packed, not stored yet. `None` asks the vendor's API.
    pub(super) entered: Option<SecretBytes>,
}

/// Puts the rotation on record and drives it until the new root credential is current, or the rotation failed.
///
/// # Errors
/// [`Error::Conflict`] where the vendor has no API for it and nothing was entered; [`Error::RotationFailed`].
pub(super) async fn run(app: &App, wish: Wish, context: Option<&Context>) -> Result<Rotation, Error> {
    let connected = app.current_root(&wish.vendor).await?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let mode = match &wish.entered {
        Some(_) => RotateMode::CreateThenRevoke,
        None => adapter.root_rotation().ok_or_else(|| by_hand(&wish.vendor))?,
    };
    let now = app.now();
    let mut tx = app.store.begin().await?;
    if let Some(context) = context {
        context.claim_nonce(&mut tx).await?;
    }
    if let Some(running) = tx.rotation_pending(wish.vendor.as_str()).await? {
        return Ok(running);
    }
    let current = tx
        .current_root(&wish.vendor)
        .await?
        .map(|(stored, _)| stored.unverified.id);
    if current != Some(connected.root.id) {
        return Err(Error::Busy);
    }
    let grace = match mode {
        RotateMode::CreateThenRevoke | RotateMode::TwoSlot => wish.grace.max(LEAST_GRACE),
        RotateMode::VendorOverlap | RotateMode::InPlace => adapter.root_overlap(wish.grace),
    };
    let mut rotation = Rotation {
        id: RotationId::new(now, app.random.as_ref()),
        kind: RotationKind::Root,
        subject: wish.vendor.to_string(),
        vendor: wish.vendor,
        policy: None,
        mode,
        state: RotationState::PendingIntent,
        old: connected.root.id.to_string(),
        new: RootId::new(now, app.random.as_ref()).to_string(),
        grace,
        by: wish.by,
        // Whether somebody made the new one by hand: then it is theirs to end, should it not be taken into use.
        uses: i64::from(wish.entered.is_some()),
        next_at: Some(now.plus(DEADLINE)),
        last_error: None,
        created: now,
        promoted: None,
        ended: None,
    };
    if let Some(entered) = wish.entered {
        // Nobody is asked for it: it is on record at once.
        rotation.state = RotationState::PendingCreated;
        insert(app, &mut tx, &rotation, &connected, &entered).await?;
    }
    tx.insert_rotation(&rotation).await?;
    let begun = match context {
        Some(context) => app.event(context, "vendor.root_rotation_begun", &rotation.old, told(&rotation)),
        None => app.own_event("vendor.root_rotation_begun", &rotation.old, told(&rotation)),
    };
    let release = release(begun.id, &rotation.old);
    let proofs = tx.commit(&[begun], &[release]).await?;
    // In a task of its own: what is begun is not broken off.
    let app = app.clone();
    let task = tokio::spawn(async move { drive(&app, rotation, connected, proofs).await });
    task.await.map_err(Error::internal)?
}

/// What to do where no API makes another root credential.
pub(super) fn by_hand(vendor: &Name) -> Error {
    Error::Conflict(format!(
        "{vendor} has no API for this: make another root credential there, and enter it: dekeys vendor rotate-root \
         {vendor} --root-key-file FILE"
    ))
}

fn release(event: crate::base::id::EventId, root: &str) -> Release {
    Release {
        event,
        object: root.to_owned(),
        version: 1,
    }
}

/// What events tell of it.
fn told(rotation: &Rotation) -> serde_json::Value {
    json!({
        "rotation": rotation.id, "vendor": rotation.vendor, "mode": rotation.mode, "state": rotation.state,
        "old": rotation.old, "new": rotation.new, "grace": rotation.grace, "by": rotation.by,
        "error": rotation.last_error,
    })
}

async fn drive(
    app: &App,
    rotation: Rotation,
    connected: Arc<Connected>,
    proofs: Vec<Committed>,
) -> Result<Rotation, Error> {
    let id = rotation.id;
    if rotation.state == RotationState::PendingIntent {
        let root = open_root(app, &connected, proofs).await?;
        ask(app, &rotation, &connected, &root).await?;
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

/// One step of a rotation whose time has come; a worker calls it.
///
/// # Errors
/// The store's and the vault's.
pub(super) async fn step(app: &App, rotation: &Rotation) -> Result<(), Error> {
    match rotation.state {
        RotationState::PendingIntent => take_up(app, rotation).await,
        RotationState::PendingCreated => test(app, rotation).await,
        RotationState::PendingTested => promote(app, rotation).await,
        RotationState::Promoted => overlap(app, rotation).await,
        RotationState::Overlap => retire(app, rotation).await,
        RotationState::OldRevoking => end_old(app, rotation).await,
        RotationState::Done | RotationState::Failed => Ok(()),
    }
}

fn name(app: &App, rotation: &Rotation) -> String {
    root_name(app, &rotation.new)
}

/// What a root credential that dekeys had made is called at its vendor.
pub(super) fn root_name(app: &App, id: &str) -> String {
    // The same form as other names, so that whoever looks for ours finds it.
    let digest = Canonical::new("dekeys.root-name.v1").text(id).digest();
    vendor_name(app.instance.id, CredentialId::derived(digest.as_bytes()), 1)
}

/// Asks the vendor for another root credential, and puts it on record.
async fn ask(app: &App, rotation: &Rotation, connected: &Connected, root: &RootSecret) -> Result<(), Error> {
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let work = async {
        let id = adapter.root_id(&app.egress, root).await?;
        let name = name(app, rotation);
        let overlap = rotation.grace;
        adapter
            .another_root(&app.egress, root, &name, id.as_deref(), overlap)
            .await
    };
    let made = match app
        .asked((connected.root.id, &rotation.vendor), "rotate_root", work)
        .await
    {
        Ok(made) => made,
        Err(failure) if failure.created == Existence::No => {
            return fail(app, rotation, &Error::vendor(&rotation.vendor, failure)).await;
        }
        Err(failure) => return later(app, rotation, Ttl::from_secs(3), Some(failure.words)).await,
    };
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    insert(app, &mut tx, &row, connected, &made).await?;
    if row.mode == RotateMode::InPlace {
        // The old one is dead: there is nothing to choose from.
        return switch(app, tx, row).await;
    }
    row.state = RotationState::PendingCreated;
    row.next_at = Some(app.now().plus(TRY));
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_made", &row.new, told(&row));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}

async fn insert(
    app: &App,
    tx: &mut Tx,
    rotation: &Rotation,
    connected: &Connected,
    secret: &SecretBytes,
) -> Result<(), Error> {
    let root = Root {
        id: rotation.new.parse().map_err(Error::internal)?,
        current: false,
        created: app.now(),
        ..connected.root.clone()
    };
    let sealed = app.vault.seal_value(&root_place(app, &root), secret)?;
    tx.insert_root(&app.stored(root)?, &sealed).await?;
    Ok(())
}

/// Whoever asked the vendor was not heard, or is gone.
async fn take_up(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let Some((row, connected, root)) = claim(app, rotation, &rotation.old).await? else {
        return Ok(());
    };
    let adapter = Adapter::of(&connected.manifest, app.logins());
    match row.mode {
        RotateMode::VendorOverlap => ask(app, &row, &connected, &root).await,
        RotateMode::InPlace => match adapter.test_root(&app.egress, &root).await {
            Ok(()) => fail(app, &row, &Error::internal("the vendor did not switch")).await,
            Err(failure) if failure.class == FailureClass::Auth => lost(app, &row).await,
            Err(failure) => later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
        },
        RotateMode::CreateThenRevoke | RotateMode::TwoSlot => {
            match clean_up(app, &adapter, &root, &name(app, &row)).await {
                Ok(found) => fail(app, &row, &unheard(&name(app, &row), found)).await,
                Err(failure) => later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
            }
        }
    }
}

/// Looks for a root credential that may have been made, by its name, and ends it: its value is lost. Answers whether one
/// was found. Vendors list keys; where root credentials are no keys they are not found.
async fn clean_up(app: &App, adapter: &Adapter, root: &RootSecret, name: &str) -> Result<bool, VendorFailure> {
    if !adapter.can_list() || !adapter.can_end_root() {
        return Ok(false);
    }
    let found = adapter.find(&app.egress, root, name).await?;
    for one in &found {
        adapter.end_root(&app.egress, root, &one.vendor_key_id).await?;
    }
    Ok(!found.is_empty())
}

/// What is told of a root credential whose making was not heard of. What nobody can find for people they must look for
/// themselves, and so they are told under which name.
fn unheard(name: &str, found: bool) -> Error {
    if found {
        return Error::internal("the new root credential was not put on record in time, and was ended");
    }
    Error::Conflict(format!(
        "the vendor's answer was lost, and it may have made a root credential called {name}: look for it there, and end it"
    ))
}

/// The vendor switched in place, and nobody heard the new value.
async fn lost(app: &App, rotation: &Rotation) -> Result<(), Error> {
    tracing::error!(vendor = %rotation.vendor, "the root credential is lost: the vendor switched it and its answer did not arrive");
    let words = format!(
        "the vendor switched the root credential, and its answer was lost: make one there and enter it: dekeys vendor connect {}",
        rotation.vendor
    );
    fail(app, rotation, &Error::Conflict(words)).await
}

/// Takes the step for a while, and opens a root credential against the record of that.
async fn claim(
    app: &App,
    rotation: &Rotation,
    root: &str,
) -> Result<Option<(Rotation, Arc<Connected>, RootSecret)>, Error> {
    let id: RootId = root.parse().map_err(Error::internal)?;
    let connected = app.root(id).await?;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(None);
    };
    if row.next_at != rotation.next_at {
        // Another worker was quicker.
        return Ok(None);
    }
    row.next_at = Some(app.now().plus(TRY));
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_asked", &root, told(&row));
    let release = release(event.id, root);
    let proofs = tx.commit(&[event], &[release]).await?;
    let secret = open_root(app, &connected, proofs).await?;
    Ok(Some((row, connected, secret)))
}

/// The new root credential proves what it can do; it is not current yet.
async fn test(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let Some((row, connected, root)) = claim(app, rotation, &rotation.new).await? else {
        return Ok(());
    };
    let Some((row, _, old)) = claim(app, &row, &rotation.old).await? else {
        return Ok(());
    };
    if old.digest() == root.digest() {
        // Ending the old one would end it.
        return fail(app, &row, &Error::Conflict("it is the one that is in use".to_owned())).await;
    }
    let patient = app.now().since(row.created) < PATIENCE;
    let trouble = match proves(app, &row, &connected, &root).await {
        Ok(()) => None,
        Err(error @ Error::Vendor { retryable: true, .. }) if patient => {
            return later(app, &row, again_in(&row, app.now()), Some(error.to_string())).await;
        }
        Err(error) => Some(error),
    };
    if let Some(error) = trouble {
        return fail(app, &row, &error).await;
    }
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, &row).await? else {
        return Ok(());
    };
    row.state = RotationState::PendingTested;
    (row.next_at, row.last_error) = (Some(app.now().plus(LOOK_AGAIN)), None);
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_proved", &row.new, told(&row));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}

/// The new root credential becomes the current one.
async fn promote(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    switch(app, tx, row).await
}

/// One commit: which root credential is current, and whose the keys are that the old one made.
async fn switch(app: &App, mut tx: Tx, mut row: Rotation) -> Result<(), Error> {
    let now = app.now();
    let (old, new): (RootId, RootId) = (
        row.old.parse().map_err(Error::internal)?,
        row.new.parse().map_err(Error::internal)?,
    );
    let (Some((before, _)), Some((after, _))) = (tx.root(old).await?, tx.root(new).await?) else {
        return Err(Error::NotFound("root credential"));
    };
    let genuine = |stored| {
        app.vault
            .authenticate(stored)
            .map_err(|_| Error::Forged("root credential"))
    };
    let (mut before, mut after) = (genuine(before)?, genuine(after)?);
    if !before.current {
        // Somebody entered another one meanwhile: that one stays.
        drop(tx);
        return fail(
            app,
            &row,
            &Error::Conflict("another root credential was entered meanwhile".to_owned()),
        )
        .await;
    }
    before.current = false;
    after.current = true;
    tx.update_root(&app.stored(before)?).await?;
    tx.update_root(&app.stored(after)?).await?;
    tx.hand_over_credentials(&row.vendor, old, new).await?;
    row.state = RotationState::Promoted;
    row.promoted = Some(now);
    (row.next_at, row.last_error) = (Some(now), None);
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_rotated", &row.new, told(&row));
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_roots();
    app.decisions().forget_decisions();
    app.announce_work();
    Ok(())
}

async fn overlap(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let end = rotation.promoted.unwrap_or(rotation.created).plus(rotation.grace);
    go(app, rotation, RotationState::Overlap, end).await
}

async fn retire(app: &App, rotation: &Rotation) -> Result<(), Error> {
    go(app, rotation, RotationState::OldRevoking, app.now()).await
}

async fn go(app: &App, rotation: &Rotation, state: RotationState, next_at: Timestamp) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    (row.state, row.next_at) = (state, Some(next_at));
    tx.update_rotation(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    app.announce_work();
    Ok(())
}

/// Ends the old root credential; by the vendor's API, or by asking until somebody ended it there.
async fn end_old(app: &App, rotation: &Rotation) -> Result<(), Error> {
    if !rotation.mode.makes_another() {
        return close(app, rotation).await;
    }
    let new: RootId = rotation.new.parse().map_err(Error::internal)?;
    let Some((row, connected, old)) = claim(app, rotation, &rotation.old).await? else {
        return Ok(());
    };
    let adapter = Adapter::of(&connected.manifest, app.logins());
    if !adapter.can_end_root() {
        return match accepted(app, &adapter, &old).await {
            Ok(false) => close(app, &row).await,
            Ok(true) => remind(app, &row).await,
            Err(failure) => later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
        };
    }
    let id = match adapter.root_id(&app.egress, &old).await {
        Ok(id) => id,
        Err(failure) if failure.class == FailureClass::Auth => return close(app, &row).await,
        Err(failure) => return later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
    };
    let Some((row, _, root)) = claim(app, &row, &new.to_string()).await? else {
        return Ok(());
    };
    let ended = adapter.end_root(&app.egress, &root, id.as_deref().unwrap_or_default());
    match app.asked((new, &row.vendor), "end_root", ended).await {
        Ok(_) => match accepted(app, &adapter, &old).await {
            Ok(false) => close(app, &row).await,
            Ok(true) => {
                later(
                    app,
                    &row,
                    again_in(&row, app.now()),
                    Some("the vendor still accepts the old one".to_owned()),
                )
                .await
            }
            Err(failure) => later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
        },
        Err(failure) => later(app, &row, again_in(&row, app.now()), Some(failure.words)).await,
    }
}

/// Whether the vendor still takes a root credential.
async fn accepted(app: &App, adapter: &Adapter, root: &RootSecret) -> Result<bool, VendorFailure> {
    if adapter.can_list() {
        return match adapter.test_root(&app.egress, root).await {
            Ok(()) => Ok(true),
            Err(failure) if failure.class == FailureClass::Auth => Ok(false),
            Err(failure) => Err(failure),
        };
    }
    Ok(adapter.probe(&app.egress, root, &root.key()).await? != Alive::Dead)
}

/// Somebody must end the old one at the vendor: told once in the log, shown until it is done.
async fn remind(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let words = "delete the old root credential at the vendor; dekeys looks every hour, and sees when it is gone";
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    let first = row.last_error.as_deref() != Some(words);
    row.last_error = Some(words.to_owned());
    row.next_at = Some(app.now().plus(REMINDER));
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_remains", &row.old, told(&row));
    let events = if first { vec![event] } else { Vec::new() };
    let _none = tx.commit(&events, &[]).await?;
    Ok(())
}

async fn close(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    row.state = RotationState::Done;
    (row.next_at, row.ended, row.last_error) = (None, Some(app.now()), None);
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_rotation_ended", &row.old, told(&row));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}

/// Gives a rotation up; the root credential in use stays. A new one that the API made is ended.
async fn fail(app: &App, rotation: &Rotation, why: &Error) -> Result<(), Error> {
    end_new(app, rotation).await;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.rotation(rotation.id).await?.filter(|row| row.state.is_pending()) else {
        return Ok(());
    };
    row.state = RotationState::Failed;
    (row.next_at, row.ended) = (None, Some(app.now()));
    row.last_error = Some(why.to_string());
    tx.update_rotation(&row).await?;
    let event = app.own_event("vendor.root_rotation_failed", &row.old, told(&row));
    let _none = tx.commit(&[event], &[]).await?;
    tracing::warn!(vendor = %row.vendor, error = %why, "a root credential was not rotated; the one in use stays");
    Err(Error::RotationFailed {
        why: why.to_string(),
        retryable: !matches!(why, Error::Vendor { retryable: false, .. }),
    })
}

/// A root credential that was made and not taken into use. What people made is theirs to end.
async fn end_new(app: &App, rotation: &Rotation) {
    let by_hand = rotation.uses > 0;
    if by_hand || rotation.state == RotationState::PendingIntent || !rotation.mode.makes_another() {
        return;
    }
    let ended = async {
        let Some((_, connected, root)) = claim(app, rotation, &rotation.new).await? else {
            return Ok::<(), Error>(());
        };
        let adapter = Adapter::of(&connected.manifest, app.logins());
        if adapter.can_end_root()
            && let Ok(Some(id)) = adapter.root_id(&app.egress, &root).await
        {
            let _gone = adapter.end_root(&app.egress, &root, &id).await;
        }
        Ok(())
    };
    if let Err(error) = ended.await {
        tracing::warn!(%error, vendor = %rotation.vendor, "could not end a root credential that was not taken into use");
    }
}
