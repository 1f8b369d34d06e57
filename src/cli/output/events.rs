//! What duplicity prints and logs of each event of the library: level, number, words, text.
//!
//! Source: duplicity 0.8.22 and 3.2.1, tried.

use super::log::code;
use crate::cli::failure::quoted;
use dupfs::model::EntryPath;
use dupfs::monitor::{Event, Level};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A message in duplicity's words.
pub struct Told {
    pub level: Level,
    pub code: u8,
    pub words: String,
    pub text: String,
}

impl Told {
    fn new(level: Level, code: u8, words: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level, code, words: words.into(), text: text.into() }
    }

    fn plain(level: Level, text: impl Into<String>) -> Self {
        Self::new(level, 1, "", text)
    }
}

impl From<&Event<'_>> for Told {
    fn from(event: &Event) -> Self {
        use Level::{Info, Notice, Warning};
        match *event {
            Event::Met { bytes, volume } => {
                let text = volume.map(|number| format!("Processed volume {number}"));
                Self::new(Info, code::PROGRESS, bytes.to_string(), text.unwrap_or_default())
            }
            Event::VolumesRead { count, all } => {
                let text = format!("Processed volume {count} of {all}");
                Self::new(Info, code::PROGRESS, format!("{count} {all}"), text)
            }
            Event::Added(path) => Self::new(Info, code::ADDED, shown(path), format!("A {path}")),
            Event::Changed(path) => {
                Self::new(Info, code::CHANGED, shown(path), format!("M {path}"))
            }
            Event::Deleted(path) => {
                Self::new(Info, code::DELETED, shown(path), format!("D {path}"))
            }
            Event::NegativeTime(path) => {
                Self::plain(Warning, format!("Warning: {path} has negative mtime, treating as 0."))
            }
            Event::Socket(path) => {
                let text = format!("Skipping socket {}", path.display());
                Self::new(Info, code::SOCKET, local(path), text)
            }
            Event::CannotStat(path, cause) => {
                Self::new(Warning, code::CANNOT_STAT, local(path), unreadable(path, cause))
            }
            Event::CannotRead(path, cause) => {
                Self::new(Warning, code::CANNOT_READ, local(path), unreadable(path, cause))
            }
            Event::Storing(name) => Self::new(Info, code::STORING, "", format!("Writing {name}")),
            Event::Stored => Self::new(Info, code::STORED, "", ""),
            Event::PartialRemoved { is_full } => {
                let text = format!(
                    "Last {} backup left a partial set of another kind, removing it.",
                    kind(is_full)
                );
                Self::plain(Notice, text)
            }
            Event::PartialFound { is_full } => {
                let text = format!("Last {} backup left a partial set, restarting.", kind(is_full));
                Self::plain(Notice, text)
            }
            Event::PartialUseless => Self::plain(
                Notice,
                "RESTART: The first volume failed to upload before termination.\n         Restart is impossible...starting backup from beginning.",
            ),
            Event::Restarting(next) => Self::plain(
                Notice,
                format!(
                    "RESTART: Volumes {next} to {next} failed to upload before termination.\n         Restarting backup at volume {next}."
                ),
            ),
            Event::RestartingAfter { volume, path, piece } => {
                let block = piece.map_or_else(|| "None".to_string(), |piece| piece.to_string());
                let text = format!("Restarting after volume {volume}, file {path}, block {block}");
                Self::plain(Notice, text)
            }
            Event::LocalDeleted(path) => {
                let text =
                    format!("Deleting local {} (not authoritative at backend).", path.display());
                Self::plain(Notice, text)
            }
            Event::LocalCopied(name) => {
                Self::plain(Notice, format!("Copying {name} to local cache."))
            }
            Event::Restored(path, kind) => {
                let words = format!("{} {kind}", shown(path));
                let text = format!("Writing {path} of type {kind}");
                Self::new(Info, code::RESTORED, words, text)
            }
            Event::NotRestored(path, why) => {
                Self::new(Warning, code::CANNOT_RESTORE, shown(path), why)
            }
            Event::Skipped(path) => {
                let text = format!("Skipping {path} because of previous error");
                Self::new(Warning, code::SKIPPED, shown(path), text)
            }
            Event::Ignored(why) => Self::plain(
                Warning,
                format!("IGNORED_ERROR: Warning: ignoring error as requested: {why}"),
            ),
            Event::Different(how) => Self::plain(Notice, format!("Difference found: {how}")),
            Event::Replicating(name) => Self::plain(Notice, format!("Replicating {name}.")),
            Event::Replicated(name) => {
                Self::plain(Info, format!("Backupset {name} already replicated"))
            }
            Event::RemovingChain { is_whole, is_signatures, end } => {
                let what = if is_signatures { "signature" } else { "backup" };
                let end = end.print_asctime();
                let text = if is_whole {
                    format!("Deleting complete {what} chain {end}")
                } else {
                    format!("Deleting any incremental {what} chain rooted at {end}")
                };
                Self::plain(Notice, text)
            }
        }
    }
}

fn shown(path: &EntryPath) -> String {
    quoted(path.shown())
}

fn local(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
}

fn unreadable(path: &Path, cause: &std::io::Error) -> String {
    format!("Error accessing possibly locked file {}: {cause}", path.display())
}

fn kind(is_full: bool) -> &'static str {
    if is_full { "full" } else { "inc" }
}
