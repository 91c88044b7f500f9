//! The primitives the vault is made of, one thin function each, so that the public test vectors run against
//! exactly what is used: AES-256-GCM (NIST SP 800-38D), HKDF and HMAC with SHA-256 (RFC 5869, 2104), and
//! Argon2id (RFC 9106).
//!
//! Not protected: what the libraries leave on the stack while they work.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::VaultError;
use crate::base::random::{self, Random};

/// A 256-bit key, wiped when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// Length of a wrapped key: nonce, ciphertext, tag.
pub const WRAPPED: usize = NONCE + 32 + TAG;

const NONCE: usize = 12;
const TAG: usize = 16;

/// A fresh random key.
#[must_use]
pub fn fresh_key(random: &dyn Random) -> Key {
    let mut key = Zeroizing::new([0u8; 32]);
    random.fill(key.as_mut_slice());
    key
}

/// AES-256-GCM under one key, which stays expanded and is wiped when dropped. A nonce must never come twice.
pub struct Aead(Aes256Gcm);

impl Aead {
    /// Expands `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(&aes_gcm::Key::<Aes256Gcm>::from(*key)))
    }

    /// Encrypts `buffer` in place and gives the tag.
    ///
    /// # Errors
    /// When the buffer is longer than 64 GiB.
    pub fn seal(&self, nonce: [u8; NONCE], aad: &[u8], buffer: &mut [u8]) -> Result<[u8; TAG], VaultError> {
        self.0
            .encrypt_inout_detached(&nonce.into(), aad, buffer.into())
            .map(Into::into)
            .map_err(|_| VaultError::Crypto)
    }

    /// Checks the tag, then decrypts `buffer` in place; a wrong tag leaves it encrypted.
    ///
    /// # Errors
    /// [`VaultError::Corrupt`] when the tag does not fit the key, nonce, associated data and ciphertext.
    pub fn open(&self, nonce: [u8; NONCE], aad: &[u8], buffer: &mut [u8], tag: [u8; TAG]) -> Result<(), VaultError> {
        self.0
            .decrypt_inout_detached(&nonce.into(), aad, buffer.into(), &tag.into())
            .map_err(|_| VaultError::Corrupt)
    }

    /// Encrypts a key under this one: `nonce ‖ ciphertext ‖ tag`.
    ///
    /// # Errors
    /// None that can happen with 32 bytes.
    pub fn wrap(&self, aad: &[u8], key: &[u8; 32], random: &dyn Random) -> Result<[u8; WRAPPED], VaultError> {
        let nonce = random::bytes::<NONCE>(random);
        let mut wrapped = [0u8; WRAPPED];
        let mut body = Zeroizing::new(*key);
        let tag = self.seal(nonce, aad, body.as_mut_slice())?;
        let parts = nonce.iter().chain(body.iter()).chain(tag.iter());
        wrapped.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Ok(wrapped)
    }

    /// Decrypts what [`Aead::wrap`] made.
    ///
    /// # Errors
    /// [`VaultError::Corrupt`] when it was not made under this key with this associated data.
    pub fn unwrap(&self, aad: &[u8], wrapped: &[u8; WRAPPED]) -> Result<Key, VaultError> {
        let (nonce, rest) = wrapped.split_first_chunk().ok_or(VaultError::Corrupt)?;
        let (body, tag) = rest.split_first_chunk::<32>().ok_or(VaultError::Corrupt)?;
        let tag = tag.try_into().map_err(|_| VaultError::Corrupt)?;
        let mut key = Zeroizing::new(*body);
        self.open(*nonce, aad, key.as_mut_slice(), tag)?;
        Ok(key)
    }
}

/// HKDF-SHA256 into `out`.
///
/// # Errors
/// When `out` is longer than 8160 bytes.
pub fn hkdf(key: &[u8], salt: Option<&[u8]>, info: &[u8], out: &mut [u8]) -> Result<(), VaultError> {
    hkdf::Hkdf::<Sha256>::new(salt, key)
        .expand(info, out)
        .map_err(|_| VaultError::Crypto)
}

/// A 256-bit key derived from `key` for one purpose.
///
/// # Errors
/// None that can happen with 32 bytes.
pub fn subkey(key: &[u8; 32], purpose: &[u8]) -> Result<Key, VaultError> {
    let mut out = Zeroizing::new([0u8; 32]);
    hkdf(key.as_slice(), None, purpose, out.as_mut_slice())?;
    Ok(out)
}

/// HMAC-SHA256.
///
/// # Errors
/// None: HMAC takes keys of any length.
pub fn hmac(key: &[u8], message: &[u8]) -> Result<[u8; 32], VaultError> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).map_err(|_| VaultError::Crypto)?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().into())
}

/// What Argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Argon2id version 0x13, 32 bytes out. The memory it worked in is wiped.
///
/// # Errors
/// [`VaultError::WeakParameters`] for a cost or salt the algorithm does not know, [`VaultError::OutOfMemory`].
pub fn argon2id(passphrase: &[u8], salt: &[u8], cost: Cost) -> Result<Key, VaultError> {
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|_| VaultError::WeakParameters)?;
    let mut memory = Memory(Vec::new());
    memory
        .0
        .try_reserve_exact(params.block_count())
        .map_err(|_| VaultError::OutOfMemory)?;
    memory.0.resize(params.block_count(), Block::default());
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, key.as_mut_slice(), &mut memory.0)
        .map_err(|_| VaultError::WeakParameters)?;
    Ok(key)
}

/// Argon2's blocks; the last ones would give away the key.
struct Memory(Vec<Block>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}
