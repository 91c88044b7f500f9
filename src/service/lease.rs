//! Leases: seen and ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::{Caller, Context};
use super::end;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::grant::{EndAsk, Ended, claim, ended, managed_by};
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::CredentialState;
use crate::model::lease::Lease;
use crate::model::principal::PrincipalKind;
use crate::model::scope::Name;
use crate::store::leases::LeaseFilter;

/// A lease as people see it. It never holds the key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LeaseView {
    /// The id.
    pub id: LeaseId,
    /// Always `lease`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// `pending`, `active`, `expired`, `revoked` or `revocation_failed`.
    pub state: String,
    /// The grant.
    pub grant: GrantId,
    /// The prim that holds the key.
    pub prim: PrincipalId,
    /// The vendor.
    pub vendor: Name,
    /// The credential.
    pub credential: CredentialId,
    /// How often it was resolved.
    pub resolves: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Seconds until then.
    pub lease_duration: i64,
    /// Whether it can be prolonged.
    pub renewable: bool,
}

async fn view(app: &App, lease: &Lease) -> Result<LeaseView, Error> {
    let mut tx = app.store.read().await?;
    let stuck = tx
        .credential(lease.credential)
        .await?
        .is_some_and(|row| row.state == CredentialState::Stuck);
    drop(tx);
    let now = app.now();
    Ok(LeaseView {
        id: lease.id,
        object: "lease".to_owned(),
        livemode: app.livemode(),
        state: if stuck {
            CredentialState::Stuck.shown()
        } else {
            lease.state.as_str()
        }
        .to_owned(),
        grant: lease.grant,
        prim: lease.prim,
        vendor: lease.vendor.clone(),
        credential: lease.credential,
        resolves: lease.resolves,
        created: lease.created,
        expires: lease.expires,
        lease_duration: if lease.state.is_live() {
            lease.expires.since(now)
        } else {
            Ttl::default()
        }
        .as_secs(),
        renewable: false,
    })
}

/// A lease the caller may see: its prim's, its grant's, or any for an operator.
async fn visible(app: &App, context: &Context, id: LeaseId) -> Result<Lease, Error> {
    if matches!(context.caller, Caller::Anonymous) {
        return Err(Error::SignatureRequired);
    }
    let mut tx = app.store.read().await?;
    let lease = tx.lease(id).await?.ok_or(Error::NotFound("lease"))?;
    drop(tx);
    let prims = context
        .caller
        .principal()
        .is_some_and(|principal| principal.id == lease.prim);
    let grant = app.grant(lease.grant).await?;
    if prims || managed_by(context, &grant) {
        Ok(lease)
    } else {
        Err(Error::NotFound("lease"))
    }
}

/// One lease.
///
/// # Errors
/// [`Error::NotFound`] also for somebody else's.
pub async fn show(app: &App, context: &Context, id: LeaseId) -> Result<LeaseView, Error> {
    let lease = visible(app, context, id).await?;
    view(app, &lease).await
}

/// The caller's leases, newest first: a prim's own, all for an operator.
///
/// # Errors
/// [`Error::SignatureRequired`], [`Error::NotAllowed`].
pub async fn list(app: &App, context: &Context, page: &PageAsk) -> Result<List<LeaseView>, Error> {
    let principal = context.require(&[PrincipalKind::Prim, PrincipalKind::Operator])?;
    let prim = (principal.kind == PrincipalKind::Prim).then_some(principal.id);
    let mut tx = app.store.read().await?;
    let leases = tx
        .leases(
            &LeaseFilter {
                prim,
                ..LeaseFilter::default()
            },
            &page.page()?,
        )
        .await?;
    drop(tx);
    let mut views = Vec::with_capacity(leases.len());
    for lease in &leases {
        views.push(view(app, lease).await?);
    }
    Ok(List::page(views, page.limit()?))
}

/// Ends a lease now: here at once, at the vendor before the answer when the vendor is quick. One that ended here before
/// has its key's end tried now, rather than when it is due.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(app: &App, context: &Context, id: LeaseId, ask: &EndAsk) -> Result<Ended, Error> {
    let lease = visible(app, context, id).await?;
    claim(app, context).await?;
    if !lease.state.is_live() {
        let dead = end::try_now(app, lease.credential).await?;
        return Ok(ended(id.to_string(), "lease", 0, dead));
    }
    let credentials = end::revoke_lease(app, context, id, ask.reason.as_deref()).await?;
    let confirmed = end::end_now(app, &credentials).await;
    Ok(ended(id.to_string(), "lease", credentials.len(), confirmed))
}
