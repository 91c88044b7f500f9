//! What is sold, as catalogues of x402 resources find it: the same terms as a 402 asks, and a request that buys.

use dekeys::client::Request;
use dekeys::setup::stage::{PAY_TO, PRIM};
use serde_json::{Value, json};

use crate::support::purse::terms;
use crate::support::{READ, TestApp, policy, send};

async fn resources(app: &TestApp, name: &str, value: &str) -> Value {
    let request = Request::get(&["discovery", "resources"]).query(name, Some(value));
    send(&app.anyone(), request).await.good()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sold_is_found_with_the_terms_that_a_402_asks() {
    let app = TestApp::start().await;
    let found = resources(&app, "limit", "10").await;
    assert_eq!(found["x402Version"], 2);
    assert_eq!(found["pagination"], json!({ "limit": 10, "offset": 0, "total": 1 }));
    let item = &found["items"][0];
    assert_eq!((&item["type"], &item["x402Version"]), (&json!("http"), &json!(2)));
    assert!(item["lastUpdated"].as_str().unwrap().ends_with('Z'), "{item}");
    let bazaar = &item["extensions"]["bazaar"];
    assert!(jsonschema::is_valid(&bazaar["schema"], &bazaar["info"]), "{bazaar}");

    // The request it shows is answered at the address it names, with the very terms.
    assert_eq!(item["resource"], format!("{}/v1/grants", app.stage.server.url));
    let body = &bazaar["info"]["input"]["body"];
    assert_eq!(body["reference"], READ);
    let asked = send(&app.anyone(), Request::post(&["v1", "grants"]).json(body)).await;
    asked.is(402, "payment_required");
    assert_eq!(terms(&asked)["accepts"], item["accepts"]);

    for (name, value, total) in [
        ("payTo", PAY_TO, 1),
        ("payTo", "0x0000000000000000000000000000000000000001", 0),
        ("network", "eip155:84532", 1),
        ("network", "eip155:8453", 0),
        ("scheme", "upto", 0),
        ("type", "mcp", 0),
        ("type", "http", 1),
    ] {
        let found = resources(&app, name, value).await;
        assert_eq!(found["pagination"]["total"], total, "{name}={value}");
    }
    let over = resources(&app, "offset", "1").await;
    assert_eq!((&over["items"], &over["pagination"]["total"]), (&json!([]), &json!(1)));
    for (name, value) in [("limit", "0"), ("limit", "101"), ("offset", "-1")] {
        let request = Request::get(&["discovery", "resources"]).query(name, Some(value));
        send(&app.anyone(), request).await.is(422, "invalid_request");
    }

    let place = send(&app.anyone(), Request::get(&[".well-known", "x402"])).await.good();
    assert_eq!(place["resources"], json!([item["resource"]]));
    assert_eq!(
        place["discovery"],
        format!("{}/discovery/resources", app.stage.server.url)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_free_is_not_for_sale() {
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let found = resources(&app, "limit", "1").await;
    assert_eq!(
        (&found["items"], &found["pagination"]["total"]),
        (&json!([]), &json!(0))
    );
    app.stop().await;
}
