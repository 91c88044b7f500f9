//! People decide: a quorum of signed verdicts over what they saw, and nobody decides for themselves.

use dekeys::client::{KeyFile, Request, approval};
use dekeys::model::approval::Verdict;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, WRITE, policy, priced, send};

async fn propose(app: &TestApp, key: &KeyFile, name: &str, text: &str) -> Seen {
    let body = json!({ "text": text, "reason": "a change" });
    let request = Request::put(&["v1", "policies", name]).json(&body);
    send(&app.client(Some(key)), request).await
}

async fn vote(app: &TestApp, key: &KeyFile, proposal: &Value, verdict: Verdict, comment: &str) -> Seen {
    let id = proposal["approval"].as_str().unwrap();
    let digest = proposal["digest"].as_str().unwrap().parse().unwrap();
    let review = approval::review(key, id.parse().unwrap(), digest, verdict, comment);
    post(app, key, id, &review).await
}

async fn post(app: &TestApp, key: &KeyFile, id: &str, review: &Value) -> Seen {
    let request = Request::post(&["v1", "approvals", id, "reviews"]).json(review);
    send(&app.client(Some(key)), request).await
}

async fn offers(app: &TestApp) -> Vec<String> {
    let list = send(&app.anyone(), Request::get(&["v1", "offers"])).await.good();
    let offers = list["data"].as_array().unwrap().iter();
    offers
        .map(|offer| offer["reference"].as_str().unwrap().to_owned())
        .collect()
}

fn writers() -> String {
    priced("writers", "echo:write", &[PRIM], "0.02")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_in_force_with_the_second_of_two_votes() {
    let app = TestApp::start().await;
    let [ada, grace] = [&app.stage.cast.approvers[0].1, &app.stage.cast.approvers[1].1];
    let proposal = propose(&app, &app.stage.cast.operator, "writers", &writers()).await;
    assert_eq!(proposal.status, 202, "{}", proposal.json);
    assert_eq!(offers(&app).await, [READ]);
    let first = vote(&app, ada, &proposal.json, Verdict::Approve, "").await;
    assert_eq!((first.status, first.text("/state")), (201, "pending".to_owned()));
    assert_eq!(offers(&app).await, [READ], "one vote of two");
    vote(&app, ada, &proposal.json, Verdict::Approve, "")
        .await
        .is(409, "already_voted");
    let second = vote(&app, grace, &proposal.json, Verdict::Approve, "fine").await;
    assert_eq!((second.status, second.text("/state")), (201, "approved".to_owned()));
    assert_eq!(offers(&app).await, [READ, WRITE]);
    let late = vote(&app, grace, &proposal.json, Verdict::Deny, "no").await;
    late.is(409, "approval_closed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_does_not_vote_and_others_than_approvers_do_not_count() {
    let app = TestApp::start().await;
    let [ada, grace] = [&app.stage.cast.approvers[0].1, &app.stage.cast.approvers[1].1];
    let proposal = propose(&app, ada, "writers", &writers()).await;
    assert_eq!(proposal.status, 202, "{}", proposal.json);
    let own = vote(&app, ada, &proposal.json, Verdict::Approve, "").await;
    own.is(403, "self_approval");
    let prim = vote(&app, &app.stage.cast.prim, &proposal.json, Verdict::Approve, "").await;
    prim.is(403, "not_allowed");
    let operator = vote(&app, &app.stage.cast.operator, &proposal.json, Verdict::Approve, "").await;
    operator.is(403, "not_allowed");
    // A verdict signed by another key than the voter's.
    let id = proposal.text("/approval");
    let digest = proposal.text("/digest").parse().unwrap();
    let foreign = approval::review(ada, id.parse().unwrap(), digest, Verdict::Approve, "");
    post(&app, grace, &id, &foreign).await.is(422, "invalid_request");
    // A true verdict, its comment or its meaning changed on the way.
    let mut changed = approval::review(grace, id.parse().unwrap(), digest, Verdict::Deny, "never");
    changed["verdict"] = json!("approve");
    post(&app, grace, &id, &changed).await.is(422, "invalid_request");
    let good = vote(&app, grace, &proposal.json, Verdict::Approve, "").await;
    assert_eq!((good.status, good.text("/state")), (201, "pending".to_owned()));
    assert_eq!(offers(&app).await, [READ]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_over_something_else_is_not_counted() {
    let app = TestApp::start().await;
    let ada = &app.stage.cast.approvers[0].1;
    let proposal = propose(&app, &app.stage.cast.operator, "writers", &writers())
        .await
        .good();
    let other = propose(
        &app,
        &app.stage.cast.operator,
        "readers",
        &policy("readers", "echo:read", &[PRIM], ""),
    )
    .await
    .good();
    let mut mixed = proposal.clone();
    mixed["digest"] = other["digest"].clone();
    let seen = vote(&app, ada, &mixed, Verdict::Approve, "").await;
    seen.is(412, "digest_mismatch");
    let shown = Request::get(&["v1", "approvals", proposal["approval"].as_str().unwrap()]);
    let shown = send(&app.operator(), shown).await.good();
    assert_eq!(shown["reviews"], json!([]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_no_with_its_reason_ends_a_request() {
    let app = TestApp::start().await;
    let [ada, grace] = [&app.stage.cast.approvers[0].1, &app.stage.cast.approvers[1].1];
    let proposal = propose(&app, &app.stage.cast.operator, "writers", &writers())
        .await
        .good();
    let silent = vote(&app, ada, &proposal, Verdict::Deny, "  ").await;
    silent.is(422, "invalid_request");
    assert_eq!(silent.text("/errors/0/pointer"), "/comment");
    let no = vote(&app, ada, &proposal, Verdict::Deny, "reading is enough").await;
    assert_eq!((no.status, no.text("/state")), (201, "denied".to_owned()));
    let late = vote(&app, grace, &proposal, Verdict::Approve, "").await;
    late.is(409, "approval_closed");
    assert_eq!(offers(&app).await, [READ]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_people_decide_is_theirs_to_give() {
    let text = policy("demo-readers", "echo:read", &[PRIM], "")
        .replace("wallets = [\"eip155:84532:*\"]", "principals = [\"agent-one\"]")
        .replace("grants = \"none\"", "grants = \"always\"");
    let app = TestApp::with(&text, |_| {}).await;
    let agent = app.enroll("agent-one", "agent").await;
    let asked = Request::post(&["v1", "grants"]).json(&json!({ "reference": READ, "reason": "to read" }));
    let asked = send(&app.client(Some(&agent)), asked).await;
    asked.is(202, "approval_pending");
    let (grant, approval) = (asked.text("/grant"), asked.text("/approval"));
    assert_eq!(asked.headers["location"], format!("/v1/approvals/{approval}"));
    assert!(app.stage.vendor.keys().is_empty(), "nothing exists before people agree");
    let tokens = || Request::post(&["v1", "grants", &grant, "tokens"]);
    send(&app.client(Some(&agent)), tokens()).await.is(410, "grant_expired");
    let shown = send(&app.operator(), Request::get(&["v1", "approvals", &approval]))
        .await
        .good();
    let proposal = json!({ "approval": approval, "digest": shown["digest"] });
    let ada = &app.stage.cast.approvers[0].1;
    vote(&app, ada, &proposal, Verdict::Approve, "").await.good();
    let fresh = send(&app.client(Some(&agent)), tokens()).await;
    assert_eq!(fresh.status, 201, "{}", fresh.json);
    assert_eq!(app.stage.vendor.live_keys().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_names_the_rule_that_decides() {
    let app = TestApp::start().await;
    let ask = async |body: Value| {
        let request = Request::post(&["v1", "policies", "explain"]).json(&body);
        send(&app.operator(), request).await.good()
    };
    app.enroll("agent-one", "agent").await;
    let wallet = "eip155:84532:0x0000000000000000000000000000000000000001";
    let good = ask(json!({ "reference": READ, "principal": "agent-one", "wallet": wallet })).await;
    assert_eq!(good["allowed"], true, "{good}");
    for (body, rule) in [
        (
            json!({ "reference": WRITE, "principal": "agent-one", "wallet": wallet }),
            "scopes",
        ),
        (
            json!({ "reference": READ, "principal": "agent-one", "wallet": wallet, "ttl": "2h" }),
            "grant.max_ttl",
        ),
        (
            json!({ "reference": READ, "principal": "agent-one", "wallet": wallet, "max_resolves": 100_001 }),
            "grant.max_resolves",
        ),
        (json!({ "reference": READ, "principal": "agent-one" }), "who.wallets"),
        (json!({ "reference": READ, "wallet": wallet }), "who.kinds"),
    ] {
        let told = ask(body).await;
        assert_eq!(told["allowed"], false, "{told}");
        assert_eq!(told["answers"][0]["rule"], rule, "{told}");
        assert!(told["answers"][0]["change"].is_string(), "{told}");
    }
    app.stop().await;
}
