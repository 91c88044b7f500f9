//! Receipts: a signed promise at once, a proof once the event is in the tree.

use super::App;
use super::checkpoint;
use super::error::Error;
use crate::audit::{self, Receipt};
use crate::base::id::{GrantId, ReceiptId};
use crate::model::event::Event;
use crate::store::Tx;

/// Signs the promise that an event is on record, and keeps it with the grant, in the caller's transaction.
///
/// # Errors
/// [`Error::Sealed`], the store's.
pub(super) async fn promise(app: &App, tx: &mut Tx, grant: GrantId, event: &Event) -> Result<(), Error> {
    let opened = app.opened()?;
    let receipt = audit::promise(&opened.log, event).map_err(Error::internal)?;
    let text = receipt.to_json().map_err(Error::internal)?;
    tx.save_receipt(receipt.id, grant, event.id, &text).await?;
    Ok(())
}

/// The id of a stored receipt.
pub(super) fn id_of(json: &str) -> Option<ReceiptId> {
    serde_json::from_str::<Receipt>(json).ok().map(|receipt| receipt.id)
}

/// A receipt by id, with its proof when the tree holds its event. Who knows the id may read it; it holds no secret.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn show(app: &App, id: ReceiptId) -> Result<Receipt, Error> {
    let mut tx = app.store.read().await?;
    let text = tx.receipt(id).await?.ok_or(Error::NotFound("receipt"))?;
    let promised: Receipt = serde_json::from_str(&text).map_err(Error::internal)?;
    let body: Event = serde_json::from_str(promised.event.get()).map_err(Error::internal)?;
    let event = tx.event(body.id).await?.ok_or(Error::NotFound("event"))?;
    let Some(leaf) = event.leaf else {
        return Ok(promised);
    };
    // A promise by an earlier key of the log is proved by a checkpoint that this key signed: the first that covers it.
    let checkpoint = if promised.log == app.opened()?.log_public {
        tx.latest_checkpoint().await?
    } else {
        tx.checkpoint_at_least(leaf.saturating_add(1)).await?
    };
    let Some((size, text)) = checkpoint else {
        return Ok(promised);
    };
    if leaf >= size {
        return Ok(promised);
    }
    let nodes = tx.nodes(&audit::inclusion_nodes(leaf, size)).await?;
    let proof = audit::inclusion(leaf, size, &nodes).map_err(Error::internal)?;
    Ok(audit::complete(promised, leaf, &proof, &text))
}

/// The same, after making sure that the event is numbered: what somebody who waits for the proof calls.
///
/// # Errors
/// As [`show`].
pub async fn show_proved(app: &App, id: ReceiptId) -> Result<Receipt, Error> {
    while checkpoint::advance(app).await? > 0 {}
    show(app, id).await
}
