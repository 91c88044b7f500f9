//! Whoever can write to the database still gets no key: each forgery is refused, and raised in the log.

use dekeys::base::random::{OsRandom, bytes};
use dekeys::client::{KeyFile, Request};
use dekeys::setup::stage::PRIM;
use dekeys::store::events::link;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::database::Intruder;
use crate::support::{Bought, READ, Seen, TestApp, new_key, pinned, priced, send, until};

async fn bought(app: &TestApp) -> Bought {
    app.buy(json!({ "reference": READ, "ttl": "10m" })).await
}

/// The log says that a row of this kind was forged.
async fn raised(app: &TestApp, what: &str) {
    until(&format!("the event about a forged {what}"), async || {
        let events = app.events("security.forged_row").await;
        let named = |event: &Value| event.pointer("/event/data/what").and_then(Value::as_str) == Some(what);
        events.iter().any(named).then_some(())
    })
    .await;
}

#[track_caller]
fn refused(seen: &Seen, status: u16, code: &str) {
    assert_eq!(seen.key(), None);
    assert!(seen.json.get("token").is_none());
    seen.is(status, code);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inserted_prim_is_a_stranger() {
    let app = TestApp::start().await;
    let bought = bought(&app).await;
    let mut intruder = Intruder::at(&app).await;
    // Its own row with the code of a true one, named so that the policy and the token fit.
    let evil = new_key();
    let keys = json!([evil.public()]);
    intruder
        .run(format!(
            "INSERT INTO principals SELECT 'pri_00000000000000000000000001', 'prim-evil', kind, '{keys}', wallets, \
             approver, disabled, created, mac FROM principals WHERE name = '{PRIM}'"
        ))
        .await;
    intruder
        .run(format!(
            "INSERT INTO principal_keys VALUES ('{}', 'pri_00000000000000000000000001')",
            evil.public()
        ))
        .await;
    let token = pinned(&bought.token, "prim-evil");
    refused(&app.resolve(&evil, &token, READ).await, 401, "invalid_token");
    raised(&app, "principal").await;

    // Its key in the place of the true prim's.
    let second = new_key();
    let keys = json!([second.public()]);
    intruder
        .run(format!(
            "UPDATE principals SET public_keys = '{keys}' WHERE name = '{PRIM}'"
        ))
        .await;
    intruder
        .run(format!(
            "INSERT INTO principal_keys SELECT '{}', id FROM principals WHERE name = '{PRIM}'",
            second.public()
        ))
        .await;
    let token = pinned(&bought.token, PRIM);
    refused(&app.resolve(&second, &token, READ).await, 401, "invalid_token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_points_to_a_true_prim_is_a_stranger() {
    let app = TestApp::start().await;
    let bought = bought(&app).await;
    let evil = new_key();
    Intruder::at(&app)
        .await
        .run(format!(
            "INSERT INTO principal_keys SELECT '{}', id FROM principals WHERE name = '{PRIM}'",
            evil.public()
        ))
        .await;
    let token = pinned(&bought.token, PRIM);
    refused(&app.resolve(&evil, &token, READ).await, 401, "invalid_token");
    raised(&app, "principal key").await;
    app.key_of(&bought).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_policy_is_not_in_force() {
    let app = TestApp::start().await;
    let bought = bought(&app).await;
    let altered = priced("demo-readers", "echo:read", &[PRIM], "0.000001");
    let mut intruder = Intruder::at(&app).await;
    intruder
        .run(format!("UPDATE policies SET body = '{}'", altered.replace('\'', "''")))
        .await;
    until("the change to be noticed", async || {
        let offers = send(&app.anyone(), Request::get(&["v1", "offers"])).await.good();
        offers["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    raised(&app, "policy").await;
    let asked = send(
        &app.anyone(),
        Request::post(&["v1", "grants"]).json(&json!({ "reference": READ })),
    )
    .await;
    refused(&asked, 403, "policy_not_approved");
    // Grants under it do not go on either.
    let seen = app
        .resolve(&app.stage.cast.prim, &pinned(&bought.token, PRIM), READ)
        .await;
    refused(&seen, 500, "integrity_failed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inserted_policy_is_not_in_force() {
    let app = TestApp::start().await;
    let own = priced("own", "echo:write", &[PRIM], "0.000001");
    Intruder::at(&app)
        .await
        .run(format!(
            "INSERT INTO policies SELECT 'own', 1, '{}', manifest, prim_keys, state, approval, activated, mac FROM \
             policies",
            own.replace('\'', "''")
        ))
        .await;
    let restarted = unsealed(app.restart().await).await;
    let offers = send(&restarted.anyone(), Request::get(&["v1", "offers"])).await.good();
    assert_eq!(offers["data"].as_array().unwrap().len(), 1, "{offers}");
    raised(&restarted, "policy").await;
    restarted.stop().await;
}

async fn unsealed(app: TestApp) -> TestApp {
    dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key())
        .await
        .unwrap();
    app
}

/// The key of another's grant, put where one's own is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_sealed_value_does_not_open() {
    let app = TestApp::start().await;
    let (victim, own) = (bought(&app).await, bought(&app).await);
    let key = app.key_of(&victim).await;
    let mut intruder = Intruder::at(&app).await;
    intruder
        .run(format!(
            "UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE grant_id = '{}') WHERE grant_id = \
             '{}'",
            victim.id, own.id
        ))
        .await;
    let prim = &app.stage.cast.prim;
    let seen = app.resolve(prim, &pinned(&own.token, PRIM), READ).await;
    refused(&seen, 500, "integrity_failed");
    assert!(!String::from_utf8_lossy(&seen.body).contains(&key));
    raised(&app, "sealed value").await;

    // The whole row, moved to one's own grant: held, as if made for it.
    let moved = bought(&app).await;
    intruder
        .run(format!("DELETE FROM credentials WHERE grant_id = '{}'", moved.id))
        .await;
    intruder
        .run(format!(
            "UPDATE credentials SET grant_id = '{}', prim = NULL, lease = NULL WHERE grant_id = '{}'",
            moved.id, victim.id
        ))
        .await;
    let seen = app.resolve(prim, &pinned(&moved.token, PRIM), READ).await;
    refused(&seen, 500, "integrity_failed");
    assert!(!String::from_utf8_lossy(&seen.body).contains(&key));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_grant_gives_no_token() {
    let app = TestApp::start().await;
    let mine = bought(&app).await;
    let mut intruder = Intruder::at(&app).await;
    // A grant of one's own making, held by one's own key.
    let evil = new_key();
    let id = "grt_00000000000000000000000001";
    intruder
        .run(format!(
            "INSERT INTO grants SELECT '{id}', principal, '{}', payer, items, audience, max_resolves, 0, state, \
             created, expires, reason, mac, asked, request FROM grants WHERE id = '{}'",
            evil.public(),
            mine.id
        ))
        .await;
    refused(&fresh(&app, &evil, id).await, 500, "integrity_failed");
    raised(&app, "grant").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_stolen_prolonged_or_raised_from_the_dead_gives_nothing() {
    let app = TestApp::start().await;
    let mut intruder = Intruder::at(&app).await;
    let evil = new_key();
    let agent = &app.stage.cast.agent;
    for change in [
        format!("holder = '{}'", evil.public()),
        "expires = expires + 86400000".to_owned(),
        "max_resolves = 2000000".to_owned(),
        "audience = '[]', reason = 'x'".to_owned(),
    ] {
        let grant = bought(&app).await;
        intruder
            .run(format!("UPDATE grants SET {change} WHERE id = '{}'", grant.id))
            .await;
        refused(&fresh(&app, &evil, &grant.id).await, 500, "integrity_failed");
        refused(&fresh(&app, agent, &grant.id).await, 500, "integrity_failed");
        let token = pinned(&grant.token, PRIM);
        let seen = app.resolve(&app.stage.cast.prim, &token, READ).await;
        refused(&seen, 401, "invalid_token");
    }
    let grant = bought(&app).await;
    let revoke = Request::post(&["v1", "grants", &grant.id, "revoke"]).json(&json!({}));
    send(&app.agent(), revoke).await.good();
    intruder
        .run(format!("UPDATE grants SET state = 'active' WHERE id = '{}'", grant.id))
        .await;
    refused(&fresh(&app, agent, &grant.id).await, 500, "integrity_failed");
    let token = pinned(&grant.token, PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &token, READ).await;
    refused(&seen, 401, "invalid_token");
    raised(&app, "grant").await;
    app.stop().await;
}

async fn fresh(app: &TestApp, key: &KeyFile, grant: &str) -> Seen {
    let request = Request::post(&["v1", "grants", grant, "tokens"]);
    send(&app.client(Some(key)), request).await
}

/// Lists show what is authentic, say how much they leave out, and go on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_row_is_left_out_of_lists_and_hides_nobody() {
    let app = TestApp::start().await;
    for name in ["one", "two", "three"] {
        app.enroll(name, "agent").await;
        let webhook = json!({ "url": format!("http://127.0.0.1:9/{name}"), "types": ["ping"] });
        send(&app.operator(), Request::post(&["v1", "webhooks"]).json(&webhook))
            .await
            .good();
        bought(&app).await;
    }
    let mut intruder = Intruder::at(&app).await;
    for (list, table, what) in [
        ("principals", "principals", "principal"),
        ("webhooks", "webhooks", "webhook"),
        ("grants", "grants", "grant"),
        ("approvals", "approvals", "approval"),
    ] {
        let before = entries(&app, &["v1", list], 100).await;
        assert_eq!(before["omitted"], Value::Null, "{before}");
        let newest = before["data"][0]["id"].as_str().unwrap().to_owned();
        let of = if list == "principals" || list == "webhooks" {
            "created"
        } else {
            "expires"
        };
        intruder
            .run(format!("UPDATE {table} SET {of} = {of} + 1 WHERE id = '{newest}'"))
            .await;
        let after = entries(&app, &["v1", list], 100).await;
        let good: Vec<&Value> = before["data"].as_array().unwrap().iter().skip(1).collect();
        let shown: Vec<&Value> = after["data"].as_array().unwrap().iter().collect();
        assert_eq!((shown, &after["omitted"]), (good, &json!(1)), "{list}");
        raised(&app, what).await;
        if list == "approvals" {
            continue;
        }
        // A page of one is a page of one all the same, and says that more follow.
        let first = entries(&app, &["v1", list], 1).await;
        assert_eq!(first["data"][0], after["data"][0], "{list}");
        assert_eq!(first["has_more"], true, "{list}");
    }
    app.stop().await;
}

/// A vendor whose manifest was changed is left out of vendors and offers; a policy that was changed, of policies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_manifest_or_policy_is_left_out_alone() {
    let app = TestApp::start().await;
    let before = entries(&app, &["v1", "vendors"], 0).await;
    let mut intruder = Intruder::at(&app).await;
    intruder
        .run("UPDATE manifests SET body = body || ' ' WHERE vendor = 'demo'".to_owned())
        .await;
    until("the change to be noticed", async || {
        let after = entries(&app, &["v1", "vendors"], 0).await;
        let count = |list: &Value| list["data"].as_array().unwrap().len();
        (after["omitted"] == 1 && count(&after) + 1 == count(&before)).then_some(())
    })
    .await;
    raised(&app, "manifest").await;
    let offers = send(&app.anyone(), Request::get(&["v1", "offers"])).await.good();
    assert_eq!(offers["data"], json!([]));
    let policies = entries(&app, &["v1", "policies"], 0).await;
    assert_eq!(
        (policies["data"].as_array().unwrap().len(), &policies["omitted"]),
        (1, &Value::Null)
    );
    intruder
        .run("UPDATE policies SET activated = activated + 1".to_owned())
        .await;
    let policies = entries(&app, &["v1", "policies"], 0).await;
    assert_eq!((&policies["data"], &policies["omitted"]), (&json!([]), &json!(1)));
    raised(&app, "policy").await;
    app.stop().await;
}

/// A list as the operator sees it; a limit of 0 asks for none.
async fn entries(app: &TestApp, path: &[&str], limit: i64) -> Value {
    let request = Request::get(path).query("limit", (limit > 0).then_some(limit));
    send(&app.operator(), request).await.good()
}

/// One forged row that is due must not keep the others from their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_row_does_not_keep_others_alive() {
    let app = TestApp::start().await;
    let forged = bought(&app).await;
    let honest = app.buy(json!({ "reference": READ, "ttl": "3s" })).await;
    Intruder::at(&app)
        .await
        .run(format!("UPDATE grants SET expires = 1 WHERE id = '{}'", forged.id))
        .await;
    until("the end of the honest grant", async || {
        let ended = app.events("grant.expired").await;
        ended
            .iter()
            .any(|event| event["event"]["object"] == honest.id)
            .then_some(())
    })
    .await;
    let count = app.events("security.forged_row").await.len();
    assert_eq!(count, 1, "raised again and again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_event_stops_all_releases() {
    let app = TestApp::start().await;
    let bought = bought(&app).await;
    Intruder::at(&app)
        .await
        .run("DELETE FROM events WHERE kind = 'grant.created'".to_owned())
        .await;
    found_out(&app, &bought).await;
    app.stop().await;
}

/// Nobody asks for a verification: the next numbering sees that the log ends before its head, or has lost a leaf.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_event_cannot_vanish_while_the_server_runs() {
    let app = TestApp::start().await;
    bought(&app).await;
    Intruder::at(&app)
        .await
        .run("DELETE FROM events WHERE n = (SELECT max(n) FROM events)".to_owned())
        .await;
    until("the server to stop releasing", async || {
        let ready = send(&app.anyone(), Request::get(&["readyz"])).await;
        (ready.status == 503).then_some(())
    })
    .await;
    app.stop().await;
}

/// The chain alone could be computed anew by anybody; the signed tree could not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_event_is_found_though_the_chain_was_made_anew() {
    let app = TestApp::start().await;
    let bought = bought(&app).await;
    until("the event to be numbered", async || {
        let events = app.events("grant.created").await;
        events.first()?.get("leaf")?.as_i64()
    })
    .await;
    // Nobody may write between reading and rewriting.
    let mut intruder = Intruder::at(&app).await;
    intruder.run("BEGIN IMMEDIATE".to_owned()).await;
    let rows = intruder.rows("SELECT n, body, kind FROM events ORDER BY n").await;
    let mut previous = [0u8; 32];
    for row in rows {
        let (n, body, kind): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
        let body = if kind == "grant.created" {
            body.replace("\"grant.created\"", "\"grant.creates\"")
        } else {
            body
        };
        let digest = link(&previous, n, &body);
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let (prev, made) = (hex(&previous), hex(&digest));
        let body = body.replace('\'', "''");
        intruder
            .run(format!(
                "UPDATE events SET body = '{body}', prev = x'{prev}', digest = x'{made}' WHERE n = {n}"
            ))
            .await;
        previous = digest;
    }
    let head = data_encoding::HEXLOWER.encode(&previous);
    intruder.run(format!("UPDATE chain SET digest = x'{head}'")).await;
    intruder.run("COMMIT".to_owned()).await;
    found_out(&app, &bought).await;
    app.stop().await;
}

/// Verification fails, says so in the log, and nothing is released or sold any more.
async fn found_out(app: &TestApp, bought: &Bought) {
    let verify = Request::post(&["v1", "audit", "verify"]);
    let found = send(&app.operator(), verify).await.good();
    assert_eq!(found["ok"], false, "{found}");
    assert!(!app.events("audit.verification_failed").await.is_empty());
    let token = pinned(&bought.token, PRIM);
    let seen = app.resolve(&app.stage.cast.prim, &token, READ).await;
    refused(&seen, 500, "integrity_failed");
    let ready = send(&app.anyone(), Request::get(&["readyz"])).await;
    assert_eq!(ready.status, 503, "{}", ready.json);
    let body = json!({ "reference": READ });
    let asked = send(&app.anyone(), Request::post(&["v1", "grants"]).json(&body)).await;
    refused(&asked, 500, "integrity_failed");
}

/// The last event cut off, and the head of the chain set back to fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_short_stays_sealed() {
    let app = numbered(TestApp::start().await).await.restart().await;
    let mut intruder = Intruder::at(&app).await;
    intruder
        .run("DELETE FROM events WHERE n = (SELECT max(n) FROM events)".to_owned())
        .await;
    intruder
        .run("UPDATE chain SET n = n - 1, digest = (SELECT digest FROM events ORDER BY n DESC LIMIT 1)".to_owned())
        .await;
    stays_sealed(&app).await;
    app.stop().await;
}

/// The whole database put back to an older state: what is known outside is ahead of it, and it does nothing before people
/// compared it with the vendors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_put_back_releases_nothing() {
    let app = numbered(TestApp::start().await).await.restart().await;
    let file = app.stage.data_dir.join("dekeys.db");
    let older = app.stage.data_dir.join("older.db");
    let mut intruder = Intruder::at(&app).await;
    intruder.run(format!("VACUUM INTO '{}'", older.display())).await;
    drop(intruder);
    let app = unsealed(app).await;
    bought(&app).await;
    let app = numbered(app).await;
    let app = app
        .restart_with(|| {
            for old in ["dekeys.db-wal", "dekeys.db-shm"] {
                let _gone = std::fs::remove_file(file.with_file_name(old));
            }
            std::fs::copy(&older, &file).unwrap();
            // Also where there is no mark that tells it, the copied checkpoint does.
            let mark = file.with_file_name("mark");
            let known = std::fs::read_to_string(&mark).unwrap();
            let mut json: Value = serde_json::from_str(&known).unwrap();
            (json["epoch"], json["head"]) = (json!(0), json!(0));
            std::fs::write(&mark, json.to_string()).unwrap();
        })
        .await;
    let app = unsealed(app).await;
    assert!(app.stage.server.app.is_reconciling());
    let body = json!({ "reference": READ });
    let asked = send(&app.anyone(), Request::post(&["v1", "grants"]).json(&body)).await;
    refused(&asked, 503, "reconciling");
    app.stop().await;
}

/// All events are under a checkpoint.
async fn numbered(app: TestApp) -> TestApp {
    until("the last checkpoint", async || {
        let status = send(&app.operator(), Request::get(&["v1", "sys", "status"]))
            .await
            .good();
        (status["events"] == status["leaves"]).then_some(())
    })
    .await;
    app
}

async fn stays_sealed(app: &TestApp) {
    let outcome = dekeys::service::unseal::unseal(&app.stage.server.app, app.unseal_key()).await;
    assert!(matches!(outcome, Err(dekeys::service::error::Error::LogBroken)));
    let seen = send(&app.anyone(), Request::get(&["v1", "offers"])).await;
    refused(&seen, 503, "vault_sealed");
}

/// A root credential that was swapped for another's, or redirected to another address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirected_root_credential_is_not_used() {
    let app = TestApp::start().await;
    Intruder::at(&app)
        .await
        .run("UPDATE roots SET base_url = 'http://127.0.0.1:9/'".to_owned())
        .await;
    let app = unsealed(app.restart().await).await;
    let calls = app.stage.vendor.calls().len();
    let wallet = crate::support::purse::Wallet::new();
    let body = json!({ "reference": READ });
    let header = wallet.sign(&app.quote(&body).await);
    let seen = app.pay(&app.anyone(), &body, &header).await;
    refused(&seen, 500, "integrity_failed");
    raised(&app, "root credential").await;
    assert_eq!(app.stage.vendor.calls().len(), calls);
    assert_eq!(app.rail().balance(&wallet.address()).unwrap(), 1_000_000);
    app.stop().await;
}

/// Random bytes in place of any code or sealed value never panic the server and never open anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_a_sealed_value_is_refused() {
    let app = TestApp::start().await;
    let mut intruder = Intruder::at(&app).await;
    for length in [0usize, 1, 40, 200] {
        let grant = bought(&app).await;
        let garbage = data_encoding::HEXLOWER.encode(&bytes::<200>(&OsRandom)[..length]);
        intruder
            .run(format!(
                "UPDATE credentials SET sealed = x'{garbage}' WHERE grant_id = '{}'",
                grant.id
            ))
            .await;
        let token = pinned(&grant.token, PRIM);
        let seen = app.resolve(&app.stage.cast.prim, &token, READ).await;
        assert_eq!((seen.status, seen.key()), (500, None), "{length}: {}", seen.json);
    }
    app.stop().await;
}
