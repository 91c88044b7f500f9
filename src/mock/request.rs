//! Reads requests by a manifest, backwards: from a request to the call it is, and to what its variables stood for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::MockError;
use super::truth::MockKey;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::vendor::tables::{
    As, Auth, CreateTable, Encoding, ExpiryUnit, ListTable, ProbeTable, RevokeTable, Slot, Verb,
};
use crate::vendor::template::{Piece, Text, Tree};
use crate::vendor::{Manifest, RootSecret, authorize_root, expiry, pack_root};

/// What a manifest says about requests.
pub(super) struct Reading {
    pub(super) manifest: Manifest,
    pub(super) create: CreateTable,
    pub(super) list: ListTable,
    pub(super) revoke: RevokeTable,
    pub(super) probe: ProbeTable,
    pub(super) url: Url,
    /// The path of the base, without a `/` at its end.
    pub(super) base_path: String,
    /// The headers by which the root credential is known.
    root: HeaderMap,
}

/// What a request asks for.
pub(super) enum Asked {
    Nothing,
    Unreadable,
    Unauthorized { operation: &'static str },
    Create(Wanted),
    List(Query),
    Revoke(Which),
    Probe(String),
    Route { index: usize, secret: String },
}

/// A key that is asked for.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) scopes: Value,
    expires: Option<Value>,
    unit: ExpiryUnit,
}

/// Which key to end.
pub(super) enum Which {
    Id(String),
    Secret(String),
}

pub(super) type Query = BTreeMap<String, String>;

impl Asked {
    pub(super) const fn operation(&self) -> &'static str {
        match self {
            Self::Nothing => "unknown",
            Self::Unauthorized { operation } => operation,
            Self::Unreadable | Self::Create(_) => "create",
            Self::List(_) => "list",
            Self::Revoke(_) => "revoke",
            Self::Probe(_) => "probe",
            Self::Route { .. } => "route",
        }
    }
}

impl Wanted {
    pub(super) fn expires(&self, now: Timestamp) -> Option<Timestamp> {
        expiry::read(self.unit, self.expires.as_ref()?, now)
    }
}

impl Which {
    pub(super) fn is(&self, key: &MockKey) -> bool {
        match self {
            Self::Id(id) => key.id == *id,
            Self::Secret(secret) => key.secret == *secret,
        }
    }
}

impl Reading {
    /// What the manifest says, or the first field that is missing to play the vendor.
    pub(super) fn new(
        manifest: &Manifest,
        url: &Url,
        root_fields: &[(String, String)],
        params: &[(String, String)],
    ) -> Result<Self, MockError> {
        let missing = |field| move || MockError::Missing { field };
        let create = manifest.create.clone().ok_or_else(missing("create"))?;
        if !texts(&create).any(|text| has(text, "name")) {
            return Err(MockError::Missing {
                field: "${name} in create",
            });
        }
        if matches!(manifest.root.auth, Auth::None {}) {
            return Err(MockError::Missing { field: "root.auth" });
        }
        let secrets = root_fields
            .iter()
            .map(|(name, value)| (name.clone(), SecretText::new(value.clone())))
            .collect();
        let root = RootSecret::unpack(pack_root(manifest, Some(url), params, secrets)?)?;
        let mut headers = HeaderMap::new();
        authorize_root(manifest, &root, &root.destination().base, &mut headers)?;
        Ok(Self {
            list: manifest.list.clone().ok_or_else(missing("list"))?,
            revoke: manifest.revoke.clone().ok_or_else(missing("revoke"))?,
            probe: manifest.probe.clone().ok_or_else(missing("probe"))?,
            url: url.clone(),
            base_path: root.destination().base.path().trim_end_matches('/').to_owned(),
            root: headers,
            manifest: manifest.clone(),
            create,
        })
    }

    /// What a request asks for.
    pub(super) fn read(&self, parts: &Parts, body: &[u8]) -> Asked {
        let Some(path) = parts.uri.path().strip_prefix(&self.base_path) else {
            return Asked::Nothing;
        };
        let query: Query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let at = |verb: Verb, text: &Text| same(verb, &parts.method).then(|| match_path(text, path)).flatten();
        if at(self.create.method, &self.create.path).is_some() {
            return self.as_root("create", &parts.headers, || self.wanted(path, &query, body));
        }
        if at(self.list.method, &self.list.path).is_some() {
            return self.as_root("list", &parts.headers, || Some(Asked::List(query.clone())));
        }
        // The probe may have a path that looks like a key's.
        let exact_probe = self.probe.path.variables().next().is_none();
        let probe = || {
            let seen = at(self.probe.method, &self.probe.path)?;
            Some(self.probed(parts, &query, &seen, body))
        };
        if let Some(asked) = exact_probe.then(probe).flatten() {
            return asked;
        }
        if let Some(seen) = at(self.revoke.method, &self.revoke.path) {
            return self.ended(parts, &query, &seen, body);
        }
        probe()
            .or_else(|| self.routed(parts, path, &query))
            .unwrap_or(Asked::Nothing)
    }

    fn as_root(&self, operation: &'static str, headers: &HeaderMap, read: impl Fn() -> Option<Asked>) -> Asked {
        if self.is_root(headers) {
            read().unwrap_or(Asked::Unreadable)
        } else {
            Asked::Unauthorized { operation }
        }
    }

    fn is_root(&self, headers: &HeaderMap) -> bool {
        self.root.iter().all(|(name, value)| headers.get(name) == Some(value))
    }

    fn wanted(&self, path: &str, query: &Query, body: &[u8]) -> Option<Asked> {
        let seen = match_path(&self.create.path, path)?;
        let body = parse(self.create.encoding, self.create.body.is_some(), body)?;
        let variable = |name: &str| {
            let in_path = seen.get(name).map(|text| Value::String(text.clone()));
            in_path
                .or_else(|| from_query(&self.create.query, query, name))
                .or_else(|| from_body(self.create.body.as_ref(), &body, name))
        };
        Some(Asked::Create(Wanted {
            name: variable("name")?.as_str()?.to_owned(),
            scopes: variable("scopes").or_else(|| variable("scope")).unwrap_or(Value::Null),
            expires: variable("expires"),
            unit: self.manifest.expiry.unit,
        }))
    }

    fn ended(&self, parts: &Parts, query: &Query, seen: &BTreeMap<String, String>, body: &[u8]) -> Asked {
        let operation = "revoke";
        let table = &self.revoke;
        let own = self.presented(&parts.headers, query);
        if table.as_ == As::Root && !self.is_root(&parts.headers) {
            return Asked::Unauthorized { operation };
        }
        let body = parse(table.encoding, table.body.is_some(), body).unwrap_or_default();
        let variable = |name: &str| {
            let in_path = seen.get(name).cloned();
            let text = |value: Value| value.as_str().map(str::to_owned);
            in_path
                .or_else(|| from_query(&table.query, query, name).and_then(text))
                .or_else(|| from_body(table.body.as_ref(), &body, name).and_then(text))
        };
        let which = variable("id")
            .map(Which::Id)
            .or_else(|| variable("secret").map(Which::Secret));
        let itself = own.filter(|_| table.as_ == As::Credential).map(Which::Secret);
        which
            .or(itself)
            .map_or(Asked::Unauthorized { operation }, Asked::Revoke)
    }

    fn probed(&self, parts: &Parts, query: &Query, seen: &BTreeMap<String, String>, body: &[u8]) -> Asked {
        let table = &self.probe;
        let body = parse(table.encoding, table.body.is_some(), body).unwrap_or_default();
        let named = from_body(table.body.as_ref(), &body, "secret").and_then(|value| value.as_str().map(str::to_owned));
        let named = seen.get("secret").cloned().or(named);
        let own = self
            .presented(&parts.headers, query)
            .filter(|_| table.as_ == As::Credential);
        named
            .or(own)
            .map_or(Asked::Unauthorized { operation: "probe" }, Asked::Probe)
    }

    fn routed(&self, parts: &Parts, path: &str, query: &Query) -> Option<Asked> {
        let routes = self.manifest.mock.routes.iter();
        let index = routes
            .clone()
            .position(|route| same(route.method, &parts.method) && match_path(&route.path, path).is_some())?;
        let own = self.presented(&parts.headers, query);
        Some(
            own.map_or(Asked::Unauthorized { operation: "route" }, |secret| Asked::Route {
                index,
                secret,
            }),
        )
    }

    /// The key that a caller presents at the manifest's first place for it.
    fn presented(&self, headers: &HeaderMap, query: &Query) -> Option<String> {
        let header = |name: &str| headers.get(name)?.to_str().ok();
        match self.manifest.proxy.inject.first()? {
            Slot::Header { name, format } => unwrap(format, header(name)?),
            Slot::Query { name, format } => unwrap(format, query.get(name)?),
            Slot::Basic { user, password } => {
                let encoded = header(AUTHORIZATION.as_str())?.strip_prefix("Basic ")?;
                let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
                let (given_user, given_password) = pair.split_once(':')?;
                unwrap(user, given_user).or_else(|| unwrap(password, given_password))
            }
        }
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

/// What stands for `{secret}` in a text of this format.
fn unwrap(format: &str, text: &str) -> Option<String> {
    let (before, after) = format.split_once("{secret}")?;
    Some(text.strip_prefix(before)?.strip_suffix(after)?.to_owned())
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

fn parse(encoding: Encoding, expected: bool, body: &[u8]) -> Option<Value> {
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

fn from_body(template: Option<&Tree>, body: &Value, name: &str) -> Option<Value> {
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
