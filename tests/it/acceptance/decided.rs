//! People decide, then somebody pays: policy, people, quote, payment, in this order, and neither stands in for another.

use dekeys::client::{Client, Request, approval, secret};
use dekeys::config::Config;
use dekeys::mock::Fault;
use dekeys::model::approval::Verdict;
use dekeys::service::expire;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::{self, Wallet, response};
use crate::support::{READ, Seen, TestApp, WRITE, new_key, on_both, pinned, policy, priced, send, until};

const FULL: i64 = 1_000_000;
const PRICE: i64 = 10_000;

on_both! {
    a_yes_comes_before_the_price_and_the_price_before_the_key, super::always();
    a_payment_does_not_stand_in_for_people, super::always();
    some_of_it_priced_and_some_decided_is_one_grant, super::policy("free", "echo:read", &[super::PRIM], "")
        .replace("\"none\"", "\"always\"")
        .replace("eip155:84532:*", "*");
    a_yes_outlives_a_payment_that_came_to_nothing, super::always();
    a_yes_to_another_policy_is_none, super::always();
    two_payments_for_one_yes_settle_once, super::always();
    the_first_is_decided_and_the_next_only_paid, super::asked("first");
}

fn asked(grants: &str) -> String {
    priced("demo-readers", "echo:read", &[PRIM], "0.01").replace("grants = \"none\"", &format!("grants = \"{grants}\""))
}

fn always() -> String {
    asked("always")
}

fn wish() -> Value {
    json!({ "reference": READ, "ttl": "10m" })
}

fn balance(app: &TestApp, wallet: &Wallet) -> i64 {
    app.rail().balance(&wallet.address()).unwrap()
}

async fn request(client: &Client, body: &Value) -> Seen {
    send(client, Request::post(&["v1", "grants"]).json(body)).await
}

async fn shown(app: &TestApp, grant: &str) -> Value {
    send(&app.operator(), Request::get(&["v1", "grants", grant]))
        .await
        .good()
}

/// One approver's verdict on what they are shown.
async fn decide(app: &TestApp, id: &str, verdict: Verdict) -> Value {
    let (_, ada) = &app.stage.cast.approvers[0];
    let client = app.client(Some(ada));
    let before = send(&client, Request::get(&["v1", "approvals", id])).await.good();
    let digest = before["digest"].as_str().unwrap().parse().unwrap();
    let review = approval::review(ada, id.parse().unwrap(), digest, verdict, "because");
    let vote = Request::post(&["v1", "approvals", id, "reviews"]).json(&review);
    send(&client, vote).await.good();
    before
}

/// Asked for and approved: the grant, and the terms of its 402.
async fn approved(app: &TestApp, body: &Value) -> (String, Value) {
    let asked = request(&app.agent(), body).await;
    asked.is(202, "approval_pending");
    decide(app, &asked.text("/approval"), Verdict::Approve).await;
    let quote = request(&app.agent(), body).await;
    quote.is(402, "payment_required");
    assert_eq!(quote.text("/grant"), asked.text("/grant"));
    (asked.text("/grant"), purse::terms(&quote))
}

async fn a_yes_comes_before_the_price_and_the_price_before_the_key(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish());
    request(&app.anyone(), &body).await.is(401, "signature_required");
    let asked = request(&app.agent(), &body).await;
    asked.is(202, "approval_pending");
    let grant = asked.text("/grant");
    // The same request is the same question; somebody else's is another.
    assert_eq!(request(&app.agent(), &body).await.text("/grant"), grant);
    let other = request(&app.client(Some(&new_key())), &body).await;
    other.is(202, "approval_pending");
    assert_ne!(other.text("/grant"), grant);

    // The approver sees the price, and decides about it.
    let before = decide(app, &asked.text("/approval"), Verdict::Approve).await;
    assert_eq!(before["grant"]["price"], "0.01 USDC", "{before}");
    assert!(before["summary"].as_str().unwrap().contains("0.01 USDC"), "{before}");
    let waiting = shown(app, &grant).await;
    assert_eq!(
        (&waiting["state"], &waiting["price"]),
        (&json!("payment_required"), &json!("0.01 USDC"))
    );
    assert!(app.stage.vendor.keys().is_empty(), "nothing is made before it is paid");
    assert_eq!(app.events("grant.payment_required").await.len(), 1);
    // No token for what is not paid.
    let tokens = Request::post(&["v1", "grants", &grant, "tokens"]);
    send(&app.agent(), tokens).await.is(410, "grant_expired");

    let quote = request(&app.agent(), &body).await;
    quote.is(402, "payment_required");
    assert_eq!(quote.text("/grant"), grant);
    let header = wallet.sign(&purse::terms(&quote));
    let paid = app.pay(&app.agent(), &body, &header).await;
    assert_eq!(
        (paid.status, paid.text("/id"), paid.text("/state")),
        (201, grant.clone(), "active".to_owned())
    );
    assert_eq!(response(&paid)["success"], true);
    assert_eq!(balance(app, &wallet), FULL - PRICE);
    let token = pinned(&secret::at(&paid.json, "/token").unwrap(), PRIM);
    assert!(app.resolve(&app.stage.cast.prim, &token, READ).await.key().is_some());
    let receipt = send(
        &app.operator(),
        Request::get(&["v1", "receipts", &paid.text("/receipt")]),
    )
    .await
    .good();
    assert!(receipt.to_string().contains(&grant), "{receipt}");

    // The same payment answers with its grant, and asks nobody. Without it this is a new question.
    let again = app.pay(&app.agent(), &body, &header).await;
    assert_eq!(
        (again.status, again.text("/id")),
        (200, grant.clone()),
        "{}",
        again.json
    );
    let next = request(&app.agent(), &body).await;
    next.is(202, "approval_pending");
    assert_ne!(next.text("/grant"), grant);
    assert_eq!(balance(app, &wallet), FULL - PRICE);
}

async fn a_payment_does_not_stand_in_for_people(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish());
    // Terms that fit, of a policy that asks nobody; the payment itself is good.
    let terms = {
        let (_, terms) = approved(app, &json!({ "reference": READ, "ttl": "9m" })).await;
        terms
    };
    let header = wallet.sign(&terms);
    let asked = app.pay(&app.agent(), &body, &header).await;
    asked.is(202, "approval_pending");
    app.pay(&app.agent(), &body, &header).await.is(202, "approval_pending");
    app.pay(&app.anyone(), &body, &header)
        .await
        .is(401, "signature_required");
    assert!(app.events("payment.").await.is_empty(), "the payment was touched");
    decide(app, &asked.text("/approval"), Verdict::Deny).await;
    assert_eq!(shown(app, &asked.text("/grant")).await["state"], "failed");
    let anew = app.pay(&app.agent(), &body, &header).await;
    anew.is(202, "approval_pending");
    assert_ne!(anew.text("/grant"), asked.text("/grant"));
    assert_eq!((balance(app, &wallet), app.stage.vendor.keys().len()), (FULL, 0));
    // Too little is no payment, also after a yes.
    decide(app, &anew.text("/approval"), Verdict::Approve).await;
    let mut cheap = terms.clone();
    cheap["accepts"][0]["amount"] = json!("9999");
    app.pay(&app.agent(), &body, &wallet.sign(&cheap))
        .await
        .is(402, "payment_invalid");
    assert_eq!(app.pay(&app.agent(), &body, &header).await.status, 201);
    assert_eq!(balance(app, &wallet), FULL - PRICE);
}

async fn some_of_it_priced_and_some_decided_is_one_grant(app: &TestApp) {
    app.stage
        .put_in_force(&priced("writers", "echo:write", &[PRIM], "0.03"))
        .await
        .unwrap();
    let (wallet, body) = (Wallet::new(), json!({ "references": [READ, WRITE], "ttl": "10m" }));
    let (grant, terms) = approved(app, &body).await;
    assert_eq!(terms.pointer("/accepts/0/amount"), Some(&json!("30000")));
    let header = wallet.sign(&terms);
    // The first key is made, the second is not: nothing is charged, and the yes stands.
    for status in [None, Some(403)] {
        app.stage.vendor.fault(Fault {
            op: "create".to_owned(),
            count: Some(1),
            status,
            ..Fault::default()
        });
    }
    app.pay(&app.agent(), &body, &header).await.is(502, "vendor_refused");
    assert_eq!(
        (balance(app, &wallet), shown(app, &grant).await["state"].clone()),
        (FULL, json!("payment_required"))
    );
    until("the end of all keys", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    let paid = app.pay(&app.agent(), &body, &header).await;
    assert_eq!((paid.status, paid.text("/id")), (201, grant), "{}", paid.json);
    assert_eq!(
        (balance(app, &wallet), app.stage.vendor.live_keys().len()),
        (FULL - 30_000, 2)
    );
    let token = pinned(&secret::at(&paid.json, "/token").unwrap(), PRIM);
    for reference in [READ, WRITE] {
        assert!(
            app.resolve(&app.stage.cast.prim, &token, reference)
                .await
                .key()
                .is_some()
        );
    }
    assert_eq!(
        app.events("approval.requested").await.len(),
        3,
        "the two policies, and one for the grant"
    );
}

async fn a_yes_outlives_a_payment_that_came_to_nothing(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish());
    let (grant, terms) = approved(app, &body).await;
    app.rail_faults(dekeys::payment::Faults {
        fail_settle: 1,
        ..Default::default()
    });
    app.pay(&app.agent(), &body, &wallet.sign(&terms))
        .await
        .is(402, "payment_invalid");
    assert_eq!(shown(app, &grant).await["state"], "payment_required");
    until("the end of the key", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    // A settlement whose answer is lost is found, and brings the very grant into force.
    app.rail_faults(dekeys::payment::Faults {
        lose_answer: 1,
        ..Default::default()
    });
    let seen = app.pay(&app.agent(), &body, &wallet.sign(&terms)).await;
    seen.is(202, "payment_unknown");
    assert_eq!(seen.text("/grant"), grant);
    until("the grant to come into force", async || {
        (shown(app, &grant).await["state"] == "active").then_some(())
    })
    .await;
    assert_eq!(
        (balance(app, &wallet), app.stage.vendor.live_keys().len()),
        (FULL - PRICE, 1)
    );
}

async fn a_yes_to_another_policy_is_none(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish());
    let (grant, terms) = approved(app, &body).await;
    let dearer = always().replace("0.01", "0.02");
    app.stage.put_in_force(&dearer).await.unwrap();
    let header = wallet.sign(&terms);
    app.pay(&app.agent(), &body, &header).await.is(409, "conflict");
    assert_eq!(shown(app, &grant).await["state"], "failed");
    app.pay(&app.agent(), &body, &header).await.is(202, "approval_pending");
    assert_eq!(balance(app, &wallet), FULL);
}

async fn two_payments_for_one_yes_settle_once(app: &TestApp) {
    let body = wish();
    let (grant, terms) = approved(app, &body).await;
    let wallets: Vec<Wallet> = (0..8).map(|_| Wallet::new()).collect();
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        delay_ms: Some(300),
        count: Some(1),
        ..Fault::default()
    });
    let mut payers = tokio::task::JoinSet::new();
    for wallet in &wallets {
        let (client, body, header) = (app.agent(), body.clone(), wallet.sign(&terms));
        payers.spawn(async move {
            let request = Request::post(&["v1", "grants"]).json(&body);
            send(&client, request.header("payment-signature", &header)).await
        });
    }
    let answers = payers.join_all().await;
    let told: Vec<_> = answers.iter().map(|seen| (seen.status, seen.code())).collect();
    let served = answers.iter().filter(|seen| seen.status == 201).count();
    assert_eq!(served, 1, "{told:?}");
    let paid: i64 = wallets.iter().map(|wallet| FULL - balance(app, wallet)).sum();
    assert_eq!(paid, PRICE, "{told:?}");
    assert_eq!(shown(app, &grant).await["state"], "active");
}

async fn the_first_is_decided_and_the_next_only_paid(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish());
    let (_, terms) = approved(app, &body).await;
    assert_eq!(app.pay(&app.agent(), &body, &wallet.sign(&terms)).await.status, 201);
    let quote = request(&app.agent(), &body).await;
    quote.is(402, "payment_required");
    assert_eq!(quote.json.get("grant"), None);
    let paid = app.pay(&app.agent(), &body, &wallet.sign(&purse::terms(&quote))).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    // Whoever never had one is still asked about.
    request(&app.client(Some(&new_key())), &body)
        .await
        .is(202, "approval_pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_paid_in_time_is_over() {
    let app = TestApp::with(&always(), |config: &mut Config| {
        config.payment.rules.pay_within = "1s".parse().unwrap();
    })
    .await;
    let (wallet, body) = (Wallet::new(), wish());
    let (grant, terms) = approved(&app, &body).await;
    until("the end of its time", async || {
        expire::step(&app.stage.server.app).await.unwrap();
        (shown(&app, &grant).await["state"] == "expired").then_some(())
    })
    .await;
    let late = app.pay(&app.agent(), &body, &wallet.sign(&terms)).await;
    late.is(202, "approval_pending");
    assert_ne!(late.text("/grant"), grant);
    assert_eq!(balance(&app, &wallet), FULL);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_finds_its_own_question() {
    let app = TestApp::with(&always(), |_| {}).await;
    let (wallet, body) = (Wallet::new(), wish());
    let ask = async |key: &str, body: &Value, payment: Option<&str>| {
        let request = Request::post(&["v1", "grants"])
            .json(body)
            .header("idempotency-key", key);
        let request = match payment {
            Some(payment) => request.header("payment-signature", payment),
            None => request,
        };
        send(&app.agent(), request).await
    };
    let (one, two) = (ask("one", &body, None).await, ask("two", &body, None).await);
    assert_ne!(one.text("/grant"), two.text("/grant"), "two keys are two questions");
    ask("one", &json!({ "reference": READ }), None)
        .await
        .is(422, "idempotency_mismatch");
    decide(&app, &two.text("/approval"), Verdict::Approve).await;
    ask("one", &body, None).await.is(202, "approval_pending");
    let quote = ask("two", &body, None).await;
    quote.is(402, "payment_required");
    let header = wallet.sign(&purse::terms(&quote));
    ask("one", &body, Some(&header)).await.is(202, "approval_pending");
    let paid = ask("two", &body, Some(&header)).await;
    assert_eq!((paid.status, paid.text("/id")), (201, two.text("/grant")));
    let again = ask("two", &body, None).await;
    assert_eq!((again.status, again.text("/id")), (200, two.text("/grant")));
    assert!(again.json.get("token").is_some(), "its holder signs");
    assert_eq!(balance(&app, &wallet), FULL - PRICE);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_buries_the_approvers() {
    let app = TestApp::with(&always(), |_| {}).await;
    for seconds in 60..80 {
        let body = json!({ "reference": READ, "ttl": format!("{seconds}s") });
        request(&app.agent(), &body).await.is(202, "approval_pending");
    }
    let more = request(&app.agent(), &wish()).await;
    more.is(429, "rate_limited");
    app.stop().await;
}
