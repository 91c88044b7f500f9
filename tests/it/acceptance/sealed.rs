//! A sealed instance: only the checked-in list of routes answers, and only the right key opens it.

use dekeys::base::random::OsRandom;
use dekeys::client::{Request, secret};
use dekeys::operations::{Method, operations};
use dekeys::setup::stage;
use dekeys::vault::UnsealKey;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::database::Intruder;
use crate::support::{READ, Seen, TestApp, send};

const ROUTES: &str = include_str!("sealed_routes.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_listed_routes_answer_while_sealed() {
    let listed: Vec<&str> = ROUTES.lines().filter(|line| !line.starts_with('#')).collect();
    let marked = operations().filter(|operation| operation.while_sealed);
    let marked: Vec<String> = marked
        .map(|operation| format!("{} {}", operation.method.as_str(), operation.path))
        .collect();
    assert_eq!(listed, marked);
    let app = TestApp::start().await.restart().await;
    let admin = stage::client(&app.stage.server.admin, Some(&app.stage.cast.operator)).unwrap();
    for operation in operations() {
        let name = format!("{} {}", operation.method.as_str(), operation.path);
        let path = operation.path.replace("{code}", "vault_sealed");
        let path = path
            .replace("{id}", "grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3")
            .replace("{name}", "demo");
        let method = operation.method.as_str().parse().unwrap();
        let request = Request::at(method, path);
        let request = if operation.method == Method::Get {
            request
        } else {
            request.json(&json!({}))
        };
        let seen = send(&admin, request).await;
        let sealed = (seen.status, seen.code().as_str()) == (503, "vault_sealed");
        assert_eq!(
            sealed,
            !listed.contains(&name.as_str()),
            "{name}: {} {}",
            seen.status,
            seen.json
        );
    }
    app.stop().await;
}

async fn unseal(app: &TestApp, body: &Value) -> Seen {
    let admin = stage::client(&app.stage.server.admin, None).unwrap();
    send(&admin, Request::post(&["v1", "sys", "unseal"]).json(body)).await
}

/// Every row that unsealing could touch, but for the log, which tells of the try.
async fn rows(app: &TestApp) -> Vec<(String, i64)> {
    let mut intruder = Intruder::at(app).await;
    let sql = "SELECT 'wraps', reserved FROM wraps UNION ALL SELECT body, 0 FROM keyring UNION ALL \
               SELECT hex(sealed), number FROM signing_keys UNION ALL SELECT kind, 1 FROM events \
               WHERE kind <> 'vault.unseal_failed'";
    let rows = intruder.rows(sql).await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_told_and_changes_nothing() {
    let app = TestApp::start().await.restart().await;
    let before = rows(&app).await;
    let wrong = secret::shown(&UnsealKey::generate_key_file(&OsRandom));
    for (body, status, code) in [
        (json!({ "key": wrong.trim() }), 400, "unseal_key_invalid"),
        (json!({ "key": "not a key" }), 400, "unseal_key_invalid"),
        (
            json!({ "passphrase": "correct horse battery staple" }),
            400,
            "unseal_key_invalid",
        ),
        (json!({}), 422, "invalid_request"),
        (
            json!({ "key": wrong.trim(), "passphrase": "x" }),
            422,
            "invalid_request",
        ),
    ] {
        let seen = unseal(&app, &body).await;
        seen.is(status, code);
        assert!(!String::from_utf8_lossy(&seen.body).contains(wrong.trim()));
    }
    assert_eq!(rows(&app).await, before);
    let offers = send(&app.anyone(), Request::get(&["v1", "offers"])).await;
    offers.is(503, "vault_sealed");
    let right = secret::shown(&secret::read_file(&app.stage.data_dir.join("unseal-key")).unwrap());
    let opened = unseal(&app, &json!({ "key": right })).await;
    assert_eq!(
        (opened.status, &opened.json["sealed"]),
        (200, &json!(false)),
        "{}",
        opened.json
    );
    unseal(&app, &json!({ "key": wrong.trim() }))
        .await
        .is(409, "already_unsealed");
    assert_eq!(send(&app.anyone(), Request::get(&["v1", "offers"])).await.status, 200);
    app.stop().await;
}

/// Sealing works at once: what was known a moment ago is of no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_ends_everything_at_once() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    let admin = stage::client(&app.stage.server.admin, Some(&app.stage.cast.operator)).unwrap();
    let seal = Request::post(&["v1", "sys", "seal"]).json(&json!({ "reason": "a drill" }));
    send(&admin, seal).await.good();
    let token = crate::support::pinned(&bought.token, stage::PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &token, READ).await;
    seen.is(503, "vault_sealed");
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    app.key_of(&bought).await;
    app.stop().await;
}
