//! One server process and what is needed to ask it: grants, tokens, keys, sessions; and requests written out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use dekeys::base::id::{GrantId, PrincipalId, base64url};
use dekeys::base::random::{OsRandom, bytes};
use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock as _, SystemClock, Ttl};
use dekeys::client::{Address, Client, KeyFile, Request, prepare, secret, token};
use dekeys::httpsig::{Parts, SignedHeaders, sign, sign_session};
use dekeys::setup::stage::{self, PRIM};
use dekeys::token::Narrowing;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::server::WriterLoad;
use crate::{Outcome, process};

/// What is asked for.
const REFERENCE: &str = "dk://demo/echo:read";
/// How many grants requests are spread over.
const GRANTS: usize = 64;

/// A running server and its callers.
pub(crate) struct World {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    runtime: Runtime,
    address: Address,
    floor: String,
    prim: KeyFile,
    prim_id: PrincipalId,
    agent: KeyFile,
    grants: Vec<(GrantId, SecretText)>,
}

/// Who signs the requests of one connection.
enum Signer<'k> {
    Key(&'k KeyFile),
    Session {
        id: String,
        key: dekeys::base::secret::SecretBytes,
        counter: u64,
    },
}

impl World {
    /// Starts a server over `database` (`sqlite` or a URL) in a process of its own.
    pub(crate) fn start(database: &str, dir: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(database)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let first = line(&mut output)?;
        let text = |name: &str| {
            first
                .get(name)
                .and_then(Value::as_str)
                .ok_or("the server did not start")
        };
        let url = text("url")?.to_owned();
        let floor = text("floor")?.to_owned();
        let key = |name: &str| -> Outcome<KeyFile> {
            Ok(KeyFile::parse(&secret::read_file(&dir.join(format!("{name}.key")))?)?)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (prim, agent) = (key(PRIM)?, key("agent")?);
        let client = stage::client(&url, Some(&prim))?;
        let me = runtime.block_on(client.send(&Request::get(&["v1", "whoami"])))?.json();
        let prim_id = me
            .get("id")
            .and_then(Value::as_str)
            .ok_or("the prim has no id")?
            .parse()?;
        let mut world = Self {
            child,
            input,
            output,
            runtime,
            address: url.parse()?,
            floor,
            prim,
            prim_id,
            agent,
            grants: Vec::new(),
        };
        let buyer = stage::client(&url, Some(&world.agent))?;
        for _ in 0..GRANTS {
            let grant = world.buy(&buyer)?;
            world.grants.push(grant);
        }
        Ok(world)
    }

    fn buy(&self, buyer: &Client) -> Outcome<(GrantId, SecretText)> {
        let body = json!({ "reference": REFERENCE, "reason": "to measure", "public_key": self.agent.public() });
        let answer = self
            .runtime
            .block_on(buyer.send(&Request::post(&["v1", "grants"]).json(&body)))?
            .json();
        let id = answer.get("id").and_then(Value::as_str).ok_or("no grant")?.parse()?;
        Ok((id, secret::at(&answer, "/token").ok_or("no token")?))
    }

    /// `host:port` of the server.
    pub(crate) fn authority(&self) -> String {
        self.address.authority()
    }

    /// `host:port` of the floor.
    pub(crate) fn floor(&self) -> &str {
        &self.floor
    }

    /// The processor time the server used so far, in microseconds.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        process::cpu_micros(self.child.id())
    }

    /// The memory the server holds, in MB.
    pub(crate) fn memory(&self) -> Outcome<f64> {
        process::memory_mb(self.child.id())
    }

    /// Lets the writer work without HTTP; answers asks a second, and microseconds of processor time for each.
    pub(crate) fn write(&mut self, clients: u32, each: u32, nonce: bool) -> Outcome<(f64, f64)> {
        let load = WriterLoad {
            clients,
            each,
            grants: self.grants.iter().map(|(id, _)| *id).collect(),
            prim: self.prim_id,
            nonce,
        };
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{}", serde_json::to_string(&load)?)?;
        let answer = line(&mut self.output)?;
        let number = |name: &str| answer.get(name).and_then(Value::as_f64).ok_or("the writer failed");
        Ok((number("rate")?, number("cpu")?))
    }

    /// Requests to resolve with tokens as the prim gets them: pinned to it, for five minutes. New ones with each call.
    pub(crate) fn asks(&self, count: usize) -> Outcome<Vec<Request>> {
        let narrowing = Narrowing {
            prims: vec![PRIM.parse()?],
            until: Some(SystemClock::default().now().plus(Ttl::from_mins(5))),
            ..Narrowing::default()
        };
        let from = self.grants.iter().cycle().take(count);
        let body = json!({ "items": [{ "reference": REFERENCE }] });
        let ask = |token| Request::post(&["v1", "resolve"]).json(&body).bearer(token);
        from.map(|(_, token)| Ok(ask(token::attenuate(token, &narrowing)?)))
            .collect()
    }

    /// The floor's request: the same token and body, unsigned.
    pub(crate) fn floor_request(&self) -> Outcome<Rc<[u8]>> {
        let request = self.asks(1)?.pop().ok_or("no request")?;
        let headers = self.unsigned(&request)?;
        Ok(raw("POST /floor", &self.floor, &headers, request.body()).into())
    }

    /// Requests to resolve, signed with the prim's key: `each` for each connection, in turn from `asks`.
    pub(crate) fn resolves_by_key(&self, asks: &[Request], connections: u32, each: u32) -> Outcome<Vec<Vec<Vec<u8>>>> {
        (0..connections)
            .map(|at| self.list(&mut Signer::Key(&self.prim), asks, at, each))
            .collect()
    }

    /// The same, each connection in a session of its own.
    pub(crate) fn resolves_by_session(
        &self,
        asks: &[Request],
        connections: u32,
        each: u32,
    ) -> Outcome<Vec<Vec<Vec<u8>>>> {
        let prim = stage::client(&self.address.to_string(), Some(&self.prim))?;
        (0..connections)
            .map(|at| self.list(&mut self.session(&prim)?, asks, at, each))
            .collect()
    }

    /// Requests of the prim that need no writer: who am I.
    pub(crate) fn whoamis(&self, session: bool, connections: u32, each: u32) -> Outcome<Vec<Vec<Vec<u8>>>> {
        let prim = stage::client(&self.address.to_string(), Some(&self.prim))?;
        let request = Request::get(&["v1", "whoami"]);
        let list = |_| {
            let mut signer = if session {
                self.session(&prim)?
            } else {
                Signer::Key(&self.prim)
            };
            (0..each)
                .map(|_| self.signed(&mut signer, "GET /v1/whoami", &request))
                .collect()
        };
        (0..connections).map(list).collect()
    }

    /// Requests of the agent for fresh tokens, in sessions.
    pub(crate) fn mints(&self, connections: u32, each: u32) -> Outcome<Vec<Vec<Vec<u8>>>> {
        let agent = stage::client(&self.address.to_string(), Some(&self.agent))?;
        let list = |grant: &GrantId| {
            let mut signer = self.session(&agent)?;
            let line = format!("POST /v1/grants/{grant}/tokens");
            let request = Request::at(http::Method::POST, format!("/v1/grants/{grant}/tokens"));
            (0..each).map(|_| self.signed(&mut signer, &line, &request)).collect()
        };
        let grants = self.grants.iter().cycle().map(|(grant, _)| grant);
        grants.take(usize::try_from(connections)?).map(list).collect()
    }

    fn list(&self, signer: &mut Signer<'_>, asks: &[Request], at: u32, each: u32) -> Outcome<Vec<Vec<u8>>> {
        let from = usize::try_from(u64::from(at) * u64::from(each))?;
        let mine = asks
            .iter()
            .cycle()
            .skip(from % asks.len().max(1))
            .take(usize::try_from(each)?);
        mine.map(|ask| self.signed(signer, "POST /v1/resolve", ask)).collect()
    }

    fn session(&self, client: &Client) -> Outcome<Signer<'static>> {
        let request = Request::post(&["v1", "sessions"]).json(&json!({ "use": "sign" }));
        let answer = self.runtime.block_on(client.send(&request))?.json();
        let text = |name: &str| answer.get(name).and_then(Value::as_str).ok_or("no session");
        let key = data_encoding::BASE64URL_NOPAD.decode(text("secret")?.as_bytes())?;
        Ok(Signer::Session {
            id: text("session_id")?.to_owned(),
            key: dekeys::base::secret::SecretBytes::new(key),
            counter: 0,
        })
    }

    fn unsigned(&self, request: &Request) -> Outcome<HeaderMap> {
        Ok(prepare(request, &self.address, None, None, SystemClock::default().now(), "")?.headers)
    }

    fn signed(&self, signer: &mut Signer<'_>, line: &str, request: &Request) -> Outcome<Vec<u8>> {
        let mut headers = self.unsigned(request)?;
        let authority = self.authority();
        let parts = Parts {
            method: request.method.as_str(),
            scheme: "http",
            authority: &authority,
            path: request.path(),
            query: None,
            headers: &headers,
            body: request.body(),
        };
        let now = SystemClock::default().now();
        let fields: SignedHeaders = match signer {
            Signer::Key(key) => sign(key, &parts, now, &base64url(&bytes::<18>(&OsRandom)))?,
            Signer::Session { id, key, counter } => {
                *counter += 1;
                sign_session(id, key, *counter, &parts, now)?
            }
        };
        fields.put(&mut headers);
        Ok(raw(line, &authority, &headers, request.body()))
    }
}

impl Drop for World {
    /// The server ends when its input does.
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> Outcome<Value> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The bytes of a request.
fn raw(line: &str, authority: &str, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "{line} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}
