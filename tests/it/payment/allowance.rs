//! How often one wallet, and one principal, may buy and resolve.

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::Wallet;
use crate::support::{Bought, READ, Seen, TestApp, new_key, on_both, pinned, policy, priced, send};

on_both! {
    a_wallet_buys_so_often_and_the_next_time_is_not_charged, super::three_a_day();
    a_principal_buys_so_often_whichever_wallet_pays, super::three_a_day();
    resolves_are_counted_over_all_grants_of_a_wallet, super::three_resolves_a_day();
    what_is_free_is_counted_too, super::three_for_nothing();
}

fn three_a_day() -> String {
    priced("demo-readers", "echo:read", &[PRIM], "0.01").replace("[limits]", "[limits]\ngrants = \"3/day\"")
}

fn three_resolves_a_day() -> String {
    priced("demo-readers", "echo:read", &[PRIM], "0.01").replace("100000/s", "3/day")
}

fn three_for_nothing() -> String {
    policy("demo-readers", "echo:read", &[PRIM], "")
        .replace(
            "wallets = [\"eip155:84532:*\"]",
            "principals = [\"agent-one\", \"agent-two\"]",
        )
        .replace("[limits]", "[limits]\ngrants = \"3/day\"")
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

fn balance(app: &TestApp, wallet: &Wallet) -> i64 {
    app.rail().balance(&wallet.address()).unwrap()
}

async fn a_wallet_buys_so_often_and_the_next_time_is_not_charged(app: &TestApp) {
    let (wallet, body) = (Wallet::new(), wish(app));
    let first = wallet.sign(&app.quote(&body).await);
    assert_eq!(app.pay(&app.anyone(), &body, &first).await.status, 201);
    for _ in 0..2 {
        app.buy_from(&wallet, body.clone()).await;
    }
    let before = balance(app, &wallet);
    let header = wallet.sign(&app.quote(&body).await);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    seen.is(429, "rate_limited");
    assert!(seen.headers.contains_key("retry-after"), "{:?}", seen.headers);
    assert_eq!((balance(app, &wallet), app.stage.vendor.live_keys().len()), (before, 3));
    // What was paid is still answered, and another wallet is none of this one's business.
    assert_eq!(app.pay(&app.anyone(), &body, &first).await.status, 200);
    app.buy_from(&Wallet::new(), body).await;
}

async fn a_principal_buys_so_often_whichever_wallet_pays(app: &TestApp) {
    let body = json!({ "reference": READ, "ttl": "10m" });
    let signed = app.client(Some(&new_key()));
    for _ in 0..3 {
        let seen = app
            .pay(&signed, &body, &Wallet::new().sign(&app.quote(&body).await))
            .await;
        assert_eq!(seen.status, 201, "{}", seen.json);
    }
    let header = Wallet::new().sign(&app.quote(&body).await);
    app.pay(&signed, &body, &header).await.is(429, "rate_limited");
    // The payment was not used up by that.
    let other = app.client(Some(&new_key()));
    assert_eq!(app.pay(&other, &body, &header).await.status, 201);
}

async fn resolves_are_counted_over_all_grants_of_a_wallet(app: &TestApp) {
    let wallet = Wallet::new();
    let mut grants = Vec::new();
    for _ in 0..2 {
        grants.push(app.buy_from(&wallet, wish(app)).await);
    }
    for at in [0, 1, 0] {
        app.key_of(&grants[at]).await;
    }
    for grant in &grants {
        let seen = resolve(app, grant).await;
        assert_eq!(
            (seen.status, seen.code().as_str()),
            (429, "rate_limited"),
            "{}",
            seen.json
        );
    }
    let other = app.buy_from(&Wallet::new(), wish(app)).await;
    app.key_of(&other).await;
}

async fn resolve(app: &TestApp, bought: &Bought) -> Seen {
    app.resolve(&app.stage.cast.prim, &pinned(&bought.token, PRIM), READ)
        .await
}

async fn what_is_free_is_counted_too(app: &TestApp) {
    let ask = async |key, idempotency: &str| {
        let request = Request::post(&["v1", "grants"])
            .json(&json!({ "reference": READ }))
            .header("idempotency-key", idempotency);
        send(&app.client(Some(key)), request).await
    };
    let (one, other) = (
        app.enroll("agent-one", "agent").await,
        app.enroll("agent-two", "agent").await,
    );
    for name in ["a", "b", "c"] {
        assert_eq!(ask(&one, name).await.status, 201);
    }
    ask(&one, "d").await.is(429, "rate_limited");
    assert_eq!(ask(&one, "a").await.status, 200, "a repetition is no new grant");
    assert_eq!(ask(&other, "e").await.status, 201);
}
