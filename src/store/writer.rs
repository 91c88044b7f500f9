//! The writer: one task that takes what waits, decides it in one transaction and answers each caller after the
//! commit. While one batch reaches the disk the next one gathers, so there is no timer.
//!
//! Two lanes: revocations wait for nothing but the batch under way. A full lane answers [`StoreError::Busy`].
//! Transactions of [`Store::begin`] and the writer's batches take turns.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

pub use super::ask::{
    ForwardKey, Forwarding, Refusal, ResolveAsk, ResolveOutcome, RevokeAsk, RevokeOutcome, RevokeTarget,
};
use super::batch::{self, Done};
use super::{Store, StoreError};
use crate::base::time::Clock;
use crate::base::trace::TARGET;

/// How many resolves may wait.
const HOT_LANE: usize = 1024;
/// How many revocations may wait.
const RESERVED_LANE: usize = 1024;
/// Most resolves in one batch.
const MOST: usize = 512;
/// Most revocations in one batch; each has statements of its own.
const MOST_REVOKES: usize = 64;
/// How often a batch that met another transaction is tried.
const TRIES: usize = 5;

/// A handle to the writer. Copies share its task.
#[derive(Clone)]
pub struct Writer {
    hot: mpsc::Sender<Waiting<ResolveAsk, ResolveOutcome>>,
    reserved: mpsc::Sender<Waiting<RevokeAsk, RevokeOutcome>>,
    stop: CancellationToken,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

struct Waiting<A, O> {
    ask: A,
    answer: oneshot::Sender<Result<O, StoreError>>,
}

impl Writer {
    /// Starts the task. Call it on a tokio runtime.
    #[must_use]
    pub fn spawn(store: Store, clock: Arc<dyn Clock>) -> Self {
        let (hot, hot_lane) = mpsc::channel(HOT_LANE);
        let (reserved, reserved_lane) = mpsc::channel(RESERVED_LANE);
        let stop = CancellationToken::new();
        let task = Task {
            store,
            clock,
            hot: hot_lane,
            reserved: reserved_lane,
            stop: stop.clone(),
        };
        Self {
            hot,
            reserved,
            stop,
            task: Arc::new(tokio::sync::Mutex::new(Some(tokio::spawn(task.work())))),
        }
    }

    /// Decides a resolve and puts it on record.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::ClockBehind`], and what the database says.
    pub async fn resolve(&self, ask: ResolveAsk) -> Result<ResolveOutcome, StoreError> {
        let nonce = ask.nonce.iter().flat_map(|(holder, nonce, _)| [holder, nonce]);
        let forward = ask.forward.iter().flat_map(|forward| [&forward.method, &forward.rule]);
        refuse_nul(nonce.chain(&ask.revocation_ids).chain([&ask.actor]).chain(forward))?;
        wait(&self.hot, ask).instrument(written("resolve")).await
    }

    /// Ends a lease or a grant. Once this has answered, no resolve gets what it ended.
    ///
    /// # Errors
    /// As [`Writer::resolve`]; [`StoreError::Absent`], and [`StoreError::Transition`] for a grant that cannot be
    /// revoked now.
    pub async fn revoke(&self, ask: RevokeAsk) -> Result<RevokeOutcome, StoreError> {
        refuse_nul([&ask.actor, &ask.kind])?;
        wait(&self.reserved, ask).instrument(written("revoke")).await
    }

    /// Finishes what waits, then ends the task. Later asks get [`StoreError::Stopped`].
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut task = self.task.lock().await;
        if let Some(task) = task.as_mut()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the writer ended badly");
        }
        *task = None;
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// The span of one ask, from the lane to the commit of its batch.
fn written(what: &'static str) -> Span {
    tracing::info_span!(target: TARGET, "store.write", otel.kind = "internal", dekeys.write = what)
}

async fn wait<A, O>(lane: &mpsc::Sender<Waiting<A, O>>, ask: A) -> Result<O, StoreError> {
    let (answer, answered) = oneshot::channel();
    lane.try_send(Waiting { ask, answer }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Busy,
        mpsc::error::TrySendError::Closed(_) => StoreError::Stopped,
    })?;
    answered.await.unwrap_or(Err(StoreError::Stopped))
}

/// PostgreSQL cannot hold a NUL in text, and one such ask would fail its batch.
fn refuse_nul<'t, I: IntoIterator<Item = &'t String>>(texts: I) -> Result<(), StoreError> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(StoreError::Nul);
    }
    Ok(())
}

struct Task {
    store: Store,
    clock: Arc<dyn Clock>,
    hot: mpsc::Receiver<Waiting<ResolveAsk, ResolveOutcome>>,
    reserved: mpsc::Receiver<Waiting<RevokeAsk, RevokeOutcome>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Batch {
    revokes: Vec<Waiting<RevokeAsk, RevokeOutcome>>,
    resolves: Vec<Waiting<ResolveAsk, ResolveOutcome>>,
}

impl Task {
    async fn work(mut self) {
        let (mut reserved_open, mut hot_open, mut stopping) = (true, true, false);
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.reserved.close();
                    self.hot.close();
                }
                some = self.reserved.recv_many(&mut batch.revokes, MOST_REVOKES), if reserved_open => {
                    reserved_open = some > 0;
                }
                some = self.hot.recv_many(&mut batch.resolves, MOST), if hot_open => hot_open = some > 0,
                else => return,
            }
            take_waiting(&mut self.hot, &mut batch.resolves, MOST);
            if !batch.revokes.is_empty() || !batch.resolves.is_empty() {
                self.settle(batch).await;
            }
        }
    }

    /// Runs a batch and answers its callers. When one item's data is at fault, each item runs alone.
    async fn settle(&self, batch: Batch) {
        let revokes: Vec<_> = batch.revokes.iter().map(|waiting| &waiting.ask).collect();
        let resolves: Vec<_> = batch.resolves.iter().map(|waiting| &waiting.ask).collect();
        match self.run(&revokes, &resolves).await {
            Ok(done) => {
                answer(batch.revokes, done.revokes.into_iter().map(Ok));
                answer(batch.resolves, done.resolves.into_iter().map(Ok));
            }
            Err(error) if error.is_data() && revokes.len() + resolves.len() > 1 => self.replay(batch).await,
            Err(error) => {
                tracing::warn!(%error, "a write batch failed");
                answer(batch.revokes, std::iter::repeat_with(|| Err(error.clone())));
                answer(batch.resolves, std::iter::repeat_with(|| Err(error.clone())));
            }
        }
    }

    async fn replay(&self, batch: Batch) {
        for waiting in batch.revokes {
            let alone = self.run(&[&waiting.ask], &[]).await;
            let outcome = alone.and_then(|done| done.revokes.into_iter().next().ok_or(StoreError::Stopped));
            answer([waiting], [outcome]);
        }
        for waiting in batch.resolves {
            let alone = self.run(&[], &[&waiting.ask]).await;
            let outcome = alone.and_then(|done| done.resolves.into_iter().next().ok_or(StoreError::Stopped));
            answer([waiting], [outcome]);
        }
    }

    async fn run(&self, revokes: &[&RevokeAsk], resolves: &[&ResolveAsk]) -> Result<Done, StoreError> {
        let mut outcome = Err(StoreError::Busy);
        for _ in 0..TRIES {
            outcome = batch::run(&self.store, self.clock.now(), revokes, resolves).await;
            if !matches!(outcome, Err(StoreError::Conflict(_))) {
                break;
            }
        }
        outcome
    }
}

fn take_waiting<T>(lane: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, most: usize) {
    while batch.len() < most
        && let Ok(waiting) = lane.try_recv()
    {
        batch.push(waiting);
    }
}

/// A caller that went away does not mind.
fn answer<A, O>(
    waiting: impl IntoIterator<Item = Waiting<A, O>>,
    outcomes: impl IntoIterator<Item = Result<O, StoreError>>,
) {
    for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
        drop(waiting.answer.send(outcome));
    }
}
