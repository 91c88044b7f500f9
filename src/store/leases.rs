//! Leases, and the counter of live ones for each policy. The counter changes in the transaction that changes the
//! lease, here and in the writer, so it is exact.

use std::collections::{BTreeMap, HashSet};

use super::set::Set;
use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx, dialect};
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId};
use crate::base::time::Timestamp;
use crate::model::lease::{Lease, LeaseState};
use crate::model::scope::{Name, Scope};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, grant_id, item, prim, vendor, policy, credential, state, resolves, created, expires FROM leases ",
            $tail
        )
    };
}

/// Which leases to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// Of this grant.
    pub grant: Option<GrantId>,
    /// To this prim.
    pub prim: Option<PrincipalId>,
    /// At this vendor.
    pub vendor: Option<Name>,
    /// In this state.
    pub state: Option<LeaseState>,
}

/// Which live leases to end. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseChoice {
    /// To this prim.
    pub prim: Option<PrincipalId>,
    /// Under a grant of this principal.
    pub owner: Option<PrincipalId>,
    /// At this vendor.
    pub vendor: Option<Name>,
    /// At a vendor whose name begins so; `a-z`, `0-9` and `-` only.
    pub vendor_prefix: Option<String>,
    /// Of this grant.
    pub grant: Option<GrantId>,
}

/// A live lease that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The lease.
    pub id: LeaseId,
    /// Its vendor.
    pub vendor: Name,
    /// What its key was made for.
    pub scopes: Vec<Scope>,
}

/// A lease that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedLease {
    /// The lease.
    pub id: LeaseId,
    /// Its grant.
    pub grant: GrantId,
    /// Its vendor.
    pub vendor: Name,
    /// Its policy.
    pub policy: Name,
    /// Its credential.
    pub credential: CredentialId,
}

impl Tx {
    /// Ends those of these leases that live, all with the same word; answers them.
    pub async fn end_leases(&mut self, leases: &[LeaseId], word: LeaseState) -> Result<Vec<EndedLease>, StoreError> {
        let ended: Vec<EndedLease> = self
            .ask_each(dialect::END_LIVE_LEASES)
            .bind_set(&Set::of(leases.iter().copied()))
            .bind(word.as_str())
            .all()
            .await?;
        let mut counts: BTreeMap<Name, i64> = BTreeMap::new();
        for lease in &ended {
            *counts.entry(lease.policy.clone()).or_default() -= 1;
        }
        for (policy, more) in counts {
            self.count_live(&policy, more).await?;
        }
        Ok(ended)
    }

    /// Has those of these keys ended that live or are being made; answers them.
    pub async fn end_credentials(
        &mut self,
        credentials: &[CredentialId],
        now: Timestamp,
    ) -> Result<Vec<CredentialId>, StoreError> {
        self.ask_each(dialect::END_LIVE_CREDENTIALS)
            .bind_set(&Set::of(credentials.iter().copied()))
            .bind(now)
            .all()
            .await
    }

    /// Keeps a lease. A grant item has one live lease for each prim: [`StoreError::Duplicate`].
    pub async fn insert_lease(&mut self, lease: &Lease) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO leases (id, grant_id, item, prim, vendor, policy, credential, state, resolves, created, \
             expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(lease.id)
        .bind(lease.grant)
        .bind(lease.item)
        .bind(lease.prim)
        .bind(&lease.vendor)
        .bind(&lease.policy)
        .bind(lease.credential)
        .bind(lease.state.as_str())
        .bind(lease.resolves)
        .bind(lease.created)
        .bind(lease.expires)
        .run()
        .await?;
        self.count_live(&lease.policy, i64::from(lease.state.is_live())).await
    }

    /// Replaces a lease's credential, state, count and end.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when it is over and would live again.
    pub async fn update_lease(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let before: Option<Lease> = self.ask(select!("WHERE id = $1")).bind(lease.id).one().await?;
        let before = before.ok_or(StoreError::Absent("lease"))?;
        if lease.state.is_live() && !before.state.is_live() {
            return Err(StoreError::Transition {
                what: "lease",
                from: before.state.as_str(),
                to: lease.state.as_str(),
            });
        }
        self.ask("UPDATE leases SET credential = $2, state = $3, resolves = $4, expires = $5 WHERE id = $1")
            .bind(lease.id)
            .bind(lease.credential)
            .bind(lease.state.as_str())
            .bind(lease.resolves)
            .bind(lease.expires)
            .run_on("lease")
            .await?;
        let more = i64::from(lease.state.is_live()) - i64::from(before.state.is_live());
        self.count_live(&before.policy, more).await
    }

    pub(super) async fn count_live(&mut self, policy: &Name, more: i64) -> Result<(), StoreError> {
        if more == 0 {
            return Ok(());
        }
        self.ask("INSERT INTO lease_counters (policy, live) VALUES ($1, 0) ON CONFLICT DO NOTHING")
            .bind(policy)
            .run()
            .await?;
        self.ask("UPDATE lease_counters SET live = live + $2 WHERE policy = $1")
            .bind(policy)
            .bind(more)
            .run_on("lease counter")
            .await
    }
}

impl ReadTx {
    /// Which of these grants, leases and revocation ids may no longer be used: ended, or revoked.
    pub async fn over(
        &mut self,
        grants: &HashSet<GrantId>,
        leases: &HashSet<LeaseId>,
        revocation_ids: &HashSet<String>,
    ) -> Result<Vec<String>, StoreError> {
        self.ask_each(dialect::OVER)
            .bind_set(&Set::of(grants.iter().copied()))
            .bind_set(&Set::of(leases.iter().copied()))
            .bind_set(&Set::of(revocation_ids))
            .all()
            .await
    }

    /// By id.
    pub async fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// The live lease of a grant item to a prim.
    pub async fn lease_live(
        &mut self,
        grant: GrantId,
        item: i64,
        prim: PrincipalId,
    ) -> Result<Option<Lease>, StoreError> {
        self.ask(select!(
            "WHERE grant_id = $1 AND item = $2 AND prim = $3 AND state IN ('pending', 'active')"
        ))
        .bind(grant)
        .bind(item)
        .bind(prim)
        .one()
        .await
    }

    /// Those that match, newest first.
    pub async fn leases(&mut self, filter: &LeaseFilter, page: &Page) -> Result<Vec<Lease>, StoreError> {
        self.ask(select!("WHERE 1 = 1"))
            .filter(" AND grant_id = ", filter.grant)
            .filter(" AND prim = ", filter.prim)
            .filter(" AND vendor = ", filter.vendor.as_ref())
            .filter(" AND state = ", filter.state.map(LeaseState::as_str))
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// Live leases that are meant by a choice.
    pub async fn choose_leases(&mut self, choice: &LeaseChoice) -> Result<Vec<Chosen>, StoreError> {
        let begins = choice.vendor_prefix.as_ref().map(|prefix| format!("{prefix}%"));
        self.ask(
            "SELECT l.id, l.vendor, c.scopes FROM leases AS l JOIN credentials AS c ON c.id = l.credential \
             WHERE l.state IN ('pending', 'active')",
        )
        .filter(" AND l.prim = ", choice.prim)
        .filter(
            " AND (SELECT g.principal FROM grants AS g WHERE g.id = l.grant_id) = ",
            choice.owner,
        )
        .filter(" AND l.vendor = ", choice.vendor.as_ref())
        .filter(" AND l.vendor LIKE ", begins)
        .filter(" AND l.grant_id = ", choice.grant)
        .all()
        .await
    }

    /// Live leases whose time is over.
    pub async fn leases_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Lease>, StoreError> {
        self.ask(select!(
            "WHERE state IN ('pending', 'active') AND expires <= $1 ORDER BY expires LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// All of one grant, oldest first.
    pub async fn leases_of_grant(&mut self, grant: GrantId) -> Result<Vec<Lease>, StoreError> {
        self.ask(select!("WHERE grant_id = $1 ORDER BY id"))
            .bind(grant)
            .all()
            .await
    }

    /// How many leases of a policy are live.
    pub async fn live_leases(&mut self, policy: &Name) -> Result<i64, StoreError> {
        let live = self
            .ask("SELECT live FROM lease_counters WHERE policy = $1")
            .bind(policy)
            .one()
            .await?;
        Ok(live.unwrap_or(0))
    }
}

impl Record for Chosen {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            vendor: cells.parse()?,
            scopes: cells.json()?,
        })
    }
}

impl Record for EndedLease {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            grant: cells.parse()?,
            vendor: cells.parse()?,
            policy: cells.parse()?,
            credential: cells.parse()?,
        })
    }
}

impl Record for Lease {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            grant: cells.parse()?,
            item: cells.int()?,
            prim: cells.parse()?,
            vendor: cells.parse()?,
            policy: cells.parse()?,
            credential: cells.parse()?,
            state: cells.word(LeaseState::parse)?,
            resolves: cells.int()?,
            created: cells.time()?,
            expires: cells.time()?,
        })
    }
}
