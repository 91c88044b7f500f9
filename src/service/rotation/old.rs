//! What becomes of the key before, once another one is current.

use super::{LOOK_AGAIN, TRY, still, told};
use crate::base::id::{CredentialId, LeaseId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::CredentialState;
use crate::model::rotation::{Rotation, RotationState};
use crate::service::App;
use crate::service::error::Error;
use crate::service::provision::facts;
use crate::store::{Engine, Tx};

/// What was begun with the old key may go on with it.
pub(super) async fn overlap(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    row.state = RotationState::Overlap;
    row.next_at = Some(look_at(app, &row));
    tx.update_rotation(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    app.announce_work();
    Ok(())
}

/// When the grace is looked at: at its end; where this process is the only one, every second, since it knows what is
/// still under way with the old key.
fn look_at(app: &App, row: &Rotation) -> Timestamp {
    let end = row.promoted.unwrap_or(row.created).plus(row.grace);
    if app.store.engine() == Engine::Sqlite && row.mode.makes_another() {
        end.min(app.now().plus(LOOK_AGAIN))
    } else {
        end
    }
}

/// Sends the old key to its end once nothing is under way with it, or its grace is over.
pub(super) async fn retire_old(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let now = app.now();
    let promoted = rotation.promoted.unwrap_or(rotation.created);
    let lease: LeaseId = rotation.subject.parse().map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    let live = tx.lease(lease).await?.is_some_and(|lease| lease.state.is_live());
    let alone = app.store.engine() == Engine::Sqlite && row.mode.makes_another();
    let unused = alone && !app.streams().any_since(lease, promoted);
    if live && !unused && promoted.plus(row.grace) > now {
        row.next_at = Some(look_at(app, &row));
        tx.update_rotation(&row).await?;
        let _none = tx.commit(&[], &[]).await?;
        return Ok(());
    }
    let mut events = Vec::new();
    let old: CredentialId = row.old.parse().map_err(Error::internal)?;
    if row.mode.makes_another()
        && let Some(mut key) = tx
            .credential(old)
            .await?
            .filter(|key| key.state == CredentialState::Active)
    {
        key.state = CredentialState::Revoking;
        (key.attempt, key.next_at) = (0, Some(now));
        tx.update_credential(&key).await?;
        events.push(app.own_event("credential.retired", &key.id, facts(&key)));
    }
    row.state = RotationState::OldRevoking;
    row.next_at = Some(now.plus(LOOK_AGAIN));
    tx.update_rotation(&row).await?;
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    Ok(())
}

/// Closes the rotation once the old key is dead.
pub(super) async fn finish(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let now = app.now();
    let old: CredentialId = rotation.old.parse().map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    let key = tx.credential(old).await?;
    let dead = !row.mode.makes_another() || key.as_ref().is_none_or(|key| key.state.is_final());
    if dead {
        row.state = RotationState::Done;
        (row.next_at, row.ended, row.last_error) = (None, Some(now), None);
    } else {
        let since = row.promoted.unwrap_or(row.created).plus(row.grace);
        row.next_at = Some(now.plus(now.since(since).clamp(LOOK_AGAIN, TRY)));
        row.last_error = key.and_then(|key| key.last_error);
    }
    tx.update_rotation(&row).await?;
    let ended = app.own_event("credential.rotation_ended", &row.old, told(&row));
    let events = if dead { vec![ended] } else { Vec::new() };
    let _none = tx.commit(&events, &[]).await?;
    Ok(())
}

/// Ends the grace of the keys before, now; also of a rotation whose new key is still to become current.
///
/// # Errors
/// The store's.
pub(in crate::service) async fn cut_short(app: &App, tx: &mut Tx, subject: &str) -> Result<(), Error> {
    for mut row in tx.rotations_open(subject).await? {
        // A value that the vendor ends by itself is beyond our reach.
        if !row.mode.makes_another() || row.state == RotationState::OldRevoking {
            continue;
        }
        row.grace = Ttl::default();
        if row.state == RotationState::Overlap {
            row.next_at = Some(app.now());
        }
        tx.update_rotation(&row).await?;
    }
    Ok(())
}
