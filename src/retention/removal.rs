//! [`delete`]: does what was planned.

use crate::collection::ArchiveDirectory;
use crate::format::Content;
use crate::model::BackupTime;
use crate::monitor::{Event, Level, Monitor};
use crate::storage::{self, Storage};

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// In the storage.
    Storage,
    /// In duplicity's archive directory.
    Archive,
}

/// A file that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Where it lies.
    pub place: Side,
    /// Its name there.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What of an old chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Chain,
    /// Its increments; the full set stays.
    Increments,
}

/// A chain, or its increments, of which files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedChain {
    /// What of it goes.
    pub part: Part,
    /// Whether its signature files go, or its manifests and volumes.
    pub is_signatures: bool,
    /// When it ends.
    pub end: BackupTime,
}

impl RemovedChain {
    /// Returns the event that it is removed.
    pub fn event(&self) -> Event<'static> {
        Event::RemovingChain {
            is_whole: self.part == Part::Chain,
            is_signatures: self.is_signatures,
            end: self.end,
        }
    }
}

/// Files that go together, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Of which chain they are, if of one.
    pub chain: Option<RemovedChain>,
    /// The files.
    pub deletions: Vec<Deletion>,
}

/// Deletes the files of all steps in three waves: signature files, manifests, all others; in each
/// those in storage, then those in the archive directory. Returns how many are still there.
///
/// The storage deletes a wave by as few requests as it can, but for manifests, which go one after
/// the other: behind a stored manifest that stays, no other of its step goes, nor any volume, so
/// that what cannot be deleted can still be restored. Any other failure is a warning, since all
/// else may still go. Wherever it is killed, there are sets that are whole, and sets without
/// manifest, which count no more.
pub fn delete(
    steps: &[Step],
    storage: &dyn Storage,
    archive: &ArchiveDirectory,
    monitor: &dyn Monitor,
) -> usize {
    let chains = steps.iter().filter_map(|step| step.chain.as_ref());
    chains.for_each(|chain| monitor.event(&chain.event()));
    let mut removal =
        Removal { steps, storage, archive, monitor, ends: vec![usize::MAX; steps.len()], left: 0 };
    let waves: [fn(Content) -> bool; 3] = [
        |content| content == Content::Signatures,
        |content| content == Content::Manifest,
        |content| !matches!(content, Content::Signatures | Content::Manifest),
    ];
    for is_of_wave in waves {
        removal.storage_wave(is_of_wave);
        removal.archive_wave(is_of_wave);
    }
    removal.left
}

struct Removal<'a> {
    steps: &'a [Step],
    storage: &'a dyn Storage,
    archive: &'a ArchiveDirectory,
    monitor: &'a dyn Monitor,
    /// From which position on each step's files stay.
    ends: Vec<usize>,
    /// How many files are still there.
    left: usize,
}

impl<'a> Removal<'a> {
    /// Returns the files of a wave in one place, each with its step and its position there; counts
    /// those that stay.
    fn wave(
        &mut self,
        place: Side,
        is_of_wave: fn(Content) -> bool,
    ) -> Vec<(usize, usize, &'a Deletion)> {
        let files = self.steps.iter().enumerate().flat_map(|(step, Step { deletions, .. })| {
            deletions.iter().enumerate().map(move |(position, file)| (step, position, file))
        });
        let files = files.filter(|(.., file)| file.place == place && is_of_wave(file.content));
        let ends = &self.ends;
        let (go, stay): (Vec<_>, Vec<_>) =
            files.partition(|(step, position, _)| *position < ends[*step]);
        self.left += stay.len();
        go
    }

    fn storage_wave(&mut self, is_of_wave: fn(Content) -> bool) {
        let files = self.wave(Side::Storage, is_of_wave);
        if is_of_wave(Content::Manifest) {
            for (step, position, file) in files {
                if position > self.ends[step] {
                    self.left += 1;
                    continue;
                }
                for result in self.storage.delete(&[&file.name]) {
                    if !self.is_gone(result) {
                        self.ends[step] = position;
                    }
                }
            }
        } else if !files.is_empty() {
            let names: Vec<&str> = files.iter().map(|(.., file)| file.name.as_str()).collect();
            for result in self.storage.delete(&names) {
                self.is_gone(result);
            }
        }
    }

    fn archive_wave(&mut self, is_of_wave: fn(Content) -> bool) {
        for (.., file) in self.wave(Side::Archive, is_of_wave) {
            self.is_gone(self.archive.delete(&file.name));
        }
    }

    /// Returns whether a file is gone; counts and reports one that is not.
    fn is_gone(&mut self, result: Result<(), storage::Error>) -> bool {
        let Err(error) = result else { return true };
        self.monitor.message(Level::Warning, &error.to_string());
        self.left += 1;
        false
    }
}
