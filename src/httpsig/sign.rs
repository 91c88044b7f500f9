//! Signing a request, with a key or inside a session.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, DictSerializer, InnerList, Item, KeyRef, StringRef};

use super::base::{Message, Parts, base_of};
use super::digest::{self, content_digest};
use super::key::{KeyFile, authenticate};
use super::{SigError, TAG};
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;

/// The fields that a signed request carries beside its own. They stand in for fields of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `content-digest`.
    pub content_digest: String,
    /// `signature-input`.
    pub signature_input: String,
    /// `signature`.
    pub signature: String,
}

impl SignedHeaders {
    /// Puts the fields among `headers`, in place of any of the same names.
    pub fn put(&self, headers: &mut HeaderMap) {
        for (name, value) in self.pairs() {
            // All three are ASCII by construction, so none is left out.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// The fields as names and values.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            (digest::NAME, &self.content_digest),
            ("signature-input", &self.signature_input),
            ("signature", &self.signature),
        ]
    }
}

/// Signs with the sender's key. `nonce`: 16 to 64 characters, never used before with this key. `authorization` is
/// covered when it is among the headers.
pub fn sign(key: &KeyFile, parts: &Parts<'_>, created: Timestamp, nonce: &str) -> Result<SignedHeaders, SigError> {
    if !(16..=64).contains(&nonce.len()) {
        return Err(SigError::Parameter("nonce"));
    }
    let keyid = key.public().to_string();
    make(parts, created, nonce, &keyid, "ed25519", |base| {
        Ok(key.sign(base).to_vec())
    })
}

/// Signs inside the session called `session` (`ses_…`) with its `key`. `counter` is the session's next number.
pub fn sign_session(
    session: &str,
    key: &SecretBytes,
    counter: u64,
    parts: &Parts<'_>,
    created: Timestamp,
) -> Result<SignedHeaders, SigError> {
    let code = |base: &[u8]| authenticate(key, base).map(|code| code.to_vec());
    make(parts, created, &counter.to_string(), session, "hmac-sha256", code)
}

fn make(
    parts: &Parts<'_>,
    created: Timestamp,
    nonce: &str,
    keyid: &str,
    algorithm: &str,
    signature: impl Fn(&[u8]) -> Result<Vec<u8>, SigError>,
) -> Result<SignedHeaders, SigError> {
    let content_digest = content_digest(parts.body);
    let mut headers = parts.headers.clone();
    let digest = HeaderValue::from_str(&content_digest).map_err(|_| SigError::Digest)?;
    headers.insert(digest::NAME, digest);
    let signed = Parts {
        headers: &headers,
        ..*parts
    };
    let input = InnerList::with_params(covered(&signed)?, parameters(created, nonce, keyid, algorithm)?);
    let base = base_of(&Message::Request(signed), &input)?;
    let label = KeyRef::from_str(TAG).map_err(|_| SigError::Field("signature-input"))?;
    Ok(SignedHeaders {
        content_digest,
        signature_input: dictionary(|fields| {
            let mut list = fields.inner_list(label);
            list.items(&input.items);
            let _ = list.finish().parameters(&input.params);
        }),
        signature: {
            let bytes = signature(base.as_bytes())?;
            dictionary(|fields| _ = fields.bare_item(label, bytes.as_slice()))
        },
    })
}

/// The components of the profile that `parts` has, target in three parts: a proxy that ends TLS changes the scheme.
fn covered(parts: &Parts<'_>) -> Result<Vec<Item>, SigError> {
    let mut names = vec!["@method", "@authority", "@path"];
    names.extend(parts.query.map(|_| "@query"));
    names.push(digest::NAME);
    match parts.headers.get_all("authorization").iter().count() {
        0 => {}
        1 => names.push("authorization"),
        _ => return Err(SigError::Component("authorization".to_owned())),
    }
    names.into_iter().map(|name| text(name).map(Item::new)).collect()
}

fn parameters(created: Timestamp, nonce: &str, keyid: &str, algorithm: &str) -> Result<sfv::Parameters, SigError> {
    let created = sfv::Integer::try_from(created.as_secs()).map_err(|_| SigError::Parameter("created"))?;
    let values = [
        ("created", Ok(BareItem::Integer(created))),
        ("nonce", text(nonce)),
        ("keyid", text(keyid)),
        ("alg", text(algorithm)),
        ("tag", text(TAG)),
    ];
    let parameter = |(name, value): (&'static str, Result<BareItem, SigError>)| {
        let key = KeyRef::from_str(name).map_err(|_| SigError::Parameter(name))?;
        Ok((key.to_owned(), value.map_err(|_| SigError::Parameter(name))?))
    };
    values.into_iter().map(parameter).collect()
}

fn text(text: &str) -> Result<BareItem, SigError> {
    let value = StringRef::from_str(text).map_err(|_| SigError::Field("signature-input"))?;
    Ok(BareItem::String(value.to_owned()))
}

fn dictionary(fill: impl FnOnce(&mut DictSerializer<&mut String>)) -> String {
    let mut out = String::new();
    fill(&mut DictSerializer::with_buffer(&mut out));
    out
}
