//! [`Inflate`]: the decoding step for deflated data of any wrapping, that can be left and entered
//! at block borders.
//!
//! Deflate has no marks to start from, but between two of its blocks the whole state of a decoder
//! is: a bit offset in the input, and the last 32 KiB of output, to which copies may refer (the
//! idea of zlib's example zran.c). So while seek points are wanted, the decoder stops at the first
//! block border behind the wanted distance, and tells these two. Blocks of zlib make some 50 to 200
//! KiB of plain text, so points lie that much farther apart than wanted.

use super::Cause;
use super::source::Source;
use super::state::Fields;
use super::zlib::{Inflater, Met, Step, WINDOW, Wrapping};
use std::io::{Read, Write};

/// Output buffer. At each return zlib copies its window, so much less would cost; much more would
/// not stay in the processor's cache.
pub(super) const BUFFER: usize = 128 << 10;

/// Where the decoder stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Anywhere.
    Inside,
    /// At a block border behind the output: that many bits of the last input byte are still to
    /// come.
    Border(u8),
    /// Behind a stream.
    StreamEnd,
    /// Behind the last stream.
    End,
}

/// Inflates what `source` gives.
pub(super) struct Inflate<S> {
    source: S,
    inflater: Inflater,
    wrapping: Wrapping,
    buffer: Box<[u8]>,
    position: usize,
    length: usize,
    at: At,
    /// The last input byte taken.
    last: u8,
    /// Plain bytes until a stop at a block border is wanted.
    ahead: u64,
    /// Bytes behind the deflated data that are to be skipped instead of being checked, since
    /// decoding began in the middle.
    trailer: u8,
}

impl<S: Source> Inflate<S> {
    pub fn new(source: S, wrapping: Wrapping) -> Result<Self, Cause> {
        Ok(Self {
            source,
            inflater: Inflater::new(wrapping)?,
            wrapping,
            buffer: vec![0; BUFFER].into(),
            position: 0,
            length: 0,
            at: At::Inside,
            last: 0,
            ahead: u64::MAX,
            trailer: 0,
        })
    }

    /// Returns the step before.
    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    pub fn wrapping(&self) -> Wrapping {
        self.wrapping
    }

    /// Asks to stop at the first block border that is at least `distance` plain bytes ahead.
    pub fn aim(&mut self, distance: u64) {
        self.ahead = distance.saturating_sub((self.length - self.position) as u64);
    }

    /// Writes the state of the current place behind `state`, and returns the step before, whose
    /// state belongs to it; `None` when decoding can't be entered here.
    pub fn mark(&self, state: &mut Vec<u8>) -> Result<Option<&S>, Cause> {
        let bits = match self.at {
            _ if self.position < self.length => return Ok(None),
            At::Border(bits) => bits,
            At::StreamEnd if self.wrapping == Wrapping::Gzip => FRESH,
            _ => return Ok(None),
        };
        state.push(bits);
        if bits != FRESH {
            state.push(self.last);
            write_window(state, &self.inflater.window());
        }
        Ok(Some(&self.source))
    }

    /// Takes from `fields` what [`mark`](Self::mark) has written, and goes on from there.
    pub fn enter(source: S, wrapping: Wrapping, fields: &mut Fields) -> Result<Self, Cause> {
        let bits = fields.u8()?;
        if bits == FRESH {
            let mut inflate = Self::new(source, wrapping)?;
            inflate.at = At::StreamEnd;
            return Ok(inflate);
        }
        if bits > 7 {
            return Err(Cause::SeekPoint("its deflate state is invalid"));
        }
        let last = fields.u8()?;
        let mut inflate = Self::new(source, Wrapping::Raw)?;
        inflate.wrapping = wrapping;
        inflate.inflater.enter(
            bits,
            (u16::from(last) >> (8 - bits)) as u8,
            &read_window(fields)?,
        )?;
        inflate.trailer = match wrapping {
            Wrapping::Gzip => 8,
            Wrapping::Zlib => 4,
            Wrapping::Raw => 0,
        };
        Ok(inflate)
    }

    /// Decodes until the buffer is full or the wanted place is reached; false at the end.
    fn advance(&mut self) -> Result<bool, Cause> {
        if self.at == At::End || (self.at == At::StreamEnd && !self.next_stream()?) {
            self.at = At::End;
            return Ok(false);
        }
        self.at = At::Inside;
        (self.position, self.length) = (0, 0);
        while self.length < self.buffer.len() {
            let input = match self.source.fill() {
                // What the bytes so far make comes first; the next call fails again.
                Err(Cause::Truncated) if self.length > 0 => return Ok(true),
                input => input?,
            };
            let room = usize::try_from(self.ahead)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len() - self.length);
            let wanted = room == 0;
            let end = if wanted { self.buffer.len() } else { self.length + room };
            let Step { taken, made, met, .. } =
                self.inflater.step(input, &mut self.buffer[self.length..end], wanted)?;
            if taken > 0 {
                self.last = input[taken - 1];
            } else if made == 0 && met == Met::Edge {
                return Err(if input.is_empty() {
                    Cause::Truncated
                } else {
                    Cause::damaged("the compressed data are invalid")
                });
            }
            self.source.consume(taken);
            self.length += made;
            self.ahead = self.ahead.saturating_sub(made as u64);
            match met {
                Met::End => {
                    self.at = At::StreamEnd;
                    break;
                }
                Met::Block(bits) if self.length > 0 => {
                    self.at = At::Border(bits);
                    break;
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Gets ready for the stream behind the one that has ended; false if none follows.
    fn next_stream(&mut self) -> Result<bool, Cause> {
        while self.trailer > 0 {
            self.source.needed()?;
            self.trailer -= 1;
        }
        if self.wrapping != Wrapping::Gzip {
            return Ok(false);
        }
        match self.source.fill()?.first() {
            None => Ok(false),
            Some(0) => self.padding(),
            Some(_) => {
                self.inflater.reset(Wrapping::Gzip);
                Ok(true)
            }
        }
    }

    /// Takes zeros up to the end of the file: some tapes and file systems pad with them, and gzip
    /// lets them pass.
    fn padding(&mut self) -> Result<bool, Cause> {
        loop {
            let data = self.source.fill()?;
            let count = data.len();
            if count == 0 {
                return Ok(false);
            }
            if data.iter().any(|b| *b != 0) {
                return Err(Cause::damaged("something other than gzip members and zeros follows"));
            }
            self.source.consume(count);
        }
    }
}

impl<S: Source> Source for Inflate<S> {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        while self.position == self.length && self.advance()? {}
        Ok(&self.buffer[self.position..self.length])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.length);
    }
}

/// In place of a number of bits: a new gzip member begins here, or the file ends.
const FRESH: u8 = 0xff;

/// Writes the state of a place where no block is unfinished and nothing refers to what stands
/// before: behind a full flush.
pub(super) fn write_flushed(state: &mut Vec<u8>) {
    state.extend_from_slice(&[0, 0]); // bits, and the byte that they are of
    state.extend_from_slice(&[0, 0, 0]); // the window: as it is, no bytes
}

/// Writes the state of a place where a gzip member begins.
pub(super) fn write_fresh(state: &mut Vec<u8>) {
    state.push(FRESH);
}

/// Writes a window deflated if that makes it smaller: a flag, the length as u16, the bytes.
fn write_window(state: &mut Vec<u8>, window: &[u8]) {
    let mut encoder =
        flate2::write::DeflateEncoder::new(Vec::with_capacity(WINDOW), flate2::Compression::fast());
    let deflated = encoder.write_all(window).and_then(|()| encoder.finish()).unwrap_or_default();
    let (packed, bytes) = if deflated.is_empty() || deflated.len() >= window.len() {
        (0, window)
    } else {
        (1, &deflated[..])
    };
    state.push(packed);
    state.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    state.extend_from_slice(bytes);
}

fn read_window(fields: &mut Fields) -> Result<Vec<u8>, Cause> {
    let packed = fields.u8()?;
    let length = usize::from(fields.u16()?);
    if length > WINDOW {
        return Err(Cause::SeekPoint("its window is too long"));
    }
    let bytes = fields.bytes(length)?;
    if packed == 0 {
        return Ok(bytes.to_vec());
    }
    let mut window = Vec::with_capacity(WINDOW);
    let read =
        flate2::read::DeflateDecoder::new(bytes).take(WINDOW as u64).read_to_end(&mut window);
    read.map_err(|_| Cause::SeekPoint("its window is invalid"))?;
    Ok(window)
}
