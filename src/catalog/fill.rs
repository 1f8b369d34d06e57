//! Level 1: the rows of one set, from its signature file, or from its volumes where that is missing.

use super::query::{self, DIRECTORY_BITS, DirectoryId, VERSION_BITS, VersionId};
use super::{Error, query::kind_columns};
use crate::model::{Entry, EntryPath, Owner};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;
use std::ops::Range;

/// One line of a set: a path and its new state; `None` when it is gone.
pub struct Line {
    /// The path.
    pub path: EntryPath,
    /// What it is now.
    pub entry: Option<Entry>,
}

/// Writes the rows of one set inside a transaction.
pub struct SetWriter<'c> {
    connection: &'c Connection,
    chain: i64,
    position: u32,
    first: i64,
    next_version: i64,
    next_directory: i64,
    owners: HashMap<Owner, i64>,
    /// The directories on the way to the last path, below the root.
    way: Vec<(Vec<u8>, DirectoryId)>,
}

impl<'c> SetWriter<'c> {
    /// Begins the set at `position` of a chain; its rows so far must be gone.
    pub fn new(connection: &'c Connection, chain: i64, position: u32) -> Result<Self, Error> {
        let next = |table: &str, bits: u32| -> Result<i64, Error> {
            let highest: Option<i64> = connection
                .query_row(
                    &format!("SELECT max(id) FROM {table} WHERE id >= ?1 AND id < ?2"),
                    [chain << bits, (chain + 1) << bits],
                    |row| row.get(0),
                )
                .optional()?
                .flatten();
            Ok(highest.map_or(0, |id| id & ((1 << bits) - 1)) + 1)
        };
        let root = DirectoryId::root(chain);
        connection.execute(
            "INSERT OR IGNORE INTO directories(id, parent, name) VALUES(?1, ?2, x'')",
            (root, DirectoryId::above_root(chain)),
        )?;
        let first = next("versions", VERSION_BITS)?;
        let next_directory = next("directories", DIRECTORY_BITS)?;
        Ok(Self {
            connection,
            chain,
            position,
            first,
            next_version: first,
            next_directory,
            owners: HashMap::new(),
            way: Vec::new(),
        })
    }

    /// Adds one path. Of several lines for one path the first counts.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, which take the first entry of a path in a set.
    pub fn add(&mut self, line: &Line) -> Result<(), Error> {
        let (directory, name): (DirectoryId, &[u8]) = match line.path.split_last() {
            None => (DirectoryId::above_root(self.chain), &[]),
            Some((parent, name)) => (self.directory(parent)?, name),
        };
        let child = match &line.entry {
            Some(Entry { kind: crate::model::EntryKind::Directory, .. }) => Some(self.directory(line.path.as_bytes())?),
            _ => None,
        };
        let (kind, extra) = kind_columns(line.entry.as_ref(), child);
        let owner = line.entry.as_ref().map_or(Ok(0), |entry| self.owner(&entry.owner))?;
        let (mode, mtime) = line.entry.as_ref().map_or((0, 0), |entry| (entry.mode, entry.mtime));
        let id = VersionId::new(self.chain, self.next_version);
        if self.next_version >> VERSION_BITS != 0 {
            return Err(Error::TooMany("versions"));
        }
        let added = self
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO versions(id, directory, name, position, kind, mode, owner, mtime, extra) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            )?
            .execute((id, directory, name, self.position, kind, mode, owner, mtime, extra))?;
        self.next_version += added as i64;
        Ok(())
    }

    /// Returns the numbers of the rows that were added, half-open.
    pub fn finish(self) -> Range<i64> {
        self.first..self.next_version
    }

    /// Returns the id of a directory path, and makes one for each part of it that is new.
    fn directory(&mut self, path: &[u8]) -> Result<DirectoryId, Error> {
        let mut names = path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        let mut depth = 0;
        let mut missing = None;
        for name in names.by_ref() {
            if self.way.get(depth).is_none_or(|(known, _)| known != name) {
                missing = Some(name);
                break;
            }
            depth += 1;
        }
        self.way.truncate(depth);
        for name in missing.into_iter().chain(names) {
            let parent = self.way.last().map_or(DirectoryId::root(self.chain), |(_, id)| *id);
            let id = match query::directory(self.connection, parent, name)? {
                Some(id) => id,
                None => {
                    if self.next_directory >> DIRECTORY_BITS != 0 {
                        return Err(Error::TooMany("directories"));
                    }
                    let id = DirectoryId::new(self.chain, self.next_directory);
                    self.next_directory += 1;
                    self.connection
                        .prepare_cached("INSERT INTO directories(id, parent, name) VALUES(?1, ?2, ?3)")?
                        .execute((id, parent, name))?;
                    id
                }
            };
            self.way.push((name.to_vec(), id));
        }
        Ok(self.way.last().map_or(DirectoryId::root(self.chain), |(_, id)| *id))
    }

    fn owner(&mut self, owner: &Owner) -> Result<i64, Error> {
        if let Some(&id) = self.owners.get(owner) {
            return Ok(id);
        }
        let columns = (owner.uid, owner.gid, &owner.user, &owner.group);
        self.connection.execute("INSERT OR IGNORE INTO owners(uid, gid, user, grp) VALUES(?1, ?2, ?3, ?4)", columns)?;
        let id = self.connection.query_row(
            "SELECT id FROM owners WHERE uid = ?1 AND gid = ?2 AND user = ?3 AND grp = ?4",
            columns,
            |row| row.get(0),
        )?;
        self.owners.insert(owner.clone(), id);
        Ok(id)
    }
}
