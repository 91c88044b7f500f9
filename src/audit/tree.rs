//! The Merkle tree of RFC 6962 §2.1, kept as its right edge: a few hashes are enough to append and to know the root.
//!
//! A *stored node* is the root of a complete subtree: `(level, index)` covers the `2^level` leaves from
//! `index * 2^level` on; level 0 are the leaf hashes. Once written a stored node never changes.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of a leaf or node.
pub type Hash = [u8; 32];

/// A tree that cannot be continued from what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The size and the number of hashes do not belong together.
    #[error("a tree of {size} leaves has {wanted} hashes on its edge, not {given}")]
    Edge {
        /// The size that was given.
        size: i64,
        /// How many hashes such a tree has.
        wanted: usize,
        /// How many were given.
        given: usize,
    },
    /// The size is negative.
    #[error("`{0}` is not the size of a tree")]
    Size(i64),
}

/// The hash of a leaf: `SHA-256(0x00 ‖ body)`.
#[must_use]
pub fn leaf_hash(body: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(body).finalize().into()
}

/// The hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([0x01])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// A tree that grows at its right end: the number of leaves, and the roots of the complete subtrees that make it up,
/// largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: i64,
    edge: Vec<Hash>,
}

impl Tree {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues a stored tree: its size, and the hashes of [`edge_nodes`] in that order.
    pub fn from_parts(size: i64, edge: Vec<Hash>) -> Result<Self, TreeError> {
        if size < 0 {
            return Err(TreeError::Size(size));
        }
        let wanted = edge_nodes(size).len();
        if wanted != edge.len() {
            return Err(TreeError::Edge {
                size,
                wanted,
                given: edge.len(),
            });
        }
        Ok(Self { size, edge })
    }

    /// How many leaves it has; the next leaf's number.
    #[must_use]
    pub const fn size(&self) -> i64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first: what [`Tree::from_parts`] takes.
    #[must_use]
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Adds a leaf by its [`leaf_hash`]. Answers the nodes that became complete, to be stored: `(level, index, hash)`,
    /// the leaf itself first.
    pub fn append(&mut self, leaf: Hash) -> Vec<(u8, i64, Hash)> {
        let (mut level, mut index, mut hash) = (0u8, self.size, leaf);
        let mut complete = vec![(level, index, hash)];
        while index % 2 == 1 {
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            index /= 2;
            complete.push((level, index, hash));
        }
        self.edge.push(hash);
        self.size += 1;
        complete
    }

    /// The root: what a checkpoint signs. Of the empty tree it is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.edge).unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The stored nodes on the right edge of a tree of `size` leaves, largest first.
#[must_use]
pub fn edge_nodes(size: i64) -> Vec<(u8, i64)> {
    range_nodes(0, size)
}

/// The stored nodes that cover the leaves from `begin` up to `end`, left to right. `begin` must be a multiple of the
/// largest power of two that is no more than the range's length, as it is for every range a proof needs.
pub(super) fn range_nodes(begin: i64, end: i64) -> Vec<(u8, i64)> {
    let (mut at, mut nodes) = (begin, Vec::new());
    while at < end {
        let level = (end - at).ilog2();
        nodes.push((u8::try_from(level).unwrap_or(u8::MAX), at >> level));
        at += 1 << level;
    }
    nodes
}

/// The hash of neighbouring subtrees of falling size: joined from the right, as RFC 6962 splits from the left.
pub(super) fn fold(subtrees: &[Hash]) -> Option<Hash> {
    subtrees
        .iter()
        .rev()
        .copied()
        .reduce(|right, left| node_hash(&left, &right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6962 §2.1 word for word.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                node_hash(&naive_root(left), &naive_root(right))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_size_has_the_root_of_the_definition() {
        let (all, mut tree) = (leaves(130), Tree::new());
        assert_eq!(tree.root(), naive_root(&[]));
        for (n, leaf) in all.iter().enumerate() {
            tree.append(*leaf);
            assert_eq!(tree.root(), naive_root(&all[..=n]), "{n}");
        }
    }

    #[test]
    fn stored_nodes_hash_the_leaves_they_cover_and_are_written_once() {
        let (all, mut tree) = (leaves(70), Tree::new());
        let mut seen = std::collections::HashSet::new();
        for leaf in &all {
            for (level, index, hash) in tree.append(*leaf) {
                assert!(seen.insert((level, index)), "written twice: {level} {index}");
                let begin = usize::try_from(index << level).unwrap();
                assert_eq!(hash, naive_root(&all[begin..begin + (1 << level)]));
            }
            for node in edge_nodes(tree.size()) {
                assert!(seen.contains(&node), "{node:?} is on the edge but was never stored");
            }
        }
    }

    #[test]
    fn sizes_and_edges_that_do_not_belong_together_are_refused() {
        assert_eq!(Tree::from_parts(-1, Vec::new()), Err(TreeError::Size(-1)));
        let refused = Tree::from_parts(5, leaves(3));
        assert_eq!(
            refused,
            Err(TreeError::Edge {
                size: 5,
                wanted: 2,
                given: 3
            })
        );
    }

    proptest! {
        #[test]
        fn a_tree_put_down_and_taken_up_again_goes_on_the_same(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..200),
            cut in any::<proptest::sample::Index>(),
        ) {
            let hashes: Vec<Hash> = bodies.iter().map(|body| leaf_hash(body)).collect();
            let mut tree = Tree::new();
            for (n, hash) in hashes.iter().enumerate() {
                if n == cut.index(hashes.len()) {
                    tree = Tree::from_parts(tree.size(), tree.edge().to_vec()).unwrap();
                }
                tree.append(*hash);
            }
            prop_assert_eq!(tree.root(), naive_root(&hashes));
        }
    }
}
