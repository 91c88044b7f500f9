//! Checkpoints: the tree's size and root, signed by the log as a C2SP signed note (c2sp.org/signed-note,
//! c2sp.org/tlog-checkpoint), so that witnesses and monitors of other logs read them too. The only place where the
//! log's private key is used.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::tree::Hash;
use crate::base::random::{self, Random};
use crate::base::secret::SecretBytes;
use crate::model::principal::PublicKey;

/// The signature type of Ed25519 in signed notes.
const ED25519: u8 = 0x01;
/// The longest note that is read. A checkpoint of ours has about 200 bytes; witnesses add a line each.
const MAX_NOTE: usize = 64 * 1024;

/// A key, note or checkpoint that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a name for a log.
    #[error("`{0}` is not a log name: it may not be empty or hold spaces, line ends or `+`")]
    Name(String),
    /// The private key has another length.
    #[error("the log key has {0} bytes, not 32")]
    Seed(usize),
    /// Not a verifier key.
    #[error("`{0}` is not a log key of the form `name+id+base64`")]
    Verifier(String),
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Note(&'static str),
    /// The note carries no signature by the wanted key.
    #[error("not signed by `{0}`")]
    Unsigned(String),
    /// A signature by the wanted key does not fit the text.
    #[error("the signature by `{0}` is wrong")]
    Signature(String),
    /// A signed note, but not a checkpoint.
    #[error("not a checkpoint: {0}")]
    Checkpoint(&'static str),
}

/// The log's private key and its name.
pub struct LogKey {
    key: SigningKey,
    public: LogPublic,
}

impl LogKey {
    /// A fresh private key: the 32 bytes to be sealed, and given to [`LogKey::new`] later.
    #[must_use]
    pub fn generate(random: &dyn Random) -> SecretBytes {
        SecretBytes::new(random::bytes::<32>(random).to_vec())
    }

    /// The key with the private `seed` (32 bytes), for the log called `name`: the instance's id.
    pub fn new(name: &str, seed: &SecretBytes) -> Result<Self, CheckpointError> {
        let wrong = |_| CheckpointError::Seed(seed.len());
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(seed.expose()).map_err(wrong)?);
        let key = SigningKey::from_bytes(&bytes);
        let public = LogPublic::new(name, PublicKey::from_bytes(key.verifying_key().to_bytes()))?;
        Ok(Self { key, public })
    }

    /// What others check this key's signatures with.
    #[must_use]
    pub const fn public(&self) -> &LogPublic {
        &self.public
    }

    /// Signs `message` (RFC 8032). Notes are text without control characters and everything else that is signed begins
    /// with the zero bytes of [`crate::base::canonical::Canonical`], so that neither can be taken for the other.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

/// The log's public key and name; printed as a C2SP verifier key, `name+id+base64`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LogPublic {
    name: String,
    key: PublicKey,
}

impl LogPublic {
    /// The key of the log called `name`.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, CheckpointError> {
        if !is_name(name) {
            return Err(CheckpointError::Name(cut(name)));
        }
        let name = name.to_owned();
        Ok(Self { name, key })
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// The first four bytes of the hash of name, type and key: what a signature line begins with. No fingerprint:
    /// anybody can make a key with the same id.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        let mut id = [0; 4];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        id
    }

    /// Whether `signature` is this key's over `message`. Strict: weak keys and malleable signatures are refused.
    #[must_use]
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = VerifyingKey::from_bytes(self.key.as_bytes())
            .and_then(|key| key.verify_strict(message, &Signature::from_slice(signature)?));
        checked.is_ok()
    }
}

impl fmt::Display for LogPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = vec![ED25519];
        material.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{}+{}",
            self.name,
            HEXLOWER.encode(&self.id()),
            BASE64.encode(&material)
        )
    }
}

impl fmt::Debug for LogPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LogPublic {
    type Err = CheckpointError;
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let invalid = || CheckpointError::Verifier(cut(text));
        // Base64 may hold a plus, names and hexadecimal digits may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(material)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(invalid());
        };
        let material = BASE64.decode(material.as_bytes()).map_err(|_| invalid())?;
        let Some((&ED25519, key)) = material.split_first() else {
            return Err(invalid());
        };
        let key = <[u8; 32]>::try_from(key).map_err(|_| invalid())?;
        let public = Self::new(name, PublicKey::from_bytes(key))?;
        if HEXLOWER.encode(&public.id()) == id {
            Ok(public)
        } else {
            Err(invalid())
        }
    }
}

impl Serialize for LogPublic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogPublic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for LogPublic {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LogPublic".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$" })
    }
}

/// A checkpoint whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log it speaks of.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: i64,
    /// Its root.
    pub root: Hash,
}

/// A signed checkpoint of the tree with `size` leaves and `root`. The caller never signs two that contradict each
/// other. `origin` is the key's name as a rule.
pub fn checkpoint(key: &LogKey, origin: &str, size: i64, root: &Hash) -> Result<String, CheckpointError> {
    if origin.is_empty() || origin.chars().any(char::is_control) {
        return Err(CheckpointError::Name(cut(origin)));
    }
    if size < 0 {
        return Err(CheckpointError::Checkpoint("the size is negative"));
    }
    let text = format!("{origin}\n{size}\n{}\n", BASE64.encode(root));
    let mut signature = key.public.id().to_vec();
    signature.extend_from_slice(&key.sign(text.as_bytes()));
    Ok(format!(
        "{text}\n— {} {}\n",
        key.public.name(),
        BASE64.encode(&signature)
    ))
}

/// Checks a checkpoint's signature and reads it. Signatures by other keys are ignored, lines of extension are allowed.
pub fn open_checkpoint(unverified_note: &str, public: &LogPublic) -> Result<Checkpoint, CheckpointError> {
    let refused = CheckpointError::Checkpoint;
    let text = open_note(unverified_note, public)?;
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
    let [origin, size, root, extensions @ ..] = lines.as_slice() else {
        return Err(refused("it has fewer than three lines"));
    };
    if origin.is_empty() || extensions.iter().any(|line| line.is_empty()) {
        return Err(refused("a line is empty"));
    }
    let number: i64 = size.parse().map_err(|_| refused("the size is not a number"))?;
    if number < 0 || number.to_string() != *size {
        return Err(refused("the size is not written plainly"));
    }
    let root = BASE64
        .decode(root.as_bytes())
        .ok()
        .and_then(|root| root.try_into().ok());
    Ok(Checkpoint {
        origin: (*origin).to_owned(),
        size: number,
        root: root.ok_or_else(|| refused("the root is not 32 bytes of base64"))?,
    })
}

/// Checks a signed note and answers its text with the last line end. One good signature by `public` is needed and
/// none by it may be wrong.
pub fn open_note<'a>(unverified_note: &'a str, public: &LogPublic) -> Result<&'a str, CheckpointError> {
    let refused = CheckpointError::Note;
    if unverified_note.len() > MAX_NOTE {
        return Err(refused("it is longer than 64 KiB"));
    }
    if unverified_note
        .chars()
        .any(|character| character < ' ' && character != '\n')
    {
        return Err(refused("it holds control characters"));
    }
    let end = unverified_note
        .rfind("\n\n")
        .ok_or_else(|| refused("it has no empty line"))?;
    let (text, signatures) = unverified_note
        .split_at_checked(end + 1)
        .ok_or_else(|| refused("it is cut"))?;
    let signatures = signatures.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
    let mut signed = false;
    for line in signatures
        .ok_or_else(|| refused("its last line does not end"))?
        .split('\n')
    {
        let (name, signature) = signature_line(line).ok_or_else(|| refused("a signature line is malformed"))?;
        let Some((id, signature)) = signature.split_first_chunk::<4>() else {
            return Err(refused("a signature is too short"));
        };
        if name != public.name() || *id != public.id() {
            continue;
        }
        if !public.verify(text.as_bytes(), signature) {
            return Err(CheckpointError::Signature(public.name().to_owned()));
        }
        signed = true;
    }
    if signed {
        Ok(text)
    } else {
        Err(CheckpointError::Unsigned(public.name().to_owned()))
    }
}

fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
    let signature = BASE64.decode(signature.as_bytes()).ok()?;
    is_name(name).then_some((name, signature))
}

fn is_name(name: &str) -> bool {
    let forbidden = |character: char| character.is_whitespace() || character.is_control() || character == '+';
    !name.is_empty() && name.len() <= 255 && !name.chars().any(forbidden)
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    fn key(seed: u64, name: &str) -> LogKey {
        LogKey::new(name, &LogKey::generate(&SeededRandom::new(seed))).unwrap()
    }

    #[test]
    fn a_checkpoint_opens_with_its_key_and_says_what_was_signed() {
        let key = key(1, "ins_x");
        let note = checkpoint(&key, "ins_x", 42, &[7; 32]).unwrap();
        let opened = open_checkpoint(&note, key.public()).unwrap();
        assert_eq!(
            (opened.origin.as_str(), opened.size, opened.root),
            ("ins_x", 42, [7; 32])
        );
    }

    #[test]
    fn another_key_or_name_does_not_open_it() {
        let signer = key(1, "ins_x");
        let note = checkpoint(&signer, "ins_x", 42, &[7; 32]).unwrap();
        for other in [key(2, "ins_x"), key(1, "ins_y")] {
            let name = other.public().name().to_owned();
            assert_eq!(
                open_checkpoint(&note, other.public()),
                Err(CheckpointError::Unsigned(name))
            );
        }
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = key(1, "ins_x");
        let note = checkpoint(&key, "ins_x", 42, &[7; 32]).unwrap();
        for place in 0..note.len() {
            for mask in [1u8, 2, 4, 8, 16, 32, 64] {
                let mut bytes = note.clone().into_bytes();
                bytes[place] ^= mask;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(open_checkpoint(&changed, key.public()).is_err(), "{place}: {changed}");
                }
            }
        }
    }

    #[test]
    fn a_witness_line_is_ignored_but_a_wrong_one_by_the_log_is_not() {
        let (log, witness) = (key(1, "ins_x"), key(2, "witness"));
        let note = checkpoint(&log, "ins_x", 1, &[7; 32]).unwrap();
        let foreign = checkpoint(&witness, "ins_x", 1, &[7; 32]).unwrap();
        let line = foreign.split_once("\n\n").unwrap().1;
        assert!(open_checkpoint(&format!("{note}{line}"), log.public()).is_ok());
        let other = checkpoint(&log, "ins_x", 2, &[7; 32]).unwrap();
        let wrong = other.split_once("\n\n").unwrap().1;
        assert_eq!(
            open_checkpoint(&format!("{note}{wrong}"), log.public()),
            Err(CheckpointError::Signature("ins_x".to_owned()))
        );
    }

    #[test]
    fn signed_notes_that_are_no_checkpoints_are_refused() {
        let key = key(1, "ins_x");
        let root = BASE64.encode(&[7; 32]);
        for text in [
            "ins_x\n42\n".to_owned(),
            format!("ins_x\n042\n{root}\n"),
            format!("ins_x\n+42\n{root}\n"),
            format!("ins_x\n-42\n{root}\n"),
            format!("ins_x\n99999999999999999999\n{root}\n"),
            "ins_x\n42\nAAAA\n".to_owned(),
            format!("\n42\n{root}\n"),
            format!("ins_x\n42\n{root}\n\nmore\n"),
        ] {
            let mut signature = key.public().id().to_vec();
            signature.extend_from_slice(&key.sign(text.as_bytes()));
            let note = format!("{text}\n— ins_x {}\n", BASE64.encode(&signature));
            let refused = open_checkpoint(&note, key.public());
            assert!(
                matches!(refused, Err(CheckpointError::Checkpoint(_))),
                "{text}: {refused:?}"
            );
        }
        assert!(checkpoint(&key, "two\nlines", 1, &[7; 32]).is_err());
        assert!(checkpoint(&key, "ins_x", -1, &[7; 32]).is_err());
    }

    #[test]
    fn public_keys_print_and_parse_and_a_wrong_id_is_refused() {
        let public = key(1, "ins_x").public().clone();
        assert_eq!(public.to_string().parse(), Ok(public.clone()));
        let (name, id) = ("ins_x+", HEXLOWER.encode(&public.id()));
        for wrong in [
            public.to_string().replace(&format!("{name}{id}"), "ins_x+00000000"),
            public.to_string().replace("ins_x", "ins_y"),
            "ins_x".to_owned(),
            String::new(),
        ] {
            assert!(wrong.parse::<LogPublic>().is_err(), "{wrong}");
        }
        assert!(LogPublic::new("a b", public.key()).is_err() && LogPublic::new("", public.key()).is_err());
        assert!(LogKey::new("ins_x", &SecretBytes::new(vec![1; 31])).is_err());
    }
}
