//! Ending keys at the vendor: asked at once when somebody revokes, by a timer when time is over, and again for
//! thirty days when the vendor does not confirm.

use serde_json::json;

use super::breaker::jitter;
use super::caller::Context;
use super::connect::open_root_to_look;
use super::error::Error;
use super::provision::{credential_place, facts};
use super::{App, unspent};
use crate::base::id::{CredentialId, GrantId, LeaseId};
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Committed;
use crate::model::grant::GrantState;
use crate::model::lease::LeaseState;
use crate::model::principal::{Principal, PrincipalKind};
use crate::model::sealed::Sealed;
use crate::store::grants::GrantFilter;
use crate::store::leases::LeaseFilter;
use crate::store::writer::{RevokeAsk, RevokeTarget};
use crate::store::{Page, Release, Tx};
use crate::vault::VaultError;
use crate::vendor::{Adapter, Alive, Existence, FailureClass, Manifest, VendorFailure};

/// How long one try may take before another worker may try.
const TRY: Ttl = Ttl::from_secs(30);

/// Between two looks at a try that somebody else makes.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// After this long without confirmation the trouble is raised and shown.
const ALARM: Ttl = Ttl::from_mins(15);

/// Rows of a list read at a time.
const PAGE: i64 = 1000;

/// First and longest wait between tries.
const FIRST_WAIT: Ttl = Ttl::from_secs(1);
const LONGEST_WAIT: Ttl = Ttl::from_mins(60);

/// Tries the revocation of one credential now. While the database is reconciled nothing is tried; it waits.
///
/// Answers whether the key is dead. `false`: a worker goes on.
///
/// # Errors
/// The store's and the vault's; the vendor's failures are put on record instead.
pub async fn end(app: &App, id: CredentialId) -> Result<bool, Error> {
    if app.is_reconciling() {
        return Ok(false);
    }
    end_as_ordered(app, id).await
}

/// The same also while the database is reconciled, for a key whose end an operator has just ordered.
pub(super) async fn end_as_ordered(app: &App, id: CredentialId) -> Result<bool, Error> {
    let now = app.now();
    let mut tx = app.store.read().await?;
    let row = tx.credential(id).await?.ok_or(Error::NotFound("credential"))?;
    drop(tx);
    let connected = app.root(row.root).await?;
    let mut tx = app.store.begin().await?;
    let mut row = tx.credential(id).await?.ok_or(Error::NotFound("credential"))?;
    let sealed = tx.sealed_credential(id).await?.map(|(_, sealed)| sealed);
    let due = row.next_at.is_some_and(|at| at <= now);
    if row.state.is_final() || !matches!(row.state, CredentialState::Revoking | CredentialState::Stuck) || !due {
        drop(tx);
        return Ok(row.state.is_final());
    }
    match by_itself(&mut tx, &row, &connected.manifest, now).await? {
        Itself::No => {}
        Itself::Dead => {
            drop(tx);
            return revoked(app, row).await.map(|()| true);
        }
        Itself::At(dead) => {
            row.next_at = Some(dead);
            tx.update_credential(&row).await?;
            let _none = tx.commit(&[], &[]).await?;
            return Ok(false);
        }
    }
    row.next_at = Some(now.plus(TRY));
    row.attempt = row.attempt.saturating_add(1);
    tx.update_credential(&row).await?;
    let event = app.own_event("credential.revoking", &row.id, facts(&row));
    let releases = [
        Release {
            event: event.id,
            object: row.root.to_string(),
            version: 1,
        },
        Release {
            event: event.id,
            object: row.id.to_string(),
            version: row.version,
        },
    ];
    let mut proofs = tx.commit(&[event], &releases).await?;
    let value_proof = proofs.pop().ok_or_else(|| Error::internal("no proof of record"))?;
    let root = open_root_to_look(app, &connected, proofs).await?;
    let secret = match &sealed {
        Some(sealed) => value(app, &row, sealed, value_proof).await?,
        None => None,
    };
    let adapter = Adapter::of(&connected.manifest, app.logins());
    // Without an id the request would name all keys, or none.
    let Some(key_id) = row.vendor_key_id.clone().filter(|id| !id.is_empty()) else {
        return not_yet(app, row, &nameless()).await.map(|()| false);
    };
    let ended = adapter.revoke(&app.egress, &root, &key_id, secret.as_ref());
    let place = (row.root, &row.vendor);
    let outcome = match app.asked(place, "revoke", ended).await {
        Ok(_gone) => confirm(app, &row, &adapter, &root, secret.as_ref()).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => revoked(app, row).await.map(|()| true),
        Err(failure) => not_yet(app, row, &failure).await.map(|()| false),
    }
}

/// Whether a key needs nobody to end it.
enum Itself {
    No,
    /// It is dead: its term is over, or people settled what it may have been.
    Dead,
    /// It will be then. Nothing can be done before, and nothing is wrong.
    At(Timestamp),
}

/// A vendor that cannot end keys ends each when its term is over. A key without a name that may be one of several is
/// dead when people have settled all of these.
async fn by_itself(tx: &mut Tx, row: &Credential, manifest: &Manifest, now: Timestamp) -> Result<Itself, Error> {
    if !manifest.can_revoke() {
        let dead = row
            .vendor_expires
            .or_else(|| manifest.dead_by(row.created, row.expires));
        return Ok(match dead {
            Some(dead) if dead > now => Itself::At(dead),
            Some(_) => Itself::Dead,
            None => Itself::No,
        });
    }
    if row.vendor_key_id.is_none() {
        let orphans = tx.orphans_of(row.id).await?;
        if !orphans.is_empty() && orphans.iter().all(|orphan| !orphan.state.is_open()) {
            return Ok(Itself::Dead);
        }
    }
    Ok(Itself::No)
}

/// The key itself, for vendors that want it. One that does not open was moved or altered: that is raised, and the key
/// is ended by its id all the same.
pub(super) async fn value(
    app: &App,
    row: &Credential,
    sealed: &Sealed,
    proof: Committed,
) -> Result<Option<SecretText>, Error> {
    match app.open_value(sealed, &credential_place(app, row), proof).await {
        Ok(secret) => Ok(secret.into_text().ok()),
        Err(VaultError::Sealed) => Err(Error::Sealed),
        Err(error) => {
            tracing::error!(%error, credential = %row.id, "a sealed value does not open where it is stored: somebody moved it");
            app.raise("security.forged_row", "sealed value").await;
            Ok(None)
        }
    }
}

/// After a vendor said that a key is gone: asks with the key itself, where the vendor can be asked.
async fn confirm(
    app: &App,
    row: &Credential,
    adapter: &Adapter,
    root: &crate::vendor::RootSecret,
    secret: Option<&SecretText>,
) -> Result<(), VendorFailure> {
    let Some(secret) = secret else { return Ok(()) };
    let probed = adapter.probe(&app.egress, root, secret);
    match app.asked((row.root, &row.vendor), "probe", probed).await? {
        Alive::Alive => Err(still_alive()),
        Alive::Dead | Alive::Unknown => Ok(()),
    }
}

fn nameless() -> VendorFailure {
    trouble("the key's id at the vendor is not known; end it there by hand")
}

fn still_alive() -> VendorFailure {
    trouble("the vendor still accepts the key")
}

fn trouble(words: &str) -> VendorFailure {
    VendorFailure {
        class: FailureClass::Retryable,
        created: Existence::No,
        status: None,
        retry_after: None,
        words: words.to_owned(),
    }
}

/// Dead at the vendor. Trouble that was raised is cleared, and that is told.
async fn revoked(app: &App, mut row: Credential) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let before = tx.credential(row.id).await?.map(|current| current.state);
    row.state = CredentialState::Revoked;
    row.next_at = None;
    row.last_error = None;
    tx.update_credential(&row).await?;
    tx.drop_sealed(row.id).await?;
    let mut data = facts(&row);
    if let (Some(CredentialState::Stuck), Some(fields)) = (before, data.as_object_mut()) {
        fields.insert("revocation_failed".to_owned(), json!("cleared"));
        tracing::info!(credential = %row.id, vendor = %row.vendor, "a key that could not be revoked is dead now");
    }
    let mut events = vec![app.own_event("credential.revoked", &row.id, data)];
    if before == Some(CredentialState::Stuck) {
        events.push(app.own_event("lease.revocation_confirmed", &row.id, facts(&row)));
    }
    let _none = tx.commit(&events, &[]).await?;
    unspent::settle(app, row.grant).await;
    Ok(())
}

/// Puts a failed try on record with the time of the next one. [`alarm`] raises trouble that lasts.
async fn not_yet(app: &App, tried: Credential, failure: &VendorFailure) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    // It may have been raised while the vendor was asked.
    let current = tx.credential(tried.id).await?.ok_or(Error::NotFound("credential"))?;
    if current.state.is_final() {
        return Ok(());
    }
    let mut row = Credential {
        state: current.state,
        first_failed: current.first_failed,
        ..tried
    };
    row.first_failed.get_or_insert(now);
    let wait = failure.retry_after.unwrap_or_else(|| backoff(app, row.attempt));
    row.last_error = Some(failure.words.clone());
    row.next_at = Some(now.plus(wait));
    tx.update_credential(&row).await?;
    let event = app.own_event("credential.revocation_retried", &row.id, facts(&row));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}

/// Raises keys that should have been dead for `ALARM` and are not known to be, once each; dekeys goes on trying. Also
/// while sealed: keys whose time is over live on at their vendors then, because nobody can end them.
///
/// # Errors
/// The store's.
pub async fn alarm(app: &App) -> Result<(), Error> {
    let now = app.now();
    let mut tx = app.store.read().await?;
    let late = tx.credentials_overdue(now.minus(ALARM), PAGE).await?;
    tx.end().await?;
    for row in late {
        raise(app, row.id, now).await?;
    }
    Ok(())
}

async fn raise(app: &App, id: CredentialId, now: Timestamp) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut row) = tx.credential(id).await?.filter(|row| overdue(row, now)) else {
        return Ok(());
    };
    let mut events = Vec::new();
    if row.state == CredentialState::Active {
        row.state = CredentialState::Revoking;
        row.attempt = 0;
        row.first_failed = row.next_at;
        tx.update_credential(&row).await?;
        events.push(app.own_event("credential.expired", &row.id, facts(&row)));
    }
    row.first_failed = row.first_failed.or(row.next_at);
    row.state = CredentialState::Stuck;
    tx.update_credential(&row).await?;
    events.push(app.own_event("lease.revocation_failed", &row.id, facts(&row)));
    let _none = tx.commit(&events, &[]).await?;
    tracing::error!(credential = %row.id, vendor = %row.vendor, "a key could not be revoked for 15 minutes; dekeys goes on trying");
    Ok(())
}

/// Whether a key should have been dead for [`ALARM`], and that was not raised.
fn overdue(row: &Credential, now: Timestamp) -> bool {
    let since = match row.state {
        CredentialState::Active => row.next_at,
        CredentialState::Revoking => row.first_failed.or(row.next_at),
        _ => None,
    };
    since.is_some_and(|since| now.since(since) >= ALARM)
}

/// Full jitter: what failed together is not tried again together.
fn backoff(app: &App, attempt: i64) -> Ttl {
    let doublings = u32::try_from(attempt.saturating_sub(1).clamp(0, 12)).unwrap_or(12);
    jitter(FIRST_WAIT, LONGEST_WAIT, doublings, app.random.as_ref())
}

/// Ends a lease on record, at once for every instance; its credential's end at the vendor follows.
///
/// # Errors
/// The store's.
pub(super) async fn revoke_lease(
    app: &App,
    context: &Context,
    lease: LeaseId,
    reason: Option<&str>,
) -> Result<Vec<CredentialId>, Error> {
    let event = app.event(
        context,
        "lease.revoked",
        &lease,
        json!({ "lease": lease, "reason": reason }),
    );
    let ended = revoke(app, RevokeTarget::Lease(lease), event).await;
    app.streams().cut_lease(lease);
    ended
}

/// Ends a grant on record, with its leases and credentials.
///
/// # Errors
/// The store's; [`Error::NotFound`].
pub(super) async fn revoke_grant(
    app: &App,
    context: &Context,
    id: GrantId,
    reason: Option<&str>,
) -> Result<Vec<CredentialId>, Error> {
    app.control().forget_grant(id);
    let mut grant = app.grant(id).await?.as_ref().clone();
    grant.state = GrantState::Revoked;
    let stored = app.stored(grant)?;
    let event = app.event(context, "grant.revoked", &id, json!({ "grant": id, "reason": reason }));
    let ended = revoke(app, RevokeTarget::Grant(Box::new(stored)), event).await;
    app.control().forget_grant(id);
    app.decisions().forget_grant(id);
    app.streams().cut_grant(id);
    let ended = ended?;
    if ended.is_empty() {
        // No key's end will tell of it.
        unspent::settle(app, id).await;
    }
    Ok(ended)
}

async fn revoke(
    app: &App,
    target: RevokeTarget,
    event: crate::model::event::Event,
) -> Result<Vec<CredentialId>, Error> {
    let data = match event.data {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let ask = RevokeAsk {
        target,
        now: app.now(),
        event: event.id,
        kind: event.kind,
        actor: event.actor,
        livemode: event.livemode,
        request_id: event.request_id,
        data,
    };
    let outcome = app.writer.revoke(ask).await?;
    app.announce_lease();
    Ok(outcome.credentials)
}

/// Ends credentials at their vendors now, together; answers whether all are dead. Workers go on with the others.
pub(super) async fn end_now(app: &App, credentials: &[CredentialId]) -> bool {
    let ends = credentials.iter().map(|id| see_end(app, *id));
    let dead = futures_util::future::join_all(ends).await.into_iter().all(|dead| dead);
    app.announce_work();
    dead
}

/// Tries the end of a key that was to be ended before, now and not when it is due; answers whether it is dead.
///
/// # Errors
/// The store's.
pub(super) async fn try_now(app: &App, id: CredentialId) -> Result<bool, Error> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let Some(row) = tx.credential(id).await? else {
        return Ok(true);
    };
    if !matches!(row.state, CredentialState::Revoking | CredentialState::Stuck) {
        return Ok(row.state.is_final());
    }
    // Within a try's time somebody may be at the vendor just now, and their answer counts.
    if row.next_at.is_some_and(|at| at > now.plus(TRY)) {
        let due = Credential {
            next_at: Some(now),
            ..row
        };
        tx.update_credential(&due).await?;
        let _none = tx.commit(&[], &[]).await?;
    } else {
        drop(tx);
    }
    Ok(see_end(app, id).await)
}

/// Tries to end one, or sees how the worker's try goes that was quicker.
async fn see_end(app: &App, id: CredentialId) -> bool {
    let patience = app.now().plus(TRY);
    if app.is_reconciling() {
        return false;
    }
    loop {
        match end(app, id).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "could not end a key now; a worker goes on");
                return false;
            }
        }
        match tried(app, id).await {
            Some(outcome) => return outcome,
            None if app.now() >= patience => return false,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// How the last try ended; `None` while one is under way.
async fn tried(app: &App, id: CredentialId) -> Option<bool> {
    let mut tx = app.store.read().await.ok()?;
    match tx.credential(id).await {
        Ok(Some(row)) if row.state.is_final() => Some(true),
        // One whose term ends it is tried by nobody.
        Ok(Some(row)) if row.next_at.is_some_and(|at| at > app.now().plus(TRY)) => Some(false),
        Ok(Some(row)) if row.last_error.is_none() => None,
        _ => Some(false),
    }
}

/// Ends everything of a principal: its grants, and its leases as a prim. What cannot be ended does not keep the rest
/// from ending; the first such trouble is the answer.
///
/// # Errors
/// The store's; [`Error::Forged`].
pub(super) async fn end_all_of(app: &App, context: &Context, principal: &Principal) -> Result<(), Error> {
    let reason = Some("principal disabled");
    let mut outcome = Ok(());
    if principal.kind == PrincipalKind::Prim {
        for lease in leases_of(app, principal).await? {
            outcome = outcome.and(revoke_lease(app, context, lease, reason).await.map(drop));
        }
    }
    for grant in grants_of(app, principal).await? {
        outcome = outcome.and(revoke_grant(app, context, grant, reason).await.map(drop));
    }
    app.announce_work();
    outcome
}

async fn leases_of(app: &App, principal: &Principal) -> Result<Vec<LeaseId>, Error> {
    let mut live = Vec::new();
    let mut page = Page::first(PAGE);
    for state in [LeaseState::Pending, LeaseState::Active] {
        let filter = LeaseFilter {
            prim: Some(principal.id),
            state: Some(state),
            ..LeaseFilter::default()
        };
        page.after = None;
        loop {
            let leases = app.store.read().await?.leases(&filter, &page).await?;
            let Some(last) = leases.last() else { break };
            page.after = Some(last.id.to_string());
            live.extend(leases.into_iter().map(|lease| lease.id));
        }
    }
    Ok(live)
}

/// Its grants that can be revoked. One that is being made or paid comes to an end by itself: nobody resolves for an
/// owner who is shut out.
async fn grants_of(app: &App, principal: &Principal) -> Result<Vec<GrantId>, Error> {
    let mut live = Vec::new();
    let mut page = Page::first(PAGE);
    for state in [
        GrantState::PendingApproval,
        GrantState::PaymentRequired,
        GrantState::Active,
    ] {
        let filter = GrantFilter {
            principal: Some(principal.id),
            state: Some(state),
            ..GrantFilter::default()
        };
        page.after = None;
        loop {
            let grants = app.store.read().await?.grants(&filter, &page).await?;
            let Some(last) = grants.last() else { break };
            page.after = Some(last.unverified.id.to_string());
            live.extend(grants.into_iter().map(|grant| grant.unverified.id));
        }
    }
    Ok(live)
}

/// Whether a time has come.
pub(super) fn due(at: Option<Timestamp>, now: Timestamp) -> bool {
    at.is_some_and(|at| at <= now)
}
