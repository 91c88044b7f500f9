//! Sending requests. The one connection that leaves a command: no redirects, no proxy, bounded time and size.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use zeroize::Zeroizing;

use super::address::Address;
use super::refused::Refused;
use super::request::{Prepared, Request, prepare, prepare_in_session};
use super::session::Session;
use crate::base::id::base64url;
use crate::base::random::{self, OsRandom, Random};
use crate::base::secret::SecretText;
use crate::base::time::{Clock, SystemClock, Timestamp};
use crate::httpsig::{KeyFile, SigError};

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// For answers that go on: in place of the time one request may take.
const WHOLE_LIFE: Duration = Duration::from_hours(24 * 365);

/// A client of one address.
pub struct Client {
    address: Address,
    http: reqwest::Client,
    timeout: Duration,
    signer: Option<KeyFile>,
    login: Option<SecretText>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// An answer. Without `Debug`: it may hold a token or a key.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// A request without the answer it wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// dekeys said no.
    #[error("{}", .0.title)]
    Refused(Box<Refused>),
    /// Nobody is there. The request was not received.
    #[error("nothing answers at {0}")]
    Unreachable(Address),
    /// The connection broke or took too long. The request may have been received.
    #[error("{0} did not answer in time, or broke off")]
    Lost(Address),
    /// Something else than dekeys is there.
    #[error("{address} answered {status}, but not as dekeys does")]
    Foreign {
        /// Where.
        address: Address,
        /// With what.
        status: u16,
    },
    /// The request cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Unsigned(#[from] SigError),
    /// The HTTP library cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Setup,
}

impl Client {
    /// A client that proves itself with `signer`'s signature and `login`'s token, as far as they are given.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn new(
        address: Address,
        signer: Option<KeyFile>,
        login: Option<SecretText>,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(Duration::from_secs(10).min(timeout))
            .timeout(timeout)
            .user_agent(concat!("dekeys/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = address.socket() {
            builder = builder.unix_socket(path);
        }
        Ok(Self {
            http: builder.build().map_err(|_| ClientError::Setup)?,
            timeout,
            address,
            signer,
            login,
            clock,
            random,
        })
    }

    /// A client of the instance at `url` that signs with `key`; requests take 30 s at most.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn signing(address: Address, key: KeyFile) -> Result<Self, ClientError> {
        let clock = Arc::new(SystemClock::default());
        Self::new(
            address,
            Some(key),
            None,
            Duration::from_secs(30),
            clock,
            Arc::new(OsRandom),
        )
    }

    /// Where it sends to.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it can prove who it is.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.signer.is_some() || self.login.is_some()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for every problem, also one that is answered with 202; and the ways of no answer.
    pub async fn send(&self, request: &Request) -> Result<Reply, ClientError> {
        let reply = self.send_any(request).await?;
        self.check(reply)
    }

    /// Tells a good answer from a problem.
    ///
    /// # Errors
    /// [`ClientError::Refused`], [`ClientError::Foreign`].
    pub fn check(&self, reply: Reply) -> Result<Reply, ClientError> {
        if let Some(refused) = Refused::read(reply.status, &reply.headers, &reply.body) {
            return Err(ClientError::Refused(Box::new(refused)));
        }
        if (200..300).contains(&reply.status) {
            return Ok(reply);
        }
        Err(self.foreign(reply.status))
    }

    /// The request as it would be sent now: addressed, proved, with a nonce of its own.
    ///
    /// # Errors
    /// [`ClientError::Unsigned`].
    pub fn prepared(&self, request: &Request) -> Result<Prepared, ClientError> {
        let nonce = base64url(&random::bytes::<18>(self.random.as_ref()));
        let (signer, login) = (self.signer.as_ref(), self.login.as_ref());
        Ok(prepare(
            request,
            &self.address,
            signer,
            login,
            self.clock.now(),
            &nonce,
        )?)
    }

    /// Whether requests are signed.
    #[must_use]
    pub const fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// Sends a request; every answer is one.
    ///
    /// # Errors
    /// The ways of no answer.
    pub async fn send_any(&self, request: &Request) -> Result<Reply, ClientError> {
        self.deliver(request, self.prepared(request)?).await
    }

    /// Sends a request inside a session; every answer is one. A 401 may mean that the session is over: sessions live in
    /// one process of the server.
    ///
    /// # Errors
    /// The ways of no answer.
    pub async fn send_in(&self, session: &Session, request: &Request) -> Result<Reply, ClientError> {
        let prepared = prepare_in_session(request, &self.address, session, self.clock.now())?;
        self.deliver(request, prepared).await
    }

    /// The time here.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Opens an answer that goes on: its head is read, and it may take as long as it likes.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(super) async fn open(&self, request: &Request) -> Result<reqwest::Response, ClientError> {
        let prepared = self.prepared(request)?;
        let sent = self.addressed(request, prepared).timeout(WHOLE_LIFE).send();
        let answer = match tokio::time::timeout(self.timeout, sent).await {
            Ok(answer) => answer.map_err(|error| self.lost(&error))?,
            Err(_) => return Err(ClientError::Lost(self.address.clone())),
        };
        if answer.status().as_u16() == 200 {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let reply = self.read(answer).await?;
        self.check(reply)?;
        Err(self.foreign(status))
    }

    async fn deliver(&self, request: &Request, prepared: Prepared) -> Result<Reply, ClientError> {
        let sent = self.addressed(request, prepared).send().await;
        self.read(sent.map_err(|error| self.lost(&error))?).await
    }

    fn addressed(&self, request: &Request, prepared: Prepared) -> reqwest::RequestBuilder {
        self.http
            .request(request.method.clone(), prepared.url)
            .headers(prepared.headers)
            .body(request.body().to_vec())
    }

    async fn read(&self, mut answer: reqwest::Response) -> Result<Reply, ClientError> {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.foreign(status));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body })
    }

    fn lost(&self, error: &reqwest::Error) -> ClientError {
        if error.is_connect() {
            ClientError::Unreachable(self.address.clone())
        } else {
            ClientError::Lost(self.address.clone())
        }
    }

    pub(super) fn foreign(&self, status: u16) -> ClientError {
        ClientError::Foreign {
            address: self.address.clone(),
            status,
        }
    }
}

impl Reply {
    /// The body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
