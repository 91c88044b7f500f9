//! Commits, the chain of events, the tree's rows, transactions beside each other, migrations.

use dekeys::base::id::EventId;
use dekeys::base::time::Ttl;
use dekeys::store::events::{EventFilter, EventRow, link};
use dekeys::store::tree::TreeState;
use dekeys::store::{Engine, ReadTx, Release, Store, StoreError};

use super::samples::{self, Ids, NOW, instance, stored};

pub(super) async fn events_hang_on_one_chain(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.insert_instance(&stored(instance())).await.unwrap();
    let first = [samples::event("a.b", "x"), samples::event("a.c", "y")];
    tx.commit(&first, &[]).await.unwrap();
    store.begin().await.unwrap().commit(&[], &[]).await.unwrap();
    let last = samples::event("b.c", "x");
    store
        .begin()
        .await
        .unwrap()
        .commit(std::slice::from_ref(&last), &[])
        .await
        .unwrap();

    let mut tx = store.read().await.unwrap();
    let rows = tx.chain(1, 9).await.unwrap();
    let events: Vec<_> = first.iter().chain([&last]).collect();
    assert_eq!(rows.len(), 3);
    let mut prev = [0; 32];
    for (row, (event, n)) in rows.iter().zip(events.into_iter().zip(1..)) {
        let body = event.body().unwrap();
        assert_eq!(
            (row.n, row.id, &row.body, row.at, row.leaf),
            (n, event.id, &body, NOW, None)
        );
        assert_eq!((row.prev, row.digest), (prev, link(&prev, n, &body)));
        prev = row.digest;
    }
    assert_eq!(tx.chain_head().await.unwrap(), (3, prev));
    assert_eq!(tx.chain(3, 9).await.unwrap(), rows[2..]);
    assert_eq!(tx.event(last.id).await.unwrap().as_ref(), rows.last());
    assert_eq!(tx.event(EventId::new(NOW, &Ids)).await.unwrap(), None);
}

pub(super) async fn a_release_needs_its_event(store: Store) {
    let (first, second) = (samples::event("a.b", "x"), samples::event("a.b", "y"));
    let release = |event: EventId, version| Release {
        event,
        object: "cred_1".to_owned(),
        version,
    };
    let strange = EventId::new(NOW, &Ids);
    let tx = store.begin().await.unwrap();
    let refused = tx
        .commit(
            std::slice::from_ref(&first),
            &[release(first.id, 1), release(strange, 2)],
        )
        .await;
    assert!(matches!(refused, Err(StoreError::ReleaseWithoutEvent(id)) if id == strange));
    assert_eq!(
        store.read().await.unwrap().chain_head().await.unwrap().0,
        0,
        "nothing was written"
    );
    let tx = store.begin().await.unwrap();
    let releases = [release(second.id, 4), release(first.id, 3)];
    let committed = tx.commit(&[first.clone(), second.clone()], &releases).await.unwrap();
    let proofs: Vec<_> = committed
        .iter()
        .map(|proof| (proof.event(), proof.object(), proof.version()))
        .collect();
    assert_eq!(proofs, [(second.id, "cred_1", 4), (first.id, "cred_1", 3)]);
    let tx = store.begin().await.unwrap();
    assert!(
        matches!(tx.commit(&[first], &[]).await, Err(StoreError::Duplicate)),
        "an event happens once"
    );
    assert_eq!(store.read().await.unwrap().chain_head().await.unwrap().0, 2);
}

pub(super) async fn what_is_not_committed_is_undone(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.save_keyring("{}").await.unwrap();
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.keyring().await.unwrap(), None);
}

pub(super) async fn events_are_listed_by_what_they_are_about(store: Store) {
    let mut events: Vec<_> = ["lease.created", "lease.resolved", "leaser.made", "grant.made"]
        .into_iter()
        .map(|kind| samples::event(kind, "x"))
        .collect();
    events[1].object = "y".to_owned();
    events[3].actor = "dekeys".to_owned();
    store.begin().await.unwrap().commit(&events, &[]).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let mut numbers = async |filter: EventFilter| {
        let rows: Vec<EventRow> = tx.events(&filter, 3).await.unwrap();
        rows.into_iter().map(|row| row.n).collect::<Vec<_>>()
    };
    let filter = EventFilter::default();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(numbers(filter.clone()).await, [4, 3, 2]);
    assert_eq!(
        numbers(EventFilter {
            before_n: Some(3),
            ..filter.clone()
        })
        .await,
        [2, 1]
    );
    assert_eq!(
        numbers(EventFilter {
            after_n: Some(1),
            ..filter.clone()
        })
        .await,
        [2, 3, 4]
    );
    assert_eq!(
        numbers(EventFilter {
            kind_prefix: text("lease."),
            ..filter.clone()
        })
        .await,
        [2, 1]
    );
    assert_eq!(
        numbers(EventFilter {
            kind_prefix: text("lease.created"),
            ..filter.clone()
        })
        .await,
        [1]
    );
    assert_eq!(
        numbers(EventFilter {
            object: text("y"),
            ..filter.clone()
        })
        .await,
        [2]
    );
    assert_eq!(
        numbers(EventFilter {
            actor: text("dekeys"),
            ..filter
        })
        .await,
        [4]
    );
}

pub(super) async fn the_tree_grows_by_compare_and_set(store: Store) {
    let events = [
        samples::event("a.b", "1"),
        samples::event("a.b", "2"),
        samples::event("a.b", "3"),
    ];
    store.begin().await.unwrap().commit(&events, &[]).await.unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let mut tx = store.begin().await.unwrap();
    let empty = tx.tree_state().await.unwrap();
    assert_eq!((empty.size, empty.edge.len(), empty.root[0]), (0, 0, 0xe3));
    assert_eq!(leaves(&mut tx).await, [(ids[0], None), (ids[1], None), (ids[2], None)]);
    let two = TreeState {
        size: 2,
        edge: vec![[9; 32]],
        root: [9; 32],
    };
    let nodes = [(0, 0, [1; 32]), (0, 1, [2; 32]), (1, 0, [9; 32])];
    assert!(tx.number_leaves(0, ids[1], &nodes, &two).await.unwrap());
    assert!(
        !tx.number_leaves(0, ids[1], &[], &two).await.unwrap(),
        "somebody was faster"
    );
    tx.save_checkpoint(2, "two", NOW).await.unwrap();
    tx.save_checkpoint(2, "another two", NOW).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();

    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.tree_state().await.unwrap(), two);
    assert_eq!(
        leaves(&mut tx).await,
        [(ids[0], Some(0)), (ids[1], Some(1)), (ids[2], None)]
    );
    let leaf = tx.event_of_leaf(1).await.unwrap().unwrap();
    assert_eq!((leaf.id, leaf.leaf), (ids[1], Some(1)));
    assert_eq!(tx.event_of_leaf(2).await.unwrap(), None);
    let found = tx.nodes(&[(1, 0), (0, 1), (7, 7)]).await.unwrap();
    assert_eq!(found, [((1, 0), [9; 32]), ((0, 1), [2; 32])].into());
    assert!(tx.nodes(&[]).await.unwrap().is_empty());
    assert_eq!(tx.latest_checkpoint().await.unwrap(), Some((2, "two".to_owned())));
    assert_eq!(tx.checkpoint_at_least(1).await.unwrap(), Some((2, "two".to_owned())));
    assert_eq!(tx.checkpoint_at_least(3).await.unwrap(), None);
    let three = TreeState {
        size: 3,
        edge: vec![[9; 32], [3; 32]],
        root: [8; 32],
    };
    let again = tx.number_leaves(2, ids[1], &[], &three).await;
    assert!(
        matches!(again, Err(StoreError::Absent(_))),
        "leaf 2 is event 3 and no other"
    );
}

async fn leaves(tx: &mut ReadTx) -> Vec<(EventId, Option<i64>)> {
    let rows = tx.chain(1, 9).await.unwrap();
    rows.iter().map(|row| (row.id, row.leaf)).collect()
}

pub(super) async fn a_reader_sees_one_moment_and_does_not_wait(store: Store) {
    let mut writing = store.begin().await.unwrap();
    writing.save_keyring("new").await.unwrap();
    let mut reading = store.read().await.unwrap();
    assert_eq!(reading.keyring().await.unwrap(), None, "not committed");
    writing.commit(&[], &[]).await.unwrap();
    assert_eq!(reading.keyring().await.unwrap(), None, "the same moment");
    reading.end().await.unwrap();
    assert_eq!(
        store.read().await.unwrap().keyring().await.unwrap().as_deref(),
        Some("new")
    );
}

pub(super) async fn writers_take_turns(store: Store) {
    let mut first = store.begin().await.unwrap();
    let other = store.clone();
    let second = tokio::spawn(async move {
        let mut tx = other.begin().await.unwrap();
        let promised = tx.reserve_wraps(10).await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        promised
    });
    // Time for the other to stand in line; if it takes longer, the test only proves less.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished());
    assert_eq!(first.reserve_wraps(5).await.unwrap(), (0, 5));
    first.commit(&[], &[]).await.unwrap();
    assert_eq!(second.await.unwrap(), (5, 15));
}

pub(super) async fn migrations_run_once(store: Store) {
    store.ping().await.unwrap();
    let (applied, known) = store.migrations().await.unwrap();
    assert_eq!((applied, known), (known, super::catalog::latest()));
    store.migrate().await.unwrap();
    assert_eq!(store.migrations().await.unwrap().0, applied);
    assert!(matches!(store.engine(), Engine::Sqlite | Engine::Postgres));
}

pub(super) async fn followers_hear_of_every_commit(store: Store) {
    assert!(!store.is_followed());
    let mut news = store.news();
    assert!(store.is_followed());
    for at in [10_000, 200_000, 300_000] {
        let mut event = samples::event("a.b", "x");
        event.timestamp = dekeys::base::time::Timestamp::from_millis(at);
        store.begin().await.unwrap().commit(&[event], &[]).await.unwrap();
    }
    assert_eq!(
        *news.borrow_and_update(),
        3,
        "what this process commits is told by itself"
    );
    store.begin().await.unwrap().commit(&[], &[]).await.unwrap();
    assert!(!news.has_changed().unwrap(), "no event, no news");
    // Another one on the same database is not told; it looks.
    store.look_for_news().await.unwrap();
    assert_eq!(*news.borrow(), 3);
    let mut tx = store.read().await.unwrap();
    let mut since = async |millis| {
        tx.events_since(dekeys::base::time::Timestamp::from_millis(millis))
            .await
            .unwrap()
    };
    assert_eq!(since(0).await, 1);
    assert_eq!(since(250_000).await, 2, "the length of a commit earlier than asked for");
    assert_eq!(since(900_000).await, 4, "nothing yet");
}

pub(super) async fn what_ended_early_is_read_by_place_and_time(store: Store) {
    let at = |secs: i64, kind: &str| dekeys::model::event::Event {
        timestamp: NOW.plus(Ttl::from_secs(secs)),
        ..samples::event(kind, "x")
    };
    let events = [
        at(0, "token.revoked"),
        at(10, "grant.created"),
        at(20, "grant.revoked"),
        at(30, "lease.revoked"),
        at(40, "lease.revocation_failed"),
        at(50, "token.revoked"),
    ];
    store.begin().await.unwrap().commit(&events, &[]).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let mut read = async |after, secs, limit| {
        let rows = tx
            .revocations(after, NOW.plus(Ttl::from_secs(secs)), limit)
            .await
            .unwrap();
        rows.into_iter().map(|row| row.n).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 0, 9).await, [1, 3, 4, 6], "and no other kinds");
    assert_eq!(read(0, 1, 9).await, [3, 4, 6]);
    assert_eq!(read(3, 0, 9).await, [4, 6]);
    assert_eq!(read(0, 0, 2).await, [1, 3], "oldest first");
    assert_eq!(read(6, 0, 9).await, [0i64; 0]);
}
