//! The background workers: what time and trouble make necessary. Each step is a verb; this file says when.

use std::future::Future;
use std::time::Duration;

use crate::service::error::Error;
use crate::service::{App, checkpoint, expire, reconcile, recover, unseal};

/// How often waiting events are numbered and signed.
const CHECKPOINT: Duration = Duration::from_millis(500);

/// How often timers are looked at; work that arrives wakes at once.
const TICK: Duration = Duration::from_millis(500);

/// How often what nobody needs any more is swept.
const SWEEP: Duration = Duration::from_mins(1);

/// Rows taken at a time, and how many of them at once.
const BATCH: i64 = 64;

/// Runs all workers until `stop` is done.
pub async fn run(app: App, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = number(&app) => {}
        () = tend(&app) => {}
        () = sweep(&app) => {}
    }
}

async fn number(app: &App) {
    loop {
        tokio::time::sleep(CHECKPOINT).await;
        if !app.vault.is_sealed() && !app.log_is_broken() {
            report("checkpoint", checkpoint::catch_up(app).await);
        }
    }
}

/// Ends what is over, goes on with keys and payments whose time has come.
async fn tend(app: &App) {
    loop {
        let _woken = tokio::time::timeout(TICK, app.work_arrives()).await;
        if app.vault.is_sealed() {
            continue;
        }
        report("expiry", expire::step(app).await.map(drop));
        report("credentials", credentials(app).await);
        report("payments", payments(app).await);
    }
}

async fn credentials(app: &App) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let due = tx.credentials_due(app.now(), BATCH).await?;
    drop(tx);
    let steps = due.iter().map(|row| async {
        report("a credential", recover::step(app, row.id).await);
    });
    futures_util::future::join_all(steps).await;
    Ok(())
}

async fn payments(app: &App) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    let due = tx.purchases_due(app.now(), BATCH).await?;
    drop(tx);
    for purchase in due {
        report("a payment", reconcile::step(app, purchase.id).await);
    }
    Ok(())
}

async fn sweep(app: &App) {
    loop {
        tokio::time::sleep(SWEEP).await;
        report("key wraps", unseal::reserve_wraps(app).await);
        report("sweep", swept(app).await);
    }
}

async fn swept(app: &App) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let _rows = tx.sweep(app.now()).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(())
}

/// Says what went wrong; the next round tries again.
fn report(what: &str, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) | Err(Error::Sealed) => {}
        Err(error) => tracing::warn!(%error, what, "a worker's step failed"),
    }
}
