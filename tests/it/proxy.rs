//! The injecting proxy, seen from both ends: from callers, and from a vendor that keeps every byte it gets.

mod bounds;
mod corpus;
mod flow;
pub(crate) mod raw;
mod redact;
mod rights;
mod scene;
mod shared;
mod traces;
