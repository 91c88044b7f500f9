//! Crashes: the real server as a process of its own, killed at random and at chosen moments, stopped in the middle of
//! requests, started on what it cannot use. The vendor and the money's ledger are outside of it and keep the truth.
//!
//! `DEKEYS_CRASH_ROUNDS` is the number of random kills (6 unless set), `DEKEYS_CRASH_SEED` repeats their moments.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod check;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod load;
#[cfg(test)]
mod moments;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod random;
#[cfg(test)]
mod record;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod server;
#[cfg(test)]
mod start;
#[cfg(test)]
mod stop;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod walks;
