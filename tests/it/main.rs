//! The one integration test binary: everything dekeys promises, seen from outside.

#[cfg(test)]
mod store;
