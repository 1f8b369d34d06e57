//! [`AtHand`]: stored files of which some ranges have been read already, those of many files at
//! once.

use crate::storage::{self, ByteStream, ReadAt, StoredFile};
use std::ops::Range;
use std::sync::Arc;

/// A stored file, with the bytes of some ranges. All others are read when they are asked for.
pub struct AtHand {
    file: StoredFile,
    /// Offset of the first byte, and the bytes, of each range.
    parts: Vec<(u64, Vec<u8>)>,
}

impl AtHand {
    /// Reads ranges of several files at once; returns, for each file, why they cannot be read.
    pub fn read(
        wanted: Vec<(StoredFile, Vec<Range<u64>>)>,
    ) -> Vec<Result<Arc<Self>, storage::Error>> {
        let ranges: Vec<_> = wanted
            .iter()
            .flat_map(|(file, ranges)| ranges.iter().map(move |range| (file, range.clone())))
            .collect();
        let mut read = StoredFile::read_many(&ranges).into_iter();
        let of = |(file, ranges): (StoredFile, Vec<Range<u64>>)| {
            let bytes: Vec<_> = read.by_ref().take(ranges.len()).collect();
            let parts = ranges.iter().zip(bytes);
            let parts = parts.map(|(range, bytes)| Ok((range.start, bytes?)));
            Ok(Arc::new(Self { parts: parts.collect::<Result<_, _>>()?, file }))
        };
        wanted.into_iter().map(of).collect()
    }

    /// Takes the first bytes of a file.
    pub fn with_head(file: StoredFile, head: Vec<u8>) -> Self {
        Self { file, parts: vec![(0, head)] }
    }

    /// Returns the first bytes of the file, at most so many, as far as they are here.
    pub fn head(&self, most: usize) -> &[u8] {
        let first = self.parts.iter().find(|(start, _)| *start == 0);
        first.map_or(&[], |(_, bytes)| &bytes[..bytes.len().min(most)])
    }
}

impl ReadAt for AtHand {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, storage::Error> {
        let length = (buffer.len() as u64).min(self.size().saturating_sub(offset)) as usize;
        let known = self.parts.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(offset.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(length)?)
        });
        match known {
            Some(known) => {
                buffer[..length].copy_from_slice(known);
                Ok(length)
            }
            None => self.file.read_at(offset, buffer),
        }
    }

    fn stream(&self, from: u64) -> Result<Option<Box<dyn ByteStream>>, storage::Error> {
        let is_whole =
            |(start, bytes): &(u64, Vec<u8>)| *start == 0 && bytes.len() as u64 == self.size();
        if self.parts.iter().any(is_whole) { Ok(None) } else { self.file.stream(from) }
    }
}
