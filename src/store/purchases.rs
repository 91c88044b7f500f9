//! Purchases: an authorization to pay is claimed once, whoever presents it how often.

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::id::{GrantId, PurchaseId};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::payment::{Purchase, PurchaseState};
use crate::model::scope::Name;

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, network, asset, payer, nonce, pay_to, amount, valid_before, request, payload, state, grant_id, \
             settlement, last_error, next_at, created, settle_first, mac FROM purchases ",
            $tail
        )
    };
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The authorization is ours.
    New,
    /// It was claimed before, by this purchase; nothing was changed.
    Existing(Box<Stored<Purchase>>),
}

impl Tx {
    /// Claims an authorization: network, asset, payer and nonce are claimed together, once.
    pub async fn claim_purchase(&mut self, stored: &Stored<Purchase>) -> Result<Claim, StoreError> {
        let purchase = &stored.unverified;
        let rows = self
            .ask(
                "INSERT INTO purchases (id, network, asset, payer, nonce, pay_to, amount, valid_before, request, \
                 payload, state, grant_id, settlement, last_error, next_at, created, mac) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) \
                 ON CONFLICT (network, asset, payer, nonce) DO NOTHING",
            )
            .bind(purchase.id)
            .bind(&purchase.network)
            .bind(&purchase.asset)
            .bind(&purchase.payer)
            .bind(&purchase.nonce)
            .bind(&purchase.pay_to)
            .bind(purchase.amount)
            .bind(purchase.valid_before)
            .bind(purchase.request)
            .bind(&purchase.payload)
            .bind(purchase.state.as_str())
            .bind(purchase.grant)
            .bind(purchase.transaction.as_deref())
            .bind(purchase.last_error.as_deref())
            .bind(purchase.next_at)
            .bind(purchase.created)
            .bind(stored.mac)
            .run()
            .await?;
        if rows == 1 {
            return Ok(Claim::New);
        }
        self.ask(select!(
            "WHERE network = $1 AND asset = $2 AND payer = $3 AND nonce = $4"
        ))
        .bind(&purchase.network)
        .bind(&purchase.asset)
        .bind(&purchase.payer)
        .bind(&purchase.nonce)
        .only()
        .await
        .map(|stored| Claim::Existing(Box::new(stored)))
    }

    /// Takes a released nonce over, with what is signed and wanted by it now. `false`, and nothing changed, when it is
    /// not released or was released by another request.
    pub async fn reclaim(&mut self, stored: &Stored<Purchase>) -> Result<bool, StoreError> {
        let purchase = &stored.unverified;
        let rows = self
            .ask(
                "UPDATE purchases SET state = 'claimed', grant_id = $3, payload = $4, next_at = $5, pay_to = $6, \
                 amount = $7, valid_before = $8, created = $9, mac = $10, last_error = NULL \
                 WHERE id = $1 AND request = $2 AND state = 'released'",
            )
            .bind(purchase.id)
            .bind(purchase.request)
            .bind(purchase.grant)
            .bind(&purchase.payload)
            .bind(purchase.next_at)
            .bind(&purchase.pay_to)
            .bind(purchase.amount)
            .bind(purchase.valid_before)
            .bind(purchase.created)
            .bind(stored.mac)
            .run()
            .await?;
        Ok(rows == 1)
    }

    /// Replaces a purchase's state, transaction, trouble and next look.
    ///
    /// # Errors
    /// [`StoreError::Transition`] when its state does not allow the new one.
    pub async fn update_purchase(&mut self, purchase: &Purchase) -> Result<(), StoreError> {
        let before = self
            .purchase(purchase.id)
            .await?
            .ok_or(StoreError::Absent("purchase"))?
            .unverified
            .state;
        let reclaimed = before == PurchaseState::Released && purchase.state == PurchaseState::Claimed;
        if reclaimed || (before != purchase.state && !before.may_become(purchase.state)) {
            return Err(StoreError::Transition {
                what: "purchase",
                from: before.as_str(),
                to: purchase.state.as_str(),
            });
        }
        self.ask("UPDATE purchases SET state = $2, settlement = $3, last_error = $4, next_at = $5 WHERE id = $1")
            .bind(purchase.id)
            .bind(purchase.state.as_str())
            .bind(purchase.transaction.as_deref())
            .bind(purchase.last_error.as_deref())
            .bind(purchase.next_at)
            .run_on("purchase")
            .await
    }

    /// From now on a payer's `payment-identifier` stands for this purchase.
    pub async fn keep_payment_id(&mut self, payer: &str, id: &str, purchase: PurchaseId) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO payment_ids (payer, payment_id, purchase) VALUES ($1, $2, $3) \
             ON CONFLICT (payer, payment_id) DO UPDATE SET purchase = excluded.purchase",
        )
        .bind(payer)
        .bind(id)
        .bind(purchase)
        .run()
        .await?;
        Ok(())
    }

    /// Whether the money moves before the keys are made.
    pub async fn set_settle_first(&mut self, purchase: PurchaseId, first: bool) -> Result<(), StoreError> {
        self.ask("UPDATE purchases SET settle_first = $2 WHERE id = $1")
            .bind(purchase)
            .bind(i64::from(first))
            .run_on("purchase")
            .await
    }

    /// Notes how many keys at a vendor a purchase may have made before it is paid.
    pub async fn hold_keys(&mut self, purchase: PurchaseId, vendor: &Name, keys: i64) -> Result<(), StoreError> {
        self.ask(
            "INSERT INTO held_keys (purchase, vendor, keys) VALUES ($1, $2, $3) \
             ON CONFLICT (purchase, vendor) DO UPDATE SET keys = excluded.keys",
        )
        .bind(purchase)
        .bind(vendor)
        .bind(keys)
        .run()
        .await?;
        Ok(())
    }
}

impl ReadTx {
    /// The purchase that a payer's `payment-identifier` stands for.
    pub async fn purchase_by_payment_id(
        &mut self,
        payer: &str,
        id: &str,
    ) -> Result<Option<Stored<Purchase>>, StoreError> {
        self.ask(select!(
            "WHERE id = (SELECT purchase FROM payment_ids WHERE payer = $1 AND payment_id = $2)"
        ))
        .bind(payer)
        .bind(id)
        .one()
        .await
    }

    /// By id.
    pub async fn purchase(&mut self, id: PurchaseId) -> Result<Option<Stored<Purchase>>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// By its authorization.
    pub async fn purchase_by_nonce(
        &mut self,
        network: &str,
        asset: &str,
        payer: &str,
        nonce: &str,
    ) -> Result<Option<Stored<Purchase>>, StoreError> {
        self.ask(select!(
            "WHERE network = $1 AND asset = $2 AND payer = $3 AND nonce = $4"
        ))
        .bind(network)
        .bind(asset)
        .bind(payer)
        .bind(nonce)
        .one()
        .await
    }

    /// The latest purchase for a grant.
    pub async fn purchase_of_grant(&mut self, grant: GrantId) -> Result<Option<Stored<Purchase>>, StoreError> {
        self.ask(select!("WHERE grant_id = $1 ORDER BY id DESC LIMIT 1"))
            .bind(grant)
            .one()
            .await
    }

    /// Those the reconciler should look at, most overdue first.
    pub async fn purchases_due(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Stored<Purchase>>, StoreError> {
        self.ask(select!(
            "WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY next_at LIMIT $2"
        ))
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// How many purchases of a payer are under way.
    pub async fn purchases_open_of(&mut self, payer: &str) -> Result<i64, StoreError> {
        self.ask("SELECT count(*) FROM purchases WHERE payer = $1 AND state IN ('claimed', 'settling', 'paid', 'provisioning')")
            .bind(payer)
            .only()
            .await
    }

    /// What a payer paid since then, in atomic units. Claims and settlements under way count as paid, so that two
    /// purchases at once cannot both fit under a limit that has room for one.
    pub async fn paid_since(&mut self, payer: &str, since: Timestamp) -> Result<i64, StoreError> {
        self.ask(
            "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM purchases WHERE payer = $1 AND created >= $2 \
             AND state IN ('claimed', 'settling', 'paid', 'provisioning', 'settled', 'credited')",
        )
        .bind(payer)
        .bind(since)
        .only()
        .await
    }

    /// Those in a state, or all; newest first.
    pub async fn purchases(
        &mut self,
        state: Option<PurchaseState>,
        page: &Page,
    ) -> Result<Vec<Stored<Purchase>>, StoreError> {
        self.ask(select!("WHERE 1 = 1"))
            .filter(" AND state = ", state.map(PurchaseState::as_str))
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// How often a payer has paid.
    pub async fn paid_before(&mut self, payer: &str) -> Result<i64, StoreError> {
        self.ask("SELECT count(*) FROM purchases WHERE payer = $1 AND state IN ('settled', 'credited')")
            .bind(payer)
            .only()
            .await
    }

    /// How often a payer's payment was refused since then, after its keys had been made.
    pub async fn refused_since(&mut self, payer: &str, since: Timestamp) -> Result<i64, StoreError> {
        self.ask(
            "SELECT count(*) FROM purchases WHERE payer = $1 AND created >= $2 AND state = 'refused' \
             AND settle_first = 0",
        )
        .bind(payer)
        .bind(since)
        .only()
        .await
    }

    /// Keys at a vendor, of purchases since then, that are not paid: held while they may still be, or made in vain.
    pub async fn held_keys(&mut self, vendor: &Name, since: Timestamp) -> Result<i64, StoreError> {
        self.ask(
            "SELECT CAST(COALESCE(SUM(h.keys), 0) AS BIGINT) FROM held_keys AS h \
             JOIN purchases AS p ON p.id = h.purchase WHERE h.vendor = $1 AND p.created >= $2 \
             AND p.settle_first = 0 AND p.state IN ('claimed', 'settling', 'refused')",
        )
        .bind(vendor)
        .bind(since)
        .only()
        .await
    }
}

impl Record for Purchase {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            network: cells.text()?,
            asset: cells.text()?,
            payer: cells.text()?,
            nonce: cells.text()?,
            pay_to: cells.text()?,
            amount: cells.int()?,
            valid_before: cells.time()?,
            request: cells.parse()?,
            payload: cells.text()?,
            state: cells.word(PurchaseState::parse)?,
            grant: cells.parse()?,
            transaction: cells.maybe_text()?,
            last_error: cells.maybe_text()?,
            next_at: cells.maybe_time()?,
            created: cells.time()?,
            settle_first: cells.flag()?,
        })
    }
}
