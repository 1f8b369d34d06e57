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
//! What cannot be opened, as by someone who has only the public key, cannot be compared, and the
//! copy is believed.

use super::Error;
use crate::catalog::{Catalog, Chain, SeenPlace, SeenSignatures};
use crate::codec::{self, Codec, Decoder};
use crate::collection::{ArchiveDirectory, BackupSet, LocalCopy, SyncPlan};
use crate::format::{self, Encoding, Prefixes, SignatureMember, TarReader};
use crate::monitor::{Level, Monitor};
use crate::storage::{ReadAt, Storage, StoredFile};
use std::io::{self, Read};
use std::sync::Arc;

/// Makes sure that the signature files of a chain are those that were stored with its sets, mends
/// copies, and has the catalog distrust the rest. Returns whether nothing had to be done; else the
/// catalog's picture of chain and archive directory is to be taken anew, and this to be called
/// again.
///
/// # Errors
/// [`Error`] when the storage, the archive directory or the catalog fail.
pub fn check_signatures(
    (storage, archive): (&Arc<dyn Storage>, &ArchiveDirectory),
    prefixes: &Prefixes,
    (codec, catalog): (&Codec, &Catalog),
    chain: &Chain,
    monitor: &dyn Monitor,
) -> Result<bool, Error> {
    let mut is_same = true;
    let mut copies = LocalCopy::open(archive.path(), prefixes)?;
    for (position, set) in (0..).zip(&chain.sets) {
        let seen = catalog.seen_signatures(set)?;
        let place = SeenPlace::new(set, copies.signatures(set.session));
        if seen.as_ref().is_some_and(|seen| seen.place == place) || catalog.is_distrusted(set)? {
            continue;
        }
        let stored = || match &set.signatures {
            Some(file) => hash(
                codec,
                Arc::new(StoredFile::new(storage.clone(), file.listed.clone())),
                file.encoding,
            ),
            None => Ok(None),
        };
        let copied = copies.signatures(set.session);
        let of_copy = copied
            .map(|copy| hash(codec, Arc::new(copy.file.clone()), copy.encoding))
            .transpose()?
            .flatten();
        let known =
            seen.as_ref().filter(|seen| seen.place.has_same_stored(&place)).map(|seen| seen.hash);
        let of_stored = known.map_or_else(stored, |hash| Ok(Some(hash)))?;
        // Whoever needs what cannot be read hears of it then.
        let Some(expected) = seen.as_ref().map(|seen| seen.hash).or(of_stored).or(of_copy) else {
            continue;
        };
        let wrong = match (of_stored, of_copy) {
            (Some(stored), _) if stored != expected => Some(OTHER),
            (Some(stored), Some(copy)) if seen.is_none() && stored != copy => Some(DIFFERENT),
            (None, _) if copied.is_some() && of_copy != Some(expected) => Some(OTHER),
            _ => None,
        };
        if let Some(what) = wrong {
            catalog.distrust_signatures(chain, position, what);
            catalog.void(chain)?;
            return Ok(false);
        }
        if copied.is_some() && of_copy != Some(expected) {
            is_same = false;
            let text = format!(
                "the copy of the signature file of set {} in the archive directory is not what is stored; copying it anew",
                set.end()
            );
            monitor.message(Level::Warning, &text);
            archive.delete(copied.map(|copy| copy.file.name()).unwrap_or_default())?;
            fetch(set, storage, (archive, prefixes), codec, monitor)?;
            copies = LocalCopy::open(archive.path(), prefixes)?;
            if seen.is_none() {
                // Proved when the catalog knows the new copy.
                continue;
            }
        }
        if seen.is_none() {
            // An error that is no contradiction leaves it open.
            if catalog.fill(chain).is_ok()
                && catalog
                    .prove_by_tables(chain, position)
                    .is_err_and(|error| error.is_contradicted())
            {
                catalog.void(chain)?;
                return Ok(false);
            }
        }
        let place = SeenPlace::new(set, copies.signatures(set.session));
        catalog.keep_seen_signatures(set, &SeenSignatures { hash: expected, place });
    }
    Ok(is_same)
}

const OTHER: &str = "it is not the one that was stored with its volumes";
const DIFFERENT: &str =
    "the stored one and its copy in the archive directory differ, and nothing tells which is right";

/// Copies a stored signature file to the archive directory.
fn fetch(
    set: &BackupSet,
    storage: &Arc<dyn Storage>,
    (archive, prefixes): (&ArchiveDirectory, &Prefixes),
    codec: &Codec,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    let Some(stored) = &set.signatures else { return Ok(()) };
    let copy = archive.plan(std::slice::from_ref(&stored.listed), prefixes, None)?.copy;
    Ok(archive.synchronize(&SyncPlan { copy, delete: Vec::new() }, storage, codec, 1, monitor)?)
}

/// Returns the hash of a signature file's plain bytes; `None` if it is damaged, or there is no key
/// for it.
fn hash(
    codec: &Codec,
    file: Arc<dyn ReadAt>,
    encoding: Encoding,
) -> Result<Option<[u8; 32]>, Error> {
    let mut hasher = blake3::Hasher::new();
    match codec
        .decode(file, encoding)
        .map_err(Error::from)
        .and_then(|decoder| read(Hashed { decoder, hasher: &mut hasher }))
    {
        Ok(is_sound) => Ok(is_sound.then(|| hasher.finalize().into())),
        Err(Error::Encode(error)) if error.is_storage() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Reads a signature file to its end; returns whether it is one.
fn read(stream: Hashed) -> Result<bool, Error> {
    let mut tar = TarReader::new(stream);
    loop {
        match tar.next() {
            Ok(Some(header)) if SignatureMember::parse(&header).is_ok() => {}
            Ok(None) => break,
            Err(format::Error::Read { source, .. }) => {
                return Err(codec::Error::from(source).into());
            }
            Ok(Some(_)) | Err(_) => return Ok(false),
        }
    }
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(codec::Error::from)?;
    Ok(true)
}

/// Hashes what is read.
struct Hashed<'a> {
    decoder: Decoder,
    hasher: &'a mut blake3::Hasher,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
