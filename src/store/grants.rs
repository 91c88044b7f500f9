//! Grants, with the count of their resolves beside them.

use serde::{Deserialize, Serialize};

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::canonical::Digest;
use crate::base::id::{ApprovalId, GrantId, PrincipalId};
use crate::base::money::Money;
use crate::base::time::{Timestamp, Ttl};
use crate::model::control::Stored;
use crate::model::grant::{Asked, Grant, GrantState};
use crate::model::principal::PublicKey;
use crate::model::scope::Name;

macro_rules! select {
    ($more:literal, $tail:literal) => {
        concat!(
            "SELECT g.id, g.principal, g.holder, g.payer, g.items, g.audience, g.max_resolves, g.state, g.created, \
             g.expires, g.reason, g.asked, g.mac",
            $more,
            " FROM grants AS g ",
            $tail
        )
    };
}

/// Which grants to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantFilter {
    /// Of this principal.
    pub principal: Option<PrincipalId>,
    /// Whose holder signs with this key.
    pub holder: Option<PublicKey>,
    /// Paid by this wallet, CAIP-10.
    pub payer: Option<String>,
    /// In this state.
    pub state: Option<GrantState>,
    /// With an item under this policy.
    pub policy: Option<Name>,
}

impl Tx {
    /// Keeps a grant, with no resolves counted.
    pub async fn insert_grant(&mut self, stored: &Stored<Grant>) -> Result<(), StoreError> {
        let grant = &stored.unverified;
        self.ask(
            "INSERT INTO grants (id, principal, holder, payer, items, audience, max_resolves, resolves, state, created, \
             expires, reason, asked, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11, $12, $13)",
        )
        .bind(grant.id)
        .bind(grant.principal)
        .bind(grant.holder)
        .bind(grant.payer.as_deref())
        .bind_json(&grant.items)
        .bind_json(&grant.audience)
        .bind(grant.max_resolves)
        .bind(grant.state.as_str())
        .bind(grant.created)
        .bind(grant.expires)
        .bind(&grant.reason)
        .bind(asked_text(grant)?.as_deref())
        .bind(stored.mac)
        .run()
        .await?;
        for item in &grant.items {
            self.ask("INSERT INTO grant_policies (policy, grant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(&item.policy)
                .bind(grant.id)
                .run()
                .await?;
        }
        Ok(())
    }

    /// Replaces a grant's row but for its id, principal, items and count.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when its state does not allow the new one.
    pub async fn update_grant(&mut self, stored: &Stored<Grant>) -> Result<(), StoreError> {
        let grant = &stored.unverified;
        let state = self.grant_state(grant.id).await?.ok_or(StoreError::Absent("grant"))?;
        if state != grant.state && !state.may_become(grant.state) {
            return Err(StoreError::Transition {
                what: "grant",
                from: state.as_str(),
                to: grant.state.as_str(),
            });
        }
        self.ask(
            "UPDATE grants SET holder = $2, payer = $3, audience = $4, max_resolves = $5, state = $6, expires = $7, \
             reason = $8, asked = $9, mac = $10 WHERE id = $1",
        )
        .bind(grant.id)
        .bind(grant.holder)
        .bind(grant.payer.as_deref())
        .bind_json(&grant.audience)
        .bind(grant.max_resolves)
        .bind(grant.state.as_str())
        .bind(grant.expires)
        .bind(&grant.reason)
        .bind(asked_text(grant)?.as_deref())
        .bind(stored.mac)
        .run_on("grant")
        .await
    }

    /// Lets the same request of the same principal find this grant again.
    pub async fn remember_request(&mut self, grant: GrantId, request: Digest) -> Result<(), StoreError> {
        self.ask("UPDATE grants SET request = $2 WHERE id = $1")
            .bind(grant)
            .bind(request)
            .run_on("grant")
            .await
    }
}

/// [`Asked`] as it is kept: times are milliseconds, since the row's mark covers them to the millisecond.
#[derive(Serialize, Deserialize)]
struct AskedText {
    approval: ApprovalId,
    life: i64,
    price: Option<Money>,
    request: Digest,
    pay_by: Option<i64>,
}

fn asked_text(grant: &Grant) -> Result<Option<String>, StoreError> {
    let kept = grant.asked.as_ref().map(|asked| AskedText {
        approval: asked.approval,
        life: asked.life.as_millis(),
        price: asked.price,
        request: asked.request,
        pay_by: asked.pay_by.map(Timestamp::as_millis),
    });
    let text = kept.as_ref().map(serde_json::to_string).transpose();
    text.map_err(|_| StoreError::corrupt("grants.asked"))
}

fn asked(text: &str) -> Result<Asked, StoreError> {
    let kept: AskedText = serde_json::from_str(text).map_err(|_| StoreError::corrupt("grants.asked"))?;
    Ok(Asked {
        approval: kept.approval,
        life: Ttl::from_millis(kept.life),
        price: kept.price,
        request: kept.request,
        pay_by: kept.pay_by.map(Timestamp::from_millis),
    })
}

impl ReadTx {
    pub(super) async fn grant_state(&mut self, id: GrantId) -> Result<Option<GrantState>, StoreError> {
        self.ask("SELECT state FROM grants WHERE id = $1").bind(id).one().await
    }

    /// By id, with the count of its resolves.
    pub async fn grant(&mut self, id: GrantId) -> Result<Option<(Stored<Grant>, i64)>, StoreError> {
        self.ask(select!(", g.resolves", "WHERE g.id = $1"))
            .bind(id)
            .one()
            .await
    }

    /// Those that match, newest first.
    pub async fn grants(&mut self, filter: &GrantFilter, page: &Page) -> Result<Vec<Stored<Grant>>, StoreError> {
        let all = match filter.policy {
            None => select!("", "WHERE 1 = 1"),
            Some(_) => select!("", "JOIN grant_policies AS p ON p.grant_id = g.id WHERE 1 = 1"),
        };
        self.ask(all)
            .filter(" AND p.policy = ", filter.policy.as_ref())
            .filter(" AND g.principal = ", filter.principal)
            .filter(" AND g.holder = ", filter.holder.map(|key| key.to_string()))
            .filter(" AND g.payer = ", filter.payer.as_deref())
            .filter(" AND g.state = ", filter.state.map(GrantState::as_str))
            .filter(" AND g.id < ", page.after.as_ref())
            .filter(" ORDER BY g.id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// The principal's newest grant that was asked for by this request and has not come to its end: one that waits for
    /// people or its payment, or is being paid and made.
    pub async fn grant_by_request(
        &mut self,
        principal: PrincipalId,
        request: Digest,
    ) -> Result<Option<Stored<Grant>>, StoreError> {
        self.ask(select!(
            "",
            "WHERE g.principal = $1 AND g.request = $2 \
             AND g.state IN ('pending_approval', 'payment_required', 'provisioning', 'payment_unknown') \
             ORDER BY g.id DESC LIMIT 1"
        ))
        .bind(principal)
        .bind(request)
        .one()
        .await
    }

    /// Whether this wallet, CAIP-10, paid for a grant.
    pub async fn has_paid(&mut self, wallet: &str) -> Result<bool, StoreError> {
        let found: Option<i64> = self
            .ask("SELECT CAST(1 AS BIGINT) FROM grants WHERE payer = $1 LIMIT 1")
            .bind(wallet)
            .one()
            .await?;
        Ok(found.is_some())
    }

    /// The newest grant that this wallet, CAIP-10, paid for by this request.
    pub async fn paid_by_request(
        &mut self,
        wallet: &str,
        request: Digest,
    ) -> Result<Option<Stored<Grant>>, StoreError> {
        self.ask(select!(
            "",
            "JOIN purchases AS p ON p.grant_id = g.id \
             WHERE g.payer = $1 AND p.request = $2 AND p.state = 'settled' ORDER BY g.id DESC LIMIT 1"
        ))
        .bind(wallet)
        .bind(request)
        .one()
        .await
    }

    /// How many grants of a principal wait for people or for their payment.
    pub async fn grants_waiting(&mut self, principal: PrincipalId) -> Result<i64, StoreError> {
        self.ask(
            "SELECT count(*) FROM grants WHERE principal = $1 AND state IN ('pending_approval', 'payment_required')",
        )
        .bind(principal)
        .only()
        .await
    }

    /// Active grants, and grants that wait for people or for their payment, whose time is over.
    pub async fn grants_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Stored<Grant>>, StoreError> {
        self.ask(select!(
            "",
            "WHERE g.state IN ('active', 'pending_approval', 'payment_required') AND g.expires <= $1 ORDER BY g.expires LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// Grants that are being made, but by nobody: every key of theirs was intended at `before` or earlier, and no
    /// payment for them is under way.
    pub async fn grants_left(&mut self, before: Timestamp, limit: i64) -> Result<Vec<Stored<Grant>>, StoreError> {
        self.ask(select!(
            "",
            "WHERE g.state = 'provisioning' AND g.created <= $1 \
             AND NOT EXISTS (SELECT 1 FROM credentials AS c WHERE c.grant_id = g.id AND c.created > $1) \
             AND NOT EXISTS (SELECT 1 FROM purchases AS p WHERE p.grant_id = g.id \
             AND p.state IN ('claimed', 'settling', 'paid', 'provisioning')) ORDER BY g.id LIMIT $2"
        ))
        .bind(before)
        .bind(limit)
        .all()
        .await
    }

    /// Whether the principal ever had a grant under the policy that came into force.
    pub async fn granted_before(&mut self, principal: PrincipalId, policy: &Name) -> Result<bool, StoreError> {
        let found: Option<i64> = self
            .ask(
                "SELECT CAST(1 AS BIGINT) FROM grants AS g JOIN grant_policies AS p ON p.grant_id = g.id \
                 WHERE g.principal = $1 AND p.policy = $2 AND g.state IN ('active', 'expired', 'revoked') LIMIT 1",
            )
            .bind(principal)
            .bind(policy)
            .one()
            .await?;
        Ok(found.is_some())
    }
}

impl Record for GrantState {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.word(Self::parse)
    }
}

impl Record for Grant {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            principal: cells.parse()?,
            holder: cells.maybe_parse()?,
            payer: cells.maybe_text()?,
            items: cells.json()?,
            audience: cells.json()?,
            max_resolves: cells.int()?,
            state: cells.word(GrantState::parse)?,
            created: cells.time()?,
            expires: cells.time()?,
            reason: cells.text()?,
            asked: cells.maybe_text()?.as_deref().map(asked).transpose()?,
        })
    }
}
