//! [`Catalog`]: the chains of a collection and their rows, filled set by set.

use super::at_hand::AtHand;
use super::chains::{Chain, assign, filled_sets, find, keep_from_reuse, keep_numbers, renumber};
use super::database::Database;
use super::query::{self, Owners, Tops};
use super::{Cause, Error, Version, VersionId};
use crate::codec::{self, Codec, Decoder, HEAD};
use crate::collection::{BackupSet, Collection, LocalCopy, SetFile};
use crate::format::{Encoding, FileChange, Manifest, ReadError};
use crate::model::EntryPath;
use crate::monitor::{Level, Monitor};
use crate::storage::{Abilities, ReadAt, Storage, StoredFile};
use crate::volume::{VolumeKey, VolumeSource};
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How often a question is asked again because the catalog had to start over.
const ATTEMPTS: usize = 3;
/// Manifests that are kept in memory, and how many bytes of them: 200,000 volumes.
const MANIFESTS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(256).unwrap();
const MANIFEST_BYTES: usize = 24 << 20;
/// Manifests that are read at once, and how long the longest of them is, in bytes: some 10,000
/// volumes.
const MANIFESTS_TOGETHER: usize = 16;
const MANIFEST: u64 = 1 << 20;

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
    known: RwLock<Known>,
    /// What is learnt by the way is no longer written: somebody keeps the database locked, or its
    /// disk is full.
    keeps_nothing: AtomicBool,
    manifests: Mutex<lru::LruCache<i64, Arc<Manifest>>>,
    pub(super) busy_volumes: Mutex<HashMap<VolumeKey, Arc<Mutex<()>>>>,
    /// Volumes that are damaged, until another listing: a storage that fails damages nothing.
    pub(super) bad_volumes: Mutex<HashMap<VolumeKey, Arc<Error>>>,
    /// Volumes in which no table was found that fits, until another listing.
    pub(super) without_table: Mutex<HashSet<VolumeKey>>,
    /// Identities of sets whose signature files are not to be believed, beside those in the
    /// database.
    pub(super) distrusted: Mutex<HashSet<Vec<u8>>>,
    /// Identities of sets that this process has stored itself, with the copies in the archive
    /// directory: these are what is stored.
    pub(super) written: Mutex<HashSet<Vec<u8>>>,
    /// The same of sets whose manifests in the archive directory are not those of their volumes.
    pub(super) false_copies: Mutex<HashSet<Vec<u8>>>,
    /// Held while a chain gets new numbers.
    voiding: Mutex<()>,
    said: Mutex<HashSet<String>>,
    /// Finds tables instead of the codec.
    #[cfg(test)]
    pub(super) tables: Option<Box<super::testing::ReadTable>>,
}

/// The chains by their numbers.
#[derive(Default)]
struct Known {
    /// Oldest end first.
    chains: Vec<Arc<Chain>>,
    by_number: HashMap<u64, Arc<Chain>>,
    /// Chain and position by the number of a set.
    sets: HashMap<u64, (Arc<Chain>, u32)>,
    /// The highest numbers that a chain and a set have had; lower ones are not given out again.
    most: (i64, i64),
}

impl Known {
    fn set(&mut self, chains: Vec<Arc<Chain>>) {
        self.by_number = chains.iter().map(|chain| (chain.number(), chain.clone())).collect();
        let sets = chains
            .iter()
            .flat_map(|chain| (0..chain.sets.len() as u32).map(move |position| (chain, position)));
        self.sets = sets
            .map(|(chain, position)| (chain.set_number(position), (chain.clone(), position)))
            .collect();
        let most = |numbers: &mut dyn Iterator<Item = i64>, so_far: i64| {
            numbers.max().unwrap_or(0).max(so_far)
        };
        self.most = (
            most(&mut chains.iter().map(|chain| chain.id), self.most.0),
            most(&mut chains.iter().flat_map(|chain| chain.numbers.iter().copied()), self.most.1),
        );
        self.chains = chains;
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
                options.monitor.message(
                    Level::Warning,
                    &format!("{error}; going on without a cache, which is slower"),
                );
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
            known: RwLock::default(),
            keeps_nothing: AtomicBool::new(false),
            manifests: Mutex::new(lru::LruCache::new(MANIFESTS)),
            busy_volumes: Mutex::default(),
            bad_volumes: Mutex::default(),
            without_table: Mutex::default(),
            distrusted: Mutex::default(),
            written: Mutex::default(),
            false_copies: Mutex::default(),
            voiding: Mutex::default(),
            said: Mutex::default(),
            #[cfg(test)]
            tables: None,
        })
    }

    /// Takes over a new picture of the collection: known chains keep their ids, changed and
    /// vanished ones lose their rows. Returns the chains, oldest end first.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn set_collection(&self, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
        let copy = self.local_copy();
        let copy = copy.as_deref();
        let chains = self.sturdy(|generation| {
            match self.database.read(|connection| find(connection, collection, copy, generation))? {
                Some(chains) => Ok(chains),
                None => self
                    .database
                    .write(|connection| assign(connection, collection, copy, generation)),
            }
        })?;
        // What was known, or wrong, of a set that was replaced does not hold for the new one.
        self.manifests.lock().clear();
        self.bad_volumes.lock().clear();
        self.without_table.lock().clear();
        self.known.write().set(chains.clone());
        Ok(chains)
    }

    /// Drops the rows of a chain, which are wrong, and gives it new numbers, so that no id changes
    /// its meaning; does nothing if that has been done already.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn void(&self, chain: &Chain) -> Result<(), Error> {
        let _turn = self.voiding.lock();
        if self.chain(chain.number()).is_none() || chain.is_void.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let renewed = self.sturdy(|generation| {
            self.database.write(|connection| renumber(connection, chain, generation))
        });
        let renewed = renewed.inspect_err(|_| chain.is_void.store(false, Ordering::Relaxed))?;
        let mut known = self.known.write();
        let same = |other: Arc<Chain>| if other.id == chain.id { renewed.clone() } else { other };
        let chains = std::mem::take(&mut known.chains).into_iter().map(same).collect();
        known.set(chains);
        Ok(())
    }

    /// Counts the questions to the database, and the changes.
    #[cfg(test)]
    pub(crate) fn questions(&self) -> u64 {
        self.database.uses()
    }

    /// Takes over a new picture of duplicity's archive directory.
    pub fn set_local_copy(&self, copy: LocalCopy) {
        *self.local_copy.write() = Some(Arc::new(copy));
    }

    pub(super) fn local_copy(&self) -> Option<Arc<LocalCopy>> {
        self.local_copy.read().clone()
    }

    /// Returns the chains, oldest end first.
    pub fn chains(&self) -> Vec<Arc<Chain>> {
        self.known().chains.clone()
    }

    /// Returns the chain with a number.
    pub fn chain(&self, number: u64) -> Option<Arc<Chain>> {
        self.known().by_number.get(&number).cloned()
    }

    /// Returns the chain of the set with a number, and its position there.
    pub fn set(&self, number: u64) -> Option<(Arc<Chain>, u32)> {
        self.known().sets.get(&number).cloned()
    }

    pub(super) fn chain_of(&self, number: u64) -> Result<Arc<Chain>, Error> {
        self.chain(number).ok_or_else(|| Error::Gone(format!("chain {number}")))
    }

    fn known(&self) -> parking_lot::RwLockReadGuard<'_, Known> {
        self.known.read()
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

    /// As [`Catalog::fill`], for the first sets of the chain; returns also why the next one cannot be
    /// read. Damage is remembered, until the storage is listed anew; a failure of the storage is not.
    fn fill_as_far(&self, chain: &Chain, sets: u32) -> Result<(u32, Option<Arc<Error>>), Error> {
        // Whoever fills the whole chain does not keep those waiting who need less.
        let turn = chain.progress.turn(sets, self.database.generation());
        let Some((_turn, sets)) = turn else { return Ok((sets, None)) };
        let mut filled = chain.filled.lock();
        filled.look(self.database.generation());
        if filled.sets >= sets || filled.trouble.is_some() {
            return Ok((filled.sets, filled.trouble.clone()));
        }
        let result = self.sturdy(|generation| {
            filled.generation = generation;
            filled.sets = self.database.read(|connection| filled_sets(connection, chain))?;
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

    /// Returns how many sets of a chain can be shown as far as is known by now: all, until one
    /// turns out to be damaged.
    pub fn usable(&self, chain: &Chain) -> usize {
        match chain.filled.try_lock() {
            Some(filled) if filled.trouble.is_some() => filled.sets as usize,
            _ => chain.sets.len(),
        }
    }

    /// Returns why backups of a chain cannot be shown, in a sentence, if that is for want of a key:
    /// [`fill`](Self::fill) says of all else.
    pub fn locked(&self, chain: &Chain) -> Option<String> {
        let filled = chain.filled.lock();
        let error = filled.trouble.as_ref().filter(|error| error.is_locked())?;
        let lost = chain.sets.get(filled.sets as usize..).unwrap_or_default();
        let times: Vec<String> = lost.iter().map(|set| set.end().to_string()).collect();
        Some(format!("cannot show the backups of {}: {error}", times.join(", ")))
    }

    /// Returns what stands at the tops of chains, as far as their rows are there: by one question,
    /// however many there are.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn tops(&self) -> Result<Tops, Error> {
        self.sturdy(|_| self.database.read(query::tops))
    }

    /// Makes sure that the rows of a set are there.
    pub(super) fn fill_up_to(&self, chain: &Chain, position: u32) -> Result<(), Error> {
        match self.fill_as_far(chain, position.saturating_add(1))? {
            (filled, _) if position < filled => Ok(()),
            (_, Some(error)) => Err(Error::Again(error)),
            (_, None) => Err(Error::Gone(format!("set {position} of a chain"))),
        }
    }

    /// Returns one version by its id.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn version(&self, id: VersionId) -> Result<Version, Error> {
        self.ask(&*self.chain_of(id.chain())?, 0, |connection, owners| {
            query::by_id(connection, owners, id)
        })
    }

    /// Returns the state that a path had before a version: what its delta applies to.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn version_before(&self, version: &Version) -> Result<Option<Version>, Error> {
        let chain = self.chain_of(version.id.chain())?;
        self.ask(&chain, version.position, |connection, owners| {
            query::before(connection, owners, version)
        })
    }

    /// Returns the path of a directory.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn directory_path(&self, id: super::DirectoryId) -> Result<EntryPath, Error> {
        self.ask(&*self.chain_of(id.chain())?, 0, |connection, _| {
            query::directory_path(connection, id)
        })
    }

    /// Returns the directory above a directory; `None` for the source directory.
    ///
    /// # Errors
    /// [`Error::Gone`] when the catalog no longer has it.
    pub fn parent(
        &self,
        id: super::DirectoryId,
    ) -> Result<Option<(super::DirectoryId, Vec<u8>)>, Error> {
        match id.is_root() {
            true => Ok(None),
            false => {
                let chain = self.chain_of(id.chain())?;
                self.ask(&chain, 0, |connection, _| query::directory_name(connection, id)).map(Some)
            }
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
        self.ask(chain, position, |connection, _| {
            let rows = connection.query_row(
                "SELECT first_version, end_version FROM sets WHERE id = ?1 AND first_version IS NOT NULL",
                [chain.set_id(position)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            );
            query::rows_of(connection, chain.id, position, rows.optional()?.ok_or(Error::Lost)?)
        })
    }

    /// Returns the manifest of a set: the stored one, or where that is encrypted a copy at hand, if
    /// it describes all volumes that are stored.
    ///
    /// # Errors
    /// [`Error::Set`] when it cannot be read or makes no sense.
    pub fn manifest(&self, chain: &Chain, position: u32) -> Result<Arc<Manifest>, Error> {
        let key = chain.set_id(position);
        let lock = || self.manifests.lock();
        if let Some(manifest) = lock().get(&key) {
            return Ok(manifest.clone());
        }
        let set = set_at(chain, position)?;
        let copied = || self.local_manifest(chain, position, Manifest::read);
        let fits = |copy: &Manifest| {
            copy.volumes().map(|volume| volume.number).eq(set.volumes.keys().copied())
        };
        // Where volumes are missing, the stored manifest tells which, if it can be read.
        let copy = if self.may_use_copy(set) { copied()? } else { None };
        let manifest = match copy.filter(fits) {
            Some(copy) => copy,
            None => self
                .stored_manifest(chain, position, Manifest::read)
                .or_else(|error| copied()?.ok_or(error))?,
        };
        Ok(self.keep_manifest(chain, position, manifest))
    }

    /// Makes sure that the stored manifests of some sets are known, as far as they are needed: all
    /// that are missing are read at once. What is wrong with one is for [`Catalog::manifest`] to
    /// find out.
    pub fn fetch_manifests(&self, chain: &Chain, positions: impl Iterator<Item = u32>) {
        let copy = self.local_copy();
        let missing = |position: &u32| {
            if self.manifests.lock().contains(&chain.set_id(*position)) {
                return None;
            }
            let set = set_at(chain, *position).ok()?;
            let has_copy =
                || copy.as_ref().is_some_and(|copy| copy.manifest(set.session).is_some());
            let stored = set.manifest.as_ref().filter(|stored| stored.listed.size <= MANIFEST)?;
            (!(self.may_use_copy(set) && has_copy())).then_some(stored)
        };
        let missing: Vec<(u32, &SetFile)> = positions
            .filter_map(|position| missing(&position).map(|stored| (position, stored)))
            .take(MANIFESTS.get())
            .collect();
        for together in missing.chunks(MANIFESTS_TOGETHER) {
            let files: Vec<&SetFile> = together.iter().map(|(_, stored)| *stored).collect();
            let read = self.small_files(&files);
            for ((position, stored), file) in together.iter().zip(read) {
                if let Ok(manifest) = self.read_manifest(file, stored.encoding, Manifest::read) {
                    self.keep_manifest(chain, *position, manifest);
                }
            }
        }
    }

    /// Opens manifests, or other files as small, all by requests at the same time, and derives the
    /// session keys of encrypted ones together. One that is long, or cannot be read, is read when it
    /// is decoded.
    pub fn small_files(&self, files: &[&SetFile]) -> Vec<Arc<dyn ReadAt>> {
        let is_small = |file: &SetFile| file.listed.size <= MANIFEST;
        let whole = |file: &SetFile| {
            let range = 0..file.listed.size;
            (self.stored(file), vec![range])
        };
        let small = files.iter().filter(|file| is_small(file)).map(|file| whole(file));
        let mut read = AtHand::read(small.collect()).into_iter();
        let open = |file: &&SetFile| -> Arc<dyn ReadAt> {
            match is_small(file).then(|| read.next()).flatten() {
                Some(Ok(at_hand)) => at_hand,
                Some(Err(_)) | None => Arc::new(self.stored(file)),
            }
        };
        let opened: Vec<_> = files.iter().map(open).collect();
        if files.len() > 1 {
            let encrypted = files.iter().zip(&opened);
            let encrypted =
                encrypted.filter(|(file, _)| file.encoding == Encoding::OpenPgp && is_small(file));
            self.codec.unlock(&encrypted.map(|(_, file)| file.clone()).collect::<Vec<_>>());
        }
        opened
    }

    /// As [`Catalog::small_files`], of one.
    pub(super) fn small_file(&self, file: &SetFile) -> Arc<dyn ReadAt> {
        self.small_files(&[file]).pop().unwrap_or_else(|| Arc::new(self.stored(file)))
    }

    /// Returns what decodes the stored files.
    pub fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    /// Returns whether each stored file has to be signed, which only a pass over it can prove.
    pub fn demands_signature(&self) -> bool {
        self.codec.demands_signature()
    }

    /// Takes a manifest for that of a set.
    pub(super) fn keep_manifest(
        &self,
        chain: &Chain,
        position: u32,
        manifest: Manifest,
    ) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        let mut known = self.manifests.lock();
        known.put(chain.set_id(position), manifest.clone());
        while known.len() > 1
            && known.iter().map(|(_, manifest)| manifest.weight()).sum::<usize>() > MANIFEST_BYTES
        {
            known.pop_lru();
        }
        manifest
    }

    /// Tells the regular files that a set brought, changed or deleted, if its manifest has a list
    /// of them.
    ///
    /// # Errors
    /// [`Error::Set`] when the manifest cannot be read or makes no sense; some files may have been
    /// told then.
    pub fn changed_files(
        &self,
        chain: &Chain,
        position: u32,
        mut tell: impl FnMut(FileChange, &EntryPath),
    ) -> Result<(), Error> {
        // A local copy is read to its end before anything of it is told, since the stored manifest
        // takes its place if it breaks off.
        let is_whole = self
            .local_manifest(chain, position, |stream| Manifest::read_list(stream, |_, _| {}))?
            .is_some();
        let told = match is_whole {
            true => self
                .local_manifest(chain, position, |stream| Manifest::read_list(stream, &mut tell))?,
            false => None,
        };
        told.map_or_else(
            || {
                self.stored_manifest(chain, position, |stream| {
                    Manifest::read_list(stream, &mut tell)
                })
            },
            Ok,
        )
    }

    /// Returns the manifest in duplicity's archive directory, if it is there and can be read: what
    /// this machine knows of the set.
    ///
    /// # Errors
    /// [`Error::Gone`] when the chain has no such set.
    pub fn copied_manifest(&self, chain: &Chain, position: u32) -> Result<Option<Manifest>, Error> {
        self.local_manifest(chain, position, Manifest::read)
    }

    /// Reads the manifest in duplicity's archive directory; `None` if it is not there or cannot be
    /// read.
    fn local_manifest<T>(
        &self,
        chain: &Chain,
        position: u32,
        read: impl FnOnce(Decoder) -> Result<T, ReadError<codec::Error>>,
    ) -> Result<Option<T>, Error> {
        let (set, copy) = (set_at(chain, position)?, self.local_copy());
        let local = copy.as_ref().and_then(|copy| copy.manifest(set.session));
        Ok(local.and_then(|local| {
            self.read_manifest(Arc::new(local.file.clone()), local.encoding, read).ok()
        }))
    }

    /// Reads the manifest in storage.
    pub(super) fn stored_manifest<T>(
        &self,
        chain: &Chain,
        position: u32,
        read: impl FnOnce(Decoder) -> Result<T, ReadError<codec::Error>>,
    ) -> Result<T, Error> {
        let set = set_at(chain, position)?;
        let failed =
            |cause: Cause| Error::Set { what: format!("the manifest of set {}", set.end()), cause };
        let stored = set.manifest.as_ref().ok_or_else(|| failed(Cause::Missing))?;
        self.read_manifest(self.small_file(stored), stored.encoding, read).map_err(failed)
    }

    /// Opens the signature file of a set in storage, whatever the archive directory holds.
    ///
    /// # Errors
    /// [`Error::Set`] when it is missing, cannot be decoded, or has been contradicted by the set's
    /// volumes.
    pub fn signatures(&self, chain: &Chain, position: u32) -> Result<Decoder, Error> {
        let set = set_at(chain, position)?;
        let failed = |cause: Cause| Error::Set {
            what: format!("the signature file of set {}", set.end()),
            cause,
        };
        if self.is_distrusted(set)? {
            return Err(failed("the set's volumes hold something else".into()));
        }
        let stored = set.signatures.as_ref().ok_or_else(|| failed(Cause::Missing))?;
        self.codec
            .decode(Arc::new(self.stored(stored)), stored.encoding)
            .map_err(|error| failed(error.into()))
    }

    fn read_manifest<T>(
        &self,
        file: Arc<dyn ReadAt>,
        encoding: Encoding,
        read: impl FnOnce(Decoder) -> Result<T, ReadError<codec::Error>>,
    ) -> Result<T, Cause> {
        Ok(read(self.codec.decode(file, encoding)?)?)
    }

    /// Returns a volume for reading it; `hash` is what its manifest says, needed only for the first
    /// pass.
    ///
    /// # Errors
    /// [`Error::MissingVolume`] when it is not in storage.
    pub fn volume(&self, chain: &Chain, position: u32, number: u32) -> Result<VolumeSource, Error> {
        let set = set_at(chain, position)?;
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

    /// Derives the session keys of encrypted files together, which takes a fraction of the time of
    /// one by one. What goes wrong is told when a file is decoded.
    pub fn unlock<'a>(&self, files: impl Iterator<Item = &'a SetFile>) {
        let encrypted = files.filter(|file| file.encoding == Encoding::OpenPgp);
        let head = |file: &SetFile| {
            let first = 0..file.listed.size.min(HEAD as u64);
            (self.stored(file), vec![first])
        };
        let heads = AtHand::read(encrypted.map(head).collect()).into_iter().flatten();
        let files: Vec<_> = heads.map(|file| file as Arc<dyn ReadAt>).collect();
        self.codec.unlock(&files);
    }

    /// Says something, but only once in the life of this catalog.
    pub fn log_once(&self, level: Level, text: String) {
        let mut said = self.said.lock();
        if !said.contains(&text) {
            self.monitor.message(level, &text);
            // A storage that fails in ever new words must not fill the memory.
            if said.len() < 10_000 {
                said.insert(text);
            }
        }
    }

    /// Answers a question about rows of a chain that came with a set, or with those before it. If
    /// the database has not kept them, they are filled in again, and the question is asked again:
    /// ids are given out in the same order, and mean the same.
    pub(super) fn ask<T>(
        &self,
        chain: &Chain,
        position: u32,
        mut query: impl FnMut(&Connection, &Owners) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.steadily(chain, position, || {
            self.database.read(|connection| {
                let answer = query(connection, &self.owners);
                // Without these rows, nothing found would look like nothing there. They never
                // change: if they are there now, they were.
                query::set_is_there(connection, chain.set_id(position)).and(answer)
            })
        })
    }

    /// Keeps something that belongs to rows of a chain, as [`Catalog::ask`] asks.
    pub(super) fn record(
        &self,
        chain: &Chain,
        position: u32,
        mut change: impl FnMut(&Connection) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.steadily(chain, position, || {
            self.database.write(|connection| {
                query::set_is_there(connection, chain.set_id(position))?;
                change(connection)
            })
        })
    }

    fn steadily<T>(
        &self,
        chain: &Chain,
        position: u32,
        mut work: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let generation = self.database.generation();
            let error = match work() {
                Err(error) if error.is_trouble() || matches!(error, Error::Lost) => error,
                result => return result,
            };
            if chain.is_void.load(Ordering::Relaxed) {
                return Err(Error::Gone("these rows: volumes have contradicted them".into()));
            }
            if attempts.next().is_none() {
                return Err(error);
            }
            match error {
                Error::Lost if self.database.generation() == generation => {
                    self.database.next_generation()
                }
                Error::Lost => {}
                error => self.start_over(generation, &error)?,
            }
            self.fill_up_to(chain, position)?;
        }
    }

    /// Runs `work`, and again if it failed while the catalog started over.
    pub fn undisturbed<T, E>(&self, mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        for _ in 0..ATTEMPTS {
            let generation = self.database.generation();
            let result = work();
            if result.is_ok() || self.database.generation() == generation {
                return result;
            }
        }
        work()
    }

    /// Keeps something that was learnt by the way, if that can be done: it can be learnt again.
    pub(super) fn keep_if_possible(&self, change: impl FnOnce(&Connection) -> Result<(), Error>) {
        if self.keeps_nothing.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.database.write(change)
            && (error.is_busy() || error.is_trouble_with_disk())
        {
            // Whoever waits for a lock should not do so for every volume.
            self.keeps_nothing.store(true, Ordering::Relaxed);
            self.log_once(
                Level::Warning,
                format!("{}; what is learnt of the backups is not kept", reason(&error)),
            );
        }
    }

    /// Runs `work` with the number of the generation; when the database is the trouble, starts over
    /// without it and runs it again.
    pub(super) fn sturdy<T>(
        &self,
        mut work: impl FnMut(u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let generation = self.database.generation();
            match work(generation) {
                Err(error) if error.is_trouble() && attempts.next().is_some() => {
                    self.start_over(generation, &error)?
                }
                // Another process has taken rows away meanwhile.
                Err(Error::Lost) if attempts.next().is_some() => {}
                result => return result,
            }
        }
    }

    fn start_over(&self, generation: u64, error: &Error) -> Result<(), Error> {
        // Caches and the kernel know the numbers of today's chains and sets, and of those that
        // went.
        let (chains, most) = (self.chains(), self.known().most);
        let keep = |connection: &Connection| {
            keep_from_reuse(connection, most.0, most.1)?;
            keep_numbers(connection, &chains)
        };
        if self.database.start_over(generation, error, || self.owners.clear(), keep)? {
            let what = match self.database.is_in_memory() {
                true => "going on without a cache, which is slower",
                false => "filling it anew",
            };
            self.monitor.message(Level::Warning, &format!("{}; {what}", reason(error)));
        }
        Ok(())
    }

    pub(super) fn stored(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }
}

/// Returns the number of a volume that is stored, and that a manifest does not describe.
pub(super) fn undescribed(set: &BackupSet, manifest: &Manifest) -> Option<u32> {
    set.volumes.keys().copied().find(|&number| manifest.volume(number).is_none())
}

/// Says what keeps the database from being used.
fn reason(error: &Error) -> String {
    match error.is_busy() {
        true => "another process keeps the catalog locked".into(),
        false => error.to_string(),
    }
}

pub(super) fn set_at(chain: &Chain, position: u32) -> Result<&BackupSet, Error> {
    chain
        .sets
        .get(position as usize)
        .ok_or_else(|| Error::Gone(format!("set {position} of a chain")))
}
