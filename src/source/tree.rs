//! [`SourceTree`]: a source directory, or a single file, held open to be saved.

use super::Error;
use super::open_source::{OpenSource, follow};
use super::selection::Selection;
use super::walk::Walk;
use crate::model::EntryPath;
use rustix::fs::{self, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a source is read.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// `--copy-links`: takes symbolic links, the source itself included, for what they lead to;
    /// those that lead nowhere are absent.
    pub copy_links: bool,
}

/// A directory, or a single file, held open to be saved.
#[derive(Debug, Clone)]
pub struct SourceTree {
    place: Arc<OpenSource>,
    left_out: Arc<[EntryPath]>,
}

impl SourceTree {
    /// Opens a source. A `/` at its end says nothing: a symbolic link is a link.
    ///
    /// # Errors
    /// [`Error::Missing`] if nothing is there, [`Error::Open`] if it cannot be reached.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Self, Error> {
        let name = canonical(path.as_os_str().as_bytes());
        let failed = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::Missing(path.to_path_buf()),
            _ => Error::Open { path: path.to_path_buf(), cause: errno.into() },
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | follow(options.copy_links);
        let top = fs::openat(CWD, &name[..], flags, Mode::empty()).map_err(failed)?;
        let stat = fs::fstat(&top).map_err(failed)?;
        let place = OpenSource { top, name, facts: stat.into(), copy_links: options.copy_links };
        Ok(Self { place: Arc::new(place), left_out: Arc::default() })
    }

    /// Leaves entries out of all walks, with what lies below them, whatever a selection says. They
    /// are not even asked for: a mount may never answer.
    #[must_use]
    pub fn leaving_out(self, entries: impl Into<Arc<[EntryPath]>>) -> Self {
        Self { left_out: entries.into(), ..self }
    }

    /// Returns whether the source itself is a symbolic link, which is all there is to be saved
    /// then.
    pub fn is_link(&self) -> bool {
        self.place.facts.file_type() == FileType::Symlink
    }

    /// Returns the source as it stands at the start of whole paths, which patterns see: as typed,
    /// but without components that are empty or `.`, except `.` alone.
    ///
    /// Source: seen with 0.8.22 and 3.2.1, CLI.md 5.2.
    pub fn name(&self) -> &[u8] {
        &self.place.name
    }

    /// Returns the whole path of an entry, for messages.
    pub fn full_path(&self, path: &EntryPath) -> PathBuf {
        let mut full = PathBuf::from(OsStr::from_bytes(&self.place.name));
        if !path.is_root() {
            full.push(OsStr::from_bytes(path.as_bytes()));
        }
        full
    }

    /// Opens a regular file by its path, as [`Found::open`](super::Found::open) does. What is there is looked at
    /// before, since to open a device may set it going.
    ///
    /// # Errors
    /// As [`Found::open`](super::Found::open).
    pub fn open_file(&self, path: &EntryPath) -> io::Result<File> {
        let there = self.place.reach(path, OFlags::PATH)?;
        match FileType::from_raw_mode(fs::fstat(&there)?.st_mode) {
            FileType::RegularFile => self.place.open_file(path),
            _ => Err(io::Error::other("it is no regular file")),
        }
    }

    /// Starts to walk the tree from its root, with everything in it if there is no selection.
    pub fn walk(&self, selection: Option<Arc<Selection>>) -> Walk {
        Walk::new(self.place.clone(), self.left_out.clone(), selection)
    }
}

/// Takes empty components and `.` out of a path.
fn canonical(path: &[u8]) -> Vec<u8> {
    let components: Vec<_> =
        path.split(|&b| b == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    match (path.first(), components.is_empty()) {
        (Some(b'/'), _) => [b"/", &components.join(&b'/')[..]].concat(),
        (_, true) => b".".to_vec(),
        _ => components.join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_patterns_see_them() {
        let cases = [
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("me", "me"),
            ("./me", "me"),
            (".", "."),
            ("./", "."),
            ("/.", "/"),
            ("../x", "../x"),
        ];
        for (typed, expected) in cases {
            assert_eq!(canonical(typed.as_bytes()), expected.as_bytes(), "{typed}");
        }
    }
}
