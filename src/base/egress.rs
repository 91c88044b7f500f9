//! The one outgoing HTTP client: vendors, facilitators, chains and webhooks are all reached through it.
//!
//! What it keeps: `https` only; every address a name resolves to must be public, and the vetted address is the one
//! dialled, so a second answer of the name server changes nothing; a literal address in the URL is vetted too,
//! because HTTP clients do not ask the resolver for it; redirects are never followed, so a key is sent to no other
//! host; proxies of the environment are ignored; bodies are capped and every call ends (DESIGN 26).
//!
//! Not protected: a copy of the request in the TLS library's buffers. Which host may get which key is the
//! caller's check; [`Origin`] compares exactly.

mod address;
mod failure;
mod line;
mod stream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::tls::Version;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use url::{Host, Url};
use zeroize::Zeroize;

use super::trace::TARGET;
pub use address::{InvalidNetwork, Network, is_public};
pub use failure::EgressError;
pub use line::{Line, Upgrade};
pub use stream::{Arriving, BodyError, Flowing};

/// Time to reach the peer, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The size of a body's answer that is enough for every key-management call.
pub const DEFAULT_MAX_BODY: usize = 1 << 20;
/// Time for a whole call, unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How far the client may reach. Fixed by the instance's mode, never by a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Test instances: `http` or `https` to a literal `127.0.0.0/8` or `[::1]` address; names are refused.
    Loopback,
    /// Live instances: `https` to public addresses.
    Global {
        /// Private networks that the server's configuration opens. Metadata addresses stay closed.
        private_allowed: Vec<Network>,
    },
}

/// The client. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Egress {
    reach: Arc<Reach>,
    client: reqwest::Client,
    /// HTTP/1.1 only, for what changes its protocol.
    plain: reqwest::Client,
}

/// A request to send. URL, headers and body may hold a key: there is no `Debug`, and the body is wiped when dropped.
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body; empty is none.
    pub body: Vec<u8>,
    /// Time for the whole call.
    pub timeout: Duration,
    /// The longest body that is read, in bytes.
    pub max_body: usize,
}

/// An answer. The body may hold a key: there is no `Debug`, and it is wiped when dropped.
pub struct Incoming {
    /// The status code; redirects are answers like others.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Outgoing {
    /// A request without headers and body, with the default bounds.
    #[must_use]
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            max_body: DEFAULT_MAX_BODY,
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl Egress {
    /// A client that reaches as far as `reach` says.
    ///
    /// # Errors
    /// [`EgressError::Broken`] when TLS cannot be set up, as on a machine without trusted certificates.
    pub fn new(reach: Reach) -> Result<Self, EgressError> {
        let reach = Arc::new(reach);
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|_| EgressError::Broken {
                why: "the client cannot be set up",
                sent: false,
            })
        };
        let client = built(Self::builder(&reach))?;
        let plain = built(Self::builder(&reach).http1_only())?;
        Ok(Self { reach, client, plain })
    }

    fn builder(reach: &Arc<Reach>) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .dns_resolver(Resolver(Arc::clone(reach)))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .https_only(matches!(**reach, Reach::Global { .. }))
            .tls_version_min(Version::TLS_1_2)
            .connect_timeout(CONNECT)
            .timeout(DEFAULT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("dekeys/", env!("CARGO_PKG_VERSION")))
    }

    /// Whether a URL may be called at all: scheme, no user name or password, no port 0, and a literal address vetted.
    /// Names are vetted when they are resolved.
    ///
    /// # Errors
    /// [`EgressError::Refused`].
    pub fn check(&self, url: &Url) -> Result<(), EgressError> {
        check(&self.reach, url)
    }

    /// Sends one request and reads the whole answer. Never follows a redirect, never repeats.
    ///
    /// # Errors
    /// [`EgressError`]; [`EgressError::sent`] tells whether the request may have reached the peer.
    pub async fn send(&self, mut outgoing: Outgoing) -> Result<Incoming, EgressError> {
        self.check(&outgoing.url)?;
        let span = span(&outgoing.method, &outgoing.url);
        let outcome = self.sent(&mut outgoing).instrument(span.clone()).await;
        told(
            &span,
            outcome.as_ref().map(|incoming| incoming.status).map_err(|error| *error),
        );
        outcome
    }

    async fn sent(&self, outgoing: &mut Outgoing) -> Result<Incoming, EgressError> {
        let body = std::mem::take(&mut outgoing.body);
        let mut request = self
            .client
            .request(outgoing.method.clone(), outgoing.url.clone())
            .headers(std::mem::take(&mut outgoing.headers))
            .timeout(outgoing.timeout);
        if !body.is_empty() {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| EgressError::of(&error))?;
        read(response, outgoing.max_body).await
    }
}

/// The span of one call. Of the address only host and port are told: paths and queries may hold a key.
fn span(method: &Method, url: &Url) -> Span {
    tracing::info_span!(
        target: TARGET,
        "http",
        otel.kind = "client",
        otel.name = method.as_str(),
        http.request.method = method.as_str(),
        server.address = url.host_str().unwrap_or_default(),
        server.port = url.port_or_known_default().unwrap_or_default(),
        http.response.status_code = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// How the call ended.
fn told(span: &Span, outcome: Result<u16, EgressError>) {
    match outcome {
        Ok(status) => {
            span.record("http.response.status_code", i64::from(status));
            if status >= 400 {
                span.record("otel.status_code", "ERROR");
            }
        }
        Err(error) => {
            span.record("error.type", error.word());
            span.record("otel.status_code", "ERROR");
        }
    }
}

async fn read(mut response: reqwest::Response, max_body: usize) -> Result<Incoming, EgressError> {
    let declared = response.content_length().unwrap_or(0);
    if usize::try_from(declared).map_or(true, |length| length > max_body) {
        return Err(EgressError::TooLarge { limit: max_body });
    }
    let mut incoming = Incoming {
        status: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await.map_err(|error| EgressError::after(&error))? {
        if incoming.body.len().saturating_add(chunk.len()) > max_body {
            return Err(EgressError::TooLarge { limit: max_body });
        }
        incoming.body.extend_from_slice(&chunk);
    }
    Ok(incoming)
}

fn check(reach: &Reach, url: &Url) -> Result<(), EgressError> {
    let refused = |why| Err(EgressError::Refused { why });
    if !url.username().is_empty() || url.password().is_some() {
        return refused("the URL carries a user name or password");
    }
    if url.port() == Some(0) {
        return refused("port 0");
    }
    match (reach, url.scheme()) {
        (_, "https") | (Reach::Loopback, "http") => {}
        (Reach::Loopback, _) => return refused("the scheme is neither http nor https"),
        (Reach::Global { .. }, _) => return refused("the scheme is not https"),
    }
    match url.host() {
        Some(Host::Ipv4(address)) => vet(reach, address.into()),
        Some(Host::Ipv6(address)) => vet(reach, address.into()),
        Some(Host::Domain(name)) if *reach == Reach::Loopback || name.is_empty() => {
            refused("a test instance reaches literal loopback addresses only")
        }
        Some(Host::Domain(_)) => Ok(()),
        None => refused("the URL has no host"),
    }
}

fn vet(reach: &Reach, address: IpAddr) -> Result<(), EgressError> {
    let good = match reach {
        Reach::Loopback => is_literal_loopback(address),
        Reach::Global { private_allowed } => {
            is_public(address)
                || (!address::is_metadata(address) && private_allowed.iter().any(|network| network.contains(address)))
        }
    };
    if good {
        Ok(())
    } else {
        Err(EgressError::Refused {
            why: "the address is not one this instance may reach",
        })
    }
}

/// `127.0.0.0/8` or `::1` as written; an IPv4 address dressed as IPv6 is not.
fn is_literal_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}

/// Vets everything a name resolved to: one bad address refuses all of them, so that an attacker who mixes a public
/// and a private answer gets nothing.
///
/// # Errors
/// [`EgressError::Refused`] for a bad address, [`EgressError::Connect`] when there is none.
pub fn vet_answers(reach: &Reach, answers: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, EgressError> {
    if answers.is_empty() {
        return Err(EgressError::Connect);
    }
    answers.iter().try_for_each(|answer| vet(reach, answer.ip()))?;
    Ok(answers)
}

/// Resolves with the operating system and hands on vetted addresses only; those are dialled.
struct Resolver(Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            if *reach == Reach::Loopback {
                return Err(EgressError::Refused {
                    why: "a test instance reaches literal loopback addresses only",
                }
                .into());
            }
            let answers = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let vetted = vet_answers(&reach, answers)?;
            Ok(Box::new(vetted.into_iter()) as Addrs)
        })
    }
}

/// Scheme, host and port of a URL, compared exactly; the default port is written out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(String);

impl Origin {
    /// The origin of `url`; `None` when it has no host or an unknown port.
    #[must_use]
    pub fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default()?;
        let host = url.host_str()?;
        Some(Self(format!("{}://{host}:{port}", url.scheme())))
    }

    /// The origin as text: `https://openrouter.ai:443`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global() -> Reach {
        Reach::Global {
            private_allowed: vec!["10.1.0.0/16".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
        }
    }

    #[test]
    fn a_test_instance_reaches_literal_loopback_only() {
        let allowed = |text: &str| check(&Reach::Loopback, &text.parse().unwrap()).is_ok();
        for good in ["http://127.0.0.1:9000/", "https://127.8.9.1/", "http://[::1]:1/"] {
            assert!(allowed(good), "{good}");
        }
        for bad in [
            "http://localhost/",
            "http://[::ffff:127.0.0.1]/",
            "https://1.1.1.1/",
            "ftp://127.0.0.1/",
            "http://u:p@127.0.0.1/",
            "http://127.0.0.1:0/",
            "http://10.0.0.1/",
        ] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn configuration_opens_private_networks_but_never_metadata() {
        assert!(vet(&global(), "10.1.2.3".parse().unwrap()).is_ok());
        for closed in ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"] {
            assert!(vet(&global(), closed.parse().unwrap()).is_err(), "{closed}");
        }
        let none = Reach::Global {
            private_allowed: Vec::new(),
        };
        assert!(vet(&none, "10.1.2.3".parse().unwrap()).is_err());
    }

    #[test]
    fn origins_write_out_the_port_and_differ_by_one_dot() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(
            origin("https://API.vendor.test/a"),
            origin("https://api.vendor.test:443/b")
        );
        assert_ne!(origin("https://api.vendor.test./"), origin("https://api.vendor.test/"));
        assert_eq!(origin("http://127.0.0.1:80/").as_str(), "http://127.0.0.1:80");
    }
}
