//! The domain, without I/O: what exists in dekeys, the states it can be in, and what may follow what.
//! Imports `base` only.

pub mod approval;
pub mod budget;
pub mod claims;
pub mod control;
pub mod credential;
pub mod credit;
pub mod event;
pub mod grant;
pub mod incarnation;
pub mod instance;
pub mod lease;
pub mod ledger;
pub mod offer;
pub mod orphan;
pub mod payment;
pub mod policy;
pub mod price;
pub mod principal;
pub mod revocation;
pub mod root;
pub mod rotation;
pub mod scope;
pub mod sealed;
pub mod webhook;
