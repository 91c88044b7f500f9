//! Events: every change is told to the log in the transaction that makes it.

use serde_json::Value;

use super::App;
use super::caller::Context;
use crate::base::id::EventId;
use crate::model::event::Event;

/// The actor of what dekeys does by itself.
pub const SELF: &str = "dekeys";

impl App {
    /// A new event about `object`, caused by the caller of `context`.
    #[must_use]
    pub fn event(&self, context: &Context, kind: &str, object: &impl ToString, data: Value) -> Event {
        let mut event = self.own_event(kind, object, data);
        event.actor = context.caller.actor();
        event.request_id = Some(context.request);
        event
    }

    /// A new event about `object`, caused by dekeys itself: a timer, a recovery.
    #[must_use]
    pub fn own_event(&self, kind: &str, object: &impl ToString, mut data: Value) -> Event {
        let now = self.now();
        if self.instance.solo
            && let Some(fields) = data.as_object_mut()
        {
            fields.insert("solo".to_owned(), Value::Bool(true));
        }
        Event {
            id: EventId::new(now, self.random.as_ref()),
            kind: kind.to_owned(),
            timestamp: now,
            livemode: self.livemode(),
            actor: SELF.to_owned(),
            object: object.to_string(),
            data,
            request_id: None,
        }
    }
}
