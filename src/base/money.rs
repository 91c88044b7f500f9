//! Money: whole atomic units and a currency, never a float. Written `0.01 USDC`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is counted. Both have six decimals: USDC by its contract, USD because vendors' prices need them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Currency {
    /// US dollars: what a vendor charges us.
    Usd,
    /// The USDC token: what a payer pays us.
    Usdc,
}

const DECIMALS: usize = 6;
const UNIT: i64 = 1_000_000;

/// An amount that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    atomic: i64,
    currency: Currency,
}

/// Text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount such as `0.01 USDC` (at most six decimals, not negative)")]
pub struct InvalidMoney(String);

impl Money {
    /// `atomic` units (millionths) of `currency`; a negative number becomes zero.
    #[must_use]
    pub const fn new(atomic: i64, currency: Currency) -> Self {
        Self {
            atomic: if atomic < 0 { 0 } else { atomic },
            currency,
        }
    }

    /// Atomic units, millionths.
    #[must_use]
    pub const fn atomic(self) -> i64 {
        self.atomic
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// `count` times this amount.
    #[must_use]
    pub const fn times(self, count: i64) -> Self {
        Self::new(self.atomic.saturating_mul(count), self.currency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usd => "USD",
            Self::Usdc => "USDC",
        })
    }
}

impl fmt::Display for Money {
    /// At least two decimals, no more than needed: `0.01 USDC`, `5.00 USD`, `0.000001 USDC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.atomic % UNIT);
        let digits = fraction.trim_end_matches('0').len().max(2);
        write!(
            f,
            "{}.{} {}",
            self.atomic / UNIT,
            fraction.get(..digits).unwrap_or(&fraction),
            self.currency
        )
    }
}

impl FromStr for Money {
    type Err = InvalidMoney;
    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        let invalid = || InvalidMoney(text.chars().take(64).collect());
        let (number, currency) = text.split_once(' ').ok_or_else(invalid)?;
        let currency = match currency {
            "USD" => Currency::Usd,
            "USDC" => Currency::Usdc,
            _ => return Err(invalid()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > DECIMALS || !digits(whole) || !digits(fraction) || number.ends_with('.')
        {
            return Err(invalid());
        }
        let whole: i64 = whole.parse().map_err(|_| invalid())?;
        let fraction: i64 = format!("{fraction:0<6}").parse().map_err(|_| invalid())?;
        let atomic = whole
            .checked_mul(UNIT)
            .and_then(|units| units.checked_add(fraction))
            .ok_or_else(invalid)?;
        Ok(Self { atomic, currency })
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})? (USD|USDC)$", "examples": ["0.01 USDC"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_amounts() {
        for (text, atomic) in [
            ("0.01 USDC", 10_000),
            ("5.00 USD", 5_000_000),
            ("0.000001 USDC", 1),
            ("12.50 USD", 12_500_000),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.atomic(), money.to_string().as_str()), (atomic, text));
        }
        assert_eq!("1 USDC".parse::<Money>().unwrap().atomic(), 1_000_000);
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in [
            "",
            "1",
            "1 EUR",
            "-1 USD",
            ".5 USD",
            "1. USD",
            "1.0000001 USD",
            "1e3 USD",
            "9223372036855 USD",
            "1  USD",
            "١ USD",
        ] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
    }
}
