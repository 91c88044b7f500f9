//! How fast keys are made with one root credential: `limits.per_minute` of its manifest. Who comes first is served
//! first, each root credential has a queue of its own, and a wait that would be long is refused for a later try.
//!
//! Counted by each server alone: several servers with one root credential make so many keys each.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::adapter::Declared;
use super::{Existence, FailureClass, RootSecret, VendorFailure};
use crate::base::canonical::Digest;
use crate::base::time::{Timestamp, Ttl};

const MINUTE: Ttl = Ttl::from_secs(60);
/// A creation counts as abandoned after 30 seconds, and a promise may take 20 of them.
const LONGEST_WAIT: Ttl = Ttl::from_secs(5);

/// When keys were made, or will be, with each root credential: the last ones, as many as a minute may have.
#[derive(Default)]
pub(super) struct Pace {
    made: Mutex<HashMap<Digest, VecDeque<Timestamp>>>,
}

impl Pace {
    /// How long to wait; the place is taken. Or how long it would have been, when that is too long.
    fn take(&self, root: Digest, most: u32, now: Timestamp) -> Result<Ttl, Ttl> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut made = self.made.lock();
        made.retain(|_, times| times.back().is_some_and(|last| last.plus(MINUTE) > now));
        let times = made.entry(root).or_default();
        let full = times.len() >= most;
        let free = times.front().filter(|_| full).map_or(now, |first| first.plus(MINUTE));
        let at = free.max(now);
        let wait = at.since(now);
        if most == 0 || wait > LONGEST_WAIT {
            return Err(wait.max(LONGEST_WAIT));
        }
        if full {
            times.pop_front();
        }
        times.push_back(at);
        Ok(wait)
    }
}

impl Declared {
    /// Waits for this creation's turn.
    pub(super) async fn paced(&self, root: &RootSecret) -> Result<(), VendorFailure> {
        let Some(most) = self.manifest.limits.per_minute else {
            return Ok(());
        };
        let wait = self.logins.pace.take(root.digest(), most, self.logins.now());
        let wait = wait.map_err(|wait| VendorFailure {
            class: FailureClass::RateLimited,
            created: Existence::No,
            status: None,
            retry_after: Some(wait),
            words: format!(
                "{} lets {most} keys be made in a minute, and so many were made",
                self.manifest.title()
            ),
        })?;
        if wait.as_millis() > 0 {
            tokio::time::sleep(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0))).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_minute_has_more_than_it_may_and_nobody_is_passed_over(
            most in 1u32..6,
            steps in prop::collection::vec(0i64..20_000, 1..80),
        ) {
            let pace = Pace::default();
            let root = Digest::of(b"root");
            let (mut now, mut served) = (Timestamp::from_secs(1_795_204_800), Vec::new());
            for step in steps {
                now = now.plus(Ttl::from_millis(step));
                let full = served.iter().filter(|at: &&Timestamp| at.plus(MINUTE) > now).count() >= most as usize;
                match pace.take(root, most, now) {
                    Ok(wait) => {
                        prop_assert!(wait <= LONGEST_WAIT && (full || wait == Ttl::default()));
                        served.push(now.plus(wait));
                    }
                    Err(wait) => prop_assert!(full && wait >= LONGEST_WAIT),
                }
            }
            prop_assert!(served.is_sorted(), "who came first is served first");
            for window in served.windows(most as usize + 1) {
                prop_assert!(window[most as usize].since(window[0]) >= MINUTE);
            }
            prop_assert_eq!(pace.take(Digest::of(b"another"), most, now), Ok(Ttl::default()));
        }
    }
}
