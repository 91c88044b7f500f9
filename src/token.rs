//! Tokens: biscuits (Datalog over a chain of Ed25519 signatures) minted for a grant, narrowed offline by
//! whoever holds them, and checked here.
//!
//! The text of a token is a prefix that says `test` or `live`, then the biscuit in base64url; official biscuit
//! libraries read what follows the prefix. A token is looked at in this order, cheapest first: size, protobuf,
//! profile (what blocks may say), root key, signature, facts, instance. Only then does Datalog run.
//!
//! Not protected: a token is a bearer secret where its grant names no holder. Uses and budgets are not in it;
//! the grant's row counts them.

use crate::base::time::Timestamp;

mod clause;
mod condition;
mod expression;
mod facts;
mod inspect;
mod mint;
mod narrow;
mod profile;
mod reach;
mod roots;
mod text;
mod verify;

pub use inspect::{BlockWords, Inspection, inspect, revocation_ids};
pub use mint::{MintAsk, mint};
pub use narrow::{Narrowing, attenuate};
pub use profile::{Refusal, Why};
pub use reach::Reach;
pub use roots::{RootKeys, RootPublics};
pub use text::MAX_BYTES;
pub use verify::{Ask, Authorized, Verified, Verifier};

/// Why a token was not accepted, not narrowed or not minted.
///
/// Everything up to [`TokenError::NotYet`] is one and the same answer to a stranger (DESIGN 10); the kinds are
/// for logs, tests and the holder's own tools.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the text of a token: prefix, base64url or protobuf are wrong.
    #[error("this is not a dekeys token")]
    Malformed,
    /// More than [`MAX_BYTES`].
    #[error("the token is larger than 8 KiB")]
    TooLarge,
    /// A block says what no block may say.
    #[error("the token breaks the profile: {0}")]
    Profile(Refusal),
    /// Signed by no root key known here.
    #[error("the token was signed with a root key that is not in use")]
    UnknownRoot,
    /// A signature is wrong.
    #[error("a signature of the token is wrong")]
    Signature,
    /// Another instance minted it, or it is a test token at a live instance.
    #[error("the token belongs to another dekeys instance")]
    ForeignInstance,
    /// Its time is over.
    #[error("the token expired at {at}")]
    Expired {
        /// When it ended.
        at: Timestamp,
    },
    /// Its time has not come.
    #[error("the token is valid only from {from}")]
    NotYet {
        /// When it begins.
        from: Timestamp,
    },
    /// A block that was added to it forbids this.
    #[error("block {block} of the token allows less: {check}")]
    Narrowed {
        /// The block, from 1.
        block: usize,
        /// The check that failed, in plain words.
        check: String,
    },
    /// Its authority block gives no right to this.
    #[error("the token gives no right to this")]
    NotGranted,
    /// Nothing can be added to it.
    #[error("the token is final: it cannot be narrowed further")]
    Final,
    /// The check took too long; says nothing about the token.
    #[error("checking the token took too long")]
    TimedOut,
    /// Something that cannot happen, did.
    #[error("{0}")]
    Internal(String),
}
