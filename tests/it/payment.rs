//! Payments seen from outside: signed by another hand, mutated, and made by the official clients.
#![cfg(test)]
#![cfg(feature = "server")]

mod allowance;
mod clients;
mod discovery;
mod facilitator;
mod ledger;
mod prices;
mod sign_in;
mod unspent;
mod vectors;
mod wallet;
