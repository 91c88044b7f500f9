//! Receipts, checked offline.

pub use crate::audit::{Facts, LogPublic, ReceiptError, Standing, Verdict};

/// Checks a receipt as it was given out, against the log key that it must come from and that is known from elsewhere.
/// Line ends after it do not count; every other byte does.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify(receipt: &str, public: &LogPublic) -> Result<Verdict, ReceiptError> {
    crate::audit::verify(receipt.trim_end_matches(['\r', '\n']), public)
}
