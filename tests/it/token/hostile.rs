//! What an attacker can do with a token at hand: change its bytes, its blocks, its order, or add blocks made to
//! hang, to widen or to deceive. Each is refused before Datalog runs.

use biscuit_auth::builder::{
    Binary, Check, CheckKind, Expression, Fact, Op, Predicate, Rule, Scope as Trust, Term, Unary,
};

use super::*;

fn refused(token: &str) -> String {
    match World::new(1).parse(token) {
        Err(TokenError::Profile(refusal)) => refusal.to_string(),
        other => format!("not refused by the profile: {other:?}"),
    }
}

/// The words with which the profile refuses an added block; the attenuating library never sees a secret.
fn refused_block(block: BlockBuilder) -> String {
    refused(&append(&World::new(1).token(), block))
}

#[test]
fn no_changed_byte_and_no_shorter_text_is_accepted() {
    let world = World::new(1);
    let narrowing = Narrowing {
        vendors: vec![name("openrouter")],
        ..Narrowing::default()
    };
    let token = attenuate(&world.token(), &narrowing).unwrap();
    let verifier = world.verifier();
    let bytes = raw(token.expose());
    for place in 0..bytes.len() {
        for bit in [0x01, 0x08, 0x40, 0x80, 0xff] {
            let mut flipped = bytes.clone();
            flipped[place] ^= bit;
            assert!(verifier.parse(&text(&flipped)).is_err(), "byte {place} ^ {bit:#x}");
        }
        assert!(verifier.parse(&text(&bytes[..place])).is_err(), "cut at {place}");
    }
    for extra in [&b"\0"[..], b"\x48\x00", b"\x08\x02", &bytes] {
        let longer = [bytes.as_slice(), extra].concat();
        assert!(verifier.parse(&text(&longer)).is_err(), "{extra:?} behind");
    }
    for place in 0..token.expose().len() {
        let shorter = token.expose().get(..place).unwrap();
        assert!(verifier.parse(shorter).is_err(), "text cut at {place}");
    }
}

#[test]
fn what_is_no_token_is_malformed_and_what_is_too_large_is_not_looked_at() {
    let verifier = World::new(1).verifier();
    for other in [
        "",
        "dkt_test_",
        "dkt_test_AAAA",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
        "hvs.CAESIJ",
        "MDAxY2xvY2F0aW9uIGh0dHA6Ly9teWJhbmsv",
        "dkt_test_🦀",
        "DKT_TEST_AAAA",
        "dkt_test_ AAAA",
    ] {
        assert_eq!(verifier.parse(other).err(), Some(TokenError::Malformed), "{other}");
    }
    let bare = World::new(1).token().replace("dkt_test_", "");
    assert_eq!(verifier.parse(&bare).err(), Some(TokenError::Malformed));
    for length in [8 * 1024 + 1, 64 * 1024] {
        let token = text(&vec![0; length]);
        assert_eq!(verifier.parse(&token).err(), Some(TokenError::TooLarge));
    }
    let garbage = format!("dkt_test_{}", "*".repeat(64 * 1024));
    assert_eq!(
        verifier.parse(&garbage).err(),
        Some(TokenError::TooLarge),
        "not even decoded"
    );
}

#[test]
fn blocks_cannot_be_reordered_removed_or_repeated() {
    let world = World::new(1);
    let narrow = |token: &str, vendor: &str| {
        let narrowing = Narrowing {
            vendors: vec![name(vendor)],
            ..Narrowing::default()
        };
        attenuate(token, &narrowing).unwrap().expose().to_owned()
    };
    let parent = world.token();
    let token = narrow(&narrow(&parent, "openrouter"), "stripe");
    let proof = |token: &str| schema::Biscuit::decode(raw(token).as_slice()).unwrap().proof;
    let cases = [
        ("reordered", changed(&token, |message| message.blocks.reverse())),
        ("last removed", changed(&token, |message| drop(message.blocks.pop()))),
        (
            "first removed",
            changed(&token, |message| drop(message.blocks.remove(0))),
        ),
        ("all removed", changed(&token, |message| message.blocks.clear())),
        (
            "the parent's proof",
            changed(&token, |message| message.proof = proof(&parent)),
        ),
        (
            "another authority block",
            changed(&token, |message| {
                message.authority = schema::Biscuit::decode(raw(&world.token()).as_slice())
                    .unwrap()
                    .authority;
            }),
        ),
        (
            "another root key id",
            changed(&token, |message| message.root_key_id = Some(1)),
        ),
    ];
    for (what, token) in cases {
        let error = world.parse(&token).err();
        // Taken away, a block leaves its symbols missing, which the walk may notice first.
        let seen = matches!(error, Some(TokenError::Signature | TokenError::Profile(_)));
        assert!(seen, "{what}: {error:?}");
    }
    for id in [None, Some(7)] {
        let unknown = changed(&token, |message| message.root_key_id = id);
        assert_eq!(world.parse(&unknown).err(), Some(TokenError::UnknownRoot));
    }
    let repeated = changed(&token, |message| message.blocks.push(message.blocks[1].clone()));
    assert!(world.parse(&repeated).is_err());
    let unproven = changed(&token, |message| message.proof.content = None);
    assert_eq!(world.parse(&unproven).err(), Some(TokenError::Signature));
}

#[test]
fn a_sealed_token_cannot_be_opened_again() {
    let world = World::new(1);
    let parent = world.token();
    let seal = Narrowing {
        seal: true,
        ..Narrowing::default()
    };
    let sealed = attenuate(&parent, &seal).unwrap();
    let appended = changed(&append(&parent, datalog("check if true")), |message| {
        message.proof = schema::Biscuit::decode(raw(sealed.expose()).as_slice()).unwrap().proof;
    });
    assert_eq!(world.parse(&appended).err(), Some(TokenError::Signature));
}

/// Datalog in an added block, and the words with which it is refused.
const REFUSED: &[(&str, &str)] = &[
    ("right(\"github\", \"admin:write\");", "block 1 states facts"),
    ("time(2020-01-01T00:00:00Z);", "block 1 states facts"),
    ("ask_prim(\"prim-echo\");", "block 1 states facts"),
    ("tenant(\"other\");", "block 1 states facts"),
    ("agent(\"other\");", "block 1 states facts"),
    ("right($v, $s) <- ask_vendor($v), ask_scope($s);", "block 1 has rules"),
    (
        "check if ask_use(\"resolve\") trusting previous;",
        "block 1 says whom to trust",
    ),
    (
        "check all ask_use($u), $u == \"resolve\";",
        "block 1 has a check that is not `check if`",
    ),
    (
        "reject if ask_use(\"resolve\");",
        "block 1 has a check that is not `check if`",
    ),
    (
        "check if ask_use($a), ask_prim($b), ask_path($c);",
        "block 1 joins 3 facts where 2 may stand",
    ),
    (
        "check if right($a, $b);",
        "block 1 asks for `right`, which no check may",
    ),
    ("check if grant($a);", "block 1 asks for `grant`, which no check may"),
    (
        "check if ask_prim($a, $b);",
        "block 1 asks for ask_prim in a form that never holds",
    ),
    (
        "check if ask_prim(5);",
        "block 1 asks for ask_prim in a form that never holds",
    ),
    (
        "check if time(2026-11-20T20:31:07Z);",
        "block 1 asks for time in a form that never holds",
    ),
    (
        "check if ask_prim($a), ask_vendor($a);",
        "block 1 binds a variable twice",
    ),
    (
        "check if ask_path($p), $p.matches(\"^/v1\");",
        "block 1 uses a regular expression, which no check may",
    ),
    (
        "check if ask_path($p), $p.starts_with(\"/\") && true;",
        "block 1 uses a closure, which no check may",
    ),
    (
        "check if {\"a\"}.any($p -> $p == \"a\");",
        "block 1 uses a closure, which no check may",
    ),
    (
        "check if (true === 12).try_or(true);",
        "block 1 uses a closure, which no check may",
    ),
    ("check if 1 + 1 == 2;", "block 1 uses arithmetic, which no check may"),
    (
        "check if ask_path($p), $p + \"x\" == \"/x\";",
        "block 1 uses arithmetic, which no check may",
    ),
    (
        "check if 1 | 1 == 1;",
        "block 1 uses bit arithmetic, which no check may",
    ),
    (
        "check if {\"a\"}.union({\"b\"}).contains(\"a\");",
        "block 1 uses a set operation, which no check may",
    ),
    (
        "check if \"a\".type() == \"string\";",
        "block 1 uses a type, which no check may",
    ),
    ("check if [1].contains(1);", "block 1 uses an array, which no check may"),
    (
        "check if {\"a\": 1}.contains(\"a\");",
        "block 1 uses a map, which no check may",
    ),
    ("check if null == null;", "block 1 uses null, which no check may"),
    ("check if hex:00 == hex:00;", "block 1 uses bytes, which no check may"),
    (
        "check if {1}.contains(1);",
        "block 1 uses a set of anything but text, which no check may",
    ),
    (
        "check if \"a\".extern::f();",
        "block 1 uses a foreign function, which no check may",
    ),
    (
        "check if \"a\".extern::f(\"b\");",
        "block 1 uses a foreign function, which no check may",
    ),
    (
        "check if ask_path($p), $p < 5;",
        "block 1 has an expression that does not fit together",
    ),
    (
        "check if ask_path($p), $p == 5;",
        "block 1 has an expression that does not fit together",
    ),
    (
        "check if ask_path($p), $p.length();",
        "block 1 has an expression that does not fit together",
    ),
    (
        "check if time($t), $t > 2026-11-20T20:31:07Z;",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if time($t), $t >= 2026-11-20T20:31:07Z;",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if time($t), $t != 2026-11-20T20:31:07Z;",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if time($t), 2026-11-20T20:31:07Z > $t;",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if time($t), !($t < 2026-11-20T20:31:07Z);",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if 2026-11-20T20:31:07Z < 2026-11-20T20:31:08Z;",
        "block 1 uses the time otherwise than `$time < a date`",
    ),
    (
        "check if true or true or true or true or true;",
        "block 1 has a check of 5 alternatives where 1 to 4 may stand",
    ),
];

#[test]
fn added_blocks_may_only_check() {
    for (code, words) in REFUSED {
        assert_eq!(refused_block(datalog(code)), *words, "{code}");
    }
    let nine = "check if ask_use(\"resolve\");".repeat(9);
    assert_eq!(refused_block(datalog(&nine)), "block 1 has 9 checks where 8 may stand");
    let long = format!("check if {};", ["true"; 33].join(", "));
    assert_eq!(
        refused_block(datalog(&long)),
        "block 1 has 33 operations where 32 may stand"
    );
}

#[test]
fn the_second_added_block_is_held_to_the_same() {
    let token = append(&World::new(1).token(), datalog("check if ask_use(\"resolve\")"));
    assert_eq!(
        refused(&append(&token, datalog("time(2020-01-01T00:00:00Z)"))),
        "block 2 states facts"
    );
}

fn rule(head: Predicate, body: Vec<Predicate>, ops: Vec<Op>) -> Rule {
    Rule::new(head, body, vec![Expression { ops }], vec![])
}

fn check(query: Rule) -> BlockBuilder {
    let check = Check {
        queries: vec![query],
        kind: CheckKind::One,
    };
    BlockBuilder::new().check(check).unwrap()
}

fn query() -> Predicate {
    Predicate::new("query".to_owned(), vec![])
}

/// Names that print as syntax: whoever checks the printed text sees a comment, a line or another name.
#[test]
fn names_made_to_look_like_syntax_are_names() {
    for name in [
        "//",
        "/*",
        "ask_prim\n",
        " ask_prim",
        "ask_prim(\"x\") or true //",
        "",
        "ASK_PRIM",
        "ask_prim\0",
    ] {
        let predicate = Predicate::new(name.to_owned(), vec![Term::Variable("v".to_owned())]);
        let asking = refused_block(check(rule(
            query(),
            vec![predicate.clone()],
            vec![Op::Value(Term::Bool(true))],
        )));
        assert!(asking.starts_with("block 1 asks for `"), "{name:?}: {asking}");
        assert!(!asking.contains(|c: char| c.is_control()), "{asking:?}");
        let head = check(rule(predicate, vec![], vec![Op::Value(Term::Bool(true))]));
        assert_eq!(refused_block(head), "block 1 has a check with a head");
        let fact = Fact::new(name.to_owned(), vec![Term::Integer(1)]);
        assert_eq!(
            refused_block(BlockBuilder::new().fact(fact).unwrap()),
            "block 1 states facts"
        );
    }
}

#[test]
fn expressions_that_do_not_add_up_are_refused() {
    let yes = || Op::Value(Term::Bool(true));
    let table = [
        (vec![], "does not fit together"),
        (vec![yes(), yes()], "does not fit together"),
        (vec![Op::Binary(Binary::And)], "does not fit together"),
        (vec![yes(), Op::Binary(Binary::And)], "does not fit together"),
        (vec![Op::Unary(Unary::Negate)], "does not fit together"),
        (
            vec![Op::Value(Term::Variable("nobody".to_owned()))],
            "does not fit together",
        ),
        (
            vec![yes(), Op::Closure(vec![], vec![yes()]), Op::Binary(Binary::LazyAnd)],
            "uses a closure",
        ),
        (vec![Op::Closure(vec![], vec![])], "uses a closure"),
        (vec![yes(), yes(), Op::Binary(Binary::Get)], "uses an element"),
        (
            vec![yes(), Op::Unary(Unary::Ffi("f".to_owned()))],
            "uses a foreign function",
        ),
    ];
    for (ops, words) in table {
        let refusal = refused_block(check(rule(query(), vec![], ops)));
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
}

/// The blocks that kept the engine busy for seconds to minutes under a limit of 5 ms.
#[test]
fn blocks_made_to_hang_the_engine_are_refused() {
    let facts = |count: i64| {
        let fact = |block: BlockBuilder, n| block.fact(Fact::new("f".to_owned(), vec![Term::Integer(n)])).unwrap();
        (0..count).fold(BlockBuilder::new(), fact)
    };
    let join = |width: usize| {
        let variable = |n: usize| Term::Variable(format!("v{n}"));
        let body = (0..width)
            .map(|n| Predicate::new("f".to_owned(), vec![variable(n)]))
            .collect();
        let never = vec![
            Op::Value(variable(0)),
            Op::Value(Term::Integer(0)),
            Op::Binary(Binary::LessThan),
        ];
        rule(query(), body, never)
    };
    for (count, width) in [(100, 4), (50, 4), (100, 3), (60, 2)] {
        let hung = facts(count).merge(check(join(width)));
        assert_eq!(refused_block(hung), "block 1 states facts");
        let mut generating = join(width);
        generating.head = Predicate::new("g".to_owned(), vec![Term::Variable("v0".to_owned())]);
        let block = facts(count).rule(generating).unwrap();
        assert_eq!(refused_block(block), "block 1 has rules");
    }
    assert_eq!(refused_block(check(join(4))), "block 1 joins 4 facts where 2 may stand");
    let matching = |text: &str, pattern: &str| {
        let values = [text, pattern].map(|value| Op::Value(Term::Str(value.to_owned())));
        let ops = values.into_iter().chain([Op::Binary(Binary::Regex)]).collect();
        refused_block(check(rule(query(), vec![], ops)))
    };
    let bomb = format!("^(a|a|aa)*({})b$", "a?".repeat(200));
    for (text, pattern) in [
        ("a".repeat(400), bomb.as_str()),
        ("a".to_owned(), "((a{100}){100}){100}"),
    ] {
        assert_eq!(
            matching(&text, pattern),
            "block 1 uses a regular expression, which no check may"
        );
    }
    let mut ops = vec![Op::Value(Term::Str("aaaaaaaaaaaaaaaa".to_owned()))];
    for _ in 0..10 {
        ops.push(Op::Value(Term::Str("b".to_owned())));
        ops.push(Op::Binary(Binary::Add));
    }
    assert_eq!(
        refused_block(check(rule(query(), vec![], ops))),
        "block 1 uses arithmetic, which no check may"
    );
}

/// The most work that passes: 4 blocks of 8 checks, each with 4 alternatives of 2 facts, in what 8 KiB hold.
#[test]
fn the_most_work_the_profile_admits_ends() {
    let mut world = World::new(1);
    let right = |number: usize| (name(&format!("v{number}")), scope("a:b"));
    world.rights = (0..20).map(right).collect();
    world.rights.push((name("openrouter"), scope("inference:write")));
    let no = "ask_vendor($a), ask_scope($b), $a == $b";
    let code = format!("check if {no} or {no} or {no} or ask_vendor($a), ask_scope($b), $a != $b;").repeat(8);
    let token = (0..4).fold(world.token(), |token, _| append(&token, datalog(&code)));
    let wish = Wish::new();
    assert_eq!(world.authorize(&token, &wish.resolve()).err(), None);
}

#[test]
fn third_party_blocks_and_foreign_keys_are_refused() {
    let world = World::new(1);
    let stranger = KeyPair::new();
    let parent = world.biscuit(&world.token());
    let request = parent.third_party_request().unwrap();
    let block = request
        .create_block(&stranger.private(), datalog("check if ask_use(\"resolve\")"))
        .unwrap();
    let token = parent.append_third_party(stranger.public(), block).unwrap();
    assert_eq!(
        refused(&text(&token.to_vec().unwrap())),
        "block 1 was signed by a third party"
    );
    let key = KeyPair::new_with_algorithm(biscuit_auth::builder::Algorithm::Secp256r1);
    let token = parent
        .append_with_keypair(&key, datalog("check if ask_use(\"resolve\")"))
        .unwrap();
    assert_eq!(
        refused(&text(&token.to_vec().unwrap())),
        "block 1 hands on to a key that is not Ed25519"
    );
    for trust in [Trust::PublicKey(stranger.public()), Trust::Previous, Trust::Authority] {
        let mut trusting = datalog("check if ask_use(\"resolve\")");
        trusting.scopes.push(trust);
        assert_eq!(refused_block(trusting), "block 1 says whom to trust");
    }
}

/// Signed blocks whose bytes no library would write: the holder has the key to sign them.
#[test]
fn blocks_with_bytes_the_schema_does_not_know_are_refused() {
    let token = append(&World::new(1).token(), datalog("check if ask_use(\"resolve\")"));
    let with = |change: &dyn Fn(&mut schema::Block)| {
        changed(&token, |message| {
            let mut block = schema::Block::decode(message.blocks[0].block.as_slice()).unwrap();
            change(&mut block);
            message.blocks[0].block = block.encode_to_vec();
        })
    };
    let unknown = changed(&token, |message| message.blocks[0].block.extend([0x78, 1]));
    assert_eq!(refused(&unknown), "block 1 is not plain protobuf of a biscuit block");
    for version in [None, Some(0), Some(2), Some(7)] {
        let words = format!("block 1 has Datalog version {}", version.unwrap_or(0));
        assert_eq!(refused(&with(&|block| block.version = version)), words);
    }
    assert_eq!(
        refused(&with(&|block| block.symbols.push("time".to_owned()))),
        "block 1 repeats symbols or names one that is missing"
    );
    assert_eq!(
        refused(&with(&|block| block.symbols.push("ask_use".to_owned()))),
        "block 1 repeats symbols or names one that is missing"
    );
    assert_eq!(
        refused(&with(&|block| block.checks[0].queries.clear())),
        "block 1 has a check of 0 alternatives where 1 to 4 may stand"
    );
    assert_eq!(
        refused(&with(&|block| block.checks[0].kind = Some(3))),
        "block 1 has a check that is not `check if`"
    );
    assert_eq!(
        refused(&with(&|block| block.checks[0].queries[0].body[0].name = 5000)),
        "block 1 repeats symbols or names one that is missing"
    );
}

/// Whoever holds a token can sign blocks whose version does not know their operations: refused when read, not
/// found while authorizing.
#[test]
fn a_block_older_than_its_operations_is_refused() {
    let world = World::new(1);
    let block = datalog("check if ask_use($u), $u == \"resolve\"");
    let token = append(&world.token(), block);
    assert!(world.parse(&token).is_ok());
    let mut message = schema::Biscuit::decode(raw(&world.token()).as_slice()).unwrap();
    let modern = schema::Biscuit::decode(raw(&token).as_slice()).unwrap();
    let mut block = schema::Block::decode(modern.blocks[0].block.as_slice()).unwrap();
    block.version = Some(5);
    let block = block.encode_to_vec();
    let secret = match &message.proof.content {
        Some(schema::proof::Content::NextSecret(secret)) => secret.clone(),
        other => panic!("{other:?}"),
    };
    let key = KeyPair::from_bytes(&secret, schema::public_key::Algorithm::Ed25519).unwrap();
    let next = KeyPair::new();
    let payload = [
        block.as_slice(),
        &0i32.to_le_bytes(),
        next.public().to_bytes().as_slice(),
    ]
    .concat();
    message.blocks.push(schema::SignedBlock {
        block,
        next_key: next.public().to_proto(),
        signature: key.sign(&payload).unwrap().to_bytes().to_vec(),
        external_signature: None,
        version: None,
    });
    message.proof.content = Some(schema::proof::Content::NextSecret(next.private().to_bytes().to_vec()));
    let token = text(&message.encode_to_vec());
    assert_eq!(refused(&token), "block 1 is not plain protobuf of a biscuit block");
}
