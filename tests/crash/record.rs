//! What each kill was and how the instance came back, one JSON object a line in the file that `DEKEYS_CRASH_RECORD` names.
//! `tests/crash/run` makes its table from that; without the variable nothing is kept.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::Scene;

/// One kill.
pub(crate) struct Kill<'a> {
    pub(crate) scene: &'a Scene,
    /// `arrows`, `random`, `rotations`.
    pub(crate) suite: &'static str,
    /// What was going on.
    pub(crate) walk: &'a str,
    /// Where it died; empty at a random moment.
    pub(crate) point: &'a str,
    pub(crate) seed: u64,
    /// Vendor faults that were set.
    pub(crate) faults: u64,
    /// From the start of the next process to its readiness.
    pub(crate) ready: Duration,
    /// From then until no key lived that nobody has a right to, if there was one.
    pub(crate) orphans: Option<Duration>,
}

impl Kill<'_> {
    /// Adds the line.
    pub(crate) fn record(&self) {
        let engine = if self.scene.takes_up_at_once() {
            "sqlite"
        } else {
            "postgres"
        };
        add(&json!({
            "suite": self.suite, "engine": engine, "walk": self.walk, "point": self.point, "seed": self.seed,
            "faults": self.faults, "ready_ms": millis(self.ready), "orphans_ms": self.orphans.map(millis),
        }));
    }
}

/// Adds a line of whatever kind.
pub(crate) fn add(line: &Value) {
    let Some(path) = std::env::var_os("DEKEYS_CRASH_RECORD") else {
        return;
    };
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
