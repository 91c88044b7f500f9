//! Measuring: what is counted where it happens, and what is looked up at each scrape.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::breaker::Turn;
use super::error::Error;
use super::{App, Parts, schedule};
use crate::base::fail::{self, Stage};
use crate::base::id::RootId;
use crate::base::trace::TARGET;
use crate::metrics::{Answered, Figures, Metrics, StoredFigures};
use crate::model::event::Event;
use crate::model::scope::Name;
use crate::payment::{Offered, PaymentRail, Settle};
use crate::store::watch::Watch;
use crate::store::{Engine, StoreError};
use crate::vendor::{FailureClass, VendorFailure};

/// The metrics of an instance that is put together, told of what its store does.
pub(super) fn of(parts: &Parts) -> Arc<Metrics> {
    let engine = match parts.store.engine() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let metrics = Arc::new(Metrics::new(parts.clock.now(), engine));
    let (waiting, recording, failing) = (Arc::clone(&metrics), Arc::clone(&metrics), Arc::clone(&metrics));
    parts.store.watched_by(Watch {
        waited: Box::new(move |pool, wait| waiting.waited(pool, wait)),
        recorded: Box::new(move |events: &[Event]| events.iter().for_each(|event| recording.recorded(event))),
        failed: Box::new(move || failing.append_failed()),
    });
    metrics
}

/// All metrics as Prometheus reads them. Answers while sealed, and while the database is away.
pub async fn scrape(app: &App) -> String {
    let stored = match stored(app).await {
        Ok(stored) => Some(stored),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer; its figures are missing from this scrape");
            None
        }
    };
    app.metrics().render(&Figures {
        unsealed: !app.is_sealed(),
        log_broken: app.log_is_broken(),
        reconciling: app.is_reconciling(),
        now: app.now(),
        wall: app.clock.wall(),
        ahead: app.clock.ahead(),
        stored,
        breakers: app.breakers().all(),
        disk: disk(app),
    })
}

async fn stored(app: &App) -> Result<StoredFigures, StoreError> {
    let mut tx = app.store.read().await?;
    let counts = tx.counts().await?;
    let oldest = tx.oldest(app.now()).await?;
    let out = tx.out().await?;
    let roots = tx.root_times().await?;
    let orphans = tx.open_orphans().await?;
    let reaps = tx.reaps().await?;
    let backed_up = tx.last_of_kind("backup.completed").await?;
    let backup_verified = tx.last_of_kind("backup.verified").await?;
    tx.end().await?;
    let rotations = schedule::figures(app).await;
    Ok(StoredFigures {
        rotations,
        leases: out.into_iter().map(|row| (row.vendor, row.state, row.count)).collect(),
        roots,
        overdue_since: oldest.overdue,
        approvals: counts.pending_approvals,
        oldest_approval: oldest.approval,
        unknown_payments: counts.unknown_payments,
        orphans: orphans
            .into_iter()
            .map(|(vendor, state, count)| (vendor, state.as_str().to_owned(), count))
            .collect(),
        compared: reaps
            .into_iter()
            .filter_map(|reap| Some((reap.vendor, reap.passed?)))
            .collect(),
        backed_up: backed_up.or(Some(app.instance.created)),
        backup_verified: backup_verified.or(Some(app.instance.created)),
    })
}

/// Free bytes and size of the disk that holds the data.
fn disk(app: &App) -> Option<(u64, u64)> {
    let place: PathBuf = app.disk.clone()?;
    let found = rustix::fs::statvfs(&place).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_bavail), bytes(found.f_blocks)))
}

impl App {
    /// Calls a vendor about keys, and tells how long that took and how it ended. A creation is refused here while the
    /// vendor is left alone; whoever looks for keys or ends them asked the breaker before.
    pub(super) async fn asked<T>(
        &self,
        (root, vendor): (RootId, &Name),
        call: &'static str,
        work: impl Future<Output = Result<T, VendorFailure>>,
    ) -> Result<T, VendorFailure> {
        if call == "create" {
            self.breakers().admit(root, self.now())?;
        }
        let since = Instant::now();
        let span = tracing::info_span!(
            target: TARGET,
            "vendor",
            otel.kind = "internal",
            otel.name = %format_args!("vendor.{call}"),
            dekeys.vendor = %vendor,
            dekeys.outcome = Empty,
        );
        let outcome = work.instrument(span.clone()).await;
        fail::at(Stage::Answered, || call.to_owned());
        let answered = match outcome.as_ref().map_err(|failure| failure.class) {
            Ok(_) => Answered::Ok,
            Err(FailureClass::Auth) => Answered::Unauthorized,
            Err(FailureClass::Retryable | FailureClass::Unknown) => Answered::Unavailable,
            Err(_) => Answered::Refused,
        };
        span.record("dekeys.outcome", answered.as_str());
        self.metrics().called(vendor, call, answered, since.elapsed());
        let failure = outcome.as_ref().err();
        let turn = self
            .breakers()
            .learn(root, vendor, failure, self.now(), self.random.as_ref());
        if turn != Turn::Same
            && let Err(error) = self.turned((root, vendor), turn, failure).await
        {
            tracing::warn!(%error, %vendor, "could not put on record how a vendor answers");
        }
        outcome
    }

    /// A vendor is left alone from now on, or answers again: then everything that waited for it is due at once, as many
    /// calls at a time as the vendor takes.
    async fn turned(
        &self,
        (root, vendor): (RootId, &Name),
        turn: Turn,
        failure: Option<&VendorFailure>,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let woken = match turn {
            Turn::Closed => tx.wake_credentials(root, self.now()).await?,
            _ => 0,
        };
        let answers = turn == Turn::Closed;
        let words = failure.map(|failure| failure.words.as_str());
        let data = json!({ "vendor": vendor, "answers": answers, "trouble": words, "woken": woken });
        let event = self.own_event("vendor.health_changed", &root, data);
        let _none = tx.commit(&[event], &[]).await?;
        self.announce_work();
        Ok(())
    }
}

/// Settles a payment.
pub(super) async fn settle(rail: &dyn PaymentRail, offered: &Offered) -> Settle {
    let outcome = rail.settle(offered).instrument(self::rail("settle")).await;
    fail::at(Stage::Answered, || "settle".to_owned());
    outcome
}

/// The span of one step at the payment rail: `verify`, `settle`.
pub(super) fn rail(step: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "payment",
        otel.kind = "internal",
        otel.name = %format_args!("payment.{step}")
    )
}

/// The outcome of a resolve as a label.
pub(super) fn outcome<T>(result: &Result<T, Error>, unchanged: impl Fn(&T) -> bool) -> &'static str {
    match result {
        Ok(done) if unchanged(done) => "unchanged",
        Ok(_) => "released",
        Err(Error::Vendor { .. } | Error::VendorNotConnected(_)) => "vendor_failed",
        Err(
            Error::Sealed
            | Error::Busy
            | Error::DatabaseFull
            | Error::Store(_)
            | Error::Vault(_)
            | Error::Forged(_)
            | Error::LogBroken
            | Error::ClockSetBack
            | Error::ClockSetAhead
            | Error::Internal(_),
        ) => "unavailable",
        Err(_) => "refused",
    }
}
