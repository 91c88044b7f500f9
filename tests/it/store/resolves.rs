//! The writer on a real database: the decisions themselves are proved without one, in the module `decide`.

use std::sync::Arc;

use dekeys::base::id::{CredentialId, EventId, LeaseId, PrincipalId};
use dekeys::base::time::{ManualClock, Timestamp, Ttl};
use dekeys::model::control::Stored;
use dekeys::model::credential::CredentialState;
use dekeys::model::grant::{Grant, GrantState};
use dekeys::model::lease::LeaseState;
use dekeys::model::policy::Rate;
use dekeys::model::sealed::Sealed;
use dekeys::store::events::{EventFilter, EventRow};
use dekeys::store::leases::LeaseFilter;
use dekeys::store::writer::{Refusal, ResolveAsk, ResolveOutcome, RevokeAsk, RevokeOutcome, RevokeTarget, Writer};
use dekeys::store::{Page, Store, StoreError};

use super::samples::{Ids, NOW, ask, credential, grant, later, name, stored};

struct Ground {
    store: Store,
    writer: Writer,
    clock: Arc<ManualClock>,
    grant: Stored<Grant>,
}

impl Ground {
    async fn new(store: Store) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let grant = stored(grant("readers"));
        let mut tx = store.begin().await.unwrap();
        tx.insert_grant(&grant).await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        Self {
            writer: Writer::spawn(store.clone(), clock.clone()),
            store,
            clock,
            grant,
        }
    }

    fn ask(&self, prim: PrincipalId) -> ResolveAsk {
        ask(&self.grant.unverified, prim)
    }

    async fn refused(&self, ask: ResolveAsk) -> Refusal {
        match self.writer.resolve(ask).await.unwrap() {
            ResolveOutcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Makes the key of a new lease, as the service does.
    async fn make(&self, ask: ResolveAsk) -> (LeaseId, CredentialId) {
        let ResolveOutcome::Make {
            mut lease,
            mut credential,
            ..
        } = self.writer.resolve(ask).await.unwrap()
        else {
            panic!("nothing to make");
        };
        let mut tx = self.store.begin().await.unwrap();
        (credential.state, credential.next_at) = (CredentialState::Active, None);
        credential.vendor_key_id = Some("vk".to_owned());
        tx.save_created(&credential, &Sealed(vec![1, 2, 254])).await.unwrap();
        lease.state = LeaseState::Active;
        tx.update_lease(&lease).await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        (lease.id, credential.id)
    }

    async fn events(&self, kind: &str) -> Vec<EventRow> {
        let filter = EventFilter {
            kind_prefix: Some(kind.to_owned()),
            after_n: Some(0),
            ..EventFilter::default()
        };
        self.store.read().await.unwrap().events(&filter, 1_000).await.unwrap()
    }

    async fn live(&self) -> i64 {
        self.store
            .read()
            .await
            .unwrap()
            .live_leases(&name("readers"))
            .await
            .unwrap()
    }
}

fn revoke(target: RevokeTarget) -> RevokeAsk {
    let kind = match target {
        RevokeTarget::Lease(_) => "lease.revoked",
        RevokeTarget::Grant(_) => "grant.revoked",
    };
    RevokeAsk {
        target,
        now: NOW,
        event: EventId::new(NOW, &Ids),
        kind: kind.to_owned(),
        actor: "pri_ada".to_owned(),
        livemode: false,
        request_id: None,
        data: serde_json::Map::new(),
    }
}

fn prim() -> PrincipalId {
    PrincipalId::new(NOW, &Ids)
}

pub(super) async fn a_key_is_made_awaited_and_released(store: Store) {
    let ground = Ground::new(store).await;
    let prim = prim();
    let first = ground.ask(prim);
    let ResolveOutcome::Make {
        lease,
        credential,
        committed,
    } = ground.writer.resolve(first.clone()).await.unwrap()
    else {
        panic!("a key should be made");
    };
    assert_eq!(
        (committed.event(), committed.object(), committed.version()),
        (first.event, first.root.to_string().as_str(), 1)
    );
    let mut tx = ground.store.read().await.unwrap();
    assert_eq!(tx.lease(first.new_lease).await.unwrap().as_ref(), Some(&lease));
    assert_eq!(
        tx.credential(first.new_credential).await.unwrap().as_ref(),
        Some(&*credential)
    );
    assert_eq!(tx.grant(first.grant).await.unwrap().unwrap().1, 1);
    tx.end().await.unwrap();
    assert_eq!(ground.live().await, 1);

    let waits = ground.writer.resolve(ground.ask(prim)).await.unwrap();
    assert!(matches!(waits, ResolveOutcome::Wait { lease: id } if id == lease.id));
    let mut made = *credential.clone();
    (made.state, made.next_at) = (CredentialState::Active, None);
    let mut tx = ground.store.begin().await.unwrap();
    tx.save_created(&made, &Sealed(vec![1, 2, 254])).await.unwrap();
    let mut active = lease.clone();
    active.state = LeaseState::Active;
    tx.update_lease(&active).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();

    let second = ground.ask(prim);
    let ResolveOutcome::Released {
        lease: again,
        credential,
        version,
        sealed,
        committed,
    } = ground.writer.resolve(second.clone()).await.unwrap()
    else {
        panic!("the key should be released");
    };
    assert_eq!(
        (again.id, again.resolves, credential, version),
        (lease.id, 2, made.id, 1)
    );
    assert_eq!(sealed, Some(Sealed(vec![1, 2, 254])));
    assert_eq!(
        (committed.event(), committed.object(), committed.version()),
        (second.event, made.id.to_string().as_str(), 1)
    );
    let mut known = ground.ask(prim);
    known.known = Some((lease.id, 1));
    assert!(matches!(
        ground.writer.resolve(known).await.unwrap(),
        ResolveOutcome::Unchanged { .. }
    ));
    let kinds = |events: Vec<EventRow>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(kinds(ground.events("lease.created").await), [first.event]);
    assert_eq!(ground.events("lease.resolved").await.len(), 2);
    let mut tx = ground.store.read().await.unwrap();
    assert_eq!(tx.lease(lease.id).await.unwrap().unwrap().resolves, 2);
    assert_eq!(tx.grant(first.grant).await.unwrap().unwrap().1, 2);
    assert_eq!(tx.high_water().await.unwrap(), NOW);
}

pub(super) async fn a_held_key_is_adopted(store: Store) {
    let ground = Ground::new(store).await;
    let mut held = credential(ground.grant.unverified.id, CredentialState::Intent);
    held.vendor_expires = Some(later(300));
    let mut tx = ground.store.begin().await.unwrap();
    tx.insert_credential(&held).await.unwrap();
    (held.state, held.next_at) = (CredentialState::Active, None);
    tx.save_created(&held, &Sealed(vec![7])).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    let first = ground.ask(prim());
    let outcome = ground.writer.resolve(first.clone()).await.unwrap();
    let ResolveOutcome::Released {
        lease,
        credential,
        sealed,
        ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (credential, sealed, lease.expires),
        (held.id, Some(Sealed(vec![7])), later(300))
    );
    let mut tx = ground.store.read().await.unwrap();
    let kept = tx.credential(held.id).await.unwrap().unwrap();
    assert_eq!((kept.prim, kept.lease), (Some(first.prim), Some(lease.id)));
    tx.end().await.unwrap();
    let other = ground.writer.resolve(ground.ask(prim())).await.unwrap();
    assert!(matches!(other, ResolveOutcome::Make { .. }), "adopted once");
}

pub(super) async fn limits_hold_among_many_at_once(store: Store) {
    let ground = Ground::new(store).await;
    let (one, nonce) = (prim(), "n".to_owned());
    ground.make(ground.ask(one)).await;
    // While this transaction is open the asks gather, so that they fill a batch.
    let gate = ground.store.begin().await.unwrap();
    let mut waiting = Vec::new();
    for place in 0..300 {
        let mut ask = ground.ask(if place % 3 == 0 { prim() } else { one });
        ask.live_leases = Some(11);
        if place % 10 == 1 {
            ask.nonce = Some(("holder".to_owned(), nonce.clone(), later(90)));
        }
        let writer = ground.writer.clone();
        waiting.push(tokio::spawn(async move { writer.resolve(ask).await.unwrap() }));
    }
    gate.commit(&[], &[]).await.unwrap();
    let (mut made, mut released, mut replayed, mut full, mut used_up) = (0, 0, 0, 0, 0);
    for outcome in waiting {
        match outcome.await.unwrap() {
            ResolveOutcome::Make { .. } => made += 1,
            ResolveOutcome::Released { .. } => released += 1,
            ResolveOutcome::Refused(Refusal::NonceReplayed) => replayed += 1,
            ResolveOutcome::Refused(Refusal::TooManyLeases) => full += 1,
            ResolveOutcome::Refused(Refusal::UsedUp) => used_up += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made, 10, "one lease was live before");
    assert_eq!(
        (made + released, replayed),
        (99, 29),
        "one use was taken before; one nonce of thirty counts"
    );
    assert_eq!(made + released + replayed + full + used_up, 300);
    let mut tx = ground.store.read().await.unwrap();
    assert_eq!(tx.grant(ground.grant.unverified.id).await.unwrap().unwrap().1, 100);
    let filter = LeaseFilter {
        state: Some(LeaseState::Pending),
        ..LeaseFilter::default()
    };
    assert_eq!(tx.leases(&filter, &Page::first(99)).await.unwrap().len(), 10);
    tx.end().await.unwrap();
    assert_eq!(ground.live().await, 11);
    assert_eq!(ground.events("lease.").await.len(), 301, "each has its event");
    let rows = ground.store.read().await.unwrap().chain(1, 999).await.unwrap();
    assert!(
        rows.windows(2)
            .all(|pair| pair[1].prev == pair[0].digest && pair[1].n == pair[0].n + 1)
    );
}

pub(super) async fn a_revoked_grant_is_over_for_those_who_wait(store: Store) {
    let ground = Ground::new(store).await;
    let one = prim();
    let (lease, key) = ground.make(ground.ask(one)).await;
    let pending = ground.ask(prim());
    assert!(matches!(
        ground.writer.resolve(pending.clone()).await.unwrap(),
        ResolveOutcome::Make { .. }
    ));
    let mut held = credential(ground.grant.unverified.id, CredentialState::Active);
    held.next_at = None;
    let mut tx = ground.store.begin().await.unwrap();
    tx.insert_credential(&held).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();

    let gate = ground.store.begin().await.unwrap();
    let mut row = ground.grant.clone();
    row.unverified.state = GrantState::Revoked;
    let request = revoke(RevokeTarget::Grant(Box::new(row.clone())));
    let writer = ground.writer.clone();
    let first = tokio::spawn({
        let (writer, request) = (writer.clone(), request.clone());
        async move { writer.revoke(request).await.unwrap() }
    });
    tokio::task::yield_now().await;
    let late = tokio::spawn({
        let ask = ground.ask(one);
        async move { writer.resolve(ask).await.unwrap() }
    });
    gate.commit(&[], &[]).await.unwrap();
    let mut outcome = first.await.unwrap();
    outcome.credentials.sort();
    let mut keys = vec![key, pending.new_credential, held.id];
    keys.sort();
    assert_eq!(
        (outcome.changed, outcome.leases.len(), &outcome.credentials),
        (true, 2, &keys)
    );
    // Whichever came first: the late one has a record before the end, or none after it.
    let _ = late.await.unwrap();
    assert_eq!(
        ground.refused(ground.ask(one)).await,
        Refusal::GrantNotActive(GrantState::Revoked)
    );
    let mut tx = ground.store.read().await.unwrap();
    assert_eq!(tx.grant(row.unverified.id).await.unwrap().unwrap().0, row);
    assert_eq!(tx.lease(lease).await.unwrap().unwrap().state, LeaseState::Revoked);
    let states = [
        (key, CredentialState::Revoking),
        (held.id, CredentialState::Revoking),
        (pending.new_credential, CredentialState::Probe),
    ];
    for (id, state) in states {
        let kept = tx.credential(id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.next_at), (state, Some(NOW)));
    }
    tx.end().await.unwrap();
    assert_eq!(ground.live().await, 0);
    let mut again = request;
    again.event = EventId::new(NOW, &Ids);
    assert_eq!(
        ground.writer.revoke(again).await.unwrap(),
        RevokeOutcome::default(),
        "nothing is left to end"
    );
    assert_eq!(ground.events("grant.revoked").await.len(), 1);
}

pub(super) async fn a_revoked_lease_ends_alone(store: Store) {
    let ground = Ground::new(store).await;
    let (lease, key) = ground.make(ground.ask(prim())).await;
    let (other, _) = ground.make(ground.ask(prim())).await;
    let outcome = ground.writer.revoke(revoke(RevokeTarget::Lease(lease))).await.unwrap();
    assert_eq!(
        outcome,
        RevokeOutcome {
            changed: true,
            leases: vec![lease],
            credentials: vec![key]
        }
    );
    assert!(
        !ground
            .writer
            .revoke(revoke(RevokeTarget::Lease(lease)))
            .await
            .unwrap()
            .changed
    );
    assert_eq!(ground.live().await, 1);
    assert_eq!(
        ground
            .store
            .read()
            .await
            .unwrap()
            .lease(other)
            .await
            .unwrap()
            .unwrap()
            .state,
        LeaseState::Active
    );
    let stranger = revoke(RevokeTarget::Lease(LeaseId::new(NOW, &Ids)));
    assert!(matches!(
        ground.writer.revoke(stranger).await,
        Err(StoreError::Absent("lease"))
    ));
}

pub(super) async fn what_ends_by_time_is_called_expired(store: Store) {
    let ground = Ground::new(store).await;
    let (first, _) = ground.make(ground.ask(prim())).await;
    let (second, _) = ground.make(ground.ask(prim())).await;
    ground.clock.advance(Ttl::from_secs(900));
    let outcome = ground.writer.revoke(revoke(RevokeTarget::Lease(first))).await.unwrap();
    assert_eq!(outcome.leases, [first]);
    let mut row = ground.grant.clone();
    row.unverified.state = GrantState::Expired;
    let outcome = ground
        .writer
        .revoke(revoke(RevokeTarget::Grant(Box::new(row))))
        .await
        .unwrap();
    assert_eq!(outcome.leases, [second]);
    let mut tx = ground.store.read().await.unwrap();
    for lease in [first, second] {
        assert_eq!(tx.lease(lease).await.unwrap().unwrap().state, LeaseState::Expired);
    }
}

pub(super) async fn an_expired_lease_is_replaced(store: Store) {
    let ground = Ground::new(store).await;
    let one = prim();
    let (lease, key) = ground.make(ground.ask(one)).await;
    ground.clock.advance(Ttl::from_secs(900));
    let mut next = ground.ask(one);
    next.lease_until = later(1_800);
    next.live_leases = Some(1);
    let outcome = ground.writer.resolve(next).await.unwrap();
    assert!(
        matches!(outcome, ResolveOutcome::Make { .. }),
        "the writer's clock counts, not the caller's: {outcome:?}"
    );
    let mut tx = ground.store.read().await.unwrap();
    assert_eq!(tx.lease(lease).await.unwrap().unwrap().state, LeaseState::Expired);
    let ended = tx.credential(key).await.unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.next_at),
        (CredentialState::Revoking, Some(later(900)))
    );
    tx.end().await.unwrap();
    assert_eq!(ground.live().await, 1);
}

pub(super) async fn refusals_are_on_record(store: Store) {
    let ground = Ground::new(store).await;
    let one = prim();
    let mut asks = Vec::new();
    let mut tx = ground.store.begin().await.unwrap();
    tx.revoke_token("bad", later(60), NOW).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    ground.make(ground.ask(one)).await;
    let mut revoked = ground.ask(one);
    revoked.revocation_ids.push("bad".to_owned());
    asks.push((revoked, Refusal::TokenRevoked("bad".to_owned())));
    let mut unknown = ground.ask(one);
    unknown.grant = grant("x").id;
    asks.push((unknown, Refusal::UnknownGrant));
    let mut over = ground.ask(one);
    over.grant_expires = NOW;
    asks.push((over, Refusal::GrantExpired));
    let mut none = ground.ask(one);
    none.max_resolves = 1;
    asks.push((none, Refusal::UsedUp));
    let mut full = ground.ask(prim());
    full.live_leases = Some(1);
    asks.push((full, Refusal::TooManyLeases));
    let mut signed = ground.ask(one);
    signed.nonce = Some(("h".to_owned(), "quote \" and \\ and ü".to_owned(), later(90)));
    let mut replayed = signed.clone();
    (replayed.event, replayed.new_lease) = (EventId::new(NOW, &Ids), LeaseId::new(NOW, &Ids));
    assert!(matches!(
        ground.writer.resolve(signed).await.unwrap(),
        ResolveOutcome::Released { .. }
    ));
    asks.push((replayed, Refusal::NonceReplayed));
    let mut fast = ground.ask(one);
    fast.rate = Some(Rate {
        count: 1,
        per: Ttl::from_mins(1),
    });
    let mut faster = ground.ask(one);
    faster.rate = fast.rate;
    assert!(matches!(
        ground.writer.resolve(fast).await.unwrap(),
        ResolveOutcome::Released { .. }
    ));
    asks.push((
        faster,
        Refusal::RateLimited {
            retry_after: Ttl::from_mins(1),
        },
    ));
    let count = asks.len();
    for (ask, refusal) in asks {
        let event = ask.event;
        assert_eq!(ground.refused(ask).await, refusal);
        let row = ground.store.read().await.unwrap().event(event).await.unwrap().unwrap();
        assert!(
            row.body.contains("\"lease.refused\"") && row.body.contains(refusal.code()),
            "{}",
            row.body
        );
    }
    assert_eq!(ground.events("lease.refused").await.len(), count);
}

pub(super) async fn one_bad_ask_does_not_fail_the_batch(store: Store) {
    let ground = Ground::new(store).await;
    let gate = ground.store.begin().await.unwrap();
    let (good, mut bad, other) = (ground.ask(prim()), ground.ask(prim()), ground.ask(prim()));
    bad.event = good.event;
    let mut waiting = Vec::new();
    for ask in [good, bad, other] {
        let writer = ground.writer.clone();
        waiting.push(tokio::spawn(async move { writer.resolve(ask).await }));
        tokio::task::yield_now().await;
    }
    gate.commit(&[], &[]).await.unwrap();
    let mut outcomes = Vec::new();
    for outcome in waiting {
        outcomes.push(outcome.await.unwrap());
    }
    let made = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(ResolveOutcome::Make { .. })))
        .count();
    let double = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(StoreError::Duplicate)))
        .count();
    assert_eq!((made, double), (2, 1), "{outcomes:?}");
    assert_eq!(ground.live().await, 2, "the one that failed left nothing");
    let mut nul = ground.ask(prim());
    nul.actor = "\0".to_owned();
    assert!(matches!(ground.writer.resolve(nul).await, Err(StoreError::Nul)));
}

pub(super) async fn a_full_lane_is_busy_and_a_stopped_writer_says_so(store: Store) {
    let ground = Ground::new(store).await;
    let gate = ground.store.begin().await.unwrap();
    let (one, mut waiting) = (prim(), Vec::new());
    // The lane holds 1024; the batch that stands at the gate holds up to 512 more.
    for _ in 0..1_700 {
        let (writer, ask) = (ground.writer.clone(), ground.ask(one));
        waiting.push(tokio::spawn(async move { writer.resolve(ask).await }));
    }
    while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    let stopping = tokio::spawn({
        let writer = ground.writer.clone();
        async move { writer.stop().await }
    });
    gate.commit(&[], &[]).await.unwrap();
    stopping.await.unwrap();
    let (mut answered, mut busy) = (0, 0);
    for outcome in waiting {
        match outcome.await.unwrap() {
            Ok(_) => answered += 1,
            Err(StoreError::Busy) => busy += 1,
            // Asked after the stop.
            Err(StoreError::Stopped) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(busy > 0 && answered >= 1_024, "{answered} answered, {busy} busy");
    assert!(matches!(
        ground.writer.resolve(ground.ask(one)).await,
        Err(StoreError::Stopped)
    ));
    let lease = LeaseId::new(NOW, &Ids);
    let late = ground.writer.revoke(revoke(RevokeTarget::Lease(lease))).await;
    assert!(matches!(late, Err(StoreError::Stopped)));
    ground.writer.stop().await;
}

pub(super) async fn a_clock_far_behind_refuses(store: Store) {
    let ground = Ground::new(store).await;
    let ahead = |millis: i64| Timestamp::from_millis(NOW.as_millis() + millis);
    for (high_water, refused) in [(ahead(30_000), false), (ahead(30_001), true)] {
        let mut tx = ground.store.begin().await.unwrap();
        tx.raise_high_water(high_water).await.unwrap();
        tx.commit(&[], &[]).await.unwrap();
        let outcome = ground.writer.resolve(ground.ask(prim())).await;
        assert_eq!(matches!(outcome, Err(StoreError::ClockBehind)), refused, "{outcome:?}");
    }
    let event = &ground.events("lease.created").await[0];
    assert_eq!(event.at, ahead(30_000), "the database's time counts when it is ahead");
}
