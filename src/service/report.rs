//! A prim says that the vendor refused its key. dekeys asks the vendor itself, and replaces a key that died before its
//! time: the old one is ended, the new one made for the same lease, each with its intent on record first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::connect::open_root;
use super::control::Connected;
use super::end::value;
use super::error::Error;
use super::issue::drop_lease;
use super::provision::{self, DEADLINE, Saved, facts, key_name};
use crate::base::id::{CredentialId, LeaseId};
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::event::Committed;
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::policy::Rate;
use crate::model::principal::{Principal, PrincipalKind};
use crate::model::scope::Name;
use crate::store::Release;
use crate::vendor::{Adapter, Alive, RootSecret};

/// How often the key of one lease is looked at: each look is a request to the vendor.
const OF_A_LEASE: Rate = Rate {
    count: 3,
    per: Ttl::from_mins(1),
};

/// A new key must live at least so long to be worth making.
const WORTH_MAKING: Ttl = Ttl::from_mins(1);

/// What the vendor answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportAsk {
    /// The status: 401 or 403.
    pub status: u16,
    /// The version of the key that was refused; the lease's present one if absent.
    pub version: Option<i64>,
}

/// What dekeys found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor takes the key: the refusal had another reason.
    Alive,
    /// The lease has a new key, or gets one: resolve again.
    Replaced,
    /// The lease is over: resolve again for a new one.
    Ended,
    /// The vendor has no way to be asked. Nothing was changed; a prim that is sure revokes the lease.
    Unknown,
}

/// The answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// The lease.
    pub lease_id: LeaseId,
    /// What was found and done.
    pub outcome: Outcome,
    /// The version of the lease's key now.
    pub version: i64,
    /// When the lease ends.
    pub expires: Timestamp,
}

/// What is known before the vendor is asked.
enum Look {
    Told(Reported),
    Ask(Box<Asked>),
}

struct Asked {
    lease: Lease,
    row: Credential,
    root: RootSecret,
    secret: SecretText,
    adapter: Adapter,
}

/// Looks after the key of the calling prim's lease.
///
/// # Errors
/// [`Error::NotFound`] also for somebody else's lease; [`Error::RateLimited`]; the vendor's failures.
pub async fn report(app: &App, context: &Context, id: LeaseId, ask: ReportAsk) -> Result<Reported, Error> {
    let prim = context.require(&[PrincipalKind::Prim])?;
    if !matches!(ask.status, 401 | 403) {
        return Err(Error::invalid("/status", "only a refused key is reported: 401 or 403"));
    }
    app.refuse_while_reconciling()?;
    if app.log_is_broken() {
        return Err(Error::LogBroken);
    }
    app.refuse_wrong_clock()?;
    let asked = match look(app, context, prim, id, ask).await? {
        Look::Told(reported) => return Ok(reported),
        Look::Ask(asked) => *asked,
    };
    let alive = asked.adapter.probe(&app.egress, &asked.root, &asked.secret).await;
    let vendor: &Name = &asked.row.vendor;
    match alive.map_err(|failure| Error::vendor(vendor, failure))? {
        Alive::Alive => Ok(told(&asked.lease, &asked.row, Outcome::Alive)),
        Alive::Unknown => Ok(told(&asked.lease, &asked.row, Outcome::Unknown)),
        Alive::Dead => {
            // In a task of its own: a prim that hangs up leaves no key behind without its lease.
            let app = app.clone();
            let task = tokio::spawn(async move { replace(&app, asked.lease.id, asked.row.id).await });
            task.await.map_err(Error::internal)?
        }
    }
}

const fn told(lease: &Lease, row: &Credential, outcome: Outcome) -> Reported {
    Reported {
        lease_id: lease.id,
        outcome,
        version: row.version,
        expires: lease.expires,
    }
}

/// The prim's lease with its credential.
async fn own(app: &App, prim: &Principal, id: LeaseId) -> Result<(Lease, Credential), Error> {
    let mut tx = app.store.read().await?;
    let lease = tx.lease(id).await?.filter(|lease| lease.prim == prim.id);
    let lease = lease.ok_or(Error::NotFound("lease"))?;
    let row = tx
        .credential(lease.credential)
        .await?
        .ok_or(Error::NotFound("credential"))?;
    tx.end().await?;
    Ok((lease, row))
}

/// Whether there is anything to ask the vendor; if so, the report is put on record, which opens the keys for it.
async fn look(app: &App, context: &Context, prim: &Principal, id: LeaseId, ask: ReportAsk) -> Result<Look, Error> {
    let (_, before) = own(app, prim, id).await?;
    let connected = app.root(before.root).await?;
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let lease = tx.lease(id).await?.ok_or(Error::NotFound("lease"))?;
    let row = tx
        .credential(lease.credential)
        .await?
        .ok_or(Error::NotFound("credential"))?;
    let sealed = tx.sealed_credential(row.id).await?.map(|(_, sealed)| sealed);
    if let Some(outcome) = known(&lease, &row, ask, now) {
        return Ok(Look::Told(told(&lease, &row, outcome)));
    }
    let (Some(sealed), true) = (sealed, row.root == before.root) else {
        return Err(Error::Busy);
    };
    if let Some(wait) = tx.take_rate(&format!("report/{id}"), OF_A_LEASE, now).await? {
        return Err(Error::RateLimited(wait));
    }
    context.claim_nonce(&mut tx).await?;
    let data = json!({
        "lease": id, "grant": lease.grant, "vendor": lease.vendor, "credential": row.id, "version": row.version,
        "status": ask.status,
    });
    let event = app.event(context, "lease.reported", &id, data);
    let release = |object: String, version| Release {
        event: event.id,
        object,
        version,
    };
    let releases = [
        release(row.root.to_string(), 1),
        release(row.id.to_string(), row.version),
    ];
    let mut proofs = tx.commit(std::slice::from_ref(&event), &releases).await?;
    let proof = proofs.pop().ok_or_else(|| Error::internal("no proof of record"))?;
    let root = open_root(app, &connected, proofs).await?;
    let secret = value(app, &row, &sealed, proof).await?;
    Ok(Look::Ask(Box::new(Asked {
        secret: secret.ok_or(Error::Forged("sealed value"))?,
        adapter: Adapter::of(&connected.manifest, app.logins()),
        lease,
        row,
        root,
    })))
}

/// What needs no vendor to be known.
fn known(lease: &Lease, row: &Credential, ask: ReportAsk, now: Timestamp) -> Option<Outcome> {
    if !lease.state.is_live() || lease.expires <= now {
        return Some(Outcome::Ended);
    }
    let newer = ask.version.is_some_and(|version| version < row.version);
    if newer || lease.state == LeaseState::Pending {
        return Some(Outcome::Replaced);
    }
    (row.state != CredentialState::Active).then_some(Outcome::Ended)
}

/// Ends the dead key and makes another for its lease.
async fn replace(app: &App, id: LeaseId, dead: CredentialId) -> Result<Reported, Error> {
    let (_, old) = both(app, id).await?;
    let connected = app.current_root(&old.vendor).await?;
    let (lease, fresh, proof) = match intend(app, id, dead, &connected).await? {
        Intended::Told(reported) => return Ok(reported),
        Intended::Make(made) => *made,
    };
    app.announce_work();
    let created = match provision::make(app, &fresh, &connected, proof).await {
        Ok(created) => created,
        Err(error) => {
            drop_lease(app, lease).await?;
            app.announce_lease();
            return Err(error);
        }
    };
    let outcome = save(app, lease, &fresh, created).await;
    app.announce_lease();
    outcome
}

async fn both(app: &App, id: LeaseId) -> Result<(Lease, Credential), Error> {
    let mut tx = app.store.read().await?;
    let lease = tx.lease(id).await?.ok_or(Error::NotFound("lease"))?;
    let row = tx
        .credential(lease.credential)
        .await?
        .ok_or(Error::NotFound("credential"))?;
    tx.end().await?;
    Ok((lease, row))
}

enum Intended {
    Told(Reported),
    Make(Box<(Lease, Credential, Committed)>),
}

/// One commit: the old key is to be ended, the new one to be made, and whoever resolves meanwhile waits for it. A crash
/// after it is taken up like that of any creation: the vendor is searched, the lease given up.
async fn intend(app: &App, id: LeaseId, dead: CredentialId, connected: &Connected) -> Result<Intended, Error> {
    let (now, root) = (app.now(), connected.root.id);
    let mut tx = app.store.begin().await?;
    let mut lease = tx.lease(id).await?.ok_or(Error::NotFound("lease"))?;
    let mut old = tx.credential(dead).await?.ok_or(Error::NotFound("credential"))?;
    let (grant, _) = tx.grant(lease.grant).await?.ok_or(Error::NotFound("grant"))?;
    if lease.state.is_live() && lease.credential != dead {
        let row = tx
            .credential(lease.credential)
            .await?
            .ok_or(Error::NotFound("credential"))?;
        return Ok(Intended::Told(told(&lease, &row, Outcome::Replaced)));
    }
    if lease.state != LeaseState::Active || old.state != CredentialState::Active {
        return Ok(Intended::Told(told(&lease, &old, Outcome::Ended)));
    }
    old.state = CredentialState::Revoking;
    (old.attempt, old.next_at) = (0, Some(now));
    tx.update_credential(&old).await?;
    let mut events = vec![app.own_event("credential.died", &old.id, facts(&old))];
    let expires = lease.expires.min(grant.unverified.expires);
    if grant.unverified.state != GrantState::Active || expires < now.plus(WORTH_MAKING) {
        lease.state = LeaseState::Revoked;
        tx.update_lease(&lease).await?;
        let reason = json!({ "lease": id, "grant": lease.grant, "reason": "its key died" });
        events.push(app.own_event("lease.revoked", &id, reason));
        let _none = tx.commit(&events, &[]).await?;
        return Ok(Intended::Told(told(&lease, &old, Outcome::Ended)));
    }
    let fresh_id = CredentialId::new(now, app.random.as_ref());
    let fresh = Credential {
        id: fresh_id,
        name: key_name(app, connected, fresh_id),
        root,
        state: CredentialState::Intent,
        attempt: 1,
        vendor_key_id: None,
        vendor_expires: None,
        expires,
        next_at: Some(now.plus(DEADLINE)),
        first_failed: None,
        last_error: None,
        // What the prim has is known by lease and version, so the version must be another.
        version: old.version.saturating_add(1),
        created: now,
        ..old
    };
    tx.insert_credential(&fresh).await?;
    lease.credential = fresh.id;
    lease.state = LeaseState::Pending;
    tx.update_lease(&lease).await?;
    let event = app.own_event("credential.intended", &fresh.id, facts(&fresh));
    let release = Release {
        event: event.id,
        object: root.to_string(),
        version: 1,
    };
    events.push(event);
    let proof = tx.commit(&events, &[release]).await?.into_iter().next();
    let proof = proof.ok_or_else(|| Error::internal("no proof of record"))?;
    Ok(Intended::Make(Box::new((lease, fresh, proof))))
}

/// Puts the new key on record, with its lease. It is handed out by resolving, which checks the token.
async fn save(
    app: &App,
    mut lease: Lease,
    fresh: &Credential,
    created: crate::vendor::Created,
) -> Result<Reported, Error> {
    let mut tx = app.store.begin().await?;
    let (made, event) = match provision::save(app, &mut tx, fresh, created).await? {
        Saved::Active(made, event) => (*made, event),
        Saved::Late(event) => {
            let _none = tx.commit(&[event], &[]).await?;
            app.announce_work();
            return Err(Error::Busy);
        }
    };
    let stored = tx.lease(lease.id).await?;
    let waits = stored.is_some_and(|row| row.state == LeaseState::Pending && row.credential == made.id);
    if !waits {
        // Ended while the vendor was asked: the key dies unseen.
        let abandoned = provision::abandon(app, &mut tx, made.id, app.now()).await?;
        let events: Vec<_> = std::iter::once(event).chain(abandoned).collect();
        let _none = tx.commit(&events, &[]).await?;
        app.announce_work();
        lease.state = LeaseState::Revoked;
        return Ok(told(&lease, &made, Outcome::Ended));
    }
    lease.state = LeaseState::Active;
    lease.expires = lease.expires.min(made.expires);
    tx.update_lease(&lease).await?;
    let data = json!({
        "lease": lease.id, "grant": lease.grant, "prim": lease.prim, "vendor": lease.vendor, "credential": made.id,
        "version": made.version, "expires": lease.expires,
    });
    let replaced = app.own_event("lease.credential_replaced", &lease.id, data);
    let _none = tx.commit(&[event, replaced], &[]).await?;
    Ok(told(&lease, &made, Outcome::Replaced))
}
