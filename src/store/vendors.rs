//! Pinned manifests and root credentials.

use super::statement::{Cells, Record};
use super::{ReadTx, StoreError, Tx};
use crate::base::id::RootId;
use crate::model::control::Stored;
use crate::model::root::{ManifestPin, Root};
use crate::model::scope::Name;
use crate::model::sealed::Sealed;

macro_rules! select_root {
    ($tail:literal) => {
        concat!(
            "SELECT id, vendor, manifest, base_url, params, current, created, mac, sealed FROM roots ",
            $tail
        )
    };
}

impl Tx {
    /// Pins a vendor's manifest, in place of the one before.
    pub async fn save_manifest_pin(&mut self, stored: &Stored<ManifestPin>) -> Result<(), StoreError> {
        let pin = &stored.unverified;
        self.ask(
            "INSERT INTO manifests (vendor, body, pinned, mac) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (vendor) DO UPDATE SET body = excluded.body, pinned = excluded.pinned, mac = excluded.mac",
        )
        .bind(&pin.vendor)
        .bind(&pin.text)
        .bind(pin.pinned)
        .bind(stored.mac)
        .run()
        .await?;
        Ok(())
    }

    /// Keeps a root credential. A vendor has one current one: set the one before to not current first.
    pub async fn insert_root(&mut self, stored: &Stored<Root>, sealed: &Sealed) -> Result<(), StoreError> {
        let root = &stored.unverified;
        self.ask(
            "INSERT INTO roots (id, vendor, manifest, base_url, params, current, created, mac, sealed) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(root.id)
        .bind(&root.vendor)
        .bind(root.manifest)
        .bind(root.base_url.as_deref())
        .bind_json(&root.params)
        .bind(root.current)
        .bind(root.created)
        .bind(stored.mac)
        .bind(sealed)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces the row of a root credential; its sealed value stays.
    pub async fn update_root(&mut self, stored: &Stored<Root>) -> Result<(), StoreError> {
        let root = &stored.unverified;
        self.ask("UPDATE roots SET manifest = $2, base_url = $3, params = $4, current = $5, mac = $6 WHERE id = $1")
            .bind(root.id)
            .bind(root.manifest)
            .bind(root.base_url.as_deref())
            .bind_json(&root.params)
            .bind(root.current)
            .bind(stored.mac)
            .run_on("root credential")
            .await
    }
}

impl Tx {
    /// Makes another root credential of the same account answer for the keys that are not dead yet, and for those that
    /// nobody accounts for.
    pub async fn hand_over_credentials(&mut self, vendor: &Name, old: RootId, new: RootId) -> Result<u64, StoreError> {
        self.ask("UPDATE orphans SET root = $3 WHERE vendor = $1 AND root = $2 AND state <> 'gone'")
            .bind(vendor)
            .bind(old)
            .bind(new)
            .run()
            .await?;
        self.ask(
            "UPDATE credentials SET root = $3 WHERE vendor = $1 AND root = $2 AND state NOT IN ('revoked', 'failed')",
        )
        .bind(vendor)
        .bind(old)
        .bind(new)
        .run()
        .await
    }
}

impl ReadTx {
    /// The pinned manifest of a vendor.
    pub async fn manifest_pin(&mut self, vendor: &Name) -> Result<Option<Stored<ManifestPin>>, StoreError> {
        self.ask("SELECT vendor, body, pinned, mac FROM manifests WHERE vendor = $1")
            .bind(vendor)
            .one()
            .await
    }

    /// All pinned manifests, by vendor.
    pub async fn manifest_pins(&mut self) -> Result<Vec<Stored<ManifestPin>>, StoreError> {
        self.ask("SELECT vendor, body, pinned, mac FROM manifests ORDER BY vendor")
            .all()
            .await
    }

    /// The root credential in use at a vendor.
    pub async fn current_root(&mut self, vendor: &Name) -> Result<Option<(Stored<Root>, Sealed)>, StoreError> {
        self.ask(select_root!("WHERE vendor = $1 AND current = 1"))
            .bind(vendor)
            .one()
            .await
    }

    /// All root credentials ever entered, oldest first.
    pub async fn roots(&mut self) -> Result<Vec<(Stored<Root>, Sealed)>, StoreError> {
        self.ask(select_root!("ORDER BY id")).all().await
    }

    /// By id, in use or replaced.
    pub async fn root(&mut self, id: RootId) -> Result<Option<(Stored<Root>, Sealed)>, StoreError> {
        self.ask(select_root!("WHERE id = $1")).bind(id).one().await
    }
}

impl Record for ManifestPin {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            vendor: cells.parse()?,
            text: cells.text()?,
            pinned: cells.time()?,
        })
    }
}

impl Record for Root {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            vendor: cells.parse()?,
            manifest: cells.parse()?,
            base_url: cells.maybe_text()?,
            params: cells.json()?,
            current: cells.flag()?,
            created: cells.time()?,
        })
    }
}
