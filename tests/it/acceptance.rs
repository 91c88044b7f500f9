//! What was promised, tried over real HTTP against a whole instance in this process.

mod database;
mod payments;
mod refusals;
mod revoked;
mod uses;
