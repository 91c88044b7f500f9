//! What a token allows through the proxy: judged once on the bounded pool for tokens, then kept until the next moment
//! at which the answer could be another. Limits and revocations are never decided here: they are the writer's.

use std::sync::Arc;

use url::Url;

use super::App;
use super::caller::{Caller, Context};
use super::control::{Connected, InForce};
use super::decision::{self, LONGEST_PIN, granted, refuse_token};
use super::error::Error;
use super::pool;
use super::schedule;
use crate::base::id::GrantId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::claims::{Claims, UseKind};
use crate::model::grant::{Grant, GrantItem};
use crate::model::policy::{CredentialPer, Policy};
use crate::model::principal::{Principal, PrincipalKind};
use crate::model::scope::{Name, Reference, Scope};
use crate::store::writer::ForwardKey;
use crate::token::{self, Authorized};
use crate::vendor::{self, Route};

/// A request that a token allows, and what else is needed to send it.
pub(super) struct Passage {
    pub(super) grant: Arc<Grant>,
    pub(super) item: i64,
    pub(super) policy: Arc<Policy>,
    pub(super) connected: Arc<Connected>,
    /// Scheme, host and port of the vendor.
    pub(super) base: Url,
    pub(super) key: ForwardKey,
    /// How long a key lives that all grants share.
    pub(super) life: Ttl,
    /// The scopes a key is made for.
    pub(super) scopes: Vec<Scope>,
    pub(super) class: &'static str,
    pub(super) revocation_ids: Vec<String>,
    pub(super) until: Timestamp,
    /// The token looks at method or path, so the answer is for this very request.
    narrow: bool,
}

/// What is asked of a token.
pub(super) struct Asked<'a> {
    pub(super) token: &'a str,
    pub(super) vendor: &'a Name,
    pub(super) method: &'a str,
    pub(super) route: &'a Route,
}

impl Passage {
    /// Whether it rests on this grant.
    pub(super) fn rests_on(&self, id: GrantId) -> bool {
        self.grant.id == id || self.key == ForwardKey::Pool(id)
    }
}

/// Whether the token lets this caller send this request.
///
/// # Errors
/// [`Error::Unauthenticated`] for forged, expired, revoked and foreign tokens alike; [`Error::Narrowed`];
/// [`Error::NotGranted`]; [`Error::SignatureRequired`] and [`Error::BearerRefused`] for an unsigned token;
/// [`Error::NotPinned`] for a prim's.
pub(super) async fn admit(app: &App, context: &Context, asked: &Asked<'_>) -> Result<Arc<Passage>, Error> {
    let now = app.now();
    let known = [cache_key(context, asked, false), cache_key(context, asked, true)];
    let cache = app.decisions().passages();
    for key in &known {
        if let Some(passage) = cache.get(key)
            && passage.until > now
            && app.current_root(asked.vendor).await?.root.id == passage.connected.root.id
        {
            return Ok(passage);
        }
    }
    let passage = Arc::new(judge(app, context, asked, now).await?);
    let [wide, narrow] = known;
    cache.insert(if passage.narrow { narrow } else { wide }, Arc::clone(&passage));
    Ok(passage)
}

/// Everything the answer depends on: token, who signed, vendor, method, and the rule or the very path.
fn cache_key(context: &Context, asked: &Asked<'_>, by_path: bool) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let signer = context.key.map(|key| key.to_string()).unwrap_or_default();
    let principal = context.caller.principal().map(|principal| principal.id.to_string());
    let path = if by_path { &asked.route.path } else { &asked.route.rule };
    for part in [
        asked.token,
        signer.as_str(),
        principal.as_deref().unwrap_or_default(),
        asked.vendor.as_str(),
        asked.method,
        if by_path { "path" } else { "rule" },
        path,
    ] {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

async fn judge(app: &App, context: &Context, asked: &Asked<'_>, now: Timestamp) -> Result<Passage, Error> {
    let prim = context
        .caller
        .principal()
        .filter(|caller| caller.kind == PrincipalKind::Prim);
    let (claims, authorized, scope) = read(app, prim, asked, now).await?;
    let grant = granted(app, &claims).await?;
    let fits = |item: &GrantItem| item.vendor == *asked.vendor && item.scopes.contains(&scope);
    let place = grant
        .items
        .iter()
        .position(fits)
        .ok_or_else(|| not_granted(asked, &scope, &claims))?;
    let item = grant
        .items
        .get(place)
        .ok_or_else(|| Error::internal("an item vanished"))?;
    let in_force = app.policy_version(&item.policy, item.policy_version).await?;
    if item.policy_digest != in_force.version.digest() {
        return Err(Error::Forged("policy"));
    }
    let (class, bound) = class(context, &grant, &claims, &authorized, &in_force.policy, now)?;
    let connected = app.current_root(asked.vendor).await?;
    decision::as_approved(&in_force.version, None, &connected)?;
    let until = [authorized.until, grant.expires]
        .into_iter()
        .chain(bound)
        .min()
        .unwrap_or(now);
    let (key, scopes) = key(app, &in_force, &connected, item).await?;
    let life = schedule::life(schedule::period(app, &in_force, &connected), &connected);
    let root = &connected.root;
    let base_url = root.base_url.as_deref().and_then(|url| url.parse().ok());
    let base = vendor::forward_base(&connected.manifest, base_url.as_ref(), &root.params).map_err(Error::internal)?;
    Ok(Passage {
        item: i64::try_from(place).map_err(Error::internal)?,
        policy: Arc::new(in_force.policy.clone()),
        base,
        key,
        life,
        scopes,
        class,
        revocation_ids: claims.revocation_ids,
        until,
        narrow: authorized.by_request,
        connected,
        grant,
    })
}

/// Whose key it will be.
async fn key(
    app: &App,
    in_force: &InForce,
    connected: &Connected,
    item: &GrantItem,
) -> Result<(ForwardKey, Vec<Scope>), Error> {
    if connected.manifest.facts().is_static {
        return Ok((ForwardKey::Root, Vec::new()));
    }
    match in_force.policy.grant.credential_per {
        CredentialPer::Grant => Ok((ForwardKey::Grant, item.scopes.clone())),
        CredentialPer::Shared => {
            let pool = pool::of(app, in_force).await?;
            Ok((ForwardKey::Pool(pool), in_force.policy.scopes.clone()))
        }
    }
}

/// Signature, profile and Datalog, for the first scope that the token lets through.
async fn read(
    app: &App,
    prim: Option<&Arc<Principal>>,
    asked: &Asked<'_>,
    now: Timestamp,
) -> Result<(Claims, Authorized, Scope), Error> {
    let opened = app.opened()?;
    let (token, prim, route) = (asked.token.to_owned(), prim.cloned(), asked.route.clone());
    let (vendor, method) = (asked.vendor.clone(), asked.method.to_owned());
    decision::on_pool(app, move || {
        let anything: Scope = route
            .scope
            .clone()
            .map_or_else(|| "any:scope".parse(), Ok)
            .map_err(Error::internal)?;
        let reference = |scope: &Scope| Reference {
            vendor: vendor.clone(),
            scope: scope.clone(),
        };
        let verified = opened
            .verifier
            .parse(&token)
            .map_err(|error| refuse_token(error, &reference(&anything)))?;
        let claims = verified.claims().clone();
        let of_vendor = claims.rights.iter().filter(|(of, _)| *of == vendor);
        let wanted = of_vendor.filter(|(_, scope)| route.scope.as_ref().is_none_or(|needed| needed == scope));
        let mut refused = None;
        for (_, scope) in wanted {
            let ask = token::Ask {
                now,
                use_kind: UseKind::Forward,
                prim: prim.as_ref().map(|prim| &prim.name),
                vendor: Some(&vendor),
                scope: Some(scope),
                method: Some(&method),
                path: Some(&route.path),
            };
            match opened.verifier.authorize(&verified, &ask) {
                Ok(authorized) => return Ok((claims.clone(), authorized, scope.clone())),
                Err(error) => refused = refused.or(Some(decision::not_granted(error, &reference(scope), &claims))),
            }
        }
        Err(refused.unwrap_or_else(|| Error::NotGranted {
            wanted: reference(&anything).to_string(),
            allowed: decision::rights(&claims),
        }))
    })
    .await
}

fn not_granted(asked: &Asked<'_>, scope: &Scope, claims: &Claims) -> Error {
    Error::NotGranted {
        wanted: format!("dk://{}/{scope}", asked.vendor),
        allowed: decision::rights(claims),
    }
}

/// By what right the caller uses the token, and until when that holds at most.
fn class(
    context: &Context,
    grant: &Grant,
    claims: &Claims,
    authorized: &Authorized,
    policy: &Policy,
    now: Timestamp,
) -> Result<(&'static str, Option<Timestamp>), Error> {
    if grant.holder.is_some() && context.key == grant.holder {
        return Ok(("holder", None));
    }
    match &context.caller {
        Caller::Principal(caller) if grant.holder.is_none() && caller.id == grant.principal => Ok(("owner", None)),
        Caller::Principal(caller) if caller.kind == PrincipalKind::Prim => {
            let pinned = authorized.pinned.as_ref() == Some(&caller.name);
            let until = if pinned { authorized.pinned_until } else { None }.ok_or(Error::NotPinned)?;
            if until > now.plus(LONGEST_PIN) {
                return Err(Error::NotPinned);
            }
            Ok(("prim", Some(until)))
        }
        Caller::Anonymous if grant.holder.is_some() => Err(Error::SignatureRequired),
        Caller::Anonymous => bearer(policy, claims, now),
        // Somebody else's signature beside this token.
        _ => Err(Error::Unauthenticated),
    }
}

/// An unsigned token: whoever has it can use it, so only where the policy says so, and for a short time.
fn bearer(policy: &Policy, claims: &Claims, now: Timestamp) -> Result<(&'static str, Option<Timestamp>), Error> {
    let span = policy
        .forward
        .bearer
        .ok_or_else(|| Error::BearerRefused(format!("policy `{}` takes no unsigned tokens", policy.name)))?;
    let until = claims.issued.plus(span);
    if until <= now {
        return Err(Error::BearerRefused(format!(
            "policy `{}` takes an unsigned token for {span} from its making; that is over",
            policy.name
        )));
    }
    Ok(("bearer", Some(until)))
}
