//! The content of one file, read once: pieces for the volumes, and its signature.

use super::signing::Signing;
use super::spool::Spool;
use crate::format::PIECE;
use crate::rsync::{CheckedSignature, delta};
use crate::source::Found;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Bytes that are read at once, a multiple of [`PIECE`]. A file that cannot be read so far is left out; one that cannot be read further
/// has begun to be stored.
const AHEAD: usize = 16 * PIECE;

/// A signature that takes more bytes than this is not used: it is held in memory, with an index at about three times the size.
const LARGEST_SIGNATURE: u64 = 48 << 20;

/// Returns the length of the blocks that a file of so many bytes is summed up in.
///
/// Source: duplicity 3.2.1: the square root of the size, in steps of 512, without a limit unless the user sets one.
pub fn block_length(size: u64, most: Option<u64>) -> u32 {
    let length = size.isqrt().max(1).next_multiple_of(512);
    length.min(most.filter(|&most| most > 0).unwrap_or(u64::MAX)).clamp(16, 1 << 30) as u32
}

/// A file of the source, being read. It ends where the file ended when it was opened, so that a file that grows without end has one.
pub struct SourceReader {
    file: File,
    buffer: Vec<u8>,
    position: usize,
    /// Bytes that are still to be read from the file.
    left: u64,
    /// Bytes read so far.
    length: u64,
    /// Size and time of change when it was opened.
    opened: (u64, i64, i64),
}

impl SourceReader {
    /// Opens a file and reads its first MiB.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(found: &Found) -> io::Result<Self> {
        let file = found.open()?;
        let opened = identity(&file)?;
        let mut reader = Self { file, buffer: Vec::new(), position: 0, left: opened.0, length: 0, opened };
        reader.refill()?;
        Ok(reader)
    }

    /// Returns the size when it was opened.
    pub fn size(&self) -> u64 {
        self.opened.0
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

    /// Tells whether the file is no longer as it was when it was opened.
    pub fn has_changed(&self) -> bool {
        self.length != self.opened.0 || identity(&self.file).is_ok_and(|now| now != self.opened)
    }

    fn refill(&mut self) -> io::Result<()> {
        let wanted = self.left.min(AHEAD as u64) as usize;
        self.position = 0;
        self.buffer.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            match self.file.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(filled);
        self.length += filled as u64;
        self.left = if filled < wanted { 0 } else { self.left - filled as u64 };
        Ok(())
    }
}

fn identity(file: &File) -> io::Result<(u64, i64, i64)> {
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
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
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
