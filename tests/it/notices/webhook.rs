//! Webhooks: signed so that ready libraries verify them, complete, in order, once among instances, and nobody waits
//! for a receiver that is slow or dead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use data_encoding::BASE64;
use dekeys::base::secret::SecretBytes;
use dekeys::base::time::{Clock, SystemClock, Timestamp};
use dekeys::client::Request;
use dekeys::httpsig::{self, Parts, Proof};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{client_of, two_instances};
use crate::support::{READ, TestApp, send, until};

/// One request that a receiver got.
#[derive(Clone)]
pub(super) struct Got {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn signatures(&self, version: &str) -> Vec<Vec<u8>> {
        let all = self.header("webhook-signature").split(' ');
        let of = all.filter_map(|one| one.strip_prefix(version)?.strip_prefix(','));
        of.map(|text| BASE64.decode(text.as_bytes()).unwrap()).collect()
    }

    /// As any Standard Webhooks library checks it.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = BASE64
            .decode(secret.strip_prefix("whsec_").unwrap().as_bytes())
            .unwrap();
        let start = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let code = mac
            .chain_update(start.as_bytes())
            .chain_update(&self.body)
            .finalize()
            .into_bytes();
        self.signatures("v1").iter().any(|given| given[..] == code[..])
    }
}

/// A receiver that keeps what it gets and answers as it is told; 204 when it is not.
#[derive(Clone, Default)]
pub(super) struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    silent: bool,
}

impl Receiver {
    pub(super) async fn start(self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .fallback(async |State(receiver): State<Self>, headers: HeaderMap, body: Bytes| {
                let body = body.to_vec();
                receiver.got.lock().unwrap().push(Got { headers, body });
                if receiver.silent {
                    std::future::pending::<()>().await;
                }
                let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(204);
                let location = [("location", "/elsewhere")];
                (StatusCode::from_u16(status).unwrap(), location)
            })
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/hook")
    }

    fn answering(statuses: &[u16]) -> Self {
        Self {
            answers: Arc::new(Mutex::new(statuses.iter().copied().collect())),
            ..Self::default()
        }
    }

    fn all(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(super) async fn first(&self, count: usize) -> Vec<Got> {
        until("a delivery", async || {
            let all = self.all();
            (all.len() >= count).then_some(all)
        })
        .await
    }
}

pub(super) async fn create(app: &TestApp, url: &str, types: &[&str]) -> Value {
    let body = json!({ "url": url, "types": types });
    send(&app.operator(), Request::post(&["v1", "webhooks"]).json(&body))
        .await
        .good()
}

async fn act(app: &TestApp, id: &str, verb: &str) -> Value {
    let request = Request::post(&["v1", "webhooks", id, verb]).json(&json!({}));
    send(&app.operator(), request).await.good()
}

async fn deliveries(app: &TestApp, id: &str) -> Vec<Value> {
    let request = Request::get(&["v1", "webhooks", id, "deliveries"]).query("limit", Some(100));
    let list = send(&app.operator(), request).await.good();
    list["data"].as_array().unwrap().clone()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_in_order_and_signed_in_three_ways() {
    let app = TestApp::start().await;
    let receiver = Receiver::default();
    let url = receiver.clone().start().await;
    let webhook = create(&app, &url, &["principal.*", "grant.created"]).await;
    for name in ["one", "two", "three"] {
        app.enroll(name, "agent").await;
    }
    app.buy(json!({ "reference": READ })).await;
    let got = receiver.first(4).await;
    let told: Vec<Value> = got.iter().map(Got::json).collect();
    let kinds: Vec<&str> = told.iter().map(|event| text(event, "type")).collect();
    assert_eq!(kinds[..3], ["principal.created"; 3]);
    assert_eq!(told[0]["data"]["name"], "one");
    assert!(
        told.windows(2)
            .all(|two| two[0]["sequence"].as_i64() < two[1]["sequence"].as_i64())
    );
    for one in &got {
        assert_eq!(one.header("webhook-id"), text(&one.json(), "id"));
        assert_eq!(one.header("content-type"), "application/json");
        assert!(one.is_signed_with(text(&webhook, "secret")));
        is_signed_by_key(one, &url, text(&webhook, "public_key"));
    }
    let shown = send(&app.operator(), Request::get(&["v1", "webhooks", text(&webhook, "id")]))
        .await
        .good();
    assert!(shown.get("secret").is_none(), "the secret is shown once");
    app.stop().await;
}

/// `v1a` and RFC 9421, both with the instance's key.
fn is_signed_by_key(got: &Got, url: &str, public: &str) {
    let key = BASE64.decode(public.strip_prefix("whpk_").unwrap().as_bytes()).unwrap();
    let url: url::Url = url.parse().unwrap();
    let parts = Parts {
        method: "POST",
        scheme: "http",
        authority: &format!("127.0.0.1:{}", url.port().unwrap()),
        path: url.path(),
        query: None,
        headers: &got.headers,
        body: &got.body,
    };
    let now = SystemClock::default().now();
    let claimed = httpsig::read(&parts).unwrap().expect("an RFC 9421 signature");
    let Ok(Proof::Key { key: signer, .. }) = httpsig::verify(&claimed, &parts, now) else {
        panic!("the RFC 9421 signature does not fit")
    };
    assert_eq!(signer.as_bytes()[..], key[..]);
    let mut content = format!("{}.{}.", got.header("webhook-id"), got.header("webhook-timestamp")).into_bytes();
    content.extend_from_slice(&got.body);
    let signature = &got.signatures("v1a")[0];
    assert!(httpsig::verify_raw(&signer, &content, signature));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_sent_again_with_its_id_and_holds_up_nothing() {
    let app = TestApp::start().await;
    let receiver = Receiver::answering(&[500, 204, 302]);
    let url = receiver.clone().start().await;
    let webhook = create(&app, &url, &["principal.created"]).await;
    for name in ["one", "two", "three"] {
        app.enroll(name, "agent").await;
    }
    let got = receiver.first(5).await;
    let names: Vec<Value> = got.iter().map(|one| one.json()["data"]["name"].clone()).collect();
    assert_eq!(names[..3], ["one", "two", "three"]);
    for again in &got[3..] {
        let first = got.iter().find(|one| one.body == again.body).unwrap();
        assert_eq!(first.header("webhook-id"), again.header("webhook-id"));
        assert!(again.is_signed_with(text(&webhook, "secret")));
        assert_ne!(first.header("signature-input"), again.header("signature-input"));
    }
    let id = text(&webhook, "id");
    let all = until("all to be delivered", async || {
        let all = deliveries(&app, id).await;
        all.iter().all(|one| one["state"] == "delivered").then_some(all)
    })
    .await;
    let mut attempts: Vec<i64> = all.iter().map(|one| one["attempts"].as_i64().unwrap()).collect();
    attempts.sort_unstable();
    assert_eq!(
        attempts,
        [1, 2, 2],
        "a redirect is not followed, and tried again as any failure"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_gone_is_told_no_more() {
    let app = TestApp::start().await;
    let (gone, other) = (Receiver::answering(&[410]), Receiver::default());
    let webhook = create(&app, &gone.clone().start().await, &["principal.*"]).await;
    create(&app, &other.clone().start().await, &["webhook.disabled"]).await;
    let id = text(&webhook, "id");
    app.enroll("one", "agent").await;
    let told = other.first(1).await[0].json();
    assert_eq!(
        (text(&told, "type"), text(&told["data"], "id")),
        ("webhook.disabled", id)
    );
    app.enroll("two", "agent").await;
    let refused = send(
        &app.operator(),
        Request::post(&["v1", "webhooks", id, "test"]).json(&json!({})),
    )
    .await;
    refused.is(409, "conflict");
    act(&app, id, "enable").await;
    app.enroll("three", "agent").await;
    let got = gone.first(2).await;
    assert_eq!(
        got[1].json()["data"]["name"],
        "three",
        "what was missed is not sent by itself"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_one_who_does_not_answer() {
    let app = TestApp::start().await;
    let silent = Receiver {
        silent: true,
        ..Receiver::default()
    };
    let other = Receiver::default();
    create(&app, &silent.clone().start().await, &["*"]).await;
    create(&app, "http://127.0.0.1:1/dead", &["*"]).await;
    create(&app, &other.clone().start().await, &["principal.created"]).await;
    app.enroll("one", "agent").await;
    silent.first(1).await;
    app.enroll("two", "agent").await;
    other.first(2).await;
    assert_eq!(silent.all().len(), 1, "the silent one has its first event still");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_says_what_became_of_it_and_can_be_replayed() {
    let app = TestApp::start().await;
    let receiver = Receiver::answering(&[503]);
    let webhook = create(&app, &receiver.clone().start().await, &["vault.*"]).await;
    let id = text(&webhook, "id");
    let failed = act(&app, id, "test").await;
    assert_eq!(
        (text(&failed, "state"), text(&failed, "error")),
        ("pending", "it answered 503")
    );
    assert_eq!(failed["status"], 503);
    let told = act(&app, id, "test").await;
    assert_eq!((text(&told, "state"), text(&told, "type")), ("delivered", "ping"));
    let request = Request::post(&["v1", "deliveries", text(&told, "id"), "replay"]).json(&json!({}));
    let again = send(&app.operator(), request).await;
    assert_eq!(again.status, 201);
    let got = receiver.first(3).await;
    let ids: Vec<&str> = got.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids.iter().filter(|one| **one == text(&told, "event")).count(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_signs_beside_the_one_before() {
    let app = TestApp::start().await;
    let receiver = Receiver::default();
    let webhook = create(&app, &receiver.clone().start().await, &["vault.*"]).await;
    let id = text(&webhook, "id");
    let rotated = act(&app, id, "rotate-secret").await;
    assert_ne!(rotated["secret"], webhook["secret"]);
    act(&app, id, "test").await;
    let got = &receiver.first(1).await[0];
    assert_eq!(got.signatures("v1").len(), 2);
    assert!(got.is_signed_with(text(&webhook, "secret")) && got.is_signed_with(text(&rotated, "secret")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealing_is_told_at_once_and_what_waits_survives_the_process() {
    let app = TestApp::start().await;
    let receiver = Receiver::default();
    let url = receiver.clone().start().await;
    create(&app, &url, &["vault.sealed", "vault.unsealed"]).await;
    let admin = client_of(&app.stage.server.admin, &app.stage.cast.operator);
    send(&admin, Request::post(&["v1", "sys", "seal"]).json(&json!({})))
        .await
        .good();
    let told = receiver.first(1).await[0].json();
    assert_eq!(text(&told, "type"), "vault.sealed");
    let app = app.restart().await;
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    let got = until("the unsealing", async || {
        let all = receiver.all();
        all.iter()
            .any(|one| one.json()["type"] == "vault.unsealed")
            .then_some(all)
    })
    .await;
    let sealed = got.iter().filter(|one| one.json()["type"] == "vault.sealed").count();
    assert_eq!(sealed, 1, "what arrived before is not sent again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_may_not_be_reached_is_refused() {
    let app = TestApp::start().await;
    for url in [
        "https://example.com/hook",
        "http://localhost:1/",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://user:word@127.0.0.1/",
        "ftp://127.0.0.1/",
        "nonsense",
    ] {
        let body = json!({ "url": url, "types": ["*"] });
        let seen = send(&app.operator(), Request::post(&["v1", "webhooks"]).json(&body)).await;
        seen.is(422, "invalid_request");
    }
    for types in [json!([]), json!(["lease"]), json!([""])] {
        let body = json!({ "url": "http://127.0.0.1:1/", "types": types });
        let seen = send(&app.operator(), Request::post(&["v1", "webhooks"]).json(&body)).await;
        assert!(seen.status == 422, "{}", seen.json);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_changed_behind_our_back_is_told_nothing() {
    let app = TestApp::start().await;
    let (receiver, evil) = (Receiver::default(), Receiver::default());
    let webhook = create(&app, &receiver.clone().start().await, &["principal.*"]).await;
    let evil_url = evil.clone().start().await;
    crate::support::database::Intruder::at(&app)
        .await
        .run(format!("UPDATE webhooks SET url = '{evil_url}'"))
        .await;
    app.enroll("one", "agent").await;
    until("the alarm", async || {
        let events = app.events("security.forged_row").await;
        (!events.is_empty()).then_some(())
    })
    .await;
    assert!(evil.all().is_empty());
    let id = text(&webhook, "id");
    let request = Request::get(&["v1", "webhooks", id]);
    assert!(send(&app.operator(), request).await.status >= 400);
    let honest = Receiver::default();
    create(
        &app,
        &honest.clone().start().await,
        &["vault.sealed", "webhook.deleted"],
    )
    .await;
    let removed = send(&app.operator(), Request::delete(&["v1", "webhooks", id]))
        .await
        .good();
    assert_eq!(
        removed["url"].as_str().unwrap(),
        url::Url::parse(&evil_url).unwrap().as_str()
    );
    honest.first(1).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_get_a_sentence_where_they_talk() {
    let app = TestApp::start().await;
    let receiver = Receiver::default();
    let url = receiver.clone().start().await;
    let body = json!({ "url": format!("{url}/T0/B0/secret"), "types": ["grant.revoked"], "format": "slack" });
    let made = send(&app.operator(), Request::post(&["v1", "webhooks"]).json(&body))
        .await
        .good();
    assert!(!made["url"].as_str().unwrap().contains("secret"), "{made}");
    let bought = app.buy(json!({ "reference": READ })).await;
    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({ "reason": "<!channel> *leak*" }));
    send(&app.operator(), revoke).await.good();
    let told = receiver.first(1).await[0].json();
    let said = text(&told, "text");
    assert!(said.starts_with(&format!("*grant.revoked* {}", bought.id)), "{said}");
    assert!(said.contains("&lt;!channel&gt;") && !said.contains("*leak*"), "{said}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_instances_send_each_event_once_and_in_order() {
    let Some((app, second, database)) = two_instances().await else {
        return;
    };
    let receiver = Receiver::default();
    create(&app, &receiver.clone().start().await, &["principal.created"]).await;
    let there = client_of(&second.url, &app.stage.cast.operator);
    for at in 0..20 {
        let key = crate::support::new_key().public();
        let body = json!({ "name": format!("agent-{at}"), "kind": "agent", "public_keys": [key] });
        let client = if at % 2 == 0 {
            app.operator()
        } else {
            client_of(&second.url, &app.stage.cast.operator)
        };
        send(&client, Request::post(&["v1", "principals"]).json(&body))
            .await
            .good();
    }
    // Something of another type, so that both have looked through all before.
    receiver.first(20).await;
    send(&there, Request::get(&["v1", "webhooks"])).await.good();
    second.stop().await;
    app.stop().await;
    database.drop().await;
    let names: Vec<String> = receiver
        .all()
        .iter()
        .map(|one| one.json()["data"]["name"].as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<String> = (0..20).map(|at| format!("agent-{at}")).collect();
    assert_eq!(names, wanted);
}

#[test]
fn signatures_are_those_of_the_public_vectors() {
    let Some(folder) = crate::skip::folder("DEKEYS_VECTORS", "Standard Webhooks vectors") else {
        return;
    };
    let path = folder.join("standard-webhooks/standard_webhooks.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let signed = vectors["sign"].as_array().unwrap();
    assert!(signed.len() > 1);
    for vector in signed {
        let secret = text(vector, "secret").strip_prefix("whsec_").unwrap();
        let secret = SecretBytes::new(BASE64.decode(secret.as_bytes()).unwrap());
        let at = Timestamp::from_secs(vector["ts"].as_i64().unwrap());
        let body = text(vector, "body").as_bytes();
        let made = httpsig::webhook_code(&secret, text(vector, "id"), at, body).unwrap();
        assert_eq!(made, text(vector, "sig"));
    }
}
