//! Keys: given out once for each right, and none left alive at the vendor.

use std::sync::Arc;

use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::service::unseal;
use dekeys::vault::UnsealKey;
use serde_json::json;

use super::scene::{READ, Scene, new_wallet, pinned, send, until};

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_tokens_for_one_reference_go_in_one_request() {
    let scene = Scene::start().await;
    let item = |token: &dekeys::base::secret::SecretText| {
        let token = dekeys::client::secret::shown(&pinned(token));
        json!({ "reference": READ, "token": token })
    };
    let (one, other) = (
        scene.buy(&new_wallet(), READ).await,
        scene.buy(&new_wallet(), READ).await,
    );
    let body = json!({ "items": [item(&one.token()), item(&other.token())] });
    let answer = send(&scene.prim(), Request::post(&["v1", "resolve"]).json(&body))
        .await
        .good();
    for at in 0..2 {
        assert_eq!(
            answer["data"][at]["object"], "resolution",
            "{}",
            answer["data"][at]["problem"]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_value_that_was_altered_is_raised_and_its_key_still_ended() {
    let scene = Scene::start().await;
    let bought = scene.buy(&new_wallet(), READ).await;
    scene.write("UPDATE credentials SET sealed = zeroblob(120)").await;
    scene.resolve(&bought.token(), READ).await.is(500, "integrity_failed");
    assert_eq!(scene.events("security.forged_row").await.len(), 1);
    let revoke = Request::post(&["v1", "grants", &bought.text("/id"), "revoke"]);
    let ended = send(&scene.agent(), revoke).await.good();
    assert_eq!(ended["confirmed"], true);
    assert!(scene.stage.vendor.live_keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_late_for_what_was_revoked_meanwhile_is_ended() {
    let scene = Arc::new(Scene::start().await);
    let bought = scene.buy(&new_wallet(), READ).await;
    let lease = scene.resolve(&bought.token(), READ).await.text("/data/0/lease_id");
    let revoke = Request::post(&["v1", "leases", &lease, "revoke"]);
    send(&scene.prim(), revoke).await.good();
    // Longer than the searches after a revocation used to take, and not as long as a call may.
    scene.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(7_000),
        count: Some(1),
        ..Fault::default()
    });
    let token = bought.token();
    let other = Arc::clone(&scene);
    let slow = tokio::spawn(async move { other.resolve(&token, READ).await });
    let intended = "SELECT count(*) FROM credentials WHERE state = 'intent'";
    until("an intent", async || (scene.count(intended).await == 1).then_some(())).await;
    let revoke = Request::post(&["v1", "grants", &bought.text("/id"), "revoke"]);
    send(&scene.agent(), revoke).await.good();
    let refused = slow.await.unwrap();
    assert!(
        refused.json.pointer("/data/0/credential").is_none(),
        "a key for a revoked grant"
    );
    let gone = async || (scene.stage.vendor.live_keys().is_empty()).then_some(());
    until("the late key to be ended", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_credential_is_used_at_once_also_for_tokens_seen_before() {
    let scene = Scene::start().await;
    let bought = scene.buy(&new_wallet(), READ).await;
    let token = dekeys::client::secret::shown(&pinned(&bought.token()));
    let resolve = || scene.resolve_pinned(dekeys::base::secret::SecretText::new(token.clone()), READ);
    let lease = resolve().await.text("/data/0/lease_id");
    send(&scene.prim(), Request::post(&["v1", "leases", &lease, "revoke"]))
        .await
        .good();
    scene.stage.connect_vendor().await.unwrap();
    resolve().await.good();
    let of_new = "SELECT count(*) FROM credentials AS c JOIN roots AS r ON r.id = c.root \
                  WHERE c.state = 'active' AND r.current = 1";
    assert_eq!(scene.count(of_new).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_released_while_the_clock_is_set_back() {
    let scene = Scene::start().await;
    let bought = scene.buy(&new_wallet(), READ).await;
    scene.write("UPDATE chain SET high_water = high_water + 45000").await;
    let scene = scene.restart().await;
    let key = dekeys::client::secret::read_file(&scene.stage.data_dir.join("unseal-key")).unwrap();
    unseal::unseal(&scene.stage.server.app, UnsealKey::parse_key_file(&key).unwrap())
        .await
        .unwrap();
    let refused = scene.resolve(&bought.token(), READ).await;
    refused.is(503, "overloaded");
    assert!(refused.text("/detail").contains("clock"), "{}", refused.json);
}
