//! A stage for commands: a world whose streams can be looked at, and a server that says what it is told to.

use std::io::{self, Cursor, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use dekeys::base::random::{OsRandom, SeededRandom};
use dekeys::base::time::{ManualClock, SystemClock, Timestamp};
use dekeys::cli::{Terminal, World, run_in};
use dekeys::client::KeyFile;
use dekeys::httpsig::{self, Parts, Proof};
use dekeys::model::principal::PublicKey;
use http::HeaderMap;
use serde_json::Value;

/// The time on every stage: 2025-11-20T20:31:07Z.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_763_670_667);

/// An id of a kind, the same for the same seed.
pub(super) fn id(prefix: &str, last: char) -> String {
    format!("{prefix}_01KAG4C1B2T5Q3V7X9Z0A1B2C{last}")
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Ran {
    pub exit: u8,
    pub out: String,
    pub err: String,
}

/// Where commands run.
pub(super) struct Stage {
    pub terminal: Terminal,
    pub stdin: Vec<u8>,
    pub env: Vec<(String, String)>,
    pub dir: tempfile::TempDir,
    /// The machine's clock and randomness instead of ones that stand still and repeat.
    pub live: bool,
    seed: std::cell::Cell<u64>,
}

impl Stage {
    /// No terminal, no input, an empty home.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        Self {
            terminal: Terminal::default(),
            stdin: Vec::new(),
            env: vec![("HOME".to_owned(), home.display().to_string())],
            dir,
            live: false,
            seed: std::cell::Cell::new(1),
        }
    }

    /// The same with every stream a terminal, and a person who types `input`.
    pub(super) fn at_terminal(input: &str) -> Self {
        Self {
            terminal: Terminal {
                stdin: true,
                stdout: true,
                stderr: false,
                width: Some(120),
                ..Terminal::default()
            },
            stdin: input.as_bytes().to_vec(),
            ..Self::new()
        }
    }

    /// The same with something on standard input.
    pub(super) fn piped(input: impl Into<Vec<u8>>) -> Self {
        Self {
            stdin: input.into(),
            ..Self::new()
        }
    }

    /// Talks to this server.
    pub(super) fn at(mut self, server: &Server) -> Self {
        self.set("DEKEYS_ADDR", &server.url());
        self.set("DEKEYS_ADMIN_ADDR", &server.url());
        self
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// A file's path on this stage.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file on this stage.
    pub(super) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// A key file on this stage.
    pub(super) fn key(&self, name: &str, seed: u64) -> (String, PublicKey) {
        use std::os::unix::fs::PermissionsExt as _;
        let key = KeyFile::generate(&SeededRandom::new(seed));
        let path = self.file(name, key.to_text().expose());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (path, key.public())
    }

    /// Runs a command line, split at spaces; `'…'` holds one argument together.
    pub(super) fn run(&self, line: &str) -> Ran {
        let args: Vec<String> = split(line);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.args(&args)
    }

    /// Runs `dekeys` with these arguments.
    pub(super) fn args(&self, args: &[&str]) -> Ran {
        let (out, err) = (Sink::default(), Sink::default());
        let exit = self.onto(args, Box::new(out.clone()), Box::new(err.clone()));
        Ran {
            exit,
            out: out.text(),
            err: err.text(),
        }
    }

    /// Runs it with streams of the caller's.
    pub(super) fn onto(&self, args: &[&str], out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> u8 {
        let env = self.env.clone();
        let seed = self.seed.get();
        self.seed.set(seed + 1);
        let mut world = World {
            stdin: Box::new(Cursor::new(self.stdin.clone())),
            stdout: out,
            stderr: err,
            terminal: self.terminal,
            env: Box::new(move |name| {
                env.iter()
                    .rev()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.clone())
            }),
            clock: if self.live {
                Arc::new(SystemClock::default())
            } else {
                Arc::new(ManualClock::at(NOW))
            },
            random: if self.live {
                Arc::new(OsRandom)
            } else {
                Arc::new(SeededRandom::new(seed))
            },
            pace: Duration::from_millis(1),
        };
        let args = std::iter::once("dekeys").chain(args.iter().copied()).map(Into::into);
        run_in(args, &mut world)
    }
}

/// Splits at spaces; `'…'` and `"…"` hold together.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (Some(open), _) if open == letter => quote = None,
            (None, ' ') => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// A stream that keeps what is written.
#[derive(Clone, Default)]
pub(super) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One request as the server got it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
    /// The key whose signature verified.
    pub signer: Option<PublicKey>,
    pub nonce: Option<String>,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What the server says.
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    pub(super) fn ok(body: &Value) -> Self {
        Self::json(200, body)
    }

    pub(super) fn problem(status: u16, code: &str, title: &str, detail: &str, fix: &str) -> Self {
        let body = serde_json::json!({
            "type": format!("https://dekeys.sh/problems/{code}"), "title": title, "status": status, "code": code,
            "detail": detail, "fix": fix, "retryable": false, "request_id": "req_1",
        });
        Self {
            headers: vec![("content-type", "application/problem+json".to_owned())],
            ..Self::json(status, &body)
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

type Script = dyn Fn(&Seen, usize) -> Answer + Send + Sync;

/// A server on loopback that lives as long as this value.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// `script` gets each request, and how many came before it.
    pub(super) fn start(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (kept, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (seen, script) = (Arc::clone(&kept), Arc::clone(&script));
            async move { answer(request, address, &seen, script.as_ref()).await }
        });
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            seen,
            _runtime: runtime,
        }
    }

    /// One that answers everything the same.
    pub(super) fn always(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        Self::start(move |_, _| answer())
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of the requests so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

async fn answer(request: Request, address: SocketAddr, seen: &Mutex<Vec<Seen>>, script: &Script) -> Response {
    let (head, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let authority = address.to_string();
    let proof = verify(&Parts {
        method: head.method.as_str(),
        scheme: "http",
        authority: &authority,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body: &body,
    });
    let (signer, nonce) = proof.unzip();
    let this = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
        signer,
        nonce,
    };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(this.clone());
        seen.len() - 1
    };
    let answer = script(&this, before);
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

/// A signature that is there must be good.
fn verify(parts: &Parts<'_>) -> Option<(PublicKey, String)> {
    let claimed = httpsig::read(parts).unwrap()?;
    match httpsig::verify(&claimed, parts, NOW).unwrap() {
        Proof::Key { key, nonce, .. } => Some((key, nonce)),
        Proof::Session { .. } => panic!("the command line signs with keys"),
    }
}
