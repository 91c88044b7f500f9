//! Orphans as operators see them, and what they decide about those that dekeys does not end by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::reap::{facts, look_again};
use crate::base::id::{CredentialId, OrphanId};
use crate::base::time::Timestamp;
use crate::model::orphan::{Orphan, OrphanState, Reason};
use crate::model::scope::Name;
use crate::store::Page;
use crate::store::orphans::OrphanFilter;

/// A key at a vendor that nobody here accounts for. It never holds the key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct OrphanView {
    /// The id.
    pub id: OrphanId,
    /// Always `orphan`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// The vendor that lists it.
    pub vendor: Name,
    /// Its id there.
    pub vendor_key_id: String,
    /// Its name there; empty where keys have none.
    pub vendor_name: String,
    /// Why it is one.
    pub reason: Reason,
    /// Whether dekeys ends it, people decide, or it is over.
    pub state: OrphanState,
    /// The credential whose name it bears, or in whose making it appeared.
    pub credential: Option<CredentialId>,
    /// Tries to end it.
    pub attempt: i64,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// The last trouble.
    pub trouble: Option<String>,
    /// When it was found.
    pub found: Timestamp,
    /// When the vendor listed it last.
    pub seen: Timestamp,
}

/// Which orphans.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrphansAsk {
    /// 1 to 100; 20 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// The id after which to go on.
    pub starting_after: Option<String>,
    /// At this vendor only.
    pub vendor: Option<Name>,
    /// In this state only; those that are open if absent.
    pub state: Option<OrphanState>,
}

/// What an operator decides about an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is ended at the vendor.
    Revoke,
    /// It is somebody's, and stays.
    Dismiss,
}

/// A decision about an orphan.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideAsk {
    /// What becomes of it.
    pub decision: Decision,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// Orphans, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn list(app: &App, context: &Context, ask: &OrphansAsk) -> Result<List<OrphanView>, Error> {
    context.operator()?;
    let page = PageAsk {
        limit: ask.limit,
        starting_after: ask.starting_after.clone(),
    };
    let filter = OrphanFilter {
        vendor: ask.vendor.clone(),
        state: ask.state,
    };
    let wanted: Page = page.page()?;
    let mut tx = app.store.read().await?;
    let rows = tx.orphans(&filter, &wanted).await?;
    tx.end().await?;
    Ok(List::page(
        rows.iter().map(|row| view(app, row)).collect(),
        page.limit()?,
    ))
}

/// Decides about an orphan that was reported, or that was dismissed before.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`]; [`Error::Conflict`] for one that is gone, or that dekeys ends by itself.
pub async fn decide(app: &App, context: &Context, id: OrphanId, ask: &DecideAsk) -> Result<OrphanView, Error> {
    let operator = context.operator()?;
    let mut tx = app.store.begin().await?;
    let mut orphan = tx.orphan(id).await?.ok_or(Error::NotFound("orphan"))?;
    if !matches!(orphan.state, OrphanState::Reported | OrphanState::Dismissed) {
        return Err(Error::Conflict(match orphan.state {
            OrphanState::Gone => "the vendor does not have this key any more".to_owned(),
            _ => "dekeys is ending this key already".to_owned(),
        }));
    }
    context.claim_nonce(&mut tx).await?;
    let kind = match ask.decision {
        Decision::Revoke => {
            (orphan.state, orphan.next_at, orphan.attempt) = (OrphanState::Revoking, Some(app.now()), 0);
            "credential.orphan_condemned"
        }
        Decision::Dismiss => {
            (orphan.state, orphan.next_at) = (OrphanState::Dismissed, None);
            "credential.orphan_dismissed"
        }
    };
    tx.update_orphan(&orphan).await?;
    look_again(app, &mut tx, &orphan).await?;
    let mut data = facts(&orphan);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("by".to_owned(), json!(operator.name));
        fields.insert("because".to_owned(), json!(ask.reason));
    }
    let event = app.event(context, kind, &orphan.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(view(app, &orphan))
}

fn view(app: &App, row: &Orphan) -> OrphanView {
    OrphanView {
        id: row.id,
        object: "orphan".to_owned(),
        livemode: app.livemode(),
        vendor: row.vendor.clone(),
        vendor_key_id: row.vendor_key_id.clone(),
        vendor_name: row.name.clone(),
        reason: row.reason,
        state: row.state,
        credential: row.credential,
        attempt: row.attempt,
        next_at: row.next_at,
        trouble: row.last_error.clone(),
        found: row.found,
        seen: row.seen,
    }
}
