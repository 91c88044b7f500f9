//! The log as people read it, and the check of all of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::checkpoint::{broken, linked, signed_by_any};
use super::enroll::List;
use super::error::Error;
use crate::audit::{self, LogPublic, Tree};
use crate::base::id::EventId;
use crate::model::principal::PrincipalKind;
use crate::store::Store;
use crate::store::events::EventFilter;

/// One event as people read it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its place in the chain, from 1.
    pub sequence: i64,
    /// Its leaf in the tree, from 0, once numbered.
    pub leaf: Option<i64>,
    /// The event, as stored.
    pub event: serde_json::Value,
}

/// Which events.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsAsk {
    /// Kinds beginning with this: `lease.` or `grant.created`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// About this id.
    pub object: Option<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// 1 to 100; 20 if absent.
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<i64>,
    /// Older than this sequence.
    pub before: Option<i64>,
}

/// Events, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators and humans.
pub async fn events(app: &App, context: &Context, ask: &EventsAsk) -> Result<List<EventView>, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let limit = ask.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(Error::invalid("/limit", "limit is 1 to 100"));
    }
    let filter = EventFilter {
        kind_prefix: ask.kind.clone(),
        object: ask.object.clone(),
        actor: ask.actor.clone(),
        before_n: ask.before,
        ..EventFilter::default()
    };
    let mut tx = app.store.read().await?;
    let rows = tx.events(&filter, limit.saturating_add(1)).await?;
    drop(tx);
    let views = rows.into_iter().map(|row| EventView {
        sequence: row.n,
        leaf: row.leaf,
        event: serde_json::from_str(&row.body).unwrap_or(serde_json::Value::Null),
    });
    Ok(List::page(views.collect(), limit))
}

/// The signed state of the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointView {
    /// Always `checkpoint`.
    pub object: String,
    /// How many leaves it covers.
    pub size: i64,
    /// The C2SP signed note.
    pub note: String,
    /// The public key that checks it, as C2SP writes verifier keys.
    pub public_key: String,
}

/// The latest checkpoint; anybody may have it.
///
/// # Errors
/// [`Error::NotFound`] before the first, [`Error::Sealed`].
pub async fn latest(app: &App) -> Result<CheckpointView, Error> {
    let opened = app.opened()?;
    let mut tx = app.store.read().await?;
    let (size, note) = tx.latest_checkpoint().await?.ok_or(Error::NotFound("checkpoint"))?;
    Ok(CheckpointView {
        object: "checkpoint".to_owned(),
        size,
        note,
        public_key: opened.log_public.to_string(),
    })
}

/// The proof that an event is in the log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ProofView {
    /// Always `inclusion_proof`.
    pub object: String,
    /// The event.
    pub event: EventId,
    /// Its leaf.
    pub leaf: i64,
    /// The tree's size.
    pub size: i64,
    /// The hashes, base64, lowest first.
    pub proof: Vec<String>,
    /// The C2SP signed note over that tree.
    pub checkpoint: String,
}

/// The inclusion proof of an event.
///
/// # Errors
/// [`Error::NotFound`] also while it is not numbered yet.
pub async fn proof(app: &App, context: &Context, id: EventId) -> Result<ProofView, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let mut tx = app.store.read().await?;
    let row = tx.event(id).await?.ok_or(Error::NotFound("event"))?;
    let (size, note) = tx.latest_checkpoint().await?.ok_or(Error::NotFound("checkpoint"))?;
    let leaf = row.leaf.filter(|leaf| *leaf < size).ok_or(Error::NotFound("proof"))?;
    let nodes = tx.nodes(&audit::inclusion_nodes(leaf, size)).await?;
    let hashes = audit::inclusion(leaf, size, &nodes).map_err(Error::internal)?;
    let proof = hashes.iter().map(|hash| data_encoding::BASE64.encode(hash)).collect();
    Ok(ProofView {
        object: "inclusion_proof".to_owned(),
        event: id,
        leaf,
        size,
        proof,
        checkpoint: note,
    })
}

/// The outcome of checking the whole log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Always `audit_verification`.
    pub object: String,
    /// Nothing is missing or changed.
    pub ok: bool,
    /// Events that were read.
    pub events: i64,
    /// Leaves whose root was recomputed.
    pub leaves: i64,
    /// The recomputed root, `sha256:` and hexadecimal as in receipts.
    pub root: String,
    /// What is wrong, and where.
    pub trouble: Option<String>,
}

/// Reads the whole log: every link of the chain, every leaf of the tree, the checkpoint's signature.
///
/// # Errors
/// [`Error::NotAllowed`], [`Error::Sealed`].
pub async fn verify(app: &App, context: &Context) -> Result<Verification, Error> {
    context.require(&[PrincipalKind::Operator, PrincipalKind::Human])?;
    let opened = app.opened()?;
    let outcome = check(&app.store, &opened.log_publics()).await?;
    if let Some(trouble) = &outcome.trouble {
        broken(app, trouble).await;
    }
    Ok(outcome)
}

/// Reads the whole log of any database.
pub(super) async fn check(store: &Store, publics: &[&LogPublic]) -> Result<Verification, Error> {
    const STEP: i64 = 5000;
    let mut tx = store.read().await?;
    let (head, digest) = tx.chain_head().await?;
    let state = tx.tree_state().await?;
    let checkpoint = tx.latest_checkpoint().await?;
    let mut tree = Tree::new();
    let mut previous = [0u8; 32];
    let (mut n, mut trouble) = (0i64, None);
    while n < head && trouble.is_none() {
        let rows = tx.chain(n.saturating_add(1), STEP).await?;
        let starts = rows
            .first()
            .is_some_and(|row| row.n == n.saturating_add(1) && row.prev == previous);
        if !starts || !linked(&rows) {
            trouble = Some(format!("an event after number {n} is missing or changed"));
            break;
        }
        for row in &rows {
            if tree.size() < state.size {
                let _nodes = tree.append(audit::leaf_hash(row.body.as_bytes()));
            }
            n = row.n;
            previous = row.digest;
        }
    }
    if trouble.is_none() && (n != head || previous != digest) {
        trouble = Some(format!("the chain ends at {n}, its head says {head}"));
    }
    if trouble.is_none() && (tree.size() != state.size || (state.size > 0 && tree.root() != state.root)) {
        trouble = Some("the tree's root is not that of its leaves".to_owned());
    }
    if trouble.is_none()
        && let Some((size, text)) = checkpoint
    {
        let good = signed_by_any(&text, publics)
            .is_some_and(|note| note.size == size && (size != state.size || note.root == state.root));
        trouble = (!good).then(|| "the latest checkpoint does not verify".to_owned());
    }
    Ok(Verification {
        object: "audit_verification".to_owned(),
        ok: trouble.is_none(),
        events: n,
        leaves: tree.size(),
        root: format!("sha256:{}", data_encoding::HEXLOWER.encode(&tree.root())),
        trouble,
    })
}
