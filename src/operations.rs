//! The operation table: what the HTTP interface offers.
