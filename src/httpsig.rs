//! HTTP message signatures (RFC 9421) as dekeys uses them: who sent this request, over exactly which method, target,
//! body and token. Ed25519 with a key of the sender's, or HMAC-SHA256 inside a signed session (DESIGN 8).
//!
//! The profile is strict: one signature with `tag="dekeys"`; it covers `@method`, the target (`@target-uri`, or
//! `@authority`, `@path` and, where there is a query, `@query`), `content-digest` where there is a body and
//! `authorization` where there is one, and nothing else; `created` is fresh; `nonce` is there. Signatures with other
//! tags are left to others.
//!
//! Not protected here: a request sent twice (the caller claims the nonce or counter), one meant for another server
//! (the caller compares [`Parts::authority`] with its own names), and headers that are not covered.

mod base;
mod digest;
mod field;
mod key;
mod sign;
mod verify;
mod webhook;
mod window;

pub use base::{Message, Parts, signature_base};
pub use digest::{content_digest, promised};
pub use key::{KeyFile, KeyFileError, verify_raw, webhook_secret};
pub use sign::{SignedHeaders, sign, sign_session};
pub use verify::{Claimed, Proof, read, verify, verify_session};
pub use webhook::{webhook_code, webhook_public, webhook_signature};
pub use window::CounterWindow;

use crate::base::time::Ttl;

/// What marks a signature as meant for dekeys, and the label it carries when dekeys makes it.
pub const TAG: &str = "dekeys";
/// How old a signature may be.
pub const MAX_AGE: Ttl = Ttl::from_secs(60);
/// How far ahead of our clock a signature may be dated.
pub const MAX_AHEAD: Ttl = Ttl::from_secs(30);

/// A signature that is refused, or cannot be made. Strangers are told no more than "the signature is refused" by the
/// surface where that matters; these words are for the sender's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// A field is not a structured field of its kind, too long or not ASCII.
    #[error("the field `{0}` cannot be read")]
    Field(&'static str),
    /// A label, algorithm or parameter stands twice in one field.
    #[error("the field `{0}` says something twice")]
    Duplicate(&'static str),
    /// Several signatures claim to be for dekeys.
    #[error("there is more than one signature with tag=\"dekeys\"")]
    Several,
    /// A signature labelled `dekeys` has another tag or none.
    #[error("the signature labelled `dekeys` does not have tag=\"dekeys\"")]
    Tag,
    /// `signature-input` without its `signature`, or the other way round.
    #[error("the fields `signature` and `signature-input` do not belong together")]
    Unpaired,
    /// A parameter is missing or has the wrong form.
    #[error("the signature parameter `{0}` is missing or malformed")]
    Parameter(&'static str),
    /// A parameter that means nothing here.
    #[error("the signature parameter `{0}` is not known")]
    UnknownParameter(String),
    /// The algorithm is not the one that belongs to the key.
    #[error("the signature's algorithm does not belong to its key")]
    Algorithm,
    /// The key is not of the kind that was asked for: a session where a key is wanted or the other way round.
    #[error("the signature's `keyid` is of another kind than is wanted here")]
    KeyKind,
    /// A session key shorter than 32 bytes.
    #[error("the session key is too short")]
    SessionKey,
    /// Something that must be covered is not.
    #[error("the signature does not cover `{0}`")]
    Uncovered(&'static str),
    /// Something is covered that has no place in the profile.
    #[error("the signature covers `{0}`, which it may not")]
    Unexpected(String),
    /// Something is covered twice.
    #[error("the signature covers `{0}` twice")]
    CoveredTwice(String),
    /// A covered component is not in the message, is there twice, or has no such form.
    #[error("the message has no single, plain `{0}`")]
    Component(String),
    /// Too old.
    #[error("the signature was made more than 60 s ago or has expired")]
    Old,
    /// Dated ahead.
    #[error("the signature is dated more than 30 s ahead")]
    Ahead,
    /// The body is not the one the digest was made of.
    #[error("the field `content-digest` does not fit the body")]
    Digest,
    /// The signature does not fit.
    #[error("the signature does not fit the request")]
    Wrong,
}
