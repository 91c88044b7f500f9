//! Time that a request takes, and time that its sender believes in.

use std::fs::File;
use std::time::Duration;

use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, client_at, priced, send, until};

async fn impatient(seconds: i64) -> TestApp {
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    TestApp::with(&policy, |config| {
        config.limits.request_timeout = Ttl::from_secs(seconds);
    })
    .await
}

/// The vendor takes so long for its next call of a kind.
fn slow(app: &TestApp, op: &str, delay_ms: u64) {
    app.stage.vendor.fault(Fault {
        op: op.to_owned(),
        delay_ms: Some(delay_ms),
        count: Some(1),
        ..Fault::default()
    });
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

/// The same payment again and again until it gives its grant.
async fn given(app: &TestApp, body: &Value, header: &str) -> Seen {
    until("the payment to give its grant", async || {
        let seen = app.pay(&app.anyone(), body, header).await;
        let waits = ["idempotency_running", "payment_unknown", "request_timeout"].contains(&seen.code().as_str());
        assert!(waits || seen.status < 300, "{}", seen.json);
        (!waits).then_some(seen)
    })
    .await
}

async fn paid_once(app: &TestApp, wallet: &Wallet) {
    assert_eq!(app.rail().balance(&wallet.address()).unwrap(), 990_000);
    assert_eq!(app.events("grant.created").await.len(), 1);
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purchase_that_takes_too_long_is_answered_and_goes_on() {
    let app = impatient(1).await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    slow(&app, "create", 3_000);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(504, "request_timeout");
    assert!(seen.text("/detail").contains("goes on"), "{}", seen.json);
    assert!(seen.headers.contains_key("retry-after"), "{seen:?}");
    assert_eq!(
        app.rail().balance(&wallet.address()).unwrap(),
        1_000_000,
        "not settled yet"
    );
    given(&app, &body, &header).await;
    paid_once(&app, &wallet).await;
    app.stop().await;
}

/// Money may have moved: the answer is where to look, as for a rail that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_takes_too_long_is_not_broken_off() {
    let app = impatient(5).await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    slow(&app, "create", 2_000);
    let ledger = File::open(app.stage.data_dir.join("payments.jsonl")).unwrap();
    let held = until_asked_then_lock(&app, &ledger);
    let buyer = app.anyone();
    let (seen, ()) = tokio::join!(app.pay(&buyer, &body, &header), held);
    seen.is(202, "payment_unknown");
    let address = seen.headers["location"].to_str().unwrap().to_owned();
    let id = address.strip_prefix("/v1/grants/").unwrap().to_owned();
    ledger.unlock().unwrap();
    until("the grant", async || {
        let grant = send(&app.operator(), Request::get(&["v1", "grants", &id])).await.good();
        (grant["state"] == "active").then_some(())
    })
    .await;
    given(&app, &body, &header).await;
    paid_once(&app, &wallet).await;
    app.stop().await;
}

/// While the vendor makes the key, nobody reads the ledger; from now on nobody can settle.
async fn until_asked_then_lock(app: &TestApp, ledger: &File) {
    until("the vendor to be asked", async || {
        let intended = app.events("credential.intended").await;
        (!intended.is_empty()).then_some(())
    })
    .await;
    ledger.lock().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_takes_too_long_goes_on() {
    let app = impatient(1).await;
    let bought = app.buy(wish(&app)).await;
    app.key_of(&bought).await;
    slow(&app, "revoke", 3_000);
    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
    send(&app.agent(), revoke).await.is(504, "request_timeout");
    let grant = send(&app.agent(), Request::get(&["v1", "grants", &bought.id]))
        .await
        .good();
    assert_eq!(grant["state"], "revoked", "here it ended at once");
    until("the key's end at the vendor", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    app.stop().await;
}

/// All of the database's connections are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_that_takes_too_long_is_broken_off() {
    let app = impatient(1).await;
    send(&app.operator(), Request::get(&["v1", "grants"])).await.good();
    let mut held = Vec::new();
    while let Ok(tx) = tokio::time::timeout(Duration::from_millis(200), app.stage.server.app.store.read()).await {
        held.push(tx.unwrap());
        assert!(held.len() < 100, "the connections have no end");
    }
    let seen = send(&app.operator(), Request::get(&["v1", "grants"])).await;
    seen.is(504, "request_timeout");
    assert!(seen.text("/detail").contains("broken off"), "{}", seen.json);
    drop(held);
    send(&app.operator(), Request::get(&["v1", "grants"])).await.good();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_of_another_time_is_told_from_a_wrong_one() {
    let app = TestApp::start().await;
    let now = SystemClock::default().now();
    let ask = || Request::get(&["v1", "grants"]);
    send(&client_at(&app, &app.stage.cast.operator, now), ask())
        .await
        .good();
    for wrong in [now.minus(Ttl::from_secs(94)), now.plus(Ttl::from_secs(94))] {
        let seen = send(&client_at(&app, &app.stage.cast.operator, wrong), ask()).await;
        seen.is(401, "clock_skew");
        let detail = seen.text("/detail");
        assert!(detail.contains("here it is 2"), "{detail}");
    }
    app.stop().await;
}
