//! A key that cannot be revoked: tried again and again, raised after fifteen minutes, and cleared when it is dead. The
//! clock is the test's: weeks pass in it.

use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request};
use dekeys::mock::Fault;
use dekeys::service::{end, unseal};
use serde_json::{Value, json};

use crate::support::metrics::{Scrape, scrape};
use crate::support::{READ, TestApp, client_at, send, until};

const STUCK: &str = r#"dekeys_stuck_keys{vendor="demo"}"#;

/// An instance by a clock of the test's, with a key that is out, and a vendor that ends none.
struct Scene {
    app: TestApp,
    clock: Arc<ManualClock>,
    lease: String,
}

impl Scene {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
        app.key_of(&bought).await;
        let leases = send(&app.operator(), Request::get(&["v1", "leases"])).await.good();
        let lease = leases["data"][0]["id"].as_str().unwrap().to_owned();
        let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
        let app = app.restart_by(Arc::clone(&clock)).await;
        app.stage.vendor.fault(Fault {
            op: "revoke".to_owned(),
            status: Some(500),
            ..Fault::default()
        });
        Self { app, clock, lease }
    }

    async fn unseal(&self) {
        let key = self.app.unseal_key();
        unseal::unseal(&self.app.stage.server.app, key).await.unwrap();
    }

    fn operator(&self) -> Client {
        client_at(&self.app, &self.app.stage.cast.operator, self.clock.now())
    }

    /// The events of a kind, newest first, as they are on record.
    async fn events(&self, kind: &str) -> Vec<Value> {
        let request = Request::get(&["v1", "audit", "events"])
            .query("type", Some(kind))
            .query("limit", Some(100));
        let list = send(&self.operator(), request).await.good();
        list["data"].as_array().unwrap().clone()
    }

    async fn scrape(&self) -> Scrape {
        scrape(&self.app).await
    }

    async fn stuck(&self, number: f64) {
        until("the figure of stuck keys", async || {
            (self.scrape().await.get(STUCK) == Some(number)).then_some(())
        })
        .await;
    }

    /// Moves the clock and waits for the try that is due by then.
    async fn retried_after(&self, span: Ttl) {
        let before = self.events("credential.revoking").await.len();
        let failed = self.events("credential.revocation_retried").await.len();
        self.clock.advance(span);
        until("another try", async || {
            let tried = self.events("credential.revoking").await.len() > before;
            let told = self.events("credential.revocation_retried").await.len() > failed;
            (tried && told).then_some(())
        })
        .await;
    }

    async fn state(&self) -> String {
        let seen = send(&self.operator(), Request::get(&["v1", "leases", &self.lease])).await;
        seen.text("/state")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_revoked_is_raised_after_fifteen_minutes_and_tried_for_weeks() {
    let scene = Scene::start().await;
    scene.unseal().await;
    let revoke = Request::post(&["v1", "leases", &scene.lease, "revoke"]).json(&json!({}));
    send(&scene.operator(), revoke).await.good();
    // Many tries, and not yet an alarm: a vendor may be away for a while.
    for span in [2, 4, 8, 16, 32, 64, 128, 256] {
        scene.retried_after(Ttl::from_secs(span)).await;
    }
    scene.clock.advance(Ttl::from_secs(380));
    end::alarm(&scene.app.stage.server.app).await.unwrap();
    assert_eq!(scene.state().await, "revoked");
    assert_eq!(scene.scrape().await.get(STUCK), Some(0.0));
    assert!(scene.events("lease.revocation_failed").await.is_empty());
    scene.clock.advance(Ttl::from_secs(11));
    scene.stuck(1.0).await;
    assert_eq!(scene.state().await, "revocation_failed");
    let raised = scene.events("lease.revocation_failed").await;
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(raised[0]["event"]["data"]["vendor"], json!("demo"));
    let told = scene.scrape().await;
    assert_eq!(
        told.get(r#"dekeys_lease_revocation_failures_total{vendor="demo"}"#),
        Some(1.0)
    );
    assert!(told.get("dekeys_revocation_overdue_seconds").unwrap() >= 900.0);
    // It is raised once, and tried for weeks.
    for days in [1, 14, 31] {
        scene.retried_after(Ttl::from_mins(days * 24 * 60)).await;
    }
    assert_eq!(scene.events("lease.revocation_failed").await.len(), 1);
    assert_eq!(scene.app.stage.vendor.live_keys().len(), 1);
    // The vendor is itself again.
    scene.app.stage.vendor.clear_faults();
    scene.clock.advance(Ttl::from_mins(60));
    scene.stuck(0.0).await;
    assert!(scene.app.stage.vendor.live_keys().is_empty());
    let ended = scene.events("credential.revoked").await;
    assert_eq!(
        ended[0]["event"]["data"]["revocation_failed"],
        json!("cleared"),
        "{ended:?}"
    );
    let told = scene.scrape().await;
    assert_eq!(told.get("dekeys_revocation_overdue_seconds"), Some(0.0));
    assert_eq!(
        told.get(r#"dekeys_lease_revocations_confirmed_total{vendor="demo"}"#),
        Some(1.0)
    );
    let confirmed = scene.events("lease.revocation_confirmed").await;
    assert_eq!(confirmed.len(), 1, "{confirmed:?}");
    scene.app.stop().await;
}

/// A vendor that is away for a simulated week: it is left alone but for a call now and then, the alarm comes in time, and
/// once it is back everything that waited is ended within a minute of its clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_away_for_a_week_gets_the_ends_it_missed_as_soon_as_it_is_back() {
    let scene = Scene::start().await;
    scene.unseal().await;
    scene.app.stage.vendor.clear_faults();
    scene.app.stage.vendor.fault(Fault {
        status: Some(503),
        ..Fault::default()
    });
    let revoke = Request::post(&["v1", "leases", &scene.lease, "revoke"]).json(&json!({}));
    let first = scene.clock.now();
    send(&scene.operator(), revoke).await.good();
    let calls = || scene.app.stage.vendor.calls().len();
    let open = r#"dekeys_vendor_breaker_open{vendor="demo"}"#;
    until("the vendor to be left alone", async || {
        scene.clock.advance(Ttl::from_secs(20));
        (scene.scrape().await.get(open) == Some(1.0)).then_some(())
    })
    .await;
    // Fifteen minutes after the first failure, and no later.
    scene
        .clock
        .advance(first.plus(Ttl::from_mins(15)).since(scene.clock.now()));
    scene.stuck(1.0).await;
    // What somebody waits for is refused at once, and nothing is sent.
    let before = calls();
    let shown = send(&scene.operator(), Request::get(&["v1", "vendors", "demo"]))
        .await
        .good();
    assert!(shown["keys"]["breaker"]["state"] != json!("closed"), "{shown}");
    for _ in 0..7 {
        let tried = scene.events("credential.revocation_retried").await.len();
        scene.clock.advance(Ttl::from_mins(24 * 60));
        until("another try", async || {
            // Another call may have been the one that found out.
            scene.clock.advance(Ttl::from_secs(20));
            (scene.events("credential.revocation_retried").await.len() > tried).then_some(())
        })
        .await;
    }
    assert!(calls() > before, "it is asked now and then");
    assert_eq!(scene.app.stage.vendor.live_keys().len(), 1);
    scene.app.stage.vendor.clear_faults();
    let back = scene.clock.now();
    until("the key's end", async || {
        scene.clock.advance(Ttl::from_secs(5));
        scene.app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    let took = scene.clock.now().since(back);
    assert!(
        took <= Ttl::from_mins(3),
        "{took}: a minute, and what this test takes to look"
    );
    scene.stuck(0.0).await;
    assert_eq!(scene.scrape().await.get(open), Some(0.0));
    assert_eq!(scene.events("lease.revocation_failed").await.len(), 1);
    assert_eq!(scene.events("lease.revocation_confirmed").await.len(), 1);
    let health = scene.events("vendor.health_changed").await;
    assert_eq!(health[0]["event"]["data"]["answers"], json!(true), "{health:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_instance_tells_of_keys_that_outlive_their_time() {
    let scene = Scene::start().await;
    scene.clock.advance(Ttl::from_mins(10));
    assert_eq!(scene.scrape().await.get(STUCK), Some(0.0));
    scene.clock.advance(Ttl::from_mins(16));
    scene.stuck(1.0).await;
    let told = scene.scrape().await;
    assert_eq!(told.get("dekeys_vault_unsealed"), Some(0.0));
    assert!(told.get("dekeys_revocation_overdue_seconds").unwrap() >= 900.0);
    scene.app.stage.vendor.clear_faults();
    scene.unseal().await;
    scene.stuck(0.0).await;
    assert!(scene.app.stage.vendor.live_keys().is_empty());
    let raised = scene.events("lease.revocation_failed").await;
    assert_eq!(raised.len(), 1, "{raised:?}");
    scene.app.stop().await;
}
