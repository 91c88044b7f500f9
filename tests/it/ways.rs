//! Whoever is refused is told every way forward at once, and the ways work as they stand.

use dekeys::client::{Request, approval};
use dekeys::model::approval::Verdict;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, WRITE, policy, send};

fn way(seen: &Seen, name: &str) -> Option<Value> {
    let ways = seen.json["ways"].as_array()?;
    ways.iter().find(|way| way["way"] == json!(name)).cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_draft_in_a_refusal_is_sent_approved_and_then_the_request_passes() {
    let app = TestApp::with(&policy("demo-readers", "echo:read", &[PRIM], ""), |_| {}).await;
    let crawler = app.enroll("crawler", "agent").await;
    let agent = || app.client(Some(&crawler));
    let wish = json!({ "reference": WRITE, "ttl": "40m", "reason": "to write the nightly echo" });
    let ask = || Request::post(&["v1", "grants"]).json(&wish);
    let refused = send(&agent(), ask()).await;
    refused.is(403, "policy_not_approved");
    let narrow = way(&refused, "narrow").unwrap();
    assert_eq!(
        (&narrow["reference"], &narrow["max_ttl"]),
        (&json!(READ), &json!("15m"))
    );
    let draft = way(&refused, "ask").unwrap()["request"].clone();
    let path = draft["path"].as_str().unwrap().to_owned();
    let method = draft["method"].as_str().unwrap().parse().unwrap();
    let asked = send(&agent(), Request::at(method, path).json(&draft["body"])).await;
    assert_eq!(asked.status, 202, "{}", asked.json);
    let id = asked.text("/approval");
    for (_, key) in &app.stage.cast.approvers {
        let client = app.client(Some(key));
        let shown = send(&client, Request::get(&["v1", "approvals", &id])).await;
        assert_eq!(shown.json["reason"], wish["reason"], "{}", shown.json);
        let digest = shown.text("/digest").parse().unwrap();
        let review = approval::review(key, id.parse().unwrap(), digest, Verdict::Approve, "");
        let vote = Request::post(&["v1", "approvals", &id, "reviews"]).json(&review);
        send(&client, vote).await.good();
    }
    let granted = send(&agent(), ask()).await;
    assert_eq!(granted.status, 201, "{}", granted.json);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_the_ways_that_its_caller_can_take() {
    let app = TestApp::start().await;
    // A stranger can pay or narrow; it cannot propose.
    let price = send(
        &app.anyone(),
        Request::post(&["v1", "grants"]).json(&json!({ "reference": READ })),
    )
    .await;
    price.is(402, "payment_required");
    assert_eq!(way(&price, "pay").unwrap()["header"], json!("payment-signature"));
    let stranger = send(
        &app.anyone(),
        Request::post(&["v1", "grants"]).json(&json!({ "reference": WRITE })),
    )
    .await;
    stranger.is(403, "policy_not_approved");
    assert!(
        way(&stranger, "narrow").is_some() && way(&stranger, "ask").is_none(),
        "{}",
        stranger.json
    );
    // A vendor that nobody connected: no policy to change, nothing on offer.
    let nowhere = json!({ "reference": "dk://openai/chat:write" });
    let refused = send(&app.agent(), Request::post(&["v1", "grants"]).json(&nowhere)).await;
    assert!(
        refused.status >= 400 && refused.json.get("ways").is_none(),
        "{}",
        refused.json
    );
    // What has a time to come back says so as a way, too.
    let key = dekeys::problem::Problem::new(dekeys::problem::RATE_LIMITED, "x")
        .retry_after(dekeys::base::time::Ttl::from_secs(7))
        .to_json(None, "");
    assert_eq!(key["ways"][0]["seconds"], json!(7));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_all_it_needs_from_the_server_itself() {
    let app = TestApp::start().await;
    for (path, begins) in [
        ("llms.txt", "# dekeys\n\n> "),
        ("llms-full.txt", "# dekeys, for agents"),
        ("skill.md", "# dekeys, for agents"),
        ("functions.json", "{\"object\":\"list\""),
    ] {
        let seen = send(&app.anyone(), Request::get(&[path])).await;
        assert_eq!(seen.status, 200);
        let text = String::from_utf8(seen.body).unwrap();
        assert!(text.starts_with(begins) || path == "functions.json", "{path}: {text}");
        assert!(!text.contains("/metrics") && !text.contains("sys/unseal"), "{path}");
    }
    app.stop().await;
}
