//! What a vendor offers to find out about a creation whose answer was lost, and how a key ends at a vendor that cannot
//! end it: each class (V1 to V5) has its own way.

use super::call::Call;
use super::manifest::Manifest;
use super::tables::{ExpiryUnit, Idempotency};
use crate::base::time::{Timestamp, Ttl};

/// How long a key of a vendor with keys of its own term may live where the manifest does not say: a day.
const LONGEST_TERM: i64 = 86_400;

/// How it is found out whether a key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// V1: the same request is sent again, for as long as the vendor remembers it; later by name.
    Repeat {
        /// Counted from the first request.
        window: Ttl,
    },
    /// V2: by its name in the list.
    ByName,
    /// V3: keys have no names. One is made at a time, and what the list holds more than before may be it.
    ByDifference,
    /// V4: it cannot be found, and ends by itself.
    ByTime,
    /// V5: neither. No key is ever made there.
    None,
}

impl Manifest {
    /// How a lost answer is recovered from.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let Some(create) = self.create.as_ref().filter(|_| self.vendor.class < 5) else {
            return Recovery::None;
        };
        let window = match &create.idempotency {
            Idempotency::Header { window_s, .. } if self.vendor.class == 1 => window_s.map(Ttl::from_secs),
            _ => None,
        };
        match (window, self.list.is_some(), self.names_keys()) {
            (Some(window), _, _) => Recovery::Repeat { window },
            (None, true, true) => Recovery::ByName,
            (None, true, false) => Recovery::ByDifference,
            (None, false, _) if self.ends_keys() => Recovery::ByTime,
            (None, false, _) => Recovery::None,
        }
    }

    /// Whether keys are called by the name that dekeys gives them.
    #[must_use]
    pub fn names_keys(&self) -> bool {
        self.create
            .as_ref()
            .is_some_and(|create| Call::from(create).uses("name"))
    }

    /// Whether every key ends by itself.
    const fn ends_keys(&self) -> bool {
        self.expiry.unit.ends() || self.vendor.class == 4
    }

    /// Whether keys can be ended before their time.
    #[must_use]
    pub const fn can_revoke(&self) -> bool {
        self.revoke.is_some()
    }

    /// When a key that was asked for at `made`, to live until `expires`, is dead at the latest by the vendor's own
    /// doing. `None`: the vendor ends no key by itself.
    #[must_use]
    pub fn dead_by(&self, made: Timestamp, expires: Timestamp) -> Option<Timestamp> {
        if !self.ends_keys() {
            return None;
        }
        let term = |seconds: i64| made.plus(Ttl::from_secs(seconds));
        let table = &self.expiry;
        if !table.unit.ends() {
            return Some(term(table.max_s.unwrap_or(LONGEST_TERM)));
        }
        let rounded = match table.unit {
            ExpiryUnit::MinutesCeil | ExpiryUnit::Duration => 60,
            ExpiryUnit::HoursCeil => 3600,
            ExpiryUnit::DaysCeil | ExpiryUnit::DateCeil => 86_400,
            _ => 1,
        };
        Some(
            expires
                .max(term(table.min_s.unwrap_or(0)))
                .plus(Ttl::from_secs(rounded)),
        )
    }

    /// Most calls about keys that dekeys has under way at this vendor by itself.
    #[must_use]
    pub fn at_once(&self) -> usize {
        const USUAL: u32 = 8;
        usize::try_from(self.limits.at_once.unwrap_or(USUAL))
            .unwrap_or(1)
            .max(1)
    }

    /// How long a vendor may still take a key, or list it, after it confirmed its end.
    #[must_use]
    pub fn settles_in(&self) -> Ttl {
        Ttl::from_secs(self.revoke.as_ref().map_or(0, |revoke| revoke.settle_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::shipped;

    fn of(vendor: &str) -> Manifest {
        let shipped = shipped();
        let (_, text) = shipped.iter().find(|(name, _)| name.as_str() == vendor).unwrap();
        Manifest::parse(text, vendor).unwrap()
    }

    #[test]
    fn every_vendor_that_makes_keys_says_how_a_lost_one_is_found() {
        for (name, text) in shipped() {
            let manifest = Manifest::parse(text, name.as_str()).unwrap();
            let recovery = manifest.recovery();
            match (manifest.create.is_some(), manifest.vendor.class) {
                (false, _) | (_, 5) => assert_eq!(recovery, Recovery::None, "{name}"),
                (true, 4) => assert!(matches!(recovery, Recovery::ByTime | Recovery::ByName), "{name}"),
                (true, _) => assert!(
                    matches!(recovery, Recovery::ByName | Recovery::ByDifference),
                    "{name}: {recovery:?}"
                ),
            }
        }
    }

    #[test]
    fn a_key_that_cannot_be_ended_is_dead_when_its_term_is_over() {
        let at = Timestamp::from_secs;
        // An hour, in seconds; fifteen minutes of it were asked for.
        assert_eq!(of("deepgram-grant").dead_by(at(1000), at(1900)), Some(at(1901)));
        // Nothing is said: a day.
        assert_eq!(of("onfido-sdk").dead_by(at(1000), at(1900)), Some(at(87_400)));
        // Whole hours, and at least one.
        assert_eq!(of("tavily").dead_by(at(1000), at(1900)), Some(at(1000 + 7200)));
        assert_eq!(of("openai-project").dead_by(at(1000), at(1900)), None);
    }
}
