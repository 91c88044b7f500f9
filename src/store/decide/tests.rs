//! The decision against a model of the database: whatever the order of the asks and wherever the batches are cut,
//! no limit is exceeded, and asks one by one are admitted as in one batch.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::base::id::{EventId, RootId};
use crate::base::random::SeededRandom;
use crate::model::budget::is_near;
use crate::model::policy::Rate;

const START: i64 = 1_763_668_267_000;
const GRANTS: usize = 2;
const PRIMS: usize = 3;

/// The tables, as far as the decision reads and changes them.
#[derive(Clone, Default)]
struct Tables {
    grants: HashMap<GrantId, GrantRow>,
    rates: HashMap<String, i64>,
    leases: BTreeMap<LeaseId, Lease>,
    credentials: BTreeMap<CredentialId, (Credential, Option<Sealed>)>,
    counters: HashMap<Name, i64>,
    revoked_tokens: HashSet<String>,
    nonces: HashSet<(String, String)>,
    /// How often each grant was told of as nearly used up.
    told: HashMap<String, usize>,
}

impl Tables {
    fn load(&self, asks: &[ResolveAsk]) -> State {
        let mut state = State {
            rates: self.rates.clone(),
            revoked_tokens: self.revoked_tokens.clone(),
            nonces: self.nonces.clone(),
            counters: self.counters.clone(),
            ..State::default()
        };
        for ask in asks {
            if let Some(grant) = self.grants.get(&ask.grant) {
                state.grants.insert(ask.grant, grant.clone());
            }
        }
        for lease in self.leases.values().filter(|lease| lease.state.is_live()) {
            let slot = (lease.grant, lease.item, lease.prim);
            let live = Live {
                lease: lease.clone(),
                key: self.key(lease.credential),
            };
            assert!(state.live.insert(slot, live).is_none(), "two live leases in one slot");
        }
        for (id, (credential, _)) in &self.credentials {
            if credential.state == CredentialState::Active && credential.prim.is_none() {
                state
                    .held
                    .entry((credential.grant, credential.item))
                    .or_default()
                    .push(self.key(*id));
            }
        }
        state
    }

    fn key(&self, id: CredentialId) -> Key {
        let (credential, sealed) = &self.credentials[&id];
        Key {
            id,
            state: credential.state,
            version: credential.version,
            expires: credential
                .vendor_expires
                .map_or(credential.expires, |end| end.min(credential.expires)),
            sealed: sealed.clone(),
        }
    }

    /// What `batch::write` does with statements.
    fn apply(&mut self, changes: Changes) {
        for (grant, count) in changes.grants {
            self.grants.get_mut(&grant).unwrap().resolves = count;
        }
        self.rates.extend(changes.rates);
        for (lease, word) in changes.ended {
            self.leases.get_mut(&lease).unwrap().state = word;
        }
        for lease in changes.new_leases {
            assert!(self.leases.insert(lease.id, lease).is_none());
        }
        for (lease, count) in changes.counted {
            self.leases.get_mut(&lease).unwrap().resolves = count;
        }
        for credential in changes.new_credentials {
            assert!(self.credentials.insert(credential.id, (credential, None)).is_none());
        }
        for (id, prim, lease) in changes.adopted {
            let credential = &mut self.credentials.get_mut(&id).unwrap().0;
            (credential.prim, credential.lease) = (Some(prim), Some(lease));
        }
        for (id, word, at) in changes.due {
            let credential = &mut self.credentials.get_mut(&id).unwrap().0;
            assert!(credential.state == word || credential.state.may_become(word));
            (credential.state, credential.next_at) = (word, Some(at));
        }
        for (policy, more) in changes.counters {
            *self.counters.entry(policy).or_default() += more;
        }
        for (holder, nonce, _) in changes.nonces {
            assert!(self.nonces.insert((holder, nonce)), "a nonce was claimed twice");
        }
    }

    fn batch(&mut self, asks: &[ResolveAsk]) -> Vec<Verdict> {
        let (mut state, mut changes) = (self.load(asks), Changes::default());
        let verdicts = asks
            .iter()
            .map(|ask| {
                let (verdict, [_, near]) = decide(&mut state, &mut changes, ask, ask.now);
                if let Some(event) = near {
                    assert!(event.id > ask.event, "an event of its own, after the use's");
                    *self.told.entry(event.object).or_default() += 1;
                }
                verdict
            })
            .collect();
        self.apply(changes);
        verdicts
    }

    /// The vendor answers for every lease that waits.
    fn vendor_answers(&mut self) {
        for lease in self
            .leases
            .values_mut()
            .filter(|lease| lease.state == LeaseState::Pending)
        {
            let (credential, sealed) = self.credentials.get_mut(&lease.credential).unwrap();
            if credential.state == CredentialState::Intent {
                lease.state = LeaseState::Active;
                credential.state = CredentialState::Active;
                credential.next_at = None;
                *sealed = Some(Sealed(vec![1]));
            }
        }
    }

    fn check(&self, world: &World) {
        for (id, grant) in &self.grants {
            assert!(grant.resolves <= world.max_resolves, "{} resolves", grant.resolves);
            let near = world.max_resolves >= 5 && is_near(grant.resolves, world.max_resolves);
            let told = self.told.get(&id.to_string()).copied().unwrap_or(0);
            assert_eq!(told, usize::from(near), "{} of {}", grant.resolves, world.max_resolves);
        }
        let live = self.leases.values().filter(|lease| lease.state.is_live()).count();
        assert_eq!(
            i64::try_from(live).unwrap(),
            self.counters.get(&name("p")).copied().unwrap_or(0)
        );
        if let Some(most) = world.live_leases {
            assert!(i64::try_from(live).unwrap() <= most, "{live} live leases");
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// The limits of a case, and the ids it uses.
#[derive(Debug, Clone)]
struct World {
    max_resolves: i64,
    live_leases: Option<i64>,
    rate: Option<Rate>,
    lease_span: i64,
    held: bool,
}

struct Ids {
    grants: Vec<GrantId>,
    prims: Vec<PrincipalId>,
    random: SeededRandom,
}

impl Ids {
    fn new() -> Self {
        let random = SeededRandom::new(1);
        let start = Timestamp::from_millis(START);
        Self {
            grants: (0..GRANTS).map(|_| GrantId::new(start, &random)).collect(),
            prims: (0..PRIMS).map(|_| PrincipalId::new(start, &random)).collect(),
            random,
        }
    }

    fn tables(&self, world: &World) -> Tables {
        let mut tables = Tables::default();
        for grant in &self.grants {
            let row = GrantRow {
                state: GrantState::Active,
                expires: Timestamp::from_millis(START + 400_000),
                resolves: 0,
            };
            tables.grants.insert(*grant, row);
            if world.held {
                let credential = held(*grant, CredentialId::new(Timestamp::from_millis(START), &self.random));
                tables
                    .credentials
                    .insert(credential.id, (credential, Some(Sealed(vec![7]))));
            }
        }
        tables.revoked_tokens.insert("bad".to_owned());
        tables
    }

    fn ask(&self, world: &World, step: &Step, at: i64) -> ResolveAsk {
        let now = Timestamp::from_millis(at);
        ResolveAsk {
            grant: self.grants[step.grant],
            item: 0,
            prim: self.prims[step.prim],
            vendor: name("v"),
            policy: name("p"),
            root: RootId::new(Timestamp::from_millis(START), &SeededRandom::new(2)),
            scopes: vec!["chat:write".parse().unwrap()],
            now,
            grant_expires: Timestamp::from_millis(START + 500_000),
            max_resolves: world.max_resolves,
            lease_until: Timestamp::from_millis(at + world.lease_span),
            payers: payers(step.grant),
            rate: world.rate,
            live_leases: world.live_leases,
            known: None,
            nonce: step.nonce.map(|nonce| ("holder".to_owned(), nonce.to_string(), now)),
            revocation_ids: if step.revoked {
                vec!["good".to_owned(), "bad".to_owned()]
            } else {
                Vec::new()
            },
            new_lease: LeaseId::new(now, &self.random),
            new_credential: CredentialId::new(now, &self.random),
            new_name: String::new(),
            event: EventId::new(now, &self.random),
            actor: "pri_x".to_owned(),
            livemode: false,
            request_id: None,
            forward: None,
        }
    }
}

/// One wallet pays for all grants; each has a principal of its own.
fn payers(grant: usize) -> Vec<String> {
    vec![format!("principal-{grant}"), "wallet".to_owned()]
}

fn held(grant: GrantId, id: CredentialId) -> Credential {
    Credential {
        id,
        vendor: name("v"),
        root: RootId::new(Timestamp::from_millis(START), &SeededRandom::new(2)),
        grant,
        item: 0,
        name: String::new(),
        scopes: Vec::new(),
        prim: None,
        lease: None,
        state: CredentialState::Active,
        attempt: 1,
        vendor_key_id: Some("k".to_owned()),
        vendor_expires: Some(Timestamp::from_millis(START + 200_000)),
        expires: Timestamp::from_millis(START + 300_000),
        next_at: None,
        first_failed: None,
        last_error: None,
        version: 1,
        created: Timestamp::from_millis(START),
    }
}

#[derive(Debug, Clone)]
struct Step {
    grant: usize,
    prim: usize,
    nonce: Option<u8>,
    revoked: bool,
    /// Time since the step before.
    later: i64,
    /// A batch ends before this step.
    cut: bool,
    /// The vendor answers before this step, which ends the batch.
    answers: bool,
}

fn world() -> impl Strategy<Value = World> {
    let rate = proptest::option::of((1..20i64, 1..60_000i64));
    (
        1..25i64,
        proptest::option::of(0..5i64),
        rate,
        1..90_000i64,
        any::<bool>(),
    )
        .prop_map(|(max_resolves, live_leases, rate, lease_span, held)| World {
            max_resolves,
            live_leases,
            rate: rate.map(|(count, per)| Rate {
                count,
                per: Ttl::from_millis(per),
            }),
            lease_span,
            held,
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let nonce = proptest::option::weighted(0.5, 0..40u8);
    let later = prop_oneof![3 => Just(0), 3 => 0..50i64, 1 => 0..20_000i64];
    let step = (
        0..GRANTS,
        0..PRIMS,
        nonce,
        proptest::bool::weighted(0.03),
        later,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(grant, prim, nonce, revoked, later, cut, answers)| Step {
            grant,
            prim,
            nonce,
            revoked,
            later,
            cut,
            answers,
        });
    proptest::collection::vec(step, 1..80)
}

fn asks(ids: &Ids, world: &World, steps: &[Step]) -> Vec<ResolveAsk> {
    let mut at = START;
    let ask = |step: &Step| {
        at += step.later;
        ids.ask(world, step, at)
    };
    steps.iter().map(ask).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_limit_is_exceeded_wherever_batches_are_cut(world in world(), steps in steps()) {
        let ids = Ids::new();
        let asks = asks(&ids, &world, &steps);
        let mut tables = ids.tables(&world);
        let mut resolves: HashMap<GrantId, usize> = HashMap::new();
        let mut admitted: HashMap<String, Vec<i64>> = HashMap::new();
        let mut nonces = HashSet::new();
        let mut from = 0;
        for to in 1..=asks.len() {
            let ends = to == asks.len() || steps[to].cut || steps[to].answers;
            if !ends {
                continue;
            }
            let batch = &asks[from..to];
            for (ask, verdict) in batch.iter().zip(tables.batch(batch)) {
                let got = matches!(verdict, Verdict::Released { .. } | Verdict::Make { .. } | Verdict::Unchanged { .. });
                if got {
                    *resolves.entry(ask.grant).or_default() += 1;
                    for payer in &ask.payers {
                        admitted.entry(payer.clone()).or_default().push(ask.now.as_millis());
                    }
                    prop_assert!(ask.revocation_ids.is_empty());
                    if let Some(nonce) = &ask.nonce {
                        prop_assert!(nonces.insert(nonce.1.clone()), "nonce {} was used twice", nonce.1);
                    }
                }
            }
            tables.check(&world);
            if steps.get(to).is_some_and(|step| step.answers) {
                tables.vendor_answers();
            }
            from = to;
        }
        let most = usize::try_from(world.max_resolves).unwrap();
        prop_assert!(resolves.values().all(|count| *count <= most));
        for times in admitted.values() {
            let Some(rate) = world.rate else { continue };
            for (place, first) in times.iter().enumerate() {
                let within = times[place..].iter().filter(|at| *at - first < rate.per.as_millis()).count();
                prop_assert!(within < usize::try_from(2 * rate.count).unwrap(), "{within} in one span");
                let at_once = times[place..].iter().filter(|at| *at == first).count();
                prop_assert!(at_once <= usize::try_from(rate.count).unwrap(), "{at_once} at once");
            }
        }
    }

    #[test]
    fn one_by_one_is_as_in_one_batch(world in world(), steps in steps()) {
        let ids = Ids::new();
        let asks = asks(&ids, &world, &steps);
        let (mut together, mut alone, mut cut) = (ids.tables(&world), ids.tables(&world), ids.tables(&world));
        // The held keys have the same ids everywhere.
        alone.credentials.clone_from(&together.credentials);
        cut.credentials.clone_from(&together.credentials);
        let at_once = together.batch(&asks);
        let singly: Vec<_> = asks.iter().flat_map(|ask| alone.batch(std::slice::from_ref(ask))).collect();
        prop_assert_eq!(&at_once, &singly);
        let mut pieces = Vec::new();
        let mut rest = asks.as_slice();
        while !rest.is_empty() {
            let done = asks.len() - rest.len();
            let length = steps[done + 1..].iter().position(|step| step.cut).map_or(rest.len(), |place| place + 1);
            let (batch, later) = rest.split_at(length);
            pieces.extend(cut.batch(batch));
            rest = later;
        }
        prop_assert_eq!(&at_once, &pieces);
        prop_assert_eq!(together.leases, alone.leases);
        prop_assert_eq!(together.rates, cut.rates);
    }
}

fn open_world() -> World {
    World {
        max_resolves: 100,
        live_leases: None,
        rate: None,
        lease_span: 60_000,
        held: false,
    }
}

fn step() -> Step {
    Step {
        grant: 0,
        prim: 0,
        nonce: None,
        revoked: false,
        later: 0,
        cut: false,
        answers: false,
    }
}

#[test]
fn the_first_ask_makes_the_second_waits_the_third_gets_the_key() {
    let (ids, world) = (Ids::new(), open_world());
    let mut tables = ids.tables(&world);
    let mut first = ids.ask(&world, &step(), START);
    first.nonce = Some(("h".into(), "1".into(), first.now));
    let mut second = ids.ask(&world, &step(), START);
    second.nonce = Some(("h".into(), "2".into(), second.now));
    let verdicts = tables.batch(&[first.clone(), second.clone()]);
    assert!(matches!(&verdicts[0], Verdict::Make { lease, credential }
        if lease.state == LeaseState::Pending && credential.lease == Some(lease.id) && credential.next_at.is_some()));
    assert_eq!(verdicts[1], Verdict::Wait { lease: first.new_lease });
    assert_eq!(tables.grants[&first.grant].resolves, 1, "a wait is no use");
    assert!(
        !tables.nonces.contains(&("h".into(), "2".into())),
        "a wait claims no nonce"
    );
    tables.vendor_answers();
    let again = tables.batch(&[second.clone()]);
    assert!(matches!(&again[0], Verdict::Released { lease, sealed: Some(_), fresh: false, .. } if lease.resolves == 2));
    assert_eq!(tables.batch(&[second]), [Verdict::Refused(Refusal::NonceReplayed)]);
}

#[test]
fn a_held_key_is_adopted_once_and_only_while_it_is_worth_it() {
    let (ids, world) = (
        Ids::new(),
        World {
            held: true,
            lease_span: 900_000,
            ..open_world()
        },
    );
    let mut tables = ids.tables(&world);
    let first = ids.ask(&world, &step(), START + 1_000);
    let other = ids.ask(&world, &Step { prim: 1, ..step() }, START + 1_000);
    let late = ids.ask(&world, &Step { grant: 1, ..step() }, START + 140_001);
    let verdicts = tables.batch(&[first, other, late]);
    assert!(
        matches!(&verdicts[0], Verdict::Released { lease, fresh: true, .. }
        if lease.expires == Timestamp::from_millis(START + 200_000)),
        "it ends with the vendor's end"
    );
    assert!(
        matches!(verdicts[1], Verdict::Make { .. }),
        "another prim gets a key of its own"
    );
    assert!(
        matches!(verdicts[2], Verdict::Make { .. }),
        "59 seconds are not worth it"
    );
    let adopted = tables
        .credentials
        .values()
        .filter(|(credential, _)| credential.lease.is_some())
        .count();
    assert_eq!(adopted, 3);
}

#[test]
fn what_the_prim_knows_is_not_counted() {
    let (ids, world) = (
        Ids::new(),
        World {
            held: true,
            max_resolves: 1,
            ..open_world()
        },
    );
    let mut tables = ids.tables(&world);
    let first = ids.ask(&world, &step(), START);
    tables.batch(std::slice::from_ref(&first));
    let mut again = ids.ask(&world, &step(), START);
    again.known = Some((first.new_lease, 1));
    assert!(matches!(tables.batch(&[again.clone()])[0], Verdict::Unchanged { .. }));
    again.known = Some((first.new_lease, 2));
    assert_eq!(tables.batch(&[again]), [Verdict::Refused(Refusal::UsedUp)]);
}

#[test]
fn a_lease_that_is_over_ends_before_the_next_one() {
    let (ids, world) = (
        Ids::new(),
        World {
            live_leases: Some(1),
            lease_span: 10,
            ..open_world()
        },
    );
    let mut tables = ids.tables(&world);
    let first = ids.ask(&world, &step(), START);
    tables.batch(std::slice::from_ref(&first));
    tables.vendor_answers();
    let next = ids.ask(&world, &step(), START + 10);
    assert!(matches!(tables.batch(&[next])[0], Verdict::Make { .. }));
    assert_eq!(tables.leases[&first.new_lease].state, LeaseState::Expired);
    let (ended, _) = &tables.credentials[&first.new_credential];
    assert_eq!(
        (ended.state, ended.next_at),
        (CredentialState::Revoking, Some(Timestamp::from_millis(START + 10)))
    );
    tables.check(&world);
}

#[test]
fn refusals_say_why() {
    let (ids, world) = (Ids::new(), open_world());
    let mut tables = ids.tables(&world);
    let mut one = |change: &dyn Fn(&mut ResolveAsk)| {
        let mut ask = ids.ask(&world, &step(), START);
        change(&mut ask);
        tables.batch(&[ask]).remove(0)
    };
    let stranger = GrantId::new(Timestamp::from_millis(9), &SeededRandom::new(9));
    assert_eq!(
        one(&|ask| ask.grant = stranger),
        Verdict::Refused(Refusal::UnknownGrant)
    );
    assert_eq!(
        one(&|ask| ask.grant_expires = ask.now),
        Verdict::Refused(Refusal::GrantExpired)
    );
    assert_eq!(
        one(&|ask| ask.revocation_ids = vec!["bad".to_owned()]),
        Verdict::Refused(Refusal::TokenRevoked("bad".to_owned()))
    );
    assert_eq!(one(&|ask| ask.max_resolves = 0), Verdict::Refused(Refusal::UsedUp));
    assert_eq!(
        one(&|ask| ask.live_leases = Some(0)),
        Verdict::Refused(Refusal::TooManyLeases)
    );
    tables.grants.get_mut(&ids.grants[0]).unwrap().state = GrantState::Revoked;
    assert_eq!(
        tables.batch(&[ids.ask(&world, &step(), START)]),
        [Verdict::Refused(Refusal::GrantNotActive(GrantState::Revoked))]
    );
    assert!(tables.leases.is_empty() && tables.counters.is_empty() && tables.grants[&ids.grants[0]].resolves == 0);
}
