//! Sending events to webhooks. The log is the queue: a cursor says what was taken from it, a row says what became of
//! each delivery. Whoever holds a webhook sends for it, one after the other in the order of the log; what fails is
//! tried again on its own schedule and holds up nothing behind it, and one webhook never waits for another.
//!
//! At least once: a process that ends between sending and saying so sends again, with the same `webhook-id`.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use url::Url;

use super::App;
use super::error::Error;
use super::event::{EventNotice, notice};
use super::webhook::read;
use crate::base::egress::{Incoming, Outgoing};
use crate::base::id::{DeliveryId, WebhookId};
use crate::base::random;
use crate::base::secret::SecretBytes;
use crate::base::time::{Timestamp, Ttl};
use crate::httpsig::{self, KeyFile, Parts};
use crate::model::webhook::{Delivery, DeliveryState, Webhook, WebhookFormat};
use crate::store::Engine;
use crate::store::events::{EventFilter, EventRow};

/// How long one holder keeps a webhook without saying so again: longer than any try takes.
pub(super) const HOLD: Ttl = Ttl::from_secs(60);

/// Time for one try.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The longest answer that is read; nothing of it is kept.
const MAX_ANSWER: usize = 64 * 1024;

/// Seconds between the tries: ten in about three days, as Standard Webhooks proposes.
const SCHEDULE: [i64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// The longest wait a receiver may ask for.
const LONGEST_WAIT: i64 = 86_400;

/// Events taken from the log at a time.
const BATCH: i64 = 500;

/// The key that signs for all webhooks of the instance. Derived: it needs no row, and changes never.
pub(super) fn key(app: &App) -> Result<KeyFile, Error> {
    KeyFile::from_seed(&app.vault.derive("webhook-signing-key")?).map_err(Error::internal)
}

/// A version of a webhook's shared secret.
pub(super) fn secret(app: &App, id: WebhookId, version: i64) -> Result<SecretBytes, Error> {
    Ok(app.vault.derive(&format!("webhook-secret/{id}/{version}"))?)
}

/// Webhooks that this process may have something to do for, with the last event that was queued for each and whether
/// a delivery is due.
///
/// # Errors
/// The store's.
pub async fn work(app: &App) -> Result<Vec<(WebhookId, i64, bool)>, Error> {
    let mut tx = app.store.read().await?;
    let work = tx.webhook_work(app.process(), free(app), app.now()).await?;
    Ok(work
        .into_iter()
        .map(|work| (work.webhook, work.cursor, work.due))
        .collect())
}

/// Holders of before this are gone. A SQLite database has one process, so whoever held before was another life of it.
fn free(app: &App) -> Timestamp {
    match app.store.engine() {
        Engine::Sqlite => Timestamp::from_millis(i64::MAX),
        Engine::Postgres => app.now(),
    }
}

/// Sends all that is due for a webhook, and what the log holds after event `seen` (or after its cursor). Answers up to
/// which event the log was looked through.
///
/// # Errors
/// The store's; [`Error::Sealed`].
pub async fn lane(app: &App, id: WebhookId, seen: i64) -> Result<i64, Error> {
    let mut looked = seen;
    loop {
        let mut tx = app.store.read().await?;
        let due = tx.deliveries_due(id, app.now(), 1).await?;
        drop(tx);
        let webhook = match read(app, id).await {
            Ok(webhook) if webhook.enabled => webhook,
            Ok(_) | Err(Error::NotFound(_) | Error::Forged(_)) => return Ok(looked),
            Err(error) => return Err(error),
        };
        if let Some(delivery) = due.into_iter().next() {
            if !hold(app, id).await? {
                return Ok(looked);
            }
            attempt(app, &webhook, delivery).await?;
            continue;
        }
        match take(app, &webhook, looked).await? {
            Taken::All(end) => return Ok(end),
            Taken::Some(end) => looked = end,
            Taken::Held => return Ok(looked),
        }
    }
}

async fn hold(app: &App, id: WebhookId) -> Result<bool, Error> {
    let mut tx = app.store.begin().await?;
    let held = tx
        .hold_webhook(id, app.process(), free(app), app.now().plus(HOLD))
        .await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(held)
}

enum Taken {
    /// Nothing more for this webhook up to here.
    All(i64),
    /// There may be more.
    Some(i64),
    /// Another instance is at it.
    Held,
}

/// Queues what the log holds for a webhook after `seen`. Looking costs no write.
async fn take(app: &App, webhook: &Webhook, seen: i64) -> Result<Taken, Error> {
    let mut tx = app.store.read().await?;
    let cursor = tx.webhook_cursor(webhook.id).await?.unwrap_or(i64::MAX).max(seen);
    let filter = EventFilter {
        after_n: Some(cursor),
        kind_prefix: webhook.types.prefix().map(str::to_owned),
        ..EventFilter::default()
    };
    let rows = tx.events(&filter, BATCH).await?;
    let (head, _) = tx.chain_head().await?;
    tx.end().await?;
    let whole = i64::try_from(rows.len()).unwrap_or(i64::MAX) < BATCH;
    let end = rows
        .last()
        .filter(|_| !whole)
        .map_or_else(|| head.max(cursor), |row| row.n);
    let mut wanted = Vec::new();
    for row in &rows {
        let told = notice(row)?;
        if concerns(webhook, &told) {
            wanted.push(delivery(app, webhook.id, row, told.kind));
        }
    }
    if wanted.is_empty() && whole {
        return Ok(Taken::All(end));
    }
    let mut tx = app.store.begin().await?;
    let until = app.now().plus(HOLD);
    if !tx.hold_webhook(webhook.id, app.process(), free(app), until).await? {
        return Ok(Taken::Held);
    }
    for delivery in &wanted {
        tx.insert_delivery(delivery).await?;
    }
    tx.move_webhook(webhook.id, end).await?;
    let _none = tx.commit(&[], &[]).await?;
    Ok(Taken::Some(end))
}

/// A ping is for the webhook it was asked for.
fn concerns(webhook: &Webhook, told: &EventNotice) -> bool {
    let id = webhook.id.to_string();
    if told.kind == "ping" {
        return told.data.get("id").and_then(Value::as_str) == Some(id.as_str());
    }
    webhook.types.contains(&told.kind)
}

fn delivery(app: &App, webhook: WebhookId, row: &EventRow, kind: String) -> Delivery {
    let now = app.now();
    Delivery {
        id: DeliveryId::new(now, app.random.as_ref()),
        webhook,
        event: row.id,
        n: row.n,
        kind,
        replay: false,
        state: DeliveryState::Pending,
        attempts: 0,
        next_at: Some(now),
        status: None,
        error: None,
        created: now,
    }
}

/// What a try came to.
enum Outcome {
    Delivered(u16),
    /// The receiver wants no more.
    Gone,
    Failed {
        status: Option<u16>,
        why: String,
        wait: Option<i64>,
    },
}

/// Tries a delivery once and puts on record what became of it.
///
/// # Errors
/// The store's; [`Error::Sealed`].
pub(super) async fn attempt(app: &App, webhook: &Webhook, delivery: Delivery) -> Result<Delivery, Error> {
    let outcome = match outgoing(app, webhook, &delivery).await {
        Ok(outgoing) => match app.egress.send(outgoing).await {
            Ok(answer) => judge(&answer),
            Err(error) => failed(&error),
        },
        // Somebody took the event out of the log, which verifying it shows; what is behind it is told all the same.
        Err(Error::NotFound(what)) => failed(&format!("there is no such {what}")),
        Err(error) => return Err(error),
    };
    record(app, webhook, delivery, outcome).await
}

fn judge(answer: &Incoming) -> Outcome {
    let wait = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    match answer.status {
        status @ 200..=299 => Outcome::Delivered(status),
        410 => Outcome::Gone,
        status => Outcome::Failed {
            status: Some(status),
            why: match status {
                300..=399 => format!("it answered {status}; redirects are not followed"),
                _ => format!("it answered {status}"),
            },
            wait: wait.and_then(|seconds| seconds.trim().parse().ok()),
        },
    }
}

fn failed(why: &impl ToString) -> Outcome {
    Outcome::Failed {
        status: None,
        why: why.to_string(),
        wait: None,
    }
}

async fn record(app: &App, webhook: &Webhook, mut delivery: Delivery, outcome: Outcome) -> Result<Delivery, Error> {
    delivery.attempts = delivery.attempts.saturating_add(1);
    delivery.next_at = None;
    delivery.error = None;
    let mut disable = None;
    match outcome {
        Outcome::Delivered(status) => {
            delivery.state = DeliveryState::Delivered;
            delivery.status = Some(i64::from(status));
        }
        Outcome::Gone => {
            delivery.state = DeliveryState::Failed;
            delivery.status = Some(410);
            delivery.error = Some("it answered 410: it wants no more".to_owned());
            disable = Some("the receiver answered 410");
        }
        Outcome::Failed { status, why, wait } => {
            delivery.status = status.map(i64::from);
            delivery.error = Some(why);
            delivery.next_at = next(app, delivery.attempts, wait);
            if delivery.next_at.is_none() {
                delivery.state = DeliveryState::Failed;
                disable = Some("nothing arrived for three days");
            }
        }
    }
    let mut tx = app.store.begin().await?;
    tx.update_delivery(&delivery).await?;
    let mut events = Vec::new();
    if let Some(why) = disable
        && (delivery.status == Some(410) || !tx.delivered_since(webhook.id, delivery.created).await?)
        && let Some(stored) = tx.webhook(webhook.id).await?
    {
        let mut row: Webhook = app.vault.authenticate(stored).map_err(|_| Error::Forged("webhook"))?;
        if row.enabled {
            row.enabled = false;
            tx.update_webhook(&app.stored(row)?).await?;
            tx.fail_deliveries(webhook.id, "the webhook was disabled").await?;
            let data = json!({ "webhook": webhook.id, "reason": why, "delivery": delivery.id });
            events.push(app.own_event("webhook.disabled", &webhook.id, data));
            tracing::error!(webhook = %webhook.id, why, "a webhook was disabled: nobody is told over it any more");
        }
    }
    let _held = tx
        .hold_webhook(webhook.id, app.process(), free(app), app.now().plus(HOLD))
        .await?;
    let _none = tx.commit(&events, &[]).await?;
    Ok(delivery)
}

/// When to try again after so many tries; `None` when that were enough. A tenth more or less, so that receivers that
/// came back are not met by everybody at once.
fn next(app: &App, attempts: i64, asked: Option<i64>) -> Option<Timestamp> {
    let place = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let planned = *SCHEDULE.get(place)?;
    let [byte] = random::bytes::<1>(app.random.as_ref());
    let percent = 90 + i64::from(byte) % 21;
    let jittered = planned.saturating_mul(1000).saturating_mul(percent) / 100;
    let asked = asked.unwrap_or(0).clamp(0, LONGEST_WAIT).saturating_mul(1000);
    Some(app.now().plus(Ttl::from_millis(jittered.max(asked))))
}

/// The request of one try, signed now in all three ways.
async fn outgoing(app: &App, webhook: &Webhook, delivery: &Delivery) -> Result<Outgoing, Error> {
    let mut tx = app.store.read().await?;
    let row = tx.event(delivery.event).await?.ok_or(Error::NotFound("event"))?;
    drop(tx);
    signed(app, webhook, delivery, &notice(&row)?)
}

fn signed(app: &App, webhook: &Webhook, delivery: &Delivery, told: &EventNotice) -> Result<Outgoing, Error> {
    let now = app.now();
    let body = body(webhook.format, told)?;
    let url: Url = webhook.url.parse().map_err(Error::internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (id, key) = (told.id.to_string(), key(app)?);
    let mut signatures = vec![code(app, webhook, webhook.secret_version, &id, now, &body)?];
    if webhook.previous_until.is_some_and(|until| until > now) {
        let before = webhook.secret_version.saturating_sub(1);
        signatures.push(code(app, webhook, before, &id, now, &body)?);
    }
    signatures.push(httpsig::webhook_signature(&key, &id, now, &body));
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", now.as_secs().to_string()),
        ("webhook-signature", signatures.join(" ")),
    ] {
        let value = HeaderValue::from_str(&value).map_err(Error::internal)?;
        headers.insert(HeaderName::from_static(name), value);
    }
    let host = url.host_str().unwrap_or_default();
    let parts = Parts {
        method: "POST",
        scheme: url.scheme(),
        authority: &url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        path: url.path(),
        query: url.query(),
        headers: &headers,
        body: &body,
    };
    let nonce = format!("{}-{}", delivery.id, delivery.attempts);
    let fields = httpsig::sign(&key, &parts, now, &nonce).map_err(Error::internal)?;
    fields.put(&mut headers);
    let mut outgoing = Outgoing::new(Method::POST, url);
    outgoing.headers = headers;
    outgoing.body = body;
    outgoing.timeout = PATIENCE;
    outgoing.max_body = MAX_ANSWER;
    Ok(outgoing)
}

fn code(app: &App, webhook: &Webhook, version: i64, id: &str, at: Timestamp, body: &[u8]) -> Result<String, Error> {
    let secret = secret(app, webhook.id, version)?;
    httpsig::webhook_code(&secret, id, at, body).map_err(Error::internal)
}

fn body(format: WebhookFormat, told: &EventNotice) -> Result<Vec<u8>, Error> {
    match format {
        WebhookFormat::Event => serde_json::to_vec(told).map_err(Error::internal),
        WebhookFormat::Slack => Ok(json!({ "text": sentence(told) }).to_string().into_bytes()),
    }
}

/// Facts worth a word in a chat, in this order.
const SAID: [&str; 12] = [
    "vendor", "policy", "summary", "reason", "by", "grant", "lease", "budget", "used", "limit", "state", "error",
];

/// One line for people: `*approval.requested* apr_… policy demo-readers, reason nightly`.
fn sentence(told: &EventNotice) -> String {
    let fact = |name: &&str| {
        let value = told.data.get(*name)?.as_str()?;
        (!value.is_empty()).then(|| format!("{name} {}", plain(value)))
    };
    let facts: Vec<String> = SAID.iter().filter_map(fact).collect();
    let id = told.data.get("id").and_then(Value::as_str).unwrap_or_default();
    format!("*{}* {} {}", told.kind, plain(id), facts.join(", "))
        .trim_end()
        .to_owned()
}

/// Nothing that Slack would take for a link, a mention or another's formatting.
fn plain(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    short
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace(['*', '~', '`', '\n', '\r'], " ")
}

/// Signs what is to be told of event `n` (a sealing) before the keys are dropped, and sends it afterwards. What does
/// not arrive now is sent again once the vault is open.
///
/// # Errors
/// The store's, the vault's.
pub(super) async fn last_words(app: &App, n: i64) -> Result<Vec<(Delivery, Outgoing)>, Error> {
    let mut tx = app.store.read().await?;
    let rows = tx.chain(n, 1).await?;
    let work = tx.webhooks(&crate::store::Page::first(BATCH)).await?;
    drop(tx);
    let Some(row) = rows.first() else { return Ok(Vec::new()) };
    let told = notice(row)?;
    let mut words = Vec::new();
    for stored in work {
        // One that was forged is raised, and keeps nothing from the others.
        let Ok(webhook) = app.authentic("webhook", stored).await else {
            continue;
        };
        if webhook.enabled && concerns(&webhook, &told) {
            let delivery = delivery(app, webhook.id, row, told.kind.clone());
            let outgoing = signed(app, &webhook, &delivery, &told)?;
            words.push((delivery, outgoing));
        }
    }
    Ok(words)
}

/// Sends what was signed before the keys were dropped; what arrives is on record as delivered.
pub(super) fn send_last_words(app: &App, words: Vec<(Delivery, Outgoing)>) {
    for (mut delivery, outgoing) in words {
        let app = app.clone();
        tokio::spawn(async move {
            let Ok(answer) = app.egress.send(outgoing).await else {
                return;
            };
            if !(200..300).contains(&answer.status) {
                return;
            }
            delivery.state = DeliveryState::Delivered;
            delivery.attempts = 1;
            delivery.next_at = None;
            delivery.status = Some(i64::from(answer.status));
            if let Ok(mut tx) = app.store.begin().await
                && tx.insert_delivery(&delivery).await.is_ok()
            {
                let _kept = tx.commit(&[], &[]).await;
            }
        });
    }
}
