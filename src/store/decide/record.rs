//! What the log says about a resolve.

use serde_json::{Map, Value};

use super::Verdict;
use crate::base::time::Timestamp;
use crate::model::budget::{Budget, THRESHOLD_REACHED};
use crate::model::event::Event;
use crate::model::lease::Lease;
use crate::store::ask::{Refusal, ResolveAsk};

/// A key goes out in a request that dekeys sends.
const FORWARDED: &str = "request.forwarded";

/// The event of a verdict; none for a wait.
pub(super) fn event(verdict: &Verdict, ask: &ResolveAsk, now: Timestamp) -> Option<Event> {
    let mut data = facts(ask);
    let (kind, object) = match verdict {
        Verdict::Wait { .. } => return None,
        Verdict::Released {
            lease, version, fresh, ..
        } => {
            add_lease(&mut data, lease, *version);
            let used = if ask.forward.is_some() {
                FORWARDED
            } else {
                "lease.resolved"
            };
            let kind = if *fresh { "lease.created" } else { used };
            (kind, lease.id.to_string())
        }
        Verdict::Unchanged { lease, version } => {
            add_lease(&mut data, lease, *version);
            data.insert("unchanged".to_owned(), Value::Bool(true));
            ("lease.resolved", lease.id.to_string())
        }
        Verdict::Make { lease, credential } => {
            add_lease(&mut data, lease, credential.version);
            data.insert("root".to_owned(), text(&credential.root));
            ("lease.created", lease.id.to_string())
        }
        Verdict::Root => {
            data.insert("root".to_owned(), text(&ask.root));
            (FORWARDED, ask.root.to_string())
        }
        Verdict::Refused(refusal) => {
            add_refusal(&mut data, refusal);
            let kind = if ask.forward.is_some() {
                "request.refused"
            } else {
                "lease.refused"
            };
            (kind, ask.grant.to_string())
        }
    };
    Some(Event {
        id: ask.event,
        kind: kind.to_owned(),
        timestamp: now,
        livemode: ask.livemode,
        actor: ask.actor.clone(),
        object,
        data: Value::Object(data),
        request_id: ask.request_id,
    })
}

/// The grant's uses come to an end soon. The event follows the one of the use that brought it there.
pub(super) fn near(ask: &ResolveAsk, used: i64, now: Timestamp) -> Event {
    let mut data = Budget::MaxResolves.facts(&used, &ask.max_resolves);
    data.insert("grant".to_owned(), text(&ask.grant));
    data.insert("vendor".to_owned(), text(&ask.vendor));
    data.insert("policy".to_owned(), text(&ask.policy));
    Event {
        id: ask.event.following(),
        kind: THRESHOLD_REACHED.to_owned(),
        timestamp: now,
        livemode: ask.livemode,
        actor: ask.actor.clone(),
        object: ask.grant.to_string(),
        data: Value::Object(data),
        request_id: ask.request_id,
    }
}

fn facts(ask: &ResolveAsk) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("grant".to_owned(), text(&ask.grant));
    data.insert("item".to_owned(), ask.item.into());
    data.insert("vendor".to_owned(), text(&ask.vendor));
    data.insert("policy".to_owned(), text(&ask.policy));
    match &ask.forward {
        None => drop(data.insert("prim".to_owned(), text(&ask.prim))),
        Some(forward) => {
            data.insert("method".to_owned(), forward.method.as_str().into());
            data.insert("rule".to_owned(), forward.rule.as_str().into());
            data.insert("class".to_owned(), forward.class.into());
        }
    }
    data
}

fn add_lease(data: &mut Map<String, Value>, lease: &Lease, version: i64) {
    data.insert("lease".to_owned(), text(&lease.id));
    data.insert("credential".to_owned(), text(&lease.credential));
    data.insert("version".to_owned(), version.into());
    data.insert("state".to_owned(), lease.state.as_str().into());
    data.insert("expires".to_owned(), text(&lease.expires));
}

fn add_refusal(data: &mut Map<String, Value>, refusal: &Refusal) {
    data.insert("code".to_owned(), refusal.code().into());
    match refusal {
        Refusal::GrantNotActive(state) => drop(data.insert("state".to_owned(), state.as_str().into())),
        Refusal::TokenRevoked(id) => drop(data.insert("revocation_id".to_owned(), id.as_str().into())),
        _ => {}
    }
}

fn text(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}
