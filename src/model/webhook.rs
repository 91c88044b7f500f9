//! Webhooks: who is told of events over HTTP, and what became of each telling.

use serde::{Deserialize, Serialize};

use super::control::Control;
use super::event::EventTypes;
use crate::base::canonical::Canonical;
use crate::base::id::{DeliveryId, EventId, WebhookId};
use crate::base::time::Timestamp;

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// The event as JSON.
    Event,
    /// One sentence as `{"text": …}`, which Slack's and others' incoming webhooks take.
    Slack,
}

impl WebhookFormat {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Slack => "slack",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Event, Self::Slack]
            .into_iter()
            .find(|format| format.as_str() == text)
    }
}

/// Whom to tell, of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The id.
    pub id: WebhookId,
    /// Where to. May itself be a secret, as Slack's addresses are.
    pub url: String,
    /// Of which events.
    pub types: EventTypes,
    /// How the body is written.
    pub format: WebhookFormat,
    /// What it is for, in somebody's words.
    pub description: String,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Which secret signs, from 1. The secret itself is derived from the vault's root key.
    pub secret_version: i64,
    /// Until when the version before signs too.
    pub previous_until: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
}

impl Control for Webhook {
    fn canonical(&self) -> Canonical {
        Canonical::new("dekeys.webhook.v1")
            .text(&self.id.to_string())
            .text(&self.url)
            .list(self.types.as_slice().iter())
            .text(self.format.as_str())
            .text(&self.description)
            .int(i64::from(self.enabled))
            .int(self.secret_version)
            .int(self.previous_until.map_or(0, Timestamp::as_millis))
            .int(self.created.as_millis())
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be sent, or sent again.
    Pending,
    /// The receiver answered 2xx.
    Delivered,
    /// Given up.
    Failed,
}

impl DeliveryState {
    /// The word stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One event for one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The id.
    pub id: DeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
    /// The event's place in the log.
    pub n: i64,
    /// What happened.
    pub kind: String,
    /// Somebody asked for it again; the log asks for each event once.
    pub replay: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When to try next.
    pub next_at: Option<Timestamp>,
    /// The status of the last answer.
    pub status: Option<i64>,
    /// Why the last try failed, in our words.
    pub error: Option<String>,
    /// When it was queued.
    pub created: Timestamp,
}
