//! Ending many leases at once: those of a principal, of a vendor, under a prefix, of a grant. Counted first; the count
//! comes back as the confirmation, so that nobody ends more than they saw.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::caller::Context;
use super::end;
use super::error::Error;
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::model::event::Event;
use crate::model::lease::LeaseState;
use crate::model::scope::{Name, Scope};
use crate::store::Tx;
use crate::store::leases::{Chosen, LeaseChoice};

/// Leases ended in one transaction: others write in between.
const SLICE: usize = 1000;

/// So many keys are waited for; more are left to the workers, who begin at once.
const WAITED_FOR: usize = 32;

/// Which leases to end. At least one; several must all hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeLeasesAsk {
    /// Those that a principal holds as a prim, and those under its grants: its id or name.
    pub principal: Option<String>,
    /// Those at a vendor.
    pub vendor: Option<Name>,
    /// Those whose vendor, or `vendor/scope`, begins so: `open`, `openai/chat:`.
    pub prefix: Option<String>,
    /// Those of a grant.
    pub grant: Option<GrantId>,
    /// How many they are, as the answer without this said. Without it nothing is ended.
    pub expected_count: Option<i64>,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// How many leases that are, and whether they were ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RevokedLeases {
    /// Always `lease_revocation`.
    pub object: String,
    /// `counted`: nothing was ended. `revoking`: ended here, not all keys are known to be dead at their vendors.
    /// `revoked`: all are.
    pub state: String,
    /// How many leases.
    pub count: i64,
    /// How many at each vendor.
    pub vendors: BTreeMap<String, i64>,
    /// Keys to be ended at their vendors.
    pub credentials: i64,
    /// All keys are known to be dead.
    pub confirmed: bool,
}

/// Counts leases, or ends them when the count is the one expected.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::NotFound`] for a principal nobody knows;
/// [`Error::CountChanged`]; [`Error::Invalid`] when nothing says which.
pub async fn revoke(app: &App, context: &Context, ask: &RevokeLeasesAsk) -> Result<RevokedLeases, Error> {
    context.operator()?;
    let choices = choices(app, ask).await?;
    let Some(expected) = ask.expected_count else {
        let mut tx = app.store.read().await?;
        let mut chosen = Vec::new();
        for choice in &choices {
            chosen.extend(tx.choose_leases(choice).await?);
        }
        tx.end().await?;
        return Ok(told("counted", &distinct(chosen, ask), 0, false));
    };
    let mut tx = app.store.begin().await?;
    let mut chosen = Vec::new();
    for choice in &choices {
        chosen.extend(tx.choose_leases(choice).await?);
    }
    let chosen = distinct(chosen, ask);
    let current = i64::try_from(chosen.len()).unwrap_or(i64::MAX);
    if current != expected {
        return Err(Error::CountChanged { expected, current });
    }
    context.claim_nonce(&mut tx).await?;
    let credentials = end_all(app, context, tx, &chosen, ask.reason.as_deref()).await?;
    let confirmed = if credentials.len() <= WAITED_FOR {
        end::end_now(app, &credentials).await
    } else {
        app.announce_work();
        false
    };
    let state = if confirmed { "revoked" } else { "revoking" };
    Ok(told(state, &chosen, credentials.len(), confirmed))
}

/// What to choose by. A principal is chosen as a prim and as the owner of grants.
async fn choices(app: &App, ask: &RevokeLeasesAsk) -> Result<Vec<LeaseChoice>, Error> {
    let prefix = ask.prefix.as_deref().filter(|prefix| !prefix.is_empty());
    if ask.principal.is_none() && ask.vendor.is_none() && prefix.is_none() && ask.grant.is_none() {
        return Err(Error::invalid(
            "",
            "say which: `principal`, `vendor`, `prefix` or `grant`",
        ));
    }
    let (of_vendor, begins) = match prefix {
        None => (None, None),
        Some(prefix) => match prefix.split_once('/') {
            None => (None, Some(vendor_part(prefix)?)),
            Some((vendor, _)) => {
                let vendor: Name = vendor
                    .parse()
                    .map_err(|_| Error::invalid("/prefix", "what stands before `/` is a vendor"))?;
                (Some(vendor), None)
            }
        },
    };
    if let (Some(one), Some(other)) = (&ask.vendor, &of_vendor)
        && one != other
    {
        return Err(Error::invalid("/prefix", "it names another vendor than `vendor`"));
    }
    let base = LeaseChoice {
        prim: None,
        owner: None,
        vendor: ask.vendor.clone().or(of_vendor),
        vendor_prefix: begins,
        grant: ask.grant,
    };
    let Some(principal) = &ask.principal else {
        return Ok(vec![base]);
    };
    let id = principal_id(app, principal).await?;
    let (as_prim, as_owner) = (base.clone(), base);
    Ok(vec![
        LeaseChoice {
            prim: Some(id),
            ..as_prim
        },
        LeaseChoice {
            owner: Some(id),
            ..as_owner
        },
    ])
}

/// Names have no character that a pattern would take for another.
fn vendor_part(text: &str) -> Result<String, Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() <= 64 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(Error::invalid("/prefix", "a vendor's name has a-z, 0-9 and `-`"))
    }
}

async fn principal_id(app: &App, text: &str) -> Result<PrincipalId, Error> {
    if let Ok(id) = text.parse::<PrincipalId>() {
        return Ok(id);
    }
    let name: Name = text
        .parse()
        .map_err(|_| Error::invalid("/principal", "a principal's id or name"))?;
    let found = app.principal_named(&name).await?.ok_or(Error::NotFound("principal"))?;
    Ok(found.id)
}

/// Each lease once, and of those only the ones whose scopes begin as asked.
fn distinct(chosen: Vec<Chosen>, ask: &RevokeLeasesAsk) -> Vec<Chosen> {
    let scope = ask.prefix.as_deref().and_then(|prefix| prefix.split_once('/'));
    let begins = |scopes: &[Scope]| {
        scope.is_none_or(|(_, wanted)| scopes.iter().any(|scope| scope.as_str().starts_with(wanted)))
    };
    let mut seen = HashSet::with_capacity(chosen.len());
    chosen
        .into_iter()
        .filter(|lease| begins(&lease.scopes) && seen.insert(lease.id))
        .collect()
}

/// Ends the leases, a slice in each transaction; those that ended meanwhile are left.
async fn end_all(
    app: &App,
    context: &Context,
    mut tx: Tx,
    chosen: &[Chosen],
    reason: Option<&str>,
) -> Result<Vec<CredentialId>, Error> {
    let mut credentials = Vec::new();
    let mut slices = chosen.chunks(SLICE).peekable();
    loop {
        let slice: Vec<LeaseId> = slices.next().unwrap_or_default().iter().map(|lease| lease.id).collect();
        let ended = tx.end_leases(&slice, LeaseState::Revoked).await?;
        let keys: Vec<CredentialId> = ended.iter().map(|lease| lease.credential).collect();
        credentials.extend(tx.end_credentials(&keys, app.now()).await?);
        let events: Vec<Event> = ended
            .iter()
            .map(|lease| {
                let data = json!({ "lease": lease.id, "grant": lease.grant, "vendor": lease.vendor, "reason": reason });
                app.event(context, "lease.revoked", &lease.id, data)
            })
            .collect();
        let _none = tx.commit(&events, &[]).await?;
        for lease in &ended {
            app.streams().cut_lease(lease.id);
        }
        // Their keys need not wait for the rest.
        app.announce_lease();
        app.announce_work();
        if slices.peek().is_none() {
            return Ok(credentials);
        }
        tx = app.store.begin().await?;
    }
}

fn told(state: &str, chosen: &[Chosen], credentials: usize, confirmed: bool) -> RevokedLeases {
    let mut vendors: BTreeMap<String, i64> = BTreeMap::new();
    for lease in chosen {
        *vendors.entry(lease.vendor.to_string()).or_default() += 1;
    }
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    RevokedLeases {
        object: "lease_revocation".to_owned(),
        state: state.to_owned(),
        count: number(chosen.len()),
        vendors,
        credentials: number(credentials),
        confirmed,
    }
}
