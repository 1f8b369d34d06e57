//! [`Failure`]: what the program itself fails by, beside the library's errors.

use dupfs::{contents, replicate};

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
    /// The backup holds less than it says, or could not be read to its end.
    #[error(
        "Verify incomplete: {}, {differences} differences found; each is named above",
        not_verified(*damaged, *unread, *files)
    )]
    NotVerified {
        /// Files that cannot be put together, or are not what they were.
        damaged: u64,
        /// Files that could not be read, which proves no damage.
        unread: u64,
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

fn not_verified(damaged: u64, unread: u64, files: u64) -> String {
    match (damaged, unread) {
        (_, 0) => format!("{damaged} of {files} files are damaged"),
        (0, _) => format!("{unread} of {files} files could not be read"),
        _ => format!("{damaged} of {files} files are damaged, {unread} more could not be read"),
    }
}
