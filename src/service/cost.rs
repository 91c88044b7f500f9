//! What keys may cost at their vendors, where a policy limits that for a grant. Each key is capped by the vendor with its
//! part of the limit, and the parts are given out in transactions before the vendor is asked: whatever the holder ends and
//! asks for anew, all keys of a grant together never cost more.
//!
//! A part is given back only when it is sure that its key was never made. What a key that lived did not use up is not: no
//! vendor's answer can say that nothing more will be counted for it.

use super::App;
use super::error::Error;
use crate::base::money::Money;
use crate::model::credential::Credential;
use crate::model::policy::CredentialPer;

/// What a key may cost.
pub(super) enum Reserved {
    /// Whatever it does.
    None,
    /// So much at most.
    Part(Money),
    /// Nothing is left for it.
    GivenOut,
}

/// The limit for a grant, and a key's part of it.
struct Limit {
    whole: Money,
    part: Money,
    /// One key for all grants: the limit is each key's, and nobody's in sum.
    shared: bool,
}

/// Sets aside what `credential` may cost. The same each time for the same credential, as its vendor may be asked again.
///
/// # Errors
/// The store's; [`Error::Forged`].
pub(super) async fn reserve(app: &App, credential: &Credential) -> Result<Reserved, Error> {
    let Some(limit) = limit(app, credential).await? else {
        return Ok(Reserved::None);
    };
    let mut tx = app.store.begin().await?;
    if let Some(cap) = tx.cost_cap(credential.id).await? {
        return Ok(Reserved::Part(cap));
    }
    let given_out = if limit.shared {
        0
    } else {
        tx.cost_given_out(credential.grant, credential.item).await?
    };
    let left = limit.whole.atomic().saturating_sub(given_out);
    let cap = Money::new(left.min(limit.part.atomic()), limit.whole.currency());
    if cap.atomic() <= 0 {
        return Ok(Reserved::GivenOut);
    }
    tx.set_cost_cap(credential.id, cap).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(Reserved::Part(cap))
}

/// What was set aside for `credential`.
///
/// # Errors
/// The store's.
pub(super) async fn of(app: &App, credential: &Credential) -> Result<Option<Money>, Error> {
    let mut tx = app.store.read().await?;
    let cap = tx.cost_cap(credential.id).await?;
    tx.end().await?;
    Ok(cap)
}

async fn limit(app: &App, credential: &Credential) -> Result<Option<Limit>, Error> {
    let mut tx = app.store.read().await?;
    let stored = tx.grant(credential.grant).await?;
    drop(tx);
    // The key by which a root credential proves itself is of no grant.
    let Some((stored, _)) = stored else {
        return Ok(None);
    };
    let grant = app.authentic("grant", stored).await?;
    let item = usize::try_from(credential.item).ok();
    let Some(item) = item.and_then(|item| grant.items.get(item)) else {
        return Ok(None);
    };
    let in_force = app.policy_version(&item.policy, item.policy_version).await?;
    let (limits, shared) = (
        in_force.policy.limits,
        in_force.policy.grant.credential_per == CredentialPer::Shared,
    );
    Ok(limits.vendor_cost_per_grant.map(|whole| Limit {
        whole,
        part: limits.vendor_cost_per_key.filter(|_| !shared).unwrap_or(whole),
        shared,
    }))
}
