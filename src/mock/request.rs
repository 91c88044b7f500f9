//! Reads requests by a manifest, backwards: from a request to the call it is, and to what its variables stood for.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::MockError;
use super::roots::Roots;
use super::truth::MockKey;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::vendor::call::Call;
use crate::vendor::tables::{
    As, Auth, CreateTable, Encoding, ExpiryUnit, Idempotency, RenewTable, RootRotateTable, Verb,
};
use crate::vendor::template::{Piece, Text, Tree};
use crate::vendor::{Manifest, RootSecret, expiry, inject, pack_root, route};

/// What a manifest says about requests.
pub(super) struct Reading {
    pub(super) manifest: Manifest,
    pub(super) url: Url,
    /// The path of the base, without a `/` at its end.
    pub(super) base_path: String,
    /// Parameters of the account.
    params: Vec<(String, String)>,
    /// The root credentials that are accepted.
    pub(super) roots: Roots,
    /// Where they may be sent; the values in it are of the first.
    pub(super) root: RootSecret,
    /// The token that a login gives, where the vendor has one.
    pub(super) token: String,
}

/// What a request asks for.
pub(super) enum Asked {
    Nothing,
    Unreadable,
    Unauthorized {
        operation: &'static str,
    },
    Login,
    Create(Box<Wanted>),
    Promise(String),
    List(Query),
    /// Which root credential asks.
    RootId(String),
    /// Another root credential, named so; how many seconds the one that asks lives on, if it ends.
    AnotherRoot {
        asking: String,
        name: String,
        overlap: i64,
    },
    EndRoot(String),
    /// Another value of a key; how many seconds the one before lives on.
    Renew(Which, i64),
    Revoke(Which),
    Probe(Which),
    Step {
        status: u16,
    },
    Route {
        /// Of `[mock]`; none where the proxy's rules alone let the request through.
        index: Option<usize>,
        which: Which,
        stream: bool,
    },
}

/// A key that is asked for.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) generated: Option<String>,
    pub(super) scopes: Value,
    /// What the vendor knows a repeated creation by.
    pub(super) idempotency: Option<String>,
    expires: Option<Value>,
    unit: ExpiryUnit,
}

/// Which key is meant.
pub(super) enum Which {
    Id(String),
    Secret(String),
    Part(String, String),
    /// Whoever presents it in these headers and this query.
    Presented(Box<HeaderMap>, Url),
}

pub(super) type Query = BTreeMap<String, String>;

/// A request, taken apart.
pub(super) struct Seen<'a> {
    pub(super) parts: &'a Parts,
    pub(super) path: &'a str,
    pub(super) query: Query,
    pub(super) body: &'a [u8],
}

impl Asked {
    pub(super) const fn operation(&self) -> &'static str {
        match self {
            Self::Nothing => "unknown",
            Self::Unauthorized { operation } => operation,
            Self::Login => "login",
            Self::Unreadable | Self::Create(_) => "create",
            Self::Promise(_) => "poll",
            Self::List(_) => "list",
            Self::Renew(..) => "rotate",
            Self::RootId(_) => "root_id",
            Self::AnotherRoot { .. } => "root_rotate",
            Self::EndRoot(_) => "root_end",
            Self::Revoke(_) => "revoke",
            Self::Probe(_) => "probe",
            Self::Step { .. } => "step",
            Self::Route { .. } => "route",
        }
    }
}

impl Wanted {
    /// A key of which only the name is known; it does not end by itself.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            generated: None,
            scopes: Value::Null,
            idempotency: None,
            expires: None,
            unit: ExpiryUnit::None,
        }
    }

    pub(super) fn expires(&self, now: Timestamp) -> Option<Timestamp> {
        expiry::read(self.unit, self.expires.as_ref()?, now)
    }
}

impl Which {
    pub(super) fn is(&self, manifest: &Manifest, key: &MockKey) -> bool {
        match self {
            Self::Id(id) => key.id == *id,
            Self::Secret(secret) => key.secret == *secret,
            Self::Part(name, value) => {
                let parts = serde_json::from_str::<Value>(&key.secret).unwrap_or_default();
                parts.get(name).and_then(Value::as_str) == Some(value)
            }
            Self::Presented(headers, url) => presents(manifest, &key.secret, headers, url),
        }
    }
}

/// Whether a caller presents this key at the manifest's places for it.
fn presents(manifest: &Manifest, secret: &str, headers: &HeaderMap, url: &Url) -> bool {
    let mut expected = HeaderMap::new();
    let Ok(mut place) = Url::parse("http://localhost/") else {
        return false;
    };
    let secret = SecretText::new(secret.to_owned());
    if inject(&manifest.proxy.inject, &secret, &mut place, &mut expected).is_err() {
        return false;
    }
    let in_query = place
        .query_pairs()
        .all(|wanted| url.query_pairs().any(|given| given == wanted));
    in_query && expected.iter().all(|(name, value)| headers.get(name) == Some(value))
}

impl Reading {
    /// What the manifest says, or the first field that is missing to play the vendor.
    pub(super) fn new(
        manifest: &Manifest,
        url: &Url,
        root_fields: &[(String, String)],
        params: &[(String, String)],
    ) -> Result<Self, MockError> {
        let named = manifest
            .create
            .as_ref()
            .is_none_or(|create| texts(create).any(|text| has(text, "name")));
        if !named && manifest.list.is_some() && manifest.vendor.class < 3 {
            return Err(MockError::Missing {
                field: "${name} in create",
            });
        }
        let secrets = root_fields
            .iter()
            .map(|(name, value)| (name.clone(), SecretText::new(value.clone())))
            .collect();
        let root = RootSecret::unpack(pack_root(manifest, Some(url), params, secrets)?)?;
        Ok::<Self, MockError>(Self {
            url: url.clone(),
            base_path: root.destination().base.path().trim_end_matches('/').to_owned(),
            root,
            params: params.to_vec(),
            roots: Roots::new(),
            token: format!("login-{}", super::fresh(&crate::base::random::OsRandom)),
            manifest: manifest.clone(),
        })
        .and_then(|reading: Self| reading.accept_root("given", root_fields).map(|()| reading))
    }

    /// Accepts one more root credential.
    pub(super) fn accept_root(&self, name: &str, fields: &[(String, String)]) -> Result<(), MockError> {
        Ok(self
            .roots
            .add(&self.manifest, (&self.url, &self.params), name, fields)?)
    }

    pub(super) fn root_rotation(&self) -> Option<&RootRotateTable> {
        self.manifest.root.rotate.as_ref()
    }

    /// What a request asks for.
    pub(super) fn read(&self, parts: &Parts, body: &[u8]) -> Asked {
        let query: Query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let seen = Seen {
            parts,
            path: parts.uri.path(),
            query,
            body,
        };
        self.login(&seen)
            .or_else(|| self.replacing(&seen))
            .or_else(|| self.creating(&seen))
            .or_else(|| self.listing(&seen))
            .or_else(|| self.renewal(&seen))
            .or_else(|| self.probing(&seen, true))
            .or_else(|| self.ending(&seen))
            .or_else(|| self.stepping(&seen))
            .or_else(|| self.probing(&seen, false))
            .or_else(|| self.routed(&seen))
            .unwrap_or(Asked::Nothing)
    }

    /// The variables of a call's path, when the request is that call.
    pub(super) fn is(&self, call: &Call<'_>, seen: &Seen<'_>) -> Option<BTreeMap<String, String>> {
        if !same(call.verb, &seen.parts.method) {
            return None;
        }
        let found = self.at(call.path, seen.path)?;
        let fits = call
            .body
            .is_none_or(|tree| parse(call.encoding, true, seen.body).is_none_or(|body| fits(tree, &body)));
        fits.then_some(found)
    }

    /// The variables of a path of the manifest, after the base or on another host.
    pub(super) fn at(&self, template: &Text, path: &str) -> Option<BTreeMap<String, String>> {
        if template.source().starts_with('/') {
            return match_path(template, path.strip_prefix(&self.base_path)?);
        }
        let start = template.source().strip_prefix("https://")?;
        let (_, rest) = start.split_once('/')?;
        match_path(&Text::parse(&format!("/{rest}")).ok()?, path)
    }

    fn creating(&self, seen: &Seen<'_>) -> Option<Asked> {
        let table = self.manifest.create.as_ref()?;
        let operation = "create";
        if let Some(poll) = &table.poll
            && let Some(found) = self
                .at(&poll.path, seen.path)
                .filter(|_| seen.parts.method == Method::GET)
        {
            let promise = found.get("poll").cloned().unwrap_or_default();
            return Some(self.as_root("poll", seen, || Some(Asked::Promise(promise.clone()))));
        }
        let call = Call::from(table);
        let found = self.is(&call, seen)?;
        Some(self.as_root(operation, seen, || self.wanted(table, &found, seen)))
    }

    fn listing(&self, seen: &Seen<'_>) -> Option<Asked> {
        let table = self.manifest.list.as_ref()?;
        self.is(&Call::from(table), seen)?;
        Some(self.as_root("list", seen, || Some(Asked::List(seen.query.clone()))))
    }

    /// The probe may have a path that looks like a key's, so exact ones are tried first.
    fn probing(&self, seen: &Seen<'_>, exact: bool) -> Option<Asked> {
        let table = self.manifest.probe.as_ref()?;
        let is_exact = table
            .path
            .variables()
            .all(|variable| variable.name.starts_with("params."));
        if is_exact != exact {
            return None;
        }
        let call = Call::from(table);
        let found = self.is(&call, seen)?;
        if table.as_ == As::Root && !self.is_root(seen) {
            return Some(Asked::Unauthorized { operation: "probe" });
        }
        let named = self.named(&call, &found, seen);
        let own = || (table.as_ == As::Credential).then(|| presented(seen)).flatten();
        let none = Asked::Unauthorized { operation: "probe" };
        Some(named.or_else(own).map_or(none, Asked::Probe))
    }

    fn ending(&self, seen: &Seen<'_>) -> Option<Asked> {
        let table = self.manifest.revoke.as_ref()?;
        let operation = "revoke";
        let call = Call::from(table);
        let found = self.is(&call, seen)?;
        if table.as_ == As::Root && !self.is_root(seen) {
            return Some(Asked::Unauthorized { operation });
        }
        let named = self.named(&call, &found, seen);
        let itself = || (table.as_ == As::Credential).then(|| presented(seen)).flatten();
        Some(
            named
                .or_else(itself)
                .map_or(Asked::Unauthorized { operation }, Asked::Revoke),
        )
    }

    /// The call that makes another value of a key, where the vendor has one.
    pub(super) fn renewing(&self) -> Option<&RenewTable> {
        self.manifest.rotate.as_ref()?.call.as_ref()
    }

    fn renewal(&self, seen: &Seen<'_>) -> Option<Asked> {
        let call = Call::from(self.renewing()?);
        let found = self.is(&call, seen)?;
        let body = parse(call.encoding, call.body.is_some(), seen.body).unwrap_or_default();
        let number = |name: &str| match variable(&call, &found, &seen.query, &body, name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let overlap = number("overlap")
            .or_else(|| Some(number("overlap_ms")? / 1000))
            .unwrap_or(0);
        Some(self.as_root("rotate", seen, || {
            self.named(&call, &found, seen)
                .map(|which| Asked::Renew(which, overlap))
        }))
    }

    /// The calls around a creation and an end: the mock says yes to them.
    fn stepping(&self, seen: &Seen<'_>) -> Option<Asked> {
        let after = self.manifest.create.iter().flat_map(|table| &table.then);
        let before = self.manifest.revoke.iter().flat_map(|table| &table.first);
        let step = after
            .chain(before)
            .find(|step| self.is(&Call::from(*step), seen).is_some())?;
        if step.as_ == As::Root && !self.is_root(seen) {
            return Some(Asked::Unauthorized { operation: "step" });
        }
        let status = step.ok.first().copied().unwrap_or(200);
        Some(Asked::Step { status })
    }

    fn routed(&self, seen: &Seen<'_>) -> Option<Asked> {
        let mut routes = self.manifest.mock.routes.iter();
        let index = routes
            .position(|route| same(route.method, &seen.parts.method) && self.at(&route.path, seen.path).is_some());
        if index.is_none() && route(&self.manifest, seen.parts.method.as_str(), seen.path).is_err() {
            return None;
        }
        let body = serde_json::from_slice::<Value>(seen.body).unwrap_or_default();
        let stream = body.get("stream") == Some(&Value::Bool(true));
        presented(seen).map(|which| Asked::Route { index, which, stream })
    }

    fn as_root(&self, operation: &'static str, seen: &Seen<'_>, read: impl Fn() -> Option<Asked>) -> Asked {
        if self.is_root(seen) {
            read().unwrap_or(Asked::Unreadable)
        } else {
            Asked::Unauthorized { operation }
        }
    }

    fn is_root(&self, seen: &Seen<'_>) -> bool {
        self.presented_root(seen).is_some()
    }

    /// The id of the root credential that asks.
    pub(super) fn presented_root(&self, seen: &Seen<'_>) -> Option<String> {
        if matches!(self.manifest.root.auth, Auth::None {}) {
            // The credential stands in the body, which is read as it was rendered.
            let body = percent_decode_str(&String::from_utf8_lossy(seen.body))
                .decode_utf8_lossy()
                .into_owned();
            return self.roots.in_body(&body);
        }
        let token = |root: &RootSecret, now| self.proof(root, &seen.parts.headers, now);
        let given = |name: &str, value: &str| seen.query.get(name).is_some_and(|given| given == value);
        self.roots.presented(&self.manifest, &self.url, token, |url, headers| {
            url.query_pairs().all(|(name, value)| given(&name, &value))
                && headers
                    .iter()
                    .all(|(name, value)| seen.parts.headers.get(name) == Some(value))
        })
    }

    fn wanted(&self, table: &CreateTable, found: &BTreeMap<String, String>, seen: &Seen<'_>) -> Option<Asked> {
        let call = Call::from(table);
        let body = parse(table.encoding, table.body.is_some(), seen.body)?;
        let variable = |name: &str| variable(&call, found, &seen.query, &body, name);
        let text = |name: &str| variable(name).and_then(|value| value.as_str().map(str::to_owned));
        let used = |name: &str| call.uses(name);
        Some(Asked::Create(Box::new(Wanted {
            name: if used("name") { text("name")? } else { String::new() },
            generated: if used("generated") {
                Some(text("generated")?)
            } else {
                None
            },
            scopes: variable("scopes").or_else(|| variable("scope")).unwrap_or(Value::Null),
            idempotency: match &table.idempotency {
                Idempotency::Header { name, .. } => {
                    let given = seen.parts.headers.get(name).and_then(|value| value.to_str().ok());
                    given.map(str::to_owned)
                }
                Idempotency::AdoptByName => None,
            },
            expires: variable("expires"),
            unit: self.manifest.expiry.unit,
        })))
    }

    /// The key that a call names by its id or by itself.
    fn named(&self, call: &Call<'_>, found: &BTreeMap<String, String>, seen: &Seen<'_>) -> Option<Which> {
        let body = parse(call.encoding, call.body.is_some(), seen.body).unwrap_or_default();
        let text = |name: &str| match variable(call, found, &seen.query, &body, name)? {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let fields = self.manifest.create.iter().flat_map(|create| create.fields.keys());
        let part = || {
            fields
                .clone()
                .find_map(|name| Some(Which::Part(name.clone(), text(&format!("secret.{name}"))?)))
        };
        text("id")
            .map(Which::Id)
            .or_else(|| text("secret").map(Which::Secret))
            .or_else(part)
    }
}

/// The key that a caller presents, if it presents anything.
fn presented(seen: &Seen<'_>) -> Option<Which> {
    let query = seen.parts.uri.query().unwrap_or_default();
    let url = Url::parse(&format!("http://localhost/?{query}")).ok()?;
    Some(Which::Presented(Box::new(seen.parts.headers.clone()), url))
}

/// What a variable of a call stood for.
pub(super) fn variable(
    call: &Call<'_>,
    found: &BTreeMap<String, String>,
    query: &Query,
    body: &Value,
    name: &str,
) -> Option<Value> {
    let in_path = found.get(name).map(|text| Value::String(text.clone()));
    in_path
        .or_else(|| from_query(call.query, query, name))
        .or_else(|| from_body(call.body, body, name))
}

/// Whether a body has what a template fixes: GraphQL has all its calls at one address.
fn fits(template: &Tree, body: &Value) -> bool {
    match template {
        Tree::Fixed(value) => value == body,
        Tree::Text(text) => match text.pieces() {
            [Piece::Fixed(fixed)] => body.as_str() == Some(fixed),
            _ => true,
        },
        Tree::Table(fields) => fields
            .iter()
            .all(|(key, tree)| body.get(key).is_none_or(|value| fits(tree, value))),
        Tree::List(_) => true,
    }
}

fn texts(create: &CreateTable) -> impl Iterator<Item = &Text> {
    let in_body = create.body.iter().flat_map(Tree::texts).map(|(_, text)| text);
    in_body.chain(create.query.values()).chain([&create.path])
}

fn has(text: &Text, name: &str) -> bool {
    text.variables().any(|variable| variable.name == name)
}

fn same(verb: Verb, method: &Method) -> bool {
    verb.method() == *method
}

/// The variables of a path, when it has the template's form. A variable is never empty and never spans segments.
fn match_path(template: &Text, path: &str) -> Option<BTreeMap<String, String>> {
    let mut seen = BTreeMap::new();
    let mut rest = path;
    let mut pieces = template.pieces().iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Fixed(fixed) => rest = rest.strip_prefix(fixed.as_str())?,
            Piece::Variable(variable) => {
                let end = match pieces.peek() {
                    Some(Piece::Fixed(next)) => rest.find(next.as_str())?,
                    _ => rest.len(),
                };
                let (value, after) = rest.split_at_checked(end)?;
                if value.is_empty() || value.contains('/') {
                    return None;
                }
                let value = percent_decode_str(value).decode_utf8().ok()?;
                seen.insert(variable.name.clone(), value.into_owned());
                rest = after;
            }
        }
    }
    rest.is_empty().then_some(seen)
}

pub(super) fn parse(encoding: Encoding, expected: bool, body: &[u8]) -> Option<Value> {
    if !expected {
        return Some(Value::Null);
    }
    match encoding {
        Encoding::Json => serde_json::from_slice(body).ok(),
        Encoding::Form => {
            let fields: Map<_, _> = form_urlencoded::parse(body)
                .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
                .collect();
            Some(Value::Object(fields))
        }
    }
}

pub(super) fn from_body(template: Option<&Tree>, body: &Value, name: &str) -> Option<Value> {
    let texts = template?.texts();
    let (pointer, _) = texts.into_iter().find(|(_, text)| has(text, name))?;
    body.pointer(&pointer).cloned()
}

fn from_query(template: &BTreeMap<String, Text>, query: &Query, name: &str) -> Option<Value> {
    let (key, _) = template.iter().find(|(_, text)| has(text, name))?;
    query.get(key).map(|value| Value::String(value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back() {
        let template = Text::parse("/a/${params.acct}/Keys/${id}.json").unwrap();
        let seen = match_path(&template, "/a/AC1/Keys/k%2F1.json").unwrap();
        assert_eq!((seen["params.acct"].as_str(), seen["id"].as_str()), ("AC1", "k/1"));
        for other in [
            "/a/AC1/Keys/.json",
            "/a/AC1/x/Keys/k.json",
            "/a/AC1/Keys/k.json/more",
            "/a/AC1/Keys/k",
        ] {
            assert!(match_path(&template, other).is_none(), "{other}");
        }
    }
}
