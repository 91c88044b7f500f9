//! Fail points: named places at which a test has the process die at once, as SIGKILL does. They are in builds with debug
//! assertions alone, which no release is; elsewhere [`at`] is empty and the folder is never looked at.
//!
//! The folder named to [`listen`] holds what a test and the process tell each other: `passed` (if it is there, each point
//! that is passed is added, one a line), `armed` (`STAGE NAME N`: die when that point is passed for the Nth time since it
//! was armed), `died` (written right before).

use std::fmt;
#[cfg(debug_assertions)]
use std::path::{Path, PathBuf};

#[cfg(debug_assertions)]
use parking_lot::Mutex;

/// Where in an arrow of a state machine a point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A transaction is written and not committed.
    BeforeCommit,
    /// It is committed, and nobody was told.
    AfterCommit,
    /// Somebody outside answered, and nothing of it is on record.
    Answered,
    /// The work of a request is done, and its answer not sent.
    Replying,
    /// A file was written.
    Written,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::Answered => "answered",
            Self::Replying => "replying",
            Self::Written => "written",
        })
    }
}

#[cfg(debug_assertions)]
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What is armed, and how often it was passed since.
#[cfg(debug_assertions)]
static PASSED: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

/// Fail points are armed in `folder` from now on. Does nothing in a release.
#[cfg(debug_assertions)]
pub fn listen(folder: Option<PathBuf>) {
    *FOLDER.lock() = folder;
}

/// Fail points are armed in `folder` from now on. Does nothing in a release.
#[cfg(not(debug_assertions))]
pub fn listen(_folder: Option<std::path::PathBuf>) {}

/// The process passes a point; it dies here if that is armed.
#[cfg(debug_assertions)]
pub fn at(stage: Stage, name: impl FnOnce() -> String) {
    let Some(folder) = FOLDER.lock().clone() else { return };
    let point = format!("{stage} {}", name());
    note(&folder, &point);
    let Ok(armed) = std::fs::read_to_string(folder.join("armed")) else {
        return;
    };
    if due(&armed, &point) {
        let _told = std::fs::write(folder.join("died"), &armed);
        let _killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal ends this thread too, before it does anything else.
        std::thread::park();
    }
}

/// The process passes a point; it dies here if that is armed. Does nothing in a release.
#[cfg(not(debug_assertions))]
#[inline]
pub fn at(_stage: Stage, _name: impl FnOnce() -> String) {}

#[cfg(debug_assertions)]
fn note(folder: &Path, point: &str) {
    use std::io::Write as _;
    let file = std::fs::OpenOptions::new().append(true).open(folder.join("passed"));
    if let Ok(mut file) = file {
        let _told = file.write_all(format!("{point}\n").as_bytes());
    }
}

/// Whether this is the pass that was waited for.
#[cfg(debug_assertions)]
fn due(armed: &str, point: &str) -> bool {
    let Some((wanted, nth)) = armed.trim_end().rsplit_once(' ') else {
        return false;
    };
    if wanted != point {
        return false;
    }
    let mut passed = PASSED.lock();
    if passed.0 != armed {
        *passed = (armed.to_owned(), 0);
    }
    passed.1 += 1;
    nth.parse() == Ok(passed.1)
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn the_pass_that_was_armed_is_the_one() {
        let point = format!("{} lease.created", Stage::AfterCommit);
        let armed = format!("{point} 2\n");
        assert!(!due(&armed, "after-commit lease.revoked"));
        assert!(!due(&armed, &point));
        assert!(due(&armed, &point));
        assert!(!due(&armed, &point));
        assert!(due(&format!("{point} 1"), &point), "armed anew, it is counted anew");
        assert!(!due("", &point));
    }
}
