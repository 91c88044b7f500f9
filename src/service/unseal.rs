//! Unseal and seal: what makes keys usable, and what ends that at once.

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use super::caller::Context;
use super::error::Error;
use super::record::SELF;
use super::shares::Progress;
use super::{App, Sealing, checkpoint, deliver, expire, incarnation, keys, reconcile, recover, rotation};
use crate::base::time::{Timestamp, Ttl, span_words};
use crate::model::principal::PrincipalKind;
use crate::store::Engine;
pub use crate::vault::UnsealKey;
use crate::vault::{Keyring, VaultError};

/// Key wraps reserved at a time: how many values can be sealed before the reservation is renewed.
pub(super) const WRAPS: i64 = 65_536;

/// Wrong keys after which there is a pause, and how long it is.
const TRIES: i64 = 4;
const PAUSE: Ttl = Ttl::from_secs(30);

/// Whether keys can be used.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SealStatus {
    /// Nothing that needs a key works.
    pub sealed: bool,
    /// `test` or `live`.
    pub mode: String,
    /// The instance.
    pub instance: String,
    /// How far the shares go that were brought, while the vault waits for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// The present seal status; answers while sealed.
#[must_use]
pub fn status(app: &App) -> SealStatus {
    SealStatus {
        sealed: app.is_sealed(),
        mode: app.instance.mode.as_str().to_owned(),
        instance: app.instance.id.to_string(),
        progress: app.gathered().progress(app.now()).filter(|_| app.is_sealed()),
    }
}

/// Since when the vault is sealed. Who did it and why is for operators: a reason may tell strangers when to come.
#[must_use]
pub fn sealed_words(app: &App, for_operators: bool) -> String {
    let ago = |at: Timestamp| span_words(app.now().since(at));
    let Some(sealing) = app.sealing() else {
        return format!("Sealed since it started {} ago", ago(app.started()));
    };
    let when = format!("Sealed {} ago", ago(sealing.at));
    match (for_operators, sealing.reason) {
        (false, _) => when,
        (true, None) => format!("{when} by {}", sealing.by),
        (true, Some(reason)) => format!("{when} by {}: \"{reason}\"", sealing.by),
    }
}

/// How many wrong keys may follow before there is a pause.
#[must_use]
pub fn tries_left(app: &App) -> i64 {
    let times = app.guesses().0.lock().times;
    TRIES.saturating_sub(times.checked_rem(TRIES).unwrap_or_default())
}

/// Wrong keys in a row, so that nobody tries many.
#[derive(Default)]
pub struct Guesses(Mutex<Wrong>);

#[derive(Default)]
struct Wrong {
    times: i64,
    since: Timestamp,
    pause_until: Timestamp,
}

impl Guesses {
    pub(super) fn refuse_in_pause(&self, now: Timestamp) -> Result<(), Error> {
        let until = self.0.lock().pause_until;
        if until > now {
            return Err(Error::RateLimited(until.since(now)));
        }
        Ok(())
    }

    /// Counts a wrong key. Answers what to tell the log, which hears of the first and then of each pause only.
    fn wrong(&self, now: Timestamp) -> Option<(i64, Timestamp)> {
        let mut wrong = self.0.lock();
        if wrong.times == 0 {
            wrong.since = now;
        }
        wrong.times = wrong.times.saturating_add(1);
        let pause = wrong.times % TRIES == 0;
        if pause {
            wrong.pause_until = now.plus(PAUSE);
        }
        (pause || wrong.times == 1).then_some((wrong.times, wrong.since))
    }

    fn forget(&self) {
        *self.0.lock() = Wrong::default();
    }
}

/// Opens the vault, checks the instance row and the log, and takes up where the last process ended.
///
/// # Errors
/// [`Error::UnsealKeyWrong`] changes nothing; after four of them [`Error::RateLimited`] for half a minute;
/// [`Error::AlreadyUnsealed`]; [`Error::Forged`] and
/// [`Error::LogBroken`] leave the vault sealed.
pub async fn unseal(app: &App, key: UnsealKey) -> Result<SealStatus, Error> {
    if !app.vault.is_sealed() {
        return Err(Error::AlreadyUnsealed);
    }
    app.guesses().refuse_in_pause(app.now())?;
    let mut tx = app.store.read().await?;
    let text = tx.keyring().await?.ok_or(Error::NotFound("keyring"))?;
    drop(tx);
    let keyring: Keyring = serde_json::from_str(&text).map_err(|_| Error::Forged("keyring"))?;
    let vault = app.vault.clone();
    // Argon2 takes a good part of a second: not on a thread that answers requests.
    let opened = tokio::task::spawn_blocking(move || vault.unseal(&keyring, &key))
        .await
        .map_err(Error::internal)?;
    match opened {
        Err(VaultError::WrongKey) => {
            guessed_wrong(app).await;
            return Err(Error::UnsealKeyWrong);
        }
        Err(VaultError::Busy) => return Err(Error::Busy),
        other => other?,
    }
    app.guesses().forget();
    match take_up(app).await {
        Ok(()) => {
            app.announce_work();
            Ok(status(app))
        }
        Err(error) => {
            app.vault.seal();
            app.open_with(None);
            Err(error)
        }
    }
}

/// Has what the last process left half done looked at now. Before the first request is served: what begins later is
/// nobody's leftover. Other instances of a shared database may still be at work on theirs, so there the timers decide.
pub(super) async fn go_on(app: &App) -> Result<(), Error> {
    if app.store.engine() == Engine::Sqlite && !app.is_reconciling() {
        let left = recover::at_start(app).await?;
        rotation::at_start(app).await?;
        reconcile::at_start(app).await?;
        expire::left(app, app.now()).await?;
        if left > 0 {
            tracing::info!(left, "keys were left half made or half revoked; looking at them now");
        }
    }
    Ok(())
}

async fn take_up(app: &App) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let stored = tx.instance().await?.ok_or(Error::NotFound("instance"))?;
    let instance = app.authentic("instance", stored).await?;
    let (from, until) = tx.reserve_wraps(WRAPS).await?;
    app.vault.start_wraps(from.unsigned_abs());
    app.allow_wraps(until.unsigned_abs());
    let before = keys::opened(app, &mut tx, instance).await?;
    checkpoint::verify_at_start(app, &mut tx, &before.log_publics()).await?;
    let mut taken = incarnation::take_up(app, &mut tx, before.instance.clone(), &before.log_publics()).await?;
    // A new history has other token keys.
    let opened = keys::opened(app, &mut tx, taken.instance.clone()).await?;
    taken
        .events
        .push(app.own_event("vault.unsealed", &opened.instance.id, serde_json::json!({})));
    // What the last process left at vendors is found at once.
    tx.reap_anew(app.now()).await?;
    let _none = tx.commit(&taken.events, &[]).await?;
    taken.keep(app)?;
    app.stand(taken.standing);
    go_on(app).await?;
    app.open_with(Some(opened));
    app.unsealed_at(app.now());
    Ok(())
}

/// Reserves more key wraps when half of the reservation is used; a worker calls it.
///
/// # Errors
/// The store's.
pub async fn reserve_wraps(app: &App) -> Result<(), Error> {
    if app.vault.is_sealed() || app.wraps_left() > WRAPS.unsigned_abs() / 2 {
        return Ok(());
    }
    // The numbers are those of the newest key: whoever seals with an older one must not take them.
    keys::follow(app).await?;
    let mut tx = app.store.begin().await?;
    let (_, until) = tx.reserve_wraps(WRAPS).await?;
    let _none = tx.commit(&[], &[]).await?;
    app.allow_wraps(until.unsigned_abs());
    Ok(())
}

/// Drops the keys.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn seal(app: &App, context: &Context, reason: Option<&str>) -> Result<SealStatus, Error> {
    let operator = context.require(&[PrincipalKind::Operator])?;
    let data = serde_json::json!({ "by": operator.name, "reason": reason });
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let event = app.event(context, "vault.sealed", &app.instance.id, data);
    let number = tx.chain_head().await?.0.saturating_add(1);
    let _none = tx.commit(&[event], &[]).await?;
    app.sealed_by(Sealing {
        at: app.now(),
        by: operator.name.to_string(),
        reason: reason.map(str::to_owned),
    });
    // What is to be told of this is signed while there is a key. Sealing waits for nobody, and fails for no webhook.
    let words = deliver::last_words(app, number).await;
    close(app);
    match words {
        Ok(words) => deliver::send_last_words(app, words),
        Err(error) => tracing::warn!(%error, "webhooks are told of the sealing only after the next unseal"),
    }
    Ok(status(app))
}

/// Drops the keys at the process's end or in trouble; without a caller.
pub fn close(app: &App) {
    app.vault.seal();
    app.open_with(None);
}

/// Counts a wrong key.
pub(super) async fn guessed_wrong(app: &App) {
    if let Some((times, since)) = app.guesses().wrong(app.now()) {
        unseal_failed(app, times, since).await;
    }
}

/// Tells the log that somebody tried a wrong key. Aggregated by the caller, so that strangers cannot fill the disk.
async fn unseal_failed(app: &App, times: i64, since: Timestamp) {
    let mut event = app.own_event(
        "vault.unseal_failed",
        &app.instance.id,
        serde_json::json!({ "times": times, "since": since }),
    );
    SELF.clone_into(&mut event.actor);
    if let Ok(tx) = app.store.begin().await
        && let Err(error) = tx.commit(&[event], &[]).await
    {
        tracing::warn!(%error, "could not record a failed unseal");
    }
}
