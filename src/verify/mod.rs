//! Reads a snapshot as a restore would, and compares it with a directory instead of writing one.
//!
//! A [`BulkReader`] decodes every volume of the sets that the time needs, once, and puts every file
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

use crate::accounts::Accounts;
use crate::catalog::{self, Catalog, Snapshot, Version, Walk};
use crate::contents::{BulkReadError, BulkReader, Contents, Failure, ReadRequest, VersionSet};
use crate::model::EntryPath;
use crate::monitor::{Event, Level, Monitor, quoted};
use crate::source::{Found, Selection, SourceTree, Step};
use compare::Comparison;
use signatures::Proof;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
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
    /// Those that cannot be put together, or do not match their signatures; each was told.
    pub damaged: u64,
    /// Those that match their signatures, if they were compared.
    pub proved: u64,
    /// Volumes that were read to their end, and match their manifests.
    pub volumes: u64,
    /// What is wrong with the first volume that is bad; if none is, with the first damaged file.
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
    Catalog(#[from] catalog::Error),
    /// The volumes could not be gone through.
    #[error(transparent)]
    BulkReader(#[from] BulkReadError),
}

impl Error {
    /// Returns whether sound volumes contradict the rows that were verified.
    fn is_contradicted(&self) -> bool {
        matches!(self, Self::Catalog(error) | Self::BulkReader(BulkReadError::Catalog(error)) if error.is_contradicted())
    }
}

/// Reads all that a snapshot holds at `options.path`, and compares it. The monitor hears of each
/// difference at level notice, of each damaged file at level error.
///
/// # Errors
/// [`Error`] when there is nothing to read. Damage and differences are no errors: the summary
/// counts them.
pub fn verify(
    catalog: &Catalog,
    snapshot: &Snapshot,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &VerifyOptions,
) -> Result<Summary, Error> {
    let mut snapshot = snapshot.clone();
    loop {
        match try_verify(catalog, &snapshot, accounts, monitor, options) {
            // Each set is contradicted once, at most.
            Err(error) if error.is_contradicted() => snapshot = catalog.renew(&snapshot)?,
            result => return result,
        }
    }
}

/// Verifies by the rows that the catalog has.
fn try_verify(
    catalog: &Catalog,
    snapshot: &Snapshot,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &VerifyOptions,
) -> Result<Summary, Error> {
    if snapshot.find(catalog, &options.path)?.is_none() {
        // Only volumes can tell that there is nothing.
        (0..=snapshot.position)
            .try_for_each(|position| catalog.prove(&snapshot.chain, position, &options.path))?;
        return Err(Error::PathNotFound(options.path.clone()));
    }
    let last = catalog.versions_of(&snapshot.chain, snapshot.position)?.end;
    let files = |is_meant: &dyn Fn(&Version) -> bool| {
        let files = VersionSet::new(last);
        for item in snapshot.walk(catalog, &options.path)? {
            let (_, version) = item?;
            if version.is_file() && is_meant(&version) {
                files.set(version.id.number());
            }
        }
        Ok::<_, catalog::Error>(files)
    };
    let comparison = Comparison::new(options, last);
    let likely = BTreeSet::from_iter(0..=snapshot.position);
    let request = ReadRequest {
        snapshot,
        base: &options.path,
        expected: files(&|_| true)?,
        likely,
        reads_all: true,
        extents: None,
    };
    let round = BulkReader::new(catalog, request, &comparison, monitor);
    round.run()?;
    let prove = |contents: &Arc<Contents>| {
        let good = files(&|version| round.failure(version).is_none())?;
        Proof::of(contents, snapshot, &good, monitor)
    };
    let proof = options.contents.as_ref().map(prove).transpose()?;
    let sides = Sides {
        backup: snapshot.walk(catalog, &options.path)?.peekable(),
        local: options.source.walk(options.selection.clone()).peekable(),
        base: &options.path,
        source: &options.source,
        monitor,
    };
    let mut summary =
        Summary { volumes: round.good_volumes(), cause: round.first_bad(), ..Summary::default() };
    for pair in sides {
        let (path, version, found) = pair?;
        summary.paths += 1;
        let file = version.as_ref().filter(|version| version.is_file());
        summary.files += u64::from(file.is_some());
        let mut failure = file.and_then(|file| round.failure(file));
        if let (Some(proof), Some(file), None) = (&proof, file, &failure) {
            failure = proof.failure(file);
            match (&failure, proof.is_equal(file)) {
                (None, true) => summary.proved += 1,
                (None, false) => monitor
                    .message(Level::Info, &format!("no signature of '{path}' can be compared")),
                (Some(_), _) => {}
            }
        }
        if options.compares
            && let Some(difference) = comparison.difference(
                &path,
                version.as_ref(),
                found.as_ref(),
                failure.is_some(),
                accounts,
            )
        {
            summary.differences += 1;
            monitor.message(Level::Notice, &format!("Difference found: {difference}"));
        }
        if let Some(cause) = failure {
            summary.damaged += 1;
            monitor.message(Level::Error, &format!("cannot verify '{path}': {cause}"));
            summary.cause.get_or_insert(cause);
        }
    }
    Ok(summary)
}

/// A path with what the snapshot and the local source have there; neither has anything at a link
/// that leads nowhere.
type Pair = (EntryPath, Option<Version>, Option<Found>);

/// Snapshot and local source side by side, in path order.
struct Sides<'a> {
    backup: Peekable<Walk<'a>>,
    local: Peekable<crate::source::Walk>,
    /// The path of the snapshot that corresponds to the local source.
    base: &'a EntryPath,
    source: &'a SourceTree,
    monitor: &'a dyn Monitor,
}

impl Sides<'_> {
    /// Passes over what looks absent locally, and tells of it. Links that lead nowhere have a path,
    /// though nothing is there.
    fn next_path(&mut self) -> Option<EntryPath> {
        while let Some(step) =
            self.local.next_if(|step| !matches!(step, Step::Found(_) | Step::Dangling(_)))
        {
            if let Step::Failed(failure) = step
                && !failure.is_gone()
            {
                let path = self.source.full_path(&failure.path);
                let text = format!(
                    "Error accessing possibly locked file {}: {}",
                    path.display(),
                    failure.cause
                );
                let words = quoted(path.as_os_str().as_bytes());
                self.monitor.event(&Event {
                    level: Level::Warning,
                    code: failure.code(),
                    words: &words,
                    text: &text,
                });
            }
        }
        match self.local.peek() {
            Some(Step::Found(found)) => Some(found.path.clone()),
            Some(Step::Dangling(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn step(&mut self) -> Result<Option<Pair>, catalog::Error> {
        let found = self.next_path();
        if self.backup.peek().is_some_and(Result::is_err) {
            self.backup.next().transpose()?;
        }
        let saved = match self.backup.peek() {
            Some(Ok((path, _))) => path.strip_prefix(self.base),
            _ => None,
        };
        let Some(path) = found.iter().chain(&saved).min().cloned() else { return Ok(None) };
        let version = match saved {
            Some(saved) if saved == path => {
                self.backup.next().transpose()?.map(|(_, version)| version)
            }
            _ => None,
        };
        let found = match found {
            Some(found) if found == path => self.local.next(),
            _ => None,
        };
        let found =
            found.and_then(|step| if let Step::Found(found) = step { Some(found) } else { None });
        Ok(Some((path, version, found)))
    }
}

impl Iterator for Sides<'_> {
    type Item = Result<Pair, catalog::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
