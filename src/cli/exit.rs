//! The table of exit codes: duplicity's own published numbers, and 90.

use super::causes;
use dupfs::monitor::quoted;
use dupfs::{codec, collection, contents, replicate, restore, source, storage, verify, volume};
use std::sync::atomic::{AtomicU8, Ordering};

/// The end of every help text.
pub const HELP: &str = "\
Exit codes:
   0  done; paths that could not be read are named, and counted in Errors; nothing differs
   1  verify found differences
   2  bad command line
   3, 42  the backup before was made on another host, of another source
   4  interrupted (Ctrl-C, SIGTERM, SIGHUP)
   5  manifests in storage and in the archive directory differ
   7  list of files cannot be read
   9  archive directory cannot be used
  10  --sign-key is not a key's id
  11  target of a restore is not empty
  12, 13  folder to verify is missing; source is missing
  14 to 16, 70 to 73  selection makes no sense
  17  no signatures to build an increment on
  19, 20  path is not in the backup; nothing to restore
  21, 22  a volume's hash differs; it is not signed by the demanded key
  23  bad URL, or another instance is running
  30  no backup found, no passphrase, or any other error
  31  wrong passphrase, or a key cannot be used
  33  duplicity can do it, dupfs not yet
  44  a volume is not in storage as it was stored, with its size
  50 to 53  storage fails; refuses; is missing; is full
  90  something could not be restored whole, or is otherwise damaged
  91  --fail-on-unreadable: something could not be read, all else is stored";

/// A bad command line.
pub const COMMAND_LINE: u8 = 2;
/// Verify found differences.
const DIFFERENCES: u8 = 1;
/// Ctrl-C.
const INTERRUPTED: u8 = 4;
/// Nothing foreseen.
pub const EXCEPTION: u8 = 30;
/// Something could not be restored.
pub const INCOMPLETE: u8 = 90;

/// Something of the source could not be read, and that was to be a failure.
const UNREADABLE: u8 = 91;

/// What to do when the source is another one.
const MISMATCH: &str = "Aborting because you may have accidentally tried to backup two different data sets to the same remote location, or using the \
same archive directory.  If this is not a mistake, use the --allow-source-mismatch switch to avoid seeing this message";

/// A failure with its own exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something impossible.
    #[error("{0}")]
    CommandLine(String),
    /// What signs, or has signed, is no key.
    #[error(
        "Sign key should be an 8, 16 alt. 40 character hex string, like 'AA0E73D2'.\nReceived '{0}' instead."
    )]
    SignKey(String),
    /// An option is not known, or without its value.
    #[error("{0}")]
    BadOption(String),
    /// clap says what is wrong, and how it is done right.
    #[error("{0}")]
    Usage(String),
    /// It is duplicity's, but not done here yet.
    #[error("{0}")]
    NotThere(String),
    /// The machine log cannot be written.
    #[error("cannot write the log to {0}: {1}")]
    Log(String, #[source] std::io::Error),
    /// The collection holds no backup.
    #[error("No backup chains found in '{0}': check the URL and --file-prefix")]
    NoBackups(String),
    /// There is nothing that an increment could be built on.
    #[error(
        "Fatal Error: Unable to start incremental backup.  Old signatures not found and incremental specified"
    )]
    NoSignatures,
    /// The newest manifest in storage is not the one that is known here.
    #[error(
        "Fatal Error: Remote manifest does not match local one.  Either the remote backup set or the local archive directory has been corrupted."
    )]
    ManifestMismatch,
    /// The backup before was made on another machine.
    #[error(
        "Fatal Error: Backup source host has changed.\nCurrent hostname: {current}\nPrevious hostname: {previous}\n\n{MISMATCH}"
    )]
    HostMismatch {
        /// This one.
        current: String,
        /// That one.
        previous: String,
    },
    /// The backup before was made of another folder.
    #[error(
        "Fatal Error: Backup source directory has changed.\nCurrent directory: {current}\nPrevious directory: {previous}\n\n{MISMATCH}"
    )]
    SourceMismatch {
        /// This one.
        current: String,
        /// That one.
        previous: String,
    },
    /// A restore delivered some entries only.
    #[error("{failed} of {total} entries could not be restored; each is named above")]
    Incomplete {
        /// How many are not there, or not whole.
        failed: u64,
        /// All that were to be restored.
        total: u64,
        /// What is wrong with the first file, if one is damaged.
        cause: Option<std::sync::Arc<contents::Failure>>,
    },
    /// The backup is stored, but for what could not be read; each path has been told.
    #[error(
        "{0} paths could not be read, each is named above; all else is stored, and the backup is complete"
    )]
    Unreadable(u64),
    /// Local files are not what the backup holds; each has been told.
    #[error("local files differ from the backup")]
    Differences,
    /// The backup holds less than it says.
    #[error(
        "Verify incomplete: {damaged} of {files} files are damaged, {differences} differences found; each is named above"
    )]
    Damaged {
        /// Files that cannot be put together, or are not what they were.
        damaged: u64,
        /// All files that were to be verified.
        files: u64,
        /// Paths that differ locally.
        differences: u64,
        /// What is wrong first.
        cause: std::sync::Arc<contents::Failure>,
    },
    /// Good files could not be compared with signatures, though that was asked for.
    #[error(
        "Verify incomplete: there is no signature of {missing} of {files} files that could be compared, {differences} differences found; \
         a full backup makes new signatures"
    )]
    NotProved {
        /// Files whose signature is missing, or cannot be read.
        missing: u64,
        /// All files that were to be verified.
        files: u64,
        /// Paths that differ locally.
        differences: u64,
    },
    /// Some sets could not be replicated; each has been told.
    #[error("{sets} of the backups could not be replicated, for the reasons above")]
    NotReplicated {
        /// How many.
        sets: usize,
        /// What is wrong with the first.
        cause: std::sync::Arc<replicate::Error>,
    },
    /// There is nothing to compare with.
    #[error("Verify directory {} does not exist", .0.display())]
    NoVerifyDirectory(std::path::PathBuf),
}

/// What becomes of a signal that ends the process.
static ON_INTERRUPT: AtomicU8 = AtomicU8::new(LEAVE);
/// The process ends at once.
const LEAVE: u8 = 0;
/// It ends at once, with the advice to run it again.
const LEAVE_AND_GO_ON: u8 = 1;
/// The signal is kept for [`is_interrupted`].
const KEEP: u8 = 2;
/// One is kept; the next ends the process at once.
const KEPT: u8 = 3;

/// Ends the process by [`INTERRUPTED`] on Ctrl-C, SIGTERM and SIGHUP from now on, unless they are
/// ignored, as by what a script leaves in the background.
pub fn on_interrupt() {
    extern "C" fn handle(_: libc::c_int) {
        let was = ON_INTERRUPT.load(Ordering::Relaxed);
        if was == KEEP {
            return ON_INTERRUPT.store(KEPT, Ordering::Relaxed);
        }
        let text = if was == LEAVE_AND_GO_ON {
            "\ninterrupted; run this again to go on from here\n"
        } else {
            "\ninterrupted\n"
        };
        // SAFETY: both calls are allowed in a signal handler, and the text is as long as it says.
        unsafe {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            libc::_exit(INTERRUPTED.into());
        }
    }
    let handler: extern "C" fn(libc::c_int) = handle;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does only what a signal handler may.
        unsafe {
            if libc::signal(signal, handler as libc::sighandler_t) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Advises from now on, when interrupted, to run the command again: what is stored so far stays,
/// for the next run to go on from.
pub fn goes_on_when_run_again() {
    ON_INTERRUPT.store(LEAVE_AND_GO_ON, Ordering::Relaxed);
}

/// Lets the work at hand end by itself when interrupted from now on, by [`is_interrupted`]; the
/// second signal ends the process at once.
pub fn keep_interrupts() {
    ON_INTERRUPT.store(KEEP, Ordering::Relaxed);
}

/// Returns whether a kept signal has come.
pub fn is_interrupted() -> bool {
    ON_INTERRUPT.load(Ordering::Relaxed) == KEPT
}

/// Returns the exit code for an error: that of the first cause in its chain that has one.
pub fn code(error: &anyhow::Error) -> u8 {
    causes::of(error).find_map(known).unwrap_or(EXCEPTION)
}

/// Returns whether an error only sums up what has been told already.
pub fn is_told(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Failure::Differences))
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::CommandLine(_) | Failure::BadOption(_) | Failure::Usage(_) => COMMAND_LINE,
            Failure::SignKey(_) => 10,
            Failure::NotThere(_) => 33,
            Failure::NoBackups(_) | Failure::Log(..) => EXCEPTION,
            Failure::Incomplete { cause, .. } => {
                cause.as_ref().map_or(INCOMPLETE, |cause| damage_code(cause.as_ref()))
            }
            Failure::Differences => DIFFERENCES,
            Failure::Unreadable(_) => UNREADABLE,
            Failure::NotProved { .. } => INCOMPLETE,
            Failure::Damaged { cause, .. } => damage_code(cause.as_ref()),
            Failure::NotReplicated { cause, .. } => damage_code(cause.as_ref()),
            Failure::NoVerifyDirectory(_) => 12,
            Failure::HostMismatch { .. } => 3,
            Failure::ManifestMismatch => 5,
            Failure::NoSignatures => 17,
            Failure::SourceMismatch { .. } => 42,
        });
    }
    if let Some(error) = cause.downcast_ref::<restore::Error>() {
        return match error {
            restore::Error::TargetNotEmpty { .. } => Some(11),
            restore::Error::PathNotFound(_) => Some(19),
            restore::Error::Nothing => Some(20),
            restore::Error::Interrupted => Some(INTERRUPTED),
            restore::Error::Target { cause, .. } if !contents::is_full(cause) => Some(INCOMPLETE),
            restore::Error::Target { .. } | restore::Error::Catalog(_) => None,
        };
    }
    if let Some(verify::Error::PathNotFound(_)) = cause.downcast_ref() {
        return Some(19);
    }
    if let Some(error) = cause.downcast_ref::<volume::Error>() {
        return match error {
            volume::Error::Hash { .. } | volume::Error::NoHash(_) => Some(21),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<source::Error>() {
        return source_code(error);
    }
    if let Some(error) = cause.downcast_ref::<collection::ArchiveError>() {
        return match error {
            collection::ArchiveError::Locked(_) => Some(23),
            collection::ArchiveError::Local { .. } => Some(9),
            collection::ArchiveError::Storage(_) | collection::ArchiveError::Decode(_) => None,
        };
    }
    if let Some(
        storage::NotStored::WrongSize { .. }
        | storage::NotStored::Missing { .. }
        | storage::NotStored::Replaced { .. },
    ) = cause.downcast_ref()
    {
        return Some(44);
    }
    if let Some(error) = cause.downcast_ref::<codec::Error>() {
        return codec_code(&error.cause);
    }
    cause.downcast_ref::<storage::Error>().map(storage_code)
}

/// Returns the code of the first cause that has one.
fn damage_code(failure: &(dyn std::error::Error + 'static)) -> u8 {
    causes::below(failure).find_map(known).unwrap_or(INCOMPLETE)
}

/// Returns what programs that follow the log read behind an error's code: two names, what was done
/// with what, or the name of the class of duplicity's that they know.
///
/// Source: duplicity 0.8.22 and 3.2.1, tried; Déjà Dup knows `IOError`, which it was in Python 2.
pub fn words(error: &anyhow::Error) -> String {
    causes::of(error).find_map(known_words).unwrap_or_else(|| match code(error) {
        EXCEPTION => "Exception".into(),
        31 => "GPGError".into(),
        _ => String::new(),
    })
}

fn known_words(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    match cause.downcast_ref::<Failure>() {
        Some(Failure::NoBackups(_)) => return Some("CollectionsError".into()),
        Some(
            Failure::HostMismatch { current, previous }
            | Failure::SourceMismatch { current, previous },
        ) => {
            return Some(format!("{} {}", quoted(current.as_bytes()), quoted(previous.as_bytes())));
        }
        _ => {}
    }
    if let Some(error) = cause.downcast_ref::<storage::Error>() {
        return Some(storage_words(error));
    }
    if let Some(codec::Error { cause: codec::Cause::NoPassphrase, .. }) = cause.downcast_ref() {
        return Some("EOFError".into());
    }
    if let Some(storage::NotStored::WrongSize { name, size, stored }) = cause.downcast_ref() {
        return Some(format!("{} {size} {stored}", quoted(name.as_bytes())));
    }
    if let Some(storage::NotStored::Replaced { name, size }) = cause.downcast_ref() {
        return Some(format!("{} {size} {size}", quoted(name.as_bytes())));
    }
    if let Some(storage::NotStored::Missing { name, size }) = cause.downcast_ref() {
        // The size of what is not there, to both versions.
        return Some(format!("{} {size} -1", quoted(name.as_bytes())));
    }
    let number = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    number.filter(|number| [libc::ENOSPC, libc::EIO].contains(number)).map(|_| "IOError".into())
}

/// Returns what front-ends search for in an error's text, in the words of gpg and of Python.
///
/// Source: duplicity 0.8.22 with gpg 2.2, tried; Déjà Dup asks for the passphrase again when it
/// reads one of the first two.
pub fn searched(error: &anyhow::Error) -> Option<String> {
    causes::of(error).find_map(|cause| {
        match cause.downcast_ref::<codec::Error>().map(|error| &error.cause) {
            Some(codec::Cause::WrongPassphrase) => {
                Some("gpg: decryption failed: Bad session key".into())
            }
            Some(codec::Cause::NoSecretKey(_)) => {
                Some("gpg: decryption failed: No secret key".into())
            }
            _ => {
                let number = cause.downcast_ref::<std::io::Error>()?.raw_os_error()?;
                [libc::ENOSPC, libc::EIO].contains(&number).then(|| format!("[Errno {number}]"))
            }
        }
    })
}

/// Returns the operation in duplicity's words, with the names of the files: of a transfer, two.
fn storage_words(error: &storage::Error) -> String {
    let place = quoted(error.place.as_bytes());
    match (error.kind, error.operation) {
        (storage::ErrorKind::BadUrl, _) => "UnsupportedBackendScheme".into(),
        (_, "list") => "list".into(),
        (_, "read" | "open") => format!("get {place} {place}"),
        (_, "delete" | "remove") => format!("delete {place}"),
        _ => format!("put {place} {place}"),
    }
}

fn source_code(error: &source::Error) -> Option<u8> {
    match error {
        source::Error::Missing(_) => Some(13),
        source::Error::FilePrefix { .. } | source::Error::ArchivePattern(_) => Some(14),
        source::Error::Globbing(_) | source::Error::BackwardRange(_) => Some(15),
        source::Error::RedundantInclusion(_) => Some(16),
        source::Error::RedundantFilter(_) => Some(70),
        source::Error::TrailingFilter(_) => Some(71),
        source::Error::AbsoluteFilesFrom(_) => Some(72),
        source::Error::EmptyFilesFrom => Some(73),
        source::Error::Filelist { .. } => Some(7),
        source::Error::EmptyPattern(_) | source::Error::NotForRestore(_) => Some(COMMAND_LINE),
        source::Error::Open { .. }
        | source::Error::FilelistEncoding(_)
        | source::Error::Regexp { .. } => None,
    }
}

fn codec_code(cause: &codec::Cause) -> Option<u8> {
    match cause {
        codec::Cause::WrongPassphrase
        | codec::Cause::EmptyPassphrase
        | codec::Cause::NoSecretKey(_)
        | codec::Cause::Recipient { .. }
        | codec::Cause::Signing(_)
        | codec::Cause::Gpg(_) => Some(31),
        codec::Cause::GpgOption(_) | codec::Cause::GpgFile(_) => Some(COMMAND_LINE),
        codec::Cause::Signature(_) => Some(22),
        _ => None,
    }
}

fn storage_code(error: &storage::Error) -> u8 {
    match error.kind {
        storage::ErrorKind::BadUrl => 23,
        storage::ErrorKind::Denied => 51,
        storage::ErrorKind::NotFound => 52,
        storage::ErrorKind::NoSpace => 53,
        storage::ErrorKind::Changed
        | storage::ErrorKind::Corrupt
        | storage::ErrorKind::Unsupported
        | storage::ErrorKind::Busy(_)
        | storage::ErrorKind::Unreachable
        | storage::ErrorKind::TimedOut
        | storage::ErrorKind::Other => 50,
    }
}
