//! The revocation feed: what ended before its time, for those who check tokens offline.

use serde::{Deserialize, Serialize};

use crate::base::id::{IncarnationId, InstanceId};
use crate::base::time::Timestamp;

/// The type of a signed statement about a page: the `typ` of its JWS header.
pub const STATEMENT_TYPE: &str = "dekeys-revocations+jwt";

/// The header of an answer that carries the statement about its body.
pub const STATEMENT_HEADER: &str = "dekeys-statement";

/// What kind of thing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every token with a block of this revocation id.
    Token,
    /// A grant, with all its tokens.
    Grant,
    /// A lease: its key dies.
    Lease,
}

/// One thing that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Revocation {
    /// Its place on the chain of events; the feed is in this order.
    pub n: i64,
    /// What kind of thing.
    pub kind: Ended,
    /// A revocation id, or the id of a grant or lease.
    pub id: String,
    /// When it ended.
    pub at: Timestamp,
    /// Until when a verifier must remember it: no token that it ends lives longer.
    pub until: Timestamp,
}

/// One page of the feed. It does not name the time, so that it stays the same until something ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct RevocationPage {
    /// Always `revocations`.
    pub object: String,
    /// The instance.
    pub instance: InstanceId,
    /// Its incarnation. Another one means a restored database: begin anew, and forget nothing.
    pub incarnation: IncarnationId,
    /// What follows this place on the chain.
    pub after: i64,
    /// Where the next page begins.
    pub next: i64,
    /// Whether more is there already.
    pub has_more: bool,
    /// What ended, oldest first.
    pub data: Vec<Revocation>,
}

/// What the log key signs about a page: that it was all there was, at this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct RevocationStatement {
    /// The instance.
    pub iss: InstanceId,
    /// The time, in seconds since 1970.
    pub iat: i64,
    /// The time, in milliseconds since 1970: taken before the page was read.
    pub now: i64,
    /// SHA-256 of the page's bytes, in base64url. The page's `ETag` is the same.
    pub digest: String,
}
