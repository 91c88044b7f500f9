//! Payments bound to their request. What an EIP-3009 authorization signs is payer, receiver, amount, times and a nonce
//! of the payer's choice, and nothing of what is paid for: like cash, whoever shows it first has it. A payer that puts
//! the digest of its request into that nonce makes the authorization good for this request alone. The mark at the
//! beginning is signed with it, so nobody can take it away.
//!
//! Not protected: an authorization with a random nonce, as other clients make, before it is presented here first.

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::base::canonical::{Canonical, Digest};
use crate::base::random::{Random, bytes};
use crate::model::principal::PublicKey;

/// How a bound nonce begins. A random one does so once in 2^64.
const MARK: [u8; 8] = *b"dekeys\x00\x01";

/// How a payment relates to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// It says nothing.
    Free,
    /// It is for this request.
    Here,
    /// It is for another request.
    Elsewhere,
}

/// The digest of a request to buy: method, path and body.
#[must_use]
pub fn request_digest(method: &str, path: &str, body: &[u8]) -> Digest {
    Canonical::new("dekeys.purchase.v1")
        .text(method)
        .text(path)
        .bytes(body)
        .digest()
}

/// The digest that a payment is bound to: the request, and the key that signed it if that is another than the holder's
/// in the body. So the holder may repeat unsigned what it signed, and nobody else can put its own name to it.
#[must_use]
pub fn signed_request(request: Digest, signer: Option<PublicKey>, holder: Option<PublicKey>) -> Digest {
    let other = signer.filter(|key| Some(*key) != holder);
    Canonical::new("dekeys.purchase.v2")
        .text(&request.to_string())
        .maybe(other.map(|key| key.to_string()).as_deref())
        .digest()
}

/// A nonce that binds an authorization to `request`; each is another.
#[must_use]
pub(super) fn bound_nonce(request: Digest, random: &dyn Random) -> [u8; 32] {
    let salt: [u8; 8] = bytes(random);
    let mut nonce = [0; 32];
    let parts = MARK.iter().chain(&salt).copied().chain(tag(salt, request));
    for (to, from) in nonce.iter_mut().zip(parts) {
        *to = from;
    }
    nonce
}

/// What an authorization's nonce (`0x` and 64 hexadecimal digits) says about `request`.
#[must_use]
pub fn binding(nonce: &str, request: Digest) -> Binding {
    let digits = nonce.strip_prefix("0x").unwrap_or(nonce);
    let decoded = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).unwrap_or_default();
    let Some((salt, rest)) = decoded.strip_prefix(&MARK).and_then(<[u8]>::split_first_chunk::<8>) else {
        return Binding::Free;
    };
    if rest.iter().copied().eq(tag(*salt, request)) {
        Binding::Here
    } else {
        Binding::Elsewhere
    }
}

fn tag(salt: [u8; 8], request: Digest) -> impl Iterator<Item = u8> {
    let digest = Canonical::new("dekeys.payment-nonce.v1")
        .bytes(&salt)
        .text(&request.to_string())
        .digest();
    let bytes = *digest.as_bytes();
    bytes.into_iter().take(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SeededRandom;

    fn hex(nonce: [u8; 32]) -> String {
        format!("0x{}", HEXLOWER_PERMISSIVE.encode(&nonce))
    }

    #[test]
    fn a_bound_nonce_is_for_one_request_and_one_signer() {
        let random = SeededRandom::new(3);
        let key = |byte| Some(PublicKey::from_bytes([byte; 32]));
        let body = request_digest("POST", "/v1/grants", b"{}");
        let mine = signed_request(body, key(1), None);
        let (one, two) = (bound_nonce(mine, &random), bound_nonce(mine, &random));
        assert_ne!(one, two);
        for nonce in [one, two] {
            assert_eq!(binding(&hex(nonce), mine), Binding::Here);
            let others = [
                signed_request(body, key(2), None),
                signed_request(body, None, None),
                signed_request(request_digest("POST", "/v1/grants", b"[]"), key(1), None),
            ];
            for other in others {
                assert_eq!(binding(&hex(nonce), other), Binding::Elsewhere);
            }
        }
        assert_eq!(signed_request(body, key(1), key(1)), signed_request(body, None, key(1)));
        assert_ne!(signed_request(body, key(2), key(1)), signed_request(body, None, key(1)));
        for free in [[0; 32], [0xff; 32]] {
            assert_eq!(binding(&hex(free), mine), Binding::Free);
        }
    }
}
