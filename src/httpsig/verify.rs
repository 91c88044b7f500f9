//! Reading and checking a request's signature by the profile of [`super`].

use http::HeaderMap;
use sfv::{Dictionary, InnerList, ListEntry};

use super::base::{Message, Parts, base_of};
use super::digest::promised;
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
    streamed: bool,
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

    /// The body comes later: what [`promised`] says is then for the caller to compare with the body's SHA-256 before
    /// the last byte of it has an effect. [`Parts::body`] need only be empty when the request has none.
    #[must_use]
    pub fn streamed(mut self) -> Self {
        self.streamed = true;
        self
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
        streamed: false,
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
    if claimed.streamed {
        promised(parts.headers).map(drop)
    } else if covers(claimed, digest::NAME) {
        digest::check(parts.headers, parts.body)
    } else {
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::super::digest::content_digest;
    use super::super::{KeyFile, sign, sign_session, signature_base};
    use super::*;
    use crate::base::random::SeededRandom;
    use crate::base::time::Ttl;

    const NOW: Timestamp = Timestamp::from_secs(1_763_670_667);
    const NONCE: &str = "0123456789abcdef";
    const TOKEN: &str = "Bearer dkt_test_abc";

    /// A request that can be bent.
    #[derive(Clone)]
    struct Request {
        method: &'static str,
        scheme: &'static str,
        authority: &'static str,
        path: &'static str,
        query: Option<&'static str>,
        headers: HeaderMap,
        body: &'static [u8],
    }

    impl Request {
        fn plain() -> Self {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", TOKEN.parse().unwrap());
            Self {
                method: "POST",
                scheme: "https",
                authority: "dekeys.example",
                path: "/v1/resolve",
                query: Some("a=1"),
                headers,
                body: b"{}",
            }
        }

        fn parts(&self) -> Parts<'_> {
            Parts {
                method: self.method,
                scheme: self.scheme,
                authority: self.authority,
                path: self.path,
                query: self.query,
                headers: &self.headers,
                body: self.body,
            }
        }

        fn signed(mut self) -> Self {
            let fields = sign(&key(), &self.parts(), NOW, NONCE).unwrap();
            fields.put(&mut self.headers);
            self
        }

        /// Signed by the right key over whatever `input` says.
        fn signed_as(mut self, input: &str) -> Self {
            self.set(digest::NAME, &content_digest(self.body));
            let base = signature_base(&Message::Request(self.parts()), input).unwrap();
            let signature = data_encoding::BASE64.encode(&key().sign(base.as_bytes()));
            self.set(INPUT, &format!("dekeys={input}"));
            self.set(SIGNATURE, &format!("dekeys=:{signature}:"));
            self
        }

        fn set(&mut self, name: &'static str, value: &str) {
            self.headers.insert(name, value.parse().unwrap());
        }

        fn get(&self, name: &str) -> String {
            self.headers[name].to_str().unwrap().to_owned()
        }

        fn replace(mut self, name: &'static str, from: &str, to: &str) -> Self {
            let value = self.get(name);
            assert!(value.contains(from), "{from} is not in {value}");
            self.set(name, &value.replacen(from, to, 1));
            self
        }

        fn verify_at(&self, now: Timestamp) -> Result<Option<Proof>, SigError> {
            let parts = self.parts();
            read(&parts)?.map(|claimed| verify(&claimed, &parts, now)).transpose()
        }

        fn verify(&self) -> Result<Option<Proof>, SigError> {
            self.verify_at(NOW)
        }
    }

    fn key() -> KeyFile {
        KeyFile::generate(&SeededRandom::new(1))
    }

    fn proof() -> Proof {
        Proof::Key {
            key: key().public(),
            nonce: NONCE.to_owned(),
            created: NOW,
        }
    }

    fn parameters() -> String {
        format!(
            ";created={};nonce=\"{NONCE}\";keyid=\"{}\";tag=\"dekeys\"",
            NOW.as_secs(),
            key().public()
        )
    }

    fn input(components: &str) -> String {
        format!("({components}){}", parameters())
    }

    const FULL: &str = r#""@method" "@authority" "@path" "@query" "content-digest" "authorization""#;

    #[test]
    fn what_we_sign_verifies() {
        assert_eq!(Request::plain().signed().verify(), Ok(Some(proof())));
        let bare = Request {
            method: "GET",
            query: None,
            headers: HeaderMap::new(),
            body: b"",
            ..Request::plain()
        };
        assert_eq!(bare.signed().verify(), Ok(Some(proof())));
    }

    #[test]
    fn every_order_and_form_of_the_profile_verifies() {
        for components in [
            FULL,
            r#""authorization" "content-digest" "@query" "@path" "@authority" "@method""#,
            r#""@method" "@target-uri" "content-digest" "authorization""#,
            r#""@method" "@target-uri" "@authority" "@path" "@query" "content-digest" "authorization""#,
        ] {
            let request = Request::plain().signed_as(&input(components));
            assert_eq!(request.verify(), Ok(Some(proof())), "{components}");
        }
        let bodyless = Request {
            body: b"",
            ..Request::plain()
        };
        let mut bodyless = bodyless.signed_as(&input(r#""@method" "@target-uri" "authorization""#));
        bodyless.headers.remove(digest::NAME);
        assert_eq!(bodyless.verify(), Ok(Some(proof())));
    }

    #[test]
    fn each_component_that_is_left_out_is_named() {
        for left_out in [
            "@method",
            "@authority",
            "@path",
            "@query",
            "content-digest",
            "authorization",
        ] {
            let components = FULL.replace(&format!("\"{left_out}\""), "");
            let request = Request::plain().signed_as(&input(components.trim()));
            assert_eq!(request.verify(), Err(SigError::Uncovered(left_out)));
        }
        let nothing = Request::plain().signed_as(&input(""));
        assert_eq!(nothing.verify(), Err(SigError::Uncovered("@method")));
    }

    #[test]
    fn components_that_are_unknown_or_bent_are_refused() {
        let mut request = Request::plain();
        request.set("x-other", "1");
        for unexpected in ["\"x-other\"", "\"@scheme\"", "\"@query-param\";name=\"a\""] {
            let bent = request.clone().signed_as(&input(&format!("{FULL} {unexpected}")));
            assert!(matches!(bent.verify(), Err(SigError::Unexpected(_))), "{unexpected}");
        }
        for (from, to, reason) in [
            (
                r#""@path""#,
                r#""@path" "@path""#,
                SigError::CoveredTwice("\"@path\"".to_owned()),
            ),
            (r#""@path""#, r#""@path";req"#, SigError::Unexpected("@path".to_owned())),
            (r#""@path""#, r#""@Path""#, SigError::Unexpected("@Path".to_owned())),
            (r#""@path""#, "path", SigError::Unexpected("?".to_owned())),
            (
                r#""@method" "@authority""#,
                r#""@authority" "@method""#,
                SigError::Wrong,
            ),
            (r#""@path" "#, "", SigError::Uncovered("@path")),
        ] {
            let bent = Request::plain().signed().replace(INPUT, from, to);
            assert_eq!(bent.verify(), Err(reason), "{to}");
        }
    }

    #[test]
    fn another_method_target_token_or_body_is_refused() {
        let good = Request::plain().signed();
        for (bent, reason) in [
            (
                Request {
                    method: "PUT",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    method: "post",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    authority: "evil.example",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    authority: "dekeys.example:8443",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    path: "/v1/resolve/",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    path: "/v1/%72esolve",
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    query: Some("a=2"),
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    query: None,
                    ..good.clone()
                },
                SigError::Wrong,
            ),
            (
                Request {
                    body: b"{ }",
                    ..good.clone()
                },
                SigError::Digest,
            ),
            (
                Request {
                    body: b"",
                    ..good.clone()
                },
                SigError::Digest,
            ),
        ] {
            assert_eq!(bent.verify(), Err(reason));
        }
    }

    #[test]
    fn another_token_or_none_and_a_lost_digest_are_refused() {
        let good = Request::plain().signed();
        let mut token = good.clone();
        token.set("authorization", "Bearer dkt_test_other");
        assert_eq!(token.verify(), Err(SigError::Wrong));
        token.headers.remove("authorization");
        assert_eq!(token.verify(), Err(SigError::Component("\"authorization\"".to_owned())));
        let mut digest = good;
        digest.headers.remove(digest::NAME);
        assert_eq!(
            digest.verify(),
            Err(SigError::Component("\"content-digest\"".to_owned()))
        );
    }

    #[test]
    fn what_is_added_after_signing_must_be_covered() {
        let plain = || Request {
            query: None,
            headers: HeaderMap::new(),
            body: b"",
            ..Request::plain()
        };
        let bare = input(r#""@method" "@authority" "@path""#);
        let mut signed = plain().signed_as(&bare);
        signed.headers.remove(digest::NAME);
        assert_eq!(signed.verify(), Ok(Some(proof())));
        let query = Request {
            query: Some(""),
            ..signed.clone()
        };
        assert_eq!(query.verify(), Err(SigError::Uncovered("@query")));
        let body = Request {
            body: b"x",
            ..signed.clone()
        };
        assert_eq!(body.verify(), Err(SigError::Uncovered("content-digest")));
        let mut token = signed;
        token.set("authorization", TOKEN);
        assert_eq!(token.verify(), Err(SigError::Uncovered("authorization")));
    }

    #[test]
    fn a_header_sent_twice_is_refused() {
        for (name, reason) in [
            ("authorization", SigError::Component("authorization".to_owned())),
            (digest::NAME, SigError::Wrong),
            (INPUT, SigError::Duplicate(INPUT)),
            (SIGNATURE, SigError::Duplicate(SIGNATURE)),
        ] {
            let mut twice = Request::plain().signed();
            twice.headers.append(name, twice.get(name).parse().unwrap());
            assert_eq!(twice.verify(), Err(reason), "{name}");
        }
        // Even when the sender signed both.
        let mut both = Request::plain();
        both.headers.append("authorization", TOKEN.parse().unwrap());
        let both = both.signed_as(&input(FULL));
        assert_eq!(both.verify(), Err(SigError::Component("authorization".to_owned())));
        assert!(sign(&key(), &both.parts(), NOW, NONCE).is_err());
    }

    #[test]
    fn labels_and_tags_cannot_be_played_with() {
        let good = Request::plain().signed();
        let (signed_input, signature) = (good.get(INPUT), good.get(SIGNATURE));
        let other_label = |text: &str| text.replacen("dekeys=", "sig1=", 1);
        let mut renamed = good.clone();
        renamed.set(INPUT, &other_label(&signed_input));
        assert_eq!(renamed.verify(), Err(SigError::Unpaired));
        renamed.set(SIGNATURE, &other_label(&signature));
        assert_eq!(renamed.verify(), Ok(Some(proof())), "the tag decides, not the label");

        let mut two = good.clone();
        two.set(INPUT, &format!("{signed_input}, {}", other_label(&signed_input)));
        two.set(SIGNATURE, &format!("{signature}, {}", other_label(&signature)));
        assert_eq!(two.verify(), Err(SigError::Several));

        let foreign = good.clone().replace(INPUT, "tag=\"dekeys\"", "tag=\"web-bot-auth\"");
        assert_eq!(foreign.verify(), Err(SigError::Tag));
        let untagged = good.clone().replace(INPUT, ";tag=\"dekeys\"", "");
        assert_eq!(untagged.verify(), Err(SigError::Tag));
        let token = good.clone().replace(INPUT, "tag=\"dekeys\"", "tag=dekeys");
        assert_eq!(token.verify(), Err(SigError::Tag), "a token is not a string");

        let mut bystander = good.clone();
        bystander.set(INPUT, &format!("proxy=(\"@method\");tag=\"other\", {signed_input}"));
        bystander.set(SIGNATURE, &format!("proxy=:AAAA:, {signature}"));
        assert_eq!(bystander.verify(), Ok(Some(proof())));
        bystander.set(INPUT, "proxy=(\"@method\");tag=\"other\"");
        assert_eq!(bystander.verify(), Ok(None));
    }

    #[test]
    fn halves_of_a_signature_are_refused_and_none_is_none() {
        assert_eq!(Request::plain().verify(), Ok(None));
        for half in [INPUT, SIGNATURE] {
            let mut request = Request::plain().signed();
            request.headers.remove(half);
            assert_eq!(request.verify(), Err(SigError::Unpaired));
        }
        for value in ["dekeys=1", "dekeys=()", "dekeys=:AAAA:;x"] {
            let mut request = Request::plain().signed();
            request.set(SIGNATURE, value);
            assert_eq!(request.verify(), Err(SigError::Unpaired), "{value}");
        }
        for (value, reason) in [
            ("dekeys=:AAAA:", SigError::Wrong),
            ("dekeys=:", SigError::Field(SIGNATURE)),
        ] {
            let mut request = Request::plain().signed();
            request.set(SIGNATURE, value);
            assert_eq!(request.verify(), Err(reason), "{value}");
        }
    }

    #[test]
    fn parameters_are_all_there_known_once_and_well_formed() {
        let (other, public) = (KeyFile::generate(&SeededRandom::new(2)).public(), key().public());
        for (from, to, reason) in [
            (";created=1763670667", "", SigError::Parameter("created")),
            (
                ";created=1763670667",
                ";created=\"1763670667\"",
                SigError::Parameter("created"),
            ),
            (
                ";created=1763670667",
                ";created=1763670667.5",
                SigError::Parameter("created"),
            ),
            (";nonce=\"0123456789abcdef\"", "", SigError::Parameter("nonce")),
            ("0123456789abcdef", "0123456789abcde", SigError::Parameter("nonce")),
            ("0123456789abcdef", "0123456789 abcdef", SigError::Parameter("nonce")),
            ("0123456789abcdef", &"n".repeat(65), SigError::Parameter("nonce")),
            ("0123456789abcdef", "0123456789abcdeg", SigError::Wrong),
            (&format!(";keyid=\"{public}\""), "", SigError::Parameter("keyid")),
            ("ed25519:", "rsa:", SigError::Parameter("keyid")),
            (&public.to_string(), &other.to_string(), SigError::Wrong),
            (
                &public.to_string(),
                "ses_01KAG4C1B2T5Q3V7X9Z0A1B2C3",
                SigError::Parameter("nonce"),
            ),
            ("alg=\"ed25519\"", "alg=\"hmac-sha256\"", SigError::Algorithm),
            ("alg=\"ed25519\"", "alg=ed25519", SigError::Algorithm),
            ("alg=\"ed25519\"", "alg=\"none\"", SigError::Algorithm),
            (";alg=\"ed25519\"", "", SigError::Wrong),
            (";tag=", ";expires=1763670668;tag=", SigError::Wrong),
            (";tag=", ";expires=\"1\";tag=", SigError::Parameter("expires")),
            (";tag=", ";x=1;tag=", SigError::UnknownParameter("x".to_owned())),
            (";tag=", ";created=1763670667;tag=", SigError::Duplicate(INPUT)),
            (";tag=", ";tag=\"dekeys\";tag=", SigError::Duplicate(INPUT)),
        ] {
            let bent = Request::plain().signed().replace(INPUT, from, to);
            assert_eq!(bent.verify(), Err(reason), "{from} -> {to}");
        }
    }

    #[test]
    fn the_algorithm_need_not_be_named() {
        assert!(!parameters().contains("alg"));
        assert_eq!(Request::plain().signed_as(&input(FULL)).verify(), Ok(Some(proof())));
    }

    #[test]
    fn time_has_two_edges() {
        let request = Request::plain().signed();
        let millis = |ms: i64| Timestamp::from_millis(NOW.as_millis() + ms);
        for (at, result) in [
            (NOW.plus(MAX_AGE), Ok(Some(proof()))),
            (millis(60_001), Err(SigError::Old)),
            (NOW.minus(MAX_AHEAD), Ok(Some(proof()))),
            (millis(-30_001), Err(SigError::Ahead)),
            (NOW.plus(Ttl::from_mins(60 * 24 * 365)), Err(SigError::Old)),
            (Timestamp::from_millis(0), Err(SigError::Ahead)),
        ] {
            assert_eq!(request.verify_at(at), result, "{at:?}");
        }
        for (created, reason) in [
            ("-999999999999999", SigError::Old),
            ("999999999999999", SigError::Ahead),
        ] {
            let bent = Request::plain().signed().replace(INPUT, "1763670667", created);
            assert_eq!(bent.verify(), Err(reason));
        }
    }

    #[test]
    fn a_sender_may_set_an_earlier_end() {
        let request = Request::plain().signed_as(&format!("({FULL}){};expires={}", parameters(), NOW.as_secs() + 5));
        assert_eq!(request.verify_at(NOW.plus(Ttl::from_secs(4))), Ok(Some(proof())));
        assert_eq!(request.verify_at(NOW.plus(Ttl::from_secs(5))), Err(SigError::Old));
    }

    #[test]
    fn every_changed_bit_of_a_signature_is_refused() {
        let good = Request::plain().signed();
        let parts = good.parts();
        let claimed = read(&parts).unwrap().unwrap();
        assert_eq!(claimed.unverified_key(), Some(key().public()));
        for bit in 0..512 {
            let mut bent = claimed.clone();
            bent.signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&bent, &parts, NOW), Err(SigError::Wrong));
        }
    }

    #[test]
    fn sessions_sign_with_their_key_and_counter() {
        let session = SessionId::new(NOW, &SeededRandom::new(3)).to_string();
        let (secret, other) = (SecretBytes::new(vec![1; 32]), SecretBytes::new(vec![2; 32]));
        let mut request = Request::plain();
        sign_session(&session, &secret, 7, &request.parts(), NOW)
            .unwrap()
            .put(&mut request.headers);
        let parts = request.parts();
        let claimed = read(&parts).unwrap().unwrap();
        assert_eq!(
            (claimed.unverified_session(), claimed.unverified_key()),
            (Some(session.as_str()), None)
        );
        let proof = Proof::Session {
            id: session,
            counter: 7,
            created: NOW,
        };
        assert_eq!(verify_session(&claimed, &secret, &parts, NOW), Ok(proof));
        assert_eq!(verify_session(&claimed, &other, &parts, NOW), Err(SigError::Wrong));
        assert_eq!(
            verify_session(&claimed, &secret, &parts, NOW.plus(Ttl::from_secs(61))),
            Err(SigError::Old)
        );
        assert_eq!(verify(&claimed, &parts, NOW), Err(SigError::KeyKind));
        for (from, to) in [
            ("\"7\"", "\"07\""),
            ("\"7\"", "\"+7\""),
            ("\"7\"", "\"-1\""),
            ("\"7\"", "\"x\""),
        ] {
            let bent = request.clone().replace(INPUT, from, to);
            assert_eq!(bent.verify(), Err(SigError::Parameter("nonce")), "{to}");
        }
        let bent = request.clone().replace(INPUT, "\"7\"", "\"8\"");
        let (parts, claimed) = (bent.parts(), read(&bent.parts()).unwrap().unwrap());
        assert_eq!(verify_session(&claimed, &secret, &parts, NOW), Err(SigError::Wrong));
    }

    #[test]
    fn a_signature_by_a_key_is_none_of_a_session() {
        let request = Request::plain().signed();
        let claimed = read(&request.parts()).unwrap().unwrap();
        let refused = verify_session(&claimed, &SecretBytes::new(vec![1; 32]), &request.parts(), NOW);
        assert_eq!(refused, Err(SigError::KeyKind));
    }

    #[test]
    fn a_nonce_that_is_too_short_is_not_signed() {
        let refused = sign(&key(), &Request::plain().parts(), NOW, "short");
        assert_eq!(refused, Err(SigError::Parameter("nonce")));
    }
}
