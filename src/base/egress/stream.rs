//! Calls whose bodies flow: sent while they arrive, handed on while they arrive. The rules are those of every call
//! (address vetted, no redirects, no proxy); what is bounded is the time to the head of the answer, not the length.

use std::time::Duration;

use http::{HeaderMap, Method};
use hyper::body::{Body, Bytes};
use tracing::Instrument as _;
use url::Url;

use super::{Egress, EgressError, check, span, told};

/// The longest that one flowing call may take, whatever its caller says.
const LONGEST: Duration = Duration::from_hours(24);

/// Any error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A call with a body that flows. Address and headers may hold a key: there is no `Debug`.
pub struct Flowing<B> {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// All headers but `host` and those of the connection.
    pub headers: HeaderMap,
    /// The body; `None` when there is none.
    pub body: Option<B>,
    /// Time to the head of the answer.
    pub head_timeout: Duration,
    /// The call asks to become another protocol (`upgrade`), which HTTP/1.1 alone can.
    pub upgrade: bool,
}

/// An answer whose body has still to come. Its length is not bounded, and its time is not: whoever reads it does that.
pub struct Arriving {
    /// The status; redirects are answers like others.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    response: reqwest::Response,
}

impl Arriving {
    /// The body with its trailers.
    pub fn into_body(self) -> impl Body<Data = Bytes, Error = BodyError> + Send + Sync + Unpin + 'static {
        let body = http::Response::<reqwest::Body>::from(self.response).into_body();
        http_body_util::BodyExt::map_err(body, |_| BodyError::from("the answer ends early"))
    }

    /// The connection, after an answer with status 101.
    ///
    /// # Errors
    /// [`EgressError::Broken`].
    pub async fn upgrade(
        self,
    ) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static, EgressError> {
        self.response.upgrade().await.map_err(|_| EgressError::Broken {
            why: "the connection did not change its protocol",
            sent: true,
        })
    }
}

impl Egress {
    /// Sends a call and answers as soon as the head of its answer is there. Never follows a redirect, never repeats.
    ///
    /// # Errors
    /// As [`Egress::send`].
    pub async fn flow<B>(&self, flowing: Flowing<B>) -> Result<Arriving, EgressError>
    where
        B: Body<Data = Bytes, Error = BodyError> + Send + Sync + 'static,
    {
        check(&self.reach, &flowing.url)?;
        let span = span(&flowing.method, &flowing.url);
        let outcome = self.begin(flowing).instrument(span.clone()).await;
        told(
            &span,
            outcome.as_ref().map(|arriving| arriving.status).map_err(|error| *error),
        );
        outcome
    }

    async fn begin<B>(&self, flowing: Flowing<B>) -> Result<Arriving, EgressError>
    where
        B: Body<Data = Bytes, Error = BodyError> + Send + Sync + 'static,
    {
        let client = if flowing.upgrade { &self.plain } else { &self.client };
        let mut request = client
            .request(flowing.method, flowing.url)
            .headers(flowing.headers)
            .timeout(LONGEST);
        if let Some(body) = flowing.body {
            request = request.body(reqwest::Body::wrap(body));
        }
        let sent = tokio::time::timeout(flowing.head_timeout, request.send()).await;
        let mut response = sent
            .map_err(|_| EgressError::Timeout { sent: true })?
            .map_err(|error| EgressError::of(&error))?;
        Ok(Arriving {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            response,
        })
    }
}
