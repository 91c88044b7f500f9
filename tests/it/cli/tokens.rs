//! Tokens and receipts on a machine without a server.

use dekeys::audit::{LogKey, Tree, checkpoint, complete, inclusion, leaf_hash, promise};
use dekeys::base::id::{EventId, GrantId, InstanceId, PrincipalId};
use dekeys::base::random::SeededRandom;
use dekeys::base::time::Ttl;
use dekeys::model::event::Event;
use dekeys::model::instance::Mode;
use dekeys::token::{MintAsk, RootKeys, mint};
use serde_json::{Value, json};

use super::stage::{Answer, NOW, Server, Stage};

/// A token for `dk://openai/chat:write`, and the keys that prove it, as files.
fn minted(stage: &Stage, life: Ttl) -> (String, String) {
    let random = SeededRandom::new(1);
    let roots = RootKeys::new(1, vec![RootKeys::generate(1, &random)]).unwrap();
    let instance = InstanceId::new(NOW, &random);
    let rights = [("openai".parse().unwrap(), "chat:write".parse().unwrap())];
    let ask = MintAsk {
        instance,
        mode: Mode::Test,
        grant: GrantId::new(NOW, &random),
        principal: PrincipalId::new(NOW, &random),
        holder: None,
        rights: &rights,
        audience: &[],
        now: NOW.minus(Ttl::from_mins(10)),
        expires: NOW.minus(Ttl::from_mins(10)).plus(life),
    };
    let token = mint(&roots, &ask).unwrap();
    let (_, log) = log(&instance.to_string(), 2);
    let publics: Vec<Value> = roots
        .public()
        .0
        .iter()
        .map(|(id, key)| json!({ "id": id, "public_key": key }))
        .collect();
    let keys = json!({ "object": "public_keys", "instance": instance, "token_roots": publics, "log": log });
    (
        stage.file("token", token.expose()),
        stage.file("keys.json", &keys.to_string()),
    )
}

fn log(name: &str, seed: u64) -> (LogKey, String) {
    let key = LogKey::new(name, &LogKey::generate(&SeededRandom::new(seed))).unwrap();
    let public = key.public().to_string();
    (key, public)
}

#[test]
fn a_token_is_narrowed_explained_and_checked_offline() {
    let stage = Stage::new();
    let (token, keys) = minted(&stage, Ttl::from_mins(60));
    let pinned = stage.path("pinned").display().to_string();
    let ran = stage.run(&format!(
        "token attenuate {token} --audience prim-infer --ttl 5m --use resolve --out-token {pinned}"
    ));
    assert_eq!((ran.exit, ran.out.as_str()), (0, ""), "{ran:?}");

    let ran = stage.run(&format!("token inspect {pinned} --json"));
    let words: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(words["signature_checked"], json!(false));
    assert_eq!(words["until"], json!(NOW.plus(Ttl::from_mins(5))));
    assert_eq!(words["blocks"].as_array().unwrap().len(), 2);
    let ran = stage.run(&format!("token inspect {pinned} --keys {keys}"));
    assert!(
        ran.out.contains("signature  checked, right") && ran.out.contains("prim-infer"),
        "{ran:?}"
    );

    let check = |token: &str, more: &str| stage.run(&format!("token verify {token} --keys {keys} {more}"));
    let ran = check(&pinned, "--ref dk://openai/chat:write --as prim-infer");
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(
        ran.out.contains(&format!(
            "ALLOWED until {}, pinned to prim-infer",
            NOW.plus(Ttl::from_mins(5))
        )),
        "{ran:?}"
    );
    let ran = check(&pinned, "--ref dk://openai/chat:write --as prim-other");
    assert!(
        ran.exit == 5 && ran.err.contains("block 1 of the token allows less"),
        "{ran:?}"
    );
    assert_eq!(
        check(&token, "--ref dk://openai/chat:write --as prim-other").exit,
        0,
        "the first token is wider"
    );
    assert_eq!(check(&pinned, "--ref dk://openai/models:read --as prim-infer").exit, 5);
    assert_eq!(
        check(&pinned, "--ref dk://openai/chat:write --as prim-infer --use forward").exit,
        5
    );
}

#[test]
fn a_token_is_read_from_standard_input_and_written_to_standard_output() {
    let stage = Stage::new();
    let (token, _) = minted(&stage, Ttl::from_mins(60));
    let text = std::fs::read(&token).unwrap();
    let piped = Stage::piped(text);
    let ran = piped.run("token attenuate - --scope chat:write --final");
    assert!(
        ran.exit == 0 && ran.out.starts_with("dkt_test_") && ran.out.lines().count() == 1,
        "{ran:?}"
    );
    let last = Stage::piped(ran.out.into_bytes());
    let ran = last.run("token attenuate - --ttl 1m");
    assert!(ran.exit == 9 && ran.err.contains("[token_final]"), "{ran:?}");
    let ran = last.run("token attenuate -");
    assert!(ran.exit == 2 && ran.err.contains("nothing is narrowed"), "{ran:?}");
}

#[test]
fn a_token_that_is_over_forged_or_of_others_is_refused() {
    let stage = Stage::new();
    let (token, keys) = minted(&stage, Ttl::from_mins(7));
    let ran = stage.run(&format!("token verify {token} --keys {keys}"));
    assert!(ran.exit == 4 && ran.err.contains("[token_expired]"), "{ran:?}");

    let (token, keys) = minted(&stage, Ttl::from_mins(60));
    assert_eq!(stage.run(&format!("token verify {token} --keys {keys}")).exit, 0);
    let text = std::fs::read_to_string(&token).unwrap();
    let at = text.len() - 20;
    let mut bytes = text.clone().into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    let forged = stage.file("forged", &String::from_utf8(bytes).unwrap());
    let ran = stage.run(&format!("token verify {forged} --keys {keys}"));
    assert!(ran.exit == 4 && ran.err.contains("[invalid_token]"), "{ran:?}");

    let mut others: Value = serde_json::from_str(&std::fs::read_to_string(&keys).unwrap()).unwrap();
    others["instance"] = json!(InstanceId::new(NOW, &SeededRandom::new(9)));
    let others = stage.file("others.json", &others.to_string());
    let ran = stage.run(&format!("token verify {token} --keys {others}"));
    assert!(ran.exit == 4 && ran.err.contains("another dekeys instance"), "{ran:?}");
    let ran = stage.run(&format!("token verify {token} --keys {token}"));
    assert!(
        ran.exit == 1 && ran.err.contains("[keys_invalid]") && !ran.err.contains(&text),
        "{ran:?}"
    );
}

/// A receipt, promised or with its proof, and its log's verifier key.
fn receipt(proved: bool) -> (String, String) {
    let (key, public) = log("ins_test", 4);
    let event = Event {
        id: EventId::new(NOW, &SeededRandom::new(3)),
        kind: "grant.created".to_owned(),
        timestamp: NOW,
        livemode: false,
        actor: "eip155:84532:0x857b".to_owned(),
        object: "grt_1".to_owned(),
        data: json!({ "payer": "eip155:84532:0x857b", "paid": "0.01 USDC", "transaction": "0x7465" }),
        request_id: None,
    };
    let promised = promise(&key, &event).unwrap();
    if !proved {
        return (promised.to_json().unwrap(), public);
    }
    let mut tree = Tree::new();
    let mut nodes = std::collections::HashMap::new();
    for body in ["before", &event.body().unwrap(), "after"] {
        for (level, index, hash) in tree.append(leaf_hash(body.as_bytes())) {
            nodes.insert((level, index), hash);
        }
    }
    let note = checkpoint(&key, "ins_test", 3, &tree.root()).unwrap();
    let proof = inclusion(1, 3, &nodes).unwrap();
    (complete(promised, 1, &proof, &note).to_json().unwrap(), public)
}

#[test]
fn a_receipt_is_checked_offline_and_every_byte_counts() {
    for (proved, words) in [(false, "VALID as a promise"), (true, "VALID: it is in the signed tree")] {
        let stage = Stage::new();
        let (text, public) = receipt(proved);
        let (good, key) = (
            stage.file("receipt.json", &format!("{text}\n")),
            stage.file("log.pub", &public),
        );
        let ran = stage.run(&format!("receipt verify {good} --public-key {key}"));
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(
            ran.out.contains(words) && ran.out.contains("paid\t0.01 USDC (test)"),
            "{ran:?}"
        );
        let ran = stage.args(&["receipt", "verify", &good, "--public-key", &public, "--json"]);
        assert!(
            ran.exit == 0 && serde_json::from_str::<Value>(&ran.out).is_ok(),
            "{ran:?}"
        );

        for at in (0..text.len()).step_by(7) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let bad = stage.file("bad.json", &String::from_utf8_lossy(&bytes));
            let ran = stage.run(&format!("receipt verify {bad} --public-key {key}"));
            assert_eq!(ran.exit, 1, "byte {at}: {ran:?}");
        }
        let spaced = stage.file("spaced.json", &text.replace("\":", "\": "));
        assert_eq!(
            stage.run(&format!("receipt verify {spaced} --public-key {key}")).exit,
            1
        );
    }
}

#[test]
fn a_receipt_needs_a_key_from_elsewhere() {
    let stage = Stage::new();
    let (text, _) = receipt(true);
    let good = stage.file("receipt.json", &text);
    let ran = stage.run(&format!("receipt verify {good}"));
    assert!(ran.exit == 2 && ran.err.contains("--public-key"), "{ran:?}");
    let (_, keys) = minted(&stage, Ttl::from_mins(60));
    let mut keys: Value = serde_json::from_str(&std::fs::read_to_string(keys).unwrap()).unwrap();
    keys["log"] = json!(log("ins_test", 4).1);
    let server = Server::always(move || Answer::ok(&keys));
    let ran = stage.run(&format!("receipt verify {good} --addr {}", server.url()));
    assert_eq!(
        (ran.exit, server.lines()),
        (0, vec!["GET /v1/keys".to_owned()]),
        "{ran:?}"
    );
    assert!(ran.err.contains("the log's key is what http://127.0.0.1:"), "{ran:?}");
    let (_, other) = log("ins_test", 5);
    let ran = stage.args(&["receipt", "verify", &good, "--public-key", &other]);
    assert!(ran.exit == 1 && ran.err.contains("[receipt_invalid]"), "{ran:?}");
    let (_, keys) = minted(&stage, Ttl::from_mins(60));
    assert_eq!(
        stage.run(&format!("receipt verify {good} --keys {keys}")).exit,
        1,
        "another instance's log"
    );
}
