//! [`RsyncStorage`]: a folder behind the user's own `rsync`, over ssh or of a daemon.
//!
//! | file | what it holds |
//! |---|---|
//! | `command` | how rsync is started, and what its end means |
//! | `fetched` | files that were fetched, to be read |
//!
//! rsync knows whole files only: one that is to be read is fetched first, and a few are kept. Each
//! call is an rsync of its own, so nothing is left of a connection that was cut. rsync writes under
//! a hidden name of its own, and renames it when its checksum is right; the size is looked at
//! afterwards. Files keep the time at which their bytes were staged, in whole seconds; together with
//! the size it is the file's stamp.

mod command;
mod fetched;

use super::local::open_file;
use super::stamp_of;
use crate::storage::{
    Abilities, ByteStream, Error, ErrorKind, Listed, Pace, Settings, Staged, StagedWriter, Storage,
    Url,
};
use command::{Failure, Place};
use fetched::Fetched;
use regex::bytes::Regex;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// Files transferred at once where nobody says how many.
const TRANSFERS: usize = 4;

/// How files are named one by one: by a list, from above the folder. From inside it, the daemon of
/// rsync 3.5 finds none where it does without chroot.
const NAMED: &[&str] = &["--copy-links", "--from0", "--no-relative"];

/// A folder behind rsync.
pub struct RsyncStorage {
    url: Url,
    settings: Settings,
    place: Place,
    fetched: Fetched,
}

impl RsyncStorage {
    /// Names a folder; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error`] with [`ErrorKind::BadUrl`] where the URL names no host or no module.
    pub fn new(url: &Url, settings: Settings) -> Result<Self, Error> {
        let place = Place::new(url)?;
        Ok(Self { url: url.clone(), settings, place, fetched: Fetched::default() })
    }

    fn shown(&self, name: &str) -> String {
        match name {
            "" => self.location(),
            _ => format!("{}/{name}", self.location().trim_end_matches('/')),
        }
    }

    fn error(&self, operation: &'static str, name: &str, failure: Failure) -> Error {
        Error { operation, place: self.shown(name), kind: failure.kind, cause: failure.cause }
    }

    /// Prepares an rsync, and a folder for what it needs beside.
    fn prepared(&self) -> Result<(Command, TempDir), Failure> {
        let password: Option<Zeroizing<String>> =
            self.url.password().cloned().or_else(|| self.settings.set_password());
        // Never relative: what begins with a dash is an option, and what holds a colon a host.
        let folder = std::path::absolute(&self.settings.tempdir)?;
        let folder = tempfile::Builder::new().prefix("dupfs-").tempdir_in(folder)?;
        Ok((self.place.command(&self.settings, password.as_ref()), folder))
    }

    fn run(&self, command: &mut Command) -> Result<Vec<u8>, Failure> {
        self.place.run(command, &self.settings)
    }

    /// Lists the folder, or of these names those that are there.
    fn listed(&self, names: Option<&[&str]>) -> Result<Vec<Listed>, Failure> {
        let (mut command, folder) = self.prepared()?;
        command.arg("--list-only");
        let mut links = Vec::new();
        let mut found = Vec::new();
        match names {
            Some(names) => {
                command.args(NAMED).arg("--ignore-missing-args");
                command.arg(list(&folder, self.place.inner(), names)?);
                // Else the words would be too few; nothing is written to it.
                command.arg("--").arg(self.place.top()).arg(folder.path());
            }
            // Of links that lead nowhere rsync would make a failure.
            None => drop(command.arg("--").arg(self.place.target())),
        }
        for line in self.run(&mut command)?.split(|&byte| byte == b'\n') {
            match row(line) {
                Some((b'-', file)) => found.push(file),
                Some((b'l', link)) => links.push(link.name),
                _ => {}
            }
        }
        // Links are followed: a volume may have been moved to another disk and linked.
        for link in links.iter().map(String::as_str).map(|link| link.split(" -> ").next()) {
            match self.listed(Some(&[link.unwrap_or_default()])) {
                Ok(file) => found.extend(file),
                Err(failure) if failure.kind.is_connection() => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(found)
    }

    /// Fetches a file whole.
    fn fetch(&self, name: &str) -> Result<File, Failure> {
        let (mut command, folder) = self.prepared()?;
        let place = folder.path().join("fetched");
        std::fs::create_dir(&place)?;
        command.args(NAMED).arg("--info=progress2").args(limit(&self.settings.download));
        command.arg(list(&folder, self.place.inner(), &[name])?);
        command.arg("--").arg(self.place.top()).arg(&place);
        self.run(&mut command)?;
        // Its name goes with the folder.
        open_file(&place.join(name)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::new(ErrorKind::NotFound, "it went away meanwhile, or is no regular file")
            }
            _ => error.into(),
        })
    }

    fn upload(&self, staged: &Staged) -> Result<Listed, Failure> {
        let (mut command, folder) = self.prepared()?;
        let named = folder.path().join(staged.name());
        std::os::unix::fs::symlink(std::path::absolute(staged.path())?, &named)?;
        command.args(limit(&self.settings.upload));
        command
            .args(["--copy-links", "--times", "--info=progress2", "--"])
            .arg(&named)
            .arg(self.place.target());
        let done = self.run(&mut command);
        self.fetched.forget(staged.name());
        done.map_err(|failure| match failure.kind {
            // What may not be written is no missing file; the folder may be.
            ErrorKind::NotFound => Failure { kind: ErrorKind::Denied, ..failure },
            _ => failure,
        })?;
        let found = self.listed(Some(&[staged.name()]))?.pop();
        let size = found.as_ref().map_or(0, |found| found.size);
        found.filter(|_| size == staged.size()).ok_or_else(|| {
            let cause =
                format!("the other side has {size} bytes of it instead of {}", staged.size());
            Failure::new(ErrorKind::Other, cause)
        })
    }

    fn make_folders(&self) -> Result<(), Failure> {
        let folders = self.place.folders();
        if folders.is_empty() {
            return Ok(());
        }
        let (mut command, folder) = self.prepared()?;
        command.args(["--dirs", "--relative", "--no-implied-dirs", "--"]);
        for made in folders {
            let place = folder.path().join("./made").join(made);
            std::fs::create_dir_all(&place)?;
            // What stands behind the dot is made on the other side.
            command.arg(folder.path().join("made/.").join(made));
        }
        self.run(command.arg(self.place.top())).map(|_| ())
    }

    fn remove(&self, names: &[&str]) -> Result<(), Failure> {
        let (mut command, folder) = self.prepared()?;
        let none = folder.path().join("none");
        std::fs::create_dir(&none)?;
        command.args(["--from0", "--delete-missing-args"]).arg(list(&folder, b"", names)?);
        // Nothing in the folder has any of these names.
        self.run(command.arg("--").arg(none.join("")).arg(self.place.target())).map(|_| ())
    }

    fn opened(&self, file: &Listed) -> Result<Arc<File>, Error> {
        let fetched = self.fetched.get(file, || self.fetch(&file.name));
        fetched.map_err(|failure| self.error("read", &file.name, failure))
    }
}

/// Writes names of files in a folder to a file for `--files-from`; returns the option.
fn list(folder: &TempDir, inner: &[u8], names: &[&str]) -> std::io::Result<std::ffi::OsString> {
    let path = folder.path().join("names");
    // A slash keeps one that begins with a `#` or a `;` from being a comment.
    let line = |name: &&str| [b"/", inner, b"/", name.as_bytes(), b"\0"].concat();
    let text: Vec<u8> = names.iter().flat_map(line).collect();
    std::fs::write(&path, text)?;
    let mut option = std::ffi::OsString::from("--files-from=");
    option.push(path);
    Ok(option)
}

/// Understands a line of `--list-only`: what it is, and its name; `None` where it lists nothing, or
/// a name that is not UTF-8 or leads elsewhere.
fn row(line: &[u8]) -> Option<(u8, Listed)> {
    static ROW: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?-u)^([-dlbcps])[-rwxsStT]{9}\S?\s+([\d,.]+)\s(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)\s(.+)$").ok()
    });
    let found = ROW.as_ref()?.captures(line)?;
    let text = |at: usize| std::str::from_utf8(&found[at]).ok();
    let size: String = text(2)?.chars().filter(char::is_ascii_digit).collect();
    let size = size.parse().ok()?;
    let time = chrono::NaiveDateTime::parse_from_str(text(3)?, "%Y/%m/%d %H:%M:%S").ok()?;
    let stamp = u64::try_from(time.and_utc().timestamp()).map_or(0, |time| stamp_of(time, size));
    let name = String::from_utf8(unescaped(&found[4])).ok()?;
    let is_flat =
        !matches!(name.as_str(), "." | "..") && (!name.contains('/') || &found[1] == b"l");
    is_flat.then_some((found[1][0], Listed { name, size, stamp }))
}

/// Undoes what rsync makes of control characters: `\#` and three octal digits.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), name);
    while let [first, behind @ ..] = rest {
        let code = rest.strip_prefix(b"\\#").and_then(|digits| digits.get(..3));
        let code =
            code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &rest[5..] } else { behind };
    }
    plain
}

/// Returns the option by which one rsync keeps a limit, in KiB a second.
fn limit(pace: &Pace) -> Option<String> {
    pace.rate().map(|rate| format!("--bwlimit={}", rate.div_ceil(1024)))
}

impl Storage for RsyncStorage {
    fn location(&self) -> String {
        self.url.to_string()
    }

    fn abilities(&self) -> Abilities {
        let transfers = self.settings.transfers.unwrap_or(TRANSFERS).max(1);
        Abilities { transfers, rereads: false, ..Abilities::default() }
    }

    fn prepare(&self) -> Result<(), Error> {
        self.make_folders().map_err(|failure| self.error("create", "", failure))
    }

    fn list(&self) -> Result<Vec<Listed>, Error> {
        self.listed(None).map_err(|failure| self.error("list", "", failure))
    }

    fn read_at(&self, file: &Listed, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let opened = self.opened(file)?;
        read_from(&opened, offset, buffer)
            .map_err(|error| Error::io("read", self.shown(&file.name), &error))
    }

    fn stream(&self, file: &Listed, from: u64) -> Result<Box<dyn ByteStream>, Error> {
        let place = self.shown(&file.name);
        Ok(Box::new(Stream { file: self.opened(file)?, offset: from, place }))
    }

    fn stage(&self, name: &str) -> Result<StagedWriter, Error> {
        StagedWriter::temporary(name, &self.shown(name), &self.settings.tempdir)
    }

    fn put(&self, staged: &Staged) -> Result<Listed, Error> {
        self.upload(staged).map_err(|failure| self.error("write", staged.name(), failure))
    }

    fn delete(&self, names: &[&str]) -> Vec<Result<(), Error>> {
        if names.is_empty() {
            return Vec::new();
        }
        names.iter().for_each(|name| self.fetched.forget(name));
        let Err(failure) = self.remove(names) else {
            return names.iter().map(|_| Ok(())).collect();
        };
        // Which are still there, where one of them made the whole call fail?
        let there = match failure.kind.is_connection() {
            true => None,
            false => self.listed(Some(names)).ok(),
        };
        let is_gone = |name: &str| {
            there.as_ref().is_some_and(|there| there.iter().all(|found| found.name != name))
        };
        let result = |name: &&str| match is_gone(name) {
            true => Ok(()),
            false => Err(self.error("delete", name, failure.clone())),
        };
        names.iter().map(result).collect()
    }
}

/// Fills as much of `buffer` as there is from `offset` on.
fn read_from(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    // The system knows no larger offsets.
    while filled < buffer.len() && offset <= i64::MAX as u64 - buffer.len() as u64 {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The bytes of a file that was fetched, from an offset on.
struct Stream {
    file: Arc<File>,
    offset: u64,
    place: String,
}

impl ByteStream for Stream {
    fn read_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = read_from(&self.file, self.offset, buffer)
            .map_err(|error| Error::io("read", self.place.clone(), &error))?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let (stamp, time) = (1_700_000_000_000_000_005, "2023/11/14 22:13:20");
        let found = |name: &str| Some((b'-', Listed { name: name.into(), size: 5, stamp }));
        for (line, expected) in [
            (format!("-rw-r--r--              5 {time} a b"), found("a b")),
            (format!("-rw-r--r--+             5 {time} x"), found("x")),
            (format!("-rw-r--r--              5 {time} a\\#012\\#134#b\\c"), found("a\n\\#b\\c")),
            (format!("-rw-r--r--              5 {time} sub/x"), None),
            (format!("drwxr-xr-x              5 {time} ."), None),
            ("receiving file list ... done".into(), None),
        ] {
            assert_eq!(row(line.as_bytes()), expected, "{line}");
        }
        let link = row(format!("lrwxrwxrwx              5 {time} l -> ../x").as_bytes());
        assert!(link.is_some_and(|(kind, link)| kind == b'l' && link.name == "l -> ../x"));
        assert_eq!(
            row(format!("-rw-r--r-- 5 {time} \u{fc}\u{20ac}").as_bytes()),
            found("\u{fc}\u{20ac}")
        );
    }
}
