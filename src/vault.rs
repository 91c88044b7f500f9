//! The vault: seals what must not be read from the database, opens it against proof that the opening is on
//! durable record, and marks the rows that decide who gets a key.
//!
//! Keys: unseal key → root key → KEK → one data key per sealed value (`keyring`, `envelope`). The vault
//! starts sealed and knows nothing until somebody brings the unseal key. Opening takes about a microsecond and
//! no lock: readers take the keys of the moment, and sealing takes them away from the next reader.
//!
//! Invariants: a value opens only at the place it was sealed for; nothing but dekeys' own signing keys opens
//! without a [`Committed`] that names it; a failed unseal changes nothing.
//!
//! Not protected: the memory of a live, unsealed process read by root.

use std::cmp::Ordering as CmpOrdering;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use arc_swap::ArcSwapOption;

use crate::base::canonical::Canonical;
use crate::base::id::InstanceId;
use crate::base::random::Random;
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;
use crate::model::control::{Control, Mac, Stored};
use crate::model::event::Committed;
use crate::model::instance::Mode;
use crate::model::sealed::{Place, Sealed};

mod authentic;
mod envelope;
mod keyring;
pub mod memory;
pub mod primitive;
pub mod stream;
mod unseal;

pub use keyring::Keyring;
pub use unseal::UnsealKey;

use keyring::Keys;

/// How often one KEK may wrap before random nonces could meet (NIST SP 800-38D).
pub const WRAP_LIMIT: u64 = 1 << 32;

/// The record kind of dekeys' own signing keys, which open without a [`Committed`].
pub const OWN_RECORD: &str = "keyring";

/// Why the vault refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The vault has no keys.
    #[error("the vault is sealed")]
    Sealed,
    /// There is nothing to unseal; answered before any derivation.
    #[error("the vault is already unsealed")]
    AlreadyUnsealed,
    /// One derivation at a time, since each takes much memory.
    #[error("another unseal is under way; try again in a few seconds")]
    Busy,
    /// A passphrase where a key file is wanted, or the other way round.
    #[error("this vault opens with {0}")]
    WrongKind(&'static str),
    /// Not the unseal key of this keyring.
    #[error("wrong unseal key; nothing was changed")]
    WrongKey,
    /// The keyring of another instance.
    #[error("this keyring belongs to the instance `{0}`")]
    WrongKeyring(String),
    /// Below the floor or above the ceiling: the stored keyring was altered.
    #[error("the keyring's Argon2 parameters are outside the allowed range; it may have been altered")]
    WeakParameters,
    /// Argon2 could not get its memory.
    #[error("not enough memory to derive the unseal key")]
    OutOfMemory,
    /// Not a key file.
    #[error("not a key file: it holds one line of 43 base64url characters")]
    BadKeyFile,
    /// Not a share, or not one of this set that is still missing.
    #[error("that is not a share of this vault that is still missing")]
    BadShare,
    /// Nothing was given.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A control row whose mark is wrong.
    #[error("a stored row was changed outside dekeys: its mark is wrong")]
    Forged,
    /// Altered, or not sealed for this place.
    #[error("the sealed value does not open here: it was altered or moved")]
    Corrupt,
    /// The keyring lacks the key that wraps it.
    #[error("the sealed value names a key that the keyring does not hold")]
    UnknownKey,
    /// The record of the release names another object or version, or the place another instance.
    #[error("the record of this release names something else")]
    Mismatch,
    /// Opening this kind of record needs the event first.
    #[error("a value of the record `{0}` opens only against a committed event")]
    NeedsRecord(&'static str),
    /// Longer than 64 KiB.
    #[error("the secret is longer than 64 KiB")]
    TooLarge,
    /// The store must reserve more wraps durably first.
    #[error("no wraps are reserved for the current key")]
    WrapsReserved,
    /// There is no second unseal key to confirm.
    #[error("no new unseal key waits for its confirmation")]
    NothingPending,
    /// The KEK has done its share; rotate it.
    #[error("the current key has wrapped as often as it may; rotate it")]
    WrapLimit,
    /// A cryptographic library refused its input.
    #[error("a cryptographic operation failed")]
    Crypto,
}

/// The vault. Clones are the same vault.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    instance: InstanceId,
    random: Arc<dyn Random>,
    keys: ArcSwapOption<Keys>,
    unsealing: Mutex<()>,
    wraps: AtomicU64,
    reserved: AtomicU64,
}

impl Vault {
    /// A sealed vault.
    #[must_use]
    pub fn new(instance: InstanceId, random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Inner {
            instance,
            random,
            keys: ArcSwapOption::empty(),
            unsealing: Mutex::new(()),
            wraps: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
        }))
    }

    /// A new instance's vault, unsealed, and the keyring to store. Argon2id takes 64 MiB in test instances and
    /// 256 MiB in live ones.
    ///
    /// # Errors
    /// [`VaultError::EmptyPassphrase`], [`VaultError::OutOfMemory`].
    pub fn create(
        instance: InstanceId,
        mode: Mode,
        key: &UnsealKey,
        now: Timestamp,
        random: Arc<dyn Random>,
    ) -> Result<(Self, Keyring), VaultError> {
        let (keyring, keys) = Keyring::create(instance, mode, key, now, random.as_ref())?;
        let vault = Self::new(instance, random);
        vault.0.keys.store(Some(Arc::new(keys)));
        Ok((vault, keyring))
    }

    /// Unseals with the stored keyring. Blocks for seconds where a passphrase is used; run it off the executor.
    ///
    /// # Errors
    /// Leaves the vault as it was: [`VaultError::AlreadyUnsealed`] and [`VaultError::WrongKeyring`] before any
    /// derivation, [`VaultError::WrongKey`] by the commitment before anything is unwrapped.
    pub fn unseal(&self, keyring: &Keyring, key: &UnsealKey) -> Result<(), VaultError> {
        self.refuse_unsealed()?;
        let _alone = match self.0.unsealing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(VaultError::Busy),
        };
        self.refuse_unsealed()?;
        let keys = keyring.unlock(self.0.instance, key)?;
        // Another KEK may seal now than before: its count comes from the store, and nothing is sealed until then.
        self.0.reserved.store(0, Ordering::Release);
        self.0.wraps.store(0, Ordering::Release);
        self.0.keys.store(Some(Arc::new(keys)));
        Ok(())
    }

    /// Forgets the keys. Openings under way end; the keys are wiped when the last of them has.
    pub fn seal(&self) {
        self.0.keys.store(None);
    }

    /// Whether it knows no keys.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.0.keys.load().is_none()
    }

    /// The instance it belongs to.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.0.instance
    }

    /// Allows the current KEK to wrap until it has wrapped `until` times in all. The store commits the number
    /// first, so that a crash can only skip wraps, never forget them. Never lowers what was allowed.
    pub fn allow_wraps(&self, until: u64) {
        self.0.reserved.fetch_max(until, Ordering::AcqRel);
    }

    /// How often the current KEK has wrapped, counting what a crash may have skipped.
    #[must_use]
    pub fn wraps(&self) -> u64 {
        self.0.wraps.load(Ordering::Acquire)
    }

    /// Says how often the current KEK may have wrapped before: the number reserved last. Never counts back.
    pub fn start_wraps(&self, from: u64) {
        self.0.wraps.fetch_max(from, Ordering::AcqRel);
    }

    /// Seals `secret` for `place` under a fresh data key.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Mismatch`] for another instance's place, [`VaultError::TooLarge`],
    /// [`VaultError::WrapsReserved`] until the store reserves more, [`VaultError::WrapLimit`].
    pub fn seal_value(&self, place: &Place, secret: &SecretBytes) -> Result<Sealed, VaultError> {
        self.with(|keys| {
            self.check_place(place)?;
            self.count_wrap()?;
            envelope::seal(&keys.current, place, secret, self.0.random.as_ref())
        })
    }

    /// Opens a value. `committed` proves that this opening is on durable record, and is used up.
    ///
    /// # Errors
    /// [`VaultError::Sealed`]; [`VaultError::Mismatch`] when the record names another object or version;
    /// [`VaultError::Corrupt`] when the value was altered or sealed for another place.
    pub fn open(&self, sealed: &Sealed, place: &Place, committed: Committed) -> Result<SecretBytes, VaultError> {
        let named = committed.object() == place.id && committed.version() == place.version;
        drop(committed);
        self.with(|keys| {
            self.check_place(place)?;
            if named {
                envelope::open(keys, place, sealed)
            } else {
                Err(VaultError::Mismatch)
            }
        })
    }

    /// Whether a value opens at its place. The value itself is wiped at once: nothing is released, so no event is needed.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn check(&self, sealed: &Sealed, place: &Place) -> Result<(), VaultError> {
        self.with(|keys| {
            self.check_place(place)?;
            envelope::open(keys, place, sealed).map(drop)
        })
    }

    /// Opens one of dekeys' own signing keys, which never leave the process and so need no event.
    ///
    /// # Errors
    /// As [`Vault::open`], and [`VaultError::NeedsRecord`] for any other kind of record.
    pub fn open_own(&self, sealed: &Sealed, place: &Place) -> Result<SecretBytes, VaultError> {
        self.with(|keys| {
            if place.record != OWN_RECORD {
                return Err(VaultError::NeedsRecord(place.record));
            }
            self.check_place(place)?;
            envelope::open(keys, place, sealed)
        })
    }

    /// The mark to store beside a control row.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn mac<T: Control>(&self, value: &T) -> Result<Mac, VaultError> {
        self.with(|keys| authentic::mac(keys, value))
    }

    /// The content of a control row, when its mark is right.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::Forged`].
    pub fn authenticate<T: Control>(&self, stored: Stored<T>) -> Result<T, VaultError> {
        self.with(|keys| authentic::authenticate(keys, stored))
    }

    /// A 32-byte key derived from the root key for one purpose; the same each time. Callers give the purpose a
    /// name of its own, such as `session-digest`.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn derive(&self, purpose: &str) -> Result<SecretBytes, VaultError> {
        let info = Canonical::new("dekeys.derive.v1").text(purpose).finish();
        self.with(|keys| primitive::subkey(&keys.root, &info))
            .map(|key| SecretBytes::new(key.to_vec()))
    }

    /// The keyring with a fresh KEK. Store it, then [`Vault::adopt`] it, then reserve wraps anew.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::WrongKeyring`].
    pub fn rotate(&self, keyring: &Keyring, now: Timestamp) -> Result<Keyring, VaultError> {
        let keys = self.keys()?;
        keyring.reopen(self.0.instance, &keys)?;
        keyring.with_fresh_kek(&keys, now, self.0.random.as_ref())
    }

    /// Takes over a rotated keyring, this instance's own or another's. `wraps` are the numbers that the store reserved
    /// for the newest KEK; they count from now on when that is another one.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::WrongKeyring`], [`VaultError::Corrupt`]; changes nothing then.
    pub fn adopt(&self, keyring: &Keyring, wraps: &Range<u64>) -> Result<(), VaultError> {
        let before = self.keys()?;
        let keys = Arc::new(keyring.reopen(self.0.instance, &before)?);
        let another = keys.current.id != before.current.id;
        // Sealed or rotated meanwhile: that stands.
        let seen = self.0.keys.compare_and_swap(&Some(Arc::clone(&before)), Some(keys));
        if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &before)) {
            return Err(VaultError::Busy);
        }
        if another {
            self.0.wraps.store(wraps.start, Ordering::Release);
            self.0.reserved.store(wraps.end, Ordering::Release);
        }
        Ok(())
    }

    /// Whether `keyring` holds a newer KEK than this vault: another instance rotated.
    ///
    /// # Errors
    /// As [`Vault::adopt`]; [`VaultError::Corrupt`] too for a keyring that is older than the one in use.
    pub fn is_behind(&self, keyring: &Keyring) -> Result<bool, VaultError> {
        let keys = self.keys()?;
        let stored = keyring.reopen(self.0.instance, &keys)?;
        match stored.current.version.cmp(&keys.current.version) {
            CmpOrdering::Greater => Ok(true),
            CmpOrdering::Equal if stored.current.id == keys.current.id => Ok(false),
            _ => Err(VaultError::Corrupt),
        }
    }

    /// Whether this vault holds the KEK that `sealed` names. Another instance may have rotated meanwhile.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn knows(&self, sealed: &Sealed) -> Result<bool, VaultError> {
        self.with(|keys| Ok(envelope::is_known(keys, sealed)))
    }

    /// How values begin that the current KEK sealed; all others wait to be sealed anew.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn current_prefix(&self) -> Result<[u8; 9], VaultError> {
        self.with(|keys| Ok(envelope::prefix(keys.current.id)))
    }

    /// The keyring with a second unseal key, which opens it beside the first until [`Vault::rekey_confirm`] or
    /// [`Keyring::without_pending`]. Everything sealed stays. Takes seconds for a passphrase.
    ///
    /// # Errors
    /// [`VaultError::Sealed`], [`VaultError::WrongKeyring`], and those of [`Vault::create`].
    pub fn rekey_begin(&self, keyring: &Keyring, mode: Mode, key: &UnsealKey) -> Result<Keyring, VaultError> {
        let keys = self.keys()?;
        keyring.reopen(self.0.instance, &keys)?;
        keyring.with_pending(&keys, mode, key, self.0.random.as_ref())
    }

    /// The keyring under its second unseal key alone: the first opens it no more. Takes the key once more, so that
    /// nobody locks themselves out with one they cannot read back.
    ///
    /// # Errors
    /// [`VaultError::NothingPending`]; [`VaultError::WrongKey`] for another key than the pending one;
    /// [`VaultError::Sealed`].
    pub fn rekey_confirm(&self, keyring: &Keyring, key: &UnsealKey) -> Result<Keyring, VaultError> {
        let keys = self.keys()?;
        keyring.reopen(self.0.instance, &keys)?;
        keyring.confirmed(&keys, key)
    }

    /// The same value under the current KEK, or `None` when it is already.
    ///
    /// # Errors
    /// Those of [`Vault::open_own`] and [`Vault::seal_value`].
    pub fn rewrap(&self, sealed: &Sealed, place: &Place) -> Result<Option<Sealed>, VaultError> {
        let keys = self.keys()?;
        if envelope::is_current(&keys, sealed) {
            return Ok(None);
        }
        self.check_place(place)?;
        self.count_wrap()?;
        envelope::rewrap(&keys, place, sealed, self.0.random.as_ref()).map(Some)
    }

    /// The keys of the moment, without touching their count: threads do not meet here.
    fn with<T>(&self, act: impl FnOnce(&Keys) -> Result<T, VaultError>) -> Result<T, VaultError> {
        let keys = self.0.keys.load();
        act(keys.as_deref().ok_or(VaultError::Sealed)?)
    }

    /// The keys of the moment, kept for longer.
    fn keys(&self) -> Result<Arc<Keys>, VaultError> {
        self.0.keys.load_full().ok_or(VaultError::Sealed)
    }

    fn refuse_unsealed(&self) -> Result<(), VaultError> {
        if self.is_sealed() {
            Ok(())
        } else {
            Err(VaultError::AlreadyUnsealed)
        }
    }

    fn check_place(&self, place: &Place) -> Result<(), VaultError> {
        if place.instance == self.0.instance {
            Ok(())
        } else {
            Err(VaultError::Mismatch)
        }
    }

    fn count_wrap(&self) -> Result<(), VaultError> {
        let reserved = self.0.reserved.load(Ordering::Acquire).min(WRAP_LIMIT);
        let next = |used: u64| (used < reserved).then_some(used.saturating_add(1));
        match self.0.wraps.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(()),
            Err(used) if used >= WRAP_LIMIT => Err(VaultError::WrapLimit),
            Err(_) => Err(VaultError::WrapsReserved),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_sealed() { "sealed" } else { "unsealed" };
        write!(f, "Vault({}, {state})", self.0.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::EventId;
    use crate::base::random::SeededRandom;
    use crate::base::secret::SecretText;
    use crate::base::time::Ttl;
    use crate::model::principal::{Principal, PrincipalKind, PublicKey};

    const NOW: Timestamp = Timestamp::from_millis(1_763_668_267_123);

    fn instance(seed: u64) -> InstanceId {
        InstanceId::new(NOW, &SeededRandom::new(seed))
    }

    fn key_file(byte: u8) -> UnsealKey {
        UnsealKey::KeyFile(SecretBytes::new(vec![byte; 32]))
    }

    fn create(key: &UnsealKey) -> (Vault, Keyring) {
        let random = Arc::new(SeededRandom::new(7));
        let (vault, keyring) = Vault::create(instance(1), Mode::Test, key, NOW, random).unwrap();
        vault.allow_wraps(10_000);
        (vault, keyring)
    }

    fn place(id: &str) -> Place {
        Place {
            instance: instance(1),
            record: "credential",
            id: id.to_owned(),
            owner: "lea_1".to_owned(),
            version: 1,
            field: "value",
        }
    }

    fn committed(object: &str, version: i64) -> Committed {
        Committed::new(EventId::new(NOW, &SeededRandom::new(2)), object.to_owned(), version)
    }

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    fn open(vault: &Vault, sealed: &Sealed, place: &Place) -> Result<Vec<u8>, VaultError> {
        vault
            .open(sealed, place, committed(&place.id, place.version))
            .map(|secret| secret.expose().to_vec())
    }

    fn refusal<T>(result: Result<T, VaultError>) -> VaultError {
        result.err().expect("a refusal")
    }

    #[test]
    fn values_of_every_length_open_where_they_were_sealed() {
        let (vault, _) = create(&key_file(1));
        for length in [0, 1, 27, 28, 29, 60, 61, 4096, 64 * 1024] {
            let value = vec![0xab; length];
            let sealed = vault.seal_value(&place("a"), &SecretBytes::new(value.clone())).unwrap();
            assert_eq!(open(&vault, &sealed, &place("a")), Ok(value), "{length}");
        }
        let long = SecretBytes::new(vec![0; 64 * 1024 + 1]);
        assert_eq!(refusal(vault.seal_value(&place("a"), &long)), VaultError::TooLarge);
    }

    #[test]
    fn the_size_of_a_row_shows_only_its_size_class() {
        let (vault, _) = create(&key_file(1));
        let size = |length: usize| {
            let value = SecretBytes::new(vec![1; length]);
            vault.seal_value(&place("a"), &value).unwrap().0.len()
        };
        assert_eq!((size(1), size(29)), (size(28), size(60)));
        assert!(size(28) < size(29) && size(60) < size(61));
    }

    #[test]
    fn of_200_sealed_values_none_opens_at_the_place_of_another() {
        let (vault, _) = create(&key_file(1));
        let places: Vec<Place> = (0..200)
            .map(|n: i64| Place {
                record: if n % 2 == 0 { "credential" } else { "root" },
                id: format!("cred_{}", n / 8),
                owner: format!("lea_{}", n / 2 % 2),
                version: n / 4 % 2 + 1,
                field: if n < 100 { "value" } else { "other" },
                ..place("")
            })
            .collect();
        let sealed: Vec<Sealed> = places
            .iter()
            .map(|at| vault.seal_value(at, &secret("same plaintext")).unwrap())
            .collect();
        for (home, value) in sealed.iter().enumerate() {
            for (here, at) in places.iter().enumerate() {
                let opened = open(&vault, value, at);
                if home == here {
                    assert!(opened.is_ok(), "{home}");
                } else {
                    assert_eq!(refusal(opened), VaultError::Corrupt, "{home} at {here}");
                }
            }
        }
    }

    #[test]
    fn any_changed_bit_of_a_sealed_value_is_found() {
        let (vault, _) = create(&key_file(1));
        let sealed = vault.seal_value(&place("a"), &secret("sk-1")).unwrap();
        for byte in 0..sealed.0.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered.0[byte] ^= 1 << bit;
                let found = refusal(open(&vault, &altered, &place("a")));
                let wanted = if (1..9).contains(&byte) {
                    VaultError::UnknownKey
                } else {
                    VaultError::Corrupt
                };
                assert_eq!(found, wanted, "byte {byte}, bit {bit}");
            }
        }
        for length in 0..sealed.0.len() {
            let cut = Sealed(sealed.0[..length].to_vec());
            assert!(open(&vault, &cut, &place("a")).is_err(), "{length}");
        }
    }

    #[test]
    fn another_instance_neither_seals_nor_opens_here() {
        let (vault, _) = create(&key_file(1));
        let foreign = Place {
            instance: instance(2),
            ..place("a")
        };
        assert_eq!(refusal(vault.seal_value(&foreign, &secret("x"))), VaultError::Mismatch);
        let sealed = vault.seal_value(&place("a"), &secret("x")).unwrap();
        assert_eq!(refusal(open(&vault, &sealed, &foreign)), VaultError::Mismatch);
    }

    #[test]
    fn a_record_of_another_object_or_version_opens_nothing() {
        let (vault, _) = create(&key_file(1));
        let sealed = vault.seal_value(&place("a"), &secret("x")).unwrap();
        for wrong in [committed("b", 1), committed("a", 2), committed("", 1)] {
            assert_eq!(refusal(vault.open(&sealed, &place("a"), wrong)), VaultError::Mismatch);
        }
        assert!(vault.open(&sealed, &place("a"), committed("a", 1)).is_ok());
    }

    #[test]
    fn only_own_keys_open_without_a_record() {
        let (vault, _) = create(&key_file(1));
        let own = Place {
            record: OWN_RECORD,
            ..place("log")
        };
        let sealed = vault.seal_value(&own, &secret("seed")).unwrap();
        assert_eq!(vault.open_own(&sealed, &own).unwrap().expose(), b"seed");
        for record in ["credential", "root", ""] {
            let other = Place { record, ..place("log") };
            let sealed = vault.seal_value(&other, &secret("seed")).unwrap();
            assert_eq!(
                refusal(vault.open_own(&sealed, &other)),
                VaultError::NeedsRecord(record)
            );
        }
    }

    #[test]
    fn a_sealed_vault_refuses_everything() {
        let (vault, keyring) = create(&key_file(1));
        let own = Place {
            record: OWN_RECORD,
            ..place("a")
        };
        let sealed = vault.seal_value(&own, &secret("x")).unwrap();
        let mac = vault.mac(&somebody()).unwrap();
        vault.seal();
        assert!(vault.is_sealed());
        let stored = Stored {
            unverified: somebody(),
            mac,
        };
        let answers = [
            refusal(vault.seal_value(&own, &secret("x"))),
            refusal(vault.open(&sealed, &own, committed("a", 1))),
            refusal(vault.open_own(&sealed, &own)),
            refusal(vault.mac(&somebody())),
            refusal(vault.authenticate(stored)),
            refusal(vault.derive("x")),
            refusal(vault.rotate(&keyring, NOW)),
            refusal(vault.adopt(&keyring, &(0..1))),
            refusal(vault.is_behind(&keyring)),
            refusal(vault.knows(&sealed)),
            refusal(vault.current_prefix()),
            refusal(vault.rekey_begin(&keyring, Mode::Test, &key_file(2))),
            refusal(vault.rekey_confirm(&keyring, &key_file(2))),
            refusal(vault.rewrap(&sealed, &own)),
        ];
        assert!(
            answers.iter().all(|answer| *answer == VaultError::Sealed),
            "{answers:?}"
        );
        vault.unseal(&keyring, &key_file(1)).unwrap();
        assert_eq!(vault.open_own(&sealed, &own).unwrap().expose(), b"x");
    }

    #[test]
    fn the_stored_keyring_unseals_another_process() {
        let (vault, keyring) = create(&UnsealKey::Passphrase(SecretText::new("correct horse".to_owned())));
        let sealed = vault.seal_value(&place("a"), &secret("x")).unwrap();
        let json = serde_json::to_string(&keyring).unwrap();
        let keyring: Keyring = serde_json::from_str(&json).unwrap();
        let other = Vault::new(instance(1), Arc::new(SeededRandom::new(8)));
        let wrong = UnsealKey::Passphrase(SecretText::new("correct hors".to_owned()));
        assert_eq!(refusal(other.unseal(&keyring, &wrong)), VaultError::WrongKey);
        assert!(other.is_sealed());
        let right = UnsealKey::Passphrase(SecretText::new("correct horse".to_owned()));
        other.unseal(&keyring, &right).unwrap();
        assert_eq!(open(&other, &sealed, &place("a")), Ok(b"x".to_vec()));
        assert_eq!(refusal(other.unseal(&keyring, &right)), VaultError::AlreadyUnsealed);
    }

    #[test]
    fn wrong_keys_and_keyrings_are_told_apart_and_change_nothing() {
        let (_, keyring) = create(&key_file(1));
        let vault = Vault::new(instance(1), Arc::new(SeededRandom::new(8)));
        let foreign = Vault::new(instance(2), Arc::new(SeededRandom::new(8)));
        let passphrase = UnsealKey::Passphrase(SecretText::new("x".to_owned()));
        assert_eq!(refusal(vault.unseal(&keyring, &key_file(2))), VaultError::WrongKey);
        assert_eq!(
            refusal(vault.unseal(&keyring, &passphrase)),
            VaultError::WrongKind("a key file")
        );
        assert_eq!(
            refusal(foreign.unseal(&keyring, &key_file(1))),
            VaultError::WrongKeyring(instance(1).to_string())
        );
        assert!(vault.is_sealed() && foreign.is_sealed());
        vault.unseal(&keyring, &key_file(1)).unwrap();
    }

    #[test]
    fn an_altered_keyring_does_not_open() {
        let (_, keyring) = create(&key_file(1));
        let json = serde_json::to_value(&keyring).unwrap();
        let unseal = |json: &serde_json::Value, at: InstanceId| {
            let keyring: Keyring = serde_json::from_value(json.clone()).expect("still a keyring");
            refusal(Vault::new(at, Arc::new(SeededRandom::new(8))).unseal(&keyring, &key_file(1)))
        };
        let altered = |pointer: &str, value: serde_json::Value| {
            let mut copy = json.clone();
            *copy.pointer_mut(pointer).expect(pointer) = value;
            copy
        };
        let flipped = |pointer: &str| {
            let text = json.pointer(pointer).and_then(|value| value.as_str()).expect(pointer);
            let first = if text.starts_with('A') { "B" } else { "A" };
            altered(pointer, format!("{first}{}", text.split_at(1).1).into())
        };
        let here = instance(1);
        assert_eq!(unseal(&flipped("/commitment"), here), VaultError::WrongKey);
        assert_eq!(unseal(&flipped("/unseal/salt"), here), VaultError::WrongKey);
        assert_eq!(unseal(&flipped("/root"), here), VaultError::Corrupt);
        assert_eq!(unseal(&flipped("/keks/0/wrapped"), here), VaultError::Corrupt);
        assert_eq!(unseal(&altered("/keks/0/version", 2.into()), here), VaultError::Corrupt);
        let older = altered("/keks/0/created", "2020-01-01T00:00:00Z".into());
        assert_eq!(unseal(&older, here), VaultError::Corrupt);
        assert_eq!(
            unseal(&altered("/keks", serde_json::json!([])), here),
            VaultError::Corrupt
        );
        let moved = altered("/instance", instance(2).to_string().into());
        assert_eq!(
            unseal(&moved, instance(2)),
            VaultError::Corrupt,
            "renamed to another instance"
        );
    }

    #[test]
    fn downgraded_parameters_are_refused_before_the_passphrase_is_used() {
        let (_, keyring) = create(&UnsealKey::Passphrase(SecretText::new("x".to_owned())));
        let mut json = serde_json::to_value(&keyring).unwrap();
        json["unseal"]["memory_kib"] = 32_768.into();
        let weak: Keyring = serde_json::from_value(json).unwrap();
        let vault = Vault::new(instance(1), Arc::new(SeededRandom::new(8)));
        let key = UnsealKey::Passphrase(SecretText::new("x".to_owned()));
        assert_eq!(refusal(vault.unseal(&weak, &key)), VaultError::WeakParameters);
    }

    #[test]
    fn an_empty_passphrase_makes_no_vault() {
        let key = UnsealKey::Passphrase(SecretText::new(String::new()));
        let made = Vault::create(instance(1), Mode::Test, &key, NOW, Arc::new(SeededRandom::new(1)));
        assert_eq!(refusal(made), VaultError::EmptyPassphrase);
    }

    #[test]
    fn wraps_end_where_the_store_reserved_them_and_at_the_limit() {
        let (vault, _) = create(&key_file(1));
        vault.start_wraps(9_998);
        assert!(vault.seal_value(&place("a"), &secret("x")).is_ok());
        assert!(vault.seal_value(&place("a"), &secret("x")).is_ok());
        assert_eq!(vault.wraps(), 10_000);
        assert_eq!(
            refusal(vault.seal_value(&place("a"), &secret("x"))),
            VaultError::WrapsReserved
        );
        vault.allow_wraps(5);
        assert_eq!(
            refusal(vault.seal_value(&place("a"), &secret("x"))),
            VaultError::WrapsReserved
        );
        vault.allow_wraps(10_001);
        assert!(vault.seal_value(&place("a"), &secret("x")).is_ok());
        vault.start_wraps(WRAP_LIMIT - 1);
        vault.allow_wraps(u64::MAX);
        assert!(vault.seal_value(&place("a"), &secret("x")).is_ok());
        assert_eq!(
            refusal(vault.seal_value(&place("a"), &secret("x"))),
            VaultError::WrapLimit
        );
    }

    #[test]
    fn no_more_is_sealed_than_reserved_however_many_threads_try() {
        let (vault, _) = create(&key_file(1));
        vault.start_wraps(9_900);
        let sealed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..50)
                            .filter(|_| vault.seal_value(&place("a"), &secret("x")).is_ok())
                            .count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sealed, 100);
    }

    #[test]
    fn a_rotated_keyring_opens_the_old_and_seals_with_the_new() {
        let (vault, keyring) = create(&key_file(1));
        let old = vault.seal_value(&place("a"), &secret("x")).unwrap();
        let later = NOW.plus(Ttl::from_mins(60 * 24 * 90));
        let rotated = vault.rotate(&keyring, later).unwrap();
        assert_eq!(rotated.current_kek().map(|(version, _)| version), Some(2));
        assert_eq!(
            (vault.is_behind(&keyring), vault.is_behind(&rotated)),
            (Ok(false), Ok(true))
        );
        vault.adopt(&rotated, &(3..4)).unwrap();
        assert_eq!(vault.is_behind(&rotated), Ok(false));
        assert_eq!(
            vault.is_behind(&keyring),
            Err(VaultError::Corrupt),
            "a keyring that was rolled back"
        );
        assert_eq!(vault.wraps(), 3);
        assert!(vault.seal_value(&place("a"), &secret("x")).is_ok(), "one is reserved");
        assert_eq!(
            refusal(vault.seal_value(&place("a"), &secret("x"))),
            VaultError::WrapsReserved
        );
        vault.allow_wraps(10);
        assert_eq!(open(&vault, &old, &place("a")), Ok(b"x".to_vec()));
        let new = vault.rewrap(&old, &place("a")).unwrap().expect("was under the old key");
        assert_eq!(vault.rewrap(&new, &place("a")), Ok(None));
        let prefix = vault.current_prefix().unwrap();
        assert!(new.0.starts_with(&prefix) && !old.0.starts_with(&prefix));
        assert_eq!(open(&vault, &new, &place("a")), Ok(b"x".to_vec()));
        let behind = Vault::new(instance(1), Arc::new(SeededRandom::new(8)));
        behind.unseal(&keyring, &key_file(1)).unwrap();
        assert_eq!((behind.knows(&old), behind.knows(&new)), (Ok(true), Ok(false)));
        assert_eq!(refusal(open(&behind, &new, &place("a"))), VaultError::UnknownKey);
        behind.adopt(&rotated, &(0..9)).unwrap();
        assert_eq!(open(&behind, &new, &place("a")), Ok(b"x".to_vec()));
    }

    #[test]
    fn a_new_unseal_key_opens_beside_the_old_one_until_it_is_confirmed() {
        let (vault, keyring) = create(&key_file(1));
        let sealed = vault.seal_value(&place("a"), &secret("x")).unwrap();
        let both = vault.rekey_begin(&keyring, Mode::Test, &key_file(2)).unwrap();
        assert_eq!(
            refusal(vault.rekey_confirm(&keyring, &key_file(2))),
            VaultError::NothingPending
        );
        assert_eq!(
            refusal(vault.rekey_confirm(&both, &key_file(1))),
            VaultError::WrongKey,
            "the old key confirms nothing"
        );
        let new = vault.rekey_confirm(&both, &key_file(2)).unwrap();
        let opens = |keyring: &Keyring, byte| {
            vault.seal();
            vault.unseal(keyring, &key_file(byte))?;
            open(&vault, &sealed, &place("a"))
        };
        for (keyring, byte, right) in [
            (&both, 1, true),
            (&both, 2, true),
            (&both, 3, false),
            (&both.without_pending(), 1, true),
            (&both.without_pending(), 2, false),
            (&new, 1, false),
            (&new, 2, true),
        ] {
            let seen = opens(keyring, byte);
            let expected = if right {
                Ok(b"x".to_vec())
            } else {
                Err(VaultError::WrongKey)
            };
            assert_eq!(seen, expected, "{byte}");
        }
        assert!(both.is_rekeying() && !new.is_rekeying());
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_stay_the_same() {
        let (vault, _) = create(&key_file(1));
        let key = |purpose: &str| vault.derive(purpose).unwrap().expose().to_vec();
        assert_eq!(key("sessions"), key("sessions"));
        assert_ne!(key("sessions"), key("session"));
        assert_eq!(key("sessions").len(), 32);
    }

    fn somebody() -> Principal {
        Principal {
            id: crate::base::id::PrincipalId::new(NOW, &SeededRandom::new(3)),
            name: "ada".parse().unwrap(),
            kind: PrincipalKind::Human,
            keys: vec![PublicKey::from_bytes([1; 32])],
            wallets: vec!["eip155:84532:0xaa".to_owned()],
            approver: true,
            disabled: false,
            created: NOW,
        }
    }

    #[test]
    fn any_changed_field_of_a_control_row_is_forged() {
        let (vault, _) = create(&key_file(1));
        let mac = vault.mac(&somebody()).unwrap();
        let check = |row: Principal| vault.authenticate(Stored { unverified: row, mac });
        assert_eq!(check(somebody()), Ok(somebody()));
        let other_id = crate::base::id::PrincipalId::new(NOW, &SeededRandom::new(4));
        let forged = [
            Principal {
                id: other_id,
                ..somebody()
            },
            Principal {
                name: "adb".parse().unwrap(),
                ..somebody()
            },
            Principal {
                kind: PrincipalKind::Operator,
                ..somebody()
            },
            Principal {
                keys: vec![PublicKey::from_bytes([2; 32])],
                ..somebody()
            },
            Principal {
                keys: vec![],
                ..somebody()
            },
            Principal {
                wallets: vec!["eip155:84532:0xab".to_owned()],
                ..somebody()
            },
            Principal {
                approver: false,
                ..somebody()
            },
            Principal {
                disabled: true,
                ..somebody()
            },
            Principal {
                created: NOW.plus(Ttl::from_millis(1)),
                ..somebody()
            },
        ];
        for row in forged {
            assert_eq!(check(row.clone()), Err(VaultError::Forged), "{row:?}");
        }
        for byte in 0..32 {
            let mut altered = mac;
            altered.0[byte] ^= 1;
            let stored = Stored {
                unverified: somebody(),
                mac: altered,
            };
            assert_eq!(vault.authenticate(stored), Err(VaultError::Forged), "{byte}");
        }
        let other = Vault::create(
            instance(1),
            Mode::Test,
            &key_file(1),
            NOW,
            Arc::new(SeededRandom::new(9)),
        );
        let stored = Stored {
            unverified: somebody(),
            mac,
        };
        assert_eq!(
            other.unwrap().0.authenticate(stored),
            Err(VaultError::Forged),
            "another root key"
        );
    }

    #[test]
    fn nothing_stored_or_printed_holds_a_key() {
        let (vault, keyring) = create(&key_file(0x41));
        let shown = format!("{vault:?} {keyring:?} {}", serde_json::to_string(&keyring).unwrap());
        let root = data_encoding::BASE64URL_NOPAD.encode(vault.keys().unwrap().root.as_slice());
        assert!(
            !shown.contains(&root)
                && !shown.contains("AAAAAAAAAAAAAAA")
                && !shown.contains("QUFBQUFB")
                && !shown.contains("65, 65, 65")
        );
    }
}
