//! Everything that is measured, once: the exporter describes it, `docs/metrics.md` is made from it, and a test sees each
//! one move.

use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// As Prometheus names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name, with its unit as Prometheus wants it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What one is: seconds, bytes, requests.
    pub unit: &'static str,
    /// The labels. Each has few values: never a wallet, an id, or a path with one.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
    /// The upper bounds of a histogram's buckets.
    pub buckets: &'static [f64],
}

macro_rules! catalogue {
    ($($name:ident = $kind:ident $metric:literal in $unit:literal by [$($label:literal)*] $($buckets:ident)?
        $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $name: &Metric = &Metric {
                name: $metric,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                help: $help,
                buckets: buckets!($($buckets)?),
            };
        )*

        /// Every metric, in the order of the documentation.
        pub static CATALOGUE: &[Metric] = &[$(*$name),*];
    };
}

macro_rules! buckets {
    () => {
        &[]
    };
    ($name:ident) => {
        $name
    };
}

/// OpenTelemetry's for `http.server.request.duration`.
const REQUEST: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const FAST: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
];
const WAIT: &[f64] = &[0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
const VENDOR: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const PEOPLE: &[f64] = &[
    60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0,
];

catalogue! {
    BUILD_INFO = Gauge "dekeys_build_info" in "always 1" by ["version" "database"]
        "The running version and its database engine.";
    HTTP = Histogram "http_server_request_duration_seconds" in "seconds"
        by ["http_request_method" "http_route" "http_response_status_code"] REQUEST
        "Time from a read head to the answer, by OpenTelemetry's names; the route is the pattern, `none` when no route fits.";
    DENIALS = Counter "dekeys_denials_total" in "answers" by ["code"]
        "Requests and items of requests that were answered with a problem, by its code.";
    VAULT_UNSEALED = Gauge "dekeys_vault_unsealed" in "0 or 1" by []
        "1 while stored keys can be used.";
    RECONCILING = Gauge "dekeys_reconciling" in "0 or 1" by []
        "1 while the database has still to be compared with the vendors: nothing is released, made or ended.";
    DATABASE_UP = Gauge "dekeys_database_up" in "0 or 1" by []
        "Whether the database answered this scrape; figures that come from it are left out when it did not.";
    RESOLVES = Histogram "dekeys_resolve_duration_seconds" in "seconds" by ["vendor" "outcome"] FAST
        "Time to resolve one item, by outcome: released, unchanged, refused, `vendor_failed`, unavailable; vendor `none` when no connected one was named.";
    LEASES = Gauge "dekeys_leases" in "leases" by ["vendor" "state"]
        "Leases that are out: pending, active; keys that are being ended: revoking; and keys whose end the vendor does not confirm: `revocation_failed`.";
    STUCK_KEYS = Gauge "dekeys_stuck_keys" in "keys" by ["vendor"]
        "Keys that should be dead and are not known to be, after 15 minutes of tries.";
    REVOCATIONS_OVERDUE = Gauge "dekeys_revocation_overdue_seconds" in "seconds" by []
        "How long the oldest key has been alive after its end was due or its revocation first failed; 0 when there is none.";
    REVOCATION_FAILURES = Counter "dekeys_lease_revocation_failures_total" in "keys" by ["vendor"]
        "Keys whose revocation was raised as failed.";
    REVOCATIONS_CONFIRMED = Counter "dekeys_lease_revocations_confirmed_total" in "keys" by ["vendor"]
        "Keys whose revocation had been raised as failed, and that are dead now.";
    ORPHANS = Gauge "dekeys_orphans" in "keys" by ["vendor" "state"]
        "Keys that a vendor lists and that nobody here accounts for: revoking (dekeys ends them), reported (they wait for somebody's decision).";
    COMPARED_AGE = Gauge "dekeys_vendor_compared_age_seconds" in "seconds" by ["vendor"]
        "Since the vendor's list of keys was last compared with what is on record.";
    BREAKER_OPEN = Gauge "dekeys_vendor_breaker_open" in "0 or 1" by ["vendor"]
        "1 while this process leaves a vendor alone that did not answer, or did not take our root credential.";
    VENDOR_UP = Gauge "dekeys_vendor_up" in "0 or 1" by ["vendor"]
        "Whether the vendor answered the last call about keys, and took our root credential.";
    VENDOR_REQUESTS = Histogram "dekeys_vendor_request_duration_seconds" in "seconds" by ["vendor" "call" "outcome"] VENDOR
        "Time of a call about keys: create, find, list, revoke, probe, test; ok, refused, unauthorized, unavailable.";
    ROOT_AGE = Gauge "dekeys_root_credential_age_seconds" in "seconds" by ["vendor"]
        "Since the vendor's root credential was entered.";
    KEY_AGE = Gauge "dekeys_key_age_seconds" in "seconds" by ["vendor"]
        "Age of the oldest key in use that is rotated: shared keys, and root credentials whose vendor can; 0 when there is none.";
    ROTATION_LATE = Gauge "dekeys_rotation_late_seconds" in "seconds" by ["vendor"]
        "How long the key that waits longest has been due for its rotation, which did not succeed; 0 when none is.";
    PAYMENTS = Counter "dekeys_payments_total" in "payments" by ["outcome" "network"]
        "Payments: claimed, settled, failed, released (nothing charged), unknown, credited.";
    SPEND = Counter "dekeys_spend_atomic_total" in "atomic units" by ["asset"]
        "Money taken, in the asset's smallest unit.";
    PAYMENTS_UNKNOWN = Gauge "dekeys_payments_unknown" in "payments" by []
        "Payments whose settlement is under way or not known.";
    BUDGETS = Counter "dekeys_budget_thresholds_total" in "budgets" by ["budget"]
        "Budgets of which four fifths were used up: `max_resolves` of a grant, `paid_per_day` of a payer, `held_keys` at a vendor.";
    APPROVALS_PENDING = Gauge "dekeys_approvals_pending" in "approvals" by []
        "Approval requests that wait.";
    APPROVAL_OLDEST = Gauge "dekeys_approval_oldest_seconds" in "seconds" by []
        "Age of the oldest approval request that waits; 0 when none does.";
    APPROVAL_WAIT = Histogram "dekeys_approval_wait_seconds" in "seconds" by ["outcome"] PEOPLE
        "From an approval request to its end: approved, denied, expired, cancelled.";
    EVENTS = Counter "dekeys_events_total" in "events" by ["type"]
        "Events this process put on record.";
    APPEND_FAILURES = Counter "dekeys_audit_append_failures_total" in "commits" by []
        "Commits that failed because the database could not take them: nothing is released without one.";
    LOG_INTACT = Gauge "dekeys_audit_log_intact" in "0 or 1" by []
        "0 once the log was found damaged; then nothing is released.";
    CHECKPOINT_AGE = Gauge "dekeys_checkpoint_age_seconds" in "seconds" by []
        "Since all events were last under a signed checkpoint. Rises while sealed.";
    CLOCK_BEHIND = Gauge "dekeys_clock_behind_seconds" in "seconds" by []
        "How far the machine's clock stands behind the latest time on record; above 30 nothing is released.";
    CLOCK_AHEAD = Gauge "dekeys_clock_ahead_seconds" in "seconds" by []
        "How far the machine's clock was set ahead while the server ran; above 0 nothing is released, and nothing expires by it.";
    POOL_WAIT = Histogram "dekeys_db_pool_wait_seconds" in "seconds" by ["pool"] WAIT
        "Wait for the database before a transaction begins: read, or write, which includes the one before it.";
    BACKUP_AGE = Gauge "dekeys_backup_age_seconds" in "seconds" by []
        "Since the last backup was completed; since `init` while there is none.";
    BACKUP_VERIFIED_AGE = Gauge "dekeys_backup_verified_age_seconds" in "seconds" by []
        "Since a backup was last restored to be tried; since `init` while none was.";
    DISK_FREE = Gauge "dekeys_disk_free_bytes" in "bytes" by []
        "Free bytes where the database file lies, or the data directory with PostgreSQL.";
    DISK_SIZE = Gauge "dekeys_disk_size_bytes" in "bytes" by []
        "Size of that disk.";
}

/// The page of all metrics, in Markdown, without its head.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from("| metric | kind | unit | labels | what it tells |\n|---|---|---|---|---|\n");
    for metric in CATALOGUE {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit,
            labels.join(", "),
            metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for metric in CATALOGUE {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(metric.name.bytes().all(plain), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
            let seconds = metric.name.ends_with("_seconds");
            assert_eq!(seconds, metric.unit == "seconds", "{}", metric.name);
            assert_eq!(
                metric.buckets.is_empty(),
                metric.kind != Kind::Histogram,
                "{}",
                metric.name
            );
            assert!(
                metric.buckets.is_sorted() && metric.help.ends_with('.'),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn no_label_can_name_a_person_or_a_thing() {
        let labels = CATALOGUE.iter().flat_map(|metric| metric.labels);
        for label in labels {
            for unbounded in ["wallet", "payer", "grant", "lease", "token", "principal", "path", "id"] {
                assert_ne!(*label, unbounded);
            }
        }
    }
}
