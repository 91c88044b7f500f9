//! What operators do, against the real server: sign in and out, go back to an earlier policy, search and export the log.

use serde_json::Value;

use super::story::Scene;

#[test]
fn a_login_ends_here_and_at_the_server() {
    let scene = Scene::open();
    scene.run_as("operator", "login");
    let kept = scene.stage.run("config show --data-dir /nonexistent");
    assert_eq!(kept.exit, 0);
    let folder = scene.stage.path("home/.config/dekeys");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let copy = scene.stage.file("copy", &std::fs::read_to_string(&file).unwrap());
    assert_eq!(scene.stage.run(&format!("whoami --token-file {copy}")).exit, 0);
    let ran = scene.stage.run("logout");
    assert_eq!((ran.exit, ran.err.as_str()), (0, "signed out\n"));
    assert!(!file.exists());
    assert_eq!(
        scene.stage.run(&format!("whoami --token-file {copy}")).exit,
        4,
        "a copy is worth nothing"
    );
    let ran = scene.stage.run("logout");
    assert_eq!((ran.exit, ran.err.as_str()), (0, "there is no login to end\n"));
    let ended = scene.run_as("operator", "audit search --type session.closed");
    assert_eq!(ended.out.lines().count(), 1, "{ended:?}");
}

#[test]
fn a_signed_request_ends_no_session() {
    let scene = Scene::open();
    let ran = scene.try_as("operator", "api /v1/sessions/close -X POST");
    assert!(ran.exit == 9 && ran.err.contains("proved by a login token"), "{ran:?}");
}

#[test]
fn an_earlier_policy_comes_back_by_the_same_approval() {
    let scene = Scene::open();
    let text = scene.run_as("operator", "policy show demo-readers --text").out;
    let wide = scene
        .stage
        .file("p.toml", &text.replace("max_ttl = \"15m\"", "max_ttl = \"1h\""));
    let approve = || {
        let id = scene.first("ada", "approval ls --state pending");
        let shown = scene.run_as("ada", &format!("approval show {id}")).out;
        let digest = shown
            .lines()
            .find_map(|line| line.strip_prefix("digest\t"))
            .unwrap()
            .to_owned();
        for who in ["ada", "grace"] {
            scene.run_as(who, &format!("approval approve {id} --digest {digest} -c fine"));
        }
    };
    scene.run_as("operator", &format!("policy apply {wide}"));
    approve();
    let ran = scene.run_as("operator", "policy history demo-readers");
    let versions: Vec<&str> = ran.out.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(versions, ["2", "1"], "{ran:?}");
    let ran = scene.run_as("operator", "policy rollback demo-readers --to 1");
    assert!(ran.out.starts_with("grant.max_ttl 1h -> 15m"), "{ran:?}");
    approve();
    assert_eq!(scene.run_as("operator", "policy show demo-readers --text").out, text);
    assert!(
        scene
            .run_as("operator", "policy ls")
            .out
            .starts_with("demo-readers\t3\t")
    );
    assert_eq!(scene.try_as("operator", "policy rollback demo-readers --to 9").exit, 3);
}

#[test]
fn the_log_is_exported_from_its_beginning_and_goes_on_where_it_ended() {
    let scene = Scene::open();
    let export = |after: i64| {
        let ran = scene.run_as("operator", &format!("audit export --after {after}"));
        let events: Vec<Value> = ran
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        events
            .iter()
            .map(|event| event["sequence"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let first = export(0);
    let count = i64::try_from(first.len()).unwrap();
    assert_eq!(first, (1..=count).collect::<Vec<_>>());
    // More than a page of them.
    for n in 0..6 {
        let (_, public) = scene.stage.key(&format!("{n}.key"), 100 + n);
        scene.run_as(
            "operator",
            &format!("principal create crawler-{n} --kind agent --public-key {public}"),
        );
    }
    let rest = export(count);
    // What dekeys does by itself meanwhile is on record, too.
    let more = i64::try_from(rest.len()).unwrap();
    assert!(more >= 6);
    assert_eq!(rest, (count + 1..=count + more).collect::<Vec<_>>());
    assert!(export(0).len() >= first.len() + rest.len());
}

#[test]
fn the_log_is_searched_by_word_kind_and_age() {
    let scene = Scene::open();
    let lines = |line: &str| scene.run_as("operator", line).out.lines().count();
    assert!(lines("audit search prim-echo") >= 1);
    assert_eq!(lines("audit search no-such-word"), 0);
    assert_eq!(lines("audit search --type principal.created --limit 1"), 1);
    assert!(lines("audit search --since 1h --limit 100") > 5);
    let ran = scene.run_as("operator", "audit search --type policy. --json");
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(
        found["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["event"]["type"].as_str().unwrap().starts_with("policy."))
    );
}
