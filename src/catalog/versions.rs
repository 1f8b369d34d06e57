//! [`Version`]: look up, list, by id, before another: one indexed search each.

use super::Error;
use super::ids::{DirectoryId, VersionId};
use super::rows::Rows;
use crate::model::{Entry, EntryKind, EntryPath, Owner};
use rusqlite::{OptionalExtension, Row, types::Value};
use std::collections::HashMap;
use std::sync::OnceLock;

/// One state of one path: what a set says of it.
#[derive(Debug, Clone)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// The directory that holds it.
    pub directory: DirectoryId,
    /// Its name there; empty for the source directory.
    pub name: Vec<u8>,
    /// Position of the set that brought it.
    pub position: u32,
    /// Position of the set that brought the next state; `None` while it is the newest.
    pub until: Option<u32>,
    /// What it is.
    pub kind: VersionKind,
}

/// What a version says of its path.
#[derive(Debug, Clone)]
pub enum VersionKind {
    /// The path is gone.
    Deleted,
    /// The path is there.
    Present {
        /// Its metadata.
        entry: Entry,
        /// Its id, if it is a directory.
        directory: Option<DirectoryId>,
        /// Its exact size in bytes, if it is a file and a volume has told it.
        size: Option<u64>,
    },
}

impl Version {
    /// Returns the metadata, if the path is there.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.kind {
            VersionKind::Present { entry, .. } => Some(entry),
            VersionKind::Deleted => None,
        }
    }

    /// Returns whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.entry().is_some_and(|entry| entry.kind == EntryKind::File)
    }

    /// Returns the id of this directory, if it is one.
    pub fn child(&self) -> Option<DirectoryId> {
        match &self.kind {
            VersionKind::Present { directory, .. } => *directory,
            VersionKind::Deleted => None,
        }
    }
}

/// Numbers in column `kind`.
const DELETED: i64 = 0;
const DIRECTORY: i64 = 1;
const FILE: i64 = 2;
const SYMLINK: i64 = 3;
const FIFO: i64 = 4;
const CHAR_DEVICE: i64 = 5;
const BLOCK_DEVICE: i64 = 6;

/// Returns the columns `kind` and `extra` of an entry; of a directory, `extra` is its id.
pub fn kind_columns(entry: Option<&Entry>, directory: Option<DirectoryId>) -> (i64, Value) {
    let device =
        |major: u32, minor: u32| Value::Integer(((major as u64) << 32 | minor as u64) as i64);
    match entry.map(|entry| &entry.kind) {
        None => (DELETED, Value::Null),
        Some(EntryKind::Directory) => {
            (DIRECTORY, directory.map_or(Value::Null, |id| Value::Integer(id.0)))
        }
        Some(EntryKind::File) => (FILE, Value::Null),
        Some(EntryKind::Symlink { target }) => (SYMLINK, Value::Blob(target.clone())),
        Some(EntryKind::Fifo) => (FIFO, Value::Null),
        Some(EntryKind::CharDevice { major, minor }) => (CHAR_DEVICE, device(*major, *minor)),
        Some(EntryKind::BlockDevice { major, minor }) => (BLOCK_DEVICE, device(*major, *minor)),
    }
}

/// The columns that [`Rows::read_version`] and [`entry`] read, in their order.
pub const COLUMNS: &str = "id, directory, name, position, kind, mode, owner, mtime, extra, size";

/// Passes on a directory that a row says to lie in another: its id is the greater one, since it was
/// made later. So no way down, or up, leads back to where it was.
fn below(parent: DirectoryId, child: DirectoryId) -> Result<DirectoryId, Error> {
    if parent < child { Ok(child) } else { Err(Error::Broken) }
}

/// Reads the metadata in a row of [`COLUMNS`]; `None` when the path is gone. `owner` finds an owner
/// by its id.
pub fn entry(
    row: &Row<'_>,
    owner: impl FnOnce(i64) -> Result<Owner, Error>,
) -> Result<Option<Entry>, Error> {
    let device = || -> Result<(u32, u32), rusqlite::Error> {
        let numbers = row.get::<_, i64>(8)? as u64;
        Ok(((numbers >> 32) as u32, numbers as u32))
    };
    let kind = match row.get(4)? {
        DIRECTORY => EntryKind::Directory,
        FILE => EntryKind::File,
        SYMLINK => EntryKind::Symlink { target: row.get(8)? },
        FIFO => EntryKind::Fifo,
        CHAR_DEVICE => device().map(|(major, minor)| EntryKind::CharDevice { major, minor })?,
        BLOCK_DEVICE => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor })?,
        DELETED => return Ok(None),
        _ => return Err(Error::Broken),
    };
    Ok(Some(Entry { kind, mode: row.get(5)?, owner: owner(row.get(6)?)?, mtime: row.get(7)? }))
}

fn sql(text: &str) -> String {
    text.replace("COLUMNS", COLUMNS)
}

macro_rules! statement {
    ($connection:expr, $text:expr) => {{
        static TEXT: OnceLock<String> = OnceLock::new();
        $connection.prepare_cached(TEXT.get_or_init(|| sql($text)))?
    }};
}

/// What stands at the tops of chains, by their numbers: the positions at which that changes, and
/// what it is from there on. Chains are left out whose top is a directory always.
pub type Tops = HashMap<u64, Vec<(u32, EntryKind)>>;

impl Rows<'_> {
    fn read_version(&self, row: &Row<'_>) -> Result<Version, Error> {
        let (id, parent): (VersionId, DirectoryId) = (row.get(0)?, row.get(1)?);
        let kind = match entry(row, |owner| Ok((*self.owner(owner)?).clone()))? {
            None => VersionKind::Deleted,
            Some(entry) => VersionKind::Present {
                directory: if entry.kind == EntryKind::Directory {
                    Some(below(parent, row.get(8)?)?)
                } else {
                    None
                },
                entry,
                size: row
                    .get::<_, Option<i64>>(9)?
                    .map(u64::try_from)
                    .transpose()
                    .map_err(|_| Error::Broken)?,
            },
        };
        Ok(Version {
            id,
            directory: parent,
            name: row.get(2)?,
            position: row.get(3)?,
            until: None,
            kind,
        })
    }

    /// Returns what `position` shows under a name, deleted or not.
    pub fn look_up(
        &self,
        directory: DirectoryId,
        name: &[u8],
        position: u32,
    ) -> Result<Option<Version>, Error> {
        let mut found = statement!(
            self.connection,
            "SELECT COLUMNS FROM versions WHERE directory = ?1 AND name = ?2 AND position <= ?3 ORDER BY position DESC LIMIT 1"
        );
        let mut rows = found.query((directory, name, position))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut found = self.read_version(row)?;
        found.until = self.next_position(directory, name, found.position)?;
        Ok(Some(found))
    }

    /// Returns what stands at the tops of all chains.
    pub fn tops(&self) -> Result<Tops, Error> {
        let mut tops = Tops::new();
        let mut statement = statement!(
            self.connection,
            "SELECT COLUMNS FROM versions WHERE directory < 0 ORDER BY directory, name, position"
        );
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (DirectoryId(above), position) = (row.get(1)?, row.get(3)?);
            if let Some(top) = entry(row, |_| Ok(Owner::default()))? {
                tops.entry(above.unsigned_abs()).or_default().push((position, top.kind));
            }
        }
        tops.retain(|_, tops| tops.iter().any(|(_, kind)| *kind != EntryKind::Directory));
        Ok(tops)
    }

    /// Returns the version of one id.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        let mut statement =
            statement!(self.connection, "SELECT COLUMNS FROM versions WHERE id = ?1");
        let mut rows = statement.query([id])?;
        let row = rows.next()?.ok_or_else(|| Error::Gone(format!("version {}", id.0)))?;
        let mut found = self.read_version(row)?;
        found.until = self.next_position(found.directory, &found.name, found.position)?;
        Ok(found)
    }

    fn next_position(
        &self,
        directory: DirectoryId,
        name: &[u8],
        position: u32,
    ) -> Result<Option<u32>, Error> {
        Ok(self.connection
        .prepare_cached(
            "SELECT position FROM versions WHERE directory = ?1 AND name = ?2 AND position > ?3 ORDER BY position LIMIT 1",
        )?
        .query_row((directory, name, position), |row| row.get(0))
        .optional()?)
    }

    /// Returns what `position` shows in a directory behind the name `after`: at most `limit` versions
    /// by name, none of them deleted. Fewer than `limit` means that there are no more.
    pub fn list(
        &self,
        directory: DirectoryId,
        position: u32,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Version>, Error> {
        // No name is empty but that of the source directory, which has no siblings.
        let mut statement = statement!(
            self.connection,
            "SELECT COLUMNS FROM versions WHERE directory = ?1 AND name > ?2 ORDER BY name, position"
        );
        let mut rows = statement.query((directory, after.unwrap_or_default()))?;
        let mut found: Vec<Version> = Vec::new();
        let mut candidate: Option<Version> = None;
        while let Some(row) = rows.next()? {
            let brought: u32 = row.get(3)?;
            let same_name = candidate.as_ref().is_some_and(|last| {
                row.get_ref(2).is_ok_and(|name| name.as_blob() == Ok(&last.name))
            });
            if !same_name {
                found.extend(candidate.take().filter(|last| last.entry().is_some()));
                if found.len() == limit {
                    return Ok(found);
                }
            }
            if brought <= position {
                candidate = Some(self.read_version(row)?);
            } else if let Some(last) =
                candidate.as_mut().filter(|last| same_name && last.until.is_none())
            {
                last.until = Some(brought);
            }
        }
        found.extend(candidate.take().filter(|last| last.entry().is_some()));
        Ok(found)
    }

    /// Returns the state that a path had before a version: what a delta of that version applies to.
    pub fn before(&self, of: &Version) -> Result<Option<Version>, Error> {
        match of.position.checked_sub(1) {
            Some(position) => self.look_up(of.directory, &of.name, position),
            None => Ok(None),
        }
    }

    /// Returns the id of a name that ever was a directory there.
    pub fn directory(
        &self,
        parent: DirectoryId,
        name: &[u8],
    ) -> Result<Option<DirectoryId>, Error> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM directories WHERE parent = ?1 AND name = ?2")?
            .query_row((parent, name), |row| row.get(0))
            .optional()?)
    }

    /// Returns parent and name of a directory.
    pub fn directory_name(&self, id: DirectoryId) -> Result<(DirectoryId, Vec<u8>), Error> {
        let found: Option<(DirectoryId, Vec<u8>)> = self
            .connection
            .prepare_cached("SELECT parent, name FROM directories WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (parent, name) = found.ok_or_else(|| Error::Gone(format!("directory {}", id.0)))?;
        below(parent, id)?;
        Ok((parent, name))
    }

    /// Returns parent and name of a directory that a row speaks of.
    pub fn known_directory(&self, id: DirectoryId) -> Result<(DirectoryId, Vec<u8>), Error> {
        self.directory_name(id)
            .map_err(|error| if let Error::Gone(_) = error { Error::Broken } else { error })
    }

    /// Returns the path of a directory that a row speaks of.
    pub fn directory_path(&self, mut id: DirectoryId) -> Result<EntryPath, Error> {
        let mut names = Vec::new();
        while !id.is_root() {
            let (parent, name) = self.known_directory(id)?;
            names.push(name);
            id = parent;
        }
        names.reverse();
        EntryPath::parse(&names.join(&b'/')).map_err(|_| Error::Broken)
    }
}
