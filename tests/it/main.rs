//! The one integration test binary: everything dekeys promises, seen from outside.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod vault;
