//! The rows a batch touches, in one statement: sets in, JSON texts out.

use std::collections::HashSet;
use std::str::FromStr;

use serde::Deserialize;

use crate::base::id::{CredentialId, GrantId};
use crate::base::time::Timestamp;
use crate::model::credential::CredentialState;
use crate::model::grant::GrantState;
use crate::model::lease::{Lease, LeaseState};
use crate::model::sealed::Sealed;
use crate::store::ask::ResolveAsk;
use crate::store::decide::{GrantRow, Key, Live, Slot, State};
use crate::store::dialect;
use crate::store::set::{Set, Type};
use crate::store::statement::{Cells, Record};
use crate::store::{StoreError, Tx};

/// Reads what the asks touch.
pub(super) async fn state(tx: &mut Tx, asks: &[&ResolveAsk]) -> Result<State, StoreError> {
    let slots: HashSet<Slot> = asks.iter().filter_map(|ask| ask.slot()).collect();
    let slots_set = slots.iter().fold(Set::default(), |set, (grant, item, prim)| {
        set.row().cell(*grant).cell(*item).cell(*prim)
    });
    let grants: HashSet<GrantId> = asks.iter().map(|ask| ask.grant).collect();
    let rates: HashSet<String> = asks
        .iter()
        .filter(|ask| ask.rate.is_some())
        .flat_map(|ask| ask.rate_names())
        .collect();
    let policies: HashSet<_> = asks
        .iter()
        .filter(|ask| ask.live_leases.is_some())
        .map(|ask| &ask.policy)
        .collect();
    let revocation_ids: HashSet<_> = asks.iter().flat_map(|ask| &ask.revocation_ids).collect();
    let nonces = asks.iter().filter_map(|ask| ask.nonce.as_ref());
    let nonces = nonces.fold(Set::typed(&[Type::Text, Type::Text]), |set, (holder, nonce, _)| {
        set.row().cell(holder).cell(nonce)
    });
    let texts: Texts = tx
        .ask_each(dialect::READ_BATCH)
        .bind_set(&Set::of(grants))
        .bind_set(&Set::of(rates))
        .bind_set(&slots_set)
        .bind_set(&Set::of(policies))
        .bind_set(&Set::of(revocation_ids))
        .bind_set(&nonces)
        .only()
        .await?;
    texts.into_state()
}

/// What the statement answers.
struct Texts {
    grants: String,
    rates: String,
    live: String,
    held: String,
    counters: String,
    revoked_tokens: String,
    nonces: String,
}

impl Record for Texts {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            grants: cells.text()?,
            rates: cells.text()?,
            live: cells.text()?,
            held: cells.text()?,
            counters: cells.text()?,
            revoked_tokens: cells.text()?,
            nonces: cells.text()?,
        })
    }
}

/// id, state, expires, resolves
#[derive(Deserialize)]
struct GrantCells<'t>(&'t str, &'t str, i64, i64);

/// lease: id, grant, item, prim, vendor, policy, state, resolves, created, expires
#[derive(Deserialize)]
struct LeaseCells<'t>(
    &'t str,
    &'t str,
    i64,
    &'t str,
    &'t str,
    &'t str,
    &'t str,
    i64,
    i64,
    i64,
    // credential: id, state, version, expires, the vendor's end, sealed
    &'t str,
    &'t str,
    i64,
    i64,
    Option<i64>,
    &'t str,
);

/// grant, item, then the credential: id, version, expires, the vendor's end, sealed
#[derive(Deserialize)]
struct HeldCells<'t>(&'t str, i64, &'t str, i64, i64, Option<i64>, &'t str);

impl Texts {
    fn into_state(self) -> Result<State, StoreError> {
        let mut state = State::default();
        for row in rows::<GrantCells<'_>>(&self.grants, "grants")? {
            let grant = GrantRow {
                state: GrantState::parse(row.1).ok_or_else(|| StoreError::corrupt("grants.state"))?,
                expires: Timestamp::from_millis(row.2),
                resolves: row.3,
            };
            state.grants.insert(parse(row.0, "grants.id")?, grant);
        }
        for row in rows::<LeaseCells<'_>>(&self.live, "leases")? {
            let live = row.into_live()?;
            let slot = (live.lease.grant, live.lease.item, live.lease.prim);
            state.live.insert(slot, live);
        }
        for row in rows::<HeldCells<'_>>(&self.held, "credentials")? {
            let item = (parse(row.0, "credentials.grant_id")?, row.1);
            state.held.entry(item).or_default().push(row.into_key()?);
        }
        state.rates = rows::<(String, i64)>(&self.rates, "rates")?.into_iter().collect();
        for (policy, live) in rows::<(&str, i64)>(&self.counters, "lease_counters")? {
            state.counters.insert(parse(policy, "lease_counters.policy")?, live);
        }
        state.revoked_tokens = rows::<String>(&self.revoked_tokens, "revoked_tokens")?
            .into_iter()
            .collect();
        state.nonces = rows::<(String, String)>(&self.nonces, "nonces")?.into_iter().collect();
        Ok(state)
    }
}

impl LeaseCells<'_> {
    fn into_live(self) -> Result<Live, StoreError> {
        let lease = Lease {
            id: parse(self.0, "leases.id")?,
            grant: parse(self.1, "leases.grant_id")?,
            item: self.2,
            prim: parse(self.3, "leases.prim")?,
            vendor: parse(self.4, "leases.vendor")?,
            policy: parse(self.5, "leases.policy")?,
            credential: parse(self.10, "leases.credential")?,
            state: LeaseState::parse(self.6).ok_or_else(|| StoreError::corrupt("leases.state"))?,
            resolves: self.7,
            created: Timestamp::from_millis(self.8),
            expires: Timestamp::from_millis(self.9),
        };
        let word = CredentialState::parse(self.11).ok_or_else(|| StoreError::corrupt("credentials.state"))?;
        let key = key(lease.credential, word, self.12, self.13, self.14, self.15)?;
        Ok(Live { lease, key })
    }
}

impl HeldCells<'_> {
    fn into_key(self) -> Result<Key, StoreError> {
        let id = parse(self.2, "credentials.id")?;
        key(id, CredentialState::Active, self.3, self.4, self.5, self.6)
    }
}

fn key(
    id: CredentialId,
    state: CredentialState,
    version: i64,
    expires: i64,
    vendor_expires: Option<i64>,
    sealed: &str,
) -> Result<Key, StoreError> {
    let sealed = match sealed {
        "" => None,
        digits => Some(Sealed(
            data_encoding::HEXLOWER_PERMISSIVE
                .decode(digits.as_bytes())
                .map_err(|_| StoreError::corrupt("credentials.sealed"))?,
        )),
    };
    Ok(Key {
        id,
        state,
        version,
        expires: Timestamp::from_millis(vendor_expires.map_or(expires, |vendor| vendor.min(expires))),
        sealed,
    })
}

fn rows<'t, T: Deserialize<'t>>(text: &'t str, table: &str) -> Result<Vec<T>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::corrupt(table))
}

fn parse<T: FromStr>(text: &str, column: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::corrupt(column))
}
