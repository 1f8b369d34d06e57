//! The bytes of one version of a file, or of all files of a snapshot, each volume being read once.
//!
//! The content of a version is a list of extents, `(length, volume, offset in the volume's plain
//! tar)`. A whole member is one extent per piece. A delta is a list of commands: a literal is an
//! extent in the delta's own volume, a copy is a slice of the extent map of the version below. So a
//! chain of any depth compiles to one flat map, and nothing in between is written out:
//!
//! ```text
//! version 2   delta   |copy 40..90|lit|            map 2   |  v1@812 len 50  | v9@300 len 3 |
//! version 1   delta   |lit|copy 10..100|           map 1   | v7@60 len 4 | v1@786 len 90 |
//! version 0   whole   |--------- 100 bytes -----|  map 0   | v1@776 len 100 |
//! ```
//!
//! Two ways lead through a delta chain. [`Contents`] goes upwards, from the whole member to the
//! version asked for, and compiles the map that serves any range: that needs the catalog's level 2
//! of all volumes concerned. [`PendingRanges`] goes downwards, from the newest set to the oldest:
//! which ranges of the version below does the target still need, and where do they go? So a
//! [`BulkReader`] meets each volume once, with nothing known before, several at a time:
//!
//! ```text
//! set 2   d' delta      → file d gets its literals; from the version below it still wants some ranges
//! set 1   d delta, e    → those of them that are literals here; e whole → complete
//! set 0   d whole       → the rest of the ranges; d is complete
//! ```
//!
//! Few files out of large volumes are brought the first way, where that reads less than half and
//! proves as much.
//!
//! A chain of any depth costs one pass, and nothing in between is written out. Memory holds a bit
//! per version, and the wanted ranges of files that wait for older sets, beyond some in a temporary
//! file. Where the contents go is a [`Target`]'s business: a restore writes them, a verification
//! only compares.
//!
//! # Invariants
//! - A map is made only of parts whose pieces are complete and in order, and of copies that lie
//!   within the version below.
//! - The size of a version is the length of its map, or of what its own set tells; it is never
//!   estimated.
//! - A [`BulkReader`] completes a file only when all of it has come from volumes whose hashes match their
//!   manifests; else it names the cause.

mod bulk_reader;
mod by_extents;
mod compile;
mod extents;
mod file_assembly;
mod pending_ranges;
mod reader;
mod target;
mod version_set;

pub use bulk_reader::{BulkReadError, BulkReader, ReadRequest, is_full, required_volumes};
pub use extents::{ExtentMap, Piece};
pub use file_assembly::Failure;
pub use pending_ranges::PendingRanges;
pub use reader::{Contents, File};
pub use target::{FileSink, Incoming, Target};
pub use version_set::VersionSet;

use std::sync::Arc;

/// Why content cannot be told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The catalog, or a volume that it had to read, failed.
    #[error(transparent)]
    Sets(Arc<crate::sets::Error>),
    /// A volume cannot be read.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// What the volumes hold of the version does not add up to a file.
    #[error("cannot put '{path}' together: {cause}")]
    Content {
        /// The file.
        path: String,
        /// What is missing or wrong.
        cause: String,
    },
}

impl Error {
    /// Returns whether the version that was asked for has turned out to be wrong:
    /// [`crate::sets::Error::is_contradicted`].
    pub fn is_contradicted(&self) -> bool {
        matches!(self, Self::Sets(cause) if cause.is_contradicted())
    }
}

impl From<crate::sets::Error> for Error {
    fn from(error: crate::sets::Error) -> Self {
        Self::Sets(Arc::new(error))
    }
}
