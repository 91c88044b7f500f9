//! JSON Web Tokens (RFC 7519) that dekeys signs: with a root credential's private key, to prove it, or as keys of
//! their own at vendors that only check a signature. What is signed is sealed with the root credential (DESIGN 15).

use std::collections::BTreeMap;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::crypto;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::VendorError;
use super::private_key::Algorithm;
use super::tables::Auth;
use super::template::{TemplateError, Text, Tree, Values};
use crate::base::secret::SecretText;
use crate::base::time::Timestamp;

/// Clocks differ: a token is valid from so many seconds before it was made.
const BACKDATE_S: i64 = 60;

/// By which key, and with what beside `alg` and `typ` in the header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    /// One field of the root credential: `${root.private_key}`.
    pub(crate) key: Text,
    /// Such as `kid`.
    #[serde(default)]
    pub(crate) header: BTreeMap<String, Text>,
}

/// A token that proves the root credential for a short while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assertion {
    pub(crate) sign: Signer,
    /// Beside `iat` and `exp`, which are set here.
    pub(crate) claims: Tree,
    /// How long it is valid, in seconds.
    pub(crate) lifetime_s: i64,
}

/// `style = "jwt"`: the token is what the vendor is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shown {
    pub(crate) assertion: Assertion,
    #[serde(default = "super::login::authorization")]
    pub(crate) header: String,
    /// The header's value; `{token}` is the token.
    #[serde(default = "super::login::bearer")]
    pub(crate) format: String,
}

impl Auth {
    /// What signs for the root credential, where something does.
    pub(crate) fn assertion(&self) -> Option<&Assertion> {
        match self {
            Self::Jwt(shown) => Some(&shown.assertion),
            Self::Login(login) => login.assertion.as_ref(),
            _ => None,
        }
    }
}

impl Signer {
    /// The root credential's field that holds the key.
    pub(crate) fn field(&self) -> Option<&str> {
        let mut named = self.key.variables();
        let name = named.next()?.name.strip_prefix("root.")?;
        (named.next().is_none() && self.key.source() == format!("${{root.{name}}}")).then_some(name)
    }

    /// The token in JWS compact form (RFC 7515).
    pub(super) fn token(&self, values: &Values<'_>, claims: &Value) -> Result<SecretText, VendorError> {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(&self.header(values)?), part(claims));
        let key = self.algorithm.signing(&self.key_text(values)?);
        let signed = key.and_then(|key| {
            crypto::sign(message.as_bytes(), &key, self.algorithm.library()).map_err(|_| "cannot sign")
        });
        let signature = signed.map_err(|fault| self.fault(fault))?;
        Ok(SecretText::new(format!("{message}.{signature}")))
    }

    /// The claims of a token that this key signed, with this header.
    pub(crate) fn read(&self, values: &Values<'_>, token: &str) -> Option<Value> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok();
        let header: Value = json(header)?;
        let key = self.algorithm.checking(&self.key_text(values).ok()?).ok()?;
        let good = crypto::verify(signature, message.as_bytes(), &key, self.algorithm.library()).unwrap_or(false);
        (good && header == self.header(values).ok()?)
            .then(|| json(claims))
            .flatten()
    }

    /// Refuses a root credential whose key cannot sign. The words hold nothing of it.
    pub(super) fn check(&self, values: &Values<'_>) -> Result<(), VendorError> {
        let text = self.key_text(values)?;
        self.algorithm.refuse(&text).map_err(|fault| self.fault(fault))
    }

    /// `SHA256:` and the digest of the public half.
    fn fingerprint(&self, values: &Values<'_>) -> Option<String> {
        let der = self.algorithm.public_der(&self.key_text(values).ok()?)?;
        Some(format!("SHA256:{}", BASE64.encode(&Sha256::digest(der))))
    }

    /// The variable `fingerprint`, where the claims have it: Snowflake knows a key by the digest of its public half.
    pub(super) fn with_fingerprint<'v>(&self, values: Values<'v>, claims: &Tree) -> Values<'v> {
        let texts = claims.texts();
        let mut names = texts.iter().flat_map(|(_, text)| text.variables());
        let used = names.any(|variable| variable.name == "fingerprint");
        let fingerprint = used.then(|| self.fingerprint(&values)).flatten();
        values.maybe("fingerprint", fingerprint)
    }

    fn header(&self, values: &Values<'_>) -> Result<Value, VendorError> {
        let mut header = Map::from_iter([
            ("alg".to_owned(), self.algorithm.as_str().into()),
            ("typ".to_owned(), "JWT".into()),
        ]);
        for (name, text) in &self.header {
            if let Some(value) = text.render(values)? {
                header.insert(name.clone(), Value::String(value.to_string()));
            }
        }
        Ok(Value::Object(header))
    }

    fn key_text(&self, values: &Values<'_>) -> Result<Zeroizing<String>, VendorError> {
        let unset = || TemplateError::Unset(self.key.source().to_owned());
        Ok(self.key.render(values)?.ok_or_else(unset)?)
    }

    fn fault(&self, words: &'static str) -> VendorError {
        VendorError::Key {
            field: self.field().unwrap_or_default().to_owned(),
            words,
        }
    }
}

impl Assertion {
    /// The token, and until when it is valid.
    pub(super) fn token(&self, values: Values<'_>, now: Timestamp) -> Result<(SecretText, Timestamp), VendorError> {
        let values = self.sign.with_fingerprint(values, &self.claims);
        let now = now.as_millis().div_euclid(1000);
        let until = now.saturating_add(self.lifetime_s);
        let mut claims = self.claims.render(&values)?.unwrap_or_default();
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("iat".to_owned(), json!(now.saturating_sub(BACKDATE_S)));
            claims.insert("exp".to_owned(), json!(until));
        }
        Ok((self.sign.token(&values, &claims)?, Timestamp::from_secs(until)))
    }

    /// Whether a vendor that knows the public half takes this token now: signature, header, time and every claim.
    pub(crate) fn accepts(&self, values: Values<'_>, token: &str, now: Timestamp) -> bool {
        let values = self.sign.with_fingerprint(values, &self.claims);
        let Some(mut claims) = self.sign.read(&values, token) else {
            return false;
        };
        let now = now.as_millis().div_euclid(1000);
        let mut time = |name: &str| claims.as_object_mut()?.remove(name)?.as_i64();
        let (Some(made), Some(until)) = (time("iat"), time("exp")) else {
            return false;
        };
        let in_time = made <= now && now < until && until.saturating_sub(made) <= self.lifetime_s + BACKDATE_S;
        in_time && self.claims.render(&values).ok().flatten() == Some(claims)
    }
}
