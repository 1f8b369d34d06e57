//! [`Selected`]: what a selection leaves of a snapshot.

use crate::catalog::Version;
use crate::model::{EntryPath, Nested};
use crate::sets::{self, Walk};
use crate::source::{Candidate, CandidateKind, Selection, Verdict};
use std::collections::VecDeque;
use std::sync::Arc;

/// Walks a snapshot in path order, and passes over what the selection leaves out. The root of a
/// backup is always told.
pub struct Selected<'c> {
    walk: Walk<'c>,
    selection: Option<Arc<Selection>>,
    /// An excluded directory: nothing below it is asked for.
    excluded: Option<EntryPath>,
    /// The directories on the way that are told only if something inside is.
    scanned: Nested<Version>,
    /// What is to be told next.
    ready: VecDeque<(EntryPath, Version)>,
}

impl<'c> Selected<'c> {
    /// Tells all of a walk if there is no selection.
    pub fn new(walk: Walk<'c>, selection: Option<Arc<Selection>>) -> Self {
        Self { walk, selection, excluded: None, scanned: Nested::default(), ready: VecDeque::new() }
    }

    /// Decides on what the walk has come to.
    fn decide(&mut self, path: EntryPath, version: Version) {
        if self.excluded.as_ref().is_some_and(|directory| path.starts_with(directory)) {
            return;
        }
        while self.scanned.pop_outside(&path).is_some() {}
        match self.verdict(&path, &version) {
            Verdict::Exclude => self.excluded = Some(path),
            Verdict::Scan if version.child().is_some() => self.scanned.push(path, version),
            Verdict::Scan => {}
            Verdict::Include => self.ready.extend(self.scanned.drain().chain([(path, version)])),
        }
    }

    fn verdict(&self, path: &EntryPath, version: &Version) -> Verdict {
        let (Some(selection), Some(entry)) = (&self.selection, version.entry()) else {
            return Verdict::Include;
        };
        if path.is_root() {
            return Verdict::Include;
        }
        let kind = CandidateKind::from(&entry.kind);
        selection.decide(&Candidate {
            path,
            kind,
            mtime: entry.mtime,
            is_foreign: false,
            holds: &|_| false,
        })
    }
}

impl Iterator for Selected<'_> {
    type Item = Result<(EntryPath, Version), sets::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Some(Ok(told));
            }
            match self.walk.next()? {
                Ok((path, version)) => self.decide(path, version),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
