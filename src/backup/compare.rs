//! The source and what is saved of it, side by side: new, changed, gone, same.
//!
//! duplicity compares type, rights, owner and whole seconds, so it misses an edit within the second
//! in which a file was saved. The catalog knows more of files that this program has saved: size,
//! time of the last change of any kind, inode. What these tell apart is *suspect*: only its content
//! can say whether it has changed.
//!
//! What cannot be read looks absent, and so counts as deleted, with all that is saved below it: so
//! duplicity has it. If it is to be kept, nothing at or below such a path is told as gone, and the
//! set before goes on to answer for it.
//!
//! Source: FORMAT, "When is a path changed": tried with duplicity 0.8.22 and 3.2.1.

use crate::accounts::Accounts;
use crate::catalog::{SourceStat, VersionId};
use crate::model::{Entry, EntryKind, EntryPath};
use crate::sets::Saved;
use crate::source::{Failure, Found, Step};
use std::collections::VecDeque;

/// What is to be done about a path.
#[derive(Debug)]
pub enum Change {
    /// Nothing: it is saved as it is. A file of which nothing more is known (another program saved
    /// it) comes with its version, to be known better next time.
    Same(Found, Option<VersionId>),
    /// Its metadata is saved as it is; whether its content is, only reading tells.
    Suspect(Found, Box<Saved>),
    /// A file that was a file before: a delta.
    Changed(Found, Box<Saved>),
    /// Stored whole: it was not there, or was something else, or is no file.
    New(Found),
    /// It is there no more.
    Gone(Box<Saved>),
    /// A socket, which the format cannot hold.
    Socket(EntryPath),
    /// It cannot be read, and looks absent.
    Failed(Failure),
}

impl Change {
    /// Returns the path that it is about.
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Same(found, _)
            | Self::Suspect(found, _)
            | Self::Changed(found, _)
            | Self::New(found) => &found.path,
            Self::Gone(saved) => &saved.path,
            Self::Socket(path) => path,
            Self::Failed(failure) => &failure.path,
        }
    }
}

/// Merges a walk and what is saved, both in path order.
pub struct Comparison<'a, W, B> {
    walk: W,
    saved: B,
    next_step: Option<Step>,
    next_saved: Option<Saved>,
    accounts: &'a Accounts,
    has_begun: bool,
    keeps_unreadable: bool,
    /// What could not be read, in path order, as far as something saved may still be at or below
    /// it.
    unreadable: VecDeque<EntryPath>,
}

impl<'a, E, W: Iterator<Item = Step>, B: Iterator<Item = Result<Saved, E>>> Comparison<'a, W, B> {
    /// Compares a walk with what is saved; `accounts` turn saved owners into numbers of this
    /// machine. What cannot be read is told as gone, unless it is to be kept.
    pub fn new(walk: W, saved: B, accounts: &'a Accounts, keeps_unreadable: bool) -> Self {
        let (next_step, next_saved, unreadable) = (None, None, VecDeque::new());
        Self {
            walk,
            saved,
            next_step,
            next_saved,
            accounts,
            has_begun: false,
            keeps_unreadable,
            unreadable,
        }
    }

    /// Returns whether a saved path that was not found is gone: not the root, and not what could
    /// not be read. To be asked in path order.
    fn is_gone(&mut self, saved: &EntryPath) -> bool {
        while let Some(unreadable) = self.unreadable.front() {
            if saved.starts_with(unreadable) {
                return false;
            }
            if unreadable > saved {
                break;
            }
            self.unreadable.pop_front();
        }
        !saved.is_root()
    }

    fn begin(&mut self) -> Result<(), E> {
        if !self.has_begun {
            self.has_begun = true;
            self.next_step = self.walk.next();
            self.next_saved = self.saved.next().transpose()?;
        }
        Ok(())
    }

    fn take_saved(&mut self) -> Result<Option<Saved>, E> {
        let next = self.saved.next().transpose()?;
        Ok(std::mem::replace(&mut self.next_saved, next))
    }

    fn step(&mut self) -> Result<Option<Change>, E> {
        self.begin()?;
        loop {
            let found = match self.next_step.take() {
                Some(Step::Found(found)) => found,
                Some(Step::Socket(path)) => {
                    self.next_step = self.walk.next();
                    return Ok(Some(Change::Socket(path)));
                }
                Some(Step::Dangling(_)) => {
                    self.next_step = self.walk.next();
                    continue;
                }
                Some(Step::Failed(failure)) => {
                    self.next_step = self.walk.next();
                    if self.keeps_unreadable && !failure.is_gone() && self.next_saved.is_some() {
                        self.unreadable.push_back(failure.path.clone());
                    }
                    return Ok(Some(Change::Failed(failure)));
                }
                None => match self.take_saved()? {
                    Some(saved) if self.is_gone(&saved.path) => {
                        return Ok(Some(Change::Gone(Box::new(saved))));
                    }
                    Some(_) => continue,
                    None => return Ok(None),
                },
            };
            if self.next_saved.as_ref().is_some_and(|saved| saved.path < found.path) {
                self.next_step = Some(Step::Found(found));
                match self.take_saved()? {
                    Some(saved) if self.is_gone(&saved.path) => {
                        return Ok(Some(Change::Gone(Box::new(saved))));
                    }
                    _ => continue,
                }
            }
            self.next_step = self.walk.next();
            let saved = if self.next_saved.as_ref().is_some_and(|saved| saved.path == found.path) {
                self.take_saved()?
            } else {
                None
            };
            return Ok(Some(self.judge(found, saved)));
        }
    }

    fn judge(&self, found: Found, saved: Option<Saved>) -> Change {
        let Some(saved) = saved.map(Box::new) else { return Change::New(found) };
        let both_files = found.entry.kind == EntryKind::File && saved.entry.kind == EntryKind::File;
        match is_same(&found.entry, &saved.entry, self.accounts) {
            true if both_files && saved.stat.is_some_and(|stat| stat != SourceStat::of(&found)) => {
                Change::Suspect(found, saved)
            }
            true => Change::Same(
                found,
                Some(saved.version).filter(|_| both_files && saved.stat.is_none()),
            ),
            false if both_files => Change::Changed(found, saved),
            false => Change::New(found),
        }
    }
}

impl<E, W: Iterator<Item = Step>, B: Iterator<Item = Result<Saved, E>>> Iterator
    for Comparison<'_, W, B>
{
    type Item = Result<Change, E>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl SourceStat {
    /// Returns what is remembered of a file that was found.
    pub fn of(found: &Found) -> Self {
        Self { size: found.size, ctime: found.ctime, inode: found.inode }
    }
}

/// Returns whether duplicity would take `found` for what is saved.
fn is_same(found: &Entry, saved: &Entry, accounts: &Accounts) -> bool {
    let rights = || {
        found.mode == saved.mode
            && (found.owner.uid, found.owner.gid) == accounts.numbers(&saved.owner)
    };
    // Times before 1970 are saved as 1970.
    let time = || found.mtime.max(0) == saved.mtime.max(0);
    match (&found.kind, &saved.kind) {
        (EntryKind::Symlink { target }, EntryKind::Symlink { target: saved }) => target == saved,
        (EntryKind::CharDevice { .. }, EntryKind::CharDevice { .. })
        | (EntryKind::BlockDevice { .. }, EntryKind::BlockDevice { .. }) => {
            found.kind == saved.kind && rights()
        }
        (found, saved) => found == saved && rights() && time(),
    }
}
