//! Why a payment is refused.

use crate::base::time::Timestamp;

/// A payment that is not accepted. Nothing was charged for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// No header.
    #[error("the request carries no payment: send the header `PAYMENT-SIGNATURE`")]
    Missing,
    /// The header came more than once; which one would count?
    #[error("the header `PAYMENT-SIGNATURE` was sent {0} times: send it once")]
    Repeated(usize),
    /// Longer than any honest payment.
    #[error("the payment has {0} bytes: at most {max} are read", max = super::exact::MAX_HEADER)]
    TooLarge(usize),
    /// Not base64 as RFC 4648 §4 writes it.
    #[error("the payment is not base64 of the standard alphabet with padding")]
    Encoding,
    /// Not the JSON of a payment.
    #[error("the payment is not the JSON of an x402 payment with an EIP-3009 authorization: {0}")]
    Shape(&'static str),
    /// Another version of x402.
    #[error("x402 version `{0}` is not spoken here: use 2")]
    Version(u64),
    /// A value in a spelling that is not the one allowed.
    #[error("the payment's {field} `{given}` is not {wanted}")]
    Spelling {
        /// The field.
        field: &'static str,
        /// What was given, cut to 80 characters.
        given: String,
        /// The one spelling.
        wanted: &'static str,
    },
    /// Another value than was asked for.
    #[error("the payment's {field} is `{given}`, asked for is `{wanted}`")]
    Differs {
        /// The field.
        field: &'static str,
        /// What was given, cut to 80 characters.
        given: String,
        /// What the terms say.
        wanted: String,
    },
    /// Not the price. The scheme is `exact`: more is refused as well as less.
    #[error("the payment is `{given}`, the price {price} atomic units")]
    Amount {
        /// What was given, cut to 80 characters.
        given: String,
        /// The price, atomic units.
        price: i64,
    },
    /// Begins later than now, beyond what clocks may differ.
    #[error("the payment is valid from {from}, here it is {now}: the clocks may differ by less than 60 s")]
    NotYet {
        /// When it begins.
        from: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Ends too soon to be settled safely.
    #[error("the payment is valid until {until}, here it is {now}: it must last 30 s more")]
    Ending {
        /// When it ends.
        until: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Ends later than was asked for.
    #[error("the payment is valid until {until}: at most {latest} is accepted")]
    TooLong {
        /// When it ends.
        until: Timestamp,
        /// The latest end that is accepted.
        latest: Timestamp,
    },
    /// Not signed by the payer it names.
    #[error("the payment's signature is refused: {0}")]
    Signature(&'static str),
    /// The server's own terms are wrong.
    #[error("the payment terms are not usable: {field} is `{given}`")]
    Terms {
        /// The field.
        field: &'static str,
        /// What it is.
        given: String,
    },
    /// The payer's side: nothing among what is accepted can be paid.
    #[error("nothing that is asked for can be paid: {0}")]
    CannotPay(&'static str),
}

impl PaymentError {
    /// Whether the header itself is broken (400); else the payment does not fit, and terms are given anew (402).
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(
            self,
            Self::Repeated(_) | Self::TooLarge(_) | Self::Encoding | Self::Shape(_) | Self::Spelling { .. }
        )
    }

    /// The reason in x402's own words (specification v2, error codes), for `error` and `errorReason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "payment_required",
            Self::Repeated(_) | Self::TooLarge(_) | Self::Encoding | Self::Shape(_) | Self::Spelling { .. } => {
                "invalid_payload"
            }
            Self::Version(_) => "invalid_x402_version",
            Self::Differs { field, .. } => match *field {
                "scheme" => "unsupported_scheme",
                "network" => "invalid_network",
                "payTo" | "to" => "invalid_exact_evm_payload_recipient_mismatch",
                _ => "invalid_payment_requirements",
            },
            Self::Amount { .. } => "invalid_exact_evm_payload_authorization_value",
            Self::NotYet { .. } => "invalid_exact_evm_payload_authorization_valid_after",
            Self::Ending { .. } | Self::TooLong { .. } => "invalid_exact_evm_payload_authorization_valid_before",
            Self::Signature(_) => "invalid_exact_evm_payload_signature",
            Self::Terms { .. } | Self::CannotPay(_) => "invalid_payment_requirements",
        }
    }
}

/// User input for a message: 80 characters at most.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
