//! [`Entry`]: kind, mode, owner, time and link target of one path.

/// What the format holds of one path besides its name and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type, with what only that type has.
    pub kind: EntryKind,
    /// The 12 permission bits: set-user-ID, set-group-ID, sticky, and three times `rwx`.
    pub mode: u16,
    /// Owner and group, by number and by name.
    pub owner: Owner,
    /// Modification time in whole seconds since 1970 UTC.
    pub mtime: i64,
}

/// The types of entry that duplicity stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file; its size is known only from volumes.
    File,
    /// A symbolic link.
    Symlink {
        /// Where it points to, as stored; may be anything.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

impl EntryKind {
    /// Returns the type in the letters that duplicity prints.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directory => "dir",
            Self::File => "reg",
            Self::Symlink { .. } => "sym",
            Self::Fifo => "fifo",
            Self::CharDevice { .. } => "chr",
            Self::BlockDevice { .. } => "blk",
        }
    }
}

/// Owner and group of an entry as the machine that was backed up knew them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name; empty if it was unknown.
    pub user: Vec<u8>,
    /// Group name; empty if it was unknown.
    pub group: Vec<u8>,
}
