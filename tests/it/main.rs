//! The one integration test binary: everything dekeys promises, seen from outside.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod config;
#[cfg(test)]
mod httpsig;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod token;
