//! Where stored files lie: a flat set of named files behind a URL.
//!
//! [`Storage`] is the contract that every kind of storage keeps; [`open()`] finds the kind that a URL
//! asks for. Names are flat: no storage descends into folders. A listing is a picture of one
//! moment: a file may be gone, or be longer, when it is read.
//!
//! A file is written as a whole: [`Storage::stage`] gives a [`StagedWriter`] for its bytes, and
//! [`Storage::put`] stores what has been staged. Nothing is to be seen under the name before that
//! has returned well, and it may be tried again. What a storage keeps meanwhile has a name that no
//! duplicity takes for one of its own.
//!
//! A storage may have a file more than once, or be able to mend it. It does not know what the bytes
//! should be: whoever finds them wrong, by a hash or since they cannot be decoded, asks for
//! [another copy](Storage::other_copy), and reads again ([`StoredFile::with_copies`]).

use crate::work;
use std::ops::Range;
use std::sync::Arc;

mod error;
mod layers;
mod open;
mod pace;
mod services;
mod settings;
mod staged;
mod stored;
mod url;

pub use error::{Error, ErrorKind};
pub use layers::{
    Call, MultiConfig, MultiStorage, Par2Storage, RecordingStorage, RetryingStorage,
    ThrottledStorage,
};
pub use open::open;
pub use pace::Pace;
#[cfg(feature = "ftp")]
pub use services::FtpStorage;
#[cfg(feature = "http")]
pub use services::OpendalStorage;
#[cfg(feature = "rsync")]
pub use services::RsyncStorage;
pub use services::{LocalStorage, MemoryStorage, open_file, read_file, unfinished};
#[cfg(feature = "sftp")]
pub use services::{SftpStorage, answer_ssh};
pub use settings::{
    AzureSettings, Par2Options, PasswordSource, S3Settings, Settings, TlsSettings, VariableSource,
};
pub use staged::{ByteSink, Staged, StagedWriter};
pub use stored::{NotStored, check_stored};
pub use url::{Url, without_password};

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

    /// Returns what this kind of storage can do.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// Makes the storage itself if it is missing, with the folders above it.
    ///
    /// # Errors
    /// [`Error`] when it cannot be made.
    fn prepare(&self) -> Result<(), Error>;

    /// Returns every file in no particular order; names that are not UTF-8 and folders are left
    /// out.
    ///
    /// # Errors
    /// [`Error`] when the storage cannot be reached; with [`ErrorKind::NotFound`] when the storage
    /// itself does not exist, for the operation "list" where [`Storage::prepare`] makes it, for
    /// "reach" where it has to be there.
    fn list(&self) -> Result<Vec<Listed>, Error>;

    /// Fills as much of `buffer` as the file has from byte `offset` on, by one request, and returns
    /// how much that is: less than asked for only at the end of the file.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::NotFound`] when there is no such file, with
    /// [`ErrorKind::Changed`] when the storage knows that it is not the listed one any more, other
    /// kinds when it cannot be read.
    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error>;

    /// Begins to read the file from byte `from` up to its end, by one request.
    ///
    /// # Errors
    /// As [`Storage::read_at`]; the stream itself may return them, too.
    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error>;

    /// Reads several ranges, [`Abilities::transfers`] of them at once. The results are in the order
    /// of the ranges; each is shorter than its range only at the end of its file.
    fn read_many(&self, wanted: &[(&Listed, Range<u64>)]) -> Vec<Result<Vec<u8>, Error>> {
        work::all(wanted, self.abilities().transfers, |(file, range)| {
            let length = range.end.saturating_sub(range.start);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            let count = self.read_at(file, range.start, &mut bytes)?;
            bytes.truncate(count);
            Ok(bytes)
        })
    }

    /// Returns which copy of a file is read at present.
    fn copy_in_use(&self, file: &Listed) -> CopyInUse {
        CopyInUse { number: 0, size: file.size }
    }

    /// Takes note that the bytes of a file are wrong that were read while the copy of this number was
    /// in use ([`Storage::copy_in_use`]). Returns whether another copy is in use now, because of this
    /// call or of an earlier one: reads of the same file get its bytes from now on.
    ///
    /// # Errors
    /// [`Error`] when there may be another copy, and it cannot be had for now.
    fn other_copy(&self, _file: &Listed, _wrong: u32) -> Result<bool, Error> {
        Ok(false)
    }

    /// Begins a file of this name, of which nothing is to be seen yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::Denied`], [`ErrorKind::NoSpace`] and others when nothing can be
    /// written.
    fn stage(&self, name: &str) -> Result<StagedWriter, Error>;

    /// Stores a file that was staged, here or for another storage, in the place of any other of its
    /// name. From then on it is there, whole, whatever happens to this machine. May be called again
    /// for the same file, whether it has failed before or not.
    ///
    /// # Errors
    /// [`Error`] when that cannot be promised.
    fn put(&self, staged: &Staged) -> Result<Listed, Error>;

    /// Deletes files, as many at once as the storage can; one that is not there is no error. The
    /// results are in the order of the names.
    ///
    /// # Errors
    /// [`Error`] for each that is still there afterwards, or may be.
    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>>;
}

/// What a kind of storage can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// How many transfers at once are faster than one after the other, or as many as the user wants
    /// (`--concurrency`); one at least. A disk of this machine gains nothing by several.
    pub transfers: usize,
    /// Whether reading bytes once more costs next to nothing.
    pub rereads: bool,
    /// Whether there may be other copies of a file: see [`Storage::other_copy`].
    pub copies: bool,
}

/// Those of a directory of this machine.
impl Default for Abilities {
    fn default() -> Self {
        Self { transfers: 1, rereads: true, copies: false }
    }
}

/// The copy of a file that is read at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyInUse {
    /// Another one for each copy; 0 for the first.
    pub number: u32,
    /// Its size in bytes: that of a copy that is damaged may be another one than is listed.
    pub size: u64,
}

/// The bytes of a stored file, as they come in.
pub trait ByteStream: Send + Sync {
    /// Fills `buffer`, and returns how much of it: less than all only at the end of the file.
    ///
    /// # Errors
    /// [`Error`] when the bytes cannot be read.
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error>;
}

/// Bytes that can be read from any offset: a stored file, or one whose bytes are checked on the
/// way.
pub trait ReadAt: Send + Sync {
    /// Returns the name for messages.
    fn name(&self) -> &str;

    /// Returns the size in bytes.
    fn size(&self) -> u64;

    /// Fills as much of `buffer` as there is from byte `offset` on, and returns how much: less than
    /// asked for only at the end.
    ///
    /// # Errors
    /// [`Error`] when the bytes cannot be read, or are not the ones that they should be.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error>;

    /// Begins to read from byte `from` up to the end, by one request; `None` where
    /// [`ReadAt::read_at`] costs no request.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn stream(&self, _from: u64) -> Result<Option<Box<dyn ByteStream>>, Error> {
        Ok(None)
    }
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

    /// Returns the storage in which it lies.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Does a work with the file. Where its outcome proves that the bytes of the file are wrong, does
    /// it again with the next copy, as long as there is one.
    ///
    /// # Errors
    /// Those of `work`; that the next copy cannot be had for now.
    pub fn with_copies<T, E: From<Error>>(
        &self,
        is_wrong: impl Fn(&E) -> bool,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let copy = self.copy_in_use();
            match work() {
                Err(error) if is_wrong(&error) => {
                    if !self.other_copy(copy)? {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    /// Returns which copy is read at present: [`Storage::copy_in_use`].
    pub fn copy_in_use(&self) -> CopyInUse {
        self.storage.copy_in_use(&self.listed)
    }

    /// Asks for another copy than a wrong one that was in use: [`Storage::other_copy`].
    ///
    /// # Errors
    /// [`Error`] when there may be another copy, and it cannot be had for now.
    pub fn other_copy(&self, wrong: CopyInUse) -> Result<bool, Error> {
        self.storage.other_copy(&self.listed, wrong.number)
    }

    /// Reads several ranges at once: [`Storage::read_many`] for each row of files of one storage.
    pub fn read_many(wanted: &[(&Self, Range<u64>)]) -> Vec<Result<Vec<u8>, Error>> {
        let rows = wanted.chunk_by(|(one, _), (next, _)| Arc::ptr_eq(&one.storage, &next.storage));
        let read = |row: &[(&Self, Range<u64>)]| {
            let ranges: Vec<_> =
                row.iter().map(|(file, range)| (&file.listed, range.clone())).collect();
            row.first().map_or_else(Vec::new, |(file, _)| file.storage.read_many(&ranges))
        };
        rows.flat_map(read).collect()
    }
}

impl ReadAt for StoredFile {
    fn name(&self) -> &str {
        &self.listed.name
    }

    fn size(&self) -> u64 {
        self.copy_in_use().size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        // Whoever wants nothing, as at the end of the file, needs no request.
        if buffer.is_empty() {
            return Ok(0);
        }
        self.storage.read_at(&self.listed, offset, buffer)
    }

    fn stream(&self, from: u64) -> Result<Option<Box<dyn ByteStream>>, Error> {
        self.storage.stream(&self.listed, from).map(Some)
    }
}
