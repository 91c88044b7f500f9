//! A key of 32 bytes in shares: any `threshold` of them give it back, fewer say nothing about it (Shamir, 1979), over
//! GF(2⁸) with the polynomial of AES, so that shares of other programs of this kind can be compared.
//!
//! No table is looked up and nothing branches on a secret: multiplication and inversion take the same steps whatever
//! the bytes are (CVE-2023-25000 was a lookup). Coefficients are uniform, zero included (RUSTSEC-2024-0398 was one that
//! was not). A share's text carries the set it is of, its number and a checksum against mistyping; that the *right* key
//! came out, only its user can tell.
//!
//! Not protected: whoever hands in a wrong share of the right set learns only that the key is wrong, but so does
//! everybody else: shares are not verifiable one by one.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::random::{self, Random};

/// What the text of a share begins with.
const PREFIX: &str = "dks1-";

/// The key that is split. Wiped when dropped.
pub type Split = Zeroizing<[u8; 32]>;

/// A share that is no good: mistyped, of another set, twice, or too few. One error for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not a share, or not one that fits the others.
    #[error("that is not a share of this set that is still missing")]
    Unfit,
    /// Nobody could ever join so many, or one alone could.
    #[error("a key is split into 2 to 255 shares, and 2 of them are needed at least, all at most")]
    Threshold,
}

/// Set, threshold, number, 32 bytes, checksum.
const LENGTH: usize = SET + 2 + 32 + CHECK;
const SET: usize = 4;
const CHECK: usize = 4;

/// Which shares belong together; nothing secret.
pub type SetId = [u8; SET];

/// One share of an unseal key. Wiped when dropped; it has no `Debug`.
pub struct Share {
    set: SetId,
    threshold: u8,
    index: u8,
    value: Split,
}

impl Share {
    /// Reads a share's text; white space and dashes in it do not count, nor does its case.
    ///
    /// # Errors
    /// [`ShareError::Unfit`], for whatever is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let plain: Zeroizing<String> = Zeroizing::new(
            text.chars()
                .filter(|letter| !letter.is_whitespace() && *letter != '-')
                .map(|letter| letter.to_ascii_uppercase())
                .collect(),
        );
        let digits = plain.strip_prefix("DKS1").ok_or(ShareError::Unfit)?;
        let bytes = BASE32_NOPAD.decode(digits.as_bytes()).map_err(|_| ShareError::Unfit)?;
        let bytes = Zeroizing::new(bytes);
        let (body, check) = bytes
            .split_at_checked(LENGTH - CHECK)
            .filter(|_| bytes.len() == LENGTH)
            .ok_or(ShareError::Unfit)?;
        if !bool::from(checksum(body).ct_eq(check)) {
            return Err(ShareError::Unfit);
        }
        let (set, rest) = body.split_first_chunk::<SET>().ok_or(ShareError::Unfit)?;
        let (&[threshold, index], value) = rest.split_first_chunk::<2>().ok_or(ShareError::Unfit)?;
        let value = <[u8; 32]>::try_from(value).map_err(|_| ShareError::Unfit)?;
        if threshold == 0 || index == 0 {
            return Err(ShareError::Unfit);
        }
        Ok(Self {
            set: *set,
            threshold,
            index,
            value: Zeroizing::new(value),
        })
    }

    /// The text to write down: `dks1-` and groups of four letters and digits.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&[self.threshold, self.index]);
        bytes.extend_from_slice(self.value.as_slice());
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        let digits = Zeroizing::new(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase());
        let mut text = Zeroizing::new(String::with_capacity(digits.len() * 2));
        text.push_str(PREFIX);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                text.push('-');
            }
            text.push(digit);
        }
        text
    }

    /// Which shares it belongs to.
    #[must_use]
    pub const fn set(&self) -> SetId {
        self.set
    }

    /// How many are needed.
    #[must_use]
    pub const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Its number in the set, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.index
    }

    /// Whether both are of one set.
    #[must_use]
    pub fn belongs_with(&self, other: &Self) -> bool {
        self.set == other.set && self.threshold == other.threshold
    }

    /// The same share once more, for a test.
    #[cfg(test)]
    fn again(&self) -> Self {
        Self {
            set: self.set,
            threshold: self.threshold,
            index: self.index,
            value: self.value.clone(),
        }
    }
}

/// Splits a fresh key into `shares`, any `threshold` of which give it back.
///
/// # Errors
/// [`ShareError::Threshold`] unless 2 ≤ threshold ≤ shares ≤ 255.
pub fn split(key: &Split, shares: u8, threshold: u8, random: &dyn Random) -> Result<Vec<Share>, ShareError> {
    if threshold < 2 || threshold > shares {
        return Err(ShareError::Threshold);
    }
    let set = random::bytes::<SET>(random);
    // Coefficients of degree 1 to threshold - 1, for each byte of the key.
    let coefficients: Vec<Split> = (1..threshold).map(|_| fresh(random)).collect();
    let value = |index: u8| {
        let mut value = Zeroizing::new([0u8; 32]);
        // Horner, from the highest degree down to the key itself.
        for layer in coefficients.iter().rev().chain([key]) {
            for (sum, coefficient) in value.iter_mut().zip(layer.iter()) {
                *sum = multiply(*sum, index) ^ coefficient;
            }
        }
        value
    };
    Ok((1..=shares)
        .map(|index| Share {
            set,
            threshold,
            index,
            value: value(index),
        })
        .collect())
}

/// The key that the shares give: interpolated at 0. Whether it is the right one only its user can tell.
///
/// # Errors
/// [`ShareError::Unfit`] for too few, for shares of several sets, and for one that comes twice.
pub fn join(shares: &[Share]) -> Result<Split, ShareError> {
    let first = shares.first().ok_or(ShareError::Unfit)?;
    let twice = |share: &Share| shares.iter().filter(|other| other.index == share.index).count() > 1;
    if shares.len() < usize::from(first.threshold)
        || shares.iter().any(|share| !first.belongs_with(share) || twice(share))
    {
        return Err(ShareError::Unfit);
    }
    let used: Vec<&Share> = shares.iter().take(usize::from(first.threshold)).collect();
    let mut key = Zeroizing::new([0u8; 32]);
    for share in &used {
        let others = used.iter().filter(|other| other.index != share.index);
        // Lagrange's coefficient at 0; subtraction is exclusive or.
        let weight = others.fold(1, |weight, other| {
            multiply(weight, multiply(other.index, invert(other.index ^ share.index)))
        });
        for (sum, value) in key.iter_mut().zip(share.value.iter()) {
            *sum ^= multiply(*value, weight);
        }
    }
    Ok(key)
}

/// 32 random bytes.
#[must_use]
pub fn fresh(random: &dyn Random) -> Split {
    Zeroizing::new(random::bytes(random))
}

/// The product in GF(2⁸) modulo x⁸ + x⁴ + x³ + x + 1, in the same steps for all bytes.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut a, mut bit) = (0u8, a, 0);
    while bit < 8 {
        // 0xff where the bit is set, 0 where not.
        product ^= a & 0u8.wrapping_sub((b >> bit) & 1);
        a = (a << 1) ^ (0x1b & 0u8.wrapping_sub(a >> 7));
        bit += 1;
    }
    product
}

/// The inverse: the 254th power, in the same steps for all bytes; of 0 it is 0.
const fn invert(a: u8) -> u8 {
    let (mut power, mut square, mut step) = (1u8, a, 0);
    while step < 7 {
        square = multiply(square, square);
        power = multiply(power, square);
        step += 1;
    }
    power
}

fn checksum(body: &[u8]) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::new_with_prefix(b"dekeys.share.v1")
        .chain_update(body)
        .finalize()
        .into();
    digest.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::{OsRandom, SeededRandom};

    fn refusal<T>(result: Result<T, ShareError>) -> ShareError {
        result.err().expect("a refusal")
    }

    #[test]
    fn arithmetic_is_that_of_the_field_of_aes() {
        // FIPS 197, 4.2: {57} · {83} = {c1}, {57} · {13} = {fe}.
        assert_eq!((multiply(0x57, 0x83), multiply(0x57, 0x13)), (0xc1, 0xfe));
        for a in 1..=255u8 {
            assert_eq!(multiply(a, invert(a)), 1, "{a}");
            assert_eq!(multiply(a, 0), 0);
        }
        assert_eq!(invert(0), 0);
    }

    #[test]
    fn every_choice_of_enough_shares_gives_the_key_and_fewer_do_not() {
        let key = fresh(&OsRandom);
        let shares = split(&key, 5, 3, &OsRandom).unwrap();
        let mut choices = 0;
        for mask in 1u8..32 {
            let chosen: Vec<Share> = shares
                .iter()
                .filter(|share| mask & (1 << (share.index - 1)) != 0)
                .map(Share::again)
                .collect();
            if chosen.len() < 3 {
                assert_eq!(refusal(join(&chosen)), ShareError::Unfit);
            } else {
                assert!(*join(&chosen).unwrap() == *key, "{mask:05b}");
                choices += 1;
            }
        }
        assert_eq!(choices, 16);
        for (shares, threshold) in [(1, 1), (3, 1), (2, 3), (0, 0)] {
            assert_eq!(
                refusal(split(&key, shares, threshold, &OsRandom)),
                ShareError::Threshold
            );
        }
    }

    #[test]
    fn wrong_repeated_and_foreign_shares_are_one_and_the_same_error() {
        let key = fresh(&OsRandom);
        let (one, other) = (
            split(&key, 3, 2, &OsRandom).unwrap(),
            split(&key, 3, 2, &OsRandom).unwrap(),
        );
        for chosen in [
            vec![one[0].again(), one[0].again()],
            vec![one[0].again(), other[1].again()],
            vec![one[0].again()],
            Vec::new(),
        ] {
            assert_eq!(refusal(join(&chosen)), ShareError::Unfit);
        }
    }

    #[test]
    fn a_share_is_read_back_from_its_text_and_a_mistyped_one_is_not() {
        let key = fresh(&SeededRandom::new(4));
        let shares = split(&key, 3, 2, &SeededRandom::new(5)).unwrap();
        let text = shares[0].to_text();
        let loose = format!(" {}\n", text.to_uppercase().replace('-', " "));
        for text in [text.as_str(), loose.as_str()] {
            let read = Share::parse(text).unwrap();
            assert!(read.belongs_with(&shares[0]) && read.index() == 1 && read.threshold() == 2);
            assert!(*join(&[read, shares[2].again()]).unwrap() == *key);
        }
        let letters: Vec<char> = text.chars().collect();
        for (place, letter) in letters.iter().enumerate().skip(PREFIX.len()) {
            if *letter == '-' {
                continue;
            }
            for other in ['a', 'z', '2', '7', '1'] {
                let mut changed = letters.clone();
                changed[place] = other;
                if changed == letters {
                    continue;
                }
                let changed: String = changed.into_iter().collect();
                assert_eq!(refusal(Share::parse(&changed)), ShareError::Unfit, "{place} {other}");
            }
        }
    }

    #[test]
    fn coefficients_are_uniform_and_may_be_zero() {
        // With threshold 2 the first byte of share 1 is key ^ coefficient: all 256 values must come up.
        let key = fresh(&SeededRandom::new(1));
        let mut seen = [0u32; 256];
        let random = SeededRandom::new(9);
        for _ in 0..20_000 {
            let shares = split(&key, 2, 2, &random).unwrap();
            seen[usize::from(shares[0].value[0] ^ key[0])] += 1;
        }
        assert!(seen.iter().all(|count| (30..140).contains(count)), "{seen:?}");
    }
}
