//! Provisioning policies: a TOML file parsed with exact positions, decided by rules in a fixed order, explained
//! in words, and compared with its predecessor. Pure: nothing here reads a disk, a clock or a database, so what
//! was approved is what decides (DESIGN 11, 12). `policies/README.md` holds the format, field by field.
//!
//! Not decided here: limits that need a count (`limits`, uses, leases); the store's writer keeps those.

mod amend;
mod decide;
mod diff;
mod document;
mod explain;
mod finding;
mod fit;
mod parse;

pub use amend::amend;
pub use decide::{Ask, Chosen, Decision, Denial, RULES, Terms, choose, decide, decide_unpaid};
pub use diff::{Change, Diff, Effect, diff};
pub use explain::{Answer, Explanation, Step, explain};
pub use finding::{Finding, PolicyErrors};
pub use fit::{VendorFacts, check, validate};
pub use parse::parse;
