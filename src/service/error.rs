//! Why a verb was refused. Knows no HTTP; `problem` maps each to one problem document.

use crate::base::canonical::Digest;
use crate::base::id::{ApprovalId, GrantId};
use crate::base::money::Money;
use crate::base::time::{Timestamp, Ttl};
use crate::model::approval::ApprovalState;
use crate::model::grant::GrantState;
use crate::model::incarnation::Cause;
use crate::payment::Required;
use crate::policy::{Explanation, Finding, PolicyErrors};
use crate::store::StoreError;
use crate::vault::VaultError;
use crate::vendor::{FailureClass, VendorFailure};

/// Why a verb was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys cannot be used until somebody unseals the vault.
    #[error("the vault is sealed")]
    Sealed,
    /// The unseal key is for this vault's kind, but not its key.
    #[error("that unseal key is wrong")]
    UnsealKeyWrong,
    /// An unseal key of another kind than this vault takes.
    #[error("{0}")]
    UnsealKeyUnfit(String),
    /// The vault is open already.
    #[error("the vault is unsealed already")]
    AlreadyUnsealed,
    /// `init` was done before.
    #[error("this database is initialised already")]
    AlreadyInitialized,
    /// No proof, or one that does not hold; the same for forged, expired, revoked and foreign tokens.
    #[error("the token or signature is not valid")]
    Unauthenticated,
    /// This act needs a signature or session, and there was none.
    #[error("this needs a signature")]
    SignatureRequired,
    /// A signature that cannot be read or does not fit the request, as far as that can be said without its key.
    #[error("the signature does not fit the request or its key")]
    SignatureInvalid,
    /// A wallet's sign-in does not fit; why.
    #[error("the sign-in is refused: {0}")]
    SignIn(&'static str),
    /// The signature was made too long ago or in the future, by the clock here.
    #[error("the signature was made more than 60 s ago or more than 30 s ahead; here it is {0}")]
    ClockSkew(Timestamp),
    /// The caller is known and may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// A block of the token narrowed it below what is asked.
    #[error("block {block} of the token does not allow this: {check}")]
    Narrowed {
        /// The block, counted from 0 (the authority block).
        block: usize,
        /// The check, in words.
        check: String,
    },
    /// The grant does not contain the right.
    #[error("the token does not allow `{wanted}`")]
    NotGranted {
        /// What was asked for.
        wanted: String,
        /// What the token allows.
        allowed: String,
    },
    /// The token is not pinned to this prim for at most five minutes by a block of its holder.
    #[error("the token is not pinned to this prim")]
    NotPinned,
    /// A path that two readers could take for two.
    #[error("the path is not plain: {0}")]
    PathAmbiguous(&'static str),
    /// The vendor's manifest does not let this be forwarded.
    #[error("{0}")]
    PathNotAllowed(String),
    /// An unsigned token where none is taken.
    #[error("{0}")]
    BearerRefused(String),
    /// Too large to be looked at.
    #[error("the token is larger than 8 KiB")]
    TokenTooLarge,
    /// Nothing with that id, or not the caller's.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The event after which somebody wants to go on is not in the log of this instance.
    #[error("the log of this instance does not hold the event to go on after")]
    EventGone,
    /// The request makes no sense.
    #[error("{message}")]
    Invalid {
        /// JSON pointer to the field.
        pointer: String,
        /// What is wrong with it.
        message: String,
    },
    /// A policy file with mistakes.
    #[error("the policy has mistakes")]
    PolicyInvalid(Box<PolicyErrors>),
    /// A policy that its vendor's manifest does not bear.
    #[error("the policy does not fit its vendor")]
    PolicyUnfit(Vec<Finding>),
    /// A manifest with mistakes.
    #[error("{0}")]
    ManifestInvalid(String),
    /// No policy in force allows it.
    #[error("no policy in force allows this")]
    PolicyNotApproved(Box<Explanation>),
    /// People decide first.
    #[error("people decide this first")]
    PendingApproval {
        /// The grant that waits.
        grant: GrantId,
        /// The request they decide.
        approval: ApprovalId,
    },
    /// People said no.
    #[error("approval {approval} is {}", .state.as_str())]
    ApprovalEnded {
        /// The request.
        approval: ApprovalId,
        /// How it ended.
        state: ApprovalState,
    },
    /// The approval is decided already.
    #[error("the approval request is {} already", .0.as_str())]
    ApprovalClosed(ApprovalState),
    /// Nobody approves what they asked for themselves.
    #[error("you asked for this yourself")]
    SelfApproval,
    /// One vote a person.
    #[error("you have voted on this already")]
    AlreadyVoted,
    /// What was approved is not what is there now.
    #[error("the request changed while you were reading")]
    DigestMismatch {
        /// What was sent.
        given: Digest,
        /// What it is.
        current: Digest,
    },
    /// More or fewer things are meant than the caller confirmed.
    #[error("{expected} were confirmed, and {current} are meant now; nothing was ended")]
    CountChanged {
        /// What was confirmed.
        expected: i64,
        /// What it is.
        current: i64,
    },
    /// To be paid for.
    #[error("payment required")]
    PaymentRequired {
        /// The x402 requirements.
        required: Box<Required>,
        /// What and how much, in words.
        words: String,
        /// The grant that people approved and that this would pay for.
        grant: Option<GrantId>,
    },
    /// The payment is not good; nothing was charged.
    #[error("{reason}")]
    PaymentInvalid {
        /// Why.
        reason: String,
        /// The x402 requirements again.
        required: Box<Required>,
        /// The failure for the PAYMENT-RESPONSE header, when settlement was tried.
        response: Option<String>,
    },
    /// The authorization is bound to another request.
    #[error("this payment belongs to another request")]
    PaymentConflict,
    /// The same purchase is under way.
    #[error("this purchase is under way")]
    PurchaseUnderWay,
    /// The rail cannot be asked; nothing was charged.
    #[error("the payment cannot be checked now; nothing was charged")]
    PaymentUnavailable,
    /// Settlement was begun, its outcome is not known.
    #[error("it is not known yet whether the payment went through")]
    PaymentUnknown(GrantId),
    /// Paid, but what was paid for could not be made: the payer has credit.
    #[error("{amount} were paid, and are kept as credit: {why}")]
    PaymentCredited {
        /// How much.
        amount: Money,
        /// Why, in safe words.
        why: String,
        /// The settlement for the PAYMENT-RESPONSE header.
        response: Option<String>,
    },
    /// The same idempotency key came with another request.
    #[error("this idempotency key was used for another request")]
    IdempotencyMismatch,
    /// No root credential.
    #[error("no root credential for vendor `{0}`")]
    VendorNotConnected(String),
    /// The vendor failed.
    #[error("vendor `{vendor}`: {words}")]
    Vendor {
        /// The vendor.
        vendor: String,
        /// How, in safe words.
        words: String,
        /// Whether it may work later.
        retryable: bool,
        /// When to try again, if the vendor said so.
        retry_after: Option<Ttl>,
    },
    /// A key was not rotated; the one in use was not touched.
    #[error("{why}; the key in use was not touched")]
    RotationFailed {
        /// Why, in safe words.
        why: String,
        /// Whether it may work later.
        retryable: bool,
    },
    /// The grant's time is over, or it was ended.
    #[error("the grant is {}", .0.as_str())]
    GrantOver(GrantState),
    /// All resolves are used.
    #[error("the grant has no resolves left")]
    UsedUp,
    /// Too many at once or in a span.
    #[error("slow down")]
    RateLimited(Ttl),
    /// Too many leases of the policy live.
    #[error("too many leases are live under this policy")]
    TooManyLeases,
    /// All that a grant's keys may cost at their vendor is given out.
    #[error("what the grant's keys may cost at their vendor is given out")]
    CostGivenOut,
    /// More paid today than the policy allows.
    #[error("the limit of payments a day is reached")]
    PaidPerDay,
    /// Something with that name exists, or the state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A row that decides who gets a key was changed behind our back.
    #[error("a stored {0} is not authentic")]
    Forged(&'static str),
    /// The audit log was found damaged; nothing is released.
    #[error("the audit log does not verify")]
    LogBroken,
    /// The receipt does not verify.
    #[error("the receipt does not verify: {0}")]
    ReceiptInvalid(String),
    /// The machine's clock was set back: nothing would expire in time.
    #[error("the clock was set back by more than 30 s; nothing is released until it is right again")]
    ClockSetBack,
    /// The machine's clock was set far ahead: nobody knows what has expired.
    #[error(
        "the clock was set ahead by more than 5 min; nothing is released, and nothing expires by it, until it is right again"
    )]
    ClockSetAhead,
    /// Too much at once.
    #[error("busy")]
    Busy,
    /// The disk of the database is full; nothing was changed.
    #[error("the database's disk is full; nothing was changed")]
    DatabaseFull,
    /// The database.
    #[error(transparent)]
    Store(StoreError),
    /// The vault.
    #[error(transparent)]
    Vault(VaultError),
    /// A copy, a database that was rolled back or a restored one: nothing is done before people compared it.
    #[error("this database {}; nothing is released, made or ended before an operator has compared it with the vendors", .0.words())]
    Reconciling(Cause),
    /// What was signed before the restore may have been taken already.
    #[error("payments are taken again in {} s: those signed before this database was restored may have been taken", .0.as_millis().saturating_add(999) / 1000)]
    PaymentsClosed(Ttl),
    /// A backup that is not sound.
    #[error("{0}")]
    BackupInvalid(String),
    /// A backup that could not be made or read.
    #[error("{0}")]
    BackupFailed(String),
    /// Anything that should not happen; the text goes to the log only.
    #[error("internal error: {0}")]
    Internal(String),
    /// A grant or approval that ended while waiting.
    #[error("ended at {0}")]
    Ended(Timestamp),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy | StoreError::Conflict(_) => Self::Busy,
            StoreError::Full => Self::DatabaseFull,
            StoreError::ClockBehind => Self::ClockSetBack,
            // Somebody else was there first, between our look and our step.
            StoreError::Transition { what, from, .. } => Self::Conflict(format!("the {what} is `{from}` already")),
            StoreError::Duplicate => {
                Self::Conflict("something with this name, key or wallet exists already".to_owned())
            }
            StoreError::Nul => Self::invalid("", "text may not hold a NUL character"),
            other => Self::Store(other),
        }
    }
}

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Sealed => Self::Sealed,
            VaultError::AlreadyUnsealed => Self::AlreadyUnsealed,
            VaultError::WrongKey | VaultError::BadShare => Self::UnsealKeyWrong,
            unfit @ (VaultError::WrongKind(_) | VaultError::EmptyPassphrase) => Self::UnsealKeyUnfit(unfit.to_string()),
            VaultError::Busy => Self::Busy,
            nothing @ VaultError::NothingPending => Self::Conflict(nothing.to_string()),
            other => Self::Vault(other),
        }
    }
}

impl Error {
    /// A mistake in the request, at a JSON pointer.
    #[must_use]
    pub fn invalid(pointer: &str, message: impl std::fmt::Display) -> Self {
        Self::Invalid {
            pointer: pointer.to_owned(),
            message: message.to_string(),
        }
    }

    /// A vendor's failure, in its safe words.
    #[must_use]
    pub fn vendor(vendor: impl std::fmt::Display, failure: VendorFailure) -> Self {
        let for_good = matches!(
            failure.class,
            FailureClass::Auth | FailureClass::Permanent | FailureClass::Refused
        );
        Self::Vendor {
            vendor: vendor.to_string(),
            words: failure.words,
            retryable: !for_good,
            retry_after: failure.retry_after,
        }
    }

    /// What is wrong with a policy file, each with its place.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::PolicyInvalid(errors) => errors.findings(),
            Self::PolicyUnfit(findings) => findings,
            _ => &[],
        }
    }

    /// Something that should not happen.
    #[must_use]
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }
}
