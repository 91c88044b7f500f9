//! What dekeys signs with a root credential: against OpenSSL and other libraries, against vendors that know only the
//! public half, and what is refused before it is stored.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use dekeys::base::egress::{Egress, Outgoing, Reach};
use dekeys::base::random::OsRandom;
use dekeys::base::secret::SecretText;
use dekeys::base::time::{SystemClock, Timestamp, Ttl};
use dekeys::mock::{MockOptions, MockVendor};
use dekeys::vendor::{
    Adapter, CreateAsk, Created, FailureClass, Logins, Manifest, RootSecret, VendorError, VendorFailure, pack_root,
};
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use super::{ask, manifest, text};

const RSA: &str = include_str!("signed/rsa.pem");
const NOW: Timestamp = Timestamp::from_secs(1_795_204_800);

fn root(manifest: &Manifest, mock: Option<&MockVendor>, key: &str) -> Result<RootSecret, VendorError> {
    let facts = manifest.facts();
    let params: Vec<_> = facts
        .params
        .iter()
        .map(|field| (field.name.clone(), field.sample.clone()))
        .collect();
    let fields = facts
        .root_fields
        .iter()
        .map(|field| (field.name.clone(), SecretText::new(key.to_owned())))
        .collect();
    RootSecret::unpack(pack_root(manifest, mock.map(MockVendor::url), &params, fields)?)
}

fn wanted(manifest: &Manifest, scopes: &[&str], now: Timestamp) -> CreateAsk {
    let first = || vec![manifest.facts().scopes[0].clone()];
    let named = || scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    CreateAsk {
        scopes: if scopes.is_empty() { first() } else { named() },
        now,
        expires: now.plus(Ttl::from_mins(10)),
        ..ask("dk-abcdefgh-0123456789-1", Ttl::from_mins(10))
    }
}

async fn create(manifest: &Manifest, root: &RootSecret, ask: &CreateAsk) -> Result<Created, VendorFailure> {
    let adapter = Adapter::of(
        &Arc::new(manifest.clone()),
        &Logins::new(Arc::new(SystemClock::default())),
    );
    let egress = Egress::new(Reach::Loopback).unwrap();
    adapter.create(&egress, root, ask, &OsRandom, super::unheard).await
}

/// A key of a manifest whose keys are signed here, made without any vendor.
async fn signed(text: &str, key: &str, scopes: &[&str]) -> Created {
    let manifest = Manifest::parse(text, "signed.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let root = root(&manifest, None, key).unwrap();
    create(&manifest, &root, &wanted(&manifest, scopes, NOW)).await.unwrap()
}

fn claims(token: &str) -> Value {
    let middle = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL_NOPAD.decode(middle.as_bytes()).unwrap()).unwrap()
}

fn apart(token: &str) -> (&str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message, BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap())
}

#[tokio::test]
async fn an_rsa_signature_and_the_fingerprint_are_those_of_openssl() {
    let expected = include_str!("signed/snowflake.jwt");
    for key in [RSA, include_str!("signed/rsa-pkcs8.pem"), &RSA.replace('\n', "\\n")] {
        let made = signed(text("snowflake"), key, &[]).await;
        assert_eq!(made.secret.expose(), expected);
        assert_eq!(made.vendor_expires, Some(NOW.plus(Ttl::from_mins(10))));
        assert!(made.vendor_key_id.starts_with("digest-"));
    }
}

#[tokio::test]
async fn other_libraries_verify_what_is_signed_with_ed25519_and_hmac() {
    let ed = text("vonage").replace("RS256", "EdDSA");
    let made = signed(&ed, include_str!("signed/ed25519.pem"), &[]).await;
    let (message, signature) = apart(made.secret.expose());
    let public: [u8; 32] = BASE64URL_NOPAD
        .decode(ED_PUBLIC.as_bytes())
        .unwrap()
        .try_into()
        .unwrap();
    let signature = Signature::from_slice(&signature).unwrap();
    VerifyingKey::from_bytes(&public)
        .unwrap()
        .verify(message.as_bytes(), &signature)
        .unwrap();

    let made = signed(text("livekit"), "a secret", &[]).await;
    let (message, signature) = apart(made.secret.expose());
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a secret").unwrap();
    mac.update(message.as_bytes());
    mac.verify_slice(&signature).unwrap();
}

const ED_PUBLIC: &str = "HMZOJ-oSG5tJf6lN4OgQhQK4RtHgD_3MnkbvsodFUZ0";

#[tokio::test]
async fn rights_of_several_scopes_become_one_claim() {
    let made = signed(text("livekit"), "a secret", &["rooms:list", "room:publish"]).await;
    let found = claims(made.secret.expose());
    let video = json!({ "roomJoin": true, "room": "lobby", "canPublish": true, "roomList": true });
    assert_eq!(found["video"], video);
    let made = signed(
        text("ably-token"),
        "a secret",
        &["messages:publish", "messages:subscribe"],
    )
    .await;
    let capability = claims(made.secret.expose())["x-ably-capability"].clone();
    assert_eq!(capability, json!(r#"{"*":["publish","subscribe"]}"#));
}

#[test]
fn a_key_that_cannot_sign_is_refused_before_it_is_stored_and_never_repeated() {
    let cases = [
        ("github-app", include_str!("signed/rsa-encrypted.pem"), "encrypted"),
        (
            "github-app",
            include_str!("signed/rsa-encrypted-pkcs1.pem"),
            "encrypted",
        ),
        ("github-app", include_str!("signed/rsa-public.pem"), "public half"),
        ("github-app", include_str!("signed/rsa-small.pem"), "2048"),
        ("github-app", include_str!("signed/p256.pem"), "RSA"),
        ("github-app", "not a key at all", "PEM"),
        ("app-store-connect", include_str!("signed/p256-sec1.pem"), "pkcs8"),
        ("app-store-connect", include_str!("signed/p384.pem"), "P-256"),
        ("app-store-connect", RSA, "P-256"),
    ];
    for (name, key, why) in cases {
        let Err(error) = root(&manifest(name), None, key) else {
            panic!("{name} takes what it should refuse for `{why}`");
        };
        let words = error.to_string();
        assert!(words.contains(why) && words.contains("private_key"), "{words}");
        assert!(
            !key.lines().any(|line| words.contains(line) && line.len() > 8),
            "{words}"
        );
    }
    for key in [RSA, include_str!("signed/rsa-pkcs8.pem")] {
        assert!(root(&manifest("github-app"), None, key).is_ok());
    }
    assert!(root(&manifest("app-store-connect"), None, include_str!("signed/p256.pem")).is_ok());
}

#[tokio::test]
async fn a_vendor_takes_only_tokens_of_the_app_whose_public_half_it_knows() {
    for name in ["github-app", "gcp-service-account"] {
        let manifest = manifest(name);
        let params = manifest.facts().params;
        let options = MockOptions {
            params: params
                .iter()
                .map(|field| (field.name.clone(), field.sample.clone()))
                .collect(),
            ..MockOptions::default()
        };
        let mock = MockVendor::start(&manifest, options).await.unwrap();
        let own = mock.root_fields()[0].1.clone();
        let wanted = wanted(&manifest, &[], SystemClock::wall());
        let made = create(&manifest, &root(&manifest, Some(&mock), &own).unwrap(), &wanted).await;
        assert!(
            made.is_ok_and(|made| made.vendor_expires.is_some()) || name == "github-app",
            "{name}"
        );
        let foreign = root(&manifest, Some(&mock), RSA).unwrap();
        let refused = create(&manifest, &foreign, &wanted).await.err().unwrap();
        assert_eq!(
            (refused.class, refused.status),
            (FailureClass::Auth, Some(401)),
            "{name}"
        );
        assert_eq!(mock.live_keys().len(), 1, "{name}");
    }
}

/// A token shown to a mock vendor at the first route of its manifest: the status.
async fn show(mock: &MockVendor, text: &str, token: &str) -> u16 {
    let table: toml::Table = toml::from_str(text).unwrap();
    let route = &table["mock"]["routes"][0];
    let (method, path) = (route["method"].as_str().unwrap(), route["path"].as_str().unwrap());
    let url = mock.url().join(path).unwrap();
    let mut outgoing = Outgoing::new(method.parse().unwrap(), url);
    let value = format!("Bearer {token}").parse().unwrap();
    outgoing.headers.insert(http::header::AUTHORIZATION, value);
    let egress = Egress::new(Reach::Loopback).unwrap();
    egress.send(outgoing).await.unwrap().status
}

#[tokio::test]
async fn every_vendor_of_signed_keys_checks_the_signature_the_time_and_the_rights() {
    let mut seen = 0;
    for (name, text) in dekeys::vendor::shipped() {
        let manifest = manifest(name.as_str());
        if !manifest.facts().signed_here {
            continue;
        }
        seen += 1;
        let params = manifest.facts().params;
        let options = MockOptions {
            params: params
                .iter()
                .map(|field| (field.name.clone(), field.sample.clone()))
                .collect(),
            ..MockOptions::default()
        };
        let params = options.params.clone();
        let mock = MockVendor::start(&manifest, options).await.unwrap();
        let fields = super::fields(&mock);
        let packed = pack_root(&manifest, Some(mock.url()), &params, fields).unwrap();
        let root = RootSecret::unpack(packed).unwrap();
        let scopes: Vec<String> = manifest.facts().scopes.iter().map(ToString::to_string).collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let now = SystemClock::wall();
        let made = create(&manifest, &root, &wanted(&manifest, &scopes, now))
            .await
            .unwrap();
        let token = made.secret.expose();
        assert!((200..300).contains(&show(&mock, text, token).await), "{name}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let rest = signature.strip_prefix(|_: char| true).unwrap();
        let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{message}.{flipped}{rest}");
        assert_eq!(show(&mock, text, &forged).await, 401, "{name}: a forged signature");
        let ended = create(
            &manifest,
            &root,
            &wanted(&manifest, &scopes, now.minus(Ttl::from_mins(11))),
        )
        .await;
        let ended = ended.unwrap();
        assert_eq!(
            show(&mock, text, ended.secret.expose()).await,
            401,
            "{name}: a token of yesterday"
        );
    }
    assert!(seen >= 5, "only {seen} manifests sign keys");
}

#[test]
fn a_manifest_that_signs_wrongly_is_refused_with_its_place() {
    let cases = [
        (
            "livekit",
            "${root.api_secret}\"",
            "${params.room}\"",
            "/create/sign/key",
        ),
        ("livekit", "class = 4", "class = 2", "/vendor/class"),
        ("livekit", "unit = \"unix_s\"", "unit = \"seconds\"", "/create/sign"),
        ("livekit", "sub = \"${name}\"", "sub = \"${nmae}\"", "/create/body/sub"),
        (
            "livekit",
            "room = \"${params.room}\" }",
            "room = \"${params.rom}\" }",
            "/scopes/room:join",
        ),
        ("ably-token", "kid =", "alg =", "/create/sign/header/alg"),
        (
            "github-app",
            "lifetime_s = 480",
            "lifetime_s = 86400",
            "/root/auth/assertion",
        ),
        (
            "github-app",
            "key = \"${root.private_key}\"",
            "key = \"x${root.private_key}\"",
            "/root/auth/assertion/sign/key",
        ),
        (
            "gcp-service-account",
            "${assertion}",
            "${asertion}",
            "/root/auth/body/assertion",
        ),
    ];
    for (name, old, new, at) in cases {
        let changed = text(name).replacen(old, new, 1);
        assert_ne!(changed, text(name), "{name} has no `{old}`");
        let errors = Manifest::parse(&changed, "x.toml").unwrap_err();
        assert!(
            errors.findings.iter().any(|finding| finding.pointer == at),
            "{name}: {at}: {errors}"
        );
    }
}
