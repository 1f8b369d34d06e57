//! [`Monitor`]: by which the library reports what does not stop it, and counts what it has done.

use crate::model::{BackupTime, EntryPath};
use std::io;
use std::path::Path;

/// How much a message matters, in duplicity's five levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something could not be delivered.
    Error,
    /// Something is odd, but nothing is lost.
    Warning,
    /// What a user wants to read by default.
    Notice,
    /// One line per step.
    Info,
    /// For developers.
    Debug,
}

/// What happened, where duplicity has words and a number of its own for it: the program gives both.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A backup has met so many bytes of its source.
    Met {
        /// The bytes.
        bytes: u64,
        /// The volume that holds the last of them, where it is stored just now.
        volume: Option<u32>,
    },
    /// So many volumes of all have been read.
    VolumesRead {
        /// How many.
        count: usize,
        /// Of how many.
        all: usize,
    },
    /// A path is new in this backup.
    Added(&'a EntryPath),
    /// A path has changed.
    Changed(&'a EntryPath),
    /// A path is gone.
    Deleted(&'a EntryPath),
    /// A path is of a time before 1970, which the format does not keep.
    NegativeTime(&'a EntryPath),
    /// A socket is left out.
    Socket(&'a Path),
    /// Nothing can be learnt about a path, and it is not in this backup.
    CannotStat(&'a Path, &'a io::Error),
    /// A path cannot be read, and is not in this backup.
    CannotRead(&'a Path, &'a io::Error),
    /// A volume of this name is ready, and is stored now.
    Storing(&'a str),
    /// It is stored.
    Stored,
    /// What an interrupted session has left does not fit a new one, full or not, and is removed.
    PartialRemoved {
        /// Whether the new session is a full one.
        is_full: bool,
    },
    /// What an interrupted session has left is gone on with, if anything of it can be kept.
    PartialFound {
        /// Whether the new session is a full one.
        is_full: bool,
    },
    /// Nothing of an interrupted session can be kept.
    PartialUseless,
    /// An interrupted session is gone on with at a volume.
    Restarting(u32),
    /// It is gone on with behind what is stored.
    RestartingAfter {
        /// The last volume that is stored.
        volume: u32,
        /// The last path in it.
        path: &'a EntryPath,
        /// The piece of that path, if it is split.
        piece: Option<u64>,
    },
    /// A file in the archive directory goes that the storage does not have.
    LocalDeleted(&'a Path),
    /// A stored file of this name is copied to the archive directory.
    LocalCopied(&'a str),
    /// A path is restored, of a type that [`EntryKind::word`](crate::model::EntryKind::word) names.
    Restored(&'a EntryPath, &'static str),
    /// A path cannot be restored, and why.
    NotRestored(&'a EntryPath, &'a str),
    /// A path is not tried, since the directory for it could not be made.
    Skipped(&'a EntryPath),
    /// Something is wrong that was to be ignored.
    Ignored(&'a str),
    /// Something local is not as in the backup.
    Different(&'a str),
    /// A stored file of this name is replicated.
    Replicating(&'a str),
    /// The set with a manifest of this name has been replicated before.
    Replicated(&'a str),
    /// A part of a chain is removed.
    RemovingChain {
        /// Whether all of it, or its increments alone.
        is_whole: bool,
        /// Whether its signature files, or its manifests and volumes.
        is_signatures: bool,
        /// When it ends.
        end: BackupTime,
    },
}

/// Receives messages and counts from any thread. The library never prints: the program does, behind
/// this trait.
pub trait Monitor: Send + Sync {
    /// Takes one message: lower case, without full stop, perhaps of several lines.
    fn message(&self, level: Level, text: &str);

    /// Returns whether the work is to end as soon as it can be left in order.
    fn is_interrupted(&self) -> bool {
        false
    }

    /// Takes an event.
    fn event(&self, _event: &Event) {}

    /// Reports that a long task has got to `done` of `total`, both in bytes.
    fn progress(&self, _done: u64, _total: u64) {}
}

/// A monitor that hears nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn message(&self, _level: Level, _text: &str) {}
}
