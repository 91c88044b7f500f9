//! Secrets taken out of a stream of bytes, also where they were cut in two.
//!
//! Found as they are and in the encodings in which programs print them: base64 and base64url at each alignment, hex,
//! percent-encoded, escaped in JSON; and line by line, where they have lines. Not found: anything else that a program
//! makes of a secret (reversed, in pieces, encrypted); and in base64 up to two bytes at each end, which share a group
//! with their neighbours. It keeps keys out of logs by accident, not on purpose.

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::base::secret::SecretText;

/// What stands where a secret stood.
pub const MASK: &[u8] = b"[masked by dekeys]";

/// Shorter secrets are not looked for: they would be found in the middle of words.
const SHORTEST: usize = 8;

/// What RFC 3986 has encoded: all but letters, digits and `-._~`.
const UNRESERVED_KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is looked for. Cheap to share.
#[derive(Clone, Default)]
pub struct Mask(Option<Arc<Needles>>);

struct Needles {
    texts: Vec<Zeroizing<Vec<u8>>>,
    longest: usize,
    search: AhoCorasick,
}

/// One stream that is looked through.
pub struct Masking {
    mask: Mask,
    /// What may be the beginning of a secret, and which of it is known to be one.
    held: Zeroizing<Vec<u8>>,
    covered: Vec<bool>,
    /// The last byte that went out belonged to a secret.
    inside: bool,
}

impl Mask {
    /// Looks for `secrets`. Those of fewer than 8 bytes are left out.
    #[must_use]
    pub fn new(secrets: &[&SecretText]) -> Self {
        let mut texts: Vec<Zeroizing<Vec<u8>>> = secrets.iter().copied().flat_map(forms).collect();
        texts.retain(|text| text.len() >= SHORTEST);
        let Some(longest) = texts.iter().map(|text| text.len()).max() else {
            return Self(None);
        };
        let search = AhoCorasick::new(texts.iter().map(|text| text.as_slice()));
        Self(search.ok().map(|search| Arc::new(Needles { texts, longest, search })))
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Looks through one stream.
    #[must_use]
    pub fn stream(&self) -> Masking {
        Masking {
            mask: self.clone(),
            held: Zeroizing::new(Vec::new()),
            covered: Vec::new(),
            inside: false,
        }
    }
}

impl Masking {
    /// Takes the next bytes and gives what may go out: everything but an end that may be the beginning of a secret.
    #[must_use]
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(needles) = self.mask.0.clone() else {
            return bytes.to_vec();
        };
        self.held.extend_from_slice(bytes);
        self.covered.resize(self.held.len(), false);
        for found in needles.search.find_overlapping_iter(self.held.as_slice()) {
            let marks = self.covered.get_mut(found.range()).into_iter().flatten();
            marks.for_each(|mark| *mark = true);
        }
        let keep = needles.open_end(&self.held);
        self.release(self.held.len() - keep)
    }

    /// The rest, at the stream's end.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(self.held.len())
    }

    /// Lets the first `count` held bytes go, secrets masked: one mask for a stretch without a gap.
    fn release(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count);
        for (byte, covered) in self.held.drain(..count).zip(self.covered.drain(..count)) {
            match (covered, self.inside) {
                (true, false) => out.extend_from_slice(MASK),
                (true, true) => {}
                (false, _) => out.push(byte),
            }
            self.inside = covered;
        }
        out
    }
}

impl Needles {
    /// How many bytes at the end of `bytes` may be the beginning of a secret.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let most = bytes.len().min(self.longest - 1);
        let open = |count: &usize| {
            let end = bytes.get(bytes.len() - count..).unwrap_or_default();
            self.texts
                .iter()
                .any(|text| text.len() > *count && text.starts_with(end))
        };
        (1..=most).rev().find(open).unwrap_or(0)
    }
}

/// A secret in every form that is looked for.
fn forms(secret: &SecretText) -> Vec<Zeroizing<Vec<u8>>> {
    let text = secret.expose();
    let mut forms: Vec<Zeroizing<Vec<u8>>> = vec![plain(text.as_bytes())];
    if text.len() < SHORTEST {
        return forms;
    }
    if text.contains('\n') {
        let lines = text.lines().map(str::trim).filter(|line| line.len() >= 2 * SHORTEST);
        forms.extend(lines.map(|line| plain(line.as_bytes())));
    }
    for skipped in 0..3 {
        forms.push(base64(&BASE64_STANDARD_NO_PAD, text.as_bytes(), skipped));
        forms.push(base64(&BASE64_URL_SAFE_NO_PAD, text.as_bytes(), skipped));
    }
    forms.push(plain(data_encoding::HEXLOWER.encode(text.as_bytes()).as_bytes()));
    forms.push(plain(data_encoding::HEXUPPER.encode(text.as_bytes()).as_bytes()));
    for set in [NON_ALPHANUMERIC, UNRESERVED_KEPT] {
        let encoded = Zeroizing::new(utf8_percent_encode(text, set).to_string());
        forms.push(plain(lower_escapes(&encoded).as_bytes()));
        forms.push(plain(encoded.as_bytes()));
    }
    let quoted = Zeroizing::new(serde_json::to_string(text).unwrap_or_default());
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let inner = inner.unwrap_or_default();
    forms.push(plain(inner.as_bytes()));
    // Some writers of JSON escape slashes too.
    forms.push(plain(Zeroizing::new(inner.replace('/', "\\/")).as_bytes()));
    forms
}

/// `%2f` for `%2F`, and the rest as it is.
fn lower_escapes(encoded: &str) -> Zeroizing<String> {
    let mut escape = 0u8;
    let lower = encoded.chars().map(|letter| {
        let within = escape > 0;
        escape = if letter == '%' { 2 } else { escape.saturating_sub(1) };
        if within { letter.to_ascii_lowercase() } else { letter }
    });
    Zeroizing::new(lower.collect())
}

fn plain(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// The characters of base64 that a secret alone decides when `skipped` bytes stand before it in a group of three.
fn base64(engine: &impl Engine, secret: &[u8], skipped: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0u8; skipped]);
    bytes.extend_from_slice(secret);
    let whole = bytes.len() / 3 * 3;
    bytes.truncate(whole);
    let text = Zeroizing::new(engine.encode(bytes.as_slice()));
    let from = if skipped == 0 { 0 } else { skipped + 1 };
    plain(text.as_bytes().get(from..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "sk-CANARY/0123456789+\"x";

    fn mask(secrets: &[&str]) -> Mask {
        let secrets: Vec<SecretText> = secrets.iter().map(|text| SecretText::new((*text).to_owned())).collect();
        Mask::new(&secrets.iter().collect::<Vec<_>>())
    }

    fn through(mask: &Mask, chunks: &[&[u8]]) -> String {
        let mut masking = mask.stream();
        let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| masking.feed(chunk)).collect();
        out.extend(masking.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_secret_is_masked_in_each_encoding_at_each_cut() {
        let mask = mask(&[KEY]);
        let user = format!("user:{KEY}");
        for form in [
            KEY.to_owned(),
            base64::prelude::BASE64_STANDARD.encode(KEY),
            base64::prelude::BASE64_STANDARD.encode(&user),
            base64::prelude::BASE64_STANDARD.encode(format!("ab{KEY}cd")),
            base64::prelude::BASE64_URL_SAFE.encode(KEY),
            data_encoding::HEXLOWER.encode(KEY.as_bytes()),
            data_encoding::HEXUPPER.encode(KEY.as_bytes()),
            utf8_percent_encode(KEY, NON_ALPHANUMERIC).to_string(),
            "sk-CANARY%2F0123456789%2B%22x".to_owned(),
            "sk-CANARY%2f0123456789%2b%22x".to_owned(),
            "sk-CANARY\\/0123456789+\\\"x".to_owned(),
            serde_json::to_string(KEY).unwrap(),
        ] {
            let text = format!("before {form} after");
            for at in 0..text.len() {
                let (first, second) = text.as_bytes().split_at(at);
                let out = through(&mask, &[first, second]);
                assert!(out.contains("[masked by dekeys]") && out.starts_with("before ") && out.ends_with(" after"));
                let left: String = out.replace("[masked by dekeys]", "");
                // What stands around it, and of base64 the groups that it shares with its neighbours.
                assert!(left.len() <= "before  after".len() + 11, "{form}: {out}");
            }
        }
    }

    #[test]
    fn nothing_that_cannot_be_a_secret_waits() {
        let mut masking = mask(&[KEY]).stream();
        assert_eq!(masking.feed(b"password: "), b"password: ");
        assert_eq!(masking.feed(b"sk-CAN"), b"");
        assert_eq!(masking.feed(b"DY"), b"sk-CANDY");
        assert_eq!(masking.feed(b"s"), b"");
        assert_eq!(masking.finish(), b"s");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_between_them() {
        let mask = mask(&["abcdefgh", "abcdefghijkl", "ghijklmnop"]);
        for cut in 0..18 {
            let (first, second) = b"<abcdefghijklmnop>".split_at(cut);
            assert_eq!(through(&mask, &[first, second]), "<[masked by dekeys]>", "{cut}");
        }
        assert_eq!(through(&mask, &[b"abcdefgh", b"i"]), "[masked by dekeys]i");
    }

    #[test]
    fn short_ones_are_not_looked_for_and_lines_are() {
        assert!(mask(&["1234567"]).is_empty());
        let pem = mask(&["-----BEGIN-----\nMIIBAAAAAAAAAAAAAAAA\n-----END-----"]);
        assert_eq!(
            through(&pem, &[b"line: MIIBAAAAAAAAAAAAAAAA."]),
            "line: [masked by dekeys]."
        );
    }

    proptest! {
        /// However the stream is cut, the same comes out.
        #[test]
        fn cuts_make_no_difference(
            text in "[a-c]{0,60}",
            cuts in proptest::collection::vec(0usize..60, 0..8),
        ) {
            let mask = mask(&["abcabcab", "bcabcabcc", "aaaaaaaaaa"]);
            let whole = through(&mask, &[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts {
                chunks.push(&text.as_bytes()[at..cut]);
                at = cut;
            }
            chunks.push(&text.as_bytes()[at..]);
            prop_assert_eq!(through(&mask, &chunks), whole);
        }
    }
}
