//! What was not run is said where people see it: past the test harness, which keeps what passing tests print.

use std::io::Write as _;
use std::path::PathBuf;

/// Says that something was skipped.
pub(crate) fn skipped(what: &str) {
    writeln!(std::io::stderr(), "SKIPPED {what}").unwrap();
}

/// The folder that an environment variable names. Without it `what` is skipped.
pub(crate) fn folder(variable: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        skipped(&format!("{what}: {variable} is not set"));
    }
    folder
}
