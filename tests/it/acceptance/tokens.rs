//! Tokens looked at (RFC 7662) and ended (RFC 7009), over real HTTP.

use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::{Client, KeyFile, Request, secret, token};
use dekeys::model::claims::UseKind;
use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, PRIM};
use dekeys::token::Narrowing;
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, any_port, pinned, priced, resolve, same, send};

async fn introspect(client: &Client, token: &SecretText) -> Seen {
    send(
        client,
        Request::post(&["v1", "token", "introspect"]).form(&[("token", token)]),
    )
    .await
}

async fn end(client: &Client, token: &SecretText) -> Seen {
    send(
        client,
        Request::post(&["v1", "token", "revoke"]).form(&[("token", token)]),
    )
    .await
}

/// Not a word but that it is not active: the same for every reason.
#[track_caller]
fn inactive(seen: &Seen) {
    assert_eq!(
        (seen.status, seen.body.as_slice()),
        (200, br#"{"active":false}"#.as_slice())
    );
}

fn narrowed(token: &SecretText, narrowing: &Narrowing) -> SecretText {
    token::attenuate(token, narrowing).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prim_learns_what_a_token_allows_it() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ, "audience": [PRIM] })).await;
    let token = pinned(&bought.token, PRIM);
    let seen = introspect(&app.prim(), &token).await.good();
    let now = SystemClock::default().now().as_secs();
    assert_eq!(seen["active"], true, "{seen}");
    assert_eq!((&seen["scope"], &seen["aud"]), (&json!(READ), &json!([PRIM])));
    assert_eq!(
        (&seen["grant"], &seen["token_type"]),
        (&json!(bought.id), &json!("Bearer"))
    );
    assert_eq!(
        (&seen["holder"], &seen["livemode"]),
        (&json!(app.stage.cast.agent.public()), &json!(false))
    );
    assert_eq!(
        seen["jti"].as_str(),
        dekeys::token::revocation_ids(&secret::shown(&token))
            .unwrap()
            .last()
            .map(String::as_str)
    );
    let left = seen["exp"].as_i64().unwrap() - now;
    assert!(
        (180..=240).contains(&left),
        "the block ends it in four minutes, not the grant: {left}"
    );
    // JSON as everywhere else; an operator sees it whoever it is for.
    let request = Request::post(&["v1", "token", "introspect"]).json(&json!({ "token": secret::shown(&token) }));
    assert_eq!(send(&app.operator(), request).await.good()["active"], true);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_active_for_the_caller_is_told_without_a_reason() {
    let app = TestApp::start().await;
    let other = app.client(Some(&app.enroll("prim-other", "prim").await));
    let bought = app.buy(json!({ "reference": READ })).await;
    let prim = app.prim();
    let pin = pinned(&bought.token, PRIM);
    inactive(&introspect(&other, &pin).await);
    assert_eq!(introspect(&prim, &pin).await.good()["active"], true);
    for text in [
        "",
        "x",
        "dkt_test_AAAA",
        secret::shown(&pin).split_at(80).0,
        &"A".repeat(20_000),
    ] {
        inactive(&introspect(&prim, &SecretText::new(text.to_owned())).await);
    }
    // Narrowed to nothing, to managing, to another scope, to the past.
    let now = SystemClock::default().now();
    let nothing = [
        Narrowing {
            scopes: vec!["echo:write".parse().unwrap()],
            ..Narrowing::default()
        },
        Narrowing {
            uses: vec![UseKind::Manage],
            ..Narrowing::default()
        },
        Narrowing {
            until: Some(now.minus(Ttl::from_mins(1))),
            ..Narrowing::default()
        },
    ];
    for narrowing in nothing {
        inactive(&introspect(&prim, &narrowed(&bought.token, &narrowing)).await);
    }
    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
    send(&app.agent(), revoke).await.good();
    inactive(&introspect(&prim, &pin).await);
    inactive(&introspect(&app.operator(), &pin).await);
    // Two values are no value; agents and strangers do not ask.
    let twice = Request::post(&["v1", "token", "introspect"]).form(&[("token", &pin), ("token", &pin)]);
    send(&prim, twice).await.is(422, "invalid_request");
    introspect(&app.anyone(), &pin).await.is(401, "signature_required");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_block_ends_and_what_was_narrowed_from_it() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let prim = app.prim();
    let (one, two) = (pinned(&bought.token, PRIM), pinned(&bought.token, PRIM));
    let further = narrowed(
        &one,
        &Narrowing {
            uses: vec![UseKind::Resolve],
            ..Narrowing::default()
        },
    );
    assert_eq!(resolve(&prim, &one, READ).await.status, 200);
    assert_eq!(resolve(&prim, &further, READ).await.status, 200);
    // The prim, which has it, may end it.
    assert_eq!(end(&prim, &one).await.good(), json!({}));
    resolve(&prim, &one, READ).await.is(401, "invalid_token");
    resolve(&prim, &further, READ).await.is(401, "invalid_token");
    inactive(&introspect(&prim, &further).await);
    assert_eq!(resolve(&prim, &two, READ).await.status, 200);
    let events = app.events("token.revoked").await;
    assert_eq!(events.len(), 1);
    let data = events[0].pointer("/event/data").unwrap();
    let ids = dekeys::token::revocation_ids(&secret::shown(&one)).unwrap();
    assert_eq!(
        (&data["revocation_id"], &data["block"], &data["grant"]),
        (&json!(ids[1]), &json!(1), &json!(bought.id))
    );
    // Its holder ends the token itself; a fresh one of the grant works.
    assert_eq!(end(&app.agent(), &bought.token).await.status, 200);
    resolve(&prim, &two, READ).await.is(401, "invalid_token");
    let fresh = send(&app.agent(), Request::post(&["v1", "grants", &bought.id, "tokens"]))
        .await
        .good();
    let fresh = secret::at(&fresh, "/token").unwrap();
    assert_eq!(resolve(&prim, &pinned(&fresh, PRIM), READ).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_none_is_ended_without_a_word() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    for text in ["", "x", "dkt_live_AAAA", secret::shown(&bought.token).split_at(100).0] {
        assert_eq!(
            end(&app.agent(), &SecretText::new(text.to_owned())).await.good(),
            json!({})
        );
    }
    for _ in 0..3 {
        assert_eq!(end(&app.agent(), &bought.token).await.good(), json!({}));
    }
    assert_eq!(
        app.events("token.revoked").await.len(),
        1,
        "what is over is not ended again"
    );
    end(&app.anyone(), &bought.token).await.is(401, "signature_required");
    send(&app.agent(), Request::post(&["v1", "token", "revoke"]).json(&json!({})))
        .await
        .is(422, "invalid_request");
    let more = json!({ "token": "x", "force": true });
    send(&app.agent(), Request::post(&["v1", "token", "revoke"]).json(&more))
        .await
        .is(400, "unknown_field");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grant_cannot_fill_the_list_of_ended_tokens() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let prim = app.prim();
    let tokens: Vec<SecretText> = (0..120).map(|_| pinned(&bought.token, PRIM)).collect();
    let ends = tokens.iter().map(|token| end(&prim, token));
    let seen = futures_util::future::join_all(ends).await;
    let (ended, refused): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.status == 200);
    assert!(
        ended.len() >= 60 && !refused.is_empty(),
        "{} {}",
        ended.len(),
        refused.len()
    );
    let limited = refused.iter().filter(|seen| seen.code() == "rate_limited").count();
    assert!(limited > 0, "{}", refused[0].json);
    app.stop().await;
}

/// A second instance over the same PostgreSQL database.
pub(super) async fn second(app: &TestApp, dir: &tempfile::TempDir) -> Server {
    let mut config = app.config.clone();
    config.data_dir = dir.path().to_owned();
    config.listen = any_port();
    let server = Server::start(&config).await.unwrap();
    dekeys::service::unseal::unseal(&server.app, app.unseal_key())
        .await
        .unwrap();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ended_token_is_over_on_every_instance_at_once() {
    let Some(database) = crate::store::Database::create().await else {
        return;
    };
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url = database.url()).await;
    let dir = tempfile::tempdir().unwrap();
    let server = second(&app, &dir).await;
    let there = |key: &KeyFile| stage::client(&server.url, Some(key)).unwrap();
    let (prim, far) = (app.prim(), there(&app.stage.cast.prim));
    let bought = app.buy(json!({ "reference": READ })).await;
    for _ in 0..20 {
        let token = pinned(&bought.token, PRIM);
        // Both have judged it, so both have the decision in memory.
        assert_eq!(resolve(&prim, &token, READ).await.status, 200);
        assert_eq!(resolve(&far, &token, READ).await.status, 200);
        assert_eq!(end(&prim, &same(&token)).await.status, 200);
        resolve(&far, &token, READ).await.is(401, "invalid_token");
        inactive(&introspect(&far, &token).await);
    }
    let events: Vec<Value> = app.events("token.revoked").await;
    assert_eq!(events.len(), 20);
    server.stop().await;
    app.stop().await;
    database.drop().await;
}
