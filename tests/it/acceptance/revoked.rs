//! The end of a grant: once revoking was answered, nothing is released any more, however the requests race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::json;

use crate::support::session::Session;
use crate::support::{READ, TestApp, pinned, send, until};

const TRIES: usize = 10_000;
const ROUNDS: usize = 40;
const ASKERS: usize = 8;

/// What the tries of one round came to.
#[derive(Default)]
struct Round {
    /// Revoking was answered with 200.
    ended: AtomicBool,
    /// Answers with a key.
    given: AtomicUsize,
    /// Tries that began after the end.
    late: AtomicUsize,
    /// Keys given to those: must stay 0.
    wrong: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_revoking_was_answered_nothing_is_released_in_ten_thousand_tries() {
    let app = TestApp::start().await;
    let mut sessions = Vec::new();
    for _ in 0..ASKERS {
        sessions.push(Arc::new(Session::open(&app.prim()).await));
    }
    let (mut tries, mut given, mut late) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let round = play(&app, &sessions).await;
        tries += ASKERS * (TRIES / ROUNDS / ASKERS + 1);
        given += round.given.load(Ordering::SeqCst);
        late += round.late.load(Ordering::SeqCst);
        assert_eq!(round.wrong.load(Ordering::SeqCst), 0, "a key was given after the end");
    }
    assert!(
        tries >= TRIES && given > ROUNDS && late > ROUNDS,
        "{tries} {given} {late}"
    );
    // What was made in the race is dead at the vendor too.
    until("the end of all keys", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    app.stop().await;
}

async fn play(app: &TestApp, sessions: &[Arc<Session>]) -> Arc<Round> {
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let token = Arc::new(pinned(&bought.token, PRIM));
    let round = Arc::new(Round::default());
    let mut askers = tokio::task::JoinSet::new();
    for session in sessions {
        let (session, token, round) = (Arc::clone(session), Arc::clone(&token), Arc::clone(&round));
        askers.spawn(async move {
            let body = json!({ "items": [{ "reference": READ }] });
            for _ in 0..=TRIES / ROUNDS / ASKERS {
                let ended = round.ended.load(Ordering::SeqCst);
                let (status, answer) = session.post("/v1/resolve", &token, &body).await;
                let key = answer.pointer("/data/0/credential/fields/api_key").is_some();
                assert!(key || matches!(status, 401 | 503), "{status} {answer}");
                round.given.fetch_add(usize::from(key), Ordering::SeqCst);
                round.late.fetch_add(usize::from(ended), Ordering::SeqCst);
                round.wrong.fetch_add(usize::from(ended && key), Ordering::SeqCst);
            }
        });
    }
    // In the middle of the race.
    let enough = ASKERS * 4;
    until("resolves", async || {
        (round.given.load(Ordering::SeqCst) >= enough).then_some(())
    })
    .await;
    let request = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({ "reason": "the race" }));
    let ended = send(&app.agent(), request).await;
    assert_eq!(ended.status, 200, "{}", ended.json);
    round.ended.store(true, Ordering::SeqCst);
    while let Some(asker) = askers.join_next().await {
        asker.unwrap();
    }
    round
}

/// What the vendor did not confirm is not told as confirmed, however often one asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_the_vendor_does_not_confirm_is_not_called_confirmed() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    app.stage.vendor.fault(Fault {
        op: "revoke".to_owned(),
        status: Some(500),
        count: None,
        ..Fault::default()
    });
    for _ in 0..2 {
        let request = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
        let ended = send(&app.agent(), request).await.good();
        assert_eq!(
            (&ended["confirmed"], app.stage.vendor.live_keys().len()),
            (&json!(false), 1)
        );
        assert_eq!(ended["state"], "revoking", "{ended}");
    }
    app.stop().await;
}
