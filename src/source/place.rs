//! [`SourceTree`]: where the source lies, and the only way to reach anything in it.

use super::metadata::{Facts, Found, Seen};
use super::{Error, Selection, Walk};
use crate::model::{EntryKind, EntryPath};
use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest path that is given to the kernel in one piece. The kernel's own limit is 4096 with
/// the NUL at its end.
const LONGEST: usize = 4000;

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
    place: Arc<Place>,
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
        let place = Place { top, name, facts: stat.into(), copy_links: options.copy_links };
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

    /// Opens a regular file by its path, as [`Found::open`] does. What is there is looked at
    /// before, since to open a device may set it going.
    ///
    /// # Errors
    /// As [`Found::open`].
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

/// The open source. Everything in it is opened from here by its path, so that no directory needs to
/// be held open.
#[derive(Debug)]
pub(super) struct Place {
    top: OwnedFd,
    name: Vec<u8>,
    facts: Facts,
    pub copy_links: bool,
}

impl Place {
    /// Returns what the operating system said of the source itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Returns the source itself as seen.
    ///
    /// # Errors
    /// If it is a link that cannot be read, or of a type that the format does not know.
    pub fn root(&self) -> io::Result<Seen> {
        let kind = self.facts.kind(|| fs::readlinkat(&self.top, "", Vec::new()))?;
        Ok(Seen { path: EntryPath::root(), kind, facts: self.facts })
    }

    /// Opens a directory for listing.
    pub fn open_directory(&self, path: &EntryPath) -> io::Result<OwnedFd> {
        self.reach(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file for reading; anything else that has got there meanwhile is an error.
    pub fn open_file(&self, path: &EntryPath) -> io::Result<File> {
        // Without NONBLOCK a named pipe that has taken the file's place would be waited for.
        let file = self.reach(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file any more"));
        }
        Ok(file.into())
    }

    /// Opens an entry, in steps of [`LONGEST`] bytes.
    fn reach(&self, path: &EntryPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | follow(self.copy_links);
        if path.is_root() {
            return Ok(match self.facts.file_type() {
                FileType::Directory => fs::openat(&self.top, ".", flags, Mode::empty())?,
                _ => fs::openat(CWD, &self.name[..], flags, Mode::empty())?,
            });
        }
        let (mut rest, mut held) = (path.as_bytes(), None::<OwnedFd>);
        while rest.len() > LONGEST {
            let cut = rest[..LONGEST].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            let from = held.as_ref().map_or(self.top.as_fd(), |fd| fd.as_fd());
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | follow(self.copy_links);
            held = Some(self.open_below(from, &rest[..cut], step)?);
            rest = &rest[cut + 1..];
        }
        let from = held.as_ref().map_or(self.top.as_fd(), |fd| fd.as_fd());
        Ok(self.open_below(from, rest, flags)?)
    }

    /// Opens a path below a directory, through symbolic links only if they are to be followed.
    fn open_below(
        &self,
        from: BorrowedFd,
        path: &[u8],
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        if self.copy_links {
            return fs::openat(from, path, flags, Mode::empty());
        }
        match fs::openat2(from, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // Before Linux 5.6, or forbidden by a filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => open_by_component(from, path, flags),
            opened => opened,
        }
    }
}

/// Opens a path component by component, none of which may be a symbolic link.
fn open_by_component(from: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut held = None::<OwnedFd>;
    let mut components = path.split(|&b| b == b'/').peekable();
    while let Some(name) = components.next() {
        let flags = if components.peek().is_some() { step } else { flags };
        let opened = match &held {
            Some(fd) => fs::openat(fd, name, flags, Mode::empty())?,
            None => fs::openat(from, name, flags, Mode::empty())?,
        };
        held = Some(opened);
    }
    held.ok_or(Errno::NOENT)
}

fn follow(copy_links: bool) -> OFlags {
    if copy_links { OFlags::empty() } else { OFlags::NOFOLLOW }
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

impl Found {
    /// Opens a regular file for reading, from the top of the source and never through a symbolic
    /// link, unless links are followed.
    ///
    /// # Errors
    /// What the operating system says: it may have vanished, or not be readable after all; or it is
    /// no regular file any more.
    pub fn open(&self) -> io::Result<File> {
        if self.entry.kind != EntryKind::File {
            return Err(io::Error::other("it is no regular file"));
        }
        self.place.open_file(&self.path)
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

    #[test]
    fn without_openat2_nothing_is_opened_through_a_link_either() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", directory.path().join("l")).unwrap();
        let top = fs::openat(CWD, directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        let open = |path: &str| {
            open_by_component(top.as_fd(), path.as_bytes(), OFlags::RDONLY | OFlags::NOFOLLOW)
        };
        assert!(open("a/b").is_ok());
        assert!(open("l/b").is_err() && open("l").is_err());
    }
}
