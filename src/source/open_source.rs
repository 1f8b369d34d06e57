//! [`OpenSource`]: where the source lies, and the only way to reach anything in it.

use super::metadata::{Facts, Seen};
use crate::model::EntryPath;
use rustix::fs::{self, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest path that is given to the kernel in one piece. The kernel's own limit is 4096 with
/// the NUL at its end.
const LONGEST: usize = 4000;

/// The open source. Everything in it is opened from here by its path, so that no directory needs to
/// be held open.
#[derive(Debug)]
pub(super) struct OpenSource {
    pub top: OwnedFd,
    pub name: Vec<u8>,
    pub facts: Facts,
    pub copy_links: bool,
}

impl OpenSource {
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
    pub fn reach(&self, path: &EntryPath, flags: OFlags) -> io::Result<OwnedFd> {
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

pub(super) fn follow(copy_links: bool) -> OFlags {
    if copy_links { OFlags::empty() } else { OFlags::NOFOLLOW }
}

#[cfg(test)]
mod tests {
    use super::*;

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
