//! What the process does so that its memory does not end up on a disk or in a debugger: no core dumps, and on
//! Linux not dumpable, which also keeps other processes of the same user from attaching.
//!
//! Not protected: key pages are not locked. `mlock` of single pages needs unsafe code, which is forbidden here,
//! and locking everything (`mlockall`) breaks under memory limits and starves the database's cache. Run without
//! swap (`MemorySwapMax=0` in the unit) or with encrypted swap; [`Hardening::warnings`] says when that matters.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// What [`harden`] reached. Shown by the health route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Hardening {
    /// `RLIMIT_CORE` is 0, soft and hard.
    pub core_dumps_off: bool,
    /// `PR_SET_DUMPABLE` is 0: no attaching, no reading of `/proc/<pid>/mem` by the same user.
    pub not_dumpable: bool,
    /// Key pages are locked in memory. Always false: see the module's page.
    pub key_pages_locked: bool,
    /// The machine has swap; `None` where that cannot be told.
    pub swap: Option<bool>,
}

/// Hardens this process; call it first in `main`. What could not be done is reported, never an error.
#[must_use]
pub fn harden() -> Hardening {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Hardening {
        core_dumps_off: setrlimit(Resource::Core, none).is_ok() || getrlimit(Resource::Core).current == Some(0),
        not_dumpable: forbid_dumping(),
        key_pages_locked: false,
        swap: swap(),
    }
}

/// How this process is protected now, without changing it: what is missing, in words.
#[must_use]
pub fn seen() -> Vec<&'static str> {
    let now = Hardening {
        core_dumps_off: getrlimit(Resource::Core).current == Some(0),
        not_dumpable: is_not_dumpable(),
        key_pages_locked: false,
        swap: swap(),
    };
    now.warnings()
}

#[cfg(target_os = "linux")]
fn is_not_dumpable() -> bool {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    matches!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable))
}

#[cfg(not(target_os = "linux"))]
fn is_not_dumpable() -> bool {
    false
}

impl Hardening {
    /// What is missing, in words for the log.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        [
            (!self.core_dumps_off).then_some("core dumps are not turned off"),
            (!self.not_dumpable).then_some("other processes of this user may read this one's memory"),
            (!self.key_pages_locked && self.swap != Some(false))
                .then_some("key pages are not locked and this machine may swap: turn swap off or encrypt it"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(target_os = "linux")]
fn forbid_dumping() -> bool {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn forbid_dumping() -> bool {
    false
}

/// The first line of `/proc/swaps` is a heading; each further one is a swap area.
fn swap() -> Option<bool> {
    let areas = std::fs::read_to_string("/proc/swaps").ok()?;
    Some(areas.lines().count() > 1)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn afterwards_there_are_no_core_dumps_and_no_attaching() {
        let hardening = harden();
        assert!(hardening.core_dumps_off && hardening.not_dumpable && !hardening.key_pages_locked);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert!(matches!(
            rustix::process::dumpable_behavior(),
            Ok(rustix::process::DumpableBehavior::NotDumpable)
        ));
    }

    #[test]
    fn what_is_missing_is_said() {
        let bare = Hardening {
            core_dumps_off: false,
            not_dumpable: false,
            key_pages_locked: false,
            swap: Some(true),
        };
        assert_eq!(bare.warnings().len(), 3);
        let good = Hardening {
            core_dumps_off: true,
            not_dumpable: true,
            swap: Some(false),
            ..bare
        };
        assert!(good.warnings().is_empty());
    }
}
