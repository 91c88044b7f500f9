//! Exit codes: what scripts switch on.

/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// There is no such thing.
pub(crate) const NOT_FOUND: u8 = 3;
/// Sign-in needed, or a token is over.
pub(crate) const UNAUTHENTICATED: u8 = 4;
/// Not allowed.
pub(crate) const FORBIDDEN: u8 = 5;
/// To be paid, or above `--max-price`.
pub(crate) const PAYMENT: u8 = 6;
/// People have not decided, or said no.
pub(crate) const APPROVAL: u8 = 7;
/// The vault is sealed, or there is none.
pub(crate) const SEALED: u8 = 8;
/// Something is not as it was thought to be.
pub(crate) const CONFLICT: u8 = 9;
/// Try again later.
pub(crate) const LATER: u8 = 10;

/// By the problem's code.
const CODES: &[(&str, u8)] = &[
    ("already_initialized", CONFLICT),
    ("already_unsealed", CONFLICT),
    ("already_voted", CONFLICT),
    ("approval_closed", CONFLICT),
    ("approval_denied", APPROVAL),
    ("approval_ended", APPROVAL),
    ("approval_pending", APPROVAL),
    ("clock_skew", UNAUTHENTICATED),
    ("conflict", CONFLICT),
    ("database_locked", LATER),
    ("digest_mismatch", CONFLICT),
    ("grant_over", FAILED),
    ("idempotency_mismatch", CONFLICT),
    ("insufficient_scope", FORBIDDEN),
    ("invalid_token", UNAUTHENTICATED),
    ("not_allowed", FORBIDDEN),
    ("not_found", NOT_FOUND),
    ("not_initialized", SEALED),
    ("overloaded", LATER),
    ("paid_per_day", LATER),
    ("payment_amount_mismatch", PAYMENT),
    ("payment_conflict", CONFLICT),
    ("payment_invalid", PAYMENT),
    ("payment_required", PAYMENT),
    ("payment_unavailable", LATER),
    ("payment_unknown", LATER),
    ("policy_not_approved", APPROVAL),
    ("price_too_high", PAYMENT),
    ("purchase_under_way", LATER),
    ("rate_limited", LATER),
    ("revocation_failed", LATER),
    ("self_approval", FORBIDDEN),
    ("signature_required", UNAUTHENTICATED),
    ("token_expired", UNAUTHENTICATED),
    ("token_not_pinned", FORBIDDEN),
    ("too_many_leases", LATER),
    ("unseal_key_invalid", FAILED),
    ("used_up", FAILED),
    ("vault_sealed", SEALED),
    ("vendor_not_connected", FAILED),
    ("vendor_refused", FAILED),
    ("vendor_unavailable", LATER),
];

/// The exit code of a problem: by its code, else by its status.
#[must_use]
pub(crate) fn of_problem(code: &str, status: u16) -> u8 {
    let known = CODES.iter().find(|(name, _)| *name == code);
    match (known, status) {
        // A payment dated ahead is a payment that was refused.
        (None | Some(("clock_skew", _)), 402) => PAYMENT,
        (Some((_, exit)), _) => *exit,
        (None, 401) => UNAUTHENTICATED,
        (None, 403) => FORBIDDEN,
        (None, 404) => NOT_FOUND,
        (None, 409 | 412) => CONFLICT,
        (None, 202 | 408 | 425 | 429 | 502..=504) => LATER,
        (None, _) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_before_statuses() {
        for (code, status, exit) in [
            ("vault_sealed", 503, 8),
            ("unseal_key_invalid", 400, 1),
            ("token_expired", 401, 4),
            ("clock_skew", 401, 4),
            ("clock_skew", 402, 6),
            ("insufficient_scope", 403, 5),
            ("vendor_not_connected", 502, 1),
            ("policy_not_approved", 403, 7),
            ("approval_pending", 202, 7),
            ("payment_amount_mismatch", 402, 6),
            ("payment_unknown", 202, 10),
            ("database_locked", 503, 10),
            ("digest_mismatch", 412, 9),
            ("rate_limited", 429, 10),
            ("revocation_failed", 202, 10),
            ("new_code", 401, 4),
            ("new_code", 404, 3),
            ("new_code", 422, 1),
            ("new_code", 500, 1),
            ("new_code", 504, 10),
        ] {
            assert_eq!(of_problem(code, status), exit, "{code} {status}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_nothing_twice() {
        assert!(CODES.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}
