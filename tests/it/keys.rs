//! dekeys' own keys in motion, through HTTP: nobody who reads notices a rotation, and no unseal key is lost by a rekey.

use dekeys::base::random::OsRandom;
use dekeys::client::receipt::{verify, verify_by_keys};
use dekeys::client::{Client, Request, secret};
use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, PRIM};
use dekeys::vault::UnsealKey;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::database::Intruder;
use crate::support::{READ, Seen, TestApp, any_port, pinned, priced, resolve, send, until};

fn admin(app: &TestApp) -> Client {
    stage::client(&app.stage.server.admin, Some(&app.stage.cast.operator)).unwrap()
}

async fn post(client: &Client, path: &[&str], body: &Value) -> Seen {
    send(client, Request::post(path).json(body)).await
}

async fn rotate(client: &Client, kind: &str) -> Value {
    post(client, &["v1", "sys", "keys", "rotate"], &json!({ "kind": kind }))
        .await
        .good()
}

async fn key_status(client: &Client) -> Value {
    send(client, Request::get(&["v1", "sys", "keys"])).await.good()
}

async fn resealed(client: &Client) -> Value {
    until("everything to be sealed anew", async || {
        let status = key_status(client).await;
        (status["to_reseal"] == 0).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_encryption_key_seals_and_the_old_one_opens_until_all_is_sealed_anew() {
    let app = TestApp::start().await;
    let (before, operator) = (app.buy(json!({ "reference": READ })).await, admin(&app));
    let key = app.key_of(&before).await;
    let old = prefixes(&app).await;
    assert_eq!(old.len(), 1, "one key seals all");

    let rotated = rotate(&operator, "kek").await;
    assert_eq!(
        (&rotated["kek_version"], &rotated["rekeying"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(app.key_of(&before).await, key, "the same key, by the old one");
    let after = app.buy(json!({ "reference": READ })).await;
    let newer = app.key_of(&after).await;

    let status = resealed(&operator).await;
    assert!(status["kek_wraps"].as_i64().unwrap() >= 4, "{status}");
    let new = prefixes(&app).await;
    assert!(new.len() == 1 && new != old, "all are under the new key");
    assert_eq!(app.key_of(&before).await, key);
    assert_eq!(app.key_of(&after).await, newer);
    let event = app.events("key.rotated").await;
    assert_eq!(
        (
            &event[0]["event"]["data"]["kind"],
            &event[0]["event"]["data"]["version"]
        ),
        (&json!("kek"), &json!(2))
    );

    let app = app.restart().await;
    stage_unseal(&app, &secret_of(&app)).await.good();
    assert_eq!(app.key_of(&before).await, key, "also for the next process");
    app.stop().await;
}

/// How sealed values begin: format and key.
async fn prefixes(app: &TestApp) -> Vec<String> {
    let sql = "SELECT DISTINCT hex(substr(sealed, 1, 9)) AS p FROM (SELECT sealed FROM credentials \
               WHERE sealed IS NOT NULL UNION ALL SELECT sealed FROM roots UNION ALL SELECT sealed FROM signing_keys)";
    let rows = Intruder::at(app).await.rows(sql).await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_the_key_before_go_on_and_the_next_key_was_published_before_it_signs() {
    let app = TestApp::start().await;
    let before = app.buy(json!({ "reference": READ })).await;
    let ids = |keys: &Value| -> Vec<i64> {
        let roots = keys["token_roots"].as_array().unwrap();
        roots.iter().map(|root| root["id"].as_i64().unwrap()).collect()
    };
    let published = send(&app.anyone(), Request::get(&["v1", "keys"])).await.good();
    assert_eq!(ids(&published), [1, 2]);

    let rotated = rotate(&admin(&app), "token").await;
    let states: Vec<_> = rotated["signing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (&key["kind"], &key["state"]))
        .collect();
    let (token, log) = (json!("token"), json!("log"));
    let words = [json!("retired"), json!("signing"), json!("next")];
    assert_eq!(
        states,
        [
            (&token, &words[0]),
            (&token, &words[1]),
            (&token, &words[2]),
            (&log, &words[1])
        ]
    );
    let published = send(&app.anyone(), Request::get(&["v1", "keys"])).await.good();
    assert_eq!(ids(&published), [2, 1, 3], "who signs stands first");
    app.key_of(&before).await;
    let after = app.buy(json!({ "reference": READ })).await;
    app.key_of(&after).await;
    assert_eq!(root_id(&before.token), 1);
    assert_eq!(root_id(&after.token), 2);
    app.stop().await;
}

/// The id of the key that signed a token.
fn root_id(token: &dekeys::base::secret::SecretText) -> u32 {
    let text = secret::shown(token);
    let biscuit = biscuit_auth::UnverifiedBiscuit::from_base64(text.trim_start_matches("dkt_test_")).unwrap();
    biscuit.root_key_id().unwrap()
}

async fn stage_unseal(app: &TestApp, key: &str) -> Seen {
    let admin = stage::client(&app.stage.server.admin, None).unwrap();
    post(&admin, &["v1", "sys", "unseal"], &json!({ "key": key })).await
}

fn secret_of(app: &TestApp) -> String {
    let text = secret::read_file(&app.stage.data_dir.join("unseal-key")).unwrap();
    secret::shown(&text).trim().to_owned()
}

fn new_unseal_key() -> String {
    secret::shown(&UnsealKey::generate_key_file(&OsRandom))
        .trim()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_unseal_key_counts_alone_only_once_it_was_shown_to_be_readable() {
    let app = TestApp::start().await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let key = app.key_of(&bought).await;
    let (old, new, wrong) = (secret_of(&app), new_unseal_key(), new_unseal_key());
    let operator = admin(&app);
    let confirm = ["v1", "sys", "rekey", "confirm"];
    post(&operator, &confirm, &json!({ "key": new }))
        .await
        .is(409, "conflict");
    let begun = post(&operator, &["v1", "sys", "rekey"], &json!({ "key": new }))
        .await
        .good();
    assert_eq!(begun["rekeying"], json!(true));
    post(&operator, &confirm, &json!({ "key": wrong }))
        .await
        .is(400, "unseal_key_invalid");

    // Both open it, the third does not; a crash in between locks nobody out.
    let mut app = app;
    for (key, opens) in [(&wrong, false), (&new, true), (&old, true)] {
        app = app.restart().await;
        assert_eq!(stage_unseal(&app, key).await.status == 200, opens);
    }
    let operator = admin(&app);
    let confirmed = post(&operator, &confirm, &json!({ "key": new })).await.good();
    assert_eq!(confirmed["rekeying"], json!(false));
    assert_eq!(app.key_of(&bought).await, key, "nothing was sealed or lost by it");
    app = app.restart().await;
    stage_unseal(&app, &old).await.is(400, "unseal_key_invalid");
    stage_unseal(&app, &new).await.good();
    assert_eq!(app.key_of(&bought).await, key);
    for what in ["key.rekey_begun", "key.rekeyed"] {
        assert_eq!(app.events(what).await.len(), 1, "{what}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_unseal_key_can_be_given_up_and_only_operators_do_any_of_it() {
    let app = TestApp::start().await;
    let (old, new, operator) = (secret_of(&app), new_unseal_key(), admin(&app));
    let cancel = ["v1", "sys", "rekey", "cancel"];
    post(&operator, &cancel, &json!({})).await.is(409, "conflict");
    post(&operator, &["v1", "sys", "rekey"], &json!({ "key": new }))
        .await
        .good();
    let agent = stage::client(&app.stage.server.admin, Some(&app.stage.cast.agent)).unwrap();
    for path in [&["v1", "sys", "rekey"][..], &["v1", "sys", "rekey", "confirm"], &cancel] {
        let body = if path == cancel {
            json!({})
        } else {
            json!({ "key": new })
        };
        assert_eq!(post(&agent, path, &body).await.status, 401);
    }
    let seen = post(&agent, &["v1", "sys", "keys", "rotate"], &json!({ "kind": "kek" })).await;
    assert_eq!(seen.status, 401);
    assert_eq!(
        post(&operator, &cancel, &json!({})).await.good()["rekeying"],
        json!(false)
    );
    let app = app.restart().await;
    stage_unseal(&app, &new).await.is(400, "unseal_key_invalid");
    stage_unseal(&app, &old).await.good();
    app.stop().await;
}

/// Whoever can write to the database puts an old keyring back: nothing is sealed with it, and it is raised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyring_that_was_rolled_back_is_raised_and_not_used() {
    let app = TestApp::start().await;
    let operator = admin(&app);
    let mut intruder = Intruder::at(&app).await;
    let before: String = intruder.rows("SELECT body FROM keyring").await[0].get(0);
    rotate(&operator, "kek").await;
    let current = resealed(&operator).await;
    intruder.run(format!("UPDATE keyring SET body = '{before}'")).await;
    until("the alarm", async || {
        let raised = app.events("security.forged_row").await;
        raised
            .iter()
            .any(|event| event["event"]["data"]["what"] == "keyring")
            .then_some(())
    })
    .await;
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    let after = prefixes(&app).await;
    assert_eq!(after.len(), 1, "{current}");
    app.stop().await;
}

/// Two instances on one PostgreSQL: what one seals with a new key, the other opens at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_instance_takes_a_new_key_over_when_it_meets_it() {
    let Some(database) = crate::store::Database::create().await else {
        return;
    };
    let url = database.url();
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url.clone_from(&url)).await;
    let mut other = app.config.clone();
    other.listen = any_port();
    let second = Server::start(&other).await.unwrap();
    dekeys::service::unseal::unseal(&second.app, app.unseal_key())
        .await
        .unwrap();

    rotate(&admin(&app), "kek").await;
    rotate(&admin(&app), "token").await;
    let bought = app.buy(json!({ "reference": READ })).await;
    let key = app.key_of(&bought).await;
    let prim = stage::client(&second.url, Some(&app.stage.cast.prim)).unwrap();
    let seen = resolve(&prim, &pinned(&bought.token, PRIM), READ).await;
    assert_eq!(seen.key(), Some(key), "{}", seen.json);
    second.stop().await;
    app.stop().await;
}

/// What was promised under the key before is proved by it for ever, also where the proof came after the change; what is
/// promised now is proved by the new one; and who knew the old key is led to the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_of_the_log_key_before_stay_good_and_the_new_one_is_named_by_it() {
    let app = TestApp::start().await;
    let receipt_of = async |app: &TestApp, bought: &crate::support::Bought| {
        let id = bought.json["receipt"].as_str().unwrap().to_owned();
        until("the receipt's proof", async || {
            let seen = send(&app.anyone(), Request::get(&["v1", "receipts", &id])).await;
            (seen.json["inclusion"] != Value::Null).then(|| String::from_utf8(seen.body).unwrap())
        })
        .await
    };
    let keys_of = async |app: &TestApp| {
        let body = send(&app.anyone(), Request::get(&["v1", "keys"])).await.body;
        dekeys::client::Keys::parse(&body).unwrap()
    };
    let first = app.buy(json!({ "reference": READ })).await;
    let proved_before = receipt_of(&app, &first).await;
    let old = keys_of(&app).await;
    let second = app.buy(json!({ "reference": READ })).await;
    rotate(&admin(&app), "log").await;
    let third = app.buy(json!({ "reference": READ })).await;
    let new = keys_of(&app).await;
    assert_ne!(old.log, new.log);
    assert_eq!((old.logs.len(), new.logs.len()), (1, 2));
    assert!(dekeys::audit::leads(&new.logs, &old.log, &new.log));
    let (proved_after, proved_new) = (receipt_of(&app, &second).await, receipt_of(&app, &third).await);
    for receipt in [&proved_before, &proved_after] {
        verify(receipt, &old.log).unwrap();
        verify_by_keys(receipt, &new).unwrap();
        assert!(verify(receipt, &new.log).is_err());
    }
    verify(&proved_new, &new.log).unwrap();
    verify_by_keys(&proved_new, &new).unwrap();
    assert!(verify_by_keys(&proved_new, &old).is_err());
    // A key counts for its own time only.
    let mut early = new.clone();
    early.logs[1].from = early.logs[1].from.plus(dekeys::base::time::Ttl::from_mins(5));
    assert!(verify_by_keys(&proved_new, &early).is_err());

    // For a while each checkpoint is signed by both, and the feed by the one that was published before.
    let latest = send(&app.anyone(), Request::get(&["v1", "audit", "checkpoints", "latest"]))
        .await
        .good();
    for public in [&old.log, &new.log] {
        dekeys::audit::open_checkpoint(latest["note"].as_str().unwrap(), public).unwrap();
    }
    let jwks = send(&app.anyone(), Request::get(&[".well-known", "jwks.json"]))
        .await
        .good();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    let app = app.restart().await;
    stage_unseal(&app, &secret_of(&app)).await.good();
    let again = receipt_of(&app, &second).await;
    verify(&again, &old.log).unwrap();
    assert_eq!(keys_of(&app).await, new);
    app.stop().await;
}

/// A verifier that was there before goes on after the change, without asking anybody whom to believe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_follows_the_log_to_its_new_key() {
    let app = TestApp::start().await;
    let parse = |seen: Seen| dekeys::client::Keys::parse(&seen.body).unwrap();
    let keys = async || parse(send(&app.anyone(), Request::get(&["v1", "keys"])).await);
    let verifier = dekeys::client::Verifier::new(keys().await);
    let read = async || {
        let (after, _) = verifier.place();
        let request = Request::get(&["v1", "revocations"]).query("after", Some(after));
        let reply = app.prim().send(&request).await.unwrap();
        verifier.take(
            &reply.body,
            reply
                .header(dekeys::model::revocation::STATEMENT_HEADER)
                .unwrap_or_default(),
        )
    };
    read().await.unwrap();
    rotate(&admin(&app), "log").await;
    read().await.unwrap();
    let mut forged = keys().await;
    forged.logs[1].endorsed = forged.logs[1]
        .endorsed
        .as_ref()
        .map(|text| text.chars().rev().collect());
    verifier.renew_keys(forged);
    verifier.renew_keys(keys().await);
    read().await.unwrap();
    app.stop().await;
}
