//! All snapshots as one read-only tree, with no word of FUSE.
//!
//! ```text
//! /                              inode 1
//! /latest -> 2026-11-22T…        another inode for each target
//! /2026-11-22T16.10.19+0100/     the source directory in one snapshot
//! /2026-11-22T16.10.19+0100/a    a version: the same inode in every snapshot that shows it
//! ```
//!
//! An inode number is computed, never stored: of a directory it is (directory, snapshot), of
//! anything else its version. Nothing is remembered for an inode that was looked up, so there is
//! nothing to forget. What a snapshot shows never changes; only the root, and the link counts of
//! versions that the newest snapshot of a chain still shows, are news when a backup is added
//! ([`Found::may_change`]).
//!
//! Names and metadata are those of the signature files until a volume is read for a file. If that
//! contradicts them, the whole chain is shown anew, as its volumes have it, under new inode
//! numbers; the old ones are stale, as those of a backup that was removed.
//!
//! A storage that fails takes no snapshot away, and nothing of its failure is remembered; only
//! damage is, until the storage is listed anew.
//!
//! What cannot be shown has no folder: a set that cannot be read, with what builds on it, and a
//! chain to which there is no key.

mod names;
mod number;
mod tree;

pub use names::{InvalidTemplate, TimeTemplate};
pub use tree::{Attributes, Found, HistoryTree, Item};

/// Why the tree has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is nothing of that name or number.
    #[error("no such entry")]
    NotFound,
    /// An inode that was there once is no more: its backup was removed.
    #[error("the backup was removed from the collection")]
    Stale,
    /// Something other than a directory was taken for one.
    #[error("not a directory")]
    NotDirectory,
    /// Something other than a file was to be read.
    #[error("not a regular file")]
    NotFile,
    /// A backup, or a file in it, cannot be read.
    #[error("{what}: {cause}")]
    Unreadable {
        /// Snapshot and path.
        what: String,
        /// Why.
        cause: String,
    },
}
