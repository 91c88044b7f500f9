//! Small formats inside a manifest: JSON Pointers, sets of characters, where to read how long to wait.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a vendor says when to try again: `retry-after`, `x-ratelimit-reset:unix`, `body:/retry_after:seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RetryAfter {
    pub(crate) from: RetryFrom,
    pub(crate) unit: RetryUnit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryFrom {
    Header(String),
    Body(Pointer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryUnit {
    Seconds,
    Millis,
    Unix,
}

/// A JSON Pointer (RFC 6901): empty, or `/` and steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(String);

impl Pointer {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        value.pointer(&self.0)
    }

    /// The text or whole number there, as text; ids come as both.
    pub(crate) fn text(&self, value: &Value) -> Option<String> {
        match self.get(value)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not a JSON Pointer: begin with `/`"))
        }
    }
}

impl TryFrom<String> for RetryAfter {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (from, unit) = if let Some(rest) = text.strip_prefix("body:") {
            let (pointer, unit) = rest.rsplit_once(':').unwrap_or((rest, "seconds"));
            (RetryFrom::Body(Pointer::try_from(pointer.to_owned())?), unit)
        } else {
            let (name, unit) = text.split_once(':').unwrap_or((&text, "seconds"));
            (RetryFrom::Header(name.to_ascii_lowercase()), unit)
        };
        let unit = match unit {
            "seconds" => RetryUnit::Seconds,
            "millis" => RetryUnit::Millis,
            "unix" => RetryUnit::Unix,
            other => return Err(format!("`{other}` is not a unit: use `seconds`, `millis` or `unix`")),
        };
        Ok(Self { from, unit })
    }
}

/// A set of characters, written as in `a-zA-Z0-9_-`; a `-` at the end is itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Charset(Vec<(char, char)>);

impl Charset {
    /// What dekeys' own names are made of.
    pub(crate) fn plain() -> Self {
        Self(vec![('a', 'z'), ('0', '9'), ('-', '-')])
    }

    /// Every character of the set, in order of writing.
    pub(crate) fn letters(&self) -> Vec<char> {
        self.0.iter().flat_map(|(from, to)| *from..=*to).collect()
    }

    pub(crate) fn contains(&self, letter: char) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&letter))
    }
}

impl TryFrom<String> for Charset {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let letters: Vec<char> = text.chars().collect();
        let mut ranges = Vec::new();
        let mut rest = letters.as_slice();
        loop {
            rest = match rest {
                [] => break,
                [from, '-', to, tail @ ..] if from <= to => {
                    ranges.push((*from, *to));
                    tail
                }
                [_, '-', _, ..] => return Err(format!("`{text}` has a range that runs backwards")),
                [one, tail @ ..] => {
                    ranges.push((*one, *one));
                    tail
                }
            };
        }
        Ok(Self(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_read_ranges_and_a_dash_at_the_end() {
        let set = Charset::try_from("a-cX_-".to_owned()).unwrap();
        assert!("abcX_-".chars().all(|letter| set.contains(letter)) && !set.contains('d') && !set.contains('Y'));
        assert!(Charset::try_from("z-a".to_owned()).is_err());
    }

    #[test]
    fn waits_are_read_from_headers_and_bodies() {
        let read = |text: &str| RetryAfter::try_from(text.to_owned());
        assert_eq!(
            read("Retry-After").unwrap().from,
            RetryFrom::Header("retry-after".into())
        );
        assert_eq!(read("x-reset:unix").unwrap().unit, RetryUnit::Unix);
        let body = read("body:/wait:millis").unwrap();
        assert_eq!(
            (body.from, body.unit),
            (RetryFrom::Body(Pointer("/wait".into())), RetryUnit::Millis)
        );
        assert!(read("x:fortnights").is_err() && read("body:wait").is_err());
    }
}
