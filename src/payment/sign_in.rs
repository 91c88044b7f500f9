//! Who has a wallet: the x402 extension `sign-in-with-x` (CAIP-122) in the form of EIP-4361. A header carries the fields of
//! a message and the wallet's signature of its text, which is written anew here.
//!
//! A signature is for this server alone (domain and URI), for a few minutes, and for what is at or below the path it
//! names. That its nonce counts once is the caller's to see to. Only plain keys are known; wallets that are contracts
//! (ERC-1271, ERC-6492) are refused.

use alloy_primitives::{Address, Signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::terms::{Terms, chain_id};
use crate::base::time::{Timestamp, Ttl};

/// The request header.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";

/// The longest header that is read, in bytes.
const LONGEST: usize = 4 * 1024;
/// How long after it was issued a message is taken.
const LIFE: Ttl = Ttl::from_mins(5);
/// How far the wallet's clock may be off.
const SKEW: Ttl = Ttl::from_secs(60);

/// A sign-in that is refused: what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sign-in is refused: {0}")]
pub struct SignInError(pub &'static str);

/// A wallet that proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// CAIP-10, lower case.
    pub wallet: String,
    /// Counts once.
    pub nonce: String,
    /// Until when the nonce must be remembered.
    pub until: Timestamp,
}

/// The header's fields.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    domain: String,
    address: String,
    statement: Option<String>,
    uri: String,
    version: String,
    chain_id: String,
    #[serde(rename = "type")]
    kind: String,
    nonce: String,
    issued_at: String,
    expiration_time: Option<String>,
    not_before: Option<String>,
    request_id: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    signature: String,
}

/// What a demand says of it: the fields of a message for `uri`, made at `now` with a nonce that was never used.
#[must_use]
pub fn challenge(terms: &Terms, uri: &Url, nonce: &str, now: Timestamp) -> Value {
    json!({
        "info": {
            "domain": authority(uri),
            "uri": uri.as_str(),
            "version": "1",
            "nonce": nonce,
            "issuedAt": now.rfc3339(),
            "expirationTime": now.plus(LIFE).rfc3339(),
        },
        "supportedChains": [{ "chainId": terms.network, "type": "eip191" }],
        "schema": { "type": "object" },
    })
}

/// Reads a header's value and checks it for a request to `path` of the server at `own`, on the network of `terms`.
///
/// # Errors
/// [`SignInError`].
pub fn sign_in(
    unverified: &str,
    terms: &Terms,
    own: &Url,
    path: &str,
    now: Timestamp,
) -> Result<SignedIn, SignInError> {
    let fields = decode(unverified)?;
    if fields.version != "1" || fields.kind != "eip191" {
        return Err(SignInError("it is not of version 1 and type `eip191`"));
    }
    if fields.chain_id != terms.network {
        return Err(SignInError("its chain is not the one that payments here are on"));
    }
    here(&fields, own, path)?;
    let until = timely(&fields, now)?;
    let address = signer(&fields)?;
    Ok(SignedIn {
        wallet: format!("{}:{address:#x}", terms.network),
        nonce: fields.nonce,
        until,
    })
}

fn decode(unverified: &str) -> Result<Fields, SignInError> {
    if unverified.len() > LONGEST {
        return Err(SignInError("it is longer than 4 KiB"));
    }
    let json = STANDARD
        .decode(unverified)
        .map_err(|_| SignInError("it is not base64"))?;
    let fields: Fields =
        serde_json::from_slice(&json).map_err(|_| SignInError("a field is missing or of another type"))?;
    let nonce = &fields.nonce;
    if !(8..=64).contains(&nonce.len()) || !nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(SignInError("its nonce is not 8 to 64 letters and digits"));
    }
    if fields.lines().any(|line| line.chars().any(char::is_control)) {
        return Err(SignInError("a field has more than one line"));
    }
    Ok(fields)
}

/// For this server, and for this path or one above it.
fn here(fields: &Fields, own: &Url, path: &str) -> Result<(), SignInError> {
    if fields.domain != authority(own) {
        return Err(SignInError("its domain is not this server"));
    }
    let elsewhere = SignInError("its URI is not at this server");
    let uri = Url::parse(&fields.uri).map_err(|_| elsewhere)?;
    if uri.origin() != own.origin() || !uri.username().is_empty() || uri.password().is_some() {
        return Err(elsewhere);
    }
    let above = uri.path().trim_end_matches('/');
    let covered = path
        .strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if covered {
        Ok(())
    } else {
        Err(SignInError("its URI is not that of the request, nor above it"))
    }
}

fn timely(fields: &Fields, now: Timestamp) -> Result<Timestamp, SignInError> {
    let time = |text: &str| Timestamp::parse_rfc3339(text).ok_or(SignInError("a time is not RFC 3339"));
    let issued = time(&fields.issued_at)?;
    let until = issued.plus(LIFE);
    if issued > now.plus(SKEW) {
        return Err(SignInError("it was issued later than now"));
    }
    let ends = fields.expiration_time.as_deref().map(time).transpose()?;
    if now >= until || ends.is_some_and(|ends| now >= ends) {
        return Err(SignInError("its time is over"));
    }
    let from = fields.not_before.as_deref().map(time).transpose()?;
    if from.is_some_and(|from| now < from) {
        return Err(SignInError("its time has not come"));
    }
    Ok(until)
}

fn signer(fields: &Fields) -> Result<Address, SignInError> {
    let bad = SignInError("its signature is not that of the address");
    let address = Address::parse_checksummed(&fields.address, None)
        .map_err(|_| SignInError("its address is not written with its checksum (EIP-55)"))?;
    let digits = fields.signature.strip_prefix("0x").ok_or(bad)?;
    let raw = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| bad)?;
    let raw: [u8; 65] = raw.try_into().map_err(|_| bad)?;
    if !matches!(raw, [.., 27 | 28]) {
        return Err(bad);
    }
    let signature = Signature::from_raw_array(&raw).map_err(|_| bad)?;
    if signature.normalize_s().is_some() {
        return Err(bad);
    }
    let signed = signature.recover_address_from_msg(fields.text()).map_err(|_| bad)?;
    if signed == address { Ok(address) } else { Err(bad) }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Fields {
    fn lines(&self) -> impl Iterator<Item = &str> {
        let needed = [&self.domain, &self.address, &self.uri, &self.issued_at];
        let others = [
            &self.statement,
            &self.expiration_time,
            &self.not_before,
            &self.request_id,
        ];
        let others = others.into_iter().flatten();
        needed
            .into_iter()
            .chain(others)
            .chain(&self.resources)
            .map(String::as_str)
    }

    /// The text that is signed (EIP-4361, ABNF).
    fn text(&self) -> String {
        let chain = chain_id(&self.chain_id).unwrap_or_default();
        let statement = self.statement.iter().map(|line| format!("{line}\n"));
        let mut text = format!(
            "{} wants you to sign in with your Ethereum account:\n{}\n\n{}\nURI: {}\nVersion: {}\nChain ID: {chain}\n\
             Nonce: {}\nIssued At: {}",
            self.domain,
            self.address,
            statement.collect::<String>(),
            self.uri,
            self.version,
            self.nonce,
            self.issued_at,
        );
        for (name, value) in [
            ("Expiration Time", &self.expiration_time),
            ("Not Before", &self.not_before),
            ("Request ID", &self.request_id),
        ] {
            text.extend(value.iter().map(|value| format!("\n{name}: {value}")));
        }
        if !self.resources.is_empty() {
            text.push_str("\nResources:");
            text.extend(self.resources.iter().map(|resource| format!("\n- {resource}")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both made by the official client (npm `@x402/extensions` 2.27.0) with the key of 32 bytes 7.
    const SHORT: &str = "eyJkb21haW4iOiJicm9rZXIuZXhhbXBsZSIsImFkZHJlc3MiOiIweDRhNjIzMTY2MjNhZDQ1N0YwMmNEQzVEOTk3ZG\
        VENjdhMzgzRUM1NjkiLCJ1cmkiOiJodHRwczovL2Jyb2tlci5leGFtcGxlL3YxL2dyYW50cyIsInZlcnNpb24iOiIx\
        IiwiY2hhaW5JZCI6ImVpcDE1NTo4NDUzMiIsInR5cGUiOiJlaXAxOTEiLCJub25jZSI6IjAxMjM0NTY3ODlhYmNkZW\
        YiLCJpc3N1ZWRBdCI6IjIwMjYtMTItMDFUMDA6MDA6MDBaIiwiZXhwaXJhdGlvblRpbWUiOiIyMDI2LTEyLTAxVDAw\
        OjA1OjAwWiIsInNpZ25hdHVyZSI6IjB4YjQyMDJlNmEwYmYwMGY0YzBjYzAyOGNiMmI5ZTUwY2Q5NDM2YWY2ZmY4YW\
        MzZjhhYzhmNTAyMjBjM2M4MjhmMjZiMTA3YzY3OGQwNjA0OWRjMTJjMzlkODZlNzY5ZGM3YmFhZjEzN2UwZTI5Y2Rk\
        YWE0NzU1MWFkNjI3NmE3MWIxYyJ9";
    const LONG: &str = "eyJkb21haW4iOiJicm9rZXIuZXhhbXBsZSIsImFkZHJlc3MiOiIweDRhNjIzMTY2MjNhZDQ1N0YwMmNEQzVEOTk3ZG\
        VENjdhMzgzRUM1NjkiLCJzdGF0ZW1lbnQiOiJTaWduIGluIHRvIHNlZSB5b3VyIGdyYW50cyIsInVyaSI6Imh0dHBz\
        Oi8vYnJva2VyLmV4YW1wbGUvdjEvZ3JhbnRzIiwidmVyc2lvbiI6IjEiLCJjaGFpbklkIjoiZWlwMTU1Ojg0NTMyIi\
        widHlwZSI6ImVpcDE5MSIsIm5vbmNlIjoiMDEyMzQ1Njc4OWFiY2RlZiIsImlzc3VlZEF0IjoiMjAyNi0xMi0wMVQw\
        MDowMDowMFoiLCJleHBpcmF0aW9uVGltZSI6IjIwMjYtMTItMDFUMDA6MDU6MDBaIiwibm90QmVmb3JlIjoiMjAyNi\
        0xMi0wMVQwMDowMDowMFoiLCJyZXF1ZXN0SWQiOiJyMSIsInJlc291cmNlcyI6WyJodHRwczovL2Jyb2tlci5leGFt\
        cGxlL2EiLCJodHRwczovL2Jyb2tlci5leGFtcGxlL2IiXSwic2lnbmF0dXJlIjoiMHhjMTIzMjczNTE0ZTBiNmYyNz\
        MyNTJjMDY1M2QwNmZmY2Q0OTlhMTc2OGM1MjZjNmU0MTNkODFiNTQzMTc0ZGVhMDU1OWJjNGI2ZjJjZjQzYmIyYTI5\
        M2U3M2E5ZGVjODczYjA3YmIzZTdhOGQxYzA1MDI3ODY5ZDc3Yzk5YTUyMTFiIn0=";

    const WALLET: &str = "eip155:84532:0x4a62316623ad457f02cdc5d997ded67a383ec569";

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn checked(header: &str, own: &str, path: &str, now: &str) -> Result<SignedIn, SignInError> {
        let terms = Terms::base_sepolia("0x90F79bf6EB2c4f870365E785982E1f101E93b906");
        sign_in(header, &terms, &own.parse().unwrap(), path, at(now))
    }

    #[test]
    fn what_the_official_client_signs_names_its_wallet() {
        for header in [SHORT, LONG] {
            let signed = checked(header, "https://broker.example", "/v1/grants", "2026-12-01T00:01:00Z").unwrap();
            assert_eq!(
                (signed.wallet.as_str(), signed.nonce.as_str()),
                (WALLET, "0123456789abcdef")
            );
            assert_eq!(signed.until, at("2026-12-01T00:05:00Z"));
        }
    }

    #[test]
    fn it_counts_here_and_now_alone() {
        let (own, path, now) = ("https://broker.example", "/v1/grants", "2026-12-01T00:01:00Z");
        assert!(
            checked(SHORT, own, "/v1/grants/grt_1/revoke", now).is_ok(),
            "below its URI"
        );
        for (own, path, now) in [
            ("https://other.example", path, now),
            ("http://broker.example", path, now),
            ("https://broker.example:8443", path, now),
            (own, "/v1/grantsome", now),
            (own, "/v1/usage", now),
            (own, "/", now),
            (own, path, "2026-12-01T00:05:00Z"),
            (own, path, "2026-11-30T23:58:59Z"),
        ] {
            assert!(checked(SHORT, own, path, now).is_err(), "{own} {path} {now}");
        }
    }

    #[test]
    fn no_field_and_no_byte_of_the_signature_may_change() {
        let (own, path, now) = ("https://broker.example", "/v1/grants", "2026-12-01T00:01:00Z");
        let fields: serde_json::Map<String, Value> = serde_json::from_slice(&STANDARD.decode(LONG).unwrap()).unwrap();
        let read = |fields: serde_json::Map<String, Value>| {
            let header = STANDARD.encode(Value::Object(fields).to_string());
            checked(&header, own, path, now)
        };
        assert!(read(fields.clone()).is_ok());
        for name in fields.keys() {
            let mut changed = fields.clone();
            let text = changed[name].as_str().unwrap_or("x").to_owned();
            changed[name] = match name.as_str() {
                "resources" => json!([]),
                "signature" => json!(text.replacen("0xc1", "0xc2", 1)),
                "issuedAt" | "notBefore" => json!("2026-12-01T00:00:01Z"),
                "expirationTime" => json!("2026-12-01T00:04:59Z"),
                "uri" => json!("https://broker.example/v1"),
                _ => json!(format!("{text}0")),
            };
            assert!(read(changed).is_err(), "{name}");
        }
        let mut lines = fields;
        lines["statement"] = json!("Sign in to see your grants\n");
        assert!(read(lines).is_err());
        for header in ["", "e30=", "!", &"A".repeat(5000)] {
            assert!(checked(header, own, path, now).is_err());
        }
    }
}
