//! Keys without names (V3): one at a time is made with a root credential, after the vendor's list was put on record. When
//! the answer is lost, what the list holds more than before may be the key; people decide, and nothing is ended that
//! may be somebody else's.

use std::collections::HashSet;
use std::time::Duration;

use super::App;
use super::error::Error;
use crate::base::time::Ttl;
use crate::model::credential::Credential;
use crate::store::orphans::Making;
use crate::vendor::{Adapter, Existence, FailureClass, Recovery, RootSecret, VendorFailure};

/// How long a request waits for its turn.
const PATIENCE: Ttl = Ttl::from_secs(10);

/// Between two looks whether it is its turn.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits for the turn of a key that will have no name, and puts on record what the vendor lists before it. Nothing to
/// do where keys have names.
///
/// # Errors
/// The store's; a vendor's failure is answered beside them. Then nothing was asked for.
pub(super) async fn begin(
    app: &App,
    credential: &Credential,
    adapter: &Adapter,
    root: &RootSecret,
) -> Result<Result<(), VendorFailure>, Error> {
    if adapter.manifest().recovery() != Recovery::ByDifference {
        return Ok(Ok(()));
    }
    if !take_turn(app, credential).await? {
        return Ok(Err(VendorFailure {
            class: FailureClass::Refused,
            created: Existence::No,
            status: None,
            retry_after: Some(Ttl::from_secs(5)),
            words: "another key is being made there, and keys without names are made one at a time".to_owned(),
        }));
    }
    let listed = adapter.list_ids(&app.egress, root);
    let listed = match app.asked((credential.root, &credential.vendor), "find", listed).await {
        Ok(listed) => listed,
        Err(failure) => return Ok(Err(failure)),
    };
    let mut tx = app.store.begin().await?;
    tx.list_making(credential.id, &listed).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(Ok(()))
}

async fn take_turn(app: &App, credential: &Credential) -> Result<bool, Error> {
    let until = app.now().plus(PATIENCE);
    loop {
        let mut tx = app.store.begin().await?;
        let begun = tx.begin_making(credential.root, credential.id, app.now()).await?;
        let _none = tx.commit(&[], &[]).await?;
        if begun || app.now() >= until {
            return Ok(begun);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The making of this credential, if it is under way.
pub(super) async fn of(app: &App, credential: &Credential) -> Result<Option<Making>, Error> {
    let mut tx = app.store.read().await?;
    let making = tx.making(credential.root).await?;
    tx.end().await?;
    Ok(making.filter(|making| making.credential == credential.id))
}

/// What the vendor lists more than before, less what is known here: one of these may be the key.
pub(super) async fn appeared(
    app: &App,
    credential: &Credential,
    before: Vec<String>,
    now_listed: Vec<String>,
) -> Result<Vec<String>, Error> {
    let before: HashSet<String> = before.into_iter().collect();
    let fresh: Vec<String> = now_listed.into_iter().filter(|id| !before.contains(id)).collect();
    let mut tx = app.store.read().await?;
    let known = tx.claimants(&credential.vendor, &[], &fresh).await?;
    tx.end().await?;
    let known: HashSet<String> = known.into_iter().filter_map(|row| row.vendor_key_id).collect();
    Ok(fresh.into_iter().filter(|id| !known.contains(id)).collect())
}
