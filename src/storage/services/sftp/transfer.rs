//! [`Handle`] and [`Stream`]: files read and written by many requests at once.

use super::packets::{Reply, kind, open, status};
use super::wire::{Failure, Pending, Wire, senseless};
use crate::storage::{ByteStream, Error, Pace, Staged};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes under way at once: what a line of 40 MB/s holds in a tenth of a second.
const UNDER_WAY: usize = 4 << 20;
/// Requests under way at once.
const REQUESTS: usize = 64;

/// An open file or folder; closed when dropped.
pub struct Handle {
    wire: Arc<Wire>,
    bytes: Vec<u8>,
    is_closed: AtomicBool,
    /// Held by who reads a file of a server that reads in one pass.
    turn: Mutex<()>,
}

impl Handle {
    /// Opens a file for reading.
    pub fn open(wire: &Arc<Wire>, path: &[u8]) -> Result<Self, Failure> {
        let asked =
            wire.ask(kind::OPEN, |request| request.bytes(path).number(open::READ).no_attributes());
        Self::new(wire, asked?)
    }

    /// Makes a file, to be written; an error where something has that name.
    pub fn create(wire: &Arc<Wire>, path: &[u8]) -> Result<Self, Failure> {
        let asked = wire.ask(kind::OPEN, |request| {
            request.bytes(path).number(open::CREATE_NEW).no_attributes()
        });
        Self::new(wire, asked?)
    }

    /// Opens a folder, to be listed.
    pub fn of_folder(wire: &Arc<Wire>, path: &[u8]) -> Result<Self, Failure> {
        Self::new(wire, wire.ask(kind::OPENDIR, |request| request.bytes(path))?)
    }

    fn new(wire: &Arc<Wire>, reply: Reply) -> Result<Self, Failure> {
        let Reply::Handle(bytes) = reply else { return Err(senseless()) };
        let (is_closed, turn) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { wire: wire.clone(), bytes, is_closed, turn })
    }

    /// Returns what names it to the server.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many requests of so many bytes may be under way.
    fn window(&self, chunk: usize) -> usize {
        if self.wire.guide.is_relay { 1 } else { (UNDER_WAY / chunk).clamp(1, REQUESTS) }
    }

    fn begin_read(&self, offset: u64, count: usize) -> Result<Pending, Failure> {
        self.wire.begin(kind::READ, |request| {
            request.bytes(&self.bytes).long(offset).number(count as u32)
        })
    }

    /// Waits for the bytes of a read: at most as many as were asked for, none at the end.
    fn wait_read(&self, pending: Pending, count: usize) -> Result<Vec<u8>, Failure> {
        match self.wire.wait(pending) {
            Ok(Reply::Data(bytes)) if !bytes.is_empty() && bytes.len() <= count => Ok(bytes),
            Ok(_) => Err(senseless()),
            Err(failure) if failure.status == Some(status::EOF) => Ok(Vec::new()),
            Err(failure) => Err(failure),
        }
    }

    /// Fills as much of `buffer` as there is from `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Failure> {
        // No server knows larger offsets.
        let last = i64::MAX as u64 - buffer.len() as u64;
        if buffer.is_empty() || offset > last {
            return Ok(0);
        }
        let _turn = self.wire.guide.is_relay.then(|| self.turn.lock());
        let length = buffer.len();
        let chunk = self.wire.limits.read as usize;
        let window = self.window(chunk);
        let (mut asked, mut filled) = (0, 0);
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < window && asked < length {
                let count = chunk.min(length - asked);
                under_way.push_back((count, self.begin_read(offset + asked as u64, count)?));
                asked += count;
            }
            let Some((count, pending)) = under_way.pop_front() else { return Ok(filled) };
            let bytes = self.wait_read(pending, count)?;
            if bytes.is_empty() {
                return Ok(filled);
            }
            buffer[filled..filled + bytes.len()].copy_from_slice(&bytes);
            filled += bytes.len();
            if bytes.len() < count {
                // The end, or as much as the server likes to give: asked for from there on.
                under_way.clear();
                asked = filled;
            }
        }
    }

    /// Writes all of a staged file.
    pub fn write_all(&self, staged: &Staged, pace: &Pace) -> Result<(), Failure> {
        let chunk = pace.piece(self.wire.limits.write as usize);
        let window = self.window(chunk);
        let (mut under_way, mut offset) = (VecDeque::new(), 0_u64);
        staged.read(|bytes| {
            for part in bytes.chunks(chunk) {
                if under_way.len() >= window {
                    self.finish_write(under_way.pop_front())?;
                }
                pace.take(part.len());
                under_way.push_back(self.wire.begin(kind::WRITE, |request| {
                    request.bytes(&self.bytes).long(offset).bytes(part)
                })?);
                offset += part.len() as u64;
            }
            Ok::<_, Failure>(())
        })?;
        under_way.into_iter().try_for_each(|pending| self.finish_write(Some(pending)))
    }

    fn finish_write(&self, pending: Option<Pending>) -> Result<(), Failure> {
        pending.map_or(Ok(()), |pending| super::wire::done(self.wire.wait(pending)?))
    }

    /// Has the server bring to its disk what was written, where it can.
    pub fn flush(&self) -> Result<(), Failure> {
        const FSYNC: &[u8] = b"fsync@openssh.com";
        if !self.wire.offers(FSYNC) {
            return Ok(());
        }
        match self.wire.order(kind::EXTENDED, |request| request.bytes(FSYNC).bytes(&self.bytes)) {
            // Not every file system can.
            Err(Failure { status: Some(status::UNSUPPORTED | status::BAD_MESSAGE), .. }) => Ok(()),
            result => result,
        }
    }

    /// Closes it, and waits until that is done.
    pub fn close(&self) -> Result<(), Failure> {
        self.is_closed.store(true, Ordering::Relaxed);
        self.wire.order(kind::CLOSE, |request| request.bytes(&self.bytes))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.is_closed.load(Ordering::Relaxed) {
            self.wire.mention(kind::CLOSE, |request| request.bytes(&self.bytes));
        }
    }
}

/// What cannot be read of a staged file.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind, error.cause)
    }
}

/// The bytes of a file from an offset on. It asks ahead, at first for little, then for more and
/// more at once.
pub struct Stream {
    handle: Arc<Handle>,
    place: String,
    chunk: usize,
    window: usize,
    /// Requests in the order of their offsets, and how much each asks for.
    under_way: VecDeque<(usize, Pending)>,
    /// Where the next request begins.
    asked: u64,
    /// Where the bytes that are at hand end.
    received: u64,
    at_hand: Vec<u8>,
    taken: usize,
    is_at_end: bool,
}

impl Stream {
    /// Begins to read.
    pub fn begin(handle: Arc<Handle>, from: u64, place: String) -> Result<Self, Failure> {
        let chunk = handle.wire.limits.read as usize;
        let is_at_end = from > i64::MAX as u64;
        let window = handle.window(chunk).min(2);
        let mut stream = Self {
            handle,
            place,
            chunk,
            window,
            under_way: VecDeque::new(),
            asked: from,
            received: from,
            at_hand: Vec::new(),
            taken: 0,
            is_at_end,
        };
        stream.ask_ahead()?;
        Ok(stream)
    }

    fn ask_ahead(&mut self) -> Result<(), Failure> {
        while self.under_way.len() < self.window && !self.is_at_end {
            self.under_way.push_back((self.chunk, self.handle.begin_read(self.asked, self.chunk)?));
            self.asked = self.asked.saturating_add(self.chunk as u64);
        }
        Ok(())
    }

    /// Waits for the next bytes; there are none at the end.
    fn receive(&mut self) -> Result<(), Failure> {
        let Some((count, pending)) = self.under_way.pop_front() else {
            self.is_at_end = true;
            return Ok(());
        };
        self.at_hand = self.handle.wait_read(pending, count)?;
        self.taken = 0;
        self.received += self.at_hand.len() as u64;
        if self.at_hand.is_empty() {
            self.is_at_end = true;
            self.under_way.clear();
            return Ok(());
        }
        if self.at_hand.len() < count {
            self.under_way.clear();
            self.asked = self.received;
        } else {
            let most = self.handle.window(self.chunk);
            self.window = (self.window * 2).min(most);
        }
        self.ask_ahead()
    }
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.taken == self.at_hand.len() {
                if self.is_at_end {
                    break;
                }
                self.receive().map_err(|failure| Error {
                    operation: "read",
                    place: self.place.clone(),
                    kind: failure.kind,
                    cause: failure.cause,
                })?;
                continue;
            }
            let part = &self.at_hand[self.taken..];
            let count = part.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&part[..count]);
            self.taken += count;
            filled += count;
        }
        Ok(filled)
    }
}
