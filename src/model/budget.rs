//! Budgets: what can be used up, and the point at which somebody should hear of it while there is time.

use serde_json::{Map, Value};

/// The type of the event.
pub const THRESHOLD_REACHED: &str = "budget.threshold_reached";

/// Where the threshold lies, in percent of the limit.
pub const THRESHOLD: i64 = 80;

/// What can be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// A grant's uses.
    MaxResolves,
    /// What one payer may pay in 24 hours.
    PaidPerDay,
    /// Keys that may be held unpaid at a vendor.
    HeldKeys,
    /// What a grant may cost at a vendor.
    VendorCostPerGrant,
}

impl Budget {
    /// The word in events, metrics and, where it has one, the policy file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxResolves => "max_resolves",
            Self::PaidPerDay => "paid_per_day",
            Self::HeldKeys => "held_keys",
            Self::VendorCostPerGrant => "vendor_cost_per_grant",
        }
    }

    /// The facts of the event: which budget, what is used, of how much; texts, so that amounts say their currency.
    #[must_use]
    pub fn facts(self, used: &impl ToString, limit: &impl ToString) -> Map<String, Value> {
        [
            ("budget", self.as_str().to_owned()),
            ("used", used.to_string()),
            ("limit", limit.to_string()),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), Value::String(text)))
        .collect()
    }
}

/// Whether so much of the limit is used that somebody should hear of it.
#[must_use]
pub fn is_near(used: i64, limit: i64) -> bool {
    i128::from(used) * 100 >= i128::from(limit) * i128::from(THRESHOLD)
}

/// Whether a count came near its limit with this step, and something is left. So it is told once on the way up, and a
/// limit under five, which the same step would use up, is not told of at all.
#[must_use]
pub fn came_near(before: i64, after: i64, limit: i64) -> bool {
    after < limit && !is_near(before, limit) && is_near(after, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_comes_near_once_and_only_while_something_is_left() {
        for (limit, at) in [
            (5, 4),
            (10, 8),
            (99, 80),
            (100, 80),
            (101, 81),
            (i64::MAX, 7_378_697_629_483_820_646),
        ] {
            assert!(!came_near(at - 2, at - 1, limit), "{limit}");
            assert!(came_near(at - 1, at, limit), "{limit}");
            assert!(!came_near(at, at + 1, limit), "{limit}");
        }
        for limit in 0..5 {
            assert!((0..6).all(|used| !came_near(used, used + 1, limit)), "{limit}");
        }
    }
}
