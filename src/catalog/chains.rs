//! [`Chain`]: backup chains with numbers of their own, known again from one look at the collection to the next.

use super::Error;
use super::distrust::{Source, is_distrusted};
use super::query::{DirectoryId, MAX_CHAIN, MAX_POSITION, VersionId};
use crate::collection::{BackupChain, BackupSet, Collection, LocalCopy, LocalFile};
use crate::storage::Listed;
use crate::volume::VolumeKey;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A backup chain with a number in the catalog.
pub struct Chain {
    /// Number from 1 to 1023.
    pub(super) id: i64,
    /// Its sets, full first: the index is the position.
    pub sets: Vec<BackupSet>,
    pub(super) filled: Mutex<Filled>,
}

#[derive(Default)]
pub(super) struct Filled {
    /// How many sets have their rows.
    pub sets: u32,
    /// What is damaged of the next one, so that it has none.
    pub trouble: Option<Arc<Error>>,
    /// Of which database this is true.
    pub generation: u64,
}

impl Filled {
    /// Forgets what was true of a database that has been started over since.
    pub fn look(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Self { generation, ..Self::default() };
        }
    }
}

impl Chain {
    /// Returns the number of this chain in ids, from 1 to 1023.
    pub fn number(&self) -> u64 {
        self.id as u64
    }

    /// Returns the row id of a set.
    pub(super) fn set_id(&self, position: u32) -> i64 {
        self.id << 16 | i64::from(position)
    }

    /// Names one volume of a set.
    pub(super) fn volume_key(&self, position: u32, number: u32) -> VolumeKey {
        (self.set_id(position) as u64) << 32 | u64::from(number)
    }
}

/// Tells a set from any other, without reading a file: names, sizes and time stamps of manifest and signature file.
pub(super) fn identity(set: &BackupSet) -> Vec<u8> {
    hash([&set.manifest, &set.signatures].into_iter().flatten().map(|file| &file.listed)).to_vec()
}

/// Tells a copy of a signature file from any other in the same way.
pub(super) fn copy_identity(copy: &LocalFile) -> [u8; 32] {
    hash(std::iter::once(copy.file.listed()))
}

fn hash<'l>(files: impl Iterator<Item = &'l Listed>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for listed in files {
        hasher.update(listed.name.as_bytes()).update(&[0]);
        hasher.update(&listed.size.to_le_bytes()).update(&listed.stamp.to_le_bytes());
    }
    hasher.finalize().into()
}

/// Returns how many sets of a chain have their rows, from the full on.
pub(super) fn filled_sets(connection: &Connection, chain: &Chain) -> Result<u32, Error> {
    let count: u32 = connection.query_row("SELECT count(*) FROM sets WHERE chain = ?1", [chain.id], |row| row.get(0))?;
    Ok(count.min(chain.sets.len() as u32))
}

/// Gives each chain of a collection its number, and drops the rows of chains that are gone or have changed.
pub(super) fn assign(
    connection: &Connection,
    collection: &Collection,
    copy: Option<&LocalCopy>,
    generation: u64,
) -> Result<Vec<Arc<Chain>>, Error> {
    let mut kept: HashMap<i64, i64> = HashMap::new(); // full time to chain
    let mut statement = connection.prepare("SELECT id, full_time FROM chains ORDER BY id")?;
    let rows: Vec<(i64, i64)> = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (id, full_time) in rows {
        let same =
            collection.chains.iter().find(|chain| chain.sets().first().is_some_and(|full| full.end().seconds() == full_time));
        match same.map(|chain| still_holds(connection, id, chain, copy)).transpose()? {
            Some(true) => {
                kept.insert(full_time, id);
            }
            _ => drop_chain(connection, id)?,
        }
    }
    let mut chains = Vec::new();
    for chain in &collection.chains {
        let Some(full) = chain.sets().first() else { continue };
        if chain.sets().len() as i64 > MAX_POSITION {
            return Err(Error::TooMany("sets in one chain"));
        }
        let id = match kept.get(&full.end().seconds()) {
            Some(&id) => id,
            None => new_chain(connection, full.end().seconds())?,
        };
        let mut chain = Chain { id, sets: chain.sets().to_vec(), filled: Mutex::default() };
        let filled = Filled { sets: filled_sets(connection, &chain)?, trouble: None, generation };
        chain.filled = Mutex::new(filled);
        chains.push(Arc::new(chain));
    }
    Ok(chains)
}

/// Returns a number for a new chain: one that was never given out, as long as there are any; kernel and other processes may
/// still know the old ones.
pub(super) fn new_chain(connection: &Connection, full_time: i64) -> Result<i64, Error> {
    connection.execute("INSERT INTO chains(full_time) VALUES(?1)", [full_time])?;
    let id = connection.last_insert_rowid();
    if id <= MAX_CHAIN {
        drop_rows(connection, id)?;
        return Ok(id);
    }
    connection.execute("DELETE FROM chains WHERE id = ?1", [id])?;
    for id in 1..=MAX_CHAIN {
        if connection.execute("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, ?2)", (id, full_time))? == 1 {
            drop_rows(connection, id)?;
            return Ok(id);
        }
    }
    Err(Error::TooMany("chains"))
}

/// Tells whether the sets in the catalog are those of a chain, unchanged, and whether what they are known by still counts.
fn still_holds(connection: &Connection, id: i64, chain: &BackupChain, copy: Option<&LocalCopy>) -> Result<bool, Error> {
    let mut statement = connection.prepare("SELECT identity, source FROM sets WHERE chain = ?1 ORDER BY position")?;
    let rows = statement.query_map([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, Source::of_column(row.get(1)?))))?;
    // More of them only mean that another process has seen a newer set.
    for (row, set) in rows.zip(chain.sets()) {
        let (known, source) = row?;
        let counts = match source {
            Source::Volumes => true,
            Source::Signatures => !is_distrusted(connection, &known)?,
            Source::Copy(copied) => {
                let now = copy.and_then(|copy| copy.signatures(set.session)).map(copy_identity);
                now == Some(copied) && !is_distrusted(connection, &known)?
            }
        };
        if !counts || known != identity(set) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells a database that was started over which numbers chains have, and up to which they are not to be given out again.
pub(super) fn keep_numbers(connection: &Connection, chains: &[Arc<Chain>], most: i64) -> Result<(), Error> {
    connection.execute("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, 0)", [most])?;
    connection.execute("DELETE FROM chains WHERE id = ?1 AND full_time = 0", [most])?;
    for chain in chains {
        let full_time = chain.sets.first().map_or(0, |full| full.end().seconds());
        connection.execute("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, ?2)", (chain.id, full_time))?;
    }
    Ok(())
}

/// Returns what a set was known by when its rows were written.
pub(super) fn stored_identity(connection: &Connection, chain: &Chain, position: u32) -> Result<Vec<u8>, Error> {
    Ok(connection.query_row("SELECT identity FROM sets WHERE id = ?1", [chain.set_id(position)], |row| row.get(0))?)
}

pub(super) fn drop_chain(connection: &Connection, id: i64) -> Result<(), Error> {
    drop_rows(connection, id)?;
    connection.execute("DELETE FROM chains WHERE id = ?1", [id])?;
    Ok(())
}

/// Drops all rows under a chain's number but that of the chain itself.
fn drop_rows(connection: &Connection, id: i64) -> Result<(), Error> {
    let volumes = (id << 48, (id + 1) << 48);
    let versions = (VersionId::new(id, 0), VersionId::new(id + 1, 0));
    let directories = (DirectoryId::new(id, 0), DirectoryId::new(id + 1, 0));
    connection.execute("DELETE FROM frames WHERE volume >= ?1 AND volume < ?2", volumes)?;
    connection.execute("DELETE FROM volumes WHERE id >= ?1 AND id < ?2", volumes)?;
    connection.execute("DELETE FROM parts WHERE version >= ?1 AND version < ?2", versions)?;
    connection.execute("DELETE FROM source_stats WHERE version >= ?1 AND version < ?2", versions)?;
    connection.execute("DELETE FROM versions WHERE id >= ?1 AND id < ?2", versions)?;
    connection.execute("DELETE FROM directories WHERE id >= ?1 AND id < ?2", directories)?;
    connection.execute("DELETE FROM sets WHERE chain = ?1", [id])?;
    Ok(())
}
