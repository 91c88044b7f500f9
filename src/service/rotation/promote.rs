//! The new key is tried at the vendor, then it becomes the current one.

use serde_json::json;

use super::{LOOK_AGAIN, PATIENCE, TRY, again_in, current, fail, key_release, later, over, root_release, still, told};
use crate::base::id::{CredentialId, LeaseId, RootId};
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::CredentialState;
use crate::model::rotation::{Rotation, RotationState};
use crate::service::App;
use crate::service::connect::open_root;
use crate::service::end::value;
use crate::service::error::Error;
use crate::vendor::{Adapter, Alive, RootSecret, VendorFailure};

/// How often in a row the vendor must take a new key.
const TESTS: u32 = 3;

/// Between two questions whether the vendor takes a new key yet.
const ASK_AGAIN: Ttl = Ttl::from_millis(250);

/// Tries the new key at the vendor; it is not current yet.
pub(super) async fn test(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let id: CredentialId = rotation.new.parse().map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    let Some((key, sealed)) = tx.sealed_credential(id).await? else {
        drop(tx);
        return fail(app, rotation.id, &over()).await;
    };
    if key.state != CredentialState::Active {
        drop(tx);
        return fail(app, rotation.id, &over()).await;
    }
    row.next_at = Some(app.now().plus(TRY));
    tx.update_rotation(&row).await?;
    let event = app.own_event("credential.rotation_tested", &key.id, told(&row));
    let connected = app.root(key.root).await?;
    let releases = [root_release(&event, &connected), key_release(&event, &key)];
    let mut proofs = tx.commit(&[event], &releases).await?;
    let proof = proofs.pop().ok_or_else(|| Error::internal("no proof of record"))?;
    let root = open_root(app, &connected, proofs).await?;
    let secret = value(app, &key, &sealed, proof).await?;
    let secret = secret.ok_or(Error::Forged("sealed value"))?;
    let adapter = Adapter::of(&connected.manifest, app.logins());
    match taken(app, &adapter, (connected.root.id, &root), &secret).await {
        Ok(Alive::Dead) => {
            let words = format!("{} does not take the new key", rotation.vendor);
            fail(app, rotation.id, &Error::Conflict(words)).await
        }
        // A vendor that cannot be asked: its answer to the creation is all there is.
        Ok(Alive::Alive | Alive::Unknown) => tested(app, rotation).await,
        Err(failure) if app.now().since(rotation.created) >= PATIENCE => {
            fail(app, rotation.id, &Error::vendor(&rotation.vendor, failure)).await
        }
        Err(failure) => later(app, rotation, again_in(rotation, app.now()), Some(failure.words)).await,
    }
}

/// Whether the vendor takes a key, several times in a row. A new key may be refused for as long as the manifest says.
pub(super) async fn taken(
    app: &App,
    adapter: &Adapter,
    (id, root): (RootId, &RootSecret),
    secret: &SecretText,
) -> Result<Alive, VendorFailure> {
    let manifest = adapter.manifest();
    let mut patience = manifest.facts().propagation.as_millis() / ASK_AGAIN.as_millis();
    let mut times = 0;
    loop {
        let probed = adapter.probe(&app.egress, root, secret);
        match app.asked((id, manifest.name()), "probe", probed).await? {
            Alive::Unknown => return Ok(Alive::Unknown),
            Alive::Alive if times + 1 >= TESTS => return Ok(Alive::Alive),
            Alive::Alive => times += 1,
            Alive::Dead if patience <= 0 => return Ok(Alive::Dead),
            Alive::Dead => {
                (times, patience) = (0, patience - 1);
                tokio::time::sleep(ASK_AGAIN.to_std()).await;
            }
        }
    }
}

async fn tested(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    row.state = RotationState::PendingTested;
    (row.next_at, row.last_error) = (Some(app.now().plus(LOOK_AGAIN)), None);
    tx.update_rotation(&row).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// The one step that changes which key is current. From here on there is no way back.
pub(super) async fn promote(app: &App, rotation: &Rotation) -> Result<(), Error> {
    let lease: LeaseId = rotation.subject.parse().map_err(Error::internal)?;
    let new: CredentialId = rotation.new.parse().map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    // Within the transaction: whoever was given the old key has opened its stream before this moment.
    let now = app.now();
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(());
    };
    let made = tx.credential(new).await?;
    let made = made.filter(|made| made.state == CredentialState::Active && made.expires > now);
    let in_use = current(&mut tx, lease).await?;
    let in_use = in_use.filter(|(_, old)| old.id.to_string() == rotation.old);
    let (Some((mut lease, mut old)), Some(made)) = (in_use, made) else {
        drop(tx);
        return fail(app, rotation.id, &over()).await;
    };
    lease.credential = made.id;
    lease.expires = made.expires;
    tx.update_lease(&lease).await?;
    // Should this rotation be forgotten, the old key still ends with its grace.
    old.expires = old.expires.min(now.plus(row.grace));
    old.next_at = Some(old.expires.plus(TRY));
    tx.update_credential(&old).await?;
    promoted(&mut row, lease.resolves, now);
    tx.update_rotation(&row).await?;
    let mut data = told(&row);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("version".to_owned(), json!(made.version));
        fields.insert("previous_until".to_owned(), json!(old.expires));
    }
    let event = app.own_event("credential.rotated", &made.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

pub(super) fn promoted(row: &mut Rotation, uses: i64, now: Timestamp) {
    row.state = RotationState::Promoted;
    row.promoted = Some(now);
    row.uses = uses;
    (row.next_at, row.last_error) = (Some(now), None);
}
