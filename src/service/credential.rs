//! Credentials: every key dekeys ever asked a vendor for, and where it stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::enroll::{List, PageAsk};
use super::error::Error;
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::base::time::Timestamp;
use crate::model::credential::Credential;
use crate::model::scope::Name;
use crate::store::credentials::CredentialFilter;

/// A credential as operators see it. It never holds the key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CredentialView {
    /// The id.
    pub id: CredentialId,
    /// Always `credential`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Where it stands; a key whose revocation the vendor does not confirm is `revocation_failed`.
    pub state: String,
    /// The vendor.
    pub vendor: Name,
    /// Its name there; empty where keys have none.
    pub vendor_name: String,
    /// Its id there.
    pub vendor_key_id: Option<String>,
    /// The grant.
    pub grant: GrantId,
    /// The lease.
    pub lease: Option<LeaseId>,
    /// The prim.
    pub prim: Option<PrincipalId>,
    /// Tries of the present step.
    pub attempt: i64,
    /// When dekeys looks at it next.
    pub next_at: Option<Timestamp>,
    /// The last trouble.
    pub trouble: Option<String>,
    /// When it was intended.
    pub created: Timestamp,
    /// When dekeys ends it.
    pub expires: Timestamp,
}

/// All credentials, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn list(app: &App, context: &Context, page: &PageAsk) -> Result<List<CredentialView>, Error> {
    context.operator()?;
    let mut tx = app.store.read().await?;
    let rows = tx.credentials(&CredentialFilter::default(), &page.page()?).await?;
    drop(tx);
    Ok(List::page(
        rows.iter().map(|row| view(app, row)).collect(),
        page.limit()?,
    ))
}

/// One credential.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn show(app: &App, context: &Context, id: CredentialId) -> Result<CredentialView, Error> {
    context.operator()?;
    let mut tx = app.store.read().await?;
    let row = tx.credential(id).await?.ok_or(Error::NotFound("credential"))?;
    drop(tx);
    Ok(view(app, &row))
}

fn view(app: &App, row: &Credential) -> CredentialView {
    CredentialView {
        id: row.id,
        object: "credential".to_owned(),
        livemode: app.livemode(),
        state: row.state.shown().to_owned(),
        vendor: row.vendor.clone(),
        vendor_name: row.name.clone(),
        vendor_key_id: row.vendor_key_id.clone(),
        grant: row.grant,
        lease: row.lease,
        prim: row.prim,
        attempt: row.attempt,
        next_at: row.next_at,
        trouble: row.last_error.clone(),
        created: row.created,
        expires: row.expires,
    }
}
