//! The database file: opening it, throwing it away when it is no good, and doing without it when it
//! cannot be used.
//!
//! Nobody may be worse off for having a catalog. So:
//! - What is not of this user alone, and no plain file, is not used ([`Error::Untrusted`]).
//! - Each use of the file first looks whether the file, its log and the index of the log are still
//!   those that were opened, and none of them has been cut: all further connections are to the same
//!   file. SQLite maps the index of the log into memory, and the process would die of what lies
//!   behind a new end of it.
//! - A file that is broken, or was replaced, is replaced once in a while; otherwise everything goes
//!   on in memory. So it does on a full disk, and where another process keeps the file locked for
//!   longer than [`PATIENCE`].
//! - The [generation](Database::generation) then is another one: what was found before holds no
//!   more, and who needs it fills it in anew.

use super::{Error, pages, schema};
use parking_lot::{Condvar, Mutex, RwLock};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections that are kept open for readers.
const READERS: usize = 4;

/// How long a file is waited for that others are busy with.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// The pause between two attempts to open it.
const PAUSE: Duration = Duration::from_millis(20);
/// A file that has to be replaced again within this time is done without.
const REPLACED_LATELY: Duration = Duration::from_secs(600);

/// The database, its log, and the index of that.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// The least length of the index of the log, as SQLite makes and maps it.
const LEAST_INDEX: u64 = 32 * 1024;

/// A pool of connections to one database, in a file or, when that cannot be had, in memory.
pub struct Database {
    /// Replaced when the file turns out to be unusable.
    place: RwLock<DatabaseLocation>,
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    /// Held while writing, so that threads of one process queue here instead of in SQLite's busy
    /// handler.
    writing: Mutex<()>,
    /// Counts how often it was started over.
    generation: AtomicU64,
    #[cfg(test)]
    uses: AtomicU64,
}

enum DatabaseLocation {
    File {
        path: PathBuf,
        /// Device and inode of each of [`SUFFIXES`].
        files: [(u64, u64); SUFFIXES.len()],
        /// When it has replaced another one.
        replaced: Option<Instant>,
    },
    /// One connection, handed round: a second one would open another database.
    Memory,
}

impl Database {
    /// Opens or creates `catalog.sqlite` in `directory`, which is made with mode 0700. A file that
    /// is no good is replaced.
    ///
    /// # Errors
    /// [`Error`] when the file can be neither used nor replaced.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|cause| Error::directory(directory, cause))?;
        check_private(directory, true)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
            .map_err(|cause| Error::directory(directory, cause))?;
        let path = directory.join("catalog.sqlite");
        let (connection, files) = match Self::create(&path) {
            Ok(opened) => opened,
            // Only what is no catalog goes: another process may be at work on one that just cannot
            // be opened now.
            Err(error) if !error.is_broken_file() => return Err(error),
            Err(_) => {
                remove(&path, &SUFFIXES).map_err(|cause| Error::directory(directory, cause))?;
                Self::create(&path)?
            }
        };
        Ok(Self::new(DatabaseLocation::File { path, files, replaced: None }, connection))
    }

    /// Makes an empty database in memory.
    ///
    /// # Errors
    /// [`Error`] when there is no memory for it.
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self::new(DatabaseLocation::Memory, Self::memory()?))
    }

    fn new(place: DatabaseLocation, connection: Connection) -> Self {
        let idle = Mutex::new(vec![connection]);
        Self {
            place: RwLock::new(place),
            idle,
            returned: Condvar::new(),
            writing: Mutex::default(),
            generation: AtomicU64::new(0),
            #[cfg(test)]
            uses: AtomicU64::new(0),
        }
    }

    /// Opens a file as ours, new or not, and returns what there is by now to be known again.
    fn create(path: &Path) -> Result<(Connection, [(u64, u64); SUFFIXES.len()]), Error> {
        for suffix in SUFFIXES {
            match check_private(&with(path, suffix), false) {
                // The log of a file that is gone is no log of a new one, though SQLite would take
                // it for one.
                Err(Error::Directory { .. }) if suffix.is_empty() => {
                    remove(path, &SUFFIXES[1..]).map_err(|cause| Error::directory(path, cause))?;
                }
                Err(Error::Directory { .. }) => {}
                other => other?,
            }
        }
        let connection = Self::connect(path, OpenFlags::SQLITE_OPEN_CREATE)?;
        let files = identities(path).ok_or(Error::Replaced)?;
        Ok((connection, files))
    }

    /// Opens a file as ours.
    ///
    /// While several processes make the same file, SQLite refuses some of them at once, whatever
    /// time it was told to wait.
    fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
        let since = Instant::now();
        loop {
            match Self::try_connect(path, flags) {
                Err(error) if error.is_busy() && since.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE)
                }
                result => return result,
            }
        }
    }

    fn try_connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
        let code = pages::register();
        if code != ffi::SQLITE_OK {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into());
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags_and_vfs(path, flags, pages::NAME)?;
        pages::reserve(&connection)?;
        connection.busy_timeout(PATIENCE)?;
        // Derived data: a power cut may cost the newest of it, so nothing waits for the disk but a
        // log that is about to be used again. That, and being killed, leaves the file sound.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        match schema::prepare(&mut connection)? {
            true => Ok(connection),
            false => Err(Error::Schema),
        }
    }

    fn memory() -> Result<Connection, Error> {
        let mut connection = Connection::open_in_memory()?;
        connection.set_prepared_statement_cache_capacity(64);
        schema::prepare(&mut connection)?;
        Ok(connection)
    }

    /// Starts over because of what went wrong in a generation: in another file if the old one is
    /// broken or gone, but not time and again, or in memory. `forget` drops what was read from the
    /// old one, `keep` writes what a new one has to know, or finds that it does not fit, and then
    /// memory is used too. Does nothing in memory, or when another thread was faster; tells whether
    /// it did anything.
    ///
    /// # Errors
    /// [`Error`] when there is no memory for it.
    pub fn start_over(
        &self,
        generation: u64,
        error: &Error,
        forget: impl FnOnce(),
        keep: impl Fn(&Connection) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let mut place = self.place.write();
        let DatabaseLocation::File { path, files, replaced } = &mut *place else {
            return Ok(false);
        };
        if self.generation() != generation {
            return Ok(false);
        }
        forget();
        let connections = std::mem::take(&mut *self.lock_idle());
        match is_same(path, files) {
            true => drop(connections),
            // To close them would be to use what may have been cut.
            false => std::mem::forget(connections),
        }
        let lately = replaced.is_some_and(|when| when.elapsed() < REPLACED_LATELY);
        let next = || -> Result<_, Error> {
            // Otherwise another process has replaced it already.
            if identity(path) == Some(files[0]) {
                remove(path, &SUFFIXES).map_err(|cause| Error::directory(path, cause))?;
            }
            let (mut connection, files) = Self::create(path)?;
            let fits = transaction(&mut connection, &keep)?;
            Ok(fits.then_some((connection, files)))
        };
        let opened = if error.is_broken_file() && !lately { next().ok().flatten() } else { None };
        match opened {
            Some((connection, found)) => {
                self.lock_idle().push(connection);
                (*files, *replaced) = (found, Some(Instant::now()));
            }
            None => {
                let mut memory = Self::memory()?;
                transaction(&mut memory, keep)?;
                self.lock_idle().push(memory);
                *place = DatabaseLocation::Memory;
            }
        }
        self.next_generation();
        Ok(true)
    }

    /// Returns a number that changes when everything in the database may be gone.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Says that rows have gone, by another process's hand: what was found before holds no more.
    pub fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was asked of it and written to it.
    #[cfg(test)]
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Returns whether the catalog lives in memory only.
    pub fn is_in_memory(&self) -> bool {
        matches!(*self.place.read(), DatabaseLocation::Memory)
    }

    /// Runs `query` on a connection of its own.
    ///
    /// # Errors
    /// What `query` says, or [`Error`] when no connection can be opened.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|connection| query(connection))
    }

    /// Runs `change` as one transaction, alone among the writers; nothing of it stays when it
    /// fails.
    ///
    /// # Errors
    /// What `change` says, or [`Error`] when the transaction cannot be made.
    pub fn write<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let _queue = self.writing.lock();
        self.with(|connection| transaction(connection, change))
    }

    fn with<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        #[cfg(test)]
        self.uses.fetch_add(1, Ordering::Relaxed);
        let place = self.place.read();
        let mut connection = match &*place {
            DatabaseLocation::File { path, files, .. } => {
                if !is_same(path, files) {
                    return Err(Error::Replaced.into());
                }
                let idle = self.lock_idle().pop();
                match idle {
                    Some(connection) => connection,
                    None => {
                        let connection = Self::connect(path, OpenFlags::empty())?;
                        if !is_same(path, files) {
                            return Err(Error::Replaced.into());
                        }
                        connection
                    }
                }
            }
            DatabaseLocation::Memory => {
                let mut idle = self.lock_idle();
                loop {
                    match idle.pop() {
                        Some(connection) => break connection,
                        None => self.returned.wait(&mut idle),
                    }
                }
            }
        };
        // Given back even when `work` panics: in memory there is only this one.
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut connection)));
        let mut idle = self.lock_idle();
        if idle.len() < READERS {
            idle.push(connection);
        }
        drop(idle);
        self.returned.notify_one();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn lock_idle(&self) -> parking_lot::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock()
    }
}

fn transaction<T, E: From<Error>>(
    connection: &mut Connection,
    change: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(Error::Database)?;
    let result = change(&transaction)?;
    transaction.commit().map_err(Error::Database)?;
    Ok(result)
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a database file, and what SQLite keeps beside it, as far as they are there.
fn remove(path: &Path, suffixes: &[&str]) -> std::io::Result<()> {
    suffixes.iter().try_for_each(|suffix| match std::fs::remove_file(with(path, suffix)) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    })
}

/// Returns device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Returns device and inode of the files of a database, unless one of them is missing.
fn identities(path: &Path) -> Option<[(u64, u64); SUFFIXES.len()]> {
    let [database, log, index] = SUFFIXES.map(|suffix| identity(&with(path, suffix)));
    Some([database?, log?, index?])
}

/// Returns whether a database that is open still lies in these files.
fn is_same(path: &Path, files: &[(u64, u64); SUFFIXES.len()]) -> bool {
    SUFFIXES.iter().zip(files).all(|(suffix, expected)| {
        let least = if *suffix == SUFFIXES[2] { LEAST_INDEX } else { 0 };
        let found = std::fs::symlink_metadata(with(path, suffix));
        found.is_ok_and(|found| (found.dev(), found.ino()) == *expected && found.len() >= least)
    })
}

/// Makes sure that nobody but this user can have written a file or directory of the catalog.
fn check_private(path: &Path, is_directory: bool) -> Result<(), Error> {
    let found = std::fs::symlink_metadata(path).map_err(|cause| Error::directory(path, cause))?;
    let cause = match () {
        () if found.is_symlink() => "it is a symbolic link",
        () if found.is_dir() != is_directory || !(is_directory || found.is_file()) => {
            "it is something else"
        }
        () if found.uid() != rustix::process::geteuid().as_raw() => "it belongs to another user",
        () if found.mode() & 0o022 != 0 => "others may write to it",
        () => return Ok(()),
    };
    Err(Error::Untrusted { path: path.to_path_buf(), cause })
}

impl Error {
    fn directory(directory: &Path, cause: std::io::Error) -> Self {
        Self::Directory { path: directory.to_path_buf(), cause: cause.to_string() }
    }

    pub(super) fn is_busy(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else { return false };
        matches!(failure.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    }

    /// Returns whether the database file is not, or holds not, what was written: a value of another
    /// type, a missing row or table, a damaged page, another file.
    pub(super) fn is_broken_file(&self) -> bool {
        match self {
            Self::Broken | Self::Schema | Self::Replaced => true,
            Self::Database(_) => !self.is_busy() && !self.is_trouble_with_disk(),
            _ => false,
        }
    }

    /// Returns whether the database can be used no longer as it is.
    pub(super) fn is_trouble(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Broken | Self::Schema | Self::Replaced)
    }

    /// Returns whether the database has been started over, or has lost rows, so that asking again
    /// leads on.
    pub(super) fn is_passing_trouble(&self) -> bool {
        self.is_trouble() || matches!(self, Self::Lost)
    }

    /// Returns whether the place of the file is the trouble: full disk, no rights.
    pub(super) fn is_trouble_with_disk(&self) -> bool {
        let Self::Database(rusqlite::Error::SqliteFailure(failure, _)) = self else { return false };
        matches!(
            failure.code,
            ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
        )
    }
}
