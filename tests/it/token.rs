//! Tokens, seen from outside: what is accepted, what is refused and in which words. The public biscuit samples
//! (`DEKEYS_VECTORS`) run where they are at hand.
#![cfg(test)]

mod hostile;
mod narrowing;
mod samples;
mod vectors;

use std::time::Duration;

use biscuit_auth::format::schema;
use biscuit_auth::{Biscuit, BlockBuilder, KeyPair};
use dekeys::base::id::{GrantId, InstanceId, PrincipalId, base64url};
use dekeys::base::random::SeededRandom;
use dekeys::base::time::{Timestamp, Ttl};
use dekeys::model::claims::UseKind;
use dekeys::model::instance::Mode;
use dekeys::model::principal::PublicKey;
use dekeys::model::scope::{Name, Scope};
use dekeys::token::{
    Ask, MintAsk, Narrowing, RootKeys, RootPublics, TokenError, Verified, Verifier, attenuate, inspect, mint,
    revocation_ids,
};
use prost::Message;

/// One instance, its root keys and a grant.
struct World {
    roots: RootKeys,
    instance: InstanceId,
    grant: GrantId,
    principal: PrincipalId,
    rights: Vec<(Name, Scope)>,
    audience: Vec<Name>,
    holder: Option<PublicKey>,
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_795_206_667)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let random = SeededRandom::new(seed);
        let keys = vec![RootKeys::generate(1, &random), RootKeys::generate(2, &random)];
        Self {
            roots: RootKeys::new(2, keys).unwrap(),
            instance: InstanceId::new(now(), &random),
            grant: GrantId::new(now(), &random),
            principal: PrincipalId::new(now(), &random),
            rights: vec![
                (name("openrouter"), scope("inference:write")),
                (name("stripe"), scope("refunds:write")),
            ],
            audience: Vec::new(),
            holder: Some(PublicKey::from_bytes([7; 32])),
        }
    }

    fn ask(&self) -> MintAsk<'_> {
        MintAsk {
            instance: self.instance,
            mode: Mode::Test,
            grant: self.grant,
            principal: self.principal,
            holder: self.holder,
            rights: &self.rights,
            audience: &self.audience,
            now: now(),
            expires: now().plus(Ttl::from_mins(15)),
        }
    }

    fn token(&self) -> String {
        mint(&self.roots, &self.ask()).unwrap().expose().to_owned()
    }

    /// Patient: a busy machine must not make these tests fail.
    fn verifier(&self) -> Verifier {
        Verifier::new(self.instance, Mode::Test, self.roots.public()).patient(Duration::from_mins(1))
    }

    fn parse(&self, token: &str) -> Result<Verified, TokenError> {
        self.verifier().parse(token)
    }

    fn authorize(&self, token: &str, ask: &Ask<'_>) -> Result<dekeys::token::Authorized, TokenError> {
        self.verifier().authorize(&self.parse(token)?, ask)
    }

    fn root(&self) -> biscuit_auth::PublicKey {
        let publics = self.roots.public();
        let (_, key) = publics.0.first().unwrap();
        biscuit_auth::PublicKey::from_bytes(key.as_bytes(), biscuit_auth::Algorithm::Ed25519).unwrap()
    }

    fn biscuit(&self, token: &str) -> Biscuit {
        Biscuit::from(raw(token), self.root()).unwrap()
    }
}

/// Values that live as long as a test's `Ask`.
struct Wish {
    prim: Name,
    vendor: Name,
    scope: Scope,
}

impl Wish {
    fn new() -> Self {
        Self {
            prim: name("prim-echo"),
            vendor: name("openrouter"),
            scope: scope("inference:write"),
        }
    }

    fn resolve(&self) -> Ask<'_> {
        Ask {
            now: now(),
            use_kind: UseKind::Resolve,
            prim: Some(&self.prim),
            vendor: Some(&self.vendor),
            scope: Some(&self.scope),
            method: None,
            path: None,
        }
    }

    fn forward<'a>(&'a self, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask {
            use_kind: UseKind::Forward,
            prim: None,
            method: Some(method),
            path: Some(path),
            ..self.resolve()
        }
    }
}

const MANAGE: Ask<'static> = Ask {
    now: Timestamp::from_secs(1_795_206_667),
    use_kind: UseKind::Manage,
    prim: None,
    vendor: None,
    scope: None,
    method: None,
    path: None,
};

fn raw(token: &str) -> Vec<u8> {
    let encoded = token.strip_prefix("dkt_test_").unwrap();
    data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    format!("dkt_test_{}", base64url(bytes))
}

/// The token with one more block, made with the official library: what any holder can do.
fn append(token: &str, block: BlockBuilder) -> String {
    let biscuit = biscuit_auth::UnverifiedBiscuit::from(raw(token)).unwrap();
    text(&biscuit.append(block).unwrap().to_vec().unwrap())
}

fn datalog(code: &str) -> BlockBuilder {
    BlockBuilder::new().code(code).unwrap()
}

/// The token after a change to its outer protobuf.
fn changed(token: &str, change: impl FnOnce(&mut schema::Biscuit)) -> String {
    let mut message = schema::Biscuit::decode(raw(token).as_slice()).unwrap();
    change(&mut message);
    text(&message.encode_to_vec())
}

#[test]
fn a_minted_token_says_what_was_asked() {
    let world = World::new(1);
    let token = world.token();
    let verified = world.parse(&token).unwrap();
    let claims = verified.claims();
    assert_eq!(claims.instance, world.instance);
    assert_eq!(claims.grant, world.grant);
    assert_eq!(claims.principal, world.principal);
    assert_eq!(claims.holder, world.holder);
    assert_eq!(claims.expires, now().plus(Ttl::from_mins(15)));
    assert_eq!(claims.rights, world.rights);
    assert_eq!(claims.audience, Vec::<Name>::new());
    assert_eq!(claims.root_key_id, 2);
    assert_eq!(claims.revocation_ids, revocation_ids(&token).unwrap());
    assert!(token.len() < 1000, "{}", token.len());
    assert!(
        !format!("{verified:?}").contains("proof"),
        "the appending key must not be printed"
    );
}

#[test]
fn two_tokens_of_one_grant_have_different_revocation_ids() {
    let world = World::new(1);
    assert_ne!(revocation_ids(&world.token()), revocation_ids(&world.token()));
}

#[test]
fn the_official_library_reads_what_follows_the_prefix() {
    let world = World::new(1);
    let token = world.token();
    let encoded = token.strip_prefix("dkt_test_").unwrap();
    let biscuit = Biscuit::from_base64(encoded, world.root()).unwrap();
    assert_eq!(biscuit.root_key_id(), Some(2));
    let padded = format!("dkt_test_{}", biscuit.to_base64().unwrap());
    assert!(world.parse(&padded).is_ok(), "and we read what it prints");
}

#[test]
fn a_right_is_needed() {
    let (world, wish) = (World::new(1), Wish::new());
    let token = world.token();
    let (stripe, admin) = (name("stripe"), scope("admin:write"));
    assert!(world.authorize(&token, &wish.resolve()).is_ok());
    assert!(world.authorize(&token, &MANAGE).is_ok());
    let vendor_alone = Ask {
        scope: None,
        ..wish.forward("POST", "/v1/chat")
    };
    assert!(world.authorize(&token, &vendor_alone).is_ok());
    let refused = [
        Ask {
            vendor: Some(&stripe),
            ..wish.resolve()
        },
        Ask {
            scope: Some(&admin),
            ..wish.resolve()
        },
        Ask {
            scope: None,
            ..wish.resolve()
        },
        Ask {
            vendor: None,
            ..wish.resolve()
        },
        Ask {
            vendor: None,
            scope: None,
            ..wish.forward("GET", "/")
        },
        Ask {
            scope: Some(&admin),
            ..MANAGE
        },
    ];
    for ask in refused {
        assert_eq!(world.authorize(&token, &ask), Err(TokenError::NotGranted), "{ask:?}");
    }
}

#[test]
fn time_ends_a_token_to_the_second() {
    let (world, wish) = (World::new(1), Wish::new());
    let token = world.token();
    let end = now().plus(Ttl::from_mins(15));
    let at = |at: Timestamp| {
        let ask = Ask {
            now: at,
            ..wish.resolve()
        };
        world.authorize(&token, &ask)
    };
    assert_eq!(at(end.minus(Ttl::from_millis(1))).map(|yes| yes.until), Ok(end));
    assert_eq!(at(end), Err(TokenError::Expired { at: end }));
    let from = now().minus(Ttl::from_secs(30));
    assert!(at(from).is_ok());
    assert_eq!(at(from.minus(Ttl::from_millis(1))), Err(TokenError::NotYet { from }));
}

#[test]
fn an_audience_binds_resolving_and_forwarding_but_not_managing() {
    let mut world = World::new(1);
    world.audience = vec![name("prim-echo"), name("prim-infer")];
    let wish = Wish::new();
    let token = world.token();
    let other = name("prim-other");
    assert_eq!(world.parse(&token).unwrap().claims().audience, world.audience);
    assert!(world.authorize(&token, &wish.resolve()).is_ok());
    assert!(world.authorize(&token, &MANAGE).is_ok());
    for ask in [
        Ask {
            prim: Some(&other),
            ..wish.resolve()
        },
        wish.forward("POST", "/v1/chat"),
    ] {
        assert_eq!(world.authorize(&token, &ask), Err(TokenError::NotGranted));
    }
    world.audience = vec![name("prim-echo")];
    assert_eq!(world.parse(&world.token()).unwrap().claims().audience, world.audience);
}

#[test]
fn a_token_of_another_mode_instance_or_root_key_is_foreign() {
    let (world, other) = (World::new(1), World::new(2));
    let token = world.token();
    let live = token.replace("dkt_test_", "dkt_live_");
    assert_eq!(world.parse(&live).err(), Some(TokenError::ForeignInstance));
    assert_eq!(other.parse(&token).err(), Some(TokenError::Signature));
    let same_roots = Verifier::new(other.instance, Mode::Test, world.roots.public());
    assert_eq!(same_roots.parse(&token).err(), Some(TokenError::ForeignInstance));
    let publics = RootPublics(world.roots.public().0.into_iter().filter(|(id, _)| *id != 2).collect());
    let retired = Verifier::new(world.instance, Mode::Test, publics);
    assert_eq!(retired.parse(&token).err(), Some(TokenError::UnknownRoot));
}

#[test]
fn a_check_that_takes_too_long_is_no_denial() {
    let (world, wish) = (World::new(1), Wish::new());
    let verifier = world.verifier().patient(Duration::ZERO);
    let token = verifier.parse(&world.token()).unwrap();
    assert_eq!(verifier.authorize(&token, &wish.resolve()), Err(TokenError::TimedOut));
}

#[test]
fn minting_refuses_what_could_not_be_used() {
    let mut world = World::new(1);
    let over = MintAsk {
        expires: now(),
        ..world.ask()
    };
    assert_eq!(mint(&world.roots, &over).err(), Some(TokenError::Expired { at: now() }));
    world.rights.clear();
    assert!(matches!(mint(&world.roots, &world.ask()), Err(TokenError::Internal(_))));
    let right = |number: usize| (name(&format!("vendor-{number}")), scope("a:b"));
    world.rights = (0..60).map(right).collect();
    assert!(matches!(mint(&world.roots, &world.ask()), Err(TokenError::Internal(_))));
    world.rights.truncate(59);
    assert!(world.parse(&world.token()).is_ok());
    let long = |number: usize| {
        (
            name(&"v".repeat(63)),
            scope(&format!("{}{number:02}:b", "a".repeat(124))),
        )
    };
    world.rights = (0..59).map(long).collect();
    assert_eq!(mint(&world.roots, &world.ask()).err(), Some(TokenError::TooLarge));
}

#[test]
fn inspecting_says_each_block_in_plain_words() {
    let mut world = World::new(1);
    world.audience = vec![name("prim-echo"), name("prim-infer")];
    let narrowing = Narrowing {
        prims: vec![name("prim-echo")],
        vendors: vec![name("openrouter")],
        until: Some(now().plus(Ttl::from_mins(5))),
        methods: vec!["POST".to_owned()],
        path_prefixes: vec!["/v1/chat/".to_owned()],
        uses: vec![UseKind::Resolve, UseKind::Forward],
        scopes: vec![scope("inference:write"), scope("models:read")],
        seal: true,
    };
    let token = attenuate(&world.token(), &narrowing).unwrap();
    let seen = inspect(token.expose(), Some(&world.roots.public())).unwrap();
    assert!(seen.signature_checked && seen.is_final);
    assert_eq!(seen.until, now().plus(Ttl::from_mins(5)));
    assert_eq!(
        seen.blocks[0].checks,
        [
            "valid from 2026-11-20T20:30:37Z and valid until 2026-11-20T20:46:07Z",
            "only to forward, manage, resolve",
            "only prims prim-echo, prim-infer, or only to manage",
        ]
    );
    assert_eq!(
        seen.blocks[1].checks,
        [
            "only prim prim-echo",
            "only vendor openrouter",
            "only scopes inference:write, models:read",
            "only to forward, resolve",
            "only method POST",
            "only paths that begin with `/v1/chat/`",
            "valid until 2026-11-20T20:36:07Z",
        ]
    );
    let words = seen.to_string();
    for line in [
        "signature  checked, right",
        "dk://openrouter/inference:write",
        "final: cannot be narrowed",
        "block 1 (added)",
    ] {
        assert!(words.contains(line), "{line} in\n{words}");
    }
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["final"], true);
    assert_eq!(json["rights"][0], "dk://openrouter/inference:write");
    let unchecked = inspect(token.expose(), None).unwrap();
    assert!(!unchecked.signature_checked && unchecked.to_string().contains("may be made up"));
    let other = World::new(2).roots.public();
    assert_eq!(inspect(token.expose(), Some(&other)).err(), Some(TokenError::Signature));
}

#[test]
fn an_authority_block_dekeys_does_not_make_is_refused() {
    let world = World::new(1);
    let facts = format!(
        r#"instance("{}"); grant("{}"); principal("{}"); right("openrouter", "inference:write");
        expires(2026-11-20T20:46:07Z);"#,
        world.instance, world.grant, world.principal
    );
    let time = "check if time($t), $t >= 2026-11-20T20:30:37Z, $t < 2026-11-20T20:46:07Z;";
    let usage = r#"check if ask_use($u), {"resolve", "forward"}.contains($u);"#;
    let good = format!("{facts}{time}{usage}");
    assert_eq!(signed(&world, &good).err(), None);
    let cases = [
        (format!("{facts}{time}"), "does not check the kind of use"),
        (format!("{facts}{usage}"), "does not check the time"),
        (
            format!("{facts}{usage}check if time($t), $t < 2026-11-20T20:46:07Z;"),
            "does not check the time",
        ),
        (
            good.replace("expires(2026-11-20T20:46:07Z)", "expires(2027-11-20T20:46:07Z)"),
            "does not check the time",
        ),
        (format!("{good}{time}"), "does not check the time"),
        (format!("{good}check if ask_method(\"GET\");"), "it has other checks"),
        (format!("{good}admin(true);"), "it states other facts"),
        (format!("{good}expires(2026-11-20T20:46:08Z);"), "it needs one end"),
        (format!("{good}grant(\"grt_x\");"), "one grant"),
        (good.replace("grt_", "gr_"), "its grant is not an id"),
        (
            good.replace("right(\"openrouter\", \"inference:write\");", ""),
            "it gives no right",
        ),
        (good.replace("inference:write", "inference"), "a scope is not a scope"),
        (good.replace("\"openrouter\"", "\"*\""), "a vendor is not a name"),
        (
            format!("{good}holder(\"ed25519:AA\");"),
            "its holder is not a public key",
        ),
        (format!("{good}right($v, $s) <- grant($v), principal($s);"), "has rules"),
        (format!("{good}check if grant(\"x\");"), "asks for `grant`"),
    ];
    for (code, words) in cases {
        let error = signed(&world, &code)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("block 0") && error.contains(words), "{words}: {error}");
    }
}

/// A token signed with the true root key over other words.
fn signed(world: &World, code: &str) -> Result<Verified, TokenError> {
    let (_, seed) = RootKeys::generate(2, &SeededRandom::new(9));
    let key = KeyPair::from_bytes(seed.expose(), schema::public_key::Algorithm::Ed25519).unwrap();
    let roots = RootKeys::new(2, vec![(2, seed)]).unwrap();
    let biscuit = Biscuit::builder()
        .root_key_id(2)
        .code(code)
        .unwrap()
        .build(&key)
        .unwrap();
    Verifier::new(world.instance, Mode::Test, roots.public()).parse(&text(&biscuit.to_vec().unwrap()))
}
