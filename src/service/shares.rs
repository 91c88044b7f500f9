//! Unsealing by shares: people bring them one after another, to one process, within ten minutes. What was brought is in
//! memory only. A share of another set, one that came before and one that does not exist are refused alike, and count as
//! a wrong key.

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::error::Error;
use super::unseal::{self, SealStatus, UnsealKey};
use crate::base::shares::Share;
use crate::base::time::{Timestamp, Ttl};
use crate::vault::Keyring;

/// How long shares are kept while others are still to come.
const KEPT: Ttl = Ttl::from_mins(10);

/// How far the shares go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Progress {
    /// Shares that were brought.
    pub given: u8,
    /// Shares that are needed.
    pub threshold: u8,
}

/// The shares that were brought so far, and since when.
#[derive(Default)]
pub struct Gathered(Mutex<Option<(Timestamp, Vec<Share>)>>);

impl Gathered {
    /// How far it goes, while anything is kept.
    pub(super) fn progress(&self, now: Timestamp) -> Option<Progress> {
        let mut kept = self.0.lock();
        forget_old(&mut kept, now);
        let (_, shares) = kept.as_ref()?;
        let threshold = shares.first()?.threshold();
        Some(Progress {
            given: u8::try_from(shares.len()).unwrap_or(u8::MAX),
            threshold,
        })
    }

    /// Takes one more. Answers all of them once they are enough; then nothing is kept.
    fn add(&self, share: Share, now: Timestamp) -> Result<Option<Vec<Share>>, Error> {
        let mut kept = self.0.lock();
        forget_old(&mut kept, now);
        let threshold = usize::from(share.threshold());
        let (_, shares) = kept.get_or_insert_with(|| (now, Vec::new()));
        let fits = |other: &Share| other.belongs_with(&share) && other.index() != share.index();
        if !shares.iter().all(fits) {
            return Err(Error::UnsealKeyWrong);
        }
        shares.push(share);
        if shares.len() < threshold {
            return Ok(None);
        }
        Ok(kept.take().map(|(_, shares)| shares))
    }

    fn clear(&self) {
        *self.0.lock() = None;
    }
}

fn forget_old(kept: &mut Option<(Timestamp, Vec<Share>)>, now: Timestamp) {
    if kept.as_ref().is_some_and(|(since, _)| now.since(*since) >= KEPT) {
        *kept = None;
    }
}

/// Takes a share. The last one that is needed unseals.
///
/// # Errors
/// [`Error::AlreadyUnsealed`]; [`Error::UnsealKeyWrong`] for whatever is wrong with it, and when all that were brought
/// do not open the vault: then they are to be brought anew. After four of them [`Error::RateLimited`].
pub async fn share(app: &App, share: Share) -> Result<SealStatus, Error> {
    if !app.vault.is_sealed() {
        return Err(Error::AlreadyUnsealed);
    }
    app.guesses().refuse_in_pause(app.now())?;
    let taken = if known(app, &share).await? {
        app.gathered().add(share, app.now())
    } else {
        Err(Error::UnsealKeyWrong)
    };
    match taken {
        Ok(None) => Ok(unseal::status(app)),
        Ok(Some(shares)) => unseal::unseal(app, UnsealKey::join(&shares)?).await,
        Err(error) => {
            unseal::guessed_wrong(app).await;
            Err(error)
        }
    }
}

/// Forgets the shares that were brought; for whoever has one of the set.
///
/// # Errors
/// [`Error::UnsealKeyWrong`] for any other.
pub async fn cancel(app: &App, share: Share) -> Result<SealStatus, Error> {
    app.guesses().refuse_in_pause(app.now())?;
    if !known(app, &share).await? {
        unseal::guessed_wrong(app).await;
        return Err(Error::UnsealKeyWrong);
    }
    app.gathered().clear();
    Ok(unseal::status(app))
}

/// Whether the keyring is opened by shares of this set.
async fn known(app: &App, share: &Share) -> Result<bool, Error> {
    let mut tx = app.store.read().await?;
    let text = tx.keyring().await?.ok_or(Error::NotFound("keyring"))?;
    tx.end().await?;
    let keyring: Keyring = serde_json::from_str(&text).map_err(|_| Error::Forged("keyring"))?;
    Ok(keyring.share_sets().contains(&(share.set(), share.threshold())))
}
