//! A collection once more, in another storage: the sets that it lacks, whole, with other keys if
//! that is wanted.
//!
//! ```text
//! source ─► set ─► files, on all cores ─┬─► encoded as the target wants it: the same bytes, their hash checked
//!                                       └─► otherwise: decoded, encoded anew ─► a new hash in the manifest
//! ```
//! Members of volumes and signatures stay what they are, so sizes of volumes and blocks do, too.
//! The manifest keeps all its lines but the hashes of volumes that were encoded anew.
//!
//! # Invariants
//! - The manifest of a set is stored last, when all else is there: whoever is killed leaves a set
//!   that `cleanup` removes, and that the next run begins anew, but for volumes that are there
//!   already with the same name and size, and the hash that their manifest knows.
//! - An increment is stored only when the set before it is.
//! - Nothing damaged is stored as good: volumes are checked against the manifest, all else is
//!   decoded once, if there is a key. Where there is none, and so nothing can be encoded anew
//!   either, the monitor hears that bytes were copied unchecked.
//!
//! # Differences from duplicity's `replicate`, on purpose
//! 0.8.22, the only version that has it, always decodes and encodes; it drops host, folder and list
//! of files from manifests and stores them compressed, so that its replicas cannot be gone on with;
//! and its dry run stores everything.
//!
//! Source: duplicity 0.8.22, tried.

mod set;
mod sets;

pub use sets::replicate;

use crate::codec::{self, Cause, Codec, Encoder};
use crate::collection::{ArchiveDirectory, Collection, LocalCopy};
use crate::format::{self, NameForm, Prefixes};
use crate::model::BackupTime;
use crate::storage::{self, Listed, Storage};
use crate::volume;
use std::sync::Arc;

/// How to replicate.
#[derive(Debug, Clone)]
pub struct ReplicateOptions {
    /// Only sets that end before this (`--time`); all if there is none.
    pub before: Option<BackupTime>,
    /// How names in the target are spelt.
    pub names: NameForm,
    /// What names begin with, in both storages.
    pub prefixes: Prefixes,
    /// Names what would be stored, and stores nothing.
    pub dry_run: bool,
}

/// The collection that is there.
pub struct Source<'a> {
    /// Its stored files.
    pub storage: Arc<dyn Storage>,
    /// Its sets, by names.
    pub collection: &'a Collection,
    /// duplicity's archive directory of it: manifests that can be read without a key.
    pub local_copy: Option<LocalCopy>,
    /// Decodes it.
    pub codec: Arc<Codec>,
    /// Decodes what is signed as the target has to be; `None` if that need not be signed.
    pub signed: Option<Codec>,
}

/// Where it goes.
pub struct Target<'a> {
    /// Its stored files.
    pub storage: Arc<dyn Storage>,
    /// What they are.
    pub listing: &'a [Listed],
    /// The same as sets.
    pub collection: &'a Collection,
    /// duplicity's archive directory of it.
    pub archive: &'a ArchiveDirectory,
    /// Encodes what is not encoded so already.
    pub encoder: Arc<Encoder>,
    /// The same for manifests, if otherwise: they are never compressed by themselves.
    pub manifest_encoder: Option<Arc<Encoder>>,
}

/// What has been done.
#[derive(Debug)]
pub struct Outcome {
    /// Sets that were stored; in a dry run, that would have been.
    pub replicated: usize,
    /// Sets that were there before.
    pub there: usize,
    /// Sets that could not be replicated, or not without one of these. Each has been told.
    pub failed: usize,
    /// Why the first of them could not.
    pub cause: Option<Error>,
}

/// Why a set cannot be replicated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest names a volume that is not in storage.
    #[error("volume {number} of the backup of {set} is missing")]
    MissingVolume {
        /// End of the set.
        set: BackupTime,
        /// Number of the volume.
        number: u32,
    },
    /// The manifest makes no sense.
    #[error("cannot read '{file}': {cause}")]
    Manifest {
        /// The stored file.
        file: String,
        /// Why.
        cause: format::Error,
    },
    /// A volume cannot be read, is not the one of its manifest, or cannot be written.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A file cannot be decoded or encoded.
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// A file is not in storage as it was stored.
    #[error(transparent)]
    NotStored(#[from] storage::NotStored),
    /// A file cannot be read or stored.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The monitor wanted it.
    #[error("interrupted; run this again to go on from here")]
    Interrupted,
}

impl Error {
    /// Returns whether another copy of the file may be better.
    fn is_of_content(&self) -> bool {
        match self {
            Self::Manifest { .. } => true,
            Self::Volume(error) => error.is_other_bytes(),
            Self::Codec(error) => error.is_of_content(),
            _ => false,
        }
    }

    /// Returns whether only this set is to blame, so that other chains can be replicated all the
    /// same.
    fn is_of_set(&self) -> bool {
        // Without a connection, no other set can be read either.
        let is_read = |error: &storage::Error| {
            matches!(error.operation, "read" | "trust") && !error.kind.is_connection()
        };
        let is_damaged = |error: &codec::Error| match &error.cause {
            Cause::Storage(error) => is_read(error),
            Cause::Damaged(_)
            | Cause::Truncated
            | Cause::NotAuthentic(_)
            | Cause::Unsupported(_)
            | Cause::Signature(_) => true,
            _ => false,
        };
        match self {
            Self::MissingVolume { .. } | Self::Manifest { .. } => true,
            Self::Volume(volume::Error::Decode(error)) | Self::Codec(error) => is_damaged(error),
            Self::Volume(volume::Error::Storage(error)) | Self::Storage(error) => is_read(error),
            Self::Volume(volume::Error::Hash { .. } | volume::Error::NoHash(_)) => true,
            Self::Volume(volume::Error::Members { .. } | volume::Error::Frames { .. }) => true,
            Self::Volume(volume::Error::Stopped | volume::Error::SeekIndex { .. })
            | Self::NotStored(_)
            | Self::Interrupted => false,
        }
    }
}
