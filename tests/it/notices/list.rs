//! `GET /v1/events` as a list, and `dekeys events`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use dekeys::client::Client;
use serde_json::{Value, json};

use super::events;
use crate::support::{READ, TestApp, send, until};

/// Follows the pages to the end.
async fn pages(client: &Client, types: &str, limit: u32) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let request = events()
            .query("types", Some(types))
            .query("limit", Some(limit))
            .query("starting_after", after.as_ref());
        let page = send(client, request).await.good();
        all.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else {
            assert_eq!(page["has_more"], false);
            return all;
        };
        assert!(next.starts_with("/v1/events?types="), "{next}");
        after = Some(next.rsplit_once("starting_after=").unwrap().1.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_hold_every_event_once() {
    let app = TestApp::start().await;
    app.buy(json!({ "reference": READ })).await;
    let whole = pages(&app.operator(), "*", 100).await;
    assert!(whole.len() > 10);
    assert_eq!(pages(&app.operator(), "*", 3).await, whole);
    let numbers: Vec<i64> = whole.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, other| one == &(other + 1)), "{numbers:?}");
    let own = pages(&app.agent(), "*", 2).await;
    assert!(!own.is_empty() && own.len() < whole.len());
    let some = pages(&app.operator(), "grant.created,payment.*", 2).await;
    let kinds: Vec<&str> = some.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "grant.created");
    assert!(
        kinds
            .iter()
            .all(|kind| *kind == "grant.created" || kind.starts_with("payment.")),
        "{kinds:?}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_misspelt_is_said() {
    let app = TestApp::start().await;
    for (name, value, code) in [
        ("types", "lease.", "invalid_request"),
        ("types", "lease.*,,", "invalid_request"),
        ("since", "yesterday", "invalid_request"),
        ("limit", "0", "invalid_request"),
        ("starting_after", "grt_1", "invalid_request"),
        ("starting_after", "evt_01KAG4C1B2T5Q3V7X9Z0A1B2C3", "event_gone"),
        ("type", "lease.*", "unknown_parameter"),
    ] {
        let seen = send(&app.operator(), events().query(name, Some(value))).await;
        assert_eq!(seen.code(), code, "{name}={value}: {}", seen.json);
    }
    let future = send(&app.operator(), events().query("since", Some("2200-01-01T00:00:00Z"))).await;
    assert_eq!(future.good()["data"], json!([]));
    let past = send(&app.operator(), events().query("since", Some("1h"))).await;
    assert!(past.good()["data"].as_array().unwrap().len() > 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_prints_what_happens() {
    let app = TestApp::start().await;
    let key = app.stage.key_file("operator");
    let dekeys = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dekeys"));
        command
            .env_clear()
            .env("HOME", "/nonexistent")
            .args(["events", "--addr", &app.stage.server.url, "--key-file"])
            .arg(&key)
            .args(args)
            .stdin(Stdio::null());
        command
    };
    let listed = dekeys(&["--limit", "2", "--type", "policy.*,vault.*"])
        .output()
        .unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("policy.activated"), "{text}");

    let mut follower = dekeys(&["--follow", "--json", "--type", "principal.*", "--since", "1h"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let line = async || until("a line", async || told.try_recv().ok()).await;
    let event: Value = serde_json::from_str(&line().await).unwrap();
    assert!(event["type"].as_str().unwrap().starts_with("principal."), "{event}");
    app.enroll("newcomer", "agent").await;
    loop {
        let event: Value = serde_json::from_str(&line().await).unwrap();
        if event["data"]["name"] == "newcomer" {
            break;
        }
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    app.stop().await;
}
