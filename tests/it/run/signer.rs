//! The loopback signer against a server that plays dekeys: what reaches it, what comes back, and whom it lets in.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use dekeys::base::id::{GrantId, InstanceId, PrincipalId};
use dekeys::base::random::OsRandom;
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::KeyFile;
use dekeys::httpsig::{self, Parts, Proof};
use dekeys::model::claims::UseKind;
use dekeys::model::instance::Mode;
use dekeys::model::scope::{Name, Scope};
use dekeys::token::{Ask, MintAsk, RootKeys, Verifier, mint};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::scene::dekeys;

/// One request as dekeys got it, its signature checked.
#[derive(Debug, Clone)]
struct Got {
    line: String,
    headers: HeaderMap,
    body: Bytes,
    token: String,
}

/// A server that plays dekeys, the token that it minted, and a program that waits for its end.
struct Play {
    got: Arc<Mutex<Vec<Got>>>,
    /// What the program under `run` has in its environment.
    base: String,
    stand_in: String,
    program: tokio::process::Child,
    roots: RootKeys,
    instance: InstanceId,
    _dir: tempfile::TempDir,
}

struct Minter {
    roots: RootKeys,
    instance: InstanceId,
    key: KeyFile,
}

impl Minter {
    fn token(&self, life: Ttl) -> String {
        let now = SystemClock::wall();
        let rights = [("demo".parse().unwrap(), "echo:read".parse().unwrap())];
        let ask = MintAsk {
            instance: self.instance,
            mode: Mode::Test,
            grant: GrantId::new(now, &OsRandom),
            principal: PrincipalId::new(now, &OsRandom),
            holder: Some(self.key.public()),
            rights: &rights,
            audience: &[],
            now,
            expires: now.plus(life),
        };
        dekeys::client::secret::shown(&mint(&self.roots, &ask).unwrap())
    }
}

type Script = dyn Fn(&Got, usize) -> Response + Send + Sync;

impl Play {
    /// `script` answers what is sent on; `run` gets `flags`.
    async fn begin(flags: &[&str], script: impl Fn(&Got, usize) -> Response + Send + Sync + 'static) -> Self {
        let key = KeyFile::generate(&OsRandom);
        let roots = || {
            RootKeys::new(
                1,
                vec![RootKeys::generate(1, &dekeys::base::random::SeededRandom::new(7))],
            )
            .unwrap()
        };
        let instance = InstanceId::new(SystemClock::wall(), &OsRandom);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name).display().to_string()
        };
        let (key_file, minter) = (
            file("key", &dekeys::client::secret::shown(&key.to_text())),
            Minter {
                roots: roots(),
                instance,
                key,
            },
        );
        let token_file = file("token", &minter.token(Ttl::from_mins(30)));
        let got = Arc::new(Mutex::new(Vec::new()));
        let url = serve(minter, Arc::clone(&got), Arc::new(script)).await;
        let program = "echo $DEMO_BASE_URL; echo $DEMO_API_KEY; read line";
        let args = [
            &[
                "run",
                "--addr",
                &url,
                "--key-file",
                &key_file,
                "--token-file",
                &token_file,
                "--no-masking",
            ][..],
            flags,
            &["--", "sh", "-c", program],
        ]
        .concat();
        let mut program = dekeys(&args).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(program.stdout.take().unwrap()));
        let base = lines.next_line().await.unwrap().unwrap();
        let stand_in = lines.next_line().await.unwrap().unwrap();
        Self {
            got,
            base,
            stand_in,
            program,
            roots: roots(),
            instance,
            _dir: dir,
        }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn last(&self) -> Got {
        self.got().pop().unwrap()
    }

    fn authority(&self) -> &str {
        self.base.strip_prefix("http://").unwrap().split('/').next().unwrap()
    }

    /// Sends bytes as they are, and gives what comes back until the connection ends.
    async fn raw(&self, text: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.authority()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// `GET` with these header lines; the status.
    async fn status(&self, target: &str, headers: &str) -> u16 {
        let host = self.authority();
        let answer = self
            .raw(&format!(
                "GET {target} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n"
            ))
            .await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn bearer(&self) -> String {
        format!("authorization: Bearer {}\r\n", self.stand_in)
    }

    /// Lets the program end, and waits for the end of `run`.
    async fn end(mut self) {
        drop(self.program.stdin.take());
        self.program.wait().await.unwrap();
    }
}

async fn serve(minter: Minter, got: Arc<Mutex<Vec<Got>>>, script: Arc<Script>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let url = format!("http://{authority}");
    let minter = Arc::new(minter);
    let app = axum::Router::new().fallback(move |request: Request| {
        let (minter, got, script, authority) = (
            Arc::clone(&minter),
            Arc::clone(&got),
            Arc::clone(&script),
            authority.clone(),
        );
        async move { play(request, &minter, &authority, &got, script.as_ref()).await }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn play(request: Request, minter: &Minter, authority: &str, got: &Mutex<Vec<Got>>, script: &Script) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let parts = Parts {
        method: head.method.as_str(),
        scheme: "http",
        authority,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body: &body,
    };
    let claimed = httpsig::read(&parts).unwrap().expect("every request is signed");
    let proof = httpsig::verify(&claimed, &parts, SystemClock::default().now()).unwrap();
    assert!(matches!(proof, Proof::Key { key, .. } if key == minter.key.public()));
    let path = head.uri.path().to_owned();
    if path == "/v1/whoami" {
        return problem(401, "signature_required");
    }
    if path.ends_with("/tokens") {
        let answer = json!({ "token": minter.token(Ttl::from_mins(60)), "token_type": "Bearer" });
        return json_response(201, &answer);
    }
    if path.ends_with("/revoke") {
        return json_response(200, &json!({ "id": "x", "credentials": 1, "confirmed": true }));
    }
    let token = head.headers["authorization"]
        .to_str()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned();
    let this = Got {
        line: format!("{} {}", head.method, head.uri),
        headers: head.headers,
        body,
        token,
    };
    let before = {
        let mut got = got.lock().unwrap();
        got.push(this.clone());
        got.len() - 1
    };
    script(&this, before)
}

fn json_response(status: u16, value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn problem(status: u16, code: &str) -> Response {
    let mut response = json_response(status, &json!({ "code": code, "title": "no", "status": status }));
    response
        .headers_mut()
        .insert("content-type", "application/problem+json".parse().unwrap());
    response
}

fn ok() -> Response {
    json_response(200, &json!({ "hello": "agent" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_signed_and_narrowed_and_its_answer_comes_back() {
    let flags = ["--ttl", "2m", "--path", "/v1/", "--path", "/echo", "--method", "POST"];
    let play = Play::begin(&flags, |_, _| {
        let mut response = ok();
        response.headers_mut().insert("x-vendor", "yes".parse().unwrap());
        response
            .headers_mut()
            .insert("connection", "x-private".parse().unwrap());
        response
            .headers_mut()
            .insert("x-private", "between us".parse().unwrap());
        response
    })
    .await;
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("{}/echo?a=b%20c", play.base))
        .bearer_auth(&play.stand_in)
        .header("x-trace", "1")
        .header("te", "trailers")
        .body("{\"x\":1}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-vendor"], "yes");
    assert!(!answer.headers().contains_key("x-private"));
    assert_eq!(answer.text().await.unwrap(), "{\"hello\":\"agent\"}");
    let got = play.last();
    assert_eq!(
        (got.line.as_str(), &got.body[..]),
        ("POST /p/demo/echo?a=b%20c", &b"{\"x\":1}"[..])
    );
    assert_eq!(got.headers["x-trace"], "1");
    assert!(!got.headers.contains_key("te"));
    assert!(
        !format!("{:?}", got.headers).contains(&play.stand_in),
        "the stand-in stays here"
    );
    let verifier = Verifier::new(play.instance, Mode::Test, play.roots.public()).patient(Duration::from_mins(1));
    let token = verifier.parse(&got.token).unwrap();
    let (vendor, scope): (Name, Scope) = ("demo".parse().unwrap(), "echo:read".parse().unwrap());
    let allows = |method: &str, path: &str, after: Ttl, use_kind: UseKind| {
        let ask = Ask {
            now: SystemClock::wall().plus(after),
            use_kind,
            prim: None,
            vendor: Some(&vendor),
            scope: Some(&scope),
            method: Some(method),
            path: Some(path),
        };
        verifier.authorize(&token, &ask).is_ok()
    };
    let now = Ttl::default();
    assert!(allows("POST", "/echo", now, UseKind::Forward) && allows("POST", "/v1/x", now, UseKind::Forward));
    assert!(!allows("GET", "/echo", now, UseKind::Forward), "another method");
    assert!(!allows("POST", "/keys", now, UseKind::Forward), "another path");
    assert!(!allows("POST", "/echo", now, UseKind::Resolve), "another use");
    assert!(!allows("POST", "/echo", Ttl::from_mins(2), UseKind::Forward), "later");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_brings_the_stand_in_is_let_in() {
    let play = Play::begin(&[], |_, _| ok()).await;
    let stand_in = play.stand_in.clone();
    let in_query = format!("/p/demo/echo?key={stand_in}&a=1");
    let basic = data_encoding::BASE64.encode(format!("AC1:{stand_in}").as_bytes());
    for (target, headers) in [
        ("/p/demo/echo", play.bearer()),
        ("/p/demo/echo", format!("x-api-key: {stand_in}\r\n")),
        ("/p/demo/echo", format!("authorization: Basic {basic}\r\n")),
        (in_query.as_str(), String::new()),
    ] {
        assert_eq!(play.status(target, &headers).await, 200, "{headers}");
        let got = play.last();
        assert!(!format!("{got:?}").contains(&stand_in), "{got:?}");
    }
    assert_eq!(play.last().line, "GET /p/demo/echo?a=1");
    let before = play.got().len();
    let short = stand_in.get(1..).unwrap();
    for headers in [
        String::new(),
        format!("authorization: Bearer {short}\r\n"),
        "authorization: Basic !!!\r\n".to_owned(),
        "x-api-key: \r\n".to_owned(),
    ] {
        assert_eq!(play.status("/p/demo/echo", &headers).await, 401, "{headers}");
    }
    let rebound = format!(
        "GET /p/demo/echo HTTP/1.1\r\nhost: evil.example\r\n{}connection: close\r\n\r\n",
        play.bearer()
    );
    assert!(play.raw(&rebound).await.starts_with("HTTP/1.1 421 "));
    for target in ["/p/openai/v1/models", "/v1/grants", "/", "/p/", "/p/demo2/echo"] {
        assert_eq!(play.status(target, &play.bearer()).await, 404, "{target}");
    }
    for target in ["/p/demo/../other/echo", "/p/demo/%2e%2e/x", "/p/demo/a\\b"] {
        assert_eq!(play.status(target, &play.bearer()).await, 400, "{target}");
    }
    assert_eq!(play.got().len(), before, "nothing of this was sent");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_while_it_is_made() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let stream = Mutex::new(Some(receiver));
    let play = Play::begin(&[], move |_, _| {
        let receiver = stream.lock().unwrap().take().unwrap();
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        Response::new(Body::from_stream(pieces))
    })
    .await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.get(format!("{}/echo", play.base)).bearer_auth(&play.stand_in);
    sender.send(Ok(Bytes::from_static(b"data: 1\n\n"))).unwrap();
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    // The first event is here before the second is made.
    sender.send(Ok(Bytes::from_static(b"data: 2\n\n"))).unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 2\n\n");
    drop(sender);
    assert_eq!(answer.chunk().await.unwrap(), None);
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_changed_for_a_fresh_one_once() {
    let play = Play::begin(&[], |_, before| {
        if before == 0 {
            problem(401, "invalid_token")
        } else {
            ok()
        }
    })
    .await;
    assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 200);
    let got = play.got();
    assert_eq!(got.len(), 2);
    assert_ne!(got[0].token, got[1].token);
    play.end().await;

    let play = Play::begin(&[], |_, _| problem(401, "invalid_token")).await;
    assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 401);
    assert_eq!(play.got().len(), 2, "not again and again");
    play.end().await;

    let play = Play::begin(&[], |_, _| json_response(401, &json!({ "error": "the vendor's own" }))).await;
    assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 401);
    assert_eq!(play.got().len(), 1, "a vendor's 401 is the program's");
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_made_anew_before_it_ends() {
    let play = Play::begin(&["--ttl", "2s"], |_, _| ok()).await;
    assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 200);
    let first = play.last().token;
    assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 200);
    crate::support::until("another token", async || {
        assert_eq!(play.status("/p/demo/echo", &play.bearer()).await, 200);
        (play.last().token != first).then_some(())
    })
    .await;
    play.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_becomes_a_websocket_is_tied_through() {
    let play = Play::begin(&[], |got, _| {
        assert_eq!(got.headers["upgrade"], "websocket");
        assert_eq!(got.headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response
    })
    .await;
    let mut stream = tokio::net::TcpStream::connect(play.authority()).await.unwrap();
    let head = format!(
        "GET /p/demo/echo HTTP/1.1\r\nhost: {}\r\n{}connection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        play.authority(),
        play.bearer()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 101");
    play.end().await;
}
