//! What an increment is built on: whether each signature file of the chain is the one that was stored with its set.
//!
//! Nothing in the format vouches for a signature file, and a wrong one makes a wrong increment: files that have changed seem to be the same, and
//! deltas are made against what is not there. So:
//! - What is known of a signature file, since it was written here or seen for the first time, has to be true of it today.
//! - A copy in the archive directory has to hold what the stored file holds; if it does not, it is fetched anew.
//! - A stored one that is another than before is not believed: its set's rows come from the volumes, and its files are stored whole.
//! - Where nothing is known, the volumes' tables of contents prove the rows, if there are any.
//!
//! All that is read once for each set; later, sizes and time stamps tell that nothing has changed. What cannot be opened, as by someone who has
//! only the public key, cannot be compared, and the copy is believed.

use super::Error;
use crate::catalog::{Catalog, Chain, SeenPlace, SeenSignatures};
use crate::codec::Codec;
use crate::collection::{ArchiveDirectory, BackupSet, LocalCopy, SyncPlan};
use crate::format::{Encoding, Prefixes};
use crate::monitor::{Level, Monitor};
use crate::storage::{ReadAt, Storage, StoredFile};
use std::io::{self, Write};
use std::sync::Arc;

/// Makes sure that the signature files of a chain are those that were stored with its sets, mends copies, and has the catalog distrust the
/// rest. Returns whether nothing had to be done; else the catalog's picture of chain and archive directory is to be taken anew, and this to be called
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
            Some(file) => hash(codec, Arc::new(StoredFile::new(storage.clone(), file.listed.clone())), file.encoding),
            None => Ok(None),
        };
        let copied = copies.signatures(set.session);
        let of_copy = copied.map(|copy| hash(codec, Arc::new(copy.file.clone()), copy.encoding)).transpose()?.flatten();
        let known = seen.as_ref().filter(|seen| seen.place.has_same_stored(&place)).map(|seen| seen.hash);
        let of_stored = known.map_or_else(stored, |hash| Ok(Some(hash)))?;
        // Whoever needs what cannot be read hears of it then.
        let Some(expected) = seen.as_ref().map(|seen| seen.hash).or(of_stored).or(of_copy) else { continue };
        if of_stored.is_some_and(|hash| hash != expected) {
            catalog.distrust_stored_signatures(chain, position);
            catalog.void(chain)?;
            return Ok(false);
        }
        if copied.is_some() && of_copy != Some(expected) {
            is_same = false;
            if of_stored.is_none() {
                catalog.distrust_stored_signatures(chain, position);
                catalog.void(chain)?;
                return Ok(false);
            }
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
            if catalog.fill(chain).is_ok() && catalog.prove_by_tables(chain, position).is_err_and(|error| error.is_contradicted())
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
    Ok(archive.synchronize(&SyncPlan { copy, delete: Vec::new() }, storage, codec, monitor)?)
}

/// Returns the hash of a file's plain bytes; `None` if it is damaged, or there is no key for it.
fn hash(codec: &Codec, file: Arc<dyn ReadAt>, encoding: Encoding) -> Result<Option<[u8; 32]>, Error> {
    struct Hasher(blake3::Hasher);
    impl Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(blake3::Hasher::new());
    let decoded = codec.decode(file, encoding).and_then(|mut decoder| Ok(io::copy(&mut decoder, &mut hasher)?));
    match decoded {
        Ok(_) => Ok(Some(hasher.0.finalize().into())),
        Err(error) if error.is_storage() => Err(error.into()),
        Err(_) => Ok(None),
    }
}
