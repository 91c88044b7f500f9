//! News: how those who follow the log hear that there are new events. What this process commits is told at once; what
//! other instances commit to a shared database is looked for.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Store, StoreError};

/// The number of the latest event this process knows of.
#[derive(Clone)]
pub(super) struct News(Arc<watch::Sender<i64>>);

impl News {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Tells that event `n` is on the chain.
    pub(super) fn tell(&self, n: i64) {
        self.0.send_if_modified(|known| {
            let later = n > *known;
            *known = n.max(*known);
            later
        });
    }
}

impl Store {
    /// Changes whenever events were added; holds the number of the latest that is known of.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<i64> {
        self.news.0.subscribe()
    }

    /// Whether anybody follows.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.news.0.receiver_count() > 0
    }

    /// Looks what other instances added.
    ///
    /// # Errors
    /// The database's.
    pub async fn look_for_news(&self) -> Result<(), StoreError> {
        let mut tx = self.read().await?;
        let (n, _) = tx.chain_head().await?;
        tx.end().await?;
        self.news.tell(n);
        Ok(())
    }
}
