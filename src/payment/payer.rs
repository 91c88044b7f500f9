//! The payer's side: what the demo, `--max-price` and the tests pay with.

use alloy_primitives::{Address, B256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use x402_types::proto::v2;

use super::authorization::{Authorization, Domain, address, lower, number};
use super::binding::bound_nonce;
use super::error::PaymentError;
use super::terms::chain_id;
use crate::base::canonical::Digest;
use crate::base::money::Money;
use crate::base::random::{Random, bytes};
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;

/// The address of a secp256k1 key of 32 bytes, lower case.
///
/// # Errors
/// [`PaymentError::CannotPay`] when the bytes are not such a key.
pub fn payer_address(key: &SecretBytes) -> Result<String, PaymentError> {
    signing_key(key).map(|key| lower(&Address::from_public_key(key.verifying_key())))
}

/// Pays what `required` (the JSON of a 402's `PAYMENT-REQUIRED`) asks for: the value of the header
/// `PAYMENT-SIGNATURE`. Takes the first offer by the scheme `exact` that costs at most `most`; the server's word for
/// token, receiver and price is believed otherwise.
///
/// # Errors
/// [`PaymentError::CannotPay`] when there is no such offer or the key is not one.
pub fn sign_exact(
    key: &SecretBytes,
    required: &Value,
    most: Money,
    payment_id: Option<&str>,
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, PaymentError> {
    sign(key, required, most, payment_id, B256::new(bytes(random)), now)
}

/// As [`sign_exact`], for one request alone: presented with any other it is refused. `request` is
/// [`signed_request`](super::signed_request)'s.
///
/// # Errors
/// As [`sign_exact`].
pub fn sign_bound(
    key: &SecretBytes,
    required: &Value,
    most: Money,
    request: Digest,
    now: Timestamp,
    random: &dyn Random,
) -> Result<String, PaymentError> {
    sign(key, required, most, None, B256::new(bound_nonce(request, random)), now)
}

fn sign(
    key: &SecretBytes,
    required: &Value,
    most: Money,
    payment_id: Option<&str>,
    nonce: B256,
    now: Timestamp,
) -> Result<String, PaymentError> {
    let key = signing_key(key)?;
    let asked: v2::PaymentRequired = serde_json::from_value(required.clone())
        .map_err(|_| PaymentError::CannotPay("the demand is not of x402 version 2"))?;
    let offer = asked.accepts.iter().find(|offer| payable(offer, most));
    let offer = offer.ok_or(PaymentError::CannotPay(
        "no offer by the scheme `exact` is cheap enough",
    ))?;
    let authorization = authorization(offer, &key, now, nonce)?;
    let signature = authorization.sign(&domain(offer)?, &key)?;
    let payment = json!({
        "x402Version": 2,
        "resource": asked.resource,
        "accepted": offer,
        "payload": { "signature": signature, "authorization": authorization.spell() },
        "extensions": extensions(required, payment_id),
    });
    Ok(STANDARD.encode(payment.to_string()))
}

fn payable(offer: &v2::PaymentRequirements, most: Money) -> bool {
    let affordable = |amount: u64| i64::try_from(amount).is_ok_and(|amount| amount <= most.atomic());
    offer.scheme == "exact"
        && chain_id(&offer.network.to_string()).is_some()
        && number("amount", &offer.amount).is_ok_and(affordable)
}

fn authorization(
    offer: &v2::PaymentRequirements,
    key: &SigningKey,
    now: Timestamp,
    nonce: B256,
) -> Result<Authorization, PaymentError> {
    let now = now.as_secs().unsigned_abs();
    Ok(Authorization {
        from: Address::from_public_key(key.verifying_key()),
        to: address("payTo", &offer.pay_to)?,
        value: number("amount", &offer.amount)?,
        // Ten minutes back: the server's clock may be behind ours.
        valid_after: now.saturating_sub(600),
        valid_before: now.saturating_add(offer.max_timeout_seconds),
        nonce,
    })
}

fn domain(offer: &v2::PaymentRequirements) -> Result<Domain, PaymentError> {
    let named = |key: &str| {
        let value = offer
            .extra
            .as_ref()
            .and_then(|extra| extra.get(key))
            .and_then(Value::as_str);
        value
            .map(ToOwned::to_owned)
            .ok_or(PaymentError::CannotPay("the offer does not name the token's domain"))
    };
    Ok(Domain {
        name: named("name")?,
        version: named("version")?,
        chain_id: chain_id(&offer.network.to_string()).ok_or(PaymentError::CannotPay("the network is not eip155"))?,
        contract: address("asset", &offer.asset)?,
    })
}

/// The server's extensions are given back as they came, with our id in them.
fn extensions(required: &Value, payment_id: Option<&str>) -> Value {
    let mut extensions = required.get("extensions").cloned().unwrap_or_else(|| json!({}));
    let info = extensions
        .pointer_mut("/payment-identifier/info")
        .and_then(Value::as_object_mut);
    if let (Some(info), Some(id)) = (info, payment_id) {
        info.insert("id".to_owned(), json!(id));
    }
    extensions
}

/// Exactly 32 bytes: the library would fill up shorter ones.
fn signing_key(key: &SecretBytes) -> Result<SigningKey, PaymentError> {
    let key = Some(key.expose()).filter(|key| key.len() == 32);
    key.and_then(|key| SigningKey::from_slice(key).ok())
        .ok_or(PaymentError::CannotPay("the key is not a secp256k1 key"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::money::Currency;
    use crate::base::random::SeededRandom;
    use crate::payment::{Extras, Resource, Terms, read, required};

    const NOW: Timestamp = Timestamp::from_secs(1_763_668_267);

    fn price(atomic: i64) -> Money {
        Money::new(atomic, Currency::Usdc)
    }

    fn demand(atomic: i64) -> Value {
        let resource = Resource {
            url: "http://127.0.0.1/v1/grants".to_owned(),
            description: "a key".to_owned(),
        };
        required(&terms(), price(atomic), &resource, None, &Extras::default()).body
    }

    fn pay(most: i64, payment_id: Option<&str>) -> Result<String, PaymentError> {
        let key = SecretBytes::new(vec![0x11; 32]);
        sign_exact(
            &key,
            &demand(10_000),
            price(most),
            payment_id,
            NOW,
            &SeededRandom::new(1),
        )
    }

    fn terms() -> Terms {
        Terms::base_sepolia("0x90F79bf6EB2c4f870365E785982E1f101E93b906")
    }

    #[test]
    fn the_address_is_that_of_the_key() {
        let address = payer_address(&SecretBytes::new(vec![0x11; 32])).unwrap();
        assert_eq!(address, "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a");
        for wrong in [vec![], vec![0; 32], vec![0xff; 32], vec![1; 31]] {
            assert!(payer_address(&SecretBytes::new(wrong)).is_err());
        }
    }

    #[test]
    fn what_is_paid_is_what_was_asked() {
        let header = pay(10_000, Some("pay_0123456789abcdef")).unwrap();
        let offered = read(&[&header], &terms(), price(10_000), NOW).unwrap();
        assert_eq!(offered.payer, "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a");
        assert_eq!(offered.amount, 10_000);
        assert_eq!(offered.payment_id.as_deref(), Some("pay_0123456789abcdef"));
        assert_eq!(offered.valid_before, Timestamp::from_secs(1_763_668_387));
    }

    #[test]
    fn a_price_above_the_bound_is_not_signed() {
        assert!(matches!(pay(9_999, None), Err(PaymentError::CannotPay(_))));
    }

    proptest! {
        #[test]
        fn every_valid_payment_is_read_back(
            key in any::<[u8; 32]>(), amount in 1..=i64::MAX, seed in any::<u64>(), id in "[A-Za-z0-9_-]{16,128}"
        ) {
            let key = SecretBytes::new(key.to_vec());
            let payer = payer_address(&key);
            prop_assume!(payer.is_ok());
            let asked = demand(amount);
            let random = SeededRandom::new(seed);
            let header = sign_exact(&key, &asked, price(amount), Some(&id), NOW, &random).unwrap();
            let offered = read(&[&header], &terms(), price(amount), NOW).unwrap();
            prop_assert_eq!(Ok(offered.payer), payer);
            prop_assert_eq!((offered.amount, offered.payment_id), (amount, Some(id)));
            prop_assert_eq!(offered.nonce.len(), 66);
        }
    }
}
