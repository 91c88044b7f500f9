//! A request as verbs need it: body within its limits, JSON within its depth, names and queries strictly known.

use std::str::FromStr;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Surface;
use super::answer::Refused;
use super::stream::EVENT_STREAM;
use crate::operations::Operation;
use crate::service::caller::Parts;
use crate::service::error::Error;

/// How deep JSON may nest.
const DEPTH: usize = 32;

/// A request, read.
pub struct Input {
    method: String,
    scheme: &'static str,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
    params: Vec<(String, String)>,
    admin: bool,
}

/// Reads a request within the limits.
pub(super) async fn read(
    surface: &Surface,
    operation: &Operation,
    path: &RawPathParams,
    request: Request<Body>,
) -> Result<Input, Refused> {
    let (head, body) = request.into_parts();
    let limited = Limited::new(body, surface.limits.body);
    let collected = tokio::time::timeout(surface.limits.body_timeout, limited.collect()).await;
    let body = match collected {
        Err(_) => return Err(Refused::slow_body()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            return Err(Refused::large_body(surface.limits.body));
        }
        Ok(Err(_)) => return Err(Refused::broken_body()),
        Ok(Ok(collected)) => collected.to_bytes().to_vec(),
    };
    let authority = authority(&head.headers, &head.uri);
    let signed = head.headers.contains_key("signature-input");
    // A signature for another server's name, sent here, proves nothing here.
    if signed && !surface.names.iter().any(|name| name.eq_ignore_ascii_case(&authority)) {
        return Err(Error::Unauthenticated.into());
    }
    if head.headers.get_all(http::header::AUTHORIZATION).iter().count() > 1 {
        return Err(Error::Unauthenticated.into());
    }
    let input = Input {
        scheme: scheme(&surface.app.public_url, &authority),
        method: head.method.as_str().to_owned(),
        authority,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        params: path
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        admin: surface.admin,
    };
    if operation.query.is_none() && input.query.as_deref().is_some_and(|query| !query.is_empty()) {
        return Err(Refused::unknown_parameter(
            input.query.as_deref().unwrap_or_default(),
            &[],
        ));
    }
    Ok(input)
}

fn authority(headers: &HeaderMap, uri: &http::Uri) -> String {
    let host = headers.get(http::header::HOST).and_then(|value| value.to_str().ok());
    uri.authority().map_or_else(
        || host.unwrap_or_default().to_owned(),
        |authority| authority.as_str().to_owned(),
    )
}

/// The scheme as the client sees it: that of the public address behind a proxy that ends TLS, plain HTTP elsewhere.
fn scheme(public_url: &str, authority: &str) -> &'static str {
    let public = public_url
        .strip_prefix("https://")
        .map(|rest| rest.split('/').next().unwrap_or(rest));
    if public.is_some_and(|public| public.eq_ignore_ascii_case(authority)) {
        "https"
    } else {
        "http"
    }
}

impl Input {
    /// The parts a signature covers.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            method: &self.method,
            scheme: self.scheme,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// The credential after `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let value = self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credential) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(credential)
    }

    /// The values of a header that are text.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    }

    /// Whether the caller asks for an event stream instead of JSON.
    #[must_use]
    pub fn wants_events(&self) -> bool {
        self.header("accept")
            .iter()
            .flat_map(|value| value.split(','))
            .any(|range| {
                let media = range.split(';').next().unwrap_or_default();
                media.trim().eq_ignore_ascii_case(EVENT_STREAM)
            })
    }

    /// Whether it came in at the admin address.
    #[must_use]
    pub const fn on_admin(&self) -> bool {
        self.admin
    }

    /// The raw body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The path as it came.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A path parameter as text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// A path parameter. What is no id of the kind is absent, like somebody else's.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn param<T: FromStr>(&self, name: &str, what: &'static str) -> Result<T, Error> {
        self.text(name).parse().map_err(|_| Error::NotFound(what))
    }

    /// The body as JSON; an empty one stands for `{}`.
    ///
    /// # Errors
    /// A problem that tells what is wrong and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        self.refuse_other_type()?;
        let bytes = if self.body.is_empty() {
            b"{}".as_slice()
        } else {
            &self.body
        };
        if deeper_than(bytes, DEPTH) {
            return Err(Refused::invalid_json(format!("the JSON nests deeper than {DEPTH}")));
        }
        match serde_json::from_slice(bytes) {
            Ok(body) if is_object(bytes) && !holds_nul(bytes) => Ok(body),
            read => Err(why_not(bytes, read.err())),
        }
    }

    /// A body says that it is JSON, and is not packed.
    fn refuse_other_type(&self) -> Result<(), Refused> {
        if self.body.is_empty() {
            return Ok(());
        }
        let one = |name: http::HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let kind = one(http::header::CONTENT_TYPE).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let shown = if kind.is_empty() {
                "of no type".to_owned()
            } else {
                format!("`{kind}`")
            };
            return Err(Refused::other_type(&shown));
        }
        match self.headers.get(http::header::CONTENT_ENCODING) {
            Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Refused::other_type("packed")),
            _ => Ok(()),
        }
    }

    /// The body as a form (`application/x-www-form-urlencoded`, as OAuth's endpoints take it) or as JSON. Of a form the
    /// `known` fields are read and others ignored (RFC 6749 §3.2); in JSON nothing unknown may stand.
    ///
    /// # Errors
    /// A problem that tells what is wrong and where.
    pub fn form_or_json<T: DeserializeOwned>(&self, known: &[&str]) -> Result<T, Refused> {
        let form = "application/x-www-form-urlencoded";
        let kind = self.header("content-type").pop().unwrap_or_default();
        if !kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case(form)
        {
            return self.json();
        }
        let mut fields: Map<String, Value> = Map::new();
        for (name, value) in url::form_urlencoded::parse(&self.body) {
            if value.contains('\0') {
                return Err(Error::invalid(&format!("/{name}"), "text may not hold a NUL character").into());
            }
            if known.contains(&name.as_ref()) && fields.insert(name.to_string(), Value::from(value.as_ref())).is_some()
            {
                return Err(Error::invalid(&format!("/{name}"), "given twice").into());
            }
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| Refused::from_json(&error))
    }

    /// The query as a type that refuses unknown parameters. Digits become numbers.
    ///
    /// # Errors
    /// A problem that names the parameter.
    pub fn query<T: DeserializeOwned>(&self, known: &[&str]) -> Result<T, Refused> {
        let mut fields: Map<String, Value> = Map::new();
        for (name, value) in url::form_urlencoded::parse(self.query.as_deref().unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Refused::unknown_parameter(&name, known));
            }
            if value.contains('\0') {
                return Err(Error::invalid(&format!("/{name}"), "text may not hold a NUL character").into());
            }
            let value = value
                .parse::<i64>()
                .map_or_else(|_| Value::from(value.as_ref()), Value::from);
            if fields.insert(name.to_string(), value).is_some() {
                return Err(Error::invalid(&format!("/{name}"), "given twice").into());
            }
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| Refused::from_json(&error))
    }
}

/// What is wrong with a body that was not taken. What is no JSON is told as such, whatever else is wrong with it.
fn why_not(bytes: &[u8], read: Option<serde_json::Error>) -> Refused {
    if let Err(error) = serde_json::from_slice::<&RawValue>(bytes) {
        return Refused::from_json(&error);
    }
    if !is_object(bytes) {
        return Error::invalid("", "the body is not a JSON object").into();
    }
    match read {
        Some(error) if !holds_nul(bytes) => Refused::from_json(&error),
        _ => Error::invalid("", "text may not hold a NUL character").into(),
    }
}

/// Whether JSON text is an object. A list would be taken for the fields in their order.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Whether JSON text may hold a NUL. PostgreSQL cannot hold it; both engines shall answer alike.
fn holds_nul(json: &[u8]) -> bool {
    json.windows(6).any(|six| six == br"\u0000")
}

/// Whether JSON text nests deeper than `limit`, without parsing it: brackets outside strings are counted.
fn deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut text, mut escaped) = (0usize, false, false);
    for byte in json {
        match (text, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (true, false, b'"') => text = false,
            (false, _, b'"') => text = true,
            (false, _, b'[' | b'{') => depth = depth.saturating_add(1),
            (false, _, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_the_one_the_client_sees() {
        let url = "https://dekeys.example/";
        assert_eq!(scheme(url, "DEKEYS.example"), "https");
        assert_eq!(scheme(url, "127.0.0.1:8402"), "http");
        assert_eq!(scheme("http://127.0.0.1:8402", "127.0.0.1:8402"), "http");
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!deeper_than(br#"{"a":"[[[[[["}"#, 1));
        assert!(!deeper_than(br#"{"a":"\"[[["}"#, 1));
        assert!(deeper_than(b"[[[]]]", 2));
        assert!(deeper_than(&vec![b'['; 100_000], 32));
    }
}
