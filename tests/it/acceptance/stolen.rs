//! Payments that somebody else has seen: a stolen header gives the thief no wallet, no principal and no grant of another's.

use dekeys::client::{Client, KeyFile, Request};
use dekeys::mock::Fault;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, new_key, on_both, priced, send};

const FULL: i64 = 1_000_000;
const PRICE: i64 = 10_000;

on_both! {
    a_payment_begun_is_ended_only_by_who_began_it, |rules| rules.trusted_after = 0;
    a_payment_gives_its_wallet_to_no_key_that_only_showed_it, |rules| rules.trusted_after = 1;
    a_wallet_on_record_pays_only_for_its_own_keys, |rules| rules.trusted_after = 0;
    a_bound_payment_pays_for_one_request_of_one_signer, |rules| rules.trusted_after = 0;
}

/// Names no holder: whoever signs is it.
fn wish() -> Value {
    json!({ "reference": READ, "ttl": "10m" })
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

fn account(wallet: &Wallet) -> String {
    format!("eip155:84532:{}", wallet.address())
}

/// An agent on record with this key and these wallets.
async fn enrolled(app: &TestApp, name: &str, wallets: &[String]) -> KeyFile {
    let key = new_key();
    let body = json!({ "name": name, "kind": "agent", "public_keys": [key.public()], "wallets": wallets });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&body))
        .await
        .good();
    key
}

/// What the operator has on record of the one who has `field` with `value` in it.
async fn record(app: &TestApp, field: &str, value: &Value) -> Option<Value> {
    let list = Request::get(&["v1", "principals"]).query("limit", Some(100));
    let list = send(&app.operator(), list).await.good();
    let mut all = list["data"].as_array().unwrap().iter();
    all.find(|one| one[field].as_array().is_some_and(|has| has.contains(value)))
        .cloned()
}

async fn ask(client: &Client, body: &Value) -> Seen {
    send(client, Request::post(&["v1", "grants"]).json(body)).await
}

async fn a_payment_begun_is_ended_only_by_who_began_it(app: &TestApp) {
    let (wallet, owner, body) = (Wallet::new(), new_key(), wish());
    let header = wallet.sign(&app.quote(&body).await);
    no_key(app);
    let failed = app.pay(&app.client(Some(&owner)), &body, &header).await;
    failed.is(502, "vendor_refused");
    // Not charged, so the header is as good as new, and others may have seen it.
    let thieves = [new_key(), enrolled(app, "thief", &[]).await];
    for thief in &thieves {
        let seen = app.pay(&app.client(Some(thief)), &body, &header).await;
        seen.is(409, "payment_conflict");
    }
    let mut own = wish();
    own["public_key"] = json!(thieves[0].public());
    app.pay(&app.anyone(), &own, &header).await.is(409, "payment_conflict");
    assert_eq!(balance(app, &wallet), FULL);

    let paid = app.pay(&app.client(Some(&owner)), &body, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    assert_eq!(paid.json["holder"], json!(owner.public()));
    assert_eq!(balance(app, &wallet), FULL - PRICE);
}

async fn a_payment_gives_its_wallet_to_no_key_that_only_showed_it(app: &TestApp) {
    let (wallet, thief, body) = (Wallet::new(), new_key(), wish());
    let header = wallet.sign(&app.quote(&body).await);
    no_key(app);
    // Stolen before its owner showed it: the payment is lost. What it leaves is the wallet's, not the key's.
    let failed = app.pay(&app.client(Some(&thief)), &body, &header).await;
    failed.is(502, "payment_credited");
    ask(&app.client(Some(&thief)), &body).await.is(402, "payment_required");
    let wallet = json!(account(&wallet));
    let of_key = record(app, "public_keys", &json!(thief.public())).await.unwrap();
    assert_eq!(of_key["wallets"], json!([]));
    assert_eq!(record(app, "wallets", &wallet).await, None);
    // Its owner can still come on record with it, and spend what is left.
    let owner = enrolled(app, "owner", &[wallet.as_str().unwrap().to_owned()]).await;
    let seen = ask(&app.client(Some(&owner)), &body).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
}

async fn a_wallet_on_record_pays_only_for_its_own_keys(app: &TestApp) {
    let wallet = Wallet::new();
    let owner = enrolled(app, "owner", &[account(&wallet)]).await;
    let (body, stranger) = (wish(), new_key());
    let header = wallet.sign(&app.quote(&body).await);
    for thief in [&stranger, &enrolled(app, "thief", &[]).await] {
        let seen = app.pay(&app.client(Some(thief)), &body, &header).await;
        seen.is(409, "payment_conflict");
    }
    let mut named = wish();
    named["public_key"] = json!(stranger.public());
    app.pay(&app.anyone(), &named, &header)
        .await
        .is(409, "payment_conflict");
    let bearer = json!({ "reference": READ, "ttl": "10m", "bearer": true });
    app.pay(&app.anyone(), &bearer, &header)
        .await
        .is(409, "payment_conflict");
    assert_eq!((balance(app, &wallet), app.stage.vendor.keys().len()), (FULL, 0));

    // Its principal's signature says whom it pays for; unsigned, the key that is named.
    let paid = app.pay(&app.client(Some(&owner)), &named, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    named["public_key"] = json!(owner.public());
    let header = wallet.sign(&app.quote(&named).await);
    let paid = app.pay(&app.anyone(), &named, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    let show = Request::get(&["v1", "grants", &paid.text("/id")]);
    let shown = send(&app.client(Some(&owner)), show).await;
    assert_eq!(shown.status, 200, "{}", shown.json);
}

async fn a_bound_payment_pays_for_one_request_of_one_signer(app: &TestApp) {
    let (wallet, owner, thief, body) = (Wallet::new(), new_key(), new_key(), wish());
    let header = wallet.sign_for(&app.quote(&body).await, &body, Some(&owner));
    // Stolen before its owner showed it, and of no use.
    let mut own = wish();
    own["public_key"] = json!(thief.public());
    let mut named = wish();
    named["public_key"] = json!(owner.public());
    let enrolled = enrolled(app, "thief", &[]).await;
    let tries = [
        app.pay(&app.client(Some(&thief)), &body, &header).await,
        app.pay(&app.client(Some(&enrolled)), &body, &header).await,
        app.pay(&app.client(Some(&thief)), &named, &header).await,
        app.pay(&app.anyone(), &own, &header).await,
        app.pay(&app.client(Some(&thief)), &own, &header).await,
        app.pay(
            &app.anyone(),
            &json!({ "reference": READ, "ttl": "10m", "bearer": true }),
            &header,
        )
        .await,
    ];
    for seen in tries {
        seen.is(409, "payment_conflict");
    }
    assert_eq!((balance(app, &wallet), app.stage.vendor.keys().len()), (FULL, 0));
    let paid = app.pay(&app.client(Some(&owner)), &body, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    // The wallet signed for this key, which proves them to be one payer's.
    let of_key = record(app, "public_keys", &json!(owner.public())).await.unwrap();
    assert_eq!(of_key["wallets"], json!([account(&wallet)]));

    // A wallet on record may pay for whom it signed.
    let header = wallet.sign_for(&app.quote(&body).await, &body, Some(&thief));
    let paid = app.pay(&app.client(Some(&thief)), &body, &header).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    let of_key = record(app, "public_keys", &json!(thief.public())).await.unwrap();
    assert_eq!(of_key["wallets"], json!([]));
}
