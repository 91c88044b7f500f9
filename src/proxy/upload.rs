//! A caller's body on its way to the vendor. It is not gathered: each piece goes on when the next one has come, so that
//! the last piece of a signed body leaves only once the whole is known to be what was signed.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, Sleep};

use crate::base::egress::BodyError;

/// A body that flows to the vendor. Trailers of the caller are not sent: nothing in them was checked.
pub(super) struct Upload {
    body: Mutex<axum::body::Body>,
    digest: Option<Signed>,
    idle: Duration,
    patience: Pin<Box<Sleep>>,
    ended: bool,
}

struct Signed {
    wanted: [u8; 32],
    hasher: Sha256,
    held: Option<Bytes>,
}

impl Upload {
    /// `digest` is the SHA-256 that the caller signed; `idle` the longest wait for a piece.
    pub(super) fn new(body: axum::body::Body, digest: Option<[u8; 32]>, idle: Duration) -> Self {
        let signed = |wanted| Signed {
            wanted,
            hasher: Sha256::new(),
            held: None,
        };
        Self {
            body: Mutex::new(body),
            digest: digest.map(signed),
            idle,
            patience: Box::pin(tokio::time::sleep(idle)),
            ended: false,
        }
    }

    /// The next piece of the caller's body, within the time for it.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let body = self.body.get_mut().map_err(|_| BodyError::from("the body is broken"))?;
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.patience.as_mut().reset(Instant::now() + self.idle);
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err("the caller's body ended early".into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.patience.as_mut().poll(context).is_ready() => {
                    return Poll::Ready(Some(Err("the caller's body does not come".into())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let next = std::task::ready!(this.next(context)).transpose()?;
            let Some(signed) = &mut this.digest else {
                this.ended = next.is_none();
                return Poll::Ready(next.map(|data| Ok(Frame::data(data))));
            };
            if let Some(data) = next {
                signed.hasher.update(&data);
                if let Some(before) = signed.held.replace(data) {
                    return Poll::Ready(Some(Ok(Frame::data(before))));
                }
                continue;
            }
            this.ended = true;
            if signed.hasher.clone().finalize().as_slice() != signed.wanted.as_slice() {
                return Poll::Ready(Some(Err("the body is not the one that was signed".into())));
            }
            return Poll::Ready(signed.held.take().map(|data| Ok(Frame::data(data))));
        }
    }

    /// Known lengths are sent on: some vendors take no chunked bodies.
    fn size_hint(&self) -> SizeHint {
        self.body.lock().map(|body| body.size_hint()).unwrap_or_default()
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
