//! [`restore()`]: the three rounds.

use super::selected::Selected;
use super::target::{self, Target};
use super::{Error, RestoreOptions, Summary};
use crate::accounts::Accounts;
use crate::catalog::Version;
use crate::contents::{
    self, BulkReadError, BulkReader, Contents, Failure, FileSink as _, ReadRequest, Target as _,
    VersionSet,
};
use crate::model::{Entry, EntryKind, EntryPath, Nested};
use crate::monitor::{Event, Monitor};
use crate::sets::{self, Sets, Snapshot};
use crate::volume;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Bytes of decoded frames that are kept, where files are read by their extents.
const CACHE: usize = 32 << 20;

/// Writes what a snapshot holds at `options.path` to `target`: a directory's content into it, a
/// file as it.
///
/// # Errors
/// [`Error`] when nothing can be restored, or the target is full. Entries that cannot be delivered
/// are no error: the monitor hears of each, and the summary counts them.
pub fn restore(
    sets: &Arc<Sets>,
    snapshot: &Snapshot,
    target: &Path,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &RestoreOptions,
) -> Result<Summary, Error> {
    let mut snapshot = snapshot.clone();
    loop {
        match try_restore(sets, &snapshot, target, accounts, monitor, options) {
            // Each set is contradicted once, at most.
            Err(Error::Sets(error)) if error.is_contradicted() => {
                snapshot = sets.renew(&snapshot)?
            }
            result => return result,
        }
    }
}

/// Restores by the rows that the catalog has; leaves nothing behind if volumes contradict them.
fn try_restore(
    sets: &Arc<Sets>,
    snapshot: &Snapshot,
    target: &Path,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &RestoreOptions,
) -> Result<Summary, Error> {
    let root = match look_up(sets, snapshot, options) {
        Err(error @ (Error::PathNotFound(_) | Error::Nothing)) => {
            // Only volumes can tell that there is nothing.
            (0..=snapshot.position)
                .try_for_each(|position| sets.prove(&snapshot.chain, position, &options.path))?;
            return Err(error);
        }
        root => root?,
    };
    let target =
        Target::open(target, &options.path, root.child().is_some(), options, accounts, monitor)?;
    let tree = Tree { sets, snapshot, options, target: &target, monitor };
    let mut summary = Summary::default();
    let Planted { expected, likely, unmade, made } = tree.plant(&mut summary)?;
    let contents = Contents::new(sets.clone(), sets.codec().clone(), CACHE);
    let request = ReadRequest {
        snapshot,
        base: &options.path,
        expected,
        likely,
        reads_all: false,
        extents: Some(&contents),
    };
    let round = BulkReader::new(sets, request, &target, monitor);
    match round.run() {
        Ok(()) => {}
        Err(BulkReadError::Full(cause)) => return Err(target.full(cause)),
        Err(BulkReadError::Interrupted) => return Err(Error::Interrupted),
        Err(BulkReadError::Sets(error)) if error.is_contradicted() => {
            tree.take_back(&round, &made)?;
            return Err(error.into());
        }
        Err(BulkReadError::Sets(error)) => return Err(error.into()),
    }
    target.release();
    tree.finish(&round, unmade, &mut summary)?;
    tree.admit(&round, &mut summary);
    target.report_unowned();
    target.report_unset();
    Ok(summary)
}

/// Makes sure that a target is free, as far as that can be told before anything is known of the
/// backup: [`restore`] without force refuses what this refuses.
///
/// # Errors
/// [`Error::TargetNotEmpty`] for a file or a directory with something in it; [`Error::Target`] when
/// the system cannot tell.
pub fn check_free(target: &Path) -> Result<(), Error> {
    target::check_free(target, target.is_dir(), false).map(drop)
}

/// Returns the names of the volumes that [`restore`] would read, oldest set first; the target is
/// left as it is.
///
/// # Errors
/// As [`restore`], as far as that is known without reading a volume.
pub fn dry_run(
    sets: &Sets,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
) -> Result<Vec<String>, Error> {
    let root = look_up(sets, snapshot, options)?;
    target::check_free(target, root.child().is_some(), options.force)?;
    Ok(contents::required_volumes(sets, snapshot, &options.path)?)
}

/// Finds what is to be restored, which must not be nothing.
fn look_up(sets: &Sets, snapshot: &Snapshot, options: &RestoreOptions) -> Result<Version, Error> {
    let root = match snapshot.find(sets, &options.path)? {
        Some(root) => root,
        None if options.path.is_root() => return Err(Error::Nothing),
        None => return Err(Error::PathNotFound(options.path.clone())),
    };
    if options.selection.is_some() {
        // The root comes even if nothing in it does.
        let root_alone = usize::from(options.path.is_root());
        let mut selected =
            Selected::new(snapshot.walk(sets, &options.path)?, options.selection.clone())
                .skip(root_alone);
        selected.next().transpose()?.ok_or(Error::Nothing)?;
    }
    Ok(root)
}

/// Files whose delta chains are followed beforehand, to tell which sets a restore will likely need.
/// Of more files, some chain will reach into every set.
const FOLLOWED: usize = 256;

/// What the rounds share.
struct Tree<'a> {
    sets: &'a Sets,
    snapshot: &'a Snapshot,
    options: &'a RestoreOptions,
    target: &'a Target<'a>,
    monitor: &'a dyn Monitor,
}

impl Tree<'_> {
    fn walk(&self) -> Result<Selected<'_>, sets::Error> {
        Ok(Selected::new(
            self.snapshot.walk(self.sets, &self.options.path)?,
            self.options.selection.clone(),
        ))
    }

    /// First round: makes all that has no content.
    fn plant(&self, summary: &mut Summary) -> Result<Planted, Error> {
        let last = self.sets.versions_of(&self.snapshot.chain, self.snapshot.position)?.end;
        let (expected, made) = (VersionSet::new(last), VersionSet::new(last));
        let (mut likely, mut files) = (BTreeSet::new(), 0);
        let mut unmade =
            Unmade { is_renamed: !self.options.renames.is_empty(), ..Unmade::default() };
        let mut sink = self.target.sink();
        for item in self.walk()? {
            if self.monitor.is_interrupted() {
                return Err(Error::Interrupted);
            }
            let (path, version) = item?;
            let Some(entry) = version.entry() else { continue };
            if unmade.holds(&path) {
                self.skip(summary, &path);
                continue;
            }
            if entry.kind == EntryKind::File {
                expected.set(version.id.number());
                files += 1;
                match files {
                    ..FOLLOWED => self.follow(version, &mut likely)?,
                    FOLLOWED => likely.extend(0..=self.snapshot.position),
                    _ => {}
                }
                continue;
            }
            match sink.make(&path, entry) {
                Ok(()) => {
                    made.set(version.id.number());
                    summary.delivered += 1;
                    self.report_restored(&path, entry);
                }
                Err(cause) if contents::is_full(&cause) => return Err(self.target.full(cause)),
                Err(cause) => {
                    self.fail(summary, &path, &format!("cannot restore '{path}': {cause}"));
                    unmade.directories.extend(version.child().map(|_| path));
                }
            }
        }
        // Those that nobody has looked at are read in any case.
        for position in 0..=self.snapshot.position {
            if !self.sets.is_proved(&self.snapshot.chain, position)? {
                likely.insert(position);
            }
        }
        Ok(Planted { expected, likely, unmade, made })
    }

    /// Takes back what was made, since it need not be what the backup holds; what --force has
    /// overwritten is gone.
    fn take_back(
        &self,
        round: &BulkReader<'_, Target<'_>>,
        made: &VersionSet,
    ) -> Result<(), Error> {
        let mut sink = self.target.sink();
        let mut open = Nested::default();
        for item in self.walk()? {
            let (path, version) = item?;
            while let Some((directory, ())) = open.pop_outside(&path) {
                // With --force, it may hold what is none of ours.
                let _ = sink.remove_directory(&directory);
            }
            match version.child() {
                Some(_) if made.contains(version.id.number()) => open.push(path, ()),
                None if made.contains(version.id.number()) || round.is_delivered(&version) => {
                    sink.remove(&path).map_err(|cause| self.target.full(cause))?;
                }
                _ => {}
            }
        }
        while let Some((directory, ())) = open.pop() {
            let _ = sink.remove_directory(&directory);
        }
        Ok(())
    }

    /// Reports as a failure that a volume could not be read, even if it holds no file that is
    /// wanted: then only the signature file says so, and nothing vouches for that.
    fn admit(&self, round: &BulkReader<'_, Target<'_>>, summary: &mut Summary) {
        let Some(cause) = round.first_bad().filter(|_| summary.failed + summary.ignored == 0)
        else {
            return;
        };
        if self.options.ignore_errors && is_wrong_hash(&cause) {
            return;
        }
        let path = &self.options.path;
        self.fail(summary, path, &format!("cannot tell whether this is all of '{path}': {cause}"));
        summary.cause.get_or_insert(cause);
    }

    /// Adds the sets of a file's delta chain: duplicity writes a delta whenever there was a file
    /// before.
    fn follow(&self, version: Version, likely: &mut BTreeSet<u32>) -> Result<(), Error> {
        let mut next = Some(version);
        while let Some(version) = next.filter(Version::is_file) {
            likely.insert(version.position);
            next = self.sets.version_before(&version)?;
        }
        Ok(())
    }

    /// Third round: metadata of directories, children first; names each file that is not there.
    fn finish(
        &self,
        round: &BulkReader<'_, Target<'_>>,
        mut unmade: Unmade,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let mut sink = self.target.sink();
        let mut open = Nested::default();
        let mut close = |path: EntryPath, version: Version, summary: &mut Summary| {
            let Some(entry) = version.entry() else { return };
            if let Err(cause) = sink.finish_directory(&path, entry) {
                summary.delivered = summary.delivered.saturating_sub(1);
                self.fail(
                    summary,
                    &path,
                    &format!("cannot set the metadata of directory '{path}': {cause}"),
                );
            }
        };
        for item in self.walk()? {
            let (path, version) = item?;
            while let Some((directory, version)) = open.pop_outside(&path) {
                close(directory, version, summary);
            }
            if unmade.holds(&path) || unmade.directories.contains(&path) {
                continue;
            }
            if version.is_file() {
                match round.failure(&version) {
                    None => {
                        summary.delivered += 1;
                        version.entry().iter().for_each(|entry| self.report_restored(&path, entry));
                    }
                    Some(cause) if self.options.ignore_errors && is_wrong_hash(&cause) => {
                        summary.ignored += 1;
                        let why = format!("cannot restore '{path}': {cause}");
                        self.monitor.event(&Event::Ignored(&why));
                    }
                    Some(cause) => {
                        self.fail(summary, &path, &format!("cannot restore '{path}': {cause}"));
                        summary.cause.get_or_insert(cause);
                    }
                }
            } else if version.child().is_some() {
                open.push(path, version);
            }
        }
        while let Some((directory, version)) = open.pop() {
            close(directory, version, summary);
        }
        Ok(())
    }

    fn fail(&self, summary: &mut Summary, path: &EntryPath, text: &str) {
        summary.failed += 1;
        self.monitor.event(&Event::NotRestored(path, text));
    }

    /// Reports that a path is not tried.
    fn skip(&self, summary: &mut Summary, path: &EntryPath) {
        summary.failed += 1;
        self.monitor.event(&Event::Skipped(path));
    }

    /// Reports that a path below what is restored is there.
    fn report_restored(&self, path: &EntryPath, entry: &Entry) {
        let Some(path) = path.strip_prefix(&self.options.path).filter(|path| !path.is_root())
        else {
            return;
        };
        self.monitor.event(&Event::Restored(&path, entry.kind.word()));
    }
}

/// What the first round has made, and what is to come.
struct Planted {
    /// The versions of the files that are wanted.
    expected: VersionSet,
    /// The positions of the sets that are likely read for them.
    likely: BTreeSet<u32>,
    unmade: Unmade,
    /// The versions that have been made.
    made: VersionSet,
}

/// Directories that could not be made: nothing in them can be, either.
#[derive(Default)]
struct Unmade {
    directories: BTreeSet<EntryPath>,
    /// The one that a walk is in.
    current: Option<EntryPath>,
    /// Renames may lead from within such a directory to elsewhere.
    is_renamed: bool,
}

impl Unmade {
    /// Returns whether a path is below one of them; to be asked for all paths in their order.
    fn holds(&mut self, path: &EntryPath) -> bool {
        if !self.current.as_ref().is_some_and(|directory| path.starts_with(directory)) {
            self.current = path.parent().filter(|parent| self.directories.contains(parent));
        }
        self.current.is_some() && !self.is_renamed
    }
}

/// Returns whether a file lacks since a volume is not what its manifest says.
fn is_wrong_hash(failure: &Failure) -> bool {
    let Failure::Stored(error) = failure else { return false };
    let mut error = &**error;
    while let sets::Error::Again(cause) = error {
        error = cause;
    }
    matches!(error, sets::Error::Volume { cause: volume::Error::Hash { .. }, .. })
}
