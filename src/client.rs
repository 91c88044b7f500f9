//! The client: keys, signed requests, tokens narrowed and checked offline, receipts checked offline.
//!
//! A **prim** connects once, and resolves:
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example(token: &dekeys::base::secret::SecretText) -> Result<(), dekeys::client::PrimError> {
//! let prim = dekeys::client::Prim::connect("http://127.0.0.1:8402", "prim-echo.key").await?;
//! let key = prim.resolve("dk://demo/echo:read", token).await?;
//! let (name, value) = key.header().ok_or(dekeys::client::PrimError::Answer)?;
//! # Ok(())
//! # }
//! ```
//!
//! An **agent** keeps its grant's token fresh and hands out narrower ones: [`Agent`]. A service that only checks tokens
//! uses [`Verifier`], which needs no network for a check and follows the revocation feed.
//!
//! Features: `client` brings HTTP ([`Client`], [`Prim`], [`Agent`], [`Followed`]). Without any feature all else is
//! there, for those who bring their own HTTP: make a [`Request`], call [`prepare`], send the headers it gives; feed a
//! [`Verifier`] with the pages of `GET /v1/revocations` as they come.

pub mod address;
#[cfg(feature = "client")]
pub mod agent;
pub mod approval;
#[cfg(feature = "client")]
mod cache;
#[cfg(feature = "client")]
pub mod events;
pub mod feed;
#[cfg(feature = "client")]
pub mod follow;
pub mod forward;
pub mod inject;
pub mod keys;
#[cfg(feature = "server")]
pub mod mask;
#[cfg(feature = "client")]
pub mod prim;
pub mod receipt;
pub mod refused;
pub mod request;
#[cfg(feature = "client")]
pub mod resolved;
pub mod secret;
#[cfg(feature = "client")]
pub mod send;
pub mod session;
pub mod token;
pub mod verifier;

pub use crate::httpsig::{KeyFile, KeyFileError, SigError};
pub use address::{Address, InvalidAddress};
#[cfg(feature = "client")]
pub use agent::{Agent, AgentError};
#[cfg(feature = "client")]
pub use follow::Followed;
pub use keys::{InvalidKeys, Keys};
#[cfg(feature = "client")]
pub use prim::{Prim, PrimError};
pub use refused::Refused;
pub use request::{Prepared, Request, prepare};
#[cfg(feature = "client")]
pub use resolved::Resolved;
#[cfg(feature = "client")]
pub use send::{Client, ClientError, Reply};
pub use session::Session;
pub use verifier::{Verifier, VerifyError};
