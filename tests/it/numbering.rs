//! The Merkle tree keeps up with the log.

use std::net::SocketAddr;

use dekeys::base::id::EventId;
use dekeys::service::checkpoint;
use dekeys::setup::stage::Stage;
use serde_json::json;

/// More events than one pass takes.
const MANY: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catching_up_leaves_no_event_behind() {
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let stage = Stage::ready(dir.path().join("data"), any).await.unwrap();
    let app = stage.server.app.clone();
    let events: Vec<_> = (0..MANY)
        .map(|at| app.own_event("test.happened", &at, json!({})))
        .collect();
    let last: EventId = events.last().unwrap().id;
    app.store.begin().await.unwrap().commit(&events, &[]).await.unwrap();

    checkpoint::catch_up(&app).await.unwrap();

    let mut tx = app.store.read().await.unwrap();
    let last = tx.event(last).await.unwrap().unwrap();
    assert_eq!(last.leaf, Some(last.n - 1), "every event is a leaf");
    let (size, _) = tx.latest_checkpoint().await.unwrap().unwrap();
    assert!(size >= last.n, "the checkpoint covers {size} of {} events", last.n);
    tx.end().await.unwrap();
    stage.server.stop().await;
}
