//! A vendor's answer on its way to the caller: unpacked where the vendor packed it unasked, scrubbed, cut when the
//! grant ends. Nothing is gathered; what is held is bounded.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::needle::Needles;
use super::scrub::Scrubber;
use crate::base::egress::BodyError;

/// How much packed input is unpacked at a time: at 1:1000, a megabyte.
const PACKED: usize = 1024;

/// How the vendor packed its answer.
pub(super) enum Packing {
    None,
    Gzip,
    Deflate,
}

impl Packing {
    /// What `content-encoding` says; `None` for what cannot be read here.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(http::header::CONTENT_ENCODING).iter();
        let Some(first) = given.next() else {
            return Some(Self::None);
        };
        let word = first.to_str().ok()?.trim().to_ascii_lowercase();
        match (word.as_str(), given.next()) {
            ("identity" | "", None) => Some(Self::None),
            ("gzip" | "x-gzip", None) => Some(Self::Gzip),
            ("deflate", None) => Some(Self::Deflate),
            _ => None,
        }
    }
}

enum Unpacker {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Unpacker {
    fn push(&mut self, piece: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(piece)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    fn end(&mut self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

/// What tells the log that a key came back.
pub(super) type Report = Box<dyn FnMut(&'static str) + Send>;

/// What a download needs beside the body.
pub(super) struct Watch {
    pub(super) needles: Arc<Needles>,
    /// Completes when the answer must end.
    pub(super) ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The longest wait for a piece.
    pub(super) idle: Duration,
    /// Called once, when a key was found.
    pub(super) report: Report,
}

/// The body for the caller.
pub(super) struct Download<B> {
    body: B,
    scrubber: Scrubber,
    unpacker: Option<Unpacker>,
    /// Packed input that waits.
    packed: Bytes,
    watch: Watch,
    patience: Pin<Box<Sleep>>,
    trailers: Option<HeaderMap>,
    state: State,
    reported: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum State {
    Flowing,
    /// The vendor is done; trailers may follow.
    Drained,
    Over,
}

impl<B> Download<B> {
    pub(super) fn new(body: B, packing: &Packing, watch: Watch) -> Self {
        let unpacker = match packing {
            Packing::None => None,
            Packing::Gzip => Some(Unpacker::Gzip(MultiGzDecoder::new(Vec::new()))),
            Packing::Deflate => Some(Unpacker::Deflate(ZlibDecoder::new(Vec::new()))),
        };
        Self {
            body,
            scrubber: Scrubber::new(Arc::clone(&watch.needles)),
            unpacker,
            packed: Bytes::new(),
            patience: Box::pin(tokio::time::sleep(watch.idle)),
            watch,
            trailers: None,
            state: State::Flowing,
            reported: false,
        }
    }

    fn tell(&mut self, hits: usize, place: &'static str) {
        if hits > 0 && !self.reported {
            self.reported = true;
            (self.watch.report)(place);
        }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Download<B> {
    /// The next bytes for the caller; `None` when the vendor is done and all is handed on.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, BodyError>>> {
        loop {
            if !self.packed.is_empty() {
                let piece = self.packed.split_to(self.packed.len().min(PACKED));
                let plain = self.unpacker.as_mut().map(|unpacker| unpacker.push(&piece)).transpose();
                let plain = plain.map_err(|_| BodyError::from("the answer cannot be unpacked"))?;
                return Poll::Ready(Some(Ok(self.scrubber.push(&plain.unwrap_or_default()))));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending if self.patience.as_mut().poll(context).is_ready() => {
                    return Poll::Ready(Some(Err("the answer does not go on".into())));
                }
                other => ready!(other),
            };
            self.patience.as_mut().reset(Instant::now() + self.watch.idle);
            match frame {
                None => return Poll::Ready(self.drained().transpose()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.unpacker.is_some() => self.packed = data,
                    Ok(data) => return Poll::Ready(Some(Ok(self.scrubber.push(&data)))),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    /// What was still held when the vendor was done.
    fn drained(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.state != State::Flowing {
            return Ok(None);
        }
        self.state = State::Drained;
        let rest = self.unpacker.as_mut().map(Unpacker::end).transpose();
        let rest = rest.map_err(|_| BodyError::from("the answer cannot be unpacked"))?;
        let mut last = self.scrubber.push(&rest.unwrap_or_default());
        last.extend(self.scrubber.end());
        Ok(Some(last))
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Download<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.state == State::Over {
            return Poll::Ready(None);
        }
        if this.watch.ended.as_mut().poll(context).is_ready() {
            this.state = State::Over;
            return Poll::Ready(Some(Err("the grant ended".into())));
        }
        loop {
            let next = if this.state == State::Drained {
                None
            } else {
                ready!(this.next(context))
            };
            match next {
                Some(Ok(bytes)) => {
                    this.tell(this.scrubber.hits(), "body");
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
                    }
                }
                Some(Err(error)) => {
                    this.state = State::Over;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.state = State::Over;
                    let Some(mut trailers) = this.trailers.take() else {
                        return Poll::Ready(None);
                    };
                    let hits = scrub_fields(&this.watch.needles, &mut trailers);
                    this.tell(hits, "trailers");
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
            }
        }
    }

    /// Masking keeps the length.
    fn size_hint(&self) -> SizeHint {
        if self.unpacker.is_some() {
            SizeHint::default()
        } else {
            self.body.size_hint()
        }
    }
}

/// Masks keys in the values of header fields; fields whose name holds one are dropped. Answers how many there were.
pub(super) fn scrub_fields(needles: &Arc<Needles>, fields: &mut HeaderMap) -> usize {
    let mut hits = 0;
    let mut named = Vec::new();
    for (name, value) in fields.iter_mut() {
        if !needles.find(name.as_str().as_bytes()).is_empty() {
            named.push(name.clone());
        }
        let mut scrubber = Scrubber::new(Arc::clone(needles));
        let mut clean = scrubber.push(value.as_bytes());
        clean.extend(scrubber.end());
        if scrubber.hits() > 0 {
            hits += scrubber.hits();
            *value = http::HeaderValue::from_bytes(&clean).unwrap_or_else(|_| http::HeaderValue::from_static("***"));
        }
    }
    for name in named {
        hits += 1;
        fields.remove(name);
    }
    hits
}
