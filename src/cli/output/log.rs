//! The machine log of `--log-fd` and `--log-file`: each message with its level and number, for
//! programs that follow.
//!
//! ```text
//! LEVEL CODE[ WORDS]
//! [lines of data]
//! . line of the text
//! (empty line)
//! ```
//!
//! It gets what passes the verbosity, and what is printed at any. Each message is written at once.
//! Source: duplicity 0.8.22 and 3.2.1, tried; the numbers of errors are the exit codes. Déjà Dup
//! reads it, and takes any line ERROR for the end of a backup.

use crate::cli::arguments::folders::expand;
use crate::cli::failure::Failure;
use dupfs::monitor::Level;
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A message with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// How much it matters.
    pub level: Level,
    /// duplicity's number for it within its level; 1 if it has none of its own.
    pub code: u8,
    /// What it is about, for programs: words between blanks, paths as
    /// [`quoted`](crate::cli::failure::quoted).
    pub words: &'a str,
    /// What people read; nothing if it is for programs alone.
    pub text: &'a str,
}

/// duplicity's numbers for messages, beside 1.
///
/// Source: duplicity 0.8.22 and 3.2.1, tried with --log-fd.
pub mod code {
    /// Info: so much of the work is done, of so much if that is known.
    pub const PROGRESS: u8 = 2;
    /// Info: a path is new in this backup.
    pub const ADDED: u8 = 4;
    /// Info: a path has changed.
    pub const CHANGED: u8 = 5;
    /// Info: a path is gone.
    pub const DELETED: u8 = 6;
    /// Info: a path is restored.
    pub const RESTORED: u8 = 7;
    /// Info: a volume is ready, and is stored now.
    pub const STORING: u8 = 11;
    /// Info: it is stored.
    pub const STORED: u8 = 13;
    /// Info: a socket is left out.
    pub const SOCKET: u8 = 15;
    /// Warning: nothing can be learnt about a path, and it is not in this backup.
    pub const CANNOT_STAT: u8 = 9;
    /// Warning: a path cannot be read, and is not in this backup.
    pub const CANNOT_READ: u8 = 10;
    /// Warning: a path cannot be restored.
    pub const CANNOT_RESTORE: u8 = 12;
    /// Warning: a path is not tried, since the directory for it could not be made.
    pub const SKIPPED: u8 = 13;
    /// Info: which backups there are.
    pub const COLLECTION_STATUS: u8 = 3;
    /// Info: a path in a backup.
    pub const LISTED: u8 = 10;
    /// Notice: how far a backup has got.
    pub const UPLOAD_PROGRESS: u8 = 16;
    /// Warning: no backup is as old as was asked for.
    pub const NO_BACKUP_FOR_TIME: u8 = 11;
}

/// Where it goes; nowhere if that was not asked for.
static LOG: OnceLock<Mutex<Vec<File>>> = OnceLock::new();
/// The file of `--log-file`.
static PATH: OnceLock<PathBuf> = OnceLock::new();

/// Begins the log, on an open descriptor and at the end of a file.
///
/// # Errors
/// [`Failure::Log`] when one of them cannot be written.
pub fn open(descriptor: Option<&OsStr>, file: Option<&OsStr>) -> Result<(), Failure> {
    let mut files = Vec::new();
    if let Some(typed) = descriptor {
        let number = typed
            .to_str()
            .and_then(|typed| typed.parse::<i32>().ok())
            .filter(|number| *number >= 1);
        let number = number.ok_or_else(|| {
            Failure::BadOption(
                "option --log-fd: write the number of an open descriptor, from 1".into(),
            )
        })?;
        // SAFETY: it is used just to ask the system for a copy, which fails if it is not open.
        let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
        files.push(File::from(
            copy.map_err(|cause| Failure::Log(format!("descriptor {number}"), cause))?,
        ));
    }
    if let Some(typed) = file {
        let path = expand(Path::new(typed));
        let file = File::options().append(true).create(true).open(&path);
        files.push(file.map_err(|cause| Failure::Log(format!("'{}'", path.display()), cause))?);
        PATH.get_or_init(|| path);
    }
    LOG.get_or_init(|| Mutex::new(files));
    Ok(())
}

/// Returns the file that it goes to, if one is named.
#[cfg(feature = "mount")]
pub fn path() -> Option<&'static Path> {
    PATH.get().map(PathBuf::as_path)
}

/// Returns whether anybody follows.
pub fn is_open() -> bool {
    LOG.get().is_some_and(|files| !files.lock().is_empty())
}

/// Writes a message; `data` are whole lines. Whoever closed the other end does not want it.
pub fn write(message: &Message, data: &str) {
    let Some(files) = LOG.get() else { return };
    let message = lines(message, data);
    for file in files.lock().iter_mut() {
        let _ = file.write_all(message.as_bytes());
    }
}

/// Writes a message with a text that may be too long to be kept, line by line.
///
/// # Errors
/// Those of reading the text.
pub fn write_long(level: Level, code: u8, mut text: impl BufRead) -> std::io::Result<()> {
    let Some(files) = LOG.get() else { return Ok(()) };
    let mut files = files.lock();
    let mut outs: Vec<_> = files.iter_mut().map(BufWriter::new).collect();
    let mut write =
        |part: &str| outs.iter_mut().for_each(|out| drop(out.write_all(part.as_bytes())));
    write(&format!("{} {code}\n", name(level)));
    let mut line = Vec::new();
    while text.read_until(b'\n', &mut line)? > 0 {
        write(&format!(
            ". {}\n",
            String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line))
        ));
        line.clear();
    }
    write("\n");
    Ok(())
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warning => "WARNING",
        Level::Notice => "NOTICE",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    }
}

fn lines(message: &Message, data: &str) -> String {
    // Data follow a blank, though there be no words.
    let blank = if message.words.is_empty() && data.is_empty() { "" } else { " " };
    let mut lines =
        format!("{} {}{blank}{}\n{data}", name(message.level), message.code, message.words);
    if !message.text.is_empty() {
        message.text.split('\n').for_each(|line| lines += &format!(". {line}\n"));
    }
    lines + "\n"
}
