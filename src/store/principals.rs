//! Principals, and the tables that find one by key or wallet.

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::id::PrincipalId;
use crate::model::control::Stored;
use crate::model::principal::{Principal, PrincipalKind, PublicKey};
use crate::model::scope::Name;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT p.id, p.name, p.kind, p.public_keys, p.wallets, p.approver, p.disabled, p.created, p.mac ",
            $tail
        )
    };
}

impl Tx {
    /// Keeps a new principal. Name, keys and wallets belong to one principal only: [`StoreError::Duplicate`].
    pub async fn insert_principal(&mut self, stored: &Stored<Principal>) -> Result<(), StoreError> {
        let principal = &stored.unverified;
        self.ask(
            "INSERT INTO principals (id, name, kind, public_keys, wallets, approver, disabled, created, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(principal.id)
        .bind(&principal.name)
        .bind(principal.kind.as_str())
        .bind_json(&principal.keys)
        .bind_json(&principal.wallets)
        .bind(principal.approver)
        .bind(principal.disabled)
        .bind(principal.created)
        .bind(stored.mac)
        .run()
        .await?;
        self.index_principal(principal).await
    }

    /// Replaces the row of a principal.
    pub async fn update_principal(&mut self, stored: &Stored<Principal>) -> Result<(), StoreError> {
        let principal = &stored.unverified;
        self.ask(
            "UPDATE principals SET name = $2, kind = $3, public_keys = $4, wallets = $5, approver = $6, \
             disabled = $7, created = $8, mac = $9 WHERE id = $1",
        )
        .bind(principal.id)
        .bind(&principal.name)
        .bind(principal.kind.as_str())
        .bind_json(&principal.keys)
        .bind_json(&principal.wallets)
        .bind(principal.approver)
        .bind(principal.disabled)
        .bind(principal.created)
        .bind(stored.mac)
        .run_on("principal")
        .await?;
        for text in [
            "DELETE FROM principal_keys WHERE principal = $1",
            "DELETE FROM principal_wallets WHERE principal = $1",
        ] {
            self.ask(text).bind(principal.id).run().await?;
        }
        self.index_principal(principal).await
    }

    async fn index_principal(&mut self, principal: &Principal) -> Result<(), StoreError> {
        for key in &principal.keys {
            self.ask("INSERT INTO principal_keys (public_key, principal) VALUES ($1, $2)")
                .bind(*key)
                .bind(principal.id)
                .run()
                .await?;
        }
        for wallet in &principal.wallets {
            self.ask("INSERT INTO principal_wallets (wallet, principal) VALUES ($1, $2)")
                .bind(wallet)
                .bind(principal.id)
                .run()
                .await?;
        }
        Ok(())
    }
}

impl ReadTx {
    /// By id.
    pub async fn principal(&mut self, id: PrincipalId) -> Result<Option<Stored<Principal>>, StoreError> {
        self.ask(select!("FROM principals AS p WHERE p.id = $1"))
            .bind(id)
            .one()
            .await
    }

    /// By name.
    pub async fn principal_by_name(&mut self, name: &Name) -> Result<Option<Stored<Principal>>, StoreError> {
        self.ask(select!("FROM principals AS p WHERE p.name = $1"))
            .bind(name)
            .one()
            .await
    }

    /// By one of its keys.
    pub async fn principal_by_key(&mut self, key: &PublicKey) -> Result<Option<Stored<Principal>>, StoreError> {
        self.ask(select!(
            "FROM principal_keys AS k JOIN principals AS p ON p.id = k.principal WHERE k.public_key = $1"
        ))
        .bind(*key)
        .one()
        .await
    }

    /// By one of its wallets (CAIP-10, lower case).
    pub async fn principal_by_wallet(&mut self, wallet: &str) -> Result<Option<Stored<Principal>>, StoreError> {
        self.ask(select!(
            "FROM principal_wallets AS w JOIN principals AS p ON p.id = w.principal WHERE w.wallet = $1"
        ))
        .bind(wallet)
        .one()
        .await
    }

    /// All, or all of one kind; newest first.
    pub async fn principals(
        &mut self,
        kind: Option<PrincipalKind>,
        page: &Page,
    ) -> Result<Vec<Stored<Principal>>, StoreError> {
        self.ask(select!("FROM principals AS p WHERE 1 = 1"))
            .filter(" AND p.kind = ", kind.map(PrincipalKind::as_str))
            .filter(" AND p.id < ", page.after.as_ref())
            .filter(" ORDER BY p.id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }
}

impl Record for Principal {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            name: cells.parse()?,
            kind: cells.word(PrincipalKind::parse)?,
            keys: cells.json()?,
            wallets: cells.json()?,
            approver: cells.flag()?,
            disabled: cells.flag()?,
            created: cells.time()?,
        })
    }
}
