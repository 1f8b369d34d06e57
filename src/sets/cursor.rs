//! [`Cursor`]: the versions of one set, found path by path.

use super::Error;
use super::sets::Sets;
use crate::catalog::{Chain, DirectoryId, VersionId, VersionRow};
use crate::model::EntryPath;
use std::collections::VecDeque;

/// Rows that are fetched at once while members and versions are read side by side.
const WINDOW: u32 = 1024;

/// Finds the versions of a set in path order, mostly by just taking the next row.
pub struct Cursor<'a> {
    sets: &'a Sets,
    chain: &'a Chain,
    position: u32,
    rows: VecDeque<(VersionRow, DirectoryId, Vec<u8>)>,
    /// The first row that is not in `rows`; `None` before the first look-up.
    next: Option<VersionId>,
    /// Behind the last row of the set.
    end: Option<VersionId>,
    /// The directories on the way to the last path, below the root, as far as they are known.
    way: Vec<(Vec<u8>, DirectoryId)>,
}

impl<'a> Cursor<'a> {
    /// Begins before the first path of the set at `position`.
    pub fn new(sets: &'a Sets, chain: &'a Chain, position: u32) -> Self {
        Self {
            sets,
            chain,
            position,
            rows: VecDeque::new(),
            next: None,
            end: None,
            way: Vec::new(),
        }
    }

    /// Returns the version of a path in the set, if it has one.
    pub fn find(&mut self, path: &EntryPath) -> Result<Option<VersionId>, Error> {
        Ok(self.find_row(path)?.map(|row| row.id))
    }

    /// Returns the row of a path in the set, if it has one.
    pub(super) fn find_row(&mut self, path: &EntryPath) -> Result<Option<VersionRow>, Error> {
        let (directory, name) = match path.split_last() {
            None => (Some(DirectoryId::above_root(self.chain.id)), &[][..]),
            Some((parent, name)) => (self.directory(parent)?, name),
        };
        let Some(directory) = directory else { return Ok(None) };
        if self.rows.is_empty()
            && let Some(next) = self.next
        {
            self.fetch(next)?;
        }
        let is_next = self.rows.front().is_some_and(|(_, row_directory, row_name)| {
            *row_directory == directory && row_name == name
        });
        if is_next {
            return Ok(self.rows.pop_front().map(|(row, _, _)| row));
        }
        let (chain, position) = (self.chain, self.position);
        let found =
            self.sets.ask(chain, position, |rows| rows.version_at(directory, name, position))?;
        if let Some(row) = &found {
            self.rows.clear();
            self.next = Some(VersionId::new(chain.id, row.id.number() as i64 + 1));
        }
        Ok(found)
    }

    fn fetch(&mut self, from: VersionId) -> Result<(), Error> {
        let end = match self.end {
            Some(end) => end,
            None => {
                let end = self.sets.versions_of(self.chain, self.position)?.end;
                *self.end.insert(VersionId::new(self.chain.id, end as i64))
            }
        };
        self.rows = self
            .sets
            .ask(self.chain, self.position, |rows| rows.versions_from((from, end), WINDOW))?
            .into();
        self.next = self
            .rows
            .back()
            .map(|(row, _, _)| VersionId::new(self.chain.id, row.id.number() as i64 + 1));
        Ok(())
    }

    /// Returns the id of a directory path, if it ever was one. Looks up only what is not on the way
    /// to the path before.
    fn directory(&mut self, path: &[u8]) -> Result<Option<DirectoryId>, Error> {
        let names = || path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        let common = names().zip(&self.way).take_while(|(name, (known, _))| name == known).count();
        self.way.truncate(common);
        let mut id = self.way.last().map_or(DirectoryId::root(self.chain.id), |(_, id)| *id);
        for name in names().skip(common) {
            match self.sets.ask(self.chain, self.position, |rows| rows.directory(id, name))? {
                Some(child) => id = child,
                None => return Ok(None),
            }
            self.way.push((name.to_vec(), id));
        }
        Ok(Some(id))
    }
}
