//! The text of a manifest: which paths each volume of a set holds, and the hash of the volume as
//! stored.
//!
//! ```text
//! Hostname vm
//! Localdir mes
//! Volume 1:
//!     StartingPath   .  
//!     EndingPath     bigrand 15
//!     Hash SHA1 aa16b65acc26afaf2fd8166c7279669c1f26c641
//! Volume 2:
//!     StartingPath   bigrand 16
//!     EndingPath     "with\x20space"  
//!     Hash SHA1 021d354e3eb35b94de6f5285e8b9ec0dcdfa7585
//! Filelist 1
//!     new      "with\x20space"
//! ```
//!
//! The number behind a path is that of a piece. `EndingPath` with number k: the file goes on in the
//! next volume after piece k. `StartingPath` with number k: the volume begins with piece k and that
//! is not the last. No number: the member is not split, *or* it is the last piece of a file; absent
//! does not mean unsplit.
//!
//! Three things make manifests harder than they look:
//! - A session that was interrupted and went on appends to what it had written, so a volume may be
//!   described twice; the last block wins, and the volumes that were forgotten are those above the
//!   number of the very last block (1, 2, 3, 2 means 1 and 2).
//! - duplicity 0.8's `replicate` writes blocks in any order, each once. The rule about the last
//!   block would drop volumes then (and duplicity does drop them), so it counts only when some
//!   volume is described twice.
//! - A `Filelist` may stand between blocks, after a restart. It belongs to no block and ends with
//!   the next one.
//!
//! Nothing protects a manifest against damage; a set's volumes in the listing are a second witness
//! of how many there are.
//!
//! Source: manifests of duplicity 0.8.22 and 3.2.1, of sessions killed at many points, and of
//! `replicate`.

use super::{ByteSource, Error, ReadError, tar::decimal};
use crate::model::EntryPath;
use std::ops::Range;

/// Blocks that are taken: a million volumes of the default size are 200 TB.
const MOST_VOLUMES: usize = 1 << 20;

/// Bytes of paths that are held; of most volumes there is one.
const MOST_PATHS: usize = 128 << 20;

/// The longest line that is taken, in bytes: a path of 64 KiB with every byte quoted, and then
/// some.
const MOST_LINE: usize = 1024 * 1024;

/// How much is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

/// A set's volumes.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Name of the machine that was backed up.
    pub hostname: Option<Vec<u8>>,
    /// The source directory as it was typed.
    pub local_directory: Option<Vec<u8>>,
    /// The volumes by number; at least one.
    volumes: Vec<Row>,
    /// The paths that they begin and end with, one behind the other.
    paths: Vec<u8>,
    /// Whether each volume starts where the one before ends, or after it, so that paths can be
    /// searched in halves.
    ordered: bool,
}

/// One volume of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestVolume {
    /// Its number, from 1.
    pub number: u32,
    /// Path of its first member.
    pub first: EntryPath,
    /// The first member's piece, unless it is a file's last piece or not split.
    pub first_piece: Option<u64>,
    /// Path of its last member.
    pub last: EntryPath,
    /// The last member's piece, unless it is a file's last piece or not split.
    pub last_piece: Option<u64>,
    /// Hash of the stored file; `None` if there is none that can be read. duplicity always writes
    /// one, and cannot restore without it.
    pub hash: Option<VolumeHash>,
}

/// A volume as it is held: there may be hundreds of thousands.
#[derive(Debug, Clone, Copy)]
struct Row {
    number: u32,
    first: PathSpan,
    first_piece: Option<u64>,
    last: PathSpan,
    last_piece: Option<u64>,
    hash: Option<VolumeHash>,
}

/// Where a path lies among the paths.
#[derive(Debug, Clone, Copy)]
struct PathSpan {
    start: u32,
    length: u32,
}

/// Hash of a volume's stored bytes, after compression and encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeHash {
    /// The only one that current versions write.
    Sha1([u8; 20]),
    /// Read where there is no other.
    Md5([u8; 16]),
}

/// What a set did to a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// It is stored whole.
    New,
    /// It is stored as a delta.
    Changed,
    /// There was a regular file, and now there is none.
    Deleted,
}

impl ManifestVolume {
    /// Prints the block of lines of a volume.
    pub fn print(&self) -> Vec<u8> {
        let mut text = format!("Volume {}:\n", self.number).into_bytes();
        let bounds = [
            ("StartingPath   ", &self.first, self.first_piece),
            ("EndingPath     ", &self.last, self.last_piece),
        ];
        for (word, path, piece) in bounds {
            let piece = piece.map_or(" ".into(), |piece| piece.to_string());
            text.extend(
                [
                    b"    ",
                    word.as_bytes(),
                    &Manifest::print_path(path),
                    b" ",
                    piece.as_bytes(),
                    b"\n",
                ]
                .concat(),
            );
        }
        self.hash.iter().for_each(|hash| text.extend(print_hash(hash)));
        text
    }
}

/// Prints the line of a hash.
fn print_hash(hash: &VolumeHash) -> Vec<u8> {
    let (word, digits) = match hash {
        VolumeHash::Sha1(digest) => ("SHA1", hex(digest)),
        VolumeHash::Md5(digest) => ("MD5", hex(digest)),
    };
    format!("    Hash {word} {digits}\n").into_bytes()
}

impl Manifest {
    /// Takes volumes in any order; of two with one number the later one stays.
    ///
    /// # Errors
    /// [`Error::Manifest`] when their paths take more memory than any backup needs.
    pub fn new(
        hostname: Option<Vec<u8>>,
        local_directory: Option<Vec<u8>>,
        volumes: impl IntoIterator<Item = ManifestVolume>,
    ) -> Result<Self, Error> {
        let mut manifest = Self { hostname, local_directory, ..Self::default() };
        for volume in volumes {
            manifest.push(volume).map_err(|cause| Error::Manifest { line: 0, cause })?;
        }
        manifest.sort();
        Ok(manifest)
    }

    /// Adds a volume behind the others.
    fn push(&mut self, volume: ManifestVolume) -> Result<(), &'static str> {
        if self.volumes.len() == MOST_VOLUMES {
            return Err("more volumes than any backup has");
        }
        let ManifestVolume { number, first, first_piece, last, last_piece, hash } = volume;
        let mut place = |path: &EntryPath,
                         known: Option<PathSpan>|
         -> Result<PathSpan, &'static str> {
            // Most volumes begin where the one before ends.
            if let Some(known) = known.filter(|known| known.of(&self.paths) == path.as_bytes()) {
                return Ok(known);
            }
            let start = self.paths.len();
            self.paths.extend_from_slice(path.as_bytes());
            if self.paths.len() > MOST_PATHS {
                return Err("the paths of its volumes take more memory than any backup needs");
            }
            Ok(PathSpan { start: start as u32, length: path.as_bytes().len() as u32 })
        };
        let first = place(&first, self.volumes.last().map(|before| before.last))?;
        let last = place(&last, Some(first))?;
        self.volumes.push(Row { number, first, first_piece, last, last_piece, hash });
        Ok(())
    }

    /// Puts the volumes in order; of two with one number the later one stays.
    fn sort(&mut self) {
        self.volumes.reverse();
        self.volumes.sort_by_key(|volume| volume.number);
        self.volumes.dedup_by_key(|volume| volume.number);
        self.volumes.shrink_to_fit();
        self.paths.shrink_to_fit();
        let bounds = |row: &Row| (self.path(row.first), self.path(row.last));
        let mut before: Option<EntryPath> = None;
        self.ordered = self.volumes.iter().all(|row| {
            let (first, last) = bounds(row);
            let follows = first <= last && before.as_ref().is_none_or(|before| *before <= first);
            before = Some(last);
            follows
        });
    }

    /// Returns how much memory the volumes take, in bytes.
    pub fn weight(&self) -> usize {
        self.volumes.len() * size_of::<Row>() + self.paths.len()
    }

    fn path(&self, place: PathSpan) -> EntryPath {
        // It was one.
        EntryPath::parse(place.of(&self.paths)).unwrap_or_default()
    }

    fn described(&self, row: &Row) -> ManifestVolume {
        let Row { number, first, first_piece, last, last_piece, hash } = *row;
        ManifestVolume {
            number,
            first: self.path(first),
            first_piece,
            last: self.path(last),
            last_piece,
            hash,
        }
    }

    /// Parses the decoded bytes of a manifest.
    ///
    /// # Errors
    /// [`Error::Manifest`] when a volume lacks its number or a path, a line of a volume is
    /// malformed, or there is no volume at all.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut parser = Parser::default();
        let mut count = 0;
        for line in bytes.split(|&b| b == b'\n') {
            count += 1;
            parser.take_line(line).map_err(|cause| Error::Manifest { line: count, cause })?;
        }
        parser.finish().map_err(|cause| Error::Manifest { line: count, cause })
    }

    /// Reads and parses a manifest; its list of files is never held in memory.
    ///
    /// # Errors
    /// [`ReadError::Source`] when the source fails, otherwise as [`Manifest::parse`].
    pub fn read<S: ByteSource<Error: std::error::Error + 'static>>(
        source: S,
    ) -> Result<Self, ReadError<S::Error>> {
        let mut parser = Parser::default();
        let take = |line: &[u8], count| {
            parser.take_line(line).map_err(|cause| Error::Manifest { line: count, cause }.into())
        };
        let count = each_line::<S, ReadError<S::Error>>(source, take)?;
        Ok(parser.finish().map_err(|cause| Error::Manifest { line: count, cause })?)
    }

    /// Reads a manifest and reports its lists of files, line by line: regular files only, in path
    /// order but for restarts.
    ///
    /// # Errors
    /// [`ReadError::Source`] when the source fails, [`Error::Manifest`] for a malformed line in a
    /// list; some lines may have been reported then.
    pub fn read_list<S: ByteSource<Error: std::error::Error + 'static>>(
        source: S,
        mut report: impl FnMut(FileChange, &EntryPath),
    ) -> Result<(), ReadError<S::Error>> {
        let mut in_list = false;
        let take = |line: &[u8], count| {
            if after_word(line, b"Volume").is_some() || after_word(line, b"Filelist").is_some() {
                in_list = after_word(line, b"Filelist").is_some();
            } else if in_list && !line.trim_ascii().is_empty() {
                let (change, path) = list_line(line).ok_or(Error::Manifest {
                    line: count,
                    cause: "malformed line in the list of files",
                })?;
                report(change, &path);
            }
            Ok(())
        };
        each_line::<S, ReadError<S::Error>>(source, take).map(drop)
    }

    /// Copies a manifest line by line, its list of files included, with the hashes that `hash`
    /// gives for some of its volumes.
    ///
    /// # Errors
    /// [`ReadError::Source`] when the source fails, [`Error::Manifest`] for a malformed line, and
    /// those of `out`.
    pub fn copy<S, E>(
        source: S,
        mut out: impl FnMut(&[u8]) -> Result<(), E>,
        hash: impl Fn(u32) -> Option<VolumeHash>,
    ) -> Result<(), E>
    where
        S: ByteSource<Error: std::error::Error + 'static>,
        E: From<ReadError<S::Error>>,
    {
        let mut parser = Parser::default();
        let take = |line: &[u8], count| {
            let failed = |cause| ReadError::from(Error::Manifest { line: count, cause });
            parser.take_line(line).map_err(failed)?;
            let block = parser.block.as_ref().filter(|_| !parser.in_list);
            let block = block.filter(|_| after_word(line.trim_ascii_start(), b"Hash").is_some());
            let printed = match block.and_then(|block| hash(block.number)) {
                Some(hash) => print_hash(&hash),
                None if line.is_empty() => Vec::new(),
                None => [line, b"\n"].concat(),
            };
            out(&printed)
        };
        each_line::<S, E>(source, take).map(drop)
    }

    /// Prints the manifest, without a list of files.
    pub fn print(&self) -> Vec<u8> {
        let mut text = Self::print_head(self.hostname.as_deref(), self.local_directory.as_deref());
        self.volumes().for_each(|volume| text.extend(volume.print()));
        text
    }

    /// Prints the lines before the first volume.
    pub fn print_head(hostname: Option<&[u8]>, local_directory: Option<&[u8]>) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(hostname) = hostname {
            text.extend([b"Hostname ", hostname, b"\n"].concat());
        }
        if let Some(directory) = local_directory {
            text.extend([b"Localdir ", &quote(directory)[..], b"\n"].concat());
        }
        text
    }

    /// Prints the line in front of a list of so many files.
    pub fn print_list_head(count: u64) -> Vec<u8> {
        format!("Filelist {count}\n").into_bytes()
    }

    /// Prints the line of one regular file.
    pub fn print_list_line(change: FileChange, path: &EntryPath) -> Vec<u8> {
        let word: &[u8] = match change {
            FileChange::New => b"    new      ",
            FileChange::Changed => b"    changed  ",
            FileChange::Deleted => b"    deleted  ",
        };
        [word, &Self::print_path(path), b"\n"].concat()
    }

    /// Returns a path as lines have it: quoted if it has to be, the root as a dot.
    pub fn print_path(path: &EntryPath) -> Vec<u8> {
        if path.is_root() { b".".to_vec() } else { quote(path.as_bytes()) }
    }

    /// Returns the volumes by number; at least one in a parsed manifest.
    pub fn volumes(&self) -> impl DoubleEndedIterator<Item = ManifestVolume> + ExactSizeIterator {
        self.volumes.iter().map(|row| self.described(row))
    }

    /// Returns whether each volume starts where the one before ends, or after it.
    pub fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// Returns the volume of this number.
    pub fn volume(&self, number: u32) -> Option<ManifestVolume> {
        let index = self.volumes.binary_search_by_key(&number, |volume| volume.number).ok()?;
        self.volumes.get(index).map(|row| self.described(row))
    }

    /// Returns the volumes that may hold members of exactly this path.
    pub fn volumes_with(&self, path: &EntryPath) -> impl Iterator<Item = ManifestVolume> {
        self.stretch(|_, last| last < path, |first, _| first > path)
    }

    /// Returns the volumes that may hold members of this path or of any path below it.
    pub fn volumes_below(&self, path: &EntryPath) -> impl Iterator<Item = ManifestVolume> {
        self.stretch(|_, last| last < path, |first, _| first > path && !first.starts_with(path))
    }

    /// Returns the volumes that lie neither before nor after what is sought, by their first and
    /// last paths. Where volumes overlap, as only damage or another program can make them, it is
    /// the shortest stretch that holds all of these.
    fn stretch(
        &self,
        before: impl Fn(&EntryPath, &EntryPath) -> bool,
        after: impl Fn(&EntryPath, &EntryPath) -> bool,
    ) -> impl Iterator<Item = ManifestVolume> {
        let before = |row: &Row| before(&self.path(row.first), &self.path(row.last));
        let after = |row: &Row| after(&self.path(row.first), &self.path(row.last));
        let range = if self.ordered {
            let start = self.volumes.partition_point(before);
            start..self.volumes.partition_point(|row| !after(row))
        } else {
            let meets = |row: &Row| !before(row) && !after(row);
            let start = self.volumes.iter().position(meets).unwrap_or(0);
            start..self.volumes.iter().rposition(meets).map_or(start, |last| last + 1)
        };
        self.volumes
            .get::<Range<usize>>(range)
            .unwrap_or_default()
            .iter()
            .map(|row| self.described(row))
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        (&self.hostname, &self.local_directory) == (&other.hostname, &other.local_directory)
            && self.volumes().eq(other.volumes())
    }
}

impl Eq for Manifest {}

impl PathSpan {
    fn of(self, paths: &[u8]) -> &[u8] {
        let start = self.start as usize;
        paths.get(start..start + self.length as usize).unwrap_or_default()
    }
}

/// Hands out each line of a source, without its end, with its number from 1; returns how many there
/// are. What follows the last newline is a line, too, perhaps an empty one.
fn each_line<S, E>(
    mut source: S,
    mut take: impl FnMut(&[u8], usize) -> Result<(), E>,
) -> Result<usize, E>
where
    S: ByteSource<Error: std::error::Error + 'static>,
    E: From<ReadError<S::Error>>,
{
    let (mut line, mut count) = (Vec::new(), 1);
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = source.read_bytes(&mut buffer).map_err(ReadError::Source)?;
        let mut rest = &buffer[..length];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            take(&line, count)?;
            line.clear();
            count += 1;
            rest = &rest[end + 1..];
        }
        line.extend_from_slice(rest);
        if length == 0 {
            take(&line, count)?;
            return Ok(count);
        }
        // Whoever writes longer lines than any path can be wants to exhaust memory.
        if line.len() >= MOST_LINE {
            let cause = "line is too long";
            return Err(ReadError::from(Error::Manifest { line: count, cause }).into());
        }
    }
}

/// What has been read of a manifest.
#[derive(Default)]
struct Parser {
    /// Its volumes are in the order of the text.
    manifest: Manifest,
    block: Option<Block>,
    /// Whether the lines belong to a list of files.
    in_list: bool,
}

/// A volume's block as far as it has been read.
#[derive(Default)]
struct Block {
    number: u32,
    first: Option<(EntryPath, Option<u64>)>,
    last: Option<(EntryPath, Option<u64>)>,
    hash: Option<VolumeHash>,
}

impl Parser {
    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if let Some(rest) = after_word(line, b"Volume") {
            self.end_block()?;
            let number = rest
                .strip_suffix(b":")
                .and_then(decimal)
                .and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|&number| number > 0).ok_or("malformed volume number")?;
            self.block = Some(Block { number, ..Block::default() });
            self.in_list = false;
        } else if after_word(line, b"Filelist").is_some() {
            self.in_list = true;
        } else if self.in_list {
        } else if let Some(block) = &mut self.block {
            block.take_line(line)?;
        } else if let Some(rest) = after_word(line, b"Hostname") {
            self.manifest.hostname.get_or_insert_with(|| rest.to_vec());
        } else if let Some(rest) = after_word(line, b"Localdir") {
            let directory = unquote(rest).ok_or("malformed quoting")?;
            self.manifest.local_directory.get_or_insert(directory);
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), &'static str> {
        if let Some(block) = self.block.take() {
            let (first, first_piece) =
                block.first.ok_or("the volume before has no starting path")?;
            let (last, last_piece) = block.last.ok_or("the volume before has no ending path")?;
            self.manifest.push(ManifestVolume {
                number: block.number,
                first,
                first_piece,
                last,
                last_piece,
                hash: block.hash,
            })?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Manifest, &'static str> {
        self.end_block()?;
        let mut manifest = self.manifest;
        let last = manifest.volumes.last().ok_or("no volumes")?.number;
        let count = manifest.volumes.len();
        manifest.sort();
        if manifest.volumes.len() < count {
            manifest.volumes.retain(|volume| volume.number <= last);
            manifest.sort();
        }
        Ok(manifest)
    }
}

impl Block {
    /// Takes an indented line; unknown ones say nothing to us.
    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.trim_ascii_start();
        if let Some(rest) = after_word(line, b"StartingPath") {
            self.first = Some(bound(rest).ok_or("malformed starting path")?);
        } else if let Some(rest) = after_word(line, b"EndingPath") {
            self.last = Some(bound(rest).ok_or("malformed ending path")?);
        } else if let Some(rest) = after_word(line, b"Hash") {
            // One that is malformed is none: then this volume cannot be trusted, and the others
            // can.
            let found = if let Some(digits) = after_word(rest, b"SHA1") {
                unhex(digits).map(VolumeHash::Sha1)
            } else {
                after_word(rest, b"MD5").and_then(unhex).map(VolumeHash::Md5)
            };
            if !matches!(
                (self.hash, found),
                (Some(VolumeHash::Sha1(_)), Some(VolumeHash::Md5(_))) | (_, None)
            ) {
                self.hash = found;
            }
        }
        Ok(())
    }
}

/// Takes a keyword, in any case, and the blanks behind it from the front of a line.
fn after_word<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(word.len())?;
    let blank = rest.first().is_some_and(|&b| b == b' ' || b == b'\t');
    (start.eq_ignore_ascii_case(word) && blank).then(|| rest.trim_ascii_start())
}

/// Parses the line of a regular file, as [`Manifest::print_list_line`] prints it.
fn list_line(line: &[u8]) -> Option<(FileChange, EntryPath)> {
    let line = line.trim_ascii_start();
    let words = [
        (&b"new"[..], FileChange::New),
        (b"changed", FileChange::Changed),
        (b"deleted", FileChange::Deleted),
    ];
    let (rest, change) =
        words.iter().find_map(|(word, change)| Some((after_word(line, word)?, *change)))?;
    Some((change, EntryPath::parse(&unquote(rest)?).ok()?))
}

/// Parses a path and perhaps the number of a piece behind it.
fn bound(text: &[u8]) -> Option<(EntryPath, Option<u64>)> {
    // Blanks inside a path are quoted, so the first one ends it.
    let end = text.iter().position(|&b| b == b' ').unwrap_or(text.len());
    let (path, piece) = (unquote(&text[..end])?, text[end..].trim_ascii());
    let piece = if piece.is_empty() { None } else { Some(decimal(piece)?) };
    Some((EntryPath::parse(&path).ok().filter(|_| !path.is_empty())?, piece))
}

/// Returns whether a path that holds this byte is written in quotes. The byte itself is then
/// written as `\xHH`, all others raw.
fn needs_quoting(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | b'\\' | b'"' | b'\'')
}

/// Quotes a path if it has to be.
fn quote(path: &[u8]) -> Vec<u8> {
    if !path.iter().any(|&b| needs_quoting(b)) {
        return path.to_vec();
    }
    let mut quoted = vec![b'"'];
    for &byte in path {
        match needs_quoting(byte) {
            true => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
            false => quoted.push(byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// Undoes [`quote`]; `None` when the second quote is missing or a backslash starts something else.
fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = text.strip_prefix(b"\"") else {
        return Some(text.to_vec());
    };
    let mut parts = rest.strip_suffix(b"\"")?.split(|&b| b == b'\\');
    let mut path = parts.next()?.to_vec();
    for part in parts {
        let (digits, rest) = part.strip_prefix(b"x")?.split_at_checked(2)?;
        path.extend(unhex::<1>(digits)?);
        path.extend_from_slice(rest);
    }
    Some(path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Parses exactly `N` bytes of hexadecimal digits, with blanks behind them perhaps.
fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.trim_ascii_end().as_chunks::<2>();
    let mut bytes = [0; N];
    if !rest.is_empty() || pairs.len() != N {
        return None;
    }
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = (digit(high)? << 4 | digit(low)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    /// As duplicity 0.8.22 and 3.2.1 both write it.
    const EXAMPLE: &str = r#"Hostname vm
Localdir mes
Volume 1:
    StartingPath   .  
    EndingPath     bigrand 15
    Hash SHA1 aa16b65acc26afaf2fd8166c7279669c1f26c641
Volume 2:
    StartingPath   bigrand 16
    EndingPath     "with\x20space\x20\x22q\x27\x5c\x0a\x09tab"  
    Hash SHA1 021d354e3eb35b94de6f5285e8b9ec0dcdfa7585
"#;

    const FILELIST: &str = r#"Filelist 3
    changed  bigrand
    deleted  "gone\x20away"
    new      StartingPath
"#;

    #[test]
    fn a_manifest_of_duplicity() {
        let manifest = Manifest::parse(format!("{EXAMPLE}{FILELIST}").as_bytes()).unwrap();
        assert_eq!(manifest.hostname.as_deref(), Some(&b"vm"[..]));
        assert_eq!(manifest.local_directory.as_deref(), Some(&b"mes"[..]));
        let [one, two] = &manifest.volumes().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!((one.number, &one.first, one.first_piece), (1, &path("."), None));
        assert_eq!((&one.last, one.last_piece), (&path("bigrand"), Some(15)));
        assert_eq!((two.number, &two.first, two.first_piece), (2, &path("bigrand"), Some(16)));
        assert_eq!((&two.last, two.last_piece), (&path("with space \"q'\\\n\ttab"), None));
        let Some(VolumeHash::Sha1(hash)) = two.hash else { panic!() };
        assert_eq!(hex(&hash), "021d354e3eb35b94de6f5285e8b9ec0dcdfa7585");
        assert_eq!(manifest.volume(2).as_ref(), Some(two));
        assert_eq!(manifest.volume(3), None);
        assert_eq!(manifest.print(), EXAMPLE.as_bytes());
    }

    #[test]
    fn a_copy_has_other_hashes() {
        let copy = |text: &str, hash: &dyn Fn(u32) -> Option<VolumeHash>| {
            let mut out = Vec::new();
            let write = |bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok::<_, ReadError<std::io::Error>>(())
            };
            Manifest::copy(text.as_bytes(), write, hash).map(|()| String::from_utf8(out).unwrap())
        };
        let list = "Filelist 1\n    new      Hash\n";
        let text = format!("{EXAMPLE}{list}");
        assert_eq!(copy(&text, &|_| None).unwrap(), text);
        let new = VolumeHash::Sha1([0xab; 20]);
        let expected = text.replace("021d354e3eb35b94de6f5285e8b9ec0dcdfa7585", &"ab".repeat(20));
        assert_eq!(copy(&text, &|number| (number == 2).then_some(new)).unwrap(), expected);
        // Lines from the future stay, and a weaker hash of the same volume goes.
        let text = "Volume 1:\n    StartingPath a\n    EndingPath b\n    Hash MD5 00112233445566778899aabbccddeeff\n    Colour red";
        let expected = format!(
            "Volume 1:\n    StartingPath a\n    EndingPath b\n    Hash SHA1 {}\n    Colour red\n",
            "ab".repeat(20)
        );
        assert_eq!(copy(text, &|_| Some(new)).unwrap(), expected);
        assert!(copy("Volume x:\n", &|_| None).is_err());
    }

    fn block(number: u32, first: &str, last: &str) -> String {
        format!("Volume {number}:\n    StartingPath   {first}  \n    EndingPath     {last}  \n")
    }

    fn numbers(text: &str) -> Vec<u32> {
        Manifest::parse(text.as_bytes()).unwrap().volumes().map(|volume| volume.number).collect()
    }

    #[test]
    fn repeated_and_unsorted_blocks() {
        let cases: [(&[u32], &[u32]); 6] = [
            (&[1, 2, 3], &[1, 2, 3]),
            (&[1, 2, 3, 2], &[1, 2]),
            (&[1, 2, 3, 2, 3, 4, 5], &[1, 2, 3, 4, 5]),
            (&[1, 2, 3, 4, 5, 5], &[1, 2, 3, 4, 5]),
            (&[5, 1, 2, 4, 3], &[1, 2, 3, 4, 5]),
            (&[1, 2, 1], &[1]),
        ];
        for (written, expected) in cases {
            // A list of files may stand between any two blocks.
            let text: String =
                written.iter().map(|&number| block(number, "a", "b") + FILELIST).collect();
            assert_eq!(numbers(&text), expected, "{written:?}");
        }
        let text = block(1, "a", "old") + &block(1, "a", "new");
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().volume(1).unwrap().last, path("new"));
    }

    #[test]
    fn lists_are_told_wherever_they_stand() {
        let told = |text: &str| {
            let mut told = Vec::new();
            Manifest::read_list(text.as_bytes(), |change, path| told.push((change, path.clone())))
                .map(|()| told)
        };
        let expected = [
            (FileChange::Changed, path("bigrand")),
            (FileChange::Deleted, path("gone away")),
            (FileChange::New, path("StartingPath")),
        ];
        assert_eq!(told(&format!("{EXAMPLE}{FILELIST}")).unwrap(), expected);
        let twice = block(1, "a", "b") + FILELIST + &block(2, "b", "c") + FILELIST;
        assert_eq!(told(&twice).unwrap(), [&expected[..], &expected[..]].concat());
        assert_eq!(told(EXAMPLE).unwrap(), []);
        for bad in ["    new      ../x", "    gone     x", "    new      \"x", "    new"] {
            assert!(told(&format!("{EXAMPLE}Filelist 1\n{bad}\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn odd_but_readable() {
        // As `replicate` writes it, and as an empty increment looks; keywords in any case; lines
        // from the future.
        let manifest = Manifest::parse(block(1, ".", ".").as_bytes()).unwrap();
        assert_eq!((manifest.hostname, manifest.local_directory), (None, None));
        let text = "hostname A B\nHOSTNAME C\nLocaldir \"a\\x20b\"\nvolume 1:\n\tstartingpath a\n    Colour red\n    ENDINGPATH b 7";
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.hostname.as_deref(), Some(&b"A B"[..]));
        assert_eq!(manifest.local_directory.as_deref(), Some(&b"a b"[..]));
        assert_eq!(
            manifest.volume(1).map(|volume| (volume.last_piece, volume.hash)),
            Some((Some(7), None))
        );
    }

    #[test]
    fn sha1_goes_before_md5() {
        let (sha1, md5) = (
            format!("    Hash SHA1 {}\n", "ab".repeat(20)),
            format!("    Hash MD5 {}\n", "CD".repeat(16)),
        );
        let hash = |lines: String| {
            Manifest::parse((block(1, "a", "b") + &lines).as_bytes())
                .unwrap()
                .volume(1)
                .unwrap()
                .hash
        };
        assert_eq!(hash(format!("{sha1}{md5}")), Some(VolumeHash::Sha1([0xab; 20])));
        assert_eq!(hash(format!("{md5}{sha1}")), Some(VolumeHash::Sha1([0xab; 20])));
        assert_eq!(hash(md5), Some(VolumeHash::Md5([0xcd; 16])));
        for none in ["BLAKE3 abcd", "SHA1 abcd", "SHA1", "MD5 xx", ""] {
            assert_eq!(hash(format!("    Hash {none}\n")), None, "{none}");
            assert_eq!(
                hash(format!("{sha1}    Hash {none}\n")),
                Some(VolumeHash::Sha1([0xab; 20])),
                "{none}"
            );
        }
    }

    #[test]
    fn many_volumes_take_little_memory() {
        let volume = |number: u32| ManifestVolume {
            number,
            first: path(&format!("some/folder/{number:06}")),
            first_piece: None,
            last: path(&format!("some/folder/{:06}", number + 1)),
            last_piece: None,
            hash: Some(VolumeHash::Sha1([7; 20])),
        };
        let manifest = Manifest::new(None, None, (1..=10_000).map(volume)).unwrap();
        assert!(manifest.weight() < 10_000 * 120, "{}", manifest.weight());
        assert_eq!(manifest.volume(5000), Some(volume(5000)));
        let long = |number: u32| ManifestVolume {
            last: path(&"x".repeat(60_000 + number as usize)),
            ..volume(number)
        };
        assert!(Manifest::new(None, None, (1..2400).map(long)).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        let good = block(1, "a", "b");
        for text in [
            "".to_string(),
            "Hostname vm\n".to_string(),
            good.replace("Volume 1:", "Volume 0:"),
            good.replace("Volume 1:", "Volume x:"),
            good.replace("Volume 1:", "Volume 4294967296:"),
            good.replace("Volume 1:", "Volume 1"),
            good.replace("StartingPath", "Startingpxth"),
            good.replace("EndingPath", "EndungPath"),
            good.replace("EndingPath     b", "EndingPath     ../b"),
            good.replace("EndingPath     b", "EndingPath     /b"),
            good.replace("EndingPath     b", "EndingPath     \"b"),
            good.replace("EndingPath     b", r#"EndingPath     "b\n""#),
            good.replace("EndingPath     b", r#"EndingPath     "b\x2""#),
            good.replace("EndingPath     b", "EndingPath     b x"),
            good.replace("EndingPath     b", "EndingPath     "),
            format!("Localdir \"\n{good}"),
            block(1, "a", "b") + "Volume 2:\n" + &block(3, "b", "c"),
        ] {
            assert!(Manifest::parse(text.as_bytes()).is_err(), "{text}");
        }
        let error =
            Manifest::parse(good.replace("EndingPath     b", "EndingPath     ..").as_bytes())
                .unwrap_err();
        assert_eq!(error.to_string(), "cannot parse manifest at line 3: malformed ending path");
    }

    #[test]
    fn volumes_by_path() {
        let volumes =
            [(1, ".", "a"), (2, "a", "d/sub"), (3, "d/x", "d/x"), (4, "d-y", "e"), (5, "g", "h")];
        let manifest = Manifest::parse(
            volumes.map(|(n, first, last)| block(n, first, last)).concat().as_bytes(),
        )
        .unwrap();
        for (text, with, below) in [
            (".", &[1][..], &[1, 2, 3, 4, 5][..]),
            ("a", &[1, 2], &[1, 2]),
            ("d", &[2], &[2, 3]),
            ("d/x", &[3], &[3]),
            ("d-y", &[4], &[4]),
            ("f", &[], &[]),
            ("g/1", &[5], &[5]),
            ("i", &[], &[]),
        ] {
            assert!(
                manifest
                    .volumes_with(&path(text))
                    .map(|volume| volume.number)
                    .eq(with.iter().copied()),
                "{text}"
            );
            assert!(
                manifest
                    .volumes_below(&path(text))
                    .map(|volume| volume.number)
                    .eq(below.iter().copied()),
                "{text}"
            );
        }
    }

    fn any_path() -> impl Strategy<Value = EntryPath> {
        prop::collection::vec(any::<u8>(), 0..12)
            .prop_filter_map("no path", |bytes| EntryPath::parse(&bytes).ok())
    }

    fn any_volume() -> impl Strategy<Value = ManifestVolume> {
        let hash = prop_oneof![
            any::<[u8; 20]>().prop_map(|hash| Some(VolumeHash::Sha1(hash))),
            any::<[u8; 16]>().prop_map(|hash| Some(VolumeHash::Md5(hash))),
            Just(None)
        ];
        let bound = || (any_path(), any::<Option<u64>>());
        (1u32.., bound(), bound(), hash).prop_map(
            |(number, (first, first_piece), (last, last_piece), hash)| ManifestVolume {
                number,
                first,
                first_piece,
                last,
                last_piece,
                hash,
            },
        )
    }

    /// Asks plainly whether a path, or something below it, can lie in a volume: its bounds, cut to
    /// the path's depth, enclose it.
    fn may_meet(asked: &EntryPath, volume: &ManifestVolume) -> bool {
        let first = volume.first.components().take(asked.components().count());
        first.cmp(asked.components()).is_le() && *asked <= volume.last
    }

    proptest! {
        #[test]
        fn quoting_round_trips(bytes in prop::collection::vec(any::<u8>(), 1..20)) {
            let quoted = quote(&bytes);
            prop_assert!(!quoted.iter().any(|&b| b" \t\n\r\x0b\x0c'".contains(&b)));
            prop_assert_eq!(unquote(&quoted), Some(bytes));
        }

        #[test]
        fn printed_manifests_parse(volumes in prop::collection::vec(any_volume(), 1..5), directory in prop::collection::vec(any::<u8>(), 1..9)) {
            let manifest = Manifest::new(Some(b"host".to_vec()), Some(directory), volumes).unwrap();
            prop_assert_eq!(Manifest::parse(&manifest.print()).unwrap(), manifest);
        }

        /// Searching in halves finds what asking every volume finds, and overlapping volumes are
        /// never left out.
        #[test]
        fn searches_find_every_volume(mut cuts in prop::collection::vec("[ab](/[ab]){0,2}", 2..12), asked in "[ab](/[ab]){0,3}", sort in any::<bool>()) {
            let mut cuts: Vec<_> = cuts.drain(..).map(|text| path(&text)).collect();
            if sort { cuts.sort() }
            let volumes = cuts.chunks_exact(2).zip(1..).map(|(cut, number)| ManifestVolume {
                number, first: cut[0].clone(), first_piece: None, last: cut[1].clone(), last_piece: None, hash: None,
            });
            let manifest = Manifest::new(None, None, volumes).unwrap();
            prop_assert!(!sort || manifest.ordered);
            let asked = path(&asked);
            let [with, below] = [manifest.volumes_with(&asked).collect::<Vec<_>>(), manifest.volumes_below(&asked).collect()];
            let mut counts = [0, 0];
            for volume in manifest.volumes() {
                let expected = [volume.first <= asked && asked <= volume.last, may_meet(&asked, &volume)];
                prop_assert!(!expected[0] || with.contains(&volume));
                prop_assert!(!expected[1] || below.contains(&volume));
                counts = [counts[0] + usize::from(expected[0]), counts[1] + usize::from(expected[1])];
            }
            prop_assert!(!sort || counts == [with.len(), below.len()]);
        }

        #[test]
        fn any_bytes_are_a_manifest_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..300) {
            let _ = Manifest::parse(&bytes);
            let mut text = EXAMPLE.as_bytes().to_vec();
            text.splice(at..at, bytes);
            let _ = Manifest::parse(&text);
        }
    }
}
