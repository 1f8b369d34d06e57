//! [`SeenSignatures`]: what is known of a signature file as a whole, so that another one in its place is noticed.
//!
//! An increment rests on signature files: they decide which files have changed, and deltas are made
//! against them. An older one that is sound in itself would make a wrong backup. So the hash of
//! what a signature file holds is kept from the time when it was written here, or looked at for the
//! first time; by the set's manifest, which it shares its life with. Later looks cost a comparison
//! of sizes and time stamps.

use super::catalog::{Catalog, set_at};
use super::chains::{Chain, copy_identity, file_identity};
use super::distrust::Source;
use super::{Error, seeks};
use crate::collection::{BackupSet, LocalFile};
use crate::storage::Listed;
use rusqlite::OptionalExtension;

/// A signature file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSignatures {
    /// BLAKE3 of the plain bytes.
    pub hash: [u8; 32],
    /// Where they were seen.
    pub place: SeenPlace,
}

/// Which files a signature file was read from: the stored one and the copy in the archive
/// directory, by name, size and time stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPlace {
    stored: Option<[u8; 32]>,
    copy: Option<[u8; 32]>,
}

impl SeenPlace {
    /// Names the stored signature file of a set, and a copy of it.
    pub fn new(set: &BackupSet, copy: Option<&LocalFile>) -> Self {
        Self {
            stored: set.signatures.as_ref().map(|file| file_identity(&file.listed)),
            copy: copy.map(copy_identity),
        }
    }

    /// Returns whether the stored file is the same.
    pub fn has_same_stored(&self, other: &Self) -> bool {
        self.stored == other.stored
    }
}

impl Catalog {
    /// Returns what is known of the signature file of a set.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn seen_signatures(&self, set: &BackupSet) -> Result<Option<SeenSignatures>, Error> {
        let Some(key) = key(set) else { return Ok(None) };
        self.sturdy(|_| {
            self.database.read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT hash, stored, copy FROM signatures WHERE manifest = ?1",
                )?;
                let row = |row: &rusqlite::Row| {
                    let place = SeenPlace { stored: row.get(1)?, copy: row.get(2)? };
                    Ok(SeenSignatures { hash: row.get(0)?, place })
                };
                Ok(statement.query_row([key], row).optional()?)
            })
        })
    }

    /// Keeps what is known of the signature file of a set, if that is possible.
    pub fn keep_seen_signatures(&self, set: &BackupSet, seen: &SeenSignatures) {
        let Some(key) = key(set) else { return };
        let SeenSignatures { hash, place: SeenPlace { stored, copy } } = seen;
        self.keep_if_possible(|connection| {
            let text = "INSERT OR REPLACE INTO signatures(manifest, hash, stored, copy) VALUES(?1, ?2, ?3, ?4)";
            Ok(connection.prepare_cached(text)?.execute((key, hash, stored, copy)).map(drop)?)
        });
    }

    /// Holds the rows of a set against its volumes as far as their tables of contents go; whole
    /// volumes are read only where such a table contradicts the rows. Volumes of duplicity have no
    /// tables.
    ///
    /// # Errors
    /// [`Error::Contradicted`] when the rows are wrong; other [`Error`]s when nothing tells.
    pub fn prove_by_tables(&self, chain: &Chain, position: u32) -> Result<(), Error> {
        let manifest = self.manifest(chain, position)?;
        for number in set_at(chain, position)?.volumes.keys() {
            let key = chain.volume_key(position, *number);
            let is_passed =
                self.ask(chain, position, |connection, _| seeks::is_passed(connection, key))?;
            if is_passed || self.fill_from_table(chain, position, *number)? {
                continue;
            }
            let table = manifest
                .volume(*number)
                .and_then(|described| self.table(chain, position, &described));
            if table.is_none() {
                return Ok(());
            }
            self.fill_volume(chain, position, *number)?;
        }
        Ok(())
    }

    /// Reports what is wrong with the signature file of a set: its volumes count from now on.
    pub fn distrust_signatures(&self, chain: &Chain, position: u32, what: &str) {
        let _ = self.distrust(chain, position, what.into());
    }

    /// Returns whether the signatures of a set count: its signature file gave the set's rows, and
    /// nothing has contradicted it.
    ///
    /// # Errors
    /// [`Error`] when the database fails.
    pub fn has_sound_signatures(&self, chain: &Chain, position: u32) -> Result<bool, Error> {
        Ok(!self.is_distrusted(set_at(chain, position)?)?
            && self.source_of(chain, position)? != Source::Volumes)
    }
}

/// Names the manifest of a set without its time stamp, which changes when a collection is copied.
fn key(set: &BackupSet) -> Option<[u8; 32]> {
    set.manifest
        .as_ref()
        .map(|manifest| file_identity(&Listed { stamp: 0, ..manifest.listed.clone() }))
}
