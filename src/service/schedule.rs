//! When keys are due for their rotation: thirty days after they were made, give or take a tenth, so that keys made
//! together are not rotated together. The moment follows from the key alone; every instance finds the same one, and
//! what came due while nobody was there is caught up at the next look.

use std::collections::HashMap;

use super::App;
use super::control::{Connected, InForce};
use super::error::Error;
use super::root_rotation;
use super::rotation::{self, Begun, Wish};
use crate::base::canonical::Canonical;
use crate::base::id::RotationId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::CredentialState;
use crate::model::lease::LeaseState;
use crate::model::root::Root;
use crate::model::rotation::{RotateMode, Rotation, RotationRules, RotationState};
use crate::model::scope::Name;
use crate::store::rotations::SharedKey;

/// Who asked for what the schedule began.
pub(super) const BY: &str = "schedule";

/// Rotations of keys of one vendor that may be under way at once.
const AT_ONCE: usize = 2;

/// Tries that failed are looked back on this far, to wait longer each time.
const LOOK_BACK: i64 = 12;

/// First and longest wait after a rotation that failed.
const FIRST_WAIT: Ttl = Ttl::from_mins(1);
const LONGEST_WAIT: Ttl = Ttl::from_mins(60);

/// How often a policy's shared key is rotated: as its policy says, else the manifest, else the configuration; and
/// well before the vendor would end it.
#[must_use]
pub(super) fn period(app: &App, in_force: &InForce, connected: &Connected) -> Ttl {
    let facts = connected.manifest.facts();
    let said = in_force.policy.grant.rotate_every.or(facts.rotate_every);
    let wanted = said.unwrap_or(app.rotation_rules.every).max(RotationRules::SHORTEST);
    let four_fifths = |life: Ttl| Ttl::from_millis(life.as_millis() / 5 * 4);
    facts.longest_life.map_or(wanted, |life| wanted.min(four_fifths(life)))
}

/// How long a shared key lives, should nobody rotate it: a vendor that can ends it then by itself.
#[must_use]
pub(super) fn life(period: Ttl, connected: &Connected) -> Ttl {
    let twice = Ttl::from_millis(period.as_millis().saturating_mul(2));
    let wanted = Timestamp::default().plus(twice).plus(RotationRules::MOST_GRACE);
    let wanted = wanted.since(Timestamp::default());
    connected
        .manifest
        .facts()
        .longest_life
        .map_or(wanted, |life| wanted.min(life))
}

/// When a key that was made at `made` is due: after nine to eleven tenths of the period, by what its id says.
#[must_use]
pub(super) fn due(id: &str, made: Timestamp, period: Ttl) -> Timestamp {
    let digest = Canonical::new("dekeys.rotation-jitter.v1").text(id).digest();
    let [a, b, c, d, ..] = *digest.as_bytes();
    let drawn = i64::from(u32::from_be_bytes([a, b, c, d]));
    let fifth = period.as_millis() / 5;
    // drawn / 2^32 of a fifth, without leaving 64 bits.
    let jitter = (fifth / 65_536).saturating_mul(drawn / 65_536);
    made.plus(Ttl::from_millis(period.as_millis().saturating_sub(fifth / 2)))
        .plus(Ttl::from_millis(jitter))
}

/// A shared key and when it is due.
pub(super) struct Due {
    pub(super) key: SharedKey,
    pub(super) at: Timestamp,
}

/// All shared keys, each with its time.
///
/// # Errors
/// The store's.
pub(super) async fn shared(app: &App) -> Result<Vec<Due>, Error> {
    let mut tx = app.store.read().await?;
    let keys = tx.shared_keys().await?;
    tx.end().await?;
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        match period_of(app, &key).await {
            Ok(period) => {
                let at = due(&key.credential.to_string(), key.created, period);
                all.push(Due { key, at });
            }
            // Somebody wrote to a row that it rests on: raised already, and no reason to leave out the others.
            Err(Error::Forged(_) | Error::NotFound(_) | Error::VendorNotConnected(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// A root credential in use and when it is due.
pub(super) struct DueRoot {
    pub(super) root: Root,
    pub(super) at: Timestamp,
    /// How the vendor's API replaces it; `None` where people do.
    pub(super) mode: Option<RotateMode>,
}

/// All root credentials in use, each with its time. What people replace is due after ninety days.
///
/// # Errors
/// The store's.
pub(super) async fn roots(app: &App) -> Result<Vec<DueRoot>, Error> {
    let mut tx = app.store.read().await?;
    let vendors = tx.root_times().await?;
    tx.end().await?;
    let mut all = Vec::with_capacity(vendors.len());
    for (vendor, _) in vendors {
        let connected = match app.current_root(&vendor).await {
            Ok(connected) => connected,
            Err(Error::Forged(_) | Error::VendorNotConnected(_)) => continue,
            Err(error) => return Err(error),
        };
        let mode = connected.manifest.facts().root_rotation;
        let every = match mode {
            Some(_) => app.rotation_rules.every,
            None => RotationRules::LONGEST,
        };
        let root = connected.root.clone();
        let at = due(&root.id.to_string(), root.created, every);
        all.push(DueRoot { root, at, mode });
    }
    Ok(all)
}

/// For each vendor the age of its keys that are rotated, and how long each has been due.
pub(super) async fn figures(app: &App) -> Vec<(Name, Ttl, Ttl)> {
    if app.is_sealed() {
        return Vec::new();
    }
    let now = app.now();
    let (shared, roots) = match (shared(app).await, roots(app).await) {
        (Ok(shared), Ok(roots)) => (shared, roots),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "it is not known how old keys are; the figures are missing from this scrape");
            return Vec::new();
        }
    };
    let shared = shared.into_iter().map(|due| (due.key.vendor, due.key.created, due.at));
    let roots = roots.into_iter().filter(|due| due.mode.is_some());
    let roots = roots.map(|due| (due.root.vendor, due.root.created, due.at));
    let row = |(vendor, made, at): (Name, Timestamp, Timestamp)| (vendor, now.since(made), now.since(at));
    shared.chain(roots).map(row).collect()
}

/// The period of a shared key: the policy version is that of the grant which the key belongs to.
pub(super) async fn period_of(app: &App, key: &SharedKey) -> Result<Ttl, Error> {
    let grant = app.grant(key.grant).await?;
    let item = grant.items.first().ok_or(Error::NotFound("grant"))?;
    let in_force = app.policy_version(&item.policy, item.policy_version).await?;
    let connected = app.current_root(&key.vendor).await?;
    Ok(period(app, &in_force, &connected))
}

/// Begins the rotation of what is due; a worker calls it.
///
/// # Errors
/// The store's.
pub async fn begin_due(app: &App) -> Result<(), Error> {
    let now = app.now();
    let mut busy: HashMap<Name, usize> = HashMap::new();
    for due in shared(app).await?.into_iter().filter(|due| due.at <= now) {
        let mut tx = app.store.read().await?;
        let last = tx.rotations_of(&due.key.lease.to_string(), LOOK_BACK).await?;
        let made_by = tx.rotation_to(&due.key.credential.to_string()).await?;
        tx.end().await?;
        if last.iter().any(|rotation| rotation.state.is_pending()) {
            *busy.entry(due.key.vendor.clone()).or_default() += 1;
            continue;
        }
        if retry_at(&last).is_some_and(|at| at > now) || busy.get(&due.key.vendor).copied().unwrap_or(0) >= AT_ONCE {
            continue;
        }
        *busy.entry(due.key.vendor.clone()).or_default() += 1;
        // The request that had the first key made is a use; what made a later one is its rotation.
        if due.key.uses <= made_by.map_or(1, |rotation| rotation.uses) {
            retire(app, &due.key).await?;
            continue;
        }
        begin(app, due.key).await;
    }
    begin_roots(app).await
}

/// Root credentials are rotated by themselves where nothing can be lost by it.
async fn begin_roots(app: &App) -> Result<(), Error> {
    let now = app.now();
    for due in roots(app).await?.into_iter().filter(|due| due.at <= now) {
        if due.mode.is_none_or(|mode| mode == RotateMode::InPlace) {
            continue;
        }
        let mut tx = app.store.read().await?;
        let last = tx.rotations_of(due.root.vendor.as_str(), LOOK_BACK).await?;
        tx.end().await?;
        let pending = last.iter().any(|rotation| rotation.state.is_pending());
        if pending || retry_at(&last).is_some_and(|at| at > now) {
            continue;
        }
        let wish = root_rotation::Wish {
            vendor: due.root.vendor,
            grace: app.rotation_rules.grace,
            by: BY.to_owned(),
            entered: None,
        };
        let app = app.clone();
        tokio::spawn(async move {
            match root_rotation::run(&app, wish, None).await {
                Ok(_) | Err(Error::RotationFailed { .. }) => {}
                Err(error) => tracing::warn!(%error, "a root credential that is due was not rotated"),
            }
        });
    }
    Ok(())
}

async fn begin(app: &App, key: SharedKey) {
    let wish = Wish {
        grace: app.rotation_rules.grace,
        revoke_previous: false,
        by: BY.to_owned(),
    };
    let policy = key.policy.clone();
    match rotation::begin(app, &key, &wish, None).await {
        Ok(Begun::New(started)) => rotation::go_on(app, *started),
        Ok(Begun::UnderWay(_)) => {}
        Err(error) => tracing::warn!(%error, %policy, "a key that is due for its rotation was not rotated"),
    }
}

/// When the next try may be made after tries that failed.
fn retry_at(last: &[Rotation]) -> Option<Timestamp> {
    let failed = last
        .iter()
        .take_while(|rotation| rotation.state == RotationState::Failed);
    let times = u32::try_from(failed.count()).unwrap_or(u32::MAX);
    let since = last.first()?.ended.filter(|_| times > 0)?;
    let doublings = times.saturating_sub(1).min(10);
    let wait = FIRST_WAIT.as_millis().saturating_mul(2i64.saturating_pow(doublings));
    Some(since.plus(Ttl::from_millis(wait).min(LONGEST_WAIT)))
}

/// Ends a shared key that nobody used since it was made, instead of making another that nobody uses. The next request
/// has one made.
async fn retire(app: &App, key: &SharedKey) -> Result<(), Error> {
    let mut tx = app.store.begin().await?;
    let Some(mut lease) = tx.lease(key.lease).await? else {
        return Ok(());
    };
    if lease.state != LeaseState::Active || lease.credential != key.credential || lease.resolves != key.uses {
        return Ok(());
    }
    lease.state = LeaseState::Expired;
    tx.update_lease(&lease).await?;
    if let Some(mut row) = tx.credential(key.credential).await?
        && row.state == CredentialState::Active
    {
        row.state = CredentialState::Revoking;
        (row.attempt, row.next_at) = (0, Some(app.now()));
        tx.update_credential(&row).await?;
    }
    let data = serde_json::json!({
        "lease": lease.id, "grant": lease.grant, "vendor": lease.vendor, "credential": key.credential,
        "reason": "nobody used the key since it was made",
    });
    let event = app.own_event("lease.expired", &lease.id, data);
    let _none = tx.commit(&[event], &[]).await?;
    app.announce_work();
    Ok(())
}

/// Rotations whose next step is due.
///
/// # Errors
/// The store's.
pub async fn waiting(app: &App, most: i64) -> Result<Vec<RotationId>, Error> {
    let mut tx = app.store.read().await?;
    let due = tx.rotations_due(app.now(), most).await?;
    tx.end().await?;
    Ok(due.into_iter().map(|rotation| rotation.id).collect())
}

/// One step of a rotation; a worker calls it.
///
/// # Errors
/// The store's and the vault's.
pub async fn step(app: &App, id: RotationId) -> Result<(), Error> {
    rotation::step(app, id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_lies_within_a_tenth_of_the_period_and_keys_are_spread_over_it() {
        let (made, period) = (Timestamp::from_secs(1_763_668_267), Ttl::from_mins(30 * 24 * 60));
        let (mut early, mut late) = (0, 0);
        for n in 0..1000 {
            let after = due(&format!("cred_{n}"), made, period).since(made).as_millis();
            let tenth = period.as_millis() / 10;
            assert!(
                (period.as_millis() - tenth..=period.as_millis() + tenth).contains(&after),
                "{after}"
            );
            early += i32::from(after < period.as_millis() - tenth / 2);
            late += i32::from(after > period.as_millis() + tenth / 2);
        }
        assert!(
            (150..350).contains(&early) && (150..350).contains(&late),
            "{early} {late}"
        );
        assert_eq!(due("cred_1", made, period), due("cred_1", made, period));
        let minute = Ttl::from_mins(1);
        assert!(due("cred_1", made, minute).since(made) >= Ttl::from_secs(54));
    }
}
