//! [`Source`]: the pipe section that every decoding step is, and [`Stored`], the first one.

use super::Cause;
use crate::storage::ReadAt;
use std::sync::Arc;

/// Bytes that are asked for in the reader's pace, without copying between the steps.
pub(super) trait Source: Send + Sync {
    /// Returns the bytes at hand, getting new ones when there are none; empty only at the end, and
    /// then at each further call.
    fn fill(&mut self) -> Result<&[u8], Cause>;

    /// Takes `count` of the bytes that [`fill`](Self::fill) returned last.
    fn consume(&mut self, count: usize);

    /// Takes one byte; `None` at the end.
    fn byte(&mut self) -> Result<Option<u8>, Cause> {
        let byte = self.fill()?.first().copied();
        self.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    /// Takes one byte that has to be there.
    fn needed(&mut self) -> Result<u8, Cause> {
        self.byte()?.ok_or(Cause::Truncated)
    }

    /// Fills `buffer`, or fails with [`Cause::Truncated`].
    fn fill_exactly(&mut self, mut buffer: &mut [u8]) -> Result<(), Cause> {
        while !buffer.is_empty() {
            let data = self.fill()?;
            let count = data.len().min(buffer.len());
            if count == 0 {
                return Err(Cause::Truncated);
            }
            buffer[..count].copy_from_slice(&data[..count]);
            buffer = &mut buffer[count..];
            self.consume(count);
        }
        Ok(())
    }

    /// Takes everything up to the end and forgets it.
    fn drain(&mut self) -> Result<(), Cause> {
        loop {
            let count = self.fill()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

impl Source for Box<dyn Stage> {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        (**self).fill()
    }

    fn consume(&mut self, count: usize) {
        (**self).consume(count);
    }
}

/// The last step: plain bytes, and the places from which it could be entered again.
pub(super) trait Stage: Source {
    /// Asks to stop at the first place fit for a seek point that is at least `distance` plain bytes
    /// ahead.
    fn aim(&mut self, _distance: u64) {}

    /// Returns the state of a seek point at the current place, `None` where there can be none.
    fn mark(&self) -> Result<Option<Vec<u8>>, Cause>;
}

/// How much a reader of the whole file asks for at once.
pub(super) const LONG: usize = 256 << 10;
/// How much a reader of a short range asks for at once, and aligned to it: the size of the chunks
/// that are hashed.
pub(super) const SHORT: usize = 64 << 10;

/// How much is asked for at once, at most, where it is known up to where bytes are needed.
const WINDOW: u64 = 4 << 20;

/// The stored bytes of a file from some offset on.
pub(super) struct Stored {
    file: Arc<dyn ReadAt>,
    buffer: Vec<u8>,
    position: usize,
    /// Offset in the file behind the last byte in the buffer.
    next: u64,
    stride: usize,
    /// Up to where bytes are surely needed: the first read goes so far.
    needed: u64,
}

impl Stored {
    /// Reads `file` from `offset` on, `stride` bytes at once, ends of reads at multiples of
    /// `stride`.
    pub fn new(file: Arc<dyn ReadAt>, offset: u64, stride: usize) -> Self {
        Self { file, buffer: Vec::new(), position: 0, next: offset, stride, needed: offset }
    }

    /// Reads `file` from `offset` on, in one go up to `end`, as far as that makes sense, and in
    /// short steps behind it.
    pub fn window(file: Arc<dyn ReadAt>, offset: u64, end: u64) -> Self {
        Self { needed: end.min(offset.saturating_add(WINDOW)), ..Self::new(file, offset, SHORT) }
    }

    /// Returns the file's offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.next - (self.buffer.len() - self.position) as u64
    }
}

impl Source for Stored {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        if self.position == self.buffer.len() {
            let left = self.file.size().saturating_sub(self.next);
            let step = (self.stride - (self.next % self.stride as u64) as usize)
                .max(self.needed.saturating_sub(self.next) as usize);
            let length = step.min(left.try_into().unwrap_or(usize::MAX));
            self.position = 0;
            self.buffer.resize(length, 0);
            let result = self.file.read_at(self.next, &mut self.buffer);
            self.buffer.truncate(*result.as_ref().unwrap_or(&0));
            if result? < length {
                self.buffer.clear();
                return Err(Cause::Truncated); // it has shrunk since it was listed
            }
            self.next += length as u64;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.buffer.len());
    }
}

/// A file without any encoding.
impl Stage for Stored {
    fn mark(&self) -> Result<Option<Vec<u8>>, Cause> {
        Ok(Some(super::state::plain()))
    }
}
