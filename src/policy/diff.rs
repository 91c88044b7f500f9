//! What a new policy changes, in words and as a unified diff of the text, so that approvers see what they approve.

use serde::Serialize;
use similar::TextDiff;

use super::parse::parse;
use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::model::policy::{CredentialPer, GrantApproval, Policy, Rate};
use crate::model::price::Price;

/// A comparison of two policy texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Diff {
    /// Each change; empty when nothing but comments and layout changed, or when a text cannot be read.
    pub changes: Vec<Change>,
    /// The unified diff of the texts, three lines of context; empty when they are equal.
    pub unified: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Change {
    /// The line of the file: `grant.max_ttl`.
    pub field: String,
    /// In words: `+ scopes embeddings:write`, `grant.max_ttl 15m -> 1h`.
    pub words: String,
    /// Whether more becomes possible.
    pub effect: Effect,
}

/// What a change does to what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// More is allowed, for longer, to more, or with less asking.
    Wider,
    /// Less is.
    Narrower,
    /// Neither, or both.
    Other,
}

/// Compares the text in force (`None`: there is none) with the proposed one.
#[must_use]
pub fn diff(old: Option<&str>, new: &str) -> Diff {
    let before = old.unwrap_or_default();
    let changes = match (old.map(|text| parse(text, "old")), parse(new, "new")) {
        (Some(Ok(old)), Ok(new)) => changes(Some(&old), &new),
        (None, Ok(new)) => changes(None, &new),
        _ => Vec::new(),
    };
    let texts = TextDiff::from_lines(before, new);
    let unified = texts.unified_diff().header("in force", "proposed").to_string();
    Diff {
        changes,
        unified: if before == new { String::new() } else { unified },
    }
}

fn changes(old: Option<&Policy>, new: &Policy) -> Vec<Change> {
    FIELDS
        .iter()
        .flat_map(|field| match field.read {
            Read::Value(words, reach) => value_change(field.name, old, new, words, reach).into_iter().collect(),
            Read::List(items, added) => list_changes(field.name, old, new, items, added),
        })
        .collect()
}

/// One line of the file.
struct Field {
    name: &'static str,
    read: Read,
}

/// How a line is read.
enum Read {
    /// Its words (empty: not set), and how far it reaches: more is wider. Without a reach it is neither.
    Value(fn(&Policy) -> String, Option<fn(&Policy) -> i64>),
    /// Its items, and what adding one does.
    List(fn(&Policy) -> Vec<String>, Effect),
}

const FIELDS: [Field; 27] = [
    value("name", |p| p.name.to_string(), None),
    value("vendor", |p| p.vendor.to_string(), None),
    list("scopes", |p| words(&p.scopes), Effect::Wider),
    list(
        "who.kinds",
        |p| p.who.kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
        Effect::Wider,
    ),
    list("who.wallets", |p| p.who.wallets.clone(), Effect::Wider),
    list("who.principals", |p| p.who.principals.clone(), Effect::Wider),
    value(
        "grant.max_ttl",
        |p| span(p.grant.max_ttl),
        Some(|p| p.grant.max_ttl.as_millis()),
    ),
    value(
        "grant.max_resolves",
        |p| p.grant.max_resolves.to_string(),
        Some(|p| p.grant.max_resolves),
    ),
    value(
        "grant.credential_per",
        |p| credential_per(p.grant.credential_per).to_owned(),
        None,
    ),
    value(
        "grant.require_vendor_expiry",
        |p| p.grant.require_vendor_expiry.to_string(),
        Some(|p| i64::from(!p.grant.require_vendor_expiry)),
    ),
    value(
        "grant.rotate_every",
        |p| p.grant.rotate_every.map(span).unwrap_or_default(),
        None,
    ),
    list(
        "reveal.prims",
        |p| p.reveal.as_ref().map(|reveal| words(&reveal.prims)).unwrap_or_default(),
        Effect::Wider,
    ),
    value(
        "reveal.max_lease",
        |p| {
            p.reveal
                .as_ref()
                .map(|reveal| span(reveal.max_lease))
                .unwrap_or_default()
        },
        Some(|p| p.reveal.as_ref().map_or(0, |reveal| reveal.max_lease.as_millis())),
    ),
    value(
        "forward.bearer",
        |p| p.forward.bearer.map_or_else(|| "off".to_owned(), span),
        Some(|p| p.forward.bearer.map_or(0, Ttl::as_millis)),
    ),
    value(
        "limits.live_leases",
        |p| p.limits.live_leases.map(|count| count.to_string()).unwrap_or_default(),
        Some(|p| p.limits.live_leases.unwrap_or(i64::MAX)),
    ),
    value(
        "limits.rate",
        |p| p.limits.rate.map(rate).unwrap_or_default(),
        Some(|p| p.limits.rate.map_or(i64::MAX, a_day)),
    ),
    value(
        "limits.grants",
        |p| p.limits.grants.map(rate).unwrap_or_default(),
        Some(|p| p.limits.grants.map_or(i64::MAX, a_day)),
    ),
    value(
        "limits.paid_per_day",
        |p| amount(p.limits.paid_per_day),
        Some(|p| bound(p.limits.paid_per_day)),
    ),
    value(
        "limits.vendor_cost_per_grant",
        |p| amount(p.limits.vendor_cost_per_grant),
        Some(|p| bound(p.limits.vendor_cost_per_grant)),
    ),
    value(
        "limits.vendor_cost_per_key",
        |p| amount(p.limits.vendor_cost_per_key),
        Some(|p| bound(p.limits.vendor_cost_per_key)),
    ),
    value(
        "price.amount",
        |p| amount(price(p, |price| price.amount)),
        Some(|p| cheap(price(p, |price| price.amount))),
    ),
    value(
        "price.per_resolve",
        |p| amount(price(p, |price| price.per_resolve)),
        Some(|p| cheap(price(p, |price| price.per_resolve))),
    ),
    value(
        "price.per_minute",
        |p| amount(price(p, |price| price.per_minute)),
        Some(|p| cheap(price(p, |price| price.per_minute))),
    ),
    list("price.scopes", priced_scopes, Effect::Narrower),
    value(
        "approval.grants",
        |p| p.approval.as_str().to_owned(),
        Some(|p| unasked(p.approval)),
    ),
    list("approvers.from", |p| words(&p.approvers.from), Effect::Other),
    value(
        "approvers.quorum",
        |p| p.approvers.quorum.to_string(),
        Some(|p| -p.approvers.quorum),
    ),
];

const fn value(name: &'static str, words: fn(&Policy) -> String, reach: Option<fn(&Policy) -> i64>) -> Field {
    let read = Read::Value(words, reach);
    Field { name, read }
}

const fn list(name: &'static str, items: fn(&Policy) -> Vec<String>, added: Effect) -> Field {
    let read = Read::List(items, added);
    Field { name, read }
}

fn value_change(
    field: &str,
    old: Option<&Policy>,
    new: &Policy,
    words: fn(&Policy) -> String,
    reach: Option<fn(&Policy) -> i64>,
) -> Option<Change> {
    let (was, is) = (old.map(words).unwrap_or_default(), words(new));
    let words = match (was.as_str(), is.as_str()) {
        (was, is) if was == is => return None,
        ("", is) => format!("+ {field} {is}"),
        (was, "") => format!("- {field} {was}"),
        (was, is) => format!("{field} {was} -> {is}"),
    };
    let effect = match (old, reach) {
        (Some(old), Some(reach)) if reach(new) > reach(old) => Effect::Wider,
        (Some(old), Some(reach)) if reach(new) < reach(old) => Effect::Narrower,
        _ => Effect::Other,
    };
    let field = field.to_owned();
    Some(Change { field, words, effect })
}

fn list_changes(
    field: &str,
    old: Option<&Policy>,
    new: &Policy,
    items: fn(&Policy) -> Vec<String>,
    added: Effect,
) -> Vec<Change> {
    let (was, is) = (old.map(items).unwrap_or_default(), items(new));
    let removed = match added {
        Effect::Wider => Effect::Narrower,
        Effect::Narrower => Effect::Wider,
        Effect::Other => Effect::Other,
    };
    let change = |sign: char, item: &String, effect| Change {
        field: field.to_owned(),
        words: format!("{sign} {field} {item}"),
        effect,
    };
    let gone = was
        .iter()
        .filter(|item| !is.contains(item))
        .map(|item| change('-', item, removed));
    let come = is
        .iter()
        .filter(|item| !was.contains(item))
        .map(|item| change('+', item, added));
    gone.chain(come).collect()
}

fn words<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn span(span: Ttl) -> String {
    span.to_string()
}

fn amount(money: Option<Money>) -> String {
    money.map(|money| money.to_string()).unwrap_or_default()
}

fn price(policy: &Policy, part: fn(&Price) -> Option<Money>) -> Option<Money> {
    policy.price.as_ref().and_then(part)
}

/// What costs less reaches further.
fn cheap(price: Option<Money>) -> i64 {
    -price.map_or(0, Money::atomic)
}

fn priced_scopes(policy: &Policy) -> Vec<String> {
    let scopes = policy.price.iter().flat_map(|price| &price.scopes);
    scopes.map(|(scope, price)| format!("{scope} {price}")).collect()
}

/// No limit reaches furthest.
fn bound(money: Option<Money>) -> i64 {
    money.map_or(i64::MAX, Money::atomic)
}

const fn credential_per(per: CredentialPer) -> &'static str {
    match per {
        CredentialPer::Grant => "grant",
        CredentialPer::Shared => "shared",
    }
}

/// The less people are asked, the further it reaches.
const fn unasked(approval: GrantApproval) -> i64 {
    match approval {
        GrantApproval::Always => 0,
        GrantApproval::First => 1,
        GrantApproval::None => 2,
    }
}

fn rate(rate: Rate) -> String {
    let unit = match rate.per.as_secs() {
        1 => "s".to_owned(),
        60 => "min".to_owned(),
        3600 => "h".to_owned(),
        86_400 => "day".to_owned(),
        _ => rate.per.to_string(),
    };
    format!("{}/{unit}", rate.count)
}

/// How many a day a rate lets through, to compare rates over different spans.
fn a_day(rate: Rate) -> i64 {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    rate.count.saturating_mul(DAY / rate.per.as_millis().max(1))
}
