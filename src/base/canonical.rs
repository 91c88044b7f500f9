//! The one encoding of things that are hashed, signed or authenticated: a purpose, then fields, each with its
//! length before it, so that no two different things have the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes under construction. Fields are told apart by a 64-bit big-endian length before each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts the encoding for one purpose, such as `dekeys.grant.v1`; purposes never share bytes.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        Self(Vec::with_capacity(128)).text(purpose)
    }

    /// Adds a field of bytes.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    /// Adds a field of text.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub fn int(self, field: i64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Adds text that may be absent; absent and empty differ.
    #[must_use]
    pub fn maybe(self, field: Option<&str>) -> Self {
        match field {
            None => self.int(0),
            Some(text) => self.int(1).text(text),
        }
    }

    /// Adds a list: its length, then each item.
    #[must_use]
    pub fn list<T: AsRef<str>>(self, items: impl ExactSizeIterator<Item = T>) -> Self {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        items.fold(self.int(count), |encoding, item| encoding.text(item.as_ref()))
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// The BLAKE3 digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

/// A BLAKE3 digest; printed `b3:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest of the form `b3:` and 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest computed before.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(80).collect());
        let hex = text.strip_prefix("b3:").ok_or_else(invalid)?;
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).map_err(|_| invalid())?;
        bytes.try_into().map(Self).map_err(|_| invalid())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^b3:[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_boundary_changes_the_bytes() {
        let one = Canonical::new("t").text("ab").text("c").finish();
        let other = Canonical::new("t").text("a").text("bc").finish();
        assert_ne!(one, other);
        assert_ne!(
            Canonical::new("t").maybe(None).finish(),
            Canonical::new("t").maybe(Some("")).finish()
        );
    }

    #[test]
    fn digests_parse_back() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("b3:00".parse::<Digest>().is_err());
    }
}
