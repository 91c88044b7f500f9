//! Making a key at a vendor: intent on record, the vendor asked once, what it answered on record (DESIGN 16).

use std::sync::Arc;

use serde_json::json;

use super::connect::open_root;
use super::control::Connected;
use super::cost::{self, Reserved};
use super::error::Error;
use super::{App, book, making};
use crate::base::canonical::Digest;
use crate::base::id::{CredentialId, InstanceId, OrphanId};
use crate::base::money::Money;
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState, vendor_name};
use crate::model::event::{Committed, Event};
use crate::model::grant::Grant;
use crate::model::orphan::{Orphan, OrphanState, Reason};
use crate::model::policy::CredentialPer;
use crate::model::sealed::Place;
use crate::store::{Release, Tx};
use crate::vendor::{Adapter, CreateAsk, Created, Existence, FailureClass, Found, Recovery, RootSecret, VendorFailure};

/// How long after an unclear creation the vendor is searched for the key.
const PROBE_AFTER: Ttl = Ttl::from_secs(3);

/// How long one creation may take before its intent counts as abandoned.
pub(super) const DEADLINE: Ttl = Ttl::from_secs(30);

/// The address of a credential's value: bound to the grant item it serves.
#[must_use]
pub fn credential_place(app: &App, credential: &Credential) -> Place {
    place_of(app.instance.id, credential)
}

/// The same for a credential of any instance.
pub(super) fn place_of(instance: InstanceId, credential: &Credential) -> Place {
    Place {
        instance,
        record: "credential",
        id: credential.id.to_string(),
        owner: format!("{}/{}", credential.grant, credential.item),
        version: credential.version,
        field: "secret",
    }
}

/// What a credential is called at its vendor; empty where keys have no names.
pub(super) fn key_name(app: &App, connected: &Connected, id: CredentialId) -> String {
    if connected.manifest.names_keys() {
        connected.manifest.shaped(&vendor_name(app.instance.id, id, 1))
    } else {
        String::new()
    }
}

/// A held credential for each item of a grant that has one of its own, to be made before anything is paid.
///
/// # Errors
/// [`Error::VendorNotConnected`].
pub async fn intents(app: &App, grant: &Grant, lives: &[Ttl]) -> Result<Vec<(Credential, Arc<Connected>)>, Error> {
    let now = app.now();
    let mut all = Vec::with_capacity(grant.items.len());
    for ((number, item), life) in (0i64..).zip(&grant.items).zip(lives) {
        let in_force = app.policy_version(&item.policy, item.policy_version).await?;
        if in_force.policy.grant.credential_per == CredentialPer::Shared {
            continue;
        }
        let connected = app.current_root(&item.vendor).await?;
        // Where nothing is revealed the key is for forwarding alone, and lives as long as the grant.
        let until = if *life == Ttl::default() {
            grant.expires
        } else {
            now.plus(*life)
        };
        let id = CredentialId::new(now, app.random.as_ref());
        let credential = Credential {
            id,
            name: key_name(app, &connected, id),
            vendor: item.vendor.clone(),
            root: connected.root.id,
            grant: grant.id,
            item: number,
            scopes: item.scopes.clone(),
            prim: None,
            lease: None,
            state: CredentialState::Intent,
            attempt: 1,
            vendor_key_id: None,
            vendor_expires: None,
            expires: connected.manifest.ends_by(now, grant.expires.min(until)),
            next_at: Some(now.plus(DEADLINE)),
            first_failed: None,
            last_error: None,
            version: 1,
            created: now,
        };
        all.push((credential, connected));
    }
    Ok(all)
}

/// Commits the intents and answers, for each, the proof that opens its root credential.
///
/// # Errors
/// The store's.
pub async fn commit_intents(
    app: &App,
    mut tx: Tx,
    mut events: Vec<Event>,
    intents: &[(Credential, Arc<Connected>)],
) -> Result<Vec<Committed>, Error> {
    app.refuse_while_reconciling()?;
    let mut releases = Vec::with_capacity(intents.len());
    for (credential, _) in intents {
        tx.insert_credential(credential).await?;
        let event = app.own_event("credential.intended", &credential.id, facts(credential));
        releases.push(Release {
            event: event.id,
            object: credential.root.to_string(),
            version: 1,
        });
        events.push(event);
    }
    Ok(tx.commit(&events, &releases).await?)
}

/// Asks the vendor for the key of a committed intent. What it answers is on record as far as its digest and the key's
/// id go; the key is not yet.
///
/// # Errors
/// [`Error::Vendor`]; the row then tells what is known, and a worker goes on from there.
pub async fn make(
    app: &App,
    credential: &Credential,
    connected: &Connected,
    proof: Committed,
) -> Result<Created, Error> {
    let root = open_root(app, connected, vec![proof]).await?;
    let cap = match cost::reserve(app, credential).await? {
        Reserved::None => None,
        Reserved::Part(cap) => Some(cap),
        Reserved::GivenOut => {
            record_failure(
                app,
                credential,
                &not_asked("all that its grant may cost is given out".to_owned()),
            )
            .await?;
            return Err(Error::CostGivenOut);
        }
    };
    let adapter = Adapter::of(&connected.manifest, app.logins());
    let begun = match in_time(app, credential, connected) {
        Ok(()) => Box::pin(making::begin(app, credential, &adapter, &root)).await?,
        refused => refused,
    };
    let made = match begun {
        Ok(()) => {
            let heard = async |answer, id| heard(app, credential.id, answer, id).await;
            Box::pin(ask(app, (credential, cap), &adapter, &root, heard)).await
        }
        Err(failure) => Err(failure),
    };
    match made {
        Ok(created) => Ok(created),
        Err(failure) => {
            record_failure(app, credential, &failure).await?;
            Err(Error::vendor(&credential.vendor, failure))
        }
    }
}

/// Refuses what nobody could account for, and what comes so late that somebody may be looking for it already.
fn in_time(app: &App, credential: &Credential, connected: &Connected) -> Result<(), VendorFailure> {
    if connected.manifest.recovery() == Recovery::None {
        return Err(not_asked(format!(
            "dekeys makes no keys at {}: they could not be found or ended again",
            connected.manifest.title()
        )));
    }
    if credential.next_at.is_some_and(|until| until <= app.now()) {
        return Err(not_asked("its time was over before the vendor was asked".to_owned()));
    }
    Ok(())
}

fn not_asked(words: String) -> VendorFailure {
    VendorFailure {
        class: FailureClass::Refused,
        created: Existence::No,
        status: None,
        retry_after: None,
        words,
    }
}

/// The request of an intent. The same each time, so that a vendor that remembers requests knows it again.
pub(super) async fn ask(
    app: &App,
    (credential, cost_cap): (&Credential, Option<Money>),
    adapter: &Adapter,
    root: &RootSecret,
    heard: impl AsyncFnOnce(Digest, Option<String>),
) -> Result<Created, VendorFailure> {
    let ask = CreateAsk {
        name: vendor_name(app.instance.id, credential.id, 1),
        scopes: credential.scopes.clone(),
        now: credential.created,
        expires: credential.expires,
        cost_cap,
        idempotency_key: format!("{}-1", credential.id),
    };
    let created = adapter.create(&app.egress, root, &ask, app.random.as_ref(), heard);
    let place = (credential.root, &credential.vendor);
    app.asked(place, "create", created).await
}

/// Puts on record that the vendor answered, and under which id it has the key, before anything else is read.
async fn heard(app: &App, id: CredentialId, answer: Digest, key: Option<String>) {
    if let Err(error) = note(app, id, answer, key).await {
        tracing::warn!(%error, credential = %id, "could not put on record that a vendor answered; the key will be looked for");
    }
}

async fn note(app: &App, id: CredentialId, answer: Digest, key: Option<String>) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.credential(id).await? else {
        return Ok(());
    };
    let known = row.vendor_key_id.is_some() || row.state.is_final();
    if !known && key.is_some() {
        row.vendor_key_id.clone_from(&key);
        tx.update_credential(&row).await?;
    }
    let data = json!({ "vendor": row.vendor, "answer": answer, "vendor_key_id": key });
    let event = app.own_event("credential.answered", &row.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}

/// What became of a made key on its way to the record.
pub enum Saved {
    /// On record as active, with the event to commit.
    Active(Box<Credential>, Event),
    /// The answer came after somebody else took the operation over: the key is on record, and will be ended.
    Late(Event),
}

/// Writes id and sealed value of a made key in the caller's transaction. `next_at` is when a worker ends it.
///
/// # Errors
/// The vault's and the store's.
pub async fn save(app: &App, tx: &mut Tx, credential: &Credential, created: Created) -> Result<Saved, Error> {
    let current = tx.credential(credential.id).await?;
    if let Some(row) = current.filter(|row| row.state != CredentialState::Intent) {
        return late(app, tx, row, created).await.map(Saved::Late);
    }
    tx.end_making(credential.id).await?;
    let mut made = credential.clone();
    made.vendor_key_id = Some(created.vendor_key_id);
    made.vendor_expires = created.vendor_expires;
    made.state = CredentialState::Active;
    made.next_at = Some(made.expires);
    let secret: SecretBytes = created.secret.into_bytes();
    let sealed = app.vault.seal_value(&credential_place(app, &made), &secret)?;
    tx.save_created(&made, &sealed).await?;
    account(app, tx, &made).await?;
    let mut data = facts(&made);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("answer".to_owned(), json!(created.answer));
    }
    let event = app.own_event("credential.provisioned", &made.id, data);
    Ok(Saved::Active(Box::new(made), event))
}

/// What the key may cost at its vendor is in the books with it.
async fn account(app: &App, tx: &mut Tx, made: &Credential) -> Result<(), Error> {
    match tx.cost_cap(made.id).await? {
        Some(cap) => book::vendor_cost(app, tx, made, cap).await,
        None => Ok(()),
    }
}

/// An answer that nobody waits for any more only adds knowledge: its key is ended, and never becomes active. Where
/// another key of the same intent is known already, this one is a second, and ended beside it.
async fn late(app: &App, tx: &mut Tx, mut row: Credential, created: Created) -> Result<Event, Error> {
    let now = app.now();
    let second = row
        .vendor_key_id
        .as_ref()
        .is_some_and(|known| *known != created.vendor_key_id);
    if second {
        let found = Found {
            vendor_key_id: created.vendor_key_id.clone(),
            name: row.name.clone(),
        };
        tx.keep_orphan(&orphan(app, &row, found, Reason::Double, now)).await?;
    } else {
        row.vendor_key_id = Some(created.vendor_key_id.clone());
        row.vendor_expires = created.vendor_expires.or(row.vendor_expires);
        if row.state != CredentialState::Revoked {
            row.state = if row.state == CredentialState::Stuck {
                CredentialState::Stuck
            } else {
                CredentialState::Revoking
            };
            row.next_at = Some(now);
        }
        tx.update_credential(&row).await?;
    }
    tx.end_making(row.id).await?;
    let mut data = facts(&row);
    if let Some(fields) = data.as_object_mut() {
        fields.insert("answer".to_owned(), json!(created.answer));
        fields.insert("late_key_id".to_owned(), json!(created.vendor_key_id));
    }
    Ok(app.own_event("credential.late", &row.id, data))
}

/// A key at the vendor that is this credential's doing, and none of those on record: to be ended at once.
pub(super) fn orphan(app: &App, row: &Credential, found: Found, reason: Reason, now: Timestamp) -> Orphan {
    Orphan {
        id: OrphanId::new(now, app.random.as_ref()),
        vendor: row.vendor.clone(),
        root: row.root,
        vendor_key_id: found.vendor_key_id,
        name: found.name,
        credential: Some(row.id),
        reason,
        state: OrphanState::Revoking,
        attempt: 0,
        next_at: Some(now),
        last_error: None,
        found: now,
        seen: now,
    }
}

/// Puts on record what is known after a creation failed.
async fn record_failure(app: &App, credential: &Credential, failure: &VendorFailure) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let mut row = tx
        .credential(credential.id)
        .await?
        .unwrap_or_else(|| credential.clone());
    row.last_error = Some(failure.words.clone());
    row.first_failed = row.first_failed.or(Some(now));
    let next = match &failure.created {
        // The id may be on record from the answer's first look.
        Existence::No => (CredentialState::Failed, None),
        Existence::Maybe if row.vendor_key_id.is_none() => (CredentialState::Probe, Some(now.plus(PROBE_AFTER))),
        Existence::Maybe => (CredentialState::Revoking, Some(now)),
        Existence::Yes(id) => {
            row.vendor_key_id.get_or_insert_with(|| id.clone());
            (CredentialState::Revoking, Some(now))
        }
    };
    if row.state == next.0 || row.state.may_become(next.0) {
        (row.state, row.next_at) = next;
    }
    tx.update_credential(&row).await?;
    if row.state.is_final() {
        tx.end_making(row.id).await?;
    }
    let event = app.own_event("credential.failed", &row.id, facts(&row));
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// Gives up a credential that was made or intended: alive ones are ended, intended ones are looked for.
///
/// # Errors
/// The store's.
pub async fn abandon(app: &App, tx: &mut Tx, id: CredentialId, now: Timestamp) -> Result<Option<Event>, Error> {
    let Some(mut row) = tx.credential(id).await? else {
        return Ok(None);
    };
    row.state = match row.state {
        CredentialState::Active => CredentialState::Revoking,
        CredentialState::Intent => CredentialState::Probe,
        _ => return Ok(None),
    };
    row.next_at = Some(now);
    row.attempt = 1;
    tx.update_credential(&row).await?;
    Ok(Some(app.own_event("credential.abandoned", &row.id, facts(&row))))
}

/// What events tell of a credential.
#[must_use]
pub fn facts(credential: &Credential) -> serde_json::Value {
    json!({
        "grant": credential.grant,
        "item": credential.item,
        "vendor": credential.vendor,
        "lease": credential.lease,
        "prim": credential.prim,
        "state": credential.state.shown(),
        "attempt": credential.attempt,
        "vendor_key_id": credential.vendor_key_id,
        "expires": credential.expires,
        "error": credential.last_error,
    })
}
