//! The content of one file, read once: pieces for the volumes, and its signature.

use super::signing::Signing;
use super::spool::Spool;
use crate::format::PIECE;
use crate::rsync::{CheckedSignature, delta};
use crate::source::Found;
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes that are read at once, a multiple of [`PIECE`]. A file that cannot be read so far is left
/// out at once; of one that cannot be read further, a part is on its way to the storage.
pub const AHEAD: usize = 16 * PIECE;

/// What sysfs says is the size of each file.
const PAGE: u64 = 4096;

/// Bytes that are asked for behind the end that the size of a file tells, to see whether the size
/// is right.
const BEYOND: u64 = 4096;

/// A signature that takes more bytes than this is not used: it is held in memory, with an index at
/// about three times the size.
const LARGEST_SIGNATURE: u64 = 48 << 20;

/// Returns the length of the blocks that a file of so many bytes is summed up in.
///
/// Source: duplicity 3.2.1: the square root of the size, in steps of 512, without a limit unless
/// the user sets one.
pub fn block_length(size: u64, most: Option<u64>) -> u32 {
    let length = size.isqrt().max(1).next_multiple_of(512);
    length.min(most.filter(|&most| most > 0).unwrap_or(u64::MAX)).clamp(16, 1 << 30) as u32
}

/// A file of the source, being read to its end. Its size is only what the system says: files of
/// procfs have none, those of sysfs too much. But a file that grows while it is read ends where it
/// ended when it was opened, so that one that grows without end has one.
///
/// Holes are not read but taken for the zeros that they are, where the system knows them: whether a
/// file may have any, the blocks that it takes show, and where they are, SEEK_DATA and SEEK_HOLE.
pub struct SourceReader {
    file: File,
    buffer: Vec<u8>,
    position: usize,
    /// Bytes read so far.
    length: u64,
    is_at_end: bool,
    /// The stretch that was asked for last; none if there are no holes, or the system does not know
    /// them.
    stretch: Option<Stretch>,
    /// Size and time of change when it was opened.
    opened: Identity,
    /// Why it cannot be read further.
    failure: Option<io::Error>,
}

/// What a file may be when it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As it was when it was opened.
    Same,
    /// Changed meanwhile.
    Changed,
    /// Unchanged, as far as the system tells, but shorter than its size, which is more than the
    /// page that sysfs says of each file.
    Short,
}

/// A part of a file that is a hole, or is none.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    end: u64,
    is_hole: bool,
}

/// Size and time of change.
type Identity = (u64, i64, i64);

impl SourceReader {
    /// Opens a file and reads its first MiB.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(found: &Found) -> io::Result<Self> {
        Self::of(found.open()?)
    }

    fn of(file: File) -> io::Result<Self> {
        let data = file.metadata()?;
        let opened = identity_of(&data);
        let stretch =
            (data.blocks() < data.len() / 512).then_some(Stretch { end: 0, is_hole: false });
        let mut reader = Self {
            file,
            buffer: Vec::new(),
            position: 0,
            length: 0,
            is_at_end: false,
            stretch,
            opened,
            failure: None,
        };
        reader.refill()?;
        Ok(reader)
    }

    /// Returns the size when it was opened.
    pub fn size(&self) -> u64 {
        self.opened.0
    }

    /// Returns how many bytes have been read.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the next piece: shorter than [`PIECE`] at the end only, where it may be empty.
    ///
    /// # Errors
    /// Those of the system.
    pub fn piece(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() {
            self.refill()?;
        }
        let start = self.position;
        self.position = self.buffer.len().min(start + PIECE);
        Ok(&self.buffer[start..self.position])
    }

    /// Reads the rest, to see whether it can be read.
    ///
    /// # Errors
    /// Those of the system.
    pub fn skim(mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            self.refill()?;
        }
        Ok(())
    }

    /// Reports what has become of the file while it was read.
    pub fn ending(&self) -> Ending {
        match identity(&self.file) {
            Ok(now) if now != self.opened => Ending::Changed,
            _ if self.length < self.opened.0 && self.opened.0 > PAGE => Ending::Short,
            _ => Ending::Same,
        }
    }

    /// Returns why the file could not be read further, if that is so.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    fn refill(&mut self) -> io::Result<()> {
        self.position = 0;
        let result = self.fill();
        result.inspect_err(|error| {
            self.buffer.clear();
            self.failure = Some(copy(error));
        })
    }

    fn fill(&mut self) -> io::Result<()> {
        if !self.is_at_end && self.pass_hole()? {
            return Ok(());
        }
        let left = self.opened.0.saturating_sub(self.length);
        let wanted = if self.is_at_end { 0 } else { (left + BEYOND).min(AHEAD as u64) as usize };
        self.buffer.resize(wanted, 0);
        let mut filled = 0;
        while !self.is_at_end && filled < AHEAD {
            if filled == self.buffer.len() {
                self.buffer.resize(AHEAD, 0);
            }
            match self.file.read(&mut self.buffer[filled..]) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // More than its size: it grows, or its size is wrong.
        if filled as u64 > left && identity(&self.file)?.0 > self.opened.0 {
            filled = left as usize;
            self.is_at_end = true;
        }
        self.buffer.truncate(filled);
        self.length += filled as u64;
        Ok(())
    }

    /// Takes what is left of a hole, as many whole pieces as are read at once, for read; returns
    /// whether there were any.
    fn pass_hole(&mut self) -> io::Result<bool> {
        if self.stretch.is_some_and(|stretch| stretch.end <= self.length) {
            self.stretch = self.next_stretch()?;
        }
        let Some(Stretch { end, is_hole: true }) = self.stretch else { return Ok(false) };
        let count = end.saturating_sub(self.length).min(AHEAD as u64) as usize / PIECE * PIECE;
        if count == 0 {
            return Ok(false);
        }
        self.buffer.clear();
        self.buffer.resize(count, 0);
        self.length += count as u64;
        seek(&self.file, SeekFrom::Start(self.length))?;
        Ok(true)
    }

    /// Asks the system for the stretch that begins here. A hole ends with the file at the latest:
    /// what is behind its size is to be read.
    fn next_stretch(&self) -> io::Result<Option<Stretch>> {
        let at = self.length;
        let (end, is_hole) = match seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) if data > at => (data, true),
            Ok(_) => (seek(&self.file, SeekFrom::Hole(at)).unwrap_or(u64::MAX), false),
            // No data behind.
            Err(rustix::io::Errno::NXIO) => (u64::MAX, true),
            // There is no such question here, or no place in the file.
            Err(_) => return Ok(None),
        };
        seek(&self.file, SeekFrom::Start(at))?;
        if !is_hole {
            return Ok(Some(Stretch { end, is_hole }));
        }
        let end = end.min(self.opened.0).min(identity(&self.file)?.0);
        Ok((at < end && self.has_zeros(at, end)).then_some(Stretch { end, is_hole }))
    }

    /// Reads both ends of a hole, as there have been file systems that took data not yet written
    /// for one.
    fn has_zeros(&self, start: u64, end: u64) -> bool {
        let mut bytes = [0; PAGE as usize];
        let bytes = &mut bytes[..(end - start).min(PAGE) as usize];
        [start, end - bytes.len() as u64].into_iter().all(|at| {
            self.file.read_exact_at(bytes, at).is_ok() && bytes.iter().all(|&byte| byte == 0)
        })
    }
}

/// Returns an error that says the same.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}

fn identity(file: &File) -> io::Result<Identity> {
    Ok(identity_of(&file.metadata()?))
}

fn identity_of(data: &std::fs::Metadata) -> Identity {
    (data.len(), data.ctime(), data.ctime_nsec())
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for SourceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() {
            self.refill()?;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.buffer.len());
    }
}

/// What is read passes a signature on its way.
struct Tee<'a> {
    reader: &'a mut SourceReader,
    signature: &'a mut Signing,
    failed: &'a mut Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &self.failed {
            Some(error) => Err(copy(error)),
            None => self.reader.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        let end = self.reader.buffer.len().min(self.reader.position + count);
        if let Err(error) = self.signature.update(&self.reader.buffer[self.reader.position..end]) {
            *self.failed = Some(error);
        }
        self.reader.consume(count);
    }
}

/// Tells pieces: number from 1, or none if there is only one; the bytes; whether it is the last.
pub type PieceSink<'s, E> = dyn FnMut(Option<u64>, &[u8], bool) -> Result<(), E> + 's;

/// Tells the pieces of a whole file.
///
/// # Errors
/// Those of the file, and of `sink`.
pub fn whole<E: From<io::Error>>(
    reader: &mut SourceReader,
    signature: &mut Signing,
    sink: &mut PieceSink<E>,
) -> Result<(), E> {
    for number in 1.. {
        let piece = reader.piece()?;
        signature.update(piece)?;
        let is_last = piece.len() < PIECE;
        sink((number > 1 || !is_last).then_some(number), piece, is_last)?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Tells the pieces of the delta of a file.
///
/// # Errors
/// Those of the file, of the signature that it is compared with, and of `sink`.
pub fn changes<E: From<io::Error>>(
    reader: &mut SourceReader,
    (basis, length): (&mut Spool, u64),
    signature: &mut Signing,
    sink: &mut PieceSink<E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut basis = CheckedSignature::new(basis, length)?;
    let mut delta = delta(Tee { reader, signature, failed: &mut failed }, &mut basis)?;
    let mut piece = vec![0; PIECE];
    for number in 1.. {
        let count = read_full(&mut delta, &mut piece)?;
        let is_last = count < PIECE;
        sink((number > 1 || !is_last).then_some(number), &piece[..count], is_last)?;
        if is_last {
            break;
        }
    }
    drop(delta);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Returns whether a signature can be used.
pub fn is_usable(length: u64) -> bool {
    length <= LARGEST_SIGNATURE
}

/// Returns whether a file's content still has a signature.
///
/// # Errors
/// Those of the file and of the signature.
pub fn has_signature(
    reader: &mut SourceReader,
    basis: &mut Spool,
    length: u64,
    tempdir: &Path,
) -> io::Result<bool> {
    let mut head = [0; 12];
    basis.read_exact(&mut head)?;
    let block = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let mut signature = Signing::new(Spool::new(tempdir), block, reader.size())?;
    loop {
        let piece = reader.piece()?;
        signature.update(piece)?;
        if piece.len() < PIECE {
            break;
        }
    }
    let (mut found, found_length) = signature.finish()?;
    basis.rewind()?;
    found.rewind()?;
    Ok(found_length == length && equal(&mut found, basis)?)
}

fn equal(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let (count, others) = (read_full(one, &mut a)?, read_full(other, &mut b)?);
        if a[..count] != b[..others] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Fills a buffer as far as there is something.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Makes a file of data at some places, with holes between them, of so many bytes.
    fn sparse(data: &[(u64, u64)], size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        data.iter()
            .for_each(|&(at, length)| file.write_all_at(&vec![b'x'; length as usize], at).unwrap());
        file.set_len(size).unwrap();
        file
    }

    /// Reads a file to its end; returns its bytes, and how many of them were taken for a hole.
    fn read(mut reader: SourceReader) -> (Vec<u8>, usize) {
        let (mut content, mut passed) = (Vec::new(), 0);
        loop {
            let is_hole = reader
                .stretch
                .is_some_and(|stretch| stretch.is_hole && stretch.end >= reader.length);
            let piece = reader.piece().unwrap();
            content.extend_from_slice(piece);
            passed += if is_hole { piece.len() } else { 0 };
            if piece.len() < PIECE {
                return (content, passed);
            }
        }
    }

    fn plain(mut file: File) -> Vec<u8> {
        let mut content = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn block_lengths_as_3_2_1_has_them() {
        for (size, length) in [
            (0, 512),
            (262144, 512),
            (263168, 512),
            (263169, 1024),
            (1024000, 1024),
            (2048000, 1536),
            (4096000, 2048),
            (8192000, 3072),
            (100_000_000, 10240),
            (1 << 30, 32768),
            (1 << 40, 1048576),
        ] {
            assert_eq!(block_length(size, None), length, "{size}");
            assert_eq!(block_length(size, Some(2048)), length.min(2048));
            assert_eq!(block_length(size, Some(0)), length);
        }
    }

    #[test]
    fn holes_are_not_read() {
        for (data, size) in [
            (&[][..], 9 << 20),
            (&[(0, 1)], 9 << 20),
            (&[(3_000_000, 100_000)], 9_000_001),
            (&[(9_000_000, 1)], 9_000_001),
            (&[(0, 70_000), (5 << 20, 70_000)], 7 << 20),
        ] {
            let file = sparse(data, size);
            let (content, passed) = read(SourceReader::of(file.try_clone().unwrap()).unwrap());
            assert!(content == plain(file), "{data:?} {size}");
            assert!(passed >= 4 << 20, "{data:?} {size}: {passed}");
        }
    }

    #[test]
    fn a_file_with_holes_may_change_while_it_is_read() {
        let change = |size: u64, to: u64| {
            let file = sparse(&[(0, 1)], size);
            let mut reader = SourceReader::of(file.try_clone().unwrap()).unwrap();
            reader.piece().unwrap();
            file.set_len(to).unwrap();
            file.write_all_at(b"x", to - 1).unwrap();
            let length = reader.length();
            let ending = |mut reader: SourceReader| {
                while reader.piece().unwrap().len() == PIECE {}
                (reader.length(), reader.ending())
            };
            (length, ending(reader))
        };
        // As long as it was.
        assert_eq!(change(5 << 20, 50 << 20).1, (5 << 20, Ending::Changed));
        let (length, (end, ending)) = change(5 << 20, 3 << 20);
        assert!((length..=5 << 20).contains(&end) && ending == Ending::Changed, "{length} {end}");
    }

    /// Such files take no blocks, and their size is nothing, a page, or more than there is; most do
    /// not know holes.
    #[test]
    fn files_whose_size_is_wrong_have_no_holes() {
        for path in [
            "/proc/self/maps",
            "/proc/cpuinfo",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/kernel/notes",
        ] {
            let Ok(file) = File::open(path) else { continue };
            let (content, passed) = read(SourceReader::of(file).unwrap());
            assert!(
                content.iter().any(|&byte| byte != 0) && passed == 0,
                "{path}: {}",
                content.len()
            );
        }
    }

    #[test]
    fn bytes_behind_the_size_are_read_and_holes_are_looked_at() {
        let file = sparse(&[(2 << 20, 1), (8 << 20, PIECE as u64)], 9 << 20);
        let mut reader = SourceReader::of(file.try_clone().unwrap()).unwrap();
        // As of a file system that knows no better.
        reader.opened.0 = 3 << 20;
        let end = reader.next_stretch().unwrap().unwrap().end;
        assert!(end <= 3 << 20, "{end}");
        assert!(
            reader.has_zeros(0, 2 << 20)
                && !reader.has_zeros(0, (2 << 20) + 1)
                && !reader.has_zeros(8 << 20, 9 << 20)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_holes(data in prop::collection::vec((0u64..4 << 20, 0u64..300_000), 0..6), size in 0u64..5 << 20, times in 1u64..3) {
            let data: Vec<_> = data.into_iter().map(|(at, length)| (at * times / 4096 * 4096, length)).collect();
            let file = sparse(&data, size);
            let mut reader = SourceReader::of(file.try_clone().unwrap()).unwrap();
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            prop_assert!(content == plain(file));
            prop_assert_eq!((reader.length(), reader.ending()), (size, Ending::Same));
        }
    }
}
