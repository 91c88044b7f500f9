//! Private keys as people hold them: PEM (RFC 7468) with PKCS #8 or, for RSA, PKCS #1 inside; for HMAC any text.
//!
//! Not protected: the key's DER is in ordinary memory while a signature is made; the signing library wipes its copy.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC with SHA-256.
    HS256,
}

/// What is wrong with a key, in words that hold nothing of it.
pub(crate) type Fault = &'static str;

const RSA: Fault = "is not a private RSA key of 2048 to 8192 bits";
const P256: Fault = "is not a private key of the curve P-256 in PKCS #8 (`openssl pkcs8 -topk8 -nocrypt`)";
const ED: Fault = "is not a private Ed25519 key in PKCS #8";

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Algorithm {
    /// The word in a token's header.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::HS256 => "HS256",
        }
    }

    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
        }
    }

    /// The key to sign with.
    pub(super) fn signing(self, text: &str) -> Result<EncodingKey, Fault> {
        let text = unfolded(text);
        let bytes = text.as_bytes();
        match self {
            Self::HS256 => Ok(EncodingKey::from_secret(bytes)),
            Self::RS256 => EncodingKey::from_rsa_pem(bytes).map_err(|_| RSA),
            Self::ES256 => EncodingKey::from_ec_pem(bytes).map_err(|_| P256),
            Self::EdDsa => EncodingKey::from_ed_pem(bytes).map_err(|_| ED),
        }
    }

    /// The public half, or the same secret for HMAC: what the one who checks a token holds.
    pub(super) fn checking(self, text: &str) -> Result<DecodingKey, Fault> {
        if self == Self::HS256 {
            return Ok(DecodingKey::from_secret(text.as_bytes()));
        }
        Ok(match self.pair(text)? {
            Pair::Rsa(pair) => DecodingKey::from_rsa_der(pair.public_key().as_ref()),
            Pair::P256(pair) => DecodingKey::from_ec_der(pair.public_key().as_ref()),
            Pair::Ed(pair) => DecodingKey::from_ed_der(pair.public_key().as_ref()),
        })
    }

    /// Why the key cannot sign, if it cannot.
    pub(super) fn refuse(self, text: &str) -> Result<(), Fault> {
        if self == Self::HS256 {
            return Ok(());
        }
        self.pair(text).and_then(|_| self.signing(text)).map(drop)
    }

    /// The public half as `SubjectPublicKeyInfo` (RFC 5280); `None` for HMAC, and for what is no key.
    pub(super) fn public_der(self, text: &str) -> Option<Vec<u8>> {
        let der = |made: Result<PublicKeyX509Der<'_>, _>| made.ok().map(|der| der.as_ref().to_vec());
        match self.pair(text).ok()? {
            Pair::Rsa(pair) => der(pair.public_key().as_der()),
            Pair::P256(pair) => der(pair.public_key().as_der()),
            Pair::Ed(pair) => der(pair.public_key().as_der()),
        }
    }

    fn pair(self, text: &str) -> Result<Pair, Fault> {
        let text = unfolded(text);
        if text.contains("ENCRYPTED") {
            return Err("is encrypted: dekeys needs it without a passphrase, and encrypts it itself");
        }
        let parsed = pem::parse(text.as_bytes())
            .map_err(|_| "is not one PEM block, `-----BEGIN PRIVATE KEY-----` and what follows")?;
        let (tag, der) = (parsed.tag().to_owned(), Zeroizing::new(parsed.into_contents()));
        match (tag.as_str(), self) {
            ("PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE", _) => {
                Err("is the public half: the private key is needed")
            }
            ("OPENSSH PRIVATE KEY", _) => Err("is in the format of OpenSSH: convert it to PKCS #8"),
            ("RSA PRIVATE KEY", Self::RS256) => RsaKeyPair::from_der(&der).map(Pair::Rsa).map_err(|_| RSA),
            (_, Self::RS256) => RsaKeyPair::from_pkcs8(&der).map(Pair::Rsa).map_err(|_| RSA),
            (_, Self::ES256) => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
                .map(Pair::P256)
                .map_err(|_| P256),
            (_, Self::EdDsa) => Ed25519KeyPair::from_pkcs8(&der).map(Pair::Ed).map_err(|_| ED),
            (_, Self::HS256) => Err(RSA),
        }
    }

    /// A fresh key for examples and mock vendors; the same RSA key within a process, since one takes a second to make.
    pub(crate) fn example(self) -> Option<String> {
        static RSA_PEM: LazyLock<Option<String>> = LazyLock::new(|| {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
            let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            Some(armoured(der.as_ref()))
        });
        match self {
            Self::HS256 => None,
            Self::RS256 => RSA_PEM.clone(),
            Self::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
                Some(armoured(pair.to_pkcs8v1().ok()?.as_ref()))
            }
            Self::EdDsa => Some(armoured(Ed25519KeyPair::generate().ok()?.to_pkcs8v1().ok()?.as_ref())),
        }
    }
}

fn armoured(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("PRIVATE KEY", der))
}

/// A PEM text as it was meant: copied out of JSON, its line breaks are `\n`.
fn unfolded(text: &str) -> Zeroizing<String> {
    let folded = text.starts_with("-----") && text.contains("\\n");
    Zeroizing::new(if folded {
        text.replace("\\n", "\n")
    } else {
        text.to_owned()
    })
}
