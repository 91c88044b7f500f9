//! The command line as people and scripts see it, against small servers that answer what dekeys would.

mod decisions;
mod errors;
mod output;
mod process;
mod requests;
mod secrets;
mod stage;
mod story;
mod tokens;
mod tree;
