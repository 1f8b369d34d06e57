//! [`Tree`]: the questions a read-only file system must answer, in plain types.

use std::fmt::Display;
use std::time::Duration;

use crate::Errno;

/// The inode number of the top directory.
pub const ROOT: u64 = 1;

/// How long the kernel may keep what never changes: 136 years. Directories with this time also keep
/// their listing.
pub const FOREVER: Duration = Duration::from_secs(1 << 32);

/// What the kernel's seven kinds of file come down to in a backup; sockets are not saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What `stat` shows of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Number of the inode, never 0.
    pub inode: u64,
    /// What it is. One inode number never changes its kind.
    pub kind: Kind,
    /// The twelve mode bits: set-user-ID, set-group-ID, sticky and nine permissions.
    pub mode: u16,
    /// Count of hard links.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Length in bytes; of a symbolic link, of its target.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Seconds since 1970 UTC, perhaps negative; shown as all three times.
    pub mtime: i64,
    /// Major and minor number of a device; (0, 0) of anything else.
    pub rdev: (u32, u32),
}

/// Attributes, and how long the kernel may keep them and the name they were found under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// What `stat` shows.
    pub attributes: Attributes,
    /// How long that stays true.
    pub ttl: Duration,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// This.
    Found(Node),
    /// Nothing.
    Missing {
        /// How long that stays true; zero where a name may appear at any moment.
        ttl: Duration,
    },
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// 1 to 255 bytes without `/` and NUL, neither `.` nor `..`; an item with any other name is not
    /// shown.
    pub name: Vec<u8>,
    /// Number of the inode.
    pub inode: u64,
    /// What it is.
    pub kind: Kind,
    /// The attributes, or none where they are not known cheaply: the kernel then looks the name up
    /// when somebody asks for them.
    pub node: Option<Node>,
}

/// Sums over the whole tree, for `statfs` (`df`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes stored.
    pub bytes: u64,
    /// Count of inodes, as far as known.
    pub files: u64,
}

/// A read-only file system. Each method is called from several threads at once, and may block:
/// others go on meanwhile.
///
/// The tree gets a call for what the kernel does not hold in its caches only. Inode numbers stay
/// valid as long as the mount; the tree is not told when the kernel forgets one.
pub trait Tree: Send + Sync + 'static {
    /// What a question may end in.
    type Error: Errno + Display + Send;
    /// What an open file holds; dropped when the last user has closed it.
    type File: Send + Sync + 'static;

    /// Finds a name in a directory.
    ///
    /// # Errors
    /// Where the answer is not known; a name that is not there is [`Lookup::Missing`].
    fn lookup(&self, parent: u64, name: &[u8]) -> Result<Lookup, Self::Error>;

    /// Returns the attributes of an inode that the tree has named before, or of [`ROOT`].
    ///
    /// # Errors
    /// Where they cannot be told.
    fn attributes(&self, inode: u64) -> Result<Node, Self::Error>;

    /// Returns the items of a directory with names greater than `after` (all, if none), sorted by
    /// the bytes of their names, at most `limit` of them. Fewer than `limit` means that these are
    /// the last.
    ///
    /// # Errors
    /// Where they cannot be told.
    fn list(
        &self,
        directory: u64,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Item>, Self::Error>;

    /// Returns the target of a symbolic link, at most 4095 bytes.
    ///
    /// # Errors
    /// Where it cannot be told.
    fn link_target(&self, inode: u64) -> Result<Vec<u8>, Self::Error>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn open(&self, inode: u64) -> Result<Self::File, Self::Error>;

    /// Reads from `offset`, in bytes, into the start of `buffer` and returns how many bytes it got;
    /// 0 means end of file. Fewer than the buffer holds is not the end: the call is repeated for
    /// the rest.
    ///
    /// # Errors
    /// Where not a single byte of this range can be had.
    fn read(&self, file: &Self::File, offset: u64, buffer: &mut [u8])
    -> Result<usize, Self::Error>;

    /// Returns the sums that `df` shows. Must not block.
    fn totals(&self) -> Totals;
}
