//! The one integration test binary: everything dekeys promises, seen from outside.

#[cfg(test)]
mod acceptance;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod classes;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod client;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod config;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod httpsig;
#[cfg(test)]
mod incarnation;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod many;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod notices;
#[cfg(test)]
mod numbering;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod payment;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod review;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod run;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod skip;
#[cfg(test)]
mod store;
#[cfg(test)]
mod stuck;
#[cfg(test)]
mod support;
#[cfg(test)]
mod token;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod vendor;
#[cfg(test)]
mod ways;
