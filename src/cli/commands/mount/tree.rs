//! [`Served`]: the history as the mount crate's tree, the library's errors as errnos.

use dupfs::contents::File;
use dupfs::history::{self, Attributes, Found, HistoryTree};
use dupfs::model::EntryKind;
use dupfs_mount::{FOREVER, Kind, Lookup, Node, Totals, Tree};
use std::sync::Arc;
use std::time::Duration;

/// The history, with what the mount crate wants to know beyond it.
pub struct Served {
    /// The history.
    pub tree: Arc<HistoryTree>,
    /// How often new backups are looked for.
    pub refresh: Duration,
    /// Stored bytes of all backups.
    pub catalog_bytes: u64,
}

/// An open file, with its inode for messages.
pub struct Open {
    file: File,
    inode: u64,
}

/// Names the errno of each error of the history.
pub struct TreeError(history::Error);

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl dupfs_mount::Errno for TreeError {
    fn errno(&self) -> i32 {
        match self.0 {
            history::Error::NotFound => libc::ENOENT,
            // What NFS says of a file that was removed while somebody knew it.
            history::Error::Stale => libc::ESTALE,
            history::Error::NotDirectory => libc::ENOTDIR,
            history::Error::NotFile => libc::EINVAL,
            // Never "no such file": it is there, but cannot be had.
            history::Error::Unreadable { .. } => libc::EIO,
        }
    }
}

impl From<history::Error> for TreeError {
    fn from(error: history::Error) -> Self {
        Self(error)
    }
}

impl Served {
    fn node(&self, found: &Found) -> Node {
        Node {
            attributes: attributes(&found.attributes),
            ttl: if found.may_change { self.refresh } else { FOREVER },
        }
    }
}

fn kind(kind: &EntryKind) -> Kind {
    match kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File => Kind::File,
        EntryKind::Symlink { .. } => Kind::Symlink,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharDevice { .. } => Kind::CharDevice,
        EntryKind::BlockDevice { .. } => Kind::BlockDevice,
    }
}

fn attributes(found: &Attributes) -> dupfs_mount::Attributes {
    let rdev = match found.kind {
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            (major, minor)
        }
        _ => (0, 0),
    };
    dupfs_mount::Attributes {
        inode: found.inode,
        kind: kind(&found.kind),
        mode: found.mode,
        nlink: found.links,
        uid: found.uid,
        gid: found.gid,
        size: found.size,
        blocks: if found.kind == EntryKind::File { found.size.div_ceil(512) } else { 0 },
        mtime: found.mtime,
        rdev,
    }
}

impl Tree for Served {
    type Error = TreeError;
    type File = Open;

    fn lookup(&self, parent: u64, name: &[u8]) -> Result<Lookup, TreeError> {
        Ok(match self.tree.look_up(parent, name)? {
            Some(found) => Lookup::Found(self.node(&found)),
            // A name may appear in the root with the next backup, nowhere else.
            None if parent == dupfs_mount::ROOT => Lookup::Missing { ttl: Duration::ZERO },
            None => Lookup::Missing { ttl: FOREVER },
        })
    }

    fn attributes(&self, inode: u64) -> Result<Node, TreeError> {
        Ok(self.node(&self.tree.attributes(inode)?))
    }

    fn list(
        &self,
        directory: u64,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<dupfs_mount::Item>, TreeError> {
        let items = self.tree.list(directory, after, limit)?;
        let item = |item: history::Item| dupfs_mount::Item {
            node: item.found.as_ref().map(|found| self.node(found)),
            kind: kind(&item.kind),
            inode: item.inode,
            name: item.name,
        };
        Ok(items.into_iter().map(item).collect())
    }

    fn link_target(&self, inode: u64) -> Result<Vec<u8>, TreeError> {
        Ok(self.tree.link_target(inode)?)
    }

    fn open(&self, inode: u64) -> Result<Open, TreeError> {
        Ok(Open { file: self.tree.open(inode)?, inode })
    }

    fn read(&self, open: &Open, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        Ok(self.tree.read(&open.file, open.inode, offset, buffer)?)
    }

    fn totals(&self) -> Totals {
        Totals { bytes: self.catalog_bytes, files: self.tree.snapshot_count() as u64 }
    }
}
