//! Models: provisioning, rotation and payment as small machines whose every behaviour is searched, with crashes, lost,
//! doubled and late answers at every step, and two servers. They follow the services of the same names, and take the
//! allowed changes of state from the product itself; they are not its code, which the crash suite kills for real.
//!
//! Each promise is also shown to break: a model with one mistake built in must lead to a counterexample.
//! The deep search: `cargo test --release --no-default-features --test model -- --ignored --nocapture`.

#[cfg(test)]
mod provisioning;
#[cfg(test)]
mod purchase;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod search;
