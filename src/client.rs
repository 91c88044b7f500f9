//! The client: keys, signed requests, tokens narrowed and checked offline, receipts checked offline. Everything but
//! [`send`] and what it needs compiles without the feature `server`, for agents and prims that bring their own HTTP.
//!
//! A prim that uses its own HTTP library makes a [`Request`], calls [`prepare`], and sends the headers it gets.

pub mod address;
pub mod approval;
#[cfg(feature = "server")]
pub mod events;
pub mod forward;
pub mod inject;
pub mod keys;
#[cfg(feature = "server")]
pub mod mask;
pub mod receipt;
pub mod refused;
pub mod request;
pub mod secret;
#[cfg(feature = "server")]
pub mod send;
pub mod token;

pub use crate::httpsig::{KeyFile, KeyFileError, SigError};
pub use address::{Address, InvalidAddress};
pub use keys::{InvalidKeys, Keys};
pub use refused::Refused;
pub use request::{Prepared, Request, prepare};
#[cfg(feature = "server")]
pub use send::{Client, ClientError, Reply};
