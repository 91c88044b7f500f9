//! `dekeys run` and `dekeys inject`, from the real binary: real processes, real signals, and the demo vendor's own list
//! of the keys that live.

mod agent;
mod end;
mod inject;
mod prim;
mod proxy;
mod scene;
mod signer;
