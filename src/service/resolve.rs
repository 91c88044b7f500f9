//! Resolving: a prim swaps a token for the key of a lease. The decision about the token may come from a cache; the
//! release itself never does: it passes the writer, which knows limits and revocations exactly (DESIGN 20, 21).

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::decision::{Decision, decide};
use super::error::Error;
use super::measure;
use super::provision::{self, Saved, credential_place};
use crate::base::canonical::Digest;
use crate::base::id::{CredentialId, EventId, LeaseId};
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::Credential;
use crate::model::event::Committed;
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::principal::{Principal, PrincipalKind};
use crate::model::scope::Reference;
use crate::model::sealed::{Place, Sealed};
use crate::store::Release;
use crate::store::writer::{Refusal, ResolveAsk, ResolveOutcome};
use crate::vault::VaultError;
pub use crate::vendor::Injection;

/// How long a request waits for a key that another request is having made.
const LONGEST_WAIT: Ttl = Ttl::from_secs(15);

/// A request to resolve: 1 to 20 items, each answered on its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// What is wanted.
    pub items: Vec<ResolveItem>,
}

/// One thing to resolve.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveItem {
    /// What.
    pub reference: Reference,
    /// The agent's token, when it is not the one in `Authorization`.
    pub token: Option<String>,
    /// What the prim still has: unchanged, it is not sent again.
    pub known: Option<Known>,
}

/// A key the prim holds already.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its lease.
    pub lease_id: LeaseId,
    /// Its version.
    pub version: i64,
}

/// One answer. The key is not part of anything that can be serialised; the surface writes it out once.
pub struct Resolution {
    /// What was asked for.
    pub reference: Reference,
    /// The lease.
    pub lease: LeaseId,
    /// When it ends.
    pub expires: Timestamp,
    /// Seconds until then.
    pub lease_duration: i64,
    /// The credential's version.
    pub version: i64,
    /// The key; absent when the prim has it.
    pub secret: Option<SecretBytes>,
    /// How the key goes into a request.
    pub inject: Arc<Injection>,
    /// The event on record.
    pub event: EventId,
}

/// Resolves one item for the calling prim.
///
/// # Errors
/// [`Error::Unauthenticated`] for forged, expired, revoked and foreign tokens alike; [`Error::Narrowed`];
/// [`Error::NotGranted`]; [`Error::NotPinned`]; [`Error::NotAllowed`]; limits; the vendor's failures.
pub async fn resolve(
    app: &App,
    context: &Context,
    bearer: Option<&str>,
    item: &ResolveItem,
) -> Result<Resolution, Error> {
    let since = Instant::now();
    let result = decided(app, context, bearer, item).await;
    let outcome = measure::outcome(&result, |resolution| resolution.secret.is_none());
    app.metrics().resolved(&item.reference.vendor, outcome, since.elapsed());
    result
}

async fn decided(app: &App, context: &Context, bearer: Option<&str>, item: &ResolveItem) -> Result<Resolution, Error> {
    let prim = context.require(&[PrincipalKind::Prim])?;
    if app.log_is_broken() {
        return Err(Error::LogBroken);
    }
    let unverified_token = item.token.as_deref().or(bearer).ok_or(Error::Unauthenticated)?;
    app.refuse_clock_set_back()?;
    let decision = decide(app, prim, unverified_token, &item.reference).await?;
    let deadline = app.now().plus(LONGEST_WAIT);
    loop {
        let ask = ask(app, context, prim, &decision, item, unverified_token)?;
        let event = ask.event;
        match app.writer.resolve(ask).await? {
            ResolveOutcome::Released {
                lease,
                credential,
                version,
                sealed,
                committed,
            } => {
                return released(app, &decision, item, &lease, (credential, version), sealed, committed).await;
            }
            ResolveOutcome::Unchanged { lease } => {
                let version = item.known.map_or(1, |known| known.version);
                return Ok(resolution(app, &decision, item, &lease, (version, None), event));
            }
            ResolveOutcome::Make {
                lease,
                credential,
                committed,
            } => {
                return make(app, decision, item.clone(), lease, *credential, committed).await;
            }
            ResolveOutcome::Wait { .. } if app.now() < deadline => wait(app).await,
            ResolveOutcome::Wait { .. } => return Err(Error::Busy),
            ResolveOutcome::Refused(refusal) => return Err(refused(&refusal)),
        }
    }
}

/// Another request is having the key made: woken when it is there, and looking again anyway for other instances.
async fn wait(app: &App) {
    let changed = app.0.leases_changed.notified();
    let _woken = tokio::time::timeout(std::time::Duration::from_millis(50), changed).await;
}

fn ask(
    app: &App,
    context: &Context,
    prim: &Principal,
    decision: &Decision,
    item: &ResolveItem,
    unverified_token: &str,
) -> Result<ResolveAsk, Error> {
    let now = app.now();
    let max_lease = decision
        .policy
        .reveal
        .as_ref()
        .map_or(Ttl::from_mins(1), |reveal| reveal.max_lease);
    let grant_item = usize::try_from(decision.item)
        .ok()
        .and_then(|at| decision.grant.items.get(at));
    let scopes = grant_item
        .map(|item| item.scopes.clone())
        .ok_or_else(|| Error::internal("an item vanished"))?;
    Ok(ResolveAsk {
        grant: decision.grant.id,
        item: decision.item,
        prim: prim.id,
        vendor: item.reference.vendor.clone(),
        policy: decision.policy.name.clone(),
        root: decision.connected.root.id,
        scopes,
        now,
        grant_expires: decision.grant.expires,
        max_resolves: decision.grant.max_resolves,
        lease_until: decision.grant.expires.min(now.plus(max_lease)),
        rate: decision.policy.limits.rate,
        live_leases: decision.policy.limits.live_leases,
        known: item.known.map(|known| (known.lease_id, known.version)),
        nonce: context.nonce.as_ref().map(|nonce| {
            // The items of one request share its signature: each claims the nonce for its own reference and token.
            (
                format!(
                    "{}#{}#{}",
                    nonce.holder,
                    item.reference,
                    Digest::of(unverified_token.as_bytes())
                ),
                nonce.nonce.clone(),
                nonce.until,
            )
        }),
        revocation_ids: decision.revocation_ids.clone(),
        new_lease: LeaseId::new(now, app.random.as_ref()),
        new_credential: CredentialId::new(now, app.random.as_ref()),
        event: EventId::new(now, app.random.as_ref()),
        actor: prim.id.to_string(),
        livemode: app.livemode(),
        request_id: Some(context.request),
    })
}

fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::TokenRevoked(_)
        | Refusal::NonceReplayed
        | Refusal::UnknownGrant
        | Refusal::GrantExpired
        | Refusal::GrantNotActive(GrantState::Revoked | GrantState::Expired) => Error::Unauthenticated,
        Refusal::GrantNotActive(state) => Error::GrantOver(*state),
        Refusal::UsedUp => Error::UsedUp,
        Refusal::RateLimited { retry_after } => Error::RateLimited(*retry_after),
        Refusal::TooManyLeases => Error::TooManyLeases,
    }
}

/// Opens the value the record allows to open.
async fn released(
    app: &App,
    decision: &Decision,
    item: &ResolveItem,
    lease: &Lease,
    (credential, version): (CredentialId, i64),
    sealed: Option<Sealed>,
    committed: Committed,
) -> Result<Resolution, Error> {
    let sealed = sealed.ok_or_else(|| Error::internal("no sealed value"))?;
    let event = committed.event();
    let place = place(app, decision, credential, version);
    let secret = match app.open_value(&sealed, &place, committed).await {
        Ok(secret) => secret,
        Err(VaultError::Sealed) => return Err(Error::Sealed),
        Err(error) => {
            tracing::error!(%error, %credential, "a sealed value does not open where it is stored: somebody moved it");
            app.raise("security.forged_row", "sealed value").await;
            return Err(Error::Forged("sealed value"));
        }
    };
    Ok(resolution(app, decision, item, lease, (version, Some(secret)), event))
}

/// The address the value must have, from the token's grant and not from the database.
fn place(app: &App, decision: &Decision, credential: CredentialId, version: i64) -> Place {
    Place {
        instance: app.instance.id,
        record: "credential",
        id: credential.to_string(),
        owner: format!("{}/{}", decision.grant.id, decision.item),
        version,
        field: "secret",
    }
}

fn resolution(
    app: &App,
    decision: &Decision,
    item: &ResolveItem,
    lease: &Lease,
    (version, secret): (i64, Option<SecretBytes>),
    event: EventId,
) -> Resolution {
    Resolution {
        reference: item.reference.clone(),
        lease: lease.id,
        expires: lease.expires,
        lease_duration: lease.expires.since(app.now()).as_secs(),
        version,
        secret,
        inject: Arc::clone(&decision.inject),
        event,
    }
}

/// The first use by this prim: a key is made for it. In a task of its own, so that a caller that hangs up leaves no
/// key behind without its lease.
async fn make(
    app: &App,
    decision: Arc<Decision>,
    item: ResolveItem,
    lease: Lease,
    credential: Credential,
    proof: Committed,
) -> Result<Resolution, Error> {
    let app = app.clone();
    let task = tokio::spawn(async move {
        let outcome = make_now(&app, &decision, &item, lease, credential, proof).await;
        app.announce_lease();
        outcome
    });
    task.await.map_err(Error::internal)?
}

async fn make_now(
    app: &App,
    decision: &Decision,
    item: &ResolveItem,
    mut lease: Lease,
    credential: Credential,
    proof: Committed,
) -> Result<Resolution, Error> {
    let connected = app.root(credential.root).await?;
    let created = match provision::make(app, &credential, &connected, proof).await {
        Ok(created) => created,
        Err(error) => {
            drop_lease(app, lease).await?;
            return Err(error);
        }
    };
    let mut tx = app.store.begin().await?;
    let (made, event) = match provision::save(app, &mut tx, &credential, created).await? {
        Saved::Active(made, event) => (*made, event),
        Saved::Late(event) => {
            let _none = tx.commit(&[event], &[]).await?;
            app.announce_work();
            return Err(Error::Busy);
        }
    };
    let (grant, _) = tx.grant(lease.grant).await?.ok_or(Error::NotFound("grant"))?;
    let stored_lease = tx.lease(lease.id).await?.map(|row| row.state);
    let alive = grant.unverified.state == GrantState::Active && stored_lease == Some(LeaseState::Pending);
    if !alive {
        // Revoked while the vendor was asked: the key dies unseen.
        let abandoned = provision::abandon(app, &mut tx, made.id, app.now()).await?;
        let events: Vec<_> = std::iter::once(event).chain(abandoned).collect();
        let _none = tx.commit(&events, &[]).await?;
        app.announce_work();
        return Err(Error::Unauthenticated);
    }
    lease.state = LeaseState::Active;
    lease.expires = made.expires;
    tx.update_lease(&lease).await?;
    let (_, sealed) = tx
        .sealed_credential(made.id)
        .await?
        .ok_or(Error::NotFound("credential"))?;
    let data = serde_json::json!({ "grant": lease.grant, "prim": lease.prim, "lease": lease.id, "credential": made.id, "version": made.version });
    let mut reveal = app.own_event("lease.resolved", &lease.id, data);
    reveal.actor = lease.prim.to_string();
    let release = Release {
        event: reveal.id,
        object: made.id.to_string(),
        version: made.version,
    };
    let committed = tx.commit(&[event, reveal], &[release]).await?.into_iter().next();
    let committed = committed.ok_or_else(|| Error::internal("no proof of record"))?;
    debug_assert_eq!(
        credential_place(app, &made),
        place(app, decision, made.id, made.version)
    );
    released(
        app,
        decision,
        item,
        &lease,
        (made.id, made.version),
        Some(sealed),
        committed,
    )
    .await
}

async fn drop_lease(app: &App, mut lease: Lease) -> Result<(), Error> {
    lease.state = LeaseState::Revoked;
    let mut tx = app.store.begin().await?;
    if tx
        .lease(lease.id)
        .await?
        .is_some_and(|row| row.state == LeaseState::Pending)
    {
        tx.update_lease(&lease).await?;
    }
    let event = app.own_event(
        "lease.revoked",
        &lease.id,
        serde_json::json!({ "reason": "its key could not be made" }),
    );
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}
