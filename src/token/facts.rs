//! The authority block: what dekeys states in it when it mints, and the same read back.
//!
//! Facts: `instance(id)`, `grant(id)`, `principal(id)`, `holder(public key)` if the grant names one,
//! `expires(time)`, and `right(vendor, scope)` for each item. Checks: on the time, on the kind of use, and on the
//! prim if an audience was asked. A block that lacks one of them, or has others, was not made by this code.

use biscuit_auth::builder::{Check as DatalogCheck, Fact};

use super::TokenError;
use super::clause::{check, date, fact, one_of, text, within};
use super::condition::{Check, Condition, Subject};
use super::mint::MintAsk;
use super::profile::{Refusal, Stated, Value, Walked, Why};
use crate::base::time::{Timestamp, Ttl};
use crate::model::claims::{Claims, UseKind};
use crate::model::scope::{Name, Scope};

/// Instances share no clock: a token is good from this long before its making.
const CLOCKS_DIFFER: Ttl = Ttl::from_secs(30);

const USES: [UseKind; 3] = [UseKind::Forward, UseKind::Manage, UseKind::Resolve];

/// The facts of a new token.
pub(super) fn facts(ask: &MintAsk<'_>) -> Vec<Fact> {
    let mut facts = vec![
        fact("instance", vec![text(ask.instance.to_string())]),
        fact("grant", vec![text(ask.grant.to_string())]),
        fact("principal", vec![text(ask.principal.to_string())]),
        fact("expires", vec![date(ask.expires)]),
    ];
    facts.extend(ask.holder.map(|key| fact("holder", vec![text(key.to_string())])));
    facts.extend(
        ask.rights
            .iter()
            .map(|(vendor, scope)| fact("right", vec![text(vendor), text(scope)])),
    );
    facts
}

/// The checks of a new token.
pub(super) fn checks(ask: &MintAsk<'_>) -> Vec<DatalogCheck> {
    let uses = USES.map(UseKind::as_str);
    let mut checks = vec![
        check(vec![within(Some(ask.now.minus(CLOCKS_DIFFER)), ask.expires)]),
        check(vec![one_of(Subject::Use, &uses)]),
    ];
    if !ask.audience.is_empty() {
        // The holder manages its grant with any token of it; the audience says who may use the rights.
        let manage = one_of(Subject::Use, &[UseKind::Manage.as_str()]);
        checks.push(check(vec![one_of(Subject::Prim, ask.audience), manage]));
    }
    checks
}

/// Reads the authority block back.
pub(super) fn claims(walked: &Walked) -> Result<Claims, TokenError> {
    read(walked).map_err(|words| {
        TokenError::Profile(Refusal {
            block: 0,
            why: Why::Authority(words),
        })
    })
}

/// When the token begins and ends by its authority block.
pub(super) fn lifetime(walked: &Walked) -> (Option<Timestamp>, Option<Timestamp>) {
    let conditions = || {
        walked
            .blocks
            .first()
            .into_iter()
            .flatten()
            .flat_map(|check| check.0.iter().flatten())
    };
    let from = conditions().find_map(|condition| match condition {
        Condition::From(at) => Some(*at),
        _ => None,
    });
    let until = conditions().find_map(|condition| match condition {
        Condition::Before(at) => Some(*at),
        _ => None,
    });
    (from, until)
}

fn read(walked: &Walked) -> Result<Claims, &'static str> {
    let facts = &walked.facts;
    known(facts)?;
    let holder = match texts(facts, "holder").as_slice() {
        [] => None,
        [key] => Some(key.parse().map_err(|_| "its holder is not a public key")?),
        _ => return Err("it names two holders"),
    };
    let claims = Claims {
        instance: only(facts, "instance")?
            .parse()
            .map_err(|_| "its instance is not an id")?,
        grant: only(facts, "grant")?.parse().map_err(|_| "its grant is not an id")?,
        principal: only(facts, "principal")?
            .parse()
            .map_err(|_| "its principal is not an id")?,
        holder,
        issued: lifetime(walked)
            .0
            .ok_or("it does not check the time: not from when it is good")?
            .plus(CLOCKS_DIFFER),
        expires: expires(facts)?,
        rights: rights(facts)?,
        audience: audience(walked)?,
        root_key_id: walked.root_key_id.ok_or("it names no root key")?,
        revocation_ids: walked.revocation_ids.clone(),
    };
    bounded(walked, claims.expires)?;
    Ok(claims)
}

fn known(facts: &[Stated]) -> Result<(), &'static str> {
    let good = |fact: &Stated| {
        let name = fact.name.as_str();
        match fact.terms.as_slice() {
            [Value::Text(_)] => matches!(name, "instance" | "grant" | "principal" | "holder"),
            [Value::Date(_)] => name == "expires",
            [Value::Text(_), Value::Text(_)] => name == "right",
            _ => false,
        }
    };
    if facts.iter().all(good) {
        Ok(())
    } else {
        Err("it states other facts")
    }
}

fn texts<'a>(facts: &'a [Stated], name: &str) -> Vec<&'a str> {
    let text = |fact: &'a Stated| match fact.terms.as_slice() {
        [Value::Text(text)] if fact.name == name => Some(text.as_str()),
        _ => None,
    };
    facts.iter().filter_map(text).collect()
}

fn only<'a>(facts: &'a [Stated], name: &str) -> Result<&'a str, &'static str> {
    match texts(facts, name).as_slice() {
        [text] => Ok(text),
        _ => Err("it needs one instance, one grant and one principal"),
    }
}

fn expires(facts: &[Stated]) -> Result<Timestamp, &'static str> {
    let mut dates = facts.iter().filter_map(|fact| match fact.terms.as_slice() {
        [Value::Date(seconds)] => Some(*seconds),
        _ => None,
    });
    match (dates.next(), dates.next()) {
        (Some(seconds), None) => {
            let seconds = i64::try_from(seconds).map_err(|_| "its end is no time")?;
            Ok(Timestamp::from_secs(seconds))
        }
        _ => Err("it needs one end"),
    }
}

fn rights(facts: &[Stated]) -> Result<Vec<(Name, Scope)>, &'static str> {
    let pairs = facts.iter().filter_map(|fact| match fact.terms.as_slice() {
        [Value::Text(vendor), Value::Text(scope)] => Some((vendor, scope)),
        _ => None,
    });
    let rights: Vec<_> = pairs
        .map(|(vendor, scope)| {
            let vendor = vendor.parse().map_err(|_| "a vendor is not a name")?;
            let scope = scope.parse().map_err(|_| "a scope is not a scope")?;
            Ok((vendor, scope))
        })
        .collect::<Result<_, &'static str>>()?;
    if rights.is_empty() {
        Err("it gives no right")
    } else {
        Ok(rights)
    }
}

fn authority(walked: &Walked) -> &[Check] {
    walked.blocks.first().map_or(&[], Vec::as_slice)
}

/// The two mandatory checks, the audience if there is one, and nothing else.
fn bounded(walked: &Walked, expires: Timestamp) -> Result<(), &'static str> {
    let checks = authority(walked);
    let time = |check: &Check| {
        let [conditions] = check.0.as_slice() else { return false };
        matches!(conditions.as_slice(), [Condition::From(_), Condition::Before(at)] if *at == expires)
    };
    let usage = |check: &Check| {
        let [conditions] = check.0.as_slice() else { return false };
        matches!(conditions.as_slice(), [Condition::Is(Subject::Use, _)])
    };
    if checks.iter().filter(|check| time(check)).count() != 1 {
        return Err("it does not check the time against its end");
    }
    if checks.iter().filter(|check| usage(check)).count() != 1 {
        return Err("it does not check the kind of use");
    }
    let known = |check: &Check| time(check) || usage(check) || audience_of(check).is_some();
    if checks.iter().all(known) {
        Ok(())
    } else {
        Err("it has other checks")
    }
}

fn audience(walked: &Walked) -> Result<Vec<Name>, &'static str> {
    let mut audiences = authority(walked).iter().filter_map(audience_of);
    let prims = match (audiences.next(), audiences.next()) {
        (None, _) => return Ok(Vec::new()),
        (Some(prims), None) => prims,
        _ => return Err("it has two audiences"),
    };
    prims
        .iter()
        .map(|prim| prim.parse().map_err(|_| "a prim is not a name"))
        .collect()
}

fn audience_of(check: &Check) -> Option<&[String]> {
    let [prims, manage] = check.0.as_slice() else {
        return None;
    };
    match (prims.as_slice(), manage.as_slice()) {
        ([Condition::Is(Subject::Prim, prims)], [Condition::Is(Subject::Use, uses)])
            if uses.as_slice() == [UseKind::Manage.as_str()] =>
        {
            Some(prims)
        }
        _ => None,
    }
}
