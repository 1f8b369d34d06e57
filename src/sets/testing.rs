//! What the tests of this module share: collections in memory, plain, with or without tables in
//! their volumes.

use super::{Sets, SetsOptions};
use crate::catalog::Chain;
use crate::codec::{self, Codec, Encoding, Options, Table};
use crate::collection::{BackupSet, scan};
use crate::format::{
    CHUNK, Manifest, ManifestVolume, Member, MemberKind, Prefixes, Session, StoredFrames,
    TarReader, TocWriter, VolumeHash,
};
use crate::model::{BackupTime, Entry, EntryPath};
use crate::monitor::{Level, Monitor};
use crate::storage::{self, Call, ReadAt, RecordingStorage, Storage};
use crate::volume::PartBuilder;
use parking_lot::Mutex;
use sha1::Digest;
use sha1::digest::common::hazmat::SerializableState;
use std::path::PathBuf;
use std::sync::Arc;

/// Finds the table in a stored file.
pub type ReadTable =
    dyn Fn(Arc<dyn ReadAt>, Encoding) -> Result<Option<Table>, codec::Error> + Send + Sync;

/// Stored files in memory.
pub use crate::storage::MemoryStorage as Files;

/// What a session found at a path.
#[derive(Clone)]
pub enum PathState {
    Directory,
    File(Vec<u8>),
    Delta(Vec<u8>),
    Gone,
}

/// One line of a session.
pub type Item = (&'static str, PathState);

/// Time of the set at a position.
pub fn time(position: u32) -> BackupTime {
    BackupTime::from_seconds(1_700_000_000 + i64::from(position) * 1000)
}

pub fn session(position: u32) -> Session {
    match position.checked_sub(1) {
        None => Session::Full { time: time(0) },
        Some(before) => Session::Incremental { start: time(before), end: time(position) },
    }
}

pub fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

/// A collection, opened.
pub struct World {
    pub storage: Arc<RecordingStorage>,
    pub codec: Arc<Codec>,
    pub sets: Arc<Sets>,
    pub said: Arc<Said>,
}

/// Keeps what the monitor is told.
#[derive(Default)]
pub struct Said(pub Mutex<Vec<String>>);

impl Monitor for Said {
    fn message(&self, _: Level, text: &str) {
        self.0.lock().push(text.into());
    }
}

impl World {
    /// Opens a new catalog of some files.
    pub fn new(files: &Arc<Files>, directory: Option<PathBuf>, options: Options) -> Self {
        Self::over(RecordingStorage::new(files.clone()), directory, options)
    }

    /// Opens a new catalog of what a storage has.
    pub fn over(storage: RecordingStorage, directory: Option<PathBuf>, options: Options) -> Self {
        let storage = Arc::new(storage);
        let (codec, said) = (Arc::new(Codec::new(options)), Arc::new(Said::default()));
        let mut sets = Sets::open(SetsOptions {
            directory,
            storage: storage.clone(),
            codec: codec.clone(),
            local_copy: None,
            monitor: said.clone(),
        })
        .unwrap();
        sets.tables = Some(Box::new(|file, _| Ok(read_table(&*file))));
        Self { storage, codec, sets: Arc::new(sets), said }
    }

    pub fn plain(files: &Arc<Files>) -> Self {
        Self::new(files, None, Options::default())
    }

    /// Looks at the collection and returns its only chain.
    pub fn chain(&self) -> Arc<Chain> {
        let collection = scan(&self.storage.list().unwrap(), &Prefixes::default());
        let chains = self.sets.set_collection(&collection).unwrap();
        self.storage.take_calls();
        assert_eq!(chains.len(), 1);
        chains[0].clone()
    }

    /// Returns how many requests for files with this in their names have ended since the last time,
    /// and for how many bytes they were.
    pub fn take_reads(&self, part: &str) -> (usize, usize) {
        let calls = self.storage.take_calls();
        let reads = calls.iter().filter_map(|call| match call {
            Call::Read { name, length, .. } if name.contains(part) => Some(*length),
            Call::Received { name, length } if name.contains(part) => Some(*length as usize),
            _ => None,
        });
        reads.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length))
    }

    /// Fills all volumes of a set.
    pub fn fill_volumes(&self, chain: &Chain, position: u32) {
        for number in set(chain, position).volumes.keys() {
            self.sets.fill_volume(chain, position, *number).unwrap();
        }
    }
}

pub fn set(chain: &Chain, position: u32) -> &BackupSet {
    &chain.sets[position as usize]
}

impl Files {
    /// Writes the set at a position: `volumes` holds the items of each volume, of which a file may
    /// go on in the next one with the rest of its bytes. Deltas may not.
    pub fn write(&self, position: u32, volumes: &[&[Item]], with_tables: bool) {
        let end = time(position);
        let (full, new) = (session(position).is_full(), time(position.saturating_sub(1)));
        let name = |full_name: &str, new_name: &str, rest: &str| match full {
            true => format!("{full_name}.{end}.{rest}"),
            false => format!("{new_name}.{new}.to.{end}.{rest}"),
        };
        let mut signatures = tar::Builder::new(Vec::new());
        let mut last_signed = None;
        let mut described = Vec::new();
        for (index, items) in volumes.iter().enumerate() {
            let number = index as u32 + 1;
            let before = index
                .checked_sub(1)
                .and_then(|before| volumes[before].last())
                .map(|(path, _)| *path);
            let after =
                volumes.get(index + 1).and_then(|after| after.first()).map(|(path, _)| *path);
            let mut volume = tar::Builder::new(Vec::new());
            for (at, (path, state)) in items.iter().enumerate() {
                let continues = at + 1 == items.len() && after == Some(path);
                let piece = match (at == 0 && before == Some(path), continues) {
                    (true, _) => Some(2),
                    (false, true) => Some(1),
                    (false, false) => None,
                };
                append(&mut volume, path, state, piece);
                if last_signed != Some(*path) {
                    sign(&mut signatures, path, state);
                    last_signed = Some(*path);
                }
            }
            let goes_on = items.last().is_some_and(|(path, _)| after == Some(path));
            let mut bytes = volume.into_inner().unwrap();
            if with_tables {
                let table = make_table(&bytes, session(position), number, goes_on);
                append_table(&mut bytes, &table);
            }
            let of = |item: Option<&Item>| {
                item.map_or_else(EntryPath::root, |(text, _)| self::path(text))
            };
            described.push(ManifestVolume {
                number,
                first: of(items.first()),
                first_piece: None,
                last: of(items.last()),
                last_piece: goes_on.then_some(1),
                hash: Some(VolumeHash::Sha1(sha1::Sha1::digest(&bytes).into())),
            });
            self.put(
                name("duplicity-full", "duplicity-inc", &format!("vol{number}.difftar")),
                bytes,
            );
        }
        self.put(
            name("duplicity-full-signatures", "duplicity-new-signatures", "sigtar"),
            signatures.into_inner().unwrap(),
        );
        self.put(
            name("duplicity-full", "duplicity-inc", "manifest"),
            Manifest::new(None, None, described).unwrap().print(),
        );
    }

    pub(super) fn put(&self, name: String, bytes: Vec<u8>) {
        self.0.lock().insert(name, bytes);
    }

    /// Changes the bytes of the only file with this in its name.
    pub fn change(&self, part: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut files = self.0.lock();
        let mut found: Vec<_> = files.iter_mut().filter(|(name, _)| name.contains(part)).collect();
        assert_eq!(found.len(), 1, "{part}");
        change(found.remove(0).1);
    }

    /// Puts another table behind the tar of a volume.
    pub fn replace_table(&self, part: &str, table: &[u8]) {
        self.change(part, |bytes| {
            let found = table_start(bytes).unwrap();
            bytes.truncate(found);
            append_table(bytes, table);
        });
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, state: &PathState, piece: Option<u64>) {
    let (prefix, data) = match state {
        PathState::Directory => ("snapshot", &[][..]),
        PathState::File(data) => ("snapshot", &data[..]),
        PathState::Delta(data) => ("diff", &data[..]),
        PathState::Gone => ("deleted", &[][..]),
    };
    let name = match (piece, state) {
        (Some(piece), _) => format!("multivol_{prefix}/{path}/{piece}"),
        (None, PathState::Directory) => format!("{prefix}/{path}/"),
        (None, _) => format!("{prefix}/{path}"),
    };
    append_entry(tar, &name, matches!(state, PathState::Directory), data);
}

fn sign(tar: &mut tar::Builder<Vec<u8>>, path: &str, state: &PathState) {
    let signature = [0x72730136_u32, 512, 8].map(u32::to_be_bytes).concat();
    match state {
        PathState::Directory => {
            append_entry(tar, &format!("snapshot/{}/", path.trim_start_matches('.')), true, &[])
        }
        PathState::Gone => append_entry(tar, &format!("deleted/{path}"), false, &[]),
        PathState::File(_) | PathState::Delta(_) => {
            append_entry(tar, &format!("signature/{path}"), false, &signature)
        }
    }
}

fn append_entry(tar: &mut tar::Builder<Vec<u8>>, name: &str, is_directory: bool, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(if is_directory {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_mode(0o755);
    header.set_uid(1);
    header.set_gid(1);
    header.set_mtime(1_000_000_000);
    header.set_size(data.len() as u64);
    header.set_cksum();
    tar.append(&header, data).unwrap();
}

/// Makes the table that a writer would have made of a plain tar.
pub fn make_table(tar: &[u8], session: Session, number: u32, goes_on: bool) -> Vec<u8> {
    make_table_behind(&stored_frames(tar), tar, session, number, goes_on)
}

/// Makes the table of a plain tar, but for other stored bytes before it.
pub fn make_table_behind(
    stored: &StoredFrames,
    tar: &[u8],
    session: Session,
    number: u32,
    goes_on: bool,
) -> Vec<u8> {
    let mut writer = TocWriter::new();
    let mut rows: Vec<(EntryPath, Option<Entry>, PartBuilder)> = Vec::new();
    let mut reader = TarReader::new(tar);
    while let Some(header) = reader.next().unwrap() {
        let member = Member::parse(&header).unwrap();
        let data = member.offset..member.offset + member.length;
        match rows.last_mut() {
            Some((path, _, part)) if *path == member.path => {
                part.go_on(member.kind, member.piece, data);
            }
            _ => {
                let part = PartBuilder::new(number, member.kind, member.piece, data);
                rows.push((member.path, member.entry, part));
            }
        }
        while let Some(bytes) = reader.chunk().unwrap() {
            if member.kind == MemberKind::Delta {
                rows.last_mut().unwrap().2.data(bytes);
            }
        }
    }
    let count = rows.len();
    for (index, (path, entry, part)) in rows.into_iter().enumerate() {
        writer.push(&path, entry.as_ref(), &part.finish(index + 1 < count || !goes_on).unwrap());
    }
    let codec = Codec::new(Options::default());
    let file: Arc<dyn ReadAt> = Arc::new(Bytes(tar.to_vec()));
    let mut decoder = codec.decode(file, Encoding::Plain).unwrap();
    decoder.collect_seek_points(1 << 16);
    decoder.drain().unwrap();
    let frames: Vec<_> =
        decoder.take_seek_points().into_iter().map(|point| (point.plain, point.state)).collect();
    writer.finish(session, number, tar.len() as u64, &frames, stored)
}

/// Returns what a table says of the stored bytes before it.
pub fn stored_frames(bytes: &[u8]) -> StoredFrames {
    let chunks = bytes.chunks(CHUNK).map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
    let sha1 = sha1::Sha1::new_with_prefix(bytes).serialize().into();
    StoredFrames { length: bytes.len() as u64, sha1, chunks }
}

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn name(&self) -> &str {
        "bytes"
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let bytes = &self.0[self.0.len().min(offset as usize)..];
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }
}

const FOOTER: &[u8; 8] = b"testtoc!";

/// Appends two zero blocks, the table, and a footer by which it is found.
fn append_table(bytes: &mut Vec<u8>, table: &[u8]) {
    let start = bytes.len() as u64;
    bytes.extend_from_slice(table);
    bytes.extend_from_slice(&start.to_le_bytes());
    bytes.extend_from_slice(FOOTER);
}

fn table_start(bytes: &[u8]) -> Option<usize> {
    let (start, footer) = bytes.split_last_chunk::<16>()?.1.split_at(8);
    (footer == FOOTER).then(|| u64::from_le_bytes(start.try_into().unwrap()) as usize)
}

/// Reads the last 64 KiB of a file, and finds the table there.
fn read_table(file: &dyn ReadAt) -> Option<Table> {
    let from = file.size().saturating_sub(65536);
    let mut end = vec![0; (file.size() - from) as usize];
    file.read_at(from, &mut end).ok()?;
    let start = table_start(&end)? as u64;
    let behind = end.get(start.checked_sub(from)? as usize..)?.to_vec();
    let bytes = behind.get(..behind.len() - 16)?.to_vec();
    Some(Table { bytes, stored_start: start, plain_start: start, behind })
}
