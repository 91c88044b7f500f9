//! Tokens in the hands of their holder: narrowed, explained and checked offline.

use crate::base::canonical::Digest;
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::model::claims::UseKind;
use crate::model::instance::Mode;
use crate::model::scope::{Name, Reference};
use crate::token::{Ask, Verifier};

use super::keys::Keys;

pub use crate::token::{Authorized, BlockWords, Inspection, Narrowing, TokenError};

/// One use that a token is checked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// What it is wanted for.
    pub reference: Reference,
    /// How.
    pub kind: UseKind,
    /// By which prim.
    pub prim: Option<Name>,
    /// With which method; forwarding only.
    pub method: Option<String>,
    /// At which path; forwarding only.
    pub path: Option<String>,
}

/// The BLAKE3 digest of a token's text: what caches know it by.
#[must_use]
pub fn digest(token: &SecretText) -> Digest {
    Digest::of(token.expose().trim().as_bytes())
}

/// The same token once more, to be sent: the type has no `Clone` on purpose.
#[must_use]
pub fn again(token: &SecretText) -> SecretText {
    SecretText::new(token.expose().trim().to_owned())
}

/// Adds a block that allows less. Needs no key and no server.
///
/// # Errors
/// As [`crate::token::attenuate`].
pub fn attenuate(token: &SecretText, narrowing: &Narrowing) -> Result<SecretText, TokenError> {
    crate::token::attenuate(token.expose().trim(), narrowing)
}

/// Explains a token; its signatures are checked only if keys are given.
///
/// # Errors
/// As [`crate::token::inspect`].
pub fn inspect(token: &SecretText, keys: Option<&Keys>) -> Result<Inspection, TokenError> {
    crate::token::inspect(token.expose().trim(), keys.map(|keys| &keys.roots))
}

/// Checks that a token is of this instance, that its signatures are right and its time is not over, and that it
/// allows `wanted`, if something is.
///
/// Not checked: whether it was revoked and what its grant has left. Only the instance knows.
///
/// # Errors
/// [`TokenError`], the first thing that is wrong.
pub fn verify(
    token: &SecretText,
    keys: &Keys,
    wanted: Option<&Use>,
    now: Timestamp,
) -> Result<(Inspection, Option<Authorized>), TokenError> {
    let inspection = inspect(token, Some(keys))?;
    let mode = inspection.mode.unwrap_or(Mode::Test);
    let verifier = Verifier::new(keys.instance, mode, keys.roots.clone());
    let parsed = verifier.parse(token.expose().trim())?;
    if inspection.until <= now {
        return Err(TokenError::Expired { at: inspection.until });
    }
    let authorized = wanted.map(|wanted| {
        let ask = Ask {
            now,
            use_kind: wanted.kind,
            prim: wanted.prim.as_ref(),
            vendor: Some(&wanted.reference.vendor),
            scope: Some(&wanted.reference.scope),
            method: wanted.method.as_deref(),
            path: wanted.path.as_deref(),
        };
        verifier.authorize(&parsed, &ask)
    });
    Ok((inspection, authorized.transpose()?))
}
