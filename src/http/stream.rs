//! Answers that go on: server-sent events (WHATWG HTML, section 9.2). A stream ends by itself when the server ends, when
//! the vault is sealed, and when its caller's right to it ends; clients come back after three seconds and say with
//! `Last-Event-ID` how far they got.
//!
//! A stream is pulled by its reader: who reads slowly holds up nobody and piles up nothing here.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};

use super::answer::{Answer, Refused};
use crate::service::App;
use crate::service::caller::Context;
use crate::service::flow;

/// The content type of an event stream.
pub const EVENT_STREAM: &str = "text/event-stream";

/// How often a stream without news says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a client waits before it comes back.
const RETRY: Duration = Duration::from_secs(3);

/// One message of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where the stream goes on after this message; comes back as `Last-Event-ID`. No line breaks.
    pub id: String,
    /// What happened: `lease.created`. No line breaks.
    pub event: String,
    /// The text, usually JSON.
    pub data: String,
}

impl Message {
    fn write(self) -> Event {
        // A line break would begin another field.
        let line = |text: String| text.replace(['\r', '\n', '\0'], " ");
        Event::default()
            .id(line(self.id))
            .event(line(self.event))
            .data(self.data)
    }
}

/// An event stream of `messages`, for as long as the caller may have them. The first thing sent says when to come back,
/// so the reader knows at once that it is connected.
///
/// # Errors
/// [`Error::Busy`](crate::service::error::Error::Busy) when too many streams are open, or too many of this caller.
pub fn events<S>(app: &App, context: &Context, messages: S) -> Result<Answer, Refused>
where
    S: Stream<Item = Message> + Send + 'static,
{
    let place = flow::place(app, context)?;
    let ends = flow::ends(app.clone(), context.clone());
    let first = stream::once(async { Event::default().retry(RETRY) });
    let told = first
        .chain(messages.map(Message::write))
        .take_until(ends)
        .map(move |event| {
            let _held = &place;
            Ok::<_, Infallible>(event)
        });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let body = Sse::new(told.boxed())
        .keep_alive(keep_alive)
        .into_response()
        .into_body();
    // Proxies that collect answers would hold the news back.
    Ok(Answer::flow(200, EVENT_STREAM, body).with("x-accel-buffering", "no"))
}
