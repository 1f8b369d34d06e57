//! [`Source`]: the pipe section that every decoding step is, and [`Stored`], the first one.

use super::Cause;
use crate::storage::{self, ByteStream, ReadAt};
use parking_lot::Mutex;
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
    /// Where bytes come from when the rest of the file is wanted.
    stream: Stream,
    buffer: Vec<u8>,
    position: usize,
    /// Offset in the file behind the last byte in the buffer.
    next: u64,
    stride: usize,
    /// Up to where bytes are surely needed: the first read goes so far.
    needed: u64,
}

/// The one request for the rest of a file.
enum Stream {
    /// Not made yet.
    Wanted,
    /// Under way.
    Open(Box<dyn ByteStream>),
    /// Not made: ranges do.
    Unused,
}

impl Stored {
    /// Reads `file` from `offset` on, `stride` bytes at once, ends of reads at multiples of
    /// `stride`; by one request if these are [`LONG`].
    pub fn new(file: Arc<dyn ReadAt>, offset: u64, stride: usize) -> Self {
        let stream = if stride == LONG { Stream::Wanted } else { Stream::Unused };
        Self { file, stream, buffer: Vec::new(), position: 0, next: offset, stride, needed: offset }
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

    /// Reads the next bytes; returns how many, fewer than the buffer takes only at the end.
    fn read(&mut self) -> Result<usize, storage::Error> {
        if let Stream::Wanted = self.stream {
            self.stream = self.file.stream(self.next)?.map_or(Stream::Unused, Stream::Open);
        }
        match &mut self.stream {
            Stream::Open(stream) => stream.read_bytes(&mut self.buffer),
            Stream::Wanted | Stream::Unused => self.file.read_at(self.next, &mut self.buffer),
        }
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
            let result = if length > 0 { self.read() } else { Ok(0) };
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

/// A file that is read from its start by one request, though its head is looked at first.
pub(super) struct FromStart {
    file: Arc<dyn ReadAt>,
    begun: Mutex<Begun>,
}

/// Most bytes that are kept of what was looked at.
const MOST_HEAD: u64 = 64 << 10;

#[derive(Default)]
struct Begun {
    /// The first bytes.
    head: Vec<u8>,
    /// What follows them; until it is taken.
    rest: Option<Box<dyn ByteStream>>,
    is_begun: bool,
}

impl FromStart {
    pub fn new(file: Arc<dyn ReadAt>) -> Self {
        Self { file, begun: Mutex::default() }
    }
}

impl ReadAt for FromStart {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let end = offset.saturating_add(buffer.len() as u64).min(self.size());
        let begun = &mut *self.begun.lock();
        if end <= MOST_HEAD && !begun.is_begun {
            begun.rest = self.file.stream(0)?;
            begun.is_begun = true;
        }
        let known = begun.head.len();
        if let Some(rest) =
            begun.rest.as_mut().filter(|_| (known as u64..=MOST_HEAD).contains(&end))
        {
            begun.head.resize(end as usize, 0);
            let count = rest.read_bytes(&mut begun.head[known..]).inspect_err(|_| {
                begun.head.truncate(known);
            })?;
            begun.head.truncate(known + count);
        }
        match usize::try_from(offset).ok().and_then(|from| begun.head.get(from..end as usize)) {
            Some(bytes) => {
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
            None => self.file.read_at(offset, buffer),
        }
    }

    fn stream(&self, from: u64) -> Result<Option<Box<dyn ByteStream>>, storage::Error> {
        let begun = &mut *self.begun.lock();
        let head = usize::try_from(from).ok().and_then(|from| begun.head.get(from..));
        match (head, begun.rest.take()) {
            (Some(head), Some(rest)) => {
                Ok(Some(Box::new(Chained { head: head.to_vec(), position: 0, rest })))
            }
            _ => self.file.stream(from),
        }
    }
}

/// Bytes that came before, then the stream that they came from.
struct Chained {
    head: Vec<u8>,
    position: usize,
    rest: Box<dyn ByteStream>,
}

impl ByteStream for Chained {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let head = &self.head[self.position..];
        let count = head.len().min(buffer.len());
        buffer[..count].copy_from_slice(&head[..count]);
        self.position += count;
        Ok(count + self.rest.read_bytes(&mut buffer[count..])?)
    }
}
