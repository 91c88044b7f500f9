//! Credentials: vendor keys from the intent to the proof that they are dead, with their sealed values.

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::id::{CredentialId, GrantId, RootId};
use crate::base::time::{Timestamp, Ttl};
use crate::model::credential::{Credential, CredentialState};
use crate::model::scope::Name;
use crate::model::sealed::Sealed;

/// How long one try holds its row: within this time somebody may be at the vendor.
const UNDER_TRIAL: Ttl = Ttl::from_secs(30);

macro_rules! select {
    ($more:literal, $tail:literal) => {
        concat!(
            "SELECT id, vendor, root, grant_id, item, name, scopes, prim, lease, state, attempt, vendor_key_id, \
             vendor_expires, expires, next_at, first_failed, last_error, version, created",
            $more,
            " FROM credentials ",
            $tail
        )
    };
}

/// Which credentials to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFilter {
    /// Of this vendor.
    pub vendor: Option<Name>,
    /// In this state.
    pub state: Option<CredentialState>,
}

impl Tx {
    /// Keeps an intent. The vendor may be asked once this is committed.
    pub async fn insert_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO credentials (id, vendor, root, grant_id, item, scopes, prim, lease, state, attempt, \
             vendor_key_id, vendor_expires, expires, next_at, first_failed, last_error, version, created, name, \
             incarnation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
             (SELECT incarnation FROM chain))",
        )
        .bind(credential.id)
        .bind(&credential.vendor)
        .bind(credential.root)
        .bind(credential.grant)
        .bind(credential.item)
        .bind_json(&credential.scopes)
        .bind(credential.prim)
        .bind(credential.lease)
        .bind(credential.state.as_str())
        .bind(credential.attempt)
        .bind(credential.vendor_key_id.as_deref())
        .bind(credential.vendor_expires)
        .bind(credential.expires)
        .bind(credential.next_at)
        .bind(credential.first_failed)
        .bind(credential.last_error.as_deref())
        .bind(credential.version)
        .bind(credential.created)
        .bind(&credential.name)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces a credential's row but for what it was made for; its sealed value stays.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when its state does not allow the new one: nothing becomes active again.
    pub async fn update_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        self.refuse_wrong_step(credential).await?;
        self.ask(
            "UPDATE credentials SET prim = $2, lease = $3, state = $4, attempt = $5, vendor_key_id = $6, \
             vendor_expires = $7, expires = $8, next_at = $9, first_failed = $10, last_error = $11, version = $12 \
             WHERE id = $1",
        )
        .bind(credential.id)
        .bind(credential.prim)
        .bind(credential.lease)
        .bind(credential.state.as_str())
        .bind(credential.attempt)
        .bind(credential.vendor_key_id.as_deref())
        .bind(credential.vendor_expires)
        .bind(credential.expires)
        .bind(credential.next_at)
        .bind(credential.first_failed)
        .bind(credential.last_error.as_deref())
        .bind(credential.version)
        .run_on("credential")
        .await
    }

    /// Keeps what the vendor answered, id and sealed value in one. A credential that was revoked meanwhile may no
    /// longer become active: read its state in this transaction and say `Revoking` then.
    ///
    /// # Errors
    /// [`StoreError::Transition`], as [`Tx::update_credential`].
    pub async fn save_created(&mut self, credential: &Credential, sealed: &Sealed) -> Result<(), StoreError> {
        self.update_credential(credential).await?;
        self.ask("UPDATE credentials SET sealed = $2 WHERE id = $1")
            .bind(credential.id)
            .bind(sealed)
            .run_on("credential")
            .await
    }

    /// Forgets the sealed value of a credential that is dead. SQLite overwrites it (`secure_delete`); PostgreSQL
    /// keeps it until it vacuums, and both may have it in their logs and backups.
    pub async fn drop_sealed(&mut self, id: CredentialId) -> Result<(), StoreError> {
        self.ask("UPDATE credentials SET sealed = NULL WHERE id = $1")
            .bind(id)
            .run_on("credential")
            .await
    }

    /// Has everything looked at now that is in trouble at a vendor that answers again; answers how much that is. What
    /// somebody is just trying is left to them.
    pub async fn wake_credentials(&mut self, root: RootId, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(
            "UPDATE credentials SET next_at = $2 WHERE root = $1 AND next_at > $3 AND last_error IS NOT NULL \
             AND state IN ('probe', 'revoking', 'stuck')",
        )
        .bind(root)
        .bind(now)
        .bind(now.plus(UNDER_TRIAL))
        .run()
        .await
    }

    /// At start of the only instance: everything that was left half done is looked at now, not at its timer; answers
    /// how much that is. What should have been dead before counts as late since then.
    pub async fn take_up_credentials(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(
            "UPDATE credentials SET first_failed = coalesce(first_failed, next_at) WHERE state = 'revoking' \
             AND state IN ('intent', 'probe', 'revoking', 'stuck') AND next_at < $1",
        )
        .bind(now)
        .run()
        .await?;
        self.ask("UPDATE credentials SET next_at = $1 WHERE state IN ('intent', 'probe', 'revoking', 'stuck')")
            .bind(now)
            .run()
            .await
    }

    async fn refuse_wrong_step(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let state: Option<CredentialState> = self
            .ask("SELECT state FROM credentials WHERE id = $1")
            .bind(credential.id)
            .one()
            .await?;
        let state = state.ok_or(StoreError::Absent("credential"))?;
        if state == credential.state || state.may_become(credential.state) {
            return Ok(());
        }
        Err(StoreError::Transition {
            what: "credential",
            from: state.as_str(),
            to: credential.state.as_str(),
        })
    }
}

impl ReadTx {
    /// Whether no key of a grant is alive, or may be.
    pub async fn keys_are_dead(&mut self, grant: GrantId) -> Result<bool, StoreError> {
        let alive: i64 = self
            .ask("SELECT count(*) FROM credentials WHERE grant_id = $1 AND state NOT IN ('revoked', 'failed')")
            .bind(grant)
            .only()
            .await?;
        Ok(alive == 0)
    }

    /// By id.
    pub async fn credential(&mut self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        self.ask(select!("", "WHERE id = $1")).bind(id).one().await
    }

    /// By id, with its sealed value; `None` also when it has none.
    pub async fn sealed_credential(&mut self, id: CredentialId) -> Result<Option<(Credential, Sealed)>, StoreError> {
        self.ask(select!(", sealed", "WHERE id = $1 AND sealed IS NOT NULL"))
            .bind(id)
            .one()
            .await
    }

    /// Those after `after` that have a sealed value, with it, in the order of their ids.
    pub async fn sealed_credentials(
        &mut self,
        after: Option<CredentialId>,
        limit: i64,
    ) -> Result<Vec<(Credential, Sealed)>, StoreError> {
        self.ask(select!(
            ", sealed",
            "WHERE sealed IS NOT NULL AND id > $1 ORDER BY id LIMIT $2"
        ))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(limit)
        .all()
        .await
    }

    /// The root credentials with something due, each with its vendor.
    pub async fn roots_due(&mut self, now: Timestamp) -> Result<Vec<(RootId, Name)>, StoreError> {
        self.ask(
            "SELECT r.id, r.vendor FROM roots AS r WHERE EXISTS (SELECT 1 FROM credentials AS c WHERE c.root = r.id \
             AND c.next_at IS NOT NULL AND c.next_at <= $1)",
        )
        .bind(now)
        .all()
        .await
    }

    /// Of one root credential, those that a worker should look at, most overdue first.
    pub async fn credentials_due_of(
        &mut self,
        root: RootId,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<CredentialId>, StoreError> {
        self.ask(
            "SELECT id FROM credentials WHERE root = $1 AND next_at IS NOT NULL AND next_at <= $2 \
             ORDER BY next_at LIMIT $3",
        )
        .bind(root)
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// Those that should have been dead at `before`, or whose ending failed then already, and that were not raised.
    pub async fn credentials_overdue(&mut self, before: Timestamp, limit: i64) -> Result<Vec<Credential>, StoreError> {
        self.ask(select!(
            "",
            "WHERE next_at IS NOT NULL AND ((state = 'active' AND next_at <= $1) \
             OR (state = 'revoking' AND coalesce(first_failed, next_at) <= $1)) ORDER BY next_at LIMIT $2"
        ))
        .bind(before)
        .bind(limit)
        .all()
        .await
    }

    /// All of one grant, oldest first.
    pub async fn credentials_of_grant(&mut self, grant: GrantId) -> Result<Vec<Credential>, StoreError> {
        self.ask(select!("", "WHERE grant_id = $1 ORDER BY id"))
            .bind(grant)
            .all()
            .await
    }

    /// Those that match, newest first.
    pub async fn credentials(&mut self, filter: &CredentialFilter, page: &Page) -> Result<Vec<Credential>, StoreError> {
        self.ask(select!("", "WHERE 1 = 1"))
            .filter(" AND vendor = ", filter.vendor.as_ref())
            .filter(" AND state = ", filter.state.map(CredentialState::as_str))
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// Those at a vendor that live or may live, oldest first.
    pub async fn living_credentials(&mut self, vendor: &Name) -> Result<Vec<Credential>, StoreError> {
        self.ask(select!(
            "",
            "WHERE vendor = $1 AND state NOT IN ('revoked', 'failed') ORDER BY id"
        ))
        .bind(vendor)
        .all()
        .await
    }

    /// Those whose making or ending is under way or in doubt, oldest first: what a restart takes up.
    pub async fn unfinished_credentials(&mut self) -> Result<Vec<Credential>, StoreError> {
        self.ask(select!(
            "",
            "WHERE state IN ('intent', 'probe', 'revoking', 'stuck') ORDER BY id"
        ))
        .all()
        .await
    }
}

impl Record for (RootId, Name) {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok((cells.parse()?, cells.parse()?))
    }
}

impl Record for CredentialState {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.word(Self::parse)
    }
}

impl Record for Credential {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            vendor: cells.parse()?,
            root: cells.parse()?,
            grant: cells.parse()?,
            item: cells.int()?,
            name: cells.text()?,
            scopes: cells.json()?,
            prim: cells.maybe_parse()?,
            lease: cells.maybe_parse()?,
            state: cells.word(CredentialState::parse)?,
            attempt: cells.int()?,
            vendor_key_id: cells.maybe_text()?,
            vendor_expires: cells.maybe_time()?,
            expires: cells.time()?,
            next_at: cells.maybe_time()?,
            first_failed: cells.maybe_time()?,
            last_error: cells.maybe_text()?,
            version: cells.int()?,
            created: cells.time()?,
        })
    }
}
