//! Keys shared by all grants of a policy (`credential_per = "shared"`): they belong to a grant of dekeys' own, one for
//! each policy version, for which no token is ever minted. A shared key is rotated (`rotation.rs`) while somebody
//! uses it; one that nobody uses ends, and the next request has another one made. It is only forwarded, never revealed.

use serde_json::json;

use super::App;
use super::control::InForce;
use super::error::Error;
use crate::base::canonical::Canonical;
use crate::base::id::{GrantId, PrincipalId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::grant::{Grant, GrantItem, GrantState};

/// A grant that ends with the instance.
const FOR_EVER: Ttl = Ttl::from_mins(100 * 365 * 24 * 60);

/// How often an operator may end a pool before nothing more is shared under this version.
const GENERATIONS: i64 = 1000;

/// The grant that shared keys of a policy version belong to; made when it is first needed. One that an operator ended
/// is followed by the next.
///
/// # Errors
/// The store's; [`Error::Forged`].
pub(super) async fn of(app: &App, in_force: &InForce) -> Result<GrantId, Error> {
    for generation in 0..GENERATIONS {
        let id = name(app, in_force, generation);
        match app.grant_anew(id).await {
            Ok(grant) if grant.state == GrantState::Active => return Ok(id),
            Ok(_) => {}
            Err(Error::NotFound(_)) => {
                make(app, in_force, id).await?;
                return Ok(id);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Conflict(format!(
        "the shared keys of `{}` were ended too often",
        in_force.version.name
    )))
}

/// The same on every instance.
fn name(app: &App, in_force: &InForce, generation: i64) -> GrantId {
    let digest = Canonical::new("dekeys.pool.v1")
        .text(&app.instance.id.to_string())
        .text(&in_force.version.digest().to_string())
        .int(generation)
        .digest();
    GrantId::derived(digest.as_bytes())
}

async fn make(app: &App, in_force: &InForce, id: GrantId) -> Result<(), Error> {
    let now: Timestamp = app.now();
    let version = &in_force.version;
    let grant = Grant {
        id,
        principal: PrincipalId::NIL,
        holder: None,
        payer: None,
        items: vec![GrantItem {
            vendor: in_force.policy.vendor.clone(),
            scopes: in_force.policy.scopes.clone(),
            policy: version.name.clone(),
            policy_version: version.version,
            policy_digest: version.digest(),
        }],
        audience: Vec::new(),
        max_resolves: 0,
        state: GrantState::Active,
        created: now,
        expires: now.plus(FOR_EVER),
        reason: "keys shared by all grants of the policy".to_owned(),
        asked: None,
    };
    let mut tx = app.store.begin().await?;
    // Another request may have been quicker; transactions take turns.
    if tx.grant(id).await?.is_some() {
        return Ok(());
    }
    tx.insert_grant(&app.stored(grant)?).await?;
    let data = json!({ "grant": id, "policy": version.name, "policy_version": version.version });
    let event = app.own_event("grant.created", &id, data);
    let _none = tx.commit(&[event], &[]).await?;
    Ok(())
}
