//! One request, and the headers that prove who sends it. Needs no network.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::address::Address;
use super::secret;
use super::session::Session;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::httpsig::{self, KeyFile, Parts, SigError, SignedHeaders};

/// What a path segment may not carry as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A request before it is addressed and signed. Without `Debug`: body and token may be secret.
pub struct Request {
    /// The method.
    pub method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    bearer: Option<SecretText>,
    body: Option<Zeroizing<Vec<u8>>>,
    hides_body: bool,
}

/// A request that is ready to be sent. Without `Debug`: the headers may hold tokens.
pub struct Prepared {
    /// The target.
    pub url: Url,
    /// Every header but `Host` and `Content-Length`.
    pub headers: HeaderMap,
}

impl Request {
    /// A request to the path made of `segments`, each of which is percent-encoded.
    #[must_use]
    pub fn new(method: Method, segments: &[&str]) -> Self {
        let encoded: Vec<String> = segments
            .iter()
            .map(|part| utf8_percent_encode(part, SEGMENT).to_string())
            .collect();
        Self::at(method, format!("/{}", encoded.join("/")))
    }

    /// A request to `path`, which begins with a slash and is percent-encoded already.
    #[must_use]
    pub fn at(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            bearer: None,
            body: None,
            hides_body: false,
        }
    }

    /// `GET`.
    #[must_use]
    pub fn get(segments: &[&str]) -> Self {
        Self::new(Method::GET, segments)
    }

    /// `POST`.
    #[must_use]
    pub fn post(segments: &[&str]) -> Self {
        Self::new(Method::POST, segments)
    }

    /// `PUT`.
    #[must_use]
    pub fn put(segments: &[&str]) -> Self {
        Self::new(Method::PUT, segments)
    }

    /// `DELETE`.
    #[must_use]
    pub fn delete(segments: &[&str]) -> Self {
        Self::new(Method::DELETE, segments)
    }

    /// Adds a query parameter if there is a value.
    #[must_use]
    pub fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        self.query
            .extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }

    /// Adds a header; a value that is not one is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Carries a token in `Authorization`, in place of the client's own.
    #[must_use]
    pub fn bearer(mut self, token: SecretText) -> Self {
        self.bearer = Some(token);
        self
    }

    /// Sends JSON in which no secret stands.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        let mut request = self.bytes(Zeroizing::new(body.to_string().into_bytes()));
        request.hides_body = false;
        request
    }

    /// Sends bytes that are JSON, and may be secret.
    #[must_use]
    pub fn bytes(mut self, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Some(body);
        self.hides_body = true;
        self
    }

    /// Whether the body may be secret, and is shown to nobody.
    #[must_use]
    pub const fn hides_body(&self) -> bool {
        self.hides_body
    }

    /// Whether it carries a token of its own in `Authorization`.
    #[must_use]
    pub const fn has_bearer(&self) -> bool {
        self.bearer.is_some()
    }

    /// Sends secrets as a form (`application/x-www-form-urlencoded`), as OAuth's endpoints take it.
    #[must_use]
    pub fn form(self, secrets: &[(&str, &SecretText)]) -> Self {
        self.header("content-type", "application/x-www-form-urlencoded")
            .bytes(secret::form(secrets))
    }

    /// The body; empty when there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.as_ref().map(|body| body.as_slice()).unwrap_or_default()
    }

    /// The path, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Addresses and signs a request. `login` goes into `Authorization` when the request brings no token of its own;
/// `nonce` is new for every request.
///
/// # Errors
/// A token that cannot stand in a header, and what [`httpsig::sign`] refuses.
pub fn prepare(
    request: &Request,
    address: &Address,
    key: Option<&KeyFile>,
    login: Option<&SecretText>,
    created: Timestamp,
    nonce: &str,
) -> Result<Prepared, SigError> {
    prepared(request, address, login, |parts| {
        key.map(|key| httpsig::sign(key, parts, created, nonce)).transpose()
    })
}

/// The same inside a signed session, which is cheaper for both sides.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_in_session(
    request: &Request,
    address: &Address,
    session: &Session,
    created: Timestamp,
) -> Result<Prepared, SigError> {
    prepared(request, address, None, |parts| session.sign(parts, created).map(Some))
}

fn prepared(
    request: &Request,
    address: &Address,
    login: Option<&SecretText>,
    sign: impl FnOnce(&Parts<'_>) -> Result<Option<SignedHeaders>, SigError>,
) -> Result<Prepared, SigError> {
    let url = address.url(&request.path, &request.query);
    let mut headers = request.headers.clone();
    if !headers.contains_key("accept") {
        headers.insert("accept", HeaderValue::from_static("application/json"));
    }
    if request.body.is_some() && !headers.contains_key("content-type") {
        headers.insert("content-type", HeaderValue::from_static("application/json"));
    }
    if let Some(token) = request.bearer.as_ref().or(login) {
        let value = secret::bearer(token).ok_or_else(|| SigError::Component("authorization".to_owned()))?;
        headers.insert("authorization", value);
    }
    let parts = Parts {
        method: request.method.as_str(),
        scheme: address.scheme(),
        authority: &address.authority(),
        path: url.path(),
        query: url.query(),
        headers: &headers,
        body: request.body(),
    };
    if let Some(signed) = sign(&parts)? {
        signed.put(&mut headers);
    }
    Ok(Prepared { url, headers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;
    use crate::httpsig::Proof;

    #[test]
    fn a_signed_request_verifies_and_covers_target_body_and_token() {
        let key = KeyFile::generate(&SeededRandom::new(1));
        let address: Address = "http://127.0.0.1:8402".parse().unwrap();
        let now = Timestamp::from_secs(1_763_670_667);
        let request = Request::post(&["v1", "grants", "grt_1", "revoke"])
            .query("limit", Some(3))
            .bearer(SecretText::new("dkt_test_abc".to_owned()))
            .json(&serde_json::json!({ "reason": "x" }));
        let prepared = prepare(&request, &address, Some(&key), None, now, "0123456789abcdef").unwrap();
        let check = |method: &str, query: &str, body: &[u8], headers: &HeaderMap| {
            let parts = Parts {
                method,
                scheme: "http",
                authority: "127.0.0.1:8402",
                path: prepared.url.path(),
                query: Some(query),
                headers,
                body,
            };
            let claimed = httpsig::read(&parts).unwrap().unwrap();
            httpsig::verify(&claimed, &parts, now)
        };
        let good = check("POST", "limit=3", request.body(), &prepared.headers);
        assert!(matches!(good, Ok(Proof::Key { key: signer, .. }) if signer == key.public()));
        assert!(check("PUT", "limit=3", request.body(), &prepared.headers).is_err());
        assert!(check("POST", "limit=4", request.body(), &prepared.headers).is_err());
        assert!(check("POST", "limit=3", b"{}", &prepared.headers).is_err());
        let mut other = prepared.headers.clone();
        other.insert("authorization", HeaderValue::from_static("Bearer dkt_test_abd"));
        assert!(check("POST", "limit=3", request.body(), &other).is_err());
    }

    #[test]
    fn a_segment_cannot_become_two() {
        let address: Address = "http://127.0.0.1:1".parse().unwrap();
        let request = Request::get(&["v1", "policies", "a/b?c#d%2e"]);
        let url = address.url(request.path(), &[]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/v1/policies/a%2Fb%3Fc%23d%252e");
    }

    #[test]
    fn a_token_that_is_no_header_is_refused() {
        let address: Address = "http://127.0.0.1:1".parse().unwrap();
        let request = Request::get(&["x"]).bearer(SecretText::new("a\nb".to_owned()));
        assert!(prepare(&request, &address, None, None, Timestamp::default(), "").is_err());
    }
}
