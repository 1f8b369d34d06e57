//! [`Catalog`]: the chains of a collection and their rows, filled set by set.

use super::database::Database;
use super::fill::{Line, SetWriter};
use super::query::{self, MAX_CHAIN, MAX_POSITION, Owners};
use super::{Error, Snapshot, Version, VersionId};
use crate::codec::{self, Codec};
use crate::collection::{BackupChain, BackupSet, Collection, LocalCopy, SetFile};
use crate::format::{self, Encoding, Manifest, SignatureKind, SignatureMember, TarReader};
use crate::model::EntryPath;
use crate::monitor::{Level, Monitor};
use crate::storage::{ReadAt, Storage, StoredFile};
use crate::volume::{Event, VolumeKey, VolumeSource};
use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// How long a set or a volume that could not be read is left alone before it is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Lines that travel together from the thread that decodes a signature file to the one that writes rows.
const BATCH: usize = 512;
/// Batches that may wait for the writer, per signature file.
const WAITING: usize = 16;
/// Signature files that are decoded at the same time.
const AHEAD: usize = 2;
/// Manifests that are kept in memory.
const MANIFESTS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(16).unwrap();

/// Where the catalog lives and where its facts come from.
pub struct CatalogOptions {
    /// Directory for the database, made if missing; `None` keeps it in memory.
    pub directory: Option<PathBuf>,
    /// The stored files.
    pub storage: Arc<dyn Storage>,
    /// Decodes them.
    pub codec: Arc<Codec>,
    /// duplicity's archive directory, which is only read.
    pub local_copy: Option<LocalCopy>,
    /// Hears what is wrong with sets and volumes.
    pub monitor: Arc<dyn Monitor>,
}

/// What is where. All methods may be called from many threads at once.
pub struct Catalog {
    pub(super) database: Arc<Database>,
    pub(super) owners: Owners,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) codec: Arc<Codec>,
    local_copy: Option<LocalCopy>,
    pub(super) monitor: Arc<dyn Monitor>,
    chains: RwLock<Vec<Arc<Chain>>>,
    manifests: Mutex<lru::LruCache<i64, Arc<Manifest>>>,
    pub(super) busy_volumes: Mutex<HashMap<VolumeKey, Arc<Mutex<()>>>>,
    pub(super) bad_volumes: Mutex<HashMap<VolumeKey, (Instant, Arc<Error>)>>,
    said: Mutex<HashSet<String>>,
}

/// A backup chain with a number in the catalog.
pub struct Chain {
    /// Number from 1 to 1023.
    pub(super) id: i64,
    /// Its sets, full first: the index is the position.
    pub sets: Vec<BackupSet>,
    filled: Mutex<Filled>,
}

#[derive(Default)]
struct Filled {
    sets: u32,
    trouble: Option<(Instant, Arc<Error>)>,
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

impl Catalog {
    /// Opens the catalog, or goes on in memory where its file cannot be used; knows no chain yet.
    ///
    /// # Errors
    /// [`Error`] when not even memory can be had.
    pub fn open(options: CatalogOptions) -> Result<Self, Error> {
        let database = match options.directory.as_deref().map(Database::open) {
            Some(Ok(database)) => database,
            Some(Err(error)) => {
                options.monitor.message(Level::Warning, &format!("{error}; going on without a cache, which is slower"));
                Database::in_memory()?
            }
            None => Database::in_memory()?,
        };
        Ok(Self {
            database: Arc::new(database),
            owners: Owners::default(),
            storage: options.storage,
            codec: options.codec,
            local_copy: options.local_copy,
            monitor: options.monitor,
            chains: RwLock::default(),
            manifests: Mutex::new(lru::LruCache::new(MANIFESTS)),
            busy_volumes: Mutex::default(),
            bad_volumes: Mutex::default(),
            said: Mutex::default(),
        })
    }

    /// Takes over a new picture of the collection: known chains keep their ids, changed and vanished ones lose their rows.
    /// Returns the chains, oldest end first.
    ///
    /// # Errors
    /// [`Error`] when the database fails, or there are more chains or sets than ids.
    pub fn set_collection(&self, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
        let chains = self.sturdy(|| self.database.write(|connection| assign(connection, collection)))?;
        *self.chains.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = chains.clone();
        Ok(chains)
    }

    /// Returns the chains, oldest end first.
    pub fn chains(&self) -> Vec<Arc<Chain>> {
        self.chains.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Returns the chain with a number.
    pub fn chain(&self, number: u64) -> Option<Arc<Chain>> {
        self.chains.read().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().find(|chain| chain.number() == number).cloned()
    }

    /// Returns the store of outlines and seek points.
    pub fn outlines(&self) -> Arc<dyn crate::volume::OutlineStore> {
        self.database.clone()
    }

    /// Makes sure that the rows of all sets of a chain are there, up to the first that cannot be read; returns how many sets are.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory. A set that cannot be read is no error: the monitor hears of it.
    pub fn fill(&self, chain: &Chain) -> Result<u32, Error> {
        let mut filled = chain.filled.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let recent = filled.trouble.as_ref().is_some_and(|(since, _)| since.elapsed() < TRY_AGAIN);
        if filled.sets as usize == chain.sets.len() || recent {
            return Ok(filled.sets);
        }
        let result = self.sturdy(|| {
            if self.database.is_in_memory() {
                filled.sets = self.database.read(|connection| filled_sets(connection, chain))?;
            }
            self.fill_from(chain, &mut filled.sets)
        });
        match result {
            Ok(()) => filled.trouble = None,
            Err(error @ (Error::Set { .. } | Error::Volume { .. } | Error::MissingVolume { .. })) => {
                let lost = chain.sets.get(filled.sets as usize..).unwrap_or_default();
                let times: Vec<String> = lost.iter().map(|set| set.end().to_string()).collect();
                self.say_once(Level::Error, format!("cannot show the backups of {}: {error}", times.join(", ")));
                filled.trouble = Some((Instant::now(), Arc::new(error)));
            }
            Err(error) => return Err(error),
        }
        Ok(filled.sets)
    }

    /// Returns how many sets of a chain can be shown as far as is known by now: all, until one turns out to be unreadable.
    pub fn usable(&self, chain: &Chain) -> usize {
        match chain.filled.try_lock() {
            Ok(filled) if filled.trouble.is_some() => filled.sets as usize,
            _ => chain.sets.len(),
        }
    }

    /// Returns the tree at the end of one set, if its rows are there or can be filled in.
    ///
    /// # Errors
    /// [`Error::Set`] when this set or one before it cannot be read.
    pub fn snapshot(&self, chain: &Arc<Chain>, position: u32) -> Result<Snapshot, Error> {
        let filled = self.fill(chain)?;
        if position < filled {
            return Ok(Snapshot { chain: chain.clone(), position });
        }
        match &chain.filled.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).trouble {
            Some((_, error)) => Err(Error::Again(error.clone())),
            None => Err(Error::Gone(format!("set {position} of a chain"))),
        }
    }

    /// Returns one version by its id.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        self.query(|connection, owners| query::by_id(connection, owners, id))
    }

    /// Returns the state that a path had before a version: what its delta applies to.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn version_before(&self, version: &Version) -> Result<Option<Version>, Error> {
        self.query(|connection, owners| query::before(connection, owners, version))
    }

    /// Returns the path of a directory.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn directory_path(&self, id: super::DirectoryId) -> Result<EntryPath, Error> {
        self.query(|connection, _| query::directory_path(connection, id))
    }

    /// Returns the directory above a directory; `None` for the source directory.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn parent(&self, id: super::DirectoryId) -> Result<Option<(super::DirectoryId, Vec<u8>)>, Error> {
        match id.is_root() {
            true => Ok(None),
            false => self.query(|connection, _| query::directory_name(connection, id)).map(Some),
        }
    }

    /// Returns the path of a version.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn path(&self, version: &Version) -> Result<EntryPath, Error> {
        if version.name.is_empty() {
            return Ok(EntryPath::root());
        }
        let parent = self.directory_path(version.directory)?;
        parent.join(&version.name).map_err(|invalid| Error::Gone(invalid.to_string()))
    }

    /// Returns the numbers of all versions of a set, half-open; they ascend in path order.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn versions_of(&self, chain: &Chain, position: u32) -> Result<Range<u64>, Error> {
        self.query(|connection, _| {
            Ok(connection.query_row(
                "SELECT first_version, end_version FROM sets WHERE id = ?1",
                [chain.set_id(position)],
                |row| Ok(row.get::<_, i64>(0)? as u64..row.get::<_, i64>(1)? as u64),
            )?)
        })
    }

    /// Returns the manifest of a set.
    ///
    /// # Errors
    /// [`Error::Set`] when it cannot be read or makes no sense.
    pub fn manifest(&self, chain: &Chain, position: u32) -> Result<Arc<Manifest>, Error> {
        let key = chain.set_id(position);
        let lock = || self.manifests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(manifest) = lock().get(&key) {
            return Ok(manifest.clone());
        }
        let set = set_at(chain, position)?;
        let failed = |cause: Cause| Error::Set { what: format!("the manifest of set {}", set.end()), cause };
        let stored = set.manifest.as_ref().ok_or_else(|| failed("it is not in storage".into()))?;
        let parse = |file: Arc<dyn ReadAt>, encoding| -> Result<Manifest, Cause> {
            let decoder = self.codec.decode(file, encoding)?;
            Manifest::read(BufReader::with_capacity(64 * 1024, decoder)).map_err(typed)
        };
        let local = self.local_copy.as_ref().and_then(|copy| copy.manifest(set.session));
        let manifest = match local.and_then(|local| parse(Arc::new(local.file.clone()), local.encoding).ok()) {
            Some(manifest) => manifest,
            None => parse(Arc::new(self.stored(stored)), stored.encoding).map_err(failed)?,
        };
        let manifest = Arc::new(manifest);
        lock().put(key, manifest.clone());
        Ok(manifest)
    }

    /// Returns a volume for reading it; `hash` is what its manifest says, needed only for the first pass.
    ///
    /// # Errors
    /// [`Error::MissingVolume`] when it is not in storage.
    pub fn volume(&self, chain: &Chain, position: u32, number: u32) -> Result<VolumeSource, Error> {
        let set = set_at(chain, position)?;
        let stored = set.volumes.get(&number).ok_or(Error::MissingVolume { set: set.end(), number })?;
        Ok(VolumeSource {
            key: chain.volume_key(position, number),
            file: self.stored(stored),
            encoding: stored.encoding,
            hash: None,
        })
    }

    /// Says something, but only once in the life of this catalog.
    pub fn say_once(&self, level: Level, text: String) {
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !said.contains(&text) {
            self.monitor.message(level, &text);
            // A storage that fails in ever new words must not fill the memory.
            if said.len() < 10_000 {
                said.insert(text);
            }
        }
    }

    pub(super) fn query<T>(&self, query: impl FnOnce(&Connection, &Owners) -> Result<T, Error>) -> Result<T, Error> {
        self.database.read(|connection| query(connection, &self.owners))
    }

    /// Runs `work`; when the database file is the trouble, goes on in memory and runs it again.
    pub(super) fn sturdy<T>(&self, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        match work() {
            Err(error) if error.is_trouble_with_file() && !self.database.is_in_memory() => {
                self.monitor.message(Level::Warning, &format!("{error}; going on without a cache, which is slower"));
                self.database.give_up_file()?;
                self.owners.clear();
                for chain in self.chains() {
                    // The chain that is being filled just now looks for itself.
                    if let Ok(mut filled) = chain.filled.try_lock() {
                        filled.sets = 0;
                    }
                }
                work()
            }
            result => result,
        }
    }

    fn stored(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }

    /// Fills the sets of a chain from `filled` on, a few signature files being decoded ahead.
    fn fill_from(&self, chain: &Chain, filled: &mut u32) -> Result<(), Error> {
        let first = *filled as usize;
        std::thread::scope(|scope| {
            let (mut receivers, mut started) = (std::collections::VecDeque::new(), first);
            for position in first..chain.sets.len() {
                while started < chain.sets.len() && started < position + AHEAD {
                    let (sender, receiver) = bounded(WAITING);
                    let number = started as u32;
                    scope.spawn(move || self.tell_lines(chain, number, &sender));
                    receivers.push_back(receiver);
                    started += 1;
                }
                let Some(receiver) = receivers.pop_front() else { break };
                self.database.write(|connection| write_set(connection, chain, position as u32, &receiver))?;
                *filled = position as u32 + 1;
            }
            Ok(())
        })
    }

    /// Sends the lines of one set, from its signature file or else from its volumes; at the end what went wrong.
    fn tell_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) {
        let result = match self.signature_lines(chain, position, sender) {
            Err(error @ Error::Set { .. }) if !is_locked(&error) => {
                let set = chain.sets.get(position as usize).map_or_else(String::new, |set| set.end().to_string());
                self.say_once(Level::Warning, format!("{error}; reading the volumes of set {set} instead"));
                // What came so far is void.
                let _ = sender.send(Message::Again);
                self.volume_lines(chain, position, sender)
            }
            result => result,
        };
        let _ = sender.send(Message::End(result));
    }

    fn signature_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) -> Result<(), Error> {
        let set = set_at(chain, position)?;
        let local = self.local_copy.as_ref().and_then(|copy| copy.signatures(set.session));
        if let Some(local) = local
            && self.decode_lines(set, Arc::new(local.file.clone()), local.encoding, sender).is_ok()
        {
            return Ok(());
        }
        let failed = |cause: Cause| Error::Set { what: format!("the signature file of set {}", set.end()), cause };
        let stored = set.signatures.as_ref().ok_or_else(|| failed("it is not in storage".into()))?;
        let _ = sender.send(Message::Again);
        let last = self.decode_lines(set, Arc::new(self.stored(stored)), stored.encoding, sender)?;
        if stored.encoding == Encoding::Plain {
            // Nothing else would tell that a plain file was cut: duplicity accepts one without trailer.
            let manifest = self.manifest(chain, position)?;
            let expected = manifest.volumes().last().map(|volume| &volume.last);
            if expected.is_some_and(|expected| last.as_ref() < Some(expected) && !expected.is_root()) {
                return Err(failed("it ends before the last path of the set".into()));
            }
        }
        Ok(())
    }

    /// Sends the lines of a signature file and returns its last path.
    fn decode_lines(
        &self,
        set: &BackupSet,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
        sender: &Sender<Message>,
    ) -> Result<Option<EntryPath>, Error> {
        let failed = |cause: Cause| Error::Set { what: format!("the signature file of set {}", set.end()), cause };
        let decoder = self.codec.decode(file, encoding).map_err(|error| failed(error.into()))?;
        let mut tar = TarReader::new(decoder);
        let mut batch = Batch::new(sender);
        let mut last = None;
        while let Some(header) = tar.next().map_err(|error| failed(typed(error)))? {
            let member = SignatureMember::parse(&header).map_err(|error| failed(error.into()))?;
            last = Some(member.path.clone());
            let entry = match member.kind {
                SignatureKind::Present(entry) => Some(entry),
                SignatureKind::Deleted => None,
            };
            batch.push(Line { path: member.path, entry });
        }
        // The end of the stream proves what came before it.
        std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(|error| failed(codec::Error::from(error).into()))?;
        batch.flush();
        Ok(last)
    }

    /// Sends the lines of a set as the headers in its volumes give them.
    fn volume_lines(&self, chain: &Chain, position: u32, sender: &Sender<Message>) -> Result<(), Error> {
        let set = set_at(chain, position)?;
        let manifest = self.manifest(chain, position)?;
        let mut batch = Batch::new(sender);
        let mut last: Option<EntryPath> = None;
        for volume in manifest.volumes() {
            let mut source = self.volume(chain, position, volume.number)?;
            source.hash = volume.hash;
            let listener = |event: Event<'_>| {
                if let Event::Member(member) = event
                    && last.as_ref() != Some(&member.path)
                {
                    last = Some(member.path.clone());
                    batch.push(Line { path: member.path.clone(), entry: member.entry.clone() });
                }
                ControlFlow::Continue(())
            };
            crate::volume::first_pass(&source, &self.codec, listener).map_err(|cause| Error::Volume { set: set.end(), cause })?;
        }
        batch.flush();
        Ok(())
    }
}

/// Why a stored file of a set cannot be read.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Takes the decoder's error out of a parser's.
fn typed(error: format::Error) -> Cause {
    match error {
        format::Error::Read { source, .. } | format::Error::Stream(source) => codec::Error::from(source).into(),
        error => error.into(),
    }
}

/// Tells whether a set could be read if only there were the right key, so that nothing else of it can be read either.
fn is_locked(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<codec::Error>());
    cause.is_some_and(|error| {
        use codec::Cause::{NoPassphrase, NoSecretKey, Passphrase, WrongPassphrase};
        matches!(error.cause, NoPassphrase | WrongPassphrase | Passphrase(_) | NoSecretKey(_))
    })
}

/// What comes from the thread that decodes.
enum Message {
    Lines(Vec<Line>),
    /// The lines so far are void.
    Again,
    End(Result<(), Error>),
}

struct Batch<'a> {
    sender: &'a Sender<Message>,
    lines: Vec<Line>,
}

impl<'a> Batch<'a> {
    fn new(sender: &'a Sender<Message>) -> Self {
        Self { sender, lines: Vec::with_capacity(BATCH) }
    }

    fn push(&mut self, line: Line) {
        self.lines.push(line);
        if self.lines.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // The receiver is gone only when it has failed for a reason of its own.
        let _ = self.sender.send(Message::Lines(std::mem::replace(&mut self.lines, Vec::with_capacity(BATCH))));
    }
}

fn write_set(connection: &Connection, chain: &Chain, position: u32, receiver: &Receiver<Message>) -> Result<(), Error> {
    if filled_sets(connection, chain)? > position {
        return Ok(()); // another process was faster
    }
    let mut writer = SetWriter::new(connection, chain.id, position)?;
    loop {
        match receiver.recv() {
            Ok(Message::Lines(lines)) => lines.iter().try_for_each(|line| writer.add(line))?,
            Ok(Message::Again) => {
                let range = writer.finish();
                connection.execute(
                    "DELETE FROM versions WHERE id >= ?1 AND id < ?2",
                    (VersionId::new(chain.id, range.start), VersionId::new(chain.id, range.end)),
                )?;
                writer = SetWriter::new(connection, chain.id, position)?;
            }
            Ok(Message::End(result)) => {
                result?;
                break;
            }
            Err(_) => return Err(Error::Gone("the lines of a set".into())),
        }
    }
    let range = writer.finish();
    let set = set_at(chain, position)?;
    connection.execute(
        "INSERT OR REPLACE INTO sets(id, chain, position, identity, first_version, end_version) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        (chain.set_id(position), chain.id, position, identity(set), range.start, range.end),
    )?;
    Ok(())
}

pub(super) fn set_at(chain: &Chain, position: u32) -> Result<&BackupSet, Error> {
    chain.sets.get(position as usize).ok_or_else(|| Error::Gone(format!("set {position} of a chain")))
}

/// Tells a set from any other, without reading a file: names, sizes and time stamps of manifest and signature file.
fn identity(set: &BackupSet) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    for file in [&set.manifest, &set.signatures].into_iter().flatten() {
        hasher.update(file.listed.name.as_bytes()).update(&[0]);
        hasher.update(&file.listed.size.to_le_bytes()).update(&file.listed.stamp.to_le_bytes());
    }
    hasher.finalize().as_bytes().to_vec()
}

/// Returns how many sets of a chain have their rows, from the full on.
fn filled_sets(connection: &Connection, chain: &Chain) -> Result<u32, Error> {
    let count: u32 = connection.query_row("SELECT count(*) FROM sets WHERE chain = ?1", [chain.id], |row| row.get(0))?;
    Ok(count.min(chain.sets.len() as u32))
}

/// Gives each chain of a collection its number, and drops the rows of chains that are gone or have changed.
fn assign(connection: &Connection, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
    let mut kept: HashMap<i64, i64> = HashMap::new(); // full time to chain
    let mut statement = connection.prepare("SELECT id, full_time FROM chains ORDER BY id")?;
    let rows: Vec<(i64, i64)> = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (id, full_time) in rows {
        let same =
            collection.chains.iter().find(|chain| chain.sets().first().is_some_and(|full| full.end().seconds() == full_time));
        match same.map(|chain| still_holds(connection, id, chain)).transpose()? {
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
        let filled = Filled { sets: filled_sets(connection, &chain)?, trouble: None };
        chain.filled = Mutex::new(filled);
        chains.push(Arc::new(chain));
    }
    Ok(chains)
}

/// Returns a number for a new chain: one that was never given out, as long as there are any; kernel and other processes may
/// still know the old ones.
fn new_chain(connection: &Connection, full_time: i64) -> Result<i64, Error> {
    connection.execute("INSERT INTO chains(full_time) VALUES(?1)", [full_time])?;
    let id = connection.last_insert_rowid();
    if id <= MAX_CHAIN {
        return Ok(id);
    }
    connection.execute("DELETE FROM chains WHERE id = ?1", [id])?;
    for id in 1..=MAX_CHAIN {
        if connection.execute("INSERT OR IGNORE INTO chains(id, full_time) VALUES(?1, ?2)", (id, full_time))? == 1 {
            return Ok(id);
        }
    }
    Err(Error::TooMany("chains"))
}

/// Tells whether the sets in the catalog are those of a chain, unchanged.
fn still_holds(connection: &Connection, id: i64, chain: &BackupChain) -> Result<bool, Error> {
    let mut statement = connection.prepare("SELECT identity FROM sets WHERE chain = ?1 ORDER BY position")?;
    let identities: Vec<Vec<u8>> = statement.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // More of them only mean that another process has seen a newer set.
    Ok(identities.iter().zip(chain.sets()).all(|(known, set)| *known == identity(set)))
}

fn drop_chain(connection: &Connection, id: i64) -> Result<(), Error> {
    let volumes = (id << 48, (id + 1) << 48);
    let versions = (VersionId::new(id, 0), VersionId::new(id + 1, 0));
    let directories = (super::DirectoryId::new(id, 0), super::DirectoryId::new(id + 1, 0));
    connection.execute("DELETE FROM frames WHERE volume >= ?1 AND volume < ?2", volumes)?;
    connection.execute("DELETE FROM volumes WHERE id >= ?1 AND id < ?2", volumes)?;
    connection.execute("DELETE FROM parts WHERE version >= ?1 AND version < ?2", versions)?;
    connection.execute("DELETE FROM versions WHERE id >= ?1 AND id < ?2", versions)?;
    connection.execute("DELETE FROM directories WHERE id >= ?1 AND id < ?2", directories)?;
    connection.execute("DELETE FROM sets WHERE chain = ?1", [id])?;
    connection.execute("DELETE FROM chains WHERE id = ?1", [id])?;
    Ok(())
}
