//! Requests that are being forwarded just now, so that the end of their grant ends them too: at once when it happens
//! here, within two seconds when another instance ends it, which is seen by asking the database about the open ones
//! alone. Who cannot ask for five seconds cuts them all.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::Error;
use crate::base::id::{GrantId, LeaseId};
use crate::base::time::Timestamp;

/// How often the database is asked about open streams.
const LOOK: Duration = Duration::from_millis(900);
/// How old the last answer may be.
const STALE: Duration = Duration::from_secs(5);

/// All open streams of this process.
#[derive(Default)]
pub struct Streams {
    open: Mutex<HashMap<u64, Entry>>,
    last: AtomicU64,
}

struct Entry {
    grant: GrantId,
    lease: Option<LeaseId>,
    opened: Timestamp,
    revocation_ids: Vec<String>,
    until: Timestamp,
    cut: CancellationToken,
}

/// One open stream; closed when dropped.
pub struct OpenStream {
    app: App,
    id: u64,
    until: Timestamp,
    cut: CancellationToken,
}

impl Streams {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether a stream of this lease is open that was opened at `before` or earlier; one that has no key yet counts.
    pub(super) fn any_since(&self, lease: LeaseId, before: Timestamp) -> bool {
        let may_use = |entry: &Entry| entry.opened <= before && entry.lease.is_none_or(|known| known == lease);
        self.open.lock().values().any(may_use)
    }

    pub(super) fn cut_all(&self) {
        self.cut(|_| true);
    }

    pub(super) fn cut_grant(&self, id: GrantId) {
        self.cut(|entry| entry.grant == id);
    }

    pub(super) fn cut_lease(&self, id: LeaseId) {
        self.cut(|entry| entry.lease == Some(id));
    }

    /// Ends the streams of a token that was revoked, by the revocation id of any of its blocks.
    pub fn cut_token(&self, id: &str) {
        self.cut(|entry| entry.revocation_ids.iter().any(|known| known == id));
    }

    fn cut(&self, which: impl Fn(&Entry) -> bool) {
        for entry in self.open.lock().values().filter(|entry| which(entry)) {
            entry.cut.cancel();
        }
    }

    fn asked(&self) -> (HashSet<GrantId>, HashSet<LeaseId>, HashSet<String>) {
        let open = self.open.lock();
        (
            open.values().map(|entry| entry.grant).collect(),
            open.values().filter_map(|entry| entry.lease).collect(),
            open.values().flat_map(|entry| entry.revocation_ids.clone()).collect(),
        )
    }
}

impl App {
    /// Registers a stream before its request leaves, so that no end of its grant is missed.
    pub(super) fn open_stream(&self, grant: GrantId, revocation_ids: Vec<String>, until: Timestamp) -> OpenStream {
        let streams = self.streams();
        let id = streams.last.fetch_add(1, Ordering::Relaxed);
        let cut = CancellationToken::new();
        let entry = Entry {
            grant,
            lease: None,
            opened: self.now(),
            revocation_ids,
            until,
            cut: cut.clone(),
        };
        streams.open.lock().insert(id, entry);
        OpenStream {
            app: self.clone(),
            id,
            until,
            cut,
        }
    }
}

impl OpenStream {
    /// Completes when the stream must end: revoked, or its time is over.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let left = self.until.since(self.app.now()).as_millis();
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let cut = self.cut.clone();
        async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Whether it must end now.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cut.is_cancelled() || self.until <= self.app.now()
    }

    pub(super) fn uses(&self, lease: LeaseId) {
        if let Some(entry) = self.app.streams().open.lock().get_mut(&self.id) {
            entry.lease = Some(lease);
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.app.streams().open.lock().remove(&self.id);
    }
}

/// Looks after open streams for ever: what ended on another instance, or by time, is cut.
pub async fn watch(app: App) {
    let mut answered = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        if app.streams().count() == 0 {
            answered = tokio::time::Instant::now();
            continue;
        }
        match tokio::time::timeout(STALE, look(&app)).await {
            Ok(Ok(())) => answered = tokio::time::Instant::now(),
            Ok(Err(error)) => tracing::warn!(%error, "cannot ask whether open streams may go on"),
            Err(_) => tracing::warn!("cannot ask whether open streams may go on: the database does not answer"),
        }
        if answered.elapsed() >= STALE {
            tracing::error!("open streams are cut: nobody can say whether they were revoked");
            app.streams().cut_all();
        }
    }
}

async fn look(app: &App) -> Result<(), Error> {
    let (grants, leases, revocation_ids) = app.streams().asked();
    let mut tx = app.store.read().await?;
    let over = tx.over(&grants, &leases, &revocation_ids).await?;
    drop(tx);
    let over: HashSet<String> = over.into_iter().collect();
    let now = app.now();
    app.streams().cut(|entry| {
        entry.until <= now
            || over.contains(&entry.grant.to_string())
            || entry.lease.is_some_and(|lease| over.contains(&lease.to_string()))
            || entry.revocation_ids.iter().any(|id| over.contains(id))
    });
    Ok(())
}
