//! The vault's primitives against public test vectors: Wycheproof (AES-GCM, HKDF, HMAC) and the reference
//! implementation of Argon2. Only the cases our use touches: 256-bit keys, 96-bit nonces, 128-bit tags, Argon2id
//! version 0x13 with 32 bytes out.

use data_encoding::HEXLOWER;
use dekeys::vault::VaultError;
use dekeys::vault::primitive::{Aead, Cost, argon2id, hkdf, hmac};
use serde_json::Value;

/// A file below `DEKEYS_VECTORS`, or `None` and a loud line.
fn vectors(file: &str) -> Option<Value> {
    let folder = super::skip::folder("DEKEYS_VECTORS", file)?;
    let text = std::fs::read_to_string(folder.join(file)).expect(file);
    Some(serde_json::from_str(&text).expect(file))
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    HEXLOWER.decode(text(case, field).as_bytes()).expect(field)
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().expect(field)
}

fn number(case: &Value, field: &str) -> usize {
    case[field]
        .as_u64()
        .and_then(|value| value.try_into().ok())
        .expect(field)
}

/// The cases of the groups that `wanted` takes, each with its group.
fn cases(file: &Value, wanted: impl Fn(&Value) -> bool) -> Vec<(&Value, &Value)> {
    let groups = file["testGroups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter(|group| wanted(group));
    groups
        .flat_map(|group| {
            group["tests"]
                .as_array()
                .expect("tests")
                .iter()
                .map(move |case| (group, case))
        })
        .collect()
}

#[test]
fn aes_256_gcm_agrees_with_wycheproof() {
    let Some(file) = vectors("wycheproof/aes_gcm_test.json") else {
        return;
    };
    let ours = |group: &Value| {
        (
            number(group, "keySize"),
            number(group, "ivSize"),
            number(group, "tagSize"),
        ) == (256, 96, 128)
    };
    let cases = cases(&file, ours);
    assert_eq!(cases.len(), 66);
    for (_, case) in cases {
        let aead = Aead::new(&bytes(case, "key").try_into().expect("32 bytes"));
        let (nonce, tag) = (
            bytes(case, "iv").try_into().unwrap(),
            bytes(case, "tag").try_into().unwrap(),
        );
        let bound = bytes(case, "aad");
        let mut buffer = bytes(case, "ct");
        let opened = aead.open(nonce, &bound, &mut buffer, tag);
        if text(case, "result") == "valid" {
            assert_eq!((opened, &buffer), (Ok(()), &bytes(case, "msg")), "{}", case["tcId"]);
            assert_eq!(aead.seal(nonce, &bound, &mut buffer), Ok(tag), "{}", case["tcId"]);
            assert_eq!(buffer, bytes(case, "ct"), "{}", case["tcId"]);
        } else {
            assert_eq!(opened, Err(VaultError::Corrupt), "{}", case["tcId"]);
            assert_eq!(
                buffer,
                bytes(case, "ct"),
                "a refused ciphertext is not decrypted: {}",
                case["tcId"]
            );
        }
    }
}

#[test]
fn hkdf_agrees_with_wycheproof() {
    let Some(file) = vectors("wycheproof/hkdf_sha256_test.json") else {
        return;
    };
    let cases = cases(&file, |_| true);
    assert_eq!(cases.len(), 86);
    for (_, case) in cases {
        let mut out = vec![0; number(case, "size")];
        let done = hkdf(
            &bytes(case, "ikm"),
            Some(&bytes(case, "salt")),
            &bytes(case, "info"),
            &mut out,
        );
        if text(case, "result") == "valid" {
            assert_eq!((done, out), (Ok(()), bytes(case, "okm")), "{}", case["tcId"]);
        } else {
            assert_eq!(done, Err(VaultError::Crypto), "{}", case["tcId"]);
        }
    }
}

#[test]
fn hmac_agrees_with_wycheproof() {
    let Some(file) = vectors("wycheproof/hmac_sha256_test.json") else {
        return;
    };
    let cases = cases(&file, |group| number(group, "tagSize") == 256);
    assert!(cases.len() > 50, "{}", cases.len());
    for (_, case) in cases {
        let same = hmac(&bytes(case, "key"), &bytes(case, "msg")).map(|tag| tag.to_vec() == bytes(case, "tag"));
        assert_eq!(same, Ok(text(case, "result") == "valid"), "{}", case["tcId"]);
    }
}

#[test]
fn argon2id_agrees_with_the_reference_implementation() {
    let Some(file) = vectors("argon2/argon2.json") else {
        return;
    };
    let ours = |case: &&Value| text(case, "type") == "Argon2_id" && number(case, "version") == 0x13;
    let cases: Vec<&Value> = file["hashtest"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(ours)
        .collect();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let cost = Cost {
            memory_kib: u32::try_from(number(case, "m_kib")).unwrap(),
            passes: u32::try_from(number(case, "t")).unwrap(),
            lanes: u32::try_from(number(case, "p")).unwrap(),
        };
        let key = argon2id(text(case, "pwd").as_bytes(), text(case, "salt").as_bytes(), cost).expect("a key");
        assert_eq!(key.to_vec(), bytes(case, "hash_hex"), "{cost:?}");
    }
}
