//! Having a vendor make another value of a key it has. With `in_place` the old value is dead at that moment, with
//! `vendor_overlap` after a span that is told. It stays one key with one id at the vendor, so none can be lost; but a
//! lost answer is a lost value, and the call is made again. Vendors that give the new value an id of its own are
//! rotated by a second key (`create_then_revoke`), which loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::adapter::{Declared, secrets};
use super::answer::{failure, json, succeeded, unreadable};
use super::call::{Call, Proof};
use super::findings::Reader;
use super::inject::fields;
use super::manifest::Manifest;
use super::tables::{As, Encoding, RotateMode, Verb};
use super::template::{Text, Tree};
use super::words::Pointer;
use super::{Adapter, Created, Existence, RootSecret, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::egress::Egress;
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};

/// `[rotate]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RotateTable {
    pub(crate) mode: RotateMode,
    /// `vendor_overlap`: how long the vendor lets the old value live at most.
    #[serde(default)]
    pub(crate) overlap_s: i64,
    /// `vendor_overlap`: how long at least.
    #[serde(default)]
    pub(crate) overlap_min_s: i64,
    /// `two_slot`: how many may be alive.
    pub(crate) max: Option<u32>,
    /// How often keys are rotated, where neither policy nor configuration says so.
    pub(crate) every_s: Option<i64>,
    /// `in_place` and `vendor_overlap`: the call that makes the new value.
    pub(crate) call: Option<RenewTable>,
}

/// `[rotate.call]`: the vendor makes another value of a key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct RenewTable {
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
    /// The new value in the answer.
    pub(crate) secret: Pointer,
}

/// A key whose value is to be made anew.
pub struct RenewAsk<'a> {
    /// The vendor's id of it.
    pub vendor_key_id: &'a str,
    /// The present value, for vendors that want it.
    pub secret: Option<&'a SecretText>,
    /// How long the present value should live on.
    pub overlap: Ttl,
    /// When the key must still live, and when the vendor ends it by itself.
    pub vendor_expires: Option<Timestamp>,
}

impl Adapter {
    /// Has the vendor make another value of a key. Never repeats.
    ///
    /// # Errors
    /// [`VendorFailure`]; its `created` is `No` when the old value certainly still is the only one, else `Maybe`.
    pub async fn renew(
        &self,
        egress: &Egress,
        root: &RootSecret,
        ask: &RenewAsk<'_>,
    ) -> Result<Created, VendorFailure> {
        let Self::Declared(declared) = self;
        declared.renew(egress, root, ask).await
    }

    /// How a key in use is replaced; `None` where dekeys can make no other key.
    #[must_use]
    pub fn rotation(&self) -> Option<RotateMode> {
        self.manifest().rotation()
    }

    /// How long the old value may live beside the new one: as asked where dekeys ends it itself, within the vendor's
    /// bounds where the vendor does.
    #[must_use]
    pub fn overlap(&self, asked: Ttl) -> Ttl {
        match (&self.manifest().rotate, self.rotation()) {
            (Some(table), Some(RotateMode::VendorOverlap)) => {
                let (least, most) = (
                    table.overlap_min_s.max(0),
                    table.overlap_s.max(table.overlap_min_s).max(0),
                );
                asked.clamp(Ttl::from_secs(least), Ttl::from_secs(most))
            }
            (_, Some(RotateMode::InPlace)) => Ttl::default(),
            _ => asked,
        }
    }
}

impl Declared {
    async fn renew(&self, egress: &Egress, root: &RootSecret, ask: &RenewAsk<'_>) -> Result<Created, VendorFailure> {
        let table = self.manifest.rotate.as_ref().and_then(|rotate| rotate.call.as_ref());
        let table = table.ok_or_else(|| self.cannot("make another value of a key"))?;
        let parts = ask.secret.map(fields).unwrap_or_default();
        let mut values = root
            .values()
            .with("id", ask.vendor_key_id)
            .with("overlap", ask.overlap.as_secs())
            .with("overlap_ms", ask.overlap.as_millis());
        if let Some(secret) = ask.secret {
            values = secrets(values, secret, &parts);
        }
        let login = self.login(egress, root).await?;
        let proof = Proof::Root(login.as_deref());
        let outgoing = self.request(&Call::from(table), root, proof, &values)?;
        let incoming = self.send(egress, root, As::Root, outgoing).await?;
        let answer = Digest::of(&incoming.body);
        let body = json(&incoming);
        if !table.ok.contains(&incoming.status) || !succeeded(&self.manifest, body.as_ref()) {
            return Err(failure(&self.manifest, &incoming, body.as_ref()));
        }
        let unread = || unreadable(&self.manifest, incoming.status, Existence::Maybe);
        let body = body.ok_or_else(unread)?;
        let secret = table.secret.text(&body.0).ok_or_else(unread)?;
        Ok(Created {
            secret: SecretText::new(secret),
            vendor_key_id: ask.vendor_key_id.to_owned(),
            vendor_expires: ask.vendor_expires,
            answer,
        })
    }
}

/// Notes what is inconsistent in `[rotate]`.
pub(super) fn check(manifest: &Manifest, reader: &mut Reader<'_>) {
    super::rotate_root::check(manifest, reader);
    let Some(rotate) = &manifest.rotate else { return };
    let mode = rotate.mode;
    if mode.makes_another() == rotate.call.is_some() {
        let message = "`in_place` and `vendor_overlap` have a `[rotate.call]`, the others have none";
        reader.wrong("/rotate/call", message, None);
    }
    if mode.makes_another() && manifest.create.is_none() {
        reader.wrong("/rotate/mode", "a vendor without `[create]` makes no second key", None);
    }
    if (mode == RotateMode::TwoSlot) != rotate.max.is_some() || rotate.max.is_some_and(|max| max < 2) {
        let message = "`two_slot` says how many keys may be alive, at least 2: `max = 2`";
        reader.wrong("/rotate/max", message, None);
    }
    let spans = rotate.overlap_min_s >= 0 && rotate.overlap_s >= rotate.overlap_min_s;
    if !spans || (mode == RotateMode::VendorOverlap && rotate.overlap_s == 0) {
        let message = "`vendor_overlap` says how long the vendor lets the old value live: `overlap_s = 3600`";
        reader.wrong("/rotate/overlap_s", message, None);
    }
    if rotate.every_s.is_some_and(|every| every < 60) {
        reader.wrong("/rotate/every_s", "a minute is the shortest: `every_s = 60`", None);
    }
}
