//! Paid first, made afterwards: for whoever is new or was struck, for vendors where a key in vain costs, and when the
//! budget of keys held unpaid is used up. What cannot be made then leaves credit, and credit pays.

use dekeys::client::{Client, KeyFile, Request, secret};
use dekeys::mock::Fault;
use dekeys::payment::Faults;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::database::Intruder;
use crate::support::purse::{Wallet, response};
use crate::support::{READ, Seen, TestApp, new_key, on_both, pinned, priced, send, until};

const FULL: i64 = 1_000_000;
const PRICE: i64 = 10_000;

on_both! {
    a_first_payment_is_settled_before_its_keys_are_made, |rules| rules.trusted_after = 1;
    a_lost_settlement_of_a_first_payment_is_found_and_made, |rules| rules.trusted_after = 1;
    whoever_has_paid_is_charged_after_its_keys_are_made, |rules| rules.trusted_after = 1;
    a_payer_that_drained_its_wallet_pays_first, |rules| rules.trusted_after = 0;
    keys_held_unpaid_are_bounded, |rules| (rules.trusted_after, rules.held_keys) = (0, 3);
    credit_pays_once_for_its_own_payer, |rules| rules.trusted_after = 1;
    credit_comes_back_from_a_grant_that_came_to_nothing, |rules| rules.trusted_after = 1;
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

fn balance(app: &TestApp, wallet: &Wallet) -> i64 {
    app.rail().balance(&wallet.address()).unwrap()
}

/// The vendor makes no key this time.
fn no_key(app: &TestApp) {
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        count: Some(1),
        status: Some(403),
        ..Fault::default()
    });
}

async fn pay(app: &TestApp, wallet: &Wallet) -> Seen {
    let body = wish(app);
    // Bound, for wallets on record pay unbound for their own keys alone.
    let header = wallet.sign_for(&app.quote(&body).await, &body, None);
    app.pay(&app.anyone(), &body, &header).await
}

/// An agent on record with this wallet.
async fn owner_of(app: &TestApp, wallet: &Wallet) -> KeyFile {
    let key = new_key();
    let wallet = format!("eip155:84532:{}", wallet.address());
    let body = json!({ "name": "payer", "kind": "agent", "public_keys": [key.public()], "wallets": [wallet] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&body))
        .await
        .good();
    key
}

async fn ask(client: &Client, body: &Value) -> Seen {
    send(client, Request::post(&["v1", "grants"]).json(body)).await
}

async fn a_first_payment_is_settled_before_its_keys_are_made(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish(app));
    let header = wallet.sign(&app.quote(&body).await);
    no_key(app);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(502, "payment_credited");
    assert_eq!(seen.text("/credit"), "0.01 USDC");
    assert_eq!(
        response(&seen)["success"],
        true,
        "the money moved, and the payer is told so"
    );
    assert_eq!(
        (balance(app, &wallet), app.stage.vendor.keys().len()),
        (FULL - PRICE, 0)
    );
    let states: Vec<_> = app
        .events("payment.")
        .await
        .iter()
        .map(|row| row["event"]["type"].clone())
        .collect();
    let order = ["credited", "provisioning", "paid", "settling", "claimed"].map(|state| format!("payment.{state}"));
    assert_eq!(states, order);
    // Once more changes nothing: one credit for one purchase.
    app.pay(&app.anyone(), &body, &header).await.is(502, "payment_credited");
    assert_eq!(app.events("payment.credited").await.len(), 1);
    // With a vendor that works it is a purchase like any other.
    let other = Wallet::new();
    let paid = pay(app, &other).await;
    assert_eq!(
        (paid.status, balance(app, &other)),
        (201, FULL - PRICE),
        "{}",
        paid.json
    );
    let token = pinned(&secret::at(&paid.json, "/token").unwrap(), PRIM);
    assert!(app.resolve(&app.stage.cast.prim, &token, READ).await.key().is_some());
    // A wallet that has nothing left loses the operator nothing.
    let poor = Wallet::new();
    app.rail_faults(Faults {
        fail_settle: 1,
        ..Faults::default()
    });
    pay(app, &poor).await.is(402, "payment_invalid");
    assert_eq!((balance(app, &poor), app.stage.vendor.keys().len()), (FULL, 1));
}

async fn a_lost_settlement_of_a_first_payment_is_found_and_made(app: &TestApp) {
    let wallet = Wallet::new();
    app.rail_faults(Faults {
        lose_answer: 1,
        ..Faults::default()
    });
    let seen = pay(app, &wallet).await;
    seen.is(202, "payment_unknown");
    let grant = seen.text("/grant");
    until("the grant to come into force", async || {
        let shown = send(&app.agent(), Request::get(&["v1", "grants", &grant])).await.good();
        (shown["state"] == "active").then_some(())
    })
    .await;
    assert_eq!(
        (balance(app, &wallet), app.stage.vendor.live_keys().len()),
        (FULL - PRICE, 1)
    );
    let tokens = Request::post(&["v1", "grants", &grant, "tokens"]);
    let token = pinned(
        &secret::at(&send(&app.agent(), tokens).await.good(), "/token").unwrap(),
        PRIM,
    );
    assert!(app.resolve(&app.stage.cast.prim, &token, READ).await.key().is_some());
    assert_eq!(app.events("payment.paid").await.len(), 1);
    assert_eq!(app.events("grant.created").await.len(), 1);
}

async fn whoever_has_paid_is_charged_after_its_keys_are_made(app: &TestApp) {
    let wallet = Wallet::new();
    assert_eq!(pay(app, &wallet).await.status, 201);
    no_key(app);
    pay(app, &wallet).await.is(502, "vendor_refused");
    assert_eq!(balance(app, &wallet), FULL - PRICE);
    assert_eq!(app.events("payment.credited").await.len(), 0);
}

async fn a_payer_that_drained_its_wallet_pays_first(app: &TestApp) {
    let wallet = Wallet::new();
    app.rail_faults(Faults {
        fail_settle: 1,
        ..Faults::default()
    });
    pay(app, &wallet).await.is(402, "payment_invalid");
    assert_eq!(app.stage.vendor.keys().len(), 1, "made in vain, once");
    for _ in 0..3 {
        app.rail_faults(Faults {
            fail_settle: 1,
            ..Faults::default()
        });
        pay(app, &wallet).await.is(402, "payment_invalid");
    }
    assert_eq!(app.stage.vendor.keys().len(), 1);
    // Others are not held to account for it, and a struck payer that pays is served.
    assert_eq!(pay(app, &Wallet::new()).await.status, 201);
    assert_eq!(app.events("payment.provisioning").await.len(), 0);
    assert_eq!(pay(app, &wallet).await.status, 201);
    assert_eq!(app.events("payment.provisioning").await.len(), 1);
}

async fn keys_held_unpaid_are_bounded(app: &TestApp) {
    // Eight strangers at once, and a vendor so slow that nobody has paid when the last one comes.
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(6000),
        count: Some(8),
        ..Fault::default()
    });
    let body = wish(app);
    let terms = app.quote(&body).await;
    let mut payers = JoinSet::new();
    for _ in 0..8 {
        let (client, body, header) = (app.anyone(), body.clone(), Wallet::new().sign(&terms));
        payers.spawn(async move {
            let request = Request::post(&["v1", "grants"]).json(&body);
            send(&client, request.header("payment-signature", &header)).await.status
        });
    }
    assert_eq!(payers.join_all().await, [201; 8]);
    assert_eq!(app.events("payment.verified").await.len(), 3, "as many as may be held");
    assert_eq!(app.events("payment.provisioning").await.len(), 5);
    // Keys made in vain use the budget up for everybody.
    for _ in 0..5 {
        app.rail_faults(Faults {
            fail_settle: 1,
            ..Faults::default()
        });
        pay(app, &Wallet::new()).await.is(402, "payment_invalid");
    }
    assert_eq!(app.stage.vendor.keys().len(), 8 + 3);
    assert_eq!(pay(app, &Wallet::new()).await.status, 201);
}

async fn credit_pays_once_for_its_own_payer(app: &TestApp) {
    let wallet = Wallet::new();
    let key = owner_of(app, &wallet).await;
    no_key(app);
    pay(app, &wallet).await.is(502, "payment_credited");
    let body = json!({ "reference": READ, "ttl": "10m" });
    ask(&app.agent(), &body).await.is(402, "payment_required");
    ask(&app.anyone(), &body).await.is(402, "payment_required");
    let payer = app.client(Some(&key));
    // As many at once as you like: the credit is for one.
    let mut buyers = JoinSet::new();
    for _ in 0..8 {
        let (client, body) = (app.client(Some(&key)), body.clone());
        buyers.spawn(async move { ask(&client, &body).await });
    }
    let answers = buyers.join_all().await;
    let bought: Vec<_> = answers.iter().filter(|seen| seen.status == 201).collect();
    let told: Vec<_> = answers.iter().map(|seen| (seen.status, seen.code())).collect();
    assert_eq!(bought.len(), 1, "{told:?}");
    let token = pinned(&secret::at(&bought[0].json, "/token").unwrap(), PRIM);
    assert!(app.resolve(&app.stage.cast.prim, &token, READ).await.key().is_some());
    ask(&payer, &body).await.is(402, "payment_required");
    assert_eq!(
        (balance(app, &wallet), app.events("payment.credit_used").await.len()),
        (FULL - PRICE, 1)
    );
}

async fn credit_comes_back_from_a_grant_that_came_to_nothing(app: &TestApp) {
    let wallet = Wallet::new();
    let payer = app.client(Some(&owner_of(app, &wallet).await));
    no_key(app);
    pay(app, &wallet).await.is(502, "payment_credited");
    let body = json!({ "reference": READ });
    no_key(app);
    ask(&payer, &body).await.is(502, "vendor_refused");
    assert_eq!(app.events("payment.credit_returned").await.len(), 1);
    let named = || {
        Request::post(&["v1", "grants"])
            .json(&body)
            .header("idempotency-key", "mine")
    };
    let first = send(&payer, named()).await;
    let again = send(&payer, named()).await;
    assert_eq!(
        (first.status, again.status),
        (201, 200),
        "{} {}",
        first.json,
        again.json
    );
    assert_eq!(first.text("/id"), again.text("/id"));
    ask(&payer, &body).await.is(402, "payment_required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_cannot_be_written_into_the_database() {
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        config.payment.rules.trusted_after = 1;
    })
    .await;
    let wallet = Wallet::new();
    let payer = app.client(Some(&owner_of(&app, &wallet).await));
    no_key(&app);
    pay(&app, &wallet).await.is(502, "payment_credited");
    let mut intruder = Intruder::at(&app).await;
    intruder
        .run("UPDATE credits SET amount = 90000, remaining = 90000".to_owned())
        .await;
    let body = json!({ "reference": READ });
    ask(&payer, &body).await.is(500, "integrity_failed");
    let copy = "INSERT INTO credits (purchase, payer, amount, reason, created, remaining, mac) \
                SELECT id, 'eip155:84532:' || payer, 10000, 'x', created, 10000, zeroblob(32) FROM purchases";
    intruder.run("DELETE FROM credits".to_owned()).await;
    intruder.run(copy.to_owned()).await;
    ask(&payer, &body).await.is(500, "integrity_failed");
    // A purchase that was only written to be paid: what it moves carries a mark, and nothing is made.
    intruder
        .run("UPDATE purchases SET state = 'paid', nonce = '0x1', settle_first = 1, next_at = 1".to_owned())
        .await;
    until("the event about the forged purchase", async || {
        let events = app.events("security.forged_row").await;
        let named = |event: &Value| event.pointer("/event/data/what") == Some(&json!("payment"));
        events.iter().any(named).then_some(())
    })
    .await;
    assert!(app.stage.vendor.keys().is_empty());
    app.stop().await;
}
