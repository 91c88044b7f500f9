//! What a token allows a prim: judged once on the bounded pool for tokens, then kept until the next moment at which
//! the answer could be another. A release itself is never decided here: that is the writer's (DESIGN 21, 22).

use std::sync::Arc;

use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::App;
use super::control::Connected;
use super::error::Error;
use super::passage::Passage;
use crate::base::id::GrantId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::claims::{Claims, UseKind};
use crate::model::grant::{Grant, GrantItem};
use crate::model::policy::{Policy, PolicyVersion};
use crate::model::principal::Principal;
use crate::model::scope::Reference;
use crate::token::{self, Authorized, TokenError, Verifier};
use crate::vendor::{self, Injection};

/// How long a holder may pin a token to one prim (table "Who proves what"), and what clocks may differ.
pub(super) const LONGEST_PIN: Ttl = Ttl::from_millis(5 * 60_000 + 30_000);

/// Tokens that may wait to be judged.
const WAITING: usize = 64;

/// What a token was found to allow, for one prim and reference.
pub(super) struct Decision {
    pub(super) grant: Arc<Grant>,
    pub(super) item: i64,
    pub(super) policy: Arc<Policy>,
    pub(super) connected: Arc<Connected>,
    /// How the key goes into a request; worked out once.
    pub(super) inject: Arc<Injection>,
    pub(super) revocation_ids: Vec<String>,
    until: Timestamp,
    pinned_until: Timestamp,
}

/// Decisions by everything they depend on: token, vendor, scope, prim.
pub struct Decisions {
    cache: Cache<[u8; 32], Arc<Decision>>,
    passages: Cache<[u8; 32], Arc<Passage>>,
    places: Semaphore,
    pool: Arc<Semaphore>,
}

impl Default for Decisions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let threads = cores.saturating_mul(2);
        Self {
            cache: Cache::new(100_000),
            passages: Cache::new(100_000),
            places: Semaphore::new(threads.saturating_add(WAITING)),
            pool: Arc::new(Semaphore::new(threads)),
        }
    }
}

impl Decisions {
    pub(super) fn clear(&self) {
        self.cache.invalidate_all();
        self.passages.invalidate_all();
    }

    /// Decisions about requests to forward.
    pub(super) const fn passages(&self) -> &Cache<[u8; 32], Arc<Passage>> {
        &self.passages
    }

    /// Drops what rests on a grant. Forgetting late is harmless: the writer refuses an ended grant.
    pub(super) fn forget_grant(&self, id: GrantId) {
        let stale: Vec<_> = self
            .cache
            .iter()
            .filter(|(_, decision)| decision.grant.id == id)
            .map(|(key, _)| *key)
            .collect();
        for key in stale {
            self.cache.invalidate(&key);
        }
        let stale = self.passages.iter().filter(|(_, passage)| passage.rests_on(id));
        for (key, _) in stale {
            self.passages.invalidate(&*key);
        }
    }

    /// Drops what rests on a vendor's root credential or manifest.
    pub(super) fn forget_decisions(&self) {
        self.clear();
    }
}

pub(super) async fn decide(
    app: &App,
    prim: &Arc<Principal>,
    unverified_token: &str,
    reference: &Reference,
) -> Result<Arc<Decision>, Error> {
    let now = app.now();
    let key = cache_key(unverified_token, prim, reference);
    // One whose time is over is judged anew: only that tells which block ended it.
    if let Some(decision) = app.decisions().cache.get(&key)
        && decision.until > now
    {
        return Ok(decision);
    }
    let decision = Arc::new(judge(app, prim, unverified_token, reference, now).await?);
    if decision.pinned_until > now.plus(LONGEST_PIN) {
        return Err(Error::NotPinned);
    }
    app.decisions().cache.insert(key, Arc::clone(&decision));
    Ok(decision)
}

fn cache_key(unverified_token: &str, prim: &Principal, reference: &Reference) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(prim.id.as_bytes());
    hasher.update(blake3::hash(reference.to_string().as_bytes()).as_bytes());
    hasher.update(unverified_token.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The whole judgement of a token seen for the first time.
async fn judge(
    app: &App,
    prim: &Arc<Principal>,
    unverified_token: &str,
    reference: &Reference,
    now: Timestamp,
) -> Result<Decision, Error> {
    let (claims, authorized) = read(app, prim, unverified_token, reference, now).await?;
    let grant = granted(app, &claims).await?;
    let fits = |item: &GrantItem| item.vendor == reference.vendor && item.scopes.contains(&reference.scope);
    let place = grant.items.iter().position(fits).ok_or_else(|| Error::NotGranted {
        wanted: reference.to_string(),
        allowed: rights(&claims),
    })?;
    let item = grant
        .items
        .get(place)
        .ok_or_else(|| Error::internal("an item vanished"))?;
    let in_force = app.policy_version(&item.policy, item.policy_version).await?;
    if item.policy_digest != in_force.version.digest() {
        return Err(Error::Forged("policy"));
    }
    may_reveal(app, &in_force.policy, prim).await?;
    let connected = app.current_root(&reference.vendor).await?;
    as_approved(&in_force.version, Some(prim), &connected)?;
    let pinned = authorized.pinned.as_ref() == Some(&prim.name);
    let pinned_until = if pinned { authorized.pinned_until } else { None }.ok_or(Error::NotPinned)?;
    Ok(Decision {
        item: i64::try_from(place).map_err(Error::internal)?,
        policy: Arc::new(in_force.policy.clone()),
        inject: Arc::new(injection(&connected)?),
        connected,
        until: authorized.until.min(grant.expires),
        pinned_until,
        revocation_ids: claims.revocation_ids,
        grant,
    })
}

fn injection(connected: &Connected) -> Result<Injection, Error> {
    let root = &connected.root;
    let base = root.base_url.as_deref().and_then(|url| url.parse().ok());
    vendor::injection(&connected.manifest, base.as_ref(), &root.params).map_err(Error::internal)
}

/// Runs the work on threads that answer no requests: a hostile token costs its caller's place there only.
///
/// # Errors
/// [`Error::Busy`] when too many wait; the work's own.
pub(super) async fn on_pool<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let decisions = app.decisions();
    let _place = decisions.places.try_acquire().map_err(|_| Error::Busy)?;
    let running = Arc::clone(&decisions.pool)
        .acquire_owned()
        .await
        .map_err(Error::internal)?;
    let judged = tokio::task::spawn_blocking(move || {
        let _running = running;
        work()
    });
    judged.await.map_err(Error::internal)?
}

/// Signatures and Datalog.
async fn read(
    app: &App,
    prim: &Arc<Principal>,
    unverified_token: &str,
    reference: &Reference,
    now: Timestamp,
) -> Result<(Claims, Authorized), Error> {
    let opened = app.opened()?;
    let (token, prim, reference) = (unverified_token.to_owned(), Arc::clone(prim), reference.clone());
    on_pool(app, move || {
        let verified = opened
            .verifier
            .parse(&token)
            .map_err(|error| refuse_token(error, &reference))?;
        let claims = verified.claims().clone();
        let ask = token::Ask {
            now,
            use_kind: UseKind::Resolve,
            prim: Some(&prim.name),
            vendor: Some(&reference.vendor),
            scope: Some(&reference.scope),
            method: None,
            path: None,
        };
        let authorized = opened
            .verifier
            .authorize(&verified, &ask)
            .map_err(|error| not_granted(error, &reference, &claims))?;
        Ok((claims, authorized))
    })
    .await
}

/// Looks at a token on the bounded pool.
///
/// # Errors
/// [`Error::Busy`], [`Error::Sealed`].
pub(super) async fn look_at<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&Verifier) -> T + Send + 'static,
) -> Result<T, Error> {
    let opened = app.opened()?;
    on_pool(app, move || Ok(look(&opened.verifier))).await
}

/// The token's grant, read anew: another instance may have renewed it. One that is gone, not authentic or of somebody
/// shut out answers like a forged token.
pub(super) async fn granted(app: &App, claims: &Claims) -> Result<Arc<Grant>, Error> {
    let alike = |error| match error {
        Error::NotFound(_) | Error::Forged(_) => Error::Unauthenticated,
        other => other,
    };
    let grant = app.grant_anew(claims.grant).await.map_err(alike)?;
    if grant.principal != claims.principal || grant.holder != claims.holder {
        return Err(Error::Unauthenticated);
    }
    if app.principal(grant.principal).await.map_err(alike)?.disabled {
        return Err(Error::Unauthenticated);
    }
    Ok(grant)
}

/// The policy names the prim, and the vendor's keys are of a kind that may be shown.
async fn may_reveal(app: &App, policy: &Policy, prim: &Principal) -> Result<(), Error> {
    let reveal = policy
        .reveal
        .as_ref()
        .filter(|reveal| reveal.prims.contains(&prim.name));
    if reveal.is_none() {
        return Err(Error::NotAllowed(format!(
            "policy `{}` does not let `{}` receive keys",
            policy.name, prim.name
        )));
    }
    let (manifest, _) = app.manifest(&policy.vendor).await?;
    let facts = manifest.facts();
    if facts.can_mint || facts.class >= 5 {
        return Err(Error::NotAllowed(format!(
            "keys of `{}` are only forwarded, never handed out",
            policy.vendor
        )));
    }
    Ok(())
}

/// The approvers signed the manifest and the prims' keys together with the policy: with others it is not the policy
/// they approved (DESIGN 11).
pub(super) fn as_approved(
    version: &PolicyVersion,
    prim: Option<&Principal>,
    connected: &Connected,
) -> Result<(), Error> {
    let changed = |what: String| {
        Error::NotAllowed(format!(
            "{what} changed since policy `{}` was approved; propose it again",
            version.name
        ))
    };
    if connected.root.manifest != version.manifest {
        return Err(changed(format!("the manifest of `{}`", connected.root.vendor)));
    }
    let as_then = |prim: &&Principal| {
        let mut then = version.prim_keys.iter();
        then.any(|(name, keys)| *name == prim.name && *keys == prim.keys)
    };
    match prim {
        Some(prim) if !as_then(&prim) => Err(changed(format!("the keys of `{}`", prim.name))),
        _ => Ok(()),
    }
}

pub(super) fn rights(claims: &Claims) -> String {
    let rights: Vec<String> = claims
        .rights
        .iter()
        .map(|(vendor, scope)| format!("{vendor}/{scope}"))
        .collect();
    rights.join(", ")
}

pub(super) fn refuse_token(error: TokenError, reference: &Reference) -> Error {
    match error {
        TokenError::TooLarge => Error::TokenTooLarge,
        TokenError::Narrowed { block, check } => Error::Narrowed { block, check },
        TokenError::NotGranted => Error::NotGranted {
            wanted: reference.to_string(),
            allowed: String::new(),
        },
        TokenError::TimedOut => Error::Busy,
        _ => Error::Unauthenticated,
    }
}

pub(super) fn not_granted(error: TokenError, reference: &Reference, claims: &Claims) -> Error {
    match refuse_token(error, reference) {
        Error::NotGranted { wanted, .. } => Error::NotGranted {
            wanted,
            allowed: rights(claims),
        },
        other => other,
    }
}
