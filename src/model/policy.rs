//! Provisioning policies as data. Parsing, deciding and explaining are the engine `policy`'s.

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::price::Price;
use super::principal::{PrincipalKind, PublicKey};
use super::scope::{Name, Scope};
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::ApprovalId;
use crate::base::money::Money;
use crate::base::time::{Timestamp, Ttl};

/// A parsed policy file (DESIGN 6). Absent lists never mean everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The policy's name.
    pub name: Name,
    /// The vendor it provisions at.
    pub vendor: Name,
    /// The scopes it offers.
    pub scopes: Vec<Scope>,
    /// Who may have a grant.
    pub who: Who,
    /// What a grant may be.
    pub grant: GrantTerms,
    /// Prims that may receive a key of their own.
    pub reveal: Option<Reveal>,
    /// What may be forwarded.
    pub forward: Forward,
    /// Limits kept in the store.
    pub limits: Limits,
    /// What a grant costs; absent is free.
    pub price: Option<Price>,
    /// Whether people approve each grant.
    pub approval: GrantApproval,
    /// Who approves changes of this policy.
    pub approvers: Approvers,
}

/// Who may have a grant. A requester must match `kinds`, and one of `principals` or `wallets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Kinds of principals.
    pub kinds: Vec<PrincipalKind>,
    /// Wallet patterns: CAIP-10, `eip155:84532:*` for a network, or `*` for everyone.
    pub wallets: Vec<String>,
    /// Names of principals, or `*` for everyone dekeys knows.
    pub principals: Vec<String>,
}

/// The terms of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// Longest life.
    pub max_ttl: Ttl,
    /// Most resolves.
    pub max_resolves: i64,
    /// Whose credential a forwarded request uses.
    pub credential_per: CredentialPer,
    /// Refuse vendors that do not end the key themselves.
    pub require_vendor_expiry: bool,
    /// How often the key that all grants share is rotated; only with `shared`.
    pub rotate_every: Option<Ttl>,
}

/// Whose credential a forwarded request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialPer {
    /// One for each grant item.
    Grant,
    /// One for all.
    Shared,
}

/// Which prims may receive a key, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reveal {
    /// Names of prims.
    pub prims: Vec<Name>,
    /// Longest lease.
    pub max_lease: Ttl,
}

/// What may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// For how long an unsigned token may be used through the proxy; `None` is off.
    pub bearer: Option<Ttl>,
}

/// Limits that survive restarts and hold across instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Leases alive at once, over all grants of the policy.
    pub live_leases: Option<i64>,
    /// Resolves and forwards per span, of one principal and of one wallet, over all their grants.
    pub rate: Option<Rate>,
    /// Grants per span, of one principal and of one wallet.
    pub grants: Option<Rate>,
    /// Paid by one payer in 24 hours.
    pub paid_per_day: Option<Money>,
    /// Vendor cost of one grant; the vendor must cap each key.
    pub vendor_cost_per_grant: Option<Money>,
    /// The part of it that each key gets; all of it if absent.
    pub vendor_cost_per_key: Option<Money>,
}

/// So many per span: `60/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: i64,
    /// In which span.
    pub per: Ttl,
}

/// Whether people approve each grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantApproval {
    /// Nobody is asked.
    None,
    /// The first grant of each principal is approved.
    First,
    /// Every grant is approved.
    Always,
}

impl GrantApproval {
    /// The word of the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::First => "first",
            Self::Always => "always",
        }
    }
}

/// Who approves changes of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvers {
    /// Names of humans.
    pub from: Vec<Name>,
    /// How many of them.
    pub quorum: i64,
}

/// One version of a policy as stored: the text that was approved and what its digest covers besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersion {
    /// The policy's name.
    pub name: Name,
    /// Counts from 1.
    pub version: i64,
    /// The file as it was proposed.
    pub text: String,
    /// The digest of the vendor's manifest when it was proposed.
    pub manifest: Digest,
    /// The prims it names with their keys when it was proposed.
    pub prim_keys: Vec<(Name, Vec<PublicKey>)>,
    /// In force, or replaced.
    pub state: PolicyState,
    /// The approval that put it in force.
    pub approval: ApprovalId,
    /// When.
    pub activated: Timestamp,
}

/// Where a version stands. A version that waits for approval exists only in its approval request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// In force.
    Active,
    /// Replaced by a later version.
    Replaced,
}

impl PolicyState {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Replaced => "replaced",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Replaced]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// The digest that approvers sign: the file, the manifest it builds on, and the keys of the prims it names.
#[must_use]
pub fn digest(name: &Name, version: i64, text: &str, manifest: Digest, prim_keys: &[(Name, Vec<PublicKey>)]) -> Digest {
    let start = Canonical::new("dekeys.policy.v1")
        .text(name.as_str())
        .int(version)
        .text(text)
        .text(&manifest.to_string());
    let count = i64::try_from(prim_keys.len()).unwrap_or(i64::MAX);
    prim_keys
        .iter()
        .fold(start.int(count), |bytes, (prim, keys)| {
            bytes.text(prim.as_str()).list(keys.iter().map(ToString::to_string))
        })
        .digest()
}

impl PolicyVersion {
    /// The digest approvers signed.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.name, self.version, &self.text, self.manifest, &self.prim_keys)
    }
}

impl Control for PolicyVersion {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.policy-version.v1")
            .text(&self.digest().to_string())
            .text(self.state.as_str())
            .text(&self.approval.to_string())
            .int(self.activated.as_millis())
    }
}
