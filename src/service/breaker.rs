//! Circuit breakers, one for each root credential: while a vendor does not answer, or does not take our root
//! credential, it is left alone but for one call now and then. The first good answer wakes everything that waited.
//!
//! Each process has its own: what one learned another learns by a handful of calls. Nothing here decides what is true;
//! it only decides when somebody is asked.

use std::collections::HashMap;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::id::RootId;
use crate::base::random::{Random, bytes};
use crate::base::time::{Timestamp, Ttl};
use crate::model::scope::Name;
use crate::vendor::{Existence, FailureClass, VendorFailure};

/// Failures in a row after which a vendor is left alone.
const TRIP: u32 = 5;

/// First and longest wait between two calls to a vendor that is left alone, unless it says longer itself.
const FIRST: Ttl = Ttl::from_secs(1);
const LONGEST: Ttl = Ttl::from_secs(60);

/// A trial that was let through and of which nothing was heard is over after this long.
const TRIAL: Ttl = Ttl::from_secs(60);

/// The shortest wait, where chance would give none.
const SHORTEST: Ttl = Ttl::from_millis(100);

/// All breakers of this process.
#[derive(Default)]
pub struct Breakers(Mutex<HashMap<RootId, Breaker>>);

#[derive(Debug, Clone)]
struct Breaker {
    vendor: Name,
    /// Failures in a row.
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    since: Timestamp,
    /// No call before then.
    until: Timestamp,
    /// How often it stayed open.
    rounds: u32,
    /// When the one call was let through.
    trial: Option<Timestamp>,
    /// What the vendor did last, in safe words.
    trouble: String,
}

/// A breaker as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerView {
    /// `closed`: the vendor is called. `open`: it is left alone. `trial`: one call finds out.
    pub state: String,
    /// Calls in a row that failed.
    pub failures: u32,
    /// Since when it is left alone.
    pub since: Option<Timestamp>,
    /// When it is called again.
    pub until: Option<Timestamp>,
    /// What it did last.
    pub trouble: Option<String>,
}

/// What an answer did to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Same,
    /// The vendor is left alone from now on.
    Opened,
    /// The vendor answers again.
    Closed,
}

impl Breakers {
    /// Whether a call may go out that somebody waits for. The one that finds out whether the vendor is back is such a
    /// call, too.
    ///
    /// # Errors
    /// The failure to answer with. Nothing was sent.
    pub fn admit(&self, root: RootId, now: Timestamp) -> Result<(), VendorFailure> {
        if self.take(root, now, 1) > 0 {
            return Ok(());
        }
        let breakers = self.0.lock();
        let open = breakers.get(&root).and_then(|breaker| breaker.open.as_ref());
        let wait = open.map_or(SHORTEST, |open| open.until.since(now).max(FIRST));
        Err(VendorFailure {
            class: FailureClass::Retryable,
            created: Existence::No,
            status: None,
            retry_after: Some(wait),
            words: open.map_or_else(String::new, |open| {
                format!("{}; it is left alone for a while", open.trouble)
            }),
        })
    }

    /// How many of `wanted` calls may go out now. Those that may, must.
    pub fn take(&self, root: RootId, now: Timestamp, wanted: usize) -> usize {
        let mut breakers = self.0.lock();
        let Some(open) = breakers.get_mut(&root).and_then(|breaker| breaker.open.as_mut()) else {
            return wanted;
        };
        let under_way = open.trial.is_some_and(|began| now.since(began) < TRIAL);
        if now < open.until || under_way || wanted == 0 {
            return 0;
        }
        open.trial = Some(now);
        1
    }

    /// Whether no call may go out now.
    pub fn rests(&self, root: RootId, now: Timestamp) -> bool {
        let breakers = self.0.lock();
        let open = breakers.get(&root).and_then(|breaker| breaker.open.as_ref());
        open.is_some_and(|open| now < open.until || open.trial.is_some_and(|began| now.since(began) < TRIAL))
    }

    /// Whether a vendor is left alone now.
    pub fn is_open(&self, root: RootId) -> bool {
        self.0.lock().get(&root).is_some_and(|breaker| breaker.open.is_some())
    }

    /// Learns from an answer, or from there being none.
    pub fn learn(
        &self,
        root: RootId,
        vendor: &Name,
        outcome: Option<&VendorFailure>,
        now: Timestamp,
        random: &dyn Random,
    ) -> Turn {
        let mut breakers = self.0.lock();
        let breaker = breakers.entry(root).or_insert_with(|| Breaker {
            vendor: vendor.clone(),
            failures: 0,
            open: None,
        });
        match outcome {
            Some(failure) if !was_asked(failure) => Turn::Same,
            Some(failure) if is_trouble(failure) => breaker.failed(failure, now, random),
            _ => breaker.answered(),
        }
    }

    /// How a root credential's breaker stands.
    pub fn view(&self, root: RootId, now: Timestamp) -> BreakerView {
        let breakers = self.0.lock();
        let breaker = breakers.get(&root);
        let open = breaker.and_then(|breaker| breaker.open.as_ref());
        BreakerView {
            state: match open {
                None => "closed",
                Some(open) if open.trial.is_some() || open.until <= now => "trial",
                Some(_) => "open",
            }
            .to_owned(),
            failures: breaker.map_or(0, |breaker| breaker.failures),
            since: open.map(|open| open.since),
            until: open.map(|open| open.until),
            trouble: open.map(|open| open.trouble.clone()),
        }
    }

    /// Every vendor that was called, and whether it is left alone.
    pub fn all(&self) -> Vec<(Name, bool)> {
        let breakers = self.0.lock();
        breakers
            .values()
            .map(|breaker| (breaker.vendor.clone(), breaker.open.is_some()))
            .collect()
    }

    /// Forgets everything: at the vault's opening the vendors are asked anew.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Breaker {
    fn answered(&mut self) -> Turn {
        self.failures = 0;
        match self.open.take() {
            Some(_) => Turn::Closed,
            None => Turn::Same,
        }
    }

    fn failed(&mut self, failure: &VendorFailure, now: Timestamp, random: &dyn Random) -> Turn {
        self.failures = self.failures.saturating_add(1);
        let told = failure.retry_after;
        if self.open.is_none() && self.failures < TRIP && told.is_none() {
            return Turn::Same;
        }
        let before = self.open.take();
        let rounds = before.as_ref().map_or(0, |open| open.rounds.saturating_add(1));
        let wait = told.unwrap_or_else(|| jitter(FIRST, LONGEST, rounds, random));
        let until = before.as_ref().map_or(now, |open| open.until).max(now.plus(wait));
        self.open = Some(Open {
            since: before.as_ref().map_or(now, |open| open.since),
            until,
            rounds,
            trial: None,
            trouble: failure.words.clone(),
        });
        match before {
            None => Turn::Opened,
            Some(_) => Turn::Same,
        }
    }
}

/// Whether the vendor was asked at all: dekeys itself refuses some calls, and keeps a pace that no answer asked for.
const fn was_asked(failure: &VendorFailure) -> bool {
    match failure.class {
        FailureClass::Refused => false,
        FailureClass::RateLimited => failure.status.is_some(),
        _ => true,
    }
}

/// Whether the vendor, rather than what was asked of it, is the trouble.
const fn is_trouble(failure: &VendorFailure) -> bool {
    matches!(
        failure.class,
        FailureClass::Auth | FailureClass::RateLimited | FailureClass::Retryable | FailureClass::Unknown
    )
}

/// A wait with full jitter: anything up to `first` doubled `doublings` times, or `longest`.
pub(super) fn jitter(first: Ttl, longest: Ttl, doublings: u32, random: &dyn Random) -> Ttl {
    let most = first
        .as_millis()
        .saturating_mul(2i64.saturating_pow(doublings.min(40)))
        .min(longest.as_millis());
    let drawn = u64::from_le_bytes(bytes::<8>(random));
    let span = u64::try_from(most).unwrap_or(0).saturating_add(1);
    let wait = drawn.checked_rem(span).unwrap_or(0);
    Ttl::from_millis(i64::try_from(wait).unwrap_or(0)).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    const START: Timestamp = Timestamp::from_secs(1_763_670_667);

    struct Scene {
        breakers: Breakers,
        root: RootId,
        vendor: Name,
        random: SeededRandom,
    }

    impl Scene {
        fn new() -> Self {
            let random = SeededRandom::new(7);
            Self {
                breakers: Breakers::default(),
                root: RootId::new(START, &random),
                vendor: "demo".parse().unwrap(),
                random,
            }
        }

        fn fails(&self, class: FailureClass, retry_after: Option<Ttl>, now: Timestamp) -> Turn {
            let failure = VendorFailure {
                class,
                created: Existence::Maybe,
                status: Some(500),
                retry_after,
                words: "demo answered 500".to_owned(),
            };
            self.breakers
                .learn(self.root, &self.vendor, Some(&failure), now, &self.random)
        }

        fn answers(&self, now: Timestamp) -> Turn {
            self.breakers.learn(self.root, &self.vendor, None, now, &self.random)
        }
    }

    #[test]
    fn a_pace_that_dekeys_keeps_itself_tells_nothing_about_the_vendor() {
        let scene = Scene::new();
        let own = VendorFailure {
            class: FailureClass::RateLimited,
            created: Existence::No,
            status: None,
            retry_after: Some(Ttl::from_mins(60)),
            words: "so many were made".to_owned(),
        };
        for _ in 0..20 {
            let learned = scene
                .breakers
                .learn(scene.root, &scene.vendor, Some(&own), START, &scene.random);
            assert_eq!(learned, Turn::Same);
        }
    }

    #[test]
    fn a_vendor_that_fails_five_times_is_left_alone_and_asked_once_now_and_then() {
        let scene = Scene::new();
        for _ in 0..4 {
            assert_eq!(scene.fails(FailureClass::Retryable, None, START), Turn::Same);
            assert_eq!(scene.breakers.take(scene.root, START, 9), 9);
        }
        assert_eq!(scene.fails(FailureClass::Retryable, None, START), Turn::Opened);
        assert_eq!(scene.breakers.take(scene.root, START, 9), 0);
        let mut now = START;
        for _ in 0..20 {
            now = now.plus(LONGEST);
            assert_eq!(
                scene.breakers.take(scene.root, now, 9),
                1,
                "a minute is the longest wait"
            );
            assert_eq!(scene.breakers.take(scene.root, now, 9), 0, "one call finds out");
            assert_eq!(scene.fails(FailureClass::Auth, None, now), Turn::Same);
        }
        let refused = scene.breakers.admit(scene.root, now).unwrap_err();
        assert!(refused.retry_after.is_some() && refused.created == Existence::No);
        assert_eq!(scene.answers(now), Turn::Closed);
        assert_eq!(scene.breakers.take(scene.root, now, 9), 9);
        assert_eq!(scene.answers(now), Turn::Same);
    }

    #[test]
    fn what_the_vendor_says_is_waited_for_and_a_lost_trial_is_followed_by_another() {
        let scene = Scene::new();
        let hour = Ttl::from_mins(60);
        assert_eq!(scene.fails(FailureClass::RateLimited, Some(hour), START), Turn::Opened);
        let (early, late) = (START.plus(Ttl::from_mins(59)), START.plus(hour));
        assert_eq!(scene.breakers.take(scene.root, early, 1), 0);
        // An answer of the other kind does not shorten what was said.
        assert_eq!(scene.fails(FailureClass::Retryable, None, early), Turn::Same);
        assert_eq!(scene.breakers.take(scene.root, early, 1), 0);
        assert_eq!(scene.breakers.take(scene.root, late.plus(LONGEST), 1), 1);
        assert_eq!(scene.breakers.take(scene.root, late.plus(LONGEST).plus(TRIAL), 1), 1);
    }

    #[test]
    fn a_refusal_of_what_was_asked_is_an_answer() {
        let scene = Scene::new();
        for _ in 0..50 {
            assert_eq!(scene.fails(FailureClass::Permanent, None, START), Turn::Same);
            assert_eq!(scene.fails(FailureClass::Quota, None, START), Turn::Same);
            assert_eq!(scene.fails(FailureClass::Refused, None, START), Turn::Same);
        }
        assert!(!scene.breakers.is_open(scene.root));
    }

    #[test]
    fn waits_are_spread_over_their_whole_span_and_end_at_the_longest() {
        let random = SeededRandom::new(3);
        let (hour, second) = (Ttl::from_mins(60), Ttl::from_secs(1));
        let waits: Vec<Ttl> = (0..1000).map(|_| jitter(second, hour, 60, &random)).collect();
        assert!(waits.iter().all(|wait| *wait <= hour && *wait >= SHORTEST));
        let below = waits
            .iter()
            .filter(|wait| wait.as_millis() < hour.as_millis() / 2)
            .count();
        assert!((400..600).contains(&below), "{below}");
        assert!((0..1000).all(|_| jitter(second, hour, 0, &random) <= second));
    }
}
