//! Packets: headers, and bodies of any kind of length (RFC 4880 4.2).
//!
//! gpg that writes to a pipe, as duplicity makes it do, uses partial lengths of 8192 bytes; one
//! that knows the size writes a single length; and for compressed packets it uses the old format's
//! "up to the end".

use crate::codec::Cause;
use crate::codec::source::Source;
use crate::codec::state::Fields;

/// Packet tags (RFC 4880 4.3; 20 as LibrePGP uses it, 21 as RFC 9580).
pub mod tag {
    pub const PUBLIC_KEY_ENCRYPTED_SESSION_KEY: u8 = 1;
    pub const SIGNATURE: u8 = 2;
    pub const SYMMETRIC_KEY_ENCRYPTED_SESSION_KEY: u8 = 3;
    pub const ONE_PASS_SIGNATURE: u8 = 4;
    pub const COMPRESSED: u8 = 8;
    pub const ENCRYPTED: u8 = 9;
    pub const MARKER: u8 = 10;
    pub const LITERAL: u8 = 11;
    pub const ENCRYPTED_AND_PROTECTED: u8 = 18;
    pub const PADDING: u8 = 21;
}

/// What is known of a body's remaining length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Bytes left in this chunk.
    left: u64,
    /// What comes behind them.
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Then {
    /// The body's end.
    End = 0,
    /// The length of the next chunk.
    Chunk = 1,
    /// Whatever there is, up to the end of the source: `left` means nothing.
    Rest = 2,
}

impl Extent {
    /// Of a body that has ended.
    pub const NONE: Self = Self { left: 0, then: Then::End };

    /// Of a body that goes on up to the end of whatever it is in.
    pub const REST: Self = Self { left: 0, then: Then::Rest };

    /// Returns what is left where `left` bytes of a chunk are, behind which another chunk follows.
    pub fn in_chunk(left: u64) -> Self {
        Self { left, then: Then::Chunk }
    }

    /// Returns what is left `count` bytes later in the same chunk.
    pub fn after(self, count: u64) -> Self {
        Self { left: self.left.saturating_sub(count), ..self }
    }

    pub fn write(self, state: &mut Vec<u8>) {
        state.push(self.then as u8);
        state.extend_from_slice(&self.left.to_le_bytes());
    }

    pub fn read(fields: &mut Fields) -> Result<Self, Cause> {
        let then = match fields.u8()? {
            0 => Then::End,
            1 => Then::Chunk,
            2 => Then::Rest,
            _ => return Err(Cause::SeekPoint("a length of it is invalid")),
        };
        Ok(Self { left: fields.u64()?, then })
    }

    /// Reads a length of the new format.
    fn new_format(source: &mut impl Source) -> Result<Self, Cause> {
        let first = source.needed()?;
        let (left, then) = match first {
            0..192 => (u64::from(first), Then::End),
            192..224 => {
                (((u64::from(first) - 192) << 8) + u64::from(source.needed()?) + 192, Then::End)
            }
            224..255 => (1 << (first & 31), Then::Chunk),
            255 => (number(source, 4)?, Then::End),
        };
        Ok(Self { left, then })
    }

    fn old_format(source: &mut impl Source, kind: u8) -> Result<Self, Cause> {
        let (left, then) = match kind {
            3 => (0, Then::Rest),
            _ => (number(source, 1 << kind)?, Then::End),
        };
        Ok(Self { left, then })
    }
}

fn number(source: &mut impl Source, bytes: u32) -> Result<u64, Cause> {
    (0..bytes).try_fold(0, |sum, _| Ok(sum << 8 | u64::from(source.needed()?)))
}

/// Appends `data` as chunks that are whole powers of two, the largest first; a further chunk has to
/// follow.
pub fn write_chunks(mut data: &[u8], stored: &mut Vec<u8>) {
    while let Some(power) = data.len().checked_ilog2() {
        let (chunk, rest) = data.split_at(1 << power.min(30));
        stored.push(224 + power.min(30) as u8);
        stored.extend_from_slice(chunk);
        data = rest;
    }
}

/// Appends `data` as the last chunk, or the only one, with a length of five bytes.
pub fn write_last_chunk(data: &[u8], stored: &mut Vec<u8>) {
    stored.push(0xff);
    stored.extend_from_slice(&(data.len() as u32).to_be_bytes());
    stored.extend_from_slice(data);
}

/// Appends `data` as the last chunks, the very last of which has a length of one or two bytes.
pub fn write_rest(data: &[u8], stored: &mut Vec<u8>) {
    let (chunks, last) = data.split_at(data.len() & !8191);
    write_chunks(chunks, stored);
    match u8::try_from(last.len()) {
        Ok(length @ 0..192) => stored.push(length),
        _ => {
            let length = last.len() - 192;
            stored.extend_from_slice(&[(length >> 8) as u8 + 192, length as u8]);
        }
    }
    stored.extend_from_slice(last);
}

/// The first bytes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub tag: u8,
    pub extent: Extent,
}

impl Header {
    /// Reads a header; `None` at the end of the source.
    pub fn read(source: &mut impl Source) -> Result<Option<Self>, Cause> {
        let Some(first) = source.byte()? else { return Ok(None) };
        let (tag, extent) = match first {
            0xc0.. => (first & 63, Extent::new_format(source)?),
            0x80.. => ((first >> 2) & 15, Extent::old_format(source, first & 3)?),
            _ => {
                return Err(Cause::damaged(
                    "there is something else where an OpenPGP packet should begin",
                ));
            }
        };
        Ok(Some(Self { tag, extent }))
    }
}

/// The body of one packet after the other in a source.
pub struct Body<S> {
    source: S,
    extent: Extent,
}

impl<S: Source> Body<S> {
    /// Stands in front of the rest of a body.
    pub fn new(source: S, extent: Extent) -> Self {
        Self { source, extent }
    }

    /// Skips what is left of the body, and goes into the next packet; `None` at the end of the
    /// source.
    pub fn next(&mut self) -> Result<Option<u8>, Cause> {
        self.drain()?;
        let header = Header::read(&mut self.source)?;
        self.extent = header.map_or(Extent::NONE, |h| h.extent);
        Ok(header.map(|h| h.tag))
    }

    /// Reads all that is left of a body that should not be longer than `limit` bytes.
    pub fn read_all(&mut self, limit: usize) -> Result<Vec<u8>, Cause> {
        let mut body = Vec::new();
        loop {
            let data = self.fill()?;
            let count = data.len();
            if count == 0 {
                return Ok(body);
            }
            if body.len() + count > limit {
                return Err(Cause::damaged(format!("a packet is longer than {limit} bytes")));
            }
            body.extend_from_slice(data);
            self.consume(count);
        }
    }

    pub fn into_source(self) -> S {
        self.source
    }

    pub fn source(&self) -> &S {
        &self.source
    }

    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }
}

impl<S: Source> Source for Body<S> {
    fn fill(&mut self) -> Result<&[u8], Cause> {
        while self.extent.left == 0 && self.extent.then == Then::Chunk {
            self.extent = Extent::new_format(&mut self.source)?;
        }
        match self.extent {
            Extent { then: Then::Rest, .. } => self.source.fill(),
            Extent { left: 0, .. } => Ok(&[]),
            Extent { left, .. } => {
                let data = self.source.fill()?;
                if data.is_empty() {
                    return Err(Cause::Truncated);
                }
                Ok(&data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        if self.extent.then != Then::Rest {
            self.extent = self.extent.after(count as u64);
        }
    }
}
