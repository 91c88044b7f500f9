//! Defence in depth: a key that a vendor sends back is masked on its way to the caller. The control is the list of
//! paths that may be forwarded; this catches echoes and error pages.
//!
//! Found are the spellings of [`super::needle`], across chunks, with JSON escapes (`\u0073`), percent encoding and
//! characters of no width between the letters. Every byte of it becomes `*`, so lengths stay. Not found: a key cut in
//! parts, encrypted, compressed within the body, or in any code of the vendor's own.

use std::sync::Arc;

use super::needle::Needles;

/// What a single match may be long, with everything between its letters. What waits longer is let go.
const MOST_HELD: usize = 64 * 1024;

/// Masks keys in a text that comes in pieces.
pub(super) struct Scrubber {
    needles: Arc<Needles>,
    held: Vec<u8>,
    hits: usize,
}

impl Scrubber {
    pub(super) const fn new(needles: Arc<Needles>) -> Self {
        Self {
            needles,
            held: Vec::new(),
            hits: 0,
        }
    }

    /// How many keys were masked so far.
    pub(super) const fn hits(&self) -> usize {
        self.hits
    }

    /// Takes the next piece; answers what can be handed on. The end of it is held back while it could be the beginning
    /// of a key.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let keep = self.mask(&mut text, false);
        if text.len() - keep <= MOST_HELD {
            self.held = text.split_off(keep);
        } else {
            // Let go as if nothing followed.
            let _all = self.mask(&mut text, true);
        }
        text
    }

    /// Nothing follows: what was held back.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.held);
        let _all = self.mask(&mut text, true);
        text
    }

    /// Masks every key in `text`; answers from where on it must wait.
    fn mask(&mut self, text: &mut [u8], last: bool) -> usize {
        let mut keep = text.len();
        for (start, end) in self.needles.find(text) {
            self.hits += 1;
            cover(text, start, end);
        }
        if !last {
            keep = keep.min(self.needles.tail(text));
        }
        if !text
            .iter()
            .any(|byte| matches!(byte, b'%' | b'\\' | 0xC2 | 0xE2 | 0xEF))
        {
            return self.mask_alike(text, None, last, keep);
        }
        let plain = Plain::of(text);
        for (start, end) in self.needles.find(&plain.bytes) {
            self.hits += 1;
            cover(text, plain.place(start), plain.place(end));
        }
        if !last {
            // What was masked just now reads as `*` and begins no key.
            let plain = Plain::of(text);
            keep = keep.min(plain.place(self.needles.tail(&plain.bytes))).min(plain.open);
        }
        keep = self.mask_alike(text, None, last, keep);
        let plain = Plain::of(text);
        self.mask_alike(text, Some(&plain), last, keep)
    }

    /// Masks what looks like a key and is complete before `keep`; answers from where on the text must wait. The keys
    /// themselves come first: a pattern must not cover half of one, so that the rest is no longer known.
    fn mask_alike(&mut self, text: &mut [u8], plain: Option<&Plain>, last: bool, keep: usize) -> usize {
        let bytes = plain.map_or(&*text, |plain| plain.bytes.as_slice());
        let place = |index: usize| plain.map_or(index, |plain| plain.place(index));
        let patterns = self.needles.patterns();
        let found = patterns.find(bytes);
        let mut keep = if last {
            keep
        } else {
            keep.min(place(patterns.tail(bytes)))
        };
        for (start, end) in found {
            let (start, end) = (place(start), place(end));
            if end > keep {
                keep = keep.min(start);
                break;
            }
            self.hits += 1;
            cover(text, start, end);
        }
        keep
    }
}

fn cover(text: &mut [u8], start: usize, end: usize) {
    text.get_mut(start..end).unwrap_or_default().fill(b'*');
}

/// A text without escapes and characters of no width, and where each byte of it stood.
struct Plain {
    bytes: Vec<u8>,
    places: Vec<usize>,
    end: usize,
    /// Where an escape begins that is not complete; the length when there is none.
    open: usize,
}

/// What stands at a place of a text.
enum Unit {
    Byte(u8, usize),
    Nothing(usize),
    Open,
}

impl Plain {
    fn of(text: &[u8]) -> Self {
        let mut plain = Self {
            bytes: Vec::with_capacity(text.len()),
            places: Vec::with_capacity(text.len()),
            end: text.len(),
            open: text.len(),
        };
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let length = match unit(rest) {
                Unit::Byte(byte, length) => {
                    plain.bytes.push(byte);
                    plain.places.push(at);
                    length
                }
                Unit::Nothing(length) => length,
                Unit::Open => {
                    plain.open = at;
                    plain.end = at;
                    break;
                }
            };
            at += length;
        }
        plain
    }

    /// Where the byte at `index` stood; behind the last one the end of the text.
    fn place(&self, index: usize) -> usize {
        self.places.get(index).copied().unwrap_or(self.end)
    }
}

fn unit(rest: &[u8]) -> Unit {
    match rest {
        [b'%', high, low, ..] => match hex(&[*high, *low]) {
            Some(value) => u8::try_from(value).map_or(Unit::Byte(b'%', 1), |byte| Unit::Byte(byte, 3)),
            None => Unit::Byte(b'%', 1),
        },
        [b'%', one] if one.is_ascii_hexdigit() => Unit::Open,
        [b'\\', b'u', digits @ ..] => escaped(digits),
        [b'\\', byte @ (b'/' | b'\\' | b'"'), ..] => Unit::Byte(*byte, 2),
        [0xE2, 0x80, 0x8B..=0x8F, ..] | [0xE2, 0x81, 0xA0, ..] | [0xEF, 0xBB, 0xBF, ..] => Unit::Nothing(3),
        [0xC2, 0xAD, ..] => Unit::Nothing(2),
        [b'%' | b'\\' | 0xC2 | 0xE2 | 0xEF] | [0xE2, 0x80 | 0x81] | [0xEF, 0xBB] | [] => Unit::Open,
        [byte, ..] => Unit::Byte(*byte, 1),
    }
}

/// `\uXXXX`, from the digits on.
fn escaped(digits: &[u8]) -> Unit {
    let Some(four) = digits.get(..4) else {
        return if digits.iter().all(u8::is_ascii_hexdigit) {
            Unit::Open
        } else {
            Unit::Byte(b'\\', 1)
        };
    };
    match hex(four) {
        Some(0x00AD | 0x200B..=0x200F | 0x2060 | 0xFEFF) => Unit::Nothing(6),
        // Keys are ASCII; anything else is no letter of one.
        Some(value) => Unit::Byte(u8::try_from(value).unwrap_or(0), 6),
        None => Unit::Byte(b'\\', 1),
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(value * 16 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pattern::Patterns;
    use crate::base::secret::SecretText;

    const KEY: &str = "sk-test-Zq8x/Qw3+0123456789";

    fn patterns(list: &[&str]) -> Arc<Patterns> {
        let list: Vec<String> = list.iter().map(|one| (*one).to_owned()).collect();
        Arc::new(Patterns::new(&list).unwrap())
    }

    fn needles() -> Arc<Needles> {
        Arc::new(Needles::new(&[SecretText::new(KEY.to_owned())], patterns(&[])))
    }

    /// What comes out when `text` comes in pieces of `size`.
    fn scrubbed(text: &[u8], size: usize) -> (Vec<u8>, usize) {
        let mut scrubber = Scrubber::new(needles());
        let mut out = Vec::new();
        for piece in text.chunks(size) {
            out.extend(scrubber.push(piece));
        }
        out.extend(scrubber.end());
        (out, scrubber.hits())
    }

    fn json_escaped() -> String {
        let each: Vec<String> = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        each.concat()
    }

    fn percent() -> String {
        let each: Vec<String> = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        each.concat()
    }

    #[test]
    fn every_spelling_is_masked_however_it_is_cut() {
        let joined: String = KEY.chars().flat_map(|letter| [letter, '\u{200d}']).collect();
        let spellings = [
            KEY.to_owned(),
            KEY.to_uppercase(),
            KEY.chars().rev().collect(),
            data_encoding::HEXUPPER.encode(KEY.as_bytes()),
            data_encoding::BASE64.encode(format!("user:{KEY}").as_bytes()),
            json_escaped(),
            percent(),
            KEY.replace('/', "\\/"),
            KEY.replace('/', "%2F").replace('+', "%2b"),
            KEY.replace('-', "\\u002d"),
            joined,
        ];
        for spelling in spellings {
            let text = format!("{{\"échec\": \"the key {spelling} is wrong\\n\", \"%\": 1}}");
            for size in [1, 2, 3, 7, 1000] {
                let (out, hits) = scrubbed(text.as_bytes(), size);
                assert!(hits >= 1, "{spelling} {size}");
                assert_eq!(out.len(), text.len());
                let seen = String::from_utf8(out).unwrap();
                assert!(
                    seen.starts_with("{\"échec\": \"the key *") || spelling.len() > 30,
                    "{seen}"
                );
                assert!(!seen.contains(&spelling), "{seen}");
                assert!(seen.ends_with(" is wrong\\n\", \"%\": 1}"), "{seen}");
            }
        }
    }

    #[test]
    fn whatever_looks_like_a_key_is_masked_however_it_is_cut() {
        let needles = Arc::new(Needles::new(&[], patterns(&["acme-[A-Za-z0-9]{8,}"])));
        let other = "acme-0123456789abcdefABCDEF";
        let each: Vec<String> = other.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let escaped = each.concat();
        for spelling in [other.to_owned(), escaped, other.replace('-', "%2D")] {
            let text = format!("{{\"an acme-x\": \"{spelling}\"}} acme-0123");
            for size in [1, 2, 5, 1000] {
                let mut scrubber = Scrubber::new(Arc::clone(&needles));
                let mut out: Vec<u8> = text
                    .as_bytes()
                    .chunks(size)
                    .flat_map(|piece| scrubber.push(piece))
                    .collect();
                out.extend(scrubber.end());
                let masked = text.replace(&spelling, &"*".repeat(spelling.len()));
                assert_eq!(String::from_utf8(out).unwrap(), masked, "{size}");
            }
        }
    }

    #[test]
    fn other_text_goes_through_as_it_is_and_at_once() {
        let mut scrubber = Scrubber::new(needles());
        let event = b"data: {\"text\":\"100% caf\xc3\xa9 \\u00e9 \\n\"}\n\n";
        assert_eq!(scrubber.push(event), event);
        assert_eq!(scrubber.hits(), 0);
        let all: Vec<u8> = (0..=255u8).cycle().take(5000).collect();
        for size in [1, 13, 4096] {
            assert_eq!(scrubbed(&all, size), (all.clone(), 0));
        }
    }

    #[test]
    fn nothing_makes_it_hold_without_end() {
        let mut scrubber = Scrubber::new(needles());
        let filler = "\u{200d}".repeat(1000);
        let mut out = scrubber.push(b"sk-te").len();
        for _ in 0..100 {
            out += scrubber.push(filler.as_bytes()).len();
            assert!(scrubber.held.len() <= MOST_HELD);
        }
        assert!(out > 200_000);
    }
}
