//! PostgreSQL: two servers on one database, one of which dies; and random kills there, where timers decide what is
//! left over, since another server may be at work on it.
//!
//! Runs where `DEKEYS_TEST_POSTGRES` names a server; the random kills, which take over a minute, only with
//! `DEKEYS_CRASH_POSTGRES=1` too.

use std::path::PathBuf;

use dekeys::mock::Fault;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use super::check;
use super::load::{Player, Seen};
use super::moments::{hold, let_go};
use super::random::{rounds, say};
use super::scene::{Scene, word};
use super::server::{Server, Setting, until};

/// A database of its own.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    pub(crate) async fn create(test: &str) -> Option<Self> {
        let Some(server) = std::env::var_os("DEKEYS_TEST_POSTGRES") else {
            say(&format!(
                "SKIPPED {test}: set DEKEYS_TEST_POSTGRES=postgres://USER@HOST/DATABASE"
            ));
            return None;
        };
        let server = server.into_string().unwrap();
        let name = format!("dekeys_crash_{}_{test}", std::process::id());
        let database = Self { server, name };
        database.run(format!("CREATE DATABASE {}", database.name)).await;
        Some(database)
    }

    pub(crate) fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    async fn run(&self, text: String) {
        let mut server = PgConnection::connect(&self.server).await.unwrap();
        sqlx::query(AssertSqlSafe(text)).execute(&mut server).await.unwrap();
    }

    pub(crate) async fn drop(self) {
        self.run(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }

    /// As if it was shut down: nobody is connected any more, and nobody gets in.
    pub(crate) async fn go_away(&self) {
        self.run(format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name))
            .await;
        let cut = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        self.run(cut).await;
    }

    pub(crate) async fn come_back(&self) {
        self.run(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name))
            .await;
    }

    pub(crate) async fn scene(&self) -> (Scene, Server) {
        scene_in(self.url()).await
    }
}

/// An instance in a database of PostgreSQL.
pub(crate) async fn scene_in(database_url: String) -> (Scene, Server) {
    let place: TempDir = tempfile::tempdir().unwrap();
    let mut setting = Setting::in_dir(&place.path().join("data"));
    setting.database_url = database_url;
    setting.reap = Some("2s");
    Scene::prepare(setting, Some(place)).await
}

/// A second server on the same database.
pub(crate) fn beside(scene: &Scene) -> Setting {
    let mut beside = scene.setting.clone();
    beside.data_dir = PathBuf::from(format!("{}-2", scene.setting.data_dir.display()));
    std::fs::create_dir(&beside.data_dir).unwrap();
    beside
}

fn slow(op: &str, delay_ms: u64) -> Fault {
    Fault {
        op: op.to_owned(),
        delay_ms: Some(delay_ms),
        count: Some(1),
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_server_finishes_what_a_dead_one_began() {
    let Some(database) = Database::create("pair").await else {
        return;
    };
    let (scene, first) = database.scene().await;
    let second = beside(&scene).start().await;
    let seen = Seen::default();

    // A revocation under way, and a key made for a purchase but not on record.
    let one = Player::new(&scene, &first, &seen);
    let Ok(payment) = one.sign().await else {
        panic!("the server is gone")
    };
    let Ok(Some(grant)) = one.buy(&payment).await else {
        panic!("not bought: {}", first.tail())
    };
    let Ok(Some(key)) = one.resolve(&grant).await else {
        panic!("not resolved: {}", first.tail())
    };
    scene.vendor.fault(slow("revoke", 60_000));
    let ending = tokio::spawn(async move { assert!(one.end_lease(&key).await.is_err()) });
    scene.vendor_is_asked().await;
    let two = Player::new(&scene, &first, &seen);
    let Ok(payment) = two.sign().await else {
        panic!("the server is gone")
    };
    scene.vendor.fault(slow("create", 200));
    let sent = payment.clone();
    let buying = tokio::spawn(async move { assert!(two.buy(&sent).await.is_err()) });
    scene.vendor_is_asked().await;
    let lock = hold(&scene).await;
    until("the key", async || (scene.vendor.live_keys().len() == 2).then_some(())).await;
    first.kill();
    ending.await.unwrap();
    buying.await.unwrap();
    let_go(lock).await;

    // The other one serves as if nothing had happened.
    check::always(&scene, &second, &seen).await;
    let other = Player::new(&scene, &second, &seen);
    assert!(other.resolve(&grant).await.is_ok_and(|key| key.is_some()));
    // And takes over when the dead one's time is up: 30 s after it began.
    until("the dead server's keys to end", async || {
        (scene.vendor.live_keys().len() == 1).then_some(())
    })
    .await;
    until("their record", async || {
        let rows = check::credentials(&scene.operator(&second)).await;
        let ended = rows.values().filter(|row| word(row, "/state") == "revoked");
        (ended.count() == 2).then_some(())
    })
    .await;
    assert_eq!(scene.ledger().len(), 1, "the dead purchase was not charged");
    check::at_rest(&scene, &second).await;
    check::always(&scene, &second, &seen).await;
    drop(second);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_lose_nothing_on_postgres() {
    if std::env::var_os("DEKEYS_CRASH_POSTGRES").is_none() {
        say("SKIPPED random kills on PostgreSQL: set DEKEYS_CRASH_POSTGRES=1 (takes over a minute)");
        return;
    }
    let Some(database) = Database::create("random").await else {
        return;
    };
    let (scene, server) = database.scene().await;
    rounds(&scene, server, 6).await;
    database.drop().await;
}
