//! `--curl`: the line does what the command would, and tells no secret.

use super::stage::{Answer, Server, Stage, id};
use super::story::Scene;
use serde_json::{Value, json};

/// Runs a line of shell; what it prints.
fn shell(line: &str) -> String {
    let ran = std::process::Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8(ran.stdout).unwrap()
}

fn has_curl() -> bool {
    let found = std::process::Command::new("curl").arg("--version").output().is_ok();
    if !found {
        crate::skip::skipped("the line for curl: there is no curl here");
    }
    found
}

#[test]
fn nothing_is_sent_and_the_line_sends_the_same() {
    let server = Server::always(|| Answer::ok(&json!({ "id": id("lea", '3'), "state": "revoked", "confirmed": true })));
    let stage = Stage::new().at(&server);
    let line = format!("lease revoke {} --reason \"it's out; $HOME\"", id("lea", '3'));
    let shown = stage.run(&format!("{line} --curl"));
    assert_eq!(shown.exit, 0, "{shown:?}");
    assert_eq!(server.lines(), Vec::<String>::new());
    if !has_curl() {
        return;
    }
    shell(&shown.out);
    assert_eq!(stage.run(&format!("{line} --yes")).exit, 0);
    let seen = server.seen();
    assert_eq!((seen[0].line(), seen[0].json()), (seen[1].line(), seen[1].json()));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
}

#[test]
fn no_secret_is_shown() {
    let server = Server::always(|| Answer::ok(&json!({})));
    let stage = Stage::new().at(&server);
    let token = stage.file("token", "dkt_test_CANARY");
    let key = stage.file("unseal", "CANARYCANARY");
    let (signer, _) = stage.key("ops.key", 3);
    for line in [
        format!("grant ls --token-file {token}"),
        format!("unseal --unseal-key-file {key}"),
        format!("unseal --unseal-key-file {key} --key-file {signer}"),
        format!("resolve dk://demo/echo:read --token-file {token} --key-file {signer}"),
    ] {
        let ran = stage.run(&format!("{line} --curl"));
        assert!(ran.exit == 0 && ran.out.starts_with("curl "), "{line}: {ran:?}");
        assert!(
            !ran.out.contains("CANARY") && !ran.err.contains("CANARY"),
            "{line}: {ran:?}"
        );
    }
    let ran = stage.run(&format!("unseal --unseal-key-file {key} --key-file {signer} --curl"));
    assert!(
        !ran.out.contains("content-digest") && ran.out.contains("@body.json"),
        "{ran:?}"
    );
    let ran = stage.run(&format!("grant ls --token-file {token} --curl"));
    assert!(ran.out.contains(&format!("$(cat {token})")), "{ran:?}");
    assert_eq!(server.lines(), Vec::<String>::new());
}

#[test]
fn a_signed_line_works_once_at_the_real_server() {
    if !has_curl() {
        return;
    }
    let scene = Scene::open();
    let shown = scene.run_as("operator", "principal ls --curl");
    assert!(shown.err.contains("RFC 9421"), "{shown:?}");
    let listed: Value = serde_json::from_str(&shell(&shown.out)).unwrap();
    assert_eq!(listed["object"], "list", "{listed}");
    // The name is looked up; what would change something is only shown.
    let shown = scene.run_as("operator", "principal disable prim-echo --reason test --curl");
    let done = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let before = scene.run_as("operator", "principal show prim-echo").out;
    assert!(!before.contains("disabled"), "{before}");
    assert_eq!(done(&shell(&shown.out))["name"], "prim-echo");
    assert_eq!(done(&shell(&shown.out))["code"], "invalid_token", "a nonce counts once");
}

#[test]
fn a_command_without_a_request_says_so() {
    for line in ["key new x.key", "config show", "openapi", "man"] {
        let ran = Stage::new().run(&format!("{line} --curl"));
        assert!(ran.exit == 2 && ran.err.contains("sends no request"), "{line}: {ran:?}");
    }
}
