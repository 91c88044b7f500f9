//! The spellings in which a key could come back: as it is, in capitals, backwards, in base64 at every alignment, in
//! hexadecimal digits. Escapes of JSON and of addresses are undone before these are looked for (see
//! [`super::scrub`]).

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::base::pattern::Patterns;
use crate::base::secret::SecretText;

/// Spellings shorter than this stand for too much else.
const SHORTEST: usize = 8;

/// What is looked for. Made anew for each request and wiped after it, so it must cost nothing to make: a table of the
/// pairs of bytes that spellings begin with, rather than an automaton.
pub(super) struct Needles {
    /// What the manifest says keys of this vendor look like: others than the one of this request too.
    patterns: Arc<Patterns>,
    spellings: Zeroizing<Vec<Vec<u8>>>,
    pairs: [u64; 64],
    longest: usize,
}

impl Needles {
    /// All spellings of these keys, and what else looks like a key.
    pub(super) fn new(secrets: &[SecretText], patterns: Arc<Patterns>) -> Self {
        let all = secrets.iter().flat_map(|secret| of(secret.expose().as_bytes()));
        let spellings: Vec<Vec<u8>> = all.filter(|spelling| spelling.len() >= SHORTEST).collect();
        let mut pairs = [0u64; 64];
        for spelling in &spellings {
            if let [first, second, ..] = spelling.as_slice() {
                let (word, bit) = place(*first, *second);
                if let Some(bits) = pairs.get_mut(word) {
                    *bits |= bit;
                }
            }
        }
        Self {
            patterns,
            longest: spellings.iter().map(Vec::len).max().unwrap_or(0),
            spellings: Zeroizing::new(spellings),
            pairs,
        }
    }

    /// What the manifest says keys look like.
    pub(super) fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Where spellings begin and end, from left to right, the longest where several begin.
    pub(super) fn find(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut free = 0;
        for (at, pair) in text.windows(2).enumerate() {
            if at < free || !self.may_begin(pair) {
                continue;
            }
            if let Some(length) = self.length_at(text.get(at..).unwrap_or_default()) {
                found.push((at, at + length));
                free = at + length;
            }
        }
        found
    }

    fn may_begin(&self, pair: &[u8]) -> bool {
        let &[first, second] = pair else { return false };
        let (word, bit) = place(first, second);
        self.pairs.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn length_at(&self, text: &[u8]) -> Option<usize> {
        let begins = |spelling: &&Vec<u8>| {
            let start = text.get(..spelling.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(spelling))
        };
        self.spellings.iter().filter(begins).map(Vec::len).max()
    }

    /// Where the longest end of `text` begins that could become a spelling with what follows; its length when none
    /// could.
    pub(super) fn tail(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(self.longest.saturating_sub(1));
        let could = |at: &usize| {
            let end = text.get(*at..).unwrap_or_default();
            let begins = |spelling: &Vec<u8>| {
                spelling.len() > end.len()
                    && spelling
                        .get(..end.len())
                        .is_some_and(|start| start.eq_ignore_ascii_case(end))
            };
            (end.len() < 2 || self.may_begin(end.get(..2).unwrap_or_default())) && self.spellings.iter().any(begins)
        };
        (from..text.len()).find(could).unwrap_or(text.len())
    }
}

/// Where a pair stands in the table. Capitals and small letters fall together; so do some others, which costs a look.
fn place(first: u8, second: u8) -> (usize, u64) {
    let low = |byte: u8| (byte | 0x20) & 0x3F;
    (usize::from(low(first)), 1u64 << low(second))
}

fn of(key: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![key.to_vec(), key.iter().rev().copied().collect()];
    all.push(data_encoding::HEXLOWER.encode(key).into_bytes());
    for before in 0..3 {
        let mut padded = Zeroizing::new(vec![0u8; before]);
        padded.extend_from_slice(key);
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            let encoded = engine.encode(padded.as_slice()).into_bytes();
            all.extend(sure(&encoded, before, padded.len()).map(<[u8]>::to_vec));
        }
    }
    all
}

/// The digits that hang on the key alone, whatever stands before and after it.
fn sure(encoded: &[u8], before: usize, whole: usize) -> Option<&[u8]> {
    let first = (before * 8).div_ceil(6);
    let last = whole * 8 / 6;
    encoded.get(first..last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-test-Zq8x/Qw3+0123456789";

    fn needles() -> Needles {
        Needles::new(
            &[SecretText::new(KEY.to_owned())],
            Arc::new(Patterns::new(&[]).unwrap()),
        )
    }

    #[test]
    fn every_alignment_of_base64_is_found() {
        for before in ["", "a", "ab", "abc", "Bearer "] {
            for after in ["", "x", "xy", ":pw"] {
                let text = format!("{before}{KEY}{after}");
                for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
                    let encoded = engine.encode(&text);
                    assert_eq!(needles().find(encoded.as_bytes()).len(), 1, "{before} {after}");
                }
            }
        }
    }

    #[test]
    fn a_tail_is_what_could_still_become_the_key() {
        let needles = needles();
        assert_eq!(needles.tail(b"hello sk-te"), 6);
        assert_eq!(needles.tail(b"hello SK-TE"), 6);
        assert_eq!(needles.tail(b"hello\n\n"), 7);
        assert_eq!(needles.find(b"x sk-test-Zq8x/Qw3+0123456789 y"), [(2, 2 + KEY.len())]);
    }
}
