//! However a program or `run` ends, the key is dead soon after: the demo vendor says so.

use std::time::Duration;

use rustix::process::Signal;

use super::scene::Scene;

/// What is promised after an exit or a SIGKILL.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_leaves_no_key() {
    let scene = Scene::open().await;
    let ran = scene.run("agent", &[], "kill -9 $$").await;
    assert_eq!((ran.code, scene.live_keys()), (Some(137), 0), "{ran:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_no_key() {
    let scene = Scene::open().await;
    let mut going = scene.start("agent", &[], "echo started; exec sleep 600");
    assert_eq!(going.line().await, "started");
    assert_eq!(scene.live_keys(), 1);
    going.process.kill().await.unwrap();
    let took = scene.all_dead().await;
    assert!(took < SOON, "{took:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_group_leaves_no_key() {
    let scene = Scene::open().await;
    let mut command = scene.command("agent", &["run", "--", "sh", "-c", "echo started; exec sleep 600"]);
    command.process_group(0);
    let mut process = command.spawn().unwrap();
    let mut out = tokio::io::BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line)
        .await
        .unwrap();
    let group = rustix::process::Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    let took = scene.all_dead().await;
    assert!(took < SOON, "{took:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_program_and_the_key_dies_with_it() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
    ] {
        let scene = Scene::open().await;
        let script = format!("trap 'echo got {name}; exit 3' {name}; echo started; while :; do sleep 0.05; done");
        let mut going = scene.start("agent", &[], &script);
        assert_eq!(going.line().await, "started");
        going.signal(signal);
        let ran = going.ended().await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(3), format!("got {name}\n").as_str()),
            "{ran:?}"
        );
        assert_eq!(scene.live_keys(), 0, "{ran:?}");
        scene.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_ends_the_program_is_the_exit_code() {
    let scene = Scene::open().await;
    let mut going = scene.start("agent", &[], "echo started; exec sleep 600");
    going.line().await;
    going.signal(Signal::TERM);
    let ran = going.ended().await;
    assert_eq!((ran.code, scene.live_keys()), (Some(143), 0), "{ran:?}");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descendant_that_stays_behind_does_not_hold_the_end_up() {
    let scene = Scene::open().await;
    let ran = scene.run("agent", &[], "sleep 30 & echo first; echo second").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "first\nsecond\n"), "{ran:?}");
    assert_eq!(scene.live_keys(), 0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_read_slowly_is_read_whole() {
    let scene = Scene::open().await;
    let mut going = scene.start(
        "agent",
        &[],
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done",
    );
    assert_eq!(going.line().await, "line 0");
    // The key is dead while most of the output still stands in the pipes.
    let ran = going.ended().await;
    assert_eq!(ran.out.lines().count(), 19_999, "{:?}", ran.code);
    assert!(ran.out.ends_with("line 19999\n"));
    scene.app.stop().await;
}
