//! The stored files of backup sets, opened: manifests, signature files, volumes. What they hold is
//! kept in the [`crate::catalog`], and asked from there.
//!
//! The catalog fills in two levels. Level 1 ([`Sets::fill`]) comes from signature files, or from
//! volumes where a signature file is missing: names, types, metadata. Level 2
//! ([`Sets::fill_volume`]) comes from the first pass over each volume, whatever that was made for:
//! sizes, extents, seek points. A volume of our own tells all that in the table of contents at its
//! end, so it needs no pass.
//!
//! # Volumes decide
//! Nothing in the format vouches for a signature file; the manifest vouches for each volume. So
//! level 1 is a promise:
//! - When it is taken over, it has to fit the manifest: a full set has its top, the first and last
//!   path of each volume is listed, and nothing outside of all volumes. Else the rows come from the
//!   volumes; if these cannot be read for now, the set has no rows. Where they do not fit the
//!   manifest either, which may be the one that is wrong, the names of the signature file are
//!   shown, reported as what nothing confirms; no increment is built on them, and no other process
//!   takes them over.
//! - Whenever a volume is read, each of its members is held against its row, and each row that has
//!   to be in it must have been met, down to owner and time. A contradiction voids the rows of the
//!   chain, and those of this set come from its volumes from then on.
//! - A copy in duplicity's archive directory counts only where what is stored is encrypted, and its
//!   rows go when it goes. No volume is damaged, and no set contradicted, by the word of a copied
//!   manifest: the stored one is asked first, and if it differs, it counts.
//! - An increment rests on signature files, and reads no volume of duplicity's before. So a
//!   signature file has to be the one that was seen first ([`catalog::SeenSignatures`]); when it is first
//!   seen, a copy has to be the stored one, and volumes with a table prove the rows
//!   ([`Sets::prove_by_tables`]). For a set that duplicity wrote, the first word of its
//!   signature file is taken, as by duplicity.
//!
//! A restore asks all volumes in whose range anything at its path could lie ([`Sets::prove`]),
//! so what it delivers is proved, and so is what it does not. A listing, and a mount that has read
//! no volume of a set, show what the signature file promises.
//!
//! # Passing is not damage
//! What is known to be damaged fails at once until the storage is listed anew. A storage that fails
//! proves nothing, and is asked again each time ([`Error::is_passing`]).
//!
//! # Invariants
//! - A table is taken only if it names this volume and fits the rows of its set.
//! - No write transaction is open while a stored file is read: what a set brings is put aside first
//!   (`spool`).

mod at_hand;
mod cursor;
mod distrust;
mod lines;
mod manifests;
mod passes;
mod proof;
mod saved_entries;
mod seek_indexes;
#[expect(clippy::module_inception, reason = "the noun of the module")]
mod sets;
mod snapshot;
mod spool;
mod stats;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod wrong;

pub use cursor::Cursor;
pub use passes::PassListener;
pub use saved_entries::{Saved, SavedEntries};
pub use sets::{Sets, SetsOptions};
pub use snapshot::{Snapshot, Walk};
#[cfg(test)]
pub(crate) use testing::{Files, PathState, World};

use crate::catalog::{self, MayBeOfCatalog};
use crate::codec;
use crate::format::{self, ReadError};

/// Why nothing can be said of sets, or of a file of theirs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog has no answer.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// There is no thread to be had.
    #[error(
        "cannot start a thread to read signature files with: {0}; raise the limits (ulimit -u, -v)"
    )]
    Thread(std::io::Error),
    /// A stored file of a set cannot be read; `what` names file and set.
    #[error("cannot read {what}: {cause}")]
    Set {
        /// Which file of which set.
        what: String,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// What is known to keep a set or a volume from being read.
    #[error(transparent)]
    Again(std::sync::Arc<Error>),
    /// A signature file lists something else than the sound volumes of its set hold, or the copy of
    /// a manifest is not of these volumes; [`Sets::renew`] leads on.
    #[error("the {file} of set {set} is wrong: {what}")]
    Contradicted {
        /// Which file of the set.
        file: &'static str,
        /// End time of the set.
        set: crate::model::BackupTime,
        /// The first contradiction.
        what: String,
    },
    /// A volume cannot be read.
    #[error("set {set}: {cause}")]
    Volume {
        /// End time of the set.
        set: crate::model::BackupTime,
        /// Why.
        #[source]
        cause: crate::volume::Error,
    },
    /// A volume that the manifest names is not in storage.
    #[error("set {set}: volume {number} is missing")]
    MissingVolume {
        /// End time of the set.
        set: crate::model::BackupTime,
        /// Number of the volume.
        number: u32,
    },
    /// The lines of a set cannot be put aside.
    #[error("cannot use a temporary file: {0}; free space in TMPDIR")]
    Temporary(#[source] std::io::Error),
}

impl MayBeOfCatalog for Error {
    fn of_catalog(&self) -> Option<&catalog::Error> {
        match self {
            Self::Catalog(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a stored file of a set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// There is none.
    #[error("it is not in storage")]
    Missing,
    /// It cannot be decoded.
    #[error("{0}")]
    Decode(#[from] codec::Error),
    /// It is not what it should be.
    #[error("{0}")]
    Format(#[from] format::Error),
    /// It does not fit what else is known of the set.
    #[error("{0}")]
    Content(String),
}

impl Cause {
    /// Returns whether another copy of the file may be better.
    fn is_of_content(&self) -> bool {
        match self {
            Self::Decode(error) => error.is_of_content(),
            Self::Format(_) | Self::Content(_) => true,
            Self::Missing => false,
        }
    }

    fn is_passing(&self) -> bool {
        match self {
            Self::Decode(error) => error.is_passing(),
            Self::Missing | Self::Format(_) | Self::Content(_) => false,
        }
    }
}

impl From<crate::storage::Error> for Cause {
    fn from(error: crate::storage::Error) -> Self {
        Self::Decode(error.into())
    }
}

impl From<ReadError<codec::Error>> for Cause {
    fn from(error: ReadError<codec::Error>) -> Self {
        match error {
            ReadError::Source(error) => error.into(),
            ReadError::Format(error) => error.into(),
        }
    }
}

impl From<String> for Cause {
    fn from(text: String) -> Self {
        Self::Content(text)
    }
}

impl From<&str> for Cause {
    fn from(text: &str) -> Self {
        Self::Content(text.into())
    }
}

impl Error {
    /// Returns whether a set could be read if only there were the right key, so that nothing else
    /// of it can be read either.
    pub(super) fn is_locked(&self) -> bool {
        use codec::Cause::{Gpg, NoPassphrase, NoSecretKey, Passphrase, WrongPassphrase};
        let cause = match self {
            Self::Set { cause: Cause::Decode(error), .. } => &error.cause,
            Self::Volume { cause: crate::volume::Error::Decode(error), .. } => &error.cause,
            _ => return false,
        };
        matches!(cause, NoPassphrase | WrongPassphrase | Passphrase(_) | NoSecretKey(_) | Gpg(_))
    }

    /// Returns whether the rows that were asked for have turned out to be wrong, so that
    /// [`Sets::renew`] leads on.
    pub fn is_contradicted(&self) -> bool {
        match self {
            Self::Again(cause) => cause.is_contradicted(),
            Self::Contradicted { .. } => true,
            _ => false,
        }
    }

    /// Returns whether nothing stored has proved to be damaged or missing: the storage, this
    /// machine or the catalog has failed, and may not the next time.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Again(cause) => cause.is_passing(),
            Self::Volume { cause, .. } => cause.is_passing(),
            Self::Set { cause, .. } => cause.is_passing(),
            Self::MissingVolume { .. } | Self::Catalog(catalog::Error::TooMany(_)) => false,
            Self::Contradicted { .. } | Self::Catalog(_) => true,
            Self::Thread(_) | Self::Temporary(_) => true,
        }
    }
}
