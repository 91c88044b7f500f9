//! `own/load_bomb.jsonl`: each case as listed there, but for times, which are measured in `benches/`.

use std::time::Duration;

use dekeys::base::time::Ttl;
use dekeys::client::{ClientError, Request};
use dekeys::operations::operation;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{CUT_OFF, Sender};
use crate::skip::folder;
use crate::support::process::Process;
use crate::support::session::plain_http;
use crate::support::{TestApp, priced, until};

/// The cases that are tried here.
const TRIED: [&str; 24] = [
    "000", "001", "002", "003", "004", "005", "006", "007", "008", "009", "010", "011", "012", "013", "014", "017",
    "019", "020", "022", "023", "024", "025", "026", "029",
];

/// A webhook that never answers: `notices::webhook`; a full disk: `hostile::disk`.
const ELSEWHERE: [&str; 2] = ["030", "031"];

#[test]
fn every_listed_case_is_tried_somewhere() {
    let Some(vectors) = folder("DEKEYS_VECTORS", "load_bomb.jsonl") else {
        return;
    };
    let text = std::fs::read_to_string(vectors.join("own/load_bomb.jsonl")).unwrap();
    let listed: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|case| case["id"].as_str().unwrap().trim_start_matches("load_bomb-").to_owned())
        .collect();
    let mut known: Vec<&str> = TRIED.into_iter().chain(ELSEWHERE).collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}

/// The status of a body sent to `createPrincipal`.
async fn status(app: &TestApp, body: impl Into<Vec<u8>>) -> u16 {
    let operation = operation("createPrincipal").unwrap();
    Sender::new(app).send(app, operation, body.into()).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_bombs_are_refused() {
    let app = TestApp::start().await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    let ten = 10 * 1024 * 1024;
    let keys = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|n| format!("\"{n:x}\":1")).collect();
        format!("{{{}}}", pairs.join(","))
    };
    let utf16: Vec<u8> = "{\"name\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let principal = |more: &str| format!("{{\"name\":\"x\",\"kind\":\"agent\"{more}}}");
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("000", deep("[", "]").into_bytes(), 400),
        (
            "001",
            deep("{\"a\":", "}").replace("{\"a\":}", "{\"a\":1}").into_bytes(),
            400,
        ),
        ("002", format!("\"{}\"", "x".repeat(ten)).into_bytes(), 413),
        ("003", format!("[{}1]", "{\"a\":1},".repeat(ten / 8)).into_bytes(), 413),
        ("004 within the limit", keys(25_000).into_bytes(), 400),
        ("004 a million", keys(1_000_000).into_bytes(), 413),
        // Objects are kept in a tree, so that no key collides with another.
        ("005", keys(25_000).into_bytes(), 400),
        ("006", principal(",\"kind\":\"prim\"").into_bytes(), 400),
        ("007", principal(",\"x\":1e309").into_bytes(), 400),
        ("008 -0", principal(",\"x\":-0").into_bytes(), 400),
        ("008 1E400", principal(",\"x\":1E400").into_bytes(), 400),
        ("008 0x10", principal(",\"x\":0x10").into_bytes(), 400),
        ("009", principal(",\"x\":\"\\ud800\"").into_bytes(), 400),
        ("010", format!("\u{feff}{}", principal("")).into_bytes(), 400),
        ("011", utf16, 400),
    ];
    let mut wrong = Vec::new();
    for (case, body, wanted) in cases {
        let got = status(&app, body).await;
        if got != wanted && (wanted, got) != (413, CUT_OFF) {
            wrong.push(format!("{case}: {got} instead of {wanted}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_another_type_or_packed_is_not_read() {
    let app = TestApp::start().await;
    let url = format!("{}/v1/principals", app.stage.server.url);
    let send = async |kind: Option<&str>, coding: Option<&str>| {
        let mut request = plain_http()
            .post(&url)
            .bearer_auth(app.stage.login().unwrap())
            .body("{}");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["code"].as_str().unwrap().to_owned())
    };
    let refused = (415, "unsupported_media_type".to_owned());
    assert_eq!(send(None, None).await, refused, "012");
    assert_eq!(send(Some("text/plain"), None).await, refused);
    assert_eq!(send(Some("application/json"), Some("gzip")).await, refused, "013");
    assert_eq!(send(Some("application/json; charset=utf-8"), None).await.0, 422);
    assert_eq!(send(Some("Application/JSON"), Some("identity")).await.0, 422);
    app.stop().await;
}

async fn get(url: String) -> reqwest::Result<reqwest::Response> {
    plain_http().get(url).send().await
}

/// Whether somebody else is served.
async fn serves(app: &TestApp) -> bool {
    let answer = get(format!("{}/healthz", app.stage.server.url)).await.unwrap();
    answer.status().as_u16() == 200
}

fn address(app: &TestApp) -> String {
    app.stage.server.url.strip_prefix("http://").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_or_little_keep_nobody_out() {
    let app = TestApp::start().await;
    let mut held = Vec::new();
    // 014: heads that come a byte at a time; 022: connections that say nothing.
    for n in 0..400 {
        let mut stream = TcpStream::connect(address(&app)).await.unwrap();
        if n % 2 == 0 {
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ")
                .await
                .unwrap();
        }
        held.push(stream);
    }
    for round in 0..3 {
        for stream in held.iter_mut().step_by(2) {
            stream.write_all(b"a").await.unwrap();
        }
        assert!(serves(&app).await, "round {round}");
    }
    drop(held);
    assert!(serves(&app).await);
    app.stop().await;
}

/// What a server says to a head; empty when it closes without a word.
async fn answer_to(app: &TestApp, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(app)).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(head).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it was left waiting");
    String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_too_long_are_refused() {
    let app = TestApp::start().await;
    let long = "a".repeat(64 * 1024);
    let header = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n");
    let told = answer_to(&app, header.as_bytes()).await;
    assert!(told.contains(" 431 "), "024: {told}");
    let url = format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n");
    let told = answer_to(&app, url.as_bytes()).await;
    // hyper counts the whole head before it looks at the target, so that a long target is a long head.
    assert!(told.contains(" 414 ") || told.contains(" 431 "), "025: {told}");
    assert!(serves(&app).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_begun_and_broken_off_end_the_connection() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(address(&app)).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    let mut sent = 0u32;
    let mut ended = false;
    let mut buffer = [0u8; 4096];
    while sent < 100_000 && !ended {
        let mut frames = Vec::new();
        for _ in 0..100 {
            let id = (2 * sent + 1).to_be_bytes();
            // HEADERS, END_HEADERS: GET / http with an empty authority; then RST_STREAM CANCEL.
            frames.extend([0, 0, 5, 1, 4]);
            frames.extend(id);
            frames.extend([0x82, 0x84, 0x86, 0x41, 0x00]);
            frames.extend([0, 0, 4, 3, 0]);
            frames.extend(id);
            frames.extend(8u32.to_be_bytes());
            sent += 1;
        }
        ended = stream.write_all(&frames).await.is_err();
        while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut buffer)).await {
            ended |= read == 0;
            if read == 0 {
                break;
            }
        }
    }
    assert!(ended, "017: {sent} streams were begun and broken off");
    assert!(serves(&app).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unseal_keys_cannot_be_guessed_one_after_another() {
    let app = TestApp::start().await;
    dekeys::service::unseal::close(&app.stage.server.app);
    let url = format!("{}/v1/sys/unseal", app.stage.server.admin);
    let http = plain_http();
    let mut statuses = Vec::new();
    for _ in 0..300 {
        let body = json!({ "key": "A".repeat(43) });
        statuses.push(http.post(&url).json(&body).send().await.unwrap().status().as_u16());
    }
    let looked_at = statuses.iter().filter(|status| **status == 400).count();
    assert_eq!(
        (looked_at, statuses.iter().filter(|status| **status == 429).count()),
        (4, 296),
        "026"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_file_descriptors_recovers() {
    let process = Process::with_files(TestApp::start().await, 64).await;
    let at = process.url.strip_prefix("http://").unwrap().to_owned();
    let url = format!("{}/v1/offers", process.url);
    // Who is connected already.
    let known = plain_http();
    assert_eq!(known.get(&url).send().await.unwrap().status().as_u16(), 200);
    let mut held = Vec::new();
    // More than it may open; the rest waits in the system's queue.
    for _ in 0..120 {
        held.push(TcpStream::connect(&at).await.unwrap());
    }
    let answer = tokio::time::timeout(Duration::from_secs(30), known.get(&url).send()).await;
    let status = answer.expect("it was left waiting").unwrap().status().as_u16();
    assert!(matches!(status, 200 | 503), "023: {status}");
    drop(held);
    until("somebody new to be served", async || {
        let asked = tokio::time::timeout(Duration::from_secs(5), get(url.clone())).await;
        matches!(asked, Ok(Ok(answer)) if answer.status().as_u16() == 200).then_some(())
    })
    .await;
}

/// Sends the same HTTP/2 frame again and again; whether the connection was closed, and how often it was sent.
async fn flooded(app: &TestApp, first: &[u8], frame: &[u8]) -> (bool, usize) {
    let mut stream = TcpStream::connect(address(app)).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    stream.write_all(first).await.unwrap();
    let many = frame.repeat(100);
    let mut buffer = [0u8; 4096];
    for round in 0..2000 {
        let written = tokio::time::timeout(Duration::from_secs(10), stream.write_all(&many)).await;
        if matches!(written, Ok(Err(_))) {
            return (true, round * 100);
        }
        while let Ok(Ok(read)) = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut buffer)).await {
            if read == 0 {
                return (true, round * 100);
            }
        }
    }
    (false, 200_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_say_nothing_keep_nobody_out() {
    let app = TestApp::start().await;
    // HEADERS of a POST whose body goes on; then DATA without a byte.
    let post = [0, 0, 5, 1, 4, 0, 0, 0, 1, 0x83, 0x84, 0x86, 0x41, 0x00];
    let mut told = Vec::new();
    for (case, first, frame) in [
        ("019", &post[..], &[0, 0, 0, 0, 0, 0, 0, 0, 1][..]),
        ("020 settings", &[], &[0, 0, 0, 4, 0, 0, 0, 0, 0]),
        ("020 ping", &[], &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        told.push((case, flooded(&app, first, frame).await));
        assert!(serves(&app).await, "{case}");
    }
    let closed = |wanted: &str| told.iter().any(|(case, (closed, _))| *case == wanted && *closed);
    for case in ["019", "020 settings", "020 ping"] {
        assert!(closed(case), "{told:?}");
    }
    app.stop().await;
}

/// Followers that do not read: a caller has so many places and no more, nothing piles up for those who have one, and
/// others are let in beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_that_do_not_read_keep_nobody_out() {
    let process = Process::of(TestApp::start().await, &[]).await;
    let agent = process.client(Some(&process.cast.agent));
    let events = || Request::get(&["v1", "events"]);
    let before = process.memory();
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..2000 {
        match agent.events(events(), None).await {
            Ok(stream) => held.push(stream),
            Err(ClientError::Refused(told)) if told.status == 503 => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((held.len(), refused), (32, 1968));
    assert!(
        process.operator().events(events(), None).await.is_ok(),
        "others find no place"
    );
    let more = process.memory().saturating_sub(before);
    assert!(more < 64 * 1024, "{more} KiB for 2000 followers");
    drop(held);
    until("the places to be free again", async || {
        agent.events(events(), None).await.ok()
    })
    .await;
}

/// Whoever asks and asks and takes none of the answers is cut off; what was not sent then is not kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_is_cut_off() {
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        config.limits.send_timeout = Ttl::from_secs(1);
    })
    .await;
    let at = address(&app);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(at.parse().unwrap()).await.unwrap();
    let ask = format!("GET /openapi.json HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let length = get(format!("{}/openapi.json", app.stage.server.url)).await.unwrap();
    let length = length.bytes().await.unwrap().len();
    // More than any system keeps for a connection.
    let count = 64 * 1024 * 1024 / length;
    stream.write_all(ask.repeat(count).as_bytes()).await.unwrap();
    until("the connection to be closed", async || {
        let written = stream.try_write(ask.as_bytes());
        let closed = written.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
        closed.then_some(())
    })
    .await;
    assert!(serves(&app).await);
    app.stop().await;
}
