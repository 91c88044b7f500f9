//! Control rows in memory: principals, policies in force, manifests, root credentials and grants, each checked
//! against its MAC when it enters. A row that is not authentic is refused, raised as an event, and not cached.
//!
//! Bound: another instance's change of a principal, policy or root credential is seen after at most two seconds; its
//! end of a grant or lease at once, because every release reads those in its transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::RwLock;

use super::App;
use super::error::Error;
use crate::base::canonical::Digest;
use crate::base::id::{GrantId, InstanceId, PrincipalId, RootId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::{Control as Row, Stored};
use crate::model::grant::Grant;
use crate::model::policy::{Policy, PolicyVersion};
use crate::model::principal::{Principal, PublicKey};
use crate::model::root::Root;
use crate::model::scope::Name;
use crate::model::sealed::{Place, Sealed};
use crate::vendor::Manifest;

/// How stale a cached principal, policy or manifest may be.
const FRESH: Ttl = Ttl::from_secs(2);

/// How often the same trouble is told to the log, so that a row that is met again and again does not fill it.
const TELL_AGAIN: Duration = Duration::from_mins(1);

/// How long whoever raises an attack waits until it is on record. Somebody within a transaction would wait for
/// itself: it is recorded when that has ended.
const RECORDING: Duration = Duration::from_millis(200);

/// For how long the same forged row is told once only: a worker may meet it at every turn.
const ONCE: Duration = Duration::from_mins(1);

/// The caches.
pub struct Control {
    principals: Cache<PublicKey, (Arc<Principal>, Timestamp)>,
    policies: RwLock<Option<(Arc<Vec<InForce>>, Timestamp)>>,
    versions: Cache<(Name, i64), (Arc<InForce>, Timestamp)>,
    manifests: RwLock<HashMap<Digest, Arc<Manifest>>>,
    pins: Cache<Name, (Arc<Manifest>, Digest, Timestamp)>,
    roots: RwLock<HashMap<RootId, Arc<Connected>>>,
    /// Which root credential each vendor uses.
    current: RwLock<HashMap<Name, (RootId, Timestamp)>>,
    grants: Cache<GrantId, Arc<Grant>>,
    raised: Cache<(String, String), ()>,
    told: Cache<(&'static str, [u8; 32]), ()>,
}

/// A policy in force.
pub struct InForce {
    /// The version as approved.
    pub version: PolicyVersion,
    /// The file, parsed.
    pub policy: Policy,
}

/// A root credential with its manifest. The value stays sealed.
pub struct Connected {
    /// The row.
    pub root: Root,
    /// The value.
    pub sealed: Sealed,
    /// The manifest it was entered for.
    pub manifest: Arc<Manifest>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            principals: Cache::new(10_000),
            policies: RwLock::default(),
            versions: Cache::new(1_000),
            manifests: RwLock::default(),
            pins: Cache::new(1_000),
            roots: RwLock::default(),
            current: RwLock::default(),
            grants: Cache::new(200_000),
            raised: Cache::builder().max_capacity(1000).time_to_live(TELL_AGAIN).build(),
            told: Cache::builder().max_capacity(10_000).time_to_live(ONCE).build(),
        }
    }
}

impl Control {
    pub(super) fn clear(&self) {
        self.principals.invalidate_all();
        self.forget_policies();
        self.forget_roots();
        self.manifests.write().clear();
        self.grants.invalidate_all();
    }

    pub(super) fn forget_grant(&self, id: GrantId) {
        self.grants.invalidate(&id);
    }

    pub(super) fn forget_principals(&self) {
        self.principals.invalidate_all();
    }

    pub(super) fn forget_policies(&self) {
        *self.policies.write() = None;
        self.versions.invalidate_all();
    }

    /// Roots, and the manifests that were pinned with them.
    pub(super) fn forget_roots(&self) {
        self.current.write().clear();
        self.roots.write().clear();
        self.pins.invalidate_all();
    }
}

impl Connected {
    /// The address of the sealed value.
    #[must_use]
    pub fn place(&self, app: &App) -> Place {
        root_place(app, &self.root)
    }
}

/// The address of a root credential's value: bound to its vendor.
#[must_use]
pub fn root_place(app: &App, root: &Root) -> Place {
    place_of_root(app.instance.id, root)
}

/// The same for a root credential of any instance.
pub(super) fn place_of_root(instance: InstanceId, root: &Root) -> Place {
    Place {
        instance,
        record: "root",
        id: root.id.to_string(),
        owner: root.vendor.to_string(),
        version: 1,
        field: "secret",
    }
}

impl App {
    /// Checks a control row; a forged one is raised.
    ///
    /// # Errors
    /// [`Error::Forged`], [`Error::Sealed`].
    pub async fn authentic<T: Row>(&self, what: &'static str, stored: Stored<T>) -> Result<T, Error> {
        let mark = (what, stored.mac.0);
        match self.vault.authenticate(stored) {
            Ok(value) => Ok(value),
            Err(crate::vault::VaultError::Forged) => {
                if !self.control().told.contains_key(&mark) {
                    self.control().told.insert(mark, ());
                    tracing::error!(what, "a stored row is not authentic: somebody wrote to the database");
                    self.raise("security.forged_row", what).await;
                }
                Err(Error::Forged(what))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A control row with its MAC, ready to be stored.
    ///
    /// # Errors
    /// [`Error::Sealed`].
    pub fn stored<T: Row>(&self, unverified: T) -> Result<Stored<T>, Error> {
        let mac = self.vault.mac(&unverified)?;
        Ok(Stored { unverified, mac })
    }

    /// Tells the log about an attack, once a minute for the same one. A database that cannot even take that is told
    /// to the operator's log only.
    pub async fn raise(&self, kind: &str, what: &str) {
        let same = (kind.to_owned(), what.to_owned());
        if self.control().raised.contains_key(&same) {
            return;
        }
        self.control().raised.insert(same, ());
        let event = self.own_event(kind, &what, serde_json::json!({ "what": what }));
        let app = self.clone();
        let recording = tokio::spawn(async move {
            let (kind, what) = (event.kind.clone(), event.object.clone());
            let outcome = match app.store.begin().await {
                Ok(tx) => tx.commit(&[event], &[]).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                tracing::error!(%error, kind, what, "could not record an attack");
            }
        });
        let _recorded = tokio::time::timeout(RECORDING, recording).await;
    }

    /// The principal a key proves.
    ///
    /// # Errors
    /// The store's. A forged row answers as an unknown key.
    pub async fn principal_by_key(&self, key: &PublicKey) -> Result<Option<Arc<Principal>>, Error> {
        let now = self.now();
        if let Some((principal, at)) = self.control().principals.get(key)
            && now.since(at) < FRESH
        {
            return Ok(Some(principal));
        }
        let mut tx = self.store.read().await?;
        let Some(stored) = tx.principal_by_key(key).await? else {
            return Ok(None);
        };
        drop(tx);
        let principal = match self.authentic("principal", stored).await {
            Ok(principal) => Arc::new(principal),
            Err(Error::Forged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The index that found the row is not authentic; the row is.
        if !principal.keys.contains(key) {
            self.raise("security.forged_row", "principal key").await;
            return Ok(None);
        }
        self.control().principals.insert(*key, (Arc::clone(&principal), now));
        Ok(Some(principal))
    }

    /// A principal by id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forged`].
    pub async fn principal(&self, id: PrincipalId) -> Result<Principal, Error> {
        let mut tx = self.store.read().await?;
        let stored = tx.principal(id).await?.ok_or(Error::NotFound("principal"))?;
        drop(tx);
        self.authentic("principal", stored).await
    }

    /// A principal by name.
    ///
    /// # Errors
    /// [`Error::Forged`], the store's.
    pub async fn principal_named(&self, name: &Name) -> Result<Option<Principal>, Error> {
        let mut tx = self.store.read().await?;
        let found = tx.principal_by_name(name).await?;
        drop(tx);
        match found {
            None => Ok(None),
            Some(stored) => self.authentic("principal", stored).await.map(Some),
        }
    }

    /// The policies in force. One that is not authentic is left out, and raised.
    ///
    /// # Errors
    /// The store's, [`Error::Sealed`].
    pub async fn policies(&self) -> Result<Arc<Vec<InForce>>, Error> {
        let now = self.now();
        if let Some((policies, at)) = self.control().policies.read().as_ref()
            && now.since(*at) < FRESH
        {
            return Ok(Arc::clone(policies));
        }
        let mut tx = self.store.read().await?;
        let rows = tx.active_policies().await?;
        drop(tx);
        let mut policies = Vec::with_capacity(rows.len());
        for row in rows {
            match self.authentic("policy", row).await {
                Ok(version) => policies.push(in_force(version)?),
                Err(Error::Forged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let policies = Arc::new(policies);
        *self.control().policies.write() = Some((Arc::clone(&policies), now));
        Ok(policies)
    }

    /// One version of a policy, in force or not: what a grant refers to.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forged`].
    pub async fn policy_version(&self, name: &Name, version: i64) -> Result<Arc<InForce>, Error> {
        let (now, key) = (self.now(), (name.clone(), version));
        if let Some((found, at)) = self.control().versions.get(&key)
            && now.since(at) < FRESH
        {
            return Ok(found);
        }
        let mut tx = self.store.read().await?;
        let stored = tx
            .policy_version(name, version)
            .await?
            .ok_or(Error::NotFound("policy"))?;
        drop(tx);
        let found = Arc::new(in_force(self.authentic("policy", stored).await?)?);
        self.control().versions.insert(key, (Arc::clone(&found), now));
        Ok(found)
    }

    /// The manifest pinned for a vendor.
    ///
    /// # Errors
    /// [`Error::VendorNotConnected`], [`Error::Forged`].
    pub async fn manifest(&self, vendor: &Name) -> Result<(Arc<Manifest>, Digest), Error> {
        let now = self.now();
        if let Some((manifest, digest, at)) = self.control().pins.get(vendor)
            && now.since(at) < FRESH
        {
            return Ok((manifest, digest));
        }
        let mut tx = self.store.read().await?;
        let stored = tx
            .manifest_pin(vendor)
            .await?
            .ok_or_else(|| Error::VendorNotConnected(vendor.to_string()))?;
        drop(tx);
        let pin = self.authentic("manifest", stored).await?;
        let digest = pin.digest();
        let known = self.control().manifests.read().get(&digest).map(Arc::clone);
        let manifest = match known {
            Some(manifest) => manifest,
            None => Arc::new(
                Manifest::parse(&pin.text, vendor.as_str())
                    .map_err(|error| Error::ManifestInvalid(error.to_string()))?,
            ),
        };
        self.control().manifests.write().insert(digest, Arc::clone(&manifest));
        let entry = (Arc::clone(&manifest), digest, now);
        self.control().pins.insert(vendor.clone(), entry);
        Ok((manifest, digest))
    }

    /// The root credential in use for a vendor.
    ///
    /// # Errors
    /// [`Error::VendorNotConnected`], [`Error::Forged`].
    pub async fn current_root(&self, vendor: &Name) -> Result<Arc<Connected>, Error> {
        let now = self.now();
        let known = self.control().current.read().get(vendor).copied();
        if let Some((id, at)) = known
            && now.since(at) < FRESH
            && let Some(found) = self.control().roots.read().get(&id)
        {
            return Ok(Arc::clone(found));
        }
        let mut tx = self.store.read().await?;
        let (stored, sealed) = tx
            .current_root(vendor)
            .await?
            .ok_or_else(|| Error::VendorNotConnected(vendor.to_string()))?;
        drop(tx);
        let connected = self.connected(stored, sealed).await?;
        self.control()
            .current
            .write()
            .insert(vendor.clone(), (connected.root.id, now));
        Ok(connected)
    }

    /// A root credential by id: the one a credential was made from.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forged`].
    pub async fn root(&self, id: RootId) -> Result<Arc<Connected>, Error> {
        if let Some(found) = self.control().roots.read().get(&id) {
            return Ok(Arc::clone(found));
        }
        let mut tx = self.store.read().await?;
        let (stored, sealed) = tx.root(id).await?.ok_or(Error::NotFound("root credential"))?;
        drop(tx);
        self.connected(stored, sealed).await
    }

    async fn connected(&self, stored: Stored<Root>, sealed: Sealed) -> Result<Arc<Connected>, Error> {
        let root = self.authentic("root credential", stored).await?;
        let (manifest, _) = self.manifest(&root.vendor).await?;
        let connected = Arc::new(Connected { root, sealed, manifest });
        self.control()
            .roots
            .write()
            .insert(connected.root.id, Arc::clone(&connected));
        Ok(connected)
    }

    /// A grant as it is now, for the checks of a first use.
    ///
    /// # Errors
    /// As [`App::grant`].
    pub(super) async fn grant_anew(&self, id: GrantId) -> Result<Arc<Grant>, Error> {
        self.control().forget_grant(id);
        self.grant(id).await
    }

    /// A grant, authenticated when it was read. Its counters and present state are checked by the writer.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forged`].
    pub async fn grant(&self, id: GrantId) -> Result<Arc<Grant>, Error> {
        if let Some(grant) = self.control().grants.get(&id) {
            return Ok(grant);
        }
        let mut tx = self.store.read().await?;
        let (stored, _) = tx.grant(id).await?.ok_or(Error::NotFound("grant"))?;
        drop(tx);
        let grant = Arc::new(self.authentic("grant", stored).await?);
        self.control().grants.insert(id, Arc::clone(&grant));
        Ok(grant)
    }
}

pub(super) fn in_force(version: PolicyVersion) -> Result<InForce, Error> {
    let policy = crate::policy::parse(&version.text, version.name.as_str())
        .map_err(|errors| Error::PolicyInvalid(Box::new(errors)))?;
    Ok(InForce { version, policy })
}
