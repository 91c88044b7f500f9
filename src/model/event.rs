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
