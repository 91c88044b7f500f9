//! What a facilitator knows us by: nothing, a header that stays the same, or a token for each request as Coinbase's
//! Developer Platform asks for it (a JWT signed with Ed25519; its SDK's `generateJwt`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use http::{HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::base::random::{self, Random};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;

/// How long a token lasts, in seconds.
const LASTS: i64 = 120;

/// What is shown to the facilitator. Without `Debug`: it is a secret.
pub enum FacilitatorKey {
    /// Nothing: the facilitator serves everybody.
    None,
    /// The same header with every request.
    Header(HeaderName, SecretText),
    /// A token of its own for every request.
    Token(ApiKey),
}

/// An API key that signs tokens.
pub struct ApiKey {
    id: String,
    key: SigningKey,
}

/// A key file that says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds neither a line `Header: value` nor the JSON of an Ed25519 API key with `id` and `privateKey`")]
pub struct InvalidKey;

impl FacilitatorKey {
    /// Reads a key file: one line `Header: value`, or the JSON `{"id": …, "privateKey": …}` with the base64 of 64 bytes,
    /// as the platform hands it out.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn read(text: &SecretText) -> Result<Self, InvalidKey> {
        let text = text.expose().trim();
        if text.starts_with('{') {
            return ApiKey::read(text).map(Self::Token);
        }
        let (name, value) = text.split_once(':').ok_or(InvalidKey)?;
        let name = name.trim().parse().map_err(|_| InvalidKey)?;
        let value = value.trim();
        if value.is_empty() || HeaderValue::from_str(value).is_err() {
            return Err(InvalidKey);
        }
        Ok(Self::Header(name, SecretText::new(value.to_owned())))
    }

    /// The header for one request to `url`, marked as sensitive.
    pub(super) fn header(&self, url: &Url, now: Timestamp, random: &dyn Random) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::None => return None,
            Self::Header(name, value) => (name.clone(), HeaderValue::from_str(value.expose())),
            Self::Token(key) => {
                let token = format!("Bearer {}", key.token(url, now, random));
                (header::AUTHORIZATION, HeaderValue::from_str(&token))
            }
        };
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

impl ApiKey {
    fn read(text: &str) -> Result<Self, InvalidKey> {
        #[derive(Deserialize)]
        struct File {
            #[serde(alias = "name")]
            id: String,
            #[serde(rename = "privateKey")]
            private_key: String,
        }
        let file: File = serde_json::from_str(text).map_err(|_| InvalidKey)?;
        let private = SecretText::new(file.private_key);
        let bytes = zeroize::Zeroizing::new(STANDARD.decode(private.expose().trim()).map_err(|_| InvalidKey)?);
        // The seed, and the public key that belongs to it.
        let (seed, public) = bytes.split_at_checked(32).ok_or(InvalidKey)?;
        let key = SigningKey::from_bytes(seed.try_into().map_err(|_| InvalidKey)?);
        if key.verifying_key().as_bytes() != public {
            return Err(InvalidKey);
        }
        Ok(Self { id: file.id, key })
    }

    /// A token for one `POST`, good for two minutes.
    fn token(&self, url: &Url, now: Timestamp, random: &dyn Random) -> String {
        let nonce = data_encoding::HEXLOWER.encode(&random::bytes::<16>(random));
        let head = json!({ "alg": "EdDSA", "kid": self.id, "nonce": nonce, "typ": "JWT" });
        let seconds = now.as_secs();
        let claims = json!({
            "iss": "cdp",
            "sub": self.id,
            "nbf": seconds,
            "exp": seconds.saturating_add(LASTS),
            "uris": [format!("POST {}{}", url.host_str().unwrap_or_default(), url.path())],
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Verifier as _;

    use super::*;
    use crate::base::random::SeededRandom;

    fn read(text: &str) -> Result<FacilitatorKey, InvalidKey> {
        FacilitatorKey::read(&SecretText::new(text.to_owned()))
    }

    #[test]
    fn a_line_is_a_header() {
        let key = read("X-Api-Key: abc def\n").unwrap_or(FacilitatorKey::None);
        let url = "https://facilitator.example/verify".parse().unwrap();
        let (name, value) = key
            .header(&url, Timestamp::from_secs(0), &SeededRandom::new(1))
            .unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-key", "abc def"));
        assert!(value.is_sensitive());
    }

    #[test]
    fn what_is_neither_is_refused() {
        let other = STANDARD.encode([7u8; 64]);
        let wrong = format!(r#"{{"id":"a","privateKey":"{other}"}}"#);
        for text in [
            "",
            "token",
            "X Y: z",
            "X-Key:",
            "{}",
            wrong.as_str(),
            r#"{"id":"a","privateKey":"!"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_api_key_signs_the_very_request() {
        let signer = SigningKey::from_bytes(&[3; 32]);
        let file = json!({ "id": "key-1", "privateKey": STANDARD.encode(signer.to_keypair_bytes()) }).to_string();
        let key = read(&file).unwrap_or(FacilitatorKey::None);
        let url = "https://api.example/platform/v2/x402/settle".parse().unwrap();
        let now = Timestamp::from_secs(1_700_000_000);
        let (_, value) = key.header(&url, now, &SeededRandom::new(1)).unwrap();
        let token = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
        assert!(signer.verifying_key().verify(signed.as_bytes(), &signature).is_ok());
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["uris"], json!(["POST api.example/platform/v2/x402/settle"]));
        assert_eq!(claims["exp"], 1_700_000_120);
    }
}
