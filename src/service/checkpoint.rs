//! Numbering events into the Merkle tree, signing checkpoints, and checking at start that nothing was taken away.

use std::cmp::Ordering;
use std::io::Write;

use super::error::Error;
use super::{App, Opened, incarnation};
use crate::audit::{self, Checkpoint, LogPublic, Tree};
use crate::base::id::EventId;
use crate::store::Tx;
use crate::store::events::{EventRow, link};
use crate::store::tree::TreeState;

/// Events numbered in one pass.
const PASS: usize = 1000;

/// Events whose chain is checked when the vault is unsealed; `audit verify` checks all.
const AT_START: i64 = 10_000;

/// Numbers all events that wait when it begins, or come while it works. One pass in a while is not enough: under load
/// the tree would fall behind for ever.
///
/// # Errors
/// As [`advance`].
pub async fn catch_up(app: &App) -> Result<(), Error> {
    while advance(app).await? == PASS {}
    Ok(())
}

/// Numbers waiting events and signs a checkpoint over them. Answers how many there were.
///
/// # Errors
/// [`Error::Sealed`]; [`Error::LogBroken`] when an event is missing from the chain.
pub async fn advance(app: &App) -> Result<usize, Error> {
    let opened = app.opened()?;
    // Events never change and the tree moves by compare-and-set, so the writer need not wait while they are read.
    let mut tx = app.store.read().await?;
    let state = tx.tree_state().await?;
    let head = tx.chain_head().await?;
    // The last leaf is read too: what follows must hang on it.
    let leaf = usize::from(state.size > 0);
    let most = PASS.saturating_add(leaf);
    let rows = tx
        .chain(state.size, i64::try_from(most).map_err(Error::internal)?)
        .await?;
    tx.end().await?;
    if !continues(&rows, state.size, head, most) {
        broken(app, "events are missing before numbering").await;
        return Err(Error::LogBroken);
    }
    let (_leaf, new) = rows.split_at(rows.len().min(leaf));
    let Some(last) = new.last() else {
        return Ok(0);
    };
    // When another instance, or another call, was first, the caller looks again for what that one left.
    if let Some(text) = number(&opened, &state, new, last.id, app).await? {
        copy(app, &text);
    }
    incarnation::remember(app, (last.n, last.digest));
    Ok(new.len())
}

/// Whether `rows` are the chain from the tree's last leaf (none in an empty tree) on, up to its head `(n, digest)` or
/// `most` of them.
fn continues(rows: &[EventRow], size: i64, (head, digest): (i64, [u8; 32]), most: usize) -> bool {
    let begins = rows.first().map_or(head == 0 && size == 0, |row| row.n == size.max(1));
    let ends = rows.last().is_none_or(|row| match row.n.cmp(&head) {
        Ordering::Less => rows.len() == most,
        Ordering::Equal => row.digest == digest,
        Ordering::Greater => false,
    });
    begins && ends && linked(rows)
}

/// Answers the checkpoint; `None` when somebody else numbered these events meanwhile.
async fn number(
    opened: &Opened,
    state: &TreeState,
    rows: &[EventRow],
    last: EventId,
    app: &App,
) -> Result<Option<String>, Error> {
    let mut tree = Tree::from_parts(state.size, state.edge.clone()).map_err(Error::internal)?;
    let mut nodes = Vec::with_capacity(rows.len().saturating_mul(2));
    for row in rows {
        nodes.extend(tree.append(audit::leaf_hash(row.body.as_bytes())));
    }
    let next = TreeState {
        size: tree.size(),
        edge: tree.edge().to_vec(),
        root: tree.root(),
    };
    let text =
        audit::checkpoint(&opened.log, &app.instance.id.to_string(), next.size, &next.root).map_err(Error::internal)?;
    let mut tx = app.store.begin().await?;
    let latest = tx.latest_checkpoint().await?.map(|(_, text)| text);
    let text = match opened.also_signs(latest.as_deref(), app.now()) {
        Some(before) => audit::cross_sign(&text, before).map_err(Error::internal)?,
        None => text,
    };
    if !tx.number_leaves(state.size, last, &nodes, &next).await? {
        return Ok(None);
    }
    tx.save_checkpoint(next.size, &text, app.now()).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(Some(text))
}

/// Whether each event names the digest of the one before it, and its own digest is right.
#[must_use]
pub fn linked(rows: &[EventRow]) -> bool {
    let right = rows.iter().all(|row| row.digest == link(&row.prev, row.n, &row.body));
    let follows = rows.windows(2).all(|pair| match pair {
        [one, next] => next.prev == one.digest && next.n == one.n.saturating_add(1),
        _ => true,
    });
    right && follows
}

/// Checks the tail of the chain and the latest checkpoint's signature. Whether the database is older than what is known
/// outside it is `incarnation`'s affair.
///
/// # Errors
/// [`Error::LogBroken`].
pub(super) async fn verify_at_start(app: &App, tx: &mut Tx, publics: &[&LogPublic]) -> Result<(), Error> {
    let (head, digest) = tx.chain_head().await?;
    let rows = tx
        .chain(head.saturating_sub(AT_START).max(0).saturating_add(1), AT_START)
        .await?;
    let state = tx.tree_state().await?;
    // Leaves are events: fewer events than leaves means that some were cut off.
    let whole = i64::try_from(rows.len()).unwrap_or(0) == head.min(AT_START) && state.size <= head;
    let ends = rows.last().is_none_or(|row| row.digest == digest);
    let signed = match tx.latest_checkpoint().await? {
        None => state.size == 0,
        Some((size, text)) => signed_by_any(&text, publics).is_some_and(|checkpoint| {
            checkpoint.size == size && checkpoint.size == state.size && checkpoint.root == state.root
        }),
    };
    if whole && ends && linked(&rows) && signed {
        return Ok(());
    }
    tracing::error!(
        head,
        whole,
        ends,
        signed,
        "the audit log does not verify: something was changed"
    );
    app.raise("audit.verification_failed", "the log at unseal").await;
    Err(Error::LogBroken)
}

/// Stops all releases and says so.
pub(super) async fn broken(app: &App, why: &str) {
    if !app.log_is_broken() {
        tracing::error!(why, "the audit log does not verify; nothing is released any more");
        app.mark_log_broken();
        app.raise("audit.verification_failed", why).await;
    }
}

/// Replaces the copy as a whole, so that a reader never sees half a checkpoint.
fn copy(app: &App, text: &str) {
    let Some(path) = &app.checkpoint_copy else { return };
    let next = path.with_extension("next");
    let written = std::fs::File::create(&next).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(&next, path)
    });
    if let Err(error) = written {
        tracing::error!(%error, path = %path.display(), "could not copy a checkpoint");
    }
}

/// The size of the copied checkpoint, if its signature is ours.
pub(super) fn last_copy(app: &App, publics: &[&LogPublic]) -> Option<i64> {
    let text = std::fs::read_to_string(app.checkpoint_copy.as_ref()?).ok()?;
    signed_by_any(&text, publics).map(|checkpoint| checkpoint.size)
}

/// The checkpoint, if this key signed it.
pub(super) fn signed_by(text: &str, public: &LogPublic) -> Option<Checkpoint> {
    audit::open_checkpoint(text, public).ok()
}

/// The checkpoint, if one of these keys signed it.
pub(super) fn signed_by_any(text: &str, publics: &[&LogPublic]) -> Option<Checkpoint> {
    publics.iter().find_map(|public| signed_by(text, public))
}
