//! A vendor's key is seen by the prim it was made for, and nowhere else: not in logs, answers or files, in no spelling.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use dekeys::client::{Client, Request, secret};
use dekeys::config::{LogConfig, LogFormat};
use dekeys::mock::Fault;
use dekeys::operations::{Method, operations};
use dekeys::setup::stage::PRIM;
use dekeys::telemetry;
use serde_json::{Value, json};

use crate::support::metrics::scrape;
use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, pinned, resolve, send, until};

/// Where the logs of this test's threads go.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    static LOGGING: RefCell<Option<tracing::subscriber::DefaultGuard>> = const { RefCell::new(None) };
}

#[test]
fn the_key_of_a_vendor_is_nowhere_but_with_its_prim() {
    let sink = Sink::default();
    let log = LogConfig {
        format: LogFormat::Json,
        level: "trace".to_owned(),
    };
    let logs = || {
        let writer = sink.clone();
        let subscriber = telemetry::subscriber(&log, false, false, move || writer.clone(), None);
        tracing::Dispatch::new(subscriber.unwrap())
    };
    let dispatch = logs();
    // While there is one alone, `tracing` asks the thread that passes a place first whether it logs there, for all:
    // threads of other tests would say no. With two it asks both.
    let _second = logs();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || {
            let guard = tracing::dispatcher::set_default(&dispatch);
            LOGGING.with(|place| *place.borrow_mut() = Some(guard));
        })
        .build()
        .unwrap();
    let life = runtime.block_on(async { tokio::spawn(live()).await.unwrap() });
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    let logs = sink.0.lock().unwrap().clone();
    assert!(logs.len() > 100_000, "only {} bytes of logs were caught", logs.len());
    each_request_has_its_line(&logs);

    let mut places: BTreeMap<String, Vec<u8>> = life.answers;
    places.insert("the logs".to_owned(), logs);
    places.extend(life.files);
    assert!(places.keys().any(|place| place.ends_with("dekeys.db")));
    assert!(life.secrets.len() >= 5, "{} secrets", life.secrets.len());
    // The search finds what is there: the prim's own answer.
    assert!(!found(&life.released, &life.secrets[0]).is_empty());
    for (place, bytes) in &places {
        for secret in &life.secrets {
            let spellings = found(bytes, secret);
            assert!(spellings.is_empty(), "a secret is in {place}, as {spellings:?}");
        }
    }
}

/// Which operation, for which request, with which outcome, and how long it took.
fn each_request_has_its_line(logs: &[u8]) {
    let lines = logs.split(|byte| *byte == b'\n');
    let answered = lines
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|line| line["message"] == "answered");
    let told = |line: &Value, status: u64, operation: &str| {
        line["status"] == status
            && line["span"]["operation"] == operation
            && line["span"]["request"]
                .as_str()
                .is_some_and(|id| id.starts_with("req_"))
            && line["duration_ms"].is_f64()
    };
    let lines: Vec<Value> = answered.collect();
    let bought = lines.iter().find(|line| told(line, 201, "createGrant")).unwrap();
    assert_eq!(bought["level"], "INFO");
    let quoted = lines.iter().find(|line| told(line, 402, "createGrant")).unwrap();
    assert_eq!(
        (&quoted["level"], &quoted["code"]),
        (&json!("INFO"), &json!("payment_required"))
    );
    let released = lines.iter().find(|line| told(line, 200, "resolve")).unwrap();
    assert_eq!(released["level"], "DEBUG");
    let caller = released["span"]["caller"].as_str();
    assert!(caller.is_some_and(|caller| caller.starts_with("pri_")), "{released}");
}

struct Life {
    /// Vendor keys first, then the root credential.
    secrets: Vec<String>,
    answers: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    released: Vec<u8>,
}

/// Everything that can happen to a key: made, released, kept, failed, revoked, looked at by all who may look.
async fn live() -> Life {
    let app = TestApp::start().await;
    let mut answers = BTreeMap::new();
    let first = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let released = app
        .resolve(&app.stage.cast.prim, &pinned(&first.token, PRIM), READ)
        .await;
    assert!(released.key().is_some(), "{}", released.json);
    fail(&app, &mut answers).await;
    let lease = released.text("/data/0/lease_id");
    look(&app, &first.id, &lease, &mut answers).await;
    for path in [["leases", &lease], ["grants", &first.id]] {
        let request = Request::post(&["v1", path[0], path[1], "revoke"]).json(&json!({}));
        keep(&mut answers, path[0], send(&app.operator(), request).await);
    }
    let again = resolve(&app.prim(), &pinned(&first.token, PRIM), READ).await;
    keep(&mut answers, "refused", again);
    // A second key stays alive, so that the files hold one that works.
    let second = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    app.key_of(&second).await;
    let mut secrets: Vec<String> = vec![released.key().unwrap()];
    secrets.extend(app.stage.vendor.keys().into_iter().map(|key| key.secret));
    secrets.extend(app.stage.vendor.root_fields().iter().map(|(_, value)| value.clone()));
    secrets.push(secret::shown(&first.token));
    // While the write-ahead log is there, and after it was folded in.
    let metrics = scrape(&app).await.text;
    assert!(metrics.contains("dekeys_resolve_duration_seconds_count"), "{metrics}");
    answers.insert("metrics".to_owned(), metrics.into_bytes());
    let data = app.stage.data_dir.clone();
    let mut files = read_all(&data, "running: ");
    assert!(files.keys().any(|name| name.ends_with("-wal")), "{:?}", files.keys());
    // Stopped by hand: the directory must outlive the server.
    let app = app.restart().await;
    files.extend(read_all(&data, "stopped: "));
    app.stop().await;
    Life {
        secrets,
        answers,
        files,
        released: released.body,
    }
}

fn keep(answers: &mut BTreeMap<String, Vec<u8>>, name: &str, seen: Seen) {
    let mut bytes = format!("{:?}", seen.headers).into_bytes();
    bytes.extend(seen.body);
    answers.insert(format!("answer {} {name}", answers.len()), bytes);
}

/// A vendor whose failures carry the key, and purchases that end badly.
async fn fail(app: &TestApp, answers: &mut BTreeMap<String, Vec<u8>>) {
    let faults = [
        Fault {
            status: Some(500),
            works: true,
            ..Fault::default()
        },
        Fault {
            garble: true,
            ..Fault::default()
        },
        Fault {
            drop_reply: true,
            ..Fault::default()
        },
    ];
    for fault in faults {
        app.stage.vendor.fault(Fault {
            op: "create".to_owned(),
            count: Some(1),
            ..fault
        });
        let (wallet, body) = (Wallet::new(), json!({ "reference": READ }));
        let header = wallet.sign(&app.quote(&body).await);
        let seen = app.pay(&app.anyone(), &body, &header).await;
        assert!(seen.status >= 500, "{}", seen.json);
        keep(answers, "failed purchase", seen);
    }
    let made = app.stage.vendor.keys().len();
    assert!(made >= 4, "{made} keys were made");
    // Found by the probe, ended, and on record.
    until("the end of the lost keys", async || {
        (app.stage.vendor.live_keys().len() <= 1).then_some(())
    })
    .await;
}

/// Every question that can be asked, by the operator and by the prim.
async fn look(app: &TestApp, grant: &str, lease: &str, answers: &mut BTreeMap<String, Vec<u8>>) {
    let credentials = Request::get(&["v1", "credentials"]).query("limit", Some(100));
    let list = send(&app.operator(), credentials).await.good();
    let credential = list["data"][0]["id"].as_str().unwrap().to_owned();
    for operation in operations().filter(|operation| operation.method == Method::Get) {
        let id = match operation.id {
            "showGrant" => grant,
            "showLease" => lease,
            "showCredential" => &credential,
            _ => "demo",
        };
        let path = operation.path.replace("{id}", id).replace("{name}", "demo");
        for client in [app.operator(), app.prim(), app.agent()] {
            let request = Request::at(http::Method::GET, path.clone());
            keep(answers, operation.id, send(&client, request).await);
        }
    }
    events(&app.operator(), answers).await;
}

async fn events(operator: &Client, answers: &mut BTreeMap<String, Vec<u8>>) {
    let mut before = None;
    loop {
        let request = Request::get(&["v1", "audit", "events"])
            .query("limit", Some(100))
            .query("before", before);
        let seen = send(operator, request).await;
        let list = seen.json["data"].as_array().unwrap().clone();
        keep(answers, "events", seen);
        let Some(last) = list.last() else { break };
        before = last["sequence"].as_i64();
    }
}

/// All files of the data directory, but the key files of the people on stage.
fn read_all(dir: &Path, when: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        files.insert(format!("{when}{}", path.display()), std::fs::read(&path).unwrap());
    }
    files
}

/// The spellings in which a secret stands among bytes.
fn found(bytes: &[u8], secret: &str) -> Vec<&'static str> {
    let each = |spell: fn(u8) -> String| secret.bytes().map(spell).collect::<Vec<_>>().concat();
    let escaped = each(|byte| format!("%{byte:02X}"));
    let hex = HEXLOWER.encode(secret.as_bytes());
    let mut spellings = vec![
        ("text", secret.to_owned()),
        ("text backwards", secret.chars().rev().collect()),
        ("hex", hex.clone()),
        ("upper hex", hex.to_uppercase()),
        ("URL encoding", escaped.clone()),
        ("lower URL encoding", escaped.to_lowercase()),
        ("bytes", each(|byte| format!("{byte}, "))),
        ("bytes without spaces", each(|byte| format!("{byte},"))),
    ];
    // A text's base64 looks different after 0, 1 or 2 other bytes; its first and last letters depend on neighbours.
    for before in 0..3 {
        let shifted = [&b"  "[..before], secret.as_bytes()].concat();
        for (name, text) in [
            ("base64", BASE64.encode(&shifted)),
            ("base64url", BASE64URL.encode(&shifted)),
        ] {
            let inner = text.trim_end_matches('=');
            spellings.push((name, inner.get(4..inner.len() - 2).unwrap().to_owned()));
        }
    }
    let stands = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let mut names: Vec<_> = spellings
        .iter()
        .filter(|(_, text)| stands(text))
        .map(|(name, _)| *name)
        .collect();
    names.dedup();
    names
}

#[test]
fn the_search_knows_every_spelling() {
    let secret = "demo-key-abcdefghij234567";
    for before in ["", "x", "xy", "xyz"] {
        let text = format!("{before}{secret}!");
        let base64 = BASE64.encode(text.as_bytes());
        assert_eq!(found(base64.as_bytes(), secret), ["base64", "base64url"]);
        let hex = HEXLOWER.encode(text.as_bytes());
        assert_eq!(found(hex.as_bytes(), secret), ["hex"]);
        assert_eq!(found(text.as_bytes(), secret), ["text"]);
    }
    let debug = format!("{:?}", secret.as_bytes());
    assert_eq!(found(debug.replace(']', ", ]").as_bytes(), secret), ["bytes"]);
    assert!(found(b"demo-key-abcdefghij234566", secret).is_empty());
}
