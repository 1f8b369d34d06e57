//! [`Chain`]: backup chains and sets with numbers of their own, known again from one look at the
//! collection to the next.
//!
//! Chains are numbered, and sets across chains, so that there is room for any number of either. A
//! look at the collection costs one statement, and nothing is written as long as it shows what is
//! known already.

use super::Error;
use super::ids::{DirectoryId, MAX_CHAIN, MAX_SET, VersionId};
use crate::collection::{BackupChain, BackupSet, Collection, LocalCopy, LocalFile};
use crate::storage::Listed;
use crate::volume::VolumeKey;
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OptionalExtension};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where the rows of a set come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The stored signature file.
    Signatures,
    /// Its copy in duplicity's archive directory, known by this.
    Copy([u8; 32]),
    /// The volumes.
    Volumes,
    /// The signature file, which does not fit the manifest, of volumes that do not fit it either:
    /// nothing is built on these rows, and they are filled in anew by every process.
    Unconfirmed,
}

/// What stands in the column `source` for [`Source::Unconfirmed`].
const UNCONFIRMED: &[u8] = &[0];

impl Source {
    /// Returns the column `source`.
    pub fn column(&self) -> Option<&[u8]> {
        match self {
            Self::Signatures => None,
            Self::Copy(identity) => Some(identity),
            Self::Volumes => Some(&[]),
            Self::Unconfirmed => Some(UNCONFIRMED),
        }
    }

    /// Takes the column `source`; what is none of ours is taken for a copy that is gone.
    pub fn of_column(column: Option<Vec<u8>>) -> Self {
        match column {
            None => Self::Signatures,
            Some(bytes) if bytes.is_empty() => Self::Volumes,
            Some(bytes) if bytes == UNCONFIRMED => Self::Unconfirmed,
            Some(bytes) => Self::Copy(bytes.try_into().unwrap_or_default()),
        }
    }
}

/// A backup chain with a number in the catalog.
pub struct Chain {
    /// Its number in the catalog.
    pub(crate) id: i64,
    /// Those of its sets, which are counted across chains.
    pub(super) numbers: Vec<i64>,
    /// Its sets, full first: the index is the position.
    pub sets: Vec<BackupSet>,
    pub(crate) filled: Mutex<Filled>,
    pub(crate) progress: Progress,
    /// Its rows were wrong: it has another number now, and this one means nothing any more.
    pub(super) is_void: AtomicBool,
}

/// How far the sets of a chain have their rows while somebody fills them in: whoever needs a few of
/// them waits for these only.
#[derive(Default)]
pub struct Progress {
    state: Mutex<FilledSets>,
    changed: Condvar,
}

#[derive(Default)]
struct FilledSets {
    /// Sets that have their rows, in the database of this generation.
    sets: u32,
    generation: u64,
    /// The most sets that have had their rows in any generation. Somebody may know versions of all
    /// of these, so when a database has been started over, fewer are not enough for anybody.
    most: u32,
    is_filling: bool,
}

/// The turn to fill in the sets of a chain.
pub struct FillingTurn<'p>(&'p Progress);

impl Progress {
    /// Begins with so many sets that have had their rows.
    fn new(most: u32) -> Self {
        Self { state: Mutex::new(FilledSets { most, ..FilledSets::default() }), ..Self::default() }
    }

    /// Waits until so many sets have their rows, or until nobody is filling them in: then the turn is
    /// the caller's, with the number of sets to be filled.
    pub fn turn(&self, sets: u32, generation: u64) -> Option<(FillingTurn<'_>, u32)> {
        let mut state = self.state.lock();
        let has_come = |state: &FilledSets| {
            state.generation == generation && sets > 0 && state.sets >= sets.max(state.most)
        };
        self.changed.wait_while(&mut state, |state| state.is_filling && !has_come(state));
        if has_come(&state) {
            return None;
        }
        state.is_filling = true;
        Some((FillingTurn(self), sets.max(state.most)))
    }

    /// Takes note that so many sets have their rows.
    pub fn reach(&self, sets: u32, generation: u64) {
        let mut state = self.state.lock();
        (state.sets, state.generation) = (sets, generation);
        state.most = state.most.max(sets);
        self.changed.notify_all();
    }
}

impl Drop for FillingTurn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_filling = false;
        self.0.changed.notify_all();
    }
}

/// How many sets of a chain have their rows.
#[derive(Default)]
pub struct Filled {
    /// How many.
    pub sets: u32,
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
    /// Returns the number of this chain in ids of versions and directories.
    pub fn number(&self) -> u64 {
        self.id as u64
    }

    /// Returns the number of a set, which no other set of any chain has; 0 if there is no such set.
    pub fn set_number(&self, position: u32) -> u64 {
        self.set_id(position) as u64
    }

    /// Returns the row id of a set, which is its number.
    pub(crate) fn set_id(&self, position: u32) -> i64 {
        self.numbers.get(position as usize).copied().unwrap_or(0)
    }

    /// Returns a set.
    ///
    /// # Errors
    /// [`Error::Gone`] when the chain has no such set.
    pub(crate) fn set_at(&self, position: u32) -> Result<&BackupSet, Error> {
        let gone = || Error::Gone(format!("set {position} of a chain"));
        self.sets.get(position as usize).ok_or_else(gone)
    }

    /// Names one volume of a set.
    pub(crate) fn volume_key(&self, position: u32, number: u32) -> VolumeKey {
        (self.set_id(position) as u64) << 32 | u64::from(number)
    }
}

/// Tells a set from any other, without reading a file: names, sizes and time stamps of manifest and
/// signature file.
pub fn identity(set: &BackupSet) -> Vec<u8> {
    hash([&set.manifest, &set.signatures].into_iter().flatten().map(|file| &file.listed)).to_vec()
}

/// Tells a stored file from any other in the same way.
pub fn file_identity(listed: &Listed) -> [u8; 32] {
    hash(std::iter::once(listed))
}

/// Tells a copy of a signature file from any other in the same way.
pub fn copy_identity(copy: &LocalFile) -> [u8; 32] {
    file_identity(copy.file.listed())
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
    let mut statement = connection.prepare_cached(
        "SELECT id, position, identity FROM sets WHERE chain = ?1 AND first_version IS NOT NULL ORDER BY position",
    )?;
    let mut rows = statement.query([chain.id])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let Some(set) = chain.sets.get(count as usize) else { break };
        let expected = (chain.set_id(count), count);
        if (row.get(0)?, row.get(1)?) != expected || row.get_ref(2)?.as_blob() != Ok(&identity(set))
        {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// A chain as the database knows it.
struct Known {
    id: i64,
    full_time: i64,
    sets: Vec<KnownSet>,
}

struct KnownSet {
    id: i64,
    position: i64,
    identity: Vec<u8>,
    is_filled: bool,
    source: Source,
    /// Its signature file has been contradicted by its volumes.
    is_distrusted: bool,
}

impl KnownSet {
    /// Returns whether what its rows come from still counts.
    fn counts(&self, set: &BackupSet, copy: Option<&LocalCopy>) -> bool {
        let copied = || copy.and_then(|copy| copy.signatures(set.session)).map(copy_identity);
        match self.source {
            _ if !self.is_filled => true,
            Source::Volumes => true,
            Source::Unconfirmed => false,
            Source::Signatures => !self.is_distrusted,
            Source::Copy(identity) => !self.is_distrusted && copied() == Some(identity),
        }
    }
}

impl Known {
    /// Returns how many sets of a chain are those that are known, from the full on, or `None` if
    /// another one has rows, or one has rows that no longer count. There may be more of them:
    /// another process has seen a newer set.
    fn count(&self, chain: &BackupChain, copy: Option<&LocalCopy>) -> Option<usize> {
        let is_same = |(number, (known, set)): &(usize, (&KnownSet, &BackupSet))| {
            known.position == *number as i64 && known.identity == identity(set)
        };
        let same = self.sets.iter().zip(chain.sets()).enumerate().take_while(is_same).count();
        let others =
            self.sets.get(same..chain.sets().len().min(self.sets.len())).unwrap_or_default();
        let counts = self
            .sets
            .iter()
            .zip(chain.sets())
            .take(same)
            .all(|(known, set)| known.counts(set, copy));
        (counts && others.iter().all(|other| !other.is_filled)).then_some(same)
    }
}

/// Reads all that is known of chains, by one statement.
fn known(connection: &Connection) -> Result<Vec<Known>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT chains.id, full_time, sets.id, position, sets.identity, first_version IS NOT NULL, source, distrusted.identity IS NOT NULL
         FROM chains LEFT JOIN sets ON sets.chain = chains.id LEFT JOIN distrusted ON distrusted.identity = sets.identity
         ORDER BY chains.id, position",
    )?;
    let mut rows = statement.query([])?;
    let mut chains: Vec<Known> = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if chains.last().is_none_or(|last| last.id != id) {
            chains.push(Known { id, full_time: row.get(1)?, sets: Vec::new() });
        }
        if let (Some(chain), Some(id)) = (chains.last_mut(), row.get(2)?) {
            chain.sets.push(KnownSet {
                id,
                position: row.get(3)?,
                identity: row.get(4)?,
                is_filled: row.get(5)?,
                source: Source::of_column(row.get(6)?),
                is_distrusted: row.get(7)?,
            });
        }
    }
    Ok(chains)
}

/// Returns the chains of a collection with their numbers, if the database has these, and nothing
/// else.
pub(super) fn find(
    connection: &Connection,
    collection: &Collection,
    copy: Option<&LocalCopy>,
    generation: u64,
) -> Result<Option<Vec<Arc<Chain>>>, Error> {
    let known = known(connection)?;
    let by_time: HashMap<i64, &Known> =
        known.iter().map(|known| (known.full_time, known)).collect();
    let chains = collection
        .chains
        .iter()
        .filter_map(|chain| Some((chain, chain.sets().first()?.end().seconds())));
    let chains: Option<Vec<_>> = chains
        .map(|(chain, time)| {
            let known = by_time.get(&time)?;
            (known.count(chain, copy) == Some(chain.sets().len()))
                .then(|| make(known, chain.sets(), generation))
        })
        .collect();
    Ok(chains.filter(|chains| chains.len() == known.len()))
}

fn make(known: &Known, chain: &[BackupSet], generation: u64) -> Arc<Chain> {
    let sets = known.sets.iter().take_while(|set| set.is_filled).count().min(chain.len()) as u32;
    Arc::new(Chain {
        id: known.id,
        numbers: known.sets.iter().take(chain.len()).map(|set| set.id).collect(),
        sets: chain.to_vec(),
        filled: Mutex::new(Filled { sets, generation }),
        progress: Progress::new(sets),
        is_void: AtomicBool::new(false),
    })
}

/// Gives each chain and set of a collection its number, and drops the rows of chains that are gone
/// or have changed.
pub(super) fn assign(
    connection: &Connection,
    collection: &Collection,
    copy: Option<&LocalCopy>,
    generation: u64,
) -> Result<Vec<Arc<Chain>>, Error> {
    let by_time: HashMap<i64, &BackupChain> = collection
        .chains
        .iter()
        .filter_map(|chain| Some((chain.sets().first()?.end().seconds(), chain)))
        .collect();
    let mut kept: HashMap<i64, (Known, usize)> = HashMap::new(); // by full time, with the count of its sets that are the same
    for known in known(connection)? {
        match by_time.get(&known.full_time).and_then(|chain| known.count(chain, copy)) {
            Some(count) if !kept.contains_key(&known.full_time) => {
                kept.insert(known.full_time, (known, count));
            }
            _ => drop_chain(connection, known.id)?,
        }
    }
    let mut chains = Vec::new();
    for chain in &collection.chains {
        let Some(full) = chain.sets().first() else { continue };
        let full_time = full.end().seconds();
        let (mut known, count) = match kept.remove(&full_time) {
            Some(kept) => kept,
            None => (new_chain(connection, full_time)?, 0),
        };
        if count < chain.sets().len() {
            connection.execute(
                "DELETE FROM sets WHERE chain = ?1 AND position >= ?2",
                (known.id, count as i64),
            )?;
            known.sets.truncate(count);
            add_sets(connection, &mut known, chain.sets())?;
        }
        chains.push(make(&known, chain.sets(), generation));
    }
    Ok(chains)
}

/// Drops the rows of a chain, and returns the same chain under a new number and with new numbers of
/// its sets.
pub(super) fn renumber(
    connection: &Connection,
    chain: &Chain,
    generation: u64,
) -> Result<Arc<Chain>, Error> {
    drop_chain(connection, chain.id)?;
    let mut known =
        new_chain(connection, chain.sets.first().map_or(0, |full| full.end().seconds()))?;
    add_sets(connection, &mut known, &chain.sets)?;
    Ok(make(&known, &chain.sets, generation))
}

/// Gives numbers to those sets of a chain that have none.
fn add_sets(connection: &Connection, known: &mut Known, sets: &[BackupSet]) -> Result<(), Error> {
    for (position, set) in sets.iter().enumerate().skip(known.sets.len()) {
        let (id, position, identity) =
            (free_number(connection, "sets", MAX_SET)?, position as i64, identity(set));
        connection
            .prepare_cached(
                "INSERT INTO sets(id, chain, position, identity) VALUES(?1, ?2, ?3, ?4)",
            )?
            .execute((id, known.id, position, &identity))?;
        let source = Source::Signatures;
        known.sets.push(KnownSet {
            id,
            position,
            identity,
            is_filled: false,
            source,
            is_distrusted: false,
        });
    }
    Ok(())
}

fn new_chain(connection: &Connection, full_time: i64) -> Result<Known, Error> {
    let id = free_number(connection, "chains", MAX_CHAIN)?;
    drop_rows(connection, id)?;
    connection.execute("INSERT INTO chains(id, full_time) VALUES(?1, ?2)", (id, full_time))?;
    Ok(Known { id, full_time, sets: Vec::new() })
}

/// Returns a number for a new row: one that was never given out, as long as there are any, since
/// kernel and other processes may still know those of what is gone; then the least that is free.
fn free_number(connection: &Connection, table: &str, most: i64) -> Result<i64, Error> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?
        .query_row([table], |row| row.get(0))
        .optional()?;
    let next = last.unwrap_or(0) + 1;
    if next <= most {
        return Ok(next);
    }
    let gap = format!(
        "SELECT min(free) FROM (SELECT 1 AS free UNION ALL SELECT id + 1 FROM {table}) WHERE free NOT IN (SELECT id FROM {table})"
    );
    let free: i64 = connection.query_row(&gap, [], |row| row.get(0))?;
    if free <= most { Ok(free) } else { Err(Error::TooMany("backups")) }
}

/// Writes the numbers that chains and sets have into a database that may not know them; `false` if
/// it has given them to others.
pub(super) fn keep_numbers<C: Borrow<Chain>>(
    connection: &Connection,
    chains: &[C],
) -> Result<bool, Error> {
    let mut chain_row =
        connection.prepare_cached("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, ?2)")?;
    let mut is_chain =
        connection.prepare_cached("SELECT 1 FROM chains WHERE id = ?1 AND full_time = ?2")?;
    let mut set_row = connection.prepare_cached(
        "INSERT OR IGNORE INTO sets(id, chain, position, identity) VALUES(?1, ?2, ?3, ?4)",
    )?;
    let mut is_set = connection.prepare_cached(
        "SELECT 1 FROM sets WHERE id = ?1 AND chain = ?2 AND position = ?3 AND identity = ?4",
    )?;
    for chain in chains {
        let chain: &Chain = chain.borrow();
        let row = (chain.id, chain.sets.first().map_or(0, |full| full.end().seconds()));
        chain_row.execute(row)?;
        if !is_chain.exists(row)? {
            return Ok(false);
        }
        for (position, (set, id)) in chain.sets.iter().zip(&chain.numbers).enumerate() {
            let row = (id, chain.id, position as i64, identity(set));
            set_row.execute((row.0, row.1, row.2, &row.3))?;
            if !is_set.exists((row.0, row.1, row.2, &row.3))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Makes sure that numbers up to these are not given out again.
pub(super) fn keep_from_reuse(connection: &Connection, chain: i64, set: i64) -> Result<(), Error> {
    connection.execute("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, 0)", [chain])?;
    connection.execute("DELETE FROM chains WHERE id = ?1 AND full_time = 0", [chain])?;
    connection.execute(
        "INSERT OR IGNORE INTO sets(id, chain, position, identity) VALUES(?1, 0, 0, x'')",
        [set],
    )?;
    connection.execute("DELETE FROM sets WHERE id = ?1 AND chain = 0", [set])?;
    Ok(())
}

fn drop_chain(connection: &Connection, id: i64) -> Result<(), Error> {
    drop_rows(connection, id)?;
    connection.execute("DELETE FROM chains WHERE id = ?1", [id])?;
    Ok(())
}

/// Drops all rows under a chain's number but that of the chain itself.
fn drop_rows(connection: &Connection, id: i64) -> Result<(), Error> {
    let versions = (VersionId::new(id, 0), VersionId::new(id + 1, 0));
    let directories = (DirectoryId::new(id, 0), DirectoryId::new(id + 1, 0));
    let volumes =
        "volume IN (SELECT id FROM volumes WHERE set_id IN (SELECT id FROM sets WHERE chain = ?1))";
    connection.execute(&format!("DELETE FROM frames WHERE {volumes}"), [id])?;
    connection.execute(
        "DELETE FROM volumes WHERE set_id IN (SELECT id FROM sets WHERE chain = ?1)",
        [id],
    )?;
    connection.execute("DELETE FROM parts WHERE version >= ?1 AND version < ?2", versions)?;
    connection
        .execute("DELETE FROM source_stats WHERE version >= ?1 AND version < ?2", versions)?;
    connection.execute("DELETE FROM versions WHERE id >= ?1 AND id < ?2", versions)?;
    connection.execute("DELETE FROM directories WHERE id >= ?1 AND id < ?2", directories)?;
    connection.execute("DELETE FROM sets WHERE chain = ?1", [id])?;
    Ok(())
}
