//! Sealed values that another key-encryption key should seal by now: found by how they begin, replaced only if nobody
//! changed them meanwhile.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::{CredentialId, RootId};
use crate::model::sealed::Sealed;

/// A sealed value of dekeys' own signing keys, and which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSigningKey {
    /// `token` or `log`.
    pub kind: String,
    /// Counts from 1 within its kind.
    pub number: i64,
    /// The private half.
    pub sealed: Sealed,
}

impl ReadTx {
    /// Credentials after `after` whose value does not begin with `prefix`, in the order of their ids.
    pub async fn credentials_to_reseal(
        &mut self,
        prefix: &[u8; 9],
        after: Option<CredentialId>,
        limit: i64,
    ) -> Result<Vec<CredentialId>, StoreError> {
        self.ask("SELECT id FROM credentials WHERE sealed IS NOT NULL AND substr(sealed, 1, 9) <> $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(prefix.as_slice())
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(limit)
            .all()
            .await
    }

    /// Root credentials whose value does not begin with `prefix`.
    pub async fn roots_to_reseal(&mut self, prefix: &[u8; 9]) -> Result<Vec<RootId>, StoreError> {
        self.ask("SELECT id FROM roots WHERE substr(sealed, 1, 9) <> $1 ORDER BY id")
            .bind(prefix.as_slice())
            .all()
            .await
    }

    /// Signing keys whose value does not begin with `prefix`.
    pub async fn signing_keys_to_reseal(&mut self, prefix: &[u8; 9]) -> Result<Vec<SealedSigningKey>, StoreError> {
        self.ask("SELECT kind, number, sealed FROM signing_keys WHERE substr(sealed, 1, 9) <> $1 ORDER BY kind, number")
            .bind(prefix.as_slice())
            .all()
            .await
    }

    /// How many values do not begin with `prefix`.
    pub async fn count_to_reseal(&mut self, prefix: &[u8; 9]) -> Result<i64, StoreError> {
        self.ask(
            "SELECT (SELECT COUNT(*) FROM credentials WHERE sealed IS NOT NULL AND substr(sealed, 1, 9) <> $1) \
             + (SELECT COUNT(*) FROM roots WHERE substr(sealed, 1, 9) <> $1) \
             + (SELECT COUNT(*) FROM signing_keys WHERE substr(sealed, 1, 9) <> $1)",
        )
        .bind(prefix.as_slice())
        .only()
        .await
    }
}

impl Tx {
    /// Replaces a credential's value, if it is still `before`. Answers whether it was.
    pub async fn reseal_credential(
        &mut self,
        id: CredentialId,
        before: &Sealed,
        after: &Sealed,
    ) -> Result<bool, StoreError> {
        let touched = self
            .ask("UPDATE credentials SET sealed = $3 WHERE id = $1 AND sealed = $2")
            .bind(id)
            .bind(before)
            .bind(after)
            .run()
            .await?;
        Ok(touched == 1)
    }

    /// Replaces a root credential's value, if it is still `before`. Answers whether it was.
    pub async fn reseal_root(&mut self, id: RootId, before: &Sealed, after: &Sealed) -> Result<bool, StoreError> {
        let touched = self
            .ask("UPDATE roots SET sealed = $3 WHERE id = $1 AND sealed = $2")
            .bind(id)
            .bind(before)
            .bind(after)
            .run()
            .await?;
        Ok(touched == 1)
    }

    /// Replaces a signing key's value.
    pub async fn reseal_signing_key(&mut self, key: &SealedSigningKey, after: &Sealed) -> Result<bool, StoreError> {
        let touched = self
            .ask("UPDATE signing_keys SET sealed = $4 WHERE kind = $1 AND number = $2 AND sealed = $3")
            .bind(&key.kind)
            .bind(key.number)
            .bind(&key.sealed)
            .bind(after)
            .run()
            .await?;
        Ok(touched == 1)
    }
}

impl Record for SealedSigningKey {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            kind: cells.text()?,
            number: cells.int()?,
            sealed: Sealed::read(cells)?,
        })
    }
}

impl Record for CredentialId {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.parse()
    }
}

impl Record for RootId {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.parse()
    }
}
