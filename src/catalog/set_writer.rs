//! [`SetWriter`]: level 1, the rows of one set.
//!
//! A path brings a row for each directory on its way, and all of these are in a backup themselves.
//! Where they are not, one path of some hundred bytes, compressed, could bring a million rows. So a
//! set may bring [`MOST_IMPLIED`] such directories, and as many as it has lines; a path that needs
//! more is left out, and named: here, and whenever a volume that holds it is read.

use super::Error;
use super::ids::{DIRECTORY_BITS, DirectoryId, VERSION_BITS, VersionId};
use super::rows::Rows;
use super::versions::kind_columns;
use crate::model::{Entry, EntryPath, Owner};
use rusqlite::OptionalExtension;
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
    rows: &'c Rows<'c>,
    chain: i64,
    position: u32,
    first: i64,
    next_version: i64,
    next_directory: i64,
    owners: HashMap<Owner, i64>,
    /// The directories on the way to the last path, below the root.
    way: Vec<(Vec<u8>, DirectoryId)>,
    /// Lines so far, and directories that were made for paths below them.
    lines: usize,
    implied: usize,
    left_out: Option<LeftOut>,
}

/// Directories that a set may imply, without having a line for them.
const MOST_IMPLIED: usize = 4096;

/// Paths without rows.
#[derive(Debug)]
pub struct LeftOut {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: EntryPath,
}

impl LeftOut {
    /// Returns the first path, cut, since it may be as long as a header.
    pub fn start(&self) -> String {
        self.first.to_string().chars().take(200).collect()
    }
}

impl<'c> SetWriter<'c> {
    /// Begins the set at `position` of a chain; its rows so far must be gone.
    pub fn new(rows: &'c Rows<'c>, chain: i64, position: u32) -> Result<Self, Error> {
        let next = |table: &str, bits: u32| -> Result<i64, Error> {
            let highest: Option<i64> = rows
                .connection
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
        rows.connection.execute(
            "INSERT OR IGNORE INTO directories(id, parent, name) VALUES(?1, ?2, x'')",
            (root, DirectoryId::above_root(chain)),
        )?;
        let first = next("versions", VERSION_BITS)?;
        let next_directory = next("directories", DIRECTORY_BITS)?;
        Ok(Self {
            rows,
            chain,
            position,
            first,
            next_version: first,
            next_directory,
            owners: HashMap::new(),
            way: Vec::new(),
            lines: 0,
            implied: 0,
            left_out: None,
        })
    }

    /// Adds one path. Of several lines for one path the first counts.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, which take the first entry of a path in a set.
    pub fn add(&mut self, line: &Line) -> Result<(), Error> {
        self.lines += 1;
        if !self.has_room(&line.path)? {
            self.left_out
                .get_or_insert_with(|| LeftOut { count: 0, first: line.path.clone() })
                .count += 1;
            return Ok(());
        }
        let (directory, name): (DirectoryId, &[u8]) = match line.path.split_last() {
            None => (DirectoryId::above_root(self.chain), &[]),
            Some((parent, name)) => (self.directory(parent)?, name),
        };
        let child = match &line.entry {
            Some(Entry { kind: crate::model::EntryKind::Directory, .. }) => {
                Some(self.directory(line.path.as_bytes())?)
            }
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
            .rows
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO versions(id, directory, name, position, kind, mode, owner, mtime, extra) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
            )?
            .execute((id, directory, name, self.position, kind, mode, owner, mtime, extra))?;
        self.next_version += added as i64;
        Ok(())
    }

    /// Returns the numbers of the rows that were added, half-open, and which paths were left out.
    pub fn finish(self) -> (Range<i64>, Option<LeftOut>) {
        (self.first..self.next_version, self.left_out)
    }

    /// Returns whether the directories above a path are there, or may still be implied; counts them
    /// then.
    fn has_room(&mut self, path: &EntryPath) -> Result<bool, Error> {
        let parent = path.split_last().map_or(&[][..], |(parent, _)| parent);
        let names = || parent.split(|&b| b == b'/').filter(|name| !name.is_empty());
        let common = names().zip(&self.way).take_while(|(name, (known, _))| name == known).count();
        let mut id = match common.checked_sub(1) {
            Some(last) => self.way[last].1,
            None => DirectoryId::root(self.chain),
        };
        for (index, name) in names().enumerate().skip(common) {
            match self.rows.directory(id, name)? {
                Some(known) => id = known,
                None => {
                    let implied = self.implied + names().count() - index;
                    let fits = implied <= MOST_IMPLIED + self.lines;
                    self.implied = if fits { implied } else { self.implied };
                    return Ok(fits);
                }
            }
        }
        Ok(true)
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
            let id = match self.rows.directory(parent, name)? {
                Some(id) => id,
                None => {
                    if self.next_directory >> DIRECTORY_BITS != 0 {
                        return Err(Error::TooMany("directories"));
                    }
                    let id = DirectoryId::new(self.chain, self.next_directory);
                    self.next_directory += 1;
                    self.rows
                        .connection
                        .prepare_cached(
                            "INSERT INTO directories(id, parent, name) VALUES(?1, ?2, ?3)",
                        )?
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
        self.rows.connection.execute(
            "INSERT OR IGNORE INTO owners(uid, gid, user, grp) VALUES(?1, ?2, ?3, ?4)",
            columns,
        )?;
        let id = self.rows.connection.query_row(
            "SELECT id FROM owners WHERE uid = ?1 AND gid = ?2 AND user = ?3 AND grp = ?4",
            columns,
            |row| row.get(0),
        )?;
        self.owners.insert(owner.clone(), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::rows::Owners;
    use crate::catalog::schema;
    use crate::model::EntryKind;
    use rusqlite::Connection;

    fn line(path: &str) -> Line {
        let owner = Owner { uid: 0, gid: 0, user: Vec::new(), group: Vec::new() };
        let entry = Entry { kind: EntryKind::Directory, mode: 0o755, owner, mtime: 1 };
        Line { path: EntryPath::parse(path.as_bytes()).unwrap(), entry: Some(entry) }
    }

    #[test]
    fn nested_directories_have_rows_and_implied_ones_a_bound() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(schema::prepare(&mut connection).unwrap());
        let rows = Rows { connection: &connection, owners: &Owners::default() };
        let mut writer = SetWriter::new(&rows, 1, 0).unwrap();
        let nested = |depth: usize| vec!["d"; depth].join("/");
        (1..500).for_each(|depth| writer.add(&line(&nested(depth))).unwrap());
        // A few may lack; many are made up.
        writer.add(&line(&format!("{}/e", nested(700)))).unwrap();
        for number in 0..3 {
            writer.add(&line(&format!("{number}/{}", nested(EntryPath::DEEPEST - 1)))).unwrap();
        }
        writer.add(&line("x/y")).unwrap();
        let (range, left_out) = writer.finish();
        let left_out = left_out.unwrap();
        assert_eq!((range, left_out.count, left_out.first.as_bytes()[0]), (1..502, 3, b'0'));
        let rows: i64 =
            connection.query_row("SELECT count(*) FROM directories", [], |row| row.get(0)).unwrap();
        assert!(rows < 1000, "{rows}");
    }
}
