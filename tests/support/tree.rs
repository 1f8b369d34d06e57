//! [`Tree`]: a directory tree as a value, and writing it to disk exactly.

use super::Path;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What one path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Arc<Vec<u8>>),
    Symlink(Vec<u8>),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

/// One path with its metadata; the time as the file system holds it, so possibly negative and with
/// nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: i64,
    pub nanos: u32,
}

impl Node {
    /// Returns a node of root with ordinary rights.
    pub fn new(kind: Kind, mtime: i64) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink(_) => 0o777,
            _ => 0o644,
        };
        Self { kind, mode, uid: 0, gid: 0, mtime, nanos: 0 }
    }

    pub fn directory(mtime: i64) -> Self {
        Self::new(Kind::Directory, mtime)
    }

    pub fn file(content: impl Into<Vec<u8>>, mtime: i64) -> Self {
        Self::new(Kind::File(Arc::new(content.into())), mtime)
    }

    pub fn symlink(target: impl Into<Vec<u8>>, mtime: i64) -> Self {
        Self::new(Kind::Symlink(target.into()), mtime)
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }
}

/// All paths of a tree; the root is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Path, Node>);

impl Tree {
    /// Returns a tree of nothing but its root.
    pub fn new(mtime: i64) -> Self {
        Self(BTreeMap::from([(Path::new(), Node::directory(mtime))]))
    }

    /// Puts a node at a path whose parent is there already.
    pub fn with(mut self, path: impl AsRef<[u8]>, node: Node) -> Self {
        self.0.insert(path.as_ref().to_vec(), node);
        self
    }

    /// Makes the directory `place` equal to this tree, given that it equals `before` now (or is
    /// missing).
    ///
    /// Works from directory to directory, so paths may be longer than the kernel takes in one call.
    pub fn write(&self, before: Option<&Tree>, place: &std::path::Path) {
        let empty = BTreeMap::new();
        let old = before.map_or(&empty, |tree| &tree.0);
        for (path, node) in old.iter().rev() {
            let stays = self.0.get(path).is_some_and(|now| same_kind(&now.kind, &node.kind));
            if !stays {
                let (parent, name) = open_parent(place, path);
                let flags = if node.kind == Kind::Directory {
                    AtFlags::REMOVEDIR
                } else {
                    AtFlags::empty()
                };
                rustix::fs::unlinkat(&parent, &name, flags).unwrap();
            }
        }
        for (path, node) in &self.0 {
            if old.get(path).is_none_or(|before| before.kind != node.kind) {
                create(place, path, &node.kind);
            }
        }
        for (path, node) in self.0.iter().rev() {
            set_metadata(place, path, node);
        }
    }
}

/// Tells whether `path` lies below the directory `ancestor`, which is not the root.
pub fn lies_below(path: &[u8], ancestor: &[u8]) -> bool {
    path.len() > ancestor.len() && path.starts_with(ancestor) && path[ancestor.len()] == b'/'
}

/// Tells whether one can become the other without being removed first.
fn same_kind(a: &Kind, b: &Kind) -> bool {
    matches!((a, b), (Kind::Directory, Kind::Directory) | (Kind::File(_), Kind::File(_))) || a == b
}

/// Opens the directory that holds `path`, and returns it with the last component; `.` for the root.
fn open_parent(place: &std::path::Path, path: &[u8]) -> (OwnedFd, Vec<u8>) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut directory = rustix::fs::openat(CWD, place, flags, Mode::empty()).unwrap();
    let mut components: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    let last = components.pop().filter(|name| !name.is_empty()).unwrap_or(b".").to_vec();
    for name in components {
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    (directory, last)
}

fn create(place: &std::path::Path, path: &[u8], kind: &Kind) {
    if path.is_empty() {
        return std::fs::create_dir_all(place).unwrap();
    }
    let (parent, name) = open_parent(place, path);
    let node = |kind: FileType, device| {
        rustix::fs::mknodat(&parent, &name, kind, Mode::from(0o600), device).unwrap()
    };
    match kind {
        Kind::Directory => rustix::fs::mkdirat(&parent, &name, Mode::from(0o700)).unwrap(),
        Kind::File(content) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&parent, &name, flags, Mode::from(0o600)).unwrap();
            std::fs::File::from(file).write_all(content).unwrap();
        }
        Kind::Symlink(target) => {
            rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, &name).unwrap()
        }
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::Char(major, minor) => {
            node(FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
        }
        Kind::Block(major, minor) => {
            node(FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
        }
    }
}

fn set_metadata(place: &std::path::Path, path: &[u8], node: &Node) {
    let (parent, name) = open_parent(place, path);
    let (uid, gid) = (rustix::fs::Uid::from_raw(node.uid), rustix::fs::Gid::from_raw(node.gid));
    rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !matches!(node.kind, Kind::Symlink(_)) {
        rustix::fs::chmodat(&parent, &name, Mode::from(node.mode), AtFlags::empty()).unwrap();
    }
    let time = Timespec { tv_sec: node.mtime, tv_nsec: node.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
