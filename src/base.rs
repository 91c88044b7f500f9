//! What everything else stands on: secrets as types, ids, time, randomness, money, the bytes that are
//! hashed and signed, and the one outgoing HTTP client. Imports nothing else of dekeys.

pub mod canonical;
#[cfg(feature = "server")]
pub mod egress;
#[cfg(feature = "server")]
pub mod fail;
pub mod id;
pub mod money;
#[cfg(feature = "server")]
pub mod pattern;
pub mod random;
pub mod secret;
pub mod shares;
pub mod time;
#[cfg(feature = "server")]
pub mod trace;
