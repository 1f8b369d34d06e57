//! [`Toc`]: the table of contents that volumes of our own carry behind the tar's end.
//!
//! duplicity ignores what follows the end of a tar. So a volume that dupfs has written says there,
//! in a frame of its own, all that the first pass over a volume finds out: where decoding can
//! start, a hash of each stretch of stored bytes, and of each path its metadata and where its bytes
//! lie. How the table is found, and what proves that it is whole, is the codec's business.
//!
//! | field | bytes |
//! |---|---|
//! | magic | `dupfstoc`, then the version of this layout, 1 |
//! | session | 0 and its time for a full one; 1, start and end for an incremental one; seconds, signed |
//! | volume | its number, the length of its plain bytes and that of its stored bytes, both before the table |
//! | frames | how many; of each the distance from the last one's plain offset, length of its state, state |
//! | hash | the state of the SHA-1 of the stored bytes before the table, as the crate `sha1` 0.11 serializes it: five words, how many blocks of 64 bytes, and what has not filled one yet |
//! | chunks | a BLAKE3 for each 64 KiB of the stored bytes before the table, the last stretch being shorter |
//! | rows | how many; then one for each path in the volume, in path order, up to the end |
//!
//! Numbers are LEB128, signed ones zigzag. A row is
//!
//! | field | bytes |
//! |---|---|
//! | path | how many bytes it shares with the path before, how many follow, these |
//! | head | kind in bits 0 to 2, flags above; a deleted path ends here |
//! | mode, owner | unless they are those of the last row that had any: mode; number of the owner from 0, where a new one, numbered next, is followed by its user and group number and length and bytes of both names |
//! | time | distance from the last row's, signed |
//! | kind | of a link, length and bytes of its target; of a device, major and minor number |
//! | pieces | unless they are 0..1: first and count |
//! | extents | how many; of each its length times two, plus one if it is copied; where it starts, as the distance from the end of the last one of its kind: among stored ones of the volume, among copied ones of the row |
//!
//! which is some 20 bytes for a small file.
//!
//! Whoever hashes on from that state with the stored bytes from the table to the end of the file
//! must come to the hash that the manifest has: otherwise the table, sound in itself, belongs to
//! another volume that was put here.

use super::number::{put, put_signed, take, take_signed};
use super::{Error, Extent, Part, Session};
use crate::model::{BackupTime, Entry, EntryKind, EntryPath, Owner};
use std::collections::HashMap;

/// Bytes of a stored file that one hash stands for.
pub const CHUNK: usize = 64 * 1024;

/// Bytes of a state of SHA-1.
pub const SHA1_STATE: usize = 20 + 8 + 64;

/// What a table begins with.
const MAGIC: &[u8; 8] = b"dupfstoc";
/// Changes with the layout.
const VERSION: u8 = 1;
/// Copies that end behind this are taken for forged.
const LIMIT: u64 = 1 << 62;

/// Kinds in a row's head.
const DELETED: u8 = 0;
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const FIFO: u8 = 4;
const CHAR_DEVICE: u8 = 5;
const BLOCK_DEVICE: u8 = 6;
const KIND: u8 = 7;

/// Flags in a row's head.
const DELTA: u8 = 1 << 3;
const CONTENT: u8 = 1 << 4;
const LAST: u8 = 1 << 5;
/// The numbers of the pieces follow.
const PIECES: u8 = 1 << 6;
/// Mode and owner are those of the last row that had any.
const SAME: u8 = 1 << 7;

/// The table of contents of one volume. Its rows stay encoded: there may be a million.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toc {
    /// The session that wrote the volume.
    pub session: Session,
    /// Number of the volume in its set.
    pub volume: u32,
    /// Number of plain bytes before the table.
    pub plain_length: u64,
    /// The stored bytes before the table.
    pub stored: StoredFrames,
    /// Where decoding can start: plain offset, ascending from 0 and within the plain bytes, and the
    /// codec's state there.
    pub frames: Vec<(u64, Vec<u8>)>,
    rows: Vec<u8>,
}

/// The stored bytes of a volume before its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFrames {
    /// How many there are.
    pub length: u64,
    /// State of the SHA-1 over all of them.
    pub sha1: [u8; SHA1_STATE],
    /// BLAKE3 of each [`CHUNK`] of them; the last may be shorter.
    pub chunks: Vec<[u8; 32]>,
}

/// What a volume holds of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocRow {
    /// The path.
    pub path: EntryPath,
    /// Its metadata; `None` when the path is gone.
    pub entry: Option<Entry>,
    /// Where its bytes lie in this volume; all empty when the path is gone.
    pub part: Part,
}

impl Toc {
    /// Parses a table, and looks at each of its rows once.
    ///
    /// # Errors
    /// [`Error::Toc`] for anything that [`TocWriter`] would not write: paths out of order or that
    /// [`EntryPath`] refuses, extents outside the volume, another version, too few bytes or too
    /// many.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let parsed = Self::take(&mut rest);
        let offset = bytes.len() - rest.len();
        let (mut toc, count) = parsed.map_err(|cause| Error::Toc { offset, cause })?;
        let mut rows = RowReader::new(rest, &toc);
        for _ in 0..count {
            rows.row()
                .map_err(|cause| Error::Toc { offset: bytes.len() - rows.rest.len(), cause })?;
        }
        if !rows.rest.is_empty() {
            return Err(Error::Toc {
                offset: bytes.len() - rows.rest.len(),
                cause: "more bytes than rows",
            });
        }
        toc.rows = rest.to_vec();
        Ok(toc)
    }

    /// Takes all before the rows, and their number.
    fn take(rest: &mut &[u8]) -> Result<(Self, u64), &'static str> {
        *rest = rest.strip_prefix(MAGIC).ok_or("no magic number of a table")?;
        if take_byte(rest)? != VERSION {
            return Err("it is of another version");
        }
        let time = |rest: &mut &[u8]| take_signed(rest).map(BackupTime::from_seconds).ok_or(SHORT);
        let session = match take_byte(rest)? {
            0 => Session::Full { time: time(rest)? },
            1 => Session::Incremental { start: time(rest)?, end: time(rest)? },
            _ => return Err("unknown kind of session"),
        };
        let volume = take_u32(rest)?;
        let (plain_length, length) = (take_number(rest)?, take_number(rest)?);
        let frames = take_frames(rest, plain_length)?;
        let sha1 = take_bytes(rest, SHA1_STATE)?.try_into().map_err(|_| SHORT)?;
        let count = usize::try_from(length.div_ceil(CHUNK as u64)).map_err(|_| SHORT)?;
        let hashes = take_bytes(rest, count.checked_mul(32).ok_or(SHORT)?)?;
        let chunks = hashes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect();
        let rows = take_number(rest)?;
        let stored = StoredFrames { length, sha1, chunks };
        Ok((Self { session, volume, plain_length, stored, frames, rows: Vec::new() }, rows))
    }

    /// Returns the rows in path order, each path once.
    pub fn rows(&self) -> TocRows<'_> {
        TocRows(RowReader::new(&self.rows, self))
    }
}

/// The rows of a [`Toc`].
pub struct TocRows<'a>(RowReader<'a>);

impl Iterator for TocRows<'_> {
    type Item = TocRow;

    fn next(&mut self) -> Option<TocRow> {
        // Looked at when the table was parsed, so none of them is bad.
        if self.0.rest.is_empty() { None } else { self.0.row().ok() }
    }
}

/// Writes a table: rows as they become known, everything else at the end.
#[derive(Debug, Default)]
pub struct TocWriter {
    count: u64,
    rows: Vec<u8>,
    path: Vec<u8>,
    owners: HashMap<Owner, u64>,
    /// Mode and owner's number of the last row that had any.
    last: Option<(u16, u64)>,
    mtime: i64,
    stored_end: u64,
}

impl TocWriter {
    /// Begins a table without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what the volume holds of one path, all of it; `entry` is `None` for a path that is
    /// gone, and `part` does not matter then. Rows come in path order, each path once; a table
    /// where they do not is refused when it is read. Stored extents are taken to lie in this very
    /// volume.
    pub fn push(&mut self, path: &EntryPath, entry: Option<&Entry>, part: &Part) {
        self.count += 1;
        let path = path.as_bytes();
        let shared = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        let suffix = path.get(shared..).unwrap_or_default();
        put(&mut self.rows, shared as u64);
        put_bytes(&mut self.rows, suffix);
        self.path.truncate(shared);
        self.path.extend_from_slice(suffix);
        let Some(entry) = entry else { return self.rows.push(DELETED) };
        let known = self.owners.get(&entry.owner).copied();
        let number = known.unwrap_or(self.owners.len() as u64);
        let same = self.last == Some((entry.mode, number));
        let flags = [
            (part.is_delta, DELTA),
            (part.is_content, CONTENT),
            (part.is_last, LAST),
            (part.pieces != (0..1), PIECES),
            (same, SAME),
        ];
        let flags: u8 = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
        self.rows.push(kind_number(&entry.kind) | flags);
        if !same {
            put(&mut self.rows, entry.mode.into());
            put(&mut self.rows, number);
            self.last = Some((entry.mode, number));
        }
        if known.is_none() {
            let Owner { uid, gid, user, group } = &entry.owner;
            [uid, gid].iter().for_each(|id| put(&mut self.rows, u64::from(**id)));
            [user, group].iter().for_each(|name| put_bytes(&mut self.rows, name));
            self.owners.insert(entry.owner.clone(), number);
        }
        put_signed(&mut self.rows, entry.mtime.wrapping_sub(self.mtime));
        self.mtime = entry.mtime;
        match &entry.kind {
            EntryKind::Symlink { target } => put_bytes(&mut self.rows, target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                [major, minor].iter().for_each(|number| put(&mut self.rows, u64::from(**number)));
            }
            EntryKind::Directory | EntryKind::File | EntryKind::Fifo => {}
        }
        self.put_part(part);
    }

    fn put_part(&mut self, part: &Part) {
        if part.pieces != (0..1) {
            put(&mut self.rows, part.pieces.start);
            put(&mut self.rows, part.pieces.end.saturating_sub(part.pieces.start));
        }
        put(&mut self.rows, part.extents.len() as u64);
        let mut copied_end = 0;
        for extent in part.extents.iter() {
            let (is_copied, offset, length, end) = match extent {
                Extent::Stored { offset, length, .. } => (0, offset, length, &mut self.stored_end),
                Extent::Copied { offset, length } => (1, offset, length, &mut copied_end),
            };
            put(&mut self.rows, length << 1 | is_copied);
            put_signed(&mut self.rows, offset.wrapping_sub(*end) as i64);
            *end = offset.wrapping_add(length);
        }
    }

    /// Returns how many bytes the rows take so far. Frames and chunk hashes, which come at the end,
    /// take some 32 bytes more for each 64 KiB of the stored file.
    pub fn encoded_length(&self) -> usize {
        self.rows.len()
    }

    /// Returns the table; the fields are those of [`Toc`].
    pub fn finish(
        self,
        session: Session,
        volume: u32,
        plain_length: u64,
        frames: &[(u64, Vec<u8>)],
        stored: &StoredFrames,
    ) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        match session {
            Session::Full { time } => {
                bytes.push(0);
                put_signed(&mut bytes, time.seconds());
            }
            Session::Incremental { start, end } => {
                bytes.push(1);
                put_signed(&mut bytes, start.seconds());
                put_signed(&mut bytes, end.seconds());
            }
        }
        put(&mut bytes, volume.into());
        put(&mut bytes, plain_length);
        put(&mut bytes, stored.length);
        put(&mut bytes, frames.len() as u64);
        let mut last = 0;
        for (plain, state) in frames {
            put(&mut bytes, plain.wrapping_sub(last));
            put_bytes(&mut bytes, state);
            last = *plain;
        }
        bytes.extend_from_slice(&stored.sha1);
        stored.chunks.iter().for_each(|hash| bytes.extend_from_slice(hash));
        put(&mut bytes, self.count);
        bytes.extend_from_slice(&self.rows);
        bytes
    }
}

fn kind_number(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::Directory => DIRECTORY,
        EntryKind::File => FILE,
        EntryKind::Symlink { .. } => SYMLINK,
        EntryKind::Fifo => FIFO,
        EntryKind::CharDevice { .. } => CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
    }
}

/// Decodes rows, each with what it leaves out from the ones before it.
struct RowReader<'a> {
    rest: &'a [u8],
    volume: u32,
    plain_length: u64,
    /// The path of the last row; `None` before the first.
    path: Option<EntryPath>,
    owners: Vec<Owner>,
    last: Option<(u16, usize)>,
    mtime: i64,
    stored_end: u64,
}

impl<'a> RowReader<'a> {
    fn new(rest: &'a [u8], toc: &Toc) -> Self {
        let (volume, plain_length) = (toc.volume, toc.plain_length);
        Self {
            rest,
            volume,
            plain_length,
            path: None,
            owners: Vec::new(),
            last: None,
            mtime: 0,
            stored_end: 0,
        }
    }

    fn row(&mut self) -> Result<TocRow, &'static str> {
        let path = self.path()?;
        let head = take_byte(&mut self.rest)?;
        if head == DELETED {
            return Ok(TocRow { path, entry: None, part: Part::default() });
        }
        let (mode, owner) = self.mode_and_owner(head & SAME != 0)?;
        self.mtime = self.mtime.wrapping_add(take_signed(&mut self.rest).ok_or(SHORT)?);
        let kind = self.kind(head & KIND)?;
        let entry = Entry { kind, mode, owner, mtime: self.mtime };
        let part = self.part(head)?;
        Ok(TocRow { path, entry: Some(entry), part })
    }

    fn path(&mut self) -> Result<EntryPath, &'static str> {
        let shared = take_length(&mut self.rest)?;
        let length = take_length(&mut self.rest)?;
        let suffix = take_bytes(&mut self.rest, length)?;
        let before = self.path.as_ref().map(EntryPath::as_bytes).unwrap_or_default();
        let front = before.get(..shared).ok_or("a path shares more than there is")?;
        // Before it is put together: each row may repeat the path before it.
        if front.len() + suffix.len() > EntryPath::LONGEST {
            return Err("a path is too long");
        }
        let path = EntryPath::parse(&[front, suffix].concat())
            .map_err(|_| "not a path below the source directory")?;
        if self.path.as_ref().is_some_and(|before| *before >= path) {
            return Err("paths are not in order");
        }
        self.path = Some(path.clone());
        Ok(path)
    }

    fn mode_and_owner(&mut self, same: bool) -> Result<(u16, Owner), &'static str> {
        let (mode, number) = match same {
            true => self.last.ok_or("no mode and owner to repeat")?,
            false => {
                let mode =
                    u16::try_from(take_number(&mut self.rest)?).ok().filter(|mode| mode >> 12 == 0);
                let mode = mode.ok_or("mode has more than 12 bits")?;
                let number = take_length(&mut self.rest)?;
                if number == self.owners.len() {
                    let owner = self.owner()?;
                    self.owners.push(owner);
                }
                (mode, number)
            }
        };
        self.last = Some((mode, number));
        Ok((mode, self.owners.get(number).ok_or("unknown owner")?.clone()))
    }

    fn owner(&mut self) -> Result<Owner, &'static str> {
        let (uid, gid) = (take_u32(&mut self.rest)?, take_u32(&mut self.rest)?);
        let mut name =
            || take_length(&mut self.rest).and_then(|length| take_bytes(&mut self.rest, length));
        Ok(Owner { uid, gid, user: name()?.to_vec(), group: name()?.to_vec() })
    }

    fn kind(&mut self, number: u8) -> Result<EntryKind, &'static str> {
        let rest = &mut self.rest;
        Ok(match number {
            DIRECTORY => EntryKind::Directory,
            FILE => EntryKind::File,
            SYMLINK => {
                let length = take_length(rest)?;
                EntryKind::Symlink { target: take_bytes(rest, length)?.to_vec() }
            }
            FIFO => EntryKind::Fifo,
            CHAR_DEVICE => EntryKind::CharDevice { major: take_u32(rest)?, minor: take_u32(rest)? },
            BLOCK_DEVICE => {
                EntryKind::BlockDevice { major: take_u32(rest)?, minor: take_u32(rest)? }
            }
            _ => return Err("unknown kind of entry"),
        })
    }

    fn part(&mut self, head: u8) -> Result<Part, &'static str> {
        let pieces = match head & PIECES {
            0 => 0..1,
            _ => {
                let (start, count) = (take_number(&mut self.rest)?, take_number(&mut self.rest)?);
                start..start.checked_add(count).ok_or("more pieces than can be")?
            }
        };
        let count = take_length(&mut self.rest)?;
        // Two bytes each, at least.
        if count > self.rest.len() / 2 {
            return Err(SHORT);
        }
        let mut copied_end = 0u64;
        let mut extent = || {
            let head = take_number(&mut self.rest)?;
            let distance = take_signed(&mut self.rest).ok_or(SHORT)?;
            let (is_copied, length) = (head & 1 != 0, head >> 1);
            let (end, limit) = if is_copied {
                (&mut copied_end, LIMIT)
            } else {
                (&mut self.stored_end, self.plain_length)
            };
            let offset = end.wrapping_add(distance as u64);
            *end = offset
                .checked_add(length)
                .filter(|end| length > 0 && *end <= limit)
                .ok_or("an extent lies outside")?;
            Ok(if is_copied {
                Extent::Copied { offset, length }
            } else {
                Extent::Stored { volume: self.volume, offset, length }
            })
        };
        let extents = (0..count).map(|_| extent()).collect::<Result<_, &'static str>>()?;
        let flag = |flag: u8| head & flag != 0;
        Ok(Part {
            pieces,
            is_delta: flag(DELTA),
            is_content: flag(CONTENT),
            is_last: flag(LAST),
            extents,
        })
    }
}

fn take_frames(rest: &mut &[u8], plain_length: u64) -> Result<Vec<(u64, Vec<u8>)>, &'static str> {
    let count = take_length(rest)?;
    // Two bytes each, at least.
    if count > rest.len() / 2 {
        return Err(SHORT);
    }
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::with_capacity(count);
    for number in 0..count {
        let distance = take_number(rest)?;
        let last = frames.last().map_or(0, |(plain, _)| *plain);
        let plain = last
            .checked_add(distance)
            .filter(|plain| *plain <= plain_length)
            .ok_or("a frame lies outside")?;
        if (number == 0) != (plain == 0) || number > 0 && distance == 0 {
            return Err("frames are not in order");
        }
        let length = take_length(rest)?;
        frames.push((plain, take_bytes(rest, length)?.to_vec()));
    }
    if frames.is_empty() { Err("no frames") } else { Ok(frames) }
}

const SHORT: &str = "it ends too early, or a number is too large";

fn put_bytes(bytes: &mut Vec<u8>, field: &[u8]) {
    put(bytes, field.len() as u64);
    bytes.extend_from_slice(field);
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, &'static str> {
    let (&byte, behind) = rest.split_first().ok_or(SHORT)?;
    *rest = behind;
    Ok(byte)
}

fn take_number(rest: &mut &[u8]) -> Result<u64, &'static str> {
    take(rest).ok_or(SHORT)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, &'static str> {
    take_number(rest)?.try_into().map_err(|_| SHORT)
}

fn take_length(rest: &mut &[u8]) -> Result<usize, &'static str> {
    take_number(rest)?.try_into().map_err(|_| SHORT)
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], &'static str> {
    let (bytes, behind) = rest.split_at_checked(count).ok_or(SHORT)?;
    *rest = behind;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: u64 = 1 << 40;

    fn owner() -> impl Strategy<Value = Owner> {
        (0..3u32, 0..2u32).prop_map(|(uid, gid)| Owner {
            uid,
            gid,
            user: vec![b'u'; uid as usize],
            group: b"g".to_vec(),
        })
    }

    fn kind() -> impl Strategy<Value = EntryKind> {
        prop_oneof![
            Just(EntryKind::Directory),
            Just(EntryKind::File),
            Just(EntryKind::Fifo),
            any::<Vec<u8>>().prop_map(|target| EntryKind::Symlink { target }),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        ]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        (kind(), 0..0x1000u16, owner(), any::<i64>()).prop_map(|(kind, mode, owner, mtime)| Entry {
            kind,
            mode,
            owner,
            mtime,
        })
    }

    fn part() -> impl Strategy<Value = Part> {
        let extent =
            (any::<bool>(), 0..PLAIN / 2, 1..PLAIN / 2).prop_map(|(is_copied, offset, length)| {
                match is_copied {
                    true => Extent::Copied { offset, length },
                    false => Extent::Stored { volume: 7, offset, length },
                }
            });
        let pieces = prop_oneof![
            Just(0..1),
            (0..9u64, 0..1u64 << 60).prop_map(|(start, count)| start..start + count)
        ];
        (pieces, any::<[bool; 3]>(), prop::collection::vec(extent, 0..5)).prop_map(
            |(pieces, [a, b, c], extents)| Part {
                pieces,
                is_delta: a,
                is_content: b,
                is_last: c,
                extents: extents.into_iter().collect(),
            },
        )
    }

    fn rows() -> impl Strategy<Value = Vec<TocRow>> {
        let row = prop::option::of((entry(), part()));
        prop::collection::btree_map("[ab]{1,3}(/[ab\u{e9}]{1,3}){0,3}", row, 0..20).prop_map(
            |rows| {
                let rows = rows.into_iter().map(|(path, row)| {
                    let (entry, part) =
                        row.map_or((None, Part::default()), |(entry, part)| (Some(entry), part));
                    TocRow { path: EntryPath::parse(path.as_bytes()).unwrap(), entry, part }
                });
                let mut rows: Vec<_> = rows.collect();
                rows.sort_by(|a, b| a.path.cmp(&b.path));
                rows
            },
        )
    }

    fn write(session: Session, rows: &[TocRow], stored_length: u64) -> Vec<u8> {
        let mut writer = TocWriter::new();
        rows.iter().for_each(|row| writer.push(&row.path, row.entry.as_ref(), &row.part));
        let frames = [(0, vec![1]), (1 << 20, vec![2; 200])];
        let chunks: Vec<[u8; 32]> =
            (0..stored_length.div_ceil(CHUNK as u64)).map(|number| [number as u8; 32]).collect();
        writer.finish(
            session,
            7,
            PLAIN,
            &frames,
            &StoredFrames { length: stored_length, sha1: [9; SHA1_STATE], chunks },
        )
    }

    fn full() -> Session {
        Session::Full { time: BackupTime::from_seconds(1_700_000_000) }
    }

    proptest! {
        #[test]
        fn tables_round_trip(rows in rows(), times in any::<(i64, i64)>(), stored_length in 0u64..1 << 20) {
            let (start, end) = (BackupTime::from_seconds(times.0), BackupTime::from_seconds(times.1));
            for session in [Session::Full { time: start }, Session::Incremental { start, end }] {
                let toc = Toc::parse(&write(session, &rows, stored_length)).unwrap();
                prop_assert_eq!((toc.session, toc.volume, toc.plain_length), (session, 7, PLAIN));
                let StoredFrames { length, sha1, chunks } = &toc.stored;
                prop_assert_eq!((*length, chunks.len() as u64), (stored_length, stored_length.div_ceil(65536)));
                prop_assert_eq!(sha1, &[9; SHA1_STATE]);
                prop_assert_eq!(&toc.frames, &[(0, vec![1]), (1 << 20, vec![2; 200])]);
                prop_assert_eq!(toc.rows().collect::<Vec<_>>(), rows.clone());
            }
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Toc::parse(&bytes);
            let _ = Toc::parse(&[&MAGIC[..], &[VERSION], &bytes].concat());
        }

        #[test]
        fn damaged_tables_are_tables_or_errors(rows in rows(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = write(full(), &rows, 100_000);
            let at = at.index(bytes.len());
            prop_assert!(Toc::parse(&bytes[..at]).is_err());
            bytes[at] = byte;
            if let Ok(toc) = Toc::parse(&bytes) {
                prop_assert!(toc.rows().count() <= rows.len() + 256);
            }
        }
    }

    #[test]
    fn counts_beyond_all_bounds_take_no_memory() {
        let head = [&MAGIC[..], &[VERSION, 0, 0, 1]].concat();
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let small = |fields: &[&[u8]]| {
            Toc::parse(&[&head[..], &fields.concat()].concat()).unwrap_err().to_string()
        };
        for fields in [
            &[&[9, 9][..], &huge][..],            // frames
            &[&[9], &huge[..], &[1, 0, 0]],       // chunks
            &[&[9, 0, 1, 0, 0], &huge[..]],       // rows
            &[&[9, 0, 1, 0], &huge[..]],          // state
            &[&[9, 0, 1, 0, 0, 1, 0], &huge[..]], // path
            &[&[9, 0, 1, 0, 0, 1, 0, 1, b'a', FILE, 0, 0, 0, 0, 0, 0, 0], &huge[..]], // extents
        ] {
            assert!(small(fields).contains("too early"), "{fields:?}: {}", small(fields));
        }
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let file = |path: &str, extent: Extent| TocRow {
            path: EntryPath::parse(path.as_bytes()).unwrap(),
            entry: Some(Entry {
                kind: EntryKind::File,
                mode: 0o644,
                owner: Owner::default(),
                mtime: 0,
            }),
            part: Part { pieces: 0..1, extents: [extent].into_iter().collect(), ..Part::default() },
        };
        let stored = |offset, length| Extent::Stored { volume: 7, offset, length };
        let refused =
            |rows: &[TocRow]| Toc::parse(&write(full(), rows, 0)).unwrap_err().to_string();
        assert!(Toc::parse(&write(full(), &[file("a", stored(PLAIN - 9, 9))], 0)).is_ok());
        for extent in [
            stored(PLAIN - 9, 10),
            stored(u64::MAX, 1),
            stored(0, 0),
            Extent::Copied { offset: LIMIT, length: 1 },
            Extent::Copied { offset: u64::MAX, length: 2 },
        ] {
            assert!(refused(&[file("a", extent)]).contains("outside"), "{extent:?}");
        }
        assert!(
            refused(&[file("b", stored(0, 1)), file("a", stored(0, 1))]).contains("not in order")
        );
        assert!(
            refused(&[file("a", stored(0, 1)), file("a", stored(0, 1))]).contains("not in order")
        );
        let toc = Toc::parse(&write(full(), &[], 0)).unwrap();
        let mut bytes = Vec::new();
        put(&mut bytes, EntryPath::LONGEST as u64 - 1);
        put_bytes(&mut bytes, b"/a");
        let mut reader = RowReader::new(&bytes, &toc);
        reader.path = Some(EntryPath::parse("n".repeat(EntryPath::LONGEST).as_bytes()).unwrap());
        assert_eq!(reader.path().unwrap_err(), "a path is too long");
    }

    #[test]
    fn a_row_of_a_small_file_is_small() {
        let mut writer = TocWriter::new();
        let entry = |mtime| Entry {
            kind: EntryKind::File,
            mode: 0o644,
            owner: Owner { user: b"me".to_vec(), ..Owner::default() },
            mtime,
        };
        for number in 0..1000u64 {
            let path =
                EntryPath::parse(format!("some/directory/IMG_{number:05}.jpg").as_bytes()).unwrap();
            let extents = [Extent::Stored { volume: 1, offset: number * 5120 + 512, length: 4000 }]
                .into_iter()
                .collect();
            let part =
                Part { pieces: 0..1, is_delta: false, is_content: true, is_last: true, extents };
            writer.push(&path, Some(&entry(1_700_000_000 + number as i64 * 1000)), &part);
        }
        assert!(writer.encoded_length() < 20_000, "{}", writer.encoded_length());
    }
}
