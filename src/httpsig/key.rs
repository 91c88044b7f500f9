//! The sender's private key as a file, and the two signature algorithms. The only place of this module where a
//! secret's bytes are read.

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::SigError;
use crate::base::id::base64url;
use crate::base::random::{self, Random};
use crate::base::secret::{SecretBytes, SecretText};
use crate::model::principal::PublicKey;

/// What a key file begins with, before the base64url seed.
const PREFIX: &str = "dekeys-key-1 ed25519 ";

/// A file that is not a private key. Says nothing of what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Neither form.
    #[error("this is no key file: it holds neither a line `dekeys-key-1 ed25519 …` nor a PKCS#8 private key")]
    Unknown,
    /// Our form, but the seed is not 32 bytes of base64url.
    #[error("the key file is damaged: its key is not 43 characters of base64url")]
    Damaged,
    /// PKCS#8, but not a plain Ed25519 key.
    #[error("the PKCS#8 file holds no unencrypted Ed25519 key")]
    Pkcs8,
}

/// An Ed25519 private key: an operator's, an approver's, an agent's or a prim's.
///
/// The file is text. Lines that begin with `#` are comments and empty lines mean nothing; one line is the key:
/// `dekeys-key-1 ed25519 ` and the 32-byte seed in base64url without padding (43 characters). The first comment is
/// kept as the key's name. A PKCS#8 PEM file (RFC 8410), as `openssl genpkey -algorithm ed25519` writes it, is read too.
///
/// Not protected: the file itself. It is not encrypted; its mode must be 0600.
pub struct KeyFile {
    key: SigningKey,
    name: Option<String>,
}

impl KeyFile {
    /// A fresh key.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let seed = Zeroizing::new(random::bytes::<32>(random));
        Self {
            key: SigningKey::from_bytes(&seed),
            name: None,
        }
    }

    /// The same key with a name for people, written as a comment. Line ends become spaces.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let name = name.replace(char::is_control, " ").trim().to_owned();
        Self {
            name: (!name.is_empty()).then_some(name),
            ..self
        }
    }

    /// The key with this seed, of 32 bytes.
    ///
    /// # Errors
    /// [`KeyFileError::Damaged`] for another length.
    pub fn from_seed(seed: &SecretBytes) -> Result<Self, KeyFileError> {
        let seed: &[u8; 32] = seed.expose().try_into().map_err(|_| KeyFileError::Damaged)?;
        Ok(Self {
            key: SigningKey::from_bytes(seed),
            name: None,
        })
    }

    /// Reads a key file in either form.
    pub fn parse(text: &SecretText) -> Result<Self, KeyFileError> {
        let text = text.expose();
        if text.trim_start().starts_with("-----BEGIN") {
            let key = SigningKey::from_pkcs8_pem(text.trim()).map_err(|_| KeyFileError::Pkcs8)?;
            return Ok(Self { key, name: None });
        }
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut keys = lines().filter(|line| !line.starts_with('#'));
        let (Some(line), None) = (keys.next(), keys.next()) else {
            return Err(KeyFileError::Unknown);
        };
        let seed = seed(line.strip_prefix(PREFIX).ok_or(KeyFileError::Unknown)?)?;
        let key = Self {
            key: SigningKey::from_bytes(&seed),
            name: None,
        };
        let comment = lines().find_map(|line| line.strip_prefix('#'));
        Ok(key.named(comment.unwrap_or_default()))
    }

    /// The file's text, with a line end.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        let seed = Zeroizing::new(base64url(self.key.as_bytes()));
        let comment = self.name.as_deref().map(|name| format!("# {name}\n"));
        SecretText::new([comment.as_deref().unwrap_or_default(), PREFIX, &seed, "\n"].concat())
    }

    /// The name in the file's comment.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// Signs `message` as it is (RFC 8032). What is signed must say what it is for: use
    /// [`crate::base::canonical::Canonical`].
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

fn seed(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    if BASE64URL_NOPAD.decode_len(text.len()) != Ok(seed.len()) {
        return Err(KeyFileError::Damaged);
    }
    let read = BASE64URL_NOPAD.decode_mut(text.as_bytes(), seed.as_mut_slice());
    read.map(|_| seed).map_err(|_| KeyFileError::Damaged)
}

/// Whether `signature` is `key`'s over `message`. Strict: weak keys and malleable signatures are refused.
#[must_use]
pub fn verify_raw(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    VerifyingKey::from_bytes(key.as_bytes())
        .and_then(|key| key.verify_strict(message, &Signature::from_slice(signature)?))
        .is_ok()
}

/// A shared secret as Standard Webhooks writes it: `whsec_` and base64.
#[must_use]
pub fn webhook_secret(secret: &SecretBytes) -> SecretText {
    let text = Zeroizing::new(data_encoding::BASE64.encode(secret.expose()));
    SecretText::new(["whsec_", text.as_str()].concat())
}

/// HMAC-SHA256 under a session's key.
pub(super) fn authenticate(key: &SecretBytes, message: &[u8]) -> Result<[u8; 32], SigError> {
    Ok(session_mac(key)?.chain_update(message).finalize().into_bytes().into())
}

/// Whether `code` is the session key's over `message`, in constant time.
pub(super) fn verify_code(key: &SecretBytes, message: &[u8], code: &[u8]) -> Result<bool, SigError> {
    Ok(session_mac(key)?.chain_update(message).verify_slice(code).is_ok())
}

/// HMAC-SHA256 under a shared secret of a webhook, of at least 24 bytes as Standard Webhooks asks for.
pub(super) fn authenticate_webhook(secret: &SecretBytes, message: &[u8]) -> Result<[u8; 32], SigError> {
    if secret.len() < 24 {
        return Err(SigError::SessionKey);
    }
    let mac: Hmac<Sha256> = Hmac::new_from_slice(secret.expose()).map_err(|_| SigError::SessionKey)?;
    Ok(mac.chain_update(message).finalize().into_bytes().into())
}

fn session_mac(key: &SecretBytes) -> Result<Hmac<Sha256>, SigError> {
    if key.len() < 32 {
        return Err(SigError::SessionKey);
    }
    Hmac::new_from_slice(key.expose()).map_err(|_| SigError::SessionKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    fn parse(text: &str) -> Result<KeyFile, KeyFileError> {
        KeyFile::parse(&SecretText::new(text.to_owned()))
    }

    #[test]
    fn a_key_written_and_read_is_the_same_key_with_its_name() {
        let key = KeyFile::generate(&SeededRandom::new(1)).named("ada\n# of ops");
        let again = KeyFile::parse(&key.to_text()).unwrap();
        assert_eq!((again.public(), again.name()), (key.public(), Some("ada # of ops")));
        assert!(
            key.to_text()
                .expose()
                .starts_with("# ada # of ops\ndekeys-key-1 ed25519 ")
        );
        let bare = KeyFile::generate(&SeededRandom::new(2));
        assert_eq!(KeyFile::parse(&bare.to_text()).unwrap().name(), None);
    }

    #[test]
    fn comments_and_line_ends_of_any_kind_are_no_matter() {
        let key = KeyFile::generate(&SeededRandom::new(1));
        let line = key.to_text().expose().trim().to_owned();
        let text = format!("\r\n# ada\r\n\r\n  {line}  \r\n# second\r\n");
        let read = parse(&text).unwrap();
        assert_eq!((read.public(), read.name()), (key.public(), Some("ada")));
    }

    #[test]
    fn other_files_are_refused() {
        let line = KeyFile::generate(&SeededRandom::new(1))
            .to_text()
            .expose()
            .trim()
            .to_owned();
        for unknown in [
            String::new(),
            "# only".into(),
            format!("{line}\n{line}"),
            line.replace("key-1", "key-2"),
        ] {
            assert_eq!(parse(&unknown).err(), Some(KeyFileError::Unknown), "{unknown}");
        }
        for damaged in [
            format!("{line}A"),
            line.replacen("ed25519 ", "ed25519 =", 1),
            format!("{PREFIX}AAAA"),
        ] {
            assert_eq!(parse(&damaged).err(), Some(KeyFileError::Damaged), "{damaged}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
        assert_eq!(parse(encrypted).err(), Some(KeyFileError::Pkcs8));
    }

    #[test]
    fn signatures_are_checked_against_key_message_and_length() {
        let (key, other) = (
            KeyFile::generate(&SeededRandom::new(1)),
            KeyFile::generate(&SeededRandom::new(2)),
        );
        let signature = key.sign(b"message");
        assert!(verify_raw(&key.public(), b"message", &signature));
        assert!(!verify_raw(&other.public(), b"message", &signature));
        assert!(!verify_raw(&key.public(), b"massage", &signature));
        assert!(!verify_raw(&key.public(), b"message", &signature[..63]));
    }

    #[test]
    fn a_weak_key_whose_signature_fits_everything_is_refused() {
        // The neutral element as key and as R, with S = 0: R = S·B − k·A holds for every message.
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1;
        assert!(!verify_raw(&PublicKey::from_bytes(neutral), b"anything", &signature));
    }

    #[test]
    fn a_short_session_key_is_refused() {
        let short = SecretBytes::new(vec![1; 31]);
        assert_eq!(authenticate(&short, b"x"), Err(SigError::SessionKey));
        assert_eq!(verify_code(&short, b"x", &[0; 32]), Err(SigError::SessionKey));
    }
}
