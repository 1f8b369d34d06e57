//! [`Walk`]: what is found in a source, in the order of paths.

use super::ahead::Ahead;
use super::failure::{Failure, Operation};
use super::found::{Found, Owners};
use super::listing::{Item, Position, Surveyor, Task};
use super::metadata::{Reader, Seen};
use super::open_source::OpenSource;
use super::selection::Selection;
use crate::model::EntryPath;
use rustix::fs::FileType;
use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

/// One thing that a walk tells.
#[derive(Debug)]
pub enum Step {
    /// A path that is to be stored.
    Found(Found),
    /// A socket, which the format cannot hold; duplicity says "Skipping socket".
    Socket(EntryPath),
    /// A link that leads nowhere, where links are followed: nothing is there, though there is a
    /// name.
    Dangling(EntryPath),
    /// A path that cannot be read, and looks absent; duplicity says "Error accessing possibly
    /// locked file".
    Failed(Failure),
}

/// Reports what is in a source: the root first, each directory before what is in it, siblings by
/// the bytes of their names.
pub struct Walk {
    place: Arc<OpenSource>,
    ahead: Ahead,
    owners: Owners,
    /// What is to be told next.
    ready: VecDeque<Step>,
    /// The directories that the walk is in, from the top.
    open: Vec<Open>,
    /// Those of them, always the deepest, that are stored only if something inside is.
    scanned: Vec<Seen>,
}

/// A directory that the walk is in.
struct Open {
    items: vec::IntoIter<Item>,
    /// What is left when the items are told.
    rest: Option<Position>,
}

impl Walk {
    /// Starts at the root, which no selection can leave out.
    pub(super) fn new(
        place: Arc<OpenSource>,
        left_out: Arc<[EntryPath]>,
        selection: Option<Arc<Selection>>,
    ) -> Self {
        let first = Task::root(&place);
        let rest =
            Some(first.position()).filter(|_| place.facts.file_type() == FileType::Directory);
        let ahead = Ahead::start(
            Surveyor { place: place.clone(), left_out, selection, reader: Reader::this_process() },
            rest.is_some().then_some(first),
        );
        let mut owners = Owners::default();
        let root = match place.root() {
            _ if place.facts.file_type() == FileType::Socket => Step::Socket(EntryPath::root()),
            Ok(seen) => Step::Found(owners.found(seen, place.clone())),
            Err(cause) => {
                Step::Failed(Failure { path: EntryPath::root(), operation: Operation::Stat, cause })
            }
        };
        let open = vec![Open { items: Vec::new().into_iter(), rest }];
        Self { place, ahead, owners, ready: VecDeque::from([root]), open, scanned: Vec::new() }
    }

    /// Tells something that is stored, after the scanned directories that it lies in.
    fn emit(&mut self, seen: Seen) -> Option<Step> {
        let step = Step::Found(self.owners.found(seen, self.place.clone()));
        self.emit_behind_scanned(step)
    }

    fn emit_behind_scanned(&mut self, step: Step) -> Option<Step> {
        if self.scanned.is_empty() {
            return Some(step);
        }
        for seen in self.scanned.drain(..) {
            self.ready.push_back(Step::Found(self.owners.found(seen, self.place.clone())));
        }
        self.ready.push_back(step);
        self.ready.pop_front()
    }

    fn enter(&mut self, directory: &Seen) {
        self.open.push(Open {
            items: Vec::new().into_iter(),
            rest: Some((directory.path.clone(), true)),
        });
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(step) = self.ready.pop_front() {
            return Some(step);
        }
        loop {
            let open = self.open.last_mut()?;
            match open.items.next() {
                Some(Item::Leaf(seen)) => return self.emit(seen),
                Some(Item::Socket(path)) => return Some(Step::Socket(path)),
                Some(Item::Dangling(path)) => {
                    return self.emit_behind_scanned(Step::Dangling(path));
                }
                Some(Item::Failed(failure)) => return Some(Step::Failed(failure)),
                Some(Item::Directory { seen, is_scanned: true }) => {
                    self.enter(&seen);
                    self.scanned.push(seen);
                }
                Some(Item::Directory { seen, is_scanned: false }) => {
                    self.enter(&seen);
                    return self.emit(seen);
                }
                None => match open.rest.take() {
                    Some(position) => {
                        let batch = self.ahead.take(&position);
                        (open.items, open.rest) = (batch.items.into_iter(), batch.rest);
                    }
                    None => {
                        self.open.pop();
                        self.scanned.pop();
                    }
                },
            }
        }
    }
}
