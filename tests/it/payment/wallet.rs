//! A payer of its own: makes and signs EIP-3009 authorizations without dekeys' code, also wrong ones.

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dekeys::base::money::{Currency, Money};
use dekeys::base::time::{Timestamp, Ttl};
use dekeys::payment::{Extras, Offered, PaymentError, Resource, Terms, read, required};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_763_668_267);
pub(super) const PAY_TO: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
pub(super) const PRICE: Money = Money::new(10_000, Currency::Usdc);

/// What the payer believes to be the token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) chain: u64,
    pub(super) contract: Address,
}

pub(super) fn terms() -> Terms {
    Terms::base_sepolia(PAY_TO)
}

pub(super) fn token() -> Token {
    Token {
        name: "USDC",
        version: "2",
        chain: 84_532,
        contract: terms().asset.parse().unwrap(),
    }
}

/// A payment as JSON, before it goes into the header.
#[derive(Clone)]
pub(super) struct Payment {
    pub(super) json: Value,
    key: SigningKey,
}

impl Payment {
    /// The payment that is right.
    pub(super) fn good() -> Self {
        let resource = Resource {
            url: "http://127.0.0.1/v1/grants".to_owned(),
            description: "a key".to_owned(),
        };
        let asked = required(&terms(), PRICE, &resource, None, &Extras::default()).body;
        let key = SigningKey::from_slice(&[0x42; 32]).unwrap();
        let from = Address::from_public_key(key.verifying_key());
        let json = json!({
            "x402Version": 2,
            "resource": asked["resource"],
            "accepted": asked["accepts"][0],
            "payload": {
                "signature": "",
                "authorization": {
                    "from": from.to_checksum(None),
                    "to": PAY_TO,
                    "value": "10000",
                    "validAfter": (NOW.as_secs() - 600).to_string(),
                    "validBefore": (NOW.as_secs() + 120).to_string(),
                    "nonce": B256::repeat_byte(0x5a).to_string(),
                },
            },
            "extensions": asked["extensions"],
        });
        Self { json, key }.signed(&token())
    }

    /// Sets a value and signs again, so that only the value itself is wrong.
    pub(super) fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        self.set(pointer, value);
        self.signed(&token())
    }

    /// Sets a value and leaves the signature as it is.
    pub(super) fn set(&mut self, pointer: &str, value: impl Into<Value>) {
        *self.json.pointer_mut(pointer).unwrap() = value.into();
    }

    /// Signs what stands in the authorization; what is no number or address counts as zero, and numbers wrap.
    pub(super) fn signed(mut self, token: &Token) -> Self {
        let digest = self.digest(token);
        let (signature, recovery) = self.key.sign_prehash_recoverable(digest.as_slice()).unwrap();
        let signature = Signature::from((signature, recovery));
        self.set("/payload/signature", signature.to_string());
        self
    }

    fn digest(&self, token: &Token) -> B256 {
        let text = |key: &str| match &self.json["payload"]["authorization"][key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let number = |key: &str| text(key).trim().parse::<U256>().unwrap_or_default().to_be_bytes::<32>();
        let address = |key: &str| text(key).parse::<Address>().unwrap_or_default().into_word().0;
        let domain = [
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)").0,
            keccak256(token.name).0,
            keccak256(token.version).0,
            U256::from(token.chain).to_be_bytes(),
            token.contract.into_word().0,
        ];
        let kind = "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 \
                    validBefore,bytes32 nonce)";
        let message = [
            keccak256(kind).0,
            address("from"),
            address("to"),
            number("value"),
            number("validAfter"),
            number("validBefore"),
            text("nonce").parse::<B256>().unwrap_or_default().0,
        ];
        let (domain, message) = (keccak256(domain.concat()), keccak256(message.concat()));
        keccak256([b"\x19\x01".as_slice(), domain.as_slice(), message.as_slice()].concat())
    }

    /// The header's value.
    pub(super) fn header(&self) -> String {
        STANDARD.encode(self.json.to_string())
    }

    /// The signature's 65 bytes.
    pub(super) fn signature(&self) -> Signature {
        self.json["payload"]["signature"].as_str().unwrap().parse().unwrap()
    }

    /// What the gate says to it now.
    pub(super) fn offer(&self) -> Result<Offered, PaymentError> {
        self.offer_at(NOW)
    }

    /// What the gate says to it at another time.
    pub(super) fn offer_at(&self, now: Timestamp) -> Result<Offered, PaymentError> {
        read(&[&self.header()], &terms(), PRICE, now)
    }
}

/// So many seconds after now.
pub(super) fn in_seconds(seconds: i64) -> Timestamp {
    if seconds < 0 {
        NOW.minus(Ttl::from_secs(-seconds))
    } else {
        NOW.plus(Ttl::from_secs(seconds))
    }
}
