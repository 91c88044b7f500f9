//! Starting: not ready before everything is taken up, and a clear end on what cannot be used.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Instant;

use dekeys::base::random::OsRandom;
use dekeys::client::secret;
use dekeys::service::{health, unseal};
use dekeys::setup::server::Server;
use dekeys::setup::stage;
use dekeys::store::Store;
use dekeys::vault::UnsealKey;
use sqlx::{Connection as _, SqliteConnection};

use super::scene::init;
use super::server::{PATIENCE, Setting, until};

/// An instance that nobody serves.
async fn instance() -> (tempfile::TempDir, Setting) {
    let place = tempfile::tempdir().unwrap();
    let setting = Setting::in_dir(&place.path().join("data"));
    init(&setting).await;
    (place, setting)
}

/// Starts a server that must end by itself; answers what it said.
fn refused(setting: &Setting, listen: &str) -> (i32, String) {
    let mut child = setting
        .command(listen)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it serves");
        }
        std::thread::yield_now();
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let code = status.code().expect("it ended by itself");
    (code, String::from_utf8(stderr).unwrap())
}

/// It failed, and every one of the words was said.
fn says((code, text): &(i32, String), words: &[&str]) {
    assert_ne!(*code, 0, "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_ready_before_the_last_processs_work_is_taken_up() {
    let (_place, setting) = instance().await;
    let config = stage::config(&setting.data_dir, ([127, 0, 0, 1], 0).into());
    let server = Server::start(&config).await.unwrap();
    let key = UnsealKey::parse_key_file(&secret::read_file(&setting.unseal_key).unwrap()).unwrap();
    let store = Store::open(&setting.database_url).await.unwrap();
    let lock = store.begin().await.unwrap();
    let app = server.app.clone();
    let opening = tokio::spawn(async move { unseal::unseal(&app, key).await.map(drop) });
    until("the vault's keys", async || {
        (!server.app.vault.is_sealed()).then_some(())
    })
    .await;
    assert!(!health::readiness(&server.app).await.ready);
    assert!(unseal::status(&server.app).sealed);
    drop(lock);
    opening.await.unwrap().unwrap();
    assert!(health::readiness(&server.app).await.ready);
    store.close().await;
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (_place, setting) = instance().await;
    let other = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = other.local_addr().unwrap();
    let ended = refused(&setting, &address.to_string());
    says(&ended, &[&format!("port {} is taken", address.port()), "port_in_use"]);
    assert_eq!(ended.0, 1);
}

#[tokio::test]
async fn an_instance_for_the_moment_takes_another_port() {
    let place = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let stage = stage::Stage::ready(place.path().join("data"), taken).await.unwrap();
    assert!(!stage.server.url.ends_with(&format!(":{}", taken.port())));
    assert!(health::readiness(&stage.server.app).await.ready);
    stage.server.stop().await;
}

#[tokio::test]
async fn a_database_that_another_server_runs_on_is_left_to_it() {
    let (_place, setting) = instance().await;
    let mut config = stage::config(&setting.data_dir, ([127, 0, 0, 1], 0).into());
    config.database_url.clone_from(&setting.database_url);
    let server = Server::start(&config).await.unwrap();
    let ended = refused(&setting, "127.0.0.1:0");
    says(&ended, &["is in use by", "database_locked"]);
    server.stop().await;
    let server = Server::start(&config).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_not_called_taken() {
    let (_place, setting) = instance().await;
    // TEST-NET-1 (RFC 5737): no machine has it.
    let ended = refused(&setting, "192.0.2.1:8402");
    says(&ended, &["192.0.2.1:8402"]);
    assert!(!ended.1.contains("taken"), "{}", ended.1);
}

#[tokio::test]
async fn a_database_newer_than_the_binary_is_left_alone() {
    let (_place, setting) = instance().await;
    let mut database = SqliteConnection::connect(&setting.database_url).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99999, 'of the future', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let ended = refused(&setting, "127.0.0.1:0");
    says(&ended, &["migration_mismatch", "99999"]);
    assert_eq!(ended.0, 1);
}

#[tokio::test]
async fn a_damaged_keyring_is_not_a_wrong_key() {
    let (_place, setting) = instance().await;
    let store = Store::open(&setting.database_url).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let text = tx.keyring().await.unwrap().unwrap();
    tx.save_keyring(text.get(..text.len() / 2).unwrap()).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    store.close().await;
    let ended = refused(&setting, "127.0.0.1:0");
    says(&ended, &["keyring", "integrity_failed"]);
}

#[tokio::test]
async fn a_damaged_log_is_not_served() {
    let (_place, setting) = instance().await;
    let mut database = SqliteConnection::connect(&setting.database_url).await.unwrap();
    let change = "UPDATE events SET body = replace(body, 'vault', 'fault') WHERE n = 1";
    let changed = sqlx::query(change).execute(&mut database).await;
    database.close().await.unwrap();
    changed.unwrap();
    says(&refused(&setting, "127.0.0.1:0"), &["audit log", "integrity_failed"]);
}

#[tokio::test]
async fn a_missing_data_directory_is_not_initialised_and_not_made() {
    let place = tempfile::tempdir().unwrap();
    let setting = Setting::in_dir(&place.path().join("mistyped"));
    says(&refused(&setting, "127.0.0.1:0"), &["not_initialized"]);
    assert!(!setting.data_dir.exists(), "a mistyped path left a directory behind");
}

#[tokio::test]
async fn an_unusable_key_file_is_named_and_its_content_is_not() {
    let (place, mut setting) = instance().await;
    let good = setting.unseal_key.clone();

    setting.unseal_key = place.path().join("absent");
    says(&refused(&setting, "127.0.0.1:0"), &["cannot read", "absent"]);

    setting.unseal_key = place.path().to_owned();
    says(
        &refused(&setting, "127.0.0.1:0"),
        &["cannot read", &place.path().display().to_string()],
    );

    setting.unseal_key = place.path().join("garbled");
    std::fs::write(&setting.unseal_key, "not-a-key-at-all\n").unwrap();
    let ended = refused(&setting, "127.0.0.1:0");
    says(&ended, &["unseal_key_invalid"]);
    assert!(!ended.1.contains("not-a-key-at-all"), "{}", ended.1);

    setting.unseal_key = place.path().join("other");
    secret::write_new(&setting.unseal_key, &UnsealKey::generate_key_file(&OsRandom)).unwrap();
    let ended = refused(&setting, "127.0.0.1:0");
    says(&ended, &["unseal_key_invalid", "wrong"]);
    assert_eq!(ended.0, 1);

    // The right one, when only others may read it: root reads it anyway.
    setting.unseal_key = good;
    std::fs::set_permissions(&setting.unseal_key, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&setting.unseal_key).is_err() {
        says(&refused(&setting, "127.0.0.1:0"), &["cannot read", "unseal-key"]);
    }
}
