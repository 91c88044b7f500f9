//! `dekeys doctor`, and `/readyz` by the same names.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::stage::{Answer, Server, Stage};
use super::story::Scene;

fn report(stage: &Stage, line: &str) -> (u8, Value) {
    let ran = stage.run(&format!("doctor --json {line}"));
    (
        ran.exit,
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}")),
    )
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or(&Value::Null)
}

fn data(scene: &Scene) -> String {
    format!("--data-dir {}", scene.stage.path("data").display())
}

#[test]
fn a_sound_instance_gets_no_failure_and_names_what_was_looked_at() {
    let scene = Scene::open();
    let key = scene.instance.as_ref().unwrap().key_file("operator");
    let (exit, report) = report(&scene.stage, &format!("{} --key-file {}", data(&scene), key.display()));
    assert_eq!(
        (exit, &report["ok"], &report["failures"]),
        (0, &json!(true), &json!(0)),
        "{report}"
    );
    let names: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    for name in [
        "binary",
        "config",
        "port",
        "clock",
        "database",
        "migrations",
        "vault",
        "vendor",
        "facilitator",
        "audit",
        "revocation",
        "orphans",
        "payments",
        "data",
        "disk",
        "file",
        "sign-in",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let pid = std::process::id().to_string();
    assert!(
        check(&report, "port")["detail"]
            .as_str()
            .unwrap()
            .ends_with(&format!("pid {pid}")),
        "{report}"
    );
    assert_eq!(check(&report, "sign-in")["detail"], "operator, operator");
}

#[test]
fn readyz_has_the_same_names_and_strangers_learn_no_more_than_before() {
    let scene = Scene::open();
    let admin: Value = serde_json::from_str(&scene.stage.run("api /readyz --admin").out).unwrap();
    let public: Value = serde_json::from_str(&scene.stage.run("api /readyz").out).unwrap();
    let names = |told: &Value| -> Vec<String> {
        told["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| check["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        names(&public).iter().all(|name| names(&admin).contains(name)),
        "{public} {admin}"
    );
    let expected = json!({ "ready": true, "checks": [
        { "name": "database", "ok": true, "detail": "answers" },
        { "name": "vault", "ok": true, "detail": "unsealed" },
        { "name": "audit", "ok": true, "detail": "no damage seen" },
        { "name": "clock", "ok": true, "detail": "runs forward" },
        { "name": "history", "ok": true, "detail": "goes on" },
    ] });
    assert_eq!(public, expected);
    assert!(
        admin["process"]["pid"].is_u64() && admin["checks"][0]["level"] == "ok",
        "{admin}"
    );
    let (_, report) = report(&scene.stage, &data(&scene));
    for name in names(&admin) {
        assert!(check(&report, &name).is_object(), "{name}: {report}");
    }
}

#[test]
fn a_sealed_vault_is_a_failure_with_its_reason() {
    let scene = Scene::open();
    scene.run_as("operator", "seal --yes --reason 'kernel update'");
    let (exit, report) = report(&scene.stage, &data(&scene));
    assert_eq!(exit, 1, "{report}");
    let vault = check(&report, "vault");
    assert_eq!(
        (&vault["level"], &vault["fix"]),
        (&json!("fail"), &json!("dekeys unseal"))
    );
    assert!(
        vault["detail"]
            .as_str()
            .unwrap()
            .ends_with("by operator: \"kernel update\""),
        "{vault}"
    );
    let public = scene.stage.run("api /readyz");
    assert!(
        !public.out.contains("kernel") && !public.err.contains("kernel"),
        "{public:?}"
    );
}

#[test]
fn a_server_that_is_not_there_is_told_with_what_can_be_seen_without_it() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let stage = Stage::new();
    let file = stage.file(
        "dekeys.toml",
        &format!("listen = \"{free}\"\ndata_dir = \"{}\"\n", stage.path("data").display()),
    );
    let (exit, report) = report(&stage, &format!("--config {file}"));
    assert_eq!(exit, 1);
    assert_eq!(
        check(&report, "port")["detail"],
        format!("nothing answers at http://{free}")
    );
    assert_eq!(check(&report, "database")["fix"], "dekeys init");
    assert_eq!(check(&report, "config")["detail"], file);
}

#[test]
fn another_program_at_the_address_is_not_taken_for_dekeys() {
    let server = Server::always(|| Answer::ok(&json!({ "hello": "world" })));
    let (exit, report) = report(&Stage::new().at(&server), "--data-dir /nonexistent");
    assert_eq!(
        (exit, &check(&report, "port")["level"]),
        (1, &json!("fail")),
        "{report}"
    );
}

#[test]
fn a_configuration_with_mistakes_is_told_line_by_line() {
    let stage = Stage::new();
    let file = stage.file("dekeys.toml", "listne = \"x\"\nlisten = \"y\"\n");
    let ran = stage.run(&format!("doctor --config {file}"));
    assert_eq!(ran.exit, 1, "{ran:?}");
    let lines: Vec<&str> = ran
        .out
        .lines()
        .filter(|line| line.starts_with("config\tFAIL\t"))
        .collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(
        lines.iter().any(|line| line.contains("did you mean `listen`?")),
        "{ran:?}"
    );
}

#[test]
fn what_can_be_repaired_is_repaired_only_when_asked() {
    let scene = Scene::open();
    let key = scene.instance.as_ref().unwrap().key_file("operator");
    let folder = scene.stage.path("data");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let line = format!("{} --key-file {}", data(&scene), key.display());
    let (exit, before) = report(&scene.stage, &line);
    assert_eq!(
        (
            exit,
            &check(&before, "file")["level"],
            &check(&before, "data")["fixable"]
        ),
        (0, &json!("warn"), &json!(true))
    );
    assert_eq!(mode(&key), 0o644, "looking changes nothing");
    let (exit, after) = report(&scene.stage, &format!("{line} --fix"));
    assert_eq!(
        (exit, &check(&after, "file")["level"], &after["repaired"]),
        (0, &json!("ok"), &json!(["data", "file"]))
    );
    assert_eq!((mode(&key), mode(&folder)), (0o600, 0o700));
}

#[test]
fn a_login_that_is_over_is_forgotten_by_fix() {
    let scene = Scene::open();
    scene.run_as("operator", "login");
    scene.run_as("operator", "seal --yes");
    let unseal = scene.stage.path("data/unseal-key");
    assert_eq!(
        scene
            .stage
            .run(&format!("unseal --unseal-key-file {}", unseal.display()))
            .exit,
        0
    );
    let (_, before) = report(&scene.stage, &data(&scene));
    assert_eq!(check(&before, "sign-in")["fixable"], true, "{before}");
    let (_, after) = report(&scene.stage, &format!("{} --fix", data(&scene)));
    assert_eq!(check(&after, "sign-in"), &Value::Null, "{after}");
}

#[test]
fn people_get_aligned_lines_and_a_sum() {
    let scene = Scene::open();
    let mut stage = Stage::at_terminal("");
    stage.live = true;
    stage.env.extend(
        scene
            .stage
            .env
            .iter()
            .filter(|(name, _)| name.starts_with("DEKEYS"))
            .cloned(),
    );
    let ran = stage.run(&format!("doctor {}", data(&scene)));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], format!(" ok    binary        {}", env!("CARGO_PKG_VERSION")));
    assert!(
        ran.err.ends_with("warning.\n") || ran.err.ends_with("warnings.\n") || ran.err == "all is well.\n",
        "{ran:?}"
    );
}

#[test]
fn status_shows_an_operator_the_instance_at_a_glance() {
    let scene = Scene::open();
    let mut stage = Stage::at_terminal("");
    stage.live = true;
    stage.env.extend(
        scene
            .stage
            .env
            .iter()
            .filter(|(name, _)| name.starts_with("DEKEYS"))
            .cloned(),
    );
    let key = scene.instance.as_ref().unwrap().key_file("operator");
    let ran = stage.run(&format!("status --key-file {}", key.display()));
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(
        ran.out
            .starts_with(&format!("dekeys {} at http://127.0.0.1:", env!("CARGO_PKG_VERSION"))),
        "{ran:?}"
    );
    for name in ["vault", "database", "grants", "leases", "approvals", "audit"] {
        assert!(ran.out.contains(&format!("\n  {name:<11} ")), "{name}: {ran:?}");
    }
}
