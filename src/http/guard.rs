//! What a connection may say before anything else reads it, in HTTP/1 here, in HTTP/2 in `frames.rs`. A request whose end two servers could see in two
//! places (`Content-Length` beside `Transfer-Encoding`, two encodings) or whose target holds a fragment is answered with
//! 400, and the connection is closed (RFC 9112, 6.1 and 3.2). The HTTP library would take the first one's word and drop
//! the rest, so that nobody behind it could see that there was a question.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frames::Frames;

/// The longest head that is looked at; the library refuses longer ones by itself.
const LONGEST: usize = 512 * 1024;

/// The answer to a request that is not read.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A connection whose requests are looked at on their way in.
pub(super) struct Guarded<S> {
    stream: S,
    framing: Framing,
    /// What is left to say before the connection is closed.
    farewell: Option<&'static [u8]>,
    /// How long the other side may take nothing of what is sent, and the clock of that while it takes nothing.
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) const fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            farewell: None,
            patience,
            stalled: None,
        }
    }

    /// What a write came to. Whoever takes nothing for too long holds memory for nothing, and is given up.
    fn sent(&mut self, context: &mut Context<'_>, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.farewell.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if this.framing.take(buffer.filled().get(before..).unwrap_or_default()) {
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
            // Words of HTTP/1 would be noise between frames of HTTP/2.
            this.farewell = Some(if this.framing.frames.is_some() { b"" } else { REFUSAL });
        }
        // Said here, since the library must not see the request; then the end of the connection.
        while let Some(left) = this.farewell.filter(|left| !left.is_empty()) {
            let Ok(count) = ready!(Pin::new(&mut this.stream).poll_write(context, left)) else {
                break;
            };
            this.farewell = left.get(count..);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.starts_with(b"HTTP/1.1 101") {
            // From here on it is another protocol.
            self.framing.state = State::Off;
        }
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(context, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bytes
            .iter()
            .find(|slice| !slice.is_empty())
            .is_some_and(|slice| slice.starts_with(b"HTTP/1.1 101"))
        {
            self.framing.state = State::Off;
        }
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.sent(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Where in the stream of requests we are.
struct Framing {
    state: State,
    line: Vec<u8>,
    frames: Option<Frames>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a head.
    Head,
    /// So many bytes of a body follow.
    Body(u64),
    /// A line with the size of a chunk.
    Size,
    /// A chunk, and the line end behind it.
    Chunk(u64),
    /// Lines after the last chunk.
    Trailers,
    /// HTTP/2: frames.
    Frames,
    /// Nothing is looked at: another protocol, or a head that the library refuses.
    Off,
}

impl Framing {
    const fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            frames: None,
        }
    }

    /// Takes the next bytes; `false` when the request must be refused.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.state {
                State::Off => return true,
                State::Frames => {
                    let frames = self.frames.get_or_insert_with(|| Frames::new(Instant::now()));
                    return frames.take(bytes, Instant::now);
                }
                State::Body(left) | State::Chunk(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(count..).unwrap_or_default();
                    let left = left - u64::try_from(count).unwrap_or(left);
                    self.state = match (self.state, left) {
                        (State::Body(_), 0) => State::Head,
                        (State::Chunk(_), 0) => State::Size,
                        (State::Body(_), left) => State::Body(left),
                        (_, left) => State::Chunk(left),
                    };
                }
                State::Head | State::Size | State::Trailers => {
                    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                    let (line, rest) = bytes.split_at(end);
                    self.line.extend_from_slice(line);
                    bytes = rest;
                    if self.line.len() > LONGEST {
                        self.state = State::Off;
                    } else if self.line.ends_with(b"\n") && !self.line_ended() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A line is complete; in a head, all lines so far stand in `self.line`.
    fn line_ended(&mut self) -> bool {
        match self.state {
            State::Head => {
                let text = self.line.as_slice();
                if matches!(text, b"\r\n" | b"\n") {
                    // Empty lines before a request are skipped (RFC 9112, 2.2).
                    self.line.clear();
                    return true;
                }
                if !(text.ends_with(b"\r\n\r\n") || text.ends_with(b"\n\n") || text.ends_with(b"\n\r\n")) {
                    return true;
                }
                let next = head(text);
                self.line.clear();
                self.state = next.unwrap_or(State::Off);
                next.is_some()
            }
            State::Size => {
                let size = size(&self.line);
                self.line.clear();
                self.state = match size {
                    Some(0) => State::Trailers,
                    Some(size) => State::Chunk(size.saturating_add(2)),
                    None => return false,
                };
                true
            }
            _ => {
                if matches!(self.line.as_slice(), b"\r\n" | b"\n") {
                    self.state = State::Head;
                }
                self.line.clear();
                true
            }
        }
    }
}

/// What follows a head; `None` for one that is refused.
fn head(text: &[u8]) -> Option<State> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let request = lines.next().unwrap_or_default();
    if request.starts_with(b"PRI * HTTP/2.0") {
        return Some(State::Frames);
    }
    if memchr(b'#', request).is_some() {
        return None;
    }
    let mut told = None;
    for line in lines {
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        let (name, value) = (name.trim_ascii(), value.get(1..).unwrap_or_default().trim_ascii());
        let said = if name.eq_ignore_ascii_case(b"content-length") {
            body(value)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            value.eq_ignore_ascii_case(b"chunked").then_some(State::Size)
        } else {
            continue;
        };
        // A second word is refused even if it is the same.
        if told.is_some() {
            return None;
        }
        told = Some(said?);
    }
    Some(told.unwrap_or(State::Head))
}

fn body(length: &[u8]) -> Option<State> {
    if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
    Some(if length == 0 { State::Head } else { State::Body(length) })
}

/// The size on a chunk's line; extensions are passed over.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let known = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| known)?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(stream: &str, piece: usize) -> bool {
        let mut framing = Framing::new();
        stream.as_bytes().chunks(piece).all(|bytes| framing.take(bytes))
    }

    #[test]
    fn requests_that_end_in_one_place_pass_one_after_another() {
        let stream = "GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n#\n\r\n#\
                      POST /b HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=#\r\nGET #\r\n0\r\nX: #\r\n\r\n\
                      GET /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        for piece in [1, 3, 10_000] {
            assert!(taken(stream, piece), "{piece}");
            assert!(!taken(&format!("{stream}GET /#x HTTP/1.1\r\n\r\n"), piece), "{piece}");
        }
    }

    #[test]
    fn what_ends_in_two_places_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "content-length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x5\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            for piece in [1, 10_000] {
                assert!(
                    !taken(&format!("POST / HTTP/1.1\r\n{fields}\r\nhello"), piece),
                    "{fields}"
                );
            }
        }
        assert!(!taken("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1));
    }

    #[test]
    fn http_2_is_no_request_of_http_1() {
        let frames = "\0\0\u{4}\0\0\0\0\0\u{1}#\n\r\n".repeat(1000);
        assert!(taken(&format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{frames}"), 7));
    }
}
