//! Writes a snapshot, or a part of it, into a directory.
//!
//! Three rounds. The first walks the snapshot and makes everything that has no content: directories, links, fifos, devices. The
//! second goes through the volumes of the chain, newest set first, and decodes each of them once, several at a time:
//!
//! ```text
//! set 2   d' delta      → temporary file of d gets its literals; from the version below it still wants some ranges
//! set 1   d delta, e    → those of them that are literals here; e whole → written, finished, renamed
//! set 0   d whole       → the rest of the ranges; d is complete → finished, renamed
//! ```
//!
//! So a chain of any depth costs one pass, nothing needs to be known of the volumes before, and nothing in between is written out.
//! Memory holds a bit per version, and the wanted ranges of files that wait for older sets. The third round walks the snapshot
//! again: it sets the metadata of the directories, children first, and names each file that has not been delivered.
//!
//! # Invariants
//! - A file gets its final name only when it is complete, with its metadata. What cannot be completed is removed and reported.
//! - Nothing is written outside the target: every path is resolved below it component by component, following no link.

mod bits;
mod target;
mod task;
mod volumes;

use crate::accounts::Accounts;
use crate::catalog::{self, Catalog, Snapshot, Version};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::monitor::{Event, Level, Monitor, code, quoted};
use bits::Bits;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use target::Target;
use volumes::VolumeRound;

/// What to restore and how.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Only this path and what is below it; `--path-to-restore`.
    pub path: EntryPath,
    /// Write into a directory that is not empty, and over files there; `--force`.
    pub force: bool,
    /// Leave owners as they come; `--no-restore-ownership`.
    pub keep_own_ownership: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files, directories and the rest that stand in the target now.
    pub delivered: u64,
    /// Entries that could not be delivered, or only without some of their metadata; each was reported.
    pub failed: u64,
}

/// Why nothing, or not everything, could be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is something in the target already.
    #[error("'{}' exists and is not an empty directory; give --force to write into it", .0.display())]
    TargetNotEmpty(PathBuf),
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
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}

/// Writes what a snapshot holds at `options.path` to `target`: a directory's content into it, a file as it.
///
/// # Errors
/// [`Error`] when nothing can be restored, or the target is full. Entries that cannot be delivered are no error: the monitor
/// hears of each, and the summary counts them.
pub fn restore(
    catalog: &Catalog,
    snapshot: &Snapshot,
    target: &Path,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &RestoreOptions,
) -> Result<Summary, Error> {
    let found = snapshot.find(catalog, &options.path)?;
    let root = match found {
        Some(root) => root,
        None if options.path.is_root() => return Err(Error::Nothing),
        None => return Err(Error::PathNotFound(options.path.clone())),
    };
    let target = Target::open(target, &options.path, root.child().is_some(), options, accounts)?;
    let mut summary = Summary::default();
    let (expected, likely) = plant(catalog, snapshot, &target, monitor, &mut summary)?;
    let round = VolumeRound::new(catalog, snapshot, &target, monitor, expected, likely);
    round.run(&options.path)?;
    finish(catalog, snapshot, &target, &round, monitor, &mut summary)?;
    Ok(summary)
}

/// Files whose delta chains are followed beforehand, to tell which sets a restore will likely need. Of more files, some chain will
/// reach into every set.
const FOLLOWED: usize = 256;

/// First round: makes all that has no content. Returns the versions of the files that are wanted, and the positions of the sets that
/// likely hold a part of them.
fn plant(
    catalog: &Catalog,
    snapshot: &Snapshot,
    target: &Target,
    monitor: &dyn Monitor,
    summary: &mut Summary,
) -> Result<(Bits, BTreeSet<u32>), Error> {
    let last = catalog.versions_of(&snapshot.chain, snapshot.position)?.end;
    let expected = Bits::new(last);
    let (mut likely, mut files) = (BTreeSet::new(), 0);
    let mut place = target.place();
    for item in snapshot.walk(catalog, target.base())? {
        let (path, version) = item?;
        let Some(entry) = version.entry() else { continue };
        if entry.kind == EntryKind::File {
            expected.set(version.id.number());
            files += 1;
            match files {
                ..FOLLOWED => follow(catalog, version, &mut likely)?,
                FOLLOWED => likely.extend(0..=snapshot.position),
                _ => {}
            }
            continue;
        }
        match place.make(&path, entry) {
            Ok(()) => {
                summary.delivered += 1;
                tell_restored(&path, entry, monitor);
            }
            Err(cause) => {
                if target::is_full(&cause) {
                    return Err(target.full(cause));
                }
                summary.failed += 1;
                tell_failed(&path, &cause, monitor);
            }
        }
    }
    Ok((expected, likely))
}

/// Adds the sets of a file's delta chain: duplicity writes a delta whenever there was a file before.
fn follow(catalog: &Catalog, version: Version, likely: &mut BTreeSet<u32>) -> Result<(), Error> {
    let mut next = Some(version);
    while let Some(version) = next.filter(Version::is_file) {
        likely.insert(version.position);
        next = catalog.version_before(&version)?;
    }
    Ok(())
}

/// Third round: metadata of directories, children first; names each file that is not there.
fn finish(
    catalog: &Catalog,
    snapshot: &Snapshot,
    target: &Target,
    round: &VolumeRound<'_>,
    monitor: &dyn Monitor,
    summary: &mut Summary,
) -> Result<(), Error> {
    let mut place = target.place();
    let mut open: Vec<(EntryPath, Version)> = Vec::new();
    let mut close = |path: EntryPath, version: Version, summary: &mut Summary| {
        let Some(entry) = version.entry() else { return };
        if let Err(cause) = place.finish_directory(&path, entry) {
            summary.failed += 1;
            let text = format!("cannot set the metadata of directory '{path}': {cause}");
            tell_failure(&path, &text, monitor);
        }
    };
    for item in snapshot.walk(catalog, target.base())? {
        let (path, version) = item?;
        while let Some((directory, version)) = open.pop_if(|(directory, _)| !path.starts_with(directory)) {
            close(directory, version, summary);
        }
        if version.is_file() {
            match round.failure(&version) {
                None => {
                    summary.delivered += 1;
                    version.entry().iter().for_each(|entry| tell_restored(&path, entry, monitor));
                }
                Some(cause) => {
                    summary.failed += 1;
                    tell_failed(&path, &cause, monitor);
                }
            }
        } else if version.child().is_some() {
            open.push((path, version));
        }
    }
    while let Some((directory, version)) = open.pop() {
        close(directory, version, summary);
    }
    Ok(())
}

/// Tells, in duplicity's words, that a path is there; of the root it tells nothing.
fn tell_restored(path: &EntryPath, entry: &Entry, monitor: &dyn Monitor) {
    if path.is_root() {
        return;
    }
    let kind = entry.kind.word();
    let (words, text) = (format!("{} {kind}", quoted(path.shown())), format!("Writing {path} of type {kind}"));
    monitor.event(&Event { level: Level::Info, code: code::RESTORED, words: &words, text: &text });
}

/// Tells that a path could not be delivered.
fn tell_failed(path: &EntryPath, cause: &dyn std::fmt::Display, monitor: &dyn Monitor) {
    tell_failure(path, &format!("cannot restore '{path}': {cause}"), monitor);
}

fn tell_failure(path: &EntryPath, text: &str, monitor: &dyn Monitor) {
    monitor.event(&Event { level: Level::Warning, code: code::CANNOT_RESTORE, words: &quoted(path.shown()), text });
}
