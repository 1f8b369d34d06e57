//! What is known of a set as a whole: the numbers of its rows, what these come from, what has no
//! row; and its rows one after the other, each with its path.

use super::Error;
use super::chains::{Chain, Source, filled_sets, keep_numbers};
use super::ids::{DirectoryId, VERSION_BITS, VersionId};
use super::rows::Rows;
use super::set_writer::{LeftOut, SetWriter};
use super::versions::kind_columns;
use crate::model::{Entry, EntryKind};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;

/// What the rows say of a version, but for its place.
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    kind: i64,
    mode: u16,
    /// The id of its owner.
    pub owner: i64,
    mtime: i64,
    extra: Value,
}

impl VersionRow {
    /// Returns whether it says this of a path, apart from the owner; `None` means that the path is
    /// gone.
    pub fn is_of(&self, entry: Option<&Entry>) -> bool {
        let (kind, extra) = kind_columns(entry, None);
        let Some(entry) = entry else { return self.kind == kind };
        let has_extra = entry.kind == EntryKind::Directory || self.extra == extra;
        (self.kind, self.mode, self.mtime) == (kind, entry.mode, entry.mtime) && has_extra
    }
}

/// The columns of a [`VersionRow`].
const COLUMNS: &str = "id, kind, mode, owner, mtime, extra";

fn version_row(row: &Row<'_>) -> rusqlite::Result<VersionRow> {
    Ok(VersionRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        mode: row.get(2)?,
        owner: row.get(3)?,
        mtime: row.get(4)?,
        extra: row.get(5)?,
    })
}

impl Rows<'_> {
    /// Writes the rows of a set, above those of the sets before it; `add` adds its lines. `left_out`
    /// says why a path is not among these. Returns which of them have no row.
    ///
    /// # Errors
    /// [`Error::Lost`] when the sets before it have no rows, and what `add` returns.
    pub fn fill_set<E: From<Error>>(
        &self,
        chain: &Chain,
        position: u32,
        (source, left_out): (&Source, Option<&str>),
        add: impl FnOnce(&mut SetWriter<'_>) -> Result<(), E>,
    ) -> Result<Option<LeftOut>, E> {
        match filled_sets(self.connection, chain)?.cmp(&position) {
            Ordering::Equal => {}
            // Another process was faster.
            Ordering::Greater => return Ok(None),
            // Somebody has started over, or has seen another collection: above a gap this one would
            // be wrong.
            Ordering::Less => return Err(Error::Lost.into()),
        }
        let mut writer = SetWriter::new(self, chain.id, position)?;
        add(&mut writer)?;
        let (rows, without_folders) = writer.finish();
        let cause = without_folders.as_ref().map(|paths| {
            let start = paths.start();
            format!("'{start}' is left out, since folders above it are not in the backup")
        });
        self.end_set(chain, position, rows, (source, left_out.or(cause.as_deref())))?;
        Ok(without_folders)
    }

    fn end_set(
        &self,
        chain: &Chain,
        position: u32,
        rows: Range<i64>,
        (source, left_out): (&Source, Option<&str>),
    ) -> Result<(), Error> {
        keep_numbers(self.connection, std::slice::from_ref(&chain))?
            .then_some(())
            .ok_or(Error::Lost)?;
        let text = "UPDATE sets SET first_version = ?2, end_version = ?3, source = ?4, left_out = ?5 WHERE id = ?1";
        let set = chain.set_id(position);
        self.connection.execute(text, (set, rows.start, rows.end, source.column(), left_out))?;
        Ok(())
    }

    /// Returns the numbers of all versions of a set, half-open; they ascend in path order.
    pub fn versions_of(&self, chain: &Chain, position: u32) -> Result<Range<u64>, Error> {
        let text = "SELECT first_version, end_version FROM sets WHERE id = ?1 AND first_version IS NOT NULL";
        let found = self
            .connection
            .prepare_cached(text)?
            .query_row([chain.set_id(position)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        self.check_ends(chain.id, position, found.ok_or(Error::Lost)?)
    }

    /// Returns the numbers of the versions of each set up to a position.
    pub fn versions_up_to(&self, chain: &Chain, position: u32) -> Result<Vec<Range<u64>>, Error> {
        let text = "SELECT position, first_version, end_version FROM sets
             WHERE chain = ?1 AND position <= ?2 AND first_version IS NOT NULL ORDER BY position";
        let mut statement = self.connection.prepare_cached(text)?;
        let mut sets = statement.query((chain.id, position))?;
        let mut found: Vec<Range<u64>> = Vec::new();
        while let Some(row) = sets.next()? {
            let at: u32 = row.get(0)?;
            if at as usize != found.len() {
                return Err(Error::Lost);
            }
            found.push(self.check_ends(chain.id, at, (row.get(1)?, row.get(2)?))?);
        }
        if found.len() as u64 == u64::from(position) + 1 { Ok(found) } else { Err(Error::Lost) }
    }

    /// Passes on the numbers of a set's rows, half-open, if its first and its last one are there.
    fn check_ends(
        &self,
        chain: i64,
        position: u32,
        (first, end): (i64, i64),
    ) -> Result<Range<u64>, Error> {
        let text = "SELECT 1 FROM versions WHERE id = ?1 AND position = ?2";
        let mut is_there = self.connection.prepare_cached(text)?;
        let mut has = |number: i64| {
            Ok::<_, Error>(is_there.exists((VersionId::new(chain, number), position))?)
        };
        match first.cmp(&end) {
            _ if first < 1 || end >> VERSION_BITS != 0 => Err(Error::Broken),
            Ordering::Less if has(first)? && has(end - 1)? => Ok(first as u64..end as u64),
            Ordering::Equal => Ok(first as u64..end as u64),
            _ => Err(Error::Broken),
        }
    }

    /// Returns versions from `from` to before `end`, at most so many, each with its directory and
    /// its name there.
    pub fn versions_from(
        &self,
        (from, end): (VersionId, VersionId),
        most: u32,
    ) -> Result<Vec<(VersionRow, DirectoryId, Vec<u8>)>, Error> {
        let text = format!(
            "SELECT {COLUMNS}, directory, name FROM versions WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let rows = statement.query_map((from, end, most), |row| {
            Ok((version_row(row)?, row.get(6)?, row.get(7)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns the version of a name that the set at a position brought.
    pub fn version_at(
        &self,
        directory: DirectoryId,
        name: &[u8],
        position: u32,
    ) -> Result<Option<VersionRow>, Error> {
        let text = format!(
            "SELECT {COLUMNS} FROM versions WHERE directory = ?1 AND name = ?2 AND position = ?3"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        Ok(statement.query_row((directory, name, position), version_row).optional()?)
    }

    /// Returns where the rows of a set come from.
    pub fn source_of(&self, set: i64) -> Result<Source, Error> {
        let found = self
            .connection
            .prepare_cached("SELECT source FROM sets WHERE id = ?1")?
            .query_row([set], |row| row.get(0))
            .optional()?;
        found.map(Source::of_column).ok_or(Error::Lost)
    }

    /// Returns the positions of the sets of a chain whose rows come from their volumes.
    pub fn sets_of_volumes(&self, chain: &Chain) -> Result<HashSet<u32>, Error> {
        let text = "SELECT position FROM sets WHERE chain = ?1 AND length(source) = 0";
        let mut statement = self.connection.prepare_cached(text)?;
        let positions = statement.query_map([chain.id], |row| row.get(0))?;
        Ok(positions.collect::<Result<_, _>>()?)
    }

    /// Returns the position of the first set of a chain whose rows nothing confirms.
    pub fn first_unconfirmed(&self, chain: &Chain) -> Result<Option<u32>, Error> {
        let text = "SELECT min(position) FROM sets WHERE chain = ?1 AND source = ?2";
        let mut statement = self.connection.prepare_cached(text)?;
        let source = Source::Unconfirmed;
        Ok(statement.query_row((chain.id, source.column()), |row| row.get(0))?)
    }

    /// Returns why a path of a set has no row, if one has none.
    pub fn left_out(&self, set: i64) -> Result<Option<String>, Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT left_out FROM sets WHERE id = ?1")?;
        Ok(statement.query_row([set], |row| row.get(0))?)
    }

    /// Keeps that a path of a set has no row.
    pub fn keep_left_out(&self, set: i64, cause: &str) -> Result<(), Error> {
        let text = "UPDATE sets SET left_out = coalesce(left_out, ?2) WHERE id = ?1";
        self.connection.prepare_cached(text)?.execute((set, cause))?;
        Ok(())
    }

    /// Returns whether the signature file of the set with an identity has been contradicted.
    pub fn is_distrusted(&self, identity: &[u8]) -> Result<bool, Error> {
        let text = "SELECT 1 FROM distrusted WHERE identity = ?1";
        Ok(self.connection.prepare_cached(text)?.exists([identity])?)
    }

    /// Returns the identities of all sets whose signature files have been contradicted.
    pub fn distrusted(&self) -> Result<HashSet<Vec<u8>>, Error> {
        let mut statement = self.connection.prepare_cached("SELECT identity FROM distrusted")?;
        let identities = statement.query_map([], |row| row.get(0))?;
        Ok(identities.collect::<Result<_, _>>()?)
    }

    /// Keeps that the signature file of a set has been contradicted.
    pub fn distrust(&self, identity: &[u8]) -> Result<(), Error> {
        let text = "INSERT OR IGNORE INTO distrusted(identity) VALUES(?1)";
        self.connection.execute(text, [identity])?;
        Ok(())
    }
}
