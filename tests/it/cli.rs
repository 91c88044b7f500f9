//! The command line as people and scripts see it, against small servers that answer what dekeys would.

mod curl;
mod decisions;
mod doctor;
mod errors;
mod machine;
mod mistakes;
mod operator;
mod output;
mod process;
mod requests;
mod secrets;
mod stage;
mod story;
mod tokens;
mod transcript;
mod tree;
