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
use crate::base::shares::SetId;
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
    /// The same root key under an unseal key that was announced, and opens already, but is not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Lock>,
}

/// The root key under one unseal key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    unseal: Unseal,
    commitment: Blob<32>,
    root: Blob<WRAPPED>,
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
        let lock = Lock::new(instance, mode, key, &root, random)?;
        let keyring = Self {
            format: Format::V1,
            instance,
            unseal: lock.unseal,
            commitment: lock.commitment,
            root: lock.root,
            keks: vec![fresh_kek(instance, 1, &root, now, random)?],
            pending: None,
        };
        let keys = keyring.open_keks(root)?;
        Ok((keyring, keys))
    }

    /// The keys, for whoever brings the unseal key.
    pub(super) fn unlock(&self, instance: InstanceId, key: &UnsealKey) -> Result<Keys, VaultError> {
        self.check_instance(instance)?;
        let root = match (self.lock().open(instance, key), &self.pending) {
            (Err(error @ (VaultError::WrongKey | VaultError::WrongKind(_))), Some(pending)) => {
                pending.open(instance, key).map_err(|_| error)?
            }
            (opened, _) => opened?,
        };
        self.open_keks(root)
    }

    fn lock(&self) -> Lock {
        Lock {
            unseal: self.unseal.clone(),
            commitment: self.commitment.clone(),
            root: self.root.clone(),
        }
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

    /// This keyring with a second unseal key that opens it too, until it is confirmed or given up.
    pub(super) fn with_pending(
        &self,
        keys: &Keys,
        mode: Mode,
        key: &UnsealKey,
        random: &dyn Random,
    ) -> Result<Self, VaultError> {
        Ok(Self {
            pending: Some(Lock::new(self.instance, mode, key, &keys.root, random)?),
            ..self.clone()
        })
    }

    /// This keyring under its pending unseal key alone, for whoever shows that they have it.
    pub(super) fn confirmed(&self, keys: &Keys, key: &UnsealKey) -> Result<Self, VaultError> {
        let pending = self.pending.as_ref().ok_or(VaultError::NothingPending)?;
        let root = pending.open(self.instance, key)?;
        if !bool::from(root.ct_eq(keys.root.as_slice())) {
            return Err(VaultError::Corrupt);
        }
        Ok(Self {
            unseal: pending.unseal.clone(),
            commitment: pending.commitment.clone(),
            root: pending.root.clone(),
            pending: None,
            ..self.clone()
        })
    }

    /// This keyring without its pending unseal key.
    #[must_use]
    pub fn without_pending(&self) -> Self {
        Self {
            pending: None,
            ..self.clone()
        }
    }

    /// Whether a second unseal key waits for its confirmation.
    #[must_use]
    pub const fn is_rekeying(&self) -> bool {
        self.pending.is_some()
    }

    /// The sets of shares that open it, each with how many are needed; a set that was announced counts too.
    #[must_use]
    pub fn share_sets(&self) -> Vec<(SetId, u8)> {
        let pending = self.pending.as_ref().and_then(|lock| lock.unseal.shares());
        self.unseal.shares().into_iter().chain(pending).collect()
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
            let key = wrapper.unwrap(&aad, &kek.wrapped.0)?;
            Ok(Arc::new(Kek::new(kek.version, &key)))
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
    pub(super) version: u32,
    pub(super) id: KekId,
    pub(super) aead: Aead,
}

impl Kek {
    fn new(version: u32, key: &[u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::new_with_prefix(b"dekeys.kek-id.v1")
            .chain_update(key)
            .finalize()
            .into();
        Self {
            version,
            id: digest.first_chunk().copied().unwrap_or_default(),
            aead: Aead::new(key),
        }
    }
}

impl Lock {
    /// Wraps the root key for `key`.
    fn new(
        instance: InstanceId,
        mode: Mode,
        key: &UnsealKey,
        root: &Key,
        random: &dyn Random,
    ) -> Result<Self, VaultError> {
        let parameters = Unseal::new(mode, key, random);
        let unseal = parameters.derive(key)?;
        let wrapped = root_wrapper(&unseal)?.wrap(&root_aad(instance), root, random)?;
        Ok(Self {
            unseal: parameters,
            commitment: Blob(commitment(&unseal)?),
            root: Blob(wrapped),
        })
    }

    /// The root key, for whoever brings the unseal key.
    fn open(&self, instance: InstanceId, key: &UnsealKey) -> Result<Key, VaultError> {
        let unseal = self.unseal.derive(key)?;
        if !bool::from(commitment(&unseal)?.ct_eq(&self.commitment.0)) {
            return Err(VaultError::WrongKey);
        }
        root_wrapper(&unseal)?.unwrap(&root_aad(instance), &self.root.0)
    }
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
