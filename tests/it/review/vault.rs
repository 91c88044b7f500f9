//! Unsealing, and what somebody with write access to the database cannot do.

use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::client::{Request, secret};
use dekeys::service::error::Error;
use dekeys::service::unseal;
use dekeys::setup::stage;
use dekeys::vault::UnsealKey;
use serde_json::json;

use super::scene::{READ, Scene, new_wallet, send, until};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_unseal_keys_are_told_to_the_log_and_then_have_to_wait() {
    let scene = Scene::start().await;
    unseal::close(&scene.stage.server.app);
    let admin = stage::client(&scene.stage.server.admin, None).unwrap();
    let attempt = |key: &SecretText| {
        let body = json!({ "key": secret::shown(key) });
        Request::post(&["v1", "sys", "unseal"]).json(&body)
    };
    let wrong = UnsealKey::generate_key_file(&OsRandom);
    for _ in 0..4 {
        send(&admin, attempt(&wrong)).await.is(400, "unseal_key_invalid");
    }
    let right = secret::read_file(&scene.stage.data_dir.join("unseal-key")).unwrap();
    send(&admin, attempt(&right)).await.is(429, "rate_limited");
    let told = "SELECT count(*) FROM events WHERE kind = 'vault.unseal_failed'";
    assert_eq!(scene.count(told).await, 2, "the first, and the pause");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_grant_is_raised_once_and_does_not_keep_others_from_ending() {
    let scene = Scene::start().await;
    for _ in 0..2 {
        let body = json!({ "reference": READ, "ttl": "2s", "public_key": scene.stage.cast.agent.public() });
        let (body, header) = scene.payment(&new_wallet(), body).await;
        scene.pay(&body, &header).await.good();
    }
    // The one that is due first.
    scene
        .write(
            "UPDATE grants SET max_resolves = 9999, expires = expires - 2000 WHERE id = (SELECT min(id) FROM grants)",
        )
        .await;
    let expired = "SELECT count(*) FROM grants WHERE state = 'expired'";
    until("the other grant to end", async || {
        (scene.count(expired).await == 1).then_some(())
    })
    .await;
    assert_eq!(scene.events("security.forged_row").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_gone_is_raised_when_the_vault_is_opened() {
    let scene = Scene::start().await;
    let app = &scene.stage.server.app;
    unseal::close(app);
    scene.write("DELETE FROM events WHERE n = 3").await;
    let key = secret::read_file(&scene.stage.data_dir.join("unseal-key")).unwrap();
    let refused = unseal::unseal(app, UnsealKey::parse_key_file(&key).unwrap()).await;
    assert!(matches!(refused, Err(Error::LogBroken)), "{refused:?}");
    assert!(app.vault.is_sealed());
    let told = "SELECT count(*) FROM events WHERE kind = 'audit.verification_failed'";
    until("the event", async || (scene.count(told).await == 1).then_some(())).await;
}
