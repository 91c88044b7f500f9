//! A token in plain words, for its holder: what it is for, block by block. Needs no server.

use std::fmt;

use serde::Serialize;

use super::roots::RootPublics;
use super::{TokenError, facts, profile, text, verify};
use crate::base::id::{GrantId, InstanceId, PrincipalId};
use crate::base::time::Timestamp;
use crate::model::instance::Mode;
use crate::model::principal::PublicKey;
use crate::model::scope::{Name, Reference};

/// What a token says. Holds nothing with which the token could be used or put together again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Whether the signatures were checked, and are right. `false` means that everything here may be made up.
    pub signature_checked: bool,
    /// Test or live, if the text had a prefix.
    pub mode: Option<Mode>,
    /// The instance that minted it.
    pub instance: InstanceId,
    /// The root key it names.
    pub root_key_id: u32,
    /// The grant it carries.
    pub grant: GrantId,
    /// The grant's owner.
    pub principal: PrincipalId,
    /// The key its holder signs with; `None` is bearer class.
    pub holder: Option<PublicKey>,
    /// What the authority block allows.
    pub rights: Vec<Reference>,
    /// The prims it was minted for; empty is any.
    pub audience: Vec<Name>,
    /// When it ends, all blocks considered.
    pub until: Timestamp,
    /// Nothing can be added to it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its blocks, the authority block first.
    pub blocks: Vec<BlockWords>,
}

/// One block in plain words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockWords {
    /// Its place, from 0.
    pub block: usize,
    /// One line for each check, such as `only prim prim-echo`.
    pub checks: Vec<String>,
    /// Revoking this ends the block, and all tokens narrowed from it.
    pub revocation_id: String,
}

/// Explains a token. The signatures are checked only if public keys are given.
///
/// # Errors
/// As [`super::Verifier::parse`], but for the instance; a token that could not be used is not explained.
pub fn inspect(token: &str, publics: Option<&RootPublics>) -> Result<Inspection, TokenError> {
    let (mode, bytes) = text::decode(token)?;
    let walked = match publics {
        Some(publics) => verify::verified(&bytes, publics)?.1,
        None => profile::walk(&bytes)?,
    };
    let claims = facts::claims(&walked)?;
    let bounds = walked
        .blocks
        .iter()
        .flatten()
        .filter_map(super::condition::Check::bound);
    let blocks = walked.blocks.iter().zip(&walked.revocation_ids).enumerate();
    Ok(Inspection {
        signature_checked: publics.is_some(),
        mode,
        instance: claims.instance,
        root_key_id: claims.root_key_id,
        grant: claims.grant,
        principal: claims.principal,
        holder: claims.holder,
        rights: claims
            .rights
            .into_iter()
            .map(|(vendor, scope)| Reference { vendor, scope })
            .collect(),
        audience: claims.audience,
        until: bounds.min().unwrap_or(claims.expires),
        is_final: walked.sealed,
        blocks: blocks
            .map(|(block, (checks, revocation_id))| BlockWords {
                block,
                checks: checks.iter().map(ToString::to_string).collect(),
                revocation_id: revocation_id.clone(),
            })
            .collect(),
    })
}

/// The revocation ids of a token (hexadecimal), authority block first; signatures are not checked.
///
/// # Errors
/// [`TokenError::TooLarge`], [`TokenError::Malformed`], [`TokenError::Profile`].
pub fn revocation_ids(token: &str) -> Result<Vec<String>, TokenError> {
    let (_, bytes) = text::decode(token)?;
    profile::walk(&bytes).map(|walked| walked.revocation_ids)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.mode.map_or("", Mode::as_str);
        let checked = if self.signature_checked {
            "checked, right"
        } else {
            "not checked: all of this may be made up"
        };
        writeln!(
            f,
            "{kind}{}token of grant {}",
            if kind.is_empty() { "" } else { " " },
            self.grant
        )?;
        writeln!(f, "  signature  {checked}")?;
        writeln!(f, "  instance   {} (root key {})", self.instance, self.root_key_id)?;
        writeln!(f, "  principal  {}", self.principal)?;
        match self.holder {
            Some(key) => writeln!(f, "  holder     {key}")?,
            None => writeln!(f, "  holder     whoever has it (bearer)")?,
        }
        writeln!(f, "  until      {}", self.until)?;
        for right in &self.rights {
            writeln!(f, "  allows     {right}")?;
        }
        for block in &self.blocks {
            let by = if block.block == 0 { "minted" } else { "added" };
            writeln!(f, "  block {} ({by})", block.block)?;
            for check in &block.checks {
                writeln!(f, "    {check}")?;
            }
        }
        write!(
            f,
            "  {}",
            if self.is_final {
                "final: cannot be narrowed"
            } else {
                "can be narrowed"
            }
        )
    }
}
