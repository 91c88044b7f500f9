//! Logins, and what is signed: a mock vendor checks it with the public half of the root credentials that it accepts.

use http::{HeaderMap, Method};
use serde_json::Value;

use super::request::{Asked, Reading, Seen, Which, from_body, parse};
use super::truth::Truth;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::vendor::login::Login;
use crate::vendor::tables::Auth;
use crate::vendor::{RootSecret, authorize_login, presented};

impl Reading {
    pub(super) fn login(&self, seen: &Seen<'_>) -> Option<Asked> {
        let Auth::Login(table) = &self.manifest.root.auth else {
            return None;
        };
        self.at(&table.url, seen.path)
            .filter(|_| seen.parts.method == Method::POST)?;
        let unauthorized = Asked::Unauthorized { operation: "login" };
        let mut expected = HeaderMap::new();
        let known = authorize_login(&self.manifest, &self.root, table, &self.url, &mut expected).is_ok()
            && expected
                .iter()
                .all(|(name, value)| seen.parts.headers.get(name) == Some(value));
        let body = parse(table.encoding, table.body.is_some(), seen.body);
        let given = body
            .as_ref()
            .and_then(|body| from_body(table.body.as_ref(), body, "assertion"));
        let given = given
            .and_then(|value| Some(value.as_str()?.to_owned()))
            .unwrap_or_default();
        let signed = self.asserts(table, &given);
        let assertion = SecretText::new(given);
        let values = self.root.values().secret("assertion", &assertion);
        let right = match (table.body.as_ref().map(|tree| tree.render(&values)), body) {
            (None, _) => true,
            (Some(Ok(Some(wanted))), Some(body)) => wanted == body,
            _ => false,
        };
        Some(if known && signed && right {
            Asked::Login
        } else {
            unauthorized
        })
    }

    /// Whether a login holds the token that it must hold, signed by a root credential that lives.
    fn asserts(&self, table: &Login, given: &str) -> bool {
        let Some(assertion) = &table.assertion else { return true };
        let by = |root: &RootSecret, now| assertion.accepts(root.values(), given, now).then_some(());
        self.roots.find(by).is_some()
    }

    /// The token by which a root credential proves itself here: what a login gave, or what it has signed itself.
    pub(super) fn proof(&self, root: &RootSecret, headers: &HeaderMap, now: Timestamp) -> Option<SecretText> {
        let Auth::Jwt(shown) = &self.manifest.root.auth else {
            return Some(SecretText::new(self.token.clone()));
        };
        let (before, after) = shown.format.split_once("{token}")?;
        let value = headers.get(&shown.header)?.to_str().ok()?;
        let text = value.strip_prefix(before)?.strip_suffix(after)?;
        let good = shown.assertion.accepts(root.values(), text, now);
        good.then(|| SecretText::new(text.to_owned()))
    }

    /// Takes in a key that a root credential signed, when it is shown for the first time.
    pub(super) fn meet(&self, truth: &Truth, which: &Which) {
        let table = self.manifest.create.as_ref();
        let (Some((table, signer)), Which::Presented(headers, url)) =
            (table.and_then(|table| Some((table, table.sign.as_ref()?))), which)
        else {
            return;
        };
        for key in presented(&self.manifest, headers, url.query()) {
            let signed = |root: &RootSecret, _| signer.read(&root.values(), &key);
            if let Some(claims) = self.roots.find(signed) {
                let scopes = from_body(table.body.as_ref(), &claims, "scopes");
                let until = claims.get("exp").and_then(Value::as_i64).map(Timestamp::from_secs);
                truth.meet(key, scopes.unwrap_or(Value::Null), until);
            }
        }
    }
}
