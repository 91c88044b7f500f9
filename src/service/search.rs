//! Searching a vendor for a key whose making was intended and whose answer was lost: by the way that its class offers.

use super::error::Error;
use super::{App, cost, making, provision};
use crate::base::money::Money;
use crate::base::time::Ttl;
use crate::model::credential::Credential;
use crate::vendor::{Adapter, Existence, Found, Recovery, RootSecret, VendorFailure};

/// A vendor that remembers requests is trusted to do so until shortly before it says that it forgets.
const MARGIN: Ttl = Ttl::from_secs(30);

/// What the search showed.
pub(super) enum Sought {
    /// These keys are this credential's doing. More than one: the vendor made it twice.
    Keys(Vec<Found>),
    /// No key is there now. The list may lag.
    Nothing,
    /// No key was ever made, or it is dead by itself: nothing needs to be looked for again.
    Never,
    /// One of these may be it: only people can tell.
    Appeared(Vec<String>),
    /// Nothing to be seen before then; that is no trouble.
    Wait(Ttl),
}

/// Looks once.
///
/// # Errors
/// The store's; a vendor's failure is answered beside them.
pub(super) async fn search(
    app: &App,
    row: &Credential,
    adapter: &Adapter,
    root: &RootSecret,
) -> Result<Result<Sought, VendorFailure>, Error> {
    match adapter.manifest().recovery() {
        Recovery::Repeat { window } if app.now().plus(MARGIN) < row.created.plus(window) => {
            let cap = cost::of(app, row).await?;
            Ok(repeat(app, (row, cap), adapter, root).await)
        }
        Recovery::Repeat { .. } | Recovery::ByName => Ok(by_name(app, row, adapter, root).await),
        Recovery::ByDifference => by_difference(app, row, adapter, root).await,
        Recovery::ByTime | Recovery::None => Ok(Ok(by_time(app, row, adapter))),
    }
}

/// The same request again: the vendor answers with the key that it made, or makes it now. It is ended either way.
async fn repeat(
    app: &App,
    (row, cap): (&Credential, Option<Money>),
    adapter: &Adapter,
    root: &RootSecret,
) -> Result<Sought, VendorFailure> {
    let found = |vendor_key_id: String| {
        Sought::Keys(vec![Found {
            vendor_key_id,
            name: row.name.clone(),
        }])
    };
    match Box::pin(provision::ask(app, (row, cap), adapter, root, async |_, _| {})).await {
        Ok(created) => Ok(found(created.vendor_key_id)),
        Err(failure) => match failure.created {
            Existence::Yes(id) => Ok(found(id)),
            // Refused now does not say that it was refused then.
            Existence::No if failure.status.is_some() => by_name(app, row, adapter, root).await,
            _ => Err(failure),
        },
    }
}

async fn by_name(app: &App, row: &Credential, adapter: &Adapter, root: &RootSecret) -> Result<Sought, VendorFailure> {
    let name = crate::model::credential::vendor_name(app.instance.id, row.id, 1);
    let found = adapter.find(&app.egress, root, &name);
    let found = app.asked((row.root, &row.vendor), "find", found).await?;
    Ok(if found.is_empty() {
        Sought::Nothing
    } else {
        Sought::Keys(found)
    })
}

async fn by_difference(
    app: &App,
    row: &Credential,
    adapter: &Adapter,
    root: &RootSecret,
) -> Result<Result<Sought, VendorFailure>, Error> {
    let making = making::of(app, row).await?;
    // Without the list from before the vendor was not asked for the key.
    let Some(before) = making.and_then(|making| making.listed) else {
        return Ok(Ok(Sought::Never));
    };
    let listed = adapter.list_ids(&app.egress, root);
    let listed = match app.asked((row.root, &row.vendor), "find", listed).await {
        Ok(listed) => listed,
        Err(failure) => return Ok(Err(failure)),
    };
    let appeared = making::appeared(app, row, before, listed).await?;
    Ok(Ok(if appeared.is_empty() {
        Sought::Nothing
    } else {
        Sought::Appeared(appeared)
    }))
}

/// It cannot be looked for; its term ends it.
fn by_time(app: &App, row: &Credential, adapter: &Adapter) -> Sought {
    let now = app.now();
    match adapter.manifest().dead_by(row.created, row.expires) {
        Some(dead) if dead > now => Sought::Wait(dead.since(now)),
        _ => Sought::Never,
    }
}
