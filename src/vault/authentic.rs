//! The mark on control rows: HMAC-SHA256 of a row's canonical bytes, under a key derived from the root key.
//! Whoever can write to the database but not unseal the vault cannot make a row that counts (DESIGN 6).
//!
//! Not protected: putting back an older row with its older mark. The audit log shows that.

use subtle::ConstantTimeEq;

use super::VaultError;
use super::keyring::Keys;
use super::primitive;
use crate::model::control::{Control, Mac, Stored};

/// The mark of `value`.
pub(super) fn mac<T: Control>(keys: &Keys, value: &T) -> Result<Mac, VaultError> {
    primitive::hmac(keys.mac.as_slice(), &value.canonical().finish()).map(Mac)
}

/// The row's content, when its mark is right; compared in constant time.
pub(super) fn authenticate<T: Control>(keys: &Keys, stored: Stored<T>) -> Result<T, VaultError> {
    let right = mac(keys, &stored.unverified)?;
    if bool::from(right.0.ct_eq(&stored.mac.0)) {
        Ok(stored.unverified)
    } else {
        Err(VaultError::Forged)
    }
}
