//! Keys that all grants of a policy share: one at the vendor, seen by nobody, ended by nobody's revocation but the
//! operator's, replaced after a day at the latest.

use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, KeyFile, Request, secret};
use dekeys::mock::MockKey;
use dekeys::setup::stage::PRIM;
use http::Method;
use serde_json::{Value, json};

use super::scene::through;
use crate::support::{READ, Seen, TestApp, client_at, new_key, policy, send, until};

fn shared(most: u32) -> String {
    format!(
        r#"name = "demo-shared"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["agent-one", "agent-two"]
[grant]
max_ttl = "1h"
max_resolves = {most}
credential_per = "shared"
[forward]
bearer = "15m"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#
    )
}

/// An instance with this policy and two agents.
async fn instance() -> (TestApp, [KeyFile; 2]) {
    let app = TestApp::with(&policy("demo-writers", "echo:write", &[PRIM], ""), |_| {}).await;
    let agents = [
        app.enroll("agent-one", "agent").await,
        app.enroll("agent-two", "agent").await,
    ];
    app.stage.put_in_force(&shared(1000)).await.unwrap();
    (app, agents)
}

/// A grant and a bearer token of it.
async fn grant(agent: &Client) -> (String, String) {
    let body = json!({ "reference": READ, "bearer": true });
    let seen = send(agent, Request::post(&["v1", "grants"]).json(&body)).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    (
        seen.text("/id"),
        secret::shown(&secret::at(&seen.json, "/token").unwrap()),
    )
}

async fn echo(app: &TestApp, token: &str) -> Seen {
    through(
        &app.anyone(),
        Request::at(Method::GET, "/p/demo/echo".to_owned()),
        token,
    )
    .await
}

/// The vendor's keys that were made, and those that live.
fn keys(app: &TestApp) -> (Vec<MockKey>, usize) {
    (app.stage.vendor.keys(), app.stage.vendor.live_keys().len())
}

async fn revoke(client: &Client, grant: &str) {
    let request = Request::post(&["v1", "grants", grant, "revoke"]).json(&json!({}));
    let seen = send(client, request).await;
    assert!(matches!(seen.status, 200 | 202), "{}", seen.json);
}

/// The grants that shared keys belong to, newest first.
async fn pools(app: &TestApp) -> Vec<Value> {
    let list = send(
        &app.operator(),
        Request::get(&["v1", "grants"]).query("limit", Some(100)),
    )
    .await
    .good();
    let shared = |grant: &&Value| grant["limits"]["max_resolves"] == 0;
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(shared)
        .cloned()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_grants_at_once_share_one_key_and_outlive_each_other() {
    let (app, agents) = instance().await;
    let mut tokens = Vec::new();
    for agent in agents.iter().cycle().take(8) {
        tokens.push(grant(&app.client(Some(agent))).await);
    }
    assert_eq!(keys(&app).0.len(), 0, "nothing is made before it is needed");
    let all = tokens.iter().map(|(_, token)| echo(&app, token));
    for seen in futures_util::future::join_all(all).await {
        assert_eq!(
            (seen.status, seen.text("/hello").as_str()),
            (200, "agent"),
            "{}",
            seen.json
        );
    }
    assert_eq!((keys(&app).0.len(), keys(&app).1), (1, 1), "eight grants, one key");
    let (first, token) = &tokens[0];
    revoke(&app.client(Some(&agents[0])), first).await;
    echo(&app, token).await.is(401, "invalid_token");
    assert_eq!(echo(&app, &tokens[1].1).await.status, 200, "the others go on");
    assert_eq!(keys(&app).1, 1);
    // Each grant's uses are its own: nine requests, one of them refused before it counted.
    let used = async |grant: &str| {
        let shown = send(&app.operator(), Request::get(&["v1", "grants", grant]))
            .await
            .good();
        shown["limits"]["remaining_resolves"].as_i64().unwrap()
    };
    assert_eq!(
        (used(first).await, used(&tokens[1].0).await, used(&tokens[2].0).await),
        (999, 998, 999)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_shared_key_or_a_token_of_its_grant() {
    let (app, agents) = instance().await;
    let agent = app.client(Some(&agents[0]));
    let (_, token) = grant(&agent).await;
    assert_eq!(echo(&app, &token).await.status, 200);
    let pools = pools(&app).await;
    assert_eq!(pools.len(), 1, "{pools:?}");
    let pool = pools[0]["id"].as_str().unwrap();
    // It belongs to nobody: agents do not find it, an operator gets no token of it.
    let shown = send(&agent, Request::get(&["v1", "grants", pool])).await;
    assert_eq!(shown.status, 404, "{}", shown.json);
    for client in [&agent, &app.operator(), &app.client(Some(&new_key()))] {
        let seen = send(client, Request::post(&["v1", "grants", pool, "tokens"])).await;
        assert!(
            matches!(seen.status, 403 | 404) && seen.json.get("token").is_none(),
            "{}",
            seen.json
        );
    }
    // A policy that would reveal one does not come into force.
    let revealing = shared(1000).replace(
        "[forward]",
        "[reveal]\nprims = [\"prim-echo\"]\nmax_lease = \"5m\"\n[forward]",
    );
    let refused = app.stage.put_in_force(&revealing).await;
    let told = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(told.contains("policy_invalid"), "{told}");
    let key = keys(&app).0[0].secret.clone();
    let events = Value::from(app.events("").await).to_string();
    assert!(!events.contains(&key));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_a_shared_key_and_the_next_request_has_another() {
    let (app, agents) = instance().await;
    let (_, token) = grant(&app.client(Some(&agents[0]))).await;
    assert_eq!(echo(&app, &token).await.status, 200);
    let pool = pools(&app).await[0]["id"].as_str().unwrap().to_owned();
    revoke(&app.operator(), &pool).await;
    until("the end of the key", async || (keys(&app).1 == 0).then_some(())).await;
    assert_eq!(echo(&app, &token).await.status, 200);
    assert_eq!((keys(&app).0.len(), keys(&app).1), (2, 1));
    assert_eq!(pools(&app).await.len(), 2);
    // Another version of the policy is another pool; what was granted under the old one keeps its own.
    app.stage.put_in_force(&shared(999)).await.unwrap();
    let (_, newer) = grant(&app.client(Some(&agents[1]))).await;
    assert_eq!(
        (echo(&app, &newer).await.status, echo(&app, &token).await.status),
        (200, 200)
    );
    assert_eq!((keys(&app).0.len(), keys(&app).1), (3, 2));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_key_lives_for_a_day_at_most() {
    let (app, agents) = instance().await;
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = app.restart_by(Arc::clone(&clock)).await;
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    let used = async || {
        let agent = client_at(&app, &agents[0], clock.now());
        let (_, token) = grant(&agent).await;
        assert_eq!(echo(&app, &token).await.status, 200);
        keys(&app).0.len()
    };
    assert_eq!(used().await, 1);
    let first = keys(&app).0[0].secret.clone();
    clock.advance(Ttl::from_mins(24 * 60 + 1));
    assert!(used().await > 1, "the day is over");
    until("the end of the old one", async || {
        let alive = app.stage.vendor.live_keys();
        (alive.len() == 1 && alive[0].secret != first).then_some(())
    })
    .await;
    app.stop().await;
}
