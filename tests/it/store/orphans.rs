//! Orphans, comparisons with vendors' lists, keys without names, and what is done for many rows at once.

use dekeys::base::id::{CredentialId, GrantId, IncarnationId, LeaseId, OrphanId, RootId};
use dekeys::model::credential::{Credential, CredentialState};
use dekeys::model::lease::{Lease, LeaseState};
use dekeys::model::orphan::{Orphan, OrphanState, Reason};
use dekeys::model::sealed::Sealed;
use dekeys::store::leases::LeaseChoice;
use dekeys::store::orphans::OrphanFilter;
use dekeys::store::{Page, Store, StoreError};

use super::samples::{self, Ids, NOW, credential, later, lease, name};

fn orphan(root: RootId, key: &str) -> Orphan {
    Orphan {
        id: OrphanId::new(NOW, &Ids),
        vendor: name("openai"),
        root,
        vendor_key_id: key.to_owned(),
        name: "dk-aaaaaaaa-x-1".to_owned(),
        credential: None,
        reason: Reason::UnknownName,
        state: OrphanState::Reported,
        attempt: 0,
        next_at: None,
        last_error: None,
        found: NOW,
        seen: NOW,
    }
}

pub(super) async fn an_orphan_is_kept_once(store: Store) {
    let root = RootId::new(NOW, &Ids);
    let of = CredentialId::new(NOW, &Ids);
    let first = orphan(root, "k1");
    let second = Orphan {
        credential: Some(of),
        reason: Reason::Double,
        state: OrphanState::Revoking,
        next_at: Some(later(10)),
        ..orphan(root, "k2")
    };
    let mut tx = store.begin().await.unwrap();
    for new in [&first, &second] {
        assert!(tx.keep_orphan(new).await.unwrap());
    }
    let again = Orphan {
        seen: later(5),
        ..orphan(root, "k1")
    };
    assert!(!tx.keep_orphan(&again).await.unwrap());
    // The same vendor shows it to another root credential.
    assert!(!tx.keep_orphan(&orphan(RootId::new(NOW, &Ids), "k1")).await.unwrap());
    assert!(tx.keep_orphan(&orphan(RootId::new(NOW, &Ids), "k3")).await.unwrap());
    assert!(tx.orphan(first.id).await.unwrap().unwrap().seen >= NOW);
    assert_eq!(tx.orphan(again.id).await.unwrap(), None);
    assert_eq!(tx.orphans_due(later(9), 9).await.unwrap(), []);
    assert_eq!(
        tx.orphans_due(later(10), 9).await.unwrap(),
        std::slice::from_ref(&second)
    );
    assert_eq!(tx.orphans_of(of).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(tx.orphans_of_root(root).await.unwrap().len(), 2);
    let open = tx.open_orphans().await.unwrap();
    let counts: Vec<_> = open.iter().map(|(_, state, count)| (*state, *count)).collect();
    assert_eq!(counts, [(OrphanState::Reported, 2), (OrphanState::Revoking, 1)]);
    let gone = Orphan {
        state: OrphanState::Gone,
        next_at: None,
        attempt: 2,
        last_error: Some("late".to_owned()),
        ..second.clone()
    };
    tx.update_orphan(&gone).await.unwrap();
    assert!(matches!(
        tx.update_orphan(&second).await,
        Err(StoreError::Transition { what: "orphan", .. })
    ));
    assert_eq!(tx.orphans_of_root(root).await.unwrap().len(), 1);
    let all = OrphanFilter::default();
    let page = tx.orphans(&all, &Page::first(1)).await.unwrap();
    let next = Page {
        limit: 9,
        after: Some(page[0].id.to_string()),
    };
    assert_eq!(tx.orphans(&all, &next).await.unwrap().len(), 1);
    let ended = OrphanFilter {
        vendor: Some(name("openai")),
        state: Some(OrphanState::Gone),
    };
    assert_eq!(
        tx.orphans(&ended, &Page::first(9)).await.unwrap(),
        std::slice::from_ref(&gone)
    );
    // Listed again though its end was confirmed: once more, under the same id. Then it is the vendor's list that is wrong.
    assert!(tx.keep_orphan(&second).await.unwrap());
    let back = tx.orphan(second.id).await.unwrap().unwrap();
    assert_eq!((back.state, back.reason), (OrphanState::Revoking, Reason::StillListed));
    assert_eq!((back.attempt, back.next_at), (0, second.next_at));
    tx.update_orphan(&gone).await.unwrap();
    assert!(!tx.keep_orphan(&second).await.unwrap());
    // A list that did not show it proves nothing: as often as it comes back.
    let unseen = Orphan { attempt: 0, ..gone };
    tx.update_orphan(&unseen).await.unwrap();
    for _ in 0..2 {
        assert!(tx.keep_orphan(&second).await.unwrap());
        assert_eq!(tx.orphan(second.id).await.unwrap().unwrap().reason, Reason::Double);
        tx.update_orphan(&unseen).await.unwrap();
    }
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn a_listed_key_is_claimed_by_name_or_id_of_its_incarnation(store: Store) {
    let grant = GrantId::new(NOW, &Ids);
    let own = Credential {
        vendor_key_id: Some("k1".to_owned()),
        ..credential(grant, CredentialState::Active)
    };
    let other = Credential {
        id: CredentialId::new(NOW, &Ids),
        name: "dk-aaaaaaaa-other-1".to_owned(),
        ..own.clone()
    };
    let mut tx = store.begin().await.unwrap();
    let mut instance = samples::stored(samples::instance());
    tx.insert_instance(&instance).await.unwrap();
    tx.insert_credential(&own).await.unwrap();
    tx.insert_credential(&Credential {
        vendor: name("another"),
        ..other.clone()
    })
    .await
    .unwrap();
    let of = |text: &str| [text.to_owned()];
    let found = tx.claimants(&own.vendor, &of(&own.name), &of("nobody")).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].id, found[0].own), (own.id, true));
    assert_eq!(tx.claimants(&own.vendor, &[], &of("k1")).await.unwrap(), found);
    assert_eq!(tx.claimants(&own.vendor, &of(&other.name), &[]).await.unwrap(), []);
    // The same database under another incarnation.
    instance.unverified.incarnation = IncarnationId::new(NOW, &Ids);
    tx.set_incarnation(&instance).await.unwrap();
    assert!(!tx.claimants(&own.vendor, &[], &of("k1")).await.unwrap()[0].own);
    assert_eq!(tx.adopt_credentials().await.unwrap(), 2);
    assert!(tx.claimants(&own.vendor, &[], &of("k1")).await.unwrap()[0].own);
    assert_eq!(tx.adopt_credentials().await.unwrap(), 0);
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn comparisons_are_taken_by_one_instance_at_a_time(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let mut current = samples::root("openai");
    let root = current.id;
    tx.insert_root(&samples::stored(current.clone()), &Sealed(vec![1]))
        .await
        .unwrap();
    assert_eq!(tx.root_ids().await.unwrap(), [root.to_string()]);
    let taken = tx.take_reaps(NOW, later(300)).await.unwrap();
    assert_eq!(taken, [(root, name("openai"))]);
    assert_eq!(tx.take_reaps(later(299), later(600)).await.unwrap(), []);
    tx.keep_reap(root, later(400), Some((later(1), 7)), None).await.unwrap();
    tx.keep_reap(root, later(500), None, Some("away")).await.unwrap();
    let kept = tx.reaps().await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].passed, kept[0].keys, kept[0].next_at),
        (Some(later(1)), 7, later(500))
    );
    assert_eq!(kept[0].trouble.as_deref(), Some("away"));
    tx.reap_anew(later(2)).await.unwrap();
    assert_eq!(tx.take_reaps(later(2), later(9)).await.unwrap().len(), 1);
    // A replaced root credential is looked at for as long as a key of it may live.
    let key = Credential {
        root,
        ..credential(GrantId::new(NOW, &Ids), CredentialState::Active)
    };
    tx.insert_credential(&key).await.unwrap();
    current.current = false;
    tx.update_root(&samples::stored(current)).await.unwrap();
    assert_eq!(tx.take_reaps(later(9), later(20)).await.unwrap().len(), 1);
    let dead = Credential {
        state: CredentialState::Revoking,
        ..key.clone()
    };
    tx.update_credential(&dead).await.unwrap();
    let dead = Credential {
        state: CredentialState::Revoked,
        next_at: None,
        ..dead
    };
    tx.update_credential(&dead).await.unwrap();
    assert_eq!(tx.take_reaps(later(20), later(30)).await.unwrap(), []);
    assert_eq!(tx.reaps().await.unwrap(), []);
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn a_key_without_a_name_has_its_turn(store: Store) {
    let root = RootId::new(NOW, &Ids);
    let (first, second) = (CredentialId::new(NOW, &Ids), CredentialId::new(NOW, &Ids));
    let mut tx = store.begin().await.unwrap();
    assert!(tx.begin_making(root, first, NOW).await.unwrap());
    assert!(!tx.begin_making(root, second, NOW).await.unwrap());
    assert_eq!(tx.making(root).await.unwrap().unwrap().listed, None);
    tx.list_making(first, &[]).await.unwrap();
    assert_eq!(tx.making(root).await.unwrap().unwrap().listed, Some(Vec::new()));
    tx.list_making(first, &["a".to_owned()]).await.unwrap();
    let making = tx.making(root).await.unwrap().unwrap();
    assert_eq!((making.credential, making.listed), (first, Some(vec!["a".to_owned()])));
    assert!(tx.list_making(second, &[]).await.is_err());
    tx.end_making(first).await.unwrap();
    assert!(tx.begin_making(root, second, NOW).await.unwrap());
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn what_waits_for_a_vendor_is_woken_together(store: Store) {
    let grant = GrantId::new(NOW, &Ids);
    let root = RootId::new(NOW, &Ids);
    let mut tx = store.begin().await.unwrap();
    let mut insert = async |state, next_at, trouble: Option<&str>| {
        let key = Credential {
            root,
            next_at: Some(next_at),
            last_error: trouble.map(str::to_owned),
            ..credential(grant, state)
        };
        tx.insert_credential(&key).await.unwrap();
        key.id
    };
    let waits = insert(CredentialState::Revoking, later(900), Some("500")).await;
    let stuck = insert(CredentialState::Stuck, later(901), Some("500")).await;
    insert(CredentialState::Revoking, later(20), Some("being tried")).await;
    insert(CredentialState::Probe, later(902), None).await;
    insert(CredentialState::Active, later(903), None).await;
    assert_eq!(tx.roots_due(later(10_000)).await.unwrap(), []);
    assert_eq!(tx.wake_credentials(root, NOW).await.unwrap(), 2);
    assert_eq!(tx.credentials_due_of(root, NOW, 9).await.unwrap().len(), 2);
    let due = tx.credentials_due_of(root, NOW, 9).await.unwrap();
    assert!(due.contains(&waits) && due.contains(&stuck));
    assert_eq!(tx.credentials_due_of(root, NOW, 1).await.unwrap().len(), 1);
    // All that was left half done; what should have been dead is late since then.
    assert_eq!(tx.take_up_credentials(later(30)).await.unwrap(), 4);
    assert_eq!(tx.credentials_due_of(root, later(30), 9).await.unwrap().len(), 4);
    assert_eq!(tx.credential(waits).await.unwrap().unwrap().first_failed, Some(NOW));
    let connected = samples::root("anthropic");
    let root = connected.id;
    tx.insert_root(&samples::stored(connected), &Sealed(vec![1]))
        .await
        .unwrap();
    let key = Credential {
        root,
        ..credential(grant, CredentialState::Active)
    };
    tx.insert_credential(&key).await.unwrap();
    assert_eq!(tx.roots_due(later(59)).await.unwrap(), []);
    assert_eq!(tx.roots_due(later(60)).await.unwrap(), [(root, name("anthropic"))]);
    tx.commit(&[], &[]).await.unwrap();
}

pub(super) async fn leases_are_chosen_and_ended_together(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let grant = samples::grant("readers");
    let other = samples::grant("writers");
    for grant in [&grant, &other] {
        tx.insert_grant(&samples::stored(grant.clone())).await.unwrap();
    }
    let mut put = async |grant: &dekeys::model::grant::Grant, state| {
        let key = credential(grant.id, CredentialState::Active);
        tx.insert_credential(&key).await.unwrap();
        let row = Lease {
            credential: key.id,
            ..lease(grant, state)
        };
        tx.insert_lease(&row).await.unwrap();
        row
    };
    let first = put(&grant, LeaseState::Active).await;
    let second = put(&other, LeaseState::Pending).await;
    put(&other, LeaseState::Revoked).await;
    let mut chosen = async |choice: LeaseChoice| -> Vec<LeaseId> {
        let found = tx.choose_leases(&choice).await.unwrap();
        found.into_iter().map(|lease| lease.id).collect()
    };
    let none = LeaseChoice::default;
    assert_eq!(chosen(none()).await.len(), 2);
    for choice in [
        LeaseChoice {
            prim: Some(first.prim),
            ..none()
        },
        LeaseChoice {
            owner: Some(grant.principal),
            ..none()
        },
        LeaseChoice {
            grant: Some(grant.id),
            vendor: Some(name("openai")),
            vendor_prefix: Some("open".to_owned()),
            ..none()
        },
    ] {
        assert_eq!(chosen(choice.clone()).await, [first.id], "{choice:?}");
    }
    let elsewhere = LeaseChoice {
        vendor_prefix: Some("penai".to_owned()),
        ..none()
    };
    assert_eq!(chosen(elsewhere).await, []);
    let wanted = [first.id, second.id, LeaseId::new(NOW, &Ids)];
    let ended = tx.end_leases(&wanted, LeaseState::Revoked).await.unwrap();
    assert_eq!(ended.len(), 2);
    assert_eq!(tx.end_leases(&wanted, LeaseState::Revoked).await.unwrap(), []);
    assert_eq!(tx.live_leases(&first.policy).await.unwrap(), 0);
    let keys = [first.credential, second.credential];
    assert_eq!(tx.end_credentials(&keys, later(3)).await.unwrap().len(), 2);
    assert_eq!(tx.end_credentials(&keys, later(4)).await.unwrap(), []);
    let row = tx.credential(first.credential).await.unwrap().unwrap();
    assert_eq!((row.state, row.next_at), (CredentialState::Revoking, Some(later(3))));
    assert_eq!(tx.end_leases(&[], LeaseState::Expired).await.unwrap(), []);
    tx.commit(&[], &[]).await.unwrap();
}
