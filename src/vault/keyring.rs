//! The keyring: what is stored of the vault's keys, and how it opens. The unseal key wraps the root key, the root
//! key wraps the key-encryption keys (KEKs), a KEK wraps one data key per sealed value.
//!
//! Nothing in the stored form is secret, and nothing of it is believed: each wrapped key is bound to the
//! instance, its kind and its version, and a commitment to the unseal key is compared before any unwrapping,
//! because AES-GCM alone lets one ciphertext open under two crafted keys.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::VaultError;
use super::primitive::{self, Aead, Key, WRAPPED};
use super::unseal::{Unseal, UnsealKey};
use crate::base::canonical::Canonical;
use crate::base::id::InstanceId;
use crate::base::random::Random;
use crate::base::time::Timestamp;
use crate::model::instance::Mode;

/// The vault's keys as stored. Holds no secret; JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyring {
    format: Format,
    instance: InstanceId,
    unseal: Unseal,
    commitment: Blob<32>,
    root: Blob<WRAPPED>,
    keks: Vec<WrappedKek>,
}

/// One version of the key-encryption key, wrapped by the root key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrappedKek {
    version: u32,
    created: Timestamp,
    wrapped: Blob<WRAPPED>,
}

/// The only form there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "dekeys.keyring.v1")]
    V1,
}

impl Keyring {
    /// New keys for a new instance.
    pub(super) fn create(
        instance: InstanceId,
        mode: Mode,
        key: &UnsealKey,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<(Self, Keys), VaultError> {
        let root = primitive::fresh_key(random);
        let (unseal, commitment, wrapped) = lock(instance, mode, key, &root, random)?;
        let keyring = Self {
            format: Format::V1,
            instance,
            unseal,
            commitment,
            root: wrapped,
            keks: vec![fresh_kek(instance, 1, &root, now, random)?],
        };
        let keys = keyring.open_keks(root)?;
        Ok((keyring, keys))
    }

    /// The keys, for whoever brings the unseal key.
    pub(super) fn unlock(&self, instance: InstanceId, key: &UnsealKey) -> Result<Keys, VaultError> {
        self.check_instance(instance)?;
        let unseal = self.unseal.derive(key)?;
        if !bool::from(commitment(&unseal)?.ct_eq(&self.commitment.0)) {
            return Err(VaultError::WrongKey);
        }
        let root = root_wrapper(&unseal)?.unwrap(&root_aad(instance), &self.root.0)?;
        self.open_keks(root)
    }

    /// The keys, for a vault that knows the root key already.
    pub(super) fn reopen(&self, instance: InstanceId, keys: &Keys) -> Result<Keys, VaultError> {
        self.check_instance(instance)?;
        self.open_keks(keys.root.clone())
    }

    /// This keyring with one more KEK, which seals from now on; the older ones still open.
    pub(super) fn with_fresh_kek(&self, keys: &Keys, now: Timestamp, random: &dyn Random) -> Result<Self, VaultError> {
        let version = self.newest().map_or(0, |kek| kek.version).saturating_add(1);
        let mut next = self.clone();
        next.keks
            .push(fresh_kek(self.instance, version, &keys.root, now, random)?);
        Ok(next)
    }

    /// This keyring under another unseal key. The root key and all that is sealed stay as they are.
    pub(super) fn with_unseal_key(
        &self,
        keys: &Keys,
        mode: Mode,
        key: &UnsealKey,
        random: &dyn Random,
    ) -> Result<Self, VaultError> {
        let (unseal, commitment, root) = lock(self.instance, mode, key, &keys.root, random)?;
        Ok(Self {
            unseal,
            commitment,
            root,
            ..self.clone()
        })
    }

    /// The instance it says it belongs to.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The version and age of the KEK that seals: it is due for rotation after 90 days.
    #[must_use]
    pub fn current_kek(&self) -> Option<(u32, Timestamp)> {
        self.newest().map(|kek| (kek.version, kek.created))
    }

    fn newest(&self) -> Option<&WrappedKek> {
        self.keks.iter().max_by_key(|kek| kek.version)
    }

    fn check_instance(&self, instance: InstanceId) -> Result<(), VaultError> {
        if self.instance == instance {
            Ok(())
        } else {
            Err(VaultError::WrongKeyring(self.instance.to_string()))
        }
    }

    fn open_keks(&self, root: Key) -> Result<Keys, VaultError> {
        let wrapper = kek_wrapper(&root)?;
        let mut stored: Vec<&WrappedKek> = self.keks.iter().collect();
        stored.sort_by_key(|kek| kek.version);
        let open = |kek: &&WrappedKek| {
            let aad = kek_aad(self.instance, kek.version, kek.created);
            wrapper.unwrap(&aad, &kek.wrapped.0).map(|key| Arc::new(Kek::new(&key)))
        };
        let keks = stored.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let current = keks.last().cloned().ok_or(VaultError::Corrupt)?;
        let mac = primitive::subkey(&root, b"dekeys.mac.v1")?;
        Ok(Keys {
            root,
            mac,
            current,
            keks,
        })
    }
}

/// The opened keys. Wiped when the last user lets go of them.
pub(super) struct Keys {
    pub(super) root: Key,
    pub(super) mac: Key,
    pub(super) current: Arc<Kek>,
    keks: Vec<Arc<Kek>>,
}

impl Keys {
    /// The KEK that a sealed value names.
    pub(super) fn kek(&self, id: KekId) -> Result<&Kek, VaultError> {
        let found = self.keks.iter().find(|kek| kek.id == id);
        found.map(Arc::as_ref).ok_or(VaultError::UnknownKey)
    }
}

/// Names a KEK inside sealed values: the first 8 bytes of a SHA-256 of it, so that two keys which a rollback of
/// the database gave the same version are still told apart.
pub(super) type KekId = [u8; 8];

/// An opened key-encryption key.
pub(super) struct Kek {
    pub(super) id: KekId,
    pub(super) aead: Aead,
}

impl Kek {
    fn new(key: &[u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::new_with_prefix(b"dekeys.kek-id.v1")
            .chain_update(key)
            .finalize()
            .into();
        Self {
            id: digest.first_chunk().copied().unwrap_or_default(),
            aead: Aead::new(key),
        }
    }
}

/// Wraps the root key for `key`.
fn lock(
    instance: InstanceId,
    mode: Mode,
    key: &UnsealKey,
    root: &Key,
    random: &dyn Random,
) -> Result<(Unseal, Blob<32>, Blob<WRAPPED>), VaultError> {
    let parameters = Unseal::new(mode, key, random);
    let unseal = parameters.derive(key)?;
    let wrapped = root_wrapper(&unseal)?.wrap(&root_aad(instance), root, random)?;
    Ok((parameters, Blob(commitment(&unseal)?), Blob(wrapped)))
}

fn fresh_kek(
    instance: InstanceId,
    version: u32,
    root: &Key,
    now: Timestamp,
    random: &dyn Random,
) -> Result<WrappedKek, VaultError> {
    let key = primitive::fresh_key(random);
    let wrapped = kek_wrapper(root)?.wrap(&kek_aad(instance, version, now), &key, random)?;
    Ok(WrappedKek {
        version,
        created: now,
        wrapped: Blob(wrapped),
    })
}

/// Tells a wrong unseal key; says nothing else about it.
fn commitment(unseal: &Key) -> Result<[u8; 32], VaultError> {
    primitive::subkey(unseal, b"dekeys.kcv.v1").map(|kcv| *kcv)
}

fn root_wrapper(unseal: &Key) -> Result<Aead, VaultError> {
    primitive::subkey(unseal, b"dekeys.wrap-root.v1").map(|key| Aead::new(&key))
}

fn kek_wrapper(root: &Key) -> Result<Aead, VaultError> {
    primitive::subkey(root, b"dekeys.wrap-kek.v1").map(|key| Aead::new(&key))
}

fn root_aad(instance: InstanceId) -> Vec<u8> {
    Canonical::new("dekeys.keyring-root.v1")
        .text(&instance.to_string())
        .int(1)
        .finish()
}

/// Seconds, because that is what a stored time keeps.
fn kek_aad(instance: InstanceId, version: u32, created: Timestamp) -> Vec<u8> {
    Canonical::new("dekeys.keyring-kek.v1")
        .text(&instance.to_string())
        .int(i64::from(version))
        .int(created.as_secs())
        .finish()
}

/// `N` bytes that print as base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Serialize for Blob<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Blob<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("not {N} bytes of base64url")))
    }
}
