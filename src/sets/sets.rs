//! [`Sets`]: the sets of a collection, their rows filled in when somebody asks for them.

use super::Error;
use crate::catalog::{self, Catalog, Chain, DirectoryId, Rows, Version, VersionId};
use crate::codec::Codec;
use crate::collection::{Collection, LocalCopy, SetFile};
use crate::format::Manifest;
use crate::model::EntryPath;
use crate::monitor::{Level, Monitor};
use crate::storage::{Abilities, Storage, StoredFile};
use crate::volume::{VolumeKey, VolumeSource};
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How often a chain is filled again because the catalog had to start over.
const ATTEMPTS: usize = 8;
/// Manifests that are kept in memory.
pub(super) const MANIFESTS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(256).unwrap();

/// Where the catalog lives and where its facts come from.
pub struct SetsOptions {
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

/// How many sets of a chain have their rows, and why the next one has none.
type Filling = (u32, Option<Arc<Error>>);

/// The sets of a collection. All methods may be called from many threads at once.
pub struct Sets {
    pub(super) catalog: Catalog,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) codec: Arc<Codec>,
    local_copy: RwLock<Option<Arc<LocalCopy>>>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) manifests: Mutex<lru::LruCache<i64, Arc<Manifest>>>,
    pub(super) busy_volumes: Mutex<HashMap<VolumeKey, Arc<Mutex<()>>>>,
    /// Sets that are damaged, by their numbers, until another listing: they have no rows, and
    /// neither have those after them. A storage that fails damages nothing.
    bad_sets: Mutex<HashMap<u64, Arc<Error>>>,
    /// Volumes that are damaged, likewise.
    pub(super) bad_volumes: Mutex<HashMap<VolumeKey, Arc<Error>>>,
    /// Volumes in which no table was found that fits, until another listing.
    pub(super) without_table: Mutex<HashSet<VolumeKey>>,
    /// Identities of sets whose signature files are not to be believed, beside those in the
    /// catalog.
    pub(super) distrusted: Mutex<HashSet<Vec<u8>>>,
    /// Identities of sets that this process has stored itself, with the copies in the archive
    /// directory: these are what is stored.
    pub(super) written: Mutex<HashSet<Vec<u8>>>,
    /// The same of sets whose manifests in the archive directory are not those of their volumes.
    pub(super) false_copies: Mutex<HashSet<Vec<u8>>>,
    logged: Mutex<HashSet<String>>,
    /// Finds tables instead of the codec.
    #[cfg(test)]
    pub(super) tables: Option<Box<super::testing::ReadTable>>,
}

impl Sets {
    /// Opens the catalog, or goes on in memory where its file cannot be used; knows no chain yet.
    ///
    /// # Errors
    /// [`Error`] when not even memory can be had.
    pub fn open(options: SetsOptions) -> Result<Self, Error> {
        let catalog = Catalog::open(options.directory.as_deref(), options.monitor.clone())?;
        Ok(Self {
            catalog,
            storage: options.storage,
            codec: options.codec,
            local_copy: RwLock::new(options.local_copy.map(Arc::new)),
            monitor: options.monitor,
            manifests: Mutex::new(lru::LruCache::new(MANIFESTS)),
            busy_volumes: Mutex::default(),
            bad_sets: Mutex::default(),
            bad_volumes: Mutex::default(),
            without_table: Mutex::default(),
            distrusted: Mutex::default(),
            written: Mutex::default(),
            false_copies: Mutex::default(),
            logged: Mutex::default(),
            #[cfg(test)]
            tables: None,
        })
    }

    /// Returns the catalog, which knows the chains by their numbers.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Takes over a new picture of the collection: see [`Catalog::set_collection`].
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn set_collection(&self, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
        let chains = self.catalog.set_collection(collection, self.local_copy().as_deref())?;
        // What was known, or wrong, of a set that was replaced does not hold for the new one.
        self.manifests.lock().clear();
        self.bad_sets.lock().clear();
        self.bad_volumes.lock().clear();
        self.without_table.lock().clear();
        Ok(chains)
    }

    /// Takes over a new picture of duplicity's archive directory.
    pub fn set_local_copy(&self, copy: LocalCopy) {
        *self.local_copy.write() = Some(Arc::new(copy));
    }

    pub(super) fn local_copy(&self) -> Option<Arc<LocalCopy>> {
        self.local_copy.read().clone()
    }

    pub(super) fn chain_of(&self, number: u64) -> Result<Arc<Chain>, Error> {
        let gone = || catalog::Error::Gone(format!("chain {number}"));
        Ok(self.catalog.chain(number).ok_or_else(gone)?)
    }

    /// Makes sure that the rows of all sets of a chain are there, up to the first that cannot be
    /// read; returns how many sets are.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory. A set that cannot be read is no error: the
    /// monitor hears of it.
    pub fn fill(&self, chain: &Chain) -> Result<u32, Error> {
        Ok(self.fill_as_far(chain, chain.sets.len() as u32)?.0)
    }

    /// As [`Sets::fill`], for the first sets of the chain; returns also why the next one cannot be
    /// read. Damage is remembered, until the storage is listed anew; a failure of the storage is not.
    fn fill_as_far(&self, chain: &Chain, sets: u32) -> Result<Filling, Error> {
        let sets = sets.min(chain.sets.len() as u32);
        let mut attempts = 0..ATTEMPTS;
        loop {
            match self.try_to_fill(chain, sets)? {
                Some(filled) => return Ok(filled),
                None if attempts.next().is_none() => return Err(catalog::Error::Lost.into()),
                None => {}
            }
        }
    }

    /// Returns `None` when the catalog has started over meanwhile.
    fn try_to_fill(&self, chain: &Chain, sets: u32) -> Result<Option<Filling>, Error> {
        // Whoever fills the whole chain does not keep those waiting who need less.
        let turn = chain.progress.turn(sets, self.catalog.generation());
        let Some((_turn, sets)) = turn else { return Ok(Some((sets, None))) };
        let mut filled = chain.filled.lock();
        filled.look(self.catalog.generation());
        if filled.sets >= sets {
            return Ok(Some((filled.sets, None)));
        }
        if let Some(trouble) = self.bad_sets.lock().get(&chain.set_number(filled.sets)) {
            return Ok(Some((filled.sets, Some(trouble.clone()))));
        }
        let result = self.catalog.sturdy(|generation| {
            filled.generation = generation;
            filled.sets = self.catalog.filled_sets(chain)?;
            self.fill_from(chain, sets, generation, &mut filled.sets)
        });
        let trouble = match result {
            Ok(()) => None,
            Err(
                error @ (Error::Set { .. } | Error::Volume { .. } | Error::MissingVolume { .. }),
            ) => {
                let lost = chain.sets.get(filled.sets as usize..).unwrap_or_default();
                let times: Vec<String> = lost.iter().map(|set| set.end().to_string()).collect();
                let is_passing = error.is_passing();
                // Without the key nothing can be read at all: whoever asked gets the error, and
                // that is enough.
                if !error.is_locked() {
                    let verb = if is_passing { "read" } else { "show" };
                    self.log_once(
                        Level::Error,
                        format!("cannot {verb} the backups of {}: {error}", times.join(", ")),
                    );
                }
                let error = Arc::new(error);
                if !is_passing {
                    let set = chain.set_number(filled.sets);
                    self.bad_sets.lock().insert(set, error.clone());
                }
                Some(error)
            }
            Err(error) => {
                // Next time it is looked up anew which sets are there.
                filled.sets = 0;
                return Err(error);
            }
        };
        let is_current = filled.generation == self.catalog.generation();
        Ok(is_current.then_some((filled.sets, trouble)))
    }

    /// Returns how many sets of a chain can be shown as far as is known by now: all, until one
    /// turns out to be damaged.
    pub fn usable(&self, chain: &Chain) -> usize {
        self.bad_set(chain).map_or(chain.sets.len(), |(position, _)| position)
    }

    /// Returns the first damaged set of a chain.
    fn bad_set(&self, chain: &Chain) -> Option<(usize, Arc<Error>)> {
        let bad = self.bad_sets.lock();
        if bad.is_empty() {
            return None;
        }
        let known = |position: usize| {
            Some((position, bad.get(&chain.set_number(position as u32))?.clone()))
        };
        (0..chain.sets.len()).find_map(known)
    }

    /// Returns why backups of a chain cannot be shown, in a sentence, if that is for want of a key:
    /// [`fill`](Self::fill) says of all else.
    pub fn locked(&self, chain: &Chain) -> Option<String> {
        let (position, error) = self.bad_set(chain).filter(|(_, error)| error.is_locked())?;
        let lost = chain.sets.get(position..).unwrap_or_default();
        let times: Vec<String> = lost.iter().map(|set| set.end().to_string()).collect();
        Some(format!("cannot show the backups of {}: {error}", times.join(", ")))
    }

    /// Makes sure that the rows of a set are there.
    pub(super) fn fill_up_to(&self, chain: &Chain, position: u32) -> Result<(), Error> {
        match self.fill_as_far(chain, position.saturating_add(1))? {
            (filled, _) if position < filled => Ok(()),
            (_, Some(error)) => Err(Error::Again(error)),
            (_, None) if (position as usize) < chain.sets.len() => Err(catalog::Error::Lost.into()),
            (_, None) => Err(catalog::Error::Gone(format!("set {position} of a chain")).into()),
        }
    }

    /// Answers a question about rows of a chain that came with a set, or with those before it; fills
    /// them in again if the catalog has not kept them.
    pub(super) fn ask<T>(
        &self,
        chain: &Chain,
        position: u32,
        query: impl FnMut(&Rows<'_>) -> Result<T, catalog::Error>,
    ) -> Result<T, Error> {
        self.catalog.ask(chain, position, || self.fill_up_to(chain, position), query)
    }

    /// Keeps something that belongs to rows of a chain, as [`Sets::ask`] asks.
    pub(super) fn record(
        &self,
        chain: &Chain,
        position: u32,
        change: impl FnMut(&Rows<'_>) -> Result<(), catalog::Error>,
    ) -> Result<(), Error> {
        self.catalog.record(chain, position, || self.fill_up_to(chain, position), change)
    }

    /// Returns one version by its id.
    ///
    /// # Errors
    /// [`catalog::Error::Gone`] when the catalog no longer has it.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        self.ask(&*self.chain_of(id.chain())?, 0, |rows| rows.version(id))
    }

    /// Returns the state that a path had before a version: what its delta applies to.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn version_before(&self, version: &Version) -> Result<Option<Version>, Error> {
        let chain = self.chain_of(version.id.chain())?;
        self.ask(&chain, version.position, |rows| rows.before(version))
    }

    /// Returns the path of a directory.
    ///
    /// # Errors
    /// [`catalog::Error::Gone`] when the catalog no longer has it.
    pub fn directory_path(&self, id: DirectoryId) -> Result<EntryPath, Error> {
        self.ask(&*self.chain_of(id.chain())?, 0, |rows| rows.directory_path(id))
    }

    /// Returns the directory above a directory; `None` for the source directory.
    ///
    /// # Errors
    /// [`catalog::Error::Gone`] when the catalog no longer has it.
    pub fn parent(&self, id: DirectoryId) -> Result<Option<(DirectoryId, Vec<u8>)>, Error> {
        match id.is_root() {
            true => Ok(None),
            false => {
                let chain = self.chain_of(id.chain())?;
                self.ask(&chain, 0, |rows| rows.directory_name(id)).map(Some)
            }
        }
    }

    /// Returns the path of a version.
    ///
    /// # Errors
    /// [`catalog::Error::Gone`] when the catalog no longer has it.
    pub fn path(&self, version: &Version) -> Result<EntryPath, Error> {
        if version.name.is_empty() {
            return Ok(EntryPath::root());
        }
        let parent = self.directory_path(version.directory)?;
        parent
            .join(&version.name)
            .map_err(|invalid| catalog::Error::Gone(invalid.to_string()).into())
    }

    /// Returns the numbers of all versions of a set, half-open; they ascend in path order.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn versions_of(&self, chain: &Chain, position: u32) -> Result<Range<u64>, Error> {
        self.ask(chain, position, |rows| rows.versions_of(chain, position))
    }

    /// Returns a volume for reading it; `hash` is what its manifest says, needed only for the first
    /// pass.
    ///
    /// # Errors
    /// [`Error::MissingVolume`] when it is not in storage.
    pub fn volume(&self, chain: &Chain, position: u32, number: u32) -> Result<VolumeSource, Error> {
        let set = chain.set_at(position)?;
        let stored =
            set.volumes.get(&number).ok_or(Error::MissingVolume { set: set.end(), number })?;
        Ok(VolumeSource {
            key: chain.volume_key(position, number),
            file: self.stored(stored),
            encoding: stored.encoding,
            hash: None,
        })
    }

    /// Returns what the storage can do.
    pub fn abilities(&self) -> Abilities {
        self.storage.abilities()
    }

    /// Returns what decodes the stored files.
    pub fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    /// Returns whether each stored file has to be signed, which only a pass over it can prove.
    pub fn demands_signature(&self) -> bool {
        self.codec.demands_signature()
    }

    /// Says something, but only once in the life of this process.
    pub fn log_once(&self, level: Level, text: String) {
        let mut logged = self.logged.lock();
        if !logged.contains(&text) {
            self.monitor.message(level, &text);
            // A storage that fails in ever new words must not fill the memory.
            if logged.len() < 10_000 {
                logged.insert(text);
            }
        }
    }

    pub(super) fn stored(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }
}
