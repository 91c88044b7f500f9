//! Sealed values: a fresh data key each, used for one plaintext and wrapped by the current KEK.
//!
//! ```text
//! 1 format | 8 KEK id | 60 wrapped data key | 32 commitment | 12 nonce | ciphertext | 16 tag
//! ```
//!
//! Both encryptions are AES-256-GCM over the same associated data: the place, the KEK's id, the algorithm. It is
//! rebuilt from the row at every read and never stored, so a value that was moved does not open. The commitment
//! is BLAKE3 of that data keyed with the data key: GCM alone does not commit to its key.
//!
//! The plaintext is its length and itself, filled with zeros to 32, 64, 128 … bytes, so that the size of a row
//! does not name the vendor. Not protected: the size class.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::VaultError;
use super::keyring::{Kek, KekId, Keys};
use super::primitive::{self, Aead, WRAPPED};
use crate::base::random::{self, Random};
use crate::base::secret::SecretBytes;
use crate::model::sealed::{MAX_SECRET, Place, Sealed};

const FORMAT: u8 = 1;
/// Format and KEK id.
pub(super) const PREFIX: usize = 1 + 8;
const HEADER: usize = 1 + 8 + WRAPPED + 32 + 12;
const TAG: usize = 16;
const LENGTH: usize = 4;
const SMALLEST: usize = 32;

/// Seals `secret` for `place` under `kek`.
pub(super) fn seal(kek: &Kek, place: &Place, secret: &SecretBytes, random: &dyn Random) -> Result<Sealed, VaultError> {
    let mut padded = pad(secret)?;
    let aad = aad(place, kek.id);
    let key = primitive::fresh_key(random);
    let wrapped = kek.aead.wrap(&aad, &key, random)?;
    let nonce = random::bytes::<12>(random);
    let tag = Aead::new(&key).seal(nonce, &aad, &mut padded)?;
    let mut out = Vec::with_capacity(HEADER + padded.len() + TAG);
    out.push(FORMAT);
    out.extend_from_slice(&kek.id);
    out.extend_from_slice(&wrapped);
    out.extend_from_slice(blake3::keyed_hash(&key, &aad).as_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&padded);
    out.extend_from_slice(&tag);
    Ok(Sealed(out))
}

/// Opens what [`seal`] made for the same place.
pub(super) fn open(keys: &Keys, place: &Place, sealed: &Sealed) -> Result<SecretBytes, VaultError> {
    let parts = Parts::of(sealed).ok_or(VaultError::Corrupt)?;
    let aad = aad(place, *parts.kek);
    let key = data_key(keys, &parts, &aad)?;
    let mut padded = Zeroizing::new(parts.ciphertext.to_vec());
    Aead::new(&key).open(*parts.nonce, &aad, &mut padded, *parts.tag)?;
    unpad(&padded)
}

/// The same value under the current KEK. The plaintext does not leave the vault.
pub(super) fn rewrap(keys: &Keys, place: &Place, sealed: &Sealed, random: &dyn Random) -> Result<Sealed, VaultError> {
    // The KEK's id is in the associated data of the value too, so the value is encrypted anew.
    seal(&keys.current, place, &open(keys, place, sealed)?, random)
}

/// How a value begins that `kek` sealed: the format and the KEK's id.
pub(super) fn prefix(kek: KekId) -> [u8; PREFIX] {
    let mut prefix = [FORMAT; PREFIX];
    prefix.iter_mut().skip(1).zip(kek).for_each(|(to, from)| *to = from);
    prefix
}

/// Whether the KEK that `sealed` names is among `keys`.
pub(super) fn is_known(keys: &Keys, sealed: &Sealed) -> bool {
    Parts::of(sealed).is_none_or(|parts| keys.kek(*parts.kek).is_ok())
}

/// Whether `sealed` names the KEK that seals now.
pub(super) fn is_current(keys: &Keys, sealed: &Sealed) -> bool {
    Parts::of(sealed).is_some_and(|parts| *parts.kek == keys.current.id)
}

fn data_key(keys: &Keys, parts: &Parts<'_>, aad: &[u8]) -> Result<primitive::Key, VaultError> {
    let key = keys.kek(*parts.kek)?.aead.unwrap(aad, parts.wrapped)?;
    let commitment = blake3::keyed_hash(&key, aad);
    if bool::from(commitment.as_bytes().ct_eq(parts.commitment)) {
        Ok(key)
    } else {
        Err(VaultError::Corrupt)
    }
}

fn aad(place: &Place, kek: KekId) -> Vec<u8> {
    place.aad().bytes(&kek).text("aes-256-gcm").finish()
}

/// The fields of a sealed value, checked for length only.
struct Parts<'a> {
    kek: &'a KekId,
    wrapped: &'a [u8; WRAPPED],
    commitment: &'a [u8; 32],
    nonce: &'a [u8; 12],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a Sealed) -> Option<Self> {
        let (format, rest) = sealed.0.split_first()?;
        let (kek, rest) = rest.split_first_chunk()?;
        let (wrapped, rest) = rest.split_first_chunk()?;
        let (commitment, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        (*format == FORMAT).then_some(Self {
            kek,
            wrapped,
            commitment,
            nonce,
            ciphertext,
            tag,
        })
    }
}

fn pad(secret: &SecretBytes) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    if secret.len() > MAX_SECRET {
        return Err(VaultError::TooLarge);
    }
    let length = u32::try_from(secret.len()).map_err(|_| VaultError::TooLarge)?;
    let size = (LENGTH + secret.len()).next_power_of_two().max(SMALLEST);
    let mut padded = Zeroizing::new(Vec::with_capacity(size));
    padded.extend_from_slice(&length.to_be_bytes());
    padded.extend_from_slice(secret.expose());
    padded.resize(size, 0);
    Ok(padded)
}

fn unpad(padded: &[u8]) -> Result<SecretBytes, VaultError> {
    let (length, rest) = padded.split_first_chunk::<LENGTH>().ok_or(VaultError::Corrupt)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| VaultError::Corrupt)?;
    let secret = rest.get(..length).ok_or(VaultError::Corrupt)?;
    Ok(SecretBytes::new(secret.to_vec()))
}
