//! The background workers.
