//! Bodies that flow, and where they are cut.

use std::fmt::Write as _;
use std::sync::Arc;

use dekeys::client::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::raw::{Piece, chunk, chunked};
use super::scene::Scene;
use crate::support::database::Intruder;
use crate::support::{send, until};

/// Reads until the bytes are there; `false` when the connection ends before.
async fn sees(stream: &mut TcpStream, seen: &mut Vec<u8>, what: &[u8]) -> bool {
    let mut piece = vec![0u8; 4096];
    while !seen.windows(what.len()).any(|part| part == what) {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => seen.extend_from_slice(&piece[..count]),
            _ => return false,
        }
    }
    true
}

async fn open(scene: &Scene, token: &str) -> TcpStream {
    let address = scene.app.stage.server.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /p/acme/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn events_pass_one_by_one_and_end_with_the_grant() {
    let mut scene = Scene::new().await;
    let next = Arc::new(Notify::new());
    let told = Arc::clone(&next);
    scene.vendor.answers(move |_| {
        vec![
            chunked("Content-Type: text/event-stream\r\n"),
            chunk(b"data: one\n\n"),
            Piece::Until(Arc::clone(&told)),
            chunk(b"data: two\n\n"),
            Piece::Hang,
        ]
    });
    let (grant, token) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), true)
        .await;
    let mut stream = open(&scene, &token).await;
    let mut seen = Vec::new();
    assert!(
        sees(&mut stream, &mut seen, b"data: one\n\n").await,
        "the first before the second was sent"
    );
    next.notify_one();
    assert!(sees(&mut stream, &mut seen, b"data: two\n\n").await);
    let path = ["v1", "grants", &grant, "revoke"];
    send(&scene.app.agent(), Request::post(&path).json(&json!({})))
        .await
        .good();
    assert!(!sees(&mut stream, &mut seen, b"0\r\n\r\n").await, "cut, not ended");
    scene.vendor.gone().await;
    scene.app.stop().await;
}

#[tokio::test]
async fn an_end_that_only_the_database_knows_of_cuts_too() {
    let mut scene = Scene::new().await;
    scene
        .vendor
        .answers(|_| vec![chunked(""), chunk(b"data: one\n\n"), Piece::Hang]);
    let (grant, token) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), true)
        .await;
    let mut stream = open(&scene, &token).await;
    let mut seen = Vec::new();
    assert!(sees(&mut stream, &mut seen, b"data: one\n\n").await);
    // As another instance writes it.
    let mut database = Intruder::at(&scene.app).await;
    database
        .run(format!("UPDATE grants SET state = 'revoked' WHERE id = '{grant}'"))
        .await;
    assert!(!sees(&mut stream, &mut seen, b"0\r\n\r\n").await, "cut, not ended");
    scene.vendor.gone().await;
    scene.app.stop().await;
}

#[tokio::test]
async fn a_body_reaches_the_vendor_while_it_is_sent() {
    let scene = Scene::new().await;
    let token = scene.bearer().await;
    let address = scene.app.stage.server.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /p/acme/v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"5\r\nhello\r\n").await.unwrap();
    stream.write_all(b"6\r\n world\r\n0\r\n\r\n").await.unwrap();
    let mut seen = Vec::new();
    assert!(sees(&mut stream, &mut seen, b"{}").await);
    let asked = scene.vendor.asked().pop().unwrap();
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    assert!(body.contains("hello") && body.contains("world"), "{body}");
    scene.app.stop().await;
}

#[tokio::test]
async fn a_web_socket_passes_both_ways_is_scrubbed_and_ends_with_the_grant() {
    let mut scene = Scene::new().await;
    scene.vendor.answers(|_| {
        let key = super::scene::KEY;
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_vec();
        bytes.extend([0x81, u8::try_from(key.len()).unwrap()]);
        bytes.extend(key.as_bytes());
        vec![Piece::Bytes(bytes), Piece::Echo]
    });
    let (grant, token) = scene.grant(json!({ "reference": "dk://acme/files:read" }), true).await;
    let address = scene.app.stage.server.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /p/acme/v1/socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    assert!(
        sees(&mut stream, &mut seen, b"************").await,
        "{}",
        String::from_utf8_lossy(&seen)
    );
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        text.starts_with("HTTP/1.1 101") && !text.contains(super::scene::KEY),
        "{text}"
    );
    // A masked text frame goes on as it is; the vendor sends it back.
    let frame = [0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3];
    stream.write_all(&frame).await.unwrap();
    assert!(sees(&mut stream, &mut seen, &frame[6..]).await);
    let path = ["v1", "grants", &grant, "revoke"];
    send(&scene.app.agent(), Request::post(&path).json(&json!({})))
        .await
        .good();
    assert!(!sees(&mut stream, &mut seen, b"never").await);
    scene.vendor.gone().await;
    until("the event", async || {
        let events = scene.app.events("security.key_reflected").await;
        (events.first()?["event"]["data"]["in"] == "frame").then_some(())
    })
    .await;
    scene.app.stop().await;
}

#[tokio::test]
async fn a_signed_body_that_is_another_does_not_reach_the_vendor_whole() {
    let scene = Scene::new().await;
    let (_, token) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), false)
        .await;
    let request = Request::at(http::Method::POST, "/p/acme/v1/messages".to_owned())
        .json(&json!({ "text": "hello" }))
        .bearer(dekeys::base::secret::SecretText::new(token));
    let address: dekeys::client::Address = scene.app.stage.server.url.parse().unwrap();
    let now = dekeys::base::time::Clock::now(&dekeys::base::time::SystemClock::default());
    let agent = &scene.app.stage.cast.agent;
    let prepared = dekeys::client::prepare(&request, &address, Some(agent), None, now, "a-nonce-of-sixteen").unwrap();
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\n",
        prepared.url.path(),
        prepared.url.authority()
    );
    for (name, value) in &prepared.headers {
        write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    let without = scene.raw(format!("{head}\r\n").as_bytes()).await;
    assert_eq!(without.status(), 401, "the body was taken away: {}", without.text());
    head.push_str("Content-Length: 16\r\n\r\n");
    let raw = scene.raw(format!("{head}{{\"text\":\"pwned\"}}").as_bytes()).await;
    assert!(raw.status() >= 400, "{}", raw.text());
    assert!(
        scene.vendor.asked().iter().all(|asked| asked.body.len() < 16),
        "{:?}",
        scene.vendor.asked()
    );
    scene.app.stop().await;
}
