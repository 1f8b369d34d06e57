//! Look up, list, versions of a path, by id: one indexed search each.

use super::Error;
use crate::model::{Entry, EntryKind, EntryPath, Owner};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, types::ToSqlOutput, types::Value};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// VersionSet of an id below the chain's number: versions in one chain.
pub(super) const VERSION_BITS: u32 = 40;
/// The same for directories.
pub(super) const DIRECTORY_BITS: u32 = 31;
/// Highest number of a chain. Numbers that are free again are reused behind it.
pub(super) const MAX_CHAIN: i64 = (1 << 21) - 1;
/// Highest number of a set, counted across chains; the same holds for these.
pub(super) const MAX_SET: i64 = (1 << 31) - 1;

/// Names one version for ever: chain number and running number within the chain. Ids of a set
/// ascend in path order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(i64);

/// Names one directory path of a chain for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(i64);

macro_rules! id {
    ($name:ident, $bits:expr) => {
        impl $name {
            pub(super) fn new(chain: i64, number: i64) -> Self {
                Self(chain << $bits | number)
            }

            /// Takes chain number and number within the chain, from an inode number; whether there
            /// is such a row is another question.
            pub fn from_parts(chain: u64, number: u64) -> Self {
                Self::new(chain as i64 & MAX_CHAIN, number as i64 & ((1 << $bits) - 1))
            }

            /// Returns the number of its chain.
            pub fn chain(self) -> u64 {
                (self.0 >> $bits) as u64
            }

            /// Returns the number within its chain.
            pub fn number(self) -> u64 {
                (self.0 & ((1 << $bits) - 1)) as u64
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(
                value: rusqlite::types::ValueRef<'_>,
            ) -> rusqlite::types::FromSqlResult<Self> {
                value.as_i64().map(Self)
            }
        }
    };
}
id!(VersionId, VERSION_BITS);
id!(DirectoryId, DIRECTORY_BITS);

impl VersionId {
    /// Returns the id as the database has it.
    pub(super) fn row(self) -> i64 {
        self.0
    }
}

impl DirectoryId {
    /// Returns the source directory itself in a chain.
    pub(super) fn root(chain: i64) -> Self {
        Self::new(chain, 1)
    }

    /// Returns the number within its chain of the source directory itself.
    pub fn root_number() -> u64 {
        1
    }

    /// Returns what stands for the directory above the source directory.
    pub(super) fn above_root(chain: i64) -> Self {
        Self(-chain)
    }

    /// Returns whether this is the source directory itself.
    pub fn is_root(self) -> bool {
        self.number() == 1
    }
}

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
pub(super) fn kind_columns(entry: Option<&Entry>, directory: Option<DirectoryId>) -> (i64, Value) {
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

/// The columns that [`version`] and [`entry`] read, in their order.
pub(super) const COLUMNS: &str =
    "id, directory, name, position, kind, mode, owner, mtime, extra, size";

fn version(connection: &Connection, owners: &Owners, row: &Row<'_>) -> Result<Version, Error> {
    let (id, parent): (VersionId, DirectoryId) = (row.get(0)?, row.get(1)?);
    let kind = match entry(row, |owner| Ok((*owners.get(connection, owner)?).clone()))? {
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

/// Passes on a directory that a row says to lie in another: its id is the greater one, since it was
/// made later. So no way down, or up, leads back to where it was.
fn below(parent: DirectoryId, child: DirectoryId) -> Result<DirectoryId, Error> {
    if parent < child { Ok(child) } else { Err(Error::Broken) }
}

/// Reads the metadata in a row of [`COLUMNS`]; `None` when the path is gone. `owner` finds an owner
/// by its id.
pub(super) fn entry(
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

/// The owners that have been met, by their id in the database: there are few.
#[derive(Default)]
pub(super) struct Owners {
    known: Mutex<HashMap<i64, Arc<Owner>>>,
}

impl Owners {
    pub(super) fn get(&self, connection: &Connection, id: i64) -> Result<Arc<Owner>, Error> {
        let lock = || self.known.lock();
        if let Some(owner) = lock().get(&id) {
            return Ok(owner.clone());
        }
        let owner = connection
            .prepare_cached("SELECT uid, gid, user, grp FROM owners WHERE id = ?1")?
            .query_row([id], |row| {
                Ok(Owner {
                    uid: row.get(0)?,
                    gid: row.get(1)?,
                    user: row.get(2)?,
                    group: row.get(3)?,
                })
            })?;
        let owner = Arc::new(owner);
        lock().insert(id, owner.clone());
        Ok(owner)
    }

    /// Forgets them: the database was replaced.
    pub(super) fn clear(&self) {
        self.known.lock().clear();
    }
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

/// Tells, as an error, if the rows of a set are no longer there: the database was started over, or
/// another process dropped them.
pub(super) fn set_is_there(connection: &Connection, set: i64) -> Result<(), Error> {
    let found = connection
        .prepare_cached("SELECT 1 FROM sets WHERE id = ?1 AND first_version IS NOT NULL")?
        .query_row([set], |_| Ok(()))
        .optional()?;
    found.ok_or(Error::Lost)
}

/// Passes on the numbers of a set's rows, half-open, if its first and its last one are there.
pub(super) fn rows_of(
    connection: &Connection,
    chain: i64,
    position: u32,
    (first, end): (i64, i64),
) -> Result<Range<u64>, Error> {
    let mut is_there =
        connection.prepare_cached("SELECT 1 FROM versions WHERE id = ?1 AND position = ?2")?;
    let mut has =
        |number: i64| Ok::<_, Error>(is_there.exists((VersionId::new(chain, number), position))?);
    match first.cmp(&end) {
        _ if first < 1 || end >> VERSION_BITS != 0 => Err(Error::Broken),
        Ordering::Less if has(first)? && has(end - 1)? => Ok(first as u64..end as u64),
        Ordering::Equal => Ok(first as u64..end as u64),
        _ => Err(Error::Broken),
    }
}

/// Returns what `position` shows under a name, deleted or not.
pub(super) fn look_up(
    connection: &Connection,
    owners: &Owners,
    directory: DirectoryId,
    name: &[u8],
    position: u32,
) -> Result<Option<Version>, Error> {
    let mut found = statement!(
        connection,
        "SELECT COLUMNS FROM versions WHERE directory = ?1 AND name = ?2 AND position <= ?3 ORDER BY position DESC LIMIT 1"
    );
    let mut rows = found.query((directory, name, position))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut found = version(connection, owners, row)?;
    found.until = next_position(connection, directory, name, found.position)?;
    Ok(Some(found))
}

/// What stands at the tops of chains, by their numbers: the positions at which that changes, and
/// what it is from there on. Chains are left out whose top is a directory always.
pub type Tops = HashMap<u64, Vec<(u32, EntryKind)>>;

/// Returns what stands at the tops of all chains.
pub(super) fn tops(connection: &Connection) -> Result<Tops, Error> {
    let mut tops = Tops::new();
    let mut statement = statement!(
        connection,
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
pub(super) fn by_id(
    connection: &Connection,
    owners: &Owners,
    id: VersionId,
) -> Result<Version, Error> {
    let mut statement = statement!(connection, "SELECT COLUMNS FROM versions WHERE id = ?1");
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or_else(|| Error::Gone(format!("version {}", id.0)))?;
    let mut found = version(connection, owners, row)?;
    found.until = next_position(connection, found.directory, &found.name, found.position)?;
    Ok(found)
}

fn next_position(
    connection: &Connection,
    directory: DirectoryId,
    name: &[u8],
    position: u32,
) -> Result<Option<u32>, Error> {
    Ok(connection
        .prepare_cached(
            "SELECT position FROM versions WHERE directory = ?1 AND name = ?2 AND position > ?3 ORDER BY position LIMIT 1",
        )?
        .query_row((directory, name, position), |row| row.get(0))
        .optional()?)
}

/// Returns what `position` shows in a directory behind the name `after`: at most `limit` versions
/// by name, none of them deleted. Fewer than `limit` means that there are no more.
pub(super) fn list(
    connection: &Connection,
    owners: &Owners,
    directory: DirectoryId,
    position: u32,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Version>, Error> {
    // No name is empty but that of the source directory, which has no siblings.
    let mut statement = statement!(
        connection,
        "SELECT COLUMNS FROM versions WHERE directory = ?1 AND name > ?2 ORDER BY name, position"
    );
    let mut rows = statement.query((directory, after.unwrap_or_default()))?;
    let mut found: Vec<Version> = Vec::new();
    let mut candidate: Option<Version> = None;
    while let Some(row) = rows.next()? {
        let brought: u32 = row.get(3)?;
        let same_name = candidate
            .as_ref()
            .is_some_and(|last| row.get_ref(2).is_ok_and(|name| name.as_blob() == Ok(&last.name)));
        if !same_name {
            found.extend(candidate.take().filter(|last| last.entry().is_some()));
            if found.len() == limit {
                return Ok(found);
            }
        }
        if brought <= position {
            candidate = Some(version(connection, owners, row)?);
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
pub(super) fn before(
    connection: &Connection,
    owners: &Owners,
    of: &Version,
) -> Result<Option<Version>, Error> {
    match of.position.checked_sub(1) {
        Some(position) => look_up(connection, owners, of.directory, &of.name, position),
        None => Ok(None),
    }
}

/// Returns the id of a name that ever was a directory there.
pub(super) fn directory(
    connection: &Connection,
    parent: DirectoryId,
    name: &[u8],
) -> Result<Option<DirectoryId>, Error> {
    Ok(connection
        .prepare_cached("SELECT id FROM directories WHERE parent = ?1 AND name = ?2")?
        .query_row((parent, name), |row| row.get(0))
        .optional()?)
}

/// Returns parent and name of a directory.
pub(super) fn directory_name(
    connection: &Connection,
    id: DirectoryId,
) -> Result<(DirectoryId, Vec<u8>), Error> {
    let found: Option<(DirectoryId, Vec<u8>)> = connection
        .prepare_cached("SELECT parent, name FROM directories WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (parent, name) = found.ok_or_else(|| Error::Gone(format!("directory {}", id.0)))?;
    below(parent, id)?;
    Ok((parent, name))
}

/// Returns parent and name of a directory that a row speaks of.
pub(super) fn known_directory(
    connection: &Connection,
    id: DirectoryId,
) -> Result<(DirectoryId, Vec<u8>), Error> {
    directory_name(connection, id)
        .map_err(|error| if let Error::Gone(_) = error { Error::Broken } else { error })
}

/// Returns the path of a directory that a row speaks of.
pub(super) fn directory_path(
    connection: &Connection,
    mut id: DirectoryId,
) -> Result<EntryPath, Error> {
    let mut names = Vec::new();
    while !id.is_root() {
        let (parent, name) = known_directory(connection, id)?;
        names.push(name);
        id = parent;
    }
    names.reverse();
    EntryPath::parse(&names.join(&b'/')).map_err(|_| Error::Broken)
}
