//! Root credentials: by the vendor's API, and by hand.

use dekeys::client::Request;
use dekeys::mock::Fault;
use serde_json::{Value, json};

use super::scene::{Scene, any_policy};
use crate::support::{Seen, TestApp, on_both, send, until};

const SECOND: &str = "mode = \"create_then_revoke\"";

/// The vendor makes another root credential, tells who asks, and ends one.
const BY_API: &str = r#"mode = "create_then_revoke"
[root.rotate]
mode = "create_then_revoke"
[root.rotate.who]
path = "/roots/self"
id = "/id"
[root.rotate.call]
method = "POST"
path = "/roots"
body = { name = "${name}" }
fields = { key = "/value" }
[root.rotate.end]
method = "DELETE"
path = "/roots/${id}"
ok = [204]
"#;

const IN_PLACE: &str = r#"mode = "create_then_revoke"
[root.rotate]
mode = "in_place"
[root.rotate.call]
method = "POST"
path = "/roots/self/rotate"
fields = { key = "/value" }
"#;

on_both! {
    the_api_makes_another_that_proves_itself_and_takes_over_the_keys, super::any_policy();
    the_old_one_lives_through_its_grace_however_often_workers_look, super::any_policy();
    one_that_cannot_make_keys_is_never_used, super::any_policy();
    one_made_by_hand_is_tested_alike_and_the_old_one_is_asked_for_until_it_is_gone, super::any_policy();
    a_vendor_that_switches_in_place_is_asked_once, super::any_policy();
}

async fn rotate_root(app: &TestApp, body: Value) -> Seen {
    send(
        &app.operator(),
        Request::post(&["v1", "vendors", "acme", "rotate-root"]).json(&body),
    )
    .await
}

async fn row(app: &TestApp) -> Value {
    let list = send(&app.operator(), Request::get(&["v1", "rotations"])).await.good();
    let rows = list["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["kind"] == "root" && row["name"] == "acme");
    row.unwrap().clone()
}

fn live_roots(scene: &Scene<'_>) -> usize {
    scene.vendor.roots().iter().filter(|root| root.until.is_none()).count()
}

async fn the_api_makes_another_that_proves_itself_and_takes_over_the_keys(app: &TestApp) {
    let scene = Scene::new(app, BY_API, "").await;
    scene.forward().await.good();
    let before = row(app).await;
    let rotated = rotate_root(app, json!({})).await.good();
    assert_eq!(rotated["old"], before["id"]);
    let after = row(app).await;
    assert_eq!(after["id"], rotated["new"]);
    assert_eq!(live_roots(&scene), 2, "both live through the grace");
    // The proof made a key and ended it; the shared one stays, and goes on.
    until("the end of the key that was the proof", async || {
        (scene.vendor.live_keys().len() == 1).then_some(())
    })
    .await;
    scene.forward().await.good();
    assert_eq!(scene.vendor.keys().len(), 2);
    // What the old one made is ended with the new one: nothing asks with the old one.
    let old = scene.vendor.roots()[0].id.clone();
    assert!(scene.vendor.end_root(&old));
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    until("the end of a key that the old root credential made", async || {
        (scene.vendor.live_keys().len() == 1).then_some(())
    })
    .await;
    scene.forward().await.good();
    for kind in ["root_rotation_begun", "root_made", "root_proved", "root_rotated"] {
        assert_eq!(scene.events(&format!("vendor.{kind}")).await.len(), 1, "{kind}");
    }
}

async fn the_old_one_lives_through_its_grace_however_often_workers_look(app: &TestApp) {
    let scene = Scene::new(app, BY_API, "").await;
    for count in 1..=12 {
        let rotated = rotate_root(app, json!({})).await.good();
        assert_eq!(rotated["state"], "overlap");
        // A worker that saw it a moment before comes now.
        scene.forward().await.good();
        assert_eq!(row(app).await["state"], "overlap", "rotation {count}");
    }
    assert_eq!(live_roots(&scene), 13);
}

async fn one_that_cannot_make_keys_is_never_used(app: &TestApp) {
    let scene = Scene::new(app, BY_API, "").await;
    scene.forward().await.good();
    let before = row(app).await["id"].clone();
    scene.fault("create", 403, Some(1));
    rotate_root(app, json!({})).await.is(502, "rotation_failed");
    assert_eq!(row(app).await["id"], before);
    until("the end of the one that was not used", async || {
        (live_roots(&scene) == 1).then_some(())
    })
    .await;
    scene.forward().await.good();
    // The vendor made one, and its answer was lost: it is found by its name and ended.
    scene.vendor.fault(Fault {
        op: "root_rotate".to_owned(),
        status: Some(422),
        count: Some(1),
        ..Fault::default()
    });
    rotate_root(app, json!({})).await.is(502, "rotation_failed");
    assert_eq!(live_roots(&scene), 1);
    rotate_root(app, json!({})).await.good();
    assert_ne!(row(app).await["id"], before);
}

async fn one_made_by_hand_is_tested_alike_and_the_old_one_is_asked_for_until_it_is_gone(app: &TestApp) {
    let scene = Scene::new(app, SECOND, "").await;
    scene.forward().await.good();
    let before = row(app).await;
    assert_eq!(before["mode"], Value::Null);
    rotate_root(app, json!({})).await.is(409, "conflict");
    rotate_root(app, json!({ "fields": { "key": "sk-other" } }))
        .await
        .is(422, "invalid_request");
    // Well formed, but the vendor does not know it.
    rotate_root(app, json!({ "fields": { "key": "demo-root-unknown" } }))
        .await
        .is(502, "rotation_failed");
    // The one that is in use, once more: it would be ended as the old one.
    let (_, in_use) = scene.vendor.root_fields()[0].clone();
    let same = rotate_root(app, json!({ "fields": { "key": in_use } })).await;
    same.is(502, "rotation_failed");
    assert_eq!(row(app).await["id"], before["id"]);
    let made = vec![("key".to_owned(), "demo-root-made-by-hand".to_owned())];
    scene.vendor.accept_root(&made).unwrap();
    let rotated = rotate_root(app, json!({ "fields": { "key": "demo-root-made-by-hand" } }))
        .await
        .good();
    assert_eq!(row(app).await["id"], rotated["new"]);
    scene.forward().await.good();
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    scene.forward().await.good();
    until("the old one to be asked for again later", async || {
        (row(app).await["state"] == "overlap").then_some(())
    })
    .await;
}

async fn a_vendor_that_switches_in_place_is_asked_once(app: &TestApp) {
    let scene = Scene::new(app, IN_PLACE, "").await;
    scene.forward().await.good();
    let before = row(app).await["id"].clone();
    rotate_root(app, json!({})).await.good();
    assert_ne!(row(app).await["id"], before);
    assert_eq!(live_roots(&scene), 1);
    scene.rotate(json!({ "revoke_previous": true })).await.good();
    scene.forward().await.good();
    until("the rotation's end", async || {
        (row(app).await["state"] == "done").then_some(())
    })
    .await;
}
