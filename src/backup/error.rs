//! [`Error`]: why a session cannot be made, or cannot go on.

use crate::collection::ArchiveError;
use crate::format::ReadError;
use crate::model::{BackupTime, EntryPath};
use crate::{catalog, codec, sets, storage, volume, work};
use std::io;
use std::path::{Path, PathBuf};

/// Why a session cannot be made, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the source cannot be read to its end, and part of it may be stored:
    /// [`backup()`](super::backup()) goes on without it.
    #[error("cannot read '{path}' to its end: {cause}")]
    Source {
        /// The file.
        path: EntryPath,
        /// What the system said.
        cause: io::Error,
    },
    /// The rest of a file is gone, of which an interrupted session has stored a part.
    #[error("the rest of '{0}' is gone, of which an interrupted backup has stored a part")]
    Lost(EntryPath),
    /// A signature file cannot be read.
    #[error("cannot read the signatures in '{file}': {cause}; a full backup needs none")]
    Signatures {
        /// The signature file.
        file: String,
        /// Why.
        #[source]
        cause: Box<SignaturesCause>,
    },
    /// The archive directory or the journal cannot be used.
    #[error("cannot {operation} '{}': {cause}", path.display())]
    Archive {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A volume is not in storage as it was stored.
    #[error(transparent)]
    NotStored(#[from] storage::NotStored),
    /// A temporary file cannot be used.
    #[error("cannot use a temporary file: {0}; --tempdir names another folder for them")]
    Temporary(io::Error),
    /// A file cannot be stored or read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A volume cannot be written.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// A file cannot be encoded.
    #[error(transparent)]
    Encode(#[from] codec::Error),
    /// The catalog has no answer.
    #[error(transparent)]
    Sets(#[from] sets::Error),
    /// Something would remove a complete set.
    #[error(
        "the backup of {0} is complete, and is not removed; its checkpoint in the archive directory is wrong"
    )]
    Complete(BackupTime),
    /// The monitor wanted it.
    #[error("interrupted; run this again to go on from here")]
    Interrupted,
    /// `--fail-on-volume`.
    #[error("told to fail on volume {0}")]
    ToldToFail(u32),
    /// There is no thread to be had.
    #[error("cannot start a thread to make volumes with: {0}; raise the limits (ulimit -u, -v)")]
    Thread(io::Error),
    /// Another part of the session has failed, and says why.
    #[error("the session has ended")]
    Stopped,
    /// A frame came when no volume was open.
    #[error("no volume is open")]
    NoVolume,
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        Self::Sets(error.into())
    }
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Storage(error) => error.into(),
            ArchiveError::Decode(error) => error.into(),
            ArchiveError::Local { operation, path, cause } => {
                Self::Archive { operation, path, cause }
            }
            ArchiveError::Locked(path) => {
                Self::Archive { operation: "lock", path, cause: io::ErrorKind::WouldBlock.into() }
            }
        }
    }
}

impl Error {
    pub(super) fn source(path: &EntryPath, cause: io::Error) -> Self {
        Self::Source { path: path.clone(), cause }
    }

    pub(super) fn archive(operation: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Archive { operation, path: path.to_path_buf(), cause }
    }

    pub(super) fn temporary(cause: io::Error) -> Self {
        Self::Temporary(cause)
    }
}

impl From<work::Stopped> for Error {
    fn from(stopped: work::Stopped) -> Self {
        match stopped {
            work::Stopped::Taker => Self::Stopped,
            work::Stopped::Thread(cause) => Self::Thread(cause),
        }
    }
}

/// Why signatures cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SignaturesCause {
    /// There is no signature file.
    #[error("it is not there")]
    Missing,
    /// Other programs write to the archive directory all the time.
    #[error("they keep changing")]
    Changing,
    /// It cannot be decoded, or is none.
    #[error("{0}")]
    Read(#[from] ReadError<codec::Error>),
    /// A temporary file cannot be used.
    #[error("cannot use a temporary file: {0}; --tempdir names another folder for them")]
    Temporary(#[source] std::io::Error),
}

impl From<codec::Error> for SignaturesCause {
    fn from(error: codec::Error) -> Self {
        Self::Read(ReadError::Source(error))
    }
}
