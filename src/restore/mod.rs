//! Writes a snapshot, or a part of it, into a directory.
//!
//! Three rounds. The first walks the snapshot and makes everything that has no content:
//! directories, links, fifos, devices. The second is a
//! [`BulkReader`](crate::contents::BulkReader): it goes through the volumes of the chain, or to the
//! extents of few files in them, and brings each file to a temporary name, and to its own when it
//! is complete. The third walks the snapshot again: it sets the metadata of the directories,
//! children first, and names each file that has not been delivered.
//!
//! A selection, as of a backup, leaves paths out; renames give others to some, relative to what
//! becomes the target.
//!
//! Volumes that contradict the catalog make it begin anew: what was made is taken back, and the
//! catalog asks the volumes what there is ([`sets::Error::is_contradicted`]).
//!
//! # Invariants
//! - What is restored, names and metadata included, has been proved by volumes: all those in which,
//!   by their manifests, anything at the path could lie are read, now or before; where one cannot
//!   be, that is a failure. Only a directory, a link or a device whose own volume is damaged is
//!   made as the signature file has it.
//! - A file gets its final name only when it is complete, with its metadata. What cannot be
//!   completed is removed and reported. This holds with [`RestoreOptions::ignore_errors`], too:
//!   that changes what is said, and what counts as a failure.
//! - Content goes before metadata: a mode or a time that the target cannot hold costs no file. It
//!   keeps a mode that lets nobody in whom its own keeps out, and each kind is reported once.
//! - Nothing temporary stays. An interrupted run removes what it has begun; what a killed one left
//!   is removed by the next run into the same target, which knows it by the lock file of that run.
//! - Nothing is written outside the target: every path is resolved below it component by component,
//!   following no link.

mod rounds;
mod selected;
mod target;

pub use rounds::{check_free, dry_run, restore};

use crate::contents::Failure;
use crate::model::EntryPath;
use crate::sets;
use crate::source::Selection;
use std::path::PathBuf;
use std::sync::Arc;

/// What to restore and how.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only this path and what is below it; `--path-to-restore`.
    pub path: EntryPath,
    /// Write into a directory that is not empty, and over files there; `--force`.
    pub force: bool,
    /// Leave owners as they come; `--no-restore-ownership`.
    pub keep_own_ownership: bool,
    /// What to restore of it, by paths as listings show them; everything if there is none.
    pub selection: Option<Arc<Selection>>,
    /// `--rename`: paths relative to what becomes the target, and what they become; of several that
    /// fit the longest counts.
    pub renames: Vec<(EntryPath, EntryPath)>,
    /// `--ignore-errors`: volumes with a wrong hash, and metadata that cannot be set, are no
    /// failures.
    pub ignore_errors: bool,
    /// `--no-sparse`: write runs of zeros, too, which are left as holes otherwise.
    pub writes_zeros: bool,
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Files, directories and the rest that stand in the target now.
    pub delivered: u64,
    /// Entries that could not be delivered, or only without some of their metadata; each was
    /// reported.
    pub failed: u64,
    /// Those that lack for a reason that was to be ignored; each was reported, too.
    pub ignored: u64,
    /// What is wrong with the first file that could not be delivered.
    pub cause: Option<Arc<Failure>>,
}

/// Why nothing, or not everything, could be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is something in the target already.
    #[error("'{}' {why}", path.display())]
    TargetNotEmpty {
        /// Where.
        path: PathBuf,
        /// What it is, and what to do.
        why: &'static str,
    },
    /// The snapshot has no such path.
    #[error("{0} not found in archive - no files restored.")]
    PathNotFound(EntryPath),
    /// The backup holds nothing.
    #[error("No files found in archive - nothing restored.")]
    Nothing,
    /// The target cannot be made or written at all.
    #[error("cannot write to '{}': {cause}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The monitor wanted the end.
    #[error(
        "interrupted; what has been restored so far stays, each file of it whole: to go on, restore again with --force"
    )]
    Interrupted,
    /// The catalog failed.
    #[error(transparent)]
    Sets(#[from] sets::Error),
}
