//! Another value of the same key, from a vendor that makes one. It is the current one at the commit that records it.

use serde_json::json;

use super::promote::{promoted, taken};
use super::{Started, TRY, again_in, current, fail, key_release, later, over, root_release, still, told};
use crate::base::id::{CredentialId, LeaseId};
use crate::base::secret::SecretText;
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Committed;
use crate::model::rotation::{RotateMode, Rotation};
use crate::service::App;
use crate::service::connect::open_root;
use crate::service::control::Connected;
use crate::service::end::value;
use crate::service::error::Error;
use crate::service::provision::credential_place;
use crate::store::Tx;
use crate::vendor::{Adapter, Existence, RenewAsk, RootSecret};

/// Has the vendor make another value, again: whoever asked before was not heard, or is gone.
pub(super) async fn begin_again(app: &App, rotation: &Rotation) -> Result<Option<Started>, Error> {
    let connected = app.current_root(&rotation.vendor).await?;
    let lease: LeaseId = rotation.subject.parse().map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, rotation).await? else {
        return Ok(None);
    };
    let Some((_, old)) = current(&mut tx, lease).await? else {
        drop(tx);
        fail(app, rotation.id, &over()).await?;
        return Ok(None);
    };
    // One worker asks at a time: the last value asked for is the one that works.
    if row.next_at.is_none_or(|at| at > app.now()) {
        return Ok(None);
    }
    row.next_at = Some(app.now().plus(TRY));
    tx.update_rotation(&row).await?;
    let event = app.own_event("credential.rotation_begun", &row.old, told(&row));
    let releases = [root_release(&event, &connected), key_release(&event, &old)];
    let proofs = tx.commit(&[event], &releases).await?;
    Ok(Some(Started {
        rotation: row,
        connected,
        intent: None,
        proofs,
    }))
}

/// Another value of the same key: asked for, tried, and put on record as the current one in one commit, since an
/// in-place vendor has no other any more.
pub(super) async fn renew(app: &App, started: Started) -> Result<(), Error> {
    let (rotation, connected) = (started.rotation, started.connected);
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let (root, old, secret) = open_old(app, &rotation, &connected, started.proofs).await?;
    let key_id = old.vendor_key_id.clone().unwrap_or_default();
    let ask = RenewAsk {
        vendor_key_id: &key_id,
        secret: secret.as_ref(),
        overlap: rotation.grace,
        vendor_expires: old.vendor_expires,
    };
    let renewed = adapter.renew(&app.egress, &root, &ask);
    let created = match app
        .asked((connected.root.id, &rotation.vendor), "rotate", renewed)
        .await
    {
        Ok(created) => created,
        Err(failure) if failure.created == Existence::No => {
            return fail(app, rotation.id, &Error::vendor(&rotation.vendor, failure)).await;
        }
        // The vendor may have switched: the value is lost, and asked for again soon.
        Err(failure) => return later(app, &rotation, again_in(&rotation, app.now()), Some(failure.words)).await,
    };
    if rotation.mode == RotateMode::VendorOverlap {
        // The old value works meanwhile. What the vendor answers decides nothing: there is only one way on.
        let _taken = taken(app, &adapter, (connected.root.id, &root), &created.secret).await;
    }
    let mut tx = app.store.begin().await?;
    let Some(mut row) = still(&mut tx, &rotation).await? else {
        return Ok(());
    };
    let mut key = tx.credential(old.id).await?.ok_or(Error::NotFound("credential"))?;
    if key.state != CredentialState::Active {
        drop(tx);
        return fail(app, rotation.id, &over()).await;
    }
    key.version = key.version.saturating_add(1);
    let sealed = app
        .vault
        .seal_value(&credential_place(app, &key), &created.secret.into_bytes())?;
    tx.save_created(&key, &sealed).await?;
    let uses = uses(&mut tx, &row).await?;
    promoted(&mut row, uses, app.now());
    tx.update_rotation(&row).await?;
    let mut data = told(&row);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("version".to_owned(), json!(key.version));
        fields.insert("answer".to_owned(), json!(created.answer));
    }
    let event = app.own_event("credential.rotated", &key.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// The root credential and the present value, in exchange for the record.
async fn open_old(
    app: &App,
    rotation: &Rotation,
    connected: &Connected,
    mut proofs: Vec<Committed>,
) -> Result<(RootSecret, Credential, Option<SecretText>), Error> {
    let id: CredentialId = rotation.old.parse().map_err(Error::internal)?;
    let mut tx = app.store.read().await?;
    let (row, sealed) = tx.sealed_credential(id).await?.ok_or(Error::NotFound("credential"))?;
    tx.end().await?;
    let proof = proofs.pop().ok_or_else(|| Error::internal("no proof of record"))?;
    let root = open_root(app, connected, proofs).await?;
    let secret = value(app, &row, &sealed, proof).await?;
    Ok((root, row, secret))
}

async fn uses(tx: &mut Tx, row: &Rotation) -> Result<i64, Error> {
    let id: LeaseId = row.subject.parse().map_err(Error::internal)?;
    Ok(tx.lease(id).await?.map_or(row.uses, |lease| lease.resolves))
}
