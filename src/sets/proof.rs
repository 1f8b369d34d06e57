//! [`Proof`]: the rows of a set, which come from its signature file, held against what a volume of
//! the set holds.
//!
//! Nothing in the format vouches for a signature file, and a manifest vouches for its volumes. Both
//! come of one walk over the source, in path order, so the paths of the volumes, one after the
//! other, are the rows of the set, one after the other:
//!
//! ```text
//! rows       .   a   b   c   d   e   f        versions by id
//!            └───────┴───┼───┴───┴───┘
//! volume 1   .   a   b 1 │                    its rows begin with the set's first, or where the manifest says that the volume
//! volume 2           b 2   c   d   e   f      before has ended; they end where the manifest says, or with the set's last
//! ```
//!
//! So each volume proves a stretch of rows by itself, in whatever order volumes are read, and all
//! volumes prove all rows. A path that only one side has, in another order, or with other metadata,
//! is a contradiction. Then the volumes are right: see [`super::distrust`].
//!
//! A session that was killed and went on may hold a path twice; of the rows and of the members the
//! first counts.

use super::Error;
use super::cursor::Cursor;
use super::sets::Sets;
use crate::catalog::{Chain, Source, VersionId, VersionRow};
use crate::format::Manifest;
use crate::model::{Entry, EntryPath, Owner};
use std::sync::Arc;

/// Finds the rows of what a volume holds, member by member, and notes the first contradiction.
pub struct Proof<'a> {
    sets: &'a Sets,
    chain: &'a Chain,
    position: u32,
    cursor: Cursor<'a>,
    /// Numbers of the rows that the volume has to hold, as far as they are known beforehand; `None`
    /// where there is nothing to prove, since the rows came from the volumes.
    stretch: Option<Stretch>,
    /// The number of the last row that was met.
    last: Option<u64>,
    owner: Option<(i64, Arc<Owner>)>,
    contradiction: Option<String>,
}

/// Numbers of rows.
struct Stretch {
    /// The last row of the volume before, which may go on in this one.
    before: Option<u64>,
    /// The first that is no other volume's.
    first: u64,
    /// The last of this volume.
    last: u64,
}

impl<'a> Proof<'a> {
    /// Begins with a volume.
    pub fn new(
        sets: &'a Sets,
        chain: &'a Chain,
        position: u32,
        number: u32,
        manifest: &Manifest,
    ) -> Result<Self, Error> {
        let cursor = Cursor::new(sets, chain, position);
        let mut proof = Self {
            sets,
            chain,
            position,
            cursor,
            stretch: None,
            last: None,
            owner: None,
            contradiction: None,
        };
        if sets.source_of(chain, position)? != Source::Volumes {
            proof.stretch = proof.stretch_of(number, manifest)?;
        }
        Ok(proof)
    }

    fn stretch_of(&mut self, number: u32, manifest: &Manifest) -> Result<Option<Stretch>, Error> {
        let rows = self.sets.versions_of(self.chain, self.position)?;
        let Some(volume) = manifest.volume(number) else { return Ok(None) };
        let mut number_of = |path: &EntryPath| -> Result<Option<u64>, Error> {
            let version = Cursor::new(self.sets, self.chain, self.position).find(path)?;
            if version.is_none() {
                self.contradiction
                    .get_or_insert(format!("the manifest has '{path}', which it does not list"));
            }
            Ok(version.map(VersionId::number))
        };
        // A set without anything has a volume without members.
        if rows.is_empty() {
            return Ok(Some(Stretch {
                before: None,
                first: rows.start,
                last: rows.end.saturating_sub(1),
            }));
        }
        let before = match number.checked_sub(1).and_then(|before| manifest.volume(before)) {
            Some(before) => number_of(&before.last)?,
            None => None,
        };
        let is_last = manifest.volumes().next_back().is_none_or(|last| last.number == number);
        let last = if is_last { None } else { number_of(&volume.last)? };
        let first = before.map_or(rows.start, |before| before + 1);
        Ok(Some(Stretch { before, first, last: last.unwrap_or(rows.end - 1) }))
    }

    /// Returns the version of a path that the volume holds, if there is a row of it; `entry` is
    /// `None` for a path that is gone.
    pub fn meet(
        &mut self,
        path: &EntryPath,
        entry: Option<&Entry>,
    ) -> Result<Option<VersionId>, Error> {
        let row = self.cursor.find_row(path)?;
        let Some(stretch) = &self.stretch else { return Ok(row.map(|row| row.id)) };
        let Some(row) = row else {
            self.contradict(|| format!("a volume holds '{path}', which it does not list"));
            return Ok(None);
        };
        let number = row.id.number();
        // What has been met has counted.
        if self.last.is_some_and(|last| number <= last) {
            return Ok(Some(row.id));
        }
        let (is_before, expected) = (
            self.last.is_none() && stretch.before == Some(number),
            self.last.map_or(stretch.first, |last| last + 1),
        );
        self.last = Some(number);
        if !is_before && number != expected {
            self.contradict_by(expected, number)?;
        } else if !is_before && !self.is_of(&row, entry)? {
            self.contradict(|| {
                format!("a volume holds another type, target, mode, owner or time of '{path}'")
            });
        }
        Ok(Some(row.id))
    }

    /// The volume has ended; returns what contradicts the rows.
    pub fn finish(mut self) -> Result<Option<String>, Error> {
        if let Some(Stretch { before, first, last }) = self.stretch {
            let rows = self.sets.versions_of(self.chain, self.position)?;
            let met = self.last.or(before).map_or(first, |met| met + 1);
            if !rows.is_empty() && met != last + 1 {
                self.contradict_by(met, last + 1)?;
            }
        }
        Ok(self.contradiction)
    }

    fn is_of(&mut self, row: &VersionRow, entry: Option<&Entry>) -> Result<bool, Error> {
        if !row.is_of(entry) {
            return Ok(false);
        }
        let Some(entry) = entry else { return Ok(true) };
        let owner = match &self.owner {
            Some((id, owner)) if *id == row.owner => owner.clone(),
            _ => self.sets.ask(self.chain, self.position, |rows| rows.owner(row.owner))?,
        };
        let is_same = *owner == entry.owner;
        self.owner = Some((row.owner, owner));
        Ok(is_same)
    }

    /// Notes that some other row was met, or none, instead of the one expected.
    fn contradict_by(&mut self, expected: u64, met: u64) -> Result<(), Error> {
        if self.contradiction.is_none() {
            let id = VersionId::from_parts(self.chain.number(), expected.min(met));
            let path = self.sets.version(id).and_then(|version| self.sets.path(&version));
            let path = path.map_or_else(|_| "a path".to_string(), |path| format!("'{path}'"));
            self.contradict(|| format!("it lists {path}, which no volume holds at its place"));
        }
        Ok(())
    }

    fn contradict(&mut self, what: impl FnOnce() -> String) {
        self.contradiction.get_or_insert_with(what);
    }
}
