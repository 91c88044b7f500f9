//! Standard Webhooks signatures (specification 1.0.0): what `webhook-signature` holds. Over the message's id, its time
//! and its body, with a shared secret (`v1`, HMAC-SHA256) or with our key (`v1a`, Ed25519).

use data_encoding::BASE64;

use super::SigError;
use super::key::{KeyFile, authenticate_webhook};
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;
use crate::model::principal::PublicKey;

fn signed(id: &str, at: Timestamp, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{id}.{}.", at.as_secs()).into_bytes();
    content.extend_from_slice(body);
    content
}

/// The signature with a shared secret of 24 bytes or more: `v1,` and base64.
///
/// # Errors
/// [`SigError::SessionKey`] for a shorter secret.
pub fn webhook_code(secret: &SecretBytes, id: &str, at: Timestamp, body: &[u8]) -> Result<String, SigError> {
    Ok(format!(
        "v1,{}",
        BASE64.encode(&authenticate_webhook(secret, &signed(id, at, body))?)
    ))
}

/// The signature with a key: `v1a,` and base64.
#[must_use]
pub fn webhook_signature(key: &KeyFile, id: &str, at: Timestamp, body: &[u8]) -> String {
    format!("v1a,{}", BASE64.encode(&key.sign(&signed(id, at, body))))
}

/// The public half as Standard Webhooks writes it: `whpk_` and base64.
#[must_use]
pub fn webhook_public(key: &PublicKey) -> String {
    format!("whpk_{}", BASE64.encode(key.as_bytes()))
}
