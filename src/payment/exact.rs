//! Reading a payment: strict decoding of the header, the match with what was asked for, the times, the signature.
//! Nothing here goes over the network, so a stranger's forged header costs no call and locks nobody's wallet.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use x402_types::proto::v2;

use super::authorization::{Authorization, Signed, address, lower, number};
use super::error::{PaymentError, cut};
use super::terms::Terms;
use crate::base::money::Money;
use crate::base::time::{Timestamp, Ttl};

/// The longest header that is read, in bytes.
pub(super) const MAX_HEADER: usize = 16 * 1024;
/// How long an authorization must still last when it is offered: provisioning and settling need the time.
const LEAST_LEFT: Ttl = Ttl::from_secs(30);
/// How far the payer's clock may be off.
const SKEW: Ttl = Ttl::from_secs(60);

type Payment = v2::PaymentPayload<v2::PaymentRequirements, Signed>;
type Settlement = v2::VerifyRequest<Payment, v2::PaymentRequirements>;

/// A payment that fits the terms and was signed by its payer. Whether it will settle only the rail knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// CAIP-2 network.
    pub network: String,
    /// The token contract, lower case.
    pub asset: String,
    /// The payer's address, lower case; it signed.
    pub payer: String,
    /// The authorization's nonce, `0x` and 64 lower-case hexadecimal digits. Unique for the payer and the asset.
    pub nonce: String,
    /// Whom it pays, lower case.
    pub pay_to: String,
    /// Atomic units; the price.
    pub amount: i64,
    /// When the authorization ends.
    pub valid_before: Timestamp,
    /// What a facilitator's `/verify` and `/settle` take: the payment with our own requirements, in one spelling.
    /// Whoever holds it before settlement can have the payment made to `pay_to`, and no more.
    pub payload: String,
    /// The client's `payment-identifier`, 16 to 128 characters. Says which request this repeats; proves nothing.
    pub payment_id: Option<String>,
}

/// Reads the values of the header `PAYMENT-SIGNATURE` and checks all that can be checked here: base64 and JSON in
/// their one spelling, version, scheme, network, asset, receiver, the exact amount, the times, the signature.
///
/// # Errors
/// [`PaymentError`] says what is wrong; [`PaymentError::is_malformed`] tells 400 from 402.
pub fn read(header_values: &[&str], terms: &Terms, price: Money, now: Timestamp) -> Result<Offered, PaymentError> {
    let payment = decode(only(header_values)?)?;
    let payment_id = payment_id(&payment)?;
    accepts(&payment.accepted, terms, price)?;
    let authorization = Authorization::parse(&payment.payload.authorization)?;
    pays(&authorization, terms, price)?;
    lasts(&authorization, terms, now)?;
    authorization.check(&terms.domain()?, &payment.payload.signature)?;
    Ok(Offered {
        network: terms.network.clone(),
        asset: lower(&terms.domain()?.contract),
        payer: lower(&authorization.from),
        nonce: authorization.nonce.to_string(),
        pay_to: lower(&authorization.to),
        amount: price.atomic(),
        valid_before: seconds(authorization.valid_before),
        payload: settlement(payment, &authorization, terms, price)?,
        payment_id,
    })
}

/// Reads an authorization back from [`Offered::payload`] and checks its signature again: what a rail relies on.
pub(super) fn reread(payload: &str, terms: &Terms) -> Result<Authorization, PaymentError> {
    let settlement: Settlement =
        serde_json::from_str(payload).map_err(|_| PaymentError::Shape("it is not a stored payment"))?;
    let payment = settlement.payment_payload.payload;
    let authorization = Authorization::parse(&payment.authorization)?;
    authorization.check(&terms.domain()?, &payment.signature)?;
    Ok(authorization)
}

fn only<'a>(values: &[&'a str]) -> Result<&'a str, PaymentError> {
    match values {
        [] => Err(PaymentError::Missing),
        [value] if value.len() > MAX_HEADER => Err(PaymentError::TooLarge(value.len())),
        [value] => Ok(value),
        more => Err(PaymentError::Repeated(more.len())),
    }
}

fn decode(header: &str) -> Result<Payment, PaymentError> {
    let json = STANDARD.decode(header).map_err(|_| PaymentError::Encoding)?;
    serde_json::from_slice(&json).map_err(|_| misshapen(&json))
}

/// Why the JSON is no payment; only another version is worth its own words.
fn misshapen(json: &[u8]) -> PaymentError {
    #[derive(Deserialize)]
    struct Versioned {
        #[serde(rename = "x402Version")]
        version: u64,
    }
    match serde_json::from_slice::<Versioned>(json) {
        Ok(Versioned { version }) if version != 2 => PaymentError::Version(version),
        Ok(_) => PaymentError::Shape("a field is missing, twice there, unknown or of another type"),
        Err(_) => PaymentError::Shape("it is not JSON with an `x402Version`"),
    }
}

/// The client's repetition of what was asked for must say the same; keys of `extra` may be missing or in any order.
fn accepts(accepted: &v2::PaymentRequirements, terms: &Terms, price: Money) -> Result<(), PaymentError> {
    same("scheme", &accepted.scheme, "exact")?;
    same("network", &accepted.network.to_string(), &terms.network)?;
    same_address("asset", &accepted.asset, &terms.asset)?;
    same_address("payTo", &accepted.pay_to, &terms.pay_to)?;
    costs(number("amount", &accepted.amount)?, price)?;
    for (key, wanted) in [("name", &terms.asset_name), ("version", &terms.asset_version)] {
        match accepted.extra.as_ref().and_then(|extra| extra.get(key)) {
            None => {}
            Some(Value::String(given)) if given == wanted => {}
            Some(other) => return Err(differs("extra", &other.to_string(), wanted)),
        }
    }
    Ok(())
}

/// What is signed must say the same again.
fn pays(authorization: &Authorization, terms: &Terms, price: Money) -> Result<(), PaymentError> {
    same_address("to", &lower(&authorization.to), &terms.pay_to)?;
    costs(authorization.value, price)
}

fn lasts(authorization: &Authorization, terms: &Terms, now: Timestamp) -> Result<(), PaymentError> {
    let (from, until) = (seconds(authorization.valid_after), seconds(authorization.valid_before));
    let latest = now.plus(terms.max_timeout).plus(SKEW);
    if from >= now.plus(SKEW) {
        return Err(PaymentError::NotYet { from, now });
    }
    if until < now.plus(LEAST_LEFT) {
        return Err(PaymentError::Ending { until, now });
    }
    if until > latest {
        return Err(PaymentError::TooLong { until, latest });
    }
    Ok(())
}

/// The payment as it goes to the rail: our requirements and plain spelling instead of the client's, and none of its
/// extensions, which are unsigned and could put words in our mouth at a facilitator's catalogue.
fn settlement(
    payment: Payment,
    authorization: &Authorization,
    terms: &Terms,
    price: Money,
) -> Result<String, PaymentError> {
    let ours = v2::PaymentRequirements {
        scheme: "exact".to_owned(),
        network: payment.accepted.network,
        amount: price.atomic().to_string(),
        pay_to: terms.pay_to.clone(),
        max_timeout_seconds: terms.max_timeout.as_secs().unsigned_abs(),
        asset: terms.asset.clone(),
        extra: Some(serde_json::json!({ "name": terms.asset_name, "version": terms.asset_version })),
    };
    let settlement = Settlement {
        x402_version: v2::X402Version2,
        payment_payload: Payment {
            accepted: ours.clone(),
            payload: Signed {
                authorization: authorization.spell(),
                signature: payment.payload.signature.to_ascii_lowercase(),
            },
            resource: None,
            x402_version: v2::X402Version2,
            extensions: v2::ExtensionsJson::new(),
        },
        payment_requirements: ours,
    };
    serde_json::to_string(&settlement).map_err(|_| PaymentError::Shape("it cannot be written"))
}

/// The extension `payment-identifier`: letters, digits, `-` and `_`.
fn payment_id(payment: &Payment) -> Result<Option<String>, PaymentError> {
    let extension = payment.extensions.as_ref().get("payment-identifier");
    let Some(id) = extension.and_then(|extension| extension.pointer("/info/id")) else {
        return Ok(None);
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match id.as_str() {
        Some(id) if (16..=128).contains(&id.len()) && id.bytes().all(allowed) => Ok(Some(id.to_owned())),
        _ => Err(PaymentError::Spelling {
            field: "payment-identifier",
            given: cut(&id.to_string()),
            wanted: "16 to 128 letters, digits, `-` or `_`",
        }),
    }
}

fn costs(given: u64, price: Money) -> Result<(), PaymentError> {
    if i64::try_from(given) == Ok(price.atomic()) && given > 0 {
        Ok(())
    } else {
        Err(PaymentError::Amount {
            given: given.to_string(),
            price: price.atomic(),
        })
    }
}

fn same(field: &'static str, given: &str, wanted: &str) -> Result<(), PaymentError> {
    if given == wanted {
        Ok(())
    } else {
        Err(differs(field, given, wanted))
    }
}

fn same_address(field: &'static str, given: &str, wanted: &str) -> Result<(), PaymentError> {
    address(field, given)?;
    if given.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(differs(field, given, wanted))
    }
}

fn differs(field: &'static str, given: &str, wanted: &str) -> PaymentError {
    PaymentError::Differs {
        field,
        given: cut(given),
        wanted: wanted.to_owned(),
    }
}

/// Whole seconds since 1970; numbers past the end of time mean the end of time.
fn seconds(count: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(count).unwrap_or(i64::MAX))
}
