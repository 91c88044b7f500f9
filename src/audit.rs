//! The audit log: Merkle tree, checkpoints, proofs, receipts.
