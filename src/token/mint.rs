//! Minting: the authority block, signed with the current root key.

use biscuit_auth::Biscuit;

use super::roots::RootKeys;
use super::{TokenError, facts, text};
use crate::base::id::{GrantId, InstanceId, PrincipalId};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::model::instance::Mode;
use crate::model::principal::PublicKey;
use crate::model::scope::{Name, Scope};

/// The most rights one token carries: 64 facts, less the five others.
const MAX_RIGHTS: usize = 59;

/// What a token shall say. How long it may live is for the caller to decide.
#[derive(Debug, Clone, Copy)]
pub struct MintAsk<'a> {
    /// This instance.
    pub instance: InstanceId,
    /// Its mode: the prefix of the token.
    pub mode: Mode,
    /// The grant.
    pub grant: GrantId,
    /// The grant's owner.
    pub principal: PrincipalId,
    /// The key its holder signs with; `None` makes a bearer token.
    pub holder: Option<PublicKey>,
    /// What it allows.
    pub rights: &'a [(Name, Scope)],
    /// The prims it is for; empty is any.
    pub audience: &'a [Name],
    /// The time now.
    pub now: Timestamp,
    /// When it ends, rounded down to whole seconds.
    pub expires: Timestamp,
}

/// Mints a token. Two calls with the same ask give two tokens, with different revocation ids.
///
/// # Errors
/// [`TokenError::Expired`] when it would be over at once, [`TokenError::TooLarge`] when the rights and prims do
/// not fit, [`TokenError::Internal`] without rights or with more than 59.
pub fn mint(roots: &RootKeys, ask: &MintAsk<'_>) -> Result<SecretText, TokenError> {
    if !(1..=MAX_RIGHTS).contains(&ask.rights.len()) {
        return Err(TokenError::Internal(format!(
            "a token carries 1 to {MAX_RIGHTS} rights"
        )));
    }
    if ask.expires.as_secs() <= ask.now.as_secs() {
        return Err(TokenError::Expired { at: ask.expires });
    }
    let (id, key) = roots.signing()?;
    let bytes = authority(ask, id)
        .and_then(|builder| builder.build(&key))
        .and_then(|token: Biscuit| token.to_vec())
        .map_err(|_| TokenError::Internal("minting a token failed".to_owned()))?;
    text::encode(Some(ask.mode), &bytes).map(SecretText::new)
}

fn authority(ask: &MintAsk<'_>, root_key_id: u32) -> Result<biscuit_auth::BiscuitBuilder, biscuit_auth::error::Token> {
    let mut builder = Biscuit::builder().root_key_id(root_key_id);
    for fact in facts::facts(ask) {
        builder = builder.fact(fact)?;
    }
    for check in facts::checks(ask) {
        builder = builder.check(check)?;
    }
    Ok(builder)
}
