//! `own/proxy_vendor.jsonl`: vendors that behave badly while a key is made or ended. Whatever they do, the request is
//! answered in time, every credential comes to a state that is listed, no key of ours stays alive at the vendor, and no
//! key is in an answer, an event or a line of the log. Those of TLS and HTTP/2 are in `tls`.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dekeys::client::{Client, Request};
use dekeys::config::{LogConfig, LogFormat};
use dekeys::setup::stage::PRIM;
use dekeys::telemetry;
use serde_json::{Value, json};

use crate::proxy::raw::{Asked, Piece, RawVendor, answer, chunked};
use crate::skip;
use crate::support::{TestApp, policy, send, until};

/// Behaviours that need a handshake to be misbehaved in: `tls.rs`.
const ELSEWHERE: [&str; 3] = ["TLS cert for other name", "TLS downgraded", "HTTP/2 GOAWAY mid request"];

/// What every key begins with, and the root credential.
const SECRET: &str = "casekey-Zq8xQw3x";
pub(crate) const ROOT: &str = "case-root-0123456789abcdef";

/// Answers to a creation that take longer than this are not waited for.
const TIMEOUT_MS: u32 = 1500;

pub(crate) fn manifest(id: &str) -> String {
    format!(
        r#"
schema = 1
[vendor]
id = "{id}"
title = "{id}"
class = 2
isolates = "key"
evidence = "draft"
resale = "allowed"
[root]
fields = {{ key = {{ title = "Key", prefix = "case-root-" }} }}
auth = {{ style = "bearer", value = "${{root.key}}" }}
[http]
base = "https://{id}.invalid"
hosts = ["{id}.invalid"]
timeout_ms = {TIMEOUT_MS}
[scopes]
"messages:write" = {{}}
[expiry]
unit = "rfc3339_utc"
min_s = 1
max_s = 86400
[create]
method = "POST"
path = "/keys"
body = {{ name = "${{name}}", expires_at = "${{expires}}" }}
ok = [201]
secret = "/key"
id = "/id"
expires = "/expires_at"
[list]
method = "GET"
path = "/keys"
items = "/data"
id = "/id"
name = "/name"
[revoke]
method = "DELETE"
path = "/keys/${{id}}"
ok = [200, 204]
[probe]
method = "GET"
path = "/key"
[proxy]
hosts = ["{id}.invalid"]
inject = [{{ in = "header", name = "Authorization", format = "Bearer {{secret}}" }}]
allow = [{{ method = "GET", path = "/messages" }}]
"#
    )
}

pub(crate) fn users(id: &str) -> String {
    policy(&format!("{id}-users"), "messages:write", &[PRIM], "")
        .replace("vendor = \"demo\"", &format!("vendor = \"{id}\""))
        .replace("wallets = [\"eip155:84532:*\"]", "principals = [\"agent-one\"]")
}

/// A key at the vendor.
#[derive(Debug, Clone)]
struct Key {
    id: String,
    name: String,
    secret: String,
    expires: String,
    alive: bool,
}

/// What is true at the vendor, and how it behaves.
struct Truth {
    behaves: String,
    evil: Arc<AtomicBool>,
    keys: Mutex<Vec<Key>>,
}

fn created(key: &Key) -> Value {
    json!({ "id": key.id, "name": key.name, "key": key.secret, "expires_at": key.expires })
}

impl Truth {
    fn answer(&self, asked: &Asked) -> Vec<Piece> {
        let line = asked.line().to_owned();
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let evil = self.evil.load(Ordering::SeqCst);
        match (method, path.split('?').next().unwrap_or_default()) {
            ("POST", "/keys") if evil => self.badly(asked),
            ("POST", "/keys") => vec![json(201, &created(&self.make(asked)))],
            ("GET", "/keys") => vec![json(200, &json!({ "data": self.listed(evil) }))],
            ("GET", "/key") => vec![json(if self.lives(asked) { 200 } else { 401 }, &json!({}))],
            ("DELETE", path) => self.end(path.trim_start_matches("/keys/"), evil),
            _ => vec![json(404, &json!({}))],
        }
    }

    fn make(&self, asked: &Asked) -> Key {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let mut keys = self.keys.lock().unwrap();
        let key = Key {
            id: format!("id_{}", keys.len()),
            name: text("name"),
            secret: format!("{SECRET}{:08}", keys.len()),
            expires: text("expires_at"),
            alive: true,
        };
        keys.push(key.clone());
        key
    }

    fn listed(&self, evil: bool) -> Vec<Value> {
        if evil && self.behaves.contains("list does not show") {
            return Vec::new();
        }
        let keys = self.keys.lock().unwrap();
        let alive = keys.iter().filter(|key| key.alive);
        alive.map(|key| json!({ "id": key.id, "name": key.name })).collect()
    }

    fn lives(&self, asked: &Asked) -> bool {
        let given = asked.header("authorization").concat();
        let keys = self.keys.lock().unwrap();
        keys.iter()
            .any(|key| key.alive && given == format!("Bearer {}", key.secret))
    }

    fn end(&self, id: &str, evil: bool) -> Vec<Piece> {
        if evil && self.behaves == "200 on revoke but key still works" {
            return vec![json(200, &json!({}))];
        }
        let mut keys = self.keys.lock().unwrap();
        let found = keys.iter_mut().find(|key| key.id == id && key.alive);
        let status = if evil && self.behaves == "404 on revoke (already gone)" || found.is_none() {
            404
        } else {
            204
        };
        if let Some(key) = found {
            key.alive = false;
        }
        vec![json(status, &json!({}))]
    }

    /// How a creation is answered. The key is made all the same, but where the behaviour is a refusal.
    fn badly(&self, asked: &Asked) -> Vec<Piece> {
        let bytes = |text: &str| Piece::Bytes(text.as_bytes().to_vec());
        let refusals = [
            "200 with error body",
            "401 on root key mid-provision",
            "403 scope wider than asked",
        ];
        match self.behaves.as_str() {
            "200 with error body" => return vec![json(200, &json!({ "error": "no" }))],
            "401 on root key mid-provision" => return vec![json(401, &json!({ "error": "no" }))],
            "403 scope wider than asked" => return vec![json(403, &json!({ "error": "no" }))],
            behaves => assert!(!refusals.contains(&behaves)),
        }
        let key = self.make(asked);
        let good = created(&key);
        let body = good.to_string();
        let with = |name: &str, value: Value| {
            let mut changed = good.clone();
            changed[name] = value;
            vec![json(201, &changed)]
        };
        match self.behaves.as_str() {
            "10 GB body" => vec![
                bytes("HTTP/1.1 201 X\r\nContent-Length: 10737418240\r\n\r\n"),
                Piece::Forever(vec![b' '; 64 * 1024]),
            ],
            "1 byte a minute body" => vec![bytes("HTTP/1.1 201 X\r\nContent-Length: 200\r\n\r\n{"), Piece::Hang],
            "10,000 headers" => {
                let fields: String = (0..10_000)
                    .map(|n| format!("X-{n}: a\r\n"))
                    .collect::<Vec<_>>()
                    .concat();
                vec![answer(201, &fields, body.as_bytes())]
            }
            "status 100 forever" => vec![Piece::Forever(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())],
            "gzip bomb 1:1000" => vec![answer(201, "Content-Encoding: gzip\r\n", &bomb())],
            "chunk size overflow" => vec![chunked(""), bytes("fffffffffffffffff\r\n{}\r\n")],
            "negative content-length" => vec![bytes(&format!("HTTP/1.1 201 X\r\nContent-Length: -1\r\n\r\n{body}"))],
            "body longer than content-length" => {
                vec![bytes(&format!("HTTP/1.1 201 X\r\nContent-Length: 20\r\n\r\n{body}"))]
            }
            "connection cut mid body" => vec![
                bytes(&format!("HTTP/1.1 201 X\r\nContent-Length: {}\r\n\r\n{{", body.len())),
                Piece::Close,
            ],
            "RST after headers" => vec![
                bytes(&format!("HTTP/1.1 201 X\r\nContent-Length: {}\r\n\r\n", body.len())),
                Piece::Reset,
            ],
            "JSON depth 10,000" => vec![answer(
                201,
                "",
                format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(),
            )],
            "JSON duplicate \"key\" fields" => {
                let twice = body.replacen('{', "{\"key\":\"casekey-Zq8xQw3x-another-0\",", 1);
                vec![answer(201, "", twice.as_bytes())]
            }
            "key field null" => with("key", Value::Null),
            "key field 1 MB" => with("key", json!(format!("{}{}", key.secret, "x".repeat(1 << 20)))),
            "key field with CR LF" => with("key", json!(format!("{}\r\nX-Evil: 1", key.secret))),
            "id field missing" => with("id", Value::Null),
            "id reused from another tenant" => with("id", json!("id_of_another")),
            "expires_at in the past" => with("expires_at", json!("2001-01-01T00:00:00Z")),
            "expires_at year 9999" => with("expires_at", json!("9999-12-31T23:59:59Z")),
            "500 after creating" => vec![json(500, &json!({}))],
            "timeout after creating" => vec![Piece::Hang],
            // What these do comes later: in lists and ends.
            "201 then list does not show it for 60 s"
            | "404 on revoke (already gone)"
            | "200 on revoke but key still works" => vec![json(201, &good)],
            other => panic!("no script for: {other}"),
        }
    }
}

fn json(status: u16, body: &Value) -> Piece {
    answer(
        status,
        "Content-Type: application/json\r\n",
        body.to_string().as_bytes(),
    )
}

fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

/// A vendor of one case, connected and sold.
struct Case {
    id: String,
    truth: Arc<Truth>,
    vendor: RawVendor,
}

impl Case {
    async fn new(app: &TestApp, case: &Value, behaves: &str) -> Self {
        let id = case["id"].as_str().unwrap().replace("proxy_vendor", "case");
        let truth = Arc::new(Truth {
            behaves: behaves.to_owned(),
            evil: Arc::new(AtomicBool::new(true)),
            keys: Mutex::default(),
        });
        let vendor = RawVendor::start().await;
        let answering = Arc::clone(&truth);
        vendor.answers(move |asked| answering.answer(asked));
        let body = json!({
            "fields": { "key": ROOT },
            "base_url": format!("http://{}", vendor.address),
            "manifest": manifest(&id),
        });
        let request = Request::put(&["v1", "vendors", &id, "root-credential"]).json(&body);
        send(&app.operator(), request).await.good();
        app.stage.put_in_force(&users(&id)).await.unwrap();
        Self { id, truth, vendor }
    }

    /// Buys while the vendor behaves badly, ends all of it, and has the vendor behave again.
    async fn play(&self, agent: &Client) {
        let body = json!({ "reference": format!("dk://{}/messages:write", self.id), "ttl": "10m" });
        let asked = send(agent, Request::post(&["v1", "grants"]).json(&body));
        let seen = tokio::time::timeout(std::time::Duration::from_secs(50), asked).await;
        let seen = seen.unwrap_or_else(|_| panic!("{} was not answered in time", self.truth.behaves));
        assert!(
            matches!(seen.status, 201 | 502 | 503),
            "{} {}",
            self.truth.behaves,
            seen.json
        );
        assert!(
            !String::from_utf8_lossy(&seen.body).contains(SECRET),
            "{}",
            self.truth.behaves
        );
        if seen.status == 201 {
            let id = seen.text("/id");
            let end = Request::post(&["v1", "grants", &id, "revoke"]).json(&json!({ "reason": "the case is over" }));
            let ended = send(agent, end).await;
            assert!(
                matches!(ended.status, 200 | 202),
                "{} {}",
                self.truth.behaves,
                ended.json
            );
        }
        self.truth.evil.store(false, Ordering::SeqCst);
    }

    /// Keys of ours that live.
    fn alive(&self) -> Vec<String> {
        let keys = self.truth.keys.lock().unwrap();
        keys.iter().filter(|key| key.alive).map(|key| key.id.clone()).collect()
    }
}

/// The states of a vendor's credentials.
async fn states(app: &TestApp, vendor: &str) -> Vec<String> {
    let list = send(
        &app.operator(),
        Request::get(&["v1", "credentials"]).query("limit", Some(100)),
    )
    .await
    .good();
    assert_eq!(list["has_more"], false);
    let of = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["vendor"] == vendor);
    of.map(|one| one["state"].as_str().unwrap().to_owned()).collect()
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Logs of this thread, which runs all of the test.
fn logging(sink: &Sink) -> tracing::Dispatch {
    let log = LogConfig {
        format: LogFormat::Json,
        level: "trace".to_owned(),
    };
    let writer = sink.clone();
    tracing::Dispatch::new(telemetry::subscriber(&log, false, false, move || writer.clone(), None).unwrap())
}

#[tokio::test]
async fn whatever_a_vendor_does_no_key_is_lost_or_told() {
    let Some(folder) = skip::folder("DEKEYS_VECTORS", "vendors that behave badly") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("own/proxy_vendor.jsonl")).unwrap();
    let listed: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sink = Sink::default();
    // With one alone `tracing` asks it once for all threads: see the canary test.
    let (logs, _second) = (logging(&sink), logging(&sink));
    let _logging = tracing::dispatcher::set_default(&logs);
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    let mut cases = Vec::new();
    for case in &listed {
        let Some(behaves) = case["vendor_behaves"].as_str() else {
            continue;
        };
        if !ELSEWHERE.contains(&behaves) {
            cases.push(Case::new(&app, case, behaves).await);
        }
    }
    assert!(cases.len() >= 25, "{} cases", cases.len());
    let agent = app.agent();
    futures_util::future::join_all(cases.iter().map(|case| case.play(&agent))).await;
    for case in &cases {
        let behaves = &case.truth.behaves;
        let what = format!("the end of all keys after: {behaves}");
        // This one names somebody else's key as ours. Ours is found by nobody but by its own secret, which still works:
        // it is being ended until people are told, after a quarter of an hour.
        let lied = behaves == "id reused from another tenant";
        until(&what, async || {
            let states = states(&app, &case.id).await;
            let known = ["failed", "revoked", "revocation_failed"];
            let listed = |state: &String| known.contains(&state.as_str()) || (lied && state == "revoking");
            let over = !states.is_empty() && states.iter().all(listed);
            (over && (lied || case.alive().is_empty())).then_some(())
        })
        .await;
        let ended = case
            .vendor
            .asked()
            .iter()
            .filter(|asked| asked.line().starts_with("DELETE"))
            .count();
        assert!(ended < 20, "{behaves}: {ended} tries");
    }
    let told = String::from_utf8_lossy(&sink.0.lock().unwrap()).into_owned();
    assert!(told.len() > 10_000, "only {} bytes of logs were caught", told.len());
    let events = app.events("").await;
    for (place, text) in [("the logs", told), ("events", Value::from(events).to_string())] {
        assert!(!text.contains(SECRET) && !text.contains(ROOT), "a key is in {place}");
    }
    app.stop().await;
}
