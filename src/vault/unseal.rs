//! The unseal key: what people or machines bring to open the vault, and how it becomes the key that wraps the
//! root key. Passphrases go through Argon2id; key files hold 256 random bits and go through HKDF.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::VaultError;
use super::keyring::Blob;
use super::primitive::{self, Cost, Key};
use crate::base::id::base64url;
use crate::base::random::{self, Random};
use crate::base::secret::{SecretBytes, SecretText};
use crate::base::shares::{self, SetId, Share, Split};
use crate::model::instance::Mode;

/// What opens the vault.
pub enum UnsealKey {
    /// Something a person remembers.
    Passphrase(SecretText),
    /// 32 random bytes from a file or a systemd credential.
    KeyFile(SecretBytes),
    /// 32 random bytes that shares gave back (`base/shares.rs`).
    Shared {
        /// Which shares.
        set: SetId,
        /// How many of them are needed.
        threshold: u8,
        /// What they gave.
        key: Split,
    },
}

impl UnsealKey {
    /// Reads the text of a key file: 43 characters of base64url; white space around them does not count.
    ///
    /// # Errors
    /// [`VaultError::BadKeyFile`].
    pub fn parse_key_file(text: &SecretText) -> Result<Self, VaultError> {
        let bytes = data_encoding::BASE64URL_NOPAD
            .decode(text.expose().trim().as_bytes())
            .map_err(|_| VaultError::BadKeyFile)?;
        let bytes = SecretBytes::new(bytes);
        if bytes.len() == 32 {
            Ok(Self::KeyFile(bytes))
        } else {
            Err(VaultError::BadKeyFile)
        }
    }

    /// Reads the text of one share.
    ///
    /// # Errors
    /// [`VaultError::BadShare`].
    pub fn parse_share(text: &SecretText) -> Result<Share, VaultError> {
        Share::parse(text.expose()).map_err(|_| VaultError::BadShare)
    }

    /// Reads enough shares, one a line.
    ///
    /// # Errors
    /// As [`UnsealKey::join`].
    pub fn parse_shares(text: &SecretText) -> Result<Self, VaultError> {
        let lines = text.expose().lines().filter(|line| !line.trim().is_empty());
        let given: Result<Vec<Share>, _> = lines.map(Share::parse).collect();
        Self::join(&given.map_err(|_| VaultError::BadShare)?)
    }

    /// What enough shares of one set give. Whether it opens anything is seen when it is used.
    ///
    /// # Errors
    /// [`VaultError::BadShare`] for too few, for shares of several sets, and for one that comes twice.
    pub fn join(given: &[Share]) -> Result<Self, VaultError> {
        let first = given.first().ok_or(VaultError::BadShare)?;
        Ok(Self::Shared {
            set: first.set(),
            threshold: first.threshold(),
            key: shares::join(given).map_err(|_| VaultError::BadShare)?,
        })
    }

    /// The text of a new key file, one line.
    #[must_use]
    pub fn generate_key_file(random: &dyn Random) -> SecretText {
        let key = primitive::fresh_key(random);
        SecretText::new(format!("{}\n", *Zeroizing::new(base64url(key.as_slice()))))
    }
}

/// How the unseal key becomes the wrapping key, as stored in the keyring. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Unseal {
    /// Argon2id, version 0x13.
    Passphrase {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: Blob<16>,
    },
    /// HKDF-SHA256.
    KeyFile { salt: Blob<16> },
    /// The same, over a key that shares give.
    Shares {
        set: Blob<4>,
        threshold: u8,
        salt: Blob<16>,
    },
}

/// RFC 9106's second recommendation. Parameters below are refused when read, so that writing to the database
/// cannot make guessing cheap.
const FLOOR: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 4,
};

/// Parameters above are refused when read, so that writing to the database cannot exhaust the machine.
const CEILING: Cost = Cost {
    memory_kib: 2 * 1024 * 1024,
    passes: 16,
    lanes: 16,
};

/// 256 MiB, about 2 s on a small machine.
const LIVE: Cost = Cost {
    memory_kib: 256 * 1024,
    ..FLOOR
};

impl Unseal {
    /// Parameters for a new keyring.
    pub(super) fn new(mode: Mode, key: &UnsealKey, random: &dyn Random) -> Self {
        let salt = Blob(random::bytes(random));
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = match mode {
            Mode::Live => LIVE,
            Mode::Test => FLOOR,
        };
        match key {
            UnsealKey::Passphrase(_) => Self::Passphrase {
                memory_kib,
                passes,
                lanes,
                salt,
            },
            UnsealKey::KeyFile(_) => Self::KeyFile { salt },
            UnsealKey::Shared { set, threshold, .. } => Self::Shares {
                set: Blob(*set),
                threshold: *threshold,
                salt,
            },
        }
    }

    /// The wrapping key. Takes seconds and much memory for a passphrase.
    pub(super) fn derive(&self, key: &UnsealKey) -> Result<Key, VaultError> {
        match (self, key) {
            (Self::Passphrase { .. }, UnsealKey::Passphrase(passphrase)) if passphrase.is_empty() => {
                Err(VaultError::EmptyPassphrase)
            }
            (
                Self::Passphrase {
                    memory_kib,
                    passes,
                    lanes,
                    salt,
                },
                UnsealKey::Passphrase(passphrase),
            ) => {
                let cost = Cost {
                    memory_kib: *memory_kib,
                    passes: *passes,
                    lanes: *lanes,
                };
                check(cost)?;
                primitive::argon2id(passphrase.expose().as_bytes(), &salt.0, cost)
            }
            (Self::KeyFile { salt }, UnsealKey::KeyFile(bytes)) => {
                let mut out = Zeroizing::new([0u8; 32]);
                primitive::hkdf(bytes.expose(), Some(&salt.0), b"dekeys.key-file.v1", out.as_mut_slice())?;
                Ok(out)
            }
            (Self::Shares { salt, set, .. }, UnsealKey::Shared { set: given, key, .. }) => {
                if set.0 != *given {
                    return Err(VaultError::WrongKey);
                }
                let mut out = Zeroizing::new([0u8; 32]);
                primitive::hkdf(key.as_slice(), Some(&salt.0), b"dekeys.shares.v1", out.as_mut_slice())?;
                Ok(out)
            }
            (wanted, _) => Err(VaultError::WrongKind(wanted.words())),
        }
    }
}

impl Unseal {
    const fn words(&self) -> &'static str {
        match self {
            Self::Passphrase { .. } => "a passphrase",
            Self::KeyFile { .. } => "a key file",
            Self::Shares { .. } => "shares, one after another",
        }
    }

    /// The set of shares that opens it, and how many of them, where shares do.
    pub(super) const fn shares(&self) -> Option<(SetId, u8)> {
        match self {
            Self::Shares { set, threshold, .. } => Some((set.0, *threshold)),
            _ => None,
        }
    }
}

fn check(cost: Cost) -> Result<(), VaultError> {
    let within = |value: u32, floor: u32, ceiling: u32| (floor..=ceiling).contains(&value);
    let good = within(cost.memory_kib, FLOOR.memory_kib, CEILING.memory_kib)
        && within(cost.passes, FLOOR.passes, CEILING.passes)
        && within(cost.lanes, FLOOR.lanes, CEILING.lanes);
    if good { Ok(()) } else { Err(VaultError::WeakParameters) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    #[test]
    fn a_key_file_reads_back_and_others_are_refused() {
        let random = SeededRandom::new(1);
        let text = UnsealKey::generate_key_file(&random);
        assert!(UnsealKey::parse_key_file(&text).is_ok() && text.expose().ends_with('\n'));
        for wrong in [
            String::new(),
            "AAAA".to_owned(),
            text.expose().replace('\n', "A"),
            "=".repeat(43),
        ] {
            assert!(
                matches!(
                    UnsealKey::parse_key_file(&SecretText::new(wrong.clone())),
                    Err(VaultError::BadKeyFile)
                ),
                "{wrong}"
            );
        }
    }

    #[test]
    fn parameters_below_the_floor_or_above_the_ceiling_are_refused() {
        assert!(check(FLOOR).is_ok() && check(LIVE).is_ok() && check(CEILING).is_ok());
        for (memory_kib, passes, lanes) in [
            (64 * 1024 - 1, 3, 4),
            (64 * 1024, 2, 4),
            (64 * 1024, 3, 3),
            (0, 0, 0),
            (2 * 1024 * 1024 + 1, 3, 4),
            (64 * 1024, u32::MAX, 4),
            (64 * 1024, 3, 17),
        ] {
            let cost = Cost {
                memory_kib,
                passes,
                lanes,
            };
            assert!(matches!(check(cost), Err(VaultError::WeakParameters)), "{cost:?}");
        }
    }

    #[test]
    fn live_instances_cost_more_than_test_ones() {
        let random = SeededRandom::new(1);
        let key = UnsealKey::Passphrase(SecretText::new("x".to_owned()));
        let memory = |mode| match Unseal::new(mode, &key, &random) {
            Unseal::Passphrase { memory_kib, .. } => memory_kib,
            Unseal::Shares { .. } | Unseal::KeyFile { .. } => 0,
        };
        assert_eq!((memory(Mode::Live), memory(Mode::Test)), (262_144, 65_536));
    }
}
