//! Receipts: one event of the log, in a form its owner can keep and anybody can check offline with the log's public
//! key. At once it is a *promise*: the log's signature that the event is on record. Once the event is in a signed
//! tree it also holds the *proof*.
//!
//! A receipt has exactly one spelling (JSON without spaces, members in this order, no line end), and every byte of it
//! is under a signature or a hash: a receipt changed anywhere is refused.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::checkpoint::{CheckpointError, LogKey, LogPublic, open_checkpoint};
use super::proof::{ProofError, verify_inclusion};
use super::succession::{LogTerm, signed_by_one};
use super::tree::{Hash, leaf_hash};
use crate::base::canonical::{Canonical, Digest};
use crate::base::id::{EventId, ReceiptId, base64url};
use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::model::event::Event;
use crate::model::grant::GrantItem;

/// How long after another key took over the one before may still have signed.
const LAG: Ttl = Ttl::from_mins(1);

/// The longest receipt that is read.
const MAX_RECEIPT: usize = 256 * 1024;

/// An event and the log's word that it is on record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The id: that of the event, with its own prefix.
    pub id: ReceiptId,
    /// The log's public key, as a C2SP verifier key.
    pub log: LogPublic,
    /// The event, byte for byte as it stands in the log.
    #[cfg_attr(feature = "server", schemars(with = "serde_json::Value"))]
    pub event: Box<RawValue>,
    /// The log's signature over id, log and event: Ed25519, base64url.
    pub promise: String,
    /// Where the event is in the tree, once it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inclusion: Option<Inclusion>,
}

/// The place of an event in a signed tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The leaf's number, from 0.
    pub leaf: i64,
    /// The neighbours' hashes from the leaf up, base64.
    pub proof: Vec<String>,
    /// The signed tree head: a C2SP checkpoint.
    pub checkpoint: String,
}

/// What a receipt's event says about a purchase. The event of a grant carries these members in its data; whatever
/// else stands there is kept and signed too, but not read here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Facts {
    /// Who paid, CAIP-10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// What was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<Money>,
    /// The settlement's transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// What was granted, and by which policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<GrantItem>,
}

/// What a good receipt proves.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The receipt.
    pub id: ReceiptId,
    /// The log that signed it.
    pub log: LogPublic,
    /// The event it is about.
    #[cfg_attr(feature = "server", schemars(with = "serde_json::Value"))]
    pub event: Event,
    /// What the event says about a purchase; empty for other events.
    pub facts: Facts,
    /// How far the proof goes.
    pub standing: Standing,
}

/// How far a receipt's proof goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// The log signed that the event is on record; its place in the tree is still to come.
    Promised,
    /// The event is in a tree that the log signed.
    Included {
        /// The leaf's number, from 0.
        leaf: i64,
        /// How many leaves the signed tree has.
        size: i64,
        /// The signed tree's root, hexadecimal.
        root: String,
    },
}

/// A receipt that cannot be made, or is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The event cannot be written as JSON.
    #[error("the event cannot be written as JSON")]
    Event,
    /// Not a receipt.
    #[error("this is not a receipt: {0}")]
    Malformed(&'static str),
    /// Right in content, but not byte for byte what was given out.
    #[error("the receipt was written anew: it must be kept exactly as it was given out")]
    Rewritten,
    /// Signed by a key of the log that did not sign at that time.
    #[error("the key that signed the receipt did not sign at the time of its event")]
    OutOfTerm,
    /// Signed by another log.
    #[error("the receipt is of the log `{0}`, not of the one that was asked for")]
    OtherLog(String),
    /// The promise does not fit.
    #[error("the log's signature does not fit the receipt")]
    Promise,
    /// The signed tree head is refused.
    #[error("the signed tree in the receipt is refused: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The event is not where the receipt says it is.
    #[error("the receipt's event is not in the signed tree: {0}")]
    Proof(#[from] ProofError),
}

/// The receipt for an event that was just committed. Signing one before the commit would be a lie.
pub fn promise(key: &LogKey, event: &Event) -> Result<Receipt, ReceiptError> {
    let body = event.body().map_err(|_| ReceiptError::Event)?;
    let id = receipt_id(event.id).ok_or(ReceiptError::Event)?;
    let signature = key.sign(&promised(id, key.public(), &body));
    Ok(Receipt {
        id,
        log: key.public().clone(),
        event: RawValue::from_string(body).map_err(|_| ReceiptError::Event)?,
        promise: base64url(&signature),
        inclusion: None,
    })
}

/// The same receipt with the proof that its event is leaf `leaf` (from 0) of the tree that `checkpoint` signs. Checks
/// nothing: [`verify`] does, with the public key.
#[must_use]
pub fn complete(receipt: Receipt, leaf: i64, proof: &[Hash], checkpoint: &str) -> Receipt {
    let inclusion = Inclusion {
        leaf,
        proof: proof.iter().map(|hash| BASE64.encode(hash)).collect(),
        checkpoint: signed_by_one(checkpoint, &receipt.log),
    };
    Receipt {
        inclusion: Some(inclusion),
        ..receipt
    }
}

impl Receipt {
    /// The one spelling of the receipt.
    pub fn to_json(&self) -> Result<String, ReceiptError> {
        serde_json::to_string(self).map_err(|_| ReceiptError::Event)
    }
}

/// Checks a receipt, exactly as it was given out, against the public key of the log it must come from. That key must
/// be known from elsewhere: the one inside the receipt proves nothing.
pub fn verify(receipt_json: &str, public: &LogPublic) -> Result<Verdict, ReceiptError> {
    if receipt_json.len() > MAX_RECEIPT {
        return Err(ReceiptError::Malformed("it is longer than 256 KiB"));
    }
    let receipt: Receipt =
        serde_json::from_str(receipt_json).map_err(|_| ReceiptError::Malformed("its members are not a receipt's"))?;
    if receipt.to_json()? != receipt_json {
        return Err(ReceiptError::Rewritten);
    }
    if receipt.log != *public {
        return Err(ReceiptError::OtherLog(receipt.log.name().to_owned()));
    }
    let event = check_promise(&receipt, public)?;
    let standing = match &receipt.inclusion {
        None => Standing::Promised,
        Some(inclusion) => check_inclusion(inclusion, receipt.event.get(), public)?,
    };
    // Events that are no purchase have other data, and that is no fault.
    let facts = Facts::deserialize(&event.data).unwrap_or_default();
    Ok(Verdict {
        id: receipt.id,
        log: receipt.log,
        event,
        facts,
        standing,
    })
}

/// Checks a receipt against all keys that a log ever had: the one that signed it must have been signing at the time of
/// the receipt's event, or shortly before another took over.
///
/// # Errors
/// As [`verify`]; [`ReceiptError::OtherLog`] for a key that is not among them, [`ReceiptError::OutOfTerm`].
pub fn verify_by_terms(receipt_json: &str, terms: &[LogTerm]) -> Result<Verdict, ReceiptError> {
    let malformed = |_| ReceiptError::Malformed("its members are not a receipt's");
    let receipt: Receipt = serde_json::from_str(receipt_json).map_err(malformed)?;
    let term = terms.iter().find(|term| term.public_key == receipt.log);
    let term = term.ok_or_else(|| ReceiptError::OtherLog(receipt.log.name().to_owned()))?;
    let verdict = verify(receipt_json, &term.public_key)?;
    let at = verdict.event.timestamp;
    // A printed time has whole seconds, and an instance that lags behind signs with the old key for a little.
    let begun = at.plus(LAG) >= term.from;
    if begun && term.until.is_none_or(|until| at <= until.plus(LAG)) {
        Ok(verdict)
    } else {
        Err(ReceiptError::OutOfTerm)
    }
}

fn check_promise(receipt: &Receipt, public: &LogPublic) -> Result<Event, ReceiptError> {
    let body = receipt.event.get();
    let signature = BASE64URL_NOPAD
        .decode(receipt.promise.as_bytes())
        .map_err(|_| ReceiptError::Promise)?;
    if !public.verify(&promised(receipt.id, public, body), &signature) {
        return Err(ReceiptError::Promise);
    }
    let event: Event = serde_json::from_str(body).map_err(|_| ReceiptError::Malformed("it holds no event"))?;
    if receipt_id(event.id) == Some(receipt.id) {
        Ok(event)
    } else {
        Err(ReceiptError::Malformed("its id is not its event's"))
    }
}

fn check_inclusion(inclusion: &Inclusion, body: &str, public: &LogPublic) -> Result<Standing, ReceiptError> {
    let tree = open_checkpoint(&inclusion.checkpoint, public)?;
    // Lines by others are not under any hash here, so a receipt holds the log's own line alone.
    if inclusion.checkpoint.matches("\n— ").count() != 1 || tree.origin != public.name() {
        return Err(ReceiptError::Malformed("its checkpoint is not the log's own"));
    }
    let proof = inclusion
        .proof
        .iter()
        .map(|hash| BASE64.decode(hash.as_bytes()).ok()?.try_into().ok())
        .collect::<Option<Vec<Hash>>>()
        .ok_or(ReceiptError::Malformed("its proof is not a list of hashes"))?;
    verify_inclusion(
        &leaf_hash(body.as_bytes()),
        inclusion.leaf,
        tree.size,
        &proof,
        &tree.root,
    )?;
    Ok(Standing::Included {
        leaf: inclusion.leaf,
        size: tree.size,
        root: HEXLOWER.encode(&tree.root),
    })
}

/// What a promise signs.
fn promised(id: ReceiptId, log: &LogPublic, body: &str) -> Vec<u8> {
    Canonical::new("dekeys.promise.v1")
        .text(&id.to_string())
        .text(&log.to_string())
        .text(&Digest::of(body.as_bytes()).to_string())
        .finish()
}

/// An event's receipt has the event's id under another prefix, so that one leads to the other.
fn receipt_id(event: EventId) -> Option<ReceiptId> {
    format!("{}_{}", ReceiptId::PREFIX, event.suffix()).parse().ok()
}

/// For people: one fact a line, its name before it.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Receipt {}", self.id)?;
        for (name, fact) in self.words() {
            writeln!(f, "  {name:<11} {fact}")?;
        }
        Ok(())
    }
}

impl Verdict {
    /// The verdict as pairs of a short name and a fact, in the order they are shown.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let mode = if self.event.livemode { "live" } else { "test" };
        let mut words = vec![(
            "event",
            format!("{} {} at {}", self.event.kind, self.event.id, self.event.timestamp),
        )];
        words.extend(self.facts.payer.iter().map(|payer| ("payer", payer.clone())));
        words.extend(self.facts.paid.map(|paid| ("paid", format!("{paid} ({mode})"))));
        words.extend(self.facts.transaction.iter().map(|hash| ("transaction", hash.clone())));
        words.extend(self.facts.items.iter().map(|item| ("for", bought(item))));
        words.push(("place", self.standing.to_string()));
        words.push(("signed", format!("{} by {}", self.log.key(), self.log.name())));
        words
    }
}

fn bought(item: &GrantItem) -> String {
    let scopes: Vec<&str> = item.scopes.iter().map(AsRef::as_ref).collect();
    let (scopes, version) = (scopes.join(", "), item.policy_version);
    format!(
        "{}/{scopes}, policy {} v{version} ({})",
        item.vendor, item.policy, item.policy_digest
    )
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promised => f.write_str("promised; the proof follows with the next checkpoint"),
            Self::Included { leaf, size, root } => write!(f, "leaf {} of {size}, root sha256:{root}", leaf + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::checkpoint::checkpoint;
    use super::super::proof::inclusion;
    use super::super::tree::Tree;
    use super::*;
    use crate::base::random::SeededRandom;
    use crate::base::time::Timestamp;

    const NAME: &str = "ins_test";

    fn key(seed: u64) -> LogKey {
        LogKey::new(NAME, &LogKey::generate(&SeededRandom::new(seed))).unwrap()
    }

    fn event(seed: u64) -> Event {
        let at = Timestamp::from_secs(1_763_670_667);
        Event {
            id: EventId::new(at, &SeededRandom::new(seed)),
            kind: "grant.created".to_owned(),
            timestamp: at,
            livemode: false,
            actor: "eip155:84532:0xabc".to_owned(),
            object: "grt_x".to_owned(),
            data: serde_json::json!({
                "payer": "eip155:84532:0xabc",
                "paid": "0.01 USDC",
                "transaction": "0x74657374",
                "items": [{
                    "vendor": "demo", "scopes": ["echo:read"], "policy": "demo-readers", "policy_version": 1,
                    "policy_digest": Digest::of(b"policy"),
                }],
                "note": "ünï \"quoted\" \n",
            }),
            request_id: None,
        }
    }

    /// The receipt of the third of five events.
    fn included(key: &LogKey) -> Receipt {
        let (mut tree, mut nodes) = (Tree::new(), HashMap::new());
        for n in 0..5 {
            for (level, index, hash) in tree.append(leaf_hash(event(n).body().unwrap().as_bytes())) {
                nodes.insert((level, index), hash);
            }
        }
        let note = checkpoint(key, NAME, tree.size(), &tree.root()).unwrap();
        complete(
            promise(key, &event(2)).unwrap(),
            2,
            &inclusion(2, 5, &nodes).unwrap(),
            &note,
        )
    }

    #[test]
    fn a_promise_and_a_proof_are_told_apart() {
        let key = key(1);
        let promised = promise(&key, &event(2)).unwrap().to_json().unwrap();
        assert_eq!(verify(&promised, key.public()).unwrap().standing, Standing::Promised);
        let verdict = verify(&included(&key).to_json().unwrap(), key.public()).unwrap();
        assert!(matches!(verdict.standing, Standing::Included { leaf: 2, size: 5, .. }));
        assert_eq!(verdict.event, event(2));
    }

    #[test]
    fn the_words_name_payer_amount_transaction_purpose_place_and_key() {
        let key = key(1);
        let verdict = verify(&included(&key).to_json().unwrap(), key.public()).unwrap();
        let shown = verdict.to_string();
        for words in [
            "payer       eip155:84532:0xabc",
            "paid        0.01 USDC (test)",
            "transaction 0x74657374",
            "for         demo/echo:read, policy demo-readers v1 (b3:",
            "place       leaf 3 of 5, root sha256:",
            "signed      ed25519:",
        ] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
    }

    #[test]
    fn every_changed_byte_of_a_receipt_is_refused() {
        let key = key(1);
        for receipt in [promise(&key, &event(2)).unwrap(), included(&key)] {
            let json = receipt.to_json().unwrap();
            for place in 0..json.len() {
                for mask in [0x01u8, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
                    let mut bytes = json.clone().into_bytes();
                    bytes[place] ^= mask;
                    let Ok(changed) = String::from_utf8(bytes) else {
                        continue;
                    };
                    assert!(verify(&changed, key.public()).is_err(), "byte {place} of {changed}");
                }
            }
        }
    }

    #[test]
    fn every_added_or_removed_byte_is_refused() {
        let key = key(1);
        let json = included(&key).to_json().unwrap();
        for place in (0..=json.len()).filter(|place| json.is_char_boundary(*place)) {
            for added in [" ", "\n", "0", "A", "=", ","] {
                let mut longer = json.clone();
                longer.insert_str(place, added);
                assert!(verify(&longer, key.public()).is_err(), "{added:?} at {place}");
            }
            let mut shorter = json.clone();
            if place < json.len() {
                shorter.remove(place);
                assert!(verify(&shorter, key.public()).is_err(), "without {place}");
            }
        }
    }

    #[test]
    fn another_log_and_its_key_are_refused() {
        let json = included(&key(1)).to_json().unwrap();
        let refused = verify(&json, key(2).public());
        assert_eq!(refused, Err(ReceiptError::OtherLog(NAME.to_owned())));
    }

    #[test]
    fn parts_of_two_good_receipts_do_not_make_a_third() {
        let key = key(1);
        let (one, other) = (included(&key), promise(&key, &event(3)).unwrap());
        let mixed = Receipt {
            event: other.event.clone(),
            ..one.clone()
        };
        assert_eq!(
            verify(&mixed.to_json().unwrap(), key.public()),
            Err(ReceiptError::Promise)
        );
        let moved = Receipt {
            inclusion: one.inclusion,
            ..other
        };
        let refused = verify(&moved.to_json().unwrap(), key.public());
        assert_eq!(refused, Err(ReceiptError::Proof(ProofError::Wrong)));
    }

    #[test]
    fn a_witness_line_in_a_receipt_is_refused_since_nothing_binds_it() {
        let key = key(1);
        let mut receipt = included(&key);
        let witness = LogKey::new("witness", &LogKey::generate(&SeededRandom::new(9))).unwrap();
        let line = checkpoint(&witness, NAME, 5, &[0; 32]).unwrap();
        let inclusion = receipt.inclusion.as_mut().unwrap();
        inclusion.checkpoint.push_str(line.split_once("\n\n").unwrap().1);
        assert!(verify(&receipt.to_json().unwrap(), key.public()).is_err());
    }
}
