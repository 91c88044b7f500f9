//! Who watches the store: told how long transactions wait, what is on record and what could not be. For metrics; no
//! decision rests on it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::StoreError;
use crate::model::event::Event;

/// Is told of events.
pub type OnEvents = Box<dyn Fn(&[Event]) + Send + Sync>;

/// What is told. Called on the task that writes: each must return at once.
pub struct Watch {
    /// A transaction of the pool `read` or `write` began after a wait.
    pub waited: Box<dyn Fn(&'static str, Duration) + Send + Sync>,
    /// Events are on record.
    pub recorded: OnEvents,
    /// The database could not take a commit.
    pub failed: Box<dyn Fn() + Send + Sync>,
}

/// The one who watches, if there is one.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<OnceLock<Watch>>);

impl Watched {
    /// Keeps the first.
    pub(super) fn by(&self, watch: Watch) {
        let _first = self.0.set(watch);
    }

    pub(super) fn waited(&self, pool: &'static str, wait: Duration) {
        if let Some(watch) = self.0.get() {
            (watch.waited)(pool, wait);
        }
    }

    pub(super) fn recorded(&self, events: &[Event]) {
        if let Some(watch) = self.0.get() {
            (watch.recorded)(events);
        }
    }

    /// Tells of errors that are the database's and not the data's.
    pub(super) fn see<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &outcome
            && error.is_outage()
            && let Some(watch) = self.0.get()
        {
            (watch.failed)();
        }
        outcome
    }
}
