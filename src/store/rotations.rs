//! Rotations of keys, and what is due for one.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::{CredentialId, GrantId, LeaseId, PrincipalId, RotationId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::lease::Lease;
use crate::model::rotation::{RotateMode, Rotation, RotationKind, RotationState};
use crate::model::scope::Name;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, kind, subject, vendor, policy, mode, state, old_key, new_key, grace, asked_by, uses, next_at, \
             last_error, created, promoted, ended FROM rotations ",
            $tail
        )
    };
}

/// A key that all grants of a policy share: the lease that dekeys holds on it, and the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedKey {
    /// The lease; it names the one current key.
    pub lease: LeaseId,
    /// The grant of dekeys' own that the lease is of.
    pub grant: GrantId,
    /// The vendor.
    pub vendor: Name,
    /// The policy.
    pub policy: Name,
    /// The current key.
    pub credential: CredentialId,
    /// When it was made, or given its present value.
    pub created: Timestamp,
    /// When dekeys ends it.
    pub expires: Timestamp,
    /// How often it was used, the keys before it included.
    pub uses: i64,
}

impl Tx {
    /// Keeps a rotation that begins.
    ///
    /// # Errors
    /// [`StoreError::Duplicate`] when another one of the same key has not made its new key current yet.
    pub async fn insert_rotation(&mut self, rotation: &Rotation) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO rotations (id, kind, subject, vendor, policy, mode, state, old_key, new_key, grace, asked_by, uses, \
             next_at, last_error, created, promoted, ended) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(rotation.id)
        .bind(rotation.kind.as_str())
        .bind(&rotation.subject)
        .bind(&rotation.vendor)
        .bind(rotation.policy.as_ref())
        .bind(rotation.mode.as_str())
        .bind(rotation.state.as_str())
        .bind(&rotation.old)
        .bind(&rotation.new)
        .bind(rotation.grace.as_millis())
        .bind(&rotation.by)
        .bind(rotation.uses)
        .bind(rotation.next_at)
        .bind(rotation.last_error.as_deref())
        .bind(rotation.created)
        .bind(rotation.promoted)
        .bind(rotation.ended)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces what changes of a rotation on its way.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when its state does not allow the new one.
    pub async fn update_rotation(&mut self, rotation: &Rotation) -> Result<(), StoreError> {
        let before: Option<RotationState> = self
            .ask("SELECT state FROM rotations WHERE id = $1")
            .bind(rotation.id)
            .one()
            .await?;
        let before = before.ok_or(StoreError::Absent("rotation"))?;
        if !before.may_become(rotation.state) {
            return Err(StoreError::Transition {
                what: "rotation",
                from: before.as_str(),
                to: rotation.state.as_str(),
            });
        }
        self.ask(
            "UPDATE rotations SET state = $2, grace = $3, uses = $4, next_at = $5, last_error = $6, promoted = $7, \
             ended = $8 WHERE id = $1",
        )
        .bind(rotation.id)
        .bind(rotation.state.as_str())
        .bind(rotation.grace.as_millis())
        .bind(rotation.uses)
        .bind(rotation.next_at)
        .bind(rotation.last_error.as_deref())
        .bind(rotation.promoted)
        .bind(rotation.ended)
        .run_on("rotation")
        .await
    }

    /// Has all that are not at their end looked at now: what a restart takes up. Answers how many.
    pub async fn wake_rotations(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask("UPDATE rotations SET next_at = $1 WHERE next_at IS NOT NULL AND next_at > $1 AND state <> 'overlap'")
            .bind(now)
            .run()
            .await
    }
}

impl ReadTx {
    /// By id.
    pub async fn rotation(&mut self, id: RotationId) -> Result<Option<Rotation>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// The rotation of a key that has not made its new key current yet.
    pub async fn rotation_pending(&mut self, subject: &str) -> Result<Option<Rotation>, StoreError> {
        self.ask(select!(
            "WHERE subject = $1 AND state IN ('pending_intent', 'pending_created', 'pending_tested')"
        ))
        .bind(subject)
        .one()
        .await
    }

    /// Those of a key that are not at their end, newest first.
    pub async fn rotations_open(&mut self, subject: &str) -> Result<Vec<Rotation>, StoreError> {
        self.ask(select!("WHERE subject = $1 AND next_at IS NOT NULL ORDER BY id DESC"))
            .bind(subject)
            .all()
            .await
    }

    /// The last few of a key, newest first.
    pub async fn rotations_of(&mut self, subject: &str, limit: i64) -> Result<Vec<Rotation>, StoreError> {
        self.ask(select!("WHERE subject = $1 ORDER BY id DESC LIMIT $2"))
            .bind(subject)
            .bind(limit)
            .all()
            .await
    }

    /// The rotation that made this key the current one, or gave it its present value.
    pub async fn rotation_to(&mut self, new: &str) -> Result<Option<Rotation>, StoreError> {
        self.ask(select!(
            "WHERE new_key = $1 AND promoted IS NOT NULL ORDER BY id DESC LIMIT 1"
        ))
        .bind(new)
        .one()
        .await
    }

    /// Those a worker should look at, most overdue first: their time has come, or the lease of their key is over.
    pub async fn rotations_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Rotation>, StoreError> {
        self.ask(select!(
            "WHERE next_at IS NOT NULL AND (next_at <= $1 OR (state = 'overlap' AND kind = 'credential' AND EXISTS \
             (SELECT 1 FROM leases WHERE leases.id = rotations.subject AND leases.state NOT IN ('pending', 'active')))) \
             ORDER BY next_at LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// Keys that grants share, each with its lease in use, by policy.
    pub async fn shared_keys(&mut self) -> Result<Vec<SharedKey>, StoreError> {
        self.ask(
            "SELECT l.id, l.grant_id, l.vendor, l.policy, c.id, coalesce((SELECT max(promoted) FROM rotations r \
             WHERE r.new_key = c.id), c.created), c.expires, l.resolves FROM grants g \
             JOIN leases l ON l.grant_id = g.id JOIN credentials c ON c.id = l.credential \
             WHERE g.principal = $1 AND g.state = 'active' AND l.state = 'active' AND l.prim = $1 \
             ORDER BY l.policy, l.id",
        )
        .bind(PrincipalId::NIL)
        .all()
        .await
    }

    /// The lease that a credential is, or was, the key of.
    pub async fn lease_of_credential(&mut self, id: CredentialId) -> Result<Option<Lease>, StoreError> {
        let lease: Option<String> = self
            .ask("SELECT lease FROM credentials WHERE id = $1 AND lease IS NOT NULL")
            .bind(id)
            .one()
            .await?;
        match lease.and_then(|id| id.parse().ok()) {
            Some(id) => self.lease(id).await,
            None => Ok(None),
        }
    }
}

impl Record for RotationState {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.word(Self::parse)
    }
}

impl Record for Rotation {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            kind: cells.word(RotationKind::parse)?,
            subject: cells.text()?,
            vendor: cells.parse()?,
            policy: cells.maybe_parse()?,
            mode: cells.word(RotateMode::parse)?,
            state: cells.word(RotationState::parse)?,
            old: cells.text()?,
            new: cells.text()?,
            grace: Ttl::from_millis(cells.int()?),
            by: cells.text()?,
            uses: cells.int()?,
            next_at: cells.maybe_time()?,
            last_error: cells.maybe_text()?,
            created: cells.time()?,
            promoted: cells.maybe_time()?,
            ended: cells.maybe_time()?,
        })
    }
}

impl Record for SharedKey {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            lease: cells.parse()?,
            grant: cells.parse()?,
            vendor: cells.parse()?,
            policy: cells.parse()?,
            credential: cells.parse()?,
            created: cells.time()?,
            expires: cells.time()?,
            uses: cells.int()?,
        })
    }
}
