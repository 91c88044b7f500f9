//! Incarnations: seen at unseal whether this database is the one that was unsealed last, or a copy, or an older state of
//! it. If it is not, a new incarnation begins before anything is done at a vendor: tokens of the one before die, and until
//! people have compared it with the vendors nothing is released, bought, made or ended (decision 0033).
//!
//! What is compared lies outside the database, in the mark. Not protected: a database and its mark that are rolled back or
//! copied together by whoever copies whole disks; a second mark elsewhere (`mark_file`) is for that.

pub mod compare;
mod mark;
pub mod settle;

use std::cmp::Ordering;

use serde_json::json;

use super::error::Error;
use super::init::insert_token_keys;
use super::unseal::{WRAPS, close};
use super::{App, checkpoint, keys, unseal};
use crate::audit::LogPublic;
use crate::base::id::IncarnationId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::Event;
use crate::model::incarnation::{Cause, Incarnation};
use crate::model::instance::Instance;
use crate::store::{Engine, ReadTx, Tx};
pub(super) use mark::Mark;

/// How the present history stands, in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The incarnation.
    pub id: IncarnationId,
    /// Why it began.
    pub cause: Cause,
    /// When.
    pub begun: Timestamp,
    /// Whether people have still to compare it with the vendors.
    pub reconciling: bool,
    /// Payments are taken from then on.
    pub payments_from: Timestamp,
}

impl Standing {
    fn of(row: &Incarnation) -> Self {
        Self {
            id: row.id,
            cause: row.cause,
            begun: row.begun,
            reconciling: row.reconciled.is_none(),
            payments_from: row.payments_from,
        }
    }
}

impl App {
    /// Whether this history has still to be compared with the vendors: nothing is released, made or ended.
    #[must_use]
    pub fn is_reconciling(&self) -> bool {
        self.standing().is_some_and(|standing| standing.reconciling)
    }

    /// Refuses what must not happen before this history was compared with the vendors.
    ///
    /// # Errors
    /// [`Error::Reconciling`].
    pub fn refuse_while_reconciling(&self) -> Result<(), Error> {
        match self.standing() {
            Some(standing) if standing.reconciling => Err(Error::Reconciling(standing.cause)),
            _ => Ok(()),
        }
    }

    /// Refuses payments that the history before may have taken already.
    ///
    /// # Errors
    /// [`Error::PaymentsClosed`].
    pub fn refuse_payments_too_early(&self) -> Result<(), Error> {
        let from = self
            .standing()
            .map_or_else(Timestamp::default, |standing| standing.payments_from);
        if from > self.now() {
            return Err(Error::PaymentsClosed(from.since(self.now())));
        }
        Ok(())
    }
}

/// What an unseal begins with: the instance as it is now, how its history stands, and what is to be put on record.
pub(super) struct TakenUp {
    pub(super) instance: Instance,
    pub(super) standing: Standing,
    pub(super) events: Vec<Event>,
    mark: Mark,
    ahead: bool,
}

/// Compares the database with its mark and the copied checkpoint, in the transaction of the unseal, and begins a new
/// history where they differ.
///
/// # Errors
/// [`Error::Conflict`] for the mark of another instance; [`Error::Forged`].
pub(super) async fn take_up(
    app: &App,
    tx: &mut Tx,
    instance: Instance,
    publics: &[&LogPublic],
) -> Result<TakenUp, Error> {
    let place = tx.place().await?;
    let known = known(app, tx, &instance).await?;
    let size = tx.tree_state().await?.size;
    let ahead = checkpoint::last_copy(app, publics).is_some_and(|copied| copied > size);
    // Restored, and not unsealed yet: that it is older than what is known outside is known.
    let restored = known
        .last()
        .is_some_and(|row| row.cause == Cause::Restored && row.reconciled.is_none());
    let found = match look(app, tx, &instance, &known, &place).await? {
        None if ahead && !restored => Some(Difference::new(
            Cause::RolledBack,
            "the copied checkpoint has more events",
        )),
        found => found,
    };
    let (instance, row, mut events) = match found {
        Some(Difference { cause, ahead }) => {
            let valid = app
                .rail
                .as_ref()
                .map_or_else(Ttl::default, |(_, terms)| terms.max_timeout);
            begin(app, tx, instance, cause, &ahead, valid).await?
        }
        None => (instance.clone(), current(app, tx, &instance, known).await?, Vec::new()),
    };
    let epoch = tx.raise_epoch().await?;
    let (n, digest) = tx.chain_head().await?;
    if row.reconciled.is_none() && events.is_empty() {
        let data = json!({ "incarnation": row.id, "cause": row.cause });
        events.push(app.own_event("instance.reconciling", &instance.id, data));
    }
    Ok(TakenUp {
        standing: Standing::of(&row),
        ahead,
        mark: Mark::new(&instance, epoch, (n, digest), place),
        instance,
        events,
    })
}

impl TakenUp {
    /// After the commit: what the next unseal is compared with, on disk before anything else is done.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it cannot be written: without it a copy could not be told from the original.
    pub(super) fn keep(&self, app: &App) -> Result<(), Error> {
        mark::write(app, &self.mark).map_err(|error| {
            tracing::error!(%error, path = ?app.mark, "the mark of this database cannot be written");
            Error::Conflict(
                "the mark of this database cannot be written; make `mark_file` (by default `mark` in `data_dir`) writable"
                    .to_owned(),
            )
        })?;
        app.keep_mark(self.mark.clone());
        if self.ahead {
            keep_checkpoint(app);
        }
        Ok(())
    }
}

/// All histories on record, oldest first.
async fn known(app: &App, tx: &mut ReadTx, instance: &Instance) -> Result<Vec<Incarnation>, Error> {
    let mut known = Vec::new();
    for stored in tx.incarnations().await? {
        known.push(app.authentic("incarnation", stored).await?);
    }
    // A row that somebody took away would let the history pass for one that needs no comparing.
    let missing = match known.last() {
        Some(last) => last.id != instance.incarnation,
        None => tx.epoch().await? > 0,
    };
    if missing {
        app.raise("security.forged_row", "incarnation").await;
        return Err(Error::Forged("incarnation"));
    }
    Ok(known)
}

/// What differs from the mark.
struct Difference {
    cause: Cause,
    /// What is known outside and not here, in words for the record.
    ahead: String,
}

/// `None`: this is the database that was unsealed last, as far as can be told.
async fn look(
    app: &App,
    tx: &mut ReadTx,
    instance: &Instance,
    known: &[Incarnation],
    place: &str,
) -> Result<Option<Difference>, Error> {
    let epoch = tx.epoch().await?;
    let Some(mark) = mark::read(app) else {
        // Another instance of a shared database brings no mark; SQLite's file never leaves its own.
        let restored = known
            .last()
            .is_some_and(|row| row.cause == Cause::Restored && row.reconciled.is_none());
        let lost = epoch > 0 && app.store.engine() == Engine::Sqlite && !restored;
        if epoch > 0 && !lost {
            tracing::warn!(path = ?app.mark, "there is no mark: whether this database was rolled back cannot be told");
        }
        return Ok(lost.then(|| Difference::new(Cause::Copied, "there is no mark")));
    };
    if mark.instance != instance.id {
        return Err(Error::Conflict(format!(
            "the mark (`mark_file`, by default `mark` in `data_dir`) is that of the instance {}; give each its own",
            mark.instance
        )));
    }
    if mark.incarnation != instance.incarnation {
        // Another instance of a shared database began it, or this one ended before it could write the mark.
        let before = known.iter().any(|row| row.parent == Some(mark.incarnation));
        let words = format!("the mark knows the incarnation {}", mark.incarnation);
        return Ok((!before).then(|| Difference::new(Cause::RolledBack, words)));
    }
    if mark.epoch > epoch {
        let words = format!("it was unsealed {} times, {epoch} are on record", mark.epoch);
        return Ok(Some(Difference::new(Cause::RolledBack, words)));
    }
    if !holds(tx, mark.head, mark.digest).await? {
        let words = format!("event {} was another one, or is missing", mark.head);
        return Ok(Some(Difference::new(Cause::RolledBack, words)));
    }
    let moved = mark.place != place;
    Ok(moved.then(|| Difference::new(Cause::Copied, "the database lies elsewhere than the mark says")))
}

impl Difference {
    fn new(cause: Cause, ahead: impl Into<String>) -> Self {
        let ahead = ahead.into();
        Self { cause, ahead }
    }
}

/// Whether event `n` is on the chain with this digest.
async fn holds(tx: &mut ReadTx, n: i64, digest: [u8; 32]) -> Result<bool, Error> {
    let (head, latest) = tx.chain_head().await?;
    Ok(match n.cmp(&head) {
        Ordering::Greater => false,
        Ordering::Equal => latest == digest,
        Ordering::Less if n == 0 => true,
        Ordering::Less => tx.chain(n, 1).await?.first().is_some_and(|row| row.digest == digest),
    })
}

/// The row of the present history; the first one is written when it is first seen, also after an upgrade.
async fn current(
    app: &App,
    tx: &mut Tx,
    instance: &Instance,
    mut known: Vec<Incarnation>,
) -> Result<Incarnation, Error> {
    if let Some(row) = known.pop() {
        return Ok(row);
    }
    let row = Incarnation {
        id: instance.incarnation,
        cause: Cause::Init,
        parent: None,
        head: (0, [0; 32]),
        begun: instance.created,
        reconciled: Some(instance.created),
        payments_from: Timestamp::default(),
    };
    tx.insert_incarnation(&app.stored(row.clone())?).await?;
    Ok(row)
}

/// Begins a new history in the caller's transaction: another incarnation, other token keys, and an event that names where
/// the one before ended here.
///
/// # Errors
/// The store's and the vault's.
pub(super) async fn begin(
    app: &App,
    tx: &mut Tx,
    mut instance: Instance,
    cause: Cause,
    ahead: &str,
    valid: Ttl,
) -> Result<(Instance, Incarnation, Vec<Event>), Error> {
    let now = app.now();
    let parent = instance.incarnation;
    let head = tx.chain_head().await?;
    // Ids of one millisecond have no order; this one must be the last.
    let row = Incarnation {
        id: IncarnationId::new(now.max(parent.made().plus(Ttl::from_millis(1))), app.random.as_ref()),
        cause,
        parent: Some(parent),
        head,
        begun: now,
        reconciled: None,
        payments_from: now.plus(valid),
    };
    instance.incarnation = row.id;
    tx.set_incarnation(&app.stored(instance.clone())?).await?;
    tx.insert_incarnation(&app.stored(row.clone())?).await?;
    tx.drop_signing_keys("token").await?;
    insert_token_keys(tx, &app.vault, &instance, now, app.random.as_ref()).await?;
    let checkpoint = tx.latest_checkpoint().await?.map(|(_, text)| text);
    let data = json!({
        "cause": cause, "incarnation": row.id, "before": parent, "why": ahead, "head": head.0,
        "head_digest": data_encoding::HEXLOWER.encode(&head.1), "checkpoint": checkpoint,
    });
    tracing::error!(
        cause = cause.as_str(),
        why = ahead,
        "this is not the database that was unsealed last; nothing is done \
        at a vendor before `dekeys reconcile`"
    );
    let event = app.own_event("instance.reincarnated", &instance.id, data);
    Ok((instance, row, vec![event]))
}

/// Begins the history of a restored backup, in a database that is not in its place yet.
///
/// # Errors
/// The store's and the vault's.
pub async fn restored(app: &App, created: Timestamp, valid: Ttl) -> Result<IncarnationId, Error> {
    let mut tx = app.store.begin().await?;
    let stored = tx.instance().await?.ok_or(Error::NotFound("instance"))?;
    let instance = app.authentic("instance", stored).await?;
    let (from, until) = tx.reserve_wraps(WRAPS).await?;
    app.vault.start_wraps(from.unsigned_abs());
    app.allow_wraps(until.unsigned_abs());
    let why = format!("a backup of {created}");
    let (_, row, events) = begin(app, &mut tx, instance, Cause::Restored, &why, valid).await?;
    let _none = tx.commit(&events, &[]).await?;
    Ok(row.id)
}

/// Says in a mark that its database was moved to `place` by dekeys itself: it is no copy. Without a mark there is nothing to
/// say.
///
/// # Errors
/// The file system's.
pub fn move_mark(path: &std::path::Path, place: &str) -> std::io::Result<()> {
    mark::moved(path, place)
}

/// The copied checkpoint of the history before is evidence: it is kept beside the one that will take its place.
fn keep_checkpoint(app: &App) {
    let Some(path) = &app.checkpoint_copy else { return };
    if let Err(error) = std::fs::rename(path, path.with_extension("before")) {
        tracing::error!(%error, "could not keep the checkpoint of the history before");
    }
}

/// Before the first unseal: what the database says of itself. Nothing is believed of it but that it asks for more care.
///
/// # Errors
/// The store's.
pub async fn expect(app: &App) -> Result<(), Error> {
    let mut tx = app.store.read().await?;
    if let Some(row) = tx.incarnation(app.instance.incarnation).await? {
        app.stand(Standing::of(&row.unverified));
    }
    Ok(tx.end().await?)
}

/// Keeps the mark up to date; a worker calls it when events were numbered. A database that is older than the mark was
/// rolled back while it was open: the vault is sealed, and the next unseal begins a new history.
pub(super) fn remember(app: &App, head: (i64, [u8; 32])) {
    let Some(mark) = app.mark_with(head) else { return };
    if let Err(error) = mark::write(app, &mark) {
        tracing::error!(%error, path = ?app.mark, "the mark of this database cannot be written");
    }
}

/// Takes over what another instance did to the history of a shared database, and seals this one when the database went
/// back; a worker calls it.
///
/// # Errors
/// The store's and the vault's.
pub async fn follow(app: &App) -> Result<(), Error> {
    let opened = app.opened()?;
    let mut tx = app.store.read().await?;
    let stored = tx.instance().await?.ok_or(Error::NotFound("instance"))?;
    let instance = app.authentic("instance", stored).await?;
    let row = tx
        .incarnation(instance.incarnation)
        .await?
        .ok_or(Error::Forged("incarnation"))?;
    let row = app.authentic("incarnation", row).await?;
    let same = instance.incarnation == opened.instance.incarnation;
    if let Some((n, digest)) = app.marked_head()
        && same
        && !holds(&mut tx, n, digest).await?
    {
        if tx.chain_head().await?.0 >= n {
            // Not older, but another one.
            checkpoint::broken(app, "an event that was on record is another one now").await;
            return Ok(());
        }
        tracing::error!("the database was rolled back while it was open; sealed, and the next unseal reconciles");
        drop(tx);
        app.raise("instance.rolled_back", "while it was open").await;
        close(app);
        return Ok(());
    }
    if !same {
        let opened = keys::opened(app, &mut tx, instance).await?;
        app.open_with(Some(opened));
    }
    tx.end().await?;
    app.stand(Standing::of(&row));
    Ok(())
}

/// Says that this history agrees with the vendors; work goes on.
async fn end(app: &App, tx: &mut Tx) -> Result<Incarnation, Error> {
    let id = app.opened()?.instance.incarnation;
    let stored = tx.incarnation(id).await?.ok_or(Error::NotFound("incarnation"))?;
    let mut row = app.authentic("incarnation", stored).await?;
    row.reconciled = Some(app.now());
    tx.update_incarnation(&app.stored(row.clone())?).await?;
    Ok(row)
}

/// What waited goes on, as after a start.
async fn go_on(app: &App, row: &Incarnation) -> Result<(), Error> {
    app.stand(Standing::of(row));
    unseal::go_on(app).await?;
    app.announce_work();
    Ok(())
}
