//! Values that another key should seal: found by how they begin, replaced only while nobody else changed them.

use dekeys::base::id::GrantId;
use dekeys::model::credential::CredentialState;
use dekeys::model::sealed::Sealed;
use dekeys::store::Store;

use super::samples::{Ids, NOW, credential, root, stored};

/// A value that begins as one key's values do.
fn under(key: u8, rest: u8) -> Sealed {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&[key; 8]);
    bytes.push(rest);
    Sealed(bytes)
}

pub(super) async fn values_of_older_keys_are_found_and_replaced_once(store: Store) {
    let (old, new) = ([1, 7, 7, 7, 7, 7, 7, 7, 7], [1, 8, 8, 8, 8, 8, 8, 8, 8]);
    let grant = GrantId::new(NOW, &Ids);
    let mut tx = store.begin().await.unwrap();
    let mut ids = Vec::new();
    for rest in 0..3 {
        let mut made = credential(grant, CredentialState::Intent);
        tx.insert_credential(&made).await.unwrap();
        made.state = CredentialState::Active;
        tx.save_created(&made, &under(7, rest)).await.unwrap();
        ids.push(made.id);
    }
    // Without a value: nothing to seal anew.
    tx.insert_credential(&credential(grant, CredentialState::Intent))
        .await
        .unwrap();
    let connected = stored(root("b"));
    tx.insert_root(&connected, &under(7, 9)).await.unwrap();
    tx.insert_signing_key("log", 1, "ed25519:a", &under(7, 5), NOW)
        .await
        .unwrap();

    ids.sort_by_key(ToString::to_string);
    assert_eq!(tx.count_to_reseal(&old).await.unwrap(), 0);
    assert_eq!(tx.count_to_reseal(&new).await.unwrap(), 5);
    assert_eq!(tx.credentials_to_reseal(&new, None, 2).await.unwrap(), ids[..2]);
    assert_eq!(tx.credentials_to_reseal(&new, Some(ids[1]), 2).await.unwrap(), ids[2..]);
    assert_eq!(tx.roots_to_reseal(&new).await.unwrap(), [connected.unverified.id]);
    let keys = tx.signing_keys_to_reseal(&new).await.unwrap();
    assert_eq!((keys.len(), keys[0].kind.as_str(), keys[0].number), (1, "log", 1));

    let (_, before) = tx.sealed_credential(ids[0]).await.unwrap().unwrap();
    assert!(tx.reseal_credential(ids[0], &before, &under(8, 0)).await.unwrap());
    assert!(
        !tx.reseal_credential(ids[0], &before, &under(8, 1)).await.unwrap(),
        "somebody was quicker"
    );
    let id = connected.unverified.id;
    assert!(tx.reseal_root(id, &under(7, 9), &under(8, 9)).await.unwrap());
    assert!(!tx.reseal_root(id, &under(7, 9), &under(8, 9)).await.unwrap());
    assert!(tx.reseal_signing_key(&keys[0], &under(8, 5)).await.unwrap());
    assert!(!tx.reseal_signing_key(&keys[0], &under(8, 5)).await.unwrap());
    assert_eq!(tx.count_to_reseal(&new).await.unwrap(), 2);
    assert_eq!(tx.sealed_credential(ids[0]).await.unwrap().unwrap().1, under(8, 0));
}
