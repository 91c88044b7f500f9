//! What may happen once only: nonces of signatures, idempotency keys, warnings; and tokens that were revoked.

use super::decide::take_one;
use super::dialect;
use super::set::Set;
use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::canonical::Digest;
use crate::base::id::GrantId;
use crate::base::time::{Timestamp, Ttl};
use crate::model::policy::Rate;

/// What an idempotency key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotencyOutcome {
    /// Seen for the first time; now it stands for the grant given.
    New,
    /// The same request came before and made this grant.
    Same(GrantId),
    /// Another request used the key.
    Other,
}

impl Tx {
    /// Claims a nonce of `holder` (a public key). `false`: it was claimed before.
    pub async fn claim_nonce(&mut self, holder: &str, nonce: &str, until: Timestamp) -> Result<bool, StoreError> {
        let rows = self
            .ask("INSERT INTO nonces (holder, nonce, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(holder)
            .bind(nonce)
            .bind(until)
            .run()
            .await?;
        Ok(rows == 1)
    }

    /// Whether what is called `name` is to be told now. Then it is not to be told again before `until`.
    pub async fn tell_once(&mut self, name: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let rows = self
            .ask(
                "INSERT INTO thresholds (name, until) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE \
                 SET until = excluded.until WHERE thresholds.until <= $3",
            )
            .bind(name)
            .bind(until)
            .bind(now)
            .run()
            .await?;
        Ok(rows == 1)
    }

    /// Forgets nonces, rates, revoked tokens, idempotency keys and thresholds whose time is over. Answers how many rows.
    pub async fn sweep(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let mut rows = 0;
        for text in [
            "DELETE FROM nonces WHERE until < $1",
            "DELETE FROM rates WHERE tat < $1 * 1000",
            "DELETE FROM revoked_tokens WHERE until < $1",
            "DELETE FROM idempotency WHERE until < $1",
            "DELETE FROM thresholds WHERE until < $1",
        ] {
            rows += self.ask(text).bind(now).run().await?;
        }
        Ok(rows)
    }

    /// Revokes every token that has a block with this revocation id, until the token would have ended anyhow.
    pub async fn revoke_token(&mut self, id: &str, until: Timestamp, at: Timestamp) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO revoked_tokens (id, until, created) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET \
             until = CASE WHEN excluded.until > revoked_tokens.until THEN excluded.until ELSE revoked_tokens.until END",
        )
        .bind(id)
        .bind(until)
        .bind(at)
        .run()
        .await?;
        Ok(())
    }

    /// Takes one from the rate counted on `name`. Refused: how long to wait; then nothing was taken.
    pub async fn take_rate(&mut self, name: &str, limit: Rate, now: Timestamp) -> Result<Option<Ttl>, StoreError> {
        let tat = self
            .ask("SELECT tat FROM rates WHERE name = $1")
            .bind(name)
            .one()
            .await?;
        match take_one(tat, limit, now) {
            Err(wait) => Ok(Some(wait)),
            Ok(next) => {
                self.ask(
                    "INSERT INTO rates (name, tat) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET tat = excluded.tat",
                )
                .bind(name)
                .bind(next)
                .run()
                .await?;
                Ok(None)
            }
        }
    }

    /// Lets `key` stand for this request and its grant, unless it stands for something already.
    pub async fn remember_idempotency(
        &mut self,
        scope: &str,
        key: &str,
        request: Digest,
        grant: GrantId,
        until: Timestamp,
    ) -> Result<IdempotencyOutcome, StoreError> {
        let rows = self
            .ask(
                "INSERT INTO idempotency (scope, name, request, grant_id, until) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (scope, name) DO NOTHING",
            )
            .bind(scope)
            .bind(key)
            .bind(request)
            .bind(grant)
            .bind(until)
            .run()
            .await?;
        if rows == 1 {
            return Ok(IdempotencyOutcome::New);
        }
        let found = self.idempotency(scope, key).await?;
        Ok(match found {
            Some((before, grant)) if before == request => IdempotencyOutcome::Same(grant),
            _ => IdempotencyOutcome::Other,
        })
    }
}

impl ReadTx {
    /// The request and the grant an idempotency key stands for.
    pub async fn idempotency(&mut self, scope: &str, key: &str) -> Result<Option<(Digest, GrantId)>, StoreError> {
        self.ask("SELECT request, grant_id FROM idempotency WHERE scope = $1 AND name = $2")
            .bind(scope)
            .bind(key)
            .one()
            .await
    }

    /// The first of these revocation ids that is revoked.
    pub async fn token_revoked(&mut self, ids: &[String]) -> Result<Option<String>, StoreError> {
        if ids.is_empty() {
            return Ok(None);
        }
        self.ask_each(dialect::TOKENS_REVOKED)
            .bind_set(&Set::of(ids))
            .one()
            .await
    }
}

impl Record for Digest {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.parse()
    }
}

impl Record for GrantId {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        cells.parse()
    }
}
