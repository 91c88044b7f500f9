//! The rail over HTTP against a facilitator and a chain that keep the truth: what is paid is delivered or owed, what is
//! not paid is not delivered, whatever the facilitator says of it.

use std::sync::Arc;

use dekeys::base::time::{Clock as _, ManualClock, SystemClock, Ttl};
use dekeys::client::Request;
use dekeys::config::{Config, Rail};
use dekeys::service::unseal::unseal;
use dekeys::setup::stage::{PAY_TO, PRIM};
use serde_json::{Value, json};
use sqlx::Row;

use super::ledger;
use crate::support::chain::{Chain, Script};
use crate::support::database::Intruder;
use crate::support::purse::{Wallet, response};
use crate::support::{READ, Seen, TestApp, priced, send, until};

fn over(chain: &Chain, rpc: bool) -> impl FnOnce(&mut Config) {
    let url = chain.url.clone();
    move |config| {
        config.payment.rail = Rail::Http;
        config.payment.facilitator_url = Some(format!("{url}/x402").parse().unwrap());
        config.payment.rpc_url = rpc.then(|| format!("{url}/rpc").parse().unwrap());
    }
}

async fn app(chain: &Chain, rpc: bool) -> TestApp {
    TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), over(chain, rpc)).await
}

/// Pays for a grant; the wallet is new.
async fn bought(app: &TestApp) -> Seen {
    let body = json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() });
    let header = Wallet::new().sign(&app.quote(&body).await);
    app.pay(&app.anyone(), &body, &header).await
}

async fn event(app: &TestApp, kind: &str) -> Value {
    until(kind, async || app.events(kind).await.into_iter().next()).await
}

async fn no_live_keys(app: &TestApp) {
    until("the end of all keys", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_payment_gives_its_grant() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    let seen = bought(&app).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    assert_eq!(response(&seen)["success"], true);
    assert_eq!((chain.settles(), chain.paid(PAY_TO)), (1, 1));
    let transaction = response(&seen)["transaction"].as_str().unwrap().to_owned();
    let created = event(&app, "grant.created").await;
    assert!(created.to_string().contains(&transaction), "{created}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_told_and_ends_the_keys() {
    let chain = Chain::start().await;
    chain.next(Script::Refuse);
    let app = app(&chain, true).await;
    let seen = bought(&app).await;
    seen.is(402, "payment_invalid");
    assert_eq!(response(&seen)["errorReason"], "insufficient_funds");
    assert_eq!(chain.paid(PAY_TO), 0);
    no_live_keys(&app).await;
    app.stop().await;
}

/// The money moved, whatever was said: the grant is there at once or soon, and nobody is asked to pay again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_moved_gives_its_grant_whatever_is_said() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    for (script, status) in [
        (Script::LoseAnswer, 202),
        (Script::Pending, 202),
        (Script::LieRefused, 201),
    ] {
        chain.next(script);
        let (before, grants) = (chain.settles(), app.events("grant.created").await.len());
        let seen = bought(&app).await;
        assert_eq!(seen.status, status, "{script:?} {}", seen.json);
        until("the grant", async || {
            (app.events("grant.created").await.len() > grants).then_some(())
        })
        .await;
        assert_eq!(chain.settles(), before + 1, "{script:?}");
    }
    assert_eq!((chain.paid(PAY_TO), app.stage.vendor.live_keys().len()), (3, 3));
    app.stop().await;
}

/// Nothing moved, whatever was said: no grant; once the chain says that it never will, the keys end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_did_not_move_gives_nothing_whatever_is_said() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    let scripts = [
        Script::Break,
        Script::LieSettled,
        Script::Cancelled,
        Script::SpentElsewhere,
    ];
    for script in scripts {
        chain.next(script);
        let seen = bought(&app).await;
        assert_eq!(seen.status, 202, "{script:?} {}", seen.json);
        assert_eq!(seen.json.get("token"), None, "{script:?}");
    }
    assert_eq!((chain.paid(PAY_TO), app.events("grant.created").await.len()), (0, 0));
    // Authorizations last two minutes; a minute of blocks above that is final.
    chain.advance(200);
    no_live_keys(&app).await;
    let failed = until("the end of every purchase", async || {
        let failed = app.events("payment.failed").await;
        (failed.len() == scripts.len()).then_some(failed)
    })
    .await;
    assert_eq!(
        (chain.paid(PAY_TO), app.events("grant.created").await.len()),
        (0, 0),
        "{failed:?}"
    );
    app.stop().await;
}

/// A payment that was refused stays good until its authorization ends, for whoever saw it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_moves_after_a_refusal_leaves_credit() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    chain.next(Script::Refuse);
    bought(&app).await.is(402, "payment_invalid");
    chain.observer_settles();
    chain.advance(200);
    // What is left open is looked at when a process begins.
    let app = app.restart().await;
    unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let credited = event(&app, "payment.credited").await;
    assert_eq!(credited["event"]["data"]["state"], "credited", "{credited}");
    assert_eq!((chain.paid(PAY_TO), app.events("grant.created").await.len()), (1, 0));
    app.stop().await;
}

/// Of two requests with one payment the slower one's verification finds it used: by the other, so there is nothing to pay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slower_of_two_same_requests_is_not_asked_to_pay_again() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    let body = json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() });
    let header = Wallet::new().sign(&app.quote(&body).await);
    chain.hold_verification(0);
    let (client, other) = (app.anyone(), app.anyone());
    let quicker = async {
        chain.held().await;
        let seen = app.pay(&client, &body, &header).await;
        chain.release();
        seen
    };
    let (slower, quicker) = tokio::join!(app.pay(&other, &body, &header), quicker);
    assert_eq!(quicker.status, 201, "{}", quicker.json);
    assert_eq!(slower.status, 200, "{}", slower.json);
    assert_eq!((slower.text("/id"), chain.settles()), (quicker.text("/id"), 1));
    assert_eq!(slower.json.get("token"), None);
    app.stop().await;
}

/// An observer uses the authorization when it is claimed here, and not yet settled.
/// Of several same requests at once one was verified and went on; the others learn what came of it, also where the
/// facilitator breaks over them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_that_breaks_is_answered_by_what_the_same_payment_came_to() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    let body = json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() });
    let header = Wallet::new().sign(&app.quote(&body).await);
    chain.hold_verification(0);
    let slow = async { app.pay(&app.anyone(), &body, &header).await };
    let quick = async {
        chain.held().await;
        let seen = app.pay(&app.anyone(), &body, &header).await;
        chain.release_broken();
        seen
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert_eq!(quick.status, 201, "{}", quick.json);
    assert_eq!(
        (slow.status, slow.text("/id")),
        (200, quick.text("/id")),
        "{}",
        slow.json
    );
    assert_eq!((chain.settles(), chain.paid(PAY_TO)), (1, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_moves_between_claim_and_settlement_gives_its_grant() {
    let chain = Chain::start().await;
    let app = app(&chain, true).await;
    chain.hold_verification(1);
    let observer = async {
        chain.held().await;
        chain.observer_settles();
        chain.release();
    };
    let (seen, ()) = tokio::join!(bought(&app), observer);
    // The facilitator breaks over what is used.
    assert_eq!(seen.status, 202, "{}", seen.json);
    event(&app, "grant.created").await;
    assert_eq!((chain.paid(PAY_TO), app.stage.vendor.live_keys().len()), (1, 1));
    app.stop().await;
}

/// What is settled is looked at while it can be settled again, and then when its block is final: a chain may have taken
/// it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_chain_takes_back_is_settled_again_or_ends_its_grant() {
    let chain = Chain::start().await;
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = app(&chain, true).await.restart_by(Arc::clone(&clock)).await;
    let server = &app.stage.server.app;
    unseal(server, app.unseal_key()).await.unwrap();
    // By the store: a request that was signed before the clock was put ahead is late.
    let on_record = async |kind: &str| {
        until(kind, async || {
            let mut tx = server.store.read().await.unwrap();
            tx.last_of_kind(kind).await.unwrap()
        })
        .await;
    };
    for _ in 0..2 {
        let seen = bought(&app).await;
        assert_eq!(seen.status, 201, "{}", seen.json);
    }
    // The second is taken back, and can be settled again: its wallet signed for two minutes of the machine's clock.
    chain.take_back();
    assert_eq!(chain.paid(PAY_TO), 1);
    clock.advance(Ttl::from_secs(100));
    until("another settlement", async || (chain.paid(PAY_TO) == 2).then_some(())).await;
    clock.advance(Ttl::from_secs(60));
    on_record("payment.settled_again").await;
    assert_eq!(app.stage.vendor.live_keys().len(), 2);
    // It is taken back again, and its authorization is over.
    chain.take_back();
    chain.advance(400);
    clock.advance(Ttl::from_secs(70));
    on_record("payment.taken_back").await;
    until("the end of its key", async || {
        (app.stage.vendor.live_keys().len() == 1).then_some(())
    })
    .await;
    assert_eq!(chain.paid(PAY_TO), 1);
    let books = ledger::checked(&app, server.now()).await;
    assert_eq!(
        (&books["agrees"], &books["received"]),
        (&json!(true), &json!(10_000)),
        "{books}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_chain_a_lost_answer_is_asked_for_again_and_people_decide_the_rest() {
    let chain = Chain::start().await;
    let app = app(&chain, false).await;
    chain.next(Script::Break);
    let seen = bought(&app).await;
    assert_eq!(seen.status, 202, "{}", seen.json);
    event(&app, "grant.created").await;
    assert_eq!((chain.paid(PAY_TO), app.stage.vendor.live_keys().len()), (1, 1));
    // Used, says the facilitator from now on: that it was used for us is not in its answer.
    chain.next(Script::LoseAnswer);
    let seen = bought(&app).await;
    assert_eq!(seen.status, 202, "{}", seen.json);
    let settles = chain.settles();
    until("another try", async || (chain.settles() > settles).then_some(())).await;
    assert_eq!(
        (
            app.events("grant.created").await.len(),
            app.events("payment.failed").await.len()
        ),
        (1, 0)
    );

    // An operator looks at the chain, and says so.
    let list = Request::get(&["v1", "payments"]).query("state", Some("settling"));
    let open = send(&app.operator(), list).await.good();
    let id = open["data"][0]["id"].as_str().unwrap().to_owned();
    let say = async |body: Value| {
        let request = Request::post(&["v1", "payments", &id, "resolve"]).json(&body);
        send(&app.operator(), request).await
    };
    say(json!({ "outcome": "settled" })).await.is(422, "invalid_request");
    // It may still settle.
    say(json!({ "outcome": "not_settled" })).await.is(409, "conflict");
    let transaction = format!("0x{}", "ab".repeat(32));
    let told = say(json!({ "outcome": "settled", "transaction": transaction, "reason": "seen" }))
        .await
        .good();
    assert_eq!(
        (&told["state"], &told["transaction"]),
        (&json!("settled"), &json!(transaction))
    );
    assert_eq!(app.events("grant.created").await.len(), 2);
    let resolved = event(&app, "payment.resolved").await.to_string();
    assert!(
        resolved.contains(r#""reason":"seen""#) && resolved.contains(&transaction),
        "{resolved}"
    );
    say(json!({ "outcome": "not_settled" })).await.is(409, "conflict");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_facilitator_that_cannot_be_reached_costs_nothing_and_asks_for_nothing() {
    let chain = Chain::start().await;
    let gone = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        over(&chain, true)(config);
        config.payment.facilitator_url = Some("http://127.0.0.1:9/".parse().unwrap());
    })
    .await;
    let seen = bought(&gone).await;
    seen.is(503, "payment_unavailable");
    assert!(gone.stage.vendor.keys().is_empty());
    gone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facilitator_is_shown_its_key() {
    let chain = Chain::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("facilitator.key");
    std::fs::write(&file, "X-Api-Key: let-us-in\n").unwrap();
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        over(&chain, true)(config);
        config.payment.facilitator_key_file = Some(file);
    })
    .await;
    assert_eq!(bought(&app).await.status, 201);
    assert_eq!(chain.header("x-api-key").as_deref(), Some("let-us-in"));
    app.stop().await;
}

/// Whoever can write to the database and pays their own pocket cannot have that counted as paid to us: what a payment
/// is to move, to whom and for what carries a mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_altered_in_the_database_pays_for_nothing() {
    let changes = [
        "pay_to = payer",
        "amount = 1",
        "grant_id = (SELECT id FROM grants ORDER BY id LIMIT 1)",
        "valid_before = valid_before + 1",
        "payload = '{}'",
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let chain = Chain::start().await;
        let app = app(&chain, true).await;
        assert_eq!(bought(&app).await.status, 201);
        chain.next(Script::SpentElsewhere);
        assert_eq!(bought(&app).await.status, 202);
        let mut intruder = Intruder::at(&app).await;
        intruder
            .run(format!(
                "UPDATE purchases SET {change}, next_at = 1 WHERE state = 'settling'"
            ))
            .await;
        let forged = event(&app, "security.forged_row").await;
        assert_eq!(forged.pointer("/event/data/what"), Some(&json!("payment")), "{change}");
        assert_eq!(app.events("grant.created").await.len(), 1, "{change}");
        // Nor by an operator's word, who is shown that it is not authentic.
        if place == 0 {
            let rows = intruder.rows("SELECT id FROM purchases WHERE state = 'settling'").await;
            let id: String = rows[0].get(0);
            let said = json!({ "outcome": "settled", "transaction": format!("0x{}", "ab".repeat(32)) });
            let request = Request::post(&["v1", "payments", &id, "resolve"]).json(&said);
            send(&app.operator(), request).await.is(500, "integrity_failed");
            let list = send(&app.operator(), Request::get(&["v1", "payments"])).await.good();
            assert_eq!(
                (list["data"].as_array().unwrap().len(), &list["omitted"]),
                (1, &json!(1))
            );
        }
        app.stop().await;
    }
}
