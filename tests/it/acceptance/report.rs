//! A prim says that the vendor refused its key: dekeys looks for itself.

use dekeys::client::{Client, Request};
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::session::plain_http;
use crate::support::{READ, Seen, TestApp, pinned, resolve, send, until};

async fn report(client: &Client, lease: &str) -> Seen {
    let request = Request::post(&["v1", "leases", lease, "report"]).json(&json!({ "status": 401 }));
    send(client, request).await
}

/// The vendor's own people end a key.
async fn kill(app: &TestApp, key: &str) {
    let vendor = &app.stage.vendor;
    let known = vendor
        .live_keys()
        .into_iter()
        .find(|known| known.secret == key)
        .unwrap();
    let root = &vendor.root_fields()[0].1;
    let url = vendor.url().join(&format!("keys/{}", known.id)).unwrap();
    let answer = plain_http().delete(url).bearer_auth(root).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 204);
}

async fn resolved(app: &TestApp, token: &dekeys::base::secret::SecretText) -> (String, String, i64) {
    let seen = resolve(&app.prim(), token, READ).await;
    assert_eq!(seen.status, 200, "{}", seen.json);
    let version = seen.json["data"][0]["credential"]["version"].as_i64().unwrap();
    (seen.text("/data/0/lease_id"), seen.key().unwrap(), version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_died_early_is_replaced_for_the_same_lease() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let token = pinned(&bought.token, PRIM);
    let (lease, dead, version) = resolved(&app, &token).await;
    let alive = report(&app.prim(), &lease).await.good();
    assert_eq!(
        (&alive["outcome"], &alive["version"]),
        (&json!("alive"), &json!(version))
    );
    assert_eq!(resolved(&app, &token).await.1, dead, "nothing changed");

    kill(&app, &dead).await;
    let told = report(&app.prim(), &lease).await.good();
    assert_eq!(
        (&told["outcome"], &told["lease_id"]),
        (&json!("replaced"), &json!(lease))
    );
    assert_eq!(told["version"], json!(version + 1));
    // What the prim still knows is not called unchanged.
    let known = json!({ "items": [{ "reference": READ, "known": { "lease_id": lease, "version": version } }] });
    let request = Request::post(&["v1", "resolve"])
        .bearer(crate::support::same(&token))
        .json(&known);
    let seen = send(&app.prim(), request).await;
    let key = seen.key().unwrap();
    assert_ne!(key, dead);
    assert_eq!(seen.text("/data/0/lease_id"), lease);
    assert!(app.stage.vendor.live_keys().iter().any(|known| known.secret == key));
    // Somebody who comes late with the old version is told at once.
    let late = Request::post(&["v1", "leases", &lease, "report"]).json(&json!({ "status": 401, "version": version }));
    assert_eq!(send(&app.prim(), late).await.good()["outcome"], "replaced");
    assert_eq!(app.events("lease.credential_replaced").await.len(), 1);
    assert_eq!(app.events("lease.reported").await.len(), 2);
    until("the end of the dead key on record", async || {
        let list = send(&app.operator(), Request::get(&["v1", "credentials"])).await.good();
        let states: Vec<Value> = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["state"].clone())
            .collect();
        (states == [json!("active"), json!("revoked")]).then_some(())
    })
    .await;
    // The new key ends as every key does.
    let end = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
    send(&app.agent(), end).await.good();
    until("the end of all keys", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    assert_eq!(report(&app.prim(), &lease).await.good()["outcome"], "ended");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_lease_s_own_prim_reports_and_not_often() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let (lease, _, _) = resolved(&app, &pinned(&bought.token, PRIM)).await;
    let other = app.client(Some(&app.enroll("prim-other", "prim").await));
    report(&other, &lease).await.is(404, "not_found");
    report(&app.operator(), &lease).await.is(403, "not_allowed");
    report(&app.anyone(), &lease).await.is(401, "signature_required");
    let odd = Request::post(&["v1", "leases", &lease, "report"]).json(&json!({ "status": 200 }));
    send(&app.prim(), odd).await.is(422, "invalid_request");
    // The vendor's list is read besides: the reaper does.
    let probes = || {
        let calls = app.stage.vendor.calls();
        calls.iter().filter(|call| call.op == "probe").count()
    };
    let before = probes();
    let prim = app.prim();
    let reports = (0..20).map(|_| report(&prim, &lease));
    let seen = futures_util::future::join_all(reports).await;
    let looked = probes() - before;
    let limited = seen.iter().filter(|seen| seen.code() == "rate_limited").count();
    assert!(
        limited > 0 && (3..20).contains(&looked) && limited + looked == 20,
        "{limited} {looked}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_at_the_same_time_make_one_key() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let token = pinned(&bought.token, PRIM);
    let (lease, dead, _) = resolved(&app, &token).await;
    kill(&app, &dead).await;
    let prim = app.prim();
    let seen = futures_util::future::join_all((0..3).map(|_| report(&prim, &lease))).await;
    for one in seen {
        assert_eq!(one.good()["outcome"], "replaced");
    }
    assert_eq!(app.stage.vendor.keys().len(), 2, "one that died and one in its place");
    assert_eq!(resolved(&app, &token).await.0, lease);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_new_key_can_be_made_the_lease_ends_and_the_next_resolve_begins_anew() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let token = pinned(&bought.token, PRIM);
    let (lease, dead, _) = resolved(&app, &token).await;
    kill(&app, &dead).await;
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        status: Some(503),
        count: Some(1),
        ..Fault::default()
    });
    let seen = report(&app.prim(), &lease).await;
    assert!(matches!(seen.status, 502 | 503), "{}", seen.json);
    let (next, key, _) = resolved(&app, &token).await;
    assert_ne!((next.as_str(), key.as_str()), (lease.as_str(), dead.as_str()));
    // A vendor that does not say: nothing is changed.
    app.stage.vendor.fault(Fault {
        op: "probe".to_owned(),
        status: Some(500),
        count: Some(1),
        ..Fault::default()
    });
    assert_eq!(report(&app.prim(), &next).await.good()["outcome"], "unknown");
    assert_eq!(resolved(&app, &token).await.1, key);
    app.stop().await;
}
