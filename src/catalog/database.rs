//! The database file: opening it, throwing it away when it is no good, and doing without it when it cannot be written.

use super::{Error, schema};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, RwLock};
use std::time::Duration;

/// Connections that are kept open for readers.
const READERS: usize = 4;

/// How often, and after which pause, a file is tried again that others are busy with.
const PATIENCE: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// A pool of connections to one database, in a file or, when that cannot be had, in memory.
pub struct Database {
    /// Replaced once, when the file turns out to be unusable.
    place: RwLock<Place>,
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    /// Held while writing, so that threads of one process queue here instead of in SQLite's busy handler.
    writing: Mutex<()>,
    /// Counts how often it was started over.
    generation: AtomicU64,
}

#[derive(Clone)]
enum Place {
    File {
        path: PathBuf,
        /// It has replaced a broken one.
        is_second: bool,
    },
    /// One connection, handed round: a second one would open another database.
    Memory,
}

impl Database {
    /// Opens or creates `catalog.sqlite` in `directory`, which is made with mode 0700. A file that is no good is replaced.
    ///
    /// # Errors
    /// [`Error`] when the file can be neither used nor replaced.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|cause| Error::directory(directory, cause))?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            .map_err(|cause| Error::directory(directory, cause))?;
        let path = directory.join("catalog.sqlite");
        let connection = match Self::connect(&path) {
            Ok(connection) => connection,
            // Only what is no catalog goes: another process may be at work on one that just cannot be opened now.
            Err(error) if !error.is_broken_file() && !matches!(error, Error::Schema) => return Err(error),
            Err(_) => {
                remove(&path).map_err(|cause| Error::directory(directory, cause))?;
                Self::connect(&path)?
            }
        };
        Ok(Self::new(Place::File { path, is_second: false }, connection))
    }

    /// Makes an empty database in memory.
    ///
    /// # Errors
    /// [`Error`] when there is no memory for it.
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self::new(Place::Memory, Self::memory()?))
    }

    fn new(place: Place, connection: Connection) -> Self {
        let idle = Mutex::new(vec![connection]);
        Self {
            place: RwLock::new(place),
            idle,
            returned: Condvar::new(),
            writing: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// Opens a file as ours.
    ///
    /// While several processes make the same file, SQLite refuses some of them at once, whatever time it was told to wait.
    fn connect(path: &Path) -> Result<Connection, Error> {
        for _ in 0..PATIENCE {
            match Self::try_connect(path) {
                Err(error) if error.is_busy() => std::thread::sleep(PAUSE),
                result => return result,
            }
        }
        Self::try_connect(path)
    }

    fn try_connect(path: &Path) -> Result<Connection, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        // Derived data: a power cut may cost it, so nothing waits for the disk. WAL keeps it sound when a process is killed.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        match schema::prepare(&mut connection)? {
            true => Ok(connection),
            false => Err(Error::Schema),
        }
    }

    fn memory() -> Result<Connection, Error> {
        let mut connection = Connection::open_in_memory()?;
        schema::prepare(&mut connection)?;
        Ok(connection)
    }

    /// Starts over with nothing in it: in a new file if the old one was found to be broken, which is tried once, or in memory. Does
    /// nothing when it is in memory already.
    ///
    /// # Errors
    /// [`Error`] when there is no memory for it.
    pub fn start_over(&self, is_broken: bool) -> Result<(), Error> {
        let mut place = self.place.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Place::File { path, is_second } = &mut *place else { return Ok(()) };
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.lock_idle().clear();
        if is_broken
            && !*is_second
            && remove(path).is_ok()
            && let Ok(connection) = Self::connect(path)
        {
            self.lock_idle().push(connection);
            *is_second = true;
            return Ok(());
        }
        self.lock_idle().push(Self::memory()?);
        *place = Place::Memory;
        Ok(())
    }

    /// Returns a number that changes when everything in the database is gone.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Tells whether the catalog lives in memory only.
    pub fn is_in_memory(&self) -> bool {
        matches!(*self.place.read().unwrap_or_else(|poisoned| poisoned.into_inner()), Place::Memory)
    }

    /// Runs `query` on a connection of its own.
    ///
    /// # Errors
    /// What `query` says, or [`Error`] when no connection can be opened.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|connection| query(connection))
    }

    /// Runs `change` as one transaction, alone among the writers; nothing of it stays when it fails.
    ///
    /// # Errors
    /// What `change` says, or [`Error`] when the transaction cannot be made.
    pub fn write<T>(&self, change: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let _queue = self.writing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Error>) -> Result<T, Error> {
        let place = self.place.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut connection = match &*place {
            Place::File { path, .. } => match self.lock_idle().pop() {
                Some(connection) => connection,
                None => Self::connect(path)?,
            },
            Place::Memory => {
                let mut idle = self.lock_idle();
                loop {
                    match idle.pop() {
                        Some(connection) => break connection,
                        None => idle = self.returned.wait(idle).unwrap_or_else(|poisoned| poisoned.into_inner()),
                    }
                }
            }
        };
        // Given back even when `work` panics: in memory there is only this one.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut connection)));
        let mut idle = self.lock_idle();
        if idle.len() < READERS {
            idle.push(connection);
        }
        drop(idle);
        self.returned.notify_one();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Removes a database file and what SQLite keeps beside it.
fn remove(path: &Path) -> std::io::Result<()> {
    ["", "-wal", "-shm"].iter().try_for_each(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        }
    })
}

impl Error {
    fn directory(directory: &Path, cause: std::io::Error) -> Self {
        Self::Directory { path: directory.to_path_buf(), cause: cause.to_string() }
    }

    fn is_busy(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else { return false };
        matches!(failure.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    }

    /// Tells whether the database file holds what SQLite, or we, did not write.
    pub(super) fn is_broken_file(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else { return matches!(self, Self::Broken) };
        matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    }

    /// Tells whether the database file itself is the trouble: full disk, no rights, broken file.
    pub(super) fn is_trouble_with_file(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else { return matches!(self, Self::Schema) };
        matches!(
            failure.code,
            ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
        )
    }
}
