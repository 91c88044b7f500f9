//! By what right a request is forwarded, and where that right ends.

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use http::Method;
use serde_json::json;

use super::raw::ok;
use super::scene::{KEY, Scene, through};
use crate::support::{READ, TestApp, new_key, pinned, policy, same, send, until};

fn messages() -> Request {
    Request::at(Method::POST, "/p/acme/v1/messages".to_owned()).json(&json!({ "text": "hello" }))
}

#[tokio::test]
async fn a_token_in_the_place_of_the_key_is_swapped_for_the_key() {
    let scene = Scene::new().await;
    scene.vendor.answers(|_| vec![ok("{\"id\":\"msg_1\"}")]);
    let token = scene.bearer().await;
    let seen = through(&scene.app.anyone(), messages(), &token).await;
    assert_eq!((seen.status, seen.text("/id").as_str()), (200, "msg_1"), "{seen:?}");
    let asked = scene.vendor.asked().pop().unwrap();
    assert_eq!(asked.line(), "POST /v1/messages HTTP/1.1");
    assert_eq!(asked.header("authorization"), [format!("Bearer {KEY}")]);
    assert_eq!(asked.body, br#"{"text":"hello"}"#);
    assert!(!asked.head.contains("dkt_"), "{}", asked.head);
    let event = &scene.app.events("request.forwarded").await[0]["event"];
    assert_eq!(event["data"]["class"], "bearer", "{event}");
    assert_eq!(event["data"]["rule"], "/v1/messages");
    assert!(event["request_id"].is_string());
    assert_eq!(seen.headers["dekeys-request-id"], event["request_id"].as_str().unwrap());
    scene.app.stop().await;
}

#[tokio::test]
async fn a_holders_token_needs_the_holders_signature() {
    let scene = Scene::new().await;
    let (_, token) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), false)
        .await;
    through(&scene.app.agent(), messages(), &token).await.good();
    through(&scene.app.anyone(), messages(), &token)
        .await
        .is(401, "signature_required");
    let stranger = scene.signed_by(&new_key());
    through(&stranger, messages(), &token).await.is(401, "invalid_token");
    through(&scene.app.operator(), messages(), &token)
        .await
        .is(401, "invalid_token");
    assert_eq!(scene.vendor.asked().len(), 1);
    // What was signed was this body.
    let body = scene.vendor.asked()[0].body.clone();
    assert_eq!(body, br#"{"text":"hello"}"#);
    scene.app.stop().await;
}

#[tokio::test]
async fn an_unsigned_token_is_taken_only_where_the_policy_says_so() {
    let scene = Scene::with("off", super::scene::MANIFEST, |_| {}).await;
    let token = scene.bearer().await;
    through(&scene.app.anyone(), messages(), &token)
        .await
        .is(403, "bearer_refused");
    assert!(scene.vendor.asked().is_empty());
    // Its owner signs.
    through(&scene.app.agent(), messages(), &token).await.good();
    scene.app.stop().await;
}

#[tokio::test]
async fn an_unsigned_token_ends_after_the_span_of_the_policy_and_is_refused_everywhere_else() {
    let scene = Scene::with("1s", super::scene::MANIFEST, |_| {}).await;
    let (grant, token) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), true)
        .await;
    until("the end of the span", async || {
        let seen = through(&scene.app.anyone(), messages(), &token).await;
        (seen.code() == "bearer_refused").then_some(())
    })
    .await;
    let anyone = scene.app.anyone();
    for request in [
        Request::get(&["v1", "grants", &grant]),
        Request::post(&["v1", "grants", &grant, "tokens"]).json(&json!({})),
        Request::post(&["v1", "grants", &grant, "revoke"]).json(&json!({})),
        Request::post(&["v1", "resolve"]).json(&json!({ "items": [{ "reference": "dk://acme/messages:write" }] })),
    ] {
        let seen = through(&anyone, request, &token).await;
        assert!((401..405).contains(&seen.status), "{seen:?}");
    }
    scene.app.stop().await;
}

#[tokio::test]
async fn a_prim_forwards_only_what_was_pinned_to_it() {
    let app = TestApp::with(
        &policy(
            "demo-readers",
            "echo:read",
            &[PRIM],
            "\n[price]\namount = \"0.01 USDC\"\n",
        ),
        |_| {},
    )
    .await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let echo = || Request::at(Method::GET, "/p/demo/echo".to_owned());
    let seen = send(&app.prim(), echo().bearer(same(&bought.token))).await;
    seen.is(403, "insufficient_scope");
    send(&app.prim(), echo().bearer(pinned(&bought.token, PRIM)))
        .await
        .good();
    let other = app.enroll("prim-other", "prim").await;
    let seen = send(&app.client(Some(&other)), echo().bearer(pinned(&bought.token, PRIM))).await;
    seen.is(403, "insufficient_scope");
    // The holder's own key, made for the grant, is one of the vendor's; the prim resolves another.
    send(&app.agent(), echo().bearer(same(&bought.token))).await.good();
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
    app.key_of(&bought).await;
    assert_eq!(app.stage.vendor.live_keys().len(), 2);
    let path = ["v1", "grants", &bought.id, "revoke"];
    send(&app.agent(), Request::post(&path).json(&json!({}))).await.good();
    assert!(app.stage.vendor.live_keys().is_empty());
    let seen = send(&app.agent(), echo().bearer(same(&bought.token))).await;
    seen.is(401, "invalid_token");
    app.stop().await;
}

#[tokio::test]
async fn every_request_counts_as_a_use() {
    let scene = Scene::new().await;
    let body = json!({ "reference": "dk://acme/messages:write", "max_resolves": 2 });
    let (grant, token) = scene.grant(body, true).await;
    through(&scene.app.anyone(), messages(), &token).await.good();
    through(&scene.app.anyone(), messages(), &token).await.good();
    through(&scene.app.anyone(), messages(), &token)
        .await
        .is(403, "used_up");
    let shown = send(&scene.app.agent(), Request::get(&["v1", "grants", &grant])).await;
    assert_eq!(shown.json["limits"]["remaining_resolves"], 0);
    assert!(shown.text("/promise").contains("Whoever has a token"), "{shown:?}");
    assert_eq!(scene.vendor.asked().len(), 2);
    scene.app.stop().await;
}

#[tokio::test]
async fn a_scope_bounds_the_paths() {
    let scene = Scene::new().await;
    let (_, files) = scene.grant(json!({ "reference": "dk://acme/files:read" }), true).await;
    let (_, all) = scene
        .grant(json!({ "reference": "dk://acme/messages:write" }), true)
        .await;
    let file = || Request::at(Method::GET, "/p/acme/v1/files/abc".to_owned());
    through(&scene.app.anyone(), file(), &files).await.good();
    through(&scene.app.anyone(), file(), &all)
        .await
        .is(403, "insufficient_scope");
    // A rule without a scope takes any of the vendor's.
    through(&scene.app.anyone(), messages(), &files).await.good();
    let demo = Request::at(Method::GET, "/p/demo/echo".to_owned());
    through(&scene.app.anyone(), demo, &files)
        .await
        .is(403, "insufficient_scope");
    scene.app.stop().await;
}
