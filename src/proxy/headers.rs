//! Which header fields go on, in each direction. The request to the vendor is built anew: fields of one connection,
//! fields that prove who somebody is, and fields that tell another server to take the request for another one stay
//! here, and what dekeys injects wins.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use url::Url;

/// Fields of one connection (RFC 9110, 7.6.1), both ways.
const OF_CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields of a caller that the vendor does not get.
const NOT_SENT: [&str; 33] = [
    // where the request goes and how long it is: dekeys says so
    "host",
    "content-length",
    "expect",
    "max-forwards",
    "via",
    "forwarded",
    "x-real-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // who the caller is: dekeys proves itself
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "x-auth-token",
    "x-access-token",
    "x-auth-key",
    "x-goog-api-key",
    "x-functions-key",
    "ocp-apim-subscription-key",
    "x-csrf-token",
    // part of an answer would come past the scrubber
    "range",
    "if-range",
    // the signature for dekeys
    "signature",
    "signature-input",
    "content-digest",
    "payment-signature",
    "sign-in-with-x",
];

/// Fields of the vendor that the caller does not get.
const NOT_RETURNED: [&str; 14] = [
    "content-length",
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "strict-transport-security",
    "public-key-pins",
    "clear-site-data",
    "refresh",
    "accept-ranges",
    "content-range",
    "cache-control",
    "expires",
    "pragma",
    "age",
];

/// What tokens look like in a value.
const TOKENS: [&[u8]; 3] = [b"dkt_live_", b"dkt_test_", b"dks_"];

/// The fields of a caller's request that go on.
pub(super) fn onward(given: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(given);
    let mut sent = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let text = name.as_str();
        // Some servers read `x_api_key` as `x-api-key`.
        let kept = !text.contains('_')
            && !OF_CONNECTION.contains(&text)
            && !NOT_SENT.contains(&text)
            && !text.starts_with("x-forwarded-")
            && !text.starts_with("proxy-")
            && !text.starts_with("sec-fetch-")
            && !named.contains(name)
            && !holds_token(value);
        if kept {
            sent.append(name.clone(), value.clone());
        }
    }
    // What comes back must be readable here.
    sent.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    sent
}

fn holds_token(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    TOKENS
        .iter()
        .any(|token| bytes.windows(token.len()).any(|part| part == *token))
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}

/// The fields of a vendor's answer that go back to the caller of `/p/{vendor}`. `strip` are the manifest's own.
pub(super) fn back(given: &HeaderMap, strip: &[String], base: &Url, vendor: &str) -> HeaderMap {
    let named = named_by_connection(given);
    let mut returned = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let text = name.as_str();
        let kept = !OF_CONNECTION.contains(&text)
            && !NOT_RETURNED.contains(&text)
            && !strip.iter().any(|strip| strip.eq_ignore_ascii_case(text))
            && !named.contains(name);
        if !kept {
            continue;
        }
        if *name == header::LOCATION || *name == header::CONTENT_LOCATION {
            if let Some(here) = value.to_str().ok().and_then(|value| here(value, base, vendor)) {
                returned.append(name.clone(), here);
            }
            continue;
        }
        returned.append(name.clone(), value.clone());
    }
    returned.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    returned
}

/// A place at the vendor as the caller reaches it through dekeys. Any other place is none: a client that follows it
/// would carry its token there.
fn here(location: &str, base: &Url, vendor: &str) -> Option<HeaderValue> {
    let there = base.join(location).ok()?;
    if there.origin() != base.origin() || !there.username().is_empty() || there.password().is_some() {
        return None;
    }
    let query = there.query().map(|query| format!("?{query}")).unwrap_or_default();
    HeaderValue::from_str(&format!("/p/{vendor}{}{query}", there.path())).ok()
}

/// Whether a request asks to become a `WebSocket` (RFC 6455, 4.2.1).
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let says = |name: HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    says(header::UPGRADE, "websocket") && says(header::CONNECTION, "upgrade")
}

/// The authority a request was sent to.
pub(super) fn authority(headers: &HeaderMap, uri: &Uri) -> String {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    uri.authority().map_or_else(
        || host.unwrap_or_default().to_owned(),
        |authority| authority.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_goes_nowhere_in_whatever_field() {
        let sent = onward(&map(&[
            ("authorization", "Bearer dkt_test_x"),
            ("x-anything", "dkt_live_x"),
            ("x-other", "me dkt_test_y"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("x_api_key", "1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("accept", "*/*"),
            ("accept-encoding", "gzip, br"),
            ("user-agent", "openai"),
        ]));
        let mut names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "user-agent"]);
        assert_eq!(sent["accept-encoding"], "identity");
    }

    #[test]
    fn a_location_stays_here_or_is_none() {
        let base: Url = "https://api.vendor.test/".parse().unwrap();
        let at = |place: &str| here(place, &base, "acme").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(at("/other?a=1").as_deref(), Some("/p/acme/other?a=1"));
        assert_eq!(at("https://api.vendor.test/x").as_deref(), Some("/p/acme/x"));
        for away in [
            "https://evil.test/",
            "//evil.test/",
            "http://api.vendor.test/",
            "https://api.vendor.test:8443/",
            "https://api.vendor.test@evil.test/",
            "https://u:p@api.vendor.test/",
            "javascript:alert(1)",
        ] {
            assert_eq!(at(away), None, "{away}");
        }
    }
}
