//! [`Part`]: what one volume holds of one version.

use super::extents::Extents;
use super::number::{put, take};
use std::ops::Range;

/// What one volume holds of one version, or all volumes together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Numbers of the pieces, half-open; 0..1 for a member that is not split.
    pub pieces: Range<u64>,
    /// The members are a delta.
    pub is_delta: bool,
    /// The extents are the content of the version. Otherwise they are a stretch of its delta, in
    /// stored bytes: the delta began in a volume before, so its commands could not be told apart.
    pub is_content: bool,
    /// Nothing is known to follow in a later volume.
    pub is_last: bool,
    /// In order; empty for an empty file or piece.
    pub extents: Extents,
}

const DELTA: u8 = 1;
const CONTENT: u8 = 2;
const LAST: u8 = 4;

impl Part {
    /// Returns whether this is all of the version, so that its extents are its whole content.
    pub fn is_whole_version(&self) -> bool {
        self.is_content && self.is_last && self.pieces.start <= 1
    }

    /// Returns the size of the version, if this is all of it.
    pub fn size(&self) -> Option<u64> {
        self.is_whole_version().then(|| self.length())
    }

    /// Returns the number of bytes in the extents.
    pub fn length(&self) -> u64 {
        self.extents.iter().map(|extent| extent.length()).sum()
    }

    /// Prints bytes for a database: flags, pieces, then the extents as [`Extents`] holds them.
    pub fn encode(&self) -> Vec<u8> {
        let flags = [(self.is_delta, DELTA), (self.is_content, CONTENT), (self.is_last, LAST)];
        let mut bytes =
            vec![flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum()];
        put(&mut bytes, self.pieces.start);
        put(&mut bytes, self.pieces.end - self.pieces.start);
        self.extents.encode(&mut bytes);
        bytes
    }

    /// Parses what [`Part::encode`] printed; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&flags, mut rest) = bytes.split_first()?;
        let start = take(&mut rest)?;
        let end = start.checked_add(take(&mut rest)?)?;
        Some(Self {
            pieces: start..end,
            is_delta: flags & DELTA != 0,
            is_content: flags & CONTENT != 0,
            is_last: flags & LAST != 0,
            extents: Extents::decode(rest)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::extents::Extent;
    use super::*;
    use proptest::prelude::*;

    fn extent() -> impl Strategy<Value = Extent> {
        let numbers = || (0u64..1 << 50, 1u64..1 << 50);
        prop_oneof![
            (any::<u32>(), numbers()).prop_map(|(volume, (offset, length))| Extent::Stored {
                volume,
                offset,
                length
            }),
            numbers().prop_map(|(offset, length)| Extent::Copied { offset, length }),
        ]
    }

    proptest! {
        #[test]
        fn parts_round_trip(start in 0u64..1 << 40, count in 0u64..1 << 40, flags in 0u8..8, extents in prop::collection::vec(extent(), 0..20)) {
            let part = Part {
                pieces: start..start + count,
                is_delta: flags & 1 != 0, is_content: flags & 2 != 0, is_last: flags & 4 != 0,
                extents: extents.into_iter().collect(),
            };
            prop_assert_eq!(Part::decode(&part.encode()), Some(part));
        }

        #[test]
        fn any_bytes_are_a_part_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Part::decode(&bytes);
        }
    }
}
