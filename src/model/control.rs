//! Control rows: what decides who gets a key. Each carries a MAC under a key derived from the root key, so that
//! write access to the database is not enough to change a decision (DESIGN 6).
//!
//! Not protected: putting back an older row together with its older MAC. The audit log shows that.

use crate::base::canonical::Canonical;

/// A thing whose stored row must be authentic.
pub trait Control {
    /// Everything that counts, in the one encoding; the purpose names the kind of row.
    fn canonical(&self) -> Canonical;
}

/// HMAC-SHA256 over [`Control::canonical`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 32]);

/// A control row as the database gave it: not to be believed before the vault has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The row's content, unverified.
    pub unverified: T,
    /// The row's MAC, as stored.
    pub mac: Mac,
}
