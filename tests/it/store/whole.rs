//! The histories of a database, and whole databases: out of one, into another.

use dekeys::base::time::Timestamp;
use dekeys::model::control::Mac;
use dekeys::model::sealed::Sealed;
use dekeys::store::backup::{Dumped, Table, Value};
use dekeys::store::{Store, StoreError};

use super::samples::{self, NOW, instance, stored};

pub(super) async fn histories_are_kept_and_the_epoch_rises(store: Store) {
    let mut row = samples::incarnation();
    let mut tx = store.begin().await.unwrap();
    assert_eq!((tx.epoch().await.unwrap(), tx.raise_epoch().await.unwrap()), (0, 1));
    tx.insert_incarnation(&row).await.unwrap();
    assert!(matches!(tx.insert_incarnation(&row).await, Err(StoreError::Duplicate)));
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(
        tx.raise_epoch().await.unwrap(),
        1,
        "what was not committed does not count"
    );
    tx.insert_incarnation(&row).await.unwrap();
    row.unverified.reconciled = Some(NOW);
    row.mac = Mac([8; 32]);
    tx.update_incarnation(&row).await.unwrap();
    assert_eq!(tx.incarnation(row.unverified.id).await.unwrap(), Some(row.clone()));
    assert_eq!(tx.incarnations().await.unwrap(), vec![row]);
    assert!(matches!(
        tx.drop_signing_keys("token").await,
        Err(StoreError::Absent("signing key"))
    ));
    tx.insert_signing_key("token", 1, "p", &Sealed(vec![1]), NOW)
        .await
        .unwrap();
    tx.drop_signing_keys("token").await.unwrap();
    let keys = tx.signing_keys("token").await.unwrap();
    assert_eq!(keys[0].retired, Some(Timestamp::from_millis(0)));
    let place = tx.place().await.unwrap();
    assert!(place.len() > 8 && tx.place().await.unwrap() == place, "{place}");
    assert_eq!(tx.roots_in_use().await.unwrap(), Vec::new());
    let vendor = "demo".parse().unwrap();
    assert_eq!(tx.living_credentials(&vendor).await.unwrap(), Vec::new());
    assert!(tx.roots().await.unwrap().is_empty());
    assert!(tx.sealed_credentials(None, 9).await.unwrap().is_empty());
    tx.commit(&[samples::event("a.b", "x")], &[]).await.unwrap();
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.last_of_kind("a.b").await.unwrap(), Some(NOW));
    assert_eq!(tx.last_of_kind("a.c").await.unwrap(), None);
}

/// All of it in one call, into an empty database only.
pub(super) async fn a_whole_database_is_copied_into_an_empty_one(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.insert_instance(&stored(instance())).await.unwrap();
    tx.commit(&[samples::event("a.b", "x")], &[]).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let other = Store::open(&super::sqlite_url(&place)).await.unwrap();
    let copied = store.copy_into(&other).await.unwrap();
    let (mut here, mut there) = (store.read().await.unwrap(), other.read().await.unwrap());
    assert_eq!(there.row_counts().await.unwrap(), here.row_counts().await.unwrap());
    assert_eq!(here.row_counts().await.unwrap(), copied);
    assert_eq!(there.chain_head().await.unwrap(), here.chain_head().await.unwrap());
    here.end().await.unwrap();
    there.end().await.unwrap();
    assert!(matches!(store.copy_into(&other).await, Err(StoreError::Duplicate)));
    let (to, from) = tokio::sync::mpsc::channel(5000);
    let mut tx = store.read().await.unwrap();
    tx.dump_all(to).await.unwrap();
    tx.end().await.unwrap();
    let mut tx = other.begin().await.unwrap();
    assert_eq!(tx.load_all(from).await.unwrap(), copied, "over what is there");
    let (to, from) = tokio::sync::mpsc::channel(9);
    let mut strange = tx.tables().await.unwrap()[0].clone();
    strange.name = "grants_of_tomorrow".to_owned();
    to.send(Dumped::Table(strange)).await.unwrap();
    drop(to);
    assert!(matches!(tx.load_all(from).await, Err(StoreError::Corrupt(_))));
    drop(tx);
    other.close().await;
}

/// Every table goes out of one database and into another.
pub(super) async fn what_is_dumped_is_loaded_whole(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.insert_instance(&stored(instance())).await.unwrap();
    tx.save_keyring("{\"a\":\"ü\"}").await.unwrap();
    tx.insert_signing_key("log", 1, "p", &Sealed(vec![0, 255]), NOW)
        .await
        .unwrap();
    tx.commit(&[samples::event("a.b", "x"), samples::event("a.c", "x")], &[])
        .await
        .unwrap();
    let (tables, rows) = dumped(&store).await;
    assert!(tables.len() > 25, "{tables:?}");
    let place = tempfile::tempdir().unwrap();
    let other = Store::open(&super::sqlite_url(&place)).await.unwrap();
    let (_, latest) = store.migrations().await.unwrap();
    assert!(matches!(
        other.migrate_to(latest + 1).await,
        Err(StoreError::MigrationMismatch { .. })
    ));
    other.migrate_to(latest - 1).await.unwrap();
    other.migrate_to(latest).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    tx.empty(&tables).await.unwrap();
    for (table, rows) in &rows {
        if !rows.is_empty() {
            tx.load(table, rows).await.unwrap();
        }
    }
    tx.loaded().await.unwrap();
    // The chain goes on where it stood.
    tx.commit(&[samples::event("a.d", "x")], &[]).await.unwrap();
    let mut tx = other.read().await.unwrap();
    assert_eq!(tx.chain_head().await.unwrap().0, 3);
    let chain = tx.chain(1, 10).await.unwrap();
    assert!(chain.windows(2).all(|pair| pair[1].prev == pair[0].digest));
    assert_eq!(tx.keyring().await.unwrap().as_deref(), Some("{\"a\":\"ü\"}"));
    tx.end().await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let narrow = vec![vec![Value::Null]];
    assert!(matches!(
        tx.load(&rows[0].0, &narrow).await,
        Err(StoreError::Corrupt(_))
    ));
    drop(tx);
    other.close().await;
}

type Rows = Vec<(Table, Vec<Vec<Value>>)>;

async fn dumped(store: &Store) -> (Vec<Table>, Rows) {
    let (to, mut from) = tokio::sync::mpsc::channel(1000);
    let mut tx = store.read().await.unwrap();
    let tables = tx.tables().await.unwrap();
    let mut count = 0;
    for table in &tables {
        count += tx.dump(table, &to).await.unwrap();
    }
    drop(to);
    tx.end().await.unwrap();
    let mut rows = Rows::new();
    while let Some(dumped) = from.recv().await {
        match dumped {
            Dumped::Table(table) => rows.push((table, Vec::new())),
            Dumped::Row(row) => rows.last_mut().unwrap().1.push(row),
        }
    }
    let all: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
    assert_eq!(u64::try_from(all).unwrap(), count);
    (tables, rows)
}
