//! Versions of policies.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::model::control::Stored;
use crate::model::policy::{PolicyState, PolicyVersion};
use crate::model::scope::Name;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT name, version, body, manifest, prim_keys, state, approval, activated, mac FROM policies ",
            $tail
        )
    };
}

impl Tx {
    /// Keeps a version. A policy has one active version: replace the one before first.
    pub async fn insert_policy(&mut self, stored: &Stored<PolicyVersion>) -> Result<(), StoreError> {
        let policy = &stored.unverified;
        self.ask(
            "INSERT INTO policies (name, version, body, manifest, prim_keys, state, approval, activated, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&policy.name)
        .bind(policy.version)
        .bind(&policy.text)
        .bind(policy.manifest)
        .bind_json(&policy.prim_keys)
        .bind(policy.state.as_str())
        .bind(policy.approval)
        .bind(policy.activated)
        .bind(stored.mac)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces a version's state; what was approved stays as it was.
    pub async fn update_policy(&mut self, stored: &Stored<PolicyVersion>) -> Result<(), StoreError> {
        let policy = &stored.unverified;
        self.ask("UPDATE policies SET state = $3, activated = $4, mac = $5 WHERE name = $1 AND version = $2")
            .bind(&policy.name)
            .bind(policy.version)
            .bind(policy.state.as_str())
            .bind(policy.activated)
            .bind(stored.mac)
            .run_on("policy version")
            .await
    }
}

impl ReadTx {
    /// All versions in force, by name.
    pub async fn active_policies(&mut self) -> Result<Vec<Stored<PolicyVersion>>, StoreError> {
        self.ask(select!("WHERE state = 'active' ORDER BY name")).all().await
    }

    /// The version in force of one policy.
    pub async fn active_policy(&mut self, name: &Name) -> Result<Option<Stored<PolicyVersion>>, StoreError> {
        self.ask(select!("WHERE name = $1 AND state = 'active'"))
            .bind(name)
            .one()
            .await
    }

    /// One version.
    pub async fn policy_version(
        &mut self,
        name: &Name,
        version: i64,
    ) -> Result<Option<Stored<PolicyVersion>>, StoreError> {
        self.ask(select!("WHERE name = $1 AND version = $2"))
            .bind(name)
            .bind(version)
            .one()
            .await
    }

    /// All versions of one policy, latest first.
    pub async fn policy_versions(&mut self, name: &Name) -> Result<Vec<Stored<PolicyVersion>>, StoreError> {
        self.ask(select!("WHERE name = $1 ORDER BY version DESC"))
            .bind(name)
            .all()
            .await
    }
}

impl Record for PolicyVersion {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            name: cells.parse()?,
            version: cells.int()?,
            text: cells.text()?,
            manifest: cells.parse()?,
            prim_keys: cells.json()?,
            state: cells.word(PolicyState::parse)?,
            approval: cells.parse()?,
            activated: cells.time()?,
        })
    }
}
