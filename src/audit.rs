//! The audit log as mathematics: a Merkle tree over event bodies (RFC 6962, SHA-256), checkpoints signed by the log
//! (C2SP signed notes), proofs that an event is in the tree and that the tree only grew, and receipts that a third
//! party checks offline with the log's public key alone.
//!
//! Knows no database: which leaf has which number, and where nodes and checkpoints are kept, is the store's matter.
//!
//! Not protected: a log that shows different trees to different readers. Comparing checkpoints kept in a second place
//! shows that; a receipt alone does not.

pub mod checkpoint;
pub mod proof;
pub mod receipt;
pub mod statement;
pub mod succession;
pub mod tree;

pub use checkpoint::{Checkpoint, CheckpointError, LogKey, LogPublic, checkpoint, open_checkpoint, open_note};
pub use proof::{
    ProofError, consistency, consistency_nodes, inclusion, inclusion_nodes, verify_consistency, verify_inclusion,
};
pub use receipt::{Facts, Receipt, ReceiptError, Standing, Verdict, complete, promise, verify, verify_by_terms};
pub use statement::{StatementError, open_statement, state, state_as, thumbprint};
pub use succession::{LogTerm, cross_sign, endorse, leads};
pub use tree::{Hash, Tree, TreeError, edge_nodes, leaf_hash, node_hash};
