//! [`OpenCollection`]: a collection with all that is needed to read it; and what of it the keys at
//! hand open.

use crate::catalog;
use crate::codec::{self, Cause, Codec};
use crate::collection::{BackupChain, BackupSet, Collection, LocalCopy, SetFile};
use crate::format::Encoding;
use crate::model::BackupTime;
use crate::monitor::Monitor;
use crate::sets::{self, Sets, SetsOptions, Snapshot};
use crate::storage::{Storage, StoredFile};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Manifests that are unlocked together: what two cores do in the time of one.
const MANIFESTS_TOGETHER: usize = 16;

/// Chains whose keys are derived together.
const LOOKED_AT_TOGETHER: usize = 16;

/// A collection, with all that is needed to read it.
pub struct OpenCollection {
    /// Its stored files.
    pub storage: Arc<dyn Storage>,
    /// Decodes them.
    pub codec: Arc<Codec>,
    /// Its sets and chains.
    pub collection: Collection,
    /// What is where; it knows the collection's chains, in the same order.
    pub sets: Arc<Sets>,
}

/// A set that was found by a time.
pub struct FoundSet {
    chain: usize,
    set: usize,
    /// Where no backup is as old as the time: when the oldest chain begins, whose first set it is.
    pub oldest: Option<BackupTime>,
}

impl OpenCollection {
    /// Opens the catalog of a collection, in a `directory` of our own or in memory. `local_copy` is
    /// duplicity's archive directory.
    ///
    /// # Errors
    /// [`sets::Error`] when the catalog cannot be used.
    pub fn open(
        storage: Arc<dyn Storage>,
        codec: Arc<Codec>,
        collection: Collection,
        local_copy: Option<LocalCopy>,
        directory: Option<PathBuf>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, sets::Error> {
        let options = SetsOptions {
            directory,
            storage: storage.clone(),
            codec: codec.clone(),
            local_copy,
            monitor,
        };
        let sets = Arc::new(Sets::open(options)?);
        sets.set_collection(&collection)?;
        Ok(Self { storage, codec, collection, sets })
    }

    /// Finds the newest set of a time or before it, or the newest of all if there is no time, even
    /// if a clock was wrong when it was made; none if there is no backup.
    pub fn find(&self, time: Option<BackupTime>) -> Option<FoundSet> {
        let chains = &self.collection.chains;
        let Some(time) = time else {
            let newest = chains.last()?;
            return Some(FoundSet {
                chain: chains.len() - 1,
                set: newest.sets().len() - 1,
                oldest: None,
            });
        };
        let at = self.collection.at_time(time)?;
        let oldest = chains.get(at.chain).filter(|_| at.before_first);
        Some(FoundSet { chain: at.chain, set: at.set, oldest: oldest.map(BackupChain::start) })
    }

    /// Returns the tree at the end of a set that was found.
    ///
    /// # Errors
    /// [`sets::Error`] when the set, or one before it, cannot be read.
    pub fn snapshot(&self, found: &FoundSet) -> Result<Snapshot, sets::Error> {
        let chains = self.sets.catalog().chains();
        let lost = || catalog::Error::Gone("the chain".into());
        let chain = chains.get(found.chain).ok_or_else(lost)?;
        self.sets.snapshot(chain, found.set as u32)
    }

    /// Unlocks the newest manifests while something else is done, for whoever will read contents,
    /// too.
    pub fn while_unlocking<T>(&self, task: impl FnOnce() -> T) -> T {
        let newest = self.collection.chains.last().map(|chain| chain.sets()).unwrap_or_default();
        let manifests =
            newest.iter().rev().take(MANIFESTS_TOGETHER).filter_map(|set| set.manifest.as_ref());
        thread::scope(|scope| {
            // Without it each key is derived when it is needed.
            let _ = thread::Builder::new().spawn_scoped(scope, || self.sets.unlock(manifests));
            task()
        })
    }

    /// Returns the stored bytes of all sets in chains.
    pub fn stored_bytes(&self) -> u64 {
        let sets = self.collection.chains.iter().flat_map(|chain| chain.sets());
        sets.flat_map(BackupSet::files).map(|file| file.listed.size).sum()
    }

    /// Makes sure that there is a key to the sets of a snapshot, so that nothing is written by
    /// whoever has none: whether the metadata at hand had to be decrypted or not. A chain may have
    /// two passphrases, so one file that opens is enough.
    ///
    /// # Errors
    /// The newest set's, when neither it nor the full set can be opened for want of a passphrase or
    /// secret key.
    pub fn check_keys(&self, snapshot: &Snapshot) -> Result<(), codec::Error> {
        let sets = snapshot.chain.sets.get(..=snapshot.position as usize).unwrap_or_default();
        let ends = sets.last().into_iter().chain(sets.first());
        let files = ends.flat_map(|set| set.manifest.iter().chain(set.volumes.values().next()));
        let mut locked = None;
        for file in files.filter(|file| file.encoding == Encoding::OpenPgp) {
            match self.codec.reopen(Arc::new(self.stored(file)), file.encoding) {
                Ok(_) => return Ok(()),
                Err(error) if is_for_want_of_key(&error.cause) => locked = locked.or(Some(error)),
                // The file is to blame, or its place: that is reported when it is needed.
                Err(_) => {}
            }
        }
        locked.map_or(Ok(()), Err)
    }

    /// Finds the chains that the keys at hand do not open, by their index, of those that can be
    /// looked at in so long a time, the newest first. A passphrase is asked for, and a wrong one
    /// noticed.
    ///
    /// # Errors
    /// Whatever keeps the newest manifest from being read, but for the want of a key; that, too, if
    /// no chain opens.
    pub fn locked_chains(
        &self,
        time: Duration,
    ) -> Result<Vec<(usize, codec::Error)>, codec::Error> {
        let chains = &self.collection.chains;
        let manifest = |index: usize| {
            chains[index].last().manifest.as_ref().filter(|file| file.encoding == Encoding::OpenPgp)
        };
        let (start, newest_first) = (Instant::now(), Vec::from_iter((0..chains.len()).rev()));
        let (mut locked, mut opens) = (Vec::new(), false);
        for batch in newest_first.chunks(LOOKED_AT_TOGETHER) {
            let encrypted: Vec<_> = batch.iter().filter_map(|index| manifest(*index)).collect();
            let mut files = self.sets.open_files(&encrypted, &[]).into_iter();
            for &index in batch {
                let is_newest = index + 1 == chains.len();
                let found = manifest(index).and_then(|manifest| files.next().zip(Some(manifest)));
                let looked_at = found.map_or(Ok(()), |(file, manifest)| {
                    let decoder = match is_newest && self.storage.abilities().copies {
                        true => self.codec.decode_stored(self.stored(manifest), manifest.encoding),
                        false => self.codec.decode(file, manifest.encoding),
                    };
                    // To its end, since only that shows who has signed it.
                    if is_newest { decoder?.drain() } else { decoder.map(drop) }
                });
                match looked_at {
                    Err(error) if is_for_want_of_key(&error.cause) => locked.push((index, error)),
                    Err(error) if is_newest => return Err(error),
                    // Damage shows where it is met.
                    _ => opens = true,
                }
            }
            if start.elapsed() > time {
                break;
            }
        }
        match locked.first() {
            Some(_) if !opens => Err(locked.remove(0).1),
            _ => Ok(locked),
        }
    }

    fn stored(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }
}

/// Returns whether all that lacks is a passphrase or a secret key.
fn is_for_want_of_key(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::NoPassphrase
            | Cause::EmptyPassphrase
            | Cause::WrongPassphrase
            | Cause::NoSecretKey(_)
    )
}
