//! Where stored files lie: a flat set of named files behind a URL.
//!
//! [`Storage`] is the contract that every kind of storage keeps; [`open`] finds the kind that a URL
//! asks for. Names are flat: no storage descends into folders. A listing is a picture of one
//! moment: a file may be gone, or be longer, when it is read.
//!
//! A file is written as a whole: [`Storage::stage`] gives a [`StagedWriter`] for its bytes, and
//! [`Storage::put`] stores what has been staged. Nothing is to be seen under the name before that
//! has returned well, and it may be tried again. What a storage keeps meanwhile has a name that no
//! duplicity takes for one of its own.

use std::sync::Arc;

mod local;
mod memory;
mod recording;
mod retry;
mod staged;
mod stored;
mod url;

pub use local::{LocalStorage, open_file, read_file, unfinished};
pub use memory::MemoryStorage;
pub use recording::{Call, RecordingStorage};
pub use retry::RetryingStorage;
pub use staged::{ByteSink, Staged, StagedWriter};
pub use stored::{NotStored, check_stored};
pub use url::{Url, open, without_password};

/// One file in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its flat name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Something that changes when the file is written anew (a time stamp in nanoseconds); 0 where
    /// the storage knows nothing.
    pub stamp: u64,
}

/// A flat set of named files. All methods may be called from many threads at once.
pub trait Storage: Send + Sync {
    /// Returns the URL for messages, without password.
    fn location(&self) -> String;

    /// Returns every file in no particular order; names that are not UTF-8 and folders are left
    /// out.
    ///
    /// # Errors
    /// [`Error`] when the storage cannot be reached or does not exist.
    fn list(&self) -> Result<Vec<Listed>, Error>;

    /// Fills as much of `buffer` as the file has from byte `offset` on, and returns how much that
    /// is: less than asked for only at the end of the file.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::NotFound`] when there is no such file, other kinds when it
    /// cannot be read.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize, Error>;

    /// Makes the storage itself if it is missing, with the folders above it.
    ///
    /// # Errors
    /// [`Error`] when it cannot be made.
    fn prepare(&self) -> Result<(), Error>;

    /// Begins a file of this name, of which nothing is to be seen yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::Permission`], [`ErrorKind::NoSpace`] and others when nothing can
    /// be written.
    fn stage(&self, name: &str) -> Result<StagedWriter, Error>;

    /// Stores a file that was staged here, in the place of any other of its name. From then on it
    /// is there, whole, whatever happens to this machine. May be called again for the same file,
    /// whether it has failed before or not.
    ///
    /// # Errors
    /// [`Error`] when that cannot be promised.
    fn put(&self, staged: &Staged) -> Result<Listed, Error>;

    /// Deletes a file; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error`] when it is still there afterwards, or may be.
    fn delete(&self, name: &str) -> Result<(), Error>;
}

/// What can go wrong with a storage: operation, place, cause.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {operation} '{place}': {cause}")]
pub struct Error {
    /// What was tried, as an infinitive: "read", "list".
    pub operation: &'static str,
    /// Stored file or URL.
    pub place: String,
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What the system or the service said.
    pub cause: String,
}

/// What callers tell apart about failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL makes no sense, or names a scheme that is not served.
    BadUrl,
    /// There is no such file or storage.
    NotFound,
    /// The storage refuses access.
    Permission,
    /// There is no room left.
    NoSpace,
    /// It is another one than before, or somebody else has begun to write it.
    Changed,
    /// Anything else; trying again may help.
    Other,
}

impl Error {
    pub(crate) fn io(
        operation: &'static str,
        place: impl Into<String>,
        error: &std::io::Error,
    ) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::InvalidFilename => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Permission
            }
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
            _ => ErrorKind::Other,
        };
        Self { operation, place: place.into(), kind, cause: error.to_string() }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// Bytes that can be read from any offset: a stored file, or one whose bytes are checked on the
/// way.
pub trait ReadAt: Send + Sync {
    /// Returns the name for messages.
    fn name(&self) -> &str;

    /// Returns the size in bytes as listed.
    fn size(&self) -> u64;

    /// Fills as much of `buffer` as there is from byte `offset` on, and returns how much: less than
    /// asked for only at the end.
    ///
    /// # Errors
    /// [`Error`] when the bytes cannot be read, or are not the ones that they should be.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error>;
}

/// One stored file, to be read.
#[derive(Clone)]
pub struct StoredFile {
    storage: Arc<dyn Storage>,
    listed: Listed,
}

impl StoredFile {
    /// Names a file that a listing of `storage` held.
    pub fn new(storage: Arc<dyn Storage>, listed: Listed) -> Self {
        Self { storage, listed }
    }

    /// Returns what the listing said.
    pub fn listed(&self) -> &Listed {
        &self.listed
    }
}

impl ReadAt for StoredFile {
    fn name(&self) -> &str {
        &self.listed.name
    }

    fn size(&self) -> u64 {
        self.listed.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.storage.read_at(&self.listed.name, offset, buffer)
    }
}
