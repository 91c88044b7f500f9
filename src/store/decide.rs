//! Who gets a key: the decision, without a database. Asks are decided one after another over the rows they touch;
//! each sees what those before it changed. So limits hold however the asks are batched.

mod rate;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use super::ask::{Refusal, ResolveAsk};
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::budget::came_near;
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Event;
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::scope::Name;
use crate::model::sealed::Sealed;
pub(super) use rate::take as take_one;

/// A held key is handed out only if it lives at least so long.
const WORTH_ADOPTING: Ttl = Ttl::from_secs(60);
/// When a worker looks after an intent whose maker was not heard of.
const RECOVERY: Ttl = Ttl::from_secs(60);

/// A grant item and a prim: what has one live lease at most.
pub(super) type Slot = (GrantId, i64, PrincipalId);

/// The rows the asks of a batch touch, as they are now.
#[derive(Default)]
pub(super) struct State {
    pub(super) grants: HashMap<GrantId, GrantRow>,
    /// The theoretical arrival times, in microseconds.
    pub(super) rates: HashMap<String, i64>,
    pub(super) live: HashMap<Slot, Live>,
    /// Active credentials without a prim.
    pub(super) held: HashMap<(GrantId, i64), Vec<Key>>,
    pub(super) counters: HashMap<Name, i64>,
    pub(super) revoked_tokens: HashSet<String>,
    pub(super) nonces: HashSet<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct GrantRow {
    pub(super) state: GrantState,
    pub(super) expires: Timestamp,
    pub(super) resolves: i64,
}

/// A live lease and its key.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) lease: Lease,
    pub(super) key: Key,
}

/// What matters of a credential.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: CredentialId,
    pub(super) state: CredentialState,
    pub(super) version: i64,
    /// The earlier of the ends dekeys and the vendor set.
    pub(super) expires: Timestamp,
    pub(super) sealed: Option<Sealed>,
}

/// What has to be written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The new count of resolves.
    pub(super) grants: HashMap<GrantId, i64>,
    pub(super) rates: HashMap<String, i64>,
    pub(super) new_leases: Vec<Lease>,
    /// The new count of resolves of leases that were there.
    pub(super) counted: HashMap<LeaseId, i64>,
    /// Leases that were there and end.
    pub(super) ended: HashMap<LeaseId, LeaseState>,
    pub(super) new_credentials: Vec<Credential>,
    /// Held credentials that get a prim and a lease.
    pub(super) adopted: Vec<(CredentialId, PrincipalId, LeaseId)>,
    /// Credentials to look after: their state, and since when.
    pub(super) due: Vec<(CredentialId, CredentialState, Timestamp)>,
    /// By how much the live leases of a policy change.
    pub(super) counters: HashMap<Name, i64>,
    pub(super) nonces: Vec<(String, String, Timestamp)>,
}

/// A decision: the outcome but for the proof that it is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Released {
        lease: Lease,
        version: i64,
        sealed: Option<Sealed>,
        fresh: bool,
    },
    Unchanged {
        lease: Lease,
        version: i64,
    },
    Make {
        lease: Lease,
        credential: Box<Credential>,
    },
    Root,
    Wait {
        lease: LeaseId,
    },
    Refused(Refusal),
}

/// Decides one ask. Answers the events to record, the ask's own first; none for [`Verdict::Wait`], which has no effect.
pub(super) fn decide(
    state: &mut State,
    changes: &mut Changes,
    ask: &ResolveAsk,
    now: Timestamp,
) -> (Verdict, [Option<Event>; 2]) {
    let before = uses(state, ask);
    let verdict = admit(state, changes, ask, now).unwrap_or_else(Verdict::Refused);
    let event = record::event(&verdict, ask, now);
    let after = uses(state, ask);
    let near = came_near(before, after, ask.max_resolves).then(|| record::near(ask, after, now));
    (verdict, [event, near])
}

fn uses(state: &State, ask: &ResolveAsk) -> i64 {
    state.grants.get(&ask.grant).map_or(0, |grant| grant.resolves)
}

fn admit(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, now: Timestamp) -> Result<Verdict, Refusal> {
    let nonce = ask
        .nonce
        .as_ref()
        .map(|(holder, nonce, _)| (holder.clone(), nonce.clone()));
    if nonce.as_ref().is_some_and(|nonce| state.nonces.contains(nonce)) {
        return Err(Refusal::NonceReplayed);
    }
    let outcome = judge(state, changes, ask, now);
    // A wait has no effect, so its nonce stays free for the same request later.
    if !matches!(outcome, Ok(Verdict::Wait { .. })) {
        state.nonces.extend(nonce);
        changes.nonces.extend(ask.nonce.clone());
    }
    outcome
}

fn judge(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, now: Timestamp) -> Result<Verdict, Refusal> {
    if let Some(id) = ask.revocation_ids.iter().find(|id| state.revoked_tokens.contains(*id)) {
        return Err(Refusal::TokenRevoked(id.clone()));
    }
    let grant = state.grants.get(&ask.grant).ok_or(Refusal::UnknownGrant)?;
    if grant.state != GrantState::Active {
        return Err(Refusal::GrantNotActive(grant.state));
    }
    if now >= grant.expires.min(ask.grant_expires) {
        return Err(Refusal::GrantExpired);
    }
    let Some(slot) = ask.slot() else {
        return root(state, changes, ask, now);
    };
    match live(state, changes, slot, now) {
        Some(live) if live.key.state == CredentialState::Active => reuse(state, changes, ask, live, now),
        Some(live) => Ok(Verdict::Wait { lease: live.lease.id }),
        None => issue(state, changes, ask, slot, now),
    }
}

/// A use of the root credential itself: counted, but nothing is out that could be ended.
fn root(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, now: Timestamp) -> Result<Verdict, Refusal> {
    refuse_used_up(state, ask)?;
    take_rate(state, changes, ask, now)?;
    take_use(state, changes, ask);
    Ok(Verdict::Root)
}

/// The live lease the ask may use. One that is over, or whose key is not to be had, ends here.
fn live(state: &mut State, changes: &mut Changes, slot: Slot, now: Timestamp) -> Option<Live> {
    let found = state.live.get(&slot)?;
    let usable = match found.key.state {
        CredentialState::Active => found.key.expires > now,
        CredentialState::Intent | CredentialState::Probe => found.lease.state == LeaseState::Pending,
        _ => false,
    };
    if usable && found.lease.expires > now {
        return Some(found.clone());
    }
    let over = state.live.remove(&slot)?;
    let word = if over.lease.expires > now {
        LeaseState::Revoked
    } else {
        LeaseState::Expired
    };
    changes.end(&over, word, now);
    if let Some(live) = state.counters.get_mut(&over.lease.policy) {
        *live -= 1;
    }
    None
}

fn reuse(
    state: &mut State,
    changes: &mut Changes,
    ask: &ResolveAsk,
    live: Live,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let version = live.key.version;
    if ask.known == Some((live.lease.id, version)) {
        take_rate(state, changes, ask, now)?;
        return Ok(Verdict::Unchanged {
            lease: live.lease,
            version,
        });
    }
    refuse_used_up(state, ask)?;
    take_rate(state, changes, ask, now)?;
    take_use(state, changes, ask);
    let mut lease = live.lease;
    lease.resolves += 1;
    if let Some(kept) = state.live.get_mut(&(lease.grant, lease.item, lease.prim)) {
        kept.lease.resolves = lease.resolves;
    }
    changes.count(&lease);
    Ok(Verdict::Released {
        lease,
        version,
        sealed: live.key.sealed,
        fresh: false,
    })
}

/// A new lease: on a key that is held for the first prim that asks, or on one still to be made.
fn issue(
    state: &mut State,
    changes: &mut Changes,
    ask: &ResolveAsk,
    slot: Slot,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    refuse_used_up(state, ask)?;
    let live = state.counters.get(&ask.policy).copied().unwrap_or(0);
    if ask.live_leases.is_some_and(|most| live >= most) {
        return Err(Refusal::TooManyLeases);
    }
    take_rate(state, changes, ask, now)?;
    take_use(state, changes, ask);
    state.counters.insert(ask.policy.clone(), live + 1);
    *changes.counters.entry(ask.policy.clone()).or_default() += 1;
    let held = state.held.get_mut(&(slot.0, slot.1));
    let key = held.and_then(|keys| {
        let place = keys.iter().position(|key| key.expires >= now.plus(WORTH_ADOPTING))?;
        Some(keys.remove(place))
    });
    Ok(match key {
        Some(key) => adopt(state, changes, ask, slot, key, now),
        None => make(state, changes, ask, slot, now),
    })
}

fn adopt(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, slot: Slot, key: Key, now: Timestamp) -> Verdict {
    let mut lease = lease(state, ask, slot, key.id, LeaseState::Active, now);
    lease.expires = lease.expires.min(key.expires);
    changes.adopted.push((key.id, ask.prim, lease.id));
    changes.new_leases.push(lease.clone());
    let (version, sealed) = (key.version, key.sealed.clone());
    state.live.insert(
        slot,
        Live {
            lease: lease.clone(),
            key,
        },
    );
    Verdict::Released {
        lease,
        version,
        sealed,
        fresh: true,
    }
}

fn make(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, slot: Slot, now: Timestamp) -> Verdict {
    let lease = lease(state, ask, slot, ask.new_credential, LeaseState::Pending, now);
    let credential = Credential {
        id: ask.new_credential,
        vendor: ask.vendor.clone(),
        root: ask.root,
        grant: slot.0,
        item: slot.1,
        name: ask.new_name.clone(),
        scopes: ask.scopes.clone(),
        prim: Some(ask.prim),
        lease: Some(lease.id),
        state: CredentialState::Intent,
        attempt: 1,
        vendor_key_id: None,
        vendor_expires: None,
        expires: lease.expires,
        next_at: Some(now.plus(RECOVERY)),
        first_failed: None,
        last_error: None,
        version: 1,
        created: now,
    };
    let key = Key {
        id: credential.id,
        state: credential.state,
        version: credential.version,
        expires: credential.expires,
        sealed: None,
    };
    changes.new_leases.push(lease.clone());
    changes.new_credentials.push(credential.clone());
    state.live.insert(
        slot,
        Live {
            lease: lease.clone(),
            key,
        },
    );
    Verdict::Make {
        lease,
        credential: Box::new(credential),
    }
}

/// The new lease; it ends with its grant at the latest, but for one that serves all grants of a policy.
fn lease(
    state: &State,
    ask: &ResolveAsk,
    slot: Slot,
    credential: CredentialId,
    word: LeaseState,
    now: Timestamp,
) -> Lease {
    let own = state.grants.get(&ask.grant).map(|grant| grant.expires);
    let grant_ends = if slot.0 == ask.grant {
        own.unwrap_or(ask.grant_expires).min(ask.grant_expires)
    } else {
        ask.lease_until
    };
    Lease {
        id: ask.new_lease,
        grant: slot.0,
        item: slot.1,
        prim: slot.2,
        vendor: ask.vendor.clone(),
        policy: ask.policy.clone(),
        credential,
        state: word,
        resolves: 1,
        created: now,
        expires: ask.lease_until.min(grant_ends),
    }
}

fn refuse_used_up(state: &State, ask: &ResolveAsk) -> Result<(), Refusal> {
    match state.grants.get(&ask.grant) {
        Some(grant) if grant.resolves < ask.max_resolves => Ok(()),
        _ => Err(Refusal::UsedUp),
    }
}

fn take_use(state: &mut State, changes: &mut Changes, ask: &ResolveAsk) {
    if let Some(grant) = state.grants.get_mut(&ask.grant) {
        grant.resolves += 1;
        changes.grants.insert(ask.grant, grant.resolves);
    }
}

/// The last check, for it already takes.
fn take_rate(state: &mut State, changes: &mut Changes, ask: &ResolveAsk, now: Timestamp) -> Result<(), Refusal> {
    let Some(limit) = ask.rate else { return Ok(()) };
    let mut taken = Vec::with_capacity(ask.payers.len());
    for name in ask.rate_names() {
        let tat = rate::take(state.rates.get(&name).copied(), limit, now)
            .map_err(|retry_after| Refusal::RateLimited { retry_after })?;
        taken.push((name, tat));
    }
    state.rates.extend(taken.iter().cloned());
    changes.rates.extend(taken);
    Ok(())
}

impl Changes {
    fn count(&mut self, lease: &Lease) {
        match self.new_leases.iter_mut().find(|new| new.id == lease.id) {
            Some(new) => new.resolves = lease.resolves,
            None => drop(self.counted.insert(lease.id, lease.resolves)),
        }
    }

    fn end(&mut self, over: &Live, word: LeaseState, now: Timestamp) {
        match self.new_leases.iter_mut().find(|new| new.id == over.lease.id) {
            Some(new) => new.state = word,
            None => drop(self.ended.insert(over.lease.id, word)),
        }
        *self.counters.entry(over.lease.policy.clone()).or_default() -= 1;
        // An intent's maker may be at the vendor just now: its outcome is looked for, not assumed.
        let next = match over.key.state {
            CredentialState::Active => CredentialState::Revoking,
            CredentialState::Intent | CredentialState::Probe => CredentialState::Probe,
            _ => return,
        };
        match self.new_credentials.iter_mut().find(|new| new.id == over.key.id) {
            Some(new) => (new.state, new.next_at) = (next, Some(now)),
            None => self.due.push((over.key.id, next, now)),
        }
    }
}
