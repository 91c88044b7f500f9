//! The demo beside others on the same machine.

use std::net::TcpListener;

use dekeys::setup::demo::play;

/// Two demos that begin together both find the port free; one of them then comes too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_at_the_last_moment_does_not_end_the_demo() {
    let place = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut taken = None;
    let played = play(place.path().join("data"), port, &mut |step| {
        if step.name == "vault" {
            taken = Some(TcpListener::bind(("127.0.0.1", port)).unwrap());
        }
    })
    .await
    .unwrap();
    assert!(taken.is_some() && played.ok(), "{:?}", played.steps);
    assert!(!played.stage.server.url.ends_with(&format!(":{port}")));
    played.stage.server.stop().await;
}
