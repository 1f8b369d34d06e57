//! The table of exit codes: duplicity's own published numbers, and 90.

use dupfs::{codec, restore, storage, volume};

/// The end of every help text.
pub const HELP: &str = "Exit codes: 0 done; 2 bad command line; 11 target not empty; 19 path not in the backup; 20 nothing to restore; \
21 a volume's hash differs; 22 not signed by the demanded key; 23 bad URL; 30 no backup found, or no passphrase; 31 wrong passphrase or no key; \
50 to 53 storage failed, refused, missing, full; 90 something could not be restored whole";

/// A bad command line.
pub const COMMAND_LINE: u8 = 2;
/// Nothing foreseen.
pub const EXCEPTION: u8 = 30;
/// Something could not be restored.
pub const INCOMPLETE: u8 = 90;

/// A failure with its own exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line asks for something impossible.
    #[error("{0}")]
    CommandLine(String),
    /// The collection holds no backup.
    #[error("No backup chains found in '{0}': check the URL and --file-prefix")]
    NoBackups(String),
    /// A restore delivered some entries only.
    #[error("{0} of {1} entries could not be restored; each is named above")]
    Incomplete(u64, u64),
}

/// Returns the exit code for an error: that of the first cause in its chain that has one.
pub fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(known).unwrap_or(EXCEPTION)
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::CommandLine(_) => COMMAND_LINE,
            Failure::NoBackups(_) => EXCEPTION,
            Failure::Incomplete(..) => INCOMPLETE,
        });
    }
    if let Some(error) = cause.downcast_ref::<restore::Error>() {
        return match error {
            restore::Error::TargetNotEmpty(_) => Some(11),
            restore::Error::PathNotFound(_) => Some(19),
            restore::Error::Nothing => Some(20),
            restore::Error::Target { .. } | restore::Error::Catalog(_) => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<volume::Error>() {
        return match error {
            volume::Error::Hash { .. } | volume::Error::NoHash(_) => Some(21),
            volume::Error::Decode(error) => codec_code(&error.cause),
            volume::Error::Storage(error) => Some(storage_code(error)),
            volume::Error::Members { .. } | volume::Error::Outline { .. } | volume::Error::Stopped => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<codec::Error>() {
        return codec_code(&error.cause);
    }
    cause.downcast_ref::<storage::Error>().map(storage_code)
}

fn codec_code(cause: &codec::Cause) -> Option<u8> {
    match cause {
        codec::Cause::WrongPassphrase | codec::Cause::NoSecretKey(_) | codec::Cause::Gpg(_) => Some(31),
        codec::Cause::Signature(_) => Some(22),
        codec::Cause::Storage(error) => Some(storage_code(error)),
        _ => None,
    }
}

fn storage_code(error: &storage::Error) -> u8 {
    match error.kind {
        storage::ErrorKind::BadUrl => 23,
        storage::ErrorKind::Permission => 51,
        storage::ErrorKind::NotFound => 52,
        storage::ErrorKind::NoSpace => 53,
        storage::ErrorKind::Other => 50,
    }
}
