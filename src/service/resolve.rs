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
use super::issue;
use super::measure;
use super::provision::{credential_place, key_name};
use crate::base::canonical::Digest;
use crate::base::id::{CredentialId, EventId, LeaseId};
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::Credential;
use crate::model::event::Committed;
use crate::model::grant::GrantState;
use crate::model::lease::Lease;
use crate::model::principal::{Principal, PrincipalKind};
use crate::model::scope::Reference;
use crate::model::sealed::{Place, Sealed};
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
    #[schemars(length(min = 1, max = 20))]
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
    app.refuse_while_reconciling()?;
    if app.log_is_broken() {
        return Err(Error::LogBroken);
    }
    let unverified_token = item.token.as_deref().or(bearer).ok_or(Error::Unauthenticated)?;
    app.refuse_wrong_clock()?;
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
                return make(app, &decision, item, lease, *credential, committed).await;
            }
            ResolveOutcome::Root { .. } => return Err(Error::internal("a root credential was asked for")),
            ResolveOutcome::Wait { .. } if app.now() < deadline => app.lease_changes().await,
            ResolveOutcome::Wait { .. } => return Err(Error::Busy),
            ResolveOutcome::Refused(refusal) => return Err(refused(&refusal)),
        }
    }
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
    let new_credential = CredentialId::new(now, app.random.as_ref());
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
        lease_until: decision
            .connected
            .manifest
            .ends_by(now, decision.grant.expires.min(now.plus(max_lease))),
        payers: decision.grant.payers(),
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
        new_credential,
        new_name: key_name(app, &decision.connected, new_credential),
        event: EventId::new(now, app.random.as_ref()),
        actor: prim.id.to_string(),
        livemode: app.livemode(),
        request_id: Some(context.request),
        forward: None,
    })
}

pub(super) fn refused(refusal: &Refusal) -> Error {
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

/// The first use by this prim: a key is made for it.
async fn make(
    app: &App,
    decision: &Decision,
    item: &ResolveItem,
    lease: Lease,
    credential: Credential,
    proof: Committed,
) -> Result<Resolution, Error> {
    let issued = issue::issue(app, lease, credential, proof, "lease.resolved").await?;
    let made = &issued.credential;
    debug_assert_eq!(credential_place(app, made), place(app, decision, made.id, made.version));
    let key = (made.id, made.version);
    released(
        app,
        decision,
        item,
        &issued.lease,
        key,
        Some(issued.sealed),
        issued.committed,
    )
    .await
}
