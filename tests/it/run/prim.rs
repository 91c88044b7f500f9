//! A prim's program: its keys stand in its environment, and die with it.

use serde_json::json;

use super::scene::{PRIM, Scene};
use crate::support::until;

const ENV: &str = "# for the service\nexport GREETING=\"hello there\"\nDEMO_API_KEY=dk://demo/echo:read\n\
                   SAME='dk://demo/echo:read#api_key'\nDEMO_URL=dk://demo/echo:read#base_url\n";

#[tokio::test(flavor = "multi_thread")]
async fn references_become_keys_and_the_lease_ends_with_the_program() {
    let scene = Scene::open().await;
    let file = scene.file(".env", ENV);
    let script = "echo \"$GREETING\"; echo $DEMO_API_KEY; echo $DEMO_URL; [ $SAME = $DEMO_API_KEY ]";
    let ran = scene.run(PRIM, &["--env-file", &file, "--no-masking"], script).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "hello there");
    let keys = scene.app.stage.vendor.keys();
    assert!(keys.iter().any(|key| key.secret == lines[1]), "{ran:?}");
    assert_eq!(
        format!("{}/", lines[2].trim_end_matches('/')),
        scene.app.stage.vendor.url().as_str()
    );
    assert!(
        ran.err.contains("1 reference is resolved (lea_") && ran.err.contains("is revoked, its key is dead"),
        "{ran:?}"
    );
    assert!(!ran.err.contains("demo-key-"), "{ran:?}");
    assert_eq!(scene.live_keys(), 0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_masked_in_the_output() {
    let scene = Scene::open().await;
    let file = scene.file(".env", ENV);
    let script = "printf %s $DEMO_API_KEY | cut -c1-20 | tr -d '\\n'; sleep 0.1; printf %s $DEMO_API_KEY | cut -c21-; \
                  echo $DEMO_API_KEY >&2; printf %s $DEMO_API_KEY | base64 -w0; echo; echo $GREETING";
    let ran = scene.run(PRIM, &["--env-file", &file], script).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("[masked by dekeys]", "hello there"), "{ran:?}");
    assert!(
        lines[1].starts_with("[masked by dekeys]") && lines[1].len() < 24,
        "{ran:?}"
    );
    assert!(
        !ran.err.contains("demo-key-") && ran.err.contains("[masked by dekeys]"),
        "{ran:?}"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_no_key_of_a_prim() {
    let scene = Scene::open().await;
    let file = scene.file(".env", ENV);
    let mut going = scene.start(PRIM, &["--env-file", &file], "echo started; exec sleep 600");
    assert_eq!(going.line().await, "started");
    going.process.kill().await.unwrap();
    let took = scene.all_dead().await;
    assert!(took.as_secs() < 5, "{took:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_watched_starts_again_with_the_new_key() {
    let scene = Scene::open().await;
    let file = scene.file(".env", ENV);
    let flags = ["--env-file", &file, "--watch", "--no-masking"];
    let mut going = scene.start(PRIM, &flags, "echo $DEMO_API_KEY; exec sleep 600");
    let first = going.line().await;
    let operator = scene.app.operator();
    let lease = until("a lease", async || {
        let leases = crate::support::send(&operator, dekeys::client::Request::get(&["v1", "leases"])).await;
        Some(leases.text("/data/0/id")).filter(|id| !id.is_empty())
    })
    .await;
    let request = dekeys::client::Request::post(&["v1", "leases", &lease, "revoke"]).json(&json!({}));
    crate::support::send(&operator, request).await.good();
    let second = going.line().await;
    assert!(second.starts_with("demo-key-") && second != first);
    let live: Vec<String> = scene
        .app
        .stage
        .vendor
        .live_keys()
        .into_iter()
        .map(|key| key.secret)
        .collect();
    assert_eq!(live, [second], "the first key is dead");
    going.signal(rustix::process::Signal::TERM);
    let ran = going.ended().await;
    assert!(
        ran.code == Some(143) && ran.err.contains("a key changed, the program is started again"),
        "{ran:?}"
    );
    assert_eq!(scene.live_keys(), 0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_file_are_said_before_anything_is_asked_for() {
    let scene = Scene::open().await;
    for (text, says) in [
        ("A=dk://demo", "A in "),
        ("A=dk://demo/echo:read#nothing", "which field"),
        ("A=1\n", "names no key"),
        ("no line\n", "not `NAME=value`"),
    ] {
        let file = scene.file(".env", text);
        let ran = scene.run(PRIM, &["--env-file", &file], "echo started").await;
        assert!(
            ran.code == Some(125) && ran.err.contains(says) && ran.out.is_empty(),
            "{text}: {ran:?}"
        );
    }
    scene.app.stop().await;
}
