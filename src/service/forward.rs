//! Forwarding: dekeys sends a request to the vendor with the vendor's key in it, so that nobody sees the key. The
//! decision about the token may come from a cache; each use passes the writer and is on record before the request
//! leaves (DESIGN 19, 21).

use std::sync::Arc;

use http::HeaderMap;
use serde_json::json;
use url::Url;

use super::App;
use super::caller::Context;
use super::connect::open_root;
use super::control::Connected;
use super::error::Error;
use super::issue::{self, Issued};
use super::passage::{self, Asked, Passage};
use super::provision::key_name;
use super::resolve::refused;
use super::stream::OpenStream;
use crate::base::id::{CredentialId, EventId, LeaseId, PrincipalId};
use crate::base::pattern::Patterns;
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::time::Ttl;
use crate::model::event::Committed;
use crate::model::lease::Lease;
use crate::model::scope::Name;
use crate::model::sealed::{Place, Sealed};
use crate::store::writer::{ForwardKey, Forwarding, ResolveAsk, ResolveOutcome};
use crate::vault::VaultError;
use crate::vendor::{self, Manifest, NoRoute, Route};

/// How long a request waits for a key that another request is having made.
const LONGEST_WAIT: Ttl = Ttl::from_secs(15);

/// What the texts of tokens begin with.
const TOKENS: [&str; 2] = ["dkt_live_", "dkt_test_"];

/// A request as it came.
pub struct Wanted<'a> {
    /// The vendor it is for.
    pub vendor: &'a Name,
    /// Its method, as sent.
    pub method: &'a str,
    /// Its path after the vendor, byte for byte; begins with `/`.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// All its header fields.
    pub headers: &'a HeaderMap,
    /// Whether it asks to become a `WebSocket`.
    pub websocket: bool,
}

/// A request that may leave: it is on record. Address and headers hold the key, so there is no `Debug`.
pub struct Passed {
    /// Where to, the query included.
    pub url: Url,
    /// The vendor's scheme, host and port.
    pub base: Url,
    /// The headers that carry the key; they win over those of the caller.
    pub headers: HeaderMap,
    /// The key, or the fields of a key that has several: what must not come back.
    pub secrets: Vec<SecretText>,
    /// Ends when the grant does.
    pub stream: OpenStream,
    /// Headers that are taken out of the answer.
    pub strip_response: Vec<String>,
    /// What any key of this vendor looks like, which must not come back either.
    pub redact: Arc<Patterns>,
    /// What events about this request tell.
    facts: serde_json::Value,
    object: String,
}

/// Decides whether the request may be forwarded, puts that on record, and puts the key into it.
///
/// # Errors
/// Those of `passage::admit`; [`Error::PathAmbiguous`], [`Error::PathNotAllowed`]; limits; the vendor's failures when
/// a key had to be made.
pub async fn forward(app: &App, context: &Context, wanted: &Wanted<'_>) -> Result<Passed, Error> {
    app.refuse_while_reconciling()?;
    if app.log_is_broken() {
        return Err(Error::LogBroken);
    }
    app.refuse_wrong_clock()?;
    let (manifest, _) = app.manifest(wanted.vendor).await?;
    let token = token(&manifest, context, wanted)?;
    let route = route(&manifest, wanted)?;
    let asked = Asked {
        token: &token,
        vendor: wanted.vendor,
        method: wanted.method,
        route: &route,
    };
    let passage = passage::admit(app, context, &asked).await?;
    let url = address(&passage, &route, wanted.query)?;
    let mut stream = app.open_stream(passage.grant.id, passage.revocation_ids.clone(), passage.until);
    let deadline = app.now().plus(LONGEST_WAIT);
    let released = loop {
        let ask = ask(app, context, &passage, wanted, &route);
        match app.writer.resolve(ask).await? {
            ResolveOutcome::Released {
                lease,
                credential,
                version,
                sealed,
                committed,
            } => break Released::Key(lease, credential, version, sealed, committed),
            ResolveOutcome::Make {
                lease,
                credential,
                committed,
            } => break made(issue::issue(app, lease, *credential, committed, "request.forwarded").await?),
            ResolveOutcome::Root { committed } => break Released::Root(committed),
            ResolveOutcome::Wait { .. } if app.now() < deadline => app.lease_changes().await,
            ResolveOutcome::Wait { .. } => return Err(Error::Busy),
            ResolveOutcome::Unchanged { .. } => return Err(Error::internal("a forwarded key cannot be known")),
            ResolveOutcome::Refused(refusal) => return Err(refused(&refusal)),
        }
    };
    inject(app, &passage, released, url, &mut stream)
        .await
        .map(|(url, headers, secret, object)| Passed {
            url,
            base: passage.base.clone(),
            headers,
            secrets: several(secret),
            strip_response: manifest.facts().strip_response,
            redact: manifest.redact(),
            facts: json!({
                "grant": passage.grant.id,
                "vendor": wanted.vendor,
                "policy": passage.policy.name,
                "method": wanted.method,
                "rule": route.rule,
            }),
            object,
            stream,
        })
}

/// What the record releases.
enum Released {
    Key(Lease, CredentialId, i64, Option<Sealed>, Committed),
    Root(Committed),
}

fn made(issued: Issued) -> Released {
    let (id, version) = (issued.credential.id, issued.credential.version);
    Released::Key(issued.lease, id, version, Some(issued.sealed), issued.committed)
}

fn several(secret: SecretText) -> Vec<SecretText> {
    let fields = vendor::fields(&secret);
    if fields.is_empty() {
        vec![secret]
    } else {
        fields.into_values().collect()
    }
}

/// The one token of the request. Beside a signature it stands in `Authorization`, which the signature covers; else
/// where the vendor's key would.
fn token(manifest: &Manifest, context: &Context, wanted: &Wanted<'_>) -> Result<String, Error> {
    let is_token = |text: &&str| TOKENS.iter().any(|start| text.starts_with(start));
    let bearer = wanted
        .headers
        .get_all(http::header::AUTHORIZATION)
        .iter()
        .filter_map(|value| {
            let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| text.trim().to_owned())
        });
    let mut found: Vec<String> = bearer.filter(|text| is_token(&text.as_str())).collect();
    if context.key.is_none() {
        let presented = vendor::presented(manifest, wanted.headers, wanted.query);
        found.extend(presented.into_iter().filter(|text| is_token(&text.as_str())));
    }
    found.dedup();
    match (found.pop(), found.is_empty()) {
        (Some(token), true) => Ok(token),
        _ => Err(Error::Unauthenticated),
    }
}

fn route(manifest: &Manifest, wanted: &Wanted<'_>) -> Result<Route, Error> {
    let not_allowed = |what: &str| {
        let message = format!("the manifest of `{}` lets {what} be forwarded", wanted.vendor);
        Err(Error::PathNotAllowed(message))
    };
    match vendor::route(manifest, wanted.method, wanted.path) {
        Ok(route) if wanted.websocket && !route.websocket => not_allowed("no WebSocket at this path"),
        Ok(route) => Ok(route),
        Err(NoRoute::Ambiguous(why)) => Err(Error::PathAmbiguous(why)),
        Err(NoRoute::NotAllowed) => not_allowed("no request with this method and path"),
    }
}

/// The address to send to: it must hold the very path that was matched, and no token.
fn address(passage: &Passage, route: &Route, query: Option<&str>) -> Result<Url, Error> {
    let mut url = passage.base.clone();
    url.set_path(&route.path);
    url.set_query(query.filter(|query| !query.is_empty()));
    if url.path() != route.path {
        return Err(Error::PathAmbiguous("it would be sent in another spelling"));
    }
    Ok(url)
}

fn ask(app: &App, context: &Context, passage: &Passage, wanted: &Wanted<'_>, route: &Route) -> ResolveAsk {
    let now = app.now();
    let grant = &passage.grant;
    let lease_until = match passage.key {
        ForwardKey::Pool(_) => now.plus(passage.life),
        ForwardKey::Root => grant.expires,
        ForwardKey::Grant => passage.connected.manifest.ends_by(now, grant.expires),
    };
    let new_credential = CredentialId::new(now, app.random.as_ref());
    ResolveAsk {
        grant: grant.id,
        item: passage.item,
        prim: PrincipalId::NIL,
        vendor: wanted.vendor.clone(),
        policy: passage.policy.name.clone(),
        root: passage.connected.root.id,
        scopes: passage.scopes.clone(),
        now,
        grant_expires: grant.expires,
        max_resolves: grant.max_resolves,
        lease_until,
        payers: grant.payers(),
        rate: passage.policy.limits.rate,
        live_leases: passage.policy.limits.live_leases,
        known: None,
        nonce: context
            .nonce
            .as_ref()
            .map(|nonce| (nonce.holder.clone(), nonce.nonce.clone(), nonce.until)),
        revocation_ids: passage.revocation_ids.clone(),
        new_lease: LeaseId::new(now, app.random.as_ref()),
        new_credential,
        new_name: key_name(app, &passage.connected, new_credential),
        event: EventId::new(now, app.random.as_ref()),
        actor: context.caller.actor(),
        livemode: app.livemode(),
        request_id: Some(context.request),
        forward: Some(Forwarding {
            key: passage.key.clone(),
            method: wanted.method.to_owned(),
            rule: route.rule.clone(),
            class: passage.class,
        }),
    }
}

type Injected = (Url, HeaderMap, SecretText, String);

/// Opens what the record allows to open, and puts it into the request.
async fn inject(
    app: &App,
    passage: &Passage,
    released: Released,
    mut url: Url,
    stream: &mut OpenStream,
) -> Result<Injected, Error> {
    let connected: &Arc<Connected> = &passage.connected;
    let (manifest, base) = (&connected.manifest, &passage.base);
    let mut headers = HeaderMap::new();
    let (secret, object) = match released {
        Released::Root(committed) => {
            let root = open_root(app, connected, vec![committed]).await?;
            let secret = vendor::inject_root(manifest, base, &root, &mut url, &mut headers);
            (secret.map_err(unfit)?, connected.root.id.to_string())
        }
        Released::Key(lease, id, version, sealed, committed) => {
            stream.uses(lease.id);
            let sealed = sealed.ok_or_else(|| Error::internal("no sealed value"))?;
            let place = place(app, passage, id, version);
            let secret = open(app, &sealed, &place, committed).await?;
            let secret = secret.into_text().map_err(|_| Error::internal("a key is not text"))?;
            vendor::inject_key(manifest, base, &secret, &mut url, &mut headers).map_err(unfit)?;
            (secret, lease.id.to_string())
        }
    };
    let carries = |text: &str| TOKENS.iter().any(|start| text.contains(start));
    if url.query_pairs().any(|(name, value)| carries(&name) || carries(&value)) {
        let words =
            "a token stands in the address, where logs keep it; send it in the header that the vendor's key goes in";
        return Err(Error::invalid("/query", words));
    }
    Ok((url, headers, secret, object))
}

fn unfit(error: vendor::VendorError) -> Error {
    Error::internal(error)
}

/// The address that the value must have, from the token's grant and not from the database.
fn place(app: &App, passage: &Passage, credential: CredentialId, version: i64) -> Place {
    let owner = match passage.key {
        ForwardKey::Pool(pool) => format!("{pool}/0"),
        _ => format!("{}/{}", passage.grant.id, passage.item),
    };
    Place {
        instance: app.instance.id,
        record: "credential",
        id: credential.to_string(),
        owner,
        version,
        field: "secret",
    }
}

async fn open(app: &App, sealed: &Sealed, place: &Place, committed: Committed) -> Result<SecretBytes, Error> {
    match app.open_value(sealed, place, committed).await {
        Ok(secret) => Ok(secret),
        Err(VaultError::Sealed) => Err(Error::Sealed),
        Err(error) => {
            tracing::error!(%error, credential = %place.id, "a sealed value does not open where it is stored: somebody moved it");
            app.raise("security.forged_row", "sealed value").await;
            Err(Error::Forged("sealed value"))
        }
    }
}

impl Passed {
    /// Puts on record that something about the answer was not as it should be: `security.key_reflected` when the
    /// vendor sent the key back.
    pub fn report(&self, app: &App, kind: &'static str, place: &str) -> impl Future<Output = ()> + Send + 'static {
        let mut facts = self.facts.clone();
        if let Some(fields) = facts.as_object_mut() {
            fields.insert("in".to_owned(), place.into());
        }
        let event = app.own_event(kind, &self.object, facts);
        let app = app.clone();
        async move {
            let recorded = match app.store.begin().await {
                Ok(tx) => tx.commit(&[event], &[]).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = recorded {
                tracing::error!(%error, kind, "could not record an event about a forwarded request");
            }
        }
    }
}
