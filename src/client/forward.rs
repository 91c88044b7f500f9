//! A request that dekeys is to send on to a vendor (`ANY /p/{vendor}/{path}`), addressed and signed. Needs no network.

use http::{HeaderMap, Method};
use url::Url;

use super::address::Address;
use super::request::Prepared;
use super::secret;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::httpsig::{self, KeyFile, Parts, SigError};

/// What a program sent, as it was sent.
pub struct Forwarded<'a> {
    /// The method.
    pub method: &'a Method,
    /// `/p/{vendor}/…`, percent-encoded as it came.
    pub path: &'a str,
    /// What stood after the `?`.
    pub query: Option<&'a str>,
    /// The headers that go on; without `authorization` and signatures.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// A request that is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A URL library would send another path or query than the program did: dot segments, backslashes, raw spaces.
    #[error("the path has a second way to be read: no `.` or `..` segments, backslashes or unencoded characters")]
    Ambiguous,
    /// It cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Unsigned(#[from] SigError),
}

/// Addresses and signs a request with `token` in `authorization`. `key` is the holder's or the prim's; without one
/// the token must be of bearer class. `nonce` is new for every request.
///
/// # Errors
/// [`ForwardError`].
pub fn prepare(
    request: Forwarded<'_>,
    address: &Address,
    key: Option<&KeyFile>,
    token: &SecretText,
    created: Timestamp,
    nonce: &str,
) -> Result<Prepared, ForwardError> {
    let url = exact(address, request.path, request.query)?;
    let mut headers = request.headers;
    let value = secret::bearer(token).ok_or_else(|| SigError::Component("authorization".to_owned()))?;
    headers.insert("authorization", value);
    if let Some(key) = key {
        let parts = Parts {
            method: request.method.as_str(),
            scheme: address.scheme(),
            authority: &address.authority(),
            path: url.path(),
            query: url.query(),
            headers: &headers,
            body: request.body,
        };
        let signed = httpsig::sign(key, &parts, created, nonce)?;
        signed.put(&mut headers);
    }
    Ok(Prepared { url, headers })
}

/// The URL whose path and query are, byte for byte, these.
fn exact(address: &Address, path: &str, query: Option<&str>) -> Result<Url, ForwardError> {
    let mut url = address.url("/", &[]);
    url.set_path(path);
    url.set_query(query);
    let same = url.path() == path && url.query() == query;
    same.then_some(url).ok_or(ForwardError::Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    fn prepared(path: &str, query: Option<&str>) -> Result<Prepared, ForwardError> {
        let request = Forwarded {
            method: &Method::POST,
            path,
            query,
            headers: HeaderMap::new(),
            body: b"{}",
        };
        let address: Address = "http://127.0.0.1:8402".parse().unwrap();
        let key = KeyFile::generate(&SeededRandom::new(1));
        let token = SecretText::new("dkt_test_abc".to_owned());
        let now = Timestamp::from_secs(1_763_670_667);
        prepare(request, &address, Some(&key), &token, now, "0123456789abcdef")
    }

    #[test]
    fn what_is_sent_is_what_came_byte_for_byte() {
        for (path, query) in [
            ("/p/demo/echo", None),
            ("/p/demo/a%2Fb/c%20d", Some("q=%5B1%5D&x=a+b")),
            ("/p/demo/a//b/", Some("")),
            ("/p/demo/~x;v=1,2:3@4", Some("a=b'c")),
        ] {
            match prepared(path, query) {
                Ok(made) => assert_eq!((made.url.path(), made.url.query()), (path, query)),
                Err(error) => assert!(query == Some("a=b'c") && error == ForwardError::Ambiguous, "{path}"),
            }
        }
    }

    #[test]
    fn what_has_two_readings_is_not_sent() {
        for path in [
            "/p/demo/../x",
            "/p/demo/%2e%2E/x",
            "/p/demo/.",
            "/p/demo/a\\b",
            "/p/demo/a b",
        ] {
            assert_eq!(prepared(path, None).err(), Some(ForwardError::Ambiguous), "{path}");
        }
    }

    #[test]
    fn the_token_and_a_signature_are_in_the_headers() {
        let made = prepared("/p/demo/echo", None).unwrap();
        assert_eq!(made.headers["authorization"], "Bearer dkt_test_abc");
        assert!(made.headers["authorization"].is_sensitive() && made.headers.contains_key("signature-input"));
    }
}
