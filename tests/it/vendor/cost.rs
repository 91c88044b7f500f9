//! A limit of cost that people approved reaches the vendor with each key.

use dekeys::client::Request;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::hostile::vendor::{ROOT, manifest, users};
use crate::proxy::raw::{RawVendor, answer};
use crate::support::{TestApp, policy, send};

#[tokio::test]
async fn the_vendor_is_told_what_a_key_may_cost() {
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let agent = json!({ "name": "agent-one", "kind": "agent", "public_keys": [app.stage.cast.agent.public()] });
    send(&app.operator(), Request::post(&["v1", "principals"]).json(&agent))
        .await
        .good();
    let vendor = RawVendor::start().await;
    vendor.answers(|asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let made = json!({ "id": "id_1", "name": body["name"], "key": "capped-key-0123456789", "expires_at": body["expires_at"] });
        vec![answer(201, "", made.to_string().as_bytes())]
    });
    let text = manifest("capped").replace(
        "expires_at = \"${expires}\" }",
        "expires_at = \"${expires}\", limit = \"${budget.usd?}\" }",
    );
    let body = json!({
        "fields": { "key": ROOT },
        "base_url": format!("http://{}", vendor.address),
        "manifest": text,
    });
    let request = Request::put(&["v1", "vendors", "capped", "root-credential"]).json(&body);
    send(&app.operator(), request).await.good();
    for (limit, told) in [
        ("", Value::Null),
        ("vendor_cost_per_grant = \"1.50 USD\"\n", json!(1.5)),
    ] {
        let text = users("capped").replace("[limits]\n", &format!("[limits]\n{limit}"));
        app.stage.put_in_force(&text).await.unwrap();
        vendor.forget();
        let wish = json!({ "reference": "dk://capped/messages:write", "ttl": "10m" });
        let seen = send(&app.agent(), Request::post(&["v1", "grants"]).json(&wish)).await;
        assert_eq!(seen.status, 201, "{}", seen.json);
        let asked = vendor.asked();
        let made = asked
            .iter()
            .find(|asked| asked.line().starts_with("POST /keys"))
            .unwrap();
        let body: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(body["limit"], told, "{body}");
    }
    app.stop().await;
}
