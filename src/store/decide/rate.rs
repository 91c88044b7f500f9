//! Rates as GCRA (the generic cell rate algorithm): one number for each key, the theoretical arrival time. `60/min`
//! admits 60 at once after a pause, then one each second; so in any minute at most 119, and 60 in the long run.

use crate::base::time::{Timestamp, Ttl};
use crate::model::policy::Rate;

/// Takes one. `tat` and the answer are in microseconds since 1970, since `100000/min` is more than one a
/// millisecond. Refused: how long to wait.
pub(in crate::store) fn take(tat: Option<i64>, limit: Rate, now: Timestamp) -> Result<i64, Ttl> {
    let now = now.as_millis().saturating_mul(1000);
    let span = limit.per.as_millis().saturating_mul(1000);
    let (base, count) = (tat.unwrap_or(now).max(now), limit.count);
    if count <= 0 {
        return Err(limit.per);
    }
    // Rounded up: too slow by less than a microsecond rather than too fast.
    let step = (span / count + i64::from(span % count != 0)).max(1);
    let next = base.saturating_add(step);
    let early = next.saturating_sub(now).saturating_sub(step.saturating_mul(count));
    if early > 0 {
        return Err(Ttl::from_millis(early / 1000 + i64::from(early % 1000 != 0)));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limit: Rate, times: impl IntoIterator<Item = i64>) -> usize {
        let mut tat = None;
        let take_at = |at| match take(tat, limit, Timestamp::from_millis(at)) {
            Ok(next) => {
                tat = Some(next);
                true
            }
            Err(_) => false,
        };
        times.into_iter().map(take_at).filter(|admitted| *admitted).count()
    }

    #[test]
    fn a_burst_of_the_count_then_one_each_step() {
        let limit = Rate {
            count: 60,
            per: Ttl::from_mins(1),
        };
        assert_eq!(admitted(limit, std::iter::repeat_n(5_000, 200)), 60);
        assert_eq!(admitted(limit, (0..200).map(|n| 5_000 + n / 100 * 1_000)), 61);
        assert_eq!(admitted(limit, (0..60_000).step_by(10)), 119);
    }

    #[test]
    fn more_than_one_a_millisecond_and_none_at_all() {
        let limit = Rate {
            count: 100_000,
            per: Ttl::from_secs(1),
        };
        assert_eq!(admitted(limit, std::iter::repeat_n(1, 150_000)), 100_000);
        let none = Rate {
            count: 0,
            per: Ttl::from_secs(1),
        };
        assert_eq!(admitted(none, [1, 2, 3_000]), 0);
    }

    #[test]
    fn waiting_as_told_is_enough() {
        let limit = Rate {
            count: 3,
            per: Ttl::from_millis(1_000),
        };
        let now = Timestamp::from_millis(77);
        let tat = (0..3).try_fold(None, |tat, _| take(tat, limit, now).map(Some)).unwrap();
        let wait = take(tat, limit, now).unwrap_err();
        assert_eq!(wait, Ttl::from_millis(334), "a third of a second, rounded up");
        assert!(take(tat, limit, now.plus(wait)).is_ok());
    }
}
