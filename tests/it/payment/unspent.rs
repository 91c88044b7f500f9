//! What a payer has back of a grant that ends early: what was paid for time and resolves, if nothing was used.

use dekeys::client::{Client, Request};
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, new_key, on_both, pinned, policy, send, until};

/// A cent, beside a tenth of one for each of five resolves and a hundredth for each of ten minutes.
const PAID: i64 = 16_000;
/// All resolves, and the nine minutes that are still whole.
const UNSPENT: i64 = 5_900;

on_both! { @
    what_was_not_used_is_credit_once_the_keys_are_dead, super::parts(), |rules| rules.trusted_after = 0;
    what_was_used_has_nothing_back, super::parts(), |rules| rules.trusted_after = 0;
    what_credit_paid_for_becomes_credit_again, super::parts(), |rules| rules.trusted_after = 1;
}

fn parts() -> String {
    let price = "\n[price]\namount = \"0.01 USDC\"\nper_resolve = \"0.001 USDC\"\nper_minute = \"0.0001 USDC\"\n";
    policy("demo-readers", "echo:read", &[PRIM], price)
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "max_resolves": 5, "public_key": app.stage.cast.agent.public() })
}

/// What is owed to payers, which the books and the credits agree on.
async fn owed(app: &TestApp) -> i64 {
    let books = send(&app.operator(), Request::get(&["v1", "usage", "check"]))
        .await
        .good();
    assert_eq!(
        (&books["agrees"], &books["received"]),
        (&json!(true), &json!(PAID)),
        "{books}"
    );
    books["owed"].as_i64().unwrap()
}

async fn end(client: &Client, grant: &str) -> Seen {
    send(
        client,
        Request::post(&["v1", "grants", grant, "revoke"]).json(&json!({})),
    )
    .await
}

fn fault(app: &TestApp, op: &str) {
    app.stage.vendor.fault(Fault {
        op: op.to_owned(),
        count: Some(1),
        status: Some(403),
        ..Fault::default()
    });
}

async fn what_was_not_used_is_credit_once_the_keys_are_dead(app: &TestApp) {
    let bought = app.buy_from(&Wallet::new(), wish(app)).await;
    fault(app, "revoke");
    let ended = end(&app.agent(), &bought.id).await.good();
    assert_eq!(
        (&ended["confirmed"], owed(app).await),
        (&json!(false), 0),
        "the key may be alive"
    );
    until("the key's end", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    let told = until("the credit", async || {
        app.events("payment.unspent_returned").await.pop()
    })
    .await;
    assert_eq!(told["event"]["data"]["amount"], json!(UNSPENT.to_string()), "{told}");
    for _ in 0..2 {
        assert_eq!(owed(app).await, UNSPENT);
        assert_eq!(end(&app.agent(), &bought.id).await.status, 200);
    }
    assert_eq!(app.events("payment.unspent_returned").await.len(), 1);
}

async fn what_was_used_has_nothing_back(app: &TestApp) {
    let bought = app.buy_from(&Wallet::new(), wish(app)).await;
    let token = pinned(&bought.token, PRIM);
    assert_eq!(app.resolve(&app.stage.cast.prim, &token, READ).await.status, 200);
    assert_eq!(end(&app.agent(), &bought.id).await.good()["confirmed"], true);
    assert_eq!(
        (owed(app).await, app.events("payment.unspent_returned").await.len()),
        (0, 0)
    );
}

async fn what_credit_paid_for_becomes_credit_again(app: &TestApp) {
    let (wallet, key) = (Wallet::new(), new_key());
    let account = format!("eip155:84532:{}", wallet.address());
    let body = json!({ "name": "payer", "kind": "agent", "public_keys": [key.public()], "wallets": [account] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&body))
        .await
        .good();
    let payer = app.client(Some(&key));
    let wish = json!({ "reference": READ, "ttl": "10m", "max_resolves": 5 });
    // Paid first, and then the vendor makes no key.
    fault(app, "create");
    let header = wallet.sign_for(&app.quote(&wish).await, &wish, Some(&key));
    app.pay(&payer, &wish, &header).await.is(502, "payment_credited");
    assert_eq!(owed(app).await, PAID);
    let bought = send(&payer, Request::post(&["v1", "grants"]).json(&wish)).await;
    assert_eq!((bought.status, owed(app).await), (201, 0), "{}", bought.json);
    end(&payer, &bought.text("/id")).await.good();
    assert_eq!(owed(app).await, UNSPENT);
    end(&payer, &bought.text("/id")).await.good();
    assert_eq!(owed(app).await, UNSPENT);
}
