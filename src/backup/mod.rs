//! Saving a source: from the live tree to a new set of a collection.
//!
//! ```text
//! source ─► compare ─► members ─────────► frames ─► encode ─► volumes ─► storage
//! walk       │          read, delta,       1 MiB    all cores  SetWriter
//!            │          signature ──► signature file, list of files
//! catalog ─► basis
//! what is saved already
//! ```
//! [`backup`] is that way from top to bottom. One thread walks, compares, reads and makes
//! signatures; all cores deflate and encrypt; one thread puts the frames into volumes and stores
//! them. What is under way is bounded, so memory is, whatever the size of the source.
//!
//! # Awkward cases
//! - A file is read to its end, whatever its size is said to be: those of procfs say 0. Sizes in
//!   headers are those of what follows.
//! - A file changes, shrinks or grows while it is read: the signature is that of what was stored, a
//!   file that grows ends where it ended when it was opened. A warning tells. duplicity would go on
//!   as long as it grows.
//! - A file cannot be read: nothing of it is stored, with a warning, and it is counted. So an
//!   increment has it as it was before, and a full set has it not. duplicity stores what it could
//!   read of it as if that were all.
//! - A file fails behind its first MiB: part of it may be stored already. The session goes back to
//!   the end of the last volume before the file, as one does that goes on after a crash, and passes
//!   the file over. From then on each file is read to its end once before anything of it is stored,
//!   so that many bad files cost no more than reading all twice.
//! - The session is killed: `resume` goes on from the last volume, with the signatures of what was
//!   stored then, not of what is there now.
//!
//! # Invariants
//! - A name that duplicity would take for a file of a set appears in storage only with all its
//!   bytes.
//! - The manifest of a set is stored last, when all else is there.
//! - A signature is made of the very bytes that are stored.
//!
//! # Absent on purpose
//! What is printed, and which of a user's words lead here: that is the program's.

mod base;
mod compare;
mod content;
mod error;
mod journal;
mod members;
mod plan;
mod reports;
mod resume;
mod save;
mod session;
mod signatures;
mod signing;
mod sigtar;
mod spool;
mod statistics;
mod uploads;

pub use base::Base;
pub use compare::Change;
pub use error::{Error, SignaturesCause};
pub use plan::{
    Basis, ClockBehind, Mismatch, Wanted, WhyFull, free_time, is_same_set, mismatch,
    stored_statistics,
};
pub use resume::{complete, forget, is_unfinished, unfinished};
pub use save::{backup, dry_run};
pub use session::store_statistics;
pub use statistics::Statistics;

use crate::catalog::Chain;
use crate::codec::{Codec, EncodeOptions, Encoder};
use crate::collection::{ArchiveDirectory, Collection};
use crate::format::{NameForm, Prefixes, Session};
use crate::model::{BackupTime, EntryPath};
use crate::sets::Sets;
use crate::source::{Selection, SourceTree};
use crate::storage::{Listed, Storage};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

/// How to save.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Time of the new set (`--current-time`).
    pub time: BackupTime,
    /// Size that volumes should not exceed, in bytes (`--volsize`).
    pub volume_size: u64,
    /// Largest block of a signature in bytes, if there is a limit (`--max-blocksize`).
    pub max_block_size: Option<u64>,
    /// How names are spelt.
    pub names: NameForm,
    /// What names begin with.
    pub prefixes: Prefixes,
    /// How files are encoded.
    pub encode: EncodeOptions,
    /// Name of this machine, for the manifest.
    pub hostname: Option<Vec<u8>>,
    /// The source as it was typed, for the manifest.
    pub source: Option<Vec<u8>>,
    /// Whether the manifest lists the files (`--no-files-changed`).
    pub list_files: bool,
    /// Takes owners by number when comparing (`--numeric-owner`).
    pub numeric_owner: bool,
    /// Keeps what is saved of paths that cannot be read, where duplicity takes them for deleted
    /// (`--keep-unreadable`).
    pub keep_unreadable: bool,
    /// Stores nothing when nothing has changed (`--skip-if-no-change`).
    pub skip_if_no_change: bool,
    /// Where temporary files lie (`--tempdir`).
    pub tempdir: PathBuf,
    /// Where it is noted what is stored so far; without it a killed session cannot be continued.
    pub journal: Option<PathBuf>,
    /// For tests: stores this volume, and fails then (`--fail-on-volume`).
    pub fail_on_volume: Option<u32>,
    /// For tests: only seems to store this volume (`--skip-volume`), which the check before the
    /// manifest is to find.
    pub skip_volume: Option<u32>,
}

impl BackupOptions {
    /// Returns the size of frames: small enough that volumes keep to their size.
    fn frame_size(&self) -> usize {
        (self.volume_size / 8).clamp(128 << 10, 1 << 20) as usize
    }

    /// Returns a path as the user would type it, for messages.
    fn full_path(&self, path: &EntryPath) -> PathBuf {
        let mut full = PathBuf::from(OsStr::from_bytes(self.source.as_deref().unwrap_or_default()));
        if !path.is_root() {
            full.push(OsStr::from_bytes(path.as_bytes()));
        }
        full
    }

    /// Says that a file ended before its size was reached.
    fn short(&self, path: &EntryPath, length: u64, size: u64) -> String {
        let path = self.full_path(path);
        format!(
            "{} ends after {length} bytes, though its size is {size}; what was read is stored",
            path.display()
        )
    }

    /// Says that a file has changed under the reader.
    fn changed(&self, path: &EntryPath) -> String {
        format!(
            "{} changed while it was read; what was read is stored",
            self.full_path(path).display()
        )
    }
}

/// Where to save.
pub struct Target<'a> {
    /// The stored files.
    pub storage: Arc<dyn Storage>,
    /// What is in storage.
    pub listing: &'a [Listed],
    /// The same, by names.
    pub collection: &'a Collection,
    /// duplicity's archive directory, synchronised.
    pub archive: &'a ArchiveDirectory,
    /// Decodes what is saved.
    pub codec: Arc<Codec>,
    /// Encodes what will be.
    pub encoder: Arc<Encoder>,
    /// Encodes the manifest, if otherwise than the rest: it is never compressed by itself.
    pub manifest_encoder: Option<Arc<Encoder>>,
    /// Knows the collection.
    pub sets: &'a Sets,
}

/// What is to be saved, and where it goes.
pub struct Job<'a> {
    /// Where to save.
    pub target: &'a Target<'a>,
    /// The tree.
    pub source: &'a SourceTree,
    /// Which paths are saved, if not all.
    pub selection: Option<Arc<Selection>>,
    /// The chain that goes on, by an increment on its last set; a full set has none.
    pub base: Option<&'a Arc<Chain>>,
    /// How to save.
    pub options: &'a BackupOptions,
}

/// What has become of a session.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub statistics: Statistics,
    /// The set that was stored; `None` if nothing was.
    pub session: Option<Session>,
}
