//! Proofs about the tree: that a leaf is in it, and that a later tree begins with an earlier one (RFC 6962 §2.1.1 and
//! §2.1.2, checked as RFC 9162 §2.1.3.2 and §2.1.4.2 say). They are built from stored nodes: first ask which
//! ([`inclusion_nodes`], [`consistency_nodes`]), load those, then build.

use std::collections::HashMap;
use std::ops::Range;

use subtle::ConstantTimeEq;

use super::tree::{Hash, fold, node_hash, range_nodes};

/// A proof that cannot be built, or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("there is no leaf {leaf} in a tree of {size}")]
    Leaf {
        /// The leaf's number, from 0.
        leaf: i64,
        /// The tree's size.
        size: i64,
    },
    /// Nothing can be said about these sizes.
    #[error("a tree of {second} leaves cannot be checked against one of {first}")]
    Sizes {
        /// The earlier size; at least 1.
        first: i64,
        /// The later size; at least the earlier one.
        second: i64,
    },
    /// A stored node is missing.
    #[error("the node {index} at level {level} is missing")]
    Missing {
        /// The level, 0 for leaves.
        level: u8,
        /// The number within the level.
        index: i64,
    },
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Wrong,
}

/// The stored nodes that a proof of `leaf` (from 0) in a tree of `size` leaves needs; none when there is no such leaf.
#[must_use]
pub fn inclusion_nodes(leaf: i64, size: i64) -> Vec<(u8, i64)> {
    nodes_of(inclusion_path(leaf, size))
}

/// The proof that `leaf` is in the tree of `size` leaves: one hash a level, the leaf's neighbour first.
pub fn inclusion<S: std::hash::BuildHasher>(
    leaf: i64,
    size: i64,
    nodes: &HashMap<(u8, i64), Hash, S>,
) -> Result<Vec<Hash>, ProofError> {
    if !(0..size).contains(&leaf) {
        return Err(ProofError::Leaf { leaf, size });
    }
    hashes_of(inclusion_path(leaf, size), nodes)
}

/// Checks that `leaf_hash` is leaf `leaf` (from 0) of the tree with `size` leaves and `root`.
pub fn verify_inclusion(leaf_hash: &Hash, leaf: i64, size: i64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if !(0..size).contains(&leaf) {
        return Err(ProofError::Leaf { leaf, size });
    }
    let mut climb = Climb::new(leaf, size - 1);
    let mut hash = *leaf_hash;
    for other in proof {
        hash = match climb.step()? {
            Side::Left => node_hash(other, &hash),
            Side::Right => node_hash(&hash, other),
        };
    }
    holds(climb.is_at_root() && same(&hash, root))
}

/// The stored nodes that the proof between a tree of `first` and one of `second` leaves needs.
#[must_use]
pub fn consistency_nodes(first: i64, second: i64) -> Vec<(u8, i64)> {
    nodes_of(consistency_path(first, second))
}

/// The proof that the tree of `second` leaves begins with the tree of `first` leaves.
pub fn consistency<S: std::hash::BuildHasher>(
    first: i64,
    second: i64,
    nodes: &HashMap<(u8, i64), Hash, S>,
) -> Result<Vec<Hash>, ProofError> {
    check_sizes(first, second)?;
    hashes_of(consistency_path(first, second), nodes)
}

/// Checks that the tree of `second` leaves begins with the tree of `first` leaves. An empty first tree proves nothing
/// and is refused.
pub fn verify_consistency(
    first: i64,
    first_root: &Hash,
    second: i64,
    second_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_sizes(first, second)?;
    if first == second {
        return holds(proof.is_empty() && same(first_root, second_root));
    }
    // A first tree that is complete is a node of the second one, and its root is not repeated in the proof.
    let (start, rest) = match proof.split_first() {
        _ if first.count_ones() == 1 => (*first_root, proof),
        Some((start, rest)) => (*start, rest),
        None => return Err(ProofError::Wrong),
    };
    let level = first.trailing_zeros();
    let mut climb = Climb::new((first - 1) >> level, (second - 1) >> level);
    let (mut old, mut new) = (start, start);
    for other in rest {
        match climb.step()? {
            Side::Left => {
                old = node_hash(other, &old);
                new = node_hash(other, &new);
            }
            Side::Right => new = node_hash(&new, other),
        }
    }
    holds(climb.is_at_root() && same(&old, first_root) && same(&new, second_root))
}

/// Which side the next hash of a proof stands on.
enum Side {
    Left,
    Right,
}

/// The way from a node up to the root: the node's number in its level, and the number of that level's last node.
struct Climb {
    node: i64,
    last: i64,
}

impl Climb {
    const fn new(node: i64, last: i64) -> Self {
        Self { node, last }
    }

    /// One level up, or several where the right edge has no neighbour.
    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Wrong);
        }
        let side = if self.node % 2 == 1 || self.node == self.last {
            while self.node % 2 == 0 && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Ok(side)
    }

    const fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    const fn is_at_root(&self) -> bool {
        self.last == 0
    }
}

/// The leaves under each hash of an inclusion proof, in the proof's order: PATH of RFC 6962 §2.1.1.
fn inclusion_path(leaf: i64, size: i64) -> Vec<Range<i64>> {
    if !(0..size).contains(&leaf) {
        return Vec::new();
    }
    let (mut whole, mut path) = (0..size, Vec::new());
    while whole.end - whole.start > 1 {
        let middle = split(&whole);
        if leaf < middle {
            path.push(middle..whole.end);
            whole.end = middle;
        } else {
            path.push(whole.start..middle);
            whole.start = middle;
        }
    }
    path.reverse();
    path
}

/// The leaves under each hash of a consistency proof, in the proof's order: PROOF of RFC 6962 §2.1.2.
fn consistency_path(first: i64, second: i64) -> Vec<Range<i64>> {
    if check_sizes(first, second).is_err() {
        return Vec::new();
    }
    let (mut whole, mut path) = (0..second, Vec::new());
    while whole.end != first {
        let middle = split(&whole);
        if first <= middle {
            path.push(middle..whole.end);
            whole.end = middle;
        } else {
            path.push(whole.start..middle);
            whole.start = middle;
        }
    }
    // The reader knows the first tree's root, so a first tree that is complete is left out.
    if whole.start != 0 {
        path.push(whole);
    }
    path.reverse();
    path
}

/// Where RFC 6962 splits a range of two or more leaves: after the largest power of two smaller than its length.
const fn split(range: &Range<i64>) -> i64 {
    range.start + (1 << (range.end - range.start - 1).ilog2())
}

fn nodes_of(path: Vec<Range<i64>>) -> Vec<(u8, i64)> {
    path.into_iter()
        .flat_map(|range| range_nodes(range.start, range.end))
        .collect()
}

fn hashes_of<S: std::hash::BuildHasher>(
    path: Vec<Range<i64>>,
    nodes: &HashMap<(u8, i64), Hash, S>,
) -> Result<Vec<Hash>, ProofError> {
    path.into_iter()
        .map(|range| {
            let subtrees = range_nodes(range.start, range.end)
                .into_iter()
                .map(|(level, index)| {
                    let missing = ProofError::Missing { level, index };
                    nodes.get(&(level, index)).copied().ok_or(missing)
                })
                .collect::<Result<Vec<Hash>, ProofError>>()?;
            fold(&subtrees).ok_or(ProofError::Wrong)
        })
        .collect()
}

const fn check_sizes(first: i64, second: i64) -> Result<(), ProofError> {
    if first < 1 || second < first {
        return Err(ProofError::Sizes { first, second });
    }
    Ok(())
}

fn same(one: &Hash, other: &Hash) -> bool {
    one.ct_eq(other).into()
}

const fn holds(right: bool) -> Result<(), ProofError> {
    if right { Ok(()) } else { Err(ProofError::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Tree, leaf_hash};
    use super::*;
    use proptest::prelude::*;

    struct Grown {
        leaves: Vec<Hash>,
        roots: Vec<Hash>,
        nodes: HashMap<(u8, i64), Hash>,
    }

    fn grow(size: i64) -> Grown {
        let mut tree = Tree::new();
        let (mut leaves, mut roots, mut nodes) = (Vec::new(), vec![tree.root()], HashMap::new());
        for n in 0..size {
            let leaf = leaf_hash(&n.to_be_bytes());
            for (level, index, hash) in tree.append(leaf) {
                nodes.insert((level, index), hash);
            }
            leaves.push(leaf);
            roots.push(tree.root());
        }
        Grown { leaves, roots, nodes }
    }

    fn at(n: i64) -> usize {
        usize::try_from(n).unwrap()
    }

    #[test]
    fn every_leaf_of_every_size_is_proved_and_no_other_is() {
        let grown = grow(40);
        for size in 1..=40 {
            let root = grown.roots[at(size)];
            for leaf in 0..size {
                let proof = inclusion(leaf, size, &grown.nodes).unwrap();
                let hash = grown.leaves[at(leaf)];
                assert_eq!(verify_inclusion(&hash, leaf, size, &proof, &root), Ok(()));
                for other in (0..size).filter(|other| *other != leaf) {
                    assert!(
                        verify_inclusion(&hash, other, size, &proof, &root).is_err(),
                        "{leaf} {other} {size}"
                    );
                    let foreign = grown.leaves[at(other)];
                    assert!(verify_inclusion(&foreign, leaf, size, &proof, &root).is_err());
                }
            }
        }
    }

    #[test]
    fn every_pair_of_sizes_is_consistent() {
        let grown = grow(40);
        for second in 1..=40 {
            for first in 1..=second {
                let proof = consistency(first, second, &grown.nodes).unwrap();
                let (old, new) = (grown.roots[at(first)], grown.roots[at(second)]);
                assert_eq!(
                    verify_consistency(first, &old, second, &new, &proof),
                    Ok(()),
                    "{first} {second}"
                );
                if first != second {
                    assert!(verify_consistency(first, &new, second, &new, &proof).is_err());
                    assert!(verify_consistency(first, &old, second, &old, &proof).is_err());
                }
            }
        }
    }

    #[test]
    fn the_nodes_asked_for_are_all_that_is_needed() {
        let grown = grow(37);
        let only = |wanted: Vec<(u8, i64)>| -> HashMap<(u8, i64), Hash> {
            wanted.into_iter().map(|node| (node, grown.nodes[&node])).collect()
        };
        for leaf in 0..37 {
            assert!(inclusion(leaf, 37, &only(inclusion_nodes(leaf, 37))).is_ok());
        }
        for first in 1..=37 {
            assert!(consistency(first, 37, &only(consistency_nodes(first, 37))).is_ok());
        }
        let missing = inclusion(0, 2, &HashMap::<_, _>::new());
        assert_eq!(missing, Err(ProofError::Missing { level: 0, index: 1 }));
    }

    #[test]
    fn a_proof_longer_or_shorter_than_the_tree_is_high_is_refused_even_when_it_leads_to_the_root() {
        let (leaf, other) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let above = node_hash(&other, &leaf);
        assert_eq!(verify_inclusion(&leaf, 0, 1, &[other], &above), Err(ProofError::Wrong));
        assert_eq!(verify_inclusion(&above, 0, 2, &[], &above), Err(ProofError::Wrong));
        let right = node_hash(&leaf, &other);
        let higher = node_hash(&other, &right);
        let long = verify_consistency(1, &node_hash(&other, &leaf), 2, &higher, &[other, other]);
        assert_eq!(long, Err(ProofError::Wrong));
        assert_eq!(
            verify_consistency(1, &leaf, 4, &right, &[other]),
            Err(ProofError::Wrong)
        );
    }

    #[test]
    fn what_is_outside_the_tree_is_refused() {
        let none = HashMap::<(u8, i64), Hash>::new();
        for (leaf, size) in [(0, 0), (1, 1), (-1, 1), (0, -1)] {
            assert_eq!(inclusion(leaf, size, &none), Err(ProofError::Leaf { leaf, size }));
            assert!(inclusion_nodes(leaf, size).is_empty());
        }
        for (first, second) in [(0, 1), (2, 1), (-1, 1), (0, 0)] {
            assert_eq!(
                consistency(first, second, &none),
                Err(ProofError::Sizes { first, second })
            );
            assert!(consistency_nodes(first, second).is_empty());
        }
    }

    proptest! {
        #[test]
        fn one_changed_bit_anywhere_in_a_proof_fails(
            size in 2i64..300, leaf in any::<proptest::sample::Index>(),
            node in any::<proptest::sample::Index>(), bit in 0usize..256,
        ) {
            let grown = grow(size);
            let leaf = i64::try_from(leaf.index(at(size))).unwrap();
            let mut proof = inclusion(leaf, size, &grown.nodes).unwrap();
            let (hash, root) = (grown.leaves[at(leaf)], grown.roots[at(size)]);
            prop_assert_eq!(verify_inclusion(&hash, leaf, size, &proof, &root), Ok(()));
            let place = node.index(proof.len());
            proof[place][bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(verify_inclusion(&hash, leaf, size, &proof, &root), Err(ProofError::Wrong));
        }

        #[test]
        fn one_changed_bit_between_two_trees_fails(
            second in 2i64..300, first in any::<proptest::sample::Index>(),
            node in any::<proptest::sample::Index>(), bit in 0usize..256,
        ) {
            let grown = grow(second);
            let first = i64::try_from(first.index(at(second - 1))).unwrap() + 1;
            let mut proof = consistency(first, second, &grown.nodes).unwrap();
            let (old, new) = (grown.roots[at(first)], grown.roots[at(second)]);
            prop_assert_eq!(verify_consistency(first, &old, second, &new, &proof), Ok(()));
            let place = node.index(proof.len());
            proof[place][bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(verify_consistency(first, &old, second, &new, &proof), Err(ProofError::Wrong));
        }
    }
}
