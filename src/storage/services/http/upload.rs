//! [`Upload`]: the bytes of a request; [`Progress`] knows when the last of them went out.

use crate::storage::Pace;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use opendal::Buffer;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Bytes handed to the connection at once.
const PIECE: usize = 64 << 10;

/// When something happened last. Clones share it.
#[derive(Clone)]
pub struct Progress {
    begun: Instant,
    /// Milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }
}

impl Progress {
    fn note(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Relaxed);
    }

    /// Returns when nothing has happened for so long.
    pub async fn stalled(&self, timeout: Duration) {
        loop {
            let quiet =
                self.begun.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)));
            match timeout.checked_sub(quiet).filter(|left| !left.is_zero()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }
}

/// The bytes of a request, of which the connection takes as many as it can send.
pub struct Upload {
    left: Buffer,
    progress: Progress,
    pace: Pace,
    /// Until the next piece may go.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Upload {
    pub fn new(bytes: Buffer, progress: Progress, pace: Pace) -> Self {
        Self { left: bytes, progress, pace, pause: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.progress.note();
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.pace.piece(self.left.len().min(PIECE));
        if self.pause.is_none() && self.pace.is_limited() {
            let pause = self.pace.reserve(count);
            self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let piece = self.left.slice(..count).to_bytes();
        self.left = self.left.slice(count..);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
