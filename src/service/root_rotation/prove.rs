//! What a new root credential must show before it is used.

use super::release;
use crate::base::canonical::Canonical;
use crate::base::id::{CredentialId, GrantId, PrincipalId};
use crate::base::time::Ttl;
use crate::model::credential::{Credential, CredentialState, vendor_name_prefix};
use crate::model::rotation::Rotation;
use crate::service::control::Connected;
use crate::service::error::Error;
use crate::service::provision::{self, DEADLINE, Saved, key_name};
use crate::service::{App, end};
use crate::store::Page;
use crate::store::credentials::CredentialFilter;
use crate::vendor::{Adapter, Alive, RootSecret};

/// How long the key lives that proves that a root credential makes keys, should nobody end it.
const PROOF_LIVES: Ttl = Ttl::from_mins(10);

/// It lists keys, those of this instance among them, and makes one; where the vendor makes none, it is accepted.
pub(super) async fn proves(
    app: &App,
    rotation: &Rotation,
    connected: &Connected,
    root: &RootSecret,
) -> Result<(), Error> {
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let vendor = &rotation.vendor;
    let failed = |failure| Error::vendor(vendor, failure);
    if adapter.can_list() {
        let prefix = vendor_name_prefix(app.instance.id);
        let listed = adapter.list(&app.egress, root, &prefix).await.map_err(failed)?;
        let known = known_key(app, rotation).await?;
        if known.is_some_and(|id| !listed.iter().any(|found| found.vendor_key_id == id)) {
            let words = "it does not list the keys of the one before: it is of another account";
            return Err(Error::Conflict(words.to_owned()));
        }
    }
    if connected.manifest.facts().is_static {
        let taken = adapter.probe(&app.egress, root, &root.key()).await.map_err(failed)?;
        if taken == Alive::Dead {
            return Err(Error::Conflict(format!("{vendor} does not take it")));
        }
        return Ok(());
    }
    make_one(app, rotation, connected).await
}

/// The vendor's id of a live key that the old root credential made.
async fn known_key(app: &App, rotation: &Rotation) -> Result<Option<String>, Error> {
    let filter = CredentialFilter {
        vendor: Some(rotation.vendor.clone()),
        state: Some(CredentialState::Active),
    };
    let mut tx = app.store.read().await?;
    let rows = tx.credentials(&filter, &Page::first(50)).await?;
    tx.end().await?;
    let mut ours = rows.into_iter().filter(|row| row.root.to_string() == rotation.old);
    Ok(ours.find_map(|row| row.vendor_key_id))
}

/// Makes a key that nobody gets, and ends it.
async fn make_one(app: &App, rotation: &Rotation, connected: &Connected) -> Result<(), Error> {
    let now = app.now();
    let facts = connected.manifest.facts();
    let digest = Canonical::new("dekeys.root-proof.v1").text(&rotation.new).digest();
    let id = CredentialId::new(now, app.random.as_ref());
    let proof = Credential {
        id,
        name: key_name(app, connected, id),
        vendor: rotation.vendor.clone(),
        root: connected.root.id,
        grant: GrantId::derived(digest.as_bytes()),
        item: 0,
        scopes: facts.scopes.into_iter().take(1).collect(),
        prim: Some(PrincipalId::NIL),
        lease: None,
        state: CredentialState::Intent,
        attempt: 1,
        vendor_key_id: None,
        vendor_expires: None,
        expires: now.plus(PROOF_LIVES),
        next_at: Some(now.plus(DEADLINE)),
        first_failed: None,
        last_error: None,
        version: 1,
        created: now,
    };
    let mut tx = app.store.begin().await?;
    tx.insert_credential(&proof).await?;
    let event = app.own_event("credential.intended", &proof.id, provision::facts(&proof));
    let release = release(event.id, &connected.root.id.to_string());
    let committed = tx.commit(&[event], &[release]).await?.into_iter().next();
    let committed = committed.ok_or_else(|| Error::internal("no proof of record"))?;
    let created = provision::make(app, &proof, connected, committed).await?;
    let mut tx = app.store.begin().await?;
    let event = match provision::save(app, &mut tx, &proof, created).await? {
        Saved::Active(_, event) | Saved::Late(event) => event,
    };
    let abandoned = provision::abandon(app, &mut tx, proof.id, app.now()).await?;
    let events: Vec<_> = std::iter::once(event).chain(abandoned).collect();
    let _none = tx.commit(&events, &[]).await?;
    app.announce_work();
    if let Err(error) = end::end(app, proof.id).await {
        tracing::warn!(%error, "the key that proved a root credential is not dead yet; a worker goes on");
    }
    Ok(())
}
