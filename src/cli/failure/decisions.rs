//! What follows from an error: exit code, hint, and the words that programs search for.
//!
//! One function for each type of error, with one exhaustive `match`: a new variant does not compile
//! until somebody has decided. An error that decides nothing leaves it to its cause.

use super::exit_code::{COMMAND_LINE, DIFFERENCES, EXCEPTION, INCOMPLETE, INTERRUPTED, UNREADABLE};
use super::known::Known;
use super::own::Failure;
use super::quoted::quoted;
use dupfs::codec::Cause;
use dupfs::collection::ArchiveError;
use dupfs::contents::{self, BulkReadError};
use dupfs::storage::{self, ErrorKind, NotStored};
use dupfs::{backup, format, replicate, restore, sets, source, verify, volume};
use std::error::Error;
use std::io;

/// What an error decides; what it leaves open is up to its cause.
#[derive(Debug, Default)]
pub struct Decision<'a> {
    /// The exit code.
    pub code: Option<u8>,
    /// What a user can do about it that it does not state itself.
    pub hint: Option<&'static str>,
    /// What programs that follow the log read behind the code: two names, what was done with what,
    /// or the name of the class of duplicity's that they know.
    ///
    /// Source: duplicity 0.8.22 and 3.2.1, tried; Déjà Dup knows `IOError`, which it was in Python
    /// 2.
    pub words: Option<String>,
    /// What front-ends search for in the text, in the words of gpg and of Python.
    ///
    /// Source: duplicity 0.8.22 with gpg 2.2, tried; Déjà Dup asks for the passphrase again when it
    /// reads one of those of gpg.
    pub searched: Option<String>,
    /// The other module's error that it stands for: it repeats the text of that one, and hides it.
    stands_for: Option<&'a (dyn Error + 'static)>,
}

impl<'a> Decision<'a> {
    /// Leaves everything to the cause.
    fn open() -> Self {
        Self::default()
    }

    fn code(code: u8) -> Self {
        Self { code: Some(code), ..Self::default() }
    }

    fn stands_for(error: &'a (dyn Error + 'static)) -> Self {
        Self { stands_for: Some(error), ..Self::default() }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    fn words(self, words: impl Into<String>) -> Self {
        Self { words: Some(words.into()), ..self }
    }

    fn searched(self, text: impl Into<String>) -> Self {
        Self { searched: Some(text.into()), ..self }
    }
}

/// Returns an error and what has caused it, outermost first, with those that another stands for.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| decide(error).stands_for.or_else(|| error.source()))
}

/// Returns what an error decides by itself.
pub fn decide<'a>(error: &'a (dyn Error + 'static)) -> Decision<'a> {
    let Some(known) = Known::of(error) else { return Decision::open() };
    match known {
        Known::Own(failure) => of_own(failure),
        Known::Archive(error) => of_archive(error),
        Known::Backup(error) => of_backup(error),
        Known::BulkRead(error) => of_bulk_read(error),
        Known::Sets(error) => of_sets(error),
        Known::SetsCause(cause) => of_sets_cause(cause),
        Known::Codec(error) => of_codec(&error.cause),
        Known::Contents(error) => of_contents(error),
        Known::File(failure) => of_file(failure),
        Known::Format(error) => of_format(error),
        Known::Io(error) => of_io(error),
        Known::NotStored(error) => of_not_stored(error),
        Known::Replicate(error) => of_replicate(error),
        Known::Restore(error) => of_restore(error),
        Known::Source(error) => of_source(error),
        Known::Storage(error) => of_storage(error),
        Known::Verify(error) => of_verify(error),
        Known::Volume(error) => of_volume(error),
    }
}

fn of_own(failure: &Failure) -> Decision<'_> {
    match failure {
        Failure::CommandLine(_) | Failure::BadOption(_) | Failure::Usage(_) => {
            Decision::code(COMMAND_LINE)
        }
        Failure::SignKey(_) => Decision::code(10),
        Failure::NotThere(_) => Decision::code(33),
        Failure::NoBackups(_) => Decision::code(EXCEPTION).words("CollectionsError"),
        Failure::Log(..) => Decision::code(EXCEPTION),
        Failure::Incomplete { cause, .. } => {
            let code = cause.as_ref().map(|cause| damage_code(cause.as_ref()));
            Decision::code(code.unwrap_or(INCOMPLETE))
        }
        Failure::Differences => Decision::code(DIFFERENCES),
        Failure::Unreadable(_) => Decision::code(UNREADABLE),
        Failure::NotProved { .. } => Decision::code(INCOMPLETE),
        Failure::NotVerified { cause, .. } => Decision::code(damage_code(cause.as_ref())),
        Failure::NotReplicated { cause, .. } => Decision::code(damage_code(cause.as_ref())),
        Failure::NoVerifyDirectory(_) => Decision::code(12),
        Failure::HostMismatch { current, previous } => {
            Decision::code(3).words(two_names(current, previous))
        }
        Failure::SourceMismatch { current, previous } => {
            Decision::code(42).words(two_names(current, previous))
        }
        Failure::ManifestMismatch => Decision::code(5),
        Failure::NoSignatures => Decision::code(17),
    }
}

/// Returns the code of the first cause that has one.
fn damage_code(failure: &(dyn Error + 'static)) -> u8 {
    causes(failure).find_map(|cause| decide(cause).code).unwrap_or(INCOMPLETE)
}

fn two_names(current: &str, previous: &str) -> String {
    format!("{} {}", quoted(current.as_bytes()), quoted(previous.as_bytes()))
}

fn of_archive(error: &ArchiveError) -> Decision<'_> {
    match error {
        ArchiveError::Locked(_) => Decision::code(23),
        ArchiveError::Local { .. } => Decision::code(9)
            .hint("--archive-dir names another folder for what duplicity keeps here"),
        ArchiveError::Storage(error) => Decision::stands_for(error),
        ArchiveError::Decode(error) => Decision::stands_for(error),
    }
}

fn of_backup(error: &backup::Error) -> Decision<'_> {
    match error {
        backup::Error::NotStored(error) => Decision::stands_for(error),
        backup::Error::Storage(error) => Decision::stands_for(error),
        backup::Error::Volume(error) => Decision::stands_for(error),
        backup::Error::Encode(error) => Decision::stands_for(error),
        backup::Error::Sets(error) => Decision::stands_for(error),
        backup::Error::Source { .. }
        | backup::Error::Lost(_)
        | backup::Error::Signatures { .. }
        | backup::Error::Archive { .. }
        | backup::Error::Temporary(_)
        | backup::Error::Complete(_)
        | backup::Error::ToldToFail(_)
        | backup::Error::Thread(_)
        | backup::Error::Stopped
        | backup::Error::NoVolume => Decision::open(),
        backup::Error::Interrupted => Decision::code(INTERRUPTED),
    }
}

fn of_bulk_read(error: &BulkReadError) -> Decision<'_> {
    match error {
        BulkReadError::Sets(error) => Decision::stands_for(error),
        BulkReadError::Full(_) | BulkReadError::Interrupted => Decision::open(),
    }
}

fn of_sets(error: &sets::Error) -> Decision<'_> {
    match error {
        sets::Error::Again(error) => Decision::stands_for(error.as_ref()),
        sets::Error::Volume { cause, .. } => Decision::stands_for(cause),
        sets::Error::Catalog(_)
        | sets::Error::Thread(_)
        | sets::Error::Set { .. }
        | sets::Error::Contradicted { .. }
        | sets::Error::MissingVolume { .. }
        | sets::Error::Temporary(_) => Decision::open(),
    }
}

fn of_sets_cause(cause: &sets::Cause) -> Decision<'_> {
    match cause {
        sets::Cause::Decode(error) => Decision::stands_for(error),
        sets::Cause::Format(error) => Decision::stands_for(error),
        sets::Cause::Missing | sets::Cause::Content(_) => Decision::open(),
    }
}

fn of_codec(cause: &Cause) -> Decision<'_> {
    match cause {
        Cause::Storage(error) => Decision::stands_for(error),
        Cause::NoPassphrase => Decision::open().words("EOFError"),
        Cause::WrongPassphrase => Decision::code(31)
            .hint("check PASSPHRASE, the file of passphrases, or what was typed")
            .searched("gpg: decryption failed: Bad session key"),
        Cause::NoSecretKey(_) => Decision::code(31)
            .hint("gpg --list-secret-keys shows the keys that are here, gpg --import takes in another")
            .searched("gpg: decryption failed: No secret key"),
        Cause::Recipient { .. } => Decision::code(31)
            .hint("gpg --list-keys shows the keys that are here, gpg --import takes in another"),
        Cause::Gpg(text) if text.starts_with("cannot run ") => {
            Decision::code(31).hint("install GnuPG, or name its program by --gpg-binary")
        }
        Cause::EmptyPassphrase | Cause::Signing(_) | Cause::Gpg(_) => Decision::code(31),
        Cause::GpgOption(_) | Cause::GpgFile(_) => Decision::code(COMMAND_LINE),
        Cause::Signature(_) => Decision::code(22),
        Cause::Passphrase(_)
        | Cause::Damaged(_)
        | Cause::Truncated
        | Cause::NotAuthentic(_)
        | Cause::Unsupported(_)
        | Cause::SeekPoint(_)
        | Cause::Local(_)
        | Cause::Other(_) => Decision::open(),
    }
}

fn of_contents(error: &contents::Error) -> Decision<'_> {
    match error {
        contents::Error::Sets(error) => Decision::stands_for(error.as_ref()),
        contents::Error::Volume(error) => Decision::stands_for(error),
        contents::Error::Content { .. } => Decision::open(),
    }
}

fn of_file(failure: &contents::Failure) -> Decision<'_> {
    match failure {
        contents::Failure::Stored(error) => Decision::stands_for(error.as_ref()),
        contents::Failure::Target(_) | contents::Failure::Content(_) => Decision::open(),
    }
}

fn of_format(error: &format::Error) -> Decision<'_> {
    match error {
        format::Error::Tar { .. }
        | format::Error::Member { .. }
        | format::Error::TooLong(_)
        | format::Error::Manifest { .. }
        | format::Error::Toc { .. } => Decision::open(),
    }
}

/// Python has one class for what the system refuses; which of it front-ends can explain is up to
/// the number.
fn of_io(error: &io::Error) -> Decision<'_> {
    match error.raw_os_error() {
        Some(number @ (libc::ENOSPC | libc::EIO)) => {
            Decision::open().words("IOError").searched(format!("[Errno {number}]"))
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            Decision::open().hint("raise the limits of open files (ulimit -n)")
        }
        _ => Decision::open(),
    }
}

fn of_not_stored(error: &NotStored) -> Decision<'_> {
    let words = |name: &str, size: u64, stored: i128| {
        Decision::code(44).words(format!("{} {size} {stored}", quoted(name.as_bytes())))
    };
    match error {
        NotStored::WrongSize { name, size, stored } => words(name, *size, i128::from(*stored)),
        NotStored::Replaced { name, size } => words(name, *size, i128::from(*size)),
        // The size of what is not there, to both versions.
        NotStored::Missing { name, size } => words(name, *size, -1),
        NotStored::Storage(error) => Decision::stands_for(error),
    }
}

fn of_replicate(error: &replicate::Error) -> Decision<'_> {
    match error {
        replicate::Error::NotStored(error) => Decision::stands_for(error),
        replicate::Error::Storage(error) => Decision::stands_for(error),
        replicate::Error::Volume(error) => Decision::stands_for(error),
        replicate::Error::Codec(error) => Decision::stands_for(error),
        replicate::Error::MissingVolume { .. } | replicate::Error::Manifest { .. } => {
            Decision::open()
        }
        replicate::Error::Interrupted => Decision::code(INTERRUPTED),
    }
}

fn of_restore(error: &restore::Error) -> Decision<'_> {
    match error {
        restore::Error::TargetNotEmpty { .. } => Decision::code(11),
        restore::Error::PathNotFound(_) => Decision::code(19)
            .hint("list-current-files shows the paths of a backup, --time chooses another"),
        restore::Error::Nothing => Decision::code(20),
        restore::Error::Interrupted => Decision::code(INTERRUPTED),
        restore::Error::Target { cause, .. } if contents::is_full(cause) => Decision::open().hint(
            "make room there, or restore to elsewhere; --force goes over what is there already",
        ),
        restore::Error::Target { .. } => Decision::code(INCOMPLETE),
        restore::Error::Sets(error) => Decision::stands_for(error),
    }
}

fn of_source(error: &source::Error) -> Decision<'_> {
    match error {
        source::Error::Missing(_) => Decision::code(13),
        source::Error::FilePrefix { .. } | source::Error::ArchivePattern(_) => Decision::code(14),
        source::Error::Globbing(_) | source::Error::BackwardRange(_) => Decision::code(15),
        source::Error::RedundantInclusion(_) => Decision::code(16),
        source::Error::RedundantFilter(_) => Decision::code(70),
        source::Error::TrailingFilter(_) => Decision::code(71),
        source::Error::AbsoluteFilesFrom(_) => Decision::code(72),
        source::Error::EmptyFilesFrom => Decision::code(73),
        source::Error::Filelist { .. } => Decision::code(7)
            .hint("check the path of the list; it is relative to the folder that this runs in"),
        source::Error::EmptyPattern(_) | source::Error::NotForRestore(_) => {
            Decision::code(COMMAND_LINE)
        }
        source::Error::Open { .. }
        | source::Error::FilelistEncoding(_)
        | source::Error::Regexp { .. } => Decision::open(),
    }
}

fn of_storage(error: &storage::Error) -> Decision<'_> {
    let operation = error.operation;
    let is_far = error.place.contains("://") && !error.place.starts_with("file://");
    match error.kind {
        ErrorKind::BadUrl => Decision::code(23).words("UnsupportedBackendScheme"),
        ErrorKind::Denied => {
            let decision = Decision::code(51).words(operation_words(error));
            // What the host does not accept says what to do.
            if operation == "reach" || is_far {
                return decision;
            }
            decision.hint(match operation {
                "list" | "open" | "read" => "check owner and permissions, and which user runs this",
                _ => "check who may write there, and that its disk is not mounted read-only",
            })
        }
        ErrorKind::NotFound => {
            let decision = Decision::code(52).words(operation_words(error));
            match operation {
                "list" | "reach" if is_far => decision.hint("check the URL"),
                "list" => decision.hint("check the URL, and whether its disk is mounted"),
                "create" => decision.hint(
                    "no folder can be made there: check the URL, and whether its disk is mounted",
                ),
                _ => decision,
            }
        }
        ErrorKind::NoSpace => Decision::code(53).words(operation_words(error)).hint(
            "make room there, as by remove-all-but-n-full, and run this again: a backup goes on where it has ended",
        ),
        ErrorKind::Unreachable => Decision::code(50)
            .words(operation_words(error))
            .hint("check the connection, and the host and port in the URL"),
        ErrorKind::TimedOut => Decision::code(50)
            .words(operation_words(error))
            .hint("--timeout gives the storage more seconds to answer"),
        ErrorKind::Busy(_) => Decision::code(50)
            .words(operation_words(error))
            .hint("run this again later; --num-retries tries more often"),
        ErrorKind::Changed | ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::Other => {
            Decision::code(50).words(operation_words(error))
        }
    }
}

/// Returns the operation in duplicity's words, with the names of the files: of a transfer, two.
fn operation_words(error: &storage::Error) -> String {
    let place = quoted(error.place.as_bytes());
    match error.operation {
        "list" | "reach" => "list".into(),
        "read" | "open" => format!("get {place} {place}"),
        "delete" | "remove" => format!("delete {place}"),
        _ => format!("put {place} {place}"),
    }
}

fn of_verify(error: &verify::Error) -> Decision<'_> {
    match error {
        verify::Error::PathNotFound(_) => Decision::code(19),
        verify::Error::Sets(error) => Decision::stands_for(error),
        verify::Error::BulkReader(error) => Decision::stands_for(error),
    }
}

fn of_volume(error: &volume::Error) -> Decision<'_> {
    match error {
        volume::Error::Hash { .. } | volume::Error::NoHash(_) => Decision::code(21),
        volume::Error::Storage(error) => Decision::stands_for(error),
        volume::Error::Decode(error) => Decision::stands_for(error),
        volume::Error::Members { .. }
        | volume::Error::Frames { .. }
        | volume::Error::SeekIndex { .. }
        | volume::Error::Stopped => Decision::open(),
    }
}
