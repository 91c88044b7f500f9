//! A long text under a key of its own, in chunks: AES-256-GCM with a counter and a flag for the last chunk in the nonce, as in
//! the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015). A chunk that is missing, doubled, altered or in
//! another place does not open, and a text that was cut has no last chunk.
//!
//! The key is fresh for each text, so that no nonce comes twice, and is wrapped by one that is derived from the root key:
//! whoever can unseal the vault can read it, whatever became of the database.

use super::primitive::{self, Aead, WRAPPED};
use super::{Vault, VaultError};
use crate::base::canonical::Canonical;

/// Length of a chunk's tag.
pub const TAG: usize = 16;

/// The key of one text. It stays in the process.
pub struct StreamKey(Aead);

impl Vault {
    /// A key for a new text, and its wrapped form to be kept beside the text.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn new_stream(&self, purpose: &str) -> Result<(StreamKey, Vec<u8>), VaultError> {
        let random = self.0.random.as_ref();
        let key = primitive::fresh_key(random);
        let wrapped = self
            .stream_wrapper(purpose)?
            .wrap(&self.stream_aad(purpose), &key, random)?;
        Ok((StreamKey(Aead::new(&key)), wrapped.to_vec()))
    }

    /// The key of a text from its wrapped form.
    ///
    /// # Errors
    /// [`VaultError::Sealed`]; [`VaultError::Corrupt`] when it was wrapped by another vault or for another purpose.
    pub fn stream(&self, purpose: &str, wrapped: &[u8]) -> Result<StreamKey, VaultError> {
        let wrapped: &[u8; WRAPPED] = wrapped.try_into().map_err(|_| VaultError::Corrupt)?;
        let key = self
            .stream_wrapper(purpose)?
            .unwrap(&self.stream_aad(purpose), wrapped)?;
        Ok(StreamKey(Aead::new(&key)))
    }

    fn stream_wrapper(&self, purpose: &str) -> Result<Aead, VaultError> {
        let info = Canonical::new("dekeys.stream.v1").text(purpose).finish();
        self.with(|keys| primitive::subkey(&keys.root, &info).map(|key| Aead::new(&key)))
    }

    fn stream_aad(&self, purpose: &str) -> Vec<u8> {
        Canonical::new("dekeys.stream-key.v1")
            .text(&self.instance().to_string())
            .text(purpose)
            .finish()
    }
}

impl StreamKey {
    /// Encrypts chunk `number` (from 0) in place and appends its tag. `head` is what stands before the first chunk: each
    /// chunk is bound to it.
    ///
    /// # Errors
    /// None that can happen with chunks of a size that fits into memory.
    pub fn seal(&self, head: &[u8], number: u32, last: bool, chunk: &mut Vec<u8>) -> Result<(), VaultError> {
        let tag = self.0.seal(nonce(number, last), head, chunk)?;
        chunk.extend_from_slice(&tag);
        Ok(())
    }

    /// Checks and decrypts a chunk in place, and takes its tag off.
    ///
    /// # Errors
    /// [`VaultError::Corrupt`] when it was altered, or is not chunk `number` of this text, or not its last one.
    pub fn open(&self, head: &[u8], number: u32, last: bool, chunk: &mut Vec<u8>) -> Result<(), VaultError> {
        let length = chunk.len().checked_sub(TAG).ok_or(VaultError::Corrupt)?;
        let tag = chunk.split_off(length).try_into().map_err(|_| VaultError::Corrupt)?;
        self.0.open(nonce(number, last), head, chunk, tag)
    }
}

/// Seven zeros, the number, the flag.
fn nonce(number: u32, last: bool) -> [u8; 12] {
    let [a, b, c, d] = number.to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(last)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::id::InstanceId;
    use crate::base::random::SeededRandom;
    use crate::base::secret::SecretBytes;
    use crate::base::time::Timestamp;
    use crate::model::instance::Mode;
    use crate::vault::UnsealKey;

    fn vault(seed: u64) -> Vault {
        let random = Arc::new(SeededRandom::new(seed));
        let now = Timestamp::from_secs(1_763_668_267);
        let key = UnsealKey::KeyFile(SecretBytes::new(vec![7; 32]));
        let instance = InstanceId::new(now, &SeededRandom::new(1));
        Vault::create(instance, Mode::Test, &key, now, random).unwrap().0
    }

    #[test]
    fn a_chunk_opens_in_its_place_alone() {
        let vault = vault(2);
        let (key, wrapped) = vault.new_stream("backup").unwrap();
        let seal = |number, last| {
            let mut chunk = vec![3; 100];
            key.seal(b"head", number, last, &mut chunk).unwrap();
            chunk
        };
        let open = |head: &[u8], number, last, chunk: &[u8]| {
            let mut chunk = chunk.to_vec();
            let key = vault.stream("backup", &wrapped).unwrap();
            key.open(head, number, last, &mut chunk).map(|()| chunk)
        };
        let chunk = seal(4, false);
        assert_eq!(open(b"head", 4, false, &chunk), Ok(vec![3; 100]));
        let mut bent = chunk.clone();
        bent[50] ^= 1;
        for refused in [
            open(b"head", 5, false, &chunk),
            open(b"head", 4, true, &chunk),
            open(b"other", 4, false, &chunk),
            open(b"head", 4, false, &bent),
            open(b"head", 4, false, &chunk[..99]),
            open(b"head", 4, false, b"short"),
        ] {
            assert_eq!(refused, Err(VaultError::Corrupt));
        }
        assert_eq!(open(b"head", 9, true, &seal(9, true)), Ok(vec![3; 100]));
    }

    #[test]
    fn no_other_vault_and_no_other_purpose_unwraps_the_key() {
        let (one, other) = (vault(2), vault(3));
        let (_, wrapped) = one.new_stream("backup").unwrap();
        assert!(one.stream("backup", &wrapped).is_ok());
        assert!(one.stream("other", &wrapped).is_err());
        assert!(other.stream("backup", &wrapped).is_err());
        one.seal();
        assert!(matches!(one.stream("backup", &wrapped), Err(VaultError::Sealed)));
        assert!(matches!(one.new_stream("backup"), Err(VaultError::Sealed)));
    }
}
