//! Introspection (RFC 7662): whether a token is active now, and what it allows whoever asks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::caller::Context;
use super::decision::look_at;
use super::error::Error;
use crate::base::id::{GrantId, PrincipalId};
use crate::base::time::Timestamp;
use crate::model::claims::{Claims, UseKind};
use crate::model::grant::GrantState;
use crate::model::principal::{PrincipalKind, PublicKey};
use crate::model::scope::{Name, Reference};
use crate::token::Reach;

/// A token to look at or to end. Without `Debug`: it is a secret.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenAsk {
    /// The token.
    pub token: String,
    /// `access_token`, or what OAuth clients send; there is one kind, so it does not matter.
    pub token_type_hint: Option<String>,
}

/// What RFC 7662 §2.2 answers. A token that is not active has no member but `active`, whatever the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Introspection {
    /// Whether the caller may use it now.
    pub active: bool,
    /// The references it still allows, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// When it ends, all blocks considered: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// The grant's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<PrincipalId>,
    /// The owner's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Name>,
    /// The prims it was minted for; absent is any that the policy names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<Vec<Name>>,
    /// The address of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The revocation id of its last block: what `POST /v1/token/revoke` would end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The key its holder signs with; absent for a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<PublicKey>,
    /// The uses it still allows: `resolve`, `forward`, `manage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<Vec<String>>,
    /// Whether real vendors are behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub livemode: Option<bool>,
}

/// Looks at a token for a prim, which learns of what it may use itself, or for an operator.
///
/// # Errors
/// [`Error::SignatureRequired`], [`Error::NotAllowed`], [`Error::Busy`]; never for what is wrong with the token.
pub async fn introspect(app: &App, context: &Context, ask: &TokenAsk) -> Result<Introspection, Error> {
    let caller = context.require(&[PrincipalKind::Prim, PrincipalKind::Operator])?;
    app.refuse_wrong_clock()?;
    let prim = (caller.kind == PrincipalKind::Prim).then(|| caller.name.clone());
    let (token, now, operator) = (ask.token.clone(), app.now(), prim.is_none());
    let looked = look_at(app, move |verifier| {
        let verified = verifier.parse(token.trim()).ok()?;
        Some((verified.claims().clone(), verifier.reach(&verified, now, prim.as_ref())))
    });
    let Some((claims, reach)) = looked.await? else {
        return Ok(Introspection::default());
    };
    let useful = !reach.rights.is_empty() || (operator && reach.uses.contains(&UseKind::Manage));
    if reach.until <= now || !useful {
        return Ok(Introspection::default());
    }
    Ok(match owner(app, &claims, now).await? {
        Some(owner) => active(app, claims, &reach, owner),
        None => Introspection::default(),
    })
}

/// The owner of a token that nobody ended; `None` when somebody did.
async fn owner(app: &App, claims: &Claims, now: Timestamp) -> Result<Option<Name>, Error> {
    let mut tx = app.store.read().await?;
    let revoked = tx.token_revoked(&claims.revocation_ids).await?;
    let stored = tx.grant(claims.grant).await?;
    tx.end().await?;
    let (None, Some((stored, _))) = (revoked, stored) else {
        return Ok(None);
    };
    let alike = |error| match error {
        Error::NotFound(_) | Error::Forged(_) => Ok(None),
        other => Err(other),
    };
    let grant = match app.authentic("grant", stored).await {
        Ok(grant) => grant,
        Err(error) => return alike(error),
    };
    let fits = grant.principal == claims.principal && grant.holder == claims.holder;
    if !fits || grant.state != GrantState::Active || grant.expires <= now {
        return Ok(None);
    }
    match app.principal(grant.principal).await {
        Ok(principal) => Ok((!principal.disabled).then_some(principal.name)),
        Err(error) => alike(error),
    }
}

fn active(app: &App, claims: Claims, reach: &Reach, owner: Name) -> Introspection {
    let scope: Vec<String> = reach.rights.iter().map(Reference::to_string).collect();
    Introspection {
        active: true,
        scope: Some(scope.join(" ")),
        token_type: Some("Bearer".to_owned()),
        exp: Some(reach.until.as_secs()),
        sub: Some(claims.principal),
        username: Some(owner),
        aud: (!claims.audience.is_empty()).then_some(claims.audience),
        iss: Some(app.public_url.clone()),
        jti: claims.revocation_ids.last().cloned(),
        grant: Some(claims.grant),
        holder: claims.holder,
        uses: Some(reach.uses.iter().map(|usage| usage.as_str().to_owned()).collect()),
        livemode: Some(app.livemode()),
    }
}
