//! Backups through the doors people use: made and tried over HTTP, restored on an empty database with the unseal key alone,
//! and refused when a byte of them is not as it was. Whole databases from one engine to the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dekeys::base::secret::SecretText;
use dekeys::base::time::{Clock, ManualClock, SystemClock, Ttl};
use dekeys::client::{Client, Request, secret};
use dekeys::config::Config;
use dekeys::service::{backup, unseal};
use dekeys::setup::restore::{Restored, restore, to_postgres};
use dekeys::setup::server::Server;
use dekeys::setup::{SetupError, stage};
use dekeys::vault::UnsealKey;
use serde_json::{Value, json};

use crate::store::Database;
use crate::support::{Bought, READ, Seen, TestApp, any_port, pinned, priced, resolve, send, until};

/// A restored instance that runs.
struct Second {
    server: Server,
    config: Config,
    _dir: tempfile::TempDir,
}

impl Second {
    async fn from(app: &TestApp, file: &Path, database: Option<&Database>) -> (Self, Restored) {
        let (config, dir) = elsewhere(app, database);
        let restored = restore(&config, file, app.unseal_key()).await.unwrap();
        let server = Server::start(&config).await.unwrap();
        unseal::unseal(&server.app, app.unseal_key()).await.unwrap();
        let second = Self {
            server,
            config,
            _dir: dir,
        };
        (second, restored)
    }

    fn operator(&self, app: &TestApp) -> Client {
        stage::client(&self.server.url, Some(&app.stage.cast.operator)).unwrap()
    }

    fn prim(&self, app: &TestApp) -> Client {
        stage::client(&self.server.url, Some(&app.stage.cast.prim)).unwrap()
    }

    /// The agent fetches a fresh token, and the prim resolves it.
    async fn resolves(&self, app: &TestApp, bought: &Bought) -> Option<String> {
        let agent = stage::client(&self.server.url, Some(&app.stage.cast.agent)).unwrap();
        let fresh = send(&agent, Request::post(&["v1", "grants", &bought.id, "tokens"])).await;
        let token = secret::at(&fresh.json, "/token").unwrap();
        let seen = resolve(&self.prim(app), &pinned(&token, stage::PRIM), READ).await;
        seen.key()
    }
}

/// A configuration of another place: nothing is there yet.
fn elsewhere(app: &TestApp, database: Option<&Database>) -> (Config, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = Config {
        listen: any_port(),
        database_url: format!("sqlite://{}", data.join("dekeys.db").display()),
        data_dir: data,
        ..app.config.clone()
    };
    if let Some(database) = database {
        config.database_url = database.url();
    }
    (config, dir)
}

async fn post(client: &Client, path: &[&str]) -> Seen {
    send(client, Request::post(path).json(&json!({}))).await
}

/// Makes a backup; where it is.
async fn backed_up(app: &TestApp) -> PathBuf {
    let made = send(&app.operator(), Request::post(&["v1", "sys", "backups"]))
        .await
        .good();
    let name = made["name"].as_str().unwrap();
    assert!(
        made["bytes"].as_u64().unwrap() > 1000 && made["trouble"].is_null(),
        "{made}"
    );
    app.stage.data_dir.join("backups").join(name)
}

async fn live(app: &TestApp) -> (Bought, String) {
    let bought = app.buy(json!({ "reference": READ, "ttl": "10m" })).await;
    let key = app.key_of(&bought).await;
    (bought, key)
}

fn alive(app: &TestApp, key: &str) -> bool {
    app.stage.vendor.live_keys().iter().any(|live| live.secret == key)
}

async fn a_lost_instance_comes_back(app: TestApp, into: Option<&Database>) {
    let (bought, key) = live(&app).await;
    let file = backed_up(&app).await;
    let verified = post(&app.operator(), &["v1", "sys", "backups", "latest", "verify"])
        .await
        .good();
    // Two token keys, one log key, one root credential, one key of a lease.
    assert_eq!(verified["secrets"], json!(5), "{verified}");
    assert!(verified["events"].as_i64().unwrap() > 5 && verified["age"].as_i64().unwrap() < 300);
    let (_, unknown) = live(&app).await;
    // The first instance goes on, and its reaper reads the list.
    let asked = || {
        let calls = app.stage.vendor.calls();
        calls.iter().filter(|call| call.op != "list").count()
    };
    let before = asked();

    let (second, restored) = Box::pin(Second::from(&app, &file, into)).await;
    assert_eq!(
        (restored.secrets, restored.events),
        (5, verified["events"].as_i64().unwrap())
    );
    let operator = second.operator(&app);
    let stands = send(&operator, Request::get(&["v1", "sys", "reconcile"])).await.good();
    assert_eq!(
        (&stands["reconciling"], &stands["cause"]),
        (&json!(true), &json!("restored")),
        "{stands}"
    );
    assert_eq!(
        stands["incarnation"],
        json!(restored.incarnation),
        "unsealing began no other"
    );
    resolve(&second.prim(&app), &pinned(&bought.token, stage::PRIM), READ)
        .await
        .is(503, "reconciling");
    assert_eq!(asked(), before, "nothing was asked of the vendor");

    let compared = post(&operator, &["v1", "sys", "reconcile", "compare"]).await.good();
    let compared = &compared["data"][0];
    assert_eq!(compared["unknown"].as_array().unwrap().len(), 1, "{compared}");
    post(&operator, &["v1", "sys", "reconcile", "revoke-unknown"])
        .await
        .good();
    assert!(!alive(&app, &unknown) && alive(&app, &key));
    post(&operator, &["v1", "sys", "reconcile", "done"]).await.good();
    // The token from before is dead, the grant is not, and the key is the one that was sealed.
    resolve(&second.prim(&app), &pinned(&bought.token, stage::PRIM), READ)
        .await
        .is(401, "invalid_token");
    assert_eq!(second.resolves(&app, &bought).await, Some(key));
    let body = json!({ "reference": READ, "public_key": app.stage.cast.agent.public() });
    let buy = Request::post(&["v1", "grants"]).json(&body);
    let agent = stage::client(&second.server.url, None).unwrap();
    send(&agent, buy).await.is(503, "payment_unavailable");
    let whole = post(&operator, &["v1", "audit", "verify"]).await.good();
    assert_eq!(whole["ok"], json!(true), "{whole}");
    second.server.stop().await;
    // And starts again as what it is.
    let server = Server::start(&second.config).await.unwrap();
    unseal::unseal(&server.app, app.unseal_key()).await.unwrap();
    assert!(!server.app.is_reconciling());
    server.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_instance_comes_back_with_its_backup_and_unseal_key_alone() {
    Box::pin(a_lost_instance_comes_back(TestApp::start().await, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_postgres_comes_back_on_either_engine() {
    let (Some(database), Some(other)) = (Database::create().await, Database::create().await) else {
        return;
    };
    let policy = priced("demo-readers", "echo:read", &[stage::PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url = database.url()).await;
    Box::pin(a_lost_instance_comes_back(app, None)).await;
    let app = TestApp::start().await;
    Box::pin(a_lost_instance_comes_back(app, Some(&other))).await;
    database.drop().await;
    other.drop().await;
}

/// Where the chunks of a backup begin, each with its length before it, and where they end.
fn chunks(bytes: &[u8]) -> (Vec<std::ops::Range<usize>>, usize) {
    let length = |at: usize| usize::try_from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut at = b"dekeys-backup/1\n".len();
    at += 4 + length(at);
    let mut chunks = Vec::new();
    while length(at) > 0 {
        let end = at + 4 + length(at);
        chunks.push(at..end);
        at = end;
    }
    (chunks, at)
}

/// Every way in which a backup may not be what it was.
fn touched(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (parts, end) = chunks(good);
    assert!(parts.len() >= 2, "{} chunks", parts.len());
    let without = |range: std::ops::Range<usize>| [&good[..range.start], &good[range.end..]].concat();
    let flipped = |at: usize| {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        bad
    };
    let (one, two) = (parts[0].clone(), parts[1].clone());
    let swapped = [
        &good[..one.start],
        &good[two.clone()],
        &good[one.clone()],
        &good[two.end..],
    ]
    .concat();
    let doubled = [&good[..one.end], &good[one.clone()], &good[one.end..]].concat();
    let mut touched = vec![
        ("swapped", swapped),
        ("doubled", doubled),
        ("one is missing", without(one.clone())),
        ("the last is missing", without(parts.last().unwrap().clone())),
        ("something follows", [good, b"x"].concat()),
        ("no manifest", good[..end + 4].to_vec()),
        ("empty", Vec::new()),
        ("something else", b"SQLite format 3\0".to_vec()),
    ];
    for at in [
        0,
        15,
        20,
        400,
        one.start + 2,
        one.start + 50,
        two.end - 1,
        end + 2,
        end + 6,
        end + 60,
        good.len() - 1,
    ] {
        touched.push(("flipped", flipped(at)));
    }
    for at in [
        10,
        18,
        200,
        one.start,
        one.start + 1,
        one.end,
        two.end,
        end,
        end + 3,
        end + 100,
        good.len() - 1,
    ] {
        touched.push(("cut", good[..at].to_vec()));
    }
    touched
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_was_touched_is_refused_and_nothing_is_changed() {
    let app = TestApp::start().await;
    live(&app).await;
    // Enough that there are several chunks, which random names keep from being packed away.
    for round in 0..90 {
        let random = || secret::shown(&secret::new_unseal_key(&dekeys::base::random::OsRandom));
        let noise: String = (0..20).map(|_| random().trim().to_owned()).collect();
        let body = json!({ "text": policy_with(&format!("noise-{round}"), &noise), "reason": noise });
        let name = format!("noise-{round}");
        send(&app.operator(), Request::put(&["v1", "policies", &name]).json(&body))
            .await
            .good();
    }
    let file = backed_up(&app).await;
    let good = std::fs::read(&file).unwrap();
    let touched = touched(&good);
    let (config, dir) = elsewhere(&app, None);
    for (number, (what, bytes)) in touched.into_iter().enumerate() {
        let bad = dir.path().join("bad");
        std::fs::write(&bad, bytes).unwrap();
        let refused = restore(&config, &bad, app.unseal_key()).await;
        let error = refused
            .err()
            .unwrap_or_else(|| panic!("{what} ({number}) was restored"));
        assert!(!error.to_string().is_empty());
        let left: Vec<_> = std::fs::read_dir(&config.data_dir).unwrap().collect();
        assert!(left.is_empty(), "{what} ({number}) left {left:?}");
    }
    // The right file, and the wrong key.
    let wrong = UnsealKey::parse_key_file(&SecretText::new("A".repeat(43))).unwrap();
    let refused = restore(&config, &file, wrong).await.unwrap_err();
    assert_eq!(refused.code(), "unseal_key_invalid");
    // Tried where it lies, a damaged one is told as such, and the others are not hidden by it.
    let middle = good.len() / 2;
    let mut bent = good.clone();
    bent[middle] ^= 1;
    std::fs::write(&file, bent).unwrap();
    post(&app.operator(), &["v1", "sys", "backups", "latest", "verify"])
        .await
        .is(422, "backup_invalid");
    // The worker, which tries the first backup by itself, may have told of it too.
    assert!(!app.events("backup.failed").await.is_empty());
    post(
        &app.operator(),
        &["v1", "sys", "backups", "..%2F..%2Fdekeys.db", "verify"],
    )
    .await
    .is(404, "not_found");
    std::fs::write(&file, &good).unwrap();
    let restored = restore(&config, &file, app.unseal_key()).await.unwrap();
    assert_eq!(restored.instance, app.stage.server.app.instance.id.to_string());
    // What is there is not overwritten.
    let there = std::fs::read(config.data_dir.join("dekeys.db")).unwrap();
    let refused = restore(&config, &file, app.unseal_key()).await;
    assert!(matches!(refused, Err(SetupError::NotEmpty { .. })));
    assert_eq!(std::fs::read(config.data_dir.join("dekeys.db")).unwrap(), there);
    app.stop().await;
}

fn policy_with(name: &str, noise: &str) -> String {
    format!("# {noise}\n{}", priced(name, "echo:write", &[stage::PRIM], "0.01"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_later_version_and_one_of_another_instance_are_refused() {
    let (app, other) = (TestApp::start().await, TestApp::start().await);
    let file = backed_up(&app).await;
    let bytes = std::fs::read(&file).unwrap();
    let later = String::from_utf8_lossy(&bytes).contains("\"migration\":");
    assert!(later, "the head tells it");
    let at = bytes.windows(12).position(|part| part == b"\"migration\":").unwrap() + 12;
    let mut later = bytes.clone();
    later[at] = b'9';
    let (config, dir) = elsewhere(&app, None);
    let newer = dir.path().join("newer");
    std::fs::write(&newer, later).unwrap();
    let refused = restore(&config, &newer, app.unseal_key()).await;
    assert!(matches!(refused, Err(SetupError::Newer { .. })), "{refused:?}");
    let mut format = bytes;
    format[b"dekeys-backup/".len()] = b'2';
    std::fs::write(&newer, format).unwrap();
    let refused = restore(&config, &newer, app.unseal_key()).await.unwrap_err();
    assert!(refused.to_string().contains("format"), "{refused}");
    let folder = other.stage.data_dir.join("backups");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&file, folder.join("dekeys-99990101T000000Z-aaaaaaa.backup")).unwrap();
    let foreign = post(&other.operator(), &["v1", "sys", "backups", "latest", "verify"]).await;
    foreign.is(422, "backup_invalid");
    let listed = send(&other.operator(), Request::get(&["v1", "sys", "backups"]))
        .await
        .good();
    assert_eq!(
        listed["data"][0]["instance"],
        json!(app.stage.server.app.instance.id.to_string())
    );
    app.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_made_and_tried_when_they_are_due_and_old_ones_go() {
    let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
    let policy = priced("demo-readers", "echo:read", &[stage::PRIM], "0.01");
    let app = TestApp::with(&policy, |config| {
        config.backup.every = Some(Ttl::from_mins(60));
        config.backup.verify_every = Some(Ttl::from_mins(24 * 60));
        config.backup.keep = 2;
    })
    .await
    .restart_by(Arc::clone(&clock))
    .await;
    let server = &app.stage.server.app;
    unseal::unseal(server, app.unseal_key()).await.unwrap();
    let names = || {
        let entries = std::fs::read_dir(app.stage.data_dir.join("backups")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    backup::due(server).await.unwrap();
    let first = names();
    assert_eq!(first.len(), 1);
    backup::due(server).await.unwrap();
    assert_eq!(names(), first, "not again before its time");
    for _ in 0..3 {
        clock.advance(Ttl::from_mins(61));
        backup::due(server).await.unwrap();
    }
    let last = names();
    assert!(last.len() == 2 && !last.contains(&first[0]), "{last:?}");
    let mut tx = server.store.read().await.unwrap();
    assert!(tx.last_of_kind("backup.verified").await.unwrap().is_some());
    assert!(tx.last_of_kind("backup.failed").await.unwrap().is_none());
    tx.end().await.unwrap();
    let mut scratch = std::fs::read_dir(app.stage.data_dir.join("verify")).unwrap();
    assert!(scratch.next().is_none(), "what was restored to be tried is gone");
    app.stop().await;
}

/// Backups at any moment while people buy and resolve, restored against a vendor that moved on: each is sound, and in the end
/// no key lives that nobody knows. `DEKEYS_BACKUP_ROUNDS` sets how many, 4 if it is not set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_taken_under_load_come_back_and_no_key_stays_unknown() {
    let rounds = std::env::var_os("DEKEYS_BACKUP_ROUNDS");
    let rounds: usize = rounds.map_or(4, |text| text.into_string().unwrap().parse().unwrap());
    let policy = priced("demo-readers", "echo:read", &[stage::PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.backup.keep = rounds.max(1)).await;
    let app = Arc::new(app);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load = {
        let (app, stop) = (Arc::clone(&app), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut count = 0usize;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (bought, _) = live(&app).await;
                if count.is_multiple_of(3) {
                    let revoke = Request::post(&["v1", "grants", &bought.id, "revoke"]).json(&json!({}));
                    send(&app.operator(), revoke).await.good();
                }
                count += 1;
            }
            count
        })
    };
    let mut files = Vec::new();
    for round in 0..rounds {
        // Another moment each time: after some more events of whatever kind.
        let wanted = app.events("grant.created").await.len() + round % 3;
        until("a little more to happen", async || {
            (app.events("grant.created").await.len() >= wanted.min(99)).then_some(())
        })
        .await;
        files.push(backed_up(&app).await);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(load.await.unwrap() >= rounds / 2);
    live(&app).await;
    for file in files {
        let (second, restored) = Box::pin(Second::from(&app, &file, None)).await;
        assert!(restored.rows > 0);
        let operator = second.operator(&app);
        post(&operator, &["v1", "sys", "reconcile", "revoke-unknown"])
            .await
            .good();
        let left = post(&operator, &["v1", "sys", "reconcile", "compare"]).await.good();
        assert_eq!(left["data"][0]["unknown"], json!([]), "{left}");
        post(&operator, &["v1", "sys", "reconcile", "done"]).await.good();
        let known = known(&operator).await;
        for key in app.stage.vendor.live_keys() {
            assert!(known.contains(&key.id), "{} lives and nobody knows it", key.id);
        }
        second.server.stop().await;
    }
    let app = Arc::into_inner(app).unwrap();
    app.stop().await;
}

/// The vendor's ids of all credentials that live by what is known there.
async fn known(operator: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let request = Request::get(&["v1", "credentials"])
            .query("limit", Some(100))
            .query("starting_after", after.as_ref());
        let list = send(operator, request).await.good();
        let rows = list["data"].as_array().unwrap();
        for row in rows.iter().filter(|row| row["state"] != "revoked") {
            ids.extend(row["vendor_key_id"].as_str().map(str::to_owned));
        }
        if list["has_more"] != json!(true) {
            return ids;
        }
        after = rows.last().and_then(|row| row["id"].as_str()).map(str::to_owned);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_moves_to_postgres_with_everything_it_has() {
    let Some(database) = Database::create().await else {
        return;
    };
    let app = TestApp::start().await;
    let (bought, key) = live(&app).await;
    let (config, url) = (app.config.clone(), database.url());
    // While a server has it nothing is moved.
    let refused = to_postgres(&config, &url, false).await;
    assert!(matches!(refused, Err(SetupError::InUse { .. })));
    let (cast, _vendor, _dir) = app.stop_server().await;
    let looked = to_postgres(&config, &url, true).await.unwrap();
    let moved = to_postgres(&config, &url, false).await.unwrap();
    assert_eq!(
        (&looked.tables, looked.events, &looked.root),
        (&moved.tables, moved.events, &moved.root)
    );
    let rows = |name: &str| moved.tables.iter().find(|(table, _)| table == name).unwrap().1;
    assert!(rows("events") > 5 && rows("leases") == 1 && rows("signing_keys") == 3);
    let again = to_postgres(&config, &url, false).await;
    assert!(matches!(again, Err(SetupError::NotEmpty { .. })));
    // It goes on there as if nothing had happened.
    let key_file = || {
        let text = secret::read_file(&config.data_dir.join("unseal-key")).unwrap();
        UnsealKey::parse_key_file(&text).unwrap()
    };
    let there = Config {
        database_url: url,
        ..config.clone()
    };
    let server = Server::start(&there).await.unwrap();
    unseal::unseal(&server.app, key_file()).await.unwrap();
    assert!(!server.app.is_reconciling());
    let prim = stage::client(&server.url, Some(&cast.prim)).unwrap();
    let seen = resolve(&prim, &pinned(&bought.token, stage::PRIM), READ).await;
    assert_eq!(seen.key(), Some(key));
    let operator = stage::client(&server.url, Some(&cast.operator)).unwrap();
    let whole: Value = post(&operator, &["v1", "audit", "verify"]).await.good();
    assert_eq!(whole["ok"], json!(true));
    server.stop().await;
    // The file that stayed behind is a copy from now on.
    let server = Server::start(&config).await.unwrap();
    unseal::unseal(&server.app, key_file()).await.unwrap();
    assert!(server.app.is_reconciling());
    server.stop().await;
    database.drop().await;
}

/// What the log's key before signed last, and nothing since, is good in a backup made right after its change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_as_the_log_changes_its_key_is_sound() {
    let app = TestApp::start().await;
    let admin = stage::client(&app.stage.server.admin, Some(&app.stage.cast.operator)).unwrap();
    let kind = json!({ "kind": "log" });
    for _ in 0..8 {
        let rotate = Request::post(&["v1", "sys", "keys", "rotate"]).json(&kind);
        let (rotated, file) = tokio::join!(send(&admin, rotate), backed_up(&app));
        rotated.good();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        post(&app.operator(), &["v1", "sys", "backups", &name, "verify"])
            .await
            .good();
    }
    app.stop().await;
}
