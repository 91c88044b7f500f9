//! Metrics as a scraper sees them: each one moves when what it tells of happens, and none can be made by a stranger.

use std::collections::BTreeSet;
use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request, approval};
use dekeys::metrics::catalogue::{CATALOGUE, Kind};
use dekeys::mock::Fault;
use dekeys::model::approval::Verdict;
use dekeys::payment::Faults;
use dekeys::service::unseal;
use dekeys::setup::stage::PRIM;
use serde_json::json;

use crate::support::database::Intruder;
use crate::support::metrics::{Scrape, scrape};
use crate::support::purse::Wallet;
use crate::support::{READ, TestApp, client_at, pinned, policy, send, until};

/// What stands still in a healthy instance on this machine; a unit test beside the code moves these, and those of
/// `rotation` move where keys are shared.
const STILL: [&str; 9] = [
    "dekeys_key_age_seconds",
    "dekeys_rotation_late_seconds",
    "dekeys_build_info",
    "dekeys_database_up",
    "dekeys_audit_log_intact",
    "dekeys_reconciling",
    "dekeys_clock_ahead_seconds",
    "dekeys_clock_behind_seconds",
    "dekeys_disk_size_bytes",
];

/// Scrapes one after the other, and which metrics changed between two of them.
struct Watcher {
    last: Scrape,
    moved: BTreeSet<&'static str>,
}

impl Watcher {
    async fn look(&mut self, app: &TestApp) -> &Scrape {
        let next = scrape(app).await;
        for metric in CATALOGUE {
            if self.last.of(metric.name) != next.of(metric.name) {
                self.moved.insert(metric.name);
            }
        }
        self.last = next;
        &self.last
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_metric_moves_when_what_it_tells_of_happens() {
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = TestApp::start().await.restart_by(Arc::clone(&clock)).await;
    let mut watcher = Watcher {
        last: scrape(&app).await,
        moved: BTreeSet::new(),
    };
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    sell(&app, &mut watcher).await;
    decide(&app, &clock, &mut watcher).await;
    fail(&app, &clock, &mut watcher).await;
    lock_out(&app, &clock, &mut watcher).await;
    let all: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let still: BTreeSet<_> = all.difference(&watcher.moved).copied().collect();
    let expected: BTreeSet<_> = STILL.into_iter().collect();
    // The disk is shared with others: it may move or not.
    let unexpected: Vec<_> = still
        .difference(&expected)
        .filter(|name| **name != "dekeys_disk_free_bytes")
        .collect();
    assert!(
        unexpected.is_empty(),
        "these stood still: {unexpected:?}\n{}",
        watcher.last.text
    );
    described(&watcher.last);
    app.stop().await;
}

/// Every metric is told with its kind and what it means.
fn described(scrape: &Scrape) {
    for metric in CATALOGUE {
        let help = format!("# HELP {} {}", metric.name, metric.help);
        let kind = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(scrape.text.contains(&help), "{help}");
        assert!(scrape.text.contains(&kind), "{kind}");
        if metric.kind == Kind::Histogram {
            assert!(scrape.text.contains(&format!("{}_bucket{{", metric.name)), "{kind}");
        }
    }
    assert!(scrape.text.contains("process_resident_memory_bytes "));
}

async fn sell(app: &TestApp, watcher: &mut Watcher) {
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    let seen = watcher.look(app).await;
    for (series, value) in [
        (
            r#"dekeys_payments_total{outcome="settled",network="eip155:84532"}"#,
            1.0,
        ),
        (
            r#"dekeys_spend_atomic_total{asset="0x036cbd53842c5426634e7929541ec2318f3dcf7e"}"#,
            10_000.0,
        ),
        (
            r#"dekeys_resolve_duration_seconds_count{vendor="demo",outcome="released"}"#,
            1.0,
        ),
        (r#"dekeys_leases{vendor="demo",state="active"}"#, 1.0),
        (
            r#"dekeys_vendor_request_duration_seconds_count{vendor="demo",call="create",outcome="ok"}"#,
            1.0,
        ),
        (r#"dekeys_vendor_up{vendor="demo"}"#, 1.0),
        (r#"dekeys_denials_total{code="payment_required"}"#, 1.0),
        (
            r#"http_server_request_duration_seconds_count{http_request_method="POST",http_route="/v1/grants",http_response_status_code="201"}"#,
            1.0,
        ),
        ("dekeys_vault_unsealed", 1.0),
    ] {
        assert_eq!(seen.get(series), Some(value), "{series}\n{}", seen.text);
    }
    let few = app.buy(json!({ "reference": READ, "max_resolves": 5 })).await;
    for _ in 0..4 {
        app.key_of(&few).await;
    }
    let near = r#"dekeys_budget_thresholds_total{budget="max_resolves"}"#;
    assert_eq!(watcher.look(app).await.get(near), Some(1.0));
    app.rail_faults(Faults {
        lose_answer: 1,
        ..Faults::default()
    });
    let mut body = json!({ "reference": READ });
    body["public_key"] = json!(app.stage.cast.agent.public());
    let header = Wallet::new().sign(&app.quote(&body).await);
    let unknown = app.pay(&app.anyone(), &body, &header).await;
    assert_eq!(unknown.status, 202, "{}", unknown.json);
    assert_eq!(watcher.look(app).await.get("dekeys_payments_unknown"), Some(1.0));
}

fn operator(app: &TestApp, clock: &ManualClock) -> Client {
    client_at(app, &app.stage.cast.operator, clock.now())
}

/// People are asked, and take a minute.
async fn decide(app: &TestApp, clock: &ManualClock, watcher: &mut Watcher) {
    let text = policy("writers", "echo:write", &[PRIM], "");
    let proposal = Request::put(&["v1", "policies", "writers"]).json(&json!({ "text": text, "reason": "a test" }));
    let id = send(&operator(app, clock), proposal).await.text("/approval");
    clock.advance(Ttl::from_mins(2));
    let waiting = watcher.look(app).await;
    assert_eq!(waiting.get("dekeys_approvals_pending"), Some(1.0));
    assert_eq!(waiting.get("dekeys_approval_oldest_seconds"), Some(120.0));
    for (_, key) in &app.stage.cast.approvers {
        let client = client_at(app, key, clock.now());
        let shown = send(&client, Request::get(&["v1", "approvals", &id])).await;
        let digest = shown.text("/digest").parse().unwrap();
        let review = approval::review(key, id.parse().unwrap(), digest, Verdict::Approve, "");
        let vote = Request::post(&["v1", "approvals", &id, "reviews"]).json(&review);
        send(&client, vote).await.good();
    }
    let decided = watcher.look(app).await;
    assert_eq!(
        decided.get(r#"dekeys_approval_wait_seconds_sum{outcome="approved"}"#),
        Some(120.0)
    );
    assert_eq!(decided.get("dekeys_approvals_pending"), Some(0.0));
}

/// The vendor ends no key for longer than is borne.
async fn fail(app: &TestApp, clock: &ManualClock, watcher: &mut Watcher) {
    app.stage.vendor.fault(Fault {
        op: "revoke".to_owned(),
        status: Some(500),
        ..Fault::default()
    });
    let leases = send(&operator(app, clock), Request::get(&["v1", "leases"]))
        .await
        .good();
    let id = leases["data"][0]["id"].as_str().unwrap();
    let revoke = Request::post(&["v1", "leases", id, "revoke"]).json(&json!({}));
    send(&operator(app, clock), revoke).await.good();
    assert_eq!(
        watcher.look(app).await.get(r#"dekeys_vendor_up{vendor="demo"}"#),
        Some(0.0)
    );
    clock.advance(Ttl::from_mins(16));
    until("the alarm", async || {
        (scrape(app).await.get("dekeys_stuck_keys{vendor=\"demo\"}") == Some(1.0)).then_some(())
    })
    .await;
    watcher.look(app).await;
    leave_alone(app, clock, watcher).await;
}

/// A vendor that answers nothing is left alone; back again, it lists a key that nobody here knows.
async fn leave_alone(app: &TestApp, clock: &ManualClock, watcher: &mut Watcher) {
    app.stage.vendor.clear_faults();
    app.stage.vendor.fault(Fault {
        status: Some(500),
        ..Fault::default()
    });
    let open = r#"dekeys_vendor_breaker_open{vendor="demo"}"#;
    until("the vendor to be left alone", async || {
        send(&operator(app, clock), Request::post(&["v1", "vendors", "demo", "test"])).await;
        (scrape(app).await.get(open) == Some(1.0)).then_some(())
    })
    .await;
    watcher.look(app).await;
    app.stage.vendor.clear_faults();
    let list = send(&operator(app, clock), Request::get(&["v1", "credentials"]))
        .await
        .good();
    let name = list["data"][0]["vendor_name"].as_str().unwrap();
    let (own, _) = name.split_at(12);
    app.stage.vendor.plant(&format!("{own}of-another-copy"));
    until("the orphan, and the end that was missed", async || {
        clock.advance(Ttl::from_secs(30));
        let seen = scrape(app).await;
        let found = seen.get(r#"dekeys_orphans{vendor="demo",state="reported"}"#) == Some(1.0);
        let dead = seen.get(r#"dekeys_lease_revocations_confirmed_total{vendor="demo"}"#) == Some(1.0);
        (found && dead).then_some(())
    })
    .await;
    watcher.look(app).await;
}

/// Somebody holds the database: nothing can be put on record.
async fn lock_out(app: &TestApp, clock: &ManualClock, watcher: &mut Watcher) {
    let mut intruder = Intruder::at(app).await;
    intruder.run("BEGIN IMMEDIATE".to_owned()).await;
    until("a commit that failed", async || {
        let text = policy("others", "echo:write", &[PRIM], "");
        let request = Request::put(&["v1", "policies", "others"]).json(&json!({ "text": text, "reason": "a test" }));
        send(&operator(app, clock), request).await.is(503, "overloaded");
        let failed = scrape(app).await.get("dekeys_audit_append_failures_total");
        (failed >= Some(1.0)).then_some(())
    })
    .await;
    // The next look for events to sign may come between the two.
    while watcher.look(app).await.get("dekeys_checkpoint_age_seconds") == Some(0.0) {
        clock.advance(Ttl::from_secs(10));
    }
    intruder.run("ROLLBACK".to_owned()).await;
}

/// Whatever strangers send, no series is named after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_adds_series_by_asking_for_odd_things() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let token = pinned(&bought.token, PRIM);
    for round in 0..3 {
        let mark = format!("stranger{round}");
        let reference = format!("dk://{mark}/{mark}:read");
        let seen = app.resolve(&app.stage.cast.prim, &token, &reference).await;
        assert!(seen.status >= 400, "{}", seen.json);
        send(&app.anyone(), Request::get(&[&mark])).await.is(404, "not_found");
        let odd = Request::get(&["v1", "offers"]).query(&mark, Some(&mark));
        let seen = send(&app.anyone(), odd).await;
        assert_eq!(seen.status, 400, "{}", seen.json);
        let odd = Request::at(mark.to_uppercase().parse().unwrap(), "/v1/offers".to_owned());
        assert_eq!(send(&app.anyone(), odd).await.status, 405);
        let grant = Request::get(&["v1", "grants", &format!("grt_{mark}")]);
        assert!(send(&app.operator(), grant).await.status >= 400);
    }
    let seen = scrape(&app).await;
    assert!(!seen.text.to_lowercase().contains("stranger"), "{}", seen.text);
    for secret in [bought.id.as_str(), &bought.json["receipt"].to_string().replace('"', "")] {
        assert!(!seen.text.contains(secret), "{secret}");
    }
    let wallet = bought.json["payer"].as_str().unwrap_or("no wallet is told");
    assert!(!seen.text.contains(wallet));
    // Not on the public address.
    send(&app.anyone(), Request::get(&["metrics"]))
        .await
        .is(404, "not_found");
    app.stop().await;
}
