//! [`SeenSignatures`]: what is known of a signature file as a whole, so that another one in its
//! place is noticed.
//!
//! An increment rests on signature files: they decide which files have changed, and deltas are made
//! against them. An older one that is sound in itself would make a wrong backup. So the hash of
//! what a signature file holds is kept from the time when it was written here, or looked at for the
//! first time; by the set's manifest, which it shares its life with. Later looks cost a comparison
//! of sizes and time stamps.

use super::Error;
use super::catalog::Catalog;
use super::chains::{copy_identity, file_identity};
use crate::collection::{BackupSet, LocalFile, SetFile};
use crate::storage::Listed;
use std::collections::HashMap;

/// A signature file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSignatures {
    /// BLAKE3 of the plain bytes.
    pub hash: [u8; 32],
    /// Where they were seen.
    pub place: SeenPlace,
}

/// Which files a signature file was read from: the stored one, if it was opened, and the copy in
/// the archive directory, by name, size and time stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPlace {
    stored: Option<[u8; 32]>,
    copy: Option<[u8; 32]>,
}

impl SeenPlace {
    /// Names the stored signature file of a set, if it has been opened, and a copy of it.
    pub fn new(stored: Option<&SetFile>, copy: Option<&LocalFile>) -> Self {
        let stored = stored.map(|file| file_identity(&file.listed));
        Self { stored, copy: copy.map(copy_identity) }
    }

    /// Returns whether these files have been seen here. A stored file that nobody has opened stays
    /// out of account as long as the copy is the same.
    pub fn holds(&self, now: &Self) -> bool {
        self.copy == now.copy && (self.stored.is_none() || self.stored == now.stored)
    }

    /// Returns whether the stored file has been seen, and is the same.
    pub fn has_same_stored(&self, now: &Self) -> bool {
        self.stored.is_some() && self.stored == now.stored
    }
}

/// What is known of signature files, by the manifests of their sets.
pub struct AllSeen(HashMap<[u8; 32], SeenSignatures>);

impl AllSeen {
    /// Returns what is known of the signature file of a set.
    pub fn of(&self, set: &BackupSet) -> Option<&SeenSignatures> {
        self.0.get(&key(set)?)
    }
}

impl Catalog {
    /// Returns all that is known of signature files, by one question.
    ///
    /// # Errors
    /// [`Error`] when the database fails even in memory.
    pub fn seen_signatures(&self) -> Result<AllSeen, Error> {
        self.sturdy(|_| {
            self.read(|rows| {
                let text = "SELECT manifest, hash, stored, copy FROM signatures";
                let mut statement = rows.connection.prepare_cached(text)?;
                let rows = statement.query_map([], |row| {
                    let place = SeenPlace { stored: row.get(2)?, copy: row.get(3)? };
                    Ok((row.get(0)?, SeenSignatures { hash: row.get(1)?, place }))
                })?;
                Ok(AllSeen(rows.collect::<Result<_, _>>()?))
            })
        })
    }

    /// Keeps what is known of the signature file of a set, if that is possible.
    pub fn keep_seen_signatures(&self, set: &BackupSet, seen: &SeenSignatures) {
        let Some(key) = key(set) else { return };
        let SeenSignatures { hash, place: SeenPlace { stored, copy } } = seen;
        self.keep_if_possible(|rows| {
            let text = "INSERT OR REPLACE INTO signatures(manifest, hash, stored, copy) \
                        VALUES(?1, ?2, ?3, ?4)";
            Ok(rows
                .connection
                .prepare_cached(text)?
                .execute((key, hash, stored, copy))
                .map(drop)?)
        });
    }
}

/// Names the manifest of a set without its time stamp, which changes when a collection is copied.
fn key(set: &BackupSet) -> Option<[u8; 32]> {
    set.manifest
        .as_ref()
        .map(|manifest| file_identity(&Listed { stamp: 0, ..manifest.listed.clone() }))
}
