//! The rows of a set with all that a new session compares with.

use super::Error;
use super::ids::{DirectoryId, VersionId};
use super::rows::Rows;
use super::stats::SourceStat;
use super::versions::{COLUMNS, entry};
use crate::model::{Entry, EntryPath, Owner};
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

/// Paths of directories that are kept: those on the way of each run, and some more.
const DIRECTORIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// A row of a set.
pub struct SavedRow {
    /// Its path.
    pub path: EntryPath,
    /// Its version.
    pub version: VersionId,
    /// What it is; `None` when it is gone.
    pub entry: Option<Entry>,
    /// What this machine's file system said when it was saved, if that is known.
    pub stat: Option<SourceStat>,
}

impl Rows<'_> {
    /// Returns the rows of versions `from` to `to`, half-open, each with its path, and with what the
    /// file system said of it.
    pub fn saved(
        &self,
        directories: &mut Directories,
        (from, to): (VersionId, VersionId),
    ) -> Result<Vec<SavedRow>, Error> {
        static SELECT: OnceLock<String> = OnceLock::new();
        let select =
            || format!("SELECT {} FROM versions WHERE id >= ?1 AND id < ?2 ORDER BY id", COLUMNS);
        let mut statement = self.connection.prepare_cached(SELECT.get_or_init(select))?;
        let mut rows = statement.query((from, to))?;
        let mut stats = self.connection.prepare_cached(
        "SELECT version, size, ctime, inode FROM source_stats WHERE version >= ?1 AND version < ?2 ORDER BY version",
    )?;
        let mut stats = stats.query_map((from, to), |row| {
            let (size, inode): (i64, i64) = (row.get(1)?, row.get(3)?);
            Ok((
                row.get::<_, VersionId>(0)?,
                SourceStat { size: size as u64, ctime: row.get(2)?, inode: inode as u64 },
            ))
        })?;
        let mut stat = stats.next().transpose()?;
        let mut owner: Option<(i64, Arc<Owner>)> = None;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let version: VersionId = row.get(0)?;
            let name = row.get_ref(2)?.as_blob().map_err(|_| Error::Broken)?;
            let path = match name {
                b"" => EntryPath::root(),
                name => {
                    directories.path(self, row.get(1)?)?.join(name).map_err(|_| Error::Broken)?
                }
            };
            let state = entry(row, |id| {
                let same = owner
                    .as_ref()
                    .filter(|(known, _)| *known == id)
                    .map(|(_, owner)| owner.clone());
                let known = same.map_or_else(|| self.owner(id), Ok)?;
                let copy = (*known).clone();
                owner = Some((id, known));
                Ok(copy)
            })?;
            while stat.as_ref().is_some_and(|(of, _)| *of < version) {
                stat = stats.next().transpose()?;
            }
            let stat = stat.as_ref().filter(|(of, _)| *of == version).map(|(_, stat)| *stat);
            found.push(SavedRow { path, version, entry: state, stat });
        }
        // Ids of a set have no gaps, and a path that is not met would be saved anew, or be taken for
        // deleted.
        let expected = to.number().saturating_sub(from.number());
        if found.len() as u64 == expected { Ok(found) } else { Err(Error::Broken) }
    }
}

/// Paths of directories by their ids: rows that follow each other mostly lie in the same directory,
/// or in one nearby.
pub struct Directories {
    known: lru::LruCache<DirectoryId, EntryPath>,
    last: Option<(DirectoryId, EntryPath)>,
}

impl Default for Directories {
    fn default() -> Self {
        Self { known: lru::LruCache::new(DIRECTORIES), last: None }
    }
}

impl Directories {
    fn path(&mut self, rows: &Rows<'_>, id: DirectoryId) -> Result<&EntryPath, Error> {
        let path = match self.last.take() {
            Some((last, path)) if last == id => path,
            _ => self.find(rows, id)?,
        };
        Ok(&self.last.insert((id, path)).1)
    }

    fn find(&mut self, rows: &Rows<'_>, id: DirectoryId) -> Result<EntryPath, Error> {
        let (mut at, mut names) = (id, Vec::new());
        let mut path = loop {
            if at.is_root() {
                break EntryPath::root();
            }
            if let Some(known) = self.known.get(&at) {
                break known.clone();
            }
            let (parent, name) = rows.known_directory(at)?;
            names.push((at, name));
            at = parent;
        };
        for (id, name) in names.into_iter().rev() {
            path = path.join(&name).map_err(|_| Error::Broken)?;
            self.known.put(id, path.clone());
        }
        Ok(path)
    }
}
