//! Unsealing by shares, through HTTP: people bring them one after another, and nobody learns anything from a wrong one.

use std::sync::Arc;

use dekeys::base::random::OsRandom;
use dekeys::base::shares::{self, Share};
use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request};
use dekeys::setup::stage;
use serde_json::{Value, json};

use crate::support::{READ, Seen, TestApp, send};

fn admin(app: &TestApp, signed: bool) -> Client {
    let key = signed.then_some(&app.stage.cast.operator);
    stage::client(&app.stage.server.admin, key).unwrap()
}

async fn post(client: &Client, path: &[&str], body: &Value) -> Seen {
    send(client, Request::post(path).json(body)).await
}

fn texts(count: u8, threshold: u8) -> Vec<String> {
    let split = shares::split(&shares::fresh(&OsRandom), count, threshold, &OsRandom).unwrap();
    split.iter().map(|share: &Share| share.to_text().to_string()).collect()
}

async fn bring(app: &TestApp, share: &str) -> Seen {
    post(&admin(app, false), &["v1", "sys", "unseal"], &json!({ "share": share })).await
}

/// An instance whose unseal key was changed to shares.
async fn with_shares(shares: &[String]) -> TestApp {
    let app = TestApp::start().await;
    let operator = admin(&app, true);
    let body = json!({ "shares": shares[..3].join("\n") });
    post(&operator, &["v1", "sys", "rekey"], &body).await.good();
    // Other shares of the set confirm as well: any three are the key.
    let body = json!({ "shares": shares[2..].join("\n") });
    post(&operator, &["v1", "sys", "rekey", "confirm"], &body).await.good();
    app
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_three_of_five_open_the_vault_and_wrong_ones_are_all_alike() {
    let shares = texts(5, 3);
    let foreign = texts(5, 3);
    let app = with_shares(&shares).await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let key = app.key_of(&bought).await;
    let app = app.restart().await;
    let progress = |seen: &Seen| {
        (
            seen.json["progress"]["given"].clone(),
            seen.json["progress"]["threshold"].clone(),
        )
    };
    let first = bring(&app, &shares[4]).await;
    assert_eq!((first.status, progress(&first)), (200, (json!(1), json!(3))));
    // Twice the same, and one of another set.
    let twice = bring(&app, &shares[4]).await;
    let other = bring(&app, &foreign[0]).await;
    twice.is(400, "unseal_key_invalid");
    other.is(400, "unseal_key_invalid");
    assert_eq!(twice.json["title"], other.json["title"]);
    let detail = |seen: &Seen| seen.text("/detail").chars().take(60).collect::<String>();
    assert_eq!(detail(&twice), detail(&other));
    let second = bring(&app, &shares[0]).await;
    assert_eq!(progress(&second), (json!(2), json!(3)));
    let opened = bring(&app, &shares[2]).await.good();
    assert_eq!(opened["sealed"], json!(false));
    assert!(opened.get("progress").is_none());
    assert_eq!(app.key_of(&bought).await, key);
    // And back to a key file.
    let operator = admin(&app, true);
    let new = dekeys::client::secret::shown(&dekeys::vault::UnsealKey::generate_key_file(&OsRandom));
    let new = json!({ "key": new.trim() });
    post(&operator, &["v1", "sys", "rekey"], &new).await.good();
    post(&operator, &["v1", "sys", "rekey", "confirm"], &new).await.good();
    let app = app.restart().await;
    bring(&app, &shares[0]).await.is(400, "unseal_key_invalid");
    post(&admin(&app, false), &["v1", "sys", "unseal"], &new).await.good();
    assert_eq!(app.key_of(&bought).await, key);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_forgotten_after_ten_minutes_or_when_one_who_has_one_says_so() {
    let shares = texts(5, 3);
    let app = with_shares(&shares).await;
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = app.restart_by(Arc::clone(&clock)).await;
    bring(&app, &shares[0]).await.good();
    bring(&app, &shares[1]).await.good();
    clock.advance(Ttl::from_mins(11));
    let status = async || {
        send(&admin(&app, false), Request::get(&["v1", "sys", "seal-status"]))
            .await
            .good()
    };
    assert!(status().await.get("progress").is_none());
    let again = bring(&app, &shares[2]).await.good();
    assert_eq!(
        (&again["sealed"], &again["progress"]["given"]),
        (&json!(true), &json!(1))
    );
    let cancel = ["v1", "sys", "unseal", "cancel"];
    let stranger = json!({ "share": texts(5, 3)[0] });
    post(&admin(&app, false), &cancel, &stranger)
        .await
        .is(400, "unseal_key_invalid");
    assert_eq!(status().await["progress"]["given"], json!(1));
    post(&admin(&app, false), &cancel, &json!({ "share": shares[3] }))
        .await
        .good();
    assert!(status().await.get("progress").is_none());
    // A share that is well formed and false is seen only at the end, and then all are forgotten.
    let mut false_share = shares[1].clone();
    let split = shares::split(&shares::fresh(&OsRandom), 5, 3, &OsRandom).unwrap();
    false_share.clone_from(&split[1].to_text());
    bring(&app, &false_share).await.is(400, "unseal_key_invalid");
    for share in &shares[..3] {
        bring(&app, share).await.good();
    }
    app.stop().await;
}

/// Whoever lost the machine has the backup and the shares: no more is needed, and fewer are not enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_comes_back_by_shares() {
    let shares = texts(5, 3);
    let app = with_shares(&shares).await;
    let made = send(&app.operator(), Request::post(&["v1", "sys", "backups"]))
        .await
        .good();
    let file = app.stage.data_dir.join("backups").join(made["name"].as_str().unwrap());
    let dir = tempfile::tempdir().unwrap();
    for (number, share) in shares.iter().enumerate() {
        std::fs::write(dir.path().join(number.to_string()), share).unwrap();
    }
    let restored = async |places: &[usize]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dekeys"));
        command.args(["backup", "restore", "--json", "--data-dir"]);
        command.arg(dir.path().join("data")).arg(&file).env_clear();
        for place in places {
            command.arg("--share-file").arg(dir.path().join(place.to_string()));
        }
        let output = command.output().await.unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    for few in [&[0, 1][..], &[0, 1, 1]] {
        let (done, told) = restored(few).await;
        assert!(!done && told.contains("share"), "{told}");
    }
    let (done, told) = restored(&[4, 1, 2]).await;
    assert!(
        done && told.contains(&app.stage.server.app.instance.id.to_string()),
        "{told}"
    );
    app.stop().await;
}
