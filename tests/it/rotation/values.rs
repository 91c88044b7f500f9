//! Vendors that make another value of the same key.

use dekeys::mock::Fault;
use serde_json::json;

use super::scene::{Scene, any_policy};
use crate::support::{TestApp, on_both, until};

const CALL: &str = "[rotate.call]\nmethod = \"POST\"\npath = \"/keys/${id}/rotate\"\nsecret = \"/key\"";

on_both! {
    an_in_place_vendor_keeps_one_key_and_a_lost_answer_is_asked_for_again, super::any_policy();
    a_vendor_with_an_overlap_is_told_how_long, super::any_policy();
}

async fn an_in_place_vendor_keeps_one_key_and_a_lost_answer_is_asked_for_again(app: &TestApp) {
    let scene = Scene::new(app, &format!("mode = \"in_place\"\n{CALL}"), "").await;
    scene.forward().await.good();
    let before = scene.one_key();
    let rotated = scene.rotate(json!({})).await.good();
    assert_eq!(rotated["old"], rotated["new"], "it is one key");
    let after = scene.one_key();
    assert_eq!(after.id, before.id);
    assert_ne!(after.secret, before.secret);
    scene.forward().await.good();
    scene.at_rest().await;

    // What proves that nothing was done leaves the value as it is.
    scene.fault("rotate", 422, Some(1));
    scene.rotate(json!({})).await.is(502, "rotation_failed");
    scene.forward().await.good();
    assert_eq!(scene.one_key().secret, after.secret);

    // The vendor switched, and was not heard: requests fail until it was asked again, and then go on.
    scene.vendor.fault(Fault {
        op: "rotate".to_owned(),
        drop_reply: true,
        count: Some(1),
        ..Fault::default()
    });
    let pending = scene.rotate(json!({})).await;
    assert_eq!(
        (pending.status, pending.text("/state").as_str()),
        (202, "pending_intent"),
        "{}",
        pending.json
    );
    until("the value to be asked for again", async || {
        (scene.forward().await.status == 200).then_some(())
    })
    .await;
    scene.at_rest().await;
    assert_eq!(scene.one_key().id, before.id);
}

async fn a_vendor_with_an_overlap_is_told_how_long(app: &TestApp) {
    let rotate = format!(
        "mode = \"vendor_overlap\"\noverlap_s = 5\noverlap_min_s = 1\n{CALL}\nbody = {{ keep = \"${{overlap}}\" }}"
    );
    let scene = Scene::new(app, &rotate, "").await;
    scene.forward().await.good();
    let before = scene.one_key();
    scene.rotate(json!({ "grace": "1h" })).await.good();
    let after = scene.one_key();
    assert_eq!(after.id, before.id);
    let (old, until_when) = after.previous.first().cloned().unwrap();
    assert_eq!(old, before.secret);
    assert!(until_when > after.created);
    scene.forward().await.good();
    // The value before is the vendor's to end; the shortest it can is what "at once" means here.
    let cut = scene.rotate(json!({ "revoke_previous": true })).await.good();
    assert_ne!(cut["previous_until"], cut["promoted"], "{cut}");
    scene.forward().await.good();
    scene.at_rest().await;
    scene.one_key();
}
