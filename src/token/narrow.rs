//! Narrowing: whoever holds a token may add a block that allows less, offline and without any key.

use biscuit_auth::builder::{Check, Rule};
use biscuit_auth::{BlockBuilder, UnverifiedBiscuit, error};

use super::clause::{begins, check, one_of, within};
use super::condition::Subject;
use super::{TokenError, profile, text};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;
use crate::model::claims::UseKind;
use crate::model::scope::{Name, Scope};

/// What a narrower token may still do. What is empty or `None` is not narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Only these prims. One prim and a time at most 5 minutes ahead is what resolving asks for.
    pub prims: Vec<Name>,
    /// Only these vendors.
    pub vendors: Vec<Name>,
    /// Only these scopes.
    pub scopes: Vec<Scope>,
    /// Only for these uses.
    pub uses: Vec<UseKind>,
    /// Only before this time, rounded down to whole seconds.
    pub until: Option<Timestamp>,
    /// Only these methods, compared byte by byte; forwarding only.
    pub methods: Vec<String>,
    /// Only paths that begin with one of these (at most 4), compared byte by byte: end one with `/` to mean a folder.
    /// Forwarding only.
    pub path_prefixes: Vec<String>,
    /// Nothing can be added afterwards (biscuit calls this sealed).
    pub seal: bool,
}

/// Adds one block. Without anything to narrow no block is added.
///
/// # Errors
/// [`TokenError::Final`] when nothing can be added, [`TokenError::TooLarge`] and [`TokenError::Profile`] when the
/// result could not be used, [`TokenError::Malformed`].
pub fn attenuate(token: &str, narrowing: &Narrowing) -> Result<SecretText, TokenError> {
    let (mode, bytes) = text::decode(token)?;
    let walked = profile::walk(&bytes)?;
    let checks = checks(narrowing);
    if walked.sealed && (narrowing.seal || !checks.is_empty()) {
        return Err(TokenError::Final);
    }
    let mut biscuit = UnverifiedBiscuit::from(&bytes).map_err(|_| TokenError::Malformed)?;
    if !checks.is_empty() {
        biscuit = append(&biscuit, checks).map_err(internal)?;
    }
    if narrowing.seal {
        biscuit = biscuit.seal().map_err(internal)?;
    }
    let bytes = biscuit.to_vec().map_err(internal)?;
    let narrower = text::encode(mode, &bytes).map(SecretText::new)?;
    profile::walk(&bytes)?;
    Ok(narrower)
}

fn append(biscuit: &UnverifiedBiscuit, checks: Vec<Check>) -> Result<UnverifiedBiscuit, error::Token> {
    let mut block = BlockBuilder::new();
    for check in checks {
        block = block.check(check)?;
    }
    biscuit.append(block)
}

fn checks(narrowing: &Narrowing) -> Vec<Check> {
    let uses: Vec<&str> = narrowing.uses.iter().map(|kind| kind.as_str()).collect();
    let prefix = |prefix: &String| begins(Subject::Path, prefix);
    let alternatives = [
        some(Subject::Prim, &narrowing.prims),
        some(Subject::Vendor, &narrowing.vendors),
        some(Subject::Scope, &narrowing.scopes),
        some(Subject::Use, &uses),
        some(Subject::Method, &narrowing.methods),
        narrowing.path_prefixes.iter().map(prefix).collect(),
        narrowing.until.map(|until| within(None, until)).into_iter().collect(),
    ];
    let said = alternatives.into_iter().filter(|alternatives| !alternatives.is_empty());
    said.map(check).collect()
}

fn some<T: AsRef<str>>(subject: Subject, words: &[T]) -> Vec<Rule> {
    (!words.is_empty())
        .then(|| one_of(subject, words))
        .into_iter()
        .collect()
}

fn internal<E>(_: E) -> TokenError {
    TokenError::Internal("narrowing the token failed".to_owned())
}
