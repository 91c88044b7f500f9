//! How spans leave: one more HTTP client, since the collector is where the operator's environment says, mostly beside
//! dekeys, where `base::egress` lets nobody go. It follows no redirect, uses no proxy, and keeps nothing of the answer.
//!
//! The exporter's thread has no runtime, so each batch is sent in a task of the server's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Bytes;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use super::TelemetryError;

/// The longest answer of a collector that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends batches of spans.
#[derive(Debug)]
pub(super) struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    failing: Arc<AtomicBool>,
}

impl Sender {
    /// On this runtime.
    pub(super) fn new() -> Result<Self, TelemetryError> {
        let runtime = Handle::try_current().map_err(|error| TelemetryError::Traces(error.to_string()))?;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("dekeys/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| TelemetryError::Traces("the client cannot be set up".to_owned()))?;
        Ok(Self {
            client,
            runtime,
            failing: Arc::default(),
        })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outcome = match reqwest::Request::try_from(request) {
            Ok(request) => self.runtime.spawn(sent(self.client.clone(), request)).await,
            Err(error) => Ok(Err(error.without_url().into())),
        };
        let outcome = outcome.unwrap_or_else(|error| Err(error.into()));
        let good = outcome.as_ref().is_ok_and(|answer| answer.status().is_success());
        // Said when it begins and when it ends, not for each batch.
        match (good, self.failing.swap(!good, Ordering::Relaxed)) {
            (false, false) => tracing::warn!("traces cannot be exported; spans are lost until they can"),
            (true, true) => tracing::info!("traces are exported again"),
            _ => {}
        }
        outcome
    }
}

async fn sent(client: reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
