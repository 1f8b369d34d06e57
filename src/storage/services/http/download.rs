//! [`Download`]: the bytes of an answer, as they come in.

use super::failure::{self, Failure};
use crate::storage::ErrorKind;
use bytes::Bytes;
use futures_util::Stream;
use opendal::Buffer;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use sync_wrapper::SyncWrapper;
use tokio::time::{Instant, Sleep};

type Pieces = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// The bytes of an answer, or a part of them. Ends with an error where none comes for too long.
pub struct Download {
    pieces: SyncWrapper<Pieces>,
    timeout: Duration,
    alarm: Pin<Box<Sleep>>,
    skipped: u64,
    left: Option<u64>,
    /// Bytes that may still come; more are none that were asked for.
    limit: Option<u64>,
}

impl Download {
    pub fn new(
        pieces: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
        timeout: Duration,
    ) -> Self {
        let pieces = SyncWrapper::new(Box::pin(pieces) as Pieces);
        let alarm = Box::pin(tokio::time::sleep(timeout));
        Self { pieces, timeout, alarm, skipped: 0, left: None, limit: None }
    }

    /// Leaves out the first bytes, and ends after `length` more, if that is named.
    pub fn part(self, skipped: u64, length: Option<u64>) -> Self {
        Self { skipped, left: length, ..self }
    }

    /// Ends with an error where more bytes are handed out.
    pub fn up_to(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    /// Returns what is wanted of a piece.
    fn cut(&mut self, mut piece: Bytes) -> Bytes {
        let skipped = usize::try_from(self.skipped).unwrap_or(usize::MAX).min(piece.len());
        self.skipped -= skipped as u64;
        let mut piece = piece.split_off(skipped);
        if let Some(left) = &mut self.left {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
        }
        piece
    }
}

impl Stream for Download {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.left == Some(0) {
                return Poll::Ready(None);
            }
            match self.pieces.get_mut().as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    let deadline = Instant::now() + self.timeout;
                    self.alarm.as_mut().reset(deadline);
                    let piece = self.cut(piece);
                    if let Some(limit) = &mut self.limit {
                        match limit.checked_sub(piece.len() as u64) {
                            Some(left) => *limit = left,
                            None => {
                                let cause = "the server's answer is longer than it can be";
                                let failure = Failure::new(ErrorKind::Other, cause);
                                return Poll::Ready(Some(Err(failure.into())));
                            }
                        }
                    }
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Buffer::from(piece))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Failure::from(error).into())));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    std::task::ready!(self.alarm.as_mut().poll(context));
                    let error = failure::no_answer(self.timeout).into();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
