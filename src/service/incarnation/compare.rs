//! Comparing: each vendor's own list of keys against the credentials here. It only looks; each look is on record, since it
//! uses a root credential.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::App;
use super::super::caller::Context;
use super::super::connect::open_root_to_look;
use super::super::control::Connected;
use super::super::error::Error;
use super::super::grant::claim;
use super::super::root_rotation;
use crate::base::id::{CredentialId, IncarnationId, RootId};
use crate::base::time::Timestamp;
use crate::model::credential::{Credential, CredentialState, vendor_name, vendor_name_prefix};
use crate::model::incarnation::Cause;
use crate::model::principal::PrincipalKind;
use crate::model::scope::Name;
use crate::store::Release;
use crate::vendor::{Adapter, Found};

/// What the names of all keys of all instances begin with.
const OURS: &str = "dk-";

/// More rotations than are ever under way.
const MOST: i64 = 10_000;

/// How the present history stands.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileStatus {
    /// Always `reconcile_status`.
    pub object: String,
    /// Nothing is released, made or ended before an operator said that the database agrees with the vendors.
    pub reconciling: bool,
    /// The present incarnation.
    pub incarnation: IncarnationId,
    /// Why it began.
    pub cause: Cause,
    /// When.
    pub begun: Timestamp,
    /// Payments are taken from then on.
    pub payments_from: Timestamp,
}

/// How the present history stands; asks no vendor.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators and humans; [`Error::Sealed`].
pub fn status(app: &App, context: &Context) -> Result<ReconcileStatus, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let standing = app.standing().ok_or(Error::Sealed)?;
    Ok(ReconcileStatus {
        object: "reconcile_status".to_owned(),
        reconciling: standing.reconciling,
        incarnation: standing.id,
        cause: standing.cause,
        begun: standing.begun,
        payments_from: standing.payments_from,
    })
}

/// What the vendors have against what is known here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Always `comparison`.
    pub object: String,
    /// Whether the database is being reconciled.
    pub reconciling: bool,
    /// One for each root credential.
    pub data: Vec<Compared>,
}

/// What one root credential showed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// The vendor.
    pub vendor: Name,
    /// The root credential.
    pub root: RootId,
    /// `compared`; `no_list` where the vendor shows none; `unreachable` when it did not answer or refused.
    pub state: String,
    /// Why it is unreachable, in safe words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Keys that live there and are known here.
    pub matching: usize,
    /// Keys that live by what is known here, and are gone there.
    pub gone: Vec<GoneKey>,
    /// Keys that live there under a name of this instance, and are not known here.
    pub unknown: Vec<UnknownKey>,
    /// Keys of other instances. They are never touched.
    pub foreign: usize,
}

/// A key that is gone at the vendor.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct GoneKey {
    /// The credential.
    pub credential: CredentialId,
    /// The vendor's id of it.
    pub vendor_key_id: String,
    /// When it would have been ended.
    pub expires: Timestamp,
}

/// A key that nobody here knows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UnknownKey {
    /// The vendor's id of it.
    pub vendor_key_id: String,
    /// Its name there.
    pub name: String,
}

/// The difference as it is worked on.
pub(super) struct Difference {
    pub(super) connected: Arc<Connected>,
    pub(super) gone: Vec<Credential>,
    pub(super) unknown: Vec<Found>,
    view: Compared,
}

/// Asks every vendor, and shows how its list differs.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; the store's. A vendor that does not answer is part of the answer.
pub async fn compare(app: &App, context: &Context) -> Result<Comparison, Error> {
    context.operator()?;
    claim(app, context).await?;
    let differences = look(app, context, None).await?;
    Ok(comparison(app, differences))
}

pub(super) fn comparison(app: &App, differences: Vec<Difference>) -> Comparison {
    Comparison {
        object: "comparison".to_owned(),
        reconciling: app.is_reconciling(),
        data: differences.into_iter().map(|difference| difference.view).collect(),
    }
}

impl Difference {
    /// Whether the vendor did not show what it has.
    pub(super) fn is_unreachable(&self) -> bool {
        self.view.state == UNREACHABLE
    }

    pub(super) fn vendor(&self) -> &Name {
        &self.connected.root.vendor
    }
}

const UNREACHABLE: &str = "unreachable";

/// What a root credential's vendor listed.
enum Listed {
    Whole(Vec<Found>),
    No,
    Failed(String),
}

/// Lists all vendors, or one, by every root credential that is in use or that living keys were made from.
pub(super) async fn look(app: &App, context: &Context, only: Option<&Name>) -> Result<Vec<Difference>, Error> {
    let mut tx = app.store.read().await?;
    let ids = tx.roots_in_use().await?;
    tx.end().await?;
    let mut by_vendor: BTreeMap<Name, Vec<(Arc<Connected>, Listed)>> = BTreeMap::new();
    for id in ids {
        let connected = app.root(id).await?;
        let vendor = connected.root.vendor.clone();
        if only.is_none_or(|only| *only == vendor) {
            let listed = list(app, context, &connected).await?;
            by_vendor.entry(vendor).or_default().push((connected, listed));
        }
    }
    let roots = root_ids(app).await?;
    let mut differences = Vec::new();
    for (vendor, mut lists) in by_vendor {
        // A key that two root credentials see is taken over by the one in use.
        lists.sort_by_key(|(connected, _)| !connected.root.current);
        let mut tx = app.store.read().await?;
        let living = tx.living_credentials(&vendor).await?;
        tx.end().await?;
        differences.extend(differ(app, &living, &roots, lists));
    }
    Ok(differences)
}

async fn list(app: &App, context: &Context, connected: &Connected) -> Result<Listed, Error> {
    let adapter = Adapter::of(&connected.manifest, app.logins());
    if !adapter.can_list() {
        return Ok(Listed::No);
    }
    let vendor = &connected.root.vendor;
    let event = app.event(
        context,
        "vendor.listed",
        &connected.root.id,
        json!({ "vendor": vendor }),
    );
    let release = Release {
        event: event.id,
        object: connected.root.id.to_string(),
        version: 1,
    };
    let proofs = app.store.begin().await?.commit(&[event], &[release]).await?;
    let root = open_root_to_look(app, connected, proofs).await?;
    let asked = (connected.root.id, vendor);
    let found = app.asked(asked, "list", adapter.list(&app.egress, &root, OURS)).await;
    Ok(found.map_or_else(|failure| Listed::Failed(failure.words), Listed::Whole))
}

/// The differences of one vendor, whose lists were read by several root credentials as a rule by one.
fn differ(app: &App, living: &[Credential], roots: &[String], lists: Vec<(Arc<Connected>, Listed)>) -> Vec<Difference> {
    let listed: BTreeSet<String> = lists
        .iter()
        .filter_map(|(_, listed)| match listed {
            Listed::Whole(found) => Some(found.iter().map(|found| found.vendor_key_id.clone())),
            Listed::No | Listed::Failed(_) => None,
        })
        .flatten()
        .collect();
    let known: BTreeSet<&str> = living.iter().filter_map(|row| row.vendor_key_id.as_deref()).collect();
    let mut told = BTreeSet::new();
    lists
        .into_iter()
        .map(|(connected, list)| {
            let mut view = Compared {
                vendor: connected.root.vendor.clone(),
                root: connected.root.id,
                state: "compared".to_owned(),
                trouble: None,
                matching: 0,
                gone: Vec::new(),
                unknown: Vec::new(),
                foreign: 0,
            };
            let (mut gone, mut unknown) = (Vec::new(), Vec::new());
            match list {
                Listed::No => "no_list".clone_into(&mut view.state),
                Listed::Failed(trouble) => {
                    UNREACHABLE.clone_into(&mut view.state);
                    view.trouble = Some(trouble);
                }
                Listed::Whole(found) => {
                    let adapter = Adapter::of(&connected.manifest, app.logins());
                    let ours = adapter.shaped(&vendor_name_prefix(app.instance.id));
                    let names = names(app, &adapter, living, roots);
                    for key in found {
                        if !key.name.starts_with(&ours) {
                            view.foreign = view.foreign.saturating_add(1);
                        } else if known.contains(key.vendor_key_id.as_str()) || names.contains(&key.name) {
                            view.matching = view.matching.saturating_add(1);
                        } else if told.insert(key.vendor_key_id.clone()) {
                            unknown.push(key);
                        }
                    }
                    gone = living
                        .iter()
                        .filter(|row| is_gone(row, &connected, &listed))
                        .cloned()
                        .collect();
                }
            }
            view.gone = gone.iter().map(gone_key).collect();
            view.unknown = unknown.iter().map(unknown_key).collect();
            Difference {
                connected,
                gone,
                unknown,
                view,
            }
        })
        .collect()
}

/// Names of keys that may have been made, and whose ids are not known: dekeys looks for them by itself. And of root
/// credentials that rotations made: vendors list them among the others.
fn names(app: &App, adapter: &Adapter, living: &[Credential], roots: &[String]) -> BTreeSet<String> {
    let in_doubt = living.iter().filter(|row| row.vendor_key_id.is_none());
    in_doubt
        .map(|row| vendor_name(app.instance.id, row.id, 1))
        .chain(roots.iter().map(|id| root_rotation::root_name(app, id)))
        .map(|name| adapter.shaped(&name))
        .collect()
}

/// Root credentials, those included that a rotation is about to make.
async fn root_ids(app: &App) -> Result<Vec<String>, Error> {
    let ever = Timestamp::from_millis(i64::MAX);
    let mut tx = app.store.read().await?;
    let there = tx
        .roots()
        .await?
        .into_iter()
        .map(|(row, _)| row.unverified.id.to_string());
    let coming = tx.rotations_due(ever, MOST).await?.into_iter().map(|row| row.new);
    Ok(there.chain(coming).collect())
}

fn is_gone(row: &Credential, connected: &Connected, listed: &BTreeSet<String>) -> bool {
    let ends = matches!(
        row.state,
        CredentialState::Active | CredentialState::Revoking | CredentialState::Stuck
    );
    let there = row.vendor_key_id.as_ref().is_none_or(|id| listed.contains(id));
    ends && !there && row.root == connected.root.id
}

fn gone_key(row: &Credential) -> GoneKey {
    GoneKey {
        credential: row.id,
        vendor_key_id: row.vendor_key_id.clone().unwrap_or_default(),
        expires: row.expires,
    }
}

fn unknown_key(found: &Found) -> UnknownKey {
    UnknownKey {
        vendor_key_id: found.vendor_key_id.clone(),
        name: found.name.clone(),
    }
}
