//! [`verify()`]: the volumes, then snapshot and local source side by side.

use super::compare::Comparison;
use super::signatures::Proof;
use super::{Error, Summary, VerifyOptions};
use crate::accounts::Accounts;
use crate::catalog::Version;
use crate::contents::{BulkReader, Contents, ReadRequest, VersionSet};
use crate::model::EntryPath;
use crate::monitor::{Event, Level, Monitor};
use crate::sets::{self, Sets, Snapshot, Walk};
use crate::source::{Found, SourceTree, Step};
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::sync::Arc;

/// Reads all that a snapshot holds at `options.path`, and compares it. The monitor hears of each
/// difference at level notice, of each damaged file at level error.
///
/// # Errors
/// [`Error`] when there is nothing to read. Damage and differences are no errors: the summary
/// counts them.
pub fn verify(
    sets: &Sets,
    snapshot: &Snapshot,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &VerifyOptions,
) -> Result<Summary, Error> {
    let mut snapshot = snapshot.clone();
    loop {
        match try_verify(sets, &snapshot, accounts, monitor, options) {
            // Each set is contradicted once, at most.
            Err(error) if error.is_contradicted() => snapshot = sets.renew(&snapshot)?,
            result => return result,
        }
    }
}

/// Verifies by the rows that the catalog has.
fn try_verify(
    sets: &Sets,
    snapshot: &Snapshot,
    accounts: &Accounts,
    monitor: &dyn Monitor,
    options: &VerifyOptions,
) -> Result<Summary, Error> {
    if snapshot.find(sets, &options.path)?.is_none() {
        // Only volumes can tell that there is nothing.
        (0..=snapshot.position)
            .try_for_each(|position| sets.prove(&snapshot.chain, position, &options.path))?;
        return Err(Error::PathNotFound(options.path.clone()));
    }
    let last = sets.versions_of(&snapshot.chain, snapshot.position)?.end;
    let files = |is_meant: &dyn Fn(&Version) -> bool| {
        let files = VersionSet::new(last);
        for item in snapshot.walk(sets, &options.path)? {
            let (_, version) = item?;
            if version.is_file() && is_meant(&version) {
                files.set(version.id.number());
            }
        }
        Ok::<_, sets::Error>(files)
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
    let round = BulkReader::new(sets, request, &comparison, monitor);
    round.run()?;
    let prove = |contents: &Arc<Contents>| {
        let good = files(&|version| round.failure(version).is_none())?;
        Proof::of(contents, snapshot, &good, monitor)
    };
    let proof = options.contents.as_ref().map(prove).transpose()?;
    let sides = Sides {
        backup: snapshot.walk(sets, &options.path)?.peekable(),
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
            monitor.event(&Event::Different(&difference.to_string()));
        }
        if let Some(cause) = failure {
            let count = if cause.is_passing() { &mut summary.unread } else { &mut summary.damaged };
            *count += 1;
            monitor.message(Level::Error, &format!("cannot verify '{path}': {cause}"));
            if summary.cause.as_ref().is_none_or(|first| first.is_passing() && !cause.is_passing())
            {
                summary.cause = Some(cause);
            }
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
                self.monitor.event(&failure.event(&path));
            }
        }
        match self.local.peek() {
            Some(Step::Found(found)) => Some(found.path.clone()),
            Some(Step::Dangling(path)) => Some(path.clone()),
            _ => None,
        }
    }

    fn step(&mut self) -> Result<Option<Pair>, sets::Error> {
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
    type Item = Result<Pair, sets::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
