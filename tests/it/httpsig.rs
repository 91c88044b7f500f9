//! Signatures against the examples of RFC 9421, of web bot auth and of Wycheproof, and the structured field library against its own
//! working group's tests.

use std::path::{Path, PathBuf};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use dekeys::base::secret::SecretText;
use dekeys::httpsig::{KeyFile, Message, Parts, SigError, read, signature_base, verify_raw};
use dekeys::model::principal::PublicKey;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use sfv::{FieldType, Parser};

fn vectors() -> Option<PathBuf> {
    super::skip::folder("DEKEYS_VECTORS", "the public vectors of HTTP message signatures")
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("`{name}` is missing in {value}"))
}

/// A message of the RFC's appendix, taken apart.
struct Example {
    start: String,
    headers: HeaderMap,
    body: String,
}

impl Example {
    fn parse(message: &str) -> Self {
        let (head, body) = message.split_once("\n\n").unwrap();
        let (start, fields) = head.split_once('\n').unwrap();
        let mut headers = HeaderMap::new();
        for field in fields.lines() {
            let (name, value) = field.split_once(':').unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.trim().parse().unwrap());
        }
        Self {
            start: start.to_owned(),
            headers,
            body: body.to_owned(),
        }
    }

    fn message(&self) -> Message<'_> {
        let words: Vec<&str> = self.start.split(' ').collect();
        if words[0].starts_with("HTTP/") {
            return Message::Response {
                status: words[1].parse().unwrap(),
                headers: &self.headers,
            };
        }
        let (path, query) = words[1].split_once('?').unwrap();
        Message::Request(Parts {
            method: words[0],
            scheme: "https",
            authority: self.headers["host"].to_str().unwrap(),
            path,
            query: Some(query),
            headers: &self.headers,
            body: self.body.as_bytes(),
        })
    }
}

/// How many signatures could be checked, and not the signed text alone.
fn check_signature(case: &Value, keys: &Value, base: &str) -> usize {
    let signature = BASE64.decode(text(case, "signature_b64").as_bytes()).unwrap();
    let key = &keys[text(case, "keyid")];
    match text(case, "alg") {
        "ed25519" => {
            let own = KeyFile::parse(&SecretText::new(text(key, "private_pem").to_owned())).unwrap();
            assert_eq!(own.public(), public_key(&key["jwk"]));
            assert_eq!(
                own.sign(base.as_bytes()).to_vec(),
                signature,
                "Ed25519 has one signature"
            );
            assert!(verify_raw(&own.public(), base.as_bytes(), &signature));
            assert!(!verify_raw(&own.public(), format!("{base} ").as_bytes(), &signature));
            1
        }
        "hmac-sha256" => {
            let secret = BASE64.decode(text(key, "secret_b64").as_bytes()).unwrap();
            let code = Hmac::<sha2::Sha256>::new_from_slice(&secret).unwrap();
            code.chain_update(base).verify_slice(&signature).unwrap();
            1
        }
        _ => 0,
    }
}

fn public_key(jwk: &Value) -> PublicKey {
    let bytes = BASE64URL_NOPAD.decode(text(jwk, "x").as_bytes()).unwrap();
    PublicKey::from_bytes(bytes.try_into().unwrap())
}

#[test]
fn the_examples_of_rfc_9421_appendix_b_2_are_met() {
    let Some(folder) = vectors() else { return };
    let file = json(&folder.join("rfc9421/rfc9421_b2.json"));
    let cases = file["cases"].as_array().unwrap();
    let (mut bases, mut signatures) = (0, 0);
    for case in cases {
        let mut example = Example::parse(text(&file["messages"], text(case, "message")));
        if text(case, "id") == "B.2.4" {
            // The RFC's message carries a digest of another body than its own signature base does.
            let digest = text(case, "signature_base")
                .lines()
                .find_map(|line| line.strip_prefix("\"content-digest\": "));
            example
                .headers
                .insert("content-digest", digest.unwrap().parse().unwrap());
        }
        let base = signature_base(&example.message(), text(case, "signature_input")).unwrap();
        assert_eq!(base, text(case, "signature_base"), "{}", text(case, "id"));
        bases += 1;
        signatures += check_signature(case, &file["keys"], &base);
    }
    assert_eq!((bases, signatures), (6, 2));
}

#[test]
fn the_examples_of_web_bot_auth_are_met_and_left_to_others() {
    let Some(folder) = vectors() else { return };
    let mut signatures = 0;
    for version in ["v1", "v2"] {
        let path = folder.join(format!("rfc9421/web_bot_auth_architecture_{version}.json"));
        for case in json(&path).as_array().unwrap() {
            signatures += check_bot(case);
        }
    }
    assert_eq!(signatures, 4, "the Ed25519 half of eight");
}

fn check_bot(case: &Value) -> usize {
    let mut headers = HeaderMap::new();
    for (name, member) in [
        ("signature-input", "signature_input"),
        ("signature", "signature"),
        ("signature-agent", "signature_agent"),
    ] {
        if let Some(value) = case[member].as_str() {
            headers.insert(name, value.parse().unwrap());
        }
    }
    let url: url::Url = text(case, "target_url").parse().unwrap();
    let parts = Parts {
        method: "GET",
        scheme: url.scheme(),
        authority: url.authority(),
        path: url.path(),
        query: url.query(),
        headers: &headers,
        body: b"",
    };
    assert_eq!(
        read(&parts).map(|claimed| claimed.is_some()),
        Ok(false),
        "its tag is not ours"
    );
    let label = format!("{}=", text(case, "label"));
    let input = text(case, "signature_input").strip_prefix(&label).unwrap();
    let base = signature_base(&Message::Request(parts), input).unwrap();
    if text(&case["key"], "kty") != "OKP" {
        return 0;
    }
    let signature = text(case, "signature").strip_prefix(&label).unwrap();
    let signature = BASE64.decode(signature.trim_matches(':').as_bytes()).unwrap();
    assert!(
        verify_raw(&public_key(&case["key"]), base.as_bytes(), &signature),
        "{base}"
    );
    1
}

#[test]
fn a_signature_over_nothing_is_refused_though_the_rfc_has_one() {
    let Some(folder) = vectors() else { return };
    let file = json(&folder.join("rfc9421/rfc9421_b2.json"));
    let mut example = Example::parse(text(&file["messages"], "test-request"));
    let input = text(&file["cases"][0], "signature_input");
    let signature = text(&file["cases"][0], "signature_b64");
    for (name, value) in [
        ("signature-input", format!("dekeys={input}")),
        ("signature", format!("dekeys=:{signature}:")),
    ] {
        example.headers.insert(name, value.parse().unwrap());
    }
    let Message::Request(parts) = example.message() else {
        unreachable!("it is a request")
    };
    assert_eq!(read(&parts).err(), Some(SigError::Tag));
}

#[test]
fn the_ed25519_cases_of_wycheproof_agree() {
    let Some(folder) = vectors() else { return };
    let hex = |value: &Value, name: &str| data_encoding::HEXLOWER.decode(text(value, name).as_bytes()).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in json(&folder.join("wycheproof/ed25519_test.json"))["testGroups"]
        .as_array()
        .unwrap()
    {
        let key = PublicKey::from_bytes(hex(&group["publicKey"], "pk").try_into().unwrap());
        for case in group["tests"].as_array().unwrap() {
            let wanted = text(case, "result") == "valid";
            *(if wanted { &mut valid } else { &mut invalid }) += 1;
            assert_eq!(verify_raw(&key, &hex(case, "msg"), &hex(case, "sig")), wanted, "{case}");
        }
    }
    assert_eq!((valid, invalid), (88, 63), "the set of vectors changed");
}

#[test]
fn the_structured_field_library_agrees_with_its_working_group() {
    let Some(folder) = vectors() else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder.join("structured-fields")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for case in json(&path).as_array().unwrap() {
            check_field(case);
            cases += 1;
        }
    }
    assert_eq!(cases, 1591, "the set of vectors changed");
}

fn check_field(case: &Value) {
    let lines = |name: &str| {
        let lines = case[name]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>();
        Some(lines.join(", "))
    };
    let raw = lines("raw").unwrap();
    let printed = match text(case, "header_type") {
        "item" => Parser::new(&raw)
            .parse::<sfv::Item>()
            .map(|item| Some(item.serialize())),
        "list" => Parser::new(&raw).parse::<sfv::List>().map(|list| list.serialize()),
        _ => Parser::new(&raw)
            .parse::<sfv::Dictionary>()
            .map(|members| members.serialize()),
    };
    let may_fail = case["can_fail"] == true;
    match printed {
        Ok(printed) => {
            assert!(case["must_fail"] != true, "{case}");
            let wanted = lines("canonical").unwrap_or(raw);
            assert_eq!(printed.unwrap_or_default(), wanted, "{case}");
        }
        Err(error) => assert!(case["must_fail"] == true || may_fail, "{error}: {case}"),
    }
}
