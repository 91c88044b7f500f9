//! dekeys: an open-source secret broker. An encrypted vault holds vendors' root credentials; from them dekeys
//! makes short-lived, scoped vendor keys and revokes them when the need ends. Agents carry biscuit tokens only;
//! prims swap a token for the key at request time; every release is on durable record before the key leaves.
//!
//! Where things are: [`base`] and [`model`] hold types without I/O; the engines `vault`, `token`, `policy`,
//! `vendor`, `payment`, `audit`, `httpsig` know those and nothing of each other; `store` keeps; `service` has one
//! file a verb and joins them; `http`, `worker` and `cli` are the surfaces; `setup` puts the parts together.
//! ARCHITECTURE.md has the map, the invariants and three walk-throughs; `tests/it/architecture.rs` keeps them.

pub mod audit;
pub mod base;
#[cfg(feature = "server")]
pub mod cli;
pub mod client;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod http;
pub mod httpsig;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod mock;
pub mod model;
#[cfg(feature = "server")]
pub mod operations;
#[cfg(feature = "server")]
pub mod payment;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod problem;
#[cfg(feature = "server")]
pub mod proxy;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod setup;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
pub mod token;
#[cfg(feature = "server")]
pub mod vault;
#[cfg(feature = "server")]
pub mod vendor;
#[cfg(feature = "server")]
pub mod worker;
