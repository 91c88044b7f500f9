//! Having a vendor make another root credential, and ending the one before. What is made goes where the old one goes
//! (DESIGN 15): nothing of the destination is read from the answer.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::adapter::{Declared, other};
use super::answer::{failure, json, succeeded, unreadable};
use super::call::{Call, Proof};
use super::findings::Reader;
use super::manifest::Manifest;
use super::tables::{As, Encoding, RevokeTable, RotateMode, Verb};
use super::template::{Text, Tree};
use super::words::Pointer;
use super::{Adapter, Existence, Gone, RootSecret, VendorFailure};
use crate::base::egress::Egress;
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::time::Ttl;

/// `[root.rotate]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RootRotateTable {
    pub(crate) mode: RotateMode,
    /// `vendor_overlap`: how long the vendor lets the old one live, at most and at least.
    #[serde(default)]
    pub(crate) overlap_s: i64,
    #[serde(default)]
    pub(crate) overlap_min_s: i64,
    /// Tells the vendor's id of the root credential that asks.
    pub(crate) who: Option<WhoTable>,
    /// Makes the new one; asked as the old one.
    pub(crate) call: RootCallTable,
    /// Ends the old one by its id; asked as the new one.
    pub(crate) end: Option<RevokeTable>,
}

/// `[root.rotate.who]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct WhoTable {
    pub(crate) path: Text,
    #[serde(default = "super::tables::ok_200")]
    pub(crate) ok: BTreeSet<u16>,
    pub(crate) id: Pointer,
}

/// `[root.rotate.call]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RootCallTable {
    pub(crate) method: Verb,
    pub(crate) path: Text,
    #[serde(default)]
    pub(crate) query: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Text>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    pub(crate) body: Option<Tree>,
    #[serde(default = "super::tables::ok_200")]
    pub(crate) ok: BTreeSet<u16>,
    /// The fields that change, each with its place in the answer.
    pub(crate) fields: BTreeMap<String, Pointer>,
}

impl Adapter {
    /// How the vendor's API replaces a root credential; `None` where people do.
    #[must_use]
    pub fn root_rotation(&self) -> Option<RotateMode> {
        self.manifest().root.rotate.as_ref().map(|table| table.mode)
    }

    /// How long the old root credential may live beside the new one.
    #[must_use]
    pub fn root_overlap(&self, asked: Ttl) -> Ttl {
        match &self.manifest().root.rotate {
            Some(table) if table.mode == RotateMode::VendorOverlap => {
                let (least, most) = (
                    table.overlap_min_s.max(0),
                    table.overlap_s.max(table.overlap_min_s).max(0),
                );
                asked.clamp(Ttl::from_secs(least), Ttl::from_secs(most))
            }
            Some(table) if table.mode == RotateMode::InPlace => Ttl::default(),
            _ => asked,
        }
    }

    /// The vendor's id of a root credential, where the vendor tells.
    ///
    /// # Errors
    /// [`VendorFailure`].
    pub async fn root_id(&self, egress: &Egress, root: &RootSecret) -> Result<Option<String>, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.root_id(egress, root).await
    }

    /// Has the vendor make another root credential, as the old one: the plaintext that the vault seals. Never repeats.
    ///
    /// # Errors
    /// [`VendorFailure`]; its `created` says whether another one may have been made.
    pub async fn another_root(
        &self,
        egress: &Egress,
        root: &RootSecret,
        name: &str,
        id: Option<&str>,
        overlap: Ttl,
    ) -> Result<SecretBytes, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.another_root(egress, root, name, id, overlap).await
    }

    /// Whether the vendor's API ends a root credential.
    #[must_use]
    pub fn can_end_root(&self) -> bool {
        self.manifest()
            .root
            .rotate
            .as_ref()
            .is_some_and(|table| table.end.is_some())
    }

    /// Ends another root credential by its id.
    ///
    /// # Errors
    /// [`VendorFailure`].
    pub async fn end_root(&self, egress: &Egress, root: &RootSecret, id: &str) -> Result<Gone, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.end_root(egress, root, id).await
    }

    /// A root credential with other values in some fields, for the same destination: the plaintext that the vault
    /// seals.
    ///
    /// # Errors
    /// [`super::VendorError`] for fields that are missing, unknown or not of the manifest's form.
    pub fn replaced_root(
        &self,
        root: &RootSecret,
        fields: Vec<(String, SecretText)>,
    ) -> Result<SecretBytes, super::VendorError> {
        root.with(self.manifest(), fields)
    }
}

impl Declared {
    fn root_table(&self) -> Result<&RootRotateTable, VendorFailure> {
        let table = self.manifest.root.rotate.as_ref();
        table.ok_or_else(|| self.cannot("make another root credential"))
    }

    async fn root_id(&self, egress: &Egress, root: &RootSecret) -> Result<Option<String>, VendorFailure> {
        let Some(table) = self.manifest.root.rotate.as_ref().and_then(|table| table.who.as_ref()) else {
            return Ok(None);
        };
        let login = self.login(egress, root).await?;
        let outgoing = self.request(&Call::from(table), root, Proof::Root(login.as_deref()), &root.values())?;
        let incoming = self.send(egress, root, As::Root, outgoing).await.map_err(other)?;
        let body = json(&incoming);
        if !table.ok.contains(&incoming.status) || !succeeded(&self.manifest, body.as_ref()) {
            return Err(other(failure(&self.manifest, &incoming, body.as_ref())));
        }
        let id = body.and_then(|body| table.id.text(&body.0));
        id.map(Some)
            .ok_or_else(|| unreadable(&self.manifest, incoming.status, Existence::No))
    }

    async fn another_root(
        &self,
        egress: &Egress,
        root: &RootSecret,
        name: &str,
        id: Option<&str>,
        overlap: Ttl,
    ) -> Result<SecretBytes, VendorFailure> {
        let table = &self.root_table()?.call;
        let values = root
            .values()
            .with("name", self.shape(name))
            .maybe("id", id)
            .with("overlap", overlap.as_secs())
            .with("overlap_ms", overlap.as_millis());
        let login = self.login(egress, root).await?;
        let outgoing = self.request(&Call::from(table), root, Proof::Root(login.as_deref()), &values)?;
        let incoming = self.send(egress, root, As::Root, outgoing).await?;
        let body = json(&incoming);
        if !table.ok.contains(&incoming.status) || !succeeded(&self.manifest, body.as_ref()) {
            return Err(failure(&self.manifest, &incoming, body.as_ref()));
        }
        let unread = || unreadable(&self.manifest, incoming.status, Existence::Maybe);
        let body = body.ok_or_else(unread)?;
        let field =
            |(name, pointer): (&String, &Pointer)| Some((name.clone(), SecretText::new(pointer.text(&body.0)?)));
        let fields = table
            .fields
            .iter()
            .map(field)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(unread)?;
        root.with(&self.manifest, fields).map_err(|_| unread())
    }

    async fn end_root(&self, egress: &Egress, root: &RootSecret, id: &str) -> Result<Gone, VendorFailure> {
        let table: Option<&RevokeTable> = self.root_table()?.end.as_ref();
        let table = table.ok_or_else(|| self.cannot("end a root credential"))?;
        let values = root.values().with("id", id);
        let login = self.login(egress, root).await?;
        let outgoing = self.request(&Call::from(table), root, Proof::Root(login.as_deref()), &values)?;
        let incoming = self.send(egress, root, As::Root, outgoing).await.map_err(other)?;
        let body = json(&incoming);
        if table.gone.contains(&incoming.status) {
            return Ok(Gone::AlreadyGone);
        }
        if table.ok.contains(&incoming.status) && succeeded(&self.manifest, body.as_ref()) {
            return Ok(Gone::Revoked);
        }
        Err(other(failure(&self.manifest, &incoming, body.as_ref())))
    }
}

/// Notes what is inconsistent in `[root.rotate]`.
pub(super) fn check(manifest: &Manifest, reader: &mut Reader<'_>) {
    let Some(table) = &manifest.root.rotate else { return };
    let unknown = table
        .call
        .fields
        .keys()
        .find(|name| !manifest.root.fields.contains_key(*name));
    if unknown.is_some() || table.call.fields.is_empty() {
        let message = "`fields` says where the answer has the new value of each field of `[root]` that changes";
        reader.wrong("/root/rotate/call/fields", message, None);
    }
    if table.mode.makes_another() && (table.end.is_none() || table.who.is_none()) {
        let message = "a vendor where both are alive has `[root.rotate.who]` and `[root.rotate.end]`, so that the old \
                       one is ended";
        reader.wrong("/root/rotate/end", message, None);
    }
    if table.call.body.is_some() && table.who.is_none() && Call::from(&table.call).uses("id") {
        reader.wrong("/root/rotate/who", "`${id}` is used, and nothing tells it", None);
    }
    let overlap = table.overlap_min_s >= 0 && table.overlap_s >= table.overlap_min_s;
    if !overlap || (table.mode == RotateMode::VendorOverlap && table.overlap_s == 0) {
        let message = "`vendor_overlap` says how long the vendor lets the old one live: `overlap_s = 3600`";
        reader.wrong("/root/rotate/overlap_s", message, None);
    }
}
