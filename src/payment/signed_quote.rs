//! Quotes and receipts as the x402 extension `offer-receipt` has them (version 1): claims that the seller signs, with
//! ours nested in them. Signing is the caller's; here is what is said, and where it stands in a demand and an answer.
//!
//! The members are in the order of RFC 8785, so that what is signed is canonical JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::exact::MAX_HEADER;
use super::terms::Terms;
use crate::base::canonical::Digest;
use crate::base::id::{GrantId, base64url};
use crate::base::money::{Currency, Money};
use crate::base::time::{Timestamp, Ttl};
use crate::model::principal::PublicKey;

/// The extension's name.
pub(super) const OFFER_RECEIPT: &str = "offer-receipt";
/// The type of a signed quote.
pub const QUOTE: &str = "x402-offer+jwt";
/// The type of a signed receipt.
pub const RECEIPT: &str = "x402-receipt+jwt";
/// How long a quote is good.
pub const QUOTE_LIFE: Ttl = Ttl::from_mins(5);

/// What one request costs, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// Atomic units.
    pub amount: String,
    /// The token's contract.
    pub asset: String,
    /// What dekeys says besides.
    pub dekeys: Basis,
    /// CAIP-2 network.
    pub network: String,
    /// Who is paid.
    pub pay_to: String,
    /// Where the request goes.
    pub resource_url: String,
    /// `exact`.
    pub scheme: String,
    /// Seconds since 1970.
    pub valid_until: i64,
    /// The version of the extension's form, 1.
    pub version: u8,
}

/// What a quote is for, and what made its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The policies that ask the price, each `name@version`.
    pub policies: Vec<String>,
    /// The first half of the digest of method, path and body ([`short`]): a header has little room.
    pub request: String,
}

/// The first 16 bytes of a digest, in base64url.
#[must_use]
pub fn short(digest: Digest) -> String {
    let (half, _) = digest.as_bytes().split_at(16);
    base64url(half)
}

/// A key as `did:key`: the multicodec of Ed25519 and its bytes in base58. Whoever has it has the key; whose it is, it does not
/// say.
#[must_use]
pub fn did(key: &PublicKey) -> String {
    let bytes = [&[0xed, 0x01], key.as_bytes().as_slice()].concat();
    format!("did:key:z{}", bs58::encode(bytes).into_string())
}

/// That a payment was taken.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Paid {
    /// What dekeys says besides.
    pub dekeys: PaidFor,
    /// Seconds since 1970.
    pub issued_at: i64,
    /// CAIP-2 network.
    pub network: String,
    /// The payer's address.
    pub payer: String,
    /// Where the request went.
    pub resource_url: String,
    /// The settlement's transaction.
    pub transaction: String,
    /// The version of the extension's form, 1.
    pub version: u8,
}

/// What it was taken for.
#[derive(Debug, Clone, Serialize)]
pub struct PaidFor {
    /// The grant.
    pub grant: GrantId,
}

impl Quote {
    /// `price` for the request `basis` names, under `terms`, from `now` on.
    #[must_use]
    pub fn new(terms: &Terms, price: Money, resource_url: &str, basis: Basis, now: Timestamp) -> Self {
        Self {
            amount: price.atomic().to_string(),
            asset: terms.asset.clone(),
            dekeys: basis,
            network: terms.network.clone(),
            pay_to: terms.pay_to.clone(),
            resource_url: resource_url.to_owned(),
            scheme: "exact".to_owned(),
            valid_until: now.plus(QUOTE_LIFE).as_secs(),
            version: 1,
        }
    }

    /// The price that stands, if this is a quote for `request` under these terms whose time is not over. Its signature
    /// was checked by the caller.
    #[must_use]
    pub fn stands(&self, terms: &Terms, request: Digest, now: Timestamp) -> Option<Money> {
        let same = self.dekeys.request == short(request)
            && self.scheme == "exact"
            && (&self.network, &self.asset, &self.pay_to) == (&terms.network, &terms.asset, &terms.pay_to);
        let amount: i64 = self.amount.parse().ok()?;
        (same && now.as_secs() <= self.valid_until).then(|| Money::new(amount, Currency::Usdc))
    }
}

/// A signed quote as a demand carries it.
pub(super) fn offer(signed: &str) -> Value {
    json!({
        "info": { "offers": [{ "format": "jws", "acceptIndex": 0, "signature": signed }] },
        "schema": { "type": "object" },
    })
}

/// A signed receipt as an answer carries it.
pub(super) fn receipt(signed: &str) -> Value {
    json!({ OFFER_RECEIPT: { "info": { "receipt": { "format": "jws", "signature": signed } } } })
}

/// The signed quotes that a payment gives back, unverified: the extensions of a demand are repeated with its payment.
#[must_use]
pub fn unverified_quotes(header_values: &[&str]) -> Vec<String> {
    let [header] = header_values else {
        return Vec::new();
    };
    let decoded = (header.len() <= MAX_HEADER)
        .then(|| STANDARD.decode(header).ok())
        .flatten();
    let payment: Option<Value> = decoded.and_then(|json| serde_json::from_slice(&json).ok());
    let offers = payment
        .as_ref()
        .and_then(|payment| payment.pointer("/extensions/offer-receipt/info/offers"))
        .and_then(Value::as_array);
    let signed = offers.into_iter().flatten().take(4);
    signed
        .filter_map(|offer| offer.get("signature")?.as_str().map(str::to_owned))
        .collect()
}
