//! An agent's program: what it finds, and what it does not.

use super::scene::{Scene, ran};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_finds_an_address_and_a_stand_in_and_its_key_dies_with_it() {
    let scene = Scene::open().await;
    let script = "env; sleep 1";
    let ran = scene.run("agent", &["--no-masking"], script).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(scene.live_keys(), 0, "dead when the command returns: {ran:?}");
    let value = |name: &str| {
        ran.out
            .lines()
            .find_map(|line| line.strip_prefix(format!("{name}=").as_str()))
    };
    let base = value("DEMO_BASE_URL").unwrap();
    assert!(
        base.starts_with("http://127.0.0.1:") && base.ends_with("/p/demo"),
        "{base}"
    );
    let key = value("DEMO_API_KEY").unwrap();
    assert!(key.starts_with("dkr_") && key.len() == 36, "{key}");
    assert_eq!(value("NO_PROXY"), Some("127.0.0.1"));
    let token = dekeys::client::secret::shown(&scene.bought.token);
    for secret in [
        "demo-key-",
        "dkt_",
        token.as_str(),
        "DEKEYS_KEY_FILE",
        "DEKEYS_TOKEN_FILE",
    ] {
        assert!(!ran.out.contains(secret), "{secret}: {ran:?}");
    }
    for made in scene.app.stage.vendor.keys() {
        assert!(!ran.out.contains(&made.secret), "{ran:?}");
    }
    assert!(
        ran.err.contains("DEMO_BASE_URL, DEMO_API_KEY are set; grt_")
            && ran.err.contains("is revoked, its key is dead"),
        "{ran:?}"
    );
    let again = scene.run("agent", &[], "true").await;
    assert_eq!(
        again.code,
        Some(0),
        "the token's time is not over, so the program runs: {again:?}"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_is_masked_in_the_output_unless_it_is_not_to_be() {
    let scene = Scene::open().await;
    let script = "printf %s $DEMO_API_KEY | head -c 20; sleep 0.1; printf %s $DEMO_API_KEY | tail -c +21; echo; \
                  echo $DEMO_API_KEY >&2; printf %s u:$DEMO_API_KEY | base64 -w0";
    let ran = scene.run("agent", &["--keep-grant"], script).await;
    assert!(
        ran.out.starts_with("[masked by dekeys]\n") && !ran.out.contains("dkr_"),
        "{ran:?}"
    );
    assert!(
        ran.out.ends_with("[masked by dekeys]") || ran.out.contains("[masked by dekeys]"),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("[masked by dekeys]\n") && !ran.err.contains("dkr_"),
        "{ran:?}"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_to_be_kept_is_kept() {
    let scene = Scene::open().await;
    let ran = scene.run("agent", &["--keep-grant"], "true").await;
    assert!(
        ran.code == Some(0) && ran.err.contains("stays when the program ends"),
        "{ran:?}"
    );
    assert_eq!(scene.live_keys(), 1);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_output_and_exit_codes_are_the_programs_own() {
    let scene = Scene::open().await;
    let keep = &["--keep-grant"];
    for (script, code, out) in [
        ("exit 7", Some(7), ""),
        ("kill -9 $$", Some(137), ""),
        ("kill -TERM $$", Some(143), ""),
        ("printf a; printf b >&2", Some(0), "a"),
    ] {
        let ran = scene.run("agent", keep, script).await;
        assert_eq!((ran.code, ran.out.as_str()), (code, out), "{script}: {ran:?}");
    }
    let mut command = scene.command("agent", &["run", "--keep-grant", "--", "cat"]);
    let input = std::fs::File::open(scene.file("input", "a line\nand no end")).unwrap();
    command.stdin(input);
    let echoed = ran(command).await;
    assert_eq!(
        (echoed.code, echoed.out.as_str()),
        (Some(0), "a line\nand no end"),
        "{echoed:?}"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_started_costs_nothing() {
    let scene = Scene::open().await;
    let plain = scene.file("plain", "no program");
    for (program, code, says) in [
        (
            "no-such-program-here",
            127,
            "there is no program `no-such-program-here`",
        ),
        (plain.as_str(), 126, "cannot be executed"),
    ] {
        let ran = ran(scene.command("agent", &["run", "--", program])).await;
        assert!(ran.code == Some(code) && ran.err.contains(says), "{ran:?}");
        assert_eq!(scene.live_keys(), 1, "the grant is good for another try: {ran:?}");
    }
    for (flags, says) in [
        (&["--vendor", "openai"][..], "the token does not allow openai"),
        (&["--env", "X=openai.key"], "the program is not to use openai"),
        (&["--key-file", "/nonexistent/key"], "cannot be read"),
        (&["--addr", "http://127.0.0.1:1"], "nothing answers at"),
    ] {
        let ran = scene.run("agent", flags, "echo started").await;
        assert!(
            ran.code == Some(125) && ran.err.contains(says) && ran.out.is_empty(),
            "{ran:?}"
        );
    }
    let ran = scene.run("operator", &[], "echo started").await;
    assert!(
        ran.code == Some(125) && ran.err.contains("the token is held by"),
        "{ran:?}"
    );
    assert_eq!(scene.live_keys(), 1);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_program_never_gets_a_key() {
    let scene = Scene::open().await;
    let file = scene.file(".env", "DEMO_API_KEY=dk://demo/echo:read\n");
    let ran = scene.run("agent", &["--env-file", &file], "echo started; env").await;
    assert!(ran.code == Some(125) && ran.out.is_empty(), "{ran:?}");
    assert!(
        ran.err
            .contains("only a prim's program may have vendor keys in its environment [not_allowed]")
            && ran.err.contains("DEMO") | ran.err.contains("<VENDOR>_BASE_URL"),
        "{ran:?}"
    );
    assert!(
        scene.app.events("lease.resolved").await.is_empty(),
        "nothing was asked for"
    );
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_read_facts_get_them() {
    let scene = Scene::open().await;
    let ran = scene
        .run("agent", &["--json", "--env", "MY_KEY=demo.key"], "echo out")
        .await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "out\n"), "{ran:?}");
    let facts: Vec<serde_json::Value> = ran
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(facts[0]["object"], "run");
    assert_eq!(facts[0]["variables"][2], "MY_KEY");
    assert_eq!(facts[0]["revoked_at_end"], true);
    assert_eq!(facts[1]["outcomes"][0]["state"], "ended");
    assert_eq!(facts[1]["outcomes"][0]["target"]["id"], scene.bought.id);
    scene.app.stop().await;
}
