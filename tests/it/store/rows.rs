//! Every table: what goes in comes back, what may happen once happens once.

use dekeys::base::canonical::Digest;
use dekeys::base::id::{CredentialId, EntryId, EventId, GrantId, IncarnationId, PrincipalId, ReceiptId, ReviewId};
use dekeys::base::money::{Currency, Money};
use dekeys::base::time::{Timestamp, Ttl};
use dekeys::model::approval::{ApprovalState, Review, Verdict};
use dekeys::model::control::Mac;
use dekeys::model::credential::{Credential, CredentialState};
use dekeys::model::credit::CreditUse;
use dekeys::model::grant::GrantState;
use dekeys::model::lease::{Lease, LeaseState};
use dekeys::model::ledger::{Account, Act, Entry, UsageBy};
use dekeys::model::payment::PurchaseState;
use dekeys::model::policy::{PolicyState, Rate};
use dekeys::model::principal::PrincipalKind;
use dekeys::model::sealed::Sealed;
use dekeys::store::credentials::CredentialFilter;
use dekeys::store::grants::GrantFilter;
use dekeys::store::leases::LeaseFilter;
use dekeys::store::ledger::EntryFilter;
use dekeys::store::nonces::IdempotencyOutcome;
use dekeys::store::purchases::Claim;
use dekeys::store::status::{Counts, InState};
use dekeys::store::{Page, Store, StoreError};

use super::samples::{
    self, Ids, NOW, approval, credential, credit, grant, instance, later, lease, name, pin, policy, principal,
    public_key, purchase, root, stored,
};

fn sealed(byte: u8) -> Sealed {
    Sealed(vec![byte, 0, 255])
}

pub(super) async fn an_instance_is_fixed_once(store: Store) {
    let mut row = stored(instance());
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.instance().await.unwrap(), None);
    tx.insert_instance(&row).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.instance().await.unwrap(), Some(row.clone()));
    assert!(matches!(
        tx.insert_instance(&stored(instance())).await,
        Err(StoreError::Duplicate)
    ));
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    row.unverified.incarnation = IncarnationId::new(NOW, &Ids);
    row.mac = Mac([9; 32]);
    tx.set_incarnation(&row).await.unwrap();
    assert_eq!(tx.instance().await.unwrap(), Some(row));
    assert!(matches!(
        tx.set_incarnation(&stored(instance())).await,
        Err(StoreError::Absent("instance"))
    ));
}

pub(super) async fn the_keyring_is_replaced_and_wraps_are_promised_once(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.keyring().await.unwrap(), None);
    tx.save_keyring("{\"a\":1}").await.unwrap();
    tx.save_keyring("{\"b\":2}").await.unwrap();
    assert_eq!(tx.keyring().await.unwrap().as_deref(), Some("{\"b\":2}"));
    assert_eq!(tx.reserve_wraps(1_000).await.unwrap(), (0, 1_000));
    tx.commit(&[], &[]).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.reserve_wraps(10).await.unwrap(), (1_000, 1_010));
    tx.restart_wraps(7).await.unwrap();
    assert_eq!(tx.reserve_wraps(10).await.unwrap(), (7, 17), "a fresh key counts anew");
}

pub(super) async fn signing_keys_are_kept_in_order(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.insert_signing_key("token", 2, "ed25519:b", &sealed(2), later(1))
        .await
        .unwrap();
    tx.insert_signing_key("token", 1, "ed25519:a", &sealed(1), NOW)
        .await
        .unwrap();
    tx.insert_signing_key("log", 1, "ed25519:c", &sealed(3), NOW)
        .await
        .unwrap();
    let keys = tx.signing_keys("token").await.unwrap();
    assert_eq!(keys.iter().map(|key| key.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        (keys[1].public.as_str(), &keys[1].sealed, keys[1].created),
        ("ed25519:b", &sealed(2), later(1))
    );
    tx.retire_signing_key("token", 1, later(2)).await.unwrap();
    let keys = tx.signing_keys("token").await.unwrap();
    assert_eq!(
        keys.iter().map(|key| key.retired).collect::<Vec<_>>(),
        [Some(later(2)), None]
    );
    let twice = tx.retire_signing_key("token", 1, later(3)).await;
    assert!(matches!(twice, Err(StoreError::Absent("signing key"))));
    tx.endorse_signing_key("log", 1, "signature").await.unwrap();
    let logs = tx.signing_keys("log").await.unwrap();
    assert_eq!(logs[0].endorsed.as_deref(), Some("signature"));
    assert!(tx.endorse_signing_key("log", 7, "signature").await.is_err());
    let again = tx.insert_signing_key("log", 1, "ed25519:d", &sealed(4), NOW).await;
    assert!(matches!(again, Err(StoreError::Duplicate)));
}

pub(super) async fn the_clock_never_goes_back(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.high_water().await.unwrap(), Timestamp::from_millis(0));
    tx.raise_high_water(later(5)).await.unwrap();
    tx.raise_high_water(NOW).await.unwrap();
    assert_eq!(tx.high_water().await.unwrap(), later(5));
    // An event of an earlier time does not lower it either, a later one raises it.
    tx.commit(&[samples::event("a.b", "x")], &[]).await.unwrap();
    let mut late = samples::event("a.b", "x");
    late.timestamp = later(9);
    assert_eq!(store.read().await.unwrap().high_water().await.unwrap(), later(5));
    store.begin().await.unwrap().commit(&[late], &[]).await.unwrap();
    assert_eq!(store.read().await.unwrap().high_water().await.unwrap(), later(9));
}

pub(super) async fn principals_are_found_by_everything_they_have(store: Store) {
    let mut ada = stored(principal("ada", PrincipalKind::Human));
    let prim = stored(principal("prim", PrincipalKind::Prim));
    let mut tx = store.begin().await.unwrap();
    tx.insert_principal(&ada).await.unwrap();
    tx.insert_principal(&prim).await.unwrap();
    let lost = ada.unverified.keys[0];
    ada.unverified.keys = vec![public_key()];
    ada.unverified.wallets.push("eip155:1:0xnew".to_owned());
    ada.unverified.disabled = true;
    ada.mac = Mac([1; 32]);
    tx.update_principal(&ada).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();

    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.principal(ada.unverified.id).await.unwrap().as_ref(), Some(&ada));
    assert_eq!(tx.principal_by_name(&name("ada")).await.unwrap().as_ref(), Some(&ada));
    assert_eq!(
        tx.principal_by_key(&ada.unverified.keys[0]).await.unwrap().as_ref(),
        Some(&ada)
    );
    assert_eq!(tx.principal_by_key(&lost).await.unwrap(), None);
    assert_eq!(
        tx.principal_by_wallet("eip155:1:0xnew").await.unwrap().as_ref(),
        Some(&ada)
    );
    assert_eq!(tx.principal_by_wallet("eip155:1:0xNEW").await.unwrap(), None);
    let prims = tx.principals(Some(PrincipalKind::Prim), &Page::first(9)).await.unwrap();
    assert_eq!(prims, std::slice::from_ref(&prim));
    let first = tx.principals(None, &Page::first(1)).await.unwrap();
    let after = Some(first[0].unverified.id.to_string());
    let second = tx.principals(None, &Page { limit: 9, after }).await.unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(first[0].unverified.id > second[0].unverified.id, "newest first");
    tx.end().await.unwrap();

    let mut double = stored(principal("double", PrincipalKind::Agent));
    double.unverified.keys = ada.unverified.keys.clone();
    let mut tx = store.begin().await.unwrap();
    assert!(
        matches!(tx.insert_principal(&double).await, Err(StoreError::Duplicate)),
        "a key proves one principal"
    );
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    let stranger = tx.update_principal(&stored(principal("x", PrincipalKind::Agent))).await;
    assert!(matches!(stranger, Err(StoreError::Absent("principal"))));
}

pub(super) async fn manifests_are_pinned_and_one_root_is_current(store: Store) {
    let mut tx = store.begin().await.unwrap();
    tx.save_manifest_pin(&stored(pin("b"))).await.unwrap();
    let (mut again, other) = (stored(pin("b")), stored(pin("a")));
    again.unverified.text.push('x');
    tx.save_manifest_pin(&again).await.unwrap();
    tx.save_manifest_pin(&other).await.unwrap();
    assert_eq!(tx.manifest_pin(&name("b")).await.unwrap().as_ref(), Some(&again));
    assert_eq!(tx.manifest_pins().await.unwrap(), [other, again]);
    assert_eq!(tx.manifest_pin(&name("c")).await.unwrap(), None);

    let (mut old, mut new) = (stored(root("b")), stored(root("b")));
    new.unverified.base_url = None;
    tx.insert_root(&old, &sealed(1)).await.unwrap();
    old.unverified.current = false;
    tx.update_root(&old).await.unwrap();
    tx.insert_root(&new, &sealed(2)).await.unwrap();
    assert_eq!(tx.root_times().await.unwrap(), [(name("b"), new.unverified.created)]);
    assert_eq!(tx.current_root(&name("b")).await.unwrap(), Some((new, sealed(2))));
    assert_eq!(tx.root(old.unverified.id).await.unwrap(), Some((old, sealed(1))));
    assert_eq!(tx.current_root(&name("a")).await.unwrap(), None);
    assert!(matches!(
        tx.insert_root(&stored(root("b")), &sealed(3)).await,
        Err(StoreError::Duplicate)
    ));
}

pub(super) async fn one_version_of_a_policy_is_active(store: Store) {
    let (mut first, second) = (stored(policy("readers", 1)), stored(policy("readers", 2)));
    let other = stored(policy("a-writers", 1));
    let mut tx = store.begin().await.unwrap();
    tx.insert_policy(&first).await.unwrap();
    tx.insert_policy(&other).await.unwrap();
    first.unverified.state = PolicyState::Replaced;
    first.mac = Mac([3; 32]);
    tx.update_policy(&first).await.unwrap();
    tx.insert_policy(&second).await.unwrap();
    assert_eq!(tx.active_policies().await.unwrap(), [other, second.clone()]);
    assert_eq!(
        tx.active_policy(&name("readers")).await.unwrap().as_ref(),
        Some(&second)
    );
    assert_eq!(
        tx.policy_version(&name("readers"), 1).await.unwrap().as_ref(),
        Some(&first)
    );
    assert_eq!(tx.policy_version(&name("readers"), 3).await.unwrap(), None);
    assert_eq!(tx.policy_versions(&name("readers")).await.unwrap(), [second, first]);
    assert!(matches!(
        tx.insert_policy(&stored(policy("readers", 3))).await,
        Err(StoreError::Duplicate)
    ));
}

pub(super) async fn a_decided_approval_stays_decided_and_nobody_votes_twice(store: Store) {
    let mut row = stored(approval());
    let id = row.unverified.id;
    let mut tx = store.begin().await.unwrap();
    tx.insert_approval(&row).await.unwrap();
    assert_eq!(tx.approval(id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(tx.approvals_due(later(3_599), 9).await.unwrap(), []);
    assert_eq!(tx.approvals_due(later(3_600), 9).await.unwrap(), [row.clone()]);
    let ada = principal("ada", PrincipalKind::Human);
    let mut review = Review {
        id: ReviewId::new(NOW, &Ids),
        approval: id,
        principal: ada.id,
        name: ada.name,
        verdict: Verdict::Approve,
        comment: "fine".to_owned(),
        digest: row.unverified.subject.digest(),
        key: ada.keys[0],
        signature: vec![5; 64],
        created: NOW,
    };
    assert!(tx.insert_review(&review).await.unwrap());
    let first = review.clone();
    review.id = ReviewId::new(NOW, &Ids);
    review.verdict = Verdict::Deny;
    assert!(!tx.insert_review(&review).await.unwrap());
    assert_eq!(tx.reviews(id).await.unwrap(), [first]);
    row.unverified.state = ApprovalState::Approved;
    tx.update_approval(&row).await.unwrap();
    assert_eq!(
        tx.approvals(Some(ApprovalState::Approved), None, &Page::first(9))
            .await
            .unwrap(),
        [row.clone()]
    );
    assert_eq!(
        tx.approvals(Some(ApprovalState::Pending), None, &Page::first(9))
            .await
            .unwrap(),
        []
    );
    let requester = row.unverified.requester;
    for (of, found) in [(requester, vec![row.clone()]), (ada.id, Vec::new())] {
        assert_eq!(tx.approvals(None, Some(of), &Page::first(9)).await.unwrap(), found);
    }
    let page = Page {
        limit: 9,
        after: Some(id.to_string()),
    };
    assert_eq!(tx.approvals(None, None, &page).await.unwrap(), []);
    row.unverified.state = ApprovalState::Denied;
    assert!(matches!(tx.update_approval(&row).await, Err(StoreError::Absent(_))));
}

pub(super) async fn grants_come_back_as_they_went_in(store: Store) {
    let (mut full, mut bare) = (stored(grant("readers")), stored(grant("readers")));
    full.unverified.items.push(grant("writers").items.remove(0));
    (bare.unverified.holder, bare.unverified.payer) = (None, None);
    bare.unverified.asked = None;
    bare.unverified.audience = Vec::new();
    bare.unverified.state = GrantState::Provisioning;
    let mut tx = store.begin().await.unwrap();
    tx.insert_grant(&full).await.unwrap();
    tx.insert_grant(&bare).await.unwrap();
    tx.commit(&[], &[]).await.unwrap();
    let mut tx = store.read().await.unwrap();
    assert_eq!(tx.grant(full.unverified.id).await.unwrap(), Some((full.clone(), 0)));
    assert_eq!(tx.grant(bare.unverified.id).await.unwrap(), Some((bare.clone(), 0)));
    assert_eq!(tx.grant(GrantId::new(NOW, &Ids)).await.unwrap(), None);
    let all = tx.grants(&GrantFilter::default(), &Page::first(9)).await.unwrap();
    assert_eq!(all.len(), 2);
    let writers = GrantFilter {
        policy: Some(name("writers")),
        ..GrantFilter::default()
    };
    assert_eq!(tx.grants(&writers, &Page::first(9)).await.unwrap(), [full.clone()]);
    let of_bare = GrantFilter {
        principal: Some(bare.unverified.principal),
        ..GrantFilter::default()
    };
    assert_eq!(tx.grants(&of_bare, &Page::first(9)).await.unwrap(), [bare.clone()]);
    let held = GrantFilter {
        holder: full.unverified.holder,
        ..GrantFilter::default()
    };
    assert!(held.holder.is_some());
    assert_eq!(tx.grants(&held, &Page::first(9)).await.unwrap(), [full.clone()]);
    let both = GrantFilter {
        state: Some(GrantState::Active),
        policy: Some(name("readers")),
        ..of_bare.clone()
    };
    assert_eq!(tx.grants(&both, &Page::first(9)).await.unwrap(), []);
    let after = Some(all[0].unverified.id.to_string());
    assert_eq!(
        tx.grants(&GrantFilter::default(), &Page { limit: 9, after })
            .await
            .unwrap(),
        all[1..]
    );
    assert!(
        tx.granted_before(full.unverified.principal, &name("writers"))
            .await
            .unwrap()
    );
    assert!(
        !tx.granted_before(full.unverified.principal, &name("others"))
            .await
            .unwrap()
    );
    assert!(
        !tx.granted_before(bare.unverified.principal, &name("readers"))
            .await
            .unwrap(),
        "never in force"
    );
}

pub(super) async fn grants_keep_to_their_states(store: Store) {
    let mut row = stored(grant("readers"));
    let mut tx = store.begin().await.unwrap();
    tx.insert_grant(&row).await.unwrap();
    assert_eq!(tx.grants_due(later(3_599), 9).await.unwrap(), []);
    assert_eq!(tx.grants_due(later(3_600), 9).await.unwrap(), [row.clone()]);
    row.unverified.audience = Vec::new();
    row.mac = Mac([7; 32]);
    tx.update_grant(&row).await.unwrap();
    row.unverified.state = GrantState::Revoked;
    tx.update_grant(&row).await.unwrap();
    assert_eq!(tx.grant(row.unverified.id).await.unwrap(), Some((row.clone(), 0)));
    assert_eq!(tx.grants_due(later(3_600), 9).await.unwrap(), []);
    row.unverified.state = GrantState::Active;
    let again = tx.update_grant(&row).await;
    assert!(matches!(
        again,
        Err(StoreError::Transition {
            what: "grant",
            from: "revoked",
            to: "active"
        })
    ));
    assert!(matches!(
        tx.update_grant(&stored(grant("x"))).await,
        Err(StoreError::Absent("grant"))
    ));
}

pub(super) async fn a_grant_that_waits_is_found_by_its_request(store: Store) {
    let (mut row, request) = (stored(grant("readers")), Digest::of(b"request"));
    row.unverified.state = GrantState::PendingApproval;
    let principal = row.unverified.principal;
    let mut tx = store.begin().await.unwrap();
    tx.insert_grant(&row).await.unwrap();
    assert_eq!(tx.grant_by_request(principal, request).await.unwrap(), None);
    tx.remember_request(row.unverified.id, request).await.unwrap();
    assert_eq!(tx.grants_waiting(principal).await.unwrap(), 1);
    for state in [GrantState::PendingApproval, GrantState::PaymentRequired] {
        row.unverified.state = state;
        tx.update_grant(&row).await.unwrap();
        let found = tx.grant_by_request(principal, request).await.unwrap();
        assert_eq!(found.as_ref(), Some(&row));
        assert_eq!(
            tx.grants_due(later(3_600), 9).await.unwrap(),
            std::slice::from_ref(&row)
        );
    }
    let stranger = PrincipalId::new(NOW, &Ids);
    assert_eq!(tx.grant_by_request(stranger, request).await.unwrap(), None);
    assert_eq!(
        tx.grant_by_request(principal, Digest::of(b"other")).await.unwrap(),
        None
    );
    // A payment under way, given up, and begun again.
    for state in [
        GrantState::Provisioning,
        GrantState::PaymentRequired,
        GrantState::Provisioning,
    ] {
        row.unverified.state = state;
        tx.update_grant(&row).await.unwrap();
        assert!(tx.grant_by_request(principal, request).await.unwrap().is_some());
    }
    assert_eq!(tx.grants_waiting(principal).await.unwrap(), 0);
    row.unverified.state = GrantState::Active;
    tx.update_grant(&row).await.unwrap();
    assert_eq!(tx.grant_by_request(principal, request).await.unwrap(), None);
    let nobody = tx.remember_request(GrantId::new(NOW, &Ids), request).await;
    assert!(matches!(nobody, Err(StoreError::Absent("grant"))));
}

pub(super) async fn credentials_keep_to_their_states(store: Store) {
    let grant = GrantId::new(NOW, &Ids);
    let mut key = credential(grant, CredentialState::Intent);
    let other = credential(GrantId::new(NOW, &Ids), CredentialState::Stuck);
    let mut tx = store.begin().await.unwrap();
    tx.insert_credential(&key).await.unwrap();
    tx.insert_credential(&other).await.unwrap();
    assert_eq!(tx.credential(key.id).await.unwrap().as_ref(), Some(&key));
    assert_eq!(tx.sealed_credential(key.id).await.unwrap(), None);
    assert_eq!(tx.credentials_due_of(key.root, later(59), 9).await.unwrap(), []);
    assert_eq!(tx.credentials_due_of(key.root, later(60), 9).await.unwrap(), [key.id]);
    assert_eq!(tx.unfinished_credentials().await.unwrap(), [key.clone(), other.clone()]);

    (key.state, key.next_at) = (CredentialState::Active, None);
    key.vendor_key_id = Some("vk_1".to_owned());
    key.vendor_expires = Some(later(800));
    tx.save_created(&key, &sealed(1)).await.unwrap();
    assert_eq!(
        tx.sealed_credential(key.id).await.unwrap(),
        Some((key.clone(), sealed(1)))
    );
    assert_eq!(tx.unfinished_credentials().await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(tx.credentials_of_grant(grant).await.unwrap(), [key.clone()]);
    let active = CredentialFilter {
        vendor: Some(name("openai")),
        state: Some(CredentialState::Active),
    };
    assert_eq!(tx.credentials(&active, &Page::first(9)).await.unwrap(), [key.clone()]);
    assert_eq!(
        tx.credentials(&CredentialFilter::default(), &Page::first(9))
            .await
            .unwrap()
            .len(),
        2
    );

    (key.state, key.next_at, key.first_failed) = (CredentialState::Revoking, Some(NOW), Some(NOW));
    key.last_error = Some("timeout".to_owned());
    tx.update_credential(&key).await.unwrap();
    key.state = CredentialState::Active;
    let revived = tx.save_created(&key, &sealed(2)).await;
    assert!(
        matches!(revived, Err(StoreError::Transition { what: "credential", .. })),
        "never active again"
    );
    (key.state, key.next_at) = (CredentialState::Revoked, None);
    tx.update_credential(&key).await.unwrap();
    tx.drop_sealed(key.id).await.unwrap();
    assert_eq!(tx.sealed_credential(key.id).await.unwrap(), None);
    assert_eq!(tx.credential(key.id).await.unwrap(), Some(key));
}

pub(super) async fn leases_are_counted(store: Store) {
    let (grant, policy) = (stored(grant("readers")), name("readers"));
    let (mut first, second) = (
        lease(&grant.unverified, LeaseState::Pending),
        lease(&grant.unverified, LeaseState::Active),
    );
    let mut tx = store.begin().await.unwrap();
    tx.insert_grant(&grant).await.unwrap();
    assert_eq!(tx.live_leases(&policy).await.unwrap(), 0);
    tx.insert_lease(&first).await.unwrap();
    tx.insert_lease(&second).await.unwrap();
    tx.insert_lease(&lease(&grant.unverified, LeaseState::Expired))
        .await
        .unwrap();
    assert_eq!(tx.live_leases(&policy).await.unwrap(), 2);
    assert_eq!(
        tx.lease_live(grant.unverified.id, 0, first.prim)
            .await
            .unwrap()
            .as_ref(),
        Some(&first)
    );
    assert_eq!(tx.leases_due(later(899), 9).await.unwrap(), []);
    assert_eq!(tx.leases_due(later(900), 9).await.unwrap().len(), 2);
    (first.state, first.expires, first.resolves) = (LeaseState::Active, later(1_000), 7);
    tx.update_lease(&first).await.unwrap();
    assert_eq!(tx.live_leases(&policy).await.unwrap(), 2);
    first.state = LeaseState::Revoked;
    tx.update_lease(&first).await.unwrap();
    tx.update_lease(&first).await.unwrap();
    assert_eq!(tx.live_leases(&policy).await.unwrap(), 1, "counted down once");
    assert_eq!(tx.lease(first.id).await.unwrap().as_ref(), Some(&first));
    assert_eq!(tx.lease_live(grant.unverified.id, 0, first.prim).await.unwrap(), None);
    first.state = LeaseState::Active;
    assert!(matches!(
        tx.update_lease(&first).await,
        Err(StoreError::Transition { what: "lease", .. })
    ));
    assert_eq!(tx.leases_of_grant(grant.unverified.id).await.unwrap().len(), 3);
    let set = |lease: &Lease| std::collections::HashSet::from([lease.id]);
    let none = std::collections::HashSet::new();
    let grants = std::collections::HashSet::from([grant.unverified.id]);
    let over = tx.over(&grants, &set(&first), &none).await.unwrap();
    assert_eq!(over, [first.id.to_string()], "the lease was revoked, the grant lives");
    assert!(tx.over(&grants, &set(&second), &none).await.unwrap().is_empty());
    let filter = LeaseFilter {
        grant: Some(grant.unverified.id),
        prim: Some(second.prim),
        vendor: Some(name("openai")),
        state: Some(LeaseState::Active),
    };
    assert_eq!(
        tx.leases(&filter, &Page::first(9)).await.unwrap(),
        std::slice::from_ref(&second)
    );
    let none = Page {
        limit: 9,
        after: Some(second.id.to_string()),
    };
    assert_eq!(tx.leases(&filter, &none).await.unwrap(), []);
    assert_eq!(tx.counts().await.unwrap().live_leases, 1);
    let twice = lease(&grant.unverified, LeaseState::Pending);
    let twice = Lease {
        prim: second.prim,
        ..twice
    };
    assert!(matches!(tx.insert_lease(&twice).await, Err(StoreError::Duplicate)));
}

pub(super) async fn grants_nobody_makes_any_more_are_found(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let making = |created| {
        let mut row = grant("readers");
        (row.state, row.created) = (GrantState::Provisioning, later(created));
        stored(row)
    };
    let (alone, at_work, paid, young) = (making(0), making(0), making(0), making(60));
    for row in [&alone, &at_work, &paid, &young, &stored(grant("readers"))] {
        tx.insert_grant(row).await.unwrap();
    }
    let old = credential(alone.unverified.id, CredentialState::Failed);
    tx.insert_credential(&old).await.unwrap();
    // People approved it long after it was asked for: its keys are being made now.
    let mut fresh = credential(at_work.unverified.id, CredentialState::Intent);
    fresh.created = later(31);
    tx.insert_credential(&fresh).await.unwrap();
    let mut claimed = purchase("0xa", 1);
    claimed.grant = paid.unverified.id;
    tx.claim_purchase(&stored(claimed.clone())).await.unwrap();
    assert_eq!(
        tx.grants_left(later(30), 9).await.unwrap(),
        std::slice::from_ref(&alone)
    );
    claimed.state = PurchaseState::Released;
    tx.update_purchase(&claimed).await.unwrap();
    assert_eq!(
        tx.grants_left(later(30), 9).await.unwrap(),
        [alone.clone(), paid.clone()]
    );
    assert_eq!(tx.grants_left(later(30), 1).await.unwrap(), [alone]);
    assert_eq!(tx.grants_left(later(60), 9).await.unwrap().len(), 4);
}

pub(super) async fn a_purchase_is_claimed_once(store: Store) {
    let mut first = stored(purchase("0xa", 10_000));
    let mut second = stored(purchase("0xa", 10_000));
    second.unverified.nonce.clone_from(&first.unverified.nonce);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.claim_purchase(&first).await.unwrap(), Claim::New);
    assert_eq!(
        tx.claim_purchase(&second).await.unwrap(),
        Claim::Existing(Box::new(first.clone()))
    );
    assert_eq!(tx.purchase(second.unverified.id).await.unwrap(), None);
    assert_eq!(
        tx.purchase_of_grant(first.unverified.grant).await.unwrap(),
        Some(first.clone())
    );
    for (nonce, found) in [(first.unverified.nonce.as_str(), Some(first.clone())), ("0x1", None)] {
        let seen = tx
            .purchase_by_nonce(
                &first.unverified.network,
                &first.unverified.asset,
                &first.unverified.payer,
                nonce,
            )
            .await;
        assert_eq!(seen.unwrap(), found);
    }
    let page = Page::first(9);
    assert_eq!(tx.purchases(None, &page).await.unwrap(), [first.clone()]);
    assert_eq!(
        tx.purchases(Some(first.unverified.state), &page).await.unwrap(),
        [first.clone()]
    );
    assert_eq!(tx.purchases(Some(PurchaseState::Refused), &page).await.unwrap(), []);
    assert_eq!(tx.purchases_due(later(59), 9).await.unwrap(), []);
    assert_eq!(tx.purchases_due(later(60), 9).await.unwrap(), [first.clone()]);

    assert!(!tx.reclaim(&first).await.unwrap(), "not released");
    (first.unverified.state, first.unverified.last_error) = (PurchaseState::Released, Some("vendor down".to_owned()));
    tx.update_purchase(&first.unverified).await.unwrap();
    first.unverified.state = PurchaseState::Claimed;
    assert!(
        matches!(
            tx.update_purchase(&first.unverified).await,
            Err(StoreError::Transition { .. })
        ),
        "only by reclaim"
    );
    let mut foreign = first.clone();
    foreign.unverified.request = Digest::of(b"another request");
    assert!(!tx.reclaim(&foreign).await.unwrap());
    // With what is signed now: another sum, until another time.
    first.unverified.grant = GrantId::new(NOW, &Ids);
    (
        first.unverified.amount,
        first.unverified.valid_before,
        first.unverified.created,
    ) = (20_000, later(90), later(2));
    (first.unverified.pay_to, first.unverified.payload) = ("0xp".to_owned(), "again".to_owned());
    assert!(tx.reclaim(&first).await.unwrap());
    first.unverified.last_error = None;
    assert_eq!(tx.purchase(first.unverified.id).await.unwrap(), Some(first.clone()));

    first.unverified.state = PurchaseState::Settling;
    tx.update_purchase(&first.unverified).await.unwrap();
    let mut released = first.clone();
    released.unverified.state = PurchaseState::Released;
    assert!(
        matches!(
            tx.update_purchase(&released.unverified).await,
            Err(StoreError::Transition { .. })
        ),
        "settling was begun"
    );
    (
        first.unverified.state,
        first.unverified.next_at,
        first.unverified.transaction,
    ) = (PurchaseState::Settled, None, Some("0xtx".to_owned()));
    tx.update_purchase(&first.unverified).await.unwrap();
    assert_eq!(tx.purchase(first.unverified.id).await.unwrap(), Some(first));
}

pub(super) async fn payers_are_counted(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.paid_since("0xa", NOW).await.unwrap(), 0);
    for (place, state) in PurchaseState::ALL.into_iter().enumerate() {
        let mut row = purchase("0xa", 10_i64.pow(u32::try_from(place).unwrap()));
        row.state = state;
        let row = stored(row);
        tx.claim_purchase(&row).await.unwrap();
        assert_eq!(tx.purchase(row.unverified.id).await.unwrap(), Some(row));
    }
    tx.claim_purchase(&stored(purchase("0xb", 7))).await.unwrap();
    assert_eq!(tx.purchases_open_of("0xa").await.unwrap(), 4);
    assert_eq!(tx.paid_since("0xa", NOW).await.unwrap(), 111_111);
    assert_eq!(tx.paid_since("0xa", later(1)).await.unwrap(), 0);
    assert_eq!(tx.paid_before("0xa").await.unwrap(), 2);
    assert_eq!(tx.paid_before("0xb").await.unwrap(), 0);
    assert_eq!(tx.refused_since("0xa", NOW).await.unwrap(), 1);
    assert_eq!(tx.refused_since("0xa", later(1)).await.unwrap(), 0);
}

pub(super) async fn keys_held_unpaid_are_counted(store: Store) {
    let mut tx = store.begin().await.unwrap();
    for (n, state) in PurchaseState::ALL.into_iter().enumerate() {
        let mut row = purchase(&format!("0x{n}"), 1);
        row.state = state;
        tx.claim_purchase(&stored(row.clone())).await.unwrap();
        tx.hold_keys(row.id, &name("openai"), 9).await.unwrap();
        tx.hold_keys(row.id, &name("openai"), 10_i64.pow(u32::try_from(n).unwrap()))
            .await
            .unwrap();
        tx.hold_keys(row.id, &name("demo"), 1).await.unwrap();
    }
    // Claimed, settling, refused: the first, the second and the last state.
    assert_eq!(tx.held_keys(&name("openai"), NOW).await.unwrap(), 10_000_011);
    assert_eq!(tx.held_keys(&name("demo"), NOW).await.unwrap(), 3);
    assert_eq!(tx.held_keys(&name("demo"), later(1)).await.unwrap(), 0);
    assert_eq!(tx.held_keys(&name("x"), NOW).await.unwrap(), 0);
    // Settled first, nothing is held; and such a refusal is no strike.
    let mut row = purchase("0xa", 1);
    row.state = PurchaseState::Refused;
    tx.claim_purchase(&stored(row.clone())).await.unwrap();
    tx.hold_keys(row.id, &name("x"), 1).await.unwrap();
    assert_eq!(
        (
            tx.held_keys(&name("x"), NOW).await.unwrap(),
            tx.refused_since("0xa", NOW).await.unwrap()
        ),
        (1, 1)
    );
    tx.set_settle_first(row.id, true).await.unwrap();
    assert_eq!(
        (
            tx.held_keys(&name("x"), NOW).await.unwrap(),
            tx.refused_since("0xa", NOW).await.unwrap()
        ),
        (0, 0)
    );
    assert!(tx.purchase(row.id).await.unwrap().unwrap().unverified.settle_first);
}

pub(super) async fn credit_is_owed_once_and_taken_for_a_grant(store: Store) {
    let (mut one, two) = (stored(credit("0xa", 5)), stored(credit("0xa", 6)));
    let mut tx = store.begin().await.unwrap();
    assert!(tx.insert_credit(&one).await.unwrap());
    assert!(!tx.insert_credit(&one).await.unwrap(), "one for each purchase");
    assert!(tx.insert_credit(&two).await.unwrap());
    assert_eq!(tx.credits_of("0xa").await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(tx.credits_of("0xb").await.unwrap(), []);
    one.unverified.remaining = 0;
    one.mac = Mac([8; 32]);
    tx.update_credit(&one).await.unwrap();
    assert_eq!(tx.credits_of("0xa").await.unwrap(), [two]);
    assert_eq!(tx.credit(one.unverified.purchase).await.unwrap().as_ref(), Some(&one));
    let nobody = tx.update_credit(&stored(credit("0xa", 1))).await;
    assert!(matches!(nobody, Err(StoreError::Absent("credit"))));

    let grant = GrantId::new(NOW, &Ids);
    let taken = stored(CreditUse {
        grant,
        purchase: one.unverified.purchase,
        amount: 5,
        created: NOW,
    });
    tx.insert_credit_use(&taken).await.unwrap();
    assert_eq!(tx.credit_uses(grant).await.unwrap(), [taken]);
    assert_eq!(tx.credit_uses(GrantId::new(NOW, &Ids)).await.unwrap(), []);
    tx.delete_credit_uses(grant).await.unwrap();
    assert_eq!(tx.credit_uses(grant).await.unwrap(), []);
    let negative = tx.insert_credit(&stored(credit("0xa", -1))).await;
    assert!(matches!(negative, Err(StoreError::Data(_))));
}

pub(super) async fn the_ledger_is_summed_and_never_changed(store: Store) {
    let entry = |act, amount: &str, principal, day: i64| {
        let created = NOW.plus(Ttl::from_mins(day * 24 * 60));
        stored(Entry {
            id: EntryId::new(created, &Ids),
            created,
            act,
            amount: amount.parse().unwrap(),
            principal,
            grant: GrantId::new(NOW, &Ids),
            purchase: None,
            wallet: Some("0xa".to_owned()),
            vendor: "x".to_owned(),
            credential: None,
            lease: None,
        })
    };
    let (one, two) = (PrincipalId::new(NOW, &Ids), PrincipalId::new(NOW, &Ids));
    let entries = [
        entry(Act::Charge, "0.02 USDC", one, 0),
        entry(Act::Charge, "0.03 USDC", one, 1),
        entry(Act::Deposit, "0.04 USDC", two, 2),
        entry(Act::VendorCost, "1.00 USD", two, 3),
    ];
    let mut tx = store.begin().await.unwrap();
    for entry in &entries {
        tx.insert_entry(entry).await.unwrap();
    }
    tx.commit(&[], &[]).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let first = tx.entries(None, 3).await.unwrap();
    assert_eq!(first, entries[..3]);
    assert_eq!(tx.entries(Some(first[2].unverified.id), 3).await.unwrap(), entries[3..]);
    let all = EntryFilter::default();
    let sums = tx.sums(UsageBy::Wallet, all, 9).await.unwrap();
    let told: Vec<_> = sums
        .iter()
        .map(|sum| (sum.debit, sum.credit, sum.entries, sum.amount))
        .collect();
    assert_eq!(
        told,
        [
            (Account::Received, Account::Owed, 1, 40_000),
            (Account::Received, Account::Sold, 2, 50_000),
            (Account::VendorCost, Account::Vendors, 1, 1_000_000),
        ]
    );
    for (by, keys) in [
        (UsageBy::Day, 4),
        (UsageBy::Principal, 2),
        (UsageBy::Grant, 4),
        (UsageBy::Vendor, 1),
        (UsageBy::Lease, 0),
    ] {
        let sums = tx.sums(by, all, 9).await.unwrap();
        let mut found: Vec<String> = sums.into_iter().map(|sum| sum.key).collect();
        found.dedup();
        assert_eq!(found.len(), keys, "{by:?}");
    }
    assert_eq!(tx.sums(UsageBy::Grant, all, 3).await.unwrap().len(), 3);
    let some = EntryFilter {
        principal: Some(one),
        since: Some(NOW.plus(Ttl::from_mins(60))),
        until: Some(NOW.plus(Ttl::from_mins(49 * 60))),
    };
    let sums = tx.sums(UsageBy::Principal, some, 9).await.unwrap();
    assert_eq!(sums.iter().map(|sum| sum.amount).collect::<Vec<_>>(), [30_000]);
    let of = entries[2].unverified.grant;
    for (act, entered) in [(Act::Deposit, true), (Act::ReturnUnspent, false)] {
        assert_eq!(tx.is_entered(of, act).await.unwrap(), entered);
    }
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    let nothing = tx.insert_entry(&entry(Act::Charge, "0.00 USDC", one, 0)).await;
    assert!(matches!(nothing, Err(StoreError::Data(_))), "{nothing:?}");
}

pub(super) async fn what_keys_may_cost_is_set_aside_but_for_those_never_made(store: Store) {
    let grant = GrantId::new(NOW, &Ids);
    let usd = |amount| Money::new(amount, Currency::Usd);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.keys_are_dead(grant).await.unwrap(), "it has none");
    for (state, cap) in [
        (CredentialState::Active, 300),
        (CredentialState::Revoked, 20),
        (CredentialState::Failed, 1),
    ] {
        let key = credential(grant, state);
        tx.insert_credential(&key).await.unwrap();
        assert_eq!(tx.cost_cap(key.id).await.unwrap(), None);
        tx.set_cost_cap(key.id, usd(cap)).await.unwrap();
        assert_eq!(tx.cost_cap(key.id).await.unwrap(), Some(usd(cap)));
    }
    let other = credential(GrantId::new(NOW, &Ids), CredentialState::Revoked);
    tx.insert_credential(&other).await.unwrap();
    tx.set_cost_cap(other.id, usd(4000)).await.unwrap();
    assert_eq!(tx.cost_given_out(grant, other.item).await.unwrap(), 320);
    assert_eq!(tx.cost_given_out(grant, other.item + 1).await.unwrap(), 0);
    assert!(!tx.keys_are_dead(grant).await.unwrap());
    assert!(tx.keys_are_dead(other.grant).await.unwrap());
    let nobody = tx.set_cost_cap(CredentialId::new(NOW, &Ids), usd(1)).await;
    assert!(matches!(nobody, Err(StoreError::Absent("credential"))));
}

pub(super) async fn what_was_purchased_and_credited_is_summed(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(
        (tx.purchased().await.unwrap(), tx.credit_left().await.unwrap()),
        (vec![], 0)
    );
    for amount in [5, 6] {
        let claim = tx.claim_purchase(&stored(purchase("0xa", amount))).await.unwrap();
        assert_eq!(claim, Claim::New);
    }
    assert!(tx.insert_credit(&stored(credit("0xa", 5))).await.unwrap());
    assert_eq!(tx.credit_left().await.unwrap(), 5);
    assert_eq!(tx.purchased().await.unwrap(), [(PurchaseState::Claimed, 11)]);
}

pub(super) async fn a_payer_finds_what_it_paid_for(store: Store) {
    let (mut paid, grant) = (purchase("0xabc", 5), grant("writers"));
    paid.grant = grant.id;
    let wallet = grant.payer.clone().unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.has_paid(&wallet).await.unwrap());
    tx.insert_grant(&stored(grant.clone())).await.unwrap();
    tx.claim_purchase(&stored(paid.clone())).await.unwrap();
    assert!(tx.has_paid(&wallet).await.unwrap());
    assert!(!tx.has_paid("eip155:84532:0xab").await.unwrap());
    assert_eq!(
        tx.paid_by_request(&wallet, paid.request).await.unwrap(),
        None,
        "not settled"
    );
    for state in [PurchaseState::Settling, PurchaseState::Settled] {
        paid.state = state;
        tx.update_purchase(&paid).await.unwrap();
    }
    let found = tx.paid_by_request(&wallet, paid.request).await.unwrap();
    assert_eq!(found.map(|row| row.unverified.id), Some(grant.id));
    tx.keep_payment_id("0xabc", "pay_1", paid.id).await.unwrap();
    let found = tx.purchase_by_payment_id("0xabc", "pay_1").await.unwrap();
    assert_eq!(found.map(|row| row.unverified.id), Some(paid.id));
    for (payer, id) in [("0xabd", "pay_1"), ("0xabc", "pay_2")] {
        assert_eq!(tx.purchase_by_payment_id(payer, id).await.unwrap(), None);
    }
    let other = tx.paid_by_request(&wallet, Digest::of(b"other")).await.unwrap();
    assert_eq!(other, None);
    let of_payer = GrantFilter {
        payer: Some(wallet),
        ..GrantFilter::default()
    };
    assert_eq!(tx.grants(&of_payer, &Page::first(9)).await.unwrap().len(), 1);
    let of_nobody = GrantFilter {
        payer: Some("eip155:84532:0xab".to_owned()),
        ..GrantFilter::default()
    };
    assert_eq!(tx.grants(&of_nobody, &Page::first(9)).await.unwrap(), []);
}

pub(super) async fn nonces_keys_and_tokens_once(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert!(tx.claim_nonce("ed25519:a", "n", later(90)).await.unwrap());
    assert!(!tx.claim_nonce("ed25519:a", "n", later(99)).await.unwrap());
    assert!(tx.claim_nonce("ed25519:b", "n", later(90)).await.unwrap());

    assert!(tx.tell_once("paid_per_day/a", NOW, later(100)).await.unwrap());
    assert!(!tx.tell_once("paid_per_day/a", later(99), later(199)).await.unwrap());
    assert!(tx.tell_once("paid_per_day/b", later(99), later(100)).await.unwrap());
    assert!(
        tx.tell_once("paid_per_day/a", later(100), later(200)).await.unwrap(),
        "its window is over"
    );

    let (grant, request) = (GrantId::new(NOW, &Ids), Digest::of(b"buy"));
    let other = GrantId::new(NOW, &Ids);
    assert_eq!(tx.idempotency("0xa", "k").await.unwrap(), None);
    let mut outcomes = Vec::new();
    for (scope, request, grant) in [
        ("0xa", request, grant),
        ("0xa", request, other),
        ("0xa", Digest::of(b"x"), other),
        ("0xb", request, other),
    ] {
        outcomes.push(
            tx.remember_idempotency(scope, "k", request, grant, later(60))
                .await
                .unwrap(),
        );
    }
    let expected = [
        IdempotencyOutcome::New,
        IdempotencyOutcome::Same(grant),
        IdempotencyOutcome::Other,
        IdempotencyOutcome::New,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(tx.idempotency("0xa", "k").await.unwrap(), Some((request, grant)));

    tx.revoke_token("aa", later(60), NOW).await.unwrap();
    tx.revoke_token("aa", later(30), NOW).await.unwrap();
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(tx.token_revoked(&[]).await.unwrap(), None);
    assert_eq!(tx.token_revoked(&ids(&["bb", "cc"])).await.unwrap(), None);
    assert_eq!(
        tx.token_revoked(&ids(&["bb", "aa"])).await.unwrap().as_deref(),
        Some("aa")
    );

    let revoked = std::collections::HashSet::from(["aa".to_owned(), "bb".to_owned()]);
    let over = tx.over(&[].into(), &[].into(), &revoked).await.unwrap();
    assert_eq!(over, ["aa"]);

    let rate = Rate {
        count: 2,
        per: Ttl::from_secs(10),
    };
    let mut waits = Vec::new();
    for at in [later(10), later(10), later(10), later(15), later(15)] {
        waits.push(tx.take_rate("revoke/a", rate, at).await.unwrap());
    }
    let wait = Some(Ttl::from_secs(5));
    assert_eq!(
        waits,
        [None, None, wait, None, wait],
        "two at once, then one in five seconds"
    );
    assert_eq!(tx.take_rate("revoke/b", rate, later(15)).await.unwrap(), None);
    assert_eq!(tx.sweep(later(30)).await.unwrap(), 2, "the rates");

    assert_eq!(tx.sweep(later(60)).await.unwrap(), 0);
    assert_eq!(tx.sweep(later(61)).await.unwrap(), 3, "the token and two keys");
    assert_eq!(tx.sweep(later(91)).await.unwrap(), 2, "the nonces");
    assert_eq!(tx.sweep(later(101)).await.unwrap(), 1, "a threshold");
    assert_eq!(tx.token_revoked(&ids(&["aa"])).await.unwrap(), None);
}

pub(super) async fn receipts_and_counts(store: Store) {
    let row = stored(grant("readers"));
    let (id, event) = (ReceiptId::new(NOW, &Ids), EventId::new(NOW, &Ids));
    let mut tx = store.begin().await.unwrap();
    tx.save_receipt(id, row.unverified.id, event, "{\"promise\":1}")
        .await
        .unwrap();
    tx.save_receipt(id, row.unverified.id, event, "{\"proof\":1}")
        .await
        .unwrap();
    assert_eq!(tx.receipt(id).await.unwrap().as_deref(), Some("{\"proof\":1}"));
    assert_eq!(
        tx.receipt_of_grant(row.unverified.id).await.unwrap().as_deref(),
        Some("{\"proof\":1}")
    );
    assert_eq!(tx.receipt(ReceiptId::new(NOW, &Ids)).await.unwrap(), None);

    tx.insert_grant(&row).await.unwrap();
    tx.insert_approval(&stored(approval())).await.unwrap();
    tx.insert_credential(&credential(row.unverified.id, CredentialState::Stuck))
        .await
        .unwrap();
    tx.insert_credential(&credential(row.unverified.id, CredentialState::Active))
        .await
        .unwrap();
    tx.insert_lease(&lease(&row.unverified, LeaseState::Active))
        .await
        .unwrap();
    for state in [PurchaseState::Claimed, PurchaseState::Settling] {
        let mut paid = purchase("0xa", 1);
        paid.state = state;
        tx.claim_purchase(&stored(paid.clone())).await.unwrap();
    }
    let expected = Counts {
        live_leases: 1,
        stuck_credentials: 1,
        pending_approvals: 1,
        unknown_payments: 1,
        active_grants: 1,
        revoking_credentials: 0,
        orphans: 0,
    };
    assert_eq!(tx.counts().await.unwrap(), expected);
    assert!(tx.size().await.unwrap() > 4096);
    let expires = lease(&row.unverified, LeaseState::Active).expires;
    let before = tx.outlook(expires).await.unwrap();
    let after = tx
        .outlook(Timestamp::from_millis(expires.as_millis() + 1))
        .await
        .unwrap();
    assert_eq!((before.leases_ending, after.leases_ending), (0, 1));
    assert_eq!(after.oldest_approval, Some(approval().created));
    let state = |state: &str| InState {
        vendor: name("openai"),
        state: state.to_owned(),
        count: 1,
    };
    assert_eq!(tx.out().await.unwrap(), [state("active"), state("revocation_failed")]);
    let oldest = tx.oldest(NOW).await.unwrap();
    assert_eq!((oldest.approval, oldest.overdue), (Some(NOW), Some(later(60))));
}

pub(super) async fn keys_that_should_be_dead_are_found(store: Store) {
    let grant = GrantId::new(NOW, &Ids);
    let mut tx = store.begin().await.unwrap();
    let mut insert = async |state, next_at, first_failed| {
        let key = Credential {
            next_at,
            first_failed,
            ..credential(grant, state)
        };
        tx.insert_credential(&key).await.unwrap();
        key.id
    };
    let (due, failed) = (Some(later(50)), Some(later(10)));
    let outlived = insert(CredentialState::Active, due, None).await;
    let _alive = insert(CredentialState::Active, Some(later(500)), None).await;
    let untried = insert(CredentialState::Revoking, Some(later(60)), None).await;
    let tried = insert(CredentialState::Revoking, Some(later(300)), failed).await;
    let _raised = insert(CredentialState::Stuck, due, failed).await;
    let _dead = insert(CredentialState::Revoked, None, failed).await;
    let ids = |keys: Vec<Credential>| keys.into_iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!(ids(tx.credentials_overdue(later(9), 9).await.unwrap()), []);
    assert_eq!(ids(tx.credentials_overdue(later(10), 9).await.unwrap()), [tried]);
    assert_eq!(
        ids(tx.credentials_overdue(later(60), 9).await.unwrap()),
        [outlived, untried, tried]
    );
    assert_eq!(ids(tx.credentials_overdue(later(60), 1).await.unwrap()), [outlived]);
    assert_eq!(tx.oldest(later(60)).await.unwrap().overdue, failed);
}

pub(super) async fn text_with_a_nul_is_refused(store: Store) {
    let mut tx = store.begin().await.unwrap();
    assert!(matches!(tx.claim_nonce("a\0", "n", NOW).await, Err(StoreError::Nul)));
    assert!(matches!(
        tx.token_revoked(&["a\0b".to_owned()]).await,
        Err(StoreError::Nul)
    ));
    assert!(matches!(tx.save_keyring("\0").await, Err(StoreError::Nul)));
    let mut event = samples::event("a.b", "x");
    event.actor = "\0".to_owned();
    assert!(matches!(tx.commit(&[event], &[]).await, Err(StoreError::Nul)));
}
