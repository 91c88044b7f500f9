//! Approval requests and the signed verdicts on them.

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::principal::PublicKey;
use super::scope::Name;
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{ApprovalId, GrantId, PrincipalId, ReviewId};
use crate::base::time::Timestamp;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    /// A new version of a policy.
    Policy {
        /// The policy.
        name: Name,
        /// The version it would become.
        version: i64,
        /// The proposed file.
        text: String,
        /// The manifest it builds on.
        manifest: Digest,
        /// The prims it names, with their keys.
        prim_keys: Vec<(Name, Vec<PublicKey>)>,
    },
    /// A grant that the policy lets people decide.
    Grant {
        /// The grant that waits.
        grant: GrantId,
        /// What it would allow, for how long and at what price, in words for the approver.
        summary: String,
        /// The digest of exactly that: [`Grant::terms`](super::grant::Grant::terms).
        terms: Digest,
    },
}

impl Subject {
    /// The digest approvers sign.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Policy {
                name,
                version,
                text,
                manifest,
                prim_keys,
            } => super::policy::digest(name, *version, text, *manifest, prim_keys),
            Self::Grant { grant, summary, terms } => Canonical::new("dekeys.grant-approval.v2")
                .text(&grant.to_string())
                .text(summary)
                .text(&terms.to_string())
                .digest(),
        }
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for verdicts.
    Pending,
    /// The quorum agreed.
    Approved,
    /// One approver said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The requester took it back.
    Cancelled,
}

impl ApprovalState {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Approved,
            Self::Denied,
            Self::Expired,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// A request that people decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The id.
    pub id: ApprovalId,
    /// What is asked for.
    pub subject: Subject,
    /// Who asked; may not vote unless the instance is `solo`.
    pub requester: PrincipalId,
    /// Why.
    pub reason: String,
    /// Names of those whose verdicts count.
    pub approvers: Vec<Name>,
    /// How many of them must agree.
    pub quorum: i64,
    /// Where it stands.
    pub state: ApprovalState,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends undecided.
    pub expires: Timestamp,
}

impl Control for Approval {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.approval.v1")
            .text(&self.id.to_string())
            .text(&self.subject.digest().to_string())
            .text(&self.requester.to_string())
            .text(&self.reason)
            .list(self.approvers.iter())
            .int(self.quorum)
            .text(self.state.as_str())
            .int(self.created.as_millis())
            .int(self.expires.as_millis())
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No; needs a comment.
    Deny,
}

impl Verdict {
    /// The word stored, signed and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approve, Self::Deny]
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
    }
}

/// One approver's signed verdict. The signature proves itself, so the row needs no MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The id.
    pub id: ReviewId,
    /// The request.
    pub approval: ApprovalId,
    /// The approver.
    pub principal: PrincipalId,
    /// The approver's name when voting.
    pub name: Name,
    /// Yes or no.
    pub verdict: Verdict,
    /// Why.
    pub comment: String,
    /// The digest the approver saw.
    pub digest: Digest,
    /// The key that signed.
    pub key: PublicKey,
    /// Ed25519 over [`verdict_bytes`].
    pub signature: Vec<u8>,
    /// When it was counted.
    pub created: Timestamp,
}

/// What an approver signs.
#[must_use]
pub fn verdict_bytes(approval: ApprovalId, digest: Digest, verdict: Verdict, comment: &str) -> Vec<u8> {
    Canonical::new("dekeys.verdict.v1")
        .text(&approval.to_string())
        .text(&digest.to_string())
        .text(verdict.as_str())
        .text(comment)
        .finish()
}
