//! Root keys: with them an instance signs the authority block of its tokens.

use biscuit_auth::KeyPair;
use biscuit_auth::format::schema::public_key::Algorithm;

use super::TokenError;
use crate::base::random::{self, Random};
use crate::base::secret::SecretBytes;
use crate::model::principal::PublicKey;

/// The private halves of the root keys in use. One signs; the others only verify until their tokens are over.
pub struct RootKeys {
    current: u32,
    keys: Vec<(u32, SecretBytes)>,
}

/// The public halves, by key id. A key that stands here verifies; to retire one, stop minting with it, wait for
/// the longest token to end, and leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootPublics(pub Vec<(u32, PublicKey)>);

impl RootKeys {
    /// A fresh Ed25519 private key (32 bytes) under the id `id`.
    #[must_use]
    pub fn generate(id: u32, random: &dyn Random) -> (u32, SecretBytes) {
        (id, SecretBytes::new(random::bytes::<32>(random).to_vec()))
    }

    /// Takes the keys over; `current` is the id of the one that signs.
    ///
    /// # Errors
    /// [`TokenError::Internal`] when a key is not 32 bytes, an id stands twice, or `current` is none of them.
    pub fn new(current: u32, keys: Vec<(u32, SecretBytes)>) -> Result<Self, TokenError> {
        let internal = |words: &str| Err(TokenError::Internal(words.to_owned()));
        for (id, key) in &keys {
            if key.len() != 32 {
                return internal("a root key must have 32 bytes");
            }
            if keys.iter().filter(|(other, _)| other == id).count() != 1 {
                return internal("two root keys have one id");
            }
        }
        if !keys.iter().any(|(id, _)| *id == current) {
            return internal("the current root key is missing");
        }
        Ok(Self { current, keys })
    }

    /// The public halves, the signing key first.
    #[must_use]
    pub fn public(&self) -> RootPublics {
        let mut publics: Vec<(u32, PublicKey)> = self
            .keys
            .iter()
            .filter_map(|(id, key)| {
                let bytes = key_pair(key).ok()?.public().to_bytes();
                Some((*id, PublicKey::from_bytes(bytes.try_into().ok()?)))
            })
            .collect();
        publics.sort_by_key(|(id, _)| (*id != self.current, *id));
        RootPublics(publics)
    }

    /// The signing key and its id.
    pub(super) fn signing(&self) -> Result<(u32, KeyPair), TokenError> {
        let current = self.keys.iter().find(|(id, _)| *id == self.current);
        let (id, key) = current.ok_or_else(|| TokenError::Internal("the current root key is missing".to_owned()))?;
        Ok((*id, key_pair(key)?))
    }
}

impl RootPublics {
    /// The key a token names.
    pub(super) fn find(&self, id: Option<u32>) -> Result<biscuit_auth::PublicKey, TokenError> {
        let found = self.0.iter().find(|(known, _)| Some(*known) == id);
        let (_, key) = found.ok_or(TokenError::UnknownRoot)?;
        biscuit_auth::PublicKey::from_bytes(key.as_bytes(), biscuit_auth::Algorithm::Ed25519)
            .map_err(|_| TokenError::Internal("a root public key is not a point on the curve".to_owned()))
    }
}

fn key_pair(key: &SecretBytes) -> Result<KeyPair, TokenError> {
    KeyPair::from_bytes(key.expose(), Algorithm::Ed25519)
        .map_err(|_| TokenError::Internal("a root key must have 32 bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    #[test]
    fn publishes_the_signing_key_first() {
        let random = SeededRandom::new(1);
        let keys = vec![RootKeys::generate(1, &random), RootKeys::generate(2, &random)];
        let roots = RootKeys::new(2, keys).unwrap();
        let ids: Vec<u32> = roots.public().0.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [2, 1]);
        assert!(roots.public().find(Some(1)).is_ok());
        assert_eq!(roots.public().find(Some(3)).err(), Some(TokenError::UnknownRoot));
        assert_eq!(roots.public().find(None).err(), Some(TokenError::UnknownRoot));
    }

    #[test]
    fn refuses_short_keys_missing_and_repeated_ids() {
        let random = SeededRandom::new(1);
        let key = || RootKeys::generate(1, &random);
        assert!(RootKeys::new(2, vec![key()]).is_err());
        assert!(RootKeys::new(1, vec![key(), key()]).is_err());
        assert!(RootKeys::new(1, vec![(1, SecretBytes::new(vec![0; 31]))]).is_err());
    }
}
