//! [`Fetched`]: stored bytes of a volume that came before they are decoded.

use super::CHUNK;
use super::check::Checked;
use crate::storage::{self, ReadAt};
use std::ops::Range;
use std::sync::Arc;

/// A stored file some of whose bytes are here already, checked. All others are read when they are
/// asked for.
pub struct Fetched {
    file: Arc<Checked>,
    /// Offset of the first of `bytes` in the file.
    start: u64,
    bytes: Arc<Vec<u8>>,
    /// Which bytes of the file have been checked.
    checked: Range<u64>,
}

impl Checked {
    /// Returns the range of the chunks in which the bytes of a range are.
    pub fn whole_chunks(&self, range: &Range<u64>) -> Range<u64> {
        let (start, end) = chunks(range);
        start * CHUNK as u64..(end * CHUNK as u64).min(self.size())
    }

    /// Takes bytes that are in the stored file from `start` on, and checks the chunks in which those
    /// of a range are.
    ///
    /// # Errors
    /// One of kind [`storage::ErrorKind::Corrupt`] when a chunk is not the one whose hash was kept.
    pub fn fetched(
        self: &Arc<Self>,
        start: u64,
        bytes: Arc<Vec<u8>>,
        range: &Range<u64>,
    ) -> Result<Fetched, storage::Error> {
        let checked = self.whole_chunks(range);
        let (first, end) = chunks(range);
        self.check_chunks(first..end, start, &bytes)?;
        Ok(Fetched { file: self.clone(), start, bytes, checked })
    }

    /// Reads the chunks once more in which the bytes of a range are, where those that came have
    /// proved to be wrong: from each copy of the file until one is right.
    ///
    /// # Errors
    /// As [`Checked::fetched`], and when they cannot be read.
    pub fn fetch_again(self: &Arc<Self>, range: &Range<u64>) -> Result<Fetched, storage::Error> {
        let checked = self.whole_chunks(range);
        let (first, end) = chunks(range);
        let bytes = Arc::new(self.chunks(first as usize..end as usize)?);
        Ok(Fetched { file: self.clone(), start: checked.start, bytes, checked })
    }
}

/// Returns the numbers of the chunks in which the bytes of a range are.
fn chunks(range: &Range<u64>) -> (u64, u64) {
    (range.start / CHUNK as u64, range.end.div_ceil(CHUNK as u64))
}

impl ReadAt for Fetched {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        if !self.checked.contains(&offset) {
            return self.file.read_at(offset, buffer);
        }
        let here = (self.checked.end - offset).min(buffer.len() as u64) as usize;
        let at = (offset - self.start) as usize;
        let (first, rest) = buffer.split_at_mut(here);
        first.copy_from_slice(&self.bytes[at..at + here]);
        match rest.is_empty() {
            true => Ok(here),
            false => Ok(here + self.file.read_at(offset + here as u64, rest)?),
        }
    }
}
