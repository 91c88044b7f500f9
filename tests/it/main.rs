//! The one integration test binary: everything dekeys promises, seen from outside.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod config;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod httpsig;
#[cfg(test)]
mod payment;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod review;
#[cfg(test)]
mod store;
#[cfg(test)]
mod token;
#[cfg(test)]
mod vault;
#[cfg(test)]
mod vendor;
