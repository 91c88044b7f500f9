//! Transactions: one that reads, one that writes, and how a commit puts events on the chain.

use std::ops::{Deref, DerefMut};

use sqlx::{Postgres, Sqlite, Transaction};
use tracing::Instrument as _;

use super::connect::Pools;
use super::dialect::{self, Text};
use super::error::{Fault, fault};
use super::set::Set;
use super::statement::{Cells, Record, Statement};
use super::{Engine, Store, StoreError};
use crate::base::fail::{self, Stage};
use crate::base::id::EventId;
use crate::base::trace::TARGET;
use crate::model::event::{Committed, Event};

/// A transaction that only reads. It sees the rows as they were at one moment.
pub struct ReadTx {
    conn: Conn,
    /// The last statement that wrote, which names a commit without events.
    #[cfg(debug_assertions)]
    wrote: &'static str,
}

/// A transaction that may write. What it did is undone unless it ends with [`Tx::commit`].
pub struct Tx {
    read: ReadTx,
    store: Store,
    head: Head,
}

/// What may be opened once the commit succeeded, and the event that records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// One of the commit's events.
    pub event: EventId,
    /// The id of the row whose sealed value may be opened.
    pub object: String,
    /// The version of that value.
    pub version: i64,
}

/// An open transaction of either engine.
pub(super) enum Conn {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// The last link of the chain, and the durable clock.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) incarnation: String,
    pub(super) n: i64,
    pub(super) digest: [u8; 32],
    pub(super) high_water: i64,
}

impl Record for Head {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            incarnation: cells.text()?,
            n: cells.int()?,
            digest: cells.hash()?,
            high_water: cells.int()?,
        })
    }
}

impl ReadTx {
    pub(super) async fn begin(pools: &Pools) -> Result<Self, StoreError> {
        let conn = match pools {
            Pools::Sqlite { read, .. } => Conn::Sqlite(read.begin().await?),
            Pools::Postgres { read, .. } => Conn::Postgres(
                read.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?,
            ),
        };
        Ok(Self::on(conn))
    }

    const fn on(conn: Conn) -> Self {
        Self {
            conn,
            #[cfg(debug_assertions)]
            wrote: "",
        }
    }

    /// Ends it and gives the connection back. Dropping does the same a little later.
    pub async fn end(self) -> Result<(), StoreError> {
        match self.conn {
            Conn::Sqlite(transaction) => transaction.rollback().await?,
            Conn::Postgres(transaction) => transaction.rollback().await?,
        }
        Ok(())
    }

    /// A statement whose text both engines understand.
    pub(super) fn ask(&mut self, text: &'static str) -> Statement<'_> {
        self.writes(text);
        Statement::new(&mut self.conn, text)
    }

    /// A statement with one text for each engine.
    pub(super) fn ask_each(&mut self, text: Text) -> Statement<'_> {
        let text = text.on(self.engine());
        self.writes(text);
        Statement::new(&mut self.conn, text)
    }

    #[cfg(debug_assertions)]
    fn writes(&mut self, text: &'static str) {
        if ["INSERT", "UPDATE", "DELETE", "WITH"]
            .iter()
            .any(|word| text.starts_with(word))
        {
            self.wrote = text;
        }
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "what was written is told to fail points alone")]
    const fn writes(&self, _text: &'static str) {}

    /// What a commit is called at fail points: the kinds of its events, or what it wrote last.
    #[cfg(debug_assertions)]
    fn arrow(&self, events: &[Event]) -> String {
        let mut kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        kinds.dedup();
        if kinds.is_empty() {
            kinds.extend(self.wrote.split_whitespace().filter(|word| *word != "INTO").take(2));
        }
        kinds.join("+")
    }

    /// Nothing listens in a release.
    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "as above")]
    const fn arrow(&self, _events: &[Event]) -> String {
        String::new()
    }

    /// The open transaction, for a statement of its own making.
    pub(super) const fn conn_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }

    pub(super) const fn engine(&self) -> Engine {
        match self.conn {
            Conn::Sqlite(_) => Engine::Sqlite,
            Conn::Postgres(_) => Engine::Postgres,
        }
    }
}

impl Deref for Tx {
    type Target = ReadTx;
    fn deref(&self) -> &ReadTx {
        &self.read
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut ReadTx {
        &mut self.read
    }
}

impl Tx {
    pub(super) async fn begin(store: Store) -> Result<Self, StoreError> {
        let conn = match &store.pools {
            // IMMEDIATE: a transaction that reads first and writes later could otherwise not get the lock.
            Pools::Sqlite { write, .. } => Conn::Sqlite(write.begin_with("BEGIN IMMEDIATE").await.map_err(locked)?),
            Pools::Postgres { write, .. } => Conn::Postgres(write.begin().await?),
        };
        let mut read = ReadTx::on(conn);
        let head = read.ask_each(dialect::LOCK_CHAIN).only().await?;
        Ok(Self { read, store, head })
    }

    /// Puts `events` on the chain in this order and makes everything durable. Answers one [`Committed`] for each
    /// release, in order.
    ///
    /// # Errors
    /// [`StoreError::ReleaseWithoutEvent`]; [`StoreError::CommitUnknown`] when the answer was lost and there is no
    /// event to look for; [`StoreError::Fatal`] when the disk failed, which ends the process.
    pub async fn commit(mut self, events: &[Event], releases: &[Release]) -> Result<Vec<Committed>, StoreError> {
        let unrecorded = |release: &&Release| !events.iter().any(|event| event.id == release.event);
        if let Some(release) = releases.iter().find(unrecorded) {
            return Err(StoreError::ReleaseWithoutEvent(release.event));
        }
        let span = tracing::info_span!(
            target: TARGET,
            "store.write",
            otel.kind = "internal",
            dekeys.write = "commit",
            dekeys.events = events.len()
        );
        let written = async {
            self.append(events).await?;
            self.finish(events).await
        };
        written.instrument(span).await?;
        let committed = |release: &Release| Committed::new(release.event, release.object.clone(), release.version);
        Ok(releases.iter().map(committed).collect())
    }

    /// The chain's head as this transaction found it.
    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    pub(super) const fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }

    /// Inserts the events and moves the head. The clock's high-water mark rises to the latest event's time.
    pub(super) async fn append(&mut self, events: &[Event]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.append_with(dialect::APPEND, &[], events).await
    }

    /// The same with a statement that writes `sets` before it.
    pub(super) async fn append_with(&mut self, text: Text, sets: &[Set], events: &[Event]) -> Result<(), StoreError> {
        let links = Links::of(self.engine(), &mut self.head, events)?;
        let head = self.head.clone();
        let statement = sets.iter().fold(self.ask_each(text), Statement::bind_set);
        let outcome = links
            .bind(statement)
            .bind(&head.incarnation)
            .bind(head.n)
            .bind(&head.digest)
            .bind(head.high_water)
            .run()
            .await;
        self.store.watched.see(outcome).map(drop)
    }

    /// Commits. When the answer gets lost, an event of this transaction tells what happened.
    pub(super) async fn finish(self, events: &[Event]) -> Result<(), StoreError> {
        let witness = events.first().map(|event| event.id);
        let arrow = self.read.arrow(events);
        fail::at(Stage::BeforeCommit, || arrow.clone());
        let outcome = match self.read.conn {
            Conn::Sqlite(transaction) => transaction.commit().await,
            Conn::Postgres(transaction) => transaction.commit().await,
        };
        let outcome = match outcome {
            Ok(()) => Ok(()),
            Err(error) => find_out(&self.store, witness, error).await,
        };
        self.store.watched.see(outcome)?;
        fail::at(Stage::AfterCommit, || arrow);
        self.store.watched.recorded(events);
        self.store.news.tell(self.head.n);
        Ok(())
    }
}

/// Nobody of ours writes meanwhile: another program has held the lock for longer than was waited, and trying again at
/// once would only wait as long again.
fn locked(error: sqlx::Error) -> StoreError {
    match error.into() {
        StoreError::Conflict(_) => StoreError::Busy,
        other => other,
    }
}

/// What a failed COMMIT means: the disk failed, the answer was lost, or the engine undid the transaction.
async fn find_out(store: &Store, witness: Option<EventId>, error: sqlx::Error) -> Result<(), StoreError> {
    match error.as_database_error().map_or(Fault::Lost, fault) {
        Fault::Io => {
            (store.fatal)();
            Err(StoreError::Fatal)
        }
        Fault::Lost => read_back(store, witness, error).await,
        _ => Err(error.into()),
    }
}

/// Begins anew, which waits for the transaction whose answer was lost, and looks whether its event is there.
async fn read_back(store: &Store, witness: Option<EventId>, error: sqlx::Error) -> Result<(), StoreError> {
    let Some(witness) = witness else {
        return Err(StoreError::CommitUnknown);
    };
    let mut tx = Box::pin(Tx::begin(store.clone()))
        .await
        .map_err(|_| StoreError::CommitUnknown)?;
    let there = tx.event(witness).await.map_err(|_| StoreError::CommitUnknown)?;
    match there {
        Some(_) => Ok(()),
        None => Err(error.into()),
    }
}

/// Events as links of the chain, ready to be bound.
struct Links {
    set: Set,
    /// SQLite: bodies and digests, which would have to be escaped and printed in JSON.
    blob: Option<Vec<u8>>,
}

impl Links {
    /// Hangs the events on `head`, which moves.
    fn of(engine: Engine, head: &mut Head, events: &[Event]) -> Result<Self, StoreError> {
        let mut set = Set::default();
        let mut blob = Vec::new();
        for event in events {
            let body = event.body().map_err(|_| StoreError::Event)?;
            let prev = head.link(&body);
            set = set
                .row()
                .cell(head.n)
                .cell(event.id)
                .cell(&event.kind)
                .cell(&event.object)
                .cell(&event.actor);
            set = match engine {
                Engine::Sqlite => {
                    // `substr` counts from 1.
                    let (at, length) = (size(blob.len() + 1)?, size(body.len())?);
                    for part in [body.as_bytes(), &prev, &head.digest] {
                        blob.extend_from_slice(part);
                    }
                    set.cell(event.timestamp).cell(at).cell(length)
                }
                Engine::Postgres => set.cell(body).cell(&prev).cell(&head.digest).cell(event.timestamp),
            };
            head.high_water = head.high_water.max(event.timestamp.as_millis());
        }
        let blob = (engine == Engine::Sqlite).then_some(blob);
        Ok(Self { set, blob })
    }

    fn bind<'t>(&self, statement: Statement<'t>) -> Statement<'t> {
        let statement = statement.bind_set(&self.set);
        match &self.blob {
            Some(blob) => statement.bind(blob.as_slice()),
            None => statement,
        }
    }
}

fn size(length: usize) -> Result<i64, StoreError> {
    i64::try_from(length).map_err(|_| StoreError::Event)
}

impl Head {
    /// Adds a body to the chain; answers the digest it hangs on.
    fn link(&mut self, body: &str) -> [u8; 32] {
        let prev = self.digest;
        self.n += 1;
        self.digest = super::events::link(&prev, self.n, body);
        prev
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::error::tests::Coded;
    use super::*;
    use crate::base::random::SeededRandom;
    use crate::base::time::Timestamp;

    async fn store() -> (Store, tempfile::TempDir) {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}/dekeys.db", place.path().display()))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        (store, place)
    }

    fn event() -> Event {
        Event {
            id: EventId::new(Timestamp::from_millis(1), &SeededRandom::new(1)),
            kind: "a.b".to_owned(),
            timestamp: Timestamp::from_millis(1),
            livemode: false,
            actor: "x".to_owned(),
            object: "y".to_owned(),
            data: serde_json::Value::Null,
            request_id: None,
        }
    }

    #[tokio::test]
    async fn a_disk_that_fails_under_a_commit_ends_the_process() {
        let (store, _place) = store().await;
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let store = store.on_fatal(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let failed = |code| sqlx::Error::Database(Box::new(Coded(code)));
        assert!(matches!(
            find_out(&store, None, failed("1034")).await,
            Err(StoreError::Fatal)
        ));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(
            matches!(find_out(&store, None, failed("13")).await, Err(StoreError::Full)),
            "full is not broken"
        );
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_by_its_event() {
        let (store, _place) = store().await;
        let event = event();
        let lost = || sqlx::Error::WorkerCrashed;
        assert!(matches!(
            find_out(&store, Some(event.id), lost()).await,
            Err(StoreError::Database(_))
        ));
        store
            .begin()
            .await
            .unwrap()
            .commit(std::slice::from_ref(&event), &[])
            .await
            .unwrap();
        assert!(find_out(&store, Some(event.id), lost()).await.is_ok());
        assert!(matches!(
            find_out(&store, None, lost()).await,
            Err(StoreError::CommitUnknown)
        ));
    }

    #[tokio::test]
    async fn a_full_disk_undoes_the_transaction_and_nothing_else() {
        let (store, _place) = store().await;
        let mut tx = store.begin().await.unwrap();
        tx.save_keyring("small").await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let pages: i64 = tx.ask("PRAGMA page_count").only().await.unwrap();
        assert!(pages < 200);
        let _: i64 = tx.ask("PRAGMA max_page_count = 200").only().await.unwrap();
        assert!(matches!(
            tx.save_keyring(&"x".repeat(2_000_000)).await,
            Err(StoreError::Full)
        ));
        drop(tx);
        assert_eq!(
            store.read().await.unwrap().keyring().await.unwrap().as_deref(),
            Some("small")
        );
        let mut tx = store.begin().await.unwrap();
        tx.save_keyring("later").await.unwrap();
        tx.commit(&[event()], &[]).await.unwrap();
    }
}
