//! Our own list of attacks on tokens (`own/token.jsonl`): those that are for tokens to stop, one by one; the list
//! may not grow without this file knowing.

use std::fs;

use super::samples::vectors;
use super::*;

/// What stops an attack of the list.
enum Answer {
    /// The token is refused, or does not allow what was asked.
    Refused,
    /// It is good.
    Good,
    /// Another part of dekeys answers: the store, the signature of a request, the policy, the surface.
    Elsewhere,
}

#[test]
fn the_listed_attacks_on_tokens_fail() {
    let Some(folder) = vectors("our own attacks on tokens") else {
        return;
    };
    let list = fs::read_to_string(folder.join("own/token.jsonl")).unwrap();
    let mut ours = 0;
    for line in list.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let (id, attack) = (case["id"].as_str().unwrap(), case["attack"].as_str().unwrap());
        let (answer, tokens) = attempt(id);
        ours += usize::from(!tokens.is_empty());
        for result in tokens {
            match answer {
                Answer::Refused => assert!(result.is_err(), "{id}: {attack}"),
                Answer::Good => assert_eq!(result.err(), None, "{id}: {attack}"),
                Answer::Elsewhere => unreachable!("{id} has tokens"),
            }
        }
    }
    assert_eq!(ours, 24);
}

type Results = Vec<Result<(), TokenError>>;

fn attempt(id: &str) -> (Answer, Results) {
    let stand = Stand::new();
    if let Some(tokens) = stand.changed_bytes(id).or_else(|| stand.added_blocks(id)) {
        return (Answer::Refused, tokens);
    }
    match id {
        "token-000" => (Answer::Refused, vec![World::new(2).parse(&stand.token).map(drop)]),
        "token-009" => (Answer::Refused, stand.with_root(1)),
        "token-010" => (Answer::Good, stand.with_root(2)),
        "token-016" => {
            let alternative = "ask_vendor($a), ask_scope($b), $a == $b";
            let last = "ask_vendor($a), ask_scope($b)";
            let check = format!("check if {alternative} or {alternative} or {alternative} or {last};");
            (Answer::Good, stand.added(&check.repeat(8)))
        }
        "token-027" => (Answer::Refused, vec![stand.used_after(Ttl::from_secs(15 * 60 + 1))]),
        "token-028" => (Answer::Refused, vec![stand.used_before(Ttl::from_secs(31))]),
        // Revocation, terms at minting, request signatures, where a token stands in a request.
        "token-011" | "token-012" | "token-029" | "token-030" | "token-031" | "token-034" | "token-035"
        | "token-036" | "token-037" | "token-039" | "token-040" | "token-041" | "token-042" | "token-043"
        | "token-044" | "token-045" | "token-046" | "token-047" | "token-048" => (Answer::Elsewhere, Vec::new()),
        unknown => panic!("{unknown} is new: say who answers it"),
    }
}

/// A token, and a token narrowed twice from it.
struct Stand {
    world: World,
    wish: Wish,
    token: String,
    two: String,
}

impl Stand {
    fn new() -> Self {
        let world = World::new(1);
        let token = world.token();
        let one = append(&token, datalog("check if ask_use(\"resolve\")"));
        Self {
            wish: Wish::new(),
            two: append(&one, datalog("check if true")),
            world,
            token,
        }
    }

    fn used(&self, token: &str) -> Result<(), TokenError> {
        self.world.authorize(token, &self.wish.resolve()).map(drop)
    }

    fn used_after(&self, span: Ttl) -> Result<(), TokenError> {
        let ask = Ask {
            now: now().plus(span),
            ..self.wish.resolve()
        };
        self.world.authorize(&self.token, &ask).map(drop)
    }

    fn used_before(&self, span: Ttl) -> Result<(), TokenError> {
        let ask = Ask {
            now: now().minus(span),
            ..self.wish.resolve()
        };
        self.world.authorize(&self.token, &ask).map(drop)
    }

    fn added(&self, code: &str) -> Results {
        vec![self.used(&append(&self.token, datalog(code)))]
    }

    fn with_root(&self, wanted: u32) -> Results {
        let publics = self.world.roots.public().0.into_iter();
        let publics = RootPublics(publics.filter(|(id, _)| *id == wanted).collect());
        let verifier = Verifier::new(self.world.instance, Mode::Test, publics);
        vec![verifier.parse(&self.token).map(drop)]
    }

    fn changed_bytes(&self, id: &str) -> Option<Results> {
        let bytes = raw(&self.token);
        let flip = |place: usize| {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1 << (place % 8);
            self.used(&text(&bytes))
        };
        let change = |token: &str, how: &dyn Fn(&mut schema::Biscuit)| vec![self.used(&changed(token, how))];
        let tokens = match id {
            "token-001" => (0..bytes.len()).map(flip).collect(),
            "token-002" => (0..bytes.len()).map(|to| self.used(&text(&bytes[..to]))).collect(),
            "token-004" => change(&self.two, &|message| message.blocks.reverse()),
            "token-005" => change(&self.two, &|message| drop(message.blocks.pop())),
            "token-006" => change(&self.two, &|message| drop(message.blocks.remove(0))),
            "token-007" => {
                let sealed = self.world.biscuit(&self.token).seal().unwrap().to_vec().unwrap();
                let sealed = schema::Biscuit::decode(sealed.as_slice()).unwrap();
                change(&self.two, &|message| message.proof = sealed.proof.clone())
            }
            "token-008" => change(&self.token, &|message| message.root_key_id = Some(9)),
            "token-018" => vec![self.used(&text(&vec![0; 64 * 1024]))],
            "token-022" => {
                let folder = vectors("the third-party block of the old format").unwrap();
                let bytes = fs::read(folder.join("biscuit/unsafe_third_party.bc")).unwrap();
                vec![self.used(&text(&bytes))]
            }
            "token-049" => {
                let others = ["MDAxY2xvY2F0aW9u", "eyJhbGciOiJub25lIn0.e30.", "hvs.CAESIJ"];
                others.into_iter().map(|other| self.used(other)).collect()
            }
            "token-051" => ["dkt_test_é", "dkt_test_\u{200b}AAAA"]
                .map(|other| self.used(other))
                .to_vec(),
            _ => return None,
        };
        Some(tokens)
    }

    fn added_blocks(&self, id: &str) -> Option<Results> {
        let code = match id {
            "token-013" => "right(\"github\", \"admin:write\")",
            "token-014" => "right($v, $s) <- ask_vendor($v), ask_scope($s)",
            "token-015" => "check if ask_use($a), ask_prim($b), ask_vendor($c)",
            "token-019" => "check if \"a\".matches(\"((a{100}){100}){100}\")",
            "token-023" => "time(2020-01-01T00:00:00Z)",
            "token-024" => "tenant(\"other\")",
            "token-025" => "agent(\"other\")",
            _ => return None,
        };
        Some(self.added(code))
    }
}

#[test]
fn the_third_party_block_of_the_old_format_is_refused_as_such() {
    let Some(folder) = vectors("the third-party block of the old format") else {
        return;
    };
    let bytes = fs::read(folder.join("biscuit/unsafe_third_party.bc")).unwrap();
    let error = World::new(1).parse(&text(&bytes)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token breaks the profile: block 1 was signed by a third party"
    );
}
