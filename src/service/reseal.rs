//! Sealing anew, under the current key-encryption key, what an older one sealed. A worker does it a little at a time;
//! readers never wait, and a value that somebody changes meanwhile is left to the next pass.

use super::App;
use super::control::root_place;
use super::error::Error;
use super::init::signing_place;
use super::provision::credential_place;
use crate::base::id::CredentialId;

/// Credentials sealed anew in one commit.
const AT_A_TIME: i64 = 100;

/// dekeys' own signing keys and the root credentials: few.
///
/// # Errors
/// The store's and the vault's.
pub async fn own(app: &App) -> Result<(), Error> {
    let prefix = app.vault.current_prefix()?;
    let mut tx = app.store.read().await?;
    let (keys, roots) = (
        tx.signing_keys_to_reseal(&prefix).await?,
        tx.roots_to_reseal(&prefix).await?,
    );
    tx.end().await?;
    if keys.is_empty() && roots.is_empty() {
        return Ok(());
    }
    let mut tx = app.store.begin().await?;
    for key in keys {
        let kind = if key.kind == "log" { "log" } else { "token" };
        let place = signing_place(app.instance.id, kind, key.number);
        if let Some(sealed) = app.vault.rewrap(&key.sealed, &place)? {
            tx.reseal_signing_key(&key, &sealed).await?;
        }
    }
    for id in roots {
        let Some((stored, before)) = tx.root(id).await? else {
            continue;
        };
        let place = root_place(app, &stored.unverified);
        if let Some(after) = rewrapped(app, &before, &place, &id) {
            tx.reseal_root(id, &before, &after).await?;
        }
    }
    let _none = tx.commit(&[], &[]).await?;
    app.control().forget_roots();
    Ok(())
}

/// The next credentials after `after`. Answers where to go on; `None` when it was the last.
///
/// # Errors
/// The store's and the vault's.
pub async fn credentials(app: &App, after: Option<CredentialId>) -> Result<Option<CredentialId>, Error> {
    let prefix = app.vault.current_prefix()?;
    let mut tx = app.store.read().await?;
    let ids = tx.credentials_to_reseal(&prefix, after, AT_A_TIME).await?;
    tx.end().await?;
    let Some(last) = ids.last().copied() else {
        return Ok(None);
    };
    let mut tx = app.store.begin().await?;
    for id in ids {
        let Some((row, before)) = tx.sealed_credential(id).await? else {
            continue;
        };
        if let Some(after) = rewrapped(app, &before, &credential_place(app, &row), &id) {
            tx.reseal_credential(id, &before, &after).await?;
        }
    }
    let _none = tx.commit(&[], &[]).await?;
    Ok(Some(last))
}

/// The value under the current key. One that does not open stays as it is: whoever needs it raises the alarm.
fn rewrapped(
    app: &App,
    before: &crate::model::sealed::Sealed,
    place: &crate::model::sealed::Place,
    id: &impl std::fmt::Display,
) -> Option<crate::model::sealed::Sealed> {
    app.vault.rewrap(before, place).unwrap_or_else(|error| {
        tracing::error!(%error, %id, "a value could not be sealed anew");
        None
    })
}
