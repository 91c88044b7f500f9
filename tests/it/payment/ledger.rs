//! The books: every act of money is in them once, they agree with what they tell of, and nobody changes them.

use dekeys::base::time::Timestamp;
use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::payment::Faults;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::database::Intruder;
use crate::support::purse::Wallet;
use crate::support::{READ, TestApp, client_at, policy, priced, send};

const PRICE: i64 = 10_000;

/// What the check of the ledger says, asked by a clock.
pub(super) async fn checked(app: &TestApp, time: Timestamp) -> Value {
    let operator = client_at(app, &app.stage.cast.operator, time);
    send(&operator, Request::get(&["v1", "usage", "check"])).await.good()
}

async fn agrees(app: &TestApp, received: i64, owed: i64) {
    let books = send(&app.operator(), Request::get(&["v1", "usage", "check"]))
        .await
        .good();
    let (told, wanted) = ((&books["received"], &books["owed"]), (&json!(received), &json!(owed)));
    assert_eq!((&books["agrees"], told), (&json!(true), wanted), "{books}");
}

async fn usage(app: &TestApp, by: &str) -> Vec<Value> {
    let seen = send(&app.operator(), Request::get(&["v1", "usage"]).query("by", Some(by)))
        .await
        .good();
    assert_eq!(seen["by"], by);
    seen["data"].as_array().unwrap().clone()
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

/// Settled after its keys were made, settled before, credited, and credit spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_act_is_in_the_books_once_and_they_agree() {
    let app = TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        config.payment.rules.trusted_after = 1;
    })
    .await;
    agrees(&app, 0, 0).await;
    let wallet = Wallet::new();
    // Its first is settled first; its second afterwards.
    let first = app.buy_from(&wallet, wish(&app)).await;
    agrees(&app, PRICE, 0).await;
    app.buy_from(&wallet, wish(&app)).await;
    agrees(&app, 2 * PRICE, 0).await;
    // Refused settlements move nothing.
    app.rail_faults(Faults {
        fail_settle: 1,
        ..Faults::default()
    });
    let header = wallet.sign(&app.quote(&wish(&app)).await);
    app.pay(&app.anyone(), &wish(&app), &header)
        .await
        .is(402, "payment_invalid");
    agrees(&app, 2 * PRICE, 0).await;
    // A new wallet pays, and its keys cannot be made: it has credit.
    let stranger = Wallet::new();
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        count: Some(1),
        status: Some(403),
        ..Fault::default()
    });
    let header = stranger.sign(&app.quote(&wish(&app)).await);
    app.pay(&app.anyone(), &wish(&app), &header)
        .await
        .is(502, "payment_credited");
    agrees(&app, 3 * PRICE, PRICE).await;

    for by in ["day", "principal", "grant", "wallet", "vendor"] {
        let rows = usage(&app, by).await;
        let sum = |name: &str| -> i64 {
            let money = |row: &Value| {
                row[name]
                    .as_str()
                    .unwrap()
                    .parse::<dekeys::base::money::Money>()
                    .unwrap()
            };
            rows.iter().map(|row| money(row).atomic()).sum()
        };
        assert_eq!(
            (sum("received"), sum("sold"), sum("vendor_cost")),
            (3 * PRICE, 2 * PRICE, 0),
            "{by}"
        );
        assert_eq!(sum("owed") - sum("redeemed"), PRICE, "{by}");
        assert_eq!(
            rows.iter().map(|row| row["payments"].as_i64().unwrap()).sum::<i64>(),
            3,
            "{by}"
        );
    }
    let wallets = usage(&app, "wallet").await;
    let keys: Vec<&str> = wallets.iter().map(|row| row["key"].as_str().unwrap()).collect();
    let mut wanted = [&wallet, &stranger].map(|wallet| format!("eip155:84532:{}", wallet.address().to_lowercase()));
    wanted.sort();
    assert_eq!(keys, wanted);
    assert!(usage(&app, "grant").await.iter().any(|row| row["key"] == first.id));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_their_own_usage_and_an_operator_all() {
    let app = TestApp::start().await;
    let wallet = Wallet::new();
    let body = json!({ "reference": READ, "ttl": "10m" });
    let agent = app.agent();
    let header = wallet.sign_for(&app.quote(&body).await, &body, Some(&app.stage.cast.agent));
    let seen = app.pay(&agent, &body, &header).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    app.buy_from(&Wallet::new(), wish(&app)).await;
    let by_grant = || Request::get(&["v1", "usage"]).query("by", Some("grant"));
    let own = send(&agent, by_grant()).await.good();
    let keys: Vec<&Value> = own["data"].as_array().unwrap().iter().map(|row| &row["key"]).collect();
    assert_eq!(keys, [&seen.json["id"]]);
    assert_eq!(usage(&app, "grant").await.len(), 2);
    let nothing = send(&app.prim(), by_grant()).await.good();
    assert_eq!(nothing["data"], json!([]));
    send(&app.anyone(), by_grant()).await.is(401, "signature_required");
    // Spans, from a time and up to one.
    for (name, value, rows) in [
        ("since", "2099-01-01T00:00:00Z", 0),
        ("until", "2020-01-01T00:00:00Z", 0),
        ("since", "2020-01-01T00:00:00Z", 1),
    ] {
        let request = Request::get(&["v1", "usage"]).query(name, Some(value));
        let seen = send(&app.operator(), request).await.good();
        assert_eq!(seen["data"].as_array().unwrap().len(), rows, "{name}={value}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_may_cost_is_in_the_books_with_its_lease() {
    let text = policy(
        "demo-readers",
        "echo:read",
        &[PRIM],
        "vendor_cost_per_grant = \"0.50 USD\"\n",
    );
    let app = TestApp::with(&text.replace("eip155:84532:*", "*"), |_| {}).await;
    let body = json!({ "reference": READ, "ttl": "10m" });
    let seen = send(&app.agent(), Request::post(&["v1", "grants"]).json(&body)).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    let rows = usage(&app, "vendor").await;
    assert_eq!(
        (&rows[0]["key"], &rows[0]["vendor_cost"]),
        (&json!("demo"), &json!("0.50 USD"))
    );
    agrees(&app, 0, 0).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_changes_the_books_and_a_forged_entry_is_seen() {
    let app = TestApp::start().await;
    app.buy_from(&Wallet::new(), wish(&app)).await;
    let mut intruder = Intruder::at(&app).await;
    for text in ["UPDATE ledger SET amount = 1", "DELETE FROM ledger"] {
        let refused = intruder.refused(text).await;
        assert!(refused.contains("append-only"), "{refused}");
    }
    agrees(&app, PRICE, 0).await;
    // Somebody who can add rows adds one that takes half of it away.
    let copy = "INSERT INTO ledger SELECT 'ent_00000000000000000000000000', created, 'take_back', 'sold', 'received', \
                5000, currency, principal, grant_id, purchase, wallet, vendor, credential, lease, mac FROM ledger LIMIT 1";
    intruder.run(copy.to_owned()).await;
    let books = send(&app.operator(), Request::get(&["v1", "usage", "check"]))
        .await
        .good();
    assert_eq!(books["agrees"], false);
    assert_eq!(
        books["differences"],
        json!([{ "of": "marks", "ledger": 1, "records": 0 }])
    );
    app.stop().await;
}
