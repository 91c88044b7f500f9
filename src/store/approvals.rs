//! Approval requests and verdicts.

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::id::{ApprovalId, PrincipalId};
use crate::base::time::Timestamp;
use crate::model::approval::{Approval, ApprovalState, Review, Verdict};
use crate::model::control::Stored;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, subject, requester, reason, approvers, quorum, state, created, expires, mac FROM approvals ",
            $tail
        )
    };
}

impl Tx {
    /// Keeps a request.
    pub async fn insert_approval(&mut self, stored: &Stored<Approval>) -> Result<(), StoreError> {
        let approval = &stored.unverified;
        self.ask(
            "INSERT INTO approvals (id, subject, requester, reason, approvers, quorum, state, created, expires, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(approval.id)
        .bind_json(&approval.subject)
        .bind(approval.requester)
        .bind(&approval.reason)
        .bind_json(&approval.approvers)
        .bind(approval.quorum)
        .bind(approval.state.as_str())
        .bind(approval.created)
        .bind(approval.expires)
        .bind(stored.mac)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces a request's state. A request that is decided stays so: [`StoreError::Absent`].
    pub async fn update_approval(&mut self, stored: &Stored<Approval>) -> Result<(), StoreError> {
        let approval = &stored.unverified;
        self.ask(
            "UPDATE approvals SET state = $2, expires = $3, mac = $4 \
             WHERE id = $1 AND (state = 'pending' OR state = $2)",
        )
        .bind(approval.id)
        .bind(approval.state.as_str())
        .bind(approval.expires)
        .bind(stored.mac)
        .run_on("pending approval")
        .await
    }

    /// Counts a verdict. `false`: that principal already gave one, which stands.
    pub async fn insert_review(&mut self, review: &Review) -> Result<bool, StoreError> {
        let rows = self
            .ask(
                "INSERT INTO reviews (id, approval, principal, name, verdict, comment, digest, public_key, signature, \
                 created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 ON CONFLICT (approval, principal) DO NOTHING",
            )
            .bind(review.id)
            .bind(review.approval)
            .bind(review.principal)
            .bind(&review.name)
            .bind(review.verdict.as_str())
            .bind(&review.comment)
            .bind(review.digest)
            .bind(review.key)
            .bind(review.signature.as_slice())
            .bind(review.created)
            .run()
            .await?;
        Ok(rows == 1)
    }
}

impl ReadTx {
    /// By id.
    pub async fn approval(&mut self, id: ApprovalId) -> Result<Option<Stored<Approval>>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// All, or all in one state or of one requester; newest first.
    pub async fn approvals(
        &mut self,
        state: Option<ApprovalState>,
        requester: Option<PrincipalId>,
        page: &Page,
    ) -> Result<Vec<Stored<Approval>>, StoreError> {
        self.ask(select!("WHERE 1 = 1"))
            .filter(" AND state = ", state.map(ApprovalState::as_str))
            .filter(" AND requester = ", requester)
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// Pending requests whose time is over.
    pub async fn approvals_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Stored<Approval>>, StoreError> {
        self.ask(select!(
            "WHERE state = 'pending' AND expires <= $1 ORDER BY expires LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// The verdicts on a request, in the order they came.
    pub async fn reviews(&mut self, approval: ApprovalId) -> Result<Vec<Review>, StoreError> {
        self.ask(
            "SELECT id, approval, principal, name, verdict, comment, digest, public_key, signature, created \
             FROM reviews WHERE approval = $1 ORDER BY created, id",
        )
        .bind(approval)
        .all()
        .await
    }
}

impl Record for Approval {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            subject: cells.json()?,
            requester: cells.parse()?,
            reason: cells.text()?,
            approvers: cells.json()?,
            quorum: cells.int()?,
            state: cells.word(ApprovalState::parse)?,
            created: cells.time()?,
            expires: cells.time()?,
        })
    }
}

impl Record for Review {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            approval: cells.parse()?,
            principal: cells.parse()?,
            name: cells.parse()?,
            verdict: cells.word(Verdict::parse)?,
            comment: cells.text()?,
            digest: cells.parse()?,
            key: cells.parse()?,
            signature: cells.bytes()?,
            created: cells.time()?,
        })
    }
}
