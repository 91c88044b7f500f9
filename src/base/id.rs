//! Identifiers: a prefix that says what the thing is, and a UUIDv7 (RFC 9562) in 26 characters of
//! Crockford base32, so that ids sort by the time of their making and a cursor is an id.
//!
//! Example: `grt_01KAG4C1B2T5Q3V7X9Z0A1B2C3`.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::random::Random;
use super::time::Timestamp;

/// Text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id of the form `{prefix}_` and 26 characters of base32")]
pub struct InvalidId {
    /// The prefix that was wanted, without the underscore.
    pub prefix: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, made at `now`.
            #[must_use]
            pub fn new(now: Timestamp, random: &dyn Random) -> Self {
                Self(fresh(now, random))
            }

            /// The id that follows from a digest, of which the first 16 bytes count. It is of no time (`UUIDv8`).
            #[must_use]
            pub fn derived(digest: &[u8; 32]) -> Self {
                let mut bytes = [0u8; 16];
                for (byte, from) in bytes.iter_mut().zip(digest) {
                    *byte = *from;
                }
                Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
            }

            /// The id right after this one, of the same moment: for what happens in consequence.
            #[must_use]
            pub fn following(&self) -> Self {
                Self(following(self.0))
            }

            /// All zeros: no thing has it. A kind of id may give it a meaning.
            pub const NIL: Self = Self(Uuid::nil());

            /// The 16 bytes of the UUIDv7.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// When it was made, to the millisecond (RFC 9562 §5.7).
            #[must_use]
            pub fn made(&self) -> Timestamp {
                let [a, b, c, d, e, f, ..] = *self.as_bytes();
                Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
            }

            /// The 26 characters after the prefix.
            #[must_use]
            pub fn suffix(&self) -> String {
                text(&encode(&self.0)).to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(text(&encode(&self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "server")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "_[0-9A-HJKMNP-TV-Z]{26}$"),
                })
            }
        }
    )*};
}

ids! {
    /// An approval request.
    ApprovalId = "apr";
    /// One write batch: finds out whether a commit whose answer was lost took place.
    BatchId = "bat";
    /// One vendor key, made or being made; also the operation that makes and ends it.
    CredentialId = "cred";
    /// One event for one webhook.
    DeliveryId = "del";
    /// One entry of the ledger.
    EntryId = "ent";
    /// One entry of the audit log.
    EventId = "evt";
    /// What somebody bought or was given.
    GrantId = "grt";
    /// One database and its history; a copy or restore gets another.
    IncarnationId = "inc";
    /// One dekeys instance, fixed by `init`.
    InstanceId = "ins";
    /// One public key of a principal.
    KeyId = "key";
    /// One credential that is out, to one prim.
    LeaseId = "lea";
    /// A key that a vendor lists and that nobody here accounts for.
    OrphanId = "orp";
    /// An agent, prim, factory, human or operator.
    PrincipalId = "pri";
    /// One payment, from the claim of its authorization to its end.
    PurchaseId = "pur";
    /// A receipt.
    ReceiptId = "rcp";
    /// One HTTP request.
    RequestId = "req";
    /// One verdict of one approver.
    ReviewId = "rev";
    /// One root credential as it was entered.
    RootId = "root";
    /// A rotation of a key.
    RotationId = "rot";
    /// One signed session.
    SessionId = "ses";
    /// Somebody who is told of events over HTTP.
    WebhookId = "whe";
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many digits 128 bits take.
const DIGITS: usize = 26;

fn fresh(now: Timestamp, random: &dyn Random) -> Uuid {
    let mut tail = [0u8; 10];
    random.fill(&mut tail);
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}

/// The last 62 bits are random; what lies before them (time, version, variant) stays.
fn following(id: Uuid) -> Uuid {
    const TAIL: u128 = (1 << 62) - 1;
    let bits = id.as_u128();
    Uuid::from_u128((bits & !TAIL) | (bits.wrapping_add(1) & TAIL))
}

/// 128 bits as 26 base32 digits, most significant first; the first digit holds the top 3 bits.
fn encode(id: &Uuid) -> [u8; DIGITS] {
    let mut value = id.as_u128();
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        if let Some(byte) = usize::try_from(value & 31).ok().and_then(|place| CROCKFORD.get(place)) {
            *digit = *byte;
        }
        value >>= 5;
    }
    digits
}

/// Digits are ASCII.
fn text(digits: &[u8; DIGITS]) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

/// What a digit stands for.
const fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'H' => byte - b'A' + 10,
        b'J' | b'K' => byte - b'J' + 18,
        b'M' | b'N' => byte - b'M' + 20,
        b'P'..=b'T' => byte - b'P' + 22,
        b'V'..=b'Z' => byte - b'V' + 27,
        _ => return None,
    })
}

fn decode(prefix: &'static str, text: &str) -> Result<Uuid, InvalidId> {
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    let value = digits.and_then(|digits| value(digits.as_bytes()));
    value.map(Uuid::from_u128).ok_or_else(|| InvalidId {
        prefix,
        given: text.chars().take(64).collect(),
    })
}

fn value(digits: &[u8]) -> Option<u128> {
    let digits: &[u8; DIGITS] = digits.try_into().ok()?;
    let mut value: u128 = 0;
    for byte in digits {
        if value >> 123 != 0 {
            return None;
        }
        value = (value << 5) | u128::from(digit(*byte)?);
    }
    Some(value)
}

/// RFC 4648 base64url without padding: how dekeys prints keys, signatures and tokens.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

/// Lower-case base32 without padding (RFC 4648 alphabet), for names that vendors fold to lower case.
#[must_use]
pub fn base32_lower(bytes: &[u8]) -> String {
    static ENCODING: std::sync::LazyLock<Option<Encoding>> = std::sync::LazyLock::new(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification.encoding().ok()
    });
    ENCODING
        .as_ref()
        .map(|encoding| encoding.encode(bytes))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    #[test]
    fn prints_and_parses_back() {
        let random = SeededRandom::new(1);
        let id = GrantId::new(Timestamp::from_millis(1_763_668_267_000), &random);
        assert_eq!(id.to_string().parse::<GrantId>(), Ok(id));
        assert!(id.to_string().starts_with("grt_01"), "{id}");
    }

    #[test]
    fn the_following_id_is_of_the_same_moment_and_kind() {
        let id = EventId::new(Timestamp::from_millis(1_763_668_267_000), &SeededRandom::new(3));
        assert!(id.following() > id && id.following().made() == id.made());
        let last = EventId(Uuid::from_u128(id.0.as_u128() | ((1 << 62) - 1)));
        assert_eq!(last.following().0.get_version_num(), 7);
        assert_eq!(last.following().0.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn refuses_another_kind_wrong_length_lower_case_and_overflow() {
        let random = SeededRandom::new(1);
        let id = GrantId::new(Timestamp::from_millis(1), &random).to_string();
        for wrong in [
            id.replace("grt_", "lea_"),
            id.to_lowercase(),
            format!("{id}0"),
            "grt_ZZZZZZZZZZZZZZZZZZZZZZZZZZ".to_owned(),
            "grt_".to_owned(),
            String::new(),
        ] {
            assert!(wrong.parse::<GrantId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn known_values_print_as_they_always_did() {
        let max = GrantId(Uuid::from_u128(u128::MAX));
        assert_eq!(max.to_string(), "grt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        let one = GrantId(Uuid::from_u128(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF));
        assert_eq!(one.to_string(), "grt_014D2PF2DBSQQG28T5CY4TQKFF");
        assert_eq!(one.suffix(), "014D2PF2DBSQQG28T5CY4TQKFF");
        for id in [max, one, GrantId(Uuid::from_u128(0))] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in ["grt_7ZZZZZZZZZZZZZZZZZZZZZZZZU", "grt_7ZZZZZZZZZZZZZZZZZZZZZZZé"] {
            assert!(wrong.parse::<GrantId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let random = SeededRandom::new(1);
        let early = LeaseId::new(Timestamp::from_millis(1_000), &random);
        let late = LeaseId::new(Timestamp::from_millis(1_001), &random);
        assert!(early < late && early.to_string() < late.to_string());
    }
}
