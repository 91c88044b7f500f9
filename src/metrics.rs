//! What this instance counts and times, in Prometheus' text format. One set for each instance, so that two in one process
//! do not mix.
//!
//! Labels are words of the code, names of connected vendors, and what the configuration fixes (network, asset): a stranger
//! can add no series, and nothing secret can be one (I8).

pub mod catalogue;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::RwLock;
use serde_json::Value;

use crate::base::id::ApprovalId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::Event;
use crate::model::scope::Name;
use catalogue::{CATALOGUE, Kind, Metric};

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label's value for what is none of the known ones.
const NONE: &str = "none";

/// The states of leases that are shown for each vendor.
const LEASE_STATES: [&str; 4] = ["pending", "active", "revoking", "revocation_failed"];

/// The states of orphans that are shown for each vendor.
const ORPHAN_STATES: [&str; 2] = ["revoking", "reported"];

/// The metrics of one instance.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    /// Vendors that are connected, and whether each answered last.
    vendors: RwLock<BTreeMap<Name, Option<bool>>>,
    /// When all events were last under a signed checkpoint, in ms.
    signed: AtomicI64,
}

/// How a call to a vendor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// As it should.
    Ok,
    /// With a refusal: of what was asked, or for now.
    Refused,
    /// The root credential was not accepted.
    Unauthorized,
    /// Not at all, or with trouble of its own.
    Unavailable,
}

impl Answered {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is looked up at each scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether stored keys can be used.
    pub unsealed: bool,
    /// Whether the log was found damaged.
    pub log_broken: bool,
    /// The database has still to be compared with the vendors.
    pub reconciling: bool,
    /// The time.
    pub now: Timestamp,
    /// What the machine's clock says.
    pub wall: Timestamp,
    /// How far the machine's clock was set ahead.
    pub ahead: Ttl,
    /// What the database says; `None` when it does not answer.
    pub stored: Option<StoredFigures>,
    /// Each vendor that was called, and whether it is left alone.
    pub breakers: Vec<(Name, bool)>,
    /// Free bytes and size of the disk, where they can be told.
    pub disk: Option<(u64, u64)>,
}

/// What the database is asked for at each scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredFigures {
    /// Vendor, state and count of leases that are out, and of keys that are stuck.
    pub leases: Vec<(Name, String, i64)>,
    /// Each vendor with the time its root credential was entered.
    pub roots: Vec<(Name, Timestamp)>,
    /// Each vendor with the age of its oldest key that is rotated, and how long one has been due.
    pub rotations: Vec<(Name, Ttl, Ttl)>,
    /// Since when the oldest key that should be dead is not.
    pub overdue_since: Option<Timestamp>,
    /// Approval requests that wait.
    pub approvals: i64,
    /// When the oldest of them was made.
    pub oldest_approval: Option<Timestamp>,
    /// Payments that are not known.
    pub unknown_payments: i64,
    /// Vendor, state and count of orphans that are open.
    pub orphans: Vec<(Name, String, i64)>,
    /// Each vendor with the time its list was last compared with what is on record.
    pub compared: Vec<(Name, Timestamp)>,
    /// When the last backup was completed, or the instance was made.
    pub backed_up: Option<Timestamp>,
    /// When a backup was last tried, or the instance was made.
    pub backup_verified: Option<Timestamp>,
}

impl Metrics {
    /// An empty set, all metrics described. `now` is when the process began to look.
    #[must_use]
    pub fn new(now: Timestamp, engine: &'static str) -> Self {
        let histograms = CATALOGUE.iter().filter(|metric| metric.kind == Kind::Histogram);
        let with_buckets = |builder: PrometheusBuilder, metric: &Metric| {
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
        };
        // It fails on an empty list of buckets alone; a test of the catalogue finds those.
        let builder = histograms
            .into_iter()
            .try_fold(PrometheusBuilder::new(), with_buckets)
            .unwrap_or_default();
        let recorder = builder.build_recorder();
        let process = metrics_process::Collector::default();
        ::metrics::with_local_recorder(&recorder, || process.describe());
        let metrics = Self {
            handle: recorder.handle(),
            recorder,
            process,
            vendors: RwLock::default(),
            signed: AtomicI64::new(now.as_millis()),
        };
        for metric in CATALOGUE {
            metrics.describe(metric);
        }
        let version = Label::from_static_parts("version", env!("CARGO_PKG_VERSION"));
        let database = Label::from_static_parts("database", engine);
        metrics.gauge(catalogue::BUILD_INFO, vec![version, database]).set(1.0);
        // Those without labels stand at 0 from the start, so that their first step shows as one.
        metrics.counter(catalogue::APPEND_FAILURES, Vec::new()).absolute(0);
        metrics
    }

    /// A request was answered. `route` is the operation's path as the table has it.
    pub fn answered(&self, method: &'static str, route: Option<&'static str>, status: u16, took: Duration) {
        let labels = vec![
            Label::from_static_parts("http_request_method", method),
            Label::from_static_parts("http_route", route.unwrap_or(NONE)),
            Label::new("http_response_status_code", status.to_string()),
        ];
        self.histogram(catalogue::HTTP, labels).record(took.as_secs_f64());
    }

    /// A request, or one item of it, was answered with a problem.
    pub fn refused(&self, code: &'static str) {
        self.counter(catalogue::DENIALS, vec![Label::from_static_parts("code", code)])
            .increment(1);
    }

    /// An item was resolved, or not.
    pub fn resolved(&self, vendor: &Name, outcome: &'static str, took: Duration) {
        let labels = vec![self.vendor(vendor), Label::from_static_parts("outcome", outcome)];
        self.histogram(catalogue::RESOLVES, labels).record(took.as_secs_f64());
    }

    /// A connected vendor was called.
    pub fn called(&self, vendor: &Name, call: &'static str, answered: Answered, took: Duration) {
        self.vendors.write().insert(
            vendor.clone(),
            Some(matches!(answered, Answered::Ok | Answered::Refused)),
        );
        let outcome = match answered {
            Answered::Ok => "ok",
            Answered::Unauthorized => "unauthorized",
            Answered::Refused => "refused",
            Answered::Unavailable => "unavailable",
        };
        let labels = vec![
            self.vendor(vendor),
            Label::from_static_parts("call", call),
            Label::from_static_parts("outcome", outcome),
        ];
        self.histogram(catalogue::VENDOR_REQUESTS, labels)
            .record(took.as_secs_f64());
    }

    /// A transaction began after a wait for `pool`.
    pub fn waited(&self, pool: &'static str, took: Duration) {
        self.histogram(catalogue::POOL_WAIT, vec![Label::from_static_parts("pool", pool)])
            .record(took.as_secs_f64());
    }

    /// The database could not take a commit.
    pub fn append_failed(&self) {
        self.counter(catalogue::APPEND_FAILURES, Vec::new()).increment(1);
    }

    /// All events are under a signed checkpoint.
    pub fn signed(&self, now: Timestamp) {
        self.signed.store(now.as_millis(), Ordering::Relaxed);
    }

    /// An event is on record. Counts what it tells, so that metrics and log agree.
    pub fn recorded(&self, event: &Event) {
        self.counter(catalogue::EVENTS, vec![Label::new("type", event.kind.clone())])
            .increment(1);
        match event.kind.split_once('.') {
            Some(("payment", outcome)) => self.payment(outcome, &event.data),
            // The grant's own event tells of the money that moved for it.
            Some(("grant", "created")) => {
                if let Some(facts) = event.data.get("payment") {
                    self.payment("settled", facts);
                }
            }
            Some(("approval", outcome)) => self.approval(outcome, event),
            Some(("budget", "threshold_reached")) => {
                let budget = Label::new("budget", fact(&event.data, "budget").to_owned());
                self.counter(catalogue::BUDGETS, vec![budget]).increment(1);
            }
            Some(("lease", "revocation_failed")) => self.of_vendor(catalogue::REVOCATION_FAILURES, event),
            Some(("lease", "revocation_confirmed")) => self.of_vendor(catalogue::REVOCATIONS_CONFIRMED, event),
            _ => {}
        }
    }

    fn of_vendor(&self, metric: &Metric, event: &Event) {
        let vendor = fact(&event.data, "vendor").parse().ok();
        let vendor = vendor.map_or_else(none, |vendor| self.vendor(&vendor));
        self.counter(metric, vec![vendor]).increment(1);
    }

    fn payment(&self, outcome: &str, facts: &Value) {
        // Steps on the way; how it ended is told once.
        let steps = [
            "verified",
            "settling",
            "paid",
            "provisioning",
            "credit_used",
            "credit_returned",
        ];
        if steps.contains(&outcome) {
            return;
        }
        let labels = vec![
            Label::new("outcome", outcome.to_owned()),
            Label::new("network", fact(facts, "network").to_owned()),
        ];
        self.counter(catalogue::PAYMENTS, labels).increment(1);
        if matches!(outcome, "settled" | "credited")
            && let Ok(amount) = fact(facts, "amount").parse()
        {
            let asset = Label::new("asset", fact(facts, "asset").to_owned());
            self.counter(catalogue::SPEND, vec![asset]).increment(amount);
        }
    }

    fn approval(&self, outcome: &str, event: &Event) {
        let outcome = ["approved", "denied", "expired", "cancelled"]
            .into_iter()
            .find(|known| *known == outcome);
        // The id tells when the request was made.
        let (Some(outcome), Ok(id)) = (outcome, event.object.parse::<ApprovalId>()) else {
            return;
        };
        let waited = event.timestamp.since(id.made()).to_std();
        self.histogram(
            catalogue::APPROVAL_WAIT,
            vec![Label::from_static_parts("outcome", outcome)],
        )
        .record(waited.as_secs_f64());
    }

    /// Takes the figures of this moment, and writes everything.
    pub fn render(&self, figures: &Figures) -> String {
        self.set(catalogue::VAULT_UNSEALED, f64::from(u8::from(figures.unsealed)));
        self.set(catalogue::RECONCILING, f64::from(u8::from(figures.reconciling)));
        self.set(catalogue::LOG_INTACT, f64::from(u8::from(!figures.log_broken)));
        self.set(
            catalogue::CLOCK_BEHIND,
            seconds(figures.now.since(figures.wall).as_millis()),
        );
        self.set(catalogue::CLOCK_AHEAD, seconds(figures.ahead.as_millis()));
        let signed = Timestamp::from_millis(self.signed.load(Ordering::Relaxed));
        self.set(
            catalogue::CHECKPOINT_AGE,
            seconds(figures.now.since(signed).as_millis()),
        );
        self.set(catalogue::DATABASE_UP, f64::from(u8::from(figures.stored.is_some())));
        if let Some((free, size)) = figures.disk {
            self.set(catalogue::DISK_FREE, bytes(free));
            self.set(catalogue::DISK_SIZE, bytes(size));
        }
        // Two root credentials of one vendor: it is left alone when one of them is.
        let mut breakers: BTreeMap<&Name, bool> = BTreeMap::new();
        for (vendor, open) in &figures.breakers {
            *breakers.entry(vendor).or_default() |= open;
        }
        for (vendor, open) in breakers {
            self.gauge(catalogue::BREAKER_OPEN, vec![self.vendor(vendor)])
                .set(f64::from(u8::from(open)));
        }
        if let Some(stored) = &figures.stored {
            self.stored(stored, figures.now);
        }
        ::metrics::with_local_recorder(&self.recorder, || self.process.collect());
        self.handle.render()
    }

    fn stored(&self, stored: &StoredFigures, now: Timestamp) {
        let age = |since: Option<Timestamp>| seconds(since.map_or(0, |since| now.since(since).as_millis()));
        self.set(catalogue::APPROVALS_PENDING, count(stored.approvals));
        self.set(catalogue::APPROVAL_OLDEST, age(stored.oldest_approval));
        self.set(catalogue::PAYMENTS_UNKNOWN, count(stored.unknown_payments));
        self.set(catalogue::REVOCATIONS_OVERDUE, age(stored.overdue_since));
        self.set(catalogue::BACKUP_AGE, age(stored.backed_up));
        self.set(catalogue::BACKUP_VERIFIED_AGE, age(stored.backup_verified));
        for (vendor, entered) in &stored.roots {
            self.vendors.write().entry(vendor.clone()).or_default();
            self.gauge(catalogue::ROOT_AGE, vec![self.vendor(vendor)])
                .set(age(Some(*entered)));
        }
        for (vendor, compared) in &stored.compared {
            self.gauge(catalogue::COMPARED_AGE, vec![self.vendor(vendor)])
                .set(age(Some(*compared)));
        }
        let vendors = self.vendors.read().clone();
        for (vendor, up) in vendors {
            let label = || Label::new("vendor", vendor.to_string());
            if let Some(up) = up {
                self.gauge(catalogue::VENDOR_UP, vec![label()])
                    .set(f64::from(u8::from(up)));
            }
            let of = stored.rotations.iter().filter(|row| row.0 == vendor);
            let (aged, late) = of.fold((0, 0), |(aged, late), row| {
                (aged.max(row.1.as_millis()), late.max(row.2.as_millis()))
            });
            self.gauge(catalogue::KEY_AGE, vec![label()]).set(seconds(aged));
            self.gauge(catalogue::ROTATION_LATE, vec![label()]).set(seconds(late));
            for state in ORPHAN_STATES {
                let here = |row: &&(Name, String, i64)| row.0 == vendor && row.1 == state;
                let number = count(stored.orphans.iter().find(here).map_or(0, |row| row.2));
                let labels = vec![label(), Label::from_static_parts("state", state)];
                self.gauge(catalogue::ORPHANS, labels).set(number);
            }
            for state in LEASE_STATES {
                let here = |row: &&(Name, String, i64)| row.0 == vendor && row.1 == state;
                let number = count(stored.leases.iter().find(here).map_or(0, |row| row.2));
                let state_label = Label::from_static_parts("state", state);
                self.gauge(catalogue::LEASES, vec![label(), state_label]).set(number);
                if state == "revocation_failed" {
                    self.gauge(catalogue::STUCK_KEYS, vec![label()]).set(number);
                }
            }
        }
    }

    /// Takes what histograms gathered since the last scrape: without it they would grow for ever when nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The vendor's name when it is connected: what strangers ask for makes no series.
    fn vendor(&self, vendor: &Name) -> Label {
        if self.vendors.read().contains_key(vendor) {
            Label::new("vendor", vendor.to_string())
        } else {
            none()
        }
    }

    fn set(&self, metric: &Metric, value: f64) {
        self.gauge(metric, Vec::new()).set(value);
    }

    fn describe(&self, metric: &Metric) {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => self.recorder.describe_counter(name, None, help),
            Kind::Gauge => self.recorder.describe_gauge(name, None, help),
            Kind::Histogram => self.recorder.describe_histogram(name, None, help),
        }
    }

    fn counter(&self, metric: &Metric, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&key(metric, labels), &META)
    }

    fn gauge(&self, metric: &Metric, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&key(metric, labels), &META)
    }

    fn histogram(&self, metric: &Metric, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&key(metric, labels), &META)
    }
}

const META: Metadata<'static> = Metadata::new("dekeys", Level::INFO, None);

fn key(metric: &Metric, labels: Vec<Label>) -> Key {
    debug_assert!(labels.iter().all(|label| metric.labels.contains(&label.key())));
    Key::from_parts(metric.name, labels)
}

fn none() -> Label {
    Label::from_static_parts("vendor", NONE)
}

fn fact<'f>(facts: &'f Value, name: &str) -> &'f str {
    facts.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Milliseconds as seconds; none below 0.
fn seconds(millis: i64) -> f64 {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0)).as_secs_f64()
}

fn count(number: i64) -> f64 {
    f64::from(i32::try_from(number).unwrap_or(i32::MAX))
}

/// Exact up to 8 PiB.
#[expect(clippy::cast_precision_loss, reason = "a disk's size is told, not computed with")]
fn bytes(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_763_670_667);

    fn told(figures: &Figures, line: &str) -> bool {
        let metrics = Metrics::new(NOW, "sqlite");
        metrics.render(figures).lines().any(|told| told == line)
    }

    #[test]
    fn what_rarely_changes_is_told_as_it_is() {
        let well = Figures {
            unsealed: true,
            now: NOW,
            wall: NOW,
            stored: Some(StoredFigures::default()),
            disk: Some((512, 1024)),
            ..Figures::default()
        };
        let ill = Figures {
            log_broken: true,
            reconciling: true,
            wall: NOW.minus(Ttl::from_secs(45)),
            stored: None,
            disk: Some((256, 2048)),
            ..well.clone()
        };
        for (name, one, other) in [
            ("dekeys_audit_log_intact", 1, 0),
            ("dekeys_reconciling", 0, 1),
            ("dekeys_clock_behind_seconds", 0, 45),
            ("dekeys_database_up", 1, 0),
            ("dekeys_disk_free_bytes", 512, 256),
            ("dekeys_disk_size_bytes", 1024, 2048),
        ] {
            assert!(told(&well, &format!("{name} {one}")), "{name}");
            assert!(told(&ill, &format!("{name} {other}")), "{name}");
        }
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("dekeys_build_info{{version=\"{version}\",database=\"sqlite\"}} 1");
        assert!(told(&well, &build));
        // Figures of a database that is away are not told as if they were 0.
        assert!(!told(&ill, "dekeys_approvals_pending 0"));
    }

    #[test]
    fn a_vendor_that_nobody_connected_is_not_named() {
        let metrics = Metrics::new(NOW, "sqlite");
        let (known, unknown): (Name, Name) = ("openai".parse().unwrap(), "stranger".parse().unwrap());
        metrics.called(&known, "create", Answered::Ok, Duration::from_millis(3));
        for vendor in [&known, &unknown] {
            metrics.resolved(vendor, "refused", Duration::from_millis(3));
        }
        let text = metrics.render(&Figures::default());
        assert!(text.contains(r#"dekeys_resolve_duration_seconds_count{vendor="openai",outcome="refused"} 1"#));
        assert!(text.contains(r#"dekeys_resolve_duration_seconds_count{vendor="none",outcome="refused"} 1"#));
        assert!(!text.contains("stranger"));
    }
}
