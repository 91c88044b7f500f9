//! The last uses of a grant: as many answers as are left, however many ask at once.

use std::sync::Arc;

use dekeys::setup::server::Server;
use dekeys::setup::stage::{self, PRIM};
use serde_json::{Value, json};

use crate::support::{Bought, READ, Seen, TestApp, any_port, pinned, priced, resolve, same};

const ASKERS: usize = 64;
const LEFT: usize = 5;
const PRIMS: [&str; 3] = [PRIM, "prim-two", "prim-three"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_five_uses_give_five_keys_on_sqlite() {
    let app = TestApp::start().await;
    last_uses(&app, std::slice::from_ref(&app.stage.server.url)).await;
    app.stop().await;
}

/// Two instances on one database ask each other nothing, and still count together.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_five_uses_give_five_keys_on_postgres_with_two_instances() {
    let Some(database) = crate::store::Database::create().await else {
        return;
    };
    let policy = priced("demo-readers", "echo:read", &[PRIM], "0.01");
    let app = TestApp::with(&policy, |config| config.database_url = database.url()).await;
    let mut other = app.config.clone();
    other.data_dir = app.config.data_dir.join("other");
    other.listen = any_port();
    let second = Server::start(&other).await.unwrap();
    dekeys::service::unseal::unseal(&second.app, app.unseal_key())
        .await
        .unwrap();
    last_uses(&app, &[app.stage.server.url.clone(), second.url.clone()]).await;
    second.stop().await;
    app.stop().await;
    database.drop().await;
}

async fn last_uses(app: &TestApp, urls: &[String]) {
    let mut keys = vec![same(&app.stage.cast.prim.to_text())];
    for name in &PRIMS[1..] {
        keys.push(app.enroll(name, "prim").await.to_text());
    }
    let policy = priced("demo-readers", "echo:read", &PRIMS, "0.01");
    app.stage.put_in_force(&policy).await.unwrap();
    let bought = app
        .buy(json!({ "reference": READ, "ttl": "10m", "max_resolves": LEFT + 3 }))
        .await;
    for _ in 0..3 {
        app.key_of(&bought).await;
    }
    assert_eq!(left(app, &bought).await, LEFT);

    let start = Arc::new(tokio::sync::Barrier::new(ASKERS));
    let mut askers = tokio::task::JoinSet::new();
    for n in 0..ASKERS {
        let key = dekeys::client::KeyFile::parse(&keys[n % keys.len()]).unwrap();
        let prim = stage::client(&urls[n % urls.len()], Some(&key)).unwrap();
        let token = pinned(&bought.token, PRIMS[n % PRIMS.len()]);
        let start = Arc::clone(&start);
        askers.spawn(async move {
            start.wait().await;
            resolve(&prim, &token, READ).await
        });
    }
    let answers: Vec<Seen> = askers.join_all().await;
    let given = answers.iter().filter(|seen| seen.key().is_some()).count();
    let told: Vec<_> = answers.iter().map(|seen| (seen.status, seen.code())).collect();
    assert_eq!(given, LEFT, "{told:?}");
    for seen in answers.iter().filter(|seen| seen.key().is_none()) {
        seen.is(403, "used_up");
    }
    assert_eq!(left(app, &bought).await, 0);
}

async fn left(app: &TestApp, bought: &Bought) -> usize {
    let request = dekeys::client::Request::get(&["v1", "grants", &bought.id]);
    let grant = crate::support::send(&app.agent(), request).await.good();
    let left = grant.pointer("/limits/remaining_resolves").and_then(Value::as_u64);
    usize::try_from(left.unwrap()).unwrap()
}
