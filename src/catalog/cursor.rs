//! [`Cursor`]: the versions of one set, found path by path.

use super::Error;
use super::catalog::Catalog;
use super::chains::Chain;
use super::query::{self, DirectoryId, VersionId};
use crate::model::{Entry, EntryPath};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::VecDeque;

/// Rows that are fetched at once while members and versions are read side by side.
const WINDOW: u32 = 1024;

/// What the rows say of a version, but for its place.
pub(super) struct Row {
    /// Its id.
    pub id: VersionId,
    kind: i64,
    mode: u16,
    /// The id of its owner.
    pub owner: i64,
    mtime: i64,
    extra: Value,
}

impl Row {
    /// Returns whether it says this of a path, apart from the owner; `None` means that the path is
    /// gone.
    pub fn is_of(&self, entry: Option<&Entry>) -> bool {
        let (kind, extra) = query::kind_columns(entry, None);
        let Some(entry) = entry else { return self.kind == kind };
        let has_extra = entry.kind == crate::model::EntryKind::Directory || self.extra == extra;
        (self.kind, self.mode, self.mtime) == (kind, entry.mode, entry.mtime) && has_extra
    }
}

/// The columns of a [`Row`].
const COLUMNS: &str = "id, kind, mode, owner, mtime, extra";

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: row.get(0)?,
        kind: row.get(1)?,
        mode: row.get(2)?,
        owner: row.get(3)?,
        mtime: row.get(4)?,
        extra: row.get(5)?,
    })
}

/// Finds the versions of a set in path order, mostly by just taking the next row.
pub struct Cursor<'a> {
    catalog: &'a Catalog,
    chain: &'a Chain,
    position: u32,
    rows: VecDeque<(Row, DirectoryId, Vec<u8>)>,
    /// The first row that is not in `rows`; `None` before the first look-up.
    next: Option<VersionId>,
    /// Behind the last row of the set.
    end: Option<VersionId>,
    /// The directories on the way to the last path, below the root, as far as they are known.
    way: Vec<(Vec<u8>, DirectoryId)>,
}

impl<'a> Cursor<'a> {
    /// Begins before the first path of the set at `position`.
    pub fn new(catalog: &'a Catalog, chain: &'a Chain, position: u32) -> Self {
        Self {
            catalog,
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
    pub(super) fn find_row(&mut self, path: &EntryPath) -> Result<Option<Row>, Error> {
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
        let found: Option<Row> = self
            .catalog
            .ask(chain, position, |connection, _| exact(connection, directory, name, position))?;
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
                let end = self.catalog.versions_of(self.chain, self.position)?.end;
                *self.end.insert(VersionId::new(self.chain.id, end as i64))
            }
        };
        self.rows = self.catalog.ask(self.chain, self.position, |connection, _| {
            let text = "SELECT COLUMNS, directory, name FROM versions WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
            let mut statement = connection.prepare_cached(&text.replace("COLUMNS", COLUMNS))?;
            let rows = statement.query_map((from, end, WINDOW), |found| Ok((row(found)?, found.get(6)?, found.get(7)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
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
            match self.catalog.ask(self.chain, self.position, |connection, _| {
                query::directory(connection, id, name)
            })? {
                Some(child) => id = child,
                None => return Ok(None),
            }
            self.way.push((name.to_vec(), id));
        }
        Ok(Some(id))
    }
}

fn exact(
    connection: &Connection,
    directory: DirectoryId,
    name: &[u8],
    position: u32,
) -> Result<Option<Row>, Error> {
    use rusqlite::OptionalExtension;
    Ok(connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM versions WHERE directory = ?1 AND name = ?2 AND position = ?3"
        ))?
        .query_row((directory, name, position), row)
        .optional()?)
}
