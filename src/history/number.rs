//! Inode numbers, computed: a folder is (folder, snapshot), anything else is its version.

use crate::catalog::{DirectoryId, VersionId};

/// The root, which holds the snapshots.
pub const ROOT: u64 = 1;
/// Set in the numbers of directories. Below it 10 bits for the chain, 16 for the position in it, 36 for the directory.
const DIRECTORY: u64 = 1 << 62;
const CHAIN_SHIFT: u32 = 52;
const POSITION_SHIFT: u32 = 36;
/// Bits of a version's number within its chain.
const VERSION_SHIFT: u32 = 40;

/// Set in the numbers of links to the newest snapshot. Below it, the chain above 16 bits of position: the kernel keeps the target of
/// a link for as long as it knows the inode, so another target needs another number.
const LATEST: u64 = 1 << 61;
const LATEST_SHIFT: u32 = 16;

/// What an inode number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inode {
    /// The root.
    Root,
    /// The link to a snapshot while that is the newest.
    Latest {
        /// Number of its chain.
        chain: u64,
        /// Position of its set.
        position: u32,
    },
    /// A directory as one snapshot shows it.
    Directory {
        /// Which directory of which chain.
        id: DirectoryId,
        /// Position of the snapshot's set.
        position: u32,
    },
    /// Anything else.
    Version(VersionId),
}

impl Inode {
    /// Prints the number.
    pub fn number(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::Latest { chain, position } => LATEST | chain << LATEST_SHIFT | u64::from(position),
            Self::Directory { id, position } => {
                DIRECTORY | id.chain() << CHAIN_SHIFT | u64::from(position) << POSITION_SHIFT | id.number()
            }
            Self::Version(id) => id.chain() << VERSION_SHIFT | id.number(),
        }
    }

    /// Parses a number; `None` for one that was never given out.
    pub fn parse(number: u64) -> Option<Self> {
        let bits = |shift: u32, count: u32| number >> shift & ((1 << count) - 1);
        match number {
            ROOT => Some(Self::Root),
            _ if number & DIRECTORY != 0 => Some(Self::Directory {
                id: DirectoryId::from_parts(bits(CHAIN_SHIFT, 10), bits(0, POSITION_SHIFT)),
                position: bits(POSITION_SHIFT, 16) as u32,
            }),
            _ if number & LATEST != 0 => {
                Some(Self::Latest { chain: bits(LATEST_SHIFT, 10), position: bits(0, LATEST_SHIFT) as u32 })
            }
            _ if number >> VERSION_SHIFT != 0 => {
                Some(Self::Version(VersionId::from_parts(number >> VERSION_SHIFT, bits(0, VERSION_SHIFT))))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(chain in 1u64..1024, position in 0u32..65536, directory in 1u64..1 << 36, version in 1u64..1 << 40) {
            for inode in [
                Inode::Directory { id: DirectoryId::from_parts(chain, directory), position },
                Inode::Version(VersionId::from_parts(chain, version)),
                Inode::Root,
                Inode::Latest { chain, position },
            ] {
                prop_assert_eq!(Inode::parse(inode.number()), Some(inode));
                prop_assert!(inode.number() < 1 << 63);
            }
        }

        #[test]
        fn any_number_is_an_inode_or_none(number: u64) {
            let _ = Inode::parse(number);
        }
    }
}
