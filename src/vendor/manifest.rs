//! Manifests: what dekeys must know to make, find, probe and end keys at one vendor, as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::check;
use super::findings::{ManifestErrors, Reader};
use super::jwt::Signer;
use super::tables::{
    CreateTable, Defect, ErrorTable, Evidence, ExpiryTable, ExpiryUnit, HttpTable, Isolates, Limits, ListTable,
    MockTable, ParamTable, PathRule, ProbeTable, ProxyTable, Resale, RevokeTable, RootTable, RotateMode, RotateTable,
    VendorTable,
};
use super::template::Text;
use crate::base::canonical::Digest;
use crate::base::pattern::Patterns;
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::{Name, Scope};

/// A manifest that was read and found consistent.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub(crate) vendor: VendorTable,
    pub(crate) params: BTreeMap<String, ParamTable>,
    pub(crate) root: RootTable,
    pub(crate) http: HttpTable,
    pub(crate) scopes: BTreeMap<Scope, Value>,
    pub(crate) expiry: ExpiryTable,
    pub(crate) create: Option<CreateTable>,
    pub(crate) list: Option<ListTable>,
    pub(crate) revoke: Option<RevokeTable>,
    pub(crate) rotate: Option<RotateTable>,
    pub(crate) probe: Option<ProbeTable>,
    pub(crate) errors: ErrorTable,
    pub(crate) limits: Limits,
    pub(crate) proxy: ProxyTable,
    pub(crate) mock: MockTable,
    pub(crate) defects: Vec<Defect>,
    redact: Arc<Patterns>,
    digest: Digest,
}

/// A vendor that lets no more keys be alive than this is settled first.
const FEW_KEYS: u32 = 100;

const TABLES: [&str; 17] = [
    "schema", "vendor", "params", "root", "http", "scopes", "expiry", "create", "list", "revoke", "rotate", "probe",
    "errors", "limits", "proxy", "mock", "defects",
];

impl Manifest {
    /// Reads a manifest. `file` is only shown in errors.
    ///
    /// # Errors
    /// [`ManifestErrors`] with everything that is wrong, each with line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, ManifestErrors> {
        let mut reader = Reader::new(text);
        let manifest = read(&mut reader, text);
        if let Some(manifest) = manifest.as_ref().filter(|_| reader.is_clean()) {
            check::all(manifest, &mut reader);
        }
        reader.finish(file)?;
        manifest.ok_or_else(|| ManifestErrors {
            file: file.to_owned(),
            findings: Vec::new(),
        })
    }

    /// The vendor's name.
    pub const fn name(&self) -> &Name {
        &self.vendor.id
    }

    /// The vendor's name for people.
    pub fn title(&self) -> &str {
        &self.vendor.title
    }

    /// The digest of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// When a key that is made now and wanted until then is to end: no later than the vendor lets keys live.
    #[must_use]
    pub fn ends_by(&self, now: Timestamp, wanted: Timestamp) -> Timestamp {
        let longest = self.expiry.max_s.map(|max_s| now.plus(Ttl::from_secs(max_s)));
        longest.map_or(wanted, |longest| longest.min(wanted))
    }

    /// Whether keys are paid for before they are made: where the manifest says so, where a key cannot be ended, and
    /// where the vendor lets so few be alive that held ones would stand in the way of paid ones.
    #[must_use]
    pub fn settles_first(&self) -> bool {
        let endless = self.create.is_some() && self.revoke.is_none();
        let few = self.limits.max_keys.is_some_and(|most| most <= FEW_KEYS);
        self.vendor.settle_first.unwrap_or(endless || few)
    }

    /// How a key in use is replaced; `None` where dekeys can make no other key.
    pub(crate) fn rotation(&self) -> Option<RotateMode> {
        let said = self.rotate.as_ref().map(|rotate| rotate.mode);
        said.or_else(|| self.create.is_some().then_some(RotateMode::CreateThenRevoke))
    }

    /// What signs with a field of the root credential.
    pub(crate) fn signers(&self) -> impl Iterator<Item = &Signer> {
        let proof = self.root.auth.assertion().map(|assertion| &assertion.sign);
        let keys = self.create.as_ref().and_then(|create| create.sign.as_ref());
        proof.into_iter().chain(keys)
    }

    /// A fresh private key for a field of the root credential that holds one.
    pub(crate) fn example_key(&self, field: &str) -> Option<String> {
        let mut named = self.signers().filter(|signer| signer.field() == Some(field));
        named.next()?.algorithm.example()
    }

    /// What keys of this vendor look like: masked in what it answers.
    #[must_use]
    pub fn redact(&self) -> Arc<Patterns> {
        Arc::clone(&self.redact)
    }

    /// What others decide by.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts::of(self)
    }
}

fn read(reader: &mut Reader<'_>, text: &str) -> Option<Manifest> {
    reader.only(&TABLES);
    let schema = reader.required::<u32>("schema");
    if schema.is_some_and(|schema| schema != 1) {
        reader.wrong("/schema", "this dekeys reads schema 1 only", None);
    }
    // Each is read before any is missed, so that one run shows what is wrong with all of them.
    let (vendor, root, http) = (
        reader.required("vendor"),
        reader.required("root"),
        reader.required("http"),
    );
    let (scopes, proxy) = (reader.required("scopes"), reader.required::<ProxyTable>("proxy"));
    let redact = redact(reader, proxy.as_ref());
    let (params, expiry, errors) = (
        reader.optional("params"),
        reader.optional("expiry"),
        reader.optional("errors"),
    );
    let (create, list, revoke) = (
        reader.optional("create"),
        reader.optional("list"),
        reader.optional("revoke"),
    );
    let (rotate, probe) = (reader.optional("rotate"), reader.optional("probe"));
    let (limits, mock) = (reader.optional("limits"), reader.optional("mock"));
    let defects = reader.optional("defects");
    Some(Manifest {
        vendor: vendor?,
        root: root?,
        http: http?,
        scopes: scopes?,
        proxy: proxy?,
        params: params.unwrap_or_default(),
        expiry: expiry.unwrap_or_default(),
        create,
        list,
        revoke,
        rotate,
        probe,
        errors: errors.unwrap_or_default(),
        limits: limits.unwrap_or_default(),
        mock: mock.unwrap_or_default(),
        defects: defects.unwrap_or_default(),
        redact: Arc::new(redact?),
        digest: Digest::of(text.as_bytes()),
    })
}

fn redact(reader: &mut Reader<'_>, proxy: Option<&ProxyTable>) -> Option<Patterns> {
    let list = proxy.map(|proxy| proxy.redact.as_slice()).unwrap_or_default();
    Patterns::new(list)
        .map_err(|error| reader.wrong("/proxy/redact", error.to_string(), None))
        .ok()
}

/// What a manifest says about its vendor; nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a manifest, not states"
)]
pub struct Facts {
    /// The vendor's name.
    pub name: Name,
    /// The vendor's name for people.
    pub title: String,
    /// Where the vendor documents its keys.
    pub docs: Option<String>,
    /// The vendor's interface document that the manifest is checked against.
    pub spec: Option<String>,
    /// The scopes it offers.
    pub scopes: Vec<Scope>,
    /// 1 to 5: how surely dekeys can account for every key (V1 idempotent creation, V2 names, list and deletion,
    /// V3 no names, V4 short-lived only, V5 no list or no deletion).
    pub class: u8,
    /// A key can make further keys, so it is never handed out.
    pub can_mint: bool,
    /// Keys are not made but entered.
    pub is_static: bool,
    /// Keys are signed here and not made at the vendor, which knows each one only once it is used.
    pub signed_here: bool,
    /// Keys are paid for before they are made.
    pub settle_first: bool,
    /// What a key has to itself.
    pub isolates: Isolates,
    /// How well the manifest is known to be right.
    pub evidence: Evidence,
    /// Where that was found.
    pub evidence_source: Option<String>,
    /// When.
    pub evidence_date: Option<String>,
    /// Whether keys may be sold on.
    pub resale: Resale,
    /// Hosts that may be called; may hold `${params.…}`.
    pub hosts: Vec<String>,
    /// Hosts a key may be sent to; never more than `hosts`.
    pub injection_hosts: Vec<String>,
    /// What the operator fills in.
    pub params: Vec<Field>,
    /// What the root credential consists of; all secret.
    pub root_fields: Vec<Field>,
    /// The unit of the vendor-side expiry.
    pub expiry: ExpiryUnit,
    /// A key can be given a spend limit.
    pub has_cap: bool,
    /// How a key in use is replaced, if it can be.
    pub rotation: Option<RotateMode>,
    /// How the vendor's API replaces a root credential, if it can.
    pub root_rotation: Option<RotateMode>,
    /// How long the vendor lets an old value live beside the new one, at most.
    pub overlap: Ttl,
    /// How often a key in use is replaced, if the manifest says so.
    pub rotate_every: Option<Ttl>,
    /// How long a key may live at the vendor, if there is a limit.
    pub longest_life: Option<Ttl>,
    /// How long a new key may be refused before it works.
    pub propagation: Ttl,
    /// How long a key may still work after the vendor confirmed its end.
    pub settle: Ttl,
    /// Limits of the vendor.
    pub limits: Limits,
    /// What may be forwarded.
    pub allow: Vec<PathRule>,
    /// What may not, even if allowed above.
    pub deny: Vec<PathRule>,
    /// Headers that are taken out of forwarded answers.
    pub strip_response: Vec<String>,
    /// Patterns of this vendor's keys, for redaction.
    pub redact: Vec<String>,
}

/// Something the operator fills in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it begins with, if that is known.
    pub prefix: String,
    /// May be left out.
    pub optional: bool,
    /// A made-up value that its rules take.
    pub sample: String,
}

impl Facts {
    fn of(manifest: &Manifest) -> Self {
        let vendor = &manifest.vendor;
        Self {
            name: vendor.id.clone(),
            title: vendor.title.clone(),
            docs: vendor.docs.clone(),
            spec: vendor.spec.clone(),
            scopes: manifest.scopes.keys().cloned().collect(),
            class: vendor.class,
            can_mint: vendor.can_mint,
            is_static: manifest.create.is_none(),
            signed_here: manifest.create.as_ref().is_some_and(|create| create.sign.is_some()),
            settle_first: manifest.settles_first(),
            isolates: vendor.isolates,
            evidence: vendor.evidence,
            evidence_source: vendor.evidence_source.clone(),
            evidence_date: vendor.evidence_date.clone(),
            resale: vendor.resale,
            hosts: sources(&manifest.http.hosts),
            injection_hosts: sources(&manifest.proxy.hosts),
            params: manifest
                .params
                .iter()
                .map(|(name, param)| Field::param(name, param))
                .collect(),
            root_fields: root_fields(manifest),
            expiry: manifest.expiry.unit,
            has_cap: manifest.create.as_ref().is_some_and(has_cap),
            rotation: manifest.rotation(),
            root_rotation: manifest.root.rotate.as_ref().map(|rotate| rotate.mode),
            overlap: Ttl::from_secs(manifest.rotate.as_ref().map_or(0, |rotate| rotate.overlap_s)),
            rotate_every: manifest
                .rotate
                .as_ref()
                .and_then(|rotate| rotate.every_s)
                .map(Ttl::from_secs),
            longest_life: manifest.expiry.max_s.map(Ttl::from_secs),
            propagation: Ttl::from_secs(manifest.probe.as_ref().map_or(0, |probe| probe.propagate_retry_s)),
            settle: Ttl::from_secs(manifest.revoke.as_ref().map_or(0, |revoke| revoke.settle_s)),
            limits: manifest.limits,
            allow: manifest.proxy.allow.clone(),
            deny: manifest.proxy.deny.clone(),
            strip_response: manifest.proxy.strip_response.clone(),
            redact: manifest.proxy.redact.clone(),
        }
    }
}

impl Facts {
    /// Whether the vendor ends keys by itself.
    pub const fn vendor_expiry(&self) -> bool {
        self.expiry.ends()
    }
}

impl Field {
    fn param(name: &str, param: &ParamTable) -> Self {
        Self {
            name: name.to_owned(),
            title: param.title.clone(),
            prefix: String::new(),
            optional: param.optional,
            sample: param.sample.clone().unwrap_or_else(|| "1a".to_owned()),
        }
    }
}

fn sources(texts: &[Text]) -> Vec<String> {
    texts.iter().map(|text| text.source().to_owned()).collect()
}

fn root_fields(manifest: &Manifest) -> Vec<Field> {
    let fields = manifest.root.fields.iter();
    fields
        .map(|(name, field)| Field {
            name: name.clone(),
            title: field.title.clone(),
            prefix: field.prefix.clone(),
            optional: false,
            sample: String::new(),
        })
        .collect()
}

fn has_cap(create: &CreateTable) -> bool {
    let in_body = create
        .body
        .iter()
        .flat_map(super::template::Tree::texts)
        .map(|(_, text)| text);
    in_body
        .chain(create.query.values())
        .any(|text| text.variables().any(|variable| variable.name == "budget.usd"))
}
