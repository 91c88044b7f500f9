//! What a batch decided, written: one statement for each table that changes.

use crate::model::credential::Credential;
use crate::model::event::Event;
use crate::model::lease::Lease;
use crate::store::decide::Changes;
use crate::store::dialect::{self, Text};
use crate::store::set::{Set, Type};
use crate::store::{StoreError, Tx};

/// Writes the changes and the events. Leases that end go first: their place may be taken by a new one.
pub(super) async fn changes(tx: &mut Tx, changes: &Changes, events: &[Event]) -> Result<(), StoreError> {
    leases(tx, changes).await?;
    credentials(tx, changes).await?;
    for (policy, more) in &changes.counters {
        tx.count_live(policy, *more).await?;
    }
    if events.is_empty() {
        // Only waits: nothing was counted or claimed.
        return Ok(());
    }
    let number = || Set::typed(&[Type::Text, Type::Int]);
    let grants = changes
        .grants
        .iter()
        .fold(number(), |set, (grant, count)| set.row().cell(*grant).cell(*count));
    let rates = changes
        .rates
        .iter()
        .fold(number(), |set, (key, tat)| set.row().cell(key).cell(*tat));
    let leases = changes
        .counted
        .iter()
        .fold(number(), |set, (lease, count)| set.row().cell(*lease).cell(*count));
    let claims = Set::typed(&[Type::Text, Type::Text, Type::Int]);
    let nonces = changes.nonces.iter().fold(claims, |set, (holder, nonce, until)| {
        set.row().cell(holder).cell(nonce).cell(*until)
    });
    tx.append_with(dialect::COUNT_AND_APPEND, &[grants, rates, leases, nonces], events)
        .await
}

async fn leases(tx: &mut Tx, changes: &Changes) -> Result<(), StoreError> {
    let ended = changes.ended.iter().fold(Set::default(), |set, (lease, word)| {
        set.row().cell(*lease).cell(word.as_str())
    });
    put(tx, dialect::END_LEASES, &ended).await?;
    let new = changes.new_leases.iter().fold(Set::default(), lease_row);
    put(tx, dialect::INSERT_LEASES, &new).await
}

async fn credentials(tx: &mut Tx, changes: &Changes) -> Result<(), StoreError> {
    let mut intents = Set::default();
    for credential in &changes.new_credentials {
        intents = intent_row(intents, credential)?;
    }
    put(tx, dialect::INSERT_INTENTS, &intents).await?;
    let adopted = changes
        .adopted
        .iter()
        .fold(Set::default(), |set, (credential, prim, lease)| {
            set.row().cell(*credential).cell(*prim).cell(*lease)
        });
    put(tx, dialect::ADOPT_CREDENTIALS, &adopted).await?;
    let due = changes.due.iter().fold(Set::default(), |set, (credential, word, at)| {
        set.row().cell(*credential).cell(word.as_str()).cell(*at)
    });
    put(tx, dialect::END_CREDENTIALS, &due).await
}

async fn put(tx: &mut Tx, text: Text, set: &Set) -> Result<(), StoreError> {
    if !set.is_empty() {
        tx.ask_each(text).bind_set(set).run().await?;
    }
    Ok(())
}

fn lease_row(set: Set, lease: &Lease) -> Set {
    set.row()
        .cell(lease.id)
        .cell(lease.grant)
        .cell(lease.item)
        .cell(lease.prim)
        .cell(&lease.vendor)
        .cell(&lease.policy)
        .cell(lease.credential)
        .cell(lease.state.as_str())
        .cell(lease.resolves)
        .cell(lease.created)
        .cell(lease.expires)
}

fn intent_row(set: Set, credential: &Credential) -> Result<Set, StoreError> {
    let scopes = serde_json::to_string(&credential.scopes).map_err(|_| StoreError::Event)?;
    Ok(set
        .row()
        .cell(credential.id)
        .cell(&credential.vendor)
        .cell(credential.root)
        .cell(credential.grant)
        .cell(credential.item)
        .cell(scopes)
        .cell(credential.prim)
        .cell(credential.lease)
        .cell(credential.state.as_str())
        .cell(credential.attempt)
        .cell(credential.expires)
        .cell(credential.next_at)
        .cell(credential.version)
        .cell(credential.created)
        .cell(&credential.name))
}
