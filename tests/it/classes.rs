//! The five classes of vendors, each with its own way out of a lost answer.

use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request};
use dekeys::mock::{Fault, MockOptions, MockVendor};
use dekeys::service::unseal;
use dekeys::setup::stage::PRIM;
use dekeys::vendor::{Manifest, shipped};
use serde_json::{Value, json};

use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, client_at, priced, send, until};

/// The demo vendor's manifest with some lines replaced.
fn manifest(changes: &[(&str, &str)]) -> String {
    let demo = shipped()
        .into_iter()
        .find(|(name, _)| name.as_str() == "demo")
        .unwrap()
        .1;
    changes.iter().fold(demo.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

const CLASS: &str = "class = 2";

/// It remembers creations for an hour.
fn v1() -> String {
    let remembers = "ok = [201]\nidempotency = { mode = \"header\", name = \"Idempotency-Key\", window_s = 3600 }\n\
                     secret = \"/key\"";
    manifest(&[(CLASS, "class = 1"), ("ok = [201]\nsecret = \"/key\"", remembers)])
}

/// Its keys have no names.
fn v3() -> String {
    manifest(&[(CLASS, "class = 3"), ("name = \"${name}\", ", "")])
}

/// It shows and ends no key; each ends by itself.
fn v4() -> String {
    let demo = manifest(&[(CLASS, "class = 4")]);
    let without = |text: &str, table: &str| {
        let (before, rest) = text.split_once(&format!("[{table}]")).unwrap();
        let (_, after) = rest.split_once("\n[").unwrap();
        format!("{before}[{after}")
    };
    without(&without(&without(&demo, "list"), "revoke"), "rotate")
}

/// An instance whose vendor is of another class, by a clock of the test's.
struct Scene {
    app: TestApp,
    clock: Arc<ManualClock>,
    vendor: MockVendor,
}

impl Scene {
    async fn of(text: &str) -> Self {
        let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
        let app = TestApp::with(&policy, |_| {}).await;
        let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
        let app = app.restart_by(Arc::clone(&clock)).await;
        unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
        let parsed = Manifest::parse(text, "demo.toml").unwrap_or_else(|error| panic!("{error}"));
        let vendor = MockVendor::start(&parsed, MockOptions::default()).await.unwrap();
        let fields: serde_json::Map<String, Value> = vendor
            .root_fields()
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let body = json!({ "fields": fields, "base_url": vendor.url().as_str(), "manifest": text });
        let connect = Request::put(&["v1", "vendors", "demo", "root-credential"]).json(&body);
        send(&app.operator(), connect).await.good();
        app.stage.put_in_force(&policy).await.unwrap();
        Self { app, clock, vendor }
    }

    fn operator(&self) -> Client {
        client_at(&self.app, &self.app.stage.cast.operator, self.clock.now())
    }

    async fn rows(&self, noun: &str) -> Vec<Value> {
        let list = send(&self.operator(), Request::get(&["v1", noun])).await.good();
        list["data"].as_array().unwrap().clone()
    }

    async fn state(&self) -> String {
        self.rows("credentials").await[0]["state"].as_str().unwrap().to_owned()
    }

    /// Buys; the vendor's answer is lost.
    async fn lose_an_answer(&self) -> Seen {
        self.vendor.fault(Fault {
            op: "create".to_owned(),
            drop_reply: true,
            count: Some(1),
            ..Fault::default()
        });
        let mut body = json!({ "reference": READ });
        body["public_key"] = json!(self.app.stage.cast.agent.public());
        let header = Wallet::new().sign(&self.app.quote(&body).await);
        self.app.pay(&self.app.anyone(), &body, &header).await
    }

    /// Lets time pass until the newest credential is in this state.
    async fn becomes(&self, state: &str) {
        until(state, async || {
            self.clock.advance(Ttl::from_secs(3));
            (self.state().await == state).then_some(())
        })
        .await;
    }

    async fn raised_nothing(&self) {
        let raised = Request::get(&["v1", "audit", "events"]).query("type", Some("lease.revocation_failed"));
        assert_eq!(send(&self.operator(), raised).await.good()["data"], json!([]));
    }

    fn asked(&self, op: &str) -> usize {
        self.vendor.calls().iter().filter(|call| call.op == op).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_the_same_request_is_sent_again_and_makes_no_second_key() {
    let scene = Scene::of(&v1()).await;
    // The list never shows it: only the repeated request tells which key it is.
    scene.vendor.fault(Fault {
        op: "list".to_owned(),
        blind: true,
        ..Fault::default()
    });
    scene.lose_an_answer().await.is(503, "vendor_unavailable");
    scene.becomes("revoked").await;
    assert_eq!((scene.vendor.keys().len(), scene.vendor.live_keys().len()), (1, 0));
    assert_eq!(scene.asked("create"), 2);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_nothing_is_sent_again_once_the_vendor_may_have_forgotten() {
    let scene = Scene::of(&v1()).await;
    scene.lose_an_answer().await.is(503, "vendor_unavailable");
    scene.clock.advance(Ttl::from_mins(60));
    scene.becomes("revoked").await;
    assert_eq!(scene.asked("create"), 1, "it is found by its name");
    assert!(scene.vendor.live_keys().is_empty());
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v3_what_appeared_is_reported_and_people_tell_which_key_it_was() {
    let scene = Scene::of(&v3()).await;
    let before = scene.vendor.plant("");
    scene.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(300),
        drop_reply: true,
        count: Some(1),
        ..Fault::default()
    });
    let losing = scene.lose_an_answer();
    let colleague = async {
        until("the list from before", async || {
            (scene.asked("list") >= 1).then_some(())
        })
        .await;
        scene.vendor.plant("")
    };
    let (lost, colleague) = tokio::join!(losing, colleague);
    lost.is(503, "vendor_unavailable");
    scene.becomes("revocation_failed").await;
    let found = scene.rows("orphans").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|row| row["reason"] == json!("appeared") && row["state"] == json!("reported"))
    );
    assert!(found.iter().all(|row| row["vendor_key_id"] != json!(before.id)));
    assert_eq!((scene.asked("revoke"), scene.vendor.live_keys().len()), (0, 3));
    for row in &found {
        let decision = if row["vendor_key_id"] == json!(colleague.id) {
            "dismiss"
        } else {
            "revoke"
        };
        let id = row["id"].as_str().unwrap();
        let request = Request::post(&["v1", "orphans", id, "decide"]).json(&json!({ "decision": decision }));
        send(&scene.operator(), request).await.good();
    }
    scene.becomes("revoked").await;
    let live: Vec<_> = scene.vendor.live_keys().into_iter().map(|key| key.id).collect();
    assert_eq!(live, [before.id, colleague.id]);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v3_one_key_is_made_at_a_time_and_the_turn_comes_round() {
    let scene = Scene::of(&v3()).await;
    let app = &scene.app;
    let buys = (0..3).map(|_| app.buy(json!({ "reference": READ })));
    futures_util::future::join_all(buys).await;
    assert_eq!(scene.vendor.live_keys().len(), 3);
    let ops: Vec<String> = scene
        .vendor
        .calls()
        .into_iter()
        .map(|call| call.op)
        .filter(|op| op == "list" || op == "create")
        .collect();
    let creations: Vec<usize> = (0..ops.len()).filter(|at| ops[*at] == "create").collect();
    assert!(
        creations.iter().all(|at| *at > 0 && ops[at - 1] == "list"),
        "before each creation the list is looked at: {ops:?}"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v4_a_key_that_nobody_can_end_is_dead_when_its_term_is_over_and_no_alarm_is_raised() {
    let scene = Scene::of(&v4()).await;
    let bought = scene.app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    scene.app.key_of(&bought).await;
    let lease = scene.rows("leases").await[0]["id"].as_str().unwrap().to_owned();
    let revoke = Request::post(&["v1", "leases", &lease, "revoke"]).json(&json!({}));
    let ended = send(&scene.operator(), revoke).await.good();
    assert_eq!(ended["confirmed"], json!(false), "nobody can end it before its time");
    assert_eq!(scene.state().await, "revoking");
    scene.becomes("revoked").await;
    scene.raised_nothing().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v4_a_creation_whose_answer_was_lost_is_over_with_its_term() {
    let scene = Scene::of(&v4()).await;
    // Keys that nobody can end are paid for before they are made.
    scene.lose_an_answer().await.is(502, "payment_credited");
    assert_eq!(scene.state().await, "probe");
    until("the end of its term", async || {
        scene.clock.advance(Ttl::from_secs(60));
        (scene.state().await == "failed").then_some(())
    })
    .await;
    scene.raised_nothing().await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v5_no_key_is_ever_made() {
    let text = manifest(&[(CLASS, "class = 5")]);
    let app = TestApp::start().await;
    let fields = json!({ "key": "demo-root-x" });
    let body = json!({ "fields": fields, "base_url": app.stage.vendor.url().as_str(), "manifest": text });
    let connect = Request::put(&["v1", "vendors", "demo", "root-credential"]).json(&body);
    send(&app.operator(), connect).await.good();
    let policy = priced("others", "echo:read", &[PRIM], "0.01");
    let propose = Request::put(&["v1", "policies", "others"]).json(&json!({ "text": policy, "reason": "a test" }));
    let seen = send(&app.operator(), propose).await;
    seen.is(422, "policy_invalid");
    assert!(seen.json.to_string().contains("class V5"), "{}", seen.json);
    app.stop().await;
}
