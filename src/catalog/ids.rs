//! [`VersionId`], [`DirectoryId`]: numbers that mean one thing for ever.

use rusqlite::{ToSql, types::ToSqlOutput};

/// Bits of an id below the chain's number: versions in one chain.
pub const VERSION_BITS: u32 = 40;
/// The same for directories.
pub const DIRECTORY_BITS: u32 = 31;
/// Highest number of a chain. Numbers that are free again are reused behind it.
pub const MAX_CHAIN: i64 = (1 << 21) - 1;
/// Highest number of a set, counted across chains; the same holds for these.
pub const MAX_SET: i64 = (1 << 31) - 1;

/// Names one version for ever: chain number and running number within the chain. Ids of a set
/// ascend in path order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub(super) i64);

/// Names one directory path of a chain for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub(super) i64);

macro_rules! id {
    ($name:ident, $bits:expr) => {
        impl $name {
            pub(crate) fn new(chain: i64, number: i64) -> Self {
                Self(chain << $bits | number)
            }

            /// Takes chain number and number within the chain, from an inode number; whether there
            /// is such a row is another question.
            pub fn from_parts(chain: u64, number: u64) -> Self {
                Self::new(chain as i64 & MAX_CHAIN, number as i64 & ((1 << $bits) - 1))
            }

            /// Returns the number of its chain.
            pub fn chain(self) -> u64 {
                (self.0 >> $bits) as u64
            }

            /// Returns the number within its chain.
            pub fn number(self) -> u64 {
                (self.0 & ((1 << $bits) - 1)) as u64
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(
                value: rusqlite::types::ValueRef<'_>,
            ) -> rusqlite::types::FromSqlResult<Self> {
                value.as_i64().map(Self)
            }
        }
    };
}
id!(VersionId, VERSION_BITS);
id!(DirectoryId, DIRECTORY_BITS);

impl DirectoryId {
    /// Returns the source directory itself in a chain.
    pub(crate) fn root(chain: i64) -> Self {
        Self::new(chain, 1)
    }

    /// Returns the number within its chain of the source directory itself.
    pub fn root_number() -> u64 {
        1
    }

    /// Returns what stands for the directory above the source directory.
    pub(crate) fn above_root(chain: i64) -> Self {
        Self(-chain)
    }

    /// Returns whether this is the source directory itself.
    pub fn is_root(self) -> bool {
        self.number() == 1
    }
}
