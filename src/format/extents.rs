//! [`Extents`]: a list of [`Extent`]s that is small in memory.
//!
//! A delta of some kilobytes can ask for millions of extents. So a list holds them as the database
//! does: per extent its length and kind, and where it starts as the distance from the end of the
//! last one of its kind. Numbers are LEB128, distances zigzag, which is some 4 bytes an extent.
//!
//! # Invariants
//! - All that counts itself as [`Held`] takes at most [`MOST_HELD`] bytes, in the whole process.
//!   Who would pass that is refused.

use super::number::{put, put_signed, take, take_signed};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that lists of extents, and maps made of them, may take together. A file of 1 TiB in
/// members of 64 KiB, as duplicity cuts it, has a list and a map of some 100 MB each while it is
/// opened.
pub const MOST_HELD: usize = 384 << 20;
/// Bytes by which a growing list is counted; what is smaller is not.
const STEP: usize = 4096;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// What one list holds of the process's memory for extents, in bytes; given back when it is
/// dropped.
#[derive(Debug, Default)]
pub struct Held(usize);

impl Held {
    /// Counts a list that has grown to so many bytes.
    ///
    /// # Errors
    /// [`TooMany`] when all together would hold more than `MOST_HELD`.
    pub fn grow(&mut self, bytes: usize) -> Result<(), TooMany> {
        if bytes < self.0 + STEP {
            return Ok(());
        }
        let more = (bytes + bytes / 4).max(self.0 + STEP) - self.0;
        if HELD.fetch_add(more, Ordering::Relaxed) + more > MOST_HELD {
            HELD.fetch_sub(more, Ordering::Relaxed);
            return Err(TooMany);
        }
        self.0 += more;
        Ok(())
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        HELD.fetch_add(self.0, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// There are more pieces than can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is made of more pieces than can be kept in memory")]
pub struct TooMany;

/// A stretch of a version's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Bytes that lie in a volume of the version's own set.
    Stored {
        /// Number of the volume.
        volume: u32,
        /// Offset in its plain tar.
        offset: u64,
        /// Number of bytes, at least 1.
        length: u64,
    },
    /// Bytes of the version before.
    Copied {
        /// Offset in its content.
        offset: u64,
        /// Number of bytes, at least 1.
        length: u64,
    },
}

impl Extent {
    /// Returns the number of bytes.
    pub fn length(&self) -> u64 {
        match *self {
            Self::Stored { length, .. } | Self::Copied { length, .. } => length,
        }
    }
}

/// Extents in their order.
#[derive(Clone, Default)]
pub struct Extents {
    /// All but the last.
    bytes: Vec<u8>,
    ends: Ends,
    last: Option<Extent>,
    count: usize,
    held: Held,
}

/// Where the last extent of each kind ends, from which the distance to the next is counted.
#[derive(Clone, Copy, Default)]
struct Ends {
    volume: u32,
    stored: u64,
    copied: u64,
}

const COPIED: u64 = 1;

impl Ends {
    fn put(&mut self, bytes: &mut Vec<u8>, extent: Extent) {
        match extent {
            Extent::Stored { volume, offset, length } => {
                put(bytes, length << 1);
                put_signed(bytes, i64::from(volume) - i64::from(self.volume));
                put_signed(bytes, offset.wrapping_sub(self.stored) as i64);
                (self.stored, self.volume) = (offset.wrapping_add(length), volume);
            }
            Extent::Copied { offset, length } => {
                put(bytes, length << 1 | COPIED);
                put_signed(bytes, offset.wrapping_sub(self.copied) as i64);
                self.copied = offset.wrapping_add(length);
            }
        }
    }

    fn take(&mut self, rest: &mut &[u8]) -> Option<Extent> {
        let head = take(rest)?;
        let length = head >> 1;
        if head & COPIED == 0 {
            self.volume =
                u32::try_from(i64::from(self.volume).checked_add(take_signed(rest)?)?).ok()?;
            let offset = self.stored.wrapping_add(take_signed(rest)? as u64);
            self.stored = offset.wrapping_add(length);
            Some(Extent::Stored { volume: self.volume, offset, length })
        } else {
            let offset = self.copied.wrapping_add(take_signed(rest)? as u64);
            self.copied = offset.wrapping_add(length);
            Some(Extent::Copied { offset, length })
        }
    }
}

impl Extents {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns them in their order.
    pub fn iter(&self) -> impl Iterator<Item = Extent> {
        let (mut rest, mut ends) = (&self.bytes[..], Ends::default());
        std::iter::from_fn(move || ends.take(&mut rest)).chain(self.last)
    }

    /// Appends an extent, as part of the last one where it goes on right behind it. An empty one is
    /// left out.
    ///
    /// # Errors
    /// [`TooMany`] when there is no room for it.
    pub fn push(&mut self, extent: Extent) -> Result<(), TooMany> {
        use Extent::{Copied, Stored};
        if extent.length() == 0 {
            return Ok(());
        }
        match (&mut self.last, extent) {
            (
                Some(Stored { volume, offset, length }),
                Stored { volume: v, offset: o, length: l },
            ) if *volume == v && offset.checked_add(*length) == Some(o) => {
                *length += l;
            }
            (Some(Copied { offset, length }), Copied { offset: o, length: l })
                if offset.checked_add(*length) == Some(o) =>
            {
                *length += l;
            }
            _ => {
                self.append(extent);
                self.held.grow(self.bytes.len())?;
            }
        }
        Ok(())
    }

    fn append(&mut self, extent: Extent) {
        if let Some(last) = self.last.replace(extent) {
            self.ends.put(&mut self.bytes, last);
        }
        self.count += 1;
    }

    /// Appends what [`Extents::decode`] parses.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.bytes);
        let mut ends = self.ends;
        self.last.iter().for_each(|last| ends.put(bytes, *last));
    }

    /// Parses all of some bytes; `None` if they are no extents, or there is no room for them.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (mut list, mut ends) = (Self::default(), Ends::default());
        list.held.grow(bytes.len()).ok()?;
        while !bytes.is_empty() {
            let extent = ends.take(&mut bytes)?;
            let (Extent::Stored { offset, length, .. } | Extent::Copied { offset, length }) =
                extent;
            offset.checked_add(length)?;
            list.append(extent);
        }
        Some(list)
    }
}

/// Takes them as they are, also those that would be one.
impl FromIterator<Extent> for Extents {
    fn from_iter<I: IntoIterator<Item = Extent>>(extents: I) -> Self {
        let mut list = Self::default();
        extents.into_iter().for_each(|extent| list.append(extent));
        list
    }
}

impl PartialEq for Extents {
    fn eq(&self, other: &Self) -> bool {
        (self.last, &self.bytes) == (other.last, &other.bytes)
    }
}

impl Eq for Extents {}

impl fmt::Debug for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one() {
        let mut list = Extents::default();
        for (offset, length) in [(0, 5), (5, 3), (8, 0), (9, 1)] {
            list.push(Extent::Copied { offset, length }).unwrap();
        }
        let expected =
            [Extent::Copied { offset: 0, length: 8 }, Extent::Copied { offset: 9, length: 1 }];
        assert_eq!((list.iter().collect::<Vec<_>>(), list.len()), (expected.to_vec(), 2));
    }

    /// A delta of 40 KB can hold so many copies, when it is compressed.
    #[test]
    fn a_million_copies_take_a_few_megabytes_and_the_process_has_a_bound() {
        let mut list = Extents::default();
        (0..1_000_000).for_each(|number| {
            list.push(Extent::Copied { offset: number % 251 * 2, length: 1 }).unwrap()
        });
        assert!(list.bytes.len() < 4 << 20, "{}", list.bytes.len());
        assert!(list.held.0 >= list.bytes.len());
        let mut other = Held::default();
        assert_eq!(other.grow(MOST_HELD - list.bytes.len()), Err(TooMany));
        other.grow(1 << 20).unwrap();
        assert!(list.iter().eq(
            (0..1_000_000).map(|number| Extent::Copied { offset: number % 251 * 2, length: 1 })
        ));
    }
}
