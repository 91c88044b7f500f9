//! One batch of the writer: the rows it touches are read as sets, decided in memory, and written as sets, in one
//! transaction. Two statements between BEGIN and COMMIT for most batches, whatever the number of asks.

mod read;
mod revoke;
mod write;

use super::ask::{ResolveAsk, ResolveOutcome, RevokeAsk, RevokeOutcome};
use super::decide::{Changes, Verdict, decide};
use super::{Store, StoreError};
use crate::base::time::{Timestamp, Ttl};
use crate::model::event::Committed;

/// The database's clock may be so far ahead of ours (another instance raised it) before we refuse to decide.
const TOLERATED: Ttl = Ttl::from_secs(30);

/// What became of the asks, in order.
pub(super) struct Done {
    pub(super) revokes: Vec<RevokeOutcome>,
    pub(super) resolves: Vec<ResolveOutcome>,
}

/// Runs a batch at `wall` time. Revocations come first, so that no later ask of the batch gets what they end.
pub(super) async fn run(
    store: &Store,
    wall: Timestamp,
    revokes: &[&RevokeAsk],
    resolves: &[&ResolveAsk],
) -> Result<Done, StoreError> {
    let mut tx = store.begin().await?;
    let floor = floor(Timestamp::from_millis(tx.head().high_water), wall)?;
    let mut events = Vec::with_capacity(revokes.len() + resolves.len());
    let mut outcomes = Vec::with_capacity(revokes.len());
    for ask in revokes {
        let (outcome, event) = revoke::apply(&mut tx, ask, ask.now.max(floor)).await?;
        events.extend(event);
        outcomes.push(outcome);
    }
    let mut verdicts = Vec::with_capacity(resolves.len());
    if resolves.is_empty() {
        tx.append(&events).await?;
    } else {
        let mut state = read::state(&mut tx, resolves).await?;
        let mut changes = Changes::default();
        for ask in resolves {
            let (verdict, told) = decide(&mut state, &mut changes, ask, ask.now.max(floor));
            events.extend(told.into_iter().flatten());
            verdicts.push(verdict);
        }
        write::changes(&mut tx, &changes, &events).await?;
    }
    tx.finish(&events).await?;
    let resolves = resolves
        .iter()
        .zip(verdicts)
        .map(|(ask, verdict)| on_record(ask, verdict))
        .collect();
    Ok(Done {
        revokes: outcomes,
        resolves,
    })
}

/// The earliest time this batch may decide at.
fn floor(high_water: Timestamp, wall: Timestamp) -> Result<Timestamp, StoreError> {
    if high_water > wall.plus(TOLERATED) {
        return Err(StoreError::ClockBehind);
    }
    Ok(high_water.max(wall))
}

/// After the commit: the proof that the release is on record.
fn on_record(ask: &ResolveAsk, verdict: Verdict) -> ResolveOutcome {
    match verdict {
        Verdict::Released {
            lease, version, sealed, ..
        } => ResolveOutcome::Released {
            credential: lease.credential,
            version,
            sealed,
            committed: Committed::new(ask.event, lease.credential.to_string(), version),
            lease,
        },
        Verdict::Unchanged { lease, .. } => ResolveOutcome::Unchanged { lease },
        Verdict::Make { lease, credential } => ResolveOutcome::Make {
            committed: Committed::new(ask.event, credential.root.to_string(), 1),
            lease,
            credential,
        },
        Verdict::Root => ResolveOutcome::Root {
            committed: Committed::new(ask.event, ask.root.to_string(), 1),
        },
        Verdict::Wait { lease } => ResolveOutcome::Wait { lease },
        Verdict::Refused(refusal) => ResolveOutcome::Refused(refusal),
    }
}
