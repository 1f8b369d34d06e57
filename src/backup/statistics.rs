//! [`Statistics`]: what a session has met and stored, as duplicity counts it.

use super::compare::Change;
use crate::source::Found;

/// What a session has met and stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Paths that were selected, the root and all directories among them.
    pub source_files: u64,
    /// Bytes of these: of directories and links, too, what the system calls their size.
    pub source_file_size: u64,
    /// Paths that were stored whole: those that are new, and changed ones that are no files.
    pub new_files: u64,
    /// Bytes of these.
    pub new_file_size: u64,
    /// Paths that are gone.
    pub deleted_files: u64,
    /// Files that were stored as a delta.
    pub changed_files: u64,
    /// Bytes of these as they are now.
    pub changed_file_size: u64,
    /// Paths that have an entry in the set.
    pub delta_entries: u64,
    /// Bytes of file contents and deltas before compression.
    pub raw_delta_size: u64,
    /// Bytes of the volumes that were stored.
    pub stored_size: u64,
    /// Paths that could not be read.
    pub errors: u64,
}

impl Statistics {
    /// Counts what a comparison tells; what becomes of it is counted elsewhere.
    pub fn meet(&mut self, change: &Change) {
        if let Change::Same(found, _)
        | Change::Suspect(found, _)
        | Change::Changed(found, _)
        | Change::New(found) = change
        {
            self.source_files += 1;
            self.source_file_size += found.size;
        }
    }

    /// Counts a path that is stored whole.
    pub fn add_new(&mut self, found: &Found) {
        self.new_files += 1;
        self.new_file_size += found.size;
        self.delta_entries += 1;
    }

    /// Counts a file that is stored as a delta.
    pub fn add_changed(&mut self, found: &Found) {
        self.changed_files += 1;
        self.changed_file_size += found.size;
        self.delta_entries += 1;
    }

    /// Counts a path that is gone.
    pub fn add_deleted(&mut self) {
        self.deleted_files += 1;
        self.delta_entries += 1;
    }
}
