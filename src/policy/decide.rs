//! The decision: rules in one fixed order, each with the name of the line in the file that it enforces. The first
//! that refuses decides. Total: every question has an answer, and nothing here can fail.

use serde::Serialize;

use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::model::policy::{GrantApproval, Policy};
use crate::model::principal::PrincipalKind;
use crate::model::scope::{Name, Scope};

/// What somebody wants: one scope at one vendor, for a time and a number of resolves.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What the requester is. An unknown buyer counts as an agent.
    pub kind: PrincipalKind,
    /// Its name, if dekeys knows it.
    pub name: Option<&'a Name>,
    /// Whether dekeys knows it: a principal that has proved itself. A name without this counts for nothing.
    pub known: bool,
    /// Its wallets, CAIP-10: those on record, and the one that has signed the payment.
    pub wallets: &'a [String],
    /// The vendor.
    pub vendor: &'a Name,
    /// The scope.
    pub scope: &'a Scope,
    /// How long the grant shall live.
    pub ttl: Ttl,
    /// How many resolves it shall have.
    pub max_resolves: i64,
    /// Prims its tokens shall be for; empty leaves that to the holder.
    pub audience: &'a [Name],
}

/// Yes with terms, or no with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow(Terms),
    /// No.
    Deny(Denial),
}

/// What a grant under the policy may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Its life: what was asked for.
    pub ttl: Ttl,
    /// Its resolves: what was asked for.
    pub max_resolves: i64,
    /// Its price; `None` is free.
    pub price: Option<Money>,
    /// Whether people are asked first.
    pub approval: GrantApproval,
    /// Prims that may receive a key: those of the audience, or all the policy names.
    pub prims: Vec<Name>,
    /// Longest lease of a revealed key, never longer than the grant; zero when nothing is revealed.
    pub max_lease: Ttl,
    /// The rule that let the requester in: `who.principals` or `who.wallets`.
    pub rule: String,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// The rule, one of [`RULES`]: the path of a line in the file.
    pub rule: String,
    /// That line, once [`Denial::locate`] has looked it up in the text.
    pub line: Option<usize>,
    /// The reason in words.
    pub words: String,
    /// The smallest change of the policy that would let this rule pass.
    pub change: String,
}

impl Denial {
    /// The same denial with the line of `text`, the policy's file, that decided.
    #[must_use]
    pub fn locate(mut self, text: &str) -> Self {
        let pointer = format!("/{}", self.rule.replace('.', "/"));
        let span = super::document::locate(text, &pointer);
        self.line = span.map(|span| super::finding::position(text, span.start).0);
        self
    }
}

/// The names of the rules, in the order in which they are asked.
pub const RULES: [&str; 7] = [
    "vendor",
    "scopes",
    "who.kinds",
    "who.wallets",
    "grant.max_ttl",
    "grant.max_resolves",
    "reveal.prims",
];

/// Decides. Limits that need a count (rates, budgets, live leases) are not looked at.
#[must_use]
pub fn decide(policy: &Policy, ask: &Ask<'_>) -> Decision {
    decide_with(policy, ask, Payer::Known)
}

/// Decides for a buyer who has not paid yet, so that a quote can be given: where the policy has a price and would
/// let in *some* wallet, the wallet that will sign the payment is taken to be such a one. Ask [`decide`] again
/// with that wallet before anything is claimed.
#[must_use]
pub fn decide_unpaid(policy: &Policy, ask: &Ask<'_>) -> Decision {
    decide_with(policy, ask, Payer::NotYet)
}

/// The policy that serves an ask best.
#[derive(Debug, Clone)]
pub struct Chosen<'p> {
    /// The policy.
    pub policy: &'p Policy,
    /// Its version.
    pub version: i64,
    /// What it allows.
    pub terms: Terms,
}

/// Of the policies in force, the one to grant under: allowed, not asking people if another does not, cheapest,
/// first by name. `unpaid` asks as [`decide_unpaid`] does.
///
/// # Errors
/// The name and denial of the policy that got furthest; `None` when no policy is for the vendor.
pub fn choose<'p>(
    policies: &'p [(Policy, i64)],
    ask: &Ask<'_>,
    unpaid: bool,
) -> Result<Chosen<'p>, Option<(&'p Name, Denial)>> {
    let payer = if unpaid { Payer::NotYet } else { Payer::Known };
    let mut allowed = Vec::new();
    let mut denied = Vec::new();
    for (policy, version) in policies.iter().filter(|(policy, _)| policy.vendor == *ask.vendor) {
        match decide_with(policy, ask, payer) {
            Decision::Allow(terms) => allowed.push(Chosen {
                policy,
                version: *version,
                terms,
            }),
            Decision::Deny(denial) => denied.push((&policy.name, denial)),
        }
    }
    let cost = |chosen: &Chosen<'_>| {
        let asked = chosen.terms.approval != GrantApproval::None;
        (
            asked,
            chosen.terms.price.map_or(0, Money::atomic),
            chosen.policy.name.clone(),
        )
    };
    if let Some(best) = allowed.into_iter().min_by_key(cost) {
        return Ok(best);
    }
    let reached = |denial: &Denial| RULES.iter().position(|rule| *rule == denial.rule).unwrap_or(0);
    Err(denied
        .into_iter()
        .max_by_key(|(name, denial)| (reached(denial), std::cmp::Reverse((*name).clone()))))
}

/// Whether the wallet that pays is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payer {
    Known,
    NotYet,
}

/// How one rule answers.
pub(super) enum Verdict {
    /// Passed, and what was found.
    Pass(String),
    /// Refused: the reason and the smallest change that would pass.
    Refuse { words: String, change: String },
}

/// One rule: its name and what it asks.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) ask: fn(&Policy, &Ask<'_>, Payer) -> Verdict,
}

/// The rules behind [`RULES`], in the same order.
pub(super) const CHECKS: [Rule; 7] = [
    rule("vendor", vendor),
    rule("scopes", scopes),
    rule("who.kinds", kinds),
    rule("who.wallets", somebody),
    rule("grant.max_ttl", max_ttl),
    rule("grant.max_resolves", max_resolves),
    rule("reveal.prims", prims),
];

const fn rule(name: &'static str, ask: fn(&Policy, &Ask<'_>, Payer) -> Verdict) -> Rule {
    Rule { name, ask }
}

fn decide_with(policy: &Policy, ask: &Ask<'_>, payer: Payer) -> Decision {
    for rule in &CHECKS {
        if let Verdict::Refuse { words, change } = (rule.ask)(policy, ask, payer) {
            return Decision::Deny(Denial {
                rule: rule.name.to_owned(),
                line: None,
                words,
                change,
            });
        }
    }
    Decision::Allow(terms(policy, ask))
}

fn terms(policy: &Policy, ask: &Ask<'_>) -> Terms {
    let revealed = policy.reveal.as_ref();
    let prims = match revealed {
        Some(reveal) if ask.audience.is_empty() => reveal.prims.clone(),
        Some(_) => ask.audience.to_vec(),
        None => Vec::new(),
    };
    Terms {
        ttl: ask.ttl,
        max_resolves: ask.max_resolves,
        price: price(policy, ask),
        approval: policy.approval,
        prims,
        max_lease: revealed.map_or_else(Ttl::default, |reveal| reveal.max_lease.min(ask.ttl)),
        rule: let_in_by(policy, ask).to_owned(),
    }
}

/// What it costs, as far as it alone is asked for.
pub(super) fn price(policy: &Policy, ask: &Ask<'_>) -> Option<Money> {
    let price = policy.price.as_ref()?;
    Some(price.of(std::slice::from_ref(ask.scope), ask.ttl, ask.max_resolves))
}

fn vendor(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    test(
        policy.vendor == *ask.vendor,
        || format!("the policy is for {}", policy.vendor),
        || format!("the policy is for {}, not for {}", policy.vendor, ask.vendor),
        || format!("a policy with `vendor = \"{}\"`", ask.vendor),
    )
}

fn scopes(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    test(
        policy.scopes.contains(ask.scope),
        || format!("it offers {}", ask.scope),
        || format!("it offers {}, not {}", list(&policy.scopes), ask.scope),
        || format!("add \"{}\" to `scopes`", ask.scope),
    )
}

fn kinds(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    let kind = ask.kind.as_str();
    test(
        policy.who.kinds.contains(&ask.kind),
        || format!("the requester is of kind {kind}"),
        || {
            let kinds: Vec<&str> = policy.who.kinds.iter().map(|kind| kind.as_str()).collect();
            format!(
                "it is for principals of kind {}; the requester is of kind {kind}",
                list(&kinds)
            )
        },
        || format!("add \"{kind}\" to `who.kinds`"),
    )
}

fn somebody(policy: &Policy, ask: &Ask<'_>, payer: Payer) -> Verdict {
    if is_listed(policy, ask) || owns_listed_wallet(policy, ask) {
        return Verdict::Pass(format!("the requester is listed in {}", let_in_by(policy, ask)));
    }
    if payer == Payer::NotYet && policy.price.is_some() && !policy.who.wallets.is_empty() {
        let words = format!("the wallet that pays must match {}", list(&policy.who.wallets));
        return Verdict::Pass(words);
    }
    let who = ask.name.map_or_else(|| "the requester".to_owned(), ToString::to_string);
    let change = match (ask.name, ask.wallets.first()) {
        (Some(name), _) if ask.known => format!("add \"{name}\" to `who.principals`"),
        (_, Some(wallet)) => format!("add \"{wallet}\" to `who.wallets`"),
        _ => "add the requester to `who.principals`, or its wallet to `who.wallets`".to_owned(),
    };
    Verdict::Refuse {
        words: format!("{who} is not in `who.principals`, and none of its wallets is in `who.wallets`"),
        change,
    }
}

fn max_ttl(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    let most = policy.grant.max_ttl;
    test(
        ask.ttl > Ttl::default() && ask.ttl <= most,
        || format!("{} is within {most}", ask.ttl),
        || {
            format!(
                "a grant lives more than 0s and at most {most}; {} was asked for",
                ask.ttl
            )
        },
        || format!("ask for {most} or less"),
    )
}

fn max_resolves(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    let (most, asked) = (policy.grant.max_resolves, ask.max_resolves);
    test(
        (1..=most).contains(&asked),
        || format!("{asked} resolves are within {most}"),
        || format!("a grant has 1 to {most} resolves; {asked} were asked for"),
        || format!("ask for 1 to {most}"),
    )
}

/// A token for a prim that can never get the key would be paid for in vain.
fn prims(policy: &Policy, ask: &Ask<'_>, _: Payer) -> Verdict {
    let named = policy.reveal.as_ref().map_or(&[][..], |reveal| &reveal.prims);
    match ask.audience.iter().find(|prim| !named.contains(prim)) {
        None => Verdict::Pass("every prim of the audience may receive a key".to_owned()),
        Some(prim) => Verdict::Refuse {
            words: match named {
                [] => format!("it reveals keys to no prim; {prim} is in the audience"),
                _ => format!("it reveals keys to {}; {prim} is in the audience", list(named)),
            },
            change: format!("add \"{prim}\" to `reveal.prims`, or leave it out of the audience"),
        },
    }
}

fn let_in_by(policy: &Policy, ask: &Ask<'_>) -> &'static str {
    if is_listed(policy, ask) {
        "who.principals"
    } else {
        "who.wallets"
    }
}

fn is_listed(policy: &Policy, ask: &Ask<'_>) -> bool {
    let named = |entry: &String| entry == "*" || ask.name.is_some_and(|name| name.as_str() == entry);
    ask.known && policy.who.principals.iter().any(named)
}

fn owns_listed_wallet(policy: &Policy, ask: &Ask<'_>) -> bool {
    policy
        .who
        .wallets
        .iter()
        .any(|pattern| pattern == "*" || ask.wallets.iter().any(|wallet| wallet_matches(pattern, wallet)))
}

/// A pattern ends in `*` only after the colon of its network, so it never matches a part of an address.
fn wallet_matches(pattern: &str, wallet: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(network) => wallet.strip_prefix(network).is_some_and(|rest| !rest.contains(':')),
        None => pattern == wallet || (pattern.starts_with("eip155:") && pattern.eq_ignore_ascii_case(wallet)),
    }
}

fn test(
    passed: bool,
    found: impl FnOnce() -> String,
    words: impl FnOnce() -> String,
    change: impl FnOnce() -> String,
) -> Verdict {
    if passed {
        Verdict::Pass(found())
    } else {
        Verdict::Refuse {
            words: words(),
            change: change(),
        }
    }
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_shown_are_the_rules_asked() {
        assert_eq!(CHECKS.map(|rule| rule.name), RULES);
    }

    #[test]
    fn wallet_patterns_match_whole_networks_and_whole_addresses() {
        let wallet = "eip155:84532:0x857b06519e91e3a54538791bdbb0e22373e36b66";
        for pattern in [
            "eip155:84532:*",
            wallet,
            "eip155:84532:0x857B06519E91E3A54538791BDBB0E22373E36B66",
        ] {
            assert!(wallet_matches(pattern, wallet), "{pattern}");
        }
        for pattern in [
            "eip155:8453:*",
            "eip155:8453",
            "eip155:84532:0x857b",
            "",
            "eip155:84532:",
        ] {
            assert!(!wallet_matches(pattern, wallet), "{pattern}");
        }
        assert!(!wallet_matches("eip155:1:*", "eip155:1:0x00:0x11"), "no further colon");
    }
}
