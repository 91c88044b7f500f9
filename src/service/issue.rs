//! The first use of a grant item by a prim, or by dekeys itself: a key is made for it, and goes on record together
//! with the release that waits for it.

use tracing::Instrument as _;

use super::App;
use super::error::Error;
use super::provision::{self, Saved};
use crate::model::credential::Credential;
use crate::model::event::Committed;
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::sealed::Sealed;
use crate::store::Release;

/// A key that was made and may be opened once.
pub(super) struct Issued {
    /// Its lease, active now.
    pub(super) lease: Lease,
    /// Its row.
    pub(super) credential: Credential,
    /// Its value.
    pub(super) sealed: Sealed,
    /// Opens the value.
    pub(super) committed: Committed,
}

/// Makes the key of a pending lease. In a task of its own, so that a caller that hangs up leaves no key behind without
/// its lease. `kind` is the event of its release.
///
/// # Errors
/// The vendor's failures; [`Error::Unauthenticated`] when the grant or lease ended meanwhile: the key dies unseen.
pub(super) async fn issue(
    app: &App,
    lease: Lease,
    credential: Credential,
    proof: Committed,
    kind: &'static str,
) -> Result<Issued, Error> {
    let app = app.clone();
    let work = async move {
        let outcome = now(&app, lease, credential, proof, kind).await;
        app.announce_lease();
        outcome
    };
    tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
}

async fn now(
    app: &App,
    mut lease: Lease,
    credential: Credential,
    proof: Committed,
    kind: &'static str,
) -> Result<Issued, Error> {
    let connected = app.root(credential.root).await?;
    let created = match provision::make(app, &credential, &connected, proof).await {
        Ok(created) => created,
        Err(error) => {
            drop_lease(app, lease).await?;
            return Err(error);
        }
    };
    let mut tx = app.store.begin().await?;
    let (made, event) = match provision::save(app, &mut tx, &credential, created).await? {
        Saved::Active(made, event) => (*made, event),
        Saved::Late(event) => {
            let _none = tx.commit(&[event], &[]).await?;
            app.announce_work();
            return Err(Error::Busy);
        }
    };
    let (grant, _) = tx.grant(lease.grant).await?.ok_or(Error::NotFound("grant"))?;
    let stored_lease = tx.lease(lease.id).await?.map(|row| row.state);
    let alive = grant.unverified.state == GrantState::Active && stored_lease == Some(LeaseState::Pending);
    if !alive {
        // Revoked while the vendor was asked: the key dies unseen.
        let abandoned = provision::abandon(app, &mut tx, made.id, app.now()).await?;
        let events: Vec<_> = std::iter::once(event).chain(abandoned).collect();
        let _none = tx.commit(&events, &[]).await?;
        app.announce_work();
        return Err(Error::Unauthenticated);
    }
    lease.state = LeaseState::Active;
    lease.expires = made.expires;
    tx.update_lease(&lease).await?;
    let (_, sealed) = tx
        .sealed_credential(made.id)
        .await?
        .ok_or(Error::NotFound("credential"))?;
    let data = serde_json::json!({ "grant": lease.grant, "prim": lease.prim, "lease": lease.id, "credential": made.id, "version": made.version });
    let mut reveal = app.own_event(kind, &lease.id, data);
    reveal.actor = lease.prim.to_string();
    let release = Release {
        event: reveal.id,
        object: made.id.to_string(),
        version: made.version,
    };
    let committed = tx.commit(&[event, reveal], &[release]).await?.into_iter().next();
    Ok(Issued {
        lease,
        credential: made,
        sealed,
        committed: committed.ok_or_else(|| Error::internal("no proof of record"))?,
    })
}

/// Gives up a lease whose key could not be made.
pub(super) async fn drop_lease(app: &App, mut lease: Lease) -> Result<(), Error> {
    lease.state = LeaseState::Revoked;
    let mut tx = app.store.begin().await?;
    if tx
        .lease(lease.id)
        .await?
        .is_some_and(|row| row.state == LeaseState::Pending)
    {
        tx.update_lease(&lease).await?;
    }
    let event = app.own_event(
        "lease.revoked",
        &lease.id,
        serde_json::json!({ "reason": "its key could not be made" }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}
