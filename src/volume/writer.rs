//! Writing volumes: members become frames, frames become volumes.
//!
//! ```text
//! members ─► FrameBuilder ─► PlainFrame ─encode─► EncodedFrame ─► VolumeWriter ─► stored file, WrittenVolume
//!            one thread      many threads at once                 one thread
//! ```
//! A frame ends between two members, so a volume may end behind any frame, and a frame need not
//! know which volume it will be in.

use super::{Error, PartBuilder};
use crate::codec::{EncodedFile, Encoder, Frame};
use crate::format::{
    CHUNK, ManifestVolume, Member, MemberKind, Part, Session, StoredFrames, TocWriter, VolumeHash,
    padding,
};
use crate::model::EntryPath;
use crate::storage::{self, ByteSink, Staged, StagedWriter};
use sha1::digest::common::hazmat::SerializableState;
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// A tar's end is filled up with zeros to a multiple of this, as duplicity does.
const RECORD: u64 = 10240;
/// Zeros at the end of a tar, at least: two blocks.
const END: u64 = 1024;
/// A volume ends when the rows of its table take so many bytes, which are held in memory.
const MOST_ROWS: usize = 8 << 20;
/// A volume whose part of one path has more extents than this gets no table: they are held in
/// memory, 32 bytes each.
const MOST_EXTENTS: usize = 1 << 20;

/// A member within a frame: its offset is that in the frame.
#[derive(Debug)]
struct FrameMember {
    member: Member,
    /// No piece of the same file follows.
    is_last: bool,
}

/// Gathers members until they make a frame.
#[derive(Debug)]
pub struct FrameBuilder {
    size: usize,
    frame: PlainFrame,
}

/// Plain tar that will be encoded by itself.
#[derive(Debug, Default)]
pub struct PlainFrame {
    plain: Vec<u8>,
    members: Vec<FrameMember>,
}

impl FrameBuilder {
    /// Makes frames of at most `size` bytes, unless one member alone is larger.
    pub fn new(size: usize) -> Self {
        Self { size, frame: PlainFrame::default() }
    }

    /// Adds a member with all its data; its length and offset are set here. `is_last` is false when
    /// another piece of the same file follows. Returns a frame when the member would not fit into
    /// it any more.
    pub fn push(&mut self, mut member: Member, is_last: bool, data: &[u8]) -> Option<PlainFrame> {
        member.length = data.len() as u64;
        let mut header = Vec::new();
        member.header().print(&mut header);
        let padding = padding(member.length);
        let length = header.len() + data.len() + padding;
        let full = (self.frame.plain.len() + length > self.size && !self.frame.plain.is_empty())
            .then(|| self.take());
        let plain = &mut self.frame.plain;
        if plain.capacity() == 0 {
            plain.reserve_exact(self.size.max(length));
        }
        plain.extend_from_slice(&header);
        member.offset = plain.len() as u64;
        plain.extend_from_slice(data);
        plain.resize(plain.len() + padding, 0);
        self.frame.members.push(FrameMember { member, is_last });
        full
    }

    /// Returns what has been gathered; it may hold nothing.
    pub fn take(&mut self) -> PlainFrame {
        std::mem::take(&mut self.frame)
    }
}

impl PlainFrame {
    /// Returns whether there is no member in it.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Encodes the frame: the bulk of a backup's work, to be done by many threads.
    ///
    /// # Errors
    /// [`Error::Decode`] when there is no memory for it.
    pub fn encode(self, encoder: &Encoder) -> Result<EncodedFrame, Error> {
        let Self { plain, members } = self;
        let has_delta = members.iter().any(|part| part.member.kind == MemberKind::Delta);
        let (length, deltas) = (plain.len() as u64, has_delta.then(|| plain.clone()));
        Ok(EncodedFrame { frame: encoder.frame(plain)?, length, members, deltas })
    }
}

/// A frame as it will be stored.
pub struct EncodedFrame {
    frame: Frame,
    /// Plain bytes.
    length: u64,
    members: Vec<FrameMember>,
    /// The plain bytes, if there are deltas in them, whose commands the table tells.
    deltas: Option<Vec<u8>>,
}

impl EncodedFrame {
    /// Returns how many bytes it adds to a stored file.
    pub fn stored_length(&self) -> u64 {
        self.frame.stored_len()
    }
}

/// A volume that is whole, to be stored.
#[derive(Debug)]
pub struct WrittenVolume {
    /// What the manifest says of it.
    pub described: ManifestVolume,
    /// The file.
    pub staged: Staged,
    /// The last member is a piece of a delta, and another one follows.
    pub in_delta: bool,
}

/// One volume, being written.
pub struct VolumeWriter {
    number: u32,
    session: Session,
    encoder: Arc<Encoder>,
    file: EncodedFile<HashingSink>,
    plain: u64,
    /// `None` when it has become too large.
    toc: Option<TocWriter>,
    current: Option<Current>,
    first: Option<Bound>,
    last: Option<Bound>,
}

/// The path whose members are coming in.
struct Current {
    member: Member,
    part: PartBuilder,
    is_last: bool,
}

/// A path and its piece, as a manifest has them.
type Bound = (EntryPath, Option<u64>);

impl VolumeWriter {
    /// Begins the volume of a number, whose bytes go to `writer`.
    ///
    /// # Errors
    /// [`Error`] when the first bytes cannot be written.
    pub fn create(
        session: Session,
        number: u32,
        encoder: Arc<Encoder>,
        writer: StagedWriter,
    ) -> Result<Self, Error> {
        let name = writer.name().to_string();
        let file = encoder.create(&name, HashingSink::new(writer))?;
        Ok(Self {
            number,
            session,
            encoder,
            file,
            plain: 0,
            toc: Some(TocWriter::new()),
            current: None,
            first: None,
            last: None,
        })
    }

    /// Returns whether the volume would get larger than `limit` bytes by one more frame.
    pub fn is_full(&self, next: &EncodedFrame, limit: u64) -> bool {
        let rows = self.toc.as_ref().map_or(0, TocWriter::encoded_length);
        let table = rows as u64 + 2 * RECORD;
        self.first.is_some()
            && (rows > MOST_ROWS || self.file.stored() + next.stored_length() + table > limit)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// [`Error`] when it cannot be written.
    pub fn push(&mut self, frame: EncodedFrame) -> Result<(), Error> {
        for part in frame.members {
            self.note(part, frame.deltas.as_deref())?;
        }
        self.plain += frame.length;
        Ok(self.file.push(frame.frame)?)
    }

    /// Ends tar, table and file. What has no member is described as holding the root.
    ///
    /// # Errors
    /// [`Error`] when it cannot be written.
    pub fn finish(mut self) -> Result<WrittenVolume, Error> {
        let in_delta = self
            .current
            .as_ref()
            .is_some_and(|current| !current.is_last && current.member.kind == MemberKind::Delta);
        self.flush()?;
        let zeros = RECORD - self.plain % RECORD;
        let zeros = if zeros < END { zeros + RECORD } else { zeros };
        self.file.push(self.encoder.frame(vec![0; zeros as usize])?)?;
        let sink = match self.toc.take() {
            Some(toc) => {
                let points = self.file.end_frames()?;
                let frames: Vec<_> =
                    points.into_iter().map(|point| (point.plain, point.state)).collect();
                match self.file.sink().map(HashingSink::stored) {
                    Some(stored) => {
                        let table = toc.finish(
                            self.session,
                            self.number,
                            self.plain + zeros,
                            &frames,
                            &stored,
                        );
                        self.file.finish_with_table(&table)?
                    }
                    None => self.file.finish()?,
                }
            }
            None => self.file.finish()?,
        };
        let (staged, sha1) = (sink.writer.seal(), sink.sha1.finalize().into());
        let root = || (EntryPath::root(), None);
        let ((first, first_piece), (last, last_piece)) =
            (self.first.unwrap_or_else(root), self.last.unwrap_or_else(root));
        let hash = Some(VolumeHash::Sha1(sha1));
        let described =
            ManifestVolume { number: self.number, first, first_piece, last, last_piece, hash };
        Ok(WrittenVolume { described, staged, in_delta })
    }

    /// Takes note of a member for table and manifest.
    fn note(
        &mut self,
        FrameMember { member, is_last }: FrameMember,
        deltas: Option<&[u8]>,
    ) -> Result<(), Error> {
        let bound = (member.path.clone(), member.piece.filter(|_| !is_last));
        self.first.get_or_insert_with(|| bound.clone());
        self.last = Some(bound);
        let range = self.plain + member.offset..self.plain + member.offset + member.length;
        match &mut self.current {
            Some(current) if current.member.path == member.path => {
                current.part.go_on(member.kind, member.piece, range);
                current.is_last = is_last;
            }
            _ => {
                self.flush()?;
                let part = PartBuilder::new(self.number, member.kind, member.piece, range);
                self.current = Some(Current { member: member.clone(), part, is_last });
            }
        }
        if let (MemberKind::Delta, Some(plain), Some(current)) =
            (member.kind, deltas, &mut self.current)
        {
            let data = plain.get(member.offset as usize..(member.offset + member.length) as usize);
            current.part.data(data.unwrap_or_default());
            if current.part.extents() > MOST_EXTENTS {
                self.toc = None;
            }
        }
        Ok(())
    }

    /// Ends the path whose members came in.
    fn flush(&mut self) -> Result<(), Error> {
        let Some(Current { member, part, is_last }) = self.current.take() else { return Ok(()) };
        let Some(toc) = &mut self.toc else { return Ok(()) };
        let part = match member.kind {
            MemberKind::Deleted => Part::default(),
            _ => part.finish(is_last).map_err(|cause| Error::Members {
                name: format!("number {}", self.number),
                cause,
            })?,
        };
        toc.push(&member.path, member.entry.as_ref(), &part);
        Ok(())
    }
}

/// Hashes what goes into a stored file.
struct HashingSink {
    writer: StagedWriter,
    sha1: Sha1,
    length: u64,
    chunks: Vec<[u8; 32]>,
    chunk: blake3::Hasher,
}

impl HashingSink {
    fn new(writer: StagedWriter) -> Self {
        Self {
            writer,
            sha1: Sha1::new(),
            length: 0,
            chunks: Vec::new(),
            chunk: blake3::Hasher::new(),
        }
    }

    /// Returns what is known of all bytes so far.
    fn stored(&self) -> StoredFrames {
        let rest =
            (!self.length.is_multiple_of(CHUNK as u64)).then(|| *self.chunk.finalize().as_bytes());
        let chunks = self.chunks.iter().copied().chain(rest).collect();
        StoredFrames { length: self.length, sha1: self.sha1.serialize().into(), chunks }
    }
}

impl ByteSink for HashingSink {
    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), storage::Error> {
        self.writer.write_bytes(bytes)?;
        self.sha1.update(bytes);
        let mut left = bytes;
        while !left.is_empty() {
            let room = CHUNK - (self.length % CHUNK as u64) as usize;
            let (now, rest) = left.split_at(room.min(left.len()));
            self.chunk.update(now);
            self.length += now.len() as u64;
            if now.len() == room {
                self.chunks.push(*self.chunk.finalize().as_bytes());
                self.chunk.reset();
            }
            left = rest;
        }
        Ok(())
    }
}
