//! Wallets that pay.

use dekeys::base::money::{Currency, Money};
use dekeys::base::random::{OsRandom, bytes};
use dekeys::base::secret::SecretBytes;
use dekeys::base::time::{Clock, SystemClock, Timestamp};
use dekeys::client::KeyFile;
use dekeys::payment;
use serde_json::{Value, json};

use super::Seen;

/// A wallet with 1.00 USDC on the simulated rail.
pub(crate) struct Wallet(SecretBytes);

impl Wallet {
    pub(crate) fn new() -> Self {
        Self(SecretBytes::new(bytes::<32>(&OsRandom).to_vec()))
    }

    /// A payment header for the terms of a 402; each is a new authorization.
    pub(crate) fn sign(&self, required: &Value) -> String {
        self.sign_at(required, SystemClock::default().now())
    }

    /// The same with a `payment-identifier`.
    pub(crate) fn sign_as(&self, required: &Value, id: &str) -> String {
        let most = Money::new(10_000_000, Currency::Usdc);
        let now = SystemClock::default().now();
        payment::sign_exact(&self.0, required, most, Some(id), now, &OsRandom).unwrap()
    }

    /// The same, by another clock than the machine's.
    pub(crate) fn sign_at(&self, required: &Value, now: Timestamp) -> String {
        let most = Money::new(10_000_000, Currency::Usdc);
        payment::sign_exact(&self.0, required, most, None, now, &OsRandom).unwrap()
    }

    /// A payment header for one request for a grant, sent by one signer.
    pub(crate) fn sign_for(&self, required: &Value, body: &Value, signer: Option<&KeyFile>) -> String {
        let most = Money::new(10_000_000, Currency::Usdc);
        let now = SystemClock::default().now();
        let holder = body["public_key"].as_str().map(|key| key.parse().unwrap());
        let request = payment::request_digest("POST", "/v1/grants", body.to_string().as_bytes());
        let request = payment::signed_request(request, signer.map(KeyFile::public), holder);
        payment::sign_bound(&self.0, required, most, request, now, &OsRandom).unwrap()
    }

    /// A `sign-in-with-x` header for `uri`, as EIP-4361 has its text.
    pub(crate) fn sign_in(&self, uri: &str, nonce: &str) -> String {
        let url: url::Url = uri.parse().unwrap();
        let domain = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
        let key = k256::ecdsa::SigningKey::from_slice(self.0.expose()).unwrap();
        let address = alloy_primitives::Address::from_public_key(key.verifying_key()).to_checksum(None);
        let issued = SystemClock::default().now().rfc3339();
        let text = format!(
            "{domain} wants you to sign in with your Ethereum account:\n{address}\n\n\nURI: {uri}\nVersion: 1\n\
             Chain ID: 84532\nNonce: {nonce}\nIssued At: {issued}"
        );
        let hash = alloy_primitives::eip191_hash_message(text);
        let signed = key.sign_prehash_recoverable(hash.as_slice()).unwrap();
        let fields = json!({
            "domain": domain, "address": address, "uri": uri, "version": "1", "chainId": "eip155:84532",
            "type": "eip191", "nonce": nonce, "issuedAt": issued,
            "signature": alloy_primitives::Signature::from(signed).to_string(),
        });
        data_encoding::BASE64.encode(fields.to_string().as_bytes())
    }

    pub(crate) fn address(&self) -> String {
        payment::payer_address(&self.0).unwrap()
    }
}

/// The terms in a 402's header.
pub(crate) fn terms(asked: &Seen) -> Value {
    decoded(asked, payment::PAYMENT_REQUIRED)
}

/// What a `PAYMENT-RESPONSE` says.
pub(crate) fn response(seen: &Seen) -> Value {
    decoded(seen, payment::PAYMENT_RESPONSE)
}

fn decoded(seen: &Seen, name: &str) -> Value {
    let header = seen.headers.get(name).unwrap_or_else(|| panic!("no {name}: {seen:?}"));
    let json = data_encoding::BASE64.decode(header.as_bytes()).unwrap();
    serde_json::from_slice(&json).unwrap()
}
