//! Reading and checking a request's signature by the profile of [`super`].

use http::HeaderMap;
use sfv::{Dictionary, InnerList, ListEntry};

use super::base::{Message, Parts, base_of};
use super::field::dictionary;
use super::key::{verify_code, verify_raw};
use super::{MAX_AGE, MAX_AHEAD, SigError, TAG, digest};
use crate::base::id::SessionId;
use crate::base::secret::SecretBytes;
use crate::base::time::Timestamp;
use crate::model::principal::PublicKey;

const INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";

/// What a signature says of itself. Nothing in it is proved before [`verify`] or [`verify_session`].
#[derive(Debug, Clone)]
pub struct Claimed {
    input: InnerList,
    signature: Vec<u8>,
    created: Timestamp,
    expires: Option<Timestamp>,
    signer: Signer,
}

#[derive(Debug, Clone)]
enum Signer {
    Key { key: PublicKey, nonce: String },
    Session { id: String, counter: u64 },
}

impl Claimed {
    /// The key that is said to have signed; `None` for a session.
    #[must_use]
    pub const fn unverified_key(&self) -> Option<PublicKey> {
        match self.signer {
            Signer::Key { key, .. } => Some(key),
            Signer::Session { .. } => None,
        }
    }

    /// The session that is said to have signed; `None` for a key.
    #[must_use]
    pub fn unverified_session(&self) -> Option<&str> {
        match &self.signer {
            Signer::Key { .. } => None,
            Signer::Session { id, .. } => Some(id),
        }
    }
}

/// A checked signature: who made it, when, and what makes it unlike any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By a key. Whose it is, and that the nonce is fresh, is for the caller to find.
    Key {
        /// The key.
        key: PublicKey,
        /// 16 to 64 characters; to be claimed with the effect.
        nonce: String,
        /// When it was made.
        created: Timestamp,
    },
    /// Inside a session. That the counter is fresh is for the caller to find.
    Session {
        /// The session's id.
        id: String,
        /// To be put into the session's [`super::CounterWindow`].
        counter: u64,
        /// When it was made.
        created: Timestamp,
    },
}

/// Reads the signature that is meant for dekeys; `None` when the request has none. Proves nothing.
pub fn read(parts: &Parts<'_>) -> Result<Option<Claimed>, SigError> {
    let inputs = dictionary(parts.headers, INPUT)?.unwrap_or_default();
    let Some((label, input)) = ours(&inputs)? else {
        return unsigned(parts.headers);
    };
    let signatures = dictionary(parts.headers, SIGNATURE)?.ok_or(SigError::Unpaired)?;
    let signature = match signatures.get(label) {
        Some(ListEntry::Item(item)) if item.params.is_empty() => item.bare_item.as_byte_sequence(),
        _ => None,
    };
    let (created, expires, signer) = claims(input)?;
    Ok(Some(Claimed {
        input: input.clone(),
        signature: signature.ok_or(SigError::Unpaired)?.to_vec(),
        created,
        expires,
        signer,
    }))
}

/// Checks a signature by a key: that the key its `keyid` names made it over this request, now.
pub fn verify(claimed: &Claimed, parts: &Parts<'_>, now: Timestamp) -> Result<Proof, SigError> {
    let Signer::Key { key, nonce } = &claimed.signer else {
        return Err(SigError::KeyKind);
    };
    let base = check(claimed, parts, now)?;
    if !verify_raw(key, base.as_bytes(), &claimed.signature) {
        return Err(SigError::Wrong);
    }
    check_body(claimed, parts)?;
    Ok(Proof::Key {
        key: *key,
        nonce: nonce.clone(),
        created: claimed.created,
    })
}

/// Checks a signature inside a session, with that session's `key`.
pub fn verify_session(
    claimed: &Claimed,
    key: &SecretBytes,
    parts: &Parts<'_>,
    now: Timestamp,
) -> Result<Proof, SigError> {
    let Signer::Session { id, counter } = &claimed.signer else {
        return Err(SigError::KeyKind);
    };
    let base = check(claimed, parts, now)?;
    if !verify_code(key, base.as_bytes(), &claimed.signature)? {
        return Err(SigError::Wrong);
    }
    check_body(claimed, parts)?;
    Ok(Proof::Session {
        id: id.clone(),
        counter: *counter,
        created: claimed.created,
    })
}

/// The one member whose tag is ours, under whatever label.
fn ours(inputs: &Dictionary) -> Result<Option<(&str, &InnerList)>, SigError> {
    let mut found = None;
    for (label, entry) in inputs {
        let tagged = match entry {
            ListEntry::InnerList(list) if text(list, "tag") == Some(TAG) => Some(list),
            _ if label.as_str() == TAG => return Err(SigError::Tag),
            _ => None,
        };
        let Some(list) = tagged else { continue };
        if found.replace((label.as_str(), list)).is_some() {
            return Err(SigError::Several);
        }
    }
    Ok(found)
}

/// No signature for dekeys, unless half of one is there: somebody meant to sign.
fn unsigned(headers: &HeaderMap) -> Result<Option<Claimed>, SigError> {
    if headers.contains_key(SIGNATURE) && !headers.contains_key(INPUT) {
        return Err(SigError::Unpaired);
    }
    Ok(None)
}

fn claims(input: &InnerList) -> Result<(Timestamp, Option<Timestamp>, Signer), SigError> {
    let known = ["created", "expires", "nonce", "keyid", "alg", "tag"];
    if let Some(other) = input.params.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(SigError::UnknownParameter(other.as_str().to_owned()));
    }
    let created = time(input, "created")?.ok_or(SigError::Parameter("created"))?;
    let keyid = text(input, "keyid").ok_or(SigError::Parameter("keyid"))?;
    let nonce = text(input, "nonce").ok_or(SigError::Parameter("nonce"))?;
    let (signer, algorithm) = if keyid.parse::<SessionId>().is_ok() {
        let (id, counter) = (keyid.to_owned(), counter(nonce)?);
        (Signer::Session { id, counter }, "hmac-sha256")
    } else {
        let key = keyid.parse().map_err(|_| SigError::Parameter("keyid"))?;
        (
            Signer::Key {
                key,
                nonce: plain(nonce)?,
            },
            "ed25519",
        )
    };
    // An algorithm that is named must be the key's own: nobody chooses it for us.
    if input.params.contains_key("alg") && text(input, "alg") != Some(algorithm) {
        return Err(SigError::Algorithm);
    }
    Ok((created, time(input, "expires")?, signer))
}

fn text<'a>(input: &'a InnerList, name: &str) -> Option<&'a str> {
    input.params.get(name)?.as_string().map(sfv::StringRef::as_str)
}

fn time(input: &InnerList, name: &'static str) -> Result<Option<Timestamp>, SigError> {
    let Some(value) = input.params.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_integer().ok_or(SigError::Parameter(name))?;
    Ok(Some(Timestamp::from_secs(seconds.into())))
}

fn plain(nonce: &str) -> Result<String, SigError> {
    let good = (16..=64).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(nonce.to_owned())
    } else {
        Err(SigError::Parameter("nonce"))
    }
}

fn counter(nonce: &str) -> Result<u64, SigError> {
    let counter: u64 = nonce.parse().map_err(|_| SigError::Parameter("nonce"))?;
    if counter.to_string() == nonce {
        Ok(counter)
    } else {
        Err(SigError::Parameter("nonce"))
    }
}

/// Everything but the signature itself and the body; answers what was signed.
fn check(claimed: &Claimed, parts: &Parts<'_>, now: Timestamp) -> Result<String, SigError> {
    let (created, expires) = (claimed.created, claimed.expires);
    if created > now.plus(MAX_AHEAD) {
        return Err(SigError::Ahead);
    }
    if created.plus(MAX_AGE) < now || expires.is_some_and(|expires| expires <= now) {
        return Err(SigError::Old);
    }
    check_coverage(claimed, parts)?;
    base_of(&Message::Request(*parts), &claimed.input)
}

fn check_coverage(claimed: &Claimed, parts: &Parts<'_>) -> Result<(), SigError> {
    let allowed = [
        "@method",
        "@target-uri",
        "@authority",
        "@path",
        "@query",
        digest::NAME,
        "authorization",
    ];
    for item in &claimed.input.items {
        let name = item.bare_item.as_string().map(sfv::StringRef::as_str);
        if !item.params.is_empty() || !name.is_some_and(|name| allowed.contains(&name)) {
            return Err(SigError::Unexpected(cut(name.unwrap_or("?"))));
        }
    }
    let by_uri = covers(claimed, "@target-uri");
    let once = |name: &str| parts.headers.get_all(name).iter().count() <= 1;
    let authorized = parts.headers.contains_key("authorization");
    for (name, needed) in [
        ("@method", true),
        ("@authority", !by_uri),
        ("@path", !by_uri),
        ("@query", !by_uri && parts.query.is_some()),
        (
            digest::NAME,
            !parts.body.is_empty() || parts.headers.contains_key(digest::NAME),
        ),
        ("authorization", authorized),
    ] {
        if needed && !covers(claimed, name) {
            return Err(SigError::Uncovered(name));
        }
    }
    // Two tokens would be signed as one line, and each reader might take another.
    if authorized && !once("authorization") {
        return Err(SigError::Component("authorization".to_owned()));
    }
    Ok(())
}

fn covers(claimed: &Claimed, name: &str) -> bool {
    let is = |item: &sfv::Item| item.bare_item.as_string().is_some_and(|given| given.as_str() == name);
    claimed.input.items.iter().any(is)
}

/// Last, since it reads the whole body: strangers get no hashing for nothing.
fn check_body(claimed: &Claimed, parts: &Parts<'_>) -> Result<(), SigError> {
    if covers(claimed, digest::NAME) {
        digest::check(parts.headers, parts.body)
    } else {
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
