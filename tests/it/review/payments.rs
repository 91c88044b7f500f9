//! Payments: limits, strangers without money.

use dekeys::client::Request;
use serde_json::json;

use super::scene::{READ, Scene, WRITE, new_wallet, policy, send};

fn priced(name: &str, scope: &str, more: &str) -> String {
    policy(name, scope, &format!("[price]\namount = \"0.60 USDC\"\n{more}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_counts_once_against_what_a_payer_may_pay_a_day() {
    let scene = Scene::start().await;
    let text = priced("writers", "echo:write", "[limits]\npaid_per_day = \"0.60 USDC\"\n");
    scene.put_in_force("writers", &text).await;
    let wallet = new_wallet();
    scene.buy(&wallet, WRITE).await.good();
    scene.buy(&wallet, WRITE).await.is(429, "budget_reached");
    scene.buy(&new_wallet(), WRITE).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_without_money_leaves_nothing_behind() {
    let scene = Scene::start().await;
    let text = policy("dear", "echo:write", "[price]\namount = \"50.00 USDC\"\n");
    scene.put_in_force("dear", &text).await;
    let rows = "SELECT (SELECT count(*) FROM events WHERE kind <> 'vendor.listed') + (SELECT count(*) FROM grants) + (SELECT count(*) FROM purchases) \
                + (SELECT count(*) FROM principals)";
    let before = scene.count(rows).await;
    for _ in 0..3 {
        scene.buy(&new_wallet(), WRITE).await.is(402, "payment_invalid");
    }
    assert_eq!(scene.count(rows).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_does_not_buy_what_people_have_to_decide() {
    let scene = Scene::start().await;
    scene
        .put_in_force(
            "asked",
            &priced("asked", "echo:write", "[approval]\ngrants = \"always\"\n"),
        )
        .await;
    // Neither alone nor joined with something that is only paid; and nobody is asked by somebody unknown.
    for wanted in [json!([WRITE]), json!([READ, WRITE])] {
        let body = json!({ "references": wanted, "public_key": scene.stage.cast.agent.public() });
        let request = || Request::post(&["v1", "grants"]).json(&body);
        send(&scene.client(None), request()).await.is(401, "signature_required");
        send(&scene.agent(), request()).await.is(202, "approval_pending");
    }
    assert!(scene.events("payment.").await.is_empty());
}
