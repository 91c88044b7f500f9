//! One log key after another: the old key says which one follows it, so that whoever knows the old one needs to believe
//! nobody to take the new one; and a checkpoint between the two is signed by both.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};

use super::checkpoint::{CheckpointError, LogKey, LogPublic, open_note};
use crate::base::canonical::Canonical;
use crate::base::id::base64url;
use crate::base::time::Timestamp;

/// A key of a log and when it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct LogTerm {
    /// The key, as C2SP writes verifier keys.
    pub public_key: LogPublic,
    /// Since when it signs.
    pub from: Timestamp,
    /// When another one took over; absent while it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The signature of the key before, which names this one as its successor; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsed: Option<String>,
}

/// The signature by which `old` names its successor from `at` on: Ed25519, base64url.
#[must_use]
pub fn endorse(old: &LogKey, new: &LogPublic, at: Timestamp) -> String {
    base64url(&old.sign(&succession(old.public(), new, at)))
}

/// Whether `terms` lead from `known` to `wanted`, each key named by the one before it.
#[must_use]
pub fn leads(terms: &[LogTerm], known: &LogPublic, wanted: &LogPublic) -> bool {
    let mut at = known;
    for _ in 0..terms.len() {
        if at == wanted {
            return true;
        }
        let next = terms.iter().find(|term| names(at, term));
        let Some(next) = next else { return false };
        at = &next.public_key;
    }
    at == wanted
}

fn names(old: &LogPublic, term: &LogTerm) -> bool {
    let signature = term
        .endorsed
        .as_ref()
        .and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
    signature.is_some_and(|signature| {
        old.name() == term.public_key.name() && old.verify(&succession(old, &term.public_key, term.from), &signature)
    })
}

/// Seconds, because that is what a printed time keeps.
fn succession(old: &LogPublic, new: &LogPublic, at: Timestamp) -> Vec<u8> {
    Canonical::new("dekeys.log-succession.v1")
        .text(&old.to_string())
        .text(&new.to_string())
        .int(at.as_secs())
        .finish()
}

/// A note of ours with the signature of another key of ours added: who knows either key can check it.
///
/// # Errors
/// [`CheckpointError::Note`] for what is no signed note.
pub fn cross_sign(note: &str, key: &LogKey) -> Result<String, CheckpointError> {
    let end = note
        .rfind("\n\n")
        .ok_or(CheckpointError::Note("it has no empty line"))?;
    let (text, _) = note
        .split_at_checked(end + 1)
        .ok_or(CheckpointError::Note("it is cut"))?;
    let mut signature = key.public().id().to_vec();
    signature.extend_from_slice(&key.sign(text.as_bytes()));
    Ok(format!(
        "{note}— {} {}\n",
        key.public().name(),
        BASE64.encode(&signature)
    ))
}

/// The note with the signature of `public` alone: what binds no other line is not handed on with a receipt.
#[must_use]
pub(super) fn signed_by_one(note: &str, public: &LogPublic) -> String {
    let Some((text, lines)) = note.rfind("\n\n").and_then(|end| note.split_at_checked(end + 2)) else {
        return note.to_owned();
    };
    let own = |line: &&str| {
        let alone = format!("{text}{line}\n");
        open_note(&alone, public).is_ok()
    };
    match lines.lines().find(own) {
        Some(line) => format!("{text}{line}\n"),
        None => note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::{checkpoint, open_checkpoint};
    use super::*;
    use crate::base::random::SeededRandom;

    const AT: Timestamp = Timestamp::from_millis(1_763_668_267_456);

    fn key(seed: u64) -> LogKey {
        LogKey::new("ins_x", &LogKey::generate(&SeededRandom::new(seed))).unwrap()
    }

    fn term(key: &LogKey, endorsed: Option<String>) -> LogTerm {
        LogTerm {
            public_key: key.public().clone(),
            from: AT,
            until: None,
            endorsed,
        }
    }

    #[test]
    fn a_chain_of_endorsements_leads_from_one_key_to_another_and_a_gap_does_not() {
        let (one, two, three) = (key(1), key(2), key(3));
        let terms = [
            term(&one, None),
            term(&two, Some(endorse(&one, two.public(), AT))),
            term(&three, Some(endorse(&two, three.public(), AT))),
        ];
        assert!(leads(&terms, one.public(), three.public()) && leads(&terms, two.public(), three.public()));
        assert!(leads(&terms, one.public(), one.public()) && !leads(&terms, three.public(), one.public()));
        assert!(!leads(&terms[..2], one.public(), three.public()));
        // A key that nobody named, and a name for another time.
        let stranger = key(9);
        let forged = [term(&stranger, Some(endorse(&stranger, stranger.public(), AT)))];
        assert!(!leads(&forged, one.public(), stranger.public()));
        let mut late = terms[1].clone();
        late.from = AT.plus(crate::base::time::Ttl::from_secs(9));
        assert!(!leads(&[late], one.public(), two.public()));
    }

    /// The same vector stands in the tests of the client libraries.
    #[test]
    fn the_signature_is_over_the_bytes_that_the_client_libraries_check() {
        let key = |byte| LogKey::new("ins_x", &crate::base::secret::SecretBytes::new(vec![byte; 32])).unwrap();
        let (old, new) = (key(1), key(2));
        let at = Timestamp::from_secs(1_763_668_267);
        assert_eq!(
            old.public().to_string(),
            "ins_x+42a265dc+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
        );
        assert_eq!(
            new.public().to_string(),
            "ins_x+8557f863+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU"
        );
        let signature = "FUnDBt6U0W6gnTTk0Algfu4ppNvXLMNwjxC8_0U-fA3apodh5lca5SACbty203xRP4RwR57tJ3Q-DXU5msa5Cw";
        assert_eq!(endorse(&old, new.public(), at), signature);
    }

    #[test]
    fn a_cross_signed_checkpoint_opens_with_either_key_and_each_line_stands_alone() {
        let (old, new) = (key(1), key(2));
        let note = cross_sign(&checkpoint(&new, "ins_x", 7, &[3; 32]).unwrap(), &old).unwrap();
        for public in [old.public(), new.public()] {
            assert_eq!(open_checkpoint(&note, public).unwrap().size, 7);
            let alone = signed_by_one(&note, public);
            assert_eq!(alone.matches("\n— ").count(), 1);
            assert_eq!(open_checkpoint(&alone, public).unwrap().size, 7);
        }
        assert!(open_checkpoint(&note, key(3).public()).is_err());
    }
}
