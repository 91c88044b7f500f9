//! A mock vendor made from a manifest: a real HTTP server on loopback that keeps the truth about its keys. It
//! makes, lists, probes and ends keys as the manifest says, checks the root credential, ends keys at their expiry by
//! the real clock, answers 401 to dead ones, and can be told to fail.
//!
//! Beside the vendor's own paths it serves `/__mock/keys` (the truth), `/__mock/calls` (what was asked) and
//! `/__mock/faults` (what shall go wrong next). Not a vendor: its keys are worth nothing and shown to everybody on
//! this machine.

mod faults;
mod reply;
mod request;
mod roots;
mod signed;
mod truth;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use crate::base::id::base32_lower;
use crate::base::random::{OsRandom, Random, bytes};
use crate::base::time::Ttl;
use crate::model::scope::Name;
use crate::vendor::Manifest;

pub use faults::Fault;
use faults::Faults;
use request::{Asked, Reading, Wanted, Which};
pub use roots::MockRoot;
use truth::Truth;
pub use truth::{Call, MockKey};

/// How a mock vendor is set up.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Where to listen; loopback only, port 0 picks a free one.
    pub listen: SocketAddr,
    /// The root credential it accepts, by field. Fields that are not given are made up.
    pub root_fields: Vec<(String, String)>,
    /// Parameters of the account.
    pub params: Vec<(String, String)>,
    /// Every change of a key is appended here, one JSON object a line.
    pub truth_file: Option<PathBuf>,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            root_fields: Vec::new(),
            params: Vec::new(),
            truth_file: None,
        }
    }
}

/// Why a mock vendor does not start.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// The manifest does not say enough to play the vendor.
    #[error("`{field}` is missing in the manifest, and a mock vendor cannot do without it")]
    Missing {
        /// The field, as in `list.name`.
        field: &'static str,
    },
    /// Another address than loopback.
    #[error("a mock vendor listens on loopback only, not on `{0}`")]
    NotLoopback(SocketAddr),
    /// The root credential or the parameters do not fit the manifest.
    #[error(transparent)]
    Root(#[from] crate::vendor::VendorError),
    /// The address or the truth file cannot be opened.
    #[error("cannot open {what}: {source}")]
    Open {
        /// Which.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// A running mock vendor; stops when dropped.
pub struct MockVendor {
    url: Url,
    root_fields: Vec<(String, String)>,
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    reading: Reading,
    truth: Truth,
    faults: Faults,
}

impl MockVendor {
    /// Starts the server; it answers when this returns. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`MockError`]; [`MockError::Missing`] names the field that the manifest lacks.
    pub async fn start(manifest: &Manifest, options: MockOptions) -> Result<Self, MockError> {
        if !options.listen.ip().is_loopback() {
            return Err(MockError::NotLoopback(options.listen));
        }
        let open = |what| move |source| MockError::Open { what, source };
        let listener = TcpListener::bind(options.listen).await.map_err(open("the address"))?;
        let address = listener.local_addr().map_err(open("the address"))?;
        let url = Url::parse(&format!("http://{address}")).map_err(|_| MockError::NotLoopback(address))?;
        let root_fields = root_fields(manifest, options.root_fields);
        let params = options.params.clone();
        let state = Arc::new(State {
            reading: Reading::new(manifest, &url, &root_fields, &options.params)?,
            truth: Truth::open(manifest, params, options.truth_file.as_deref()).map_err(open("the truth file"))?,
            faults: Faults::default(),
        });
        if manifest.create.is_none() {
            state.truth.stored(stored_key(&root_fields));
        }
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self {
            url,
            root_fields,
            state,
            server,
        })
    }

    /// Scheme, host and port: the `base_url` of a root credential for it.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The root credential it accepts.
    pub fn root_fields(&self) -> &[(String, String)] {
        &self.root_fields
    }

    /// Keys that work now.
    pub fn live_keys(&self) -> Vec<MockKey> {
        self.state.truth.keys().into_iter().filter(MockKey::is_live).collect()
    }

    /// All keys ever made.
    pub fn keys(&self) -> Vec<MockKey> {
        self.state.truth.keys()
    }

    /// All calls so far, without those to `/__mock`.
    pub fn calls(&self) -> Vec<Call> {
        self.state.truth.calls()
    }

    /// A key that somebody else has made, under any name: another dekeys, a copy of this one, a person.
    pub fn plant(&self, name: &str) -> MockKey {
        self.state.truth.make(&Wanted::named(name))
    }

    /// Ends a key as a person does at the vendor; whether there was one.
    pub fn end(&self, id: &str) -> bool {
        self.state.truth.revoke(&Which::Id(id.to_owned()))
    }

    /// Adds something that goes wrong next.
    pub fn fault(&self, fault: Fault) {
        self.state.faults.add(fault);
    }

    /// All root credentials it ever accepted, oldest first.
    pub fn roots(&self) -> Vec<MockRoot> {
        self.state.reading.roots.all()
    }

    /// Accepts another root credential: what somebody makes at the vendor by hand.
    ///
    /// # Errors
    /// As [`MockVendor::start`].
    pub fn accept_root(&self, fields: &[(String, String)]) -> Result<(), MockError> {
        self.state.reading.accept_root("by hand", fields)
    }

    /// Ends a root credential, as somebody does at the vendor by hand; whether it was there.
    pub fn end_root(&self, id: &str) -> bool {
        self.state.reading.roots.end(id, Ttl::default())
    }

    /// How many faults wait for their calls.
    pub fn waiting_faults(&self) -> usize {
        self.state.faults.waiting().len()
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Serves until the task is dropped or the process ends.
    pub async fn wait(mut self) {
        let _ended = (&mut self.server).await;
    }
}

impl Drop for MockVendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The manifest to play: `text` if it is given, else the one that comes with dekeys.
///
/// # Errors
/// What is wrong with it, in words.
pub fn manifest(vendor: &Name, text: Option<&str>) -> Result<Manifest, String> {
    let shipped = crate::vendor::shipped();
    let found = shipped.iter().find(|(name, _)| name == vendor).map(|(_, text)| *text);
    let text = text
        .or(found)
        .ok_or_else(|| format!("there is no manifest for vendor `{vendor}`"))?;
    Manifest::parse(text, vendor.as_str()).map_err(|errors| errors.to_string())
}

/// Runs a mock vendor for ever: for the command line. `ready` is called once it answers.
///
/// # Errors
/// As [`MockVendor::start`].
pub async fn run(manifest: &Manifest, options: MockOptions, ready: impl FnOnce(&MockVendor)) -> Result<(), MockError> {
    let mock = MockVendor::start(manifest, options).await?;
    ready(&mock);
    mock.wait().await;
    Ok(())
}

fn root_fields(manifest: &Manifest, mut given: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, field) in &manifest.root.fields {
        if !given.iter().any(|(known, _)| known == name) {
            let made = manifest.example_key(name);
            let made = made.unwrap_or_else(|| format!("{}{}", field.prefix, fresh(&OsRandom)));
            given.push((name.clone(), made));
        }
    }
    given
}

/// The key of a vendor that makes none, in the form in which dekeys keeps it.
fn stored_key(root_fields: &[(String, String)]) -> String {
    match root_fields {
        [(_, only)] => only.clone(),
        several => {
            let fields = several
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())));
            Value::Object(fields.collect()).to_string()
        }
    }
}

/// 160 random bits as text.
fn fresh(random: &dyn Random) -> String {
    base32_lower(&bytes::<20>(random))
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { answer(&state, request).await }
    });
    // An error here is a client that went away, or a reply that a fault drops.
    let _ended = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The reply is not given: the connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the reply is dropped")]
struct Dropped;

type Reply = Response<Full<Bytes>>;

async fn answer(state: &State, request: http::Request<Incoming>) -> Result<Reply, Dropped> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, 1 << 20)
        .collect()
        .await
        .map_err(|_| Dropped)?
        .to_bytes();
    let path = parts.uri.path().to_owned();
    if let Some(admin) = path.strip_prefix("/__mock/") {
        return Ok(admin_reply(state, &parts.method, admin, &body).unwrap_or_else(|never| match never {}));
    }
    let asked = state.reading.read(&parts, &body);
    let operation = asked.operation();
    let fault = state.faults.take(operation);
    if let Some(delay_ms) = fault.as_ref().and_then(|fault| fault.delay_ms) {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let fault = fault.unwrap_or_default();
    let reply = match fault.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        Some(status) if !fault.works => reply::json(status, &reply::error("a fault was asked for")),
        other => failing(state.reply(&asked, &fault), other),
    };
    let reply = if fault.garble {
        reply::garbled(reply.status())
    } else {
        reply
    };
    state
        .truth
        .called(operation, &parts.method, &path, reply.status().as_u16());
    if fault.drop_reply { Err(Dropped) } else { Ok(reply) }
}

/// The reply with another status, for faults that come after the work.
fn failing(mut reply: Reply, status: Option<StatusCode>) -> Reply {
    if let Some(status) = status {
        *reply.status_mut() = status;
    }
    reply
}

impl State {
    fn reply(&self, asked: &Asked, fault: &Fault) -> Reply {
        let refused = |status: StatusCode, words: &str| reply::json(status, &reply::error(words));
        if let Asked::Probe(which) | Asked::Route { which, .. } = asked {
            self.reading.meet(&self.truth, which);
        }
        match asked {
            Asked::Nothing => refused(StatusCode::NOT_FOUND, "no such path"),
            Asked::Unauthorized { .. } => refused(StatusCode::UNAUTHORIZED, "the credential is not valid"),
            Asked::Unreadable => refused(StatusCode::BAD_REQUEST, "the request cannot be read"),
            Asked::Login => reply::logged_in(&self.reading, self.reading.token.clone()),
            Asked::Create(_) if !self.truth.has_room() => refused(StatusCode::CONFLICT, "no more keys may be alive"),
            Asked::Create(wanted) => {
                let key = self.truth.create(wanted);
                if fault.twice {
                    self.truth.make(wanted);
                }
                reply::created(&self.reading, &key)
            }
            Asked::Promise(id) => match self.truth.find(&Which::Id(id.clone())) {
                Some(key) => reply::promised(&self.reading, &key),
                None => refused(StatusCode::NOT_FOUND, "no such operation"),
            },
            Asked::Step { status } => reply::step(*status),
            Asked::Renew(which, overlap) => match self.truth.renew(which, *overlap) {
                Some(key) => reply::renewed(&self.reading, &key),
                None => refused(StatusCode::NOT_FOUND, "no such key"),
            },
            Asked::RootId(id) => reply::root_id(&self.reading, id),
            Asked::AnotherRoot { asking, name, overlap } => {
                match roots::another_root(&self.reading, asking, name, *overlap) {
                    Some(fields) => reply::another_root(&self.reading, &fields),
                    None => refused(StatusCode::CONFLICT, "no other root credential can be made"),
                }
            }
            Asked::EndRoot(id) if self.reading.roots.end(id, Ttl::default()) => reply::root_ended(&self.reading),
            Asked::EndRoot(_) => refused(StatusCode::NOT_FOUND, "no such root credential"),
            Asked::List(query) => {
                let shown = if fault.blind { Vec::new() } else { self.truth.live() };
                reply::listed(&self.reading, &shown, query)
            }
            Asked::Revoke(which) if self.truth.revoke(which) => reply::revoked(&self.reading),
            Asked::Revoke(_) => refused(StatusCode::NOT_FOUND, "no such key"),
            Asked::Probe(which) => match self.truth.find(which) {
                Some(key) => reply::probed(&self.reading, &key),
                None => refused(StatusCode::UNAUTHORIZED, "the key is not valid"),
            },
            Asked::Route { index, which, stream } => match self.truth.find(which) {
                Some(key) => reply::routed(&self.reading, *index, &key, *stream),
                None => refused(StatusCode::UNAUTHORIZED, "the key is not valid"),
            },
        }
    }
}

fn admin_reply(state: &State, method: &Method, path: &str, body: &Bytes) -> Result<Reply, Infallible> {
    let listed = |value: Value| Ok(reply::json(StatusCode::OK, &value));
    match (method, path) {
        (&Method::GET, "keys") => listed(json!({ "data": state.truth.keys() })),
        (&Method::GET, "calls") => listed(json!({ "data": state.truth.calls() })),
        (&Method::GET, "faults") => listed(json!({ "data": state.faults.waiting() })),
        (&Method::DELETE, "faults") => {
            state.faults.clear();
            listed(json!({}))
        }
        (&Method::POST, "faults") => match serde_json::from_slice(body) {
            Ok(fault) => {
                state.faults.add(fault);
                Ok(reply::json(StatusCode::CREATED, &json!({})))
            }
            Err(error) => Ok(reply::json(StatusCode::BAD_REQUEST, &reply::error(&error.to_string()))),
        },
        _ => Ok(reply::json(StatusCode::NOT_FOUND, &reply::error("no such path"))),
    }
}
