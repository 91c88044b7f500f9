//! `GET /v1/events` as a stream: complete, in order, only what the caller may see, and over when it must be.

use std::time::{Duration, Instant};

use dekeys::client::{ClientError, Request};
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use super::{client_of, events, message, next, next_of, open, two_instances};
use crate::support::{READ, TestApp, pinned, send, until};

/// Something that leaves one event.
async fn enroll(app: &TestApp, name: &str) {
    app.enroll(name, "agent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_hears_everything_once_and_in_order() {
    let app = TestApp::start().await;
    let mut stream = open(&app.operator(), events(), None).await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    let (mut sequence, mut kinds) = (0, Vec::new());
    while kinds.last().is_none_or(|kind| kind != "lease.created") {
        let event = next(&mut stream).await;
        let here = event["sequence"].as_i64().unwrap();
        assert!(sequence == 0 || here == sequence + 1, "{here} after {sequence}");
        sequence = here;
        kinds.push(event["type"].as_str().unwrap().to_owned());
        if event["type"] == "grant.created" {
            assert_eq!(event["data"]["id"], bought.id.as_str());
            assert_eq!(event["data"]["object"], "grant");
            assert_eq!(event["livemode"], false);
        }
    }
    for kind in ["payment.verified", "grant.created", "credential.provisioned"] {
        assert!(kinds.iter().any(|seen| seen == kind), "{kind} is missing: {kinds:?}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_goes_on_where_it_was() {
    let app = TestApp::start().await;
    let mut stream = open(&app.operator(), events().query("types", Some("principal.*")), None).await;
    enroll(&app, "one").await;
    enroll(&app, "two").await;
    let first = next(&mut stream).await;
    assert_eq!(first["data"]["name"], "one");
    drop(stream);
    enroll(&app, "three").await;
    let app = app.restart().await;
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    let last = first["id"].as_str();
    let mut stream = open(&app.operator(), events().query("types", Some("principal.*")), last).await;
    enroll(&app, "four").await;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(next(&mut stream).await["data"]["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(names, ["two", "three", "four"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_not_in_the_log_is_gone() {
    let app = TestApp::start().await;
    let ask = async |last: &str, query: Option<&str>| {
        let request = events()
            .header("accept", "text/event-stream")
            .header("last-event-id", last);
        send(&app.operator(), request.query("limit", query)).await
    };
    ask("evt_01KAG4C1B2T5Q3V7X9Z0A1B2C3", None).await.is(410, "event_gone");
    ask("18204", None).await.is(422, "invalid_request");
    ask("", Some("5")).await.is(422, "invalid_request");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_framed_as_browsers_read_it() {
    let app = TestApp::start().await;
    let address = app.operator().address().clone();
    let login = app.stage.login().unwrap();
    let answer = crate::support::session::plain_http()
        .get(format!("{address}/v1/events?since=1h&types=policy.*"))
        .header("accept", "text/event-stream, application/json;q=0.5")
        .header("authorization", format!("Bearer {login}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    let mut answer = answer;
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["retry: 3000", ""]);
    assert!(lines[2].starts_with("id: evt_"), "{text}");
    assert_eq!(lines[3], "event: policy.activated");
    let event: Value = serde_json::from_str(lines[4].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["type"], "policy.activated");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_hear_of_their_own_only() {
    let app = TestApp::start().await;
    let other = app.enroll("prim-other", "prim").await;
    let mut own = open(&app.agent(), events(), None).await;
    let mut prim = open(&app.prim(), events(), None).await;
    let mut stranger = open(&app.client(Some(&other)), events(), None).await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    // Nobody's affair but the operators', and then one of everybody's own.
    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({ "reason": "done" }));
    send(&app.operator(), revoke).await.good();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["type"] != "grant.revoked") {
        seen.push(next(&mut own).await);
    }
    let all = serde_json::to_string(&seen).unwrap();
    for kind in ["grant.created", "payment.verified", "lease.created"] {
        assert!(all.contains(kind), "{kind} is missing: {all}");
    }
    for word in ["credential.provisioned", "vendor_key_id", "root_", "nonce", "pay_to"] {
        assert!(!all.contains(word), "{word} is told: {all}");
    }
    let ended = seen.last().unwrap();
    assert_eq!(ended["data"]["reason"], "done");
    assert!(
        ended.get("actor").is_none() && ended.get("request_id").is_none(),
        "{ended}"
    );

    let lease = next(&mut prim).await;
    assert_eq!(lease["type"], "lease.created");
    assert_eq!(lease["data"]["grant"], bought.id.as_str());
    // The stranger hears of its own end, and of nothing before.
    let body = json!({ "reference": READ });
    let id = principal_id(&app, "prim-other").await;
    send(
        &app.operator(),
        Request::post(&["v1", "principals", &id, "disable"]).json(&json!({})),
    )
    .await
    .good();
    if let Some(only) = message(&mut stranger).await {
        assert_eq!(only.event, "principal.disabled", "{body}");
        assert_eq!(message(&mut stranger).await, None, "then it may hear nothing more");
    }
    app.stop().await;
}

async fn principal_id(app: &TestApp, name: &str) -> String {
    let list = send(&app.operator(), Request::get(&["v1", "principals"])).await.good();
    let rows = list["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name).unwrap();
    row["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_principal_hears_no_more() {
    let app = TestApp::start().await;
    let key = app.enroll("going", "operator").await;
    let client = client_of(&app.stage.server.url, &key);
    let mut stream = open(&client, events().query("types", Some("vault.*")), None).await;
    let id = principal_id(&app, "going").await;
    let disable = Request::post(&["v1", "principals", &id, "disable"]).json(&json!({}));
    send(&app.operator(), disable).await.good();
    assert_eq!(message(&mut stream).await, None);
    let again = client.events(events(), None).await;
    assert!(matches!(again, Err(ClientError::Refused(refused)) if refused.status == 401));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_is_told_and_then_the_stream_ends() {
    let app = TestApp::start().await;
    let mut stream = open(&app.operator(), events(), None).await;
    let admin = client_of(&app.stage.server.admin, &app.stage.cast.operator);
    let seal = Request::post(&["v1", "sys", "seal"]).json(&json!({ "reason": "drill" }));
    send(&admin, seal).await.good();
    let sealed = next_of(&mut stream, "vault.sealed").await;
    assert_eq!(sealed["data"]["reason"], "drill");
    assert_eq!(message(&mut stream).await, None);
    let refused = app.operator().events(events(), None).await;
    assert!(matches!(refused, Err(ClientError::Refused(refused)) if refused.status == 503));
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    let mut stream = open(&app.operator(), events(), sealed["id"].as_str()).await;
    next_of(&mut stream, "vault.unsealed").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_ends_without_waiting_for_its_followers() {
    let app = TestApp::start().await;
    let mut stream = open(&app.operator(), events(), None).await;
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "it waited for a follower");
    assert_eq!(message(&mut stream).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_does_not_take_all_places() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let mut held = Vec::new();
    let refused = loop {
        match agent.events(events(), None).await {
            Ok(stream) => held.push(stream),
            Err(ClientError::Refused(refused)) => break refused,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((held.len(), refused.status), (32, 503));
    open(&app.operator(), events(), None).await;
    held.pop();
    until("the place to be free again", async || {
        agent.events(events(), None).await.ok()
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_tells_what_any_of_them_does() {
    let Some((app, second, database)) = two_instances().await else {
        return;
    };
    let there = client_of(&second.url, &app.stage.cast.operator);
    let mut stream = open(&there, events(), None).await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let created = next_of(&mut stream, "grant.created").await;
    assert_eq!(created["data"]["id"], bought.id.as_str());
    let token = pinned(&bought.token, PRIM);
    app.resolve(&app.stage.cast.prim, &token, READ).await.good();
    next_of(&mut stream, "lease.created").await;
    second.stop().await;
    app.stop().await;
    database.drop().await;
}
