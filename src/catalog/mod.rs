//! What is where: which set holds each version of each path, and where its bytes lie.
//!
//! A backup set never changes once it is complete, and lists the paths that it touched in path
//! order. So a chain is a stack of sorted runs, newest on top, and the tree at one time is the
//! newest version of each path at or before it:
//!
//! ```text
//! position 2   ·     b deleted      ·          d' delta          the set's rows of `versions`, ids in path order
//! position 1   a'       ·        c/x new       d' whole
//! position 0   a        b           ·          d
//!              └ one row per (directory, name, position): look-ups are one search of one index
//! ```
//!
//! The catalog is an SQLite database with those rows. It fills in two levels. Level 1
//! ([`Catalog::fill`]) comes from signature files, or from volumes where a signature file is
//! missing: names, types, metadata. Level 2 ([`Catalog::fill_volume`]) comes from the first pass
//! over each volume, whatever that was made for: sizes, extents, seek points. A volume of our own
//! tells all that in the table of contents at its end, so it needs no pass.
//!
//! All of it is derived data, filled anew when in doubt. A set is known again by the names, sizes
//! and time stamps of its stored files; a chain that lost or changed a set gets new ids, so that an
//! id never means another thing.
//!
//! # Volumes decide
//! Nothing in the format vouches for a signature file; the manifest vouches for each volume. So
//! level 1 is a promise:
//! - When it is taken over, it has to fit the manifest: a full set has its top, the first and last
//!   path of each volume is listed, and nothing outside of all volumes. Else the rows come from the
//!   volumes.
//! - Whenever a volume is read, each of its members is held against its row, and each row that has
//!   to be in it must have been met, down to owner and time. A contradiction voids the rows of the
//!   chain, and those of this set come from its volumes from then on.
//! - A copy in duplicity's archive directory counts only where what is stored is encrypted, and its
//!   rows go when it goes. No volume is damaged, and no set contradicted, by the word of a copied
//!   manifest: the stored one is asked first, and if it differs, it counts.
//! - An increment rests on signature files, and reads no volume of duplicity's before. So a
//!   signature file has to be the one that was seen first ([`SeenSignatures`]); when it is first
//!   seen, a copy has to be the stored one, and volumes with a table prove the rows
//!   ([`Catalog::prove_by_tables`]). For a set that duplicity wrote, the first word of its
//!   signature file is taken, as by duplicity.
//!
//! A restore asks all volumes in whose range anything at its path could lie ([`Catalog::prove`]),
//! so what it delivers is proved, and so is what it does not. A listing, and a mount that has read
//! no volume of a set, show what the signature file promises.
//!
//! # Passing is not damage
//! What is known to be damaged fails at once until the storage is listed anew. A storage that fails
//! proves nothing, and is asked again each time ([`Error::is_passing`]).
//!
//! # A cache
//! It is a cache, so it may be wrong, locked, gone or full, and nobody is worse off:
//!
//! | what happens | what notices | what follows |
//! |---|---|---|
//! | a bit or a row has changed, a page is old or cut off | the check of its page (`pages`) | filled anew, and asked again |
//! | a value, row or table makes no sense | whoever reads it | the same |
//! | the file was removed, exchanged or cut under a mount | a look at its inodes before each use (`database`) | the same |
//! | another process holds it locked, the disk is full | SQLite | on in memory, or without keeping what is learnt |
//! | rows are gone by another process's hand | their set's row, asked for behind each answer ([`Catalog`]'s `ask`) | filled in again |
//! | others may have written it | owner and mode | on in memory |
//!
//! # Invariants
//! - Rows of `versions` are never changed but for their size, which goes from unknown to exact.
//! - Rows of `parts` of a volume are used only if its row of `volumes` says that its first pass
//!   ended well, or that its table was taken; a table is taken only if it names this volume and
//!   fits the rows of its set.
//! - Every question is asked through `ask`, and every answer that counts is written through
//!   `record`: the rows of the set that it rests on were there. Nobody asks while filling a chain,
//!   which would wait for itself.
//! - Nothing is decoded or waited for while the database is locked for writing, and a collection
//!   that is known is not written at all.
//! - Numbers of chains and sets hold across a new start; where they clash with another process's,
//!   the catalog goes on in memory.

mod at_hand;
#[expect(clippy::module_inception, reason = "the noun of the module")]
mod catalog;
mod chains;
mod cursor;
mod database;
mod distrust;
mod fill;
mod lines;
mod packed;
mod pages;
mod passes;
mod proof;
mod query;
mod saved_entries;
mod schema;
mod seeks;
mod signature_hashes;
mod snapshot;
mod spool;
mod stats;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod wrong;

pub use crate::format::{Extent, Part};
pub use catalog::{Catalog, CatalogOptions};
pub use chains::Chain;
pub use cursor::Cursor;
pub use passes::PassListener;
pub use query::{DirectoryId, Tops, Version, VersionId, VersionKind};
pub use saved_entries::{Saved, SavedEntries};
pub use signature_hashes::{AllSeen, SeenPlace, SeenSignatures};
pub use snapshot::{Snapshot, Walk};
pub use stats::SourceStat;
#[cfg(test)]
pub(crate) use testing::{Files, PathState, World};

use crate::codec;
use crate::format::{self, ReadError};
use std::path::PathBuf;

/// Why the catalog has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory for the database cannot be used.
    #[error("cannot use the cache directory '{}': {cause}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A file that others can have written is not believed.
    #[error("will not use the cache at '{}': {cause}; remove it, and it will be made anew", path.display())]
    Untrusted {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The database file is gone, was cut, or is another one than was opened.
    #[error("the file of the catalog was removed or replaced")]
    Replaced,
    /// SQLite failed.
    #[error("the catalog failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// There is no thread to be had.
    #[error(
        "cannot start a thread to read signature files with: {0}; raise the limits (ulimit -u, -v)"
    )]
    Thread(std::io::Error),
    /// The file holds other tables than ours.
    #[error("the catalog file is of another version")]
    Schema,
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
    /// a manifest is not of these volumes; [`Catalog::renew`] leads on.
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
    /// A value is not the one that was stored.
    #[error("the catalog is damaged")]
    Broken,
    /// The lines of a set cannot be put aside.
    #[error("cannot use a temporary file: {0}; free space in TMPDIR")]
    Temporary(#[source] std::io::Error),
    /// The rows of a set are not there (any more), so an answer means nothing.
    #[error("the catalog no longer has the rows of this backup")]
    Lost,
    /// Something asked for is not in the catalog (any more).
    #[error("the catalog no longer has {0}")]
    Gone(String),
    /// More chains, sets or versions than ids have room for.
    #[error("too many {0} for the catalog")]
    TooMany(&'static str),
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
    fn is_passing(&self) -> bool {
        match self {
            Self::Decode(error) => error.is_passing(),
            Self::Missing | Self::Format(_) | Self::Content(_) => false,
        }
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
    /// [`Catalog::renew`] leads on.
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
            Self::MissingVolume { .. } | Self::TooMany(_) => false,
            Self::Contradicted { .. }
            | Self::Directory { .. }
            | Self::Untrusted { .. }
            | Self::Database(_) => true,
            Self::Replaced | Self::Schema | Self::Broken | Self::Lost | Self::Gone(_) => true,
            Self::Thread(_) | Self::Temporary(_) => true,
        }
    }
}
