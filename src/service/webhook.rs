//! Webhooks: made, seen, tested, ended; and what was delivered. Sending is in `deliver`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::App;
use super::caller::Context;
use super::deliver;
use super::enroll::{List, PageAsk};
use super::error::Error;
use super::gather::Gather;
use crate::base::id::{DeliveryId, EventId, WebhookId};
use crate::base::secret::SecretText;
use crate::base::time::{Timestamp, Ttl};
use crate::httpsig;
use crate::model::event::{Event, EventTypes};
use crate::model::webhook::{Delivery, DeliveryState, Webhook, WebhookFormat};
use crate::store::{Page, Tx};

/// The most webhooks of an instance.
const MOST: i64 = 64;

/// How long the secret before signs beside the new one.
const OVERLAP: Ttl = Ttl::from_mins(24 * 60);

/// A webhook to be made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookAsk {
    /// Where to send: `https`, a public address; in a test instance literal loopback.
    pub url: String,
    /// Types of events: `lease.revocation_failed`, `approval.*`; everything is `*`.
    pub types: Vec<String>,
    /// `event` (JSON, the default) or `slack` (one sentence).
    pub format: Option<WebhookFormat>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// A webhook as operators see it. Never its secret; of a Slack address, which is a secret, only the host.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WebhookView {
    /// The id.
    pub id: WebhookId,
    /// Always `webhook`.
    pub object: String,
    /// Whether this instance is live.
    pub livemode: bool,
    /// Where to, without a query.
    pub url: String,
    /// Of which events.
    pub types: Vec<String>,
    /// How the body is written.
    pub format: WebhookFormat,
    /// What it is for.
    pub description: String,
    /// `enabled` or `disabled`.
    pub state: String,
    /// Checks `v1a` signatures: `whpk_` and base64.
    pub public_key: String,
    /// Until when the secret before signs too.
    pub previous_secret_until: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
}

/// A webhook and its secret, to be written into an answer once.
pub struct WithSecret {
    /// The webhook.
    pub view: WebhookView,
    /// `whsec_` and base64.
    pub secret: SecretText,
}

/// One event for one webhook, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// The id.
    pub id: DeliveryId,
    /// Always `delivery`.
    pub object: String,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event; also the message's `webhook-id`.
    pub event: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's place in the log.
    pub sequence: i64,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next.
    pub next_attempt: Option<Timestamp>,
    /// The status of the last answer.
    pub status: Option<i64>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it was queued.
    pub created: Timestamp,
}

fn view(app: &App, webhook: &Webhook) -> Result<WebhookView, Error> {
    Ok(WebhookView {
        id: webhook.id,
        object: "webhook".to_owned(),
        livemode: app.livemode(),
        url: shown(webhook),
        types: webhook.types.as_slice().to_vec(),
        format: webhook.format,
        description: webhook.description.clone(),
        state: if webhook.enabled { "enabled" } else { "disabled" }.to_owned(),
        public_key: httpsig::webhook_public(&deliver::key(app)?.public()),
        previous_secret_until: webhook.previous_until.filter(|until| *until > app.now()),
        created: webhook.created,
    })
}

fn shown(webhook: &Webhook) -> String {
    let Ok(mut url) = webhook.url.parse::<Url>() else {
        return String::new();
    };
    url.set_query(None);
    url.set_fragment(None);
    if webhook.format == WebhookFormat::Slack {
        url.set_path("/…");
    }
    url.to_string()
}

/// What is told of a delivery.
#[must_use]
pub fn delivery_view(delivery: &Delivery) -> DeliveryView {
    DeliveryView {
        id: delivery.id,
        object: "delivery".to_owned(),
        webhook: delivery.webhook,
        event: delivery.event,
        kind: delivery.kind.clone(),
        sequence: delivery.n,
        state: delivery.state,
        attempts: delivery.attempts,
        next_attempt: delivery.next_at,
        status: delivery.status,
        error: delivery.error.clone(),
        created: delivery.created,
    }
}

/// Makes a webhook, which hears of what happens from now on.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators; [`Error::Invalid`] for an address that this instance may not reach.
pub async fn create(app: &App, context: &Context, ask: WebhookAsk) -> Result<WithSecret, Error> {
    context.operator()?;
    let url: Url = ask.url.parse().map_err(|error| Error::invalid("/url", error))?;
    app.egress.check(&url).map_err(|error| Error::invalid("/url", error))?;
    if ask.url.len() > 2000 || ask.description.chars().count() > 200 {
        return Err(Error::invalid(
            "",
            "an address has at most 2000 characters, a description 200",
        ));
    }
    let types = EventTypes::try_from(ask.types).map_err(|error| Error::invalid("/types", error))?;
    let now = app.now();
    let webhook = Webhook {
        id: WebhookId::new(now, app.random.as_ref()),
        url: url.to_string(),
        types,
        format: ask.format.unwrap_or(WebhookFormat::Event),
        description: ask.description,
        enabled: true,
        secret_version: 1,
        previous_until: None,
        created: now,
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    if tx.webhooks(&Page::first(MOST)).await?.len() >= usize::try_from(MOST).unwrap_or(usize::MAX) {
        return Err(Error::Conflict(format!("there are {MOST} webhooks already")));
    }
    let (head, _) = tx.chain_head().await?;
    tx.insert_webhook(&app.stored(webhook.clone())?, head).await?;
    let event = app.event(context, "webhook.created", &webhook.id, facts(&webhook));
    let _none = tx.commit(&[event], &[]).await?;
    with_secret(app, &webhook)
}

fn facts(webhook: &Webhook) -> serde_json::Value {
    json!({ "webhook": webhook.id, "url": shown(webhook), "types": webhook.types, "format": webhook.format })
}

fn with_secret(app: &App, webhook: &Webhook) -> Result<WithSecret, Error> {
    let secret = deliver::secret(app, webhook.id, webhook.secret_version)?;
    Ok(WithSecret {
        view: view(app, webhook)?,
        secret: httpsig::webhook_secret(&secret),
    })
}

/// Reads a webhook.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Forged`].
pub(super) async fn read(app: &App, id: WebhookId) -> Result<Webhook, Error> {
    let mut tx = app.store.read().await?;
    let stored = tx.webhook(id).await?.ok_or(Error::NotFound("webhook"))?;
    drop(tx);
    app.authentic("webhook", stored).await
}

/// A webhook as this transaction sees it.
async fn inside(app: &App, tx: &mut Tx, id: WebhookId) -> Result<Webhook, Error> {
    let stored = tx.webhook(id).await?.ok_or(Error::NotFound("webhook"))?;
    app.vault.authenticate(stored).map_err(|_| Error::Forged("webhook"))
}

/// Webhooks, newest first.
///
/// # Errors
/// [`Error::NotAllowed`] for others than operators.
pub async fn list(app: &App, context: &Context, page: &PageAsk) -> Result<List<WebhookView>, Error> {
    context.operator()?;
    let mut found = Gather::page(page)?;
    while let Some(page) = found.next() {
        let mut tx = app.store.read().await?;
        let rows = tx.webhooks(&page).await?;
        drop(tx);
        found.read(&page, &rows, |row| row.unverified.id.to_string());
        for row in rows {
            let row = app.authentic("webhook", row).await;
            found.add(row.and_then(|row| view(app, &row)))?;
        }
    }
    Ok(found.list())
}

/// One webhook.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn show(app: &App, context: &Context, id: WebhookId) -> Result<WebhookView, Error> {
    context.operator()?;
    view(app, &read(app, id).await?)
}

/// Removes a webhook with all its deliveries.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn delete(app: &App, context: &Context, id: WebhookId) -> Result<WebhookView, Error> {
    context.operator()?;
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    // One that was forged can be removed too, and the answer and the log say where it pointed.
    let webhook = tx.webhook(id).await?.ok_or(Error::NotFound("webhook"))?.unverified;
    tx.delete_webhook(id).await?;
    let event = app.event(context, "webhook.deleted", &id, facts(&webhook));
    let _none = tx.commit(&[event], &[]).await?;
    view(app, &webhook)
}

/// A new secret. The one before signs beside it for a day, so that the receiver can change in its own time.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn rotate(app: &App, context: &Context, id: WebhookId) -> Result<WithSecret, Error> {
    context.operator()?;
    let until = app.now().plus(OVERLAP);
    let change = |webhook: &mut Webhook| {
        webhook.secret_version = webhook.secret_version.saturating_add(1);
        webhook.previous_until = Some(until);
    };
    let webhook = changed(app, context, id, "webhook.secret_rotated", change).await?;
    with_secret(app, &webhook)
}

/// Enables a webhook that was disabled. It hears of what happens from now on; what it missed can be replayed.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`]; [`Error::Conflict`] when it is enabled.
pub async fn enable(app: &App, context: &Context, id: WebhookId) -> Result<WebhookView, Error> {
    context.operator()?;
    if read(app, id).await?.enabled {
        return Err(Error::Conflict("the webhook is enabled".to_owned()));
    }
    let webhook = changed(app, context, id, "webhook.enabled", |webhook| webhook.enabled = true).await?;
    view(app, &webhook)
}

async fn changed(
    app: &App,
    context: &Context,
    id: WebhookId,
    kind: &str,
    change: impl FnOnce(&mut Webhook),
) -> Result<Webhook, Error> {
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let mut webhook = inside(app, &mut tx, id).await?;
    let was = webhook.enabled;
    change(&mut webhook);
    if webhook.enabled && !was {
        let (head, _) = tx.chain_head().await?;
        tx.move_webhook(id, head).await?;
    }
    tx.update_webhook(&app.stored(webhook.clone())?).await?;
    let event = app.event(context, kind, &id, facts(&webhook));
    let _none = tx.commit(&[event], &[]).await?;
    Ok(webhook)
}

/// Sends a `ping` now and answers what became of it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`]; [`Error::Conflict`] for one that is disabled.
pub async fn test(app: &App, context: &Context, id: WebhookId) -> Result<DeliveryView, Error> {
    context.operator()?;
    let webhook = enabled(app, id).await?;
    let event = app.event(context, "ping", &id, json!({ "webhook": id }));
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    let delivery = queued(app, &mut tx, id, &event).await?;
    let _none = tx.commit(&[event], &[]).await?;
    Ok(delivery_view(&deliver::attempt(app, &webhook, delivery).await?))
}

/// Queues the event that this transaction is about to commit as its first one. The workers leave it alone while
/// whoever asked waits for it.
async fn queued(app: &App, tx: &mut Tx, webhook: WebhookId, event: &Event) -> Result<Delivery, Error> {
    let now = app.now();
    let (head, _) = tx.chain_head().await?;
    let delivery = Delivery {
        id: DeliveryId::new(now, app.random.as_ref()),
        webhook,
        event: event.id,
        n: head.saturating_add(1),
        kind: event.kind.clone(),
        replay: false,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: Some(now.plus(deliver::HOLD)),
        status: None,
        error: None,
        created: now,
    };
    tx.insert_delivery(&delivery).await?;
    Ok(delivery)
}

async fn enabled(app: &App, id: WebhookId) -> Result<Webhook, Error> {
    let webhook = read(app, id).await?;
    if webhook.enabled {
        return Ok(webhook);
    }
    Err(Error::Conflict("the webhook is disabled; enable it first".to_owned()))
}

/// The deliveries of a webhook, newest first.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`].
pub async fn deliveries(
    app: &App,
    context: &Context,
    id: WebhookId,
    page: &PageAsk,
) -> Result<List<DeliveryView>, Error> {
    context.operator()?;
    read(app, id).await?;
    let mut tx = app.store.read().await?;
    let rows = tx.deliveries(id, &page.page()?).await?;
    drop(tx);
    Ok(List::page(rows.iter().map(delivery_view).collect(), page.limit()?))
}

/// Sends an event once more, with the id it had: receivers that know it may leave it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotAllowed`]; [`Error::Conflict`] while the webhook is disabled.
pub async fn replay(app: &App, context: &Context, id: DeliveryId) -> Result<DeliveryView, Error> {
    context.operator()?;
    let mut tx = app.store.read().await?;
    let before = tx.delivery(id).await?.ok_or(Error::NotFound("delivery"))?;
    drop(tx);
    enabled(app, before.webhook).await?;
    let now = app.now();
    let again = Delivery {
        id: DeliveryId::new(now, app.random.as_ref()),
        replay: true,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: Some(now),
        status: None,
        error: None,
        created: now,
        ..before
    };
    let mut tx = app.store.begin().await?;
    context.claim_nonce(&mut tx).await?;
    tx.insert_delivery(&again).await?;
    let _none = tx.commit(&[], &[]).await?;
    app.announce_webhooks();
    Ok(delivery_view(&again))
}
