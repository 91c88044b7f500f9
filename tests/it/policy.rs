//! Policies: read with exact positions, decided by rules in a fixed order, explained and compared.

use dekeys::base::time::Ttl;
use dekeys::model::policy::{CredentialPer, GrantApproval, Policy};
use dekeys::model::principal::PrincipalKind;
use dekeys::model::scope::{Name, Scope};
use dekeys::policy::{
    Ask, Decision, Effect, Finding, RULES, VendorFacts, check, choose, decide, decide_unpaid, diff, explain, parse,
    validate,
};
use proptest::prelude::*;

const DEMO: &str = include_str!("../../policies/demo-readers.toml");
const OPENROUTER: &str = include_str!("../../policies/openrouter-readers.toml");
const WALLET: &str = "eip155:84532:0x857b06519e91e3a54538791bdbb0e22373e36b66";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn findings(text: &str) -> Vec<Finding> {
    parse(text, "test.toml").unwrap_err().findings().to_vec()
}

/// The only finding after one replacement in the OpenRouter example.
fn finding(old: &str, new: &str) -> Finding {
    assert!(OPENROUTER.contains(old), "the example has no `{old}`");
    let found = findings(&OPENROUTER.replacen(old, new, 1));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_shipped_policies_are_read() {
    let demo = parse(DEMO, "demo-readers.toml").unwrap();
    assert_eq!((demo.name.as_str(), demo.vendor.as_str()), ("demo-readers", "demo"));
    let policy = parse(OPENROUTER, "openrouter-readers.toml").unwrap();
    assert_eq!(policy.grant.max_ttl, Ttl::from_mins(60));
    assert_eq!(policy.grant.credential_per, CredentialPer::Grant);
    assert_eq!(policy.forward.bearer, None);
    assert_eq!(
        policy.limits.rate.map(|rate| (rate.count, rate.per)),
        Some((60, Ttl::from_mins(1)))
    );
    assert_eq!(policy.price.unwrap().amount.unwrap().to_string(), "0.01 USDC");
    assert_eq!(policy.approvers.quorum, 2);
}

/// What is written in the example, what instead, the pointer and a part of the message.
const BAD_VALUES: &[(&str, &str, &str, &str)] = &[
    (
        "name = \"openrouter-readers\"",
        "name = \"Readers\"",
        "/name",
        "not a name",
    ),
    ("\"inference:write\"", "\"inference\"", "/scopes/0", "not a scope"),
    ("[\"inference:write\"]", "[]", "/scopes", "empty"),
    (
        "kinds = [\"agent\"]",
        "kinds = [\"agents\"]",
        "/who/kinds/0",
        "not known",
    ),
    (
        "kinds = [\"agent\"]",
        "kinds = [\"*\"]",
        "/who/kinds/0",
        "does not stand for kinds",
    ),
    (
        "kinds = [\"agent\"]",
        "kinds = [\"agent\", \"agent\"]",
        "/who/kinds/1",
        "twice",
    ),
    (
        "wallets = [\"eip155:84532:*\"]",
        "wallets = []",
        "/who/wallets",
        "nobody",
    ),
    ("\"eip155:84532:*\"", "\"eip155:*\"", "/who/wallets/0", "not a wallet"),
    (
        "\"eip155:84532:*\"",
        "\"eip155:84532:0x85*\"",
        "/who/wallets/0",
        "not a wallet",
    ),
    ("max_ttl = \"1h\"", "max_ttl = \"31days\"", "/grant/max_ttl", "too long"),
    ("max_ttl = \"1h\"", "max_ttl = \"0s\"", "/grant/max_ttl", "too short"),
    (
        "max_ttl = \"1h\"",
        "max_ttl = 60",
        "/grant/max_ttl",
        "must be text, not a whole number",
    ),
    (
        "max_resolves = 500",
        "max_resolves = 0",
        "/grant/max_resolves",
        "out of bounds",
    ),
    (
        "max_resolves = 500",
        "max_resolves = -1",
        "/grant/max_resolves",
        "out of bounds",
    ),
    (
        "max_resolves = 500",
        "max_resolves = 99999999999999999999",
        "/grant/max_resolves",
        "out of bounds",
    ),
    (
        "credential_per = \"grant\"",
        "credential_per = \"grants\"",
        "/grant/credential_per",
        "not known",
    ),
    (
        "require_vendor_expiry = false",
        "require_vendor_expiry = \"no\"",
        "/grant/require_vendor_expiry",
        "true or false",
    ),
    (
        "prims = [\"prim-infer\"]",
        "prims = [\"*\"]",
        "/reveal/prims/0",
        "each is named",
    ),
    (
        "max_lease = \"15m\"",
        "max_lease = \"25h\"",
        "/reveal/max_lease",
        "too long",
    ),
    ("bearer = \"off\"", "bearer = \"16m\"", "/forward/bearer", "too long"),
    (
        "rate = \"60/min\"",
        "rate = \"60/minute\"",
        "/limits/rate",
        "not a rate",
    ),
    ("rate = \"60/min\"", "rate = \"+60/min\"", "/limits/rate", "not a rate"),
    (
        "rate = \"60/min\"",
        "grants = \"20/year\"\nrate = \"60/min\"",
        "/limits/grants",
        "not a rate",
    ),
    (
        "vendor_cost_per_grant",
        "vendor_cost_per_key",
        "/limits/vendor_cost_per_key",
        "which is not there",
    ),
    (
        "vendor_cost_per_grant",
        "vendor_cost_per_key = \"2.00 USD\"\nvendor_cost_per_grant",
        "/limits/vendor_cost_per_key",
        "more than the 1.00 USD of its grant",
    ),
    (
        "paid_per_day = \"5.00 USDC\"",
        "paid_per_day = \"5.00 USD\"",
        "/limits/paid_per_day",
        "counted in USDC",
    ),
    (
        "paid_per_day = \"5.00 USDC\"",
        "paid_per_day = \"0.001 USDC\"",
        "/limits/paid_per_day",
        "nobody can buy",
    ),
    (
        "\"1.00 USD\"",
        "\"1.00 USDC\"",
        "/limits/vendor_cost_per_grant",
        "counted in USD",
    ),
    (
        "amount = \"0.01 USDC\"",
        "amount = \"0.01 EUR\"",
        "/price/amount",
        "not an amount",
    ),
    ("amount = \"0.01 USDC\"", "amount = \"0 USDC\"", "/price/amount", "zero"),
    (
        "grants = \"none\"",
        "grants = \"never\"",
        "/approval/grants",
        "not known",
    ),
    ("quorum = 2", "quorum = 3", "/approvers/quorum", "never be reached"),
    ("quorum = 2", "quorum = 0", "/approvers/quorum", "out of bounds"),
    ("from = [\"ada\", \"grace\"]", "from = []", "/approvers/from", "empty"),
];

#[test]
fn every_bad_value_is_found_where_it_stands() {
    for &(old, new, pointer, says) in BAD_VALUES {
        let found = finding(old, new);
        assert_eq!(found.pointer, pointer, "{new}: {found:?}");
        assert!(found.message.contains(says), "{new}: {}", found.message);
        assert!(!found.fix.is_empty(), "{new}");
        let line = OPENROUTER.lines().position(|line| line.contains(old)).unwrap() + 1;
        assert_eq!(found.line, Some(line), "{new}");
    }
}

#[test]
fn columns_are_exact() {
    let found = finding("max_ttl = \"1h\"", "max_ttl = \"31days\"");
    assert_eq!((found.line, found.column), (Some(11), Some(11)));
}

#[test]
fn misspelt_keys_are_told_with_the_nearest_known_one() {
    let found = finding("live_leases = 20", "live_lease = 20");
    assert_eq!(
        (found.pointer.as_str(), found.fix.as_str()),
        ("/limits/live_lease", "did you mean `live_leases`?")
    );
    let found = finding("[limits]", "[limit]");
    assert_eq!(found.fix, "did you mean `limits`?");
    let found = finding("quorum = 2", "quorum = 2\nbananas = true");
    assert_eq!(found.fix, "remove it; known here are from, quorum");
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let text = OPENROUTER
        .replace("max_ttl = \"1h\"", "max_tll = \"1h\"")
        .replace("quorum = 2", "quorum = 9")
        .replace("\"inference:write\"", "\"Inference\"");
    let pointers: Vec<String> = findings(&text).into_iter().map(|found| found.pointer).collect();
    assert_eq!(
        pointers,
        ["/scopes/0", "/grant/max_ttl", "/grant/max_tll", "/approvers/quorum"]
    );
}

#[test]
fn an_empty_file_names_all_that_is_missing() {
    let pointers: Vec<String> = findings("").into_iter().map(|found| found.pointer).collect();
    assert_eq!(
        pointers,
        [
            "/name",
            "/vendor",
            "/scopes",
            "/who",
            "/grant",
            "/approval",
            "/approvers"
        ]
    );
}

#[test]
fn a_file_that_names_nobody_is_refused_with_what_to_write() {
    let text = OPENROUTER.replace("wallets = [\"eip155:84532:*\"]", "");
    let found = findings(&text);
    assert_eq!(found.len(), 1);
    assert!(found[0].fix.contains("wallets = [\"*\"]"), "{found:?}");
}

#[test]
fn a_limit_on_payments_without_a_price_is_refused() {
    let text = OPENROUTER.replace("[price]", "").replace("amount = \"0.01 USDC\"", "");
    let pointers: Vec<String> = findings(&text).into_iter().map(|found| found.pointer).collect();
    assert_eq!(pointers, ["/limits/paid_per_day"]);
}

#[test]
fn text_that_is_not_toml_is_told_with_its_position() {
    let found = findings("name = \"a\"\nvendor = \n");
    assert!(found[0].message.starts_with("not TOML: "), "{found:?}");
    assert_eq!(found[0].line, Some(2));
    assert!(
        !findings(&format!("x = {}", "[".repeat(5000))).is_empty(),
        "deep nesting ends in a finding"
    );
    assert!(!findings(&" ".repeat(70_000)).is_empty());
    assert!(!findings("name = \"a\"\nname = \"b\"").is_empty(), "a key given twice");
}

#[test]
fn a_terminal_shows_the_line_and_the_fix() {
    let errors = parse(
        &OPENROUTER.replace("max_ttl = \"1h\"", "max_ttl = \"31days\""),
        "my.toml",
    )
    .unwrap_err();
    let mut shown = String::new();
    miette::NarratableReportHandler::new()
        .render_report(&mut shown, &errors)
        .unwrap();
    for part in [
        "my.toml",
        "max_ttl = \"31days\"",
        "too long",
        "line 11: write \"30 days\" or less",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    let json = serde_json::to_value(errors.findings()).unwrap();
    assert_eq!(json[0]["pointer"], "/grant/max_ttl");
    assert!(json[0].get("span").is_none());
}

fn facts() -> VendorFacts {
    VendorFacts {
        scopes: vec![scope("inference:write")],
        class: 2,
        can_mint: false,
        is_static: false,
        resale_forbidden: false,
        adequate_evidence: true,
        vendor_expiry: true,
        has_cap: true,
    }
}

#[test]
fn what_the_vendor_cannot_do_is_found_with_its_line() {
    assert!(check(OPENROUTER, "x", &facts()).is_ok());
    let pointers = |facts: &VendorFacts| -> Vec<(String, Option<usize>)> {
        let errors = check(OPENROUTER, "x", facts).unwrap_err();
        errors
            .findings()
            .iter()
            .map(|found| (found.pointer.clone(), found.line))
            .collect()
    };
    let one = |pointer: &str, line| vec![(pointer.to_owned(), Some(line))];
    assert_eq!(
        pointers(&VendorFacts {
            scopes: vec![scope("inference:wrote")],
            ..facts()
        }),
        one("/scopes/0", 4)
    );
    assert_eq!(
        pointers(&VendorFacts {
            can_mint: true,
            ..facts()
        }),
        one("/reveal", 16)
    );
    assert_eq!(
        pointers(&VendorFacts { class: 5, ..facts() }),
        [("/vendor".to_owned(), Some(3)), ("/reveal".to_owned(), Some(16))]
    );
    assert_eq!(
        pointers(&VendorFacts {
            resale_forbidden: true,
            ..facts()
        }),
        one("/price", 29)
    );
    assert_eq!(
        pointers(&VendorFacts {
            adequate_evidence: false,
            ..facts()
        }),
        one("/price", 29)
    );
    assert_eq!(
        pointers(&VendorFacts {
            has_cap: false,
            ..facts()
        }),
        one("/limits/vendor_cost_per_grant", 27)
    );
    let fixed = VendorFacts {
        is_static: true,
        ..facts()
    };
    let found: Vec<String> = pointers(&fixed).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(found, ["/grant/credential_per", "/reveal"]);
    let text = OPENROUTER.replace("require_vendor_expiry = false", "require_vendor_expiry = true");
    let policy = parse(&text, "x").unwrap();
    let found = validate(
        &policy,
        &VendorFacts {
            vendor_expiry: false,
            ..facts()
        },
    );
    assert_eq!(
        found.first().map(|found| found.pointer.as_str()),
        Some("/grant/require_vendor_expiry")
    );
}

/// An ask that the OpenRouter example allows.
struct Wish {
    kind: PrincipalKind,
    name: Option<Name>,
    known: bool,
    wallets: Vec<String>,
    vendor: Name,
    scope: Scope,
    ttl: Ttl,
    max_resolves: i64,
    audience: Vec<Name>,
}

impl Wish {
    fn good() -> Self {
        Self {
            kind: PrincipalKind::Agent,
            name: None,
            known: false,
            wallets: vec![WALLET.to_owned()],
            vendor: name("openrouter"),
            scope: scope("inference:write"),
            ttl: Ttl::from_mins(15),
            max_resolves: 100,
            audience: vec![name("prim-infer")],
        }
    }

    fn ask(&self) -> Ask<'_> {
        Ask {
            kind: self.kind,
            name: self.name.as_ref(),
            known: self.known,
            wallets: &self.wallets,
            vendor: &self.vendor,
            scope: &self.scope,
            ttl: self.ttl,
            max_resolves: self.max_resolves,
            audience: &self.audience,
        }
    }
}

fn denied_by(policy: &Policy, wish: &Wish) -> String {
    match decide(policy, &wish.ask()) {
        Decision::Allow(terms) => panic!("allowed: {terms:?}"),
        Decision::Deny(denial) => denial.rule,
    }
}

#[test]
fn a_good_ask_is_allowed_on_the_terms_of_the_file() {
    let policy = parse(OPENROUTER, "x").unwrap();
    let Decision::Allow(terms) = decide(&policy, &Wish::good().ask()) else {
        panic!("denied");
    };
    assert_eq!((terms.ttl, terms.max_resolves), (Ttl::from_mins(15), 100));
    assert_eq!(terms.price.unwrap().to_string(), "0.01 USDC");
    assert_eq!(terms.approval, GrantApproval::None);
    assert_eq!(terms.prims, [name("prim-infer")]);
    assert_eq!(terms.max_lease, Ttl::from_mins(15));
    assert_eq!(terms.rule, "who.wallets");
    let short = Wish {
        ttl: Ttl::from_mins(2),
        ..Wish::good()
    };
    let Decision::Allow(terms) = decide(&policy, &short.ask()) else {
        panic!("denied");
    };
    assert_eq!(terms.max_lease, Ttl::from_mins(2), "a lease never outlives its grant");
}

#[test]
fn each_rule_refuses_by_its_own_name_and_line() {
    let policy = parse(OPENROUTER, "x").unwrap();
    let wishes = [
        Wish {
            vendor: name("openai"),
            ..Wish::good()
        },
        Wish {
            scope: scope("keys:write"),
            ..Wish::good()
        },
        Wish {
            kind: PrincipalKind::Human,
            ..Wish::good()
        },
        Wish {
            wallets: Vec::new(),
            ..Wish::good()
        },
        Wish {
            ttl: Ttl::from_mins(61),
            ..Wish::good()
        },
        Wish {
            max_resolves: 501,
            ..Wish::good()
        },
        Wish {
            audience: vec![name("prim-infer"), name("prim-evil")],
            ..Wish::good()
        },
    ];
    let rules: Vec<String> = wishes.iter().map(|wish| denied_by(&policy, wish)).collect();
    assert_eq!(rules, RULES);
    let Decision::Deny(denial) = decide(&policy, &wishes[4].ask()) else {
        panic!("allowed");
    };
    assert_eq!(denial.locate(OPENROUTER).line, Some(11));
}

#[test]
fn nothing_and_less_than_nothing_are_refused() {
    let policy = parse(OPENROUTER, "x").unwrap();
    for max_resolves in [0, -1, i64::MIN] {
        assert_eq!(
            denied_by(
                &policy,
                &Wish {
                    max_resolves,
                    ..Wish::good()
                }
            ),
            "grant.max_resolves"
        );
    }
    assert_eq!(
        denied_by(
            &policy,
            &Wish {
                ttl: Ttl::default(),
                ..Wish::good()
            }
        ),
        "grant.max_ttl"
    );
}

#[test]
fn a_name_counts_only_for_somebody_known() {
    let text = OPENROUTER.replace("wallets = [\"eip155:84532:*\"]", "principals = [\"crawler-7\"]");
    let policy = parse(&text, "x").unwrap();
    let crawler = |known| Wish {
        name: Some(name("crawler-7")),
        known,
        ..Wish::good()
    };
    assert!(matches!(decide(&policy, &crawler(true).ask()), Decision::Allow(terms) if terms.rule == "who.principals"));
    assert_eq!(denied_by(&policy, &crawler(false)), "who.wallets");
    let everyone = parse(&text.replace("crawler-7", "*"), "x").unwrap();
    assert_eq!(denied_by(&everyone, &crawler(false)), "who.wallets");
}

#[test]
fn who_has_not_paid_yet_gets_a_quote_only_where_paying_could_let_them_in() {
    let unknown = Wish {
        wallets: Vec::new(),
        ..Wish::good()
    };
    let priced = parse(OPENROUTER, "x").unwrap();
    assert_eq!(denied_by(&priced, &unknown), "who.wallets");
    assert!(matches!(decide_unpaid(&priced, &unknown.ask()), Decision::Allow(_)));
    let free = OPENROUTER.replace("amount = \"0.01 USDC\"", "").replace("[price]", "");
    let free = parse(&free.replace("paid_per_day = \"5.00 USDC\"", ""), "x").unwrap();
    assert!(
        matches!(decide_unpaid(&free, &unknown.ask()), Decision::Deny(_)),
        "nothing will be signed"
    );
    let listed = OPENROUTER.replace("wallets = [\"eip155:84532:*\"]", "principals = [\"*\"]");
    let listed = parse(&listed, "x").unwrap();
    assert!(
        matches!(decide_unpaid(&listed, &unknown.ask()), Decision::Deny(_)),
        "a wallet would not help"
    );
}

#[test]
fn the_cheapest_policy_that_allows_is_chosen_and_the_nearest_denial_told() {
    let cheap = parse(
        &OPENROUTER
            .replace("\"0.01 USDC\"", "\"0.005 USDC\"")
            .replace("-readers", "-cheap"),
        "x",
    )
    .unwrap();
    let dear = parse(OPENROUTER, "x").unwrap();
    let asking = parse(
        &OPENROUTER
            .replace("\"none\"", "\"always\"")
            .replace("-readers", "-a")
            .replace("0.01", "0.001"),
        "x",
    );
    let policies = [(dear, 3), (asking.unwrap(), 1), (cheap, 7)];
    let wish = Wish::good();
    let chosen = choose(&policies, &wish.ask(), false).unwrap();
    assert_eq!((chosen.policy.name.as_str(), chosen.version), ("openrouter-cheap", 7));
    let far = Wish {
        max_resolves: 1_000,
        ..Wish::good()
    };
    let (_, denial) = choose(&policies, &far.ask(), false).unwrap_err().unwrap();
    assert_eq!(denial.rule, "grant.max_resolves");
    let elsewhere = Wish {
        vendor: name("stripe"),
        ..Wish::good()
    };
    assert!(choose(&policies, &elsewhere.ask(), false).unwrap_err().is_none());
}

#[test]
fn an_explanation_reads_like_this() {
    let policies = [(parse(OPENROUTER, "x").unwrap(), 3), (parse(DEMO, "x").unwrap(), 1)];
    let wish = Wish {
        scope: scope("keys:write"),
        ..Wish::good()
    };
    let explanation = explain(&policies, &wish.ask());
    assert_eq!(
        explanation.to_string(),
        "dk://openrouter/keys:write: not allowed\n  \
           openrouter-readers v3  no, by scopes\n    \
             ok  vendor              the policy is for openrouter\n    \
             no  scopes              it offers inference:write, not keys:write\n    \
             fix: add \"keys:write\" to `scopes`"
    );
    let wish = Wish {
        vendor: name("stripe"),
        ..Wish::good()
    };
    assert_eq!(
        explain(&policies, &wish.ask()).to_string(),
        "dk://stripe/inference:write: no policy is for this vendor"
    );
}

#[test]
fn a_diff_says_what_changes_and_which_way() {
    let new = OPENROUTER
        .replace("[\"inference:write\"]", "[\"inference:write\", \"keys:read\"]")
        .replace("max_ttl = \"1h\"", "max_ttl = \"2h\"")
        .replace("rate = \"60/min\"", "rate = \"1/s\"")
        .replace("live_leases = 20", "live_leases = 10")
        .replace("vendor_cost_per_grant = \"1.00 USD\"", "")
        .replace("\"0.01 USDC\"", "\"0.02 USDC\"");
    let diff = diff(Some(OPENROUTER), &new);
    let words: Vec<(&str, Effect)> = diff
        .changes
        .iter()
        .map(|change| (change.words.as_str(), change.effect))
        .collect();
    assert_eq!(
        words,
        [
            ("+ scopes keys:read", Effect::Wider),
            ("grant.max_ttl 1h -> 2h", Effect::Wider),
            ("limits.live_leases 20 -> 10", Effect::Narrower),
            ("limits.rate 60/min -> 1/s", Effect::Other),
            ("- limits.vendor_cost_per_grant 1.00 USD", Effect::Wider),
            ("price.amount 0.01 USDC -> 0.02 USDC", Effect::Narrower),
        ]
    );
    assert!(
        diff.unified.contains("-max_ttl = \"1h\"\n+max_ttl = \"2h\"\n"),
        "{}",
        diff.unified
    );
}

#[test]
fn a_first_version_is_all_new_and_a_comment_changes_only_the_text() {
    let first = diff(None, DEMO);
    assert!(first.changes.iter().any(|change| change.words == "+ scopes echo:read"));
    assert!(
        first.changes.iter().all(|change| change.words.starts_with("+ ")),
        "{first:?}"
    );
    let comment = diff(Some(DEMO), &format!("# a word\n{DEMO}"));
    assert!(comment.changes.is_empty() && comment.unified.contains("+# a word"));
    assert_eq!(diff(Some(DEMO), DEMO).unified, "");
}

/// Ways to restrict a policy. None may ever let in what was refused.
#[derive(Debug, Clone)]
enum Restriction {
    DropScope,
    DropKind,
    DropWallet,
    DropPrincipal,
    NameTheEveryone,
    ShortenTtl(i64),
    FewerResolves(i64),
    DropPrim,
    NoReveal,
    AskPeople,
}

fn restrict(mut policy: Policy, restriction: &Restriction) -> Policy {
    match restriction {
        Restriction::DropScope => drop(policy.scopes.pop()),
        Restriction::DropKind => drop(policy.who.kinds.pop()),
        Restriction::DropWallet => drop(policy.who.wallets.pop()),
        Restriction::DropPrincipal => drop(policy.who.principals.pop()),
        Restriction::NameTheEveryone => {
            for entry in policy.who.wallets.iter_mut().chain(&mut policy.who.principals) {
                if entry == "*" {
                    "crawler-7".clone_into(entry);
                }
            }
        }
        Restriction::ShortenTtl(by) => {
            policy.grant.max_ttl = Ttl::from_millis(policy.grant.max_ttl.as_millis() - by);
        }
        Restriction::FewerResolves(by) => policy.grant.max_resolves -= by,
        Restriction::DropPrim => {
            if let Some(reveal) = &mut policy.reveal {
                reveal.prims.pop();
            }
        }
        Restriction::NoReveal => policy.reveal = None,
        Restriction::AskPeople => policy.approval = GrantApproval::Always,
    }
    policy
}

fn restrictions() -> impl Strategy<Value = Restriction> {
    prop_oneof![
        Just(Restriction::DropScope),
        Just(Restriction::DropKind),
        Just(Restriction::DropWallet),
        Just(Restriction::DropPrincipal),
        Just(Restriction::NameTheEveryone),
        (0..4_000_000i64).prop_map(Restriction::ShortenTtl),
        (0..600i64).prop_map(Restriction::FewerResolves),
        Just(Restriction::DropPrim),
        Just(Restriction::NoReveal),
        Just(Restriction::AskPeople),
    ]
}

fn picks(from: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(from, 0..=from.len())
        .prop_map(|picked| picked.into_iter().map(str::to_owned).collect())
}

const KINDS: [PrincipalKind; 3] = [PrincipalKind::Agent, PrincipalKind::Prim, PrincipalKind::Human];

fn policies() -> impl Strategy<Value = Policy> {
    let who = (
        proptest::sample::subsequence(&KINDS[..], 0..=3),
        picks(&["*", "eip155:84532:*", WALLET, "eip155:1:*"]),
        picks(&["*", "crawler-7", "crawler-8"]),
    );
    let terms = (
        0..4_000_000i64,
        0..600i64,
        picks(&["prim-infer", "prim-echo"]),
        any::<bool>(),
        any::<bool>(),
    );
    (picks(&["inference:write", "keys:read"]), who, terms).prop_map(|(scopes, who, terms)| {
        let mut policy = parse(OPENROUTER, "x").unwrap();
        policy.scopes = scopes.iter().map(|text| scope(text)).collect();
        (policy.who.kinds, policy.who.wallets, policy.who.principals) = who;
        let (ttl, resolves, prims, reveals, priced) = terms;
        policy.grant.max_ttl = Ttl::from_millis(ttl);
        policy.grant.max_resolves = resolves;
        if let Some(reveal) = &mut policy.reveal {
            reveal.prims = prims.iter().map(|text| name(text)).collect();
        }
        policy.reveal = policy.reveal.filter(|_| reveals);
        policy.price = policy.price.filter(|_| priced);
        policy
    })
}

fn wishes() -> impl Strategy<Value = Wish> {
    let who = (
        proptest::sample::select(&KINDS[..]),
        proptest::option::of(proptest::sample::select(&["crawler-7", "crawler-9"][..])),
        any::<bool>(),
        picks(&[
            WALLET,
            "eip155:1:0x857b06519e91e3a54538791bdbb0e22373e36b66",
            "crawler-7",
            "",
            "*",
        ]),
    );
    let what = (
        proptest::sample::select(&["openrouter", "openrouter", "openai"][..]),
        proptest::sample::select(&["inference:write", "keys:read"][..]),
        0..4_000_000i64,
        -1..600i64,
        picks(&["prim-infer", "prim-echo"]),
    );
    (who, what).prop_map(
        |((kind, named, known, wallets), (vendor, wanted, ttl, max_resolves, audience))| Wish {
            kind,
            name: named.map(name),
            known,
            wallets,
            vendor: name(vendor),
            scope: scope(wanted),
            ttl: Ttl::from_millis(ttl),
            max_resolves,
            audience: audience.iter().map(|text| name(text)).collect(),
        },
    )
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.ask())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restriction_never_lets_in_what_was_refused(policy in policies(), wish in wishes(), restriction in restrictions()) {
        let before = decide(&policy, &wish.ask());
        let unpaid_before = decide_unpaid(&policy, &wish.ask());
        let restricted = restrict(policy, &restriction);
        if matches!(before, Decision::Deny(_)) {
            prop_assert!(matches!(decide(&restricted, &wish.ask()), Decision::Deny(_)));
        }
        if matches!(unpaid_before, Decision::Deny(_)) {
            prop_assert!(matches!(decide_unpaid(&restricted, &wish.ask()), Decision::Deny(_)));
        }
    }

    #[test]
    fn what_is_allowed_paid_was_allowed_unpaid(policy in policies(), wish in wishes()) {
        if matches!(decide(&policy, &wish.ask()), Decision::Allow(_)) {
            prop_assert!(matches!(decide_unpaid(&policy, &wish.ask()), Decision::Allow(_)));
        }
    }

    #[test]
    fn terms_stay_within_the_policy(policy in policies(), wish in wishes()) {
        if let Decision::Allow(terms) = decide(&policy, &wish.ask()) {
            prop_assert!(terms.ttl <= policy.grant.max_ttl && terms.ttl > Ttl::default());
            prop_assert!(terms.max_resolves >= 1 && terms.max_resolves <= policy.grant.max_resolves);
            prop_assert!(terms.max_lease <= terms.ttl);
            let revealed = policy.reveal.map(|reveal| reveal.prims).unwrap_or_default();
            prop_assert!(terms.prims.iter().all(|prim| revealed.contains(prim)));
        }
    }

    #[test]
    fn explain_names_the_rule_that_decided(policy in policies(), wish in wishes()) {
        let decision = decide(&policy, &wish.ask());
        let same_vendor = policy.vendor == wish.vendor;
        let explanation = explain(&[(policy, 4)], &wish.ask());
        if !same_vendor {
            prop_assert!(explanation.answers.is_empty() && !explanation.allowed);
            return Ok(());
        }
        let answer = &explanation.answers[0];
        let last = answer.steps.last().unwrap();
        match decision {
            Decision::Allow(terms) => {
                prop_assert!(explanation.allowed && answer.allowed && answer.rule == terms.rule);
                prop_assert!(answer.steps.len() == RULES.len() && answer.steps.iter().all(|step| step.passed));
            }
            Decision::Deny(denial) => {
                prop_assert!(!explanation.allowed && answer.rule == denial.rule && answer.words == denial.words);
                prop_assert!(last.rule == denial.rule && !last.passed);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_with_findings(text in "(?s).{0,300}") {
        if let Err(errors) = parse(&text, "x") {
            prop_assert!(!errors.findings().is_empty());
        }
    }

    #[test]
    fn a_damaged_policy_is_read_or_refused_inside_its_text(at in 0..900usize, with in "(?s).{0,3}") {
        let mut text: Vec<char> = OPENROUTER.chars().collect();
        let at = at.min(text.len());
        text.splice(at..at.saturating_add(2).min(text.len()), with.chars());
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text, "x") {
            for found in errors.findings() {
                let line = text.split('\n').nth(found.line.unwrap() - 1).unwrap();
                prop_assert!(found.column.unwrap() <= line.chars().count() + 1, "{found:?}");
            }
            prop_assert!(!errors.findings().is_empty());
        }
    }
}
