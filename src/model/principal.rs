//! Principals: who may act, and the public keys by which they prove it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::control::Control;
use super::scope::Name;
use crate::base::canonical::Canonical;
use crate::base::id::{PrincipalId, base64url};
use crate::base::time::Timestamp;

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// Software that buys or is given grants.
    Agent,
    /// A service that acts for agents and resolves their tokens.
    Prim,
    /// A host that runs many agents.
    Factory,
    /// A person who approves.
    Human,
    /// A person or machine that runs this instance.
    Operator,
}

impl PrincipalKind {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Prim => "prim",
            Self::Factory => "factory",
            Self::Human => "human",
            Self::Operator => "operator",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Agent, Self::Prim, Self::Factory, Self::Human, Self::Operator]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// An Ed25519 public key; printed `ed25519:` and base64url. It is also the `keyid` of signatures made with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// Text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a public key of the form `ed25519:` and 43 characters of base64url")]
pub struct InvalidPublicKey(String);

impl PublicKey {
    /// From the 32 bytes. Whether they are a point on the curve is found when a signature is checked.
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

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", base64url(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidPublicKey;
    fn from_str(text: &str) -> Result<Self, InvalidPublicKey> {
        let invalid = || InvalidPublicKey(text.chars().take(80).collect());
        let encoded = text.strip_prefix("ed25519:").ok_or_else(invalid)?;
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(encoded.as_bytes())
            .map_err(|_| invalid())?;
        bytes.try_into().map(Self).map_err(|_| invalid())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for PublicKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^ed25519:[A-Za-z0-9_-]{43}$" })
    }
}

/// Somebody dekeys knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The id.
    pub id: PrincipalId,
    /// The unique name. An agent that came by paying has its wallet's or key's digest as a name.
    pub name: Name,
    /// What it is.
    pub kind: PrincipalKind,
    /// Its public keys, each of which proves it.
    pub keys: Vec<PublicKey>,
    /// Its wallets, CAIP-10 (`eip155:84532:0x…`, lower case).
    pub wallets: Vec<String>,
    /// May approve.
    pub approver: bool,
    /// Shut out; its grants and leases end.
    pub disabled: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Control for Principal {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.principal.v1")
            .text(&self.id.to_string())
            .text(self.name.as_str())
            .text(self.kind.as_str())
            .list(self.keys.iter().map(ToString::to_string))
            .list(self.wallets.iter())
            .int(i64::from(self.approver))
            .int(i64::from(self.disabled))
            .int(self.created.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_print_and_parse() {
        let key = PublicKey::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!("ed25519:AA".parse::<PublicKey>().is_err() && "rsa:AA".parse::<PublicKey>().is_err());
    }
}
