//! Expiry in the vendor's unit, both ways. Sent times are rounded up: a key may live a little too long, since
//! dekeys ends it anyway, but must not die while it is leased.

use serde_json::Value;
use time::{Date, OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::tables::ExpiryUnit;
use crate::base::time::{Timestamp, Ttl};

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const DAY_MS: i64 = 86_400_000;

/// What to send so that a key made at `now` lives until `expires`; `None` when the vendor has no expiry.
pub(crate) fn sent(unit: ExpiryUnit, now: Timestamp, expires: Timestamp) -> Option<Value> {
    let left = expires.since(now).as_millis();
    Some(match unit {
        ExpiryUnit::None => return None,
        ExpiryUnit::Rfc3339Utc => Timestamp::from_secs(up(expires.as_millis(), 1000)).rfc3339().into(),
        ExpiryUnit::UnixS => up(expires.as_millis(), 1000).into(),
        ExpiryUnit::UnixMs => expires.as_millis().into(),
        ExpiryUnit::Seconds => up(left, 1000).max(1).into(),
        ExpiryUnit::MinutesCeil => up(left, 60_000).max(1).into(),
        ExpiryUnit::HoursCeil => up(left, 3_600_000).max(1).into(),
        ExpiryUnit::DaysCeil => up(left, DAY_MS).max(1).into(),
        ExpiryUnit::Duration => format!("{}m", up(left, 60_000).max(1)).into(),
        ExpiryUnit::DurationS => format!("{}s", up(left, 1000).max(1)).into(),
        ExpiryUnit::DateCeil => date(up(expires.as_millis(), DAY_MS))?.into(),
    })
}

/// The time a vendor's value stands for. Text is read as a time or date whatever the unit is, since many vendors
/// take a span and answer a time.
pub(crate) fn read(unit: ExpiryUnit, value: &Value, now: Timestamp) -> Option<Timestamp> {
    let number = match value {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => {
            let Ok(number) = text.parse() else {
                return written(unit, text, now);
            };
            number
        }
        _ => return None,
    };
    match unit {
        ExpiryUnit::Rfc3339Utc
        | ExpiryUnit::DateCeil
        | ExpiryUnit::Duration
        | ExpiryUnit::DurationS
        | ExpiryUnit::None => None,
        ExpiryUnit::UnixS => Some(Timestamp::from_secs(number)),
        ExpiryUnit::UnixMs => Some(Timestamp::from_millis(number)),
        ExpiryUnit::Seconds => Some(now.plus(Ttl::from_secs(number))),
        ExpiryUnit::MinutesCeil => Some(now.plus(Ttl::from_secs(number.saturating_mul(60)))),
        ExpiryUnit::DaysCeil => Some(now.plus(Ttl::from_millis(number.saturating_mul(DAY_MS)))),
        ExpiryUnit::HoursCeil => Some(now.plus(Ttl::from_secs(number.saturating_mul(3600)))),
    }
}

/// A time, a date, or a span in minutes or seconds.
fn written(unit: ExpiryUnit, text: &str, now: Timestamp) -> Option<Timestamp> {
    let span = match unit {
        ExpiryUnit::Duration => text.strip_suffix('m').map(|number| (number, 60)),
        ExpiryUnit::DurationS => text.strip_suffix('s').map(|number| (number, 1)),
        _ => None,
    };
    let spanned = span.and_then(|(number, each)| Some(number.parse::<i64>().ok()?.saturating_mul(each)));
    match spanned {
        Some(seconds) => Some(now.plus(Ttl::from_secs(seconds))),
        None => Timestamp::parse_rfc3339(text).or_else(|| midnight(text)),
    }
}

fn up(value: i64, step: i64) -> i64 {
    value.div_euclid(step) + i64::from(value.rem_euclid(step) > 0)
}

fn date(day: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp(day.checked_mul(DAY_MS / 1000)?).ok()?;
    at.date().format(DATE).ok()
}

fn midnight(text: &str) -> Option<Timestamp> {
    let date = Date::parse(text, DATE).ok()?;
    Some(Timestamp::from_secs(date.midnight().assume_utc().unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_unit_rounds_up_and_reads_back() {
        let now = Timestamp::parse_rfc3339("2026-11-20T20:00:00Z").unwrap();
        let expires = Timestamp::from_millis(now.as_millis() + 900_001);
        let cases = [
            (ExpiryUnit::Rfc3339Utc, json!("2026-11-20T20:15:01Z")),
            (ExpiryUnit::UnixS, json!(now.as_secs() + 901)),
            (ExpiryUnit::UnixMs, json!(now.as_millis() + 900_001)),
            (ExpiryUnit::Seconds, json!(901)),
            (ExpiryUnit::MinutesCeil, json!(16)),
            (ExpiryUnit::HoursCeil, json!(1)),
            (ExpiryUnit::DaysCeil, json!(1)),
            (ExpiryUnit::Duration, json!("16m")),
            (ExpiryUnit::DateCeil, json!("2026-11-21")),
        ];
        for (unit, value) in cases {
            assert_eq!(sent(unit, now, expires), Some(value.clone()), "{unit:?}");
            assert!(read(unit, &value, now).unwrap() >= expires, "{unit:?}");
        }
        assert_eq!(sent(ExpiryUnit::None, now, expires), None);
    }

    #[test]
    fn a_span_may_be_answered_with_a_time() {
        let now = Timestamp::from_secs(1_000);
        let answered = read(ExpiryUnit::Seconds, &json!("2026-11-20T20:15:01Z"), now);
        assert_eq!(answered, Timestamp::parse_rfc3339("2026-11-20T20:15:01Z"));
        assert_eq!(read(ExpiryUnit::UnixS, &json!(null), now), None);
    }
}
