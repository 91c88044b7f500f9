//! From the text of a policy file to a [`Policy`]. What the file does not say is never granted: required values
//! have no default, and an absent list means nobody.

use toml::de::{DeTable, DeValue};

use super::document::{Complaint, Reader, Section, choice, count, cut, flag, text, word};
use super::finding::PolicyErrors;
use crate::base::money::{Currency, Money};
use crate::base::time::Ttl;
use crate::model::policy::{
    Approvers, CredentialPer, Forward, GrantApproval, GrantTerms, Limits, Policy, Rate, Reveal, Who,
};
use crate::model::price::Price;
use crate::model::principal::PrincipalKind;
use crate::model::rotation::RotationRules;
use crate::model::scope::{Name, Scope};

/// Longest text of a policy file, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Longest life of a grant.
const MAX_TTL: Ttl = Ttl::from_mins(30 * 24 * 60);
/// Longest lease of a revealed key.
const MAX_LEASE: Ttl = Ttl::from_mins(24 * 60);
/// Longest use of an unsigned token through the proxy.
const MAX_BEARER: Ttl = Ttl::from_mins(15);
/// No span of a policy is shorter.
const MIN_SPAN: Ttl = Ttl::from_secs(1);
/// Upper bound of everything that is counted.
const MAX_COUNT: i64 = 1_000_000_000;

const TOP: [&str; 11] = [
    "name",
    "vendor",
    "scopes",
    "who",
    "grant",
    "reveal",
    "forward",
    "limits",
    "price",
    "approval",
    "approvers",
];

/// Reads the text of a policy file; `file` is the name shown in messages.
///
/// # Errors
/// Everything that is wrong with it, each with line, column and fix.
pub fn parse(text: &str, file: &str) -> Result<Policy, PolicyErrors> {
    let mut reader = Reader::new(text);
    let policy = read(text, &mut reader);
    let findings = reader.into_findings();
    match policy {
        Some(policy) if findings.is_empty() => Ok(policy),
        _ => Err(PolicyErrors::new(text, file, findings)),
    }
}

fn read<'t>(text: &'t str, reader: &mut Reader<'t>) -> Option<Policy> {
    if text.len() > MAX_TEXT {
        let complaint = Complaint::new("the file is longer than 64 KiB", "split it into several policies");
        reader.broken(0..0, complaint);
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let message = format!("not TOML: {}", error.message().replace('\n', ", "));
            let complaint = Complaint::new(message, "put the syntax right; the other lines are checked after that");
            reader.broken(error.span().unwrap_or(0..0), complaint);
        }
        return None;
    }
    policy(&Section::root(document.get_ref()), reader)
}

fn policy<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<Policy> {
    reader.only(root, &TOP);
    let name = reader.required(root, "name", "\"openrouter-readers\"", |value| word(value, NAME_FIX));
    let vendor = reader.required(root, "vendor", "\"openrouter\"", |value| word(value, NAME_FIX));
    let scopes = filled(reader, root, "scopes", "[\"inference:write\"]", |value| {
        word(value, "write `resource:verb`, as the vendor's manifest names it")
    });
    let who = who(root, reader);
    let grant = grant(root, reader);
    let reveal = reveal(root, reader);
    let forward = forward(root, reader);
    let offered = scopes.as_deref().unwrap_or_default();
    let price = price(root, reader, offered);
    let limits = limits(root, reader, price.as_ref().map(|price| price.least(offered)));
    let approval = approval(root, reader);
    let approvers = approvers(root, reader);
    Some(Policy {
        name: name?,
        vendor: vendor?,
        scopes: scopes?,
        who: who?,
        grant: grant?,
        reveal,
        forward,
        limits,
        price,
        approval: approval?,
        approvers: approvers?,
    })
}

const NAME_FIX: &str = "use 1 to 63 of a-z, 0-9 and `-`";

fn who<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<Who> {
    let fix = "write `[who]` with `kinds = [\"agent\"]` and `wallets = [\"*\"]` for everyone";
    let section = reader.required_section(root, "who", fix)?;
    reader.only(&section, &["kinds", "wallets", "principals"]);
    let kinds = filled(reader, &section, "kinds", "[\"agent\"]", kind);
    let wallets = reader.list(&section, "wallets", wallet);
    let principals = reader.list(&section, "principals", principal);
    let somebody = |key: &str| section.has(key) && section.items(key) != Some(0);
    if !somebody("wallets") && !somebody("principals") {
        let key = if section.has("principals") {
            "principals"
        } else {
            "wallets"
        };
        let message = "`wallets` and `principals` are both empty, so nobody can have a grant";
        let fix =
            "write `wallets = [\"*\"]` for everyone, `principals = [\"*\"]` for everyone dekeys knows, or name them";
        reader.blame(&section, key, Complaint::new(message, fix));
    }
    Some(Who {
        kinds: kinds?,
        wallets: wallets.unwrap_or_default(),
        principals: principals.unwrap_or_default(),
    })
}

fn grant<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<GrantTerms> {
    let fix = "write `[grant]` with `max_ttl = \"1h\"` and `max_resolves = 500`";
    let section = reader.required_section(root, "grant", fix)?;
    reader.only(
        &section,
        &[
            "max_ttl",
            "max_resolves",
            "credential_per",
            "require_vendor_expiry",
            "rotate_every",
        ],
    );
    let max_ttl = reader.required(&section, "max_ttl", "\"1h\"", |value| span(value, MAX_TTL, "30 days"));
    let max_resolves = reader.required(&section, "max_resolves", "500", |value| count(value, MAX_COUNT));
    let choices = [("grant", CredentialPer::Grant), ("shared", CredentialPer::Shared)];
    let credential_per = reader.value(&section, "credential_per", |value| choice(value, &choices));
    let require_vendor_expiry = reader.value(&section, "require_vendor_expiry", flag);
    let rotate_every = reader.value(&section, "rotate_every", rotate_every);
    if rotate_every.is_some() && credential_per != Some(CredentialPer::Shared) {
        let message = "only a key that all grants share is rotated; others end with their grant";
        let complaint = Complaint::new(message, "remove the line, or write `credential_per = \"shared\"`");
        reader.blame(&section, "rotate_every", complaint);
    }
    Some(GrantTerms {
        max_ttl: max_ttl?,
        max_resolves: max_resolves?,
        credential_per: credential_per.unwrap_or(CredentialPer::Grant),
        require_vendor_expiry: require_vendor_expiry.unwrap_or(false),
        rotate_every,
    })
}

fn reveal<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<Reveal> {
    let section = reader.section(root, "reveal")?;
    reader.only(&section, &["prims", "max_lease"]);
    let prims = filled(reader, &section, "prims", "[\"prim-infer\"]", prim);
    let max_lease = reader.required(&section, "max_lease", "\"15m\"", |value| span(value, MAX_LEASE, "24h"));
    Some(Reveal {
        prims: prims?,
        max_lease: max_lease?,
    })
}

fn forward<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Forward {
    let Some(section) = reader.section(root, "forward") else {
        return Forward { bearer: None };
    };
    reader.only(&section, &["bearer"]);
    let bearer = reader.value(&section, "bearer", |value| match text(value)? {
        "off" => Ok(None),
        _ => span(value, MAX_BEARER, "15m").map(Some),
    });
    Forward {
        bearer: bearer.flatten(),
    }
}

const PRICES: [&str; 4] = ["amount", "per_resolve", "per_minute", "scopes"];

fn price<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>, offered: &[Scope]) -> Option<Price> {
    let section = reader.section(root, "price")?;
    reader.only(&section, &PRICES);
    if !PRICES.iter().any(|key| section.has(key)) {
        let fix = "write `amount = \"0.01 USDC\"`, or remove `[price]` to make it free";
        reader.blame(&section, "amount", Complaint::new("`amount` is missing", fix));
        return None;
    }
    let usdc = |value: &DeValue<'_>| money(value, Currency::Usdc, "remove the line; without `[price]` it is free");
    let amount = reader.value(&section, "amount", usdc);
    let per_resolve = reader.value(&section, "per_resolve", usdc);
    let per_minute = reader.value(&section, "per_minute", usdc);
    let scopes = match reader.section(&section, "scopes") {
        Some(section) => reader.entries(&section, |key| priced_scope(key, offered), usdc),
        None => Vec::new(),
    };
    let some = amount.is_some() || per_resolve.is_some() || per_minute.is_some() || !scopes.is_empty();
    some.then_some(Price {
        amount,
        per_resolve,
        per_minute,
        scopes,
    })
}

/// A price for what is not offered would never be asked: it is a slip of the pen.
fn priced_scope(key: &str, offered: &[Scope]) -> Result<Scope, Complaint> {
    let found = offered.iter().find(|scope| scope.to_string() == key);
    found.cloned().ok_or_else(|| {
        let message = format!("`{}` is none of the policy's scopes", cut(key));
        Complaint::new(message, "add it to `scopes`, or remove the line")
    })
}

fn limits<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>, price: Option<Money>) -> Limits {
    let none = Limits {
        live_leases: None,
        rate: None,
        grants: None,
        paid_per_day: None,
        vendor_cost_per_grant: None,
        vendor_cost_per_key: None,
    };
    let Some(section) = reader.section(root, "limits") else {
        return none;
    };
    reader.only(
        &section,
        &[
            "live_leases",
            "rate",
            "grants",
            "paid_per_day",
            "vendor_cost_per_grant",
            "vendor_cost_per_key",
        ],
    );
    let no_limit = "remove the line to set no limit";
    let limits = Limits {
        live_leases: reader.value(&section, "live_leases", |value| count(value, MAX_COUNT)),
        rate: reader.value(&section, "rate", rate),
        grants: reader.value(&section, "grants", rate),
        paid_per_day: reader.value(&section, "paid_per_day", |value| money(value, Currency::Usdc, no_limit)),
        vendor_cost_per_grant: reader.value(&section, "vendor_cost_per_grant", |value| {
            money(value, Currency::Usd, no_limit)
        }),
        vendor_cost_per_key: reader.value(&section, "vendor_cost_per_key", |value| {
            money(value, Currency::Usd, no_limit)
        }),
    };
    if let Some(complaint) = partless(&limits) {
        reader.blame(&section, "vendor_cost_per_key", complaint);
    }
    if let Some(complaint) = limits.paid_per_day.and_then(|limit| unpayable(limit, price, root)) {
        reader.blame(&section, "paid_per_day", complaint);
    }
    limits
}

/// A key's part of nothing, or of less than itself.
fn partless(limits: &Limits) -> Option<Complaint> {
    let part = limits.vendor_cost_per_key?;
    match limits.vendor_cost_per_grant {
        None => Some(Complaint::new(
            "`vendor_cost_per_key` is a part of `vendor_cost_per_grant`, which is not there",
            format!("write `vendor_cost_per_grant = \"{part}\"` too, or more, or remove the line"),
        )),
        Some(whole) if part.atomic() > whole.atomic() => Some(Complaint::new(
            format!("a key's part of {part} is more than the {whole} of its grant"),
            format!("write at most `vendor_cost_per_key = \"{whole}\"`"),
        )),
        Some(_) => None,
    }
}

/// A daily limit that nobody can reach, or that nobody can stay under.
fn unpayable(limit: Money, price: Option<Money>, root: &Section<'_, '_>) -> Option<Complaint> {
    match price {
        None if root.has("price") => None,
        None => Some(Complaint::new(
            "`paid_per_day` limits payments, but the policy has no price",
            "remove the line, or write `[price]` with `amount = \"0.01 USDC\"`",
        )),
        Some(price) if limit.atomic() < price.atomic() => Some(Complaint::new(
            format!("`paid_per_day` of {limit} is below the price of one grant, {price}, so nobody can buy"),
            format!("write at least `paid_per_day = \"{price}\"`"),
        )),
        Some(_) => None,
    }
}

fn approval<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<GrantApproval> {
    let fix = "write `[approval]` with `grants = \"none\"`, `\"first\"` or `\"always\"`";
    let section = reader.required_section(root, "approval", fix)?;
    reader.only(&section, &["grants"]);
    let choices = [GrantApproval::None, GrantApproval::First, GrantApproval::Always].map(|each| (each.as_str(), each));
    reader.required(&section, "grants", "\"none\"", |value| choice(value, &choices))
}

fn approvers<'t>(root: &Section<'_, 't>, reader: &mut Reader<'t>) -> Option<Approvers> {
    let fix = "write `[approvers]` with `from = [\"ada\", \"grace\"]` and `quorum = 2`";
    let section = reader.required_section(root, "approvers", fix)?;
    reader.only(&section, &["from", "quorum"]);
    let from = filled(reader, &section, "from", "[\"ada\", \"grace\"]", |value| {
        word::<Name>(value, NAME_FIX)
    });
    let quorum = reader.required(&section, "quorum", "2", |value| count(value, MAX_COUNT));
    let (from, quorum) = (from?, quorum?);
    let people = i64::try_from(from.len()).unwrap_or(i64::MAX);
    if quorum > people {
        let message = format!("a quorum of {quorum} can never be reached by {people} approvers");
        let fix = format!("write `quorum = {people}` or less, or name more approvers in `from`");
        reader.blame(&section, "quorum", Complaint::new(message, fix));
    }
    Some(Approvers { from, quorum })
}

/// A list that must be there and hold something.
fn filled<'t, T: PartialEq>(
    reader: &mut Reader<'t>,
    section: &Section<'_, 't>,
    key: &str,
    example: &str,
    read: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
) -> Option<Vec<T>> {
    let fix = format!("write `{key} = {example}`");
    if !section.has(key) {
        reader.blame(section, key, Complaint::new(format!("`{key}` is missing"), fix));
        return None;
    }
    let list = reader.list(section, key, |value| read(value));
    if section.items(key) == Some(0) {
        reader.blame(
            section,
            key,
            Complaint::new(format!("`{key}` is empty, which means nobody and nothing"), fix),
        );
        return None;
    }
    list
}

fn kind(value: &DeValue<'_>) -> Result<PrincipalKind, Complaint> {
    use PrincipalKind::{Agent, Factory, Human, Operator, Prim};
    if value.as_str() == Some("*") {
        let fix = "name the kinds: agent, prim, factory, human, operator";
        return Err(Complaint::new("`*` does not stand for kinds", fix));
    }
    choice(
        value,
        &[Agent, Prim, Factory, Human, Operator].map(|kind| (kind.as_str(), kind)),
    )
}

fn principal(value: &DeValue<'_>) -> Result<String, Complaint> {
    match text(value)? {
        "*" => Ok("*".to_owned()),
        _ => word::<Name>(value, NAME_FIX).map(|name| name.to_string()),
    }
}

fn prim(value: &DeValue<'_>) -> Result<Name, Complaint> {
    if value.as_str() == Some("*") {
        return Err(Complaint::new(
            "`*` does not stand for prims: each is named",
            "name each prim that may receive a key",
        ));
    }
    word(value, NAME_FIX)
}

/// `*`, or CAIP-10 with an address or `*` in its last place. Addresses of `eip155` compare in lower case.
fn wallet(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = text(value)?;
    let parts: Vec<&str> = text.split(':').collect();
    let good = match parts.as_slice() {
        ["*"] => true,
        [namespace, reference, address] => {
            lower(namespace, 3..=8)
                && letters(reference, 1..=32)
                && (*address == "*" || wallet_address(namespace, address))
        }
        _ => false,
    };
    if good && text.starts_with("eip155:") {
        Ok(text.to_ascii_lowercase())
    } else if good {
        Ok(text.to_owned())
    } else {
        let fix = "write `eip155:84532:0x…` (CAIP-10), `eip155:84532:*` for a network, or `*` for everyone";
        Err(Complaint::new(format!("`{}` is not a wallet", cut(text)), fix))
    }
}

fn wallet_address(namespace: &str, address: &str) -> bool {
    match namespace {
        "eip155" => address
            .strip_prefix("0x")
            .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())),
        _ => letters(address, 1..=128),
    }
}

fn lower(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    letters(text, length) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn letters(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte))
}

/// How often a key is rotated.
fn rotate_every(value: &DeValue<'_>) -> Result<Ttl, Complaint> {
    let every = span(value, RotationRules::LONGEST, "90 days")?;
    if every < RotationRules::SHORTEST {
        let message = format!("{every} is too short: the least is 1m");
        return Err(Complaint::new(message, "write \"1m\" or more"));
    }
    Ok(every)
}

fn span(value: &DeValue<'_>, most: Ttl, most_in_words: &str) -> Result<Ttl, Complaint> {
    let span: Ttl = word(value, "write a span such as `15m`, `1h 30m` or `30s`")?;
    if span > most {
        let message = format!("{span} is too long: the most is {most_in_words}");
        return Err(Complaint::new(message, format!("write \"{most_in_words}\" or less")));
    }
    if span < MIN_SPAN {
        return Err(Complaint::new(
            format!("{span} is too short: the least is 1s"),
            "write \"1s\" or more",
        ));
    }
    Ok(span)
}

fn rate(value: &DeValue<'_>) -> Result<Rate, Complaint> {
    let text = text(value)?;
    let fix = "write a number and `/s`, `/min`, `/h` or `/day`, as in `60/min`";
    let bad = || Complaint::new(format!("`{}` is not a rate", cut(text)), fix);
    let (number, unit) = text.split_once('/').ok_or_else(bad)?;
    let per = match unit {
        "s" => Ttl::from_secs(1),
        "min" => Ttl::from_mins(1),
        "h" => Ttl::from_mins(60),
        "day" => Ttl::from_mins(24 * 60),
        _ => return Err(bad()),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let count = number.parse().ok().filter(|_| digits).ok_or_else(bad)?;
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(Complaint::new(format!("a rate of {count} is out of bounds"), fix));
    }
    Ok(Rate { count, per })
}

fn money(value: &DeValue<'_>, currency: Currency, instead_of_zero: &str) -> Result<Money, Complaint> {
    let money: Money = word(value, &format!("write an amount such as `0.01 {currency}`"))?;
    if money.currency() != currency {
        let message = format!(
            "`{money}` is in {}, but this is counted in {currency}",
            money.currency()
        );
        return Err(Complaint::new(
            message,
            format!("write an amount such as `0.01 {currency}`"),
        ));
    }
    if money.atomic() == 0 {
        return Err(Complaint::new("the amount is zero", instead_of_zero));
    }
    Ok(money)
}
