//! kill -9 in every state of a rotation: afterwards one key is current and works, the vendor has no key that dekeys does
//! not know, and in the end it has one.

use std::time::{Duration, Instant};

use dekeys::base::random::{Random, SeededRandom};
use dekeys::base::secret::SecretText;
use dekeys::client::{Client, Request, secret};
use dekeys::mock::Fault;
use dekeys::model::rotation::RotationState;
use dekeys::store::Store;
use serde_json::json;

use super::check;
use super::load::Seen;
use super::moments::{hold, let_go};
use super::pair::Database;
use super::random::{number, say};
use super::record::Kill;
use super::scene::{Scene, ok};
use super::server::{Server, until};

const POLICY: &str = r#"name = "pooled"
vendor = "demo"
scopes = ["echo:read"]
[who]
kinds = ["agent"]
principals = ["agent"]
[grant]
max_ttl = "1h"
max_resolves = 1000000
credential_per = "shared"
[approval]
grants = "none"
[approvers]
from = ["ada", "grace"]
quorum = 2
"#;

/// A token whose grant shares its key, and that key in use.
pub(crate) async fn shared(scene: &Scene, server: &Server) -> SecretText {
    scene.approve(server, "pooled", POLICY).await;
    let ask = json!({ "reference": "dk://demo/echo:read", "ttl": "1h" });
    let grant = ok(&scene.agent(server), &Request::post(&["v1", "grants"]).json(&ask)).await;
    let token = secret::at(&grant, "/token").unwrap();
    forward(&scene.agent(server), &token).await.unwrap();
    token
}

fn same(token: &SecretText) -> SecretText {
    SecretText::new(secret::shown(token))
}

/// The status of a request that uses the shared key; `None` when the server is gone.
async fn forward(client: &Client, token: &SecretText) -> Option<u16> {
    let request = Request::get(&["p", "demo", "echo"]).bearer(same(token));
    client.send_any(&request).await.ok().map(|reply| reply.status)
}

/// Asks for a rotation in the background; whoever asked is gone with the server.
fn rotate(scene: &Scene, server: &Server, grace: &str) -> tokio::task::JoinHandle<()> {
    let client = scene.operator(server);
    let body = json!({ "grace": grace });
    tokio::spawn(async move {
        let request = Request::post(&["v1", "credentials", "pooled", "rotate"]).json(&body);
        drop(client.send_any(&request).await);
    })
}

fn slow(scene: &Scene, op: &str, delay_ms: u64) {
    scene.vendor.fault(Fault {
        op: op.to_owned(),
        delay_ms: Some(delay_ms),
        count: Some(1),
        ..Fault::default()
    });
}

/// The state of the newest rotation.
async fn state(scene: &Scene) -> Option<RotationState> {
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let key = tx.shared_keys().await.unwrap().pop();
    let last = match key {
        Some(key) => tx.rotations_of(&key.lease.to_string(), 1).await.unwrap(),
        None => Vec::new(),
    };
    tx.end().await.unwrap();
    store.close().await;
    last.first().map(|rotation| rotation.state)
}

async fn comes_to(scene: &Scene, wanted: RotationState) {
    until(wanted.as_str(), async || {
        (state(scene).await == Some(wanted)).then_some(())
    })
    .await;
}

/// What must hold after any kill: one current key, which works.
pub(crate) async fn whole(scene: &Scene, server: &Server, token: &SecretText) {
    check::always(scene, server, &Seen::default()).await;
    assert_eq!(
        forward(&scene.agent(server), token).await,
        Some(200),
        "{}",
        server.tail()
    );
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let keys = tx.shared_keys().await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = tx.credential(keys[0].credential).await.unwrap().unwrap();
    assert_eq!(key.state.as_str(), "active");
    tx.end().await.unwrap();
    store.close().await;
    let live = scene.vendor.live_keys();
    assert!(live.iter().any(|live| Some(&live.id) == key.vendor_key_id.as_ref()));
}

/// At rest there is one key, here and at the vendor.
pub(crate) async fn rested(scene: &Scene, server: &Server, token: &SecretText) {
    until("one key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
    check::at_rest(scene, server).await;
    whole(scene, server, token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_vendor_makes_the_second_key() {
    for recorded in [false, true] {
        let (scene, server) = Scene::new().await;
        let token = shared(&scene, &server).await;
        slow(&scene, "create", 300);
        let asked = rotate(&scene, &server, "0s");
        scene.vendor_is_asked().await;
        // Once it dies while the vendor works, once with the answer in hand and no place to put it.
        let lock = if recorded { Some(hold(&scene).await) } else { None };
        if recorded {
            until("the second key", async || {
                (scene.vendor.live_keys().len() == 2).then_some(())
            })
            .await;
        }
        server.kill();
        asked.await.unwrap();
        if let Some(lock) = lock {
            let_go(lock).await;
        }
        let server = scene.start().await;
        whole(&scene, &server, &token).await;
        comes_to(&scene, RotationState::Failed).await;
        rested(&scene, &server, &token).await;
        rotate(&scene, &server, "0s").await.unwrap();
        comes_to(&scene, RotationState::Done).await;
        rested(&scene, &server, &token).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_second_key_is_tried_or_has_been() {
    for tested in [false, true] {
        let (scene, server) = Scene::new().await;
        let token = shared(&scene, &server).await;
        let before = scene.vendor.live_keys()[0].id.clone();
        slow(&scene, "probe", 300);
        let asked = rotate(&scene, &server, "0s");
        comes_to(&scene, RotationState::PendingCreated).await;
        scene.vendor_is_asked().await;
        server.kill();
        asked.await.unwrap();
        if tested {
            // Died right after the commit that says so.
            let store = Store::open(&scene.setting.database_url).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            let key = tx.shared_keys().await.unwrap().pop().unwrap();
            let mut row = tx.rotation_pending(&key.lease.to_string()).await.unwrap().unwrap();
            row.state = RotationState::PendingTested;
            tx.update_rotation(&row).await.unwrap();
            tx.commit(&[], &[]).await.unwrap();
            store.close().await;
        }
        let server = scene.start().await;
        whole(&scene, &server, &token).await;
        comes_to(&scene, RotationState::Done).await;
        rested(&scene, &server, &token).await;
        assert_ne!(scene.vendor.live_keys()[0].id, before, "it went on where it was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_old_key_may_be_used_and_while_it_is_ended() {
    let (scene, server) = Scene::new().await;
    let token = shared(&scene, &server).await;
    let before = scene.vendor.live_keys()[0].id.clone();
    // A request with the old key keeps the grace open.
    slow(&scene, "route", 3000);
    let (client, kept) = (scene.agent(&server), same(&token));
    let under_way = tokio::spawn(async move { forward(&client, &kept).await });
    scene.vendor_is_asked().await;
    rotate(&scene, &server, "1h").await.unwrap();
    comes_to(&scene, RotationState::Overlap).await;
    server.kill();
    drop(under_way.await);
    scene.vendor.fault(Fault {
        op: "revoke".to_owned(),
        status: Some(503),
        ..Fault::default()
    });
    let server = scene.start().await;
    whole(&scene, &server, &token).await;
    comes_to(&scene, RotationState::OldRevoking).await;
    assert!(scene.vendor.live_keys().iter().any(|key| key.id == before));
    server.kill();
    scene.vendor.clear_faults();
    let server = scene.start().await;
    whole(&scene, &server, &token).await;
    comes_to(&scene, RotationState::Done).await;
    rested(&scene, &server, &token).await;
    assert_ne!(scene.vendor.live_keys()[0].id, before);
}

/// At any moment: the kill meets whatever state the rotation has just then.
async fn at_random(scene: Scene, mut server: Server) {
    let rounds = number("DEKEYS_CRASH_ROUNDS").unwrap_or(6);
    let seed = number("DEKEYS_CRASH_SEED").unwrap_or(11);
    let random = SeededRandom::new(seed);
    let token = shared(&scene, &server).await;
    for round in 0..rounds {
        let asked = rotate(&scene, &server, "0s");
        let mut drawn = [0u8; 1];
        random.fill(&mut drawn);
        tokio::time::sleep(Duration::from_millis(u64::from(drawn[0]))).await;
        server.kill();
        asked.await.unwrap();
        let began = Instant::now();
        server = scene.start().await;
        let kill = Kill {
            scene: &scene,
            suite: "random",
            walk: "rotations",
            point: "",
            seed,
            faults: 0,
            ready: began.elapsed(),
            orphans: None,
        };
        kill.record();
        say(&format!(
            "round {round}: killed after {} ms, {:?}",
            drawn[0],
            state(&scene).await
        ));
        whole(&scene, &server, &token).await;
        until("no rotation under way", async || {
            let state = state(&scene).await;
            state.is_none_or(RotationState::is_final).then_some(())
        })
        .await;
    }
    rested(&scene, &server, &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_on_sqlite() {
    let (scene, server) = Scene::new().await;
    at_random(scene, server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_on_postgres() {
    if std::env::var_os("DEKEYS_CRASH_POSTGRES").is_none() {
        return say(
            "SKIPPED kills in rotations on PostgreSQL: set DEKEYS_CRASH_POSTGRES=1 (timers of 30 s decide there)",
        );
    }
    let Some(database) = Database::create("rotations").await else {
        return;
    };
    let (scene, server) = database.scene().await;
    at_random(scene, server).await;
    database.drop().await;
}
