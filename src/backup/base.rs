//! What an increment is built on: whether each signature file of the chain is the one that was
//! stored with its set.
//!
//! Nothing in the format vouches for a signature file, and a wrong one makes a wrong increment:
//! files that have changed seem to be the same, and deltas are made against what is not there. So:
//! - What is known of a signature file, since it was written here or seen for the first time, has
//!   to be true of it today.
//! - A copy in the archive directory has to hold what the stored file holds. If it is damaged, or
//!   is known to be another one, it is fetched anew; if nothing tells which of the two is right,
//!   neither is believed, and both stay as they are.
//! - A stored one that is another than before is not believed.
//! - Where a signature file is not believed, its set's rows come from the volumes, and its files
//!   are stored whole.
//! - Where nothing is known, the volumes' tables of contents prove the rows, if there are any.
//!
//! All that is read once for each set; later, sizes and time stamps tell that nothing has changed.
//! No secret key is asked for, as none is by duplicity: where a stored file opens by one alone, a
//! copy that is sound, and not known to be another one, is believed.

use super::{Error, SignaturesCause};
use crate::catalog::{AllSeen, Chain, SeenPlace, SeenSignatures};
use crate::codec::{self, Codec, Decoder};
use crate::collection::{ArchiveDirectory, BackupSet, Collection, LocalCopy, SetFile, SyncPlan};
use crate::format::{ByteSource, Encoding, Prefixes, ReadError, SignatureMember, TarReader};
use crate::monitor::{Level, Monitor};
use crate::sets::Sets;
use crate::storage::{ReadAt, Storage, StoredFile};
use std::sync::Arc;

/// Where signature files are, and what is known of them.
pub struct Base<'a> {
    /// The stored files.
    pub storage: &'a Arc<dyn Storage>,
    /// Their copies.
    pub archive: &'a ArchiveDirectory,
    /// What names begin with.
    pub prefixes: &'a Prefixes,
    /// Decodes them.
    pub codec: &'a Codec,
    /// Knows them from before.
    pub sets: &'a Sets,
    /// Hears what is wrong.
    pub monitor: &'a dyn Monitor,
}

/// What a look at a signature file has shown.
enum Look {
    /// BLAKE3 of its plain bytes.
    Sound([u8; 32]),
    /// It is damaged, or there is no key for it.
    Unreadable,
    /// Something stands in the way that may pass: nothing is learnt.
    Passing,
}

impl Look {
    fn hash(&self) -> Option<[u8; 32]> {
        if let Self::Sound(hash) = self { Some(*hash) } else { None }
    }
}

const OTHER: &str = "it is not the one that was stored with its volumes";
const DIFFERENT: &str =
    "the stored one and its copy in the archive directory differ, and nothing tells which is right";

impl Base<'_> {
    /// Makes sure that the signature files of the newest chain are those that were stored with its
    /// sets: mends copies, and has the catalog distrust the rest. Returns the chains as the catalog
    /// knows them then.
    ///
    /// # Errors
    /// [`Error`] when the storage, the archive directory or the catalog fail, or a copy changes all
    /// the time.
    pub fn settle(&self, collection: &Collection) -> Result<Vec<Arc<Chain>>, Error> {
        let mut chains = self.sets.set_collection(collection)?;
        let sets = chains.last().map_or(0, |chain| chain.sets.len());
        // In each turn a copy is mended, or a set distrusted, which happens once to each.
        for _ in 0..=2 * sets {
            match chains.last() {
                Some(chain) if !self.check(chain)? => {}
                _ => return Ok(chains),
            }
            self.sets.set_local_copy(LocalCopy::open(self.archive.path(), self.prefixes)?);
            chains = self.sets.set_collection(collection)?;
        }
        let file = self.archive.path().display().to_string();
        Err(Error::Signatures { file, cause: SignaturesCause::Changing.into() })
    }

    /// Returns whether nothing had to be done; else the catalog's picture of chain and archive
    /// directory is to be taken anew, and this to be called again.
    fn check(&self, chain: &Chain) -> Result<bool, Error> {
        let copies = LocalCopy::open(self.archive.path(), self.prefixes)?;
        let seen = self.sets.catalog().seen_signatures()?;
        let mut is_same = true;
        for position in 0..chain.sets.len() as u32 {
            is_same &= self.check_set(chain, position, &copies, &seen)?;
            if !is_same {
                break;
            }
        }
        Ok(is_same)
    }

    /// As [`Base::check`], of one set.
    fn check_set(
        &self,
        chain: &Chain,
        position: u32,
        copies: &LocalCopy,
        seen: &AllSeen,
    ) -> Result<bool, Error> {
        let Some(set) = chain.sets.get(position as usize) else { return Ok(true) };
        let (seen, copied) = (seen.of(set), copies.signatures(set.session));
        let now = SeenPlace::new(set.signatures.as_ref(), copied);
        if seen.is_some_and(|seen| seen.place.holds(&now)) || self.sets.is_distrusted(set)? {
            return Ok(true);
        }
        let of_copy = match copied {
            Some(copy) => self.look(copy.file.clone(), copy.encoding)?,
            None => Look::Unreadable,
        };
        let is_as_known = seen.is_none_or(|seen| Some(seen.hash) == of_copy.hash());
        let of_stored =
            match (seen.filter(|seen| seen.place.has_same_stored(&now)), &set.signatures) {
                (Some(seen), _) => Look::Sound(seen.hash),
                (None, Some(file))
                    if !is_as_known || of_copy.hash().is_none() || !self.asks(file)? =>
                {
                    self.look(self.stored_file(file), file.encoding)?
                }
                _ => Look::Unreadable,
            };
        if matches!(of_copy, Look::Passing) || matches!(of_stored, Look::Passing) {
            return Ok(true);
        }
        let (of_copy, of_stored) = (of_copy.hash(), of_stored.hash());
        // Whoever needs what cannot be read hears of it then.
        let Some(expected) = seen.map(|seen| seen.hash).or(of_stored).or(of_copy) else {
            return Ok(true);
        };
        let wrong = match (of_stored, of_copy) {
            (Some(stored), _) if stored != expected => Some(OTHER),
            (Some(_), Some(copy)) if seen.is_none() && copy != expected => Some(DIFFERENT),
            (None, copy) if copied.is_some() && copy != Some(expected) => Some(OTHER),
            _ => None,
        };
        if let Some(what) = wrong {
            self.sets.distrust_signatures(chain, position, what);
            self.sets.catalog().void(chain)?;
            return Ok(false);
        }
        if let Some(copy) = copied.filter(|_| of_copy != Some(expected)) {
            let text = format!(
                "the copy of the signature file of set {} in the archive directory is not what is \
                 stored; copying it anew",
                set.end()
            );
            self.monitor.message(Level::Warning, &text);
            self.archive.delete(copy.file.name())?;
            self.fetch(set)?;
            return Ok(false);
        }
        if seen.is_none() && self.contradicts(chain, position, set)? {
            self.sets.catalog().void(chain)?;
            return Ok(false);
        }
        let opened = set.signatures.as_ref().filter(|_| of_stored.is_some());
        let place = SeenPlace::new(opened, copied);
        self.sets.catalog().keep_seen_signatures(set, &SeenSignatures { hash: expected, place });
        Ok(true)
    }

    /// Returns whether the tables in the volumes of a set contradict its rows. Whatever else fails
    /// leaves it open.
    fn contradicts(&self, chain: &Chain, position: u32, set: &BackupSet) -> Result<bool, Error> {
        let asks = set.volumes.values().next().map_or(Ok(true), |file| self.asks(file))?;
        if asks || self.sets.fill(chain).is_err() {
            return Ok(false);
        }
        let proved = self.sets.prove_by_tables(chain, position);
        Ok(proved.is_err_and(|error| error.is_contradicted()))
    }

    /// Returns whether opening a stored file may ask the user for a secret key.
    fn asks(&self, file: &SetFile) -> Result<bool, Error> {
        Ok(self.codec.needs_secret_key(&self.stored(file), file.encoding)?)
    }

    fn stored(&self, file: &SetFile) -> Arc<dyn ReadAt> {
        Arc::new(self.stored_file(file))
    }

    fn stored_file(&self, file: &SetFile) -> StoredFile {
        StoredFile::new(self.storage.clone(), file.listed.clone())
    }

    /// Copies a stored signature file to the archive directory.
    fn fetch(&self, set: &BackupSet) -> Result<(), Error> {
        let Some(stored) = &set.signatures else { return Ok(()) };
        let listed = std::slice::from_ref(&stored.listed);
        let copy = self.archive.plan(listed, self.prefixes, None)?.copy;
        let plan = SyncPlan { copy, delete: Vec::new() };
        Ok(self.archive.synchronize(&plan, self.storage, self.codec, self.monitor)?)
    }

    /// Reads a signature file to its end.
    fn look(&self, file: StoredFile, encoding: Encoding) -> Result<Look, Error> {
        let mut hasher = blake3::Hasher::new();
        let decoder = self.codec.decode_stored(file, encoding).map_err(Error::from);
        match decoder.and_then(|decoder| read(Hashed { decoder, hasher: &mut hasher })) {
            Ok(true) => Ok(Look::Sound(hasher.finalize().into())),
            Err(Error::Encode(error)) if error.is_storage() => Err(error.into()),
            Err(Error::Encode(error)) if error.is_passing() => Ok(Look::Passing),
            Ok(false) | Err(_) => Ok(Look::Unreadable),
        }
    }
}

/// Reads a signature file to its end; returns whether it is one.
fn read(stream: Hashed) -> Result<bool, Error> {
    let mut tar = TarReader::new(stream);
    loop {
        match tar.next() {
            Ok(Some(header)) if SignatureMember::parse(&header).is_ok() => {}
            Ok(None) => break,
            Err(ReadError::Source(error)) => return Err(error.into()),
            Ok(Some(_)) | Err(ReadError::Format(_)) => return Ok(false),
        }
    }
    let Hashed { mut decoder, hasher } = tar.into_inner();
    decoder.copy(|bytes| {
        hasher.update(bytes);
        Ok::<_, Error>(())
    })?;
    Ok(true)
}

/// Hashes what is read.
struct Hashed<'a> {
    decoder: Decoder,
    hasher: &'a mut blake3::Hasher,
}

impl ByteSource for Hashed<'_> {
    type Error = codec::Error;

    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, codec::Error> {
        let count = self.decoder.read_bytes(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
