//! A key that all grants of a policy share, at a vendor that makes a second one.

use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::service::unseal;
use serde_json::json;

use super::scene::{Scene, any_policy, forward};
use crate::support::metrics::scrape;
use crate::support::{TestApp, client_at, on_both, send, until};

const SECOND: &str = "mode = \"create_then_revoke\"";

on_both! {
    a_new_key_is_tried_and_takes_over_and_the_old_one_dies, super::any_policy();
    what_the_vendor_refuses_leaves_the_key_in_use_as_it_is, super::any_policy();
    requests_under_way_keep_their_key, super::any_policy();
    a_leaked_key_is_ended_at_once, super::any_policy();
    only_a_shared_key_is_rotated, super::any_policy();
    a_vendor_with_two_slots_is_never_asked_for_a_third, super::any_policy();
    a_revoked_grant_ends_all_keys_of_a_rotation, super::any_policy();
}

async fn a_new_key_is_tried_and_takes_over_and_the_old_one_dies(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    let before = scene.one_key();
    let due = scene.due().await;
    assert_eq!(
        (due["kind"].as_str(), due["late_seconds"].as_i64()),
        (Some("credential"), Some(0))
    );

    let rotated = scene.rotate(json!({ "grace": "1s" })).await.good();
    assert!(
        ["promoted", "overlap"].contains(&rotated["state"].as_str().unwrap()),
        "{rotated}"
    );
    assert_ne!(rotated["old"], rotated["new"]);
    scene.forward().await.good();
    scene.at_rest().await;
    let after = until("the old key's end", async || {
        let live = scene.vendor.live_keys();
        (live.len() == 1).then(|| live.into_iter().next().unwrap())
    })
    .await;
    assert_ne!(after.id, before.id);
    scene.forward().await.good();
    let path = ["v1", "credentials", rotated["new"].as_str().unwrap()];
    let current = send(&app.operator(), Request::get(&path)).await.good();
    assert_eq!(current["state"], "active");
    assert_eq!(current["vendor_key_id"], after.id.as_str());
    for kind in [
        "rotation_begun",
        "rotation_tested",
        "rotated",
        "retired",
        "rotation_ended",
    ] {
        let kind = format!("credential.{kind}");
        assert_eq!(scene.events(&kind).await.len(), 1, "{kind}");
    }
    // The new key was tried three times before it was used.
    let calls = scene.vendor.calls();
    let place = |op: &str| calls.iter().rposition(|call| call.op == op).unwrap();
    assert_eq!(
        calls[place("create")..]
            .iter()
            .filter(|call| call.op == "probe")
            .take(3)
            .count(),
        3
    );
    assert_ne!(scene.due().await["id"], due["id"]);
}

async fn what_the_vendor_refuses_leaves_the_key_in_use_as_it_is(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    let before = scene.one_key();

    scene.fault("create", 503, Some(1));
    scene.rotate(json!({})).await.is(502, "rotation_failed");
    scene.forward().await.good();
    // The new key is made, but the vendor does not take it.
    scene.fault("probe", 401, Some(1));
    let refused = scene.rotate(json!({})).await;
    refused.is(502, "rotation_failed");
    assert!(refused.text("/detail").contains("not touched"), "{}", refused.json);
    scene.vendor.clear_faults();
    scene.forward().await.good();
    until("the new key's end", async || {
        let live = scene.vendor.live_keys();
        (live.len() == 1).then_some(())
    })
    .await;
    assert_eq!(scene.one_key().id, before.id, "the one in use stayed");
    assert_eq!(scene.events("credential.rotation_failed").await.len(), 2);
    assert_eq!(scene.due().await["state"], "failed");

    // An answer that is lost leaves a key that is found and ended.
    scene.vendor.fault(Fault {
        op: "create".to_owned(),
        drop_reply: true,
        count: Some(1),
        ..Fault::default()
    });
    scene.rotate(json!({})).await.is(502, "rotation_failed");
    scene.forward().await.good();
    until("the lost key's end", async || {
        let live = scene.vendor.live_keys();
        (live.len() == 1 && live[0].id == before.id).then_some(())
    })
    .await;
    scene.rotate(json!({ "grace": "0s" })).await.good();
    scene.forward().await.good();
    scene.at_rest().await;
    assert_ne!(scene.one_key().id, before.id);
}

async fn requests_under_way_keep_their_key(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    let before = scene.one_key();
    scene.vendor.fault(Fault {
        op: "route".to_owned(),
        delay_ms: Some(2500),
        count: Some(1),
        ..Fault::default()
    });
    let (client, token) = scene.caller();
    let slow = tokio::spawn(async move { forward(&client, &token).await });
    until("the request to reach the vendor", async || {
        let faults = scene.vendor.waiting_faults();
        (faults == 0).then_some(())
    })
    .await;
    scene.rotate(json!({ "grace": "1h" })).await.good();
    scene.forward().await.good();
    assert!(
        scene.vendor.live_keys().iter().any(|key| key.id == before.id),
        "the old key lives while a request is under way with it"
    );
    slow.await.unwrap().good();
    if app.config.database_url.starts_with("sqlite:") {
        // One process sees that nothing is under way any more, and does not wait for an hour.
        scene.at_rest().await;
        assert_ne!(scene.one_key().id, before.id);
    }
}

async fn a_leaked_key_is_ended_at_once(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    let leaked = scene.one_key();
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    until("the leaked key's end", async || {
        let live = scene.vendor.live_keys();
        live.iter().all(|key| key.id != leaked.id).then_some(())
    })
    .await;
    scene.forward().await.good();
    scene.rotate(json!({ "grace": "25h" })).await.is(422, "invalid_request");
}

async fn only_a_shared_key_is_rotated(app: &TestApp) {
    let bought = app.buy(json!({ "reference": crate::support::READ })).await;
    app.key_of(&bought).await;
    let list = send(&app.operator(), Request::get(&["v1", "credentials"])).await.good();
    let id = list["data"][0]["id"].as_str().unwrap().to_owned();
    let rotate = |id: &str| Request::post(&["v1", "credentials", id, "rotate"]).json(&json!({}));
    send(&app.operator(), rotate(&id)).await.is(409, "conflict");
    send(&app.operator(), rotate("nobody")).await.is(404, "not_found");
    send(&app.agent(), rotate(&id)).await.is(401, "invalid_token");
}

async fn a_vendor_with_two_slots_is_never_asked_for_a_third(app: &TestApp) {
    let scene = Scene::new(app, "mode = \"two_slot\"\nmax = 2", "").await;
    scene.forward().await.good();
    scene.fault("revoke", 503, None);
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    assert_eq!(scene.vendor.live_keys().len(), 2);
    scene.rotate(json!({})).await.is(409, "conflict");
    scene.forward().await.good();
    scene.vendor.clear_faults();
    scene.at_rest().await;
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    scene.forward().await.good();
    scene.at_rest().await;
    let refused = scene.vendor.calls();
    assert!(
        refused.iter().all(|call| call.op != "create" || call.status == 201),
        "{refused:?}"
    );
}

async fn a_revoked_grant_ends_all_keys_of_a_rotation(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    scene.vendor.fault(Fault {
        op: "route".to_owned(),
        delay_ms: Some(1000),
        count: Some(1),
        ..Fault::default()
    });
    let (client, token) = scene.caller();
    let slow = tokio::spawn(async move { forward(&client, &token).await });
    scene.rotate(json!({ "grace": "1h" })).await.good();
    let leases = send(&app.operator(), Request::get(&["v1", "leases"])).await.good();
    let lease = leases["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|lease| lease["vendor"] == "acme");
    let id = lease.unwrap()["id"].as_str().unwrap().to_owned();
    send(
        &app.operator(),
        Request::post(&["v1", "leases", &id, "revoke"]).json(&json!({})),
    )
    .await
    .good();
    until("the end of both keys", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    let _cut = slow.await;
    scene.forward().await.good();
    scene.one_key();
}

/// By a clock of the test's: weeks pass in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_due_while_the_vault_was_sealed_is_caught_up_and_what_nobody_uses_ends() {
    let app = TestApp::start().await;
    let (vendor, token) = {
        let scene = Scene::new(&app, SECOND, "rotate_every = \"10m\"").await;
        scene.forward().await.good();
        scene.forward().await.good();
        let (_, token) = scene.caller();
        (scene.vendor, token)
    };
    let before = vendor.live_keys()[0].id.clone();
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = app.restart_by(Arc::clone(&clock)).await;
    clock.advance(Ttl::from_mins(12));
    let trouble = Fault {
        op: "create".to_owned(),
        status: Some(503),
        ..Fault::default()
    };
    vendor.fault(trouble);
    let unseal_key = app.unseal_key();
    unseal::unseal(&app.stage.server.app, unseal_key).await.unwrap();
    until("a late rotation to be told", async || {
        let seen = scrape(&app).await;
        let value = |name: &str| seen.get(&format!("{name}{{vendor=\"acme\"}}")).unwrap_or_default();
        let told = value("dekeys_rotation_late_seconds") > 30.0 && value("dekeys_key_age_seconds") > 600.0;
        told.then_some(())
    })
    .await;
    vendor.clear_faults();
    let after = until("the missed rotation", async || {
        clock.advance(Ttl::from_secs(1));
        let live = vendor.live_keys();
        (live.len() == 1 && live[0].id != before).then(|| live[0].id.clone())
    })
    .await;
    let agent = || client_at(&app, &app.stage.cast.agent, clock.now());
    forward(&agent(), &token).await.good();

    // Used once since: rotated again. Not used after that: ended, and made anew by the next request.
    clock.advance(Ttl::from_mins(12));
    let last = until("the next rotation", async || {
        clock.advance(Ttl::from_secs(1));
        let live = vendor.live_keys();
        (live.len() == 1 && live[0].id != after).then(|| live[0].id.clone())
    })
    .await;
    clock.advance(Ttl::from_mins(12));
    until("the end of a key that nobody uses", async || {
        vendor.live_keys().is_empty().then_some(())
    })
    .await;
    assert_eq!(vendor.keys().iter().filter(|key| key.id == last).count(), 1);
    forward(&agent(), &token).await.good();
    assert_eq!(vendor.live_keys().len(), 1);
    app.stop().await;
}
