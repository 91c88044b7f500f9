//! Which problem each refused verb is. The one place where causes meet HTTP; no text of a vendor, a database or the
//! operating system goes through here.

use super::codes::{
    ALREADY_INITIALIZED, ALREADY_UNSEALED, ALREADY_VOTED, APPROVAL_CLOSED, APPROVAL_DENIED, APPROVAL_PENDING,
    BACKUP_FAILED, BACKUP_INVALID, BEARER_REFUSED, BODY_TOO_LARGE, BUDGET_REACHED, CLOCK_SKEW, CONFLICT, COUNT_CHANGED,
    DATABASE_FULL, DIGEST_MISMATCH, EVENT_GONE, GRANT_EXPIRED, IDEMPOTENCY_MISMATCH, IDEMPOTENCY_RUNNING,
    INSUFFICIENT_SCOPE, INTEGRITY_FAILED, INTERNAL, INVALID_REQUEST, INVALID_TOKEN, MANIFEST_INVALID, NOT_ALLOWED,
    NOT_FOUND, OVERLOADED, PATH_AMBIGUOUS, PATH_NOT_ALLOWED, PAYMENT_CONFLICT, PAYMENT_CREDITED, PAYMENT_INVALID,
    PAYMENT_REQUIRED, PAYMENT_UNAVAILABLE, PAYMENT_UNKNOWN, POLICY_INVALID, POLICY_NOT_APPROVED, RATE_LIMITED,
    RECEIPT_INVALID, RECONCILING, ROTATION_FAILED, SELF_APPROVAL, SIGNATURE_INVALID, SIGNATURE_REQUIRED,
    TOO_MANY_LEASES, UNSEAL_KEY_INVALID, USED_UP, VAULT_SEALED, VENDOR_NOT_CONNECTED, VENDOR_REFUSED,
    VENDOR_UNAVAILABLE,
};
use super::{Code, Problem};
use crate::base::time::Ttl;
use crate::service::error::Error;

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { pointer, message } => Self::new(INVALID_REQUEST, message.clone()).error(pointer, message),
            Error::PolicyInvalid(_) => findings("the policy file has mistakes", error),
            Error::PolicyUnfit(_) => findings("the policy does not fit its vendor", error),
            Error::PolicyNotApproved(explanation) => Self::new(POLICY_NOT_APPROVED, explanation.to_string())
                .with("explanation", serde_json::to_value(explanation).unwrap_or_default()),
            Error::PendingApproval { grant, approval } => {
                Self::new(APPROVAL_PENDING, format!("{approval} waits for its approvers"))
                    .with("grant", grant.to_string())
                    .with("approval", approval.to_string())
                    .retry_after(Ttl::from_secs(10))
            }
            Error::PaymentRequired { required, words, grant } => {
                let problem = Self::new(PAYMENT_REQUIRED, words.clone()).with("x402", required.body.clone());
                match grant {
                    Some(grant) => problem.with("grant", grant.to_string()),
                    None => problem,
                }
            }
            Error::PaymentInvalid { reason, required, .. } => {
                Self::new(PAYMENT_INVALID, format!("{reason}. Nothing was charged."))
                    .with("x402", required.body.clone())
            }
            Error::CountChanged { current, .. } => Self::new(COUNT_CHANGED, text).with("count", *current),
            Error::PaymentCredited { amount, .. } => {
                Self::new(PAYMENT_CREDITED, text).with("credit", amount.to_string())
            }
            Error::PaymentUnknown(grant) => {
                Self::new(PAYMENT_UNKNOWN, "do not pay again; dekeys looks for the settlement")
                    .with("grant", grant.to_string())
                    .retry_after(Ttl::from_secs(5))
            }
            Error::RateLimited(wait) => {
                let seconds = wait.as_millis().saturating_add(999) / 1000;
                Self::new(RATE_LIMITED, format!("the next is free in {seconds} s")).retry_after(*wait)
            }
            Error::Narrowed { block, check } => Self::new(
                INSUFFICIENT_SCOPE,
                format!("block {block} of the token, added by its holder, allows only: {check}"),
            )
            .with("block", u64::try_from(*block).unwrap_or(u64::MAX)),
            Error::NotGranted { wanted, allowed } => Self::new(
                INSUFFICIENT_SCOPE,
                format!("the token does not allow `{wanted}`; it allows: {allowed}"),
            ),
            Error::NotPinned => Self::new(
                INSUFFICIENT_SCOPE,
                "the token must be narrowed to this prim, for at most 5 minutes",
            )
            .fix("The agent narrows it before it sends it: `dekeys token attenuate --audience NAME --ttl 5m`."),
            Error::Vendor {
                retryable, retry_after, ..
            } => vendor_failed(&text, *retryable, *retry_after),
            Error::VendorNotConnected(vendor) => Self::new(VENDOR_NOT_CONNECTED, text)
                .fix(format!("An operator connects it: `dekeys vendor connect {vendor}`.")),
            Error::GrantOver(state) => Self::new(GRANT_EXPIRED, format!("the grant is {}", state.as_str())),
            Error::ClockSetBack | Error::ClockSetAhead => Self::new(OVERLOADED, text)
                .fix("The operator sets the machine's clock right; `/readyz` tells when it is.")
                .retry_after(Ttl::from_secs(60)),
            Error::Reconciling(_) => Self::new(RECONCILING, text).retry_after(Ttl::from_mins(1)),
            Error::PaymentsClosed(wait) => Self::new(PAYMENT_UNAVAILABLE, text)
                .fix("Ask again after `Retry-After`, and sign the payment then.")
                .retry_after(*wait),
            Error::Busy | Error::PurchaseUnderWay => Self::new(simple(error), text).retry_after(Ttl::from_secs(1)),
            Error::Internal(_) | Error::Store(_) | Error::Vault(_) => {
                Self::new(simple(error), "something went wrong here; nothing was released")
            }
            _ => Self::new(simple(error), text),
        }
    }
}

/// The code of causes that need nothing but their own words.
fn simple(error: &Error) -> &'static Code {
    match error {
        Error::Sealed => VAULT_SEALED,
        Error::UnsealKeyWrong | Error::UnsealKeyUnfit(_) => UNSEAL_KEY_INVALID,
        Error::AlreadyUnsealed => ALREADY_UNSEALED,
        Error::AlreadyInitialized => ALREADY_INITIALIZED,
        Error::Unauthenticated => INVALID_TOKEN,
        Error::SignatureRequired => SIGNATURE_REQUIRED,
        Error::SignatureInvalid | Error::SignIn(_) => SIGNATURE_INVALID,
        Error::ClockSkew(_) => CLOCK_SKEW,
        Error::NotAllowed(_) => NOT_ALLOWED,
        Error::PathAmbiguous(_) => PATH_AMBIGUOUS,
        Error::PathNotAllowed(_) => PATH_NOT_ALLOWED,
        Error::BearerRefused(_) => BEARER_REFUSED,
        Error::TokenTooLarge => BODY_TOO_LARGE,
        Error::NotFound(_) => NOT_FOUND,
        Error::EventGone => EVENT_GONE,
        Error::ManifestInvalid(_) => MANIFEST_INVALID,
        Error::ApprovalEnded { .. } => APPROVAL_DENIED,
        Error::ApprovalClosed(_) => APPROVAL_CLOSED,
        Error::SelfApproval => SELF_APPROVAL,
        Error::AlreadyVoted => ALREADY_VOTED,
        Error::DigestMismatch { .. } => DIGEST_MISMATCH,
        Error::PaymentConflict => PAYMENT_CONFLICT,
        Error::PurchaseUnderWay => IDEMPOTENCY_RUNNING,
        Error::PaymentUnavailable => PAYMENT_UNAVAILABLE,
        Error::IdempotencyMismatch => IDEMPOTENCY_MISMATCH,
        Error::RotationFailed { .. } => ROTATION_FAILED,
        Error::UsedUp => USED_UP,
        Error::TooManyLeases => TOO_MANY_LEASES,
        Error::PaidPerDay | Error::CostGivenOut => BUDGET_REACHED,
        Error::Conflict(_) => CONFLICT,
        Error::Forged(_) | Error::LogBroken => INTEGRITY_FAILED,
        Error::ReceiptInvalid(_) => RECEIPT_INVALID,
        Error::Busy | Error::ClockSetBack | Error::ClockSetAhead => OVERLOADED,
        Error::DatabaseFull => DATABASE_FULL,
        Error::BackupInvalid(_) => BACKUP_INVALID,
        Error::BackupFailed(_) => BACKUP_FAILED,
        _ => INTERNAL,
    }
}

fn findings(detail: &str, error: &Error) -> Problem {
    error
        .findings()
        .iter()
        .fold(Problem::new(POLICY_INVALID, detail), |problem, finding| {
            let place = match (finding.line, finding.column) {
                (Some(line), Some(column)) => format!("line {line}, column {column}: "),
                _ => String::new(),
            };
            problem.error(&finding.pointer, format!("{place}{}; {}", finding.message, finding.fix))
        })
}

fn vendor_failed(words: &str, retryable: bool, retry_after: Option<Ttl>) -> Problem {
    let detail = format!("{words}. Nothing was charged.");
    if retryable {
        Problem::new(VENDOR_UNAVAILABLE, detail).retry_after(retry_after.unwrap_or(Ttl::from_secs(5)))
    } else {
        Problem::new(VENDOR_REFUSED, detail)
    }
}
