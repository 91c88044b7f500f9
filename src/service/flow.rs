//! Answers that stay open, and what ends them: the server's end, a sealed vault, a caller who may not any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::App;
use super::caller::{self, Context};
use super::error::Error;

/// Open answers at once, on all addresses of this process.
const AT_ONCE: usize = 1024;

/// Open answers of one caller at once.
const OF_ONE: usize = 32;

/// How often an open answer looks whether its caller may still have it. A principal's end is seen after at most two of
/// these: rows are cached that long.
const LOOK: Duration = Duration::from_secs(2);

/// The open answers of this process.
#[derive(Default)]
pub struct Flows {
    /// Cancelled when all must end. Unsealing makes a new one; after the server's end there is none.
    end: Mutex<CancellationToken>,
    places: Arc<Mutex<Places>>,
}

#[derive(Default)]
struct Places {
    all: usize,
    of: HashMap<String, usize>,
}

/// A place among the open answers; given back when dropped.
pub struct Place {
    places: Arc<Mutex<Places>>,
    holder: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        places.all = places.all.saturating_sub(1);
        if let Some(count) = places.of.get_mut(&self.holder) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                places.of.remove(&self.holder);
            }
        }
    }
}

impl Flows {
    /// Ends all open answers.
    pub(super) fn end(&self) {
        self.end.lock().cancel();
    }

    /// From now on answers may stay open again.
    pub(super) fn begin(&self) {
        let mut end = self.end.lock();
        if end.is_cancelled() {
            *end = CancellationToken::new();
        }
    }

    /// Cancelled when all open answers must end.
    pub(super) fn token(&self) -> CancellationToken {
        self.end.lock().clone()
    }
}

/// A place for one more open answer of the caller.
///
/// # Errors
/// [`Error::Busy`] when there are too many, of all or of this caller.
pub fn place(app: &App, context: &Context) -> Result<Place, Error> {
    let flows = app.flows();
    let holder = context.caller.actor();
    let mut places = flows.places.lock();
    let own = places.of.get(&holder).copied().unwrap_or(0);
    // Strangers have no name to be counted by: they share the places of all.
    let bounded = context.caller.is_known();
    if places.all >= AT_ONCE || (bounded && own >= OF_ONE) {
        return Err(Error::Busy);
    }
    places.all = places.all.saturating_add(1);
    places.of.insert(holder.clone(), own.saturating_add(1));
    Ok(Place {
        places: Arc::clone(&flows.places),
        holder,
    })
}

/// How long an open answer may go on to say its last once all must end: what was committed before is still told.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Completes when an open answer must end.
pub async fn ends(app: App, context: Context) {
    let token = app.flows().token();
    tokio::select! {
        () = token.cancelled() => tokio::time::sleep(LAST_WORDS).await,
        () = right_ends(&app, &context) => {}
    }
}

async fn right_ends(app: &App, context: &Context) {
    loop {
        tokio::time::sleep(LOOK).await;
        // A database that does not answer is no reason: what is told from it ends by itself.
        if let Ok(false) = caller::still(app, context).await {
            return;
        }
    }
}

/// Ends every open answer: the server ends.
pub fn end_all(app: &App) {
    app.flows().end();
}
