//! The HTTP surface: reads requests within limits, finds the operation in the table, hands it to a verb, writes the
//! answer. It holds no rule of its own about who may do what.

pub mod answer;
mod frames;
pub mod grants;
mod guard;
pub mod input;
pub mod keys;
pub mod log;
pub mod payments;
pub mod people;
pub mod policies;
pub mod resolve;
mod rotations;
pub mod stream;
pub mod system;
pub mod tokens;
pub mod vendors;
pub mod webhooks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::base::fail::{self, Stage};
use crate::base::id::RequestId;
use crate::base::trace;
use crate::operations::{Group, Method, Operation, Who, operations};
use crate::problem::{self, Problem};
use crate::service::App;
use crate::service::caller::{self, Charging, Context};
use crate::service::error::Error;
use crate::service::unseal::sealed_words;
use answer::{Answer, Refused};
use input::Input;

/// How long requests under way may take once the server ends.
const LAST_REQUESTS: Duration = Duration::from_secs(20);

/// Methods that metrics name; the others are [`OTHER_METHOD`], as OpenTelemetry wants it.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const OTHER_METHOD: &str = "_OTHER";

/// Limits of one listener (security.md §5 of the design).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of a request's head.
    pub header: usize,
    /// Time for the head.
    pub header_timeout: Duration,
    /// Time for the body.
    pub body_timeout: Duration,
    /// Time in which a client may take nothing of what is sent to it.
    pub send_timeout: Duration,
    /// Time for the work, from the read request to the answer.
    pub request_timeout: Duration,
    /// Connections at once.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 256 * 1024,
            header: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_mins(5),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(1),
            connections: 4096,
        }
    }
}

/// What a listener needs.
#[derive(Clone)]
pub struct Surface {
    app: App,
    limits: Arc<Limits>,
    /// The authorities this server answers to: a signature made for another name is not for us.
    names: Arc<Vec<String>>,
    /// It is the admin address: what is said there is said to operators.
    admin: bool,
}

impl Surface {
    /// A surface over the verbs. `names` are the authorities (`host:port`) it is reached by.
    #[must_use]
    pub fn new(app: App, limits: Limits, names: Vec<String>) -> Self {
        Self {
            app,
            limits: Arc::new(limits),
            names: Arc::new(names),
            admin: false,
        }
    }

    /// The public routes, or those of the admin address (which has the public ones too).
    pub fn router(&self, admin: bool) -> Router {
        let surface = Self { admin, ..self.clone() };
        let mut router: Router<App> = Router::new();
        for operation in operations().filter(|operation| admin || !operation.admin) {
            router = router.route(operation.path, surface.method(operation));
        }
        router
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.app.clone())
            .layer(CatchPanicLayer::custom(answer::panicked))
    }

    fn method(&self, operation: &'static Operation) -> MethodRouter<App> {
        let surface = self.clone();
        let handler =
            async move |path: RawPathParams, request: Request| serve(&surface, operation, &path, request).await;
        match operation.method {
            Method::Get => get(handler),
            Method::Post => post(handler),
            Method::Put => put(handler),
            Method::Delete => delete(handler),
        }
    }
}

/// No such path. The path is not repeated: it may hold a secret.
async fn nothing(State(app): State<App>, request: Request) -> Response {
    let problem = Problem::new(problem::NOT_FOUND, "there is nothing at this path");
    unserved(&app, &request, problem)
}

/// The path exists, not with this method.
async fn wrong_method(State(app): State<App>, request: Request) -> Response {
    let words = format!("this path does not take {}", request.method());
    unserved(&app, &request, Problem::new(problem::METHOD_NOT_ALLOWED, words))
}

fn unserved(app: &App, request: &Request, problem: Problem) -> Response {
    let since = Instant::now();
    let id = RequestId::new(app.now(), app.random.as_ref());
    let response = answer::write(app, id, Err(problem.into()));
    let method = METHODS.into_iter().find(|known| *known == request.method().as_str());
    app.metrics().answered(
        method.unwrap_or(OTHER_METHOD),
        None,
        response.status().as_u16(),
        since.elapsed(),
    );
    response
}

/// One request, from its bytes to its answer.
async fn serve(surface: &Surface, operation: &'static Operation, path: &RawPathParams, request: Request) -> Response {
    let app = &surface.app;
    let since = Instant::now();
    let id = RequestId::new(app.now(), app.random.as_ref());
    // All that is logged while the request is worked on names it.
    let trace = trace::request(operation.method.as_str(), operation.path, id, request.headers());
    let span = trace.in_scope(|| {
        tracing::info_span!(
            "request",
            otel.kind = "internal",
            otel.name = operation.id,
            request = %id,
            operation = operation.id,
            caller = Empty
        )
    });
    let work = async {
        let input = input::read(surface, operation, path, request).await?;
        in_time(surface, operation, input, id).await
    };
    let outcome = work.instrument(span.clone()).await;
    fail::at(Stage::Replying, || operation.id.to_owned());
    let code = outcome.as_ref().err().map(|refused| refused.problem().code.code);
    let response = answer::write(app, id, outcome);
    app.metrics().answered(
        operation.method.as_str(),
        Some(operation.path),
        response.status().as_u16(),
        since.elapsed(),
    );
    span.in_scope(|| tell(operation, response.status().as_u16(), code, since.elapsed()));
    trace::answered(&trace, response.status().as_u16(), code);
    response
}

/// A line for each request. What only looks, and the hot path, whose releases are on record anyway, are told at `debug`
/// when all is well.
fn tell(operation: &Operation, status: u16, code: Option<&'static str>, took: Duration) {
    let duration_ms = took.as_secs_f64() * 1000.0;
    if status < 400 && (operation.method == Method::Get || operation.id == "resolve") {
        tracing::debug!(status, duration_ms, "answered");
    } else {
        tracing::info!(status, code, duration_ms, "answered");
    }
}

/// Performs within the time one request may take. What changes something is not broken off when that is over: it goes
/// on, and the answer says so.
async fn in_time(
    surface: &Surface,
    operation: &'static Operation,
    input: Input,
    id: RequestId,
) -> Result<Answer, Refused> {
    let limit = surface.limits.request_timeout;
    let charging = if operation.who == Who::Buyer {
        Charging::watched()
    } else {
        Charging::default()
    };
    let mut work = Box::pin(perform(surface.app.clone(), operation, input, id, charging.clone()));
    if let Ok(outcome) = tokio::time::timeout(limit, &mut work).await {
        return outcome;
    }
    if operation.method == Method::Get {
        return Err(Refused::late_read(limit));
    }
    let rest = async move {
        let code = work.await.err().map(|refused| refused.problem().code.code);
        tracing::warn!(code, "a request was answered before its work ended");
    };
    tokio::spawn(rest.in_current_span());
    Err(charging
        .grant()
        .map_or_else(|| Refused::late(limit), |grant| Error::PaymentUnknown(grant).into()))
}

async fn perform(
    app: App,
    operation: &'static Operation,
    input: Input,
    id: RequestId,
    charging: Charging,
) -> Result<Answer, Refused> {
    let (app, input) = (&app, &input);
    if app.is_sealed() && !operation.while_sealed {
        let words = format!(
            "Stored keys cannot be used until a key holder unseals it. {}.",
            sealed_words(app, input.on_admin())
        );
        return Err(Problem::new(problem::VAULT_SEALED, words).into());
    }
    let mut context = if operation.while_sealed {
        Context::anonymous(id)
    } else {
        caller::identify(app, &input.parts(), input.bearer(), id).await?
    };
    context.charging = charging;
    if let Some(principal) = context.caller.principal() {
        Span::current().record("caller", tracing::field::display(principal.id));
    }
    dispatch(app, operation, context, input).await
}

async fn dispatch(app: &App, operation: &Operation, context: Context, input: &Input) -> Result<Answer, Refused> {
    let context = &context;
    match operation.group {
        Group::System => system::answer(app, operation.id, context, input).await,
        Group::Grants => grants::answer(app, operation.id, context, input).await,
        Group::Policies => policies::answer(app, operation.id, context, input).await,
        Group::Vendors => vendors::answer(app, operation.id, context, input).await,
        Group::Rotations => rotations::answer(app, operation.id, context, input).await,
        Group::Principals => people::answer(app, operation.id, context, input).await,
        Group::Keys => keys::answer(app, operation.id, context, input).await,
        Group::Log => log::answer(app, operation.id, context, input).await,
        Group::Tokens => tokens::answer(app, operation.id, context, input).await,
        Group::Webhooks => webhooks::answer(app, operation.id, context, input).await,
        Group::Payments => payments::answer(app, operation.id, context, input).await,
    }
}

/// Serves a listener until `stop` is done, then lets requests under way end.
pub async fn listen<L: Listener>(mut listener: L, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    let builder = Arc::new(builder(&limits));
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, _peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        // No place: the connection is closed at once, rather than left waiting.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection_with_upgrades(TokioIo::new(guard::Guarded::new(stream, limits.send_timeout)), service)
            .into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(place);
        });
    }
    let _rest = tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await;
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(u32::try_from(limits.header).unwrap_or(u32::MAX));
    builder
}
