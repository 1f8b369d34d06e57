//! Inode numbers, computed: a folder is (snapshot, folder), anything else is its version.

use crate::catalog::VersionId;

/// The root, which holds the snapshots.
pub const ROOT: u64 = 1;
/// Set in the numbers of directories. Below it 31 bits for the number of the snapshot's set, and 31
/// for that of the directory.
const DIRECTORY: u64 = 1 << 62;
const SET_SHIFT: u32 = 31;
/// VersionSet of a version's number within its chain.
const VERSION_SHIFT: u32 = 40;

/// Set in the numbers of links to the newest snapshot. Below it, the number of its set: the kernel
/// keeps the target of a link for as long as it knows the inode, so another target needs another
/// number.
const LATEST: u64 = 1 << 61;

/// What an inode number stands for. Sets are counted across chains, so one number tells chain and
/// position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inode {
    /// The root.
    Root,
    /// The link to a snapshot while that is the newest.
    Latest {
        /// Number of its set.
        set: u64,
    },
    /// A directory as one snapshot shows it.
    Directory {
        /// Number of the snapshot's set.
        set: u64,
        /// Number of the directory within the chain.
        directory: u64,
    },
    /// Anything else.
    Version(VersionId),
}

impl Inode {
    /// Prints the number.
    pub fn number(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::Latest { set } => LATEST | set,
            Self::Directory { set, directory } => DIRECTORY | set << SET_SHIFT | directory,
            Self::Version(id) => id.chain() << VERSION_SHIFT | id.number(),
        }
    }

    /// Parses a number; `None` for one that was never given out.
    pub fn parse(number: u64) -> Option<Self> {
        let bits = |shift: u32, count: u32| number >> shift & ((1 << count) - 1);
        match number {
            ROOT => Some(Self::Root),
            _ if number & DIRECTORY != 0 => {
                Some(Self::Directory { set: bits(SET_SHIFT, 31), directory: bits(0, SET_SHIFT) })
            }
            _ if number & LATEST != 0 => Some(Self::Latest { set: bits(0, 31) }),
            _ if number >> VERSION_SHIFT != 0 => Some(Self::Version(VersionId::from_parts(
                number >> VERSION_SHIFT,
                bits(0, VERSION_SHIFT),
            ))),
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
        fn numbers_round_trip(chain in 1u64..1 << 21, set in 1u64..1 << 31, directory in 1u64..1 << 31, version in 1u64..1 << 40) {
            for inode in [
                Inode::Directory { set, directory },
                Inode::Version(VersionId::from_parts(chain, version)),
                Inode::Root,
                Inode::Latest { set },
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
