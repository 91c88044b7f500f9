//! Grants that people decide about.

use dekeys::setup::stage::PRIM;
use serde_json::json;

use crate::support::purse::Wallet;
use crate::support::{READ, Seen, TestApp, priced, send};
use dekeys::client::Request;

/// A payment is no way around the people that a policy names.
#[tokio::test]
async fn nobody_pays_past_the_people_who_decide() {
    for grants in ["always", "first"] {
        let text = priced("demo-readers", "echo:read", &[PRIM], "0.01");
        let text = text.replace("grants = \"none\"", &format!("grants = \"{grants}\""));
        let app = TestApp::with(&text, |_| {}).await;
        let body = json!({ "reference": READ, "public_key": app.stage.cast.agent.public() });
        let asked: Seen = send(&app.anyone(), Request::post(&["v1", "grants"]).json(&body)).await;
        asked.is(403, "not_allowed");
        // Terms from another instance at the same price, since this one gives none.
        let other = TestApp::start().await;
        let header = Wallet::new().sign(&other.quote(&body).await);
        app.pay(&app.anyone(), &body, &header).await.is(403, "not_allowed");
        assert!(app.stage.vendor.live_keys().is_empty(), "{grants}");
        assert!(app.events("payment.").await.is_empty(), "{grants}");
    }
}
