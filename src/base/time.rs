//! Time as an argument: milliseconds since 1970 (`i64`), spans that print as `15m`, and a clock that tests
//! can stop. Wall clocks jump; [`Clock`] implementations may only move forward (DESIGN 24).

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since 1970.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time `span` later.
    #[must_use]
    pub const fn plus(self, span: Ttl) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The time `span` earlier.
    #[must_use]
    pub const fn minus(self, span: Ttl) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Ttl {
        let span = self.0.saturating_sub(earlier.0);
        Ttl(if span < 0 { 0 } else { span })
    }

    /// RFC 3339 in UTC with whole seconds, rounded down: `2026-11-20T20:31:07Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        OffsetDateTime::from_unix_timestamp(self.as_secs())
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_else(|| self.0.to_string())
    }

    /// Parses RFC 3339 with any offset.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// On the wire a time is RFC 3339 text.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// A span of time, in milliseconds, never negative. Written `15m`, `1h 30m`, `500ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ttl(i64);

/// Text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a span of time such as `15m`, `1h 30m` or `30s`")]
pub struct InvalidTtl(String);

impl Ttl {
    /// From milliseconds; a negative number becomes zero.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < 0 { 0 } else { millis })
    }

    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// From whole minutes.
    #[must_use]
    pub const fn from_mins(mins: i64) -> Self {
        Self::from_secs(mins.saturating_mul(60))
    }

    /// Milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0 / 1000
    }

    /// The same span for timers.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.unsigned_abs())
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.to_std()))
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ttl {
    type Err = InvalidTtl;
    fn from_str(text: &str) -> Result<Self, InvalidTtl> {
        let invalid = || InvalidTtl(text.chars().take(64).collect());
        let span = humantime::parse_duration(text).map_err(|_| invalid())?;
        i64::try_from(span.as_millis()).map(Self).map_err(|_| invalid())
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Ttl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ttl".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["15m", "1h 30m", "30s"] })
    }
}

/// A span as people say it, `4 min` or `3 d`: rounded to the nearest of the largest unit of which there are at least two.
#[must_use]
pub fn span_words(span: Ttl) -> String {
    let seconds = span.as_secs();
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7170 => format!("{} min", (seconds + 30) / 60),
        7170..171_000 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}

/// Where the time comes from. Never goes back while the process lives.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// What the machine's clock says, which may have been set back behind [`Clock::now`].
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// How far the machine's clock was set ahead; [`Clock::now`] does not go with it.
    fn ahead(&self) -> Ttl {
        Ttl::from_millis(0)
    }
}

/// A clock that is set ahead by more than this, at once, is not followed: expiry would end everything.
const STEP: i64 = 5 * 60 * 1000;

/// The machine's wall clock, held so that a step back does not show, and not followed when it steps far ahead. What it
/// should say then is told by the time since the machine started, which nobody sets.
///
/// *Not protected:* a clock that was wrong when the process started, and one that is walked ahead in small steps. A
/// machine that stood still and did not count it (a snapshot that is resumed) looks like one whose clock was set.
#[derive(Debug)]
pub struct SystemClock {
    high_water: AtomicI64,
    /// What the wall clock said more than the steady one, when they last agreed.
    offset: AtomicI64,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::starting_at(Timestamp(0))
    }
}

impl SystemClock {
    /// A clock that never answers earlier than `floor`, the durable high-water mark of the database.
    #[must_use]
    pub fn starting_at(floor: Timestamp) -> Self {
        Self {
            high_water: AtomicI64::new(floor.0),
            offset: AtomicI64::new(Self::wall().0.saturating_sub(steady())),
        }
    }

    /// What it is, and how far the wall clock is ahead of it, for these readings of the wall clock and the steady one.
    fn read(&self, wall: i64, steady: i64) -> (i64, i64) {
        let expected = steady.saturating_add(self.offset.load(Ordering::Relaxed));
        let step = wall.saturating_sub(expected);
        if step > STEP {
            return (expected, step);
        }
        // A step far back is told by the high-water mark; when it is undone, nothing was ahead.
        if step > -STEP {
            self.offset.store(wall.saturating_sub(steady), Ordering::Relaxed);
        }
        (wall, 0)
    }

    /// The wall clock as it is, without the high-water mark: what tells whether it was set back.
    #[must_use]
    pub fn wall() -> Timestamp {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Timestamp(i64::try_from(now).unwrap_or(i64::MAX))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let (now, _) = self.read(Self::wall().0, steady());
        Timestamp(self.high_water.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn wall(&self) -> Timestamp {
        Self::wall()
    }

    fn ahead(&self) -> Ttl {
        Ttl::from_millis(self.read(Self::wall().0, steady()).1)
    }
}

/// Milliseconds since the machine started, with the time that it slept (`clock_gettime(2)`, `CLOCK_BOOTTIME`).
#[cfg(all(feature = "server", target_os = "linux"))]
fn steady() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let millis = time.tv_nsec / 1_000_000;
    time.tv_sec.saturating_mul(1000).saturating_add(millis)
}

/// Milliseconds since this process first asked.
#[cfg(not(all(feature = "server", target_os = "linux")))]
fn steady() -> i64 {
    static FIRST: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    i64::try_from(FIRST.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stopped at `at`.
    #[must_use]
    pub const fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.0))
    }

    /// Moves forward by `span`.
    pub fn advance(&self, span: Ttl) {
        self.0.fetch_add(span.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_goes_there_and_back() {
        let at = Timestamp::from_secs(1_763_670_667);
        assert_eq!(Timestamp::parse_rfc3339(&at.rfc3339()), Some(at));
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-20T20:31:07+02:00").map(Timestamp::rfc3339),
            Some("2026-11-20T18:31:07Z".to_owned())
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn spans_parse_and_print() {
        assert_eq!("15m".parse(), Ok(Ttl::from_mins(15)));
        assert_eq!(Ttl::from_secs(5400).to_string(), "1h 30m");
        assert!("".parse::<Ttl>().is_err() && "-5m".parse::<Ttl>().is_err() && "15".parse::<Ttl>().is_err());
    }

    #[test]
    fn a_clock_held_by_its_high_water_mark_does_not_go_back() {
        let ahead = SystemClock::wall().plus(Ttl::from_mins(60));
        let clock = SystemClock::starting_at(ahead);
        assert!(clock.now() >= ahead);
    }

    #[test]
    fn a_clock_is_followed_back_and_forth_and_not_far_ahead() {
        const HOUR: i64 = 60 * 60 * 1000;
        let clock = SystemClock {
            high_water: AtomicI64::new(0),
            offset: AtomicI64::new(1_000_000),
        };
        // Wall and steady; what it is, and how far the wall is ahead.
        for (wall, steady, is) in [
            (1_000_010, 10, (1_000_010, 0)),
            // Small steps are followed, also many.
            (1_000_020 + STEP / 2, 20, (1_000_020 + STEP / 2, 0)),
            (1_000_030 + STEP, 30, (1_000_030 + STEP, 0)),
            (1_000_035 + STEP / 2, 35, (1_000_035 + STEP / 2, 0)),
            (1_000_040, 40, (1_000_040, 0)),
            (1_000_050 + HOUR, 50, (1_000_050, HOUR)),
            (1_000_060 + 400 * 24 * HOUR, 60, (1_000_060, 400 * 24 * HOUR)),
            // Right again.
            (1_000_070, 70, (1_000_070, 0)),
            // Far back, and right again.
            (1_000_080 - HOUR, 80, (1_000_080 - HOUR, 0)),
            (1_000_090, 90, (1_000_090, 0)),
        ] {
            assert_eq!(clock.read(wall, steady), is, "{wall} {steady}");
        }
    }
}
