//! [`ExtentMap`]: a flat list of (length, volume, offset); slicing, adding up.

/// Pieces that one map may have, some 500 MB of them: a file of 1 TiB in members of 64 KiB, as duplicity cuts it.
const MOST_PIECES: usize = 1 << 24;

/// What a map costs besides its lists, in a cache: itself, the cache's own entry, and what the allocator adds.
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtentMap {
    pieces: Vec<Piece>,
    /// Offset in the file at which each piece ends, ascending.
    ends: Vec<u64>,
}

impl ExtentMap {
    /// Returns the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns about how much memory the map takes, in bytes.
    pub fn weight(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>() + self.ends.capacity() * size_of::<u64>() + BESIDES
    }

    /// Appends a piece, as part of the last one where it goes on right behind it; `None` if the file would pass 2^64 bytes, or has
    /// more pieces than are kept: a few deltas that copy the same ranges again and again can ask for any number.
    pub fn push(&mut self, piece: Piece) -> Option<()> {
        if piece.length == 0 {
            return Some(());
        }
        let end = self.size().checked_add(piece.length)?;
        let is_full = self.pieces.len() == MOST_PIECES;
        match (self.pieces.last_mut(), self.ends.last_mut()) {
            (Some(last), Some(last_end))
                if (last.position, last.volume) == (piece.position, piece.volume)
                    && last.offset.checked_add(last.length) == Some(piece.offset) =>
            {
                last.length += piece.length;
                *last_end = end;
            }
            _ if is_full => return None,
            _ => {
                self.pieces.push(piece);
                self.ends.push(end);
            }
        }
        Some(())
    }

    /// Returns the pieces that make up the bytes from `offset` on, at most `length` of them; fewer only at the end of the file.
    pub fn slice(&self, offset: u64, length: u64) -> impl Iterator<Item = Piece> {
        let end = offset.saturating_add(length).min(self.size());
        let first = self.ends.partition_point(|&piece_end| piece_end <= offset);
        self.pieces.iter().zip(&self.ends).skip(first).map_while(move |(piece, &piece_end)| {
            let start = piece_end - piece.length;
            let (from, to) = (start.max(offset), piece_end.min(end));
            (from < to).then(|| Piece { offset: piece.offset + (from - start), length: to - from, ..*piece })
        })
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
        assert_eq!(map.push(piece(2, 0, 1)), None);
    }

    proptest! {
        #[test]
        fn slices_are_slices(pieces in prop::collection::vec((0u32..3, 0u64..40, 0u64..9), 0..12), offset in 0u64..60, length in 0u64..60) {
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
