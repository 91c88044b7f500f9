//! Rotating a shared key because somebody says so, and what is due when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::Context;
use super::enroll::List;
use super::error::Error;
use super::rotation::{self, Begun, Wish};
use super::{App, schedule};
use crate::base::id::{CredentialId, LeaseId, RotationId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::lease::LeaseState;
use crate::model::rotation::{RotateMode, Rotation, RotationKind, RotationRules, RotationState};
use crate::model::scope::Name;
use crate::store::rotations::SharedKey;

/// How a key is to be rotated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateAsk {
    /// How long the key before may be used beside the new one, at most 24 h; as configured if absent. It ends sooner
    /// once nothing is under way with it, where dekeys can see that.
    pub grace: Option<Ttl>,
    /// The key before, and those before it, may not be used any more once the new one is current: it leaked.
    pub revoke_previous: bool,
}

/// A rotation as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotationView {
    /// The id.
    pub id: RotationId,
    /// Always `rotation`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// What is rotated.
    pub kind: RotationKind,
    /// The vendor.
    pub vendor: Name,
    /// The policy whose grants share the key.
    pub policy: Option<Name>,
    /// How.
    pub mode: RotateMode,
    /// Where it stands.
    pub state: RotationState,
    /// The key before.
    pub old: String,
    /// The key after.
    pub new: String,
    /// When the new key became the current one.
    pub promoted: Option<Timestamp>,
    /// Until when the key before may be used at the latest; it may have ended already.
    pub previous_until: Option<Timestamp>,
    /// Who asked: `schedule`, or a name.
    pub by: String,
    /// The last trouble.
    pub trouble: Option<String>,
    /// When it was begun.
    pub created: Timestamp,
    /// When it came to its end.
    pub ended: Option<Timestamp>,
}

/// A key that is rotated from time to time, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DueView {
    /// The current key: a credential, or a root credential.
    pub id: String,
    /// Always `due_rotation`.
    pub object: String,
    /// What it is.
    pub kind: RotationKind,
    /// What it is called: the policy whose grants share it, or the vendor.
    pub name: Name,
    /// The vendor.
    pub vendor: Name,
    /// How it is rotated; absent where people do it.
    pub mode: Option<RotateMode>,
    /// When it was made.
    pub created: Timestamp,
    /// When it is due.
    pub due: Timestamp,
    /// How many seconds ago that was; 0 when the time is still to come.
    pub late_seconds: i64,
    /// Where its last rotation stands.
    pub state: Option<RotationState>,
    /// The last trouble with it.
    pub trouble: Option<String>,
}

pub(super) fn view(app: &App, row: &Rotation) -> RotationView {
    RotationView {
        id: row.id,
        object: "rotation".to_owned(),
        livemode: app.livemode(),
        kind: row.kind,
        vendor: row.vendor.clone(),
        policy: row.policy.clone(),
        mode: row.mode,
        state: row.state,
        old: row.old.clone(),
        new: row.new.clone(),
        promoted: row.promoted,
        previous_until: row.promoted.map(|at| at.plus(row.grace)),
        by: row.by.clone(),
        trouble: row.last_error.clone(),
        created: row.created,
        ended: row.ended,
    }
}

/// Rotates a shared key now: by its policy's name, or by the id of any key it has had. Answers once the new key is the
/// current one; that the key before is dead comes later.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] for a key that no grants share, or where the vendor has no room;
/// [`Error::RotationFailed`] when the vendor did not do it: the key in use was not touched.
pub async fn rotate(app: &App, context: &Context, name: &str, ask: RotateAsk) -> Result<RotationView, Error> {
    let operator = context.operator()?;
    let grace = grace(app, ask.grace)?;
    let key = find(app, name).await?;
    let wish = Wish {
        grace,
        revoke_previous: ask.revoke_previous,
        by: operator.name.to_string(),
    };
    let rotation = match rotation::begin(app, &key, &wish, Some(context)).await? {
        Begun::UnderWay(running) => *running,
        Begun::New(started) => {
            // In a task of its own: what is begun is not broken off.
            let driven = app.clone();
            let task = tokio::spawn(async move { rotation::drive(&driven, *started).await });
            task.await.map_err(Error::internal)??
        }
    };
    if ask.revoke_previous {
        let mut tx = app.store.begin().await?;
        rotation::cut_short(app, &mut tx, &rotation.subject).await?;
        let _none = tx.commit(&[], &[]).await?;
        app.announce_work();
    }
    Ok(view(app, &rotation::read(app, rotation.id).await?))
}

/// The grace that is asked for, within its bounds.
pub(super) fn grace(app: &App, asked: Option<Ttl>) -> Result<Ttl, Error> {
    let grace = asked.unwrap_or(app.rotation_rules.grace);
    if grace > RotationRules::MOST_GRACE {
        return Err(Error::invalid("/grace", "the key before may be used for 24 h at most"));
    }
    Ok(grace)
}

/// The shared key that is meant.
async fn find(app: &App, name: &str) -> Result<SharedKey, Error> {
    let mut tx = app.store.read().await?;
    let keys = tx.shared_keys().await?;
    let Ok(id) = name.parse::<CredentialId>() else {
        tx.end().await?;
        let mut named = keys.into_iter().filter(|key| key.policy.as_str() == name);
        // Older versions of a policy have keys of their own while somebody uses them; the last made is the policy's.
        let first = named.next().ok_or(Error::NotFound("shared key"))?;
        return Ok(named.fold(first, |best, key| if key.lease > best.lease { key } else { best }));
    };
    tx.credential(id).await?.ok_or(Error::NotFound("credential"))?;
    let lease = tx.lease_of_credential(id).await?;
    tx.end().await?;
    let lease: Option<LeaseId> = lease
        .filter(|lease| lease.state == LeaseState::Active)
        .map(|lease| lease.id);
    keys.into_iter().find(|key| Some(key.lease) == lease).ok_or_else(|| {
        let words = "only a key that grants share is rotated; others end with their lease: dekeys lease revoke ID";
        Error::Conflict(words.to_owned())
    })
}

/// All keys that are rotated from time to time, the most overdue first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn due(app: &App, context: &Context) -> Result<List<DueView>, Error> {
    context.operator()?;
    let now = app.now();
    let mut data = Vec::new();
    for due in schedule::shared(app).await? {
        let mut tx = app.store.read().await?;
        let last = tx.rotations_of(&due.key.lease.to_string(), 1).await?.into_iter().next();
        tx.end().await?;
        let connected = app.current_root(&due.key.vendor).await?;
        data.push(DueView {
            id: due.key.credential.to_string(),
            object: "due_rotation".to_owned(),
            kind: RotationKind::Credential,
            name: due.key.policy,
            vendor: due.key.vendor,
            mode: connected.manifest.facts().rotation,
            created: due.key.created,
            due: due.at,
            late_seconds: now.since(due.at).as_secs(),
            state: last.as_ref().map(|row| row.state),
            trouble: last.and_then(|row| row.last_error),
        });
    }
    for due in schedule::roots(app).await? {
        let mut tx = app.store.read().await?;
        let last = tx.rotations_of(due.root.vendor.as_str(), 1).await?.into_iter().next();
        tx.end().await?;
        data.push(DueView {
            id: due.root.id.to_string(),
            object: "due_rotation".to_owned(),
            kind: RotationKind::Root,
            name: due.root.vendor.clone(),
            vendor: due.root.vendor,
            mode: due.mode,
            created: due.root.created,
            due: due.at,
            late_seconds: now.since(due.at).as_secs(),
            state: last.as_ref().map(|row| row.state),
            trouble: last.and_then(|row| row.last_error),
        });
    }
    data.sort_by_key(|view| view.due);
    Ok(List::whole(data))
}
