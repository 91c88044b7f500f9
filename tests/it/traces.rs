//! Traces as a collector gets them: by the standard variables, in the caller's trace, without a secret, and never in the
//! way of a request. The collector is a server of the test's own; the server is the binary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use dekeys::client::{Request, secret};
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::purse::{Wallet, terms};
use crate::support::{READ, Seen, TestApp, pinned, priced, resolve, send, until};

/// A trace that a caller began.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Requests: head and body.
type Got = Vec<(HeaderMap, Vec<u8>)>;

/// What a collector got.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    got: Arc<Mutex<Got>>,
    /// It never answers.
    silent: bool,
}

/// One span.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: i64,
    pub(crate) failed: bool,
    pub(crate) facts: BTreeMap<String, String>,
}

impl Collector {
    /// Its address.
    pub(crate) async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = async |State(collector): State<Self>, headers: HeaderMap, body: Bytes| {
            collector.got.lock().unwrap().push((headers, body.to_vec()));
            if collector.silent {
                std::future::pending::<()>().await;
            }
            StatusCode::OK
        };
        let router = axum::Router::new()
            .route("/v1/traces", axum::routing::post(taken))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    fn all(&self) -> Got {
        self.got.lock().unwrap().clone()
    }

    /// All spans, sent as JSON.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let each = |pointer: &str, from: &[Value]| -> Vec<Value> {
            let lists = from.iter().filter_map(|value| value.pointer(pointer)?.as_array());
            lists.flatten().cloned().collect()
        };
        let bodies: Vec<Value> = self
            .all()
            .iter()
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect();
        let scopes = each("/scopeSpans", &each("/resourceSpans", &bodies));
        each("/spans", &scopes).iter().map(Span::of).collect()
    }
}

impl Span {
    fn of(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let fact = |fact: &Value| {
            let value = fact["value"].as_object().unwrap().values().next().unwrap();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (fact["key"].as_str().unwrap().to_owned(), value)
        };
        Self {
            name: text("name"),
            trace: text("traceId"),
            id: text("spanId"),
            parent: text("parentSpanId"),
            kind: json["kind"].as_i64().unwrap(),
            failed: json.pointer("/status/code") == Some(&json!(2)),
            facts: json["attributes"].as_array().unwrap().iter().map(fact).collect(),
        }
    }
}

/// The spans between one and the one whose request it served, by name, itself first.
fn way_up(spans: &[Span], span: &Span) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut parent = span.parent.clone();
    while let Some(next) = spans.iter().find(|span| span.id == parent) {
        names.push(next.name.clone());
        parent.clone_from(&next.parent);
    }
    names
}

async fn server(variables: &[(&str, &str)]) -> Process {
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |_| {}).await;
    Process::of(app, variables).await
}

/// Buys a grant in somebody's trace.
async fn buy(process: &Process, traceparent: &str) -> Seen {
    let body = json!({ "reference": READ, "public_key": process.cast.agent.public() });
    let ask = || {
        Request::post(&["v1", "grants"])
            .json(&body)
            .header("traceparent", traceparent)
    };
    let asked = send(&process.anyone(), ask()).await;
    asked.is(402, "payment_required");
    let paid = ask().header("payment-signature", &Wallet::new().sign(&terms(&asked)));
    let seen = send(&process.anyone(), paid).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_is_followed_from_its_caller_to_the_vendor() {
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=keys"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        // Only what is left at the end is waited for: what is sent is sent then.
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let mut process = server(&variables).await;
    let bought = buy(&process, &format!("00-{TRACE}-{CALLER}-01")).await;
    assert!(collector.all().is_empty(), "it was sent before its time");
    assert!(process.terminate());
    let (headers, body) = collector.all()[0].clone();
    assert_eq!(headers["x-team"], "keys");
    let resource = String::from_utf8(body).unwrap();
    for fact in [
        "service.name",
        "\"dekeys\"",
        "deployment.environment.name",
        "service.version",
    ] {
        assert!(resource.contains(fact), "{fact} {resource}");
    }
    let spans = collector.spans();
    let request = bought.headers["request-id"].to_str().unwrap();
    let root = spans
        .iter()
        .find(|span| span.facts.get("dekeys.request_id").map(String::as_str) == Some(request))
        .expect("the request's span");
    assert_eq!((root.name.as_str(), root.kind), ("POST /v1/grants", 2), "a server's");
    assert_eq!((root.trace.as_str(), root.parent.as_str()), (TRACE, CALLER));
    assert_eq!(root.facts["http.response.status_code"], "201");
    assert_eq!(root.facts["http.route"], "/v1/grants");
    let own: Vec<&Span> = spans.iter().filter(|span| span.trace == TRACE).collect();
    let verb = own.iter().find(|span| span.parent == root.id).unwrap();
    assert_eq!(verb.name, "createGrant");
    let ways: Vec<Vec<String>> = own.iter().map(|span| way_up(&spans, span)).collect();
    for way in [
        vec!["store.write", "createGrant", "POST /v1/grants"],
        vec!["payment.verify", "createGrant", "POST /v1/grants"],
        vec!["payment.settle", "createGrant", "POST /v1/grants"],
        vec!["POST", "vendor.create", "createGrant", "POST /v1/grants"],
    ] {
        assert!(ways.iter().any(|one| *one == way), "{way:?} in {ways:?}");
    }
    let call = own.iter().find(|span| span.name == "POST").unwrap();
    assert_eq!(
        (call.kind, call.facts["server.address"].as_str()),
        (3, "127.0.0.1"),
        "a client's"
    );
    assert_eq!(call.facts["http.response.status_code"], "201");
    let vendor = own.iter().find(|span| span.name == "vendor.create").unwrap();
    assert_eq!(
        (
            vendor.facts["dekeys.vendor"].as_str(),
            vendor.facts["dekeys.outcome"].as_str()
        ),
        ("demo", "ok")
    );
    // Lines of the log name the request and not the step; nothing there is for traces.
    let logs = process.logs();
    let line = logs
        .lines()
        .find(|line| line.contains(request))
        .expect("a line about the request");
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["span"]["name"], &line["span"]["request"]),
        (&json!("request"), &json!(request))
    );
    assert!(!logs.contains("otel"), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_span() {
    let collector = Collector::default();
    let endpoint = format!("{}/v1/traces", collector.start().await);
    // The default form is protobuf, whose texts stand in the bytes as they are.
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "20"),
    ];
    let mut process = server(&variables).await;
    let bought = buy(&process, "00-zz-not-one-01").await;
    let token = secret::at(&bought.json, "/token").unwrap();
    let narrowed = pinned(&token, PRIM);
    let resolved = resolve(&process.client(Some(&process.cast.prim)), &narrowed, READ).await;
    let key = resolved.key().unwrap();
    let forwarded = Request::at(http::Method::GET, format!("/p/demo/echo?secret={key}")).bearer(narrowed);
    let _whatever = send(&process.client(Some(&process.cast.prim)), forwarded).await;
    // A token and a key where nothing looks for them: in a path, a query and a field.
    let token = secret::shown(&token);
    for path in [
        format!("/v1/grants/{token}"),
        format!("/{key}"),
        format!("/v1/offers?{token}={key}"),
    ] {
        let request = Request::at(http::Method::GET, path)
            .header("x-key", &key)
            .header("tracestate", &format!("a={key}"));
        let _refused = send(&process.operator(), request).await;
    }
    let unseal = std::fs::read_to_string(process.data_dir.join("unseal-key")).unwrap();
    let root = process.vendor_root();
    assert!(process.terminate());
    let all = collector.all();
    assert!(
        all.iter()
            .all(|(headers, _)| headers["content-type"] == "application/x-protobuf")
    );
    let bytes: Vec<u8> = all.iter().flat_map(|(_, body)| body.clone()).collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    for told in [
        "POST /v1/resolve",
        "store.write",
        "vendor.create",
        "dekeys.request_id",
        "GET /p/{vendor}/{path}",
    ] {
        assert!(holds(told), "{told} is missing");
    }
    let unseal = unseal.lines().last().unwrap().trim().to_owned();
    let signing = process.cast.operator.to_text();
    let signing = secret::shown(&signing)
        .trim_end()
        .chars()
        .rev()
        .take(40)
        .collect::<String>();
    let signing: String = signing.chars().rev().collect();
    for hidden in [
        &key,
        &token,
        &unseal,
        &root,
        &signing,
        &token.get(10..40).unwrap().to_owned(),
    ] {
        assert!(hidden.len() >= 16, "{hidden}");
        assert!(!holds(hidden), "{hidden} was exported");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_and_operators_decide_what_is_sampled() {
    for (sampler, flags, told) in [
        (None, "01", true),
        (None, "00", false),
        (Some(("OTEL_TRACES_SAMPLER", "always_off")), "01", false),
        (Some(("OTEL_SDK_DISABLED", "true")), "01", false),
        (Some(("OTEL_TRACES_EXPORTER", "none")), "01", false),
        (Some(("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")), "01", false),
    ] {
        let collector = Collector::default();
        let endpoint = collector.start().await;
        let mut variables = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        variables.extend(sampler);
        let mut process = server(&variables).await;
        let before = collector.all().len();
        let request = Request::get(&["v1", "offers"]).header("traceparent", &format!("00-{TRACE}-{CALLER}-{flags}"));
        send(&process.anyone(), request).await.good();
        assert!(process.terminate());
        let bytes: Vec<u8> = collector.all().iter().flat_map(|(_, body)| body.clone()).collect();
        let trace = data_encoding::HEXLOWER.decode(TRACE.as_bytes()).unwrap();
        let found = bytes.windows(16).any(|part| part == trace);
        assert_eq!(found, told, "{sampler:?} {flags}, {before} before");
        if sampler.is_some() {
            assert!(bytes.is_empty(), "{sampler:?}");
        }
        let refused = process.logs().contains("gRPC is not spoken here");
        assert_eq!(refused, sampler.is_some_and(|(_, value)| value == "grpc"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_or_silent_keeps_nobody_waiting() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = Collector {
        silent: true,
        ..Collector::default()
    };
    for endpoint in [format!("http://{closed}"), silent.start().await] {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
        ];
        let mut process = server(&variables).await;
        for _ in 0..50 {
            send(&process.anyone(), Request::get(&["v1", "offers"])).await.good();
        }
        buy(&process, &format!("00-{TRACE}-{CALLER}-01")).await;
        if endpoint.ends_with(&closed.port().to_string()) {
            until("a word about it", async || {
                let told = process.logs().matches("traces cannot be exported").count();
                assert!(told <= 1, "it is said once");
                (told == 1).then_some(())
            })
            .await;
        }
        assert!(process.terminate(), "{endpoint}");
    }
}
