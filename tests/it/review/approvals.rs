//! What people approve, and what they do not.

use dekeys::base::time::{Clock, SystemClock, Ttl};
use dekeys::client::{Request, secret};
use dekeys::service::expire;
use dekeys::vendor;
use serde_json::json;

use super::scene::{READ, Scene, WRITE, new_wallet, policy, send, until};

const ALWAYS: &str = "[approval]\ngrants = \"always\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_may_wait_for_people_longer_than_it_will_live() {
    let scene = Scene::start().await;
    scene
        .put_in_force("asked", &policy("asked", "echo:write", ALWAYS))
        .await;
    let body = json!({ "reference": WRITE, "ttl": "5s" });
    let asked = send(&scene.agent(), Request::post(&["v1", "grants"]).json(&body)).await;
    asked.is(202, "approval_pending");
    let over = SystemClock::wall().plus(Ttl::from_millis(5_500));
    until("its life to be over", async || {
        (SystemClock::default().now() > over).then_some(())
    })
    .await;
    expire::step(&scene.stage.server.app).await.unwrap();
    let approved = scene.approve(0, &asked.text("/approval")).await;
    assert_eq!(approved.text("/state"), "approved", "{}", approved.json);
    assert_eq!(scene.events("grant.created").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_taken_back_ends_the_grant_that_waited_for_it() {
    let scene = Scene::start().await;
    scene
        .put_in_force("asked", &policy("asked", "echo:write", ALWAYS))
        .await;
    let asked = scene.ask_for(WRITE).await;
    let approval = asked.text("/approval");
    send(
        &scene.operator(),
        Request::post(&["v1", "approvals", &approval, "cancel"]),
    )
    .await
    .good();
    let grant = send(&scene.agent(), Request::get(&["v1", "grants", &asked.text("/grant")]))
        .await
        .good();
    assert_eq!(grant["state"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_alone_what_others_approve() {
    let scene = Scene::start().await;
    for (name, scope, approver) in [("of-ada", "echo:read", "ada"), ("of-grace", "echo:write", "grace")] {
        let text = policy(name, scope, ALWAYS)
            .replace("[\"ada\", \"grace\"]", &format!("[\"{approver}\"]"))
            .replace("quorum = 2", "quorum = 1")
            .replace("max_ttl = \"15m\"", "max_ttl = \"20m\"");
        scene.put_in_force(name, &text).await;
    }
    // The demo policy sells what `of-ada` gives after a question, but not for so long.
    let body = json!({ "references": [READ, WRITE], "ttl": "20m" });
    let asked = send(&scene.agent(), Request::post(&["v1", "grants"]).json(&body)).await;
    asked.is(409, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_read_their_own_requests_only() {
    let scene = Scene::start().await;
    scene
        .put_in_force("asked", &policy("asked", "echo:write", ALWAYS))
        .await;
    let (_, key) = scene.enroll("crawler", "agent").await;
    let crawler = scene.client(Some(&key));
    let body = json!({ "reference": WRITE });
    let own = send(&crawler, Request::post(&["v1", "grants"]).json(&body)).await;
    let list = send(&crawler, Request::get(&["v1", "approvals"])).await.good();
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].clone())
        .collect();
    assert_eq!(ids, [json!(own.text("/approval"))]);
    let others = scene.ask_for(WRITE).await.text("/approval");
    send(&crawler, Request::get(&["v1", "approvals", &others]))
        .await
        .is(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_needs_the_instances_approvers_again() {
    let scene = Scene::start().await;
    let text = policy("readers", "echo:write", "")
        .replace("[\"ada\", \"grace\"]", "[\"ada\"]")
        .replace("quorum = 2", "quorum = 1");
    scene.put_in_force("readers", &text).await;
    let bought = scene.buy(&new_wallet(), READ).await;
    scene.resolve(&bought.token(), READ).await.good();

    // The operator alone pins another manifest under the policies in force.
    let shipped = vendor::shipped();
    let (_, manifest) = shipped.iter().find(|(name, _)| name.as_str() == "demo").unwrap();
    let manifest = manifest.replace("\"echo:read\" = \"read\"", "\"echo:read\" = [\"read\", \"write\"]");
    let fields: serde_json::Map<_, _> = scene
        .stage
        .vendor
        .root_fields()
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let body = json!({ "fields": fields, "base_url": scene.stage.vendor.url().as_str(), "manifest": manifest });
    let path = ["v1", "vendors", "demo", "root-credential"];
    send(&scene.operator(), Request::put(&path).json(&body)).await.good();

    let offers = send(&scene.client(None), Request::get(&["v1", "offers"])).await.good();
    assert_eq!(
        offers["data"],
        json!([]),
        "what was approved with another manifest is not on offer"
    );
    let body = json!({ "reference": READ, "public_key": scene.stage.cast.agent.public() });
    let buy = send(&scene.client(None), Request::post(&["v1", "grants"]).json(&body)).await;
    buy.is(403, "policy_not_approved");
    scene.resolve(&bought.token(), READ).await.is(403, "not_allowed");

    let again = scene.propose(&scene.operator(), "readers", &text).await.good();
    let approval = again["approval"].as_str().unwrap().to_owned();
    let shown = send(&scene.operator(), Request::get(&["v1", "approvals", &approval]))
        .await
        .good();
    assert_eq!(shown["quorum"], 2, "not ada alone: {shown}");
    for approver in [0, 1] {
        scene.approve(approver, &approval).await.good();
    }
    let granted = scene.ask_for(WRITE).await;
    assert!(secret::at(&granted.json, "/token").is_some(), "{}", granted.json);
}
