//! What was promised, tried over real HTTP against a whole instance in this process.

mod database;
mod revoked;
mod uses;
