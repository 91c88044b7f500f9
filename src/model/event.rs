//! Audit events, and the proof that one is on durable record.

use serde::{Deserialize, Serialize};

use crate::base::id::{EventId, RequestId};
use crate::base::time::Timestamp;

/// One fact for the log. `kind` is `noun.verb`: `lease.created`, `grant.revoked`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The id.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub timestamp: Timestamp,
    /// Whether real money and real vendors are involved.
    pub livemode: bool,
    /// Who did it: a principal's id, a wallet, or `dekeys`.
    pub actor: String,
    /// The thing it happened to: an id.
    pub object: String,
    /// The facts. Never a secret; keys are named by id only.
    pub data: serde_json::Value,
    /// The request that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
}

impl Event {
    /// The bytes that are stored, chained, hashed into the tree and sent: JSON, fields in this order.
    ///
    /// # Errors
    /// When the data cannot be written as JSON (a map with keys that are not text).
    pub fn body(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Proof that an event is on durable record. Made by the store alone, after the commit; cannot be copied; the
/// vault takes it in exchange for opening what it names, so that no key leaves without its record.
#[derive(Debug)]
#[must_use]
pub struct Committed {
    event: EventId,
    object: String,
    version: i64,
}

impl Committed {
    /// For the store, after its commit succeeded; the architecture test refuses it elsewhere.
    #[cfg(feature = "server")]
    pub(crate) fn new(event: EventId, object: String, version: i64) -> Self {
        Self { event, object, version }
    }

    /// The event on record.
    #[must_use]
    pub const fn event(&self) -> EventId {
        self.event
    }

    /// The id of what it allows to open.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The version of what it allows to open.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }
}

/// Which types of events somebody wants: `lease.created`, all of a noun as `lease.*`, or everything as `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct EventTypes(Vec<String>);

/// Text that is no type of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a type of events such as `lease.created`, `lease.*` or `*`")]
pub struct InvalidTypes(String);

impl EventTypes {
    /// The most patterns in one list.
    pub const MOST: usize = 50;

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// Whether an event of this type is wanted.
    #[must_use]
    pub fn contains(&self, kind: &str) -> bool {
        self.0.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => wanted == kind,
        })
    }

    /// What every wanted type begins with, when there is one pattern only: enough to look them up by.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        match self.0.as_slice() {
            [only] => Some(only.strip_suffix('*').unwrap_or(only)).filter(|start| !start.is_empty()),
            _ => None,
        }
    }

    /// The patterns.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for EventTypes {
    type Error = InvalidTypes;
    fn try_from(wanted: Vec<String>) -> Result<Self, InvalidTypes> {
        let word = |text: &str| {
            !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        };
        let good = |pattern: &String| match pattern.split_once('.') {
            Some((noun, verb)) => word(noun) && (verb == "*" || word(verb)),
            None => pattern == "*" || pattern == "ping",
        };
        if let Some(bad) = wanted.iter().find(|pattern| !good(pattern)) {
            return Err(InvalidTypes(bad.chars().take(64).collect()));
        }
        if wanted.is_empty() || wanted.len() > Self::MOST {
            return Err(InvalidTypes(format!("a list of {}", wanted.len())));
        }
        Ok(Self(wanted))
    }
}

impl From<EventTypes> for Vec<String> {
    fn from(types: EventTypes) -> Self {
        types.0
    }
}

/// Separated by commas.
impl std::str::FromStr for EventTypes {
    type Err = InvalidTypes;
    fn from_str(text: &str) -> Result<Self, InvalidTypes> {
        Self::try_from(text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>())
    }
}

impl std::fmt::Display for EventTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_whole_words_or_a_whole_noun() {
        let types: EventTypes = "lease.*, grant.created".parse().unwrap();
        for (kind, wanted) in [
            ("lease.created", true),
            ("lease.revocation_failed", true),
            ("leases.made", false),
            ("grant.created", true),
            ("grant.created_late", false),
            ("vault.sealed", false),
        ] {
            assert_eq!(types.contains(kind), wanted, "{kind}");
        }
        assert!(EventTypes::all().contains("anything.at_all"));
        for bad in [
            "",
            "lease",
            "lease.",
            "*.created",
            "lease.cre*",
            "Lease.*",
            "lease.*,",
            "a.b.c",
            "lease created",
        ] {
            assert!(bad.parse::<EventTypes>().is_err(), "{bad}");
        }
    }
}
