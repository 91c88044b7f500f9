//! Exit codes: what scripts switch on. Those of a server's problems are in the table of [`crate::problem`].

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
