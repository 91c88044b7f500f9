//! What a connection may say in HTTP/2 without asking for anything. SETTINGS and PING want an answer each and carry no
//! request (RFC 9113, 6.5 and 6.7); whoever sends a flood of them is cut off (CVE-2019-9512, CVE-2019-9515). The HTTP
//! library bounds empty DATA, endless headers and resets by itself, and leaves these to others.

use std::time::{Duration, Instant};

/// As many may come at once.
const MOST: u32 = 1000;
/// One more is allowed after so long.
const EACH: Duration = Duration::from_millis(100);

/// The rest of the preface behind its empty line: `SM`, and an empty line.
const PREFACE: u32 = 6;
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Where in the stream of frames we are, and how many more idle ones may come.
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes to pass over before the next head.
    skip: u32,
    left: u32,
    counted: Instant,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            head: Vec::with_capacity(HEAD),
            skip: PREFACE,
            left: MOST,
            counted: now,
        }
    }

    /// Takes the next bytes; `false` when there were too many frames that ask for nothing.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= u32::try_from(count).unwrap_or(self.skip);
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let (part, rest) = bytes.split_at((HEAD - self.head.len()).min(bytes.len()));
            self.head.extend_from_slice(part);
            bytes = rest;
            if let [a, b, c, kind, _, _, _, _, _] = *self.head.as_slice() {
                self.skip = u32::from_be_bytes([0, a, b, c]);
                self.head.clear();
                if matches!(kind, SETTINGS | PING) && !self.allow(now()) {
                    return false;
                }
            }
        }
        true
    }

    fn allow(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.counted).as_millis() / EACH.as_millis();
        if earned > 0 {
            self.left = self
                .left
                .saturating_add(u32::try_from(earned).unwrap_or(MOST))
                .min(MOST);
            self.counted = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"SM\r\n\r\n";

    fn ping() -> Vec<u8> {
        [&[0, 0, 8, PING, 0, 0, 0, 0, 0][..], &[SETTINGS; 8]].concat()
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let start = Instant::now();
        // Data that looks like the heads of pings is data.
        let data = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[PING; 0x4000]].concat();
        let stream = [PREFACE, &data, &ping(), &data, &ping()].concat();
        for piece in [1, 7, 9, 100_000] {
            let mut frames = Frames::new(start);
            assert!(stream.chunks(piece).all(|bytes| frames.take(bytes, || start)));
            assert_eq!(frames.left, MOST - 2, "{piece}");
        }
    }

    #[test]
    fn a_flood_is_cut_off_and_a_heartbeat_is_not() {
        let start = Instant::now();
        let mut frames = Frames::new(start);
        assert!(frames.take(PREFACE, || start));
        assert!(frames.take(&ping().repeat(1000), || start));
        assert!(!frames.take(&ping(), || start));
        let mut frames = Frames::new(start);
        assert!(frames.take(PREFACE, || start));
        for beat in 0..100_000 {
            assert!(frames.take(&ping(), || start + EACH * beat), "{beat}");
        }
        // The pauses of a year allow no more at once than a fresh connection may send.
        let later = start + Duration::from_hours(8760);
        assert!(frames.take(&ping().repeat(1000), || later));
        assert!(!frames.take(&ping(), || later));
    }
}
