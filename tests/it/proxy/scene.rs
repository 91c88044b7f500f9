//! An instance with a vendor behind a bare socket, whose one key is entered, and grants for it.

use dekeys::client::{Client, KeyFile, Request, secret};
use dekeys::config::Config;
use dekeys::setup::stage::{self, PRIM};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::RawVendor;
use crate::support::{Seen, TestApp, policy, send};

/// The key that must never be seen by a caller.
pub(super) const KEY: &str = "acme-secret-Zq8xQw3x0123456789abcdef";

/// A vendor with one key for all.
pub(super) const MANIFEST: &str = r#"
schema = 1
[vendor]
id = "acme"
title = "Acme"
class = 5
isolates = "account"
evidence = "draft"
resale = "allowed"
[root]
fields = { key = { title = "Key", prefix = "acme-" } }
auth = { style = "bearer", value = "${root.key}" }
[http]
base = "https://api.acme.invalid/v1"
hosts = ["api.acme.invalid"]
[scopes]
"messages:write" = {}
"files:read" = {}
[proxy]
hosts = ["api.acme.invalid"]
inject = [{ in = "header", name = "Authorization", format = "Bearer {secret}" }]
allow = [
  { method = "POST", path = "/v1/messages" },
  { method = "GET", path = "/v1/messages" },
  { method = "GET", path = "/v1/files/*", scope = "files:read" },
  { method = "GET", path = "/v1/socket", websocket = true },
]
strip_response = ["x-internal"]
"#;

/// A policy for it: free for the agent on stage, unsigned tokens for a quarter of an hour.
pub(super) fn acme_policy(bearer: &str) -> String {
    format!(
        r#"name = "acme-users"
vendor = "acme"
scopes = ["messages:write", "files:read"]
[who]
kinds = ["agent"]
principals = ["agent-one"]
[grant]
max_ttl = "1h"
max_resolves = 1000
credential_per = "shared"
[forward]
bearer = "{bearer}"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

pub(super) struct Scene {
    pub(super) app: TestApp,
    pub(super) vendor: RawVendor,
}

/// What came over a socket.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
}

impl Raw {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(super) fn status(&self) -> u16 {
        let text = self.text();
        text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

impl Scene {
    pub(super) async fn new() -> Self {
        Self::with("15m", MANIFEST, |_| {}).await
    }

    pub(super) async fn with(bearer: &str, manifest: &str, change: impl FnOnce(&mut Config)) -> Self {
        let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), change).await;
        let vendor = RawVendor::start().await;
        let scene = Self { app, vendor };
        scene.connect(manifest, json!({ "key": KEY })).await;
        let agent =
            json!({ "name": "agent-one", "kind": "agent", "public_keys": [scene.app.stage.cast.agent.public()] });
        send(&scene.app.operator(), Request::post(&["v1", "principals"]).json(&agent))
            .await
            .good();
        scene.app.stage.put_in_force(&acme_policy(bearer)).await.unwrap();
        scene
    }

    /// Enters the vendor's key again, with a manifest.
    pub(super) async fn connect(&self, manifest: &str, fields: Value) {
        let base = format!("http://{}", self.vendor.address);
        let body = json!({ "fields": fields, "base_url": base, "manifest": manifest });
        let request = Request::put(&["v1", "vendors", "acme", "root-credential"]).json(&body);
        send(&self.app.operator(), request).await.good();
    }

    /// A grant of the agent on stage: with its key as the holder's, or bearer class.
    pub(super) async fn grant(&self, mut body: Value, bearer: bool) -> (String, String) {
        body["bearer"] = json!(bearer);
        let seen = send(&self.app.agent(), Request::post(&["v1", "grants"]).json(&body)).await;
        assert_eq!(seen.status, 201, "{}", seen.json);
        let token = secret::shown(&secret::at(&seen.json, "/token").unwrap());
        (seen.text("/id"), token)
    }

    /// An unsigned token for messages.
    pub(super) async fn bearer(&self) -> String {
        let body = json!({ "references": ["dk://acme/messages:write", "dk://acme/files:read"] });
        self.grant(body, true).await.1
    }

    /// Sends bytes as they are and reads until the answer, by its length or the connection, is over.
    pub(super) async fn raw(&self, request: &[u8]) -> Raw {
        let address = self.app.stage.server.url.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _maybe_closed = stream.write_all(request).await;
        let mut bytes = Vec::new();
        let mut piece = vec![0u8; 16 * 1024];
        let reading = async {
            while !whole(&bytes) {
                match stream.read(&mut piece).await {
                    Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
        };
        let in_time = tokio::time::timeout(std::time::Duration::from_mins(1), reading).await;
        assert!(in_time.is_ok(), "no end of the answer");
        Raw { bytes }
    }

    /// A request with a token where the vendor's key goes.
    pub(super) async fn get(&self, method: &str, path: &str, token: &str, headers: &str) -> Raw {
        let request =
            format!("{method} /p/acme{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        self.raw(request.as_bytes()).await
    }

    pub(super) fn signed_by(&self, key: &KeyFile) -> Client {
        stage::client(&self.app.stage.server.url, Some(key)).unwrap()
    }
}

/// Whether an answer has its whole body.
fn whole(bytes: &[u8]) -> bool {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
    let body = &bytes[at + 4..];
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None => head.contains("transfer-encoding: chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

/// A request through the client library: signed by its key, the token in `Authorization`.
pub(super) async fn through(client: &Client, request: Request, token: &str) -> Seen {
    send(
        client,
        request.bearer(dekeys::base::secret::SecretText::new(token.to_owned())),
    )
    .await
}
