//! Event streams from the reader's side (WHATWG HTML, section 9.2): messages out of an answer that goes on.

use std::time::Duration;

use reqwest::Response;

use super::request::Request;
use super::send::{Client, ClientError};

/// The longest message that is read.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The server says something every 15 seconds. After three times that long it is taken to be gone.
const SILENCE: Duration = Duration::from_secs(45);

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// What to send as `Last-Event-ID` to go on after this message.
    pub id: String,
    /// What happened.
    pub event: String,
    /// The text.
    pub data: String,
}

/// An open event stream.
pub struct EventStream {
    answer: Response,
    reader: Reader,
}

impl Client {
    /// Opens an event stream; `last` is the id of the last message that was had.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn events(&self, request: Request, last: Option<&str>) -> Result<EventStream, ClientError> {
        let mut request = request.header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Ok(EventStream {
            answer: self.open(&request).await?,
            reader: Reader::default(),
        })
    }
}

impl EventStream {
    /// The next message; `None` when the stream ended, broke, or was silent for too long. Open it again after a while.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.reader.message() {
                return Some(message);
            }
            let chunk = tokio::time::timeout(SILENCE, self.answer.chunk()).await;
            let chunk = chunk.ok()?.ok()??;
            self.reader.take(&chunk)?;
        }
    }
}

/// Takes bytes, gives messages.
#[derive(Default)]
struct Reader {
    rest: Vec<u8>,
    open: Message,
    told: bool,
    ready: std::collections::VecDeque<Message>,
}

impl Reader {
    fn message(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// `None` when a line or message is longer than any of ours.
    fn take(&mut self, chunk: &[u8]) -> Option<()> {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        }
        (self.rest.len() + self.open.data.len() <= MAX_MESSAGE).then_some(())
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            if std::mem::take(&mut self.told) {
                let id = self.open.id.clone();
                let message = std::mem::replace(
                    &mut self.open,
                    Message {
                        id,
                        ..Message::default()
                    },
                );
                self.ready.push_back(message);
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => value.clone_into(&mut self.open.id),
            "event" => value.clone_into(&mut self.open.event),
            "data" => {
                if std::mem::replace(&mut self.told, true) {
                    self.open.data.push('\n');
                }
                self.open.data.push_str(value);
            }
            // Comments, and when to come back: three seconds, which is what our clients wait anyway.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whole_however_they_are_cut() {
        let text = "retry: 3000\n\n:\n\nid: evt_1\r\nevent: lease.created\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata: x\n\ndata: cut";
        for size in [1, 2, 7, text.len()] {
            let mut reader = Reader::default();
            for chunk in text.as_bytes().chunks(size) {
                reader.take(chunk).unwrap();
            }
            let first = reader.message().unwrap();
            assert_eq!((first.id.as_str(), first.event.as_str()), ("evt_1", "lease.created"));
            assert_eq!(first.data, "{\"a\":\n1}");
            let second = reader.message().unwrap();
            assert_eq!(
                (second.id.as_str(), second.data.as_str()),
                ("evt_1", "x"),
                "an id stays until there is another"
            );
            assert_eq!(reader.message(), None, "what is cut off is no message");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut reader = Reader::default();
        assert!(reader.take(&vec![b'x'; MAX_MESSAGE + 1]).is_none());
    }
}
