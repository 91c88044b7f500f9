//! Receipts, checked offline.

use super::keys::Keys;
pub use crate::audit::{Facts, LogPublic, LogTerm, ReceiptError, Standing, Verdict};

/// Checks a receipt as it was given out, against the log key that it must come from and that is known from elsewhere.
/// Line ends after it do not count; every other byte does.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify(receipt: &str, public: &LogPublic) -> Result<Verdict, ReceiptError> {
    crate::audit::verify(receipt.trim_end_matches(['\r', '\n']), public)
}

/// Checks a receipt against all keys that an instance says its log ever had: each counts for its own time.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_by_keys(receipt: &str, keys: &Keys) -> Result<Verdict, ReceiptError> {
    crate::audit::verify_by_terms(receipt.trim_end_matches(['\r', '\n']), &keys.logs)
}
