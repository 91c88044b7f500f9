//! Short statements by the log's key, as compact JWS (RFC 7515, `EdDSA` by RFC 8037): what the log says about something
//! that changes too often for the tree. Any JOSE library reads them.
//!
//! What is signed is base64url and one dot. A note ends with a line end and everything canonical begins with zero bytes,
//! so none of the three can be taken for another; `typ` tells statements apart.

use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::checkpoint::{LogKey, LogPublic};
use crate::base::id::base64url;
use crate::model::principal::PublicKey;

/// The longest statement that is read.
const MAX: usize = 4096;

/// A statement that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a compact JWS with `EdDSA`.
    #[error("this is not a signed statement")]
    Malformed,
    /// Of another type.
    #[error("the statement is about something else")]
    Type,
    /// Not signed by the wanted key.
    #[error("the statement is not signed by the log")]
    Signature,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// The key's name in key sets: its thumbprint (RFC 7638), SHA-256 in base64url.
#[must_use]
pub fn thumbprint(key: &PublicKey) -> String {
    base64url(&Sha256::digest(jwk(key).as_bytes()))
}

fn jwk(key: &PublicKey) -> String {
    format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, base64url(key.as_bytes()))
}

/// Signs `claims` as a statement of type `typ`. `None` when they cannot be written as JSON.
#[must_use]
pub fn state(key: &LogKey, typ: &str, claims: &impl Serialize) -> Option<String> {
    sign(key, thumbprint(&key.public().key()), typ, claims)
}

/// The same for readers who know the key by another name, `kid`.
#[must_use]
pub fn state_as(key: &LogKey, kid: String, typ: &str, claims: &impl Serialize) -> Option<String> {
    sign(key, kid, typ, claims)
}

fn sign(key: &LogKey, kid: String, typ: &str, claims: &impl Serialize) -> Option<String> {
    let header = Header {
        alg: "EdDSA".to_owned(),
        kid,
        typ: typ.to_owned(),
    };
    let part = |json: Result<Vec<u8>, serde_json::Error>| json.ok().map(|json| base64url(&json));
    let (header, claims) = (part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
    let signed = format!("{header}.{claims}");
    let signature = base64url(&key.sign(signed.as_bytes()));
    Some(format!("{signed}.{signature}"))
}

/// Checks a statement of type `typ` and reads its claims.
///
/// # Errors
/// [`StatementError`].
pub fn open_statement<T: DeserializeOwned>(
    unverified_statement: &str,
    typ: &str,
    public: &LogPublic,
) -> Result<T, StatementError> {
    let malformed = StatementError::Malformed;
    if unverified_statement.len() > MAX {
        return Err(malformed);
    }
    let (signed, signature) = unverified_statement.rsplit_once('.').ok_or(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(malformed)?;
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
    if header.alg != "EdDSA" {
        return Err(malformed);
    }
    if header.typ != typ {
        return Err(StatementError::Type);
    }
    if !public.verify(signed.as_bytes(), &decode(signature)?) {
        return Err(StatementError::Signature);
    }
    serde_json::from_slice(&decode(claims)?).map_err(|_| malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::base::random::SeededRandom;

    fn key(seed: u64) -> LogKey {
        LogKey::new("ins_x", &LogKey::generate(&SeededRandom::new(seed))).unwrap()
    }

    #[test]
    fn a_statement_is_read_with_its_key_and_type_and_no_byte_may_change() {
        let own = key(1);
        let claims = json!({ "iat": 7 });
        let text = state(&own, "a+jwt", &claims).unwrap();
        assert_eq!(open_statement::<Value>(&text, "a+jwt", own.public()), Ok(claims));
        assert_eq!(
            open_statement::<Value>(&text, "b+jwt", own.public()),
            Err(StatementError::Type)
        );
        let other = key(2);
        assert_eq!(
            open_statement::<Value>(&text, "a+jwt", other.public()),
            Err(StatementError::Signature)
        );
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                open_statement::<Value>(&changed, "a+jwt", own.public()).is_err(),
                "{at}"
            );
        }
        for text in ["", ".", "..", "a.b.c", &"A".repeat(5000)] {
            assert!(open_statement::<Value>(text, "a+jwt", own.public()).is_err());
        }
    }

    #[test]
    fn a_thumbprint_is_that_of_rfc_8037() {
        // RFC 8037, appendix A.3.
        let x = BASE64URL_NOPAD
            .decode(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        let key = PublicKey::from_bytes(x.try_into().unwrap());
        assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
