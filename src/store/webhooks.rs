//! Webhooks and the queue of their deliveries. A webhook has one holder at a time, among all instances: whoever holds
//! it queues and sends for it, so that nothing is sent twice and the order is that of the log.

use super::statement::{Cells, Record};
use super::{Page, ReadTx, StoreError, Tx};
use crate::base::id::{DeliveryId, WebhookId};
use crate::base::time::Timestamp;
use crate::model::control::Stored;
use crate::model::webhook::{Delivery, DeliveryState, Webhook, WebhookFormat};

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT id, url, types, format, description, enabled, secret_version, previous_until, created, mac \
             FROM webhooks ",
            $tail
        )
    };
}

macro_rules! select_delivery {
    ($tail:literal) => {
        concat!(
            "SELECT id, webhook, event, n, kind, replay, state, attempts, next_at, status, error, created \
             FROM deliveries ",
            $tail
        )
    };
}

/// A webhook for which there may be something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookWork {
    /// Which.
    pub webhook: WebhookId,
    /// The last event of the log that was queued.
    pub cursor: i64,
    /// A delivery's time has come.
    pub due: bool,
}

impl Tx {
    /// Keeps a new webhook, which hears of what is later than event `cursor`.
    pub async fn insert_webhook(&mut self, stored: &Stored<Webhook>, cursor: i64) -> Result<(), StoreError> {
        let webhook = &stored.unverified;
        self.ask(
            "INSERT INTO webhooks (id, url, types, format, description, enabled, secret_version, previous_until, \
             created, mac, cursor, holder, held_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', 0)",
        )
        .bind(webhook.id)
        .bind(&webhook.url)
        .bind_json(&webhook.types)
        .bind(webhook.format.as_str())
        .bind(&webhook.description)
        .bind(webhook.enabled)
        .bind(webhook.secret_version)
        .bind(webhook.previous_until)
        .bind(webhook.created)
        .bind(stored.mac)
        .bind(cursor)
        .run()
        .await?;
        Ok(())
    }

    /// Replaces what may change of a webhook: whether it is enabled, and its secret's version.
    pub async fn update_webhook(&mut self, stored: &Stored<Webhook>) -> Result<(), StoreError> {
        let webhook = &stored.unverified;
        self.ask("UPDATE webhooks SET enabled = $2, secret_version = $3, previous_until = $4, mac = $5 WHERE id = $1")
            .bind(webhook.id)
            .bind(webhook.enabled)
            .bind(webhook.secret_version)
            .bind(webhook.previous_until)
            .bind(stored.mac)
            .run_on("webhook")
            .await
    }

    /// Removes a webhook and its deliveries.
    pub async fn delete_webhook(&mut self, id: WebhookId) -> Result<(), StoreError> {
        self.ask("DELETE FROM deliveries WHERE webhook = $1")
            .bind(id)
            .run()
            .await?;
        self.ask("DELETE FROM webhooks WHERE id = $1")
            .bind(id)
            .run_on("webhook")
            .await
    }

    /// Takes or keeps a webhook for `holder` until `until`, unless somebody else holds it after `now`.
    pub async fn hold_webhook(
        &mut self,
        id: WebhookId,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let held = self
            .ask("UPDATE webhooks SET holder = $2, held_until = $4 WHERE id = $1 AND (holder = $2 OR held_until <= $3)")
            .bind(id)
            .bind(holder)
            .bind(now)
            .bind(until)
            .run()
            .await?;
        Ok(held > 0)
    }

    /// Says up to which event the log is queued.
    pub async fn move_webhook(&mut self, id: WebhookId, cursor: i64) -> Result<(), StoreError> {
        self.ask("UPDATE webhooks SET cursor = $2 WHERE id = $1 AND cursor < $2")
            .bind(id)
            .bind(cursor)
            .run()
            .await?;
        Ok(())
    }

    /// Queues a delivery. `false` when the log asked for this event before.
    pub async fn insert_delivery(&mut self, delivery: &Delivery) -> Result<bool, StoreError> {
        let rows = self
            .ask(
                "INSERT INTO deliveries (id, webhook, event, n, kind, replay, state, attempts, next_at, status, error, \
                 created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
            )
            .bind(delivery.id)
            .bind(delivery.webhook)
            .bind(delivery.event)
            .bind(delivery.n)
            .bind(&delivery.kind)
            .bind(delivery.replay)
            .bind(delivery.state.as_str())
            .bind(delivery.attempts)
            .bind(delivery.next_at)
            .bind(delivery.status)
            .bind(delivery.error.as_ref())
            .bind(delivery.created)
            .run()
            .await?;
        Ok(rows > 0)
    }

    /// Says what became of a try. A delivery that is over stays so, and one that was deleted is left.
    pub async fn update_delivery(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        self.ask(
            "UPDATE deliveries SET state = $2, attempts = $3, next_at = $4, status = $5, error = $6 \
             WHERE id = $1 AND state = 'pending'",
        )
        .bind(delivery.id)
        .bind(delivery.state.as_str())
        .bind(delivery.attempts)
        .bind(delivery.next_at)
        .bind(delivery.status)
        .bind(delivery.error.as_ref())
        .run()
        .await?;
        Ok(())
    }

    /// Gives up all that waits for a webhook.
    pub async fn fail_deliveries(&mut self, webhook: WebhookId, why: &str) -> Result<u64, StoreError> {
        self.ask(
            "UPDATE deliveries SET state = 'failed', next_at = NULL, error = $2 WHERE webhook = $1 AND state = 'pending'",
        )
        .bind(webhook)
        .bind(why)
        .run()
        .await
    }

    /// Forgets deliveries that are over and were queued before `before`.
    pub async fn sweep_deliveries(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        self.ask("DELETE FROM deliveries WHERE state <> 'pending' AND created < $1")
            .bind(before)
            .run()
            .await
    }
}

impl ReadTx {
    /// By id.
    pub async fn webhook(&mut self, id: WebhookId) -> Result<Option<Stored<Webhook>>, StoreError> {
        self.ask(select!("WHERE id = $1")).bind(id).one().await
    }

    /// All, newest first.
    pub async fn webhooks(&mut self, page: &Page) -> Result<Vec<Stored<Webhook>>, StoreError> {
        self.ask(select!("WHERE 1 = 1"))
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// The last event of the log that was queued for a webhook.
    pub async fn webhook_cursor(&mut self, id: WebhookId) -> Result<Option<i64>, StoreError> {
        self.ask("SELECT cursor FROM webhooks WHERE id = $1")
            .bind(id)
            .one()
            .await
    }

    /// Enabled webhooks that `holder` holds, or nobody after `free`; and whether a delivery is due `now`.
    pub async fn webhook_work(
        &mut self,
        holder: &str,
        free: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<WebhookWork>, StoreError> {
        self.ask(
            "SELECT id, cursor, CAST(CASE WHEN EXISTS (SELECT 1 FROM deliveries AS d WHERE d.webhook = w.id \
             AND d.next_at <= $3) THEN 1 ELSE 0 END AS BIGINT) FROM webhooks AS w \
             WHERE enabled = 1 AND (holder = $1 OR held_until <= $2) ORDER BY id",
        )
        .bind(holder)
        .bind(free)
        .bind(now)
        .all()
        .await
    }

    /// Deliveries of a webhook whose time has come, in the order of the log.
    pub async fn deliveries_due(
        &mut self,
        webhook: WebhookId,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.ask(select_delivery!(
            "WHERE webhook = $1 AND next_at <= $2 ORDER BY n, id LIMIT $3"
        ))
        .bind(webhook)
        .bind(now)
        .bind(limit)
        .all()
        .await
    }

    /// All of a webhook, newest first.
    pub async fn deliveries(&mut self, webhook: WebhookId, page: &Page) -> Result<Vec<Delivery>, StoreError> {
        self.ask(select_delivery!("WHERE webhook = $1"))
            .bind(webhook)
            .filter(" AND id < ", page.after.as_ref())
            .filter(" ORDER BY id DESC LIMIT ", Some(page.limit))
            .all()
            .await
    }

    /// By id.
    pub async fn delivery(&mut self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.ask(select_delivery!("WHERE id = $1")).bind(id).one().await
    }

    /// Whether anything that was queued for a webhook at `since` or later arrived.
    pub async fn delivered_since(&mut self, webhook: WebhookId, since: Timestamp) -> Result<bool, StoreError> {
        let any: Option<String> = self
            .ask("SELECT id FROM deliveries WHERE webhook = $1 AND state = 'delivered' AND created >= $2 LIMIT 1")
            .bind(webhook)
            .bind(since)
            .one()
            .await?;
        Ok(any.is_some())
    }
}

impl Record for Webhook {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            url: cells.text()?,
            types: cells.json()?,
            format: cells.word(WebhookFormat::parse)?,
            description: cells.text()?,
            enabled: cells.flag()?,
            secret_version: cells.int()?,
            previous_until: cells.maybe_time()?,
            created: cells.time()?,
        })
    }
}

impl Record for WebhookWork {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            webhook: cells.parse()?,
            cursor: cells.int()?,
            due: cells.flag()?,
        })
    }
}

impl Record for Delivery {
    fn read(cells: &mut Cells<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: cells.parse()?,
            webhook: cells.parse()?,
            event: cells.parse()?,
            n: cells.int()?,
            kind: cells.text()?,
            replay: cells.flag()?,
            state: cells.word(DeliveryState::parse)?,
            attempts: cells.int()?,
            next_at: cells.maybe_time()?,
            status: cells.maybe_int()?,
            error: cells.maybe_text()?,
            created: cells.time()?,
        })
    }
}
