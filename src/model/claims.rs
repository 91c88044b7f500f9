//! What a token says, once its signature and shape were checked.

use super::principal::PublicKey;
use super::scope::{Name, Scope};
use crate::base::id::{GrantId, InstanceId, PrincipalId};
use crate::base::time::Timestamp;

/// The authority block of a token, and the revocation ids of all its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The instance that minted it.
    pub instance: InstanceId,
    /// The grant it carries.
    pub grant: GrantId,
    /// The grant's owner.
    pub principal: PrincipalId,
    /// The key its holder signs with; `None` is bearer class.
    pub holder: Option<PublicKey>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// What it allows, before narrowing.
    pub rights: Vec<(Name, Scope)>,
    /// Prims it is for; empty is any that the policy names.
    pub audience: Vec<Name>,
    /// Which root key signed it.
    pub root_key_id: u32,
    /// Revocation ids (hexadecimal), authority block first.
    pub revocation_ids: Vec<String>,
}

/// How a token is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseKind {
    /// A prim gets the key.
    Resolve,
    /// dekeys sends the request.
    Forward,
    /// The holder manages its grant: fresh token, renew, revoke.
    Manage,
}

impl UseKind {
    /// The word in checks.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Forward => "forward",
            Self::Manage => "manage",
        }
    }
}
