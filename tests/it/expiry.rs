//! The last moments of a grant: what is asked for in them is answered as after them, never as an error of dekeys.

use std::sync::Arc;

use dekeys::base::time::{Clock as _, ManualClock, SystemClock, Timestamp, Ttl};
use dekeys::client::Request;
use dekeys::service::unseal;
use serde_json::json;

use crate::support::{READ, TestApp, client_at, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_made_that_would_be_over_before_it_is_read() {
    let app = TestApp::start().await;
    // Half a second is gone of the second in which the grant is bought; tokens know whole seconds only.
    let second = SystemClock::default().now().as_secs() + 2;
    let start = Timestamp::from_secs(second).plus(Ttl::from_millis(500));
    let clock = Arc::new(ManualClock::at(start));
    let app = app.restart_by(Arc::clone(&clock)).await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let bought = app.buy(json!({ "reference": READ, "ttl": "1s" })).await;
    clock.advance(Ttl::from_millis(700));
    let tokens = Request::post(&["v1", "grants", &bought.id, "tokens"]);
    let agent = client_at(&app, &app.stage.cast.agent, clock.now());
    send(&agent, tokens).await.is(410, "grant_expired");
    app.stop().await;
}
