//! `WebSockets` (RFC 6455), where the manifest allows them: bytes both ways until one side ends or the grant does. What
//! the vendor sends is scrubbed frame by frame; a key cut over two frames is not found.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::download::Report;
use super::needle::Needles;
use super::scrub::Scrubber;
use crate::base::egress::Arriving;

/// Bytes read at a time.
const PIECE: usize = 16 * 1024;

/// Joins the caller's connection, once it has changed its protocol, with the vendor's.
pub(super) async fn join(
    caller: OnUpgrade,
    vendor: Arriving,
    needles: Arc<Needles>,
    ended: impl Future<Output = ()>,
    report: Report,
) {
    let (Ok(caller), Ok(vendor)) = (caller.await, vendor.upgrade().await) else {
        tracing::debug!("a WebSocket did not come about");
        return;
    };
    let (mut caller_reads, mut caller_writes) = tokio::io::split(TokioIo::new(caller));
    let (vendor_reads, mut vendor_writes) = tokio::io::split(vendor);
    let frames = Frames::new(needles, report);
    tokio::select! {
        () = ended => {}
        _ = tokio::io::copy(&mut caller_reads, &mut vendor_writes) => {}
        _ = frames.pass(vendor_reads, &mut caller_writes) => {}
    }
    // Both are closed by being dropped; a caller that was cut sees no close frame, and knows by that.
    let _closed = tokio::time::timeout(std::time::Duration::from_secs(1), caller_writes.shutdown()).await;
}

/// Follows the frames of a stream so far as to know where payloads begin and end.
struct Frames {
    scrubber: Scrubber,
    report: Report,
    reported: bool,
    head: Vec<u8>,
    /// Bytes of the payload under way that have still to come; `None` between frames.
    left: Option<u64>,
}

impl Frames {
    fn new(needles: Arc<Needles>, report: Report) -> Self {
        Self {
            scrubber: Scrubber::new(needles),
            report,
            reported: false,
            head: Vec::new(),
            left: None,
        }
    }

    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<()> {
        let mut piece = vec![0u8; PIECE];
        loop {
            let count = from.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            let out = self.push(piece.get(..count).unwrap_or_default());
            to.write_all(&out).await?;
            to.flush().await?;
        }
    }

    fn push(&mut self, mut piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len());
        while let Some((first, rest)) = piece.split_first() {
            let Some(left) = self.left else {
                self.head.push(*first);
                piece = rest;
                if let Some(length) = payload(&self.head) {
                    out.append(&mut self.head);
                    self.left = Some(length).filter(|length| *length > 0);
                }
                continue;
            };
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let (payload, rest) = piece.split_at(take);
            out.extend(self.scrubber.push(payload));
            piece = rest;
            let left = left - u64::try_from(take).unwrap_or(left);
            self.left = Some(left).filter(|left| *left > 0);
            if left == 0 {
                out.extend(self.scrubber.end());
            }
        }
        if self.scrubber.hits() > 0 && !self.reported {
            self.reported = true;
            (self.report)("frame");
        }
        out
    }
}

/// The length of the payload, once the head of the frame is complete.
fn payload(head: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = head else { return None };
    let masked = if second & 0x80 == 0 { 0 } else { 4 };
    let (bytes, length) = match second & 0x7F {
        126 => (2, number(rest.get(..2)?)),
        127 => (8, number(rest.get(..8)?)),
        small => (0, u64::from(small)),
    };
    (rest.len() >= bytes + masked).then_some(length)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pattern::Patterns;
    use crate::base::secret::SecretText;

    #[test]
    fn payloads_are_scrubbed_and_frames_stay_whole() {
        let key = "sk-test-0123456789abcdef";
        let text = format!("the key is {key}");
        let mut stream = vec![0x81, u8::try_from(text.len()).unwrap()];
        stream.extend(text.as_bytes());
        stream.extend([0x82, 126, 0x01, 0x2C]);
        stream.extend(vec![b's'; 300]);
        stream.extend([0x89, 0]);
        for size in [1, 5, 4096] {
            let needles = Arc::new(Needles::new(
                &[SecretText::new(key.to_owned())],
                Arc::new(Patterns::new(&[]).unwrap()),
            ));
            let mut frames = Frames::new(needles, Box::new(|_| {}));
            let out: Vec<u8> = stream.chunks(size).flat_map(|piece| frames.push(piece)).collect();
            let masked = text.replace(key, &"*".repeat(key.len()));
            assert_eq!(out.get(2..2 + masked.len()).unwrap(), masked.as_bytes());
            assert_eq!(out.len(), stream.len());
            assert_eq!(out.get(2 + masked.len()..), stream.get(2 + masked.len()..));
            assert!(frames.reported);
        }
    }
}
