//! [`Catalog`]: the chains of a collection and their rows, filled set by set.

use super::chains::{Chain, assign, filled_sets, keep_numbers};
use super::database::Database;
use super::lines::{Cause, is_locked, typed};
use super::query::{self, Owners};
use super::{Error, Snapshot, Version, VersionId};
use crate::codec::{Codec, Decoder};
use crate::collection::{BackupSet, Collection, LocalCopy, SetFile};
use crate::format::{self, Encoding, FileChange, Manifest};
use crate::model::EntryPath;
use crate::monitor::{Level, Monitor};
use crate::storage::{ReadAt, Storage, StoredFile};
use crate::volume::{VolumeKey, VolumeSource};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

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
    local_copy: RwLock<Option<Arc<LocalCopy>>>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) chains: RwLock<Vec<Arc<Chain>>>,
    /// The highest number that a chain has had; lower ones are not given out again.
    pub(super) most_chain: AtomicI64,
    manifests: Mutex<lru::LruCache<i64, Arc<Manifest>>>,
    pub(super) busy_volumes: Mutex<HashMap<VolumeKey, Arc<Mutex<()>>>>,
    /// Volumes that are damaged, until another listing: a storage that fails damages nothing.
    pub(super) bad_volumes: Mutex<HashMap<VolumeKey, Arc<Error>>>,
    /// Identities of sets whose signature files are not to be believed, beside those in the database.
    pub(super) distrusted: Mutex<HashSet<Vec<u8>>>,
    said: Mutex<HashSet<String>>,
    /// Finds tables instead of the codec.
    #[cfg(test)]
    pub(super) tables: Option<Box<super::testing::ReadTable>>,
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
            local_copy: RwLock::new(options.local_copy.map(Arc::new)),
            monitor: options.monitor,
            chains: RwLock::default(),
            most_chain: AtomicI64::new(0),
            manifests: Mutex::new(lru::LruCache::new(MANIFESTS)),
            busy_volumes: Mutex::default(),
            bad_volumes: Mutex::default(),
            distrusted: Mutex::default(),
            said: Mutex::default(),
            #[cfg(test)]
            tables: None,
        })
    }

    /// Takes over a new picture of the collection: known chains keep their ids, changed and vanished ones lose their rows.
    /// Returns the chains, oldest end first.
    ///
    /// # Errors
    /// [`Error`] when the database fails, or there are more chains or sets than ids.
    pub fn set_collection(&self, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
        let copy = self.local_copy();
        let chains = self.sturdy(|| {
            self.database.write(|connection| assign(connection, collection, copy.as_deref(), self.database.generation()))
        })?;
        // What was known, or wrong, of a set that was replaced does not hold for the new one.
        self.manifests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        self.bad_volumes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        let most = chains.iter().map(|chain| chain.id).max().unwrap_or(0);
        self.most_chain.fetch_max(most, Ordering::Relaxed);
        *self.chains.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = chains.clone();
        Ok(chains)
    }

    /// Takes over a new picture of duplicity's archive directory.
    pub fn set_local_copy(&self, copy: LocalCopy) {
        *self.local_copy.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Arc::new(copy));
    }

    pub(super) fn local_copy(&self) -> Option<Arc<LocalCopy>> {
        self.local_copy.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
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
        Ok(self.fill_as_far(chain)?.0)
    }

    /// As [`Catalog::fill`]; returns also why the next set cannot be read. Damage is remembered, until the storage is listed anew; a failure
    /// of the storage is not.
    fn fill_as_far(&self, chain: &Chain) -> Result<(u32, Option<Arc<Error>>), Error> {
        let mut filled = chain.filled.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        filled.look(self.database.generation());
        if filled.sets as usize == chain.sets.len() || filled.trouble.is_some() {
            return Ok((filled.sets, filled.trouble.clone()));
        }
        let result = self.sturdy(|| {
            filled.generation = self.database.generation();
            filled.sets = self.database.read(|connection| filled_sets(connection, chain))?;
            self.fill_from(chain, &mut filled.sets)
        });
        let trouble = match result {
            Ok(()) => None,
            Err(error @ (Error::Set { .. } | Error::Volume { .. } | Error::MissingVolume { .. })) => {
                let lost = chain.sets.get(filled.sets as usize..).unwrap_or_default();
                let times: Vec<String> = lost.iter().map(|set| set.end().to_string()).collect();
                let is_passing = error.is_passing();
                // Without the key nothing can be read at all: whoever asked gets the error, and that is enough.
                if !is_locked(&error) {
                    let verb = if is_passing { "read" } else { "show" };
                    self.say_once(Level::Error, format!("cannot {verb} the backups of {}: {error}", times.join(", ")));
                }
                let error = Arc::new(error);
                filled.trouble = (!is_passing).then(|| error.clone());
                Some(error)
            }
            Err(error) => {
                // Next time it is looked up anew which sets are there.
                filled.sets = 0;
                return Err(error);
            }
        };
        filled.look(self.database.generation());
        Ok((filled.sets, trouble))
    }

    /// Returns how many sets of a chain can be shown as far as is known by now: all, until one turns out to be damaged.
    pub fn usable(&self, chain: &Chain) -> usize {
        match chain.filled.try_lock() {
            Ok(filled) if filled.trouble.is_some() => filled.sets as usize,
            _ => chain.sets.len(),
        }
    }

    /// Tells whether the rows of all sets of a chain are there.
    pub fn is_filled(&self, chain: &Chain) -> bool {
        chain.filled.try_lock().is_ok_and(|mut filled| {
            filled.look(self.database.generation());
            filled.sets as usize == chain.sets.len()
        })
    }

    /// Returns the tree at the end of one set, if its rows are there or can be filled in.
    ///
    /// # Errors
    /// [`Error::Set`] when this set or one before it cannot be read.
    pub fn snapshot(&self, chain: &Arc<Chain>, position: u32) -> Result<Snapshot, Error> {
        match self.fill_as_far(chain)? {
            (filled, _) if position < filled => Ok(Snapshot { chain: chain.clone(), position }),
            (_, Some(error)) => Err(Error::Again(error)),
            (_, None) => Err(Error::Gone(format!("set {position} of a chain"))),
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

    /// Returns the manifest of a set: the stored one, or where that is encrypted a copy at hand, if it describes all volumes that are stored.
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
        let stored = || self.stored_manifest(chain, position, Manifest::read);
        let manifest = match set.manifest.as_ref().is_some_and(|stored| stored.encoding != Encoding::OpenPgp) {
            true => stored().or_else(|error| self.local_manifest(chain, position, Manifest::read)?.ok_or(error))?,
            false => {
                let local = self.local_manifest(chain, position, Manifest::read)?;
                local.filter(|local| undescribed(set, local).is_none()).map_or_else(stored, Ok)?
            }
        };
        let manifest = Arc::new(manifest);
        lock().put(key, manifest.clone());
        Ok(manifest)
    }

    /// Tells the regular files that a set brought, changed or deleted, if its manifest has a list of them.
    ///
    /// # Errors
    /// [`Error::Set`] when the manifest cannot be read or makes no sense; some files may have been told then.
    pub fn changed_files(&self, chain: &Chain, position: u32, mut tell: impl FnMut(FileChange, &EntryPath)) -> Result<(), Error> {
        // A local copy is read to its end before anything of it is told, since the stored manifest takes its place if it breaks off.
        let is_whole = self.local_manifest(chain, position, |stream| Manifest::read_list(stream, |_, _| {}))?.is_some();
        let told = match is_whole {
            true => self.local_manifest(chain, position, |stream| Manifest::read_list(stream, &mut tell))?,
            false => None,
        };
        told.map_or_else(|| self.stored_manifest(chain, position, |stream| Manifest::read_list(stream, &mut tell)), Ok)
    }

    /// Reads the manifest in duplicity's archive directory; `None` if it is not there or cannot be read.
    fn local_manifest<T>(
        &self,
        chain: &Chain,
        position: u32,
        read: impl FnOnce(BufReader<Decoder>) -> Result<T, format::Error>,
    ) -> Result<Option<T>, Error> {
        let (set, copy) = (set_at(chain, position)?, self.local_copy());
        let local = copy.as_ref().and_then(|copy| copy.manifest(set.session));
        Ok(local.and_then(|local| self.read_manifest(Arc::new(local.file.clone()), local.encoding, read).ok()))
    }

    /// Reads the manifest in storage.
    fn stored_manifest<T>(
        &self,
        chain: &Chain,
        position: u32,
        read: impl FnOnce(BufReader<Decoder>) -> Result<T, format::Error>,
    ) -> Result<T, Error> {
        let set = set_at(chain, position)?;
        let failed = |cause: Cause| Error::Set { what: format!("the manifest of set {}", set.end()), cause };
        let stored = set.manifest.as_ref().ok_or_else(|| failed("it is not in storage".into()))?;
        self.read_manifest(Arc::new(self.stored(stored)), stored.encoding, read).map_err(failed)
    }

    /// Opens the signature file of a set in storage, whatever the archive directory holds.
    ///
    /// # Errors
    /// [`Error::Set`] when it is missing, cannot be decoded, or has been contradicted by the set's volumes.
    pub fn signatures(&self, chain: &Chain, position: u32) -> Result<Decoder, Error> {
        let set = set_at(chain, position)?;
        let failed = |cause: Cause| Error::Set { what: format!("the signature file of set {}", set.end()), cause };
        if self.is_distrusted(set)? {
            return Err(failed("the set's volumes hold something else".into()));
        }
        let stored = set.signatures.as_ref().ok_or_else(|| failed("it is not in storage".into()))?;
        self.codec.decode(Arc::new(self.stored(stored)), stored.encoding).map_err(|error| failed(error.into()))
    }

    fn read_manifest<T>(
        &self,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
        read: impl FnOnce(BufReader<Decoder>) -> Result<T, format::Error>,
    ) -> Result<T, Cause> {
        read(BufReader::with_capacity(64 * 1024, self.codec.decode(file, encoding)?)).map_err(typed)
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

    /// Derives the session keys of encrypted files together, which takes a fraction of the time of one by one. What goes wrong is
    /// told when a file is decoded.
    pub fn unlock<'a>(&self, files: impl Iterator<Item = &'a SetFile>) {
        let encrypted = files.filter(|file| file.encoding == Encoding::OpenPgp);
        let files: Vec<Arc<dyn ReadAt>> = encrypted.map(|file| Arc::new(self.stored(file)) as Arc<dyn ReadAt>).collect();
        self.codec.unlock(&files);
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
        let result = self.database.read(|connection| query(connection, &self.owners));
        if let Err(error) = &result
            && error.is_broken_file()
        {
            // This answer is lost, but the next one need not be.
            self.start_over(error)?;
        }
        result
    }

    /// Runs `work`; when the database file is the trouble, starts over without it and runs it again.
    pub(super) fn sturdy<T>(&self, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        match work() {
            Err(error) if (error.is_trouble_with_file() || error.is_broken_file()) && !self.database.is_in_memory() => {
                self.start_over(&error)?;
                work()
            }
            result => result,
        }
    }

    fn start_over(&self, error: &Error) -> Result<(), Error> {
        self.database.start_over(error.is_broken_file())?;
        let what = match self.database.is_in_memory() {
            true => "going on without a cache, which is slower",
            false => "filling it anew",
        };
        self.monitor.message(Level::Warning, &format!("{error}; {what}"));
        self.owners.clear();
        // Caches and the kernel know the numbers of today's chains, and of those that went.
        let (chains, most) = (self.chains(), self.most_chain.load(Ordering::Relaxed));
        self.database.write(|connection| keep_numbers(connection, &chains, most))
    }

    pub(super) fn stored(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }
}

/// Returns the number of a volume that is stored, and that a manifest does not describe.
pub(super) fn undescribed(set: &BackupSet, manifest: &Manifest) -> Option<u32> {
    set.volumes.keys().copied().find(|&number| manifest.volume(number).is_none())
}

pub(super) fn set_at(chain: &Chain, position: u32) -> Result<&BackupSet, Error> {
    chain.sets.get(position as usize).ok_or_else(|| Error::Gone(format!("set {position} of a chain")))
}
