//! A wallet that signs in gets back what it paid for, and nothing else.

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::purse::{Wallet, terms};
use crate::support::{READ, Seen, TestApp, pinned, send};

struct Lost {
    app: TestApp,
    wallet: Wallet,
    body: Value,
    id: String,
}

/// Paid for, and every token of it is lost.
async fn lost() -> Lost {
    let (app, wallet) = (TestApp::start().await, Wallet::new());
    let body = json!({ "reference": READ, "ttl": "10m", "public_key": app.stage.cast.agent.public() });
    let bought = app.buy_from(&wallet, body.clone()).await;
    Lost {
        wallet,
        body,
        id: bought.id,
        app,
    }
}

impl Lost {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.app.stage.server.url)
    }

    async fn with(&self, wallet: &Wallet, uri: &str, nonce: &str, request: Request) -> Seen {
        let header = wallet.sign_in(&self.at(uri), nonce);
        send(&self.app.anyone(), request.header("sign-in-with-x", &header)).await
    }

    async fn signed(&self, nonce: &str, request: Request) -> Seen {
        self.with(&self.wallet, "/v1/grants", nonce, request).await
    }
}

fn grants() -> Request {
    Request::get(&["v1", "grants"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_gets_back_its_grants_with_fresh_tokens_and_ends_them() {
    let lost = lost().await;
    let other = lost.app.buy_from(&Wallet::new(), lost.body.clone()).await;
    let listed = lost.signed("nonce0001", grants()).await.good();
    let ids: Vec<&Value> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| &grant["id"])
        .collect();
    assert_eq!(ids, [&json!(lost.id)]);
    let tokens = |id: &str| Request::post(&["v1", "grants", id, "tokens"]);
    let fresh = lost.signed("nonce0002", tokens(&lost.id)).await;
    assert_eq!(fresh.status, 201, "{}", fresh.json);
    // It is of use to its holder, whose key signs: here with the prim it is pinned to.
    let token = dekeys::client::secret::at(&fresh.json, "/token").unwrap();
    let seen = lost
        .app
        .resolve(&lost.app.stage.cast.prim, &pinned(&token, PRIM), READ)
        .await;
    assert!(seen.key().is_some(), "{}", seen.json);
    // Somebody else's grant is not there for it.
    lost.signed("nonce0003", tokens(&other.id)).await.is(404, "not_found");
    let revoke = |id: &str| Request::post(&["v1", "grants", id, "revoke"]).json(&json!({}));
    lost.signed("nonce0004", revoke(&other.id)).await.is(404, "not_found");
    let ended = lost.signed("nonce0005", revoke(&lost.id)).await;
    assert_eq!(ended.status, 200, "{}", ended.json);
    assert_eq!(lost.app.stage.vendor.live_keys().len(), 1);
    lost.app.stop().await;
}

/// What an x402 client does that has both: it signs in at the 402, and need not pay again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_is_answered_with_what_was_paid_for() {
    let lost = lost().await;
    let buy = |body: &Value| Request::post(&["v1", "grants"]).json(body);
    let asked = send(&lost.app.anyone(), buy(&lost.body)).await;
    asked.is(402, "payment_required");
    let challenge = &terms(&asked)["extensions"]["sign-in-with-x"];
    assert_eq!(
        challenge["supportedChains"],
        json!([{ "chainId": "eip155:84532", "type": "eip191" }])
    );
    let (info, nonce) = (&challenge["info"], challenge["info"]["nonce"].as_str().unwrap());
    assert_eq!(info["uri"], lost.at("/v1/grants"));
    let again = lost.signed(nonce, buy(&lost.body)).await;
    assert_eq!(
        (again.status, again.text("/id")),
        (200, lost.id.clone()),
        "{}",
        again.json
    );
    assert!(again.json["token"].is_string());
    // Another request, or another wallet, is asked to pay.
    let mut other = lost.body.clone();
    other["ttl"] = json!("9m");
    lost.signed("nonce0002", buy(&other)).await.is(402, "payment_required");
    let stranger = Wallet::new();
    let seen = lost.with(&stranger, "/v1/grants", "nonce0003", buy(&lost.body)).await;
    seen.is(402, "payment_required");
    assert_eq!(lost.app.rail().balance(&lost.wallet.address()).unwrap(), 990_000);
    lost.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_counts_once_for_its_path_and_gives_no_more_than_what_was_paid() {
    let lost = lost().await;
    lost.signed("nonce0001", grants()).await.good();
    lost.signed("nonce0001", grants()).await.is(401, "invalid_token");
    // For another path, another server, two of them, or none that can be read.
    let elsewhere = lost.with(&lost.wallet, "/v1/grants/x", "nonce0002", grants()).await;
    elsewhere.is(401, "signature_invalid");
    let header = lost.wallet.sign_in("http://127.0.0.1:1/v1/grants", "nonce0003");
    for value in [header.as_str(), "e30="] {
        let request = grants().header("sign-in-with-x", value);
        send(&lost.app.anyone(), request).await.is(401, "signature_invalid");
    }
    // It is no principal: not for usage, people or payments.
    for (at, path) in ["usage", "payments", "principals"].iter().enumerate() {
        let uri = format!("/v1/{path}");
        let seen = lost
            .with(
                &lost.wallet,
                &uri,
                &format!("nonce001{at}"),
                Request::get(&["v1", path]),
            )
            .await;
        assert!([401, 403].contains(&seen.status), "{path}: {}", seen.json);
    }
    // A wallet that never paid has nothing, and leaves nothing.
    let poor = Wallet::new();
    for _ in 0..2 {
        let seen = lost.with(&poor, "/v1/grants", "nonce0009", grants()).await.good();
        assert_eq!(seen["data"], json!([]));
    }
    lost.app.stop().await;
}
