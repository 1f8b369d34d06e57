//! [`Snapshot`]: the tree as it stood at one time.

use super::Error;
use super::sets::Sets;
use crate::catalog::{self, Chain, DirectoryId, Version};
use crate::model::EntryPath;
use std::sync::Arc;

/// Rows that a walk holds of each directory on its way.
const WINDOW: usize = 1024;

/// The tree at the end of one set. It is a view: nothing is loaded until it is asked for.
#[derive(Clone)]
pub struct Snapshot {
    /// Its chain.
    pub chain: Arc<Chain>,
    /// Position of its set in the chain.
    pub position: u32,
}

impl Sets {
    /// Returns the tree at the end of one set, if its rows are there or can be filled in.
    ///
    /// # Errors
    /// [`Error::Set`] when this set or one before it cannot be read.
    pub fn snapshot(&self, chain: &Arc<Chain>, position: u32) -> Result<Snapshot, Error> {
        self.fill_up_to(chain, position)?;
        Ok(Snapshot { chain: chain.clone(), position })
    }
}

impl Snapshot {
    /// Returns the source directory itself, which may also be a file; `None` if the backup holds
    /// nothing at all.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn root(&self, sets: &Sets) -> Result<Option<Version>, Error> {
        self.look_up(sets, DirectoryId::above_root(self.chain.id), &[])
    }

    /// Returns what stands under a name in a directory.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn look_up(
        &self,
        sets: &Sets,
        directory: DirectoryId,
        name: &[u8],
    ) -> Result<Option<Version>, Error> {
        let found = sets
            .ask(&self.chain, self.position, |rows| rows.look_up(directory, name, self.position))?;
        Ok(found.filter(|version| version.entry().is_some()))
    }

    /// Returns what stands at a path; `None` also when something on the way is no directory.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn find(&self, sets: &Sets, path: &EntryPath) -> Result<Option<Version>, Error> {
        let mut found = self.root(sets)?;
        for name in path.components() {
            let Some(directory) = found.as_ref().and_then(Version::child) else { return Ok(None) };
            found = self.look_up(sets, directory, name)?;
        }
        Ok(found)
    }

    /// Returns at most `limit` entries of a directory by name, from behind `after` on; fewer mean
    /// that there are no more.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn list(
        &self,
        sets: &Sets,
        directory: DirectoryId,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Version>, Error> {
        sets.ask(&self.chain, self.position, |rows| {
            rows.list(directory, self.position, after, limit)
        })
    }

    /// Walks what stands at a path and everything below it, in path order. Paths whose parent is no
    /// directory are not met.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn walk<'c>(&self, sets: &'c Sets, path: &EntryPath) -> Result<Walk<'c>, Error> {
        let start = self.find(sets, path)?.map(|version| (path.clone(), version));
        Ok(Walk { sets, snapshot: self.clone(), start, path: EntryPath::root(), open: Vec::new() })
    }
}

/// Walks a snapshot in path order; holds a window of each directory between the start and the
/// current path.
pub struct Walk<'c> {
    sets: &'c Sets,
    snapshot: Snapshot,
    start: Option<(EntryPath, Version)>,
    /// The path of the deepest open directory, or one below it.
    path: EntryPath,
    open: Vec<OpenDirectory>,
}

struct OpenDirectory {
    /// Bytes of its path.
    length: usize,
    id: DirectoryId,
    window: std::vec::IntoIter<Version>,
    /// The last name of the window, if more may follow behind it.
    more_after: Option<Vec<u8>>,
}

impl Walk<'_> {
    fn open(&mut self, path: &EntryPath, version: &Version) -> Result<(), Error> {
        if let Some(id) = version.child() {
            let length = path.as_bytes().len();
            let mut directory =
                OpenDirectory { length, id, window: Vec::new().into_iter(), more_after: None };
            self.fill(&mut directory, None)?;
            self.path = path.clone();
            self.open.push(directory);
        }
        Ok(())
    }

    fn fill(&self, directory: &mut OpenDirectory, after: Option<&[u8]>) -> Result<(), Error> {
        let window = self.snapshot.list(self.sets, directory.id, after, WINDOW)?;
        directory.more_after =
            window.last().filter(|_| window.len() == WINDOW).map(|last| last.name.clone());
        directory.window = window.into_iter();
        Ok(())
    }

    fn step(&mut self) -> Result<Option<(EntryPath, Version)>, Error> {
        if let Some((path, version)) = self.start.take() {
            self.open(&path, &version)?;
            return Ok(Some((path, version)));
        }
        while let Some(mut directory) = self.open.pop() {
            if let Some(version) = directory.window.next() {
                let path = self
                    .path
                    .ancestor(directory.length)
                    .join(&version.name)
                    .map_err(|invalid| catalog::Error::Gone(invalid.to_string()))?;
                self.open.push(directory);
                self.open(&path, &version)?;
                return Ok(Some((path, version)));
            }
            if let Some(after) = directory.more_after.take() {
                self.fill(&mut directory, Some(&after))?;
                self.open.push(directory);
            }
        }
        Ok(None)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(EntryPath, Version), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
