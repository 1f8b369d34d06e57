//! [`Truth`]: everything that duplicity's format holds of a tree, recorded from a directory,
//! predicted from a [`Tree`], compared.

use super::{Kind, Node, Tree};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// A path below the root of a tree: raw bytes, components joined by `/`; the root is the empty
/// path.
pub type Path = Vec<u8>;

/// What one path showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub content: Content,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Whole seconds since 1970 UTC.
    pub mtime: i64,
}

/// Type, and what only that type has.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    Directory,
    /// Size in bytes as `stat` tells it, and hash of the bytes as `read` gives them.
    File {
        size: u64,
        hash: blake3::Hash,
    },
    Symlink(Vec<u8>),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
    Socket,
    /// Looking, listing or reading failed; the metadata is there if `stat` gave it.
    Unreadable(Errno),
}

/// The recorded state of a whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Truth(pub BTreeMap<Path, Seen>);

impl Truth {
    /// Records the tree below `place`, reading every byte of it. What cannot be read is recorded as
    /// such.
    ///
    /// # Panics
    /// When the place itself is no directory, or when the tree contradicts itself: a type in a
    /// listing that is not the type of the entry, a size that is not the number of bytes read, a
    /// link as long as its target is not.
    pub fn record(place: &std::path::Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = rustix::fs::openat(CWD, place, flags, Mode::empty())
            .unwrap_or_else(|e| panic!("cannot open {place:?}: {e}"));
        let mut truth = Self::default();
        let seen = look(root.as_fd(), b".", None);
        truth.0.insert(Path::new(), seen);
        truth.descend(root.as_fd(), &Path::new());
        truth
    }

    /// Returns what recording a written `tree` would give.
    pub fn of(tree: &Tree) -> Self {
        Self(tree.0.iter().map(|(path, node)| (path.clone(), Seen::of(node))).collect())
    }

    /// Returns the state that duplicity saves: this one where it counts as changed since `before`,
    /// else what it saved before.
    ///
    /// Times before 1970 become 1970. Of a symbolic link only the target counts as a change, of a
    /// device all but the time. Both sides must not hold different contents of equal metadata:
    /// duplicity would miss them.
    ///
    /// Source: seen in collections of 0.8.22 and 3.2.1.
    pub fn kept_after(&self, before: Option<&Truth>) -> Self {
        let keep = |(path, now): (&Path, &Seen)| {
            let now = Seen { mtime: now.mtime.max(0), ..now.clone() };
            let old =
                before.and_then(|before| before.0.get(path)).filter(|old| old.counts_as(&now));
            (path.clone(), old.cloned().unwrap_or(now))
        };
        Self(self.0.iter().map(keep).collect())
    }

    /// Sets aside the times of symbolic links, which duplicity's own restore does not set.
    pub fn without_link_times(mut self) -> Self {
        for seen in self.0.values_mut().filter(|seen| matches!(seen.content, Content::Symlink(_))) {
            seen.mtime = 0;
        }
        self
    }

    /// Returns the paths that could not be read, and why.
    pub fn unreadable(&self) -> BTreeMap<&Path, Errno> {
        let errno = |seen: &Seen| {
            if let Content::Unreadable(errno) = seen.content { Some(errno) } else { None }
        };
        self.0.iter().filter_map(|(path, seen)| Some((path, errno(seen)?))).collect()
    }

    fn descend(&mut self, directory: BorrowedFd, path: &Path) {
        let entries: Result<Vec<_>, Errno> = Dir::read_from(directory).and_then(Iterator::collect);
        let entries = match entries {
            Ok(entries) => entries,
            Err(errno) => {
                self.0.get_mut(path).unwrap().content = Content::Unreadable(errno);
                return;
            }
        };
        for entry in entries {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path =
                if path.is_empty() { name.to_vec() } else { [path, &b"/"[..], name].concat() };
            let seen = look(directory, name, Some(entry.file_type()));
            let is_directory = seen.content == Content::Directory;
            let previous = self.0.insert(path.clone(), seen);
            assert!(previous.is_none(), "listed twice: '{}'", path.escape_ascii());
            if is_directory {
                match rustix::fs::openat(
                    directory,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                    Mode::empty(),
                ) {
                    Ok(below) => self.descend(below.as_fd(), &path),
                    Err(errno) => {
                        self.0.get_mut(&path).unwrap().content = Content::Unreadable(errno)
                    }
                }
            }
        }
    }
}

impl Seen {
    /// Returns the content alone, metadata all zero.
    pub fn bare(&self) -> Self {
        Self { content: self.content.clone(), mode: 0, uid: 0, gid: 0, mtime: 0 }
    }

    fn of(node: &Node) -> Self {
        let content = match &node.kind {
            Kind::Directory => Content::Directory,
            Kind::File(bytes) => {
                Content::File { size: bytes.len() as u64, hash: blake3::hash(bytes) }
            }
            Kind::Symlink(target) => Content::Symlink(target.clone()),
            Kind::Fifo => Content::Fifo,
            Kind::Char(major, minor) => Content::Char(*major, *minor),
            Kind::Block(major, minor) => Content::Block(*major, *minor),
        };
        Self { content, mode: node.mode, uid: node.uid, gid: node.gid, mtime: node.mtime }
    }

    /// Tells whether duplicity takes `now` for unchanged.
    fn counts_as(&self, now: &Seen) -> bool {
        let rights = |seen: &Seen| (seen.mode, seen.uid, seen.gid);
        match (&self.content, &now.content) {
            (Content::File { .. }, Content::File { .. }) => {
                let same = rights(self) == rights(now) && self.mtime == now.mtime;
                assert!(
                    !same || self.content == now.content,
                    "a history edits a file without changing its time"
                );
                same
            }
            (Content::Directory, Content::Directory) | (Content::Fifo, Content::Fifo) => {
                self == now
            }
            (Content::Symlink(old), Content::Symlink(new)) => old == new,
            (Content::Char(..), Content::Char(..)) | (Content::Block(..), Content::Block(..)) => {
                self.content == now.content && rights(self) == rights(now)
            }
            _ => false,
        }
    }
}

/// Looks at one entry of a directory; `listed` is the type that the listing told.
fn look(directory: BorrowedFd, name: &[u8], listed: Option<FileType>) -> Seen {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) => {
            return Seen { content: Content::Unreadable(errno), mode: 0, uid: 0, gid: 0, mtime: 0 };
        }
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let shown = name.escape_ascii();
    assert!(
        listed.is_none_or(|listed| listed == kind || listed == FileType::Unknown),
        "'{shown}' listed as {listed:?} is {kind:?}"
    );
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let content = match kind {
        FileType::Directory => Content::Directory,
        FileType::Fifo => Content::Fifo,
        FileType::Socket => Content::Socket,
        FileType::CharacterDevice => Content::Char(device.0, device.1),
        FileType::BlockDevice => Content::Block(device.0, device.1),
        FileType::Symlink => match rustix::fs::readlinkat(directory, name, Vec::new()) {
            Ok(target) => {
                assert_eq!(
                    stat.st_size as usize,
                    target.as_bytes().len(),
                    "size of the link '{shown}'"
                );
                Content::Symlink(target.into_bytes())
            }
            Err(errno) => Content::Unreadable(errno),
        },
        _ => match read(directory, name) {
            Ok((size, hash)) => {
                assert_eq!(
                    stat.st_size as u64, size,
                    "stat's size of '{shown}' against the bytes read"
                );
                Content::File { size, hash }
            }
            Err(errno) => Content::Unreadable(errno),
        },
    };
    Seen {
        content,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime as i64,
    }
}

fn read(directory: BorrowedFd, name: &[u8]) -> Result<(u64, blake3::Hash), Errno> {
    let file =
        rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())?;
    let mut file = std::fs::File::from(file);
    let (mut hasher, mut size, mut buffer) = (blake3::Hasher::new(), 0, vec![0; 128 << 10]);
    loop {
        let count = file
            .read(&mut buffer)
            .map_err(|e| Errno::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)))?;
        if count == 0 {
            return Ok((size, hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory => f.write_str("directory"),
            Self::File { size, hash } => {
                write!(f, "file of {size} bytes, hash {:.8}", hash.to_hex())
            }
            Self::Symlink(target) => write!(f, "link to '{}'", target.escape_ascii()),
            Self::Fifo => f.write_str("fifo"),
            Self::Char(major, minor) => write!(f, "char device {major}:{minor}"),
            Self::Block(major, minor) => write!(f, "block device {major}:{minor}"),
            Self::Socket => f.write_str("socket"),
            Self::Unreadable(errno) => write!(f, "unreadable ({errno})"),
        }
    }
}

/// Returns a line for each path in which the two differ: expected first, actual second.
fn differences(expected: &Truth, actual: &Truth) -> Vec<String> {
    let missing = expected
        .0
        .keys()
        .filter(|path| !actual.0.contains_key(*path))
        .map(|path| format!("missing: {}", show(path)));
    let extra = actual
        .0
        .keys()
        .filter(|path| !expected.0.contains_key(*path))
        .map(|path| format!("extra:   {}", show(path)));
    let changed = expected.0.iter().filter_map(|(path, expected)| {
        let fields = expected.differences(actual.0.get(path)?);
        (!fields.is_empty()).then(|| format!("differs: {}: {}", show(path), fields.join("; ")))
    });
    missing.chain(extra).chain(changed).collect()
}

impl Seen {
    fn differences(&self, actual: &Seen) -> Vec<String> {
        let mut fields = Vec::new();
        let mut field = |name: &str, expected: String, actual: String| {
            if expected != actual {
                fields.push(format!("{name} is {actual}, should be {expected}"));
            }
        };
        field("content", format!("{:?}", self.content), format!("{:?}", actual.content));
        field("mode", format!("{:04o}", self.mode), format!("{:04o}", actual.mode));
        field(
            "owner",
            format!("{}:{}", self.uid, self.gid),
            format!("{}:{}", actual.uid, actual.gid),
        );
        field("mtime", self.mtime.to_string(), actual.mtime.to_string());
        fields
    }
}

fn show(path: &[u8]) -> String {
    if path.is_empty() { "the root".into() } else { format!("'{}'", path.escape_ascii()) }
}

/// Fails with a readable list when the two are not equal.
#[track_caller]
pub fn assert_same(expected: &Truth, actual: &Truth, what: &str) {
    let lines = differences(expected, actual);
    let shown = lines.iter().take(25).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    assert!(lines.is_empty(), "{what}: {} differences\n  {shown}", lines.len());
}
