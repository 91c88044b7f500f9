//! kill -9 at chosen moments. The windows are held open from outside: the vendor is slow, or the test has the
//! database's or the ledger's lock, so that the server hangs exactly where it is to die.

use std::fs::File;

use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::client::Request;
use dekeys::mock::Fault;
use dekeys::setup::stage;
use dekeys::store::{Store, Tx};
use serde_json::{Value, json};

use super::check;
use super::load::{Grant, Payment, Player, Seen, below};
use super::scene::{Scene, ok, word};
use super::server::{Server, until};

fn slow(op: &str, delay_ms: u64) -> Fault {
    Fault {
        op: op.to_owned(),
        delay_ms: Some(delay_ms),
        count: Some(1),
        ..Fault::default()
    }
}

/// Takes the database's only write lock, as another process may.
pub(crate) async fn hold(scene: &Scene) -> (Store, Tx) {
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let tx = store.begin().await.unwrap();
    (store, tx)
}

pub(crate) async fn let_go((store, tx): (Store, Tx)) {
    drop(tx);
    store.close().await;
}

fn player(scene: &Scene, server: &Server, seen: &Seen) -> Player {
    Player::new(scene, server, seen)
}

/// A payment, and the purchase with it under way.
async fn begin_to_buy(scene: &Scene, server: &Server, seen: &Seen) -> (Payment, tokio::task::JoinHandle<()>) {
    let player = player(scene, server, seen);
    let Ok(payment) = player.sign().await else {
        panic!("the server is gone")
    };
    let sent = payment.clone();
    let task = tokio::spawn(async move { assert!(player.buy(&sent).await.is_err(), "the purchase was answered") });
    (payment, task)
}

/// Buys with a payment that was presented before, until it is answered with a grant.
async fn buy_again(scene: &Scene, server: &Server, seen: &Seen, payment: &Payment) -> Grant {
    let player = player(scene, server, seen);
    until("the payment to give its grant", async || {
        let Ok((status, code, grant)) = player.present_again(payment).await else {
            panic!("the server is gone: {}", server.tail())
        };
        assert!(
            matches!(status, 200 | 201) || code == "idempotency_running" || code == "payment_unknown",
            "{status} {code}"
        );
        grant
    })
    .await
}

async fn bought(scene: &Scene, server: &Server, seen: &Seen) -> (Player, Grant) {
    let player = player(scene, server, seen);
    let Ok(payment) = player.sign().await else {
        panic!("the server is gone")
    };
    let Ok(Some(grant)) = player.buy(&payment).await else {
        panic!("not bought: {}", server.tail())
    };
    (player, grant)
}

/// How many events of this kind stand on record.
async fn count(scene: &Scene, server: &Server, kind: &str) -> usize {
    check::events(&scene.operator(server), kind).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_for_a_purchase_but_not_on_record_is_found_and_ended() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    scene.vendor.fault(slow("create", 200));
    let (payment, task) = begin_to_buy(&scene, &server, &seen).await;
    scene.vendor_is_asked().await;
    let lock = hold(&scene).await;
    until("the key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
    server.kill();
    task.await.unwrap();
    let_go(lock).await;

    let server = scene.start().await;
    check::always(&scene, &server, &seen).await;
    until("the lost key's end", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    assert!(scene.ledger().is_empty(), "nothing was charged");
    let grant = buy_again(&scene, &server, &seen, &payment).await;
    assert!(
        player(&scene, &server, &seen)
            .resolve(&grant)
            .await
            .is_ok_and(|key| key.is_some())
    );
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!((scene.ledger().len(), scene.vendor.live_keys().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_whose_answer_was_dropped_is_found_after_a_kill() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    scene.vendor.fault(Fault {
        drop_reply: true,
        ..slow("create", 0)
    });
    let task = {
        let player = player(&scene, &server, &seen);
        let Ok(payment) = player.sign().await else {
            panic!("the server is gone")
        };
        tokio::spawn(async move { drop(player.buy(&payment).await) })
    };
    until("the key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
    server.kill();
    task.await.unwrap();
    let server = scene.start().await;
    until("the lost key's end", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    check::always(&scene, &server, &seen).await;
    check::at_rest(&scene, &server).await;
}

/// Kills the server where it has recorded that settlement begins; `after` says whether the money has moved.
async fn killed_while_settling(scene: &Scene, server: Server, seen: &Seen, after: bool) -> Payment {
    scene.vendor.fault(slow("create", 300));
    let (payment, task) = begin_to_buy(scene, &server, seen).await;
    scene.vendor_is_asked().await;
    let ledger = File::open(&scene.setting.ledger).unwrap();
    ledger.lock().unwrap();
    until("the settlement's begin", async || {
        (count(scene, &server, "payment.settling").await == 1).then_some(())
    })
    .await;
    if after {
        let lock = hold(scene).await;
        ledger.unlock().unwrap();
        until("the money to move", async || (scene.ledger().len() == 1).then_some(())).await;
        server.kill();
        let_go(lock).await;
    } else {
        server.kill();
        ledger.unlock().unwrap();
    }
    task.await.unwrap();
    payment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_moved_before_the_kill_gives_its_grant_once() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let payment = killed_while_settling(&scene, server, &seen, true).await;
    let server = scene.start().await;
    check::always(&scene, &server, &seen).await;
    check::at_rest(&scene, &server).await;
    let grant = buy_again(&scene, &server, &seen, &payment).await;
    assert!(
        player(&scene, &server, &seen)
            .resolve(&grant)
            .await
            .is_ok_and(|key| key.is_some())
    );
    check::always(&scene, &server, &seen).await;
    assert_eq!(count(&scene, &server, "grant.created").await, 1);
    assert_eq!((scene.ledger().len(), scene.vendor.keys().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_may_still_move_is_neither_asked_for_again_nor_given_up() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let payment = killed_while_settling(&scene, server, &seen, false).await;
    let server = scene.start().await;
    check::at_rest(&scene, &server).await;
    let Ok((status, code, grant)) = player(&scene, &server, &seen).present_again(&payment).await else {
        panic!("the server is gone")
    };
    assert_eq!((status, code.as_str(), grant.is_none()), (202, "payment_unknown", true));
    assert!(scene.ledger().is_empty(), "the payment was tried again");
    assert_eq!(
        scene.vendor.live_keys().len(),
        1,
        "the key is held until the payment's fate is known"
    );
    check::always(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_for_a_resolve_but_not_on_record_is_ended_and_another_one_given() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let (first, grant) = bought(&scene, &server, &seen).await;
    let Ok(Some(held)) = first.resolve(&grant).await else {
        panic!("not resolved")
    };
    assert!(first.end_lease(&held).await.is_ok());
    scene.vendor.fault(slow("create", 200));
    let (task, grant) = {
        let task = tokio::spawn(async move {
            assert!(first.resolve(&grant).await.is_err(), "the resolve was answered");
            grant
        });
        scene.vendor_is_asked().await;
        let lock = hold(&scene).await;
        until("the key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
        server.kill();
        let grant = task.await.unwrap();
        (lock, grant)
    };
    let_go(task).await;

    let server = scene.start().await;
    check::always(&scene, &server, &seen).await;
    let again = player(&scene, &server, &seen).resolve(&grant).await;
    assert!(again.is_ok_and(|key| key.is_some()), "{:?}", seen.lock().unwrap().odd);
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!(scene.vendor.live_keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolve_whose_key_was_never_made_does_not_keep_its_prim_waiting() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let (first, grant) = bought(&scene, &server, &seen).await;
    let Ok(Some(held)) = first.resolve(&grant).await else {
        panic!("not resolved")
    };
    assert!(first.end_lease(&held).await.is_ok());
    // The vendor has not begun when the server dies, and sees that nobody waits any more.
    scene.vendor.fault(slow("create", 60_000));
    let task = tokio::spawn(async move {
        assert!(first.resolve(&grant).await.is_err(), "the resolve was answered");
        grant
    });
    scene.vendor_is_asked().await;
    server.kill();
    let grant = task.await.unwrap();
    let server = scene.start().await;
    let again = player(&scene, &server, &seen).resolve(&grant).await;
    assert!(again.is_ok_and(|key| key.is_some()), "{:?}", seen.lock().unwrap().odd);
    check::always(&scene, &server, &seen).await;
    check::at_rest(&scene, &server).await;
    assert_eq!(scene.vendor.live_keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_was_under_way_is_finished() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let (first, grant) = bought(&scene, &server, &seen).await;
    let Ok(Some(key)) = first.resolve(&grant).await else {
        panic!("not resolved")
    };
    scene.vendor.fault(slow("revoke", 60_000));
    let task =
        tokio::spawn(async move { assert!(first.end_lease(&key).await.is_err(), "the revocation was answered") });
    scene.vendor_is_asked().await;
    server.kill();
    task.await.unwrap();
    assert_eq!(scene.vendor.live_keys().len(), 1);
    let server = scene.start().await;
    until("the key's end", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    until("its record", async || {
        let rows = check::credentials(&scene.operator(&server)).await;
        rows.values().all(|row| word(row, "/state") == "revoked").then_some(())
    })
    .await;
    check::always(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_grant_that_was_being_made_fails_and_leaves_no_key() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    let idempotency = format!("crash-{}", below(&OsRandom, u64::MAX));
    scene.vendor.fault(slow("create", 200));
    let task = {
        let (player, key) = (player(&scene, &server, &seen), idempotency.clone());
        tokio::spawn(async move { assert!(player.be_given(Some(&key)).await.is_err(), "it was answered") })
    };
    scene.vendor_is_asked().await;
    let lock = hold(&scene).await;
    until("the key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
    server.kill();
    task.await.unwrap();
    let_go(lock).await;

    let server = scene.start().await;
    let operator = scene.operator(&server);
    until("the grant to fail", async || {
        let grants: Value = ok(&operator, &Request::get(&["v1", "grants"])).await;
        assert_eq!(grants["data"].as_array().map(Vec::len), Some(1));
        (word(&grants, "/data/0/state") == "failed").then_some(())
    })
    .await;
    check::at_rest(&scene, &server).await;
    assert!(scene.vendor.live_keys().is_empty());
    // The same request again tells how it ended, instead of being under way for ever.
    let body = json!({ "reference": super::scene::FREE, "audience": [stage::PRIM],
        "public_key": scene.cast.agent.public() });
    let request = Request::post(&["v1", "grants"])
        .json(&body)
        .header("idempotency-key", &idempotency);
    let again = scene.agent(&server).send_any(&request).await.unwrap();
    assert_eq!((again.status, word(&again.json(), "/code").as_str()), (409, "conflict"));
    check::always(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_reaches_the_vendor_after_its_senders_death_is_found() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    scene.vendor.fault(slow("create", 60_000));
    let (_, task) = begin_to_buy(&scene, &server, &seen).await;
    scene.vendor_is_asked().await;
    server.kill();
    task.await.unwrap();
    let server = scene.start().await;
    // The searches that a lagging list would explain have found nothing.
    until("three searches", async || {
        let calls = scene.vendor.calls();
        (calls.iter().filter(|call| call.op == "list").count() >= 3).then_some(())
    })
    .await;
    let listed = check::credentials(&scene.operator(&server)).await;
    let name = listed.keys().next().unwrap();
    // Only now does the request, which waited on its way, have its effect.
    let root = scene.vendor.root_fields()[0].1.clone();
    let body = json!({ "name": name, "scopes": "read" });
    let late = Request::post(&["keys"]).bearer(SecretText::new(root)).json(&body);
    let vendor = stage::client(scene.vendor.url().as_str().trim_end_matches('/'), None).unwrap();
    assert_eq!(vendor.send_any(&late).await.unwrap().status, 201);
    assert_eq!(scene.vendor.live_keys().len(), 1);
    until("the late key's end", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_is_also_found_by_the_reconciler_gives_one_grant() {
    let (scene, server) = Scene::new().await;
    let seen = Seen::default();
    scene.vendor.fault(slow("create", 300));
    let buyer = player(&scene, &server, &seen);
    let Ok(payment) = buyer.sign().await else {
        panic!("the server is gone")
    };
    let buying = tokio::spawn(async move { buyer.buy(&payment).await.is_ok_and(|grant| grant.is_some()) });
    scene.vendor_is_asked().await;
    let ledger = File::open(&scene.setting.ledger).unwrap();
    ledger.lock().unwrap();
    until("the settlement's begin", async || {
        (count(&scene, &server, "payment.settling").await == 1).then_some(())
    })
    .await;
    // The reconciler's time has come while the rail still works.
    let grants = ok(&scene.operator(&server), &Request::get(&["v1", "grants"])).await;
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let grant = word(&grants, "/data/0/id").parse().unwrap();
    let mut purchase = tx.purchase_of_grant(grant).await.unwrap().unwrap().unverified;
    let come = Some(purchase.created);
    purchase.next_at = come;
    tx.update_purchase(&purchase).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    until("the reconciler to take the look", async || {
        let mut tx = store.read().await.unwrap();
        let row = tx.purchase_of_grant(grant).await.unwrap().unwrap();
        (row.unverified.next_at != come).then_some(())
    })
    .await;
    store.close().await;
    ledger.unlock().unwrap();
    assert!(buying.await.unwrap(), "{:?}", seen.lock().unwrap().odd);
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!(count(&scene, &server, "grant.created").await, 1);
}

/// Presents a payment again until it is answered with this.
async fn told_again(scene: &Scene, server: &Server, seen: &Seen, payment: &Payment, wanted: (u16, &str)) {
    let player = player(scene, server, seen);
    until("the answer", async || {
        let Ok((status, code, _)) = player.present_again(payment).await else {
            panic!("the server is gone: {}", server.tail())
        };
        ((status, code.as_str()) == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_moved_first_and_was_not_put_on_record_gives_its_grant() {
    let (scene, server) = Scene::new_prepaid().await;
    let seen = Seen::default();
    let player = player(&scene, &server, &seen);
    let Ok(payment) = player.sign().await else {
        panic!("the server is gone")
    };
    let sent = payment.clone();
    let task = tokio::spawn(async move { drop(player.buy(&sent).await) });
    until("the settlement", async || (scene.ledger().len() == 1).then_some(())).await;
    server.kill();
    task.await.unwrap();

    let server = scene.start().await;
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!(scene.ledger().len(), 1);
    let made = count(&scene, &server, "grant.created").await;
    assert_eq!(made + count(&scene, &server, "payment.credited").await, 1);
    if made == 1 {
        buy_again(&scene, &server, &seen, &payment).await;
    } else {
        told_again(&scene, &server, &seen, &payment, (502, "payment_credited")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_paid_first_and_being_made_is_credited_after_a_kill() {
    let (scene, server) = Scene::new_prepaid().await;
    let seen = Seen::default();
    scene.vendor.fault(slow("create", 200));
    let (payment, task) = begin_to_buy(&scene, &server, &seen).await;
    scene.vendor_is_asked().await;
    assert_eq!(scene.ledger().len(), 1, "the money moves before a key is asked for");
    let lock = hold(&scene).await;
    until("the key", async || (scene.vendor.live_keys().len() == 1).then_some(())).await;
    server.kill();
    task.await.unwrap();
    let_go(lock).await;

    let server = scene.start().await;
    check::always(&scene, &server, &seen).await;
    until("the lost key's end", async || {
        scene.vendor.live_keys().is_empty().then_some(())
    })
    .await;
    told_again(&scene, &server, &seen, &payment, (502, "payment_credited")).await;
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!(count(&scene, &server, "payment.credited").await, 1);
    assert_eq!(
        (scene.ledger().len(), count(&scene, &server, "grant.created").await),
        (1, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_record_as_paid_is_made_after_a_kill() {
    let (scene, server) = Scene::new_prepaid().await;
    let seen = Seen::default();
    // The vendor has not begun when the server dies; its intent is taken back below, as if it had died just before.
    scene.vendor.fault(slow("create", 60_000));
    let (payment, task) = begin_to_buy(&scene, &server, &seen).await;
    scene.vendor_is_asked().await;
    server.kill();
    task.await.unwrap();
    let store = Store::open(&scene.setting.database_url).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    for row in tx.unfinished_credentials().await.unwrap() {
        let mut row = row;
        row.state = dekeys::model::credential::CredentialState::Failed;
        row.next_at = None;
        tx.update_credential(&row).await.unwrap();
    }
    tx.commit(&[], &[]).await.unwrap();
    store.close().await;
    let path = scene.setting.data_dir.join("dekeys.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut beside = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let back = "UPDATE purchases SET state = 'paid' WHERE state = 'provisioning'";
    assert_eq!(sqlx::query(back).execute(&mut beside).await.unwrap().rows_affected(), 1);
    sqlx::Connection::close(beside).await.unwrap();

    let server = scene.start().await;
    let grant = buy_again(&scene, &server, &seen, &payment).await;
    assert!(
        player(&scene, &server, &seen)
            .resolve(&grant)
            .await
            .is_ok_and(|key| key.is_some())
    );
    check::at_rest(&scene, &server).await;
    check::always(&scene, &server, &seen).await;
    assert_eq!((scene.ledger().len(), scene.vendor.live_keys().len()), (1, 1));
    assert_eq!(count(&scene, &server, "grant.created").await, 1);
}
