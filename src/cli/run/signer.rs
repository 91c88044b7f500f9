//! The loopback signer: what the program takes for the vendor. It lets in whoever brings the program's stand-in, takes
//! that out, and sends the request to dekeys with the narrowed token and the holder's signature. Both never reach the
//! program, and no vendor key ever comes this way.
//!
//! Not protected: another process of the same user that reads the program's environment can use the signer as the
//! program can, while the program runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::pass::Pass;
use crate::base::id::base64url;
use crate::base::random::{self, Random};
use crate::base::secret::SecretText;
use crate::base::time::Clock;
use crate::cli::failure::Failure;
use crate::client::forward::{Forwarded, prepare};
use crate::client::{Address, Client, KeyFile, Refused, secret};
use crate::model::scope::Name;

/// The largest body that the signer takes: it must be whole before it can be signed.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// The largest problem document that is read to see whether a token was refused.
const MAX_PROBLEM: usize = 64 * 1024;

/// Headers that are between two neighbours only (RFC 9110, 7.6.1), and those that the signer writes itself.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const WRITTEN_HERE: &[&str] = &[
    "host",
    "content-length",
    "expect",
    "authorization",
    "content-digest",
    "signature",
    "signature-input",
];

/// What the signer works with.
pub(crate) struct Parties {
    /// dekeys.
    pub address: Address,
    /// The holder's or the prim's key; none for a token of bearer class.
    pub key: Option<KeyFile>,
    /// dekeys, for fresh tokens.
    pub client: Client,
    /// Makes the tokens.
    pub pass: Pass,
    /// The vendors that the program may reach.
    pub vendors: Vec<Name>,
    /// What the program brings in place of a key.
    pub stand_in: SecretText,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// A signer that listens.
pub(crate) struct Signer {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    parties: Parties,
    authorities: [String; 2],
    http: reqwest::Client,
    /// For requests that become something else: HTTP/1.1 only.
    plain: reqwest::Client,
}

impl Signer {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port, or no HTTP client.
    pub(crate) async fn start(parties: Parties) -> Result<Self, Failure> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            authorities: [address.to_string(), format!("localhost:{}", address.port())],
            http: outgoing(&parties.address, false)?,
            plain: outgoing(&parties.address, true)?,
            parties,
        });
        let app = axum::Router::new().fallback(move |request: Request| {
            let state = Arc::clone(&state);
            async move { state.answer(request).await }
        });
        let task = tokio::spawn(async move {
            // It ends with this process.
            let _ended = axum::serve(listener, app).await;
        });
        Ok(Self { address, task })
    }

    /// The base URL of a vendor, with what its libraries expect after it.
    pub(crate) fn base_url(&self, vendor: &Name, path: &str) -> String {
        format!("http://{}/p/{vendor}{path}", self.address)
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// No redirects, no proxy, no limit on how long an answer streams.
fn outgoing(address: &Address, plain: bool) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(std::time::Duration::from_secs(10));
    if plain {
        builder = builder.http1_only();
    }
    if let Some(path) = address.socket() {
        builder = builder.unix_socket(path);
    }
    builder.build().map_err(|_| crate::client::ClientError::Setup.into())
}

/// Why the signer answers itself.
struct No(StatusCode, &'static str, String, &'static str);

impl State {
    async fn answer(&self, request: Request) -> Response {
        match self.forward(request).await {
            Ok(response) => response,
            Err(No(status, code, detail, fix)) => problem(status, code, &detail, fix),
        }
    }

    async fn forward(&self, mut request: Request) -> Result<Response, No> {
        self.check_host(request.headers())?;
        let query = self.admit(request.headers(), request.uri().query())?;
        self.check_path(request.uri().path())?;
        let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
            let fix = "send less at once; or use dekeys' proxy itself, with a signature of your own";
            No(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "a body of at most 64 MiB can be signed".to_owned(),
                fix,
            )
        })?;
        let parties = &self.parties;
        let mut token = parties
            .pass
            .token(&parties.client, parties.clock.now())
            .await
            .map_err(|failure| {
                No(
                    StatusCode::UNAUTHORIZED,
                    "invalid_token",
                    failure.words(),
                    "get a new grant and run it again",
                )
            })?;
        let mut answer = self
            .send(&head, query.as_deref(), &body, &token, upgrade.is_some())
            .await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let (kept, refused) = token_refused(answer).await;
            if !refused {
                return Ok(kept);
            }
            let another = parties.pass.another(&token, &parties.client, parties.clock.now()).await;
            let Some(another) = another else { return Ok(kept) };
            token = another;
            answer = self
                .send(&head, query.as_deref(), &body, &token, upgrade.is_some())
                .await?;
        }
        Ok(match upgrade {
            Some(upgrade) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => switch(answer, upgrade),
            _ => passed_on(answer),
        })
    }

    /// A page that a browser shows may not speak as the program, under whatever name it found this port.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), No> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| self.authorities.iter().any(|known| known == host)) {
            return Ok(());
        }
        let fix = "use the base URL as it stands in the environment";
        Err(No(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "this is not the host that was asked for".to_owned(),
            fix,
        ))
    }

    /// Lets in who brings the stand-in, in whatever header or parameter its library puts a key; gives the query without.
    fn admit(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Option<String>, No> {
        let stand_in = &self.parties.stand_in;
        let named = |part: &&str| secret::stands_in(stand_in, part.as_bytes());
        let in_headers = headers.iter().any(|(name, value)| self.is_key(name, value.as_bytes()));
        let in_query = query.is_some_and(|query| query.split('&').any(|part| named(&part)));
        if !in_headers && !in_query {
            let fix = "send the key that stands in the environment of this program, as its library does";
            return Err(No(
                StatusCode::UNAUTHORIZED,
                "stand_in_missing",
                "this address is for the program that `dekeys run` started".to_owned(),
                fix,
            ));
        }
        let rest = query.map(|query| {
            query
                .split('&')
                .filter(|part| !named(part))
                .collect::<Vec<_>>()
                .join("&")
        });
        Ok(rest.filter(|rest| !rest.is_empty() || !in_query))
    }

    /// Whether a header holds the stand-in: as it is, or in the user or password of Basic.
    fn is_key(&self, name: &HeaderName, value: &[u8]) -> bool {
        let stand_in = &self.parties.stand_in;
        let basic = || {
            let text = std::str::from_utf8(value).ok().filter(|_| name == AUTHORIZATION)?;
            let (scheme, code) = text.split_once(' ')?;
            let decoded = scheme
                .eq_ignore_ascii_case("basic")
                .then(|| BASE64_STANDARD.decode(code.trim()));
            decoded?.ok()
        };
        secret::stands_in(stand_in, value) || basic().is_some_and(|decoded| secret::stands_in(stand_in, &decoded))
    }

    fn check_path(&self, path: &str) -> Result<(), No> {
        let rest = path.strip_prefix("/p/").unwrap_or_default();
        let vendor = rest.split('/').next().unwrap_or_default();
        if self.parties.vendors.iter().any(|known| known.as_str() == vendor) {
            return Ok(());
        }
        let fix = "use the base URL that stands in the environment; --vendor and the token decide which there are";
        Err(No(
            StatusCode::NOT_FOUND,
            "not_found",
            "the program may not reach such a vendor".to_owned(),
            fix,
        ))
    }

    async fn send(
        &self,
        head: &Parts,
        query: Option<&str>,
        body: &axum::body::Bytes,
        token: &SecretText,
        upgrade: bool,
    ) -> Result<reqwest::Response, No> {
        let parties = &self.parties;
        let request = Forwarded {
            method: &head.method,
            path: head.uri.path(),
            query,
            headers: self.kept(&head.headers, upgrade),
            body,
        };
        let nonce = base64url(&random::bytes::<18>(parties.random.as_ref()));
        let now = parties.clock.now();
        let prepared =
            prepare(request, &parties.address, parties.key.as_ref(), token, now, &nonce).map_err(|error| {
                No(
                    StatusCode::BAD_REQUEST,
                    "invalid_request",
                    error.to_string(),
                    "write the path in its plain form",
                )
            })?;
        let http = if upgrade { &self.plain } else { &self.http };
        let mut request = http
            .request(head.method.clone(), prepared.url)
            .headers(prepared.headers);
        if !body.is_empty() || head.headers.contains_key("content-length") {
            request = request.body(body.clone());
        }
        request.send().await.map_err(|_| {
            let fix = "check that dekeys runs: dekeys status";
            No(
                StatusCode::BAD_GATEWAY,
                "unreachable",
                format!("dekeys at {} did not answer", parties.address),
                fix,
            )
        })
    }

    /// The headers that go on: neither the stand-in nor what is between two neighbours.
    fn kept(&self, headers: &HeaderMap, upgrade: bool) -> HeaderMap {
        let named = named_by_connection(headers);
        let goes = |name: &HeaderName| !WRITTEN_HERE.contains(&name.as_str()) && passes(name, &named);
        let mut kept: HeaderMap = headers
            .iter()
            .filter(|(name, value)| goes(name) && !self.is_key(name, value.as_bytes()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if upgrade {
            kept.insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
            kept.extend(headers.get(UPGRADE).map(|value| (UPGRADE, value.clone())));
        }
        kept
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && named_by_connection(headers).iter().any(|name| name == "upgrade")
}

fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

fn passes(name: &HeaderName, named: &[String]) -> bool {
    !NOT_PASSED_ON.contains(&name.as_str()) && !named.iter().any(|one| one == name.as_str())
}

/// The answer as it came, read as it goes.
fn passed_on(answer: reqwest::Response) -> Response {
    let (status, headers) = (answer.status(), answer.headers().clone());
    response(status, &headers, Body::from_stream(answer.bytes_stream()))
}

fn response(status: StatusCode, headers: &HeaderMap, body: Body) -> Response {
    let named = named_by_connection(headers);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers.iter().filter(|(name, _)| passes(name, &named)) {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// The answer, and whether it is dekeys that says the token is over; a vendor's own 401 is not that.
async fn token_refused(answer: reqwest::Response) -> (Response, bool) {
    let headers = answer.headers().clone();
    let kind = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    let short = answer
        .content_length()
        .is_some_and(|length| length <= MAX_PROBLEM as u64);
    if !kind || !short {
        return (passed_on(answer), false);
    }
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    let refused = Refused::read(status.as_u16(), &headers, &body);
    let over = refused.is_some_and(|refused| refused.code == "invalid_token");
    (response(status, &headers, Body::from(body)), over)
}

/// Ties the two connections together, after both sides agreed to speak something else.
fn switch(answer: reqwest::Response, upgrade: hyper::upgrade::OnUpgrade) -> Response {
    let mut response = response(answer.status(), answer.headers(), Body::empty());
    response
        .headers_mut()
        .insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
    if let Some(protocol) = answer.headers().get(UPGRADE) {
        response.headers_mut().insert(UPGRADE, protocol.clone());
    }
    tokio::spawn(async move {
        let (Ok(near), Ok(mut far)) = (upgrade.await, answer.upgrade().await) else {
            return;
        };
        // Either side may hang up when it likes.
        let _over = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
    });
    response
}

fn problem(status: StatusCode, code: &str, detail: &str, fix: &str) -> Response {
    let body = json!({
        "title": "`dekeys run` does not send this on", "status": status.as_u16(), "code": code, "detail": detail, "fix": fix,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
