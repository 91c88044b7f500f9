//! Payment over x402 version 2, scheme `exact` with EIP-3009 authorizations on `eip155` networks: what is asked,
//! the local checks of what is offered, and the rail that moves the money (DESIGN 17).
//!
//! The order of a purchase is the service's: quote, claim, verify, provision, settle, deliver. This module keeps no
//! purchases; it says what a payment is, whether it fits the terms, and what became of it.
//!
//! Not protected: an authorization binds neither the request nor its sender, unless its payer bound it (`binding`).
//! After settlement it is public, so nobody may get a secret for showing it again, and one `pay_to` should serve one
//! instance only.

mod authorization;
mod binding;
mod chain;
mod error;
mod exact;
mod facilitator;
mod facilitator_key;
mod ledger;
mod payer;
mod quote;
mod rail;
mod sign_in;
mod signed_quote;
mod sim;
mod terms;

pub use binding::{Binding, binding, request_digest, signed_request};
pub use chain::Chain;
pub use error::PaymentError;
pub use exact::{Offered, read};
pub use facilitator::HttpRail;
pub use facilitator_key::{ApiKey, FacilitatorKey, InvalidKey};
pub use payer::{payer_address, sign_bound, sign_exact};
pub use quote::{Extras, Outcome, Required, Resource, bazaar, required, requirements, response};
pub use rail::{Answer, Find, PaymentRail, Settle, Verify};
pub use sign_in::{SIGN_IN_WITH_X, SignInError, SignedIn, challenge, sign_in};
pub use signed_quote::{Basis, Paid, PaidFor, QUOTE, QUOTE_LIFE, Quote, RECEIPT, did, short, unverified_quotes};
pub use sim::{Faults, SimError, SimRail};
pub use terms::Terms;

/// The header of a 402 that says what to pay: base64 of the JSON `PaymentRequired`.
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// The request header that carries the signed payment: base64 of the JSON `PaymentPayload`.
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// The header of the answer that says what became of the payment: base64 of the JSON `SettleResponse`.
pub const PAYMENT_RESPONSE: &str = "payment-response";
