//! The one integration test binary: everything dekeys promises, seen from outside.

mod egress;
mod vendor;
