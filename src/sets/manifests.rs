//! Manifests and other small files of sets: read together, and kept.

use super::at_hand::AtHand;
use super::sets::{MANIFESTS, Sets};
use super::{Cause, Error};
use crate::catalog::Chain;
use crate::codec::{self, Decoder, HEAD};
use crate::collection::{BackupSet, SetFile};
use crate::format::{Encoding, FileChange, Manifest, ReadError};
use crate::model::EntryPath;
use crate::storage::ReadAt;
use std::sync::Arc;

/// Bytes of manifests that are kept in memory: 200,000 volumes.
const MANIFEST_BYTES: usize = 24 << 20;
/// Manifests that are read at once.
const MANIFESTS_TOGETHER: usize = 16;
/// Bytes of a file that is read as a whole when it is opened: a manifest of some 10,000 volumes.
const SMALL: u64 = 1 << 20;

impl Sets {
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
        let set = chain.set_at(position)?;
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
    /// that are missing are read at once. What is wrong with one is for [`Sets::manifest`] to
    /// find out.
    pub fn fetch_manifests(&self, chain: &Chain, positions: impl Iterator<Item = u32>) {
        self.fetch_manifests_and_keys(chain, positions, &[]);
    }

    /// As [`Sets::fetch_manifests`], and derives the session keys of other files with theirs.
    pub(super) fn fetch_manifests_and_keys(
        &self,
        chain: &Chain,
        positions: impl Iterator<Item = u32>,
        others: &[&SetFile],
    ) {
        let copy = self.local_copy();
        let missing = |position: &u32| {
            if self.manifests.lock().contains(&chain.set_id(*position)) {
                return None;
            }
            let set = chain.set_at(*position).ok()?;
            let has_copy =
                || copy.as_ref().is_some_and(|copy| copy.manifest(set.session).is_some());
            let stored = set.manifest.as_ref().filter(|stored| stored.listed.size <= SMALL)?;
            (!(self.may_use_copy(set) && has_copy())).then_some(stored)
        };
        let missing: Vec<(u32, &SetFile)> = positions
            .filter_map(|position| missing(&position).map(|stored| (position, stored)))
            .take(MANIFESTS.get())
            .collect();
        let (mut rest, mut others) = (&missing[..], others);
        while !rest.is_empty() || !others.is_empty() {
            let (together, later) = rest.split_at(rest.len().min(MANIFESTS_TOGETHER));
            let files: Vec<&SetFile> = together.iter().map(|(_, stored)| *stored).collect();
            let opened = self.open_files(&files, others);
            for ((position, stored), file) in together.iter().zip(opened) {
                if let Ok(manifest) = self.read_manifest(file, stored.encoding, Manifest::read) {
                    self.keep_manifest(chain, *position, manifest);
                }
            }
            (rest, others) = (later, &[]);
        }
    }

    /// Reads manifests, or other files as small, all by requests at the same time, and derives the
    /// session keys of encrypted ones together with those of `others`, of which it reads no more
    /// than that takes. One that is long, or cannot be read, is read when it is decoded.
    pub fn open_files(&self, files: &[&SetFile], others: &[&SetFile]) -> Vec<Arc<dyn ReadAt>> {
        let is_encrypted = |file: &&&SetFile| file.encoding == Encoding::OpenPgp;
        let first = |file: &SetFile, length: u64| {
            let range = 0..file.listed.size.min(length);
            (self.stored(file), vec![range])
        };
        let whole = files.iter().map(|file| match file.listed.size {
            0..=SMALL => first(file, SMALL),
            _ => (self.stored(file), Vec::new()),
        });
        let heads = others.iter().filter(is_encrypted).map(|file| first(file, HEAD as u64));
        let mut read = AtHand::read(whole.chain(heads).collect()).into_iter();
        let open = |file: &&SetFile| match read.next() {
            Some(Ok(at_hand)) => at_hand as Arc<dyn ReadAt>,
            _ => Arc::new(self.stored(file)),
        };
        let opened: Vec<_> = files.iter().map(open).collect();
        let encrypted = files.iter().zip(&opened).filter(|(file, _)| is_encrypted(file));
        let mut keys: Vec<Arc<dyn ReadAt>> = encrypted.map(|(_, file)| file.clone()).collect();
        keys.extend(read.flatten().map(|file| file as Arc<dyn ReadAt>));
        if keys.len() > 1 {
            self.codec.unlock(&keys);
        }
        opened
    }

    /// As [`Sets::open_files`], of one.
    pub(super) fn open_file(&self, file: &SetFile) -> Arc<dyn ReadAt> {
        self.open_files(&[file], &[]).pop().unwrap_or_else(|| Arc::new(self.stored(file)))
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

    /// Passes on the regular files that a set brought, changed or deleted, if its manifest has a list
    /// of them.
    ///
    /// # Errors
    /// [`Error::Set`] when the manifest cannot be read or makes no sense; some files may have been
    /// passed on by then.
    pub fn changed_files(
        &self,
        chain: &Chain,
        position: u32,
        mut take: impl FnMut(FileChange, &EntryPath),
    ) -> Result<(), Error> {
        // A local copy is read to its end before anything of it is passed on, since the stored manifest
        // takes its place if it breaks off.
        let is_whole = self
            .local_manifest(chain, position, |stream| Manifest::read_list(stream, |_, _| {}))?
            .is_some();
        let taken = match is_whole {
            true => self
                .local_manifest(chain, position, |stream| Manifest::read_list(stream, &mut take))?,
            false => None,
        };
        taken.map_or_else(
            || {
                // Likewise, where another copy may take the place of one that is damaged.
                if self.abilities().copies {
                    let read = |stream| Manifest::read_list(stream, |_, _| {});
                    self.stored_manifest(chain, position, read)?;
                }
                self.stored_manifest(chain, position, |stream| {
                    Manifest::read_list(stream, &mut take)
                })
            },
            Ok,
        )
    }

    /// Returns the manifest in duplicity's archive directory, if it is there and can be read: what
    /// this machine knows of the set.
    ///
    /// # Errors
    /// [`crate::catalog::Error::Gone`] when the chain has no such set.
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
        let (set, copy) = (chain.set_at(position)?, self.local_copy());
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
        mut read: impl FnMut(Decoder) -> Result<T, ReadError<codec::Error>>,
    ) -> Result<T, Error> {
        let set = chain.set_at(position)?;
        let failed =
            |cause: Cause| Error::Set { what: format!("the manifest of set {}", set.end()), cause };
        let stored = set.manifest.as_ref().ok_or_else(|| failed(Cause::Missing))?;
        let read = || self.read_manifest(self.open_file(stored), stored.encoding, &mut read);
        self.stored(stored).with_copies(Cause::is_of_content, read).map_err(failed)
    }

    /// Opens the signature file of a set in storage, whatever the archive directory holds.
    ///
    /// # Errors
    /// [`Error::Set`] when it is missing, cannot be decoded, or has been contradicted by the set's
    /// volumes.
    pub fn signatures(&self, chain: &Chain, position: u32) -> Result<Decoder, Error> {
        let set = chain.set_at(position)?;
        let failed = |cause: Cause| Error::Set {
            what: format!("the signature file of set {}", set.end()),
            cause,
        };
        if self.is_distrusted(set)? {
            return Err(failed("the set's volumes hold something else".into()));
        }
        let stored = set.signatures.as_ref().ok_or_else(|| failed(Cause::Missing))?;
        self.codec
            .decode_stored(self.stored(stored), stored.encoding)
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

    /// Derives the session keys of encrypted files together, which takes a fraction of the time of
    /// one by one. What goes wrong is taken when a file is decoded.
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
}

/// Returns the number of a volume that is stored, and that a manifest does not describe.
pub(super) fn undescribed(set: &BackupSet, manifest: &Manifest) -> Option<u32> {
    set.volumes.keys().copied().find(|&number| manifest.volume(number).is_none())
}
