//! A COMMIT whose answer is lost: the store finds out whether it took place. A proxy between store and PostgreSQL
//! cuts the line at the COMMIT, before or after the server saw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dekeys::base::time::ManualClock;
use dekeys::store::writer::{ResolveOutcome, Writer};
use dekeys::store::{Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Database;
use super::samples::{self, Ids, NOW, ask, grant, stored};
use dekeys::base::id::PrincipalId;

const PASS: u8 = 0;
/// The server never gets the next COMMIT.
const CUT_BEFORE: u8 = 1;
/// The server gets it; its answer is thrown away.
const CUT_AFTER: u8 = 2;

/// Forwards to `server`; answers its own address.
async fn proxy(server: String, mode: Arc<AtomicU8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, mode) = (server.clone(), mode.clone());
            tokio::spawn(
                async move { Box::pin(forward(client, TcpStream::connect(server).await.unwrap(), &mode)).await },
            );
        }
    });
    address
}

async fn forward(mut client: TcpStream, mut server: TcpStream, mode: &AtomicU8) {
    let (mut up, mut down) = ([0; 8_192], [0; 8_192]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let commit = up[..length].windows(6).any(|window| window == b"COMMIT");
                let mode = if commit { mode.swap(PASS, Ordering::SeqCst) } else { PASS };
                if mode == CUT_BEFORE {
                    return;
                }
                server.write_all(&up[..length]).await.unwrap();
                if mode == CUT_AFTER {
                    // The answer: now the commit is done, and nobody hears of it.
                    assert!(server.read(&mut down).await.unwrap() > 0);
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&down[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn through_a_proxy(database: &Database) -> (Store, Arc<AtomicU8>) {
    database.store().await.close().await;
    let mode = Arc::new(AtomicU8::new(PASS));
    let url = database.url();
    let (_, rest) = url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let address = proxy(server.to_owned(), mode.clone()).await;
    let store = Store::open(&url.replace(rest, &format!("{address}/{name}?sslmode=disable")))
        .await
        .unwrap();
    (store, mode)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_read_back() {
    let Some(database) = Database::create().await else {
        return;
    };
    let (store, mode) = through_a_proxy(&database).await;
    let tx = store.begin().await.unwrap();
    mode.store(CUT_AFTER, Ordering::SeqCst);
    tx.commit(&[samples::event("a.b", "x")], &[]).await.unwrap();
    assert_eq!(mode.load(Ordering::SeqCst), PASS, "the line was cut");

    let tx = store.begin().await.unwrap();
    mode.store(CUT_BEFORE, Ordering::SeqCst);
    let lost = tx.commit(&[samples::event("a.b", "y")], &[]).await;
    assert!(matches!(lost, Err(StoreError::Database(_))), "{lost:?}");
    assert_eq!(store.read().await.unwrap().chain_head().await.unwrap().0, 1);

    let mut tx = store.begin().await.unwrap();
    tx.save_keyring("{}").await.unwrap();
    mode.store(CUT_AFTER, Ordering::SeqCst);
    assert!(
        matches!(tx.commit(&[], &[]).await, Err(StoreError::CommitUnknown)),
        "nothing to look for"
    );
    store.close().await;
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_is_lost_is_answered() {
    let Some(database) = Database::create().await else {
        return;
    };
    let (store, mode) = through_a_proxy(&database).await;
    let row = stored(grant("readers"));
    let mut tx = store.begin().await.unwrap();
    tx.insert_grant(&row).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    let writer = Writer::spawn(store.clone(), Arc::new(ManualClock::at(NOW)));
    let prim = || PrincipalId::new(NOW, &Ids);
    mode.store(CUT_AFTER, Ordering::SeqCst);
    let outcome = writer.resolve(ask(&row.unverified, prim())).await.unwrap();
    assert!(matches!(outcome, ResolveOutcome::Make { .. }));
    mode.store(CUT_BEFORE, Ordering::SeqCst);
    let lost = writer.resolve(ask(&row.unverified, prim())).await;
    assert!(matches!(lost, Err(StoreError::Database(_))), "{lost:?}");
    assert_eq!(
        store
            .read()
            .await
            .unwrap()
            .grant(row.unverified.id)
            .await
            .unwrap()
            .unwrap()
            .1,
        1
    );
    writer.stop().await;
    store.close().await;
    database.drop().await;
}
