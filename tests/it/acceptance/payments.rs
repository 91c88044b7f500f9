//! Money: what is paid is paid once and gives one grant; what fails on the way costs nothing.

use dekeys::client::{KeyFile, Request, secret};
use dekeys::mock::Fault;
use dekeys::payment::Faults;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::{Wallet, response};
use crate::support::{READ, Seen, TestApp, WRITE, new_key, pinned, policy, priced, send, until};

const FULL: i64 = 1_000_000;
const PRICE: i64 = 10_000;

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

fn balance(app: &TestApp, wallet: &Wallet) -> i64 {
    app.rail().balance(&wallet.address()).unwrap()
}

/// Grants in force, as the operator sees them.
async fn active(app: &TestApp) -> usize {
    let request = Request::get(&["v1", "grants"]).query("limit", Some(100));
    let list = send(&app.operator(), request).await.good();
    let states = list["data"].as_array().unwrap().iter();
    states.filter(|grant| grant["state"] == "active").count()
}

async fn no_live_keys(app: &TestApp) {
    until("the end of all keys", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_payment_sent_fifty_times_at_once_settles_once() {
    let app = TestApp::start().await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = app.anyone();
        let request = Request::post(&["v1", "grants"])
            .json(&body)
            .header("payment-signature", &header);
        senders.spawn(async move { send(&client, request).await });
    }
    let answers: Vec<Seen> = senders.join_all().await;
    let told: Vec<_> = answers.iter().map(|seen| (seen.status, seen.code())).collect();
    let tokens = answers.iter().filter(|seen| seen.json.get("token").is_some()).count();
    assert_eq!(tokens, 1, "{told:?}");
    for seen in &answers {
        let fits = matches!(
            (seen.status, seen.code().as_str()),
            (200 | 201, "") | (202, "payment_unknown") | (409, "idempotency_running")
        );
        assert!(fits, "{told:?}");
    }
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    assert_eq!(app.events("grant.created").await.len(), 1);
    assert_eq!((active(&app).await, app.stage.vendor.live_keys().len()), (1, 1));

    // The header is public by now: it gives nobody a token, its holder excepted.
    let again = app.pay(&app.anyone(), &body, &header).await;
    assert_eq!((again.status, again.json.get("token")), (200, None), "{}", again.json);
    assert_eq!(response(&again)["success"], true);
    let stranger = app.pay(&app.client(Some(&new_key())), &body, &header).await;
    assert_eq!((stranger.status, stranger.json.get("token")), (200, None));
    let holder = app.pay(&app.agent(), &body, &header).await;
    assert_eq!((holder.status, holder.text("/id")), (200, again.text("/id")));
    let token = secret::at(&holder.json, "/token").unwrap();
    let seen = app.resolve(&app.stage.cast.prim, &pinned(&token, PRIM), READ).await;
    assert!(seen.key().is_some(), "{}", seen.json);
    // Another wish cannot be paid with it.
    let mut other = body.clone();
    other["ttl"] = json!("9m");
    let seen = app.pay(&app.agent(), &other, &header).await;
    seen.is(409, "payment_conflict");
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    app.stop().await;
}

/// A client that lost the answer signs anew, and says by its id that it means the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_identifier_is_paid_once_whatever_is_signed_for_it() {
    const ID: &str = "pay_7d5d747be160e280";
    let app = TestApp::start().await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let asked = app.quote(&body).await;
    let first = app.pay(&app.anyone(), &body, &wallet.sign_as(&asked, ID)).await;
    assert_eq!(first.status, 201, "{}", first.json);
    let again = app.pay(&app.anyone(), &body, &wallet.sign_as(&asked, ID)).await;
    assert_eq!(
        (again.status, again.text("/id")),
        (200, first.text("/id")),
        "{}",
        again.json
    );
    assert_eq!(again.json.get("token"), None);
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    // For another request it is a conflict, and nothing is charged.
    let mut other = body.clone();
    other["ttl"] = json!("9m");
    let seen = app
        .pay(&app.anyone(), &other, &wallet.sign_as(&app.quote(&other).await, ID))
        .await;
    seen.is(409, "payment_conflict");
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    // Another payer's id is another's, and says nothing of the first.
    let stranger = Wallet::new();
    let seen = app.pay(&app.anyone(), &body, &stranger.sign_as(&asked, ID)).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    assert_ne!(seen.text("/id"), first.text("/id"));
    // What came to nothing may be tried again by the same id.
    app.rail_faults(Faults {
        fail_settle: 1,
        ..Faults::default()
    });
    let (poor, asked) = (Wallet::new(), app.quote(&body).await);
    let refused = app.pay(&app.anyone(), &body, &poor.sign_as(&asked, ID)).await;
    refused.is(402, "payment_invalid");
    let seen = app.pay(&app.anyone(), &body, &poor.sign_as(&asked, ID)).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_pays_no_more_than_it_may_and_has() {
    let text = priced("demo-readers", "echo:read", &[PRIM], "0.40")
        .replace("[limits]", "[limits]\npaid_per_day = \"0.80 USDC\"");
    let app = TestApp::with(&text, |_| {}).await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    app.buy_from(&wallet, body.clone()).await;
    app.buy_from(&wallet, body.clone()).await;
    let header = wallet.sign(&app.quote(&body).await);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(429, "budget_reached");
    assert_eq!(balance(&app, &wallet), 200_000);
    app.stop().await;

    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.60"), |_| {}).await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    app.buy_from(&wallet, body.clone()).await;
    let header = wallet.sign(&app.quote(&body).await);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(402, "payment_invalid");
    assert_eq!((balance(&app, &wallet), active(&app).await), (400_000, 1));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_wallets_that_the_policy_names_may_buy() {
    let friend = Wallet::new();
    let text =
        priced("demo-readers", "echo:read", &[PRIM], "0.01").replace("84532:*", &format!("84532:{}", friend.address()));
    let app = TestApp::with(&text, |_| {}).await;
    let (stranger, body) = (Wallet::new(), wish(&app));
    let header = stranger.sign(&app.quote(&body).await);
    app.pay(&app.anyone(), &body, &header)
        .await
        .is(403, "policy_not_approved");
    assert_eq!((balance(&app, &stranger), app.stage.vendor.keys().len()), (FULL, 0));
    app.buy_from(&friend, body).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_stands_for_one_request() {
    let text = policy("demo-readers", "echo:read", &[PRIM], "").replace(
        "wallets = [\"eip155:84532:*\"]",
        "principals = [\"agent-one\", \"agent-two\"]",
    );
    let app = TestApp::with(&text, |_| {}).await;
    let ask = async |key: &KeyFile, body: &Value, name: &str| {
        let request = Request::post(&["v1", "grants"])
            .json(body)
            .header("idempotency-key", name);
        send(&app.client(Some(key)), request).await
    };
    let agent = &app.enroll("agent-one", "agent").await;
    let other = &app.enroll("agent-two", "agent").await;
    let (one, two) = (json!({ "reference": READ }), json!({ "reference": READ, "ttl": "2m" }));
    let first = ask(agent, &one, "a").await;
    assert_eq!(first.status, 201, "{}", first.json);
    let again = ask(agent, &one, "a").await;
    assert_eq!((again.status, again.text("/id")), (200, first.text("/id")));
    assert!(again.json.get("token").is_some(), "the same signer gets a token again");
    ask(agent, &two, "a").await.is(422, "idempotency_mismatch");
    let others = ask(other, &two, "a").await;
    assert_eq!(others.status, 201, "another's key of the same name: {}", others.json);
    assert_ne!(others.text("/id"), first.text("/id"));
    let long = "x".repeat(256);
    ask(agent, &one, &long).await.is(422, "invalid_request");

    // While the first is under way.
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(2500),
        count: Some(1),
        ..Fault::default()
    });
    let (first, second) = tokio::join!(ask(agent, &two, "slow"), ask(agent, &two, "slow"));
    let (done, running) = if first.status == 201 {
        (first, second)
    } else {
        (second, first)
    };
    assert_eq!(done.status, 201, "{}", done.json);
    running.is(409, "idempotency_running");
    let nobody = send(&app.anyone(), Request::post(&["v1", "grants"]).json(&one)).await;
    nobody.is(403, "policy_not_approved");
    app.stop().await;
}

/// One failed try with these faults, then the same payment once more.
async fn failed_then_paid(faults: Faults, trouble: Option<Fault>, status: u16, code: &str) {
    let app = TestApp::start().await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    app.rail_faults(faults);
    if let Some(fault) = trouble {
        app.stage.vendor.fault(fault);
    }
    let failed = app.pay(&app.anyone(), &body, &header).await;
    failed.is(status, code);
    assert!(failed.json.get("token").is_none());
    assert_eq!((balance(&app, &wallet), active(&app).await), (FULL, 0));
    no_live_keys(&app).await;
    let paid = app.pay(&app.anyone(), &body, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    assert_eq!(response(&paid)["success"], true);
    assert_eq!((balance(&app, &wallet), active(&app).await), (FULL - PRICE, 1));
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_verify_is_not_charged() {
    let faults = Faults {
        fail_verify: 1,
        ..Faults::default()
    };
    failed_then_paid(faults, None, 402, "payment_invalid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rail_that_does_not_answer_is_not_held_against_the_payer() {
    let faults = Faults {
        unreachable: 1,
        ..Faults::default()
    };
    failed_then_paid(faults, None, 503, "payment_unavailable").await;
}

/// The vendor's next making of a key goes wrong.
fn creating(status: Option<u16>, drop_reply: bool) -> Fault {
    Fault {
        op: "create".to_owned(),
        count: Some(1),
        status,
        drop_reply,
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_refuses_costs_nothing() {
    let fault = creating(Some(403), false);
    failed_then_paid(Faults::default(), Some(fault), 502, "vendor_refused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_fails_costs_nothing() {
    let fault = creating(Some(500), false);
    failed_then_paid(Faults::default(), Some(fault), 503, "vendor_unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_making_was_not_answered_is_found_and_ended() {
    let fault = creating(None, true);
    failed_then_paid(Faults::default(), Some(fault), 503, "vendor_unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_settlement_ends_the_key() {
    let app = TestApp::start().await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    app.rail_faults(Faults {
        fail_settle: 1,
        ..Faults::default()
    });
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(402, "payment_invalid");
    assert_eq!(response(&seen)["success"], false);
    assert_eq!((balance(&app, &wallet), active(&app).await), (FULL, 0));
    assert_eq!(app.stage.vendor.keys().len(), 1, "it was made before the settlement");
    no_live_keys(&app).await;
    // Its word was given: this authorization is not tried again.
    app.pay(&app.anyone(), &body, &header).await.is(402, "payment_invalid");
    assert_eq!((balance(&app, &wallet), app.stage.vendor.keys().len()), (FULL, 1));
    app.buy_from(&wallet, body).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_settlement_is_found_and_gives_its_grant() {
    let app = TestApp::start().await;
    let (wallet, body) = (Wallet::new(), wish(&app));
    let header = wallet.sign(&app.quote(&body).await);
    app.rail_faults(Faults {
        lose_answer: 1,
        ..Faults::default()
    });
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(202, "payment_unknown");
    let grant = seen.text("/grant");
    assert_eq!(seen.headers["location"], format!("/v1/grants/{grant}"));
    until("the grant to come into force", async || {
        let shown = send(&app.agent(), Request::get(&["v1", "grants", &grant])).await.good();
        (shown["state"] == "active").then_some(())
    })
    .await;
    let tokens = Request::post(&["v1", "grants", &grant, "tokens"]);
    let fresh = send(&app.agent(), tokens).await.good();
    let token = pinned(&secret::at(&fresh, "/token").unwrap(), PRIM);
    assert!(app.resolve(&app.stage.cast.prim, &token, READ).await.key().is_some());
    assert_eq!((balance(&app, &wallet), active(&app).await), (FULL - PRICE, 1));
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
    // The payer repeats: the same grant, not another settlement.
    let again = app.pay(&app.agent(), &body, &header).await;
    assert_eq!((again.status, again.text("/id")), (200, grant));
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_of_two_items_is_whole_or_nothing() {
    let app = TestApp::start().await;
    let text = priced("demo-writers", "echo:write", &[PRIM], "0.03");
    app.stage.put_in_force(&text).await.unwrap();
    let (wallet, mut body) = (Wallet::new(), wish(&app));
    body.as_object_mut().unwrap().remove("reference");
    body["references"] = json!([READ, WRITE]);
    let terms = app.quote(&body).await;
    assert_eq!(terms.pointer("/accepts/0/amount"), Some(&json!("40000")));
    let header = wallet.sign(&terms);
    // The first key is made, the second is not.
    for status in [None, Some(403)] {
        app.stage.vendor.fault(creating(status, false));
    }
    app.pay(&app.anyone(), &body, &header).await.is(502, "vendor_refused");
    assert_eq!((balance(&app, &wallet), active(&app).await), (FULL, 0));
    assert_eq!(app.stage.vendor.keys().len(), 1);
    no_live_keys(&app).await;

    let paid = app.pay(&app.anyone(), &body, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    assert_eq!(balance(&app, &wallet), FULL - 40_000);
    assert_eq!(app.stage.vendor.live_keys().len(), 2);
    let token = pinned(&secret::at(&paid.json, "/token").unwrap(), PRIM);
    let mut keys = Vec::new();
    for reference in [READ, WRITE] {
        let seen = app.resolve(&app.stage.cast.prim, &token, reference).await;
        keys.push(seen.key().unwrap_or_else(|| panic!("{}", seen.json)));
    }
    assert_ne!(keys[0], keys[1]);
    app.stop().await;
}
