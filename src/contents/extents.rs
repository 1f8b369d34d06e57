//! [`ExtentMap`]: a flat list of (length, volume, offset); slicing, adding up.
//!
//! A few deltas that copy the same ranges again and again can ask for any number of pieces. So they
//! are held in blocks: per piece its length, and how its place differs from the end of the piece
//! before, some 5 bytes; an index has where each block begins. All maps of the process have a bound
//! together, with the lists of extents that they are made of.

use crate::format::{Held, TooMany};
use crate::format::{put, put_signed, take, take_signed};

/// Pieces in a block: what is decoded to find one.
const BLOCK: usize = 64;

/// What a map costs besides its lists, in a cache: itself, the cache's own entry, and what the
/// allocator adds.
const BESIDES: usize = 256;

/// Consecutive bytes of a file that lie consecutively in one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Position of the set in the chain.
    pub position: u32,
    /// Number of the volume in its set.
    pub volume: u32,
    /// Offset in the volume's plain tar.
    pub offset: u64,
    /// Number of bytes, at least 1.
    pub length: u64,
}

/// Where each byte of a file lies.
#[derive(Debug, Clone, Default)]
pub struct ExtentMap {
    /// Where each block begins: in the file, and in `bytes`.
    blocks: Vec<(u64, usize)>,
    /// All pieces but the last.
    bytes: Vec<u8>,
    /// How many are in `bytes`, and behind which one the last comes.
    count: usize,
    before: Behind,
    last: Option<Piece>,
    size: u64,
    held: Held,
}

/// The end of a piece.
#[derive(Debug, Clone, Copy, Default)]
struct Behind {
    position: u32,
    volume: u32,
    offset: u64,
}

impl Behind {
    fn put(&mut self, bytes: &mut Vec<u8>, piece: Piece) {
        put(bytes, piece.length);
        put_signed(bytes, piece.offset.wrapping_sub(self.offset) as i64);
        // One byte in all for a piece of the same volume.
        let is_other = (piece.position, piece.volume) != (self.position, self.volume);
        bytes.push(is_other.into());
        if is_other {
            put(bytes, piece.position.into());
            put(bytes, piece.volume.into());
        }
        *self = Self::of(piece);
    }

    fn take(&mut self, rest: &mut &[u8]) -> Option<Piece> {
        let (length, distance) = (take(rest)?, take_signed(rest)?);
        let (mut position, mut volume) = (self.position, self.volume);
        if take(rest)? != 0 {
            (position, volume) = (take(rest)? as u32, take(rest)? as u32);
        }
        let piece =
            Piece { position, volume, offset: self.offset.wrapping_add(distance as u64), length };
        *self = Self::of(piece);
        Some(piece)
    }

    fn of(piece: Piece) -> Self {
        Self {
            position: piece.position,
            volume: piece.volume,
            offset: piece.offset.wrapping_add(piece.length),
        }
    }
}

impl ExtentMap {
    /// Returns the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns about how much memory the map takes, in bytes.
    pub fn weight(&self) -> usize {
        self.blocks.capacity() * size_of::<(u64, usize)>() + self.bytes.capacity() + BESIDES
    }

    /// Appends a piece, as part of the last one where it goes on right behind it.
    ///
    /// # Errors
    /// [`TooMany`] if the file would pass 2^64 bytes, or there is no room for the piece.
    pub fn push(&mut self, piece: Piece) -> Result<(), TooMany> {
        if piece.length == 0 {
            return Ok(());
        }
        let size = self.size.checked_add(piece.length).ok_or(TooMany)?;
        match &mut self.last {
            Some(last)
                if (last.position, last.volume) == (piece.position, piece.volume)
                    && last.offset.checked_add(last.length) == Some(piece.offset) =>
            {
                last.length += piece.length;
            }
            _ => {
                if let Some(last) = self.last.replace(piece) {
                    if self.count.is_multiple_of(BLOCK) {
                        self.blocks.push((self.size - last.length, self.bytes.len()));
                        self.before = Behind::default();
                    }
                    self.before.put(&mut self.bytes, last);
                    self.count += 1;
                    self.held.grow(self.weight())?;
                }
            }
        }
        self.size = size;
        Ok(())
    }

    /// Returns the pieces that make up the bytes from `offset` on, at most `length` of them; fewer
    /// only at the end of the file.
    pub fn slice(&self, offset: u64, length: u64) -> impl Iterator<Item = Piece> {
        let end = offset.saturating_add(length).min(self.size());
        let block = self.blocks.partition_point(|&(start, _)| start <= offset).saturating_sub(1);
        let (mut start, at) = self.blocks.get(block).copied().unwrap_or_default();
        let (mut rest, mut index, mut behind) =
            (&self.bytes[at..], block * BLOCK, Behind::default());
        let pieces = std::iter::from_fn(move || {
            if index.is_multiple_of(BLOCK) {
                behind = Behind::default();
            }
            index += 1;
            behind.take(&mut rest)
        });
        let places = pieces.chain(self.last).map(move |piece| {
            let from = start;
            start += piece.length;
            (from, piece)
        });
        places.skip_while(move |(start, piece)| start + piece.length <= offset).map_while(
            move |(start, piece)| {
                let (from, to) = (start.max(offset), (start + piece.length).min(end));
                (from < to).then(|| Piece {
                    offset: piece.offset + (from - start),
                    length: to - from,
                    ..piece
                })
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(volume: u32, offset: u64, length: u64) -> Piece {
        Piece { position: 0, volume, offset, length }
    }

    #[test]
    fn neighbours_become_one_piece() {
        let mut map = ExtentMap::default();
        for part in [piece(1, 0, 5), piece(1, 5, 5), piece(2, 10, 0), piece(1, 20, 1)] {
            map.push(part).unwrap();
        }
        assert_eq!(map.slice(0, 100).collect::<Vec<_>>(), [piece(1, 0, 10), piece(1, 20, 1)]);
        assert_eq!(map.size(), 11);
    }

    #[test]
    fn a_file_beyond_all_bounds_is_refused() {
        let mut map = ExtentMap::default();
        map.push(piece(1, 0, u64::MAX)).unwrap();
        assert_eq!(map.push(piece(2, 0, 1)), Err(TooMany));
    }

    #[test]
    fn a_million_pieces_take_a_few_megabytes_and_any_is_found() {
        let mut map = ExtentMap::default();
        let at = |number: u64| piece(1 + number as u32 % 3, number * 977 % 4096, 1 + number % 2);
        (0..1_000_000).for_each(|number| map.push(at(number)).unwrap());
        assert!(map.weight() < 16 << 20, "{}", map.weight());
        for number in (0..1_000_000).step_by(99_991) {
            let offset = (0..number).map(|number| 1 + number % 2).sum();
            assert_eq!(map.slice(offset, 2).next(), Some(at(number)));
        }
    }

    proptest! {
        #[test]
        fn slices_are_slices(pieces in prop::collection::vec((0u32..3, 0u64..40, 0u64..9), 0..200), offset in 0u64..900, length in 0u64..600) {
            let mut map = ExtentMap::default();
            let mut bytes = Vec::new();
            for (volume, offset, length) in pieces {
                map.push(piece(volume, offset, length)).unwrap();
                bytes.extend((offset..offset + length).map(|at| (volume, at)));
            }
            let sliced: Vec<_> = map.slice(offset, length).flat_map(|p| (p.offset..p.offset + p.length).map(move |at| (p.volume, at))).collect();
            let end = bytes.len().min((offset + length) as usize);
            prop_assert_eq!(sliced, bytes.get(offset as usize..end).unwrap_or_default());
        }
    }
}
