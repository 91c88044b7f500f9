//! Digest fields (RFC 9530): `content-digest` with SHA-256.

use data_encoding::BASE64;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::SigError;
use super::field::dictionary;

/// The field's name.
pub(super) const NAME: &str = "content-digest";

/// The value of `content-digest` for `body`: `sha-256=:…:`.
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

/// Checks the field against the body. Digests by other algorithms may stand beside and are not read.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), SigError> {
    let fits = promised(headers)?.is_some_and(|given| given.ct_eq(&Sha256::digest(body)).into());
    if fits { Ok(()) } else { Err(SigError::Digest) }
}

/// The SHA-256 that the field says the body has; `None` without a field.
///
/// # Errors
/// [`SigError::Digest`] for a field that does not say it, [`SigError::Field`] for one that cannot be read.
pub fn promised(headers: &HeaderMap) -> Result<Option<[u8; 32]>, SigError> {
    let Some(digests) = dictionary(headers, NAME)? else {
        return Ok(None);
    };
    let given = match digests.get("sha-256") {
        Some(sfv::ListEntry::Item(item)) if item.params.is_empty() => item.bare_item.as_byte_sequence(),
        _ => None,
    };
    let given = given.and_then(|given| <[u8; 32]>::try_from(given).ok());
    given.map(Some).ok_or(SigError::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NAME, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_example_of_rfc_9530_is_met() {
        let digest = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        assert_eq!(content_digest(b"{\"hello\": \"world\"}\n"), digest);
    }

    #[test]
    fn only_a_right_sha_256_is_accepted() {
        let right = content_digest(b"x");
        assert_eq!(check(&headers(&right), b"x"), Ok(()));
        assert_eq!(check(&headers(&format!("{right}, sha-512=:AAAA:")), b"x"), Ok(()));
        for wrong in [
            content_digest(b"y"),
            "sha-512=:AAAA:".into(),
            "sha-256=::".into(),
            "sha-256=1".into(),
            format!("{right};a"),
        ] {
            assert_eq!(check(&headers(&wrong), b"x"), Err(SigError::Digest), "{wrong}");
        }
        assert_eq!(check(&HeaderMap::new(), b"x"), Err(SigError::Digest));
        assert!(check(&headers(&format!("{}, {right}", content_digest(b"y"))), b"x").is_err());
    }
}
