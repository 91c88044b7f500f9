//! Keys at a vendor that nobody accounts for: those of an intent on record here are ended, the others told to people.

use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::Request;
use dekeys::config::Config;
use dekeys::mock::Fault;
use dekeys::service::unseal;
use dekeys::setup::server::Server;
use dekeys::setup::stage::PRIM;
use serde_json::{Value, json};

use crate::store::Database;
use crate::support::database::Intruder;
use crate::support::metrics::scrape;
use crate::support::{READ, TestApp, any_port, client_at, priced, send, until};

macro_rules! on_each {
    ($($test:ident)*) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let app = super::started(|_| {}).await;
                    super::$test(&app).await;
                    app.stop().await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(database) = super::Database::create().await else { return };
                    let app = super::started(|config| config.database_url = database.url()).await;
                    super::$test(&app).await;
                    app.stop().await;
                    database.drop().await;
                }
            )*
        }
    };
}

on_each! {
    a_key_that_nothing_here_meant_to_make_is_reported_and_left
    people_decide_about_what_was_reported
    a_second_key_of_one_intent_is_ended_and_the_first_lives_on
    a_key_that_a_list_hid_for_a_while_is_ended_when_it_shows_again
}

/// An instance that compares its vendor's list every second.
async fn started(change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with(&priced("demo-readers", "echo:read", &[PRIM], "0.01"), |config| {
        config.reap_interval = Ttl::from_secs(1);
        change(config);
    })
    .await
}

async fn orphans(app: &TestApp, state: Option<&str>) -> Vec<Value> {
    let request = Request::get(&["v1", "orphans"]).query("state", state);
    let list = send(&app.operator(), request).await.good();
    list["data"].as_array().unwrap().clone()
}

async fn credentials(app: &TestApp) -> Vec<Value> {
    let list = send(&app.operator(), Request::get(&["v1", "credentials"])).await.good();
    list["data"].as_array().unwrap().clone()
}

/// A name as another copy of this instance would give: its first letters tell the instance.
async fn foreign_name(app: &TestApp) -> String {
    app.buy(json!({ "reference": READ })).await;
    let own = credentials(app).await[0]["vendor_name"].as_str().unwrap().to_owned();
    let (instance, _) = own.split_at(12);
    format!("{instance}aaaaaaaaaaaaaaaaaaaaaaaaaa-1")
}

fn revocations(app: &TestApp) -> usize {
    let calls = app.stage.vendor.calls();
    calls.iter().filter(|call| call.op == "revoke").count()
}

async fn reported(app: &TestApp, number: usize) -> Vec<Value> {
    until("the orphans", async || {
        let found = orphans(app, Some("reported")).await;
        (found.len() == number).then_some(found)
    })
    .await
}

async fn a_key_that_nothing_here_meant_to_make_is_reported_and_left(app: &TestApp) {
    let name = foreign_name(app).await;
    let theirs = app.stage.vendor.plant(&name);
    app.stage.vendor.plant("dk-otherone-aaaaaaaaaaaaaaaaaaaaaaaaaa-1");
    app.stage.vendor.plant("a colleague's key");
    let found = reported(app, 1).await;
    assert_eq!(found[0]["vendor_key_id"], json!(theirs.id));
    assert_eq!(found[0]["reason"], json!("unknown_name"));
    assert_eq!(found[0]["credential"], Value::Null);
    let told = scrape(app).await;
    assert_eq!(
        told.get(r#"dekeys_orphans{vendor="demo",state="reported"}"#),
        Some(1.0),
        "{}",
        told.text
    );
    let shown = send(&app.operator(), Request::get(&["v1", "vendors", "demo"]))
        .await
        .good();
    assert_eq!(shown["keys"]["orphans"], json!(1), "{shown}");
    assert_eq!(shown["keys"]["breaker"]["state"], json!("closed"));
    // It is told once, and looked at again and again without being touched.
    until("two more comparisons", async || {
        (app.events("vendor.listed").await.len() >= 5).then_some(())
    })
    .await;
    assert_eq!(app.events("credential.orphan_found").await.len(), 1);
    assert_eq!((revocations(app), app.stage.vendor.live_keys().len()), (0, 4));
    // Somebody ends it at the vendor.
    assert!(app.stage.vendor.end(&theirs.id));
    reported(app, 0).await;
    assert_eq!(orphans(app, Some("gone")).await.len(), 1);
    assert_eq!(app.events("credential.orphan_gone").await.len(), 1);
}

async fn people_decide_about_what_was_reported(app: &TestApp) {
    let name = foreign_name(app).await;
    let vendor = &app.stage.vendor;
    let (doomed, kept) = (vendor.plant(&name), vendor.plant(&format!("{name}x")));
    let found = reported(app, 2).await;
    let id_of = |key: &str| {
        let row = found.iter().find(|row| row["vendor_key_id"] == json!(key)).unwrap();
        row["id"].as_str().unwrap().to_owned()
    };
    let decide = |id: String, decision: &str| {
        Request::post(&["v1", "orphans", &id, "decide"]).json(&json!({ "decision": decision, "reason": "known" }))
    };
    let operator = app.operator();
    send(&operator, decide(id_of(&kept.id), "dismiss")).await.good();
    send(&operator, decide(id_of(&doomed.id), "revoke")).await.good();
    until("its end", async || {
        (orphans(app, Some("gone")).await.len() == 1).then_some(())
    })
    .await;
    let live: Vec<_> = vendor.live_keys().into_iter().map(|key| key.id).collect();
    assert!(live.contains(&kept.id) && !live.contains(&doomed.id), "{live:?}");
    send(&operator, decide(id_of(&doomed.id), "revoke"))
        .await
        .is(409, "conflict");
    // What was dismissed is not told again.
    until("two more comparisons", async || {
        (app.events("vendor.listed").await.len() >= 6).then_some(())
    })
    .await;
    assert_eq!(orphans(app, None).await, Vec::<Value>::new());
    let first = send(
        &operator,
        Request::get(&["v1", "orphans"])
            .query("state", Some("dismissed"))
            .query("limit", Some(1)),
    )
    .await
    .good();
    assert_eq!(first["has_more"], json!(false));
    let by = app.events("credential.orphan_dismissed").await;
    assert_eq!(by[0]["event"]["data"]["by"], json!("operator"));
}

async fn a_second_key_of_one_intent_is_ended_and_the_first_lives_on(app: &TestApp) {
    app.stage.vendor.fault(Fault {
        op: "create".to_owned(),
        twice: true,
        count: Some(1),
        ..Fault::default()
    });
    let bought = app.buy(json!({ "reference": READ })).await;
    let key = app.key_of(&bought).await;
    until("the second key's end", async || {
        let live = app.stage.vendor.live_keys();
        (live.len() == 1 && live[0].secret == key).then_some(())
    })
    .await;
    until("its record", async || {
        let gone = orphans(app, Some("gone")).await;
        (gone.len() == 1 && gone[0]["reason"] == json!("double")).then_some(())
    })
    .await;
    assert_eq!(credentials(app).await[0]["state"], json!("active"));
    assert_eq!(app.events("credential.answered").await.len(), 1);
}

async fn a_key_that_a_list_hid_for_a_while_is_ended_when_it_shows_again(app: &TestApp) {
    let fault = |op: &str| Fault {
        op: op.to_owned(),
        ..Fault::default()
    };
    let vendor = &app.stage.vendor;
    vendor.fault(Fault {
        twice: true,
        count: Some(1),
        ..fault("create")
    });
    vendor.fault(Fault {
        status: Some(503),
        ..fault("revoke")
    });
    let bought = app.buy(json!({ "reference": READ })).await;
    let key = app.key_of(&bought).await;
    until("the second key to be found", async || {
        (!orphans(app, Some("revoking")).await.is_empty()).then_some(())
    })
    .await;
    vendor.fault(Fault {
        blind: true,
        ..fault("list")
    });
    until("the list to hide it", async || {
        (!orphans(app, Some("gone")).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(vendor.live_keys().len(), 2);
    vendor.clear_faults();
    until("its end", async || {
        let live = vendor.live_keys();
        (live.len() == 1 && live[0].secret == key).then_some(())
    })
    .await;
    until("its record", async || {
        (app.events("credential.orphan_revoked").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(app.events("credential.orphan_found").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_incarnation_made_is_only_reported() {
    let app = &started(|_| {}).await;
    app.buy(json!({ "reference": READ })).await;
    let row = &credentials(app).await[0];
    // As in a copy of the database: what stands there was meant by somebody else, and the vendor has another key of it.
    let mut intruder = Intruder::at(app).await;
    intruder
        .run("UPDATE credentials SET incarnation = 'inc_another'".to_owned())
        .await;
    app.stage.vendor.plant(row["vendor_name"].as_str().unwrap());
    let found = reported(app, 1).await;
    assert_eq!(found[0]["reason"], json!("other_incarnation"), "{found:?}");
    assert_eq!(found[0]["credential"], row["id"]);
    assert_eq!((revocations(app), app.stage.vendor.live_keys().len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_counted_as_never_made_is_found_later_and_ended() {
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = started(|_| {}).await.restart_by(Arc::clone(&clock)).await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let vendor = &app.stage.vendor;
    vendor.fault(Fault {
        op: "create".to_owned(),
        drop_reply: true,
        count: Some(1),
        ..Fault::default()
    });
    vendor.fault(Fault {
        op: "list".to_owned(),
        blind: true,
        ..Fault::default()
    });
    let mut body = json!({ "reference": READ });
    body["public_key"] = json!(app.stage.cast.agent.public());
    let header = crate::support::purse::Wallet::new().sign(&app.quote(&body).await);
    assert_eq!(app.pay(&app.anyone(), &body, &header).await.status, 503);
    let operator = || client_at(&app, &app.stage.cast.operator, clock.now());
    let state = async || {
        let list = send(&operator(), Request::get(&["v1", "credentials"])).await.good();
        list["data"][0]["state"].as_str().unwrap().to_owned()
    };
    until("the search to be given up", async || {
        clock.advance(Ttl::from_secs(5));
        (state().await == "failed").then_some(())
    })
    .await;
    assert_eq!(vendor.live_keys().len(), 1);
    vendor.clear_faults();
    until("the key's end", async || {
        clock.advance(Ttl::from_secs(2));
        (state().await == "revoked" && vendor.live_keys().is_empty()).then_some(())
    })
    .await;
    app.stop().await;
}

/// The whole data directory, started beside the original: it waits to be reconciled, and touches no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_beside_the_original_ends_nothing_that_it_only_sees() {
    let app = started(|_| {}).await;
    let copied = tempfile::tempdir().unwrap();
    let data_dir = copied.path().join("data");
    let app = app
        .restart_with(|| {
            std::fs::create_dir(&data_dir).unwrap();
        })
        .await;
    let from = app.stage.data_dir.clone();
    let app = app
        .restart_with(|| {
            for entry in std::fs::read_dir(&from).unwrap().map(Result::unwrap) {
                std::fs::copy(entry.path(), data_dir.join(entry.file_name())).unwrap();
            }
        })
        .await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let mut config = Config::default_in(data_dir.clone());
    config.listen = any_port();
    config.admin_listen = app.config.admin_listen.clone();
    config.payment = app.config.payment.clone();
    config.reap_interval = Ttl::from_secs(1);
    let copy = Server::start(&config).await.unwrap();
    unseal::unseal(&copy.app, app.unseal_key()).await.unwrap();
    assert!(copy.app.is_reconciling(), "a copy waits for people");
    // The original goes on, and the copy would see keys that its database knows nothing of.
    let bought = app.buy(json!({ "reference": READ })).await;
    app.key_of(&bought).await;
    app.buy(json!({ "reference": READ })).await;
    let original = dekeys::store::Store::open(&app.config.database_url).await.unwrap();
    until("a comparison of the original", async || {
        let mut tx = original.read().await.unwrap();
        let reap = tx.reaps().await.unwrap();
        (reap.first()?.keys == 2).then_some(())
    })
    .await;
    original.close().await;
    let seen = dekeys::store::Store::open(&config.database_url).await.unwrap();
    let mut tx = seen.read().await.unwrap();
    assert!(
        tx.open_orphans().await.unwrap().is_empty(),
        "the copy compared on its own"
    );
    drop(tx);
    assert_eq!((revocations(&app), app.stage.vendor.live_keys().len()), (0, 2));
    assert_eq!(
        orphans(&app, None).await,
        Vec::<Value>::new(),
        "the original knows its own"
    );
    seen.close().await;
    copy.stop().await;
    app.stop().await;
}
