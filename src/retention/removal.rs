//! [`delete`]: does what was planned.

use crate::collection::ArchiveDirectory;
use crate::format::Content;
use crate::monitor::{Level, Monitor};
use crate::storage::Storage;

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the storage.
    Storage,
    /// In duplicity's archive directory.
    Archive,
}

/// A file that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Where it lies.
    pub place: Place,
    /// Its name there.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// Files that go together, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// What duplicity says first, if anything.
    pub text: Option<String>,
    /// The files.
    pub deletions: Vec<Deletion>,
}

/// Deletes files step by step; returns how many are still there. A failure is a warning, since all
/// else may still go; but behind a stored manifest that stays, nothing more of its step is deleted.
pub fn delete(
    steps: &[Step],
    storage: &dyn Storage,
    archive: &ArchiveDirectory,
    monitor: &dyn Monitor,
) -> usize {
    let mut left = 0;
    for Step { text, deletions } in steps {
        text.iter().for_each(|text| monitor.message(Level::Notice, text));
        for (position, Deletion { place, name, content }) in deletions.iter().enumerate() {
            let done = match place {
                Place::Storage => storage.delete(name),
                Place::Archive => archive.delete(name),
            };
            let Err(error) = done else { continue };
            monitor.message(Level::Warning, &error.to_string());
            if (*place, *content) == (Place::Storage, Content::Manifest) {
                left += deletions.len() - position;
                break;
            }
            left += 1;
        }
    }
    left
}
