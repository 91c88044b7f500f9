//! Vendors: entering a root credential, looking at a manifest, testing the connection.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::App;
use super::breaker::BreakerView;
use super::caller::Context;
use super::control::{Connected, root_place};
use super::enroll::List;
use super::error::Error;
use super::gather::Gather;
use crate::base::canonical::Digest;
use crate::base::id::RootId;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::model::instance::Mode;
use crate::model::orphan::OrphanState;
use crate::model::principal::PrincipalKind;
use crate::model::root::{ManifestPin, Root};
use crate::model::scope::{Name, Scope};
use crate::store::Release;
use crate::vendor::{self, Manifest, PathRule, RootSecret};

/// A vendor as people see it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct VendorView {
    /// Always `vendor`.
    pub object: String,
    /// The vendor.
    pub name: Name,
    /// Its name in prose.
    pub title: String,
    /// `connected` or `available`.
    pub state: String,
    /// The scopes it offers.
    pub scopes: Vec<Scope>,
    /// What the vendor's API allows dekeys to promise, 1 to 5 (V1 to V5).
    pub class: u8,
    /// How the manifest was checked: `draft`, `test` or `live`.
    pub evidence: String,
    /// Whether reselling access is `allowed`, `forbidden` or `unknown`.
    pub resale: String,
    /// Whether a key of it can make further keys.
    pub can_mint: bool,
    /// Whether the vendor ends a key by itself.
    pub vendor_expiry: bool,
    /// Whether its keys are signed by dekeys and not made at the vendor, which then can end none of them early.
    pub signed_here: bool,
    /// Hosts it may reach.
    pub hosts: Vec<String>,
    /// What may be forwarded to it.
    pub allow: Vec<PathRule>,
    /// The digest of the manifest: the pinned one when connected.
    pub manifest: Digest,
    /// What a root credential for it needs.
    pub root_fields: Vec<String>,
    /// When the root credential was entered.
    pub connected: Option<Timestamp>,
    /// How it stands with the keys there; for operators and humans, of a connected vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysView>,
}

/// How it stands with the keys at a vendor.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct KeysView {
    /// Whether the vendor is called, or left alone for a while. As this process has it.
    pub breaker: BreakerView,
    /// When the vendor's list was last compared with what is on record.
    pub compared: Option<Timestamp>,
    /// How many keys of this instance it held.
    pub listed: i64,
    /// Why the last comparison failed, if it did.
    pub trouble: Option<String>,
    /// When the next one is due.
    pub compared_next: Option<Timestamp>,
    /// Keys that nobody accounts for, and that wait for somebody's decision.
    pub orphans: i64,
}

/// A root credential to be entered. Holds secrets, so it is built by the surface, not deserialised into a value that
/// could be printed.
pub struct ConnectAsk {
    /// The vendor.
    pub vendor: Name,
    /// A manifest instead of the one that comes with dekeys.
    pub manifest: Option<String>,
    /// Where requests go instead; test instances only.
    pub base_url: Option<String>,
    /// The manifest's parameters.
    pub params: Vec<(String, String)>,
    /// The root credential's fields.
    pub fields: Vec<(String, SecretText)>,
}

/// Enters a root credential: sealed together with its destination (DESIGN 15). The one before stays for what was
/// made from it.
///
/// # Errors
/// [`Error::NotAllowed`]; [`Error::ManifestInvalid`]; [`Error::Invalid`] for missing fields or a base URL in a live
/// instance.
pub async fn connect(app: &App, context: &Context, ask: ConnectAsk) -> Result<VendorView, Error> {
    let operator = context.operator()?;
    let text = manifest_text(&ask)?;
    let manifest =
        Manifest::parse(&text, ask.vendor.as_str()).map_err(|error| Error::ManifestInvalid(error.to_string()))?;
    if *manifest.name() != ask.vendor {
        return Err(Error::ManifestInvalid(format!(
            "the manifest is for `{}`, not `{}`",
            manifest.name(),
            ask.vendor
        )));
    }
    let base_url = base_url(app, ask.base_url.as_deref())?;
    let secret = vendor::pack_root(&manifest, base_url.as_ref(), &ask.params, ask.fields)
        .map_err(|error| Error::invalid("/fields", error))?;
    let now = app.now();
    let pin = ManifestPin {
        vendor: ask.vendor.clone(),
        text,
        pinned: now,
    };
    let root = Root {
        id: RootId::new(now, app.random.as_ref()),
        vendor: ask.vendor.clone(),
        manifest: pin.digest(),
        base_url: base_url.map(|url| url.to_string()),
        params: ask.params,
        current: true,
        created: now,
    };
    let sealed = app.vault.seal_value(&root_place(app, &root), &secret)?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    if let Some((stored, _)) = tx.current_root(&ask.vendor).await? {
        let mut before = app
            .vault
            .authenticate(stored)
            .map_err(|_| Error::Forged("root credential"))?;
        before.current = false;
        tx.update_root(&app.stored(before)?).await?;
    }
    tx.save_manifest_pin(&app.stored(pin.clone())?).await?;
    tx.insert_root(&app.stored(root.clone())?, &sealed).await?;
    let data =
        json!({ "vendor": ask.vendor, "manifest": pin.digest(), "by": operator.name, "base_url": root.base_url });
    let event = app.event(context, "vendor.connected", &root.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.control().forget_roots();
    app.control().forget_policies();
    app.decisions().forget_decisions();
    Ok(view(&manifest, pin.digest(), Some(now)))
}

fn manifest_text(ask: &ConnectAsk) -> Result<String, Error> {
    if let Some(text) = &ask.manifest {
        return Ok(text.clone());
    }
    let shipped = vendor::shipped();
    let found = shipped.iter().find(|(name, _)| *name == ask.vendor);
    found
        .map(|(_, text)| (*text).to_owned())
        .ok_or(Error::NotFound("vendor"))
}

fn base_url(app: &App, given: Option<&str>) -> Result<Option<url::Url>, Error> {
    let Some(text) = given else { return Ok(None) };
    if app.instance.mode == Mode::Live {
        return Err(Error::invalid(
            "/base_url",
            "a live instance takes the manifest's address; base_url is for test instances",
        ));
    }
    text.parse()
        .map(Some)
        .map_err(|_| Error::invalid("/base_url", format!("`{text}` is not a URL")))
}

/// All vendors: connected ones with what is pinned, the others as they come with dekeys.
///
/// # Errors
/// The store's.
pub async fn list(app: &App) -> Result<List<VendorView>, Error> {
    let mut tx = app.store.read().await?;
    let pins = tx.manifest_pins().await?;
    drop(tx);
    let shipped = vendor::shipped().into_iter().map(|(name, _)| name);
    let names: BTreeSet<Name> = shipped
        .chain(pins.into_iter().map(|pin| pin.unverified.vendor))
        .collect();
    let mut found = Gather::whole();
    for name in names {
        found.add(show(app, &name).await)?;
    }
    Ok(found.list())
}

/// One vendor.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(app: &App, name: &Name) -> Result<VendorView, Error> {
    match app.current_root(name).await {
        Ok(connected) => {
            return Ok(view(
                &connected.manifest,
                connected.root.manifest,
                Some(connected.root.created),
            ));
        }
        Err(Error::VendorNotConnected(_)) => {}
        Err(error) => return Err(error),
    }
    let shipped = vendor::shipped();
    let (_, text) = shipped
        .iter()
        .find(|(shipped, _)| shipped == name)
        .ok_or(Error::NotFound("vendor"))?;
    let manifest = Manifest::parse(text, name.as_str()).map_err(|error| Error::ManifestInvalid(error.to_string()))?;
    Ok(view(&manifest, Digest::of(text.as_bytes()), None))
}

/// One vendor, for operators and humans with how it stands with the keys there.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn look(app: &App, context: &Context, name: &Name) -> Result<VendorView, Error> {
    let mut view = show(app, name).await?;
    let person = [PrincipalKind::Operator, PrincipalKind::Human];
    if view.connected.is_none() || context.require(&person).is_err() {
        return Ok(view);
    }
    let root = app.current_root(name).await?.root.id;
    let mut tx = app.store.read().await?;
    let reap = tx.reaps().await?.into_iter().find(|reap| reap.root == root);
    let orphans = tx.open_orphans().await?;
    tx.end().await?;
    let waiting = |row: &&(Name, OrphanState, i64)| row.0 == *name && row.1 == OrphanState::Reported;
    view.keys = Some(KeysView {
        breaker: app.breakers().view(root, app.now()),
        compared: reap.as_ref().and_then(|reap| reap.passed),
        listed: reap.as_ref().map_or(0, |reap| reap.keys),
        trouble: reap.as_ref().and_then(|reap| reap.trouble.clone()),
        compared_next: reap.map(|reap| reap.next_at),
        orphans: orphans.iter().find(waiting).map_or(0, |row| row.2),
    });
    Ok(view)
}

fn view(manifest: &Manifest, digest: Digest, connected: Option<Timestamp>) -> VendorView {
    let facts = manifest.facts();
    let vendor_expiry = facts.vendor_expiry();
    VendorView {
        object: "vendor".to_owned(),
        name: manifest.name().clone(),
        title: manifest.title().to_owned(),
        state: if connected.is_some() { "connected" } else { "available" }.to_owned(),
        scopes: facts.scopes,
        class: facts.class,
        evidence: word(&facts.evidence),
        resale: word(&facts.resale),
        can_mint: facts.can_mint,
        vendor_expiry,
        signed_here: facts.signed_here,
        hosts: facts.hosts,
        allow: facts.allow,
        manifest: digest,
        root_fields: facts.root_fields.into_iter().map(|field| field.name).collect(),
        connected,
        keys: None,
    }
}

/// An enumeration's word, as manifests write it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Whether a connected vendor answers as it should.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct VendorTest {
    /// Always `vendor_test`.
    pub object: String,
    /// The vendor.
    pub vendor: Name,
    /// The root credential was accepted.
    pub ok: bool,
    /// What went wrong, in safe words.
    pub trouble: Option<String>,
    /// `vendor_not_connected` when there is nothing to ask it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Asks the vendor, with the root credential, for something harmless.
///
/// # Errors
/// [`Error::NotFound`] for a vendor that is not known, [`Error::NotAllowed`].
pub async fn test(app: &App, context: &Context, name: &Name) -> Result<VendorTest, Error> {
    context.require(&[PrincipalKind::Operator])?;
    let connected = match app.current_root(name).await {
        Err(error @ Error::VendorNotConnected(_)) => {
            // One that nobody knows is not there; one that nobody connected fails its test.
            show(app, name).await?;
            return Ok(VendorTest {
                object: "vendor_test".to_owned(),
                vendor: name.clone(),
                ok: false,
                trouble: Some(error.to_string()),
                code: Some("vendor_not_connected".to_owned()),
            });
        }
        connected => connected?,
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let event = app.event(context, "vendor.tested", &connected.root.id, json!({ "vendor": name }));
    let release = Release {
        event: event.id,
        object: connected.root.id.to_string(),
        version: 1,
    };
    let committed = tx.commit(&[event], &[release]).await?;
    // It only looks: that is allowed while the database is reconciled.
    let root = open_root_to_look(app, &connected, committed).await?;
    let adapter = vendor::Adapter::of(&connected.manifest, app.logins());
    let place = (connected.root.id, name);
    let outcome = app.asked(place, "test", adapter.test_root(&app.egress, &root)).await;
    let trouble = outcome.err().map(|failure| failure.words);
    Ok(VendorTest {
        object: "vendor_test".to_owned(),
        vendor: name.clone(),
        ok: trouble.is_none(),
        trouble,
        code: None,
    })
}

/// Opens a root credential in exchange for the record of the intent. Not while the database is reconciled: this is the
/// last of the gates, through which every call to a vendor goes.
pub(super) async fn open_root(
    app: &App,
    connected: &Connected,
    committed: Vec<crate::model::event::Committed>,
) -> Result<RootSecret, Error> {
    app.refuse_while_reconciling()?;
    open_root_to_look(app, connected, committed).await
}

/// The same to look at a vendor, or to do there what an operator has just ordered.
pub(super) async fn open_root_to_look(
    app: &App,
    connected: &Connected,
    committed: Vec<crate::model::event::Committed>,
) -> Result<RootSecret, Error> {
    let committed = committed
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("no proof of record"))?;
    let secret = app
        .open_value(&connected.sealed, &connected.place(app), committed)
        .await?;
    RootSecret::unpack(secret).map_err(Error::internal)
}
