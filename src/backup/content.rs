//! The content of one file, read once: pieces for the volumes, and its signature.

use super::signing::Signing;
use super::spool::Spool;
use crate::format::PIECE;
use crate::rsync::{CheckedSignature, delta};
use crate::source::Found;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Bytes that are read at once, a multiple of [`PIECE`]. A file that cannot be read so far is left out at once; of one that cannot be read
/// further, a part is on its way to the storage.
pub const AHEAD: usize = 16 * PIECE;

/// What sysfs says is the size of each file.
const PAGE: u64 = 4096;

/// Bytes that are asked for behind the end that the size of a file tells, to see whether the size is right.
const BEYOND: u64 = 4096;

/// A signature that takes more bytes than this is not used: it is held in memory, with an index at about three times the size.
const LARGEST_SIGNATURE: u64 = 48 << 20;

/// Returns the length of the blocks that a file of so many bytes is summed up in.
///
/// Source: duplicity 3.2.1: the square root of the size, in steps of 512, without a limit unless the user sets one.
pub fn block_length(size: u64, most: Option<u64>) -> u32 {
    let length = size.isqrt().max(1).next_multiple_of(512);
    length.min(most.filter(|&most| most > 0).unwrap_or(u64::MAX)).clamp(16, 1 << 30) as u32
}

/// A file of the source, being read to its end. Its size is only what the system says: files of procfs have none, those of sysfs too much. But a
/// file that grows while it is read ends where it ended when it was opened, so that one that grows without end has one.
pub struct SourceReader {
    file: File,
    buffer: Vec<u8>,
    position: usize,
    /// Bytes read so far.
    length: u64,
    is_at_end: bool,
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
    /// Unchanged, as far as the system tells, but shorter than its size, which is more than the page that sysfs says of each file.
    Short,
}

/// Size and time of change.
type Identity = (u64, i64, i64);

impl SourceReader {
    /// Opens a file and reads its first MiB.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(found: &Found) -> io::Result<Self> {
        let file = found.open()?;
        let opened = identity(&file)?;
        let mut reader = Self { file, buffer: Vec::new(), position: 0, length: 0, is_at_end: false, opened, failure: None };
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

    /// Tells what has become of the file while it was read.
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
}

/// Returns an error that says the same.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

fn identity(file: &File) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    let data = file.metadata()?;
    Ok((data.len(), data.ctime(), data.ctime_nsec()))
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
pub fn whole<E: From<io::Error>>(reader: &mut SourceReader, signature: &mut Signing, sink: &mut PieceSink<E>) -> Result<(), E> {
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

/// Tells whether a signature can be used.
pub fn is_usable(length: u64) -> bool {
    length <= LARGEST_SIGNATURE
}

/// Tells whether a file's content still has a signature.
///
/// # Errors
/// Those of the file and of the signature.
pub fn has_signature(reader: &mut SourceReader, basis: &mut Spool, length: u64, tempdir: &Path) -> io::Result<bool> {
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
}
