//! The injecting proxy: `ANY /p/{vendor}/{path}`. A caller takes dekeys for the vendor and its token for the key;
//! dekeys puts the vendor's key in, sends the request, and hands back the answer. Bodies flow both ways.
//!
//! What it keeps: nothing leaves before it is on record; only what the manifest allows is sent, on the bytes that were
//! matched; the key goes to the vendor's host alone, and is masked should it come back; an open answer ends with its
//! grant. Not protected: what a vendor does with a request, and a key that it sends back in pieces or in a code that
//! `scrub` does not know.

mod answer;
mod download;
mod headers;
mod needle;
mod scrub;
mod socket;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use http::header::{self, HeaderValue};
use http::request::Parts as Head;
use http::{HeaderMap, StatusCode};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use sha2::{Digest as _, Sha256};
use tracing::{Instrument as _, Span};

use crate::base::egress::{Arriving, EgressError, Flowing};
use crate::base::id::RequestId;
use crate::base::trace;
use crate::model::scope::Name;
use crate::service::App;
use crate::service::caller::{Context, Parts, identify_streamed};
use crate::service::error::Error;
use crate::service::forward::{Passed, Wanted, forward};
use download::{Download, Packing, Report, Watch, scrub_fields};
use needle::Needles;
use upload::Upload;

/// What bounds a forwarded request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time from the request to the head of the vendor's answer.
    pub head: Duration,
    /// The longest pause in a body, either way.
    pub idle: Duration,
}

/// The proxy over the verbs.
#[derive(Clone)]
pub struct Proxy {
    app: App,
    limits: Limits,
    /// The authorities this server answers to: a signature made for another name is not for us.
    names: Arc<Vec<String>>,
}

impl Proxy {
    /// `names` are the authorities (`host:port`) the server is reached by.
    #[must_use]
    pub fn new(app: App, limits: Limits, names: Vec<String>) -> Self {
        Self {
            app,
            limits,
            names: Arc::new(names),
        }
    }

    /// The one route.
    pub fn router(self) -> Router {
        Router::new().route("/p/{*rest}", any(serve)).with_state(self)
    }
}

async fn serve(State(proxy): State<Proxy>, request: Request) -> Response {
    let id = RequestId::new(proxy.app.now(), proxy.app.random.as_ref());
    let trace = trace::request(request.method().as_str(), "/p/{vendor}/{path}", id, request.headers());
    let span = trace.in_scope(|| {
        tracing::info_span!("request", otel.kind = "internal", otel.name = "forward", request = %id, operation = "forward")
    });
    let outcome = pass(&proxy, id, request, &trace).instrument(span.clone()).await;
    let code = outcome.as_ref().err().map(|error| answer::code(error));
    let response = match outcome {
        Ok(response) => response,
        Err(error) => span.in_scope(|| answer::refusal(&proxy.app, id, &error)),
    };
    trace::answered(&trace, response.status().as_u16(), code);
    response
}

/// One request, from its head to the head of its answer.
async fn pass(proxy: &Proxy, id: RequestId, mut request: Request, trace: &Span) -> Result<Response, Error> {
    let upgrade = headers::is_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (vendor, path) = target(&head)?;
    if proxy.app.is_sealed() {
        return Err(Error::Sealed);
    }
    let has_body = !body.is_end_stream();
    let (context, digest) = identify(proxy, id, &head, has_body).await?;
    let wanted = Wanted {
        vendor: &vendor,
        method: head.method.as_str(),
        path,
        query: head.uri.query(),
        headers: &head.headers,
        websocket: upgrade.is_some(),
    };
    let passed = forward(&proxy.app, &context, &wanted).await?;
    let mut sent = headers::onward(&head.headers);
    for (name, value) in &passed.headers {
        sent.insert(name.clone(), value.clone());
    }
    trace::go_on(trace, &mut sent);
    if upgrade.is_some() {
        // Packed frames could not be read here.
        sent.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        sent.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        sent.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let flowing = Flowing {
        method: head.method,
        url: passed.url.clone(),
        headers: sent,
        body: has_body.then(|| Upload::new(body, digest, proxy.limits.idle)),
        head_timeout: proxy.limits.head,
        upgrade: upgrade.is_some(),
    };
    let arriving = tokio::select! {
        arriving = proxy.app.egress.flow(flowing) => arriving.map_err(|error| failed(&vendor, &error))?,
        () = passed.stream.ended() => return Err(Error::Unauthenticated),
    };
    returned(proxy, id, &vendor, passed, arriving, upgrade)
}

/// The vendor, and the path at the vendor: all that follows, byte for byte.
fn target(head: &Head) -> Result<(Name, &str), Error> {
    let rest = head.uri.path().strip_prefix("/p/").unwrap_or_default();
    let (vendor, path) = rest
        .find('/')
        .and_then(|at| rest.split_at_checked(at))
        .unwrap_or((rest, ""));
    let vendor = vendor.parse().map_err(|_| Error::NotFound("vendor"))?;
    Ok((vendor, path))
}

/// Who signed, and the digest of the body that the signature promises.
async fn identify(
    proxy: &Proxy,
    id: RequestId,
    head: &Head,
    has_body: bool,
) -> Result<(Context, Option<[u8; 32]>), Error> {
    let authority = headers::authority(&head.headers, &head.uri);
    let signed = head.headers.contains_key("signature-input");
    let ours = proxy.names.iter().any(|name| name.eq_ignore_ascii_case(&authority));
    if (signed && !ours) || head.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(Error::Unauthenticated);
    }
    let https = proxy.app.public_url.strip_prefix("https://");
    let public = https.map(|rest| rest.split('/').next().unwrap_or(rest));
    let scheme = if public.is_some_and(|public| public.eq_ignore_ascii_case(&authority)) {
        "https"
    } else {
        "http"
    };
    let parts = Parts {
        method: head.method.as_str(),
        scheme,
        authority: &authority,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body: if has_body { b"to come" } else { b"" },
    };
    let (context, digest) = identify_streamed(&proxy.app, &parts, id).await?;
    // A body that was taken away never comes, so it is missed here.
    if !has_body && digest.is_some_and(|digest| Sha256::digest(b"").as_slice() != digest.as_slice()) {
        return Err(Error::SignatureInvalid);
    }
    Ok((context, digest))
}

fn failed(vendor: &Name, error: &EgressError) -> Error {
    Error::Vendor {
        vendor: vendor.to_string(),
        words: error.to_string(),
        retryable: !matches!(error, EgressError::Refused { .. }),
        retry_after: None,
    }
}

fn unreadable(vendor: &Name, words: &str) -> Error {
    Error::Vendor {
        vendor: vendor.to_string(),
        words: words.to_owned(),
        retryable: false,
        retry_after: None,
    }
}

/// The vendor's answer as the caller gets it.
fn returned(
    proxy: &Proxy,
    id: RequestId,
    vendor: &Name,
    passed: Passed,
    arriving: Arriving,
    upgrade: Option<OnUpgrade>,
) -> Result<Response, Error> {
    let needles = Arc::new(Needles::new(&passed.secrets, Arc::clone(&passed.redact)));
    let mut returned = headers::back(&arriving.headers, &passed.strip_response, &passed.base, vendor.as_str());
    if scrub_fields(&needles, &mut returned) > 0 {
        tokio::spawn(passed.report(&proxy.app, REFLECTED, "headers"));
    }
    answer::mark(&mut returned, id);
    let status = StatusCode::from_u16(arriving.status).map_err(Error::internal)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = upgrade.ok_or_else(|| unreadable(vendor, "it changed the protocol unasked"))?;
        return Ok(switched(proxy, returned, passed, arriving, upgrade, needles));
    }
    let Some(packing) = Packing::of(&arriving.headers) else {
        tokio::spawn(passed.report(&proxy.app, "request.answer_refused", "content-encoding"));
        return Err(unreadable(
            vendor,
            "its answer is packed in a way that cannot be read here",
        ));
    };
    returned.remove(header::CONTENT_ENCODING);
    let ended = Box::pin(passed.stream.ended());
    let report = reporter(&proxy.app, passed);
    let watch = Watch {
        needles,
        ended,
        idle: proxy.limits.idle,
        report,
    };
    let mut response = Response::new(Body::new(Download::new(arriving.into_body(), &packing, watch)));
    *response.status_mut() = status;
    *response.headers_mut() = returned;
    Ok(response)
}

const REFLECTED: &str = "security.key_reflected";

/// Holds the open stream for as long as the answer lives, and tells the log when a key came back.
fn reporter(app: &App, passed: Passed) -> Report {
    let app = app.clone();
    Box::new(move |place| {
        tokio::spawn(passed.report(&app, REFLECTED, place));
    })
}

fn switched(
    proxy: &Proxy,
    mut returned: HeaderMap,
    passed: Passed,
    arriving: Arriving,
    upgrade: OnUpgrade,
    needles: Arc<Needles>,
) -> Response {
    let ended = passed.stream.ended();
    let report = reporter(&proxy.app, passed);
    tokio::spawn(socket::join(upgrade, arriving, needles, ended, report));
    returned.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    returned.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    returned.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = returned;
    response
}
