//! What a user can do about an error that does not say so itself: the last line, behind "hint: ".

use super::causes;
use dupfs::codec::{self, Cause};
use dupfs::collection::ArchiveError;
use dupfs::storage::{self, ErrorKind};
use dupfs::{contents, restore, source};

/// Returns what is to be tried, if anything is known.
pub fn of(error: &anyhow::Error) -> Option<&'static str> {
    causes::of(error).find_map(about)
}

fn about(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<codec::Error>() {
        return about_decoding(&error.cause);
    }
    if let Some(error) = cause.downcast_ref::<storage::Error>() {
        return about_storage(error);
    }
    match cause.downcast_ref() {
        Some(restore::Error::PathNotFound(_)) => {
            return Some("list-current-files shows the paths of a backup, --time chooses another");
        }
        Some(restore::Error::Target { cause, .. }) if contents::is_full(cause) => {
            return Some(
                "make room there, or restore to elsewhere; --force goes over what is there already",
            );
        }
        _ => {}
    }
    match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(ArchiveError::Local { .. }), _) => {
            Some("--archive-dir names another folder for what duplicity keeps here")
        }
        (_, Some(source::Error::Filelist { .. })) => {
            Some("check the path of the list; it is relative to the folder that this runs in")
        }
        _ => None,
    }
}

fn about_storage(error: &storage::Error) -> Option<&'static str> {
    match (error.kind, error.operation) {
        (ErrorKind::NotFound, "list") => Some("check the URL, and whether its disk is mounted"),
        (ErrorKind::NotFound, "create") => {
            Some("no folder can be made there: check the URL, and whether its disk is mounted")
        }
        (ErrorKind::Denied, "list" | "open" | "read") => {
            Some("check whose these files are, and as whom this runs")
        }
        (ErrorKind::Denied, _) => {
            Some("check who may write there, and that its disk is not mounted read-only")
        }
        (ErrorKind::NoSpace, _) => Some(
            "make room there, as by remove-all-but-n-full, and run this again: a backup goes on where it has ended",
        ),
        _ => None,
    }
}

fn about_decoding(cause: &Cause) -> Option<&'static str> {
    match cause {
        Cause::Gpg(text) if text.starts_with("cannot run ") => {
            Some("install GnuPG, or name its program by --gpg-binary")
        }
        Cause::WrongPassphrase => {
            Some("check PASSPHRASE, the file of passphrases, or what was typed")
        }
        Cause::NoSecretKey(_) => Some(
            "gpg --list-secret-keys shows the keys that are here, gpg --import takes in another",
        ),
        Cause::Recipient { .. } => {
            Some("gpg --list-keys shows the keys that are here, gpg --import takes in another")
        }
        _ => None,
    }
}
