//! Servers that have no HTTP interface for their users, spoken to in their own protocol. A manifest whose base begins
//! with one of these schemes is like every other: its calls are answered here, by a driver inside dekeys, instead of
//! by an HTTP server. So names, lists, intents, recovery and rotation are the same for all vendors.
//!
//! What it keeps: the root credential goes to the origin it was sealed for (checked before, as for HTTP), over a
//! vetted address and TLS ([`Egress::line`]); no password that dekeys draws is ever sent to be stored, only what it is
//! verified by; nothing that a server says in words leaves this module.

mod postgres;
mod redis;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::template::Wiped;
use crate::base::egress::{Egress, EgressError, Incoming, Outgoing};

/// Whether a driver answers for URLs of this scheme.
pub(super) fn speaks(scheme: &str) -> bool {
    [postgres::SCHEME, redis::SCHEME].contains(&scheme)
}

/// A call, taken apart.
struct Asked {
    method: Method,
    url: Url,
    /// The path's segments, decoded.
    path: Vec<String>,
    body: Wiped,
    user: String,
    password: Zeroizing<String>,
}

/// What is answered: a status as HTTP has it, and a body.
struct Reply {
    status: u16,
    body: Wiped,
}

impl Reply {
    const fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Wiped(body),
        }
    }

    const fn empty(status: u16) -> Self {
        Self::new(status, Value::Null)
    }
}

/// Why a call was not done.
enum Trouble {
    /// The server said so.
    Said(Reply),
    /// It gave no answer.
    Lost(EgressError),
}

impl Asked {
    /// `None` when it has no user and password: the manifest must say `style = "basic"`.
    fn read(outgoing: &Outgoing) -> Option<Self> {
        let (user, password) = basic(&outgoing.headers)?;
        let segments = outgoing.url.path_segments()?;
        let decoded = segments.map(|segment| Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned()));
        Some(Self {
            method: outgoing.method.clone(),
            url: outgoing.url.clone(),
            path: decoded.collect::<Option<_>>()?,
            body: Wiped(serde_json::from_slice(&outgoing.body).unwrap_or_default()),
            user,
            password,
        })
    }

    /// A text of the body; empty when it is not there.
    fn text(&self, name: &str) -> &str {
        self.body.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A list of texts of the body.
    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = self.body.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }
}

/// Does what an HTTP server would do with the request. Never repeats.
///
/// # Errors
/// [`EgressError`]; [`EgressError::sent`] tells whether it may have had its effect.
pub(super) async fn answer(egress: &Egress, outgoing: &Outgoing) -> Result<Incoming, EgressError> {
    let asked = Asked::read(outgoing).ok_or(EgressError::Refused {
        why: "a driver is asked with a user name and a password",
    })?;
    let late = |_| EgressError::Timeout { sent: true };
    let answering = async {
        match asked.url.scheme() {
            redis::SCHEME => redis::answer(egress, &asked).await,
            _ => postgres::answer(egress, &asked).await,
        }
    };
    let reply = timeout(outgoing.timeout, answering).await.map_err(late)??;
    Ok(Incoming {
        status: reply.status,
        headers: HeaderMap::new(),
        body: serde_json::to_vec(&reply.body.0).unwrap_or_default(),
    })
}

/// User name and password (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = Zeroizing::new(BASE64_STANDARD.decode(text).ok()?);
    let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((user.to_owned(), Zeroizing::new(password.to_owned())))
}
