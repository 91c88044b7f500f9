//! What is dearer costs more, and a price that was quoted stands for five minutes.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use dekeys::base::time::{Clock as _, ManualClock, SystemClock, Ttl};
use dekeys::client::Request;
use dekeys::service::unseal::unseal;
use dekeys::setup::stage::PRIM;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};

use crate::support::purse::{Wallet, response, terms};
use crate::support::{READ, Seen, TestApp, WRITE, policy, priced, send};

fn parts() -> String {
    let price = "\n[price]\namount = \"0.01 USDC\"\nper_resolve = \"0.001 USDC\"\nper_minute = \"0.0001 USDC\"\n\
                 [price.scopes]\n\"echo:write\" = \"0.02 USDC\"\n";
    policy("demo-readers", "echo:read", &[PRIM], price).replace("[\"echo:read\"]", "[\"echo:read\", \"echo:write\"]")
}

fn wish(app: &TestApp) -> Value {
    json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() })
}

async fn amount(app: &TestApp, body: &Value) -> String {
    app.quote(body).await["accepts"][0]["amount"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_of_a_price_is_paid_for_what_was_asked() {
    let app = TestApp::with(&parts(), |_| {}).await;
    let key = app.stage.cast.agent.public();
    for (asked, costs) in [
        (json!({ "reference": READ, "ttl": "10m", "max_resolves": 5 }), "16000"),
        (json!({ "reference": READ, "ttl": "61s", "max_resolves": 1 }), "11200"),
        (json!({ "reference": WRITE, "ttl": "10m", "max_resolves": 5 }), "36000"),
        (
            json!({ "references": [READ, WRITE], "ttl": "10m", "max_resolves": 5 }),
            "36000",
        ),
    ] {
        let mut body = asked;
        body["public_key"] = json!(key);
        assert_eq!(amount(&app, &body).await, costs, "{body}");
    }
    // Whoever says nothing of life and resolves is asked what the offer says.
    let offers = send(&app.anyone(), Request::get(&["v1", "offers"])).await.good();
    let offer = offers["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|offer| offer["reference"] == WRITE);
    let offer = offer.unwrap();
    assert_eq!(offer["price"], "100.0315 USDC");
    let parts = json!({
        "amount": "0.01 USDC", "scope": "0.02 USDC", "per_resolve": "0.001 USDC", "per_minute": "0.0001 USDC",
    });
    assert_eq!(offer["prices"], parts);
    assert_eq!(
        amount(&app, &json!({ "reference": WRITE, "public_key": key })).await,
        "100031500"
    );
    // It is paid, to the atomic unit.
    let wallet = Wallet::new();
    let mut body = wish(&app);
    body["max_resolves"] = json!(5);
    let seen = app
        .pay(&app.anyone(), &body, &wallet.sign(&app.quote(&body).await))
        .await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    assert_eq!(app.rail().balance(&wallet.address()).unwrap(), 1_000_000 - 16_000);
    app.stop().await;
}

/// Claims of a compact JWS, after its signature was checked with the key it names.
fn opened(signed: &str) -> Value {
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let json = |text: &str| serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap();
    let header = json(header);
    assert_eq!(header["alg"], "EdDSA");
    let key = header["kid"].as_str().unwrap().strip_prefix("did:key:z").unwrap();
    let key = bs58::decode(key).into_vec().unwrap();
    let key = key.strip_prefix(&[0xed, 0x01]).unwrap().to_vec();
    let key = VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
    key.verify_strict(message.as_bytes(), &signature).unwrap();
    json(claims)
}

fn quote_in(required: &Value) -> Value {
    let offer = &required["extensions"]["offer-receipt"]["info"]["offers"][0];
    assert_eq!((&offer["format"], &offer["acceptIndex"]), (&json!("jws"), &json!(0)));
    opened(offer["signature"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_and_a_receipt_are_signed_as_offer_receipt_has_them() {
    let app = TestApp::start().await;
    let (body, wallet) = (wish(&app), Wallet::new());
    let asked = send(&app.anyone(), Request::post(&["v1", "grants"]).json(&body)).await;
    asked.is(402, "payment_required");
    assert!(asked.headers["payment-required"].len() < 2900);
    assert!(asked.text("/detail").contains("demo-readers@1"), "{}", asked.json);
    let required = terms(&asked);
    let (quote, accepts) = (quote_in(&required), &required["accepts"][0]);
    for name in ["amount", "asset", "network", "payTo", "scheme"] {
        assert_eq!(quote[name], accepts[name], "{name}");
    }
    assert_eq!(
        (&quote["version"], &quote["resourceUrl"]),
        (&json!(1), &required["resource"]["url"])
    );
    assert_eq!(quote["dekeys"]["policies"], json!(["demo-readers@1"]));
    let left = quote["validUntil"].as_i64().unwrap() - SystemClock::default().now().as_secs();
    assert!((240..=300).contains(&left), "{left}");
    let paid = app.pay(&app.anyone(), &body, &wallet.sign(&required)).await;
    assert_eq!(paid.status, 201, "{}", paid.json);
    for answer in [&asked, &paid] {
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    let told = response(&paid);
    let receipt = opened(
        told["extensions"]["offer-receipt"]["info"]["receipt"]["signature"]
            .as_str()
            .unwrap(),
    );
    assert_eq!(receipt["payer"].as_str().unwrap(), wallet.address().to_lowercase());
    assert_eq!(receipt["resourceUrl"], quote["resourceUrl"]);
    assert_eq!(
        (&receipt["transaction"], &receipt["network"]),
        (&told["transaction"], &quote["network"])
    );
    assert_eq!(receipt["dekeys"]["grant"], paid.json["id"]);
    app.stop().await;
}

async fn dearer(app: &TestApp) {
    app.stage
        .put_in_force(&priced("demo-readers", "echo:read", &[PRIM], "0.02"))
        .await
        .unwrap();
}

fn refused_for_its_amount(seen: &Seen) {
    seen.is(402, "payment_invalid");
    let detail = seen.text("/detail");
    assert!(
        detail.contains("10000") && detail.contains("20000") && detail.contains("demo-readers@2"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_quoted_stands_for_five_minutes_for_that_request_alone() {
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = TestApp::start().await.restart_by(Arc::clone(&clock)).await;
    unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let (body, wallet) = (wish(&app), Wallet::new());
    let quoted = app.quote(&body).await;
    let mut unsigned = quoted.clone();
    unsigned["extensions"]
        .as_object_mut()
        .unwrap()
        .remove("offer-receipt")
        .unwrap();
    dearer(&app).await;
    // Without the quote, and for another request, the price is what it is now, and the answer says by whom.
    refused_for_its_amount(&app.pay(&app.anyone(), &body, &wallet.sign(&unsigned)).await);
    let mut other = body.clone();
    other["ttl"] = json!("9m");
    refused_for_its_amount(&app.pay(&app.anyone(), &other, &wallet.sign(&quoted)).await);
    // A quote that somebody wrote is none.
    let mut forged = quoted.clone();
    let signature = &mut forged["extensions"]["offer-receipt"]["info"]["offers"][0]["signature"];
    let changed = signature.as_str().unwrap().replacen('.', ".e30.", 1);
    *signature = json!(changed);
    refused_for_its_amount(&app.pay(&app.anyone(), &body, &wallet.sign(&forged)).await);
    // With it, what was quoted is paid.
    let seen = app.pay(&app.anyone(), &body, &wallet.sign(&quoted)).await;
    assert_eq!(seen.status, 201, "{}", seen.json);
    assert_eq!(app.rail().balance(&wallet.address()).unwrap(), 990_000);
    assert_eq!(seen.json["items"][0]["policy_version"], 2);
    // Not any more when its time is over. Wallets sign by the machine's clock.
    clock.advance(Ttl::from_secs(302));
    let late = ahead(&wallet, &quoted, Ttl::from_secs(302));
    refused_for_its_amount(&app.pay(&app.anyone(), &body, &late).await);
    app.stop().await;
}

fn ahead(wallet: &Wallet, required: &Value, by: Ttl) -> String {
    wallet.sign_at(required, SystemClock::default().now().plus(by))
}
