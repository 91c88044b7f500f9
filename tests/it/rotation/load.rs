//! Rotations one after another while requests never stop. `DEKEYS_ROTATIONS` says how many (40 unless set).

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dekeys::store::Store;
use serde_json::json;

use super::scene::{Scene, any_policy, forward};
use crate::support::{TestApp, on_both, until};

const CALLERS: usize = 4;

on_both! {
    no_request_fails_and_one_key_is_current_at_every_instant, super::any_policy();
}

async fn no_request_fails_and_one_key_is_current_at_every_instant(app: &TestApp) {
    let wanted = std::env::var_os("DEKEYS_ROTATIONS").and_then(|text| text.to_str()?.parse().ok());
    let wanted: u64 = wanted.unwrap_or(40);
    let scene = Scene::new(app, "mode = \"create_then_revoke\"", "").await;
    scene.forward().await.good();
    let stop = Arc::new(AtomicBool::new(false));
    let requests = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let ((client, token), stop, requests) = (scene.caller(), Arc::clone(&stop), Arc::clone(&requests));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let seen = forward(&client, &token).await;
                    assert_eq!(seen.status, 200, "{}", seen.json);
                    requests.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let observer = {
        let (url, stop) = (app.config.database_url.clone(), Arc::clone(&stop));
        tokio::spawn(async move { observe(&url, &stop).await })
    };
    for _ in 0..wanted {
        scene.rotate(json!({ "grace": "1s" })).await.good();
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let looks = observer.await.unwrap();
    until("all old keys' end", async || {
        (scene.vendor.live_keys().len() == 1).then_some(())
    })
    .await;
    scene.forward().await.good();
    let count = requests.load(Ordering::Relaxed);
    assert!(
        count > wanted / 2 && looks > wanted / 2,
        "{count} requests, {looks} looks"
    );
    assert_eq!(scene.vendor.keys().len() as u64, wanted + 1);
    // Past the test harness, which keeps what passing tests print.
    let words = format!("{wanted} rotations, {count} requests without a failure, {looks} looks with one current key");
    writeln!(std::io::stderr(), "{words}").unwrap();
}

/// Looks at the database without a pause: the one live lease names one active key, and nothing else is current.
async fn observe(url: &str, stop: &AtomicBool) -> u64 {
    let store = Store::open(url).await.unwrap();
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut tx = store.read().await.unwrap();
        let keys = tx.shared_keys().await.unwrap();
        assert_eq!(keys.len(), 1, "{keys:?}");
        let key = tx.credential(keys[0].credential).await.unwrap().unwrap();
        assert_eq!(key.state.as_str(), "active");
        assert!(tx.sealed_credential(key.id).await.unwrap().is_some());
        tx.end().await.unwrap();
        looks += 1;
        tokio::task::yield_now().await;
    }
    store.close().await;
    looks
}
