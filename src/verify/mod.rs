//! Reads a snapshot as a restore would, and compares it with a directory instead of writing one.
//!
//! A [`BulkReader`](crate::contents::BulkReader) decodes every volume of the sets that the time needs, once, and puts every file
//! together; nothing is written, and each piece is compared with the local file as it comes. Then
//! snapshot and directory are walked side by side, and of each path the first difference is told.
//! In this order (duplicity 0.8.22 and 3.2.1, tried):
//!
//! | what | of what |
//! |---|---|
//! | present, type | everything |
//! | permissions, owner and group by number | all but symbolic links |
//! | modification time in whole seconds | files, directories, named pipes |
//! | what a link points to; device numbers; content | these |
//!
//! The originals stop at the first volume that is damaged. Here it is told, with every file that it
//! hits, and the rest is read all the same. A file that is damaged is not counted as different:
//! nobody knows.
//!
//! When asked to, it also compares each file with the signature that was taken when it was saved,
//! which the manual of duplicity promises, and neither version does.
//!
//! # Invariants
//! - Nothing is written, locally or to the collection.
//! - Names and metadata are those of the volumes: where these contradict the catalog, it is filled
//!   anew and all begins again.
//! - A file counts as good only when all of it has come from volumes whose hashes match their
//!   manifests.

mod compare;
mod signatures;
mod verification;

pub use verification::verify;

use crate::contents::{BulkReadError, Contents, Failure};
use crate::model::EntryPath;
use crate::sets;
use crate::source::{Selection, SourceTree};
use std::sync::Arc;

/// What to verify and how.
#[derive(Clone)]
pub struct VerifyOptions {
    /// Only this path and what is below it, of which the local source is the counterpart;
    /// `--path-to-restore`.
    pub path: EntryPath,
    /// The local counterpart.
    pub source: SourceTree,
    /// What of it counts; all if there is none.
    pub selection: Option<Arc<Selection>>,
    /// Look at the local files; `--compare-data`. Else their paths are only counted, as by
    /// duplicity.
    pub compares: bool,
    /// Reads the files once more, as a mount does, to compare them with their signatures;
    /// `--against-signatures`.
    pub contents: Option<Arc<Contents>>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Paths in the snapshot, in the local source, or in both.
    pub paths: u64,
    /// Paths that differ; each was told.
    pub differences: u64,
    /// Files of the snapshot.
    pub files: u64,
    /// Those that cannot be put together, or do not match their signatures; each was reported.
    pub damaged: u64,
    /// Those that could not be read, which proves no damage: the storage or this machine has failed;
    /// each was reported.
    pub unread: u64,
    /// Those that match their signatures, if they were compared.
    pub proved: u64,
    /// Volumes that were read to their end, and match their manifests.
    pub volumes: u64,
    /// What is wrong with the first volume that is bad; if none is, with the first damaged file; if
    /// none is, why the first file could not be read.
    pub cause: Option<Arc<Failure>>,
}

/// Why nothing could be verified, or not all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshot has no such path.
    #[error("{0} not found in archive - nothing verified.")]
    PathNotFound(EntryPath),
    /// The catalog failed.
    #[error(transparent)]
    Sets(#[from] sets::Error),
    /// The volumes could not be gone through.
    #[error(transparent)]
    BulkReader(#[from] BulkReadError),
}

impl Error {
    /// Returns whether sound volumes contradict the rows that were verified.
    fn is_contradicted(&self) -> bool {
        matches!(self, Self::Sets(error) | Self::BulkReader(BulkReadError::Sets(error)) if error.is_contradicted())
    }
}
