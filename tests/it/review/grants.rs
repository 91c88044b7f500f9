//! Grants: who may use, prolong and end them.

use std::sync::Arc;

use dekeys::client::Request;
use dekeys::mock::Fault;
use serde_json::json;

use super::scene::{READ, Scene, WRITE, new_wallet, policy, send, until};

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_for_the_holder_alone() {
    let scene = Scene::start().await;
    let bought = scene.buy(&new_wallet(), READ).await;
    let id = bought.text("/id");
    let fresh = || Request::post(&["v1", "grants", &id, "tokens"]);
    send(&scene.operator(), fresh()).await.is(403, "not_allowed");
    send(&scene.agent(), fresh()).await.good();
    // Ending it is an operator's right.
    send(&scene.operator(), Request::post(&["v1", "grants", &id, "revoke"]))
        .await
        .good();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_out_an_owner_ends_all_even_what_is_being_made() {
    let scene = Arc::new(Scene::start().await);
    scene
        .put_in_force("writers", &policy("writers", "echo:write", ""))
        .await;
    let (id, key) = scene.enroll("crawler", "agent").await;
    let ask = |scene: Arc<Scene>| {
        let client = scene.client(Some(&key));
        async move {
            send(
                &client,
                Request::post(&["v1", "grants"]).json(&json!({ "reference": WRITE })),
            )
            .await
        }
    };
    let ready = ask(Arc::clone(&scene)).await;
    scene.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(2_500),
        count: Some(1),
        ..Fault::default()
    });
    let slow = tokio::spawn(ask(Arc::clone(&scene)));
    let making = "SELECT count(*) FROM grants WHERE state = 'provisioning'";
    until("a grant in the making", async || {
        (scene.count(making).await == 1).then_some(())
    })
    .await;

    let disabled = send(&scene.operator(), Request::post(&["v1", "principals", &id, "disable"])).await;
    assert_eq!(disabled.text("/state"), "disabled", "{}", disabled.json);
    scene.resolve(&ready.token(), WRITE).await.is(401, "invalid_token");
    let made = slow.await.unwrap();
    scene.resolve(&made.token(), WRITE).await.is(401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewing_does_not_go_round_the_people_who_decide() {
    let scene = Scene::start().await;
    scene
        .put_in_force(
            "asked",
            &policy("asked", "echo:write", "[approval]\ngrants = \"always\"\n"),
        )
        .await;
    let asked = scene.ask_for(WRITE).await;
    scene.approve(0, &asked.text("/approval")).await.good();
    let grant = asked.text("/grant");
    let renew = || Request::post(&["v1", "grants", &grant, "renew"]);
    send(&scene.agent(), renew()).await.is(409, "conflict");
    scene.put_in_force("free", &policy("free", "echo:write", "")).await;
    send(&scene.agent(), renew()).await.is(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_what_payments_name() {
    let scene = Scene::start().await;
    let enroll = |name: &str, wallet: &str| {
        let body = json!({ "name": name, "kind": "agent", "public_keys": [], "wallets": [wallet] });
        Request::post(&["v1", "principals"]).json(&body)
    };
    let wallet = "eip155:84532:0x857b06519E91e3A54538791bDbb0E22373e36b66";
    send(&scene.operator(), enroll("one", "my wallet"))
        .await
        .is(422, "invalid_request");
    send(&scene.operator(), enroll("one", wallet)).await.good();
    send(&scene.operator(), enroll("other", wallet))
        .await
        .is(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_for_a_grant_that_failed_is_not_told_that_all_is_well() {
    let scene = Scene::start().await;
    scene
        .put_in_force("writers", &policy("writers", "echo:write", ""))
        .await;
    scene.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        status: Some(403),
        count: Some(1),
        ..Fault::default()
    });
    let ask = |key: &str| {
        let request = Request::post(&["v1", "grants"]).json(&json!({ "reference": WRITE }));
        request.header("idempotency-key", key)
    };
    send(&scene.agent(), ask("one")).await.is(502, "vendor_refused");
    send(&scene.agent(), ask("one")).await.is(409, "conflict");
    send(&scene.agent(), ask("two")).await.good();
}
