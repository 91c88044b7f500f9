//! The tree's proofs and the signed notes against public vectors.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use dekeys::audit::{self, Hash, LogPublic};
use serde::Deserialize;

fn vectors() -> Option<PathBuf> {
    super::skip::folder("DEKEYS_VECTORS", "the public vectors of the audit log")
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A hash of the vectors. A few have another length where any equal bytes will do; those become a hash of their own.
fn hash(text: &str) -> Option<Hash> {
    let bytes = BASE64.decode(text.as_bytes()).unwrap();
    match bytes.as_slice() {
        [] => None,
        bytes => Some(Hash::try_from(bytes).unwrap_or_else(|_| audit::leaf_hash(bytes))),
    }
}

fn proof(texts: Option<Vec<String>>) -> Option<Vec<Hash>> {
    let decode = |text: &String| BASE64.decode(text.as_bytes()).unwrap().try_into().ok();
    texts.unwrap_or_default().iter().map(decode).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionCase {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

impl InclusionCase {
    fn holds(self) -> bool {
        let (Ok(leaf), Ok(size)) = (i64::try_from(self.leaf_idx), i64::try_from(self.tree_size)) else {
            return false;
        };
        let (Some(leaf_hash), Some(root), Some(proof)) = (hash(&self.leaf_hash), hash(&self.root), proof(self.proof))
        else {
            return false;
        };
        audit::verify_inclusion(&leaf_hash, leaf, size, &proof, &root).is_ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsistencyCase {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

impl ConsistencyCase {
    fn holds(self) -> bool {
        let (Ok(first), Ok(second)) = (i64::try_from(self.size1), i64::try_from(self.size2)) else {
            return false;
        };
        let (Some(old), Some(new), Some(proof)) = (hash(&self.root1), hash(&self.root2), proof(self.proof)) else {
            return false;
        };
        audit::verify_consistency(first, &old, second, &new, &proof).is_ok()
    }
}

#[test]
fn all_public_inclusion_cases_agree() {
    let Some(folder) = vectors() else { return };
    let cases = files(&folder.join("merkle/inclusion"));
    assert_eq!(cases.len(), 98, "the set of vectors changed");
    let mut good = 0;
    for path in cases {
        let case: InclusionCase = read(&path);
        let wanted = !case.want_err;
        good += usize::from(wanted);
        assert_eq!(case.holds(), wanted, "{}", path.display());
    }
    assert_eq!(good, 6);
}

#[test]
fn all_public_consistency_cases_agree() {
    let Some(folder) = vectors() else { return };
    let cases = files(&folder.join("merkle/consistency"));
    assert_eq!(cases.len(), 98, "the set of vectors changed");
    let mut good = 0;
    for path in cases {
        let case: ConsistencyCase = read(&path);
        let wanted = !case.want_err;
        good += usize::from(wanted);
        assert_eq!(case.holds(), wanted, "{}", path.display());
    }
    assert_eq!(good, 6);
}

#[test]
fn the_signed_note_of_the_specification_opens() {
    let Some(folder) = vectors() else { return };
    let page = std::fs::read_to_string(folder.join("tlog/signed-note.md")).unwrap();
    let note = page
        .split("```\n")
        .find(|block| block.starts_with("This is an example message.\n"))
        .expect("the example note");
    let line = page
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("example.com/foo+"))
        .expect("the example key");
    let public: LogPublic = line.parse().unwrap();
    assert_eq!(public.to_string(), line);
    assert_eq!(audit::open_note(note, &public), Ok("This is an example message.\n"));
    for changed in [
        note.replacen("example", "Example", 1),
        note.replacen("message.\n", "message. \n", 1),
        note.replacen("Uw2QOk", "Uw2QOl", 1),
        note.replacen("\n\n", "\n\n\n", 1),
    ] {
        assert!(audit::open_note(&changed, &public).is_err(), "{changed}");
    }
    assert!(
        audit::open_checkpoint(note, &public).is_err(),
        "a note, but no checkpoint"
    );
}
