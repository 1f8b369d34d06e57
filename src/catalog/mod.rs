//! What is where: which set holds each version of each path, and where its bytes lie. SQL alone:
//! what the rows are filled with, and whether they are true, is the business of [`crate::sets`].
//!
//! A backup set never changes once it is complete, and lists the paths that it touched in path
//! order. So a chain is a stack of sorted runs, newest on top, and the tree at one time is the
//! newest version of each path at or before it:
//!
//! ```text
//! position 2   ·     b deleted      ·          d' delta          the set's rows of `versions`, ids in path order
//! position 1   a'       ·        c/x new       d' whole
//! position 0   a        b           ·          d
//!              └ one row per (directory, name, position): look-ups are one search of one index
//! ```
//!
//! The catalog is an SQLite database with those rows. It fills in two levels: level 1 is names,
//! types, metadata, a set at a time (`set_writer`); level 2 is sizes, extents, seek points, a
//! volume at a time (`volumes`).
//!
//! All of it is derived data, filled anew when in doubt. A set is known again by the names, sizes
//! and time stamps of its stored files; a chain that lost or changed a set gets new ids, so that an
//! id never means another thing.
//!
//! # A cache
//! It is a cache, so it may be wrong, locked, gone or full, and nobody is worse off:
//!
//! | what happens | what notices | what follows |
//! |---|---|---|
//! | a bit or a row has changed, a page is old or cut off | the check of its page (`pages`) | filled anew, and asked again |
//! | a value, row or table makes no sense | whoever reads it | the same |
//! | the file was removed, exchanged or cut under a mount | a look at its inodes before each use (`database`) | the same |
//! | another process holds it locked, the disk is full | SQLite | on in memory, or without keeping what is learnt |
//! | rows are gone by another process's hand | their set's row, asked for behind each answer (`Catalog::ask`) | filled in again |
//! | others may have written it | owner and mode | on in memory |
//!
//! # Invariants
//! - Rows of `versions` are never changed but for their size, which goes from unknown to exact.
//! - Rows of `parts` of a volume are used only if its row of `volumes` says that its first pass
//!   ended well, or that its table was taken.
//! - Every question is asked through `ask`, and every answer that counts is written through
//!   `record`: the rows of the set that it rests on were there. Nobody asks while filling a chain,
//!   which would wait for itself.
//! - Nothing is decoded or waited for while the database is locked for writing, and a collection
//!   that is known is not written at all.
//! - Numbers of chains and sets hold across a new start; where they clash with another process's,
//!   the catalog goes on in memory.

#[expect(clippy::module_inception, reason = "the noun of the module")]
mod catalog;
mod chains;
mod database;
mod ids;
mod packed;
mod pages;
mod rows;
mod saved_rows;
mod schema;
mod set_rows;
mod set_writer;
mod signature_hashes;
mod stats;
mod versions;
mod volumes;

pub use catalog::Catalog;
pub(crate) use catalog::MayBeOfCatalog;
pub use chains::Chain;
pub(crate) use chains::{Source, copy_identity, identity};
pub use ids::{DirectoryId, VersionId};
pub(crate) use packed::PackedParts;
pub(crate) use rows::Rows;
pub(crate) use saved_rows::{Directories, SavedRow};
pub(crate) use set_rows::VersionRow;
pub(crate) use set_writer::Line;
pub use signature_hashes::{AllSeen, SeenPlace, SeenSignatures};
pub use stats::SourceStat;
pub use versions::{Tops, Version, VersionKind};

use std::path::PathBuf;

/// Why the catalog has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory for the database cannot be used.
    #[error("cannot use the cache directory '{}': {cause}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A file that others can have written is not believed.
    #[error("will not use the cache at '{}': {cause}; remove it, and it will be made anew", path.display())]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The database file is gone, was cut, or is another one than was opened.
    #[error("the file of the catalog was removed or replaced")]
    Replaced,
    /// SQLite failed.
    #[error("the catalog failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file holds other tables than ours.
    #[error("the catalog file is of another version")]
    Schema,
    /// A value is not the one that was stored.
    #[error("the catalog is damaged")]
    Broken,
    /// The rows of a set are not there (any more), so an answer means nothing.
    #[error("the catalog no longer has the rows of this backup")]
    Lost,
    /// Something asked for is not in the catalog (any more).
    #[error("the catalog no longer has {0}")]
    Gone(String),
    /// More chains, sets or versions than ids have room for.
    #[error("too many {0} for the catalog")]
    TooMany(&'static str),
}
