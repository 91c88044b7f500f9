//! Rotations, and the keys that they are of.

use dekeys::base::id::{PrincipalId, RootId, RotationId};
use dekeys::base::time::Ttl;
use dekeys::model::credential::CredentialState;
use dekeys::model::grant::GrantState;
use dekeys::model::lease::LeaseState;
use dekeys::model::rotation::{RotateMode, Rotation, RotationKind, RotationState};
use dekeys::store::{Store, StoreError};

use super::samples::{Ids, NOW, credential, grant, later, lease, name, stored};

fn rotation(subject: &str, state: RotationState) -> Rotation {
    Rotation {
        id: RotationId::new(NOW, &Ids),
        kind: RotationKind::Credential,
        subject: subject.to_owned(),
        vendor: name("openai"),
        policy: Some(name("readers")),
        mode: RotateMode::CreateThenRevoke,
        state,
        old: "cred_a".to_owned(),
        new: "cred_b".to_owned(),
        grace: Ttl::from_mins(15),
        by: "schedule".to_owned(),
        uses: 7,
        next_at: (!state.is_final()).then(|| later(30)),
        last_error: None,
        created: NOW,
        promoted: None,
        ended: None,
    }
}

pub(super) async fn a_key_has_one_rotation_until_it_has_a_successor(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let mut first = rotation("lea_a", RotationState::PendingIntent);
    tx.insert_rotation(&first).await.unwrap();
    tx.insert_rotation(&rotation("lea_b", RotationState::PendingIntent))
        .await
        .unwrap();
    tx.commit(&[], &[]).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let second = rotation("lea_a", RotationState::PendingIntent);
    assert!(matches!(tx.insert_rotation(&second).await, Err(StoreError::Duplicate)));
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.rotation(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(tx.rotation_pending("lea_a").await.unwrap(), Some(first.clone()));
    first.state = RotationState::Promoted;
    (first.promoted, first.uses) = (Some(later(5)), 9);
    tx.update_rotation(&first).await.unwrap();
    assert_eq!(tx.rotation_pending("lea_a").await.unwrap(), None);
    assert_eq!(tx.rotation_to("cred_b").await.unwrap(), Some(first.clone()));
    // What is left of the one before does not hold up the next.
    tx.insert_rotation(&second).await.unwrap();
    let open = tx.rotations_open("lea_a").await.unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(tx.rotations_of("lea_a", 1).await.unwrap().len(), 1);
}

pub(super) async fn rotations_keep_to_their_states_and_come_due(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let mut row = rotation("lea_a", RotationState::PendingIntent);
    tx.insert_rotation(&row).await.unwrap();
    let mut wrong = row.clone();
    wrong.state = RotationState::Overlap;
    assert!(matches!(
        tx.update_rotation(&wrong).await,
        Err(StoreError::Transition { .. })
    ));
    assert_eq!(tx.rotations_due(later(29), 9).await.unwrap(), []);
    assert_eq!(tx.wake_rotations(later(3)).await.unwrap(), 1);
    assert_eq!(tx.rotations_due(later(3), 9).await.unwrap().len(), 1);
    for state in [
        RotationState::PendingCreated,
        RotationState::PendingTested,
        RotationState::Promoted,
        RotationState::Overlap,
        RotationState::OldRevoking,
    ] {
        row.state = state;
        row.next_at = Some(later(60));
        tx.update_rotation(&row).await.unwrap();
        let woken = u64::from(state != RotationState::Overlap);
        assert_eq!(
            tx.wake_rotations(later(4)).await.unwrap(),
            woken,
            "a grace is not cut short by a restart"
        );
    }
    row.state = RotationState::Done;
    (row.next_at, row.ended, row.last_error) = (None, Some(later(9)), Some("late".to_owned()));
    tx.update_rotation(&row).await.unwrap();
    assert_eq!(tx.rotations_due(later(1000), 9).await.unwrap(), []);
    assert_eq!(tx.rotation(row.id).await.unwrap(), Some(row.clone()));
    row.state = RotationState::Promoted;
    assert!(tx.update_rotation(&row).await.is_err(), "nothing leads back");
}

pub(super) async fn shared_keys_are_found_by_their_leases(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let mut pool = grant("readers");
    pool.principal = PrincipalId::NIL;
    pool.state = GrantState::Active;
    tx.insert_grant(&stored(pool.clone())).await.unwrap();
    let mut out = lease(&pool, LeaseState::Active);
    out.prim = PrincipalId::NIL;
    let mut key = credential(pool.id, CredentialState::Intent);
    (key.prim, key.lease) = (Some(PrincipalId::NIL), Some(out.id));
    out.credential = key.id;
    tx.insert_credential(&key).await.unwrap();
    tx.insert_lease(&out).await.unwrap();
    // Somebody's own grant shares nothing.
    let own = grant("readers");
    tx.insert_grant(&stored(own.clone())).await.unwrap();
    let mut other = lease(&own, LeaseState::Active);
    other.prim = PrincipalId::NIL;
    tx.insert_lease(&other).await.unwrap();

    let shared = tx.shared_keys().await.unwrap();
    assert_eq!(shared.len(), 1);
    assert_eq!(
        (shared[0].lease, shared[0].credential, shared[0].uses),
        (out.id, key.id, 1)
    );
    assert_eq!(shared[0].created, NOW);
    assert_eq!(tx.lease_of_credential(key.id).await.unwrap(), Some(out.clone()));
    // Another value of the same key is as young as its rotation.
    let mut row = rotation(&out.id.to_string(), RotationState::PendingIntent);
    row.new = key.id.to_string();
    tx.insert_rotation(&row).await.unwrap();
    row.state = RotationState::Promoted;
    row.promoted = Some(later(50));
    tx.update_rotation(&row).await.unwrap();
    assert_eq!(tx.shared_keys().await.unwrap()[0].created, later(50));
    // A grace whose lease is over is looked at before its time.
    row.state = RotationState::Overlap;
    row.next_at = Some(later(900));
    tx.update_rotation(&row).await.unwrap();
    assert_eq!(tx.rotations_due(later(60), 9).await.unwrap(), []);
    out.state = LeaseState::Revoked;
    tx.update_lease(&out).await.unwrap();
    assert_eq!(tx.rotations_due(later(60), 9).await.unwrap().len(), 1);
    assert_eq!(tx.shared_keys().await.unwrap(), []);
    assert_eq!(
        tx.lease_of_credential(credential(pool.id, CredentialState::Intent).id)
            .await
            .unwrap(),
        None
    );
}

pub(super) async fn keys_that_are_not_dead_are_handed_over(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let of = grant("readers").id;
    let (old, new) = (RootId::new(NOW, &Ids), RootId::new(NOW, &Ids));
    let mut kept = Vec::new();
    for state in [
        CredentialState::Intent,
        CredentialState::Revoking,
        CredentialState::Failed,
    ] {
        let mut key = credential(of, CredentialState::Intent);
        key.root = old;
        tx.insert_credential(&key).await.unwrap();
        key.state = state;
        key.next_at = (!state.is_final()).then(|| later(60));
        tx.update_credential(&key).await.unwrap();
        kept.push(key.id);
    }
    let mut elsewhere = credential(of, CredentialState::Intent);
    (elsewhere.root, elsewhere.vendor) = (old, name("other"));
    tx.insert_credential(&elsewhere).await.unwrap();
    assert_eq!(tx.hand_over_credentials(&name("openai"), old, new).await.unwrap(), 2);
    let mut roots = Vec::new();
    for id in kept.into_iter().chain([elsewhere.id]) {
        roots.push(tx.credential(id).await.unwrap().unwrap().root);
    }
    assert_eq!(roots, [new, new, old, old]);
}
