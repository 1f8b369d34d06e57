//! One volume, open: its members told in order, and any range of its plain tar.
//!
//! A volume is `encrypt(compress(tar))`, so as a stream it must be decoded from its start. The
//! first pass over a volume ([`first_pass`]) does that once, for whatever reason it is needed, and
//! leaves an [`SeekIndex`] behind:
//!
//! ```text
//! stored   |-chunk-|-chunk-|-chunk-|-chunk-|-chunk-|      a BLAKE3 for each 64 KiB
//! plain    |--- frame ---|-- frame --|---- frame ----|     a seek point at the start of each, about 1 MiB apart
//! ```
//!
//! A volume of our own says the same in the table of contents behind its tar, so that its seek
//! index can be had without a pass.
//!
//! From then on [`VolumeReader`] decodes single frames: from the seek point, over stored bytes
//! whose chunk hashes match. The frames of a range, whatever volumes they lie in, are fetched at the
//! same time; where reads go on in a volume, those behind come along, two, four, at last eight.
//! Decoded frames are kept in a cache bounded in bytes, and so are the bytes on their way there.
//!
//! # Invariants
//! - No byte of a volume is used before its hash has matched: [`checked_pass`] checks the whole
//!   stored file against the manifest, and decodes then; [`first_pass`] does both at once, and
//!   nothing that it reports counts before it has ended well. Everything read later belongs to a
//!   chunk whose hash was taken in that very pass, or stands in the volume's table.
//! - A frame is known by the plain bytes that it holds, never by its number: a first pass cuts a
//!   volume in another way than its table does, and the seek index is derived data, which may be
//!   made anew by the other one at any time. A volume whose seek points no longer fit the index at
//!   hand is opened anew.
//! - A first pass is one request: what has to be read twice, and lies far away, is copied to a
//!   temporary file meanwhile.
//! - What follows the end of the tar (zeros, filler) is decoded too, since only the end of the
//!   stream proves the rest of it.
//!
//! Absent on purpose: any idea of what the members mean, and any place to keep seek indexes;
//! whoever keeps them gives an [`SeekIndexStore`].

mod cache;
mod check;
mod error;
mod fetched;
mod members;
mod memory_budget;
mod parts;
mod reader;
mod rewrite;
mod streams;
mod writer;

pub use crate::format::CHUNK;
pub use check::{Checked, has_hash};
pub use error::Error;
pub use members::{Event, checked_pass, first_pass};
pub use parts::{PartBuilder, Stop, append_commands};
pub use reader::{SeekIndexStore, VolumeReader, Wanted};
pub use rewrite::{copy, rewrite};
pub use writer::{EncodedFrame, FrameBuilder, PlainFrame, VolumeWriter, WrittenVolume};

use crate::format::{Encoding, VolumeHash};
use crate::storage::StoredFile;

/// Plain bytes between two seek points, at least: what one random read decodes. Measured: a seek
/// point every MiB costs 5 % of the first pass, and a read from it less than 1 ms.
const FRAME: u64 = 1024 * 1024;

/// The longest frame that is taken. Deflate as zlib and GnuPG write it ends a block after 4 MiB at
/// the latest; whoever writes longer ones wants to exhaust memory.
const MAX_FRAME: u64 = 64 * 1024 * 1024;

/// Names a volume for caches: unique for as long as the process runs, and for as long as its seek
/// index is kept.
pub type VolumeKey = u64;

/// A stored volume and what its manifest says of it.
#[derive(Clone)]
pub struct VolumeSource {
    /// Names it in caches.
    pub key: VolumeKey,
    /// Its stored file.
    pub file: StoredFile,
    /// How it is encoded.
    pub encoding: Encoding,
    /// The hash that the manifest gives for the stored file.
    pub hash: Option<VolumeHash>,
}

/// What the first pass leaves of a volume, or its table tells: enough to check and to decode any
/// part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeekIndex {
    /// Offset of the first plain byte of each frame, ascending from 0; at least one.
    pub frames: Vec<u64>,
    /// Length of the plain bytes: all of them, or those before the table.
    pub plain_length: u64,
    /// Length of the stored bytes, likewise.
    pub stored_length: u64,
    /// BLAKE3 of each chunk of [`CHUNK`] of these stored bytes; the last may be shorter.
    pub chunks: Vec<[u8; 32]>,
    /// The first stored bytes, at most [`HEAD`](crate::codec::HEAD): what a session key is found
    /// by. Empty where they are not known.
    pub head: Vec<u8>,
}

impl SeekIndex {
    /// Returns where the plain bytes of a frame are, by its number; empty for a number that none has.
    fn frame(&self, number: usize) -> std::ops::Range<u64> {
        let start = |number: usize| self.frames.get(number).copied().unwrap_or(self.plain_length);
        start(number)..start(number + 1)
    }

    /// Returns whether the frames follow each other from 0 on, none of them being longer than is
    /// ever decoded at once.
    pub fn is_sound(&self) -> bool {
        let ends = self.frames.iter().skip(1).chain([&self.plain_length]);
        let mut frames = self.frames.iter().zip(ends);
        self.frames.first() == Some(&0)
            && frames.all(|(start, end)| start <= end && end - start <= MAX_FRAME)
    }
}
