//! A copied data directory, a database that was rolled back, and what people do about them: nothing changes at the vendor
//! before they decide.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request, secret};
use dekeys::config::Config;
use dekeys::service::unseal;
use dekeys::setup::server::Server;
use dekeys::setup::stage;
use dekeys::vault::UnsealKey;
use serde_json::{Value, json};

use crate::store::Database;
use crate::support::database::Intruder;
use crate::support::{Bought, READ, Seen, TestApp, any_port, client_at, pinned, resolve, send, until};

/// Beside the original: a copy of its directory, started.
struct Copy {
    server: Server,
    dir: tempfile::TempDir,
}

impl Copy {
    async fn of(app: &TestApp) -> Self {
        Self::by(app, None).await
    }

    /// The copy of a running instance, as a careful operator makes one: a sound database, and every other file.
    async fn by(app: &TestApp, clock: Option<Arc<dyn Clock>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy_files(&app.stage.data_dir, dir.path());
        let into = dir.path().join("dekeys.db");
        Intruder::at(app)
            .await
            .run(format!("VACUUM INTO '{}'", into.display()))
            .await;
        Self::start(app, dir, clock).await
    }

    async fn start(app: &TestApp, dir: tempfile::TempDir, clock: Option<Arc<dyn Clock>>) -> Self {
        let mut config = Config {
            listen: any_port(),
            ..app.config.clone()
        };
        config.database_url = format!("sqlite://{}", dir.path().join("dekeys.db").display());
        config.data_dir = dir.path().to_owned();
        let server = Server::start_by(&config, clock).await.unwrap();
        Self { server, dir }
    }

    async fn unseal(&self) {
        let key = secret::read_file(&self.dir.path().join("unseal-key")).unwrap();
        unseal::unseal(&self.server.app, UnsealKey::parse_key_file(&key).unwrap())
            .await
            .unwrap();
    }

    fn client(&self, app: &TestApp) -> Client {
        stage::client(&self.server.url, Some(&app.stage.cast.operator)).unwrap()
    }
}

/// Every file but the database's.
fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_file() && !name.starts_with("dekeys.db") {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn changes(app: &TestApp) -> usize {
    let calls = app.stage.vendor.calls();
    calls.iter().filter(|call| call.method != "GET").count()
}

async fn post(client: &Client, verb: &str, body: Value) -> Seen {
    send(client, Request::post(&["v1", "sys", "reconcile", verb]).json(&body)).await
}

async fn compare(client: &Client) -> Value {
    let seen = send(client, Request::post(&["v1", "sys", "reconcile", "compare"]))
        .await
        .good();
    seen["data"][0].clone()
}

async fn status(client: &Client) -> Value {
    send(client, Request::get(&["v1", "sys", "reconcile"])).await.good()
}

async fn events(client: &Client, kind: &str) -> Vec<Value> {
    let request = Request::get(&["v1", "audit", "events"])
        .query("type", Some(kind))
        .query("limit", Some(100));
    let list = send(client, request).await.good();
    list["data"].as_array().unwrap().clone()
}

/// Two rounds of every worker: what happens now is under a checkpoint that a worker signed, twice.
async fn workers_had_their_turn(client: &Client) {
    for _ in 0..2 {
        send(client, Request::post(&["v1", "sys", "reconcile", "compare"]))
            .await
            .good();
        until("the events to be numbered", async || {
            let figures = send(client, Request::get(&["v1", "sys", "status"])).await.good();
            (figures["leaves"] == figures["events"]).then_some(())
        })
        .await;
    }
}

async fn live(app: &TestApp) -> (Bought, String) {
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let key = app.key_of(&bought).await;
    (bought, key)
}

fn alive(app: &TestApp, key: &str) -> bool {
    app.stage.vendor.live_keys().iter().any(|live| live.secret == key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_directory_beside_the_original_changes_nothing_at_the_vendor() {
    let app = TestApp::start().await;
    let (bought, key) = live(&app).await;
    let (_second, _) = live(&app).await;
    let before = changes(&app);
    // In its time everything is long over: timers would end all keys.
    let later = SystemClock::default().now().plus(Ttl::from_mins(24 * 60));
    let clock = Arc::new(ManualClock::at(later));
    let copy = Copy::by(&app, Some(clock.clone())).await;
    copy.unseal().await;
    let operator = {
        let url = &copy.server.url;
        let key = dekeys::client::KeyFile::parse(&app.stage.cast.operator.to_text()).unwrap();
        Client::new(
            url.parse().unwrap(),
            Some(key),
            None,
            std::time::Duration::from_secs(30),
            clock.clone(),
            Arc::new(dekeys::base::random::OsRandom),
        )
        .unwrap()
    };
    let stands = status(&operator).await;
    assert_eq!(
        (&stands["reconciling"], &stands["cause"]),
        (&json!(true), &json!("copied"))
    );
    workers_had_their_turn(&operator).await;
    let compared = compare(&operator).await;
    assert_eq!(
        (compared["matching"].as_u64(), compared["state"].as_str()),
        (Some(2), Some("compared"))
    );
    assert_eq!(compared["unknown"], json!([]), "{compared}");
    assert_eq!(
        changes(&app),
        before,
        "the copy only looked: {:?}",
        app.stage.vendor.calls()
    );
    // The original goes on.
    assert_eq!(app.key_of(&bought).await, key);
    copy.server.stop().await;
    let app = app.restart().await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    assert_eq!(status(&app.operator()).await["reconciling"], json!(false));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_releases_makes_and_ends_nothing_and_its_tokens_are_dead() {
    let app = TestApp::start().await;
    let (bought, _) = live(&app).await;
    let before = changes(&app);
    let copy = Copy::of(&app).await;
    copy.unseal().await;
    let (operator, prim) = (
        copy.client(&app),
        stage::client(&copy.server.url, Some(&app.stage.cast.prim)).unwrap(),
    );
    let agent = stage::client(&copy.server.url, Some(&app.stage.cast.agent)).unwrap();
    let resolved = resolve(&prim, &pinned(&bought.token, stage::PRIM), READ).await;
    resolved.is(503, "reconciling");
    let body = json!({ "reference": READ, "public_key": app.stage.cast.agent.public() });
    send(&agent, Request::post(&["v1", "grants"]).json(&body))
        .await
        .is(503, "reconciling");
    let fresh = Request::post(&["v1", "grants", &bought.id, "tokens"]);
    send(&agent, fresh).await.is(503, "reconciling");
    let ready = send(&operator, Request::get(&["readyz"])).await;
    assert_eq!(ready.status, 503, "{}", ready.json);
    // What an operator ends is over at once here; the vendor hears of it when the reconciling is done.
    let leases = send(&operator, Request::get(&["v1", "leases"])).await.good();
    let lease = leases["data"][0]["id"].as_str().unwrap();
    let ended = send(
        &operator,
        Request::post(&["v1", "leases", lease, "revoke"]).json(&json!({})),
    )
    .await
    .good();
    assert_eq!(
        (&ended["state"], &ended["confirmed"]),
        (&json!("revoking"), &json!(false)),
        "{ended}"
    );
    assert_eq!(changes(&app), before);
    // The original makes one more key, and is then stopped.
    let (_, unknown) = live(&app).await;
    let app = app.restart().await;
    let compared = compare(&operator).await;
    assert_eq!(compared["unknown"].as_array().unwrap().len(), 1, "{compared}");
    post(&operator, "done", json!({})).await.is(409, "conflict");
    let compared = post(&operator, "revoke-unknown", json!({})).await.good();
    assert_eq!(compared["data"][0]["unknown"], json!([]));
    assert!(!alive(&app, &unknown), "the one nobody knew is dead");
    assert_eq!(app.stage.vendor.live_keys().len(), 1, "the known one is not");
    let done = post(&operator, "done", json!({})).await.good();
    assert_eq!(done["reconciling"], json!(false));
    until("the lease that was revoked to end at the vendor", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    let dead = resolve(&prim, &pinned(&bought.token, stage::PRIM), READ).await;
    dead.is(401, "invalid_token");
    let fresh = send(&agent, Request::post(&["v1", "grants", &bought.id, "tokens"])).await;
    let token = secret::at(&fresh.json, "/token").unwrap();
    let again = resolve(&prim, &pinned(&token, stage::PRIM), READ).await;
    assert!(again.key().is_some(), "{}", again.json);
    post(&operator, "done", json!({})).await.is(409, "conflict");
    copy.server.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_rolled_back_is_reconciled_and_names_where_it_stands() {
    let app = TestApp::start().await;
    let (_, known) = live(&app).await;
    numbered(&app).await;
    let aside = app.stage.data_dir.join("aside");
    Intruder::at(&app)
        .await
        .run(format!("VACUUM INTO '{}'", aside.display()))
        .await;
    let (_, unknown) = live(&app).await;
    let seen = numbered(&app).await;
    let database = app.stage.data_dir.join("dekeys.db");
    let app = app
        .restart_with(|| {
            for end in ["-wal", "-shm"] {
                let _gone = std::fs::remove_file(PathBuf::from(format!("{}{end}", database.display())));
            }
            // Over the file that is there: it is at its place, and older.
            std::fs::copy(&aside, &database).unwrap();
        })
        .await;
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let app = app.restart_by(Arc::clone(&clock)).await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let operator = client_at(&app, &app.stage.cast.operator, clock.now());
    assert_eq!(status(&operator).await["cause"], json!("rolled_back"));
    let began = events(&operator, "instance.reincarnated").await;
    let data = &began[0]["event"]["data"];
    assert!(
        data["head"].as_i64().unwrap() < seen["events"].as_i64().unwrap(),
        "{data}"
    );
    assert!(data["checkpoint"].is_string(), "{data}");
    assert!(app.stage.data_dir.join("checkpoint.before").exists());
    let compared = compare(&operator).await;
    assert_eq!(compared["unknown"].as_array().unwrap().len(), 1, "{compared}");
    let adopted = post(&operator, "adopt", json!({ "keep": "30m" })).await.good();
    assert_eq!(adopted["data"][0]["unknown"], json!([]), "{adopted}");
    assert!(alive(&app, &unknown) && alive(&app, &known));
    let done = post(&operator, "done", json!({})).await.good();
    assert_eq!(done["reconciling"], json!(false));
    clock.advance(Ttl::from_mins(31));
    until("the adopted key to end", async || {
        (!alive(&app, &unknown)).then_some(())
    })
    .await;
    until("all keys to end", async || {
        app.stage.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    // The next start finds everything as it was left.
    let app = app.restart_by(clock.clone()).await;
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    let operator = client_at(&app, &app.stage.cast.operator, clock.now());
    assert_eq!(status(&operator).await["reconciling"], json!(false));
    let verified = send(&operator, Request::post(&["v1", "audit", "verify"])).await;
    assert_ne!(verified.json["ok"], json!(false), "{}", verified.json);
    app.stop().await;
}

/// The figures once everything that happened is under a checkpoint.
async fn numbered(app: &TestApp) -> Value {
    until("what happened to be under a checkpoint", async || {
        let figures = send(&app.operator(), Request::get(&["v1", "sys", "status"]))
            .await
            .good();
        (figures["leaves"] == figures["events"]).then_some(figures)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_gone_at_the_vendor_end_here_with_their_leases() {
    let app = TestApp::start().await;
    let (_, key) = live(&app).await;
    let copy = Copy::of(&app).await;
    copy.unseal().await;
    // The original ends it.
    let leases = send(&app.operator(), Request::get(&["v1", "leases"])).await.good();
    let lease = leases["data"][0]["id"].as_str().unwrap();
    let revoke = Request::post(&["v1", "leases", lease, "revoke"]).json(&json!({}));
    send(&app.operator(), revoke).await.good();
    assert!(!alive(&app, &key));
    let operator = copy.client(&app);
    assert_eq!(compare(&operator).await["gone"].as_array().unwrap().len(), 1);
    let before = changes(&app);
    let after = post(&operator, "adopt", json!({})).await.good();
    assert_eq!(after["data"][0]["gone"], json!([]));
    let seen = send(&operator, Request::get(&["v1", "leases", lease])).await.good();
    assert_eq!(seen["state"], json!("revoked"));
    assert_eq!(changes(&app), before);
    copy.server.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_its_mark_is_a_copy_and_one_that_was_moved_is_not() {
    let app = TestApp::start().await;
    // The database alone.
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("dekeys.db");
    Intruder::at(&app)
        .await
        .run(format!("VACUUM INTO '{}'", into.display()))
        .await;
    std::fs::copy(app.stage.data_dir.join("unseal-key"), dir.path().join("unseal-key")).unwrap();
    let copy = Copy::start(&app, dir, None).await;
    copy.unseal().await;
    assert_eq!(status(&copy.client(&app)).await["cause"], json!("copied"));
    // Started again it is what it was: a copy that waits for people, not one more.
    let first = status(&copy.client(&app)).await;
    let Copy { server, dir, .. } = copy;
    server.stop().await;
    // Moved as a whole.
    let moved = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::rename(&path, moved.path().join(path.file_name().unwrap())).unwrap();
    }
    let copy = Copy::start(&app, moved, None).await;
    copy.unseal().await;
    assert_eq!(status(&copy.client(&app)).await, first);
    copy.server.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mark_of_another_instance_is_refused_and_left_alone() {
    let app = TestApp::start().await;
    let mark = app.stage.data_dir.join("mark");
    let text = std::fs::read_to_string(&mark).unwrap();
    let foreign = text.replace(&app.stage.server.app.instance.id.to_string(), &other());
    let app = app.restart_with(|| std::fs::write(&mark, &foreign).unwrap()).await;
    let refused = unseal::unseal(&app.stage.server.app, app.unseal_key()).await;
    assert!(refused.unwrap_err().to_string().contains(&other()));
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), foreign);
    std::fs::write(&mark, text).unwrap();
    unseal::unseal(&app.stage.server.app, app.unseal_key()).await.unwrap();
    assert_eq!(status(&app.operator()).await["reconciling"], json!(false));
    app.stop().await;
}

fn other() -> String {
    "ins_01KAG4C1B2T5Q3V7X9Z0A1B2C3".to_owned()
}

/// A shared database: an instance that joins brings no mark, and what one finds out, the others follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_shared_database_join_and_reconcile_together() {
    let Some(database) = Database::create().await else {
        return;
    };
    let app = TestApp::with(
        &crate::support::priced("demo-readers", "echo:read", &[stage::PRIM], "0.01"),
        |config| {
            config.database_url = database.url();
        },
    )
    .await;
    let (_, key) = live(&app).await;
    let join = async |dir: &Path| {
        let config = Config {
            listen: any_port(),
            data_dir: dir.to_owned(),
            ..app.config.clone()
        };
        let server = Server::start(&config).await.unwrap();
        unseal::unseal(&server.app, app.unseal_key()).await.unwrap();
        server
    };
    let dir = tempfile::tempdir().unwrap();
    let second = join(dir.path()).await;
    assert!(!second.app.is_reconciling(), "it joins");
    second.stop().await;
    // The database goes back behind its back: the mark knows of an unseal that is not on record.
    let mark = dir.path().join("mark");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&mark).unwrap()).unwrap();
    json["epoch"] = json!(json["epoch"].as_i64().unwrap() + 5);
    std::fs::write(&mark, json.to_string()).unwrap();
    let second = join(dir.path()).await;
    assert!(second.app.is_reconciling());
    until("the first to follow", async || {
        app.stage.server.app.is_reconciling().then_some(())
    })
    .await;
    assert!(alive(&app, &key));
    let operator = stage::client(&second.url, Some(&app.stage.cast.operator)).unwrap();
    post(&operator, "done", json!({})).await.good();
    until("the first to go on", async || {
        (!app.stage.server.app.is_reconciling()).then_some(())
    })
    .await;
    assert!(alive(&app, &key), "and nothing was ended meanwhile");
    second.stop().await;
    app.stop().await;
    database.drop().await;
}
