//! [`Found`]: one path of the source, with all that is known of it.

use super::metadata::Seen;
use super::open_source::OpenSource;
use crate::model::{Entry, EntryKind, EntryPath, Owner};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// One path of the source, with what the format keeps of it and what it does not.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: EntryPath,
    /// What the format keeps; the modification time is rounded down, and may be negative.
    pub entry: Entry,
    /// Size in bytes: of a file its content, of a link its target.
    pub size: u64,
    /// When the entry was last changed in any way, in nanoseconds since 1970 UTC.
    pub ctime: i64,
    /// Inode number, unique within the device.
    pub inode: u64,
    /// Number of the device that it lies on.
    pub device: u64,
    place: Arc<OpenSource>,
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

/// Names of users and groups, each asked for once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
    /// Neighbours mostly belong to the same.
    last: Option<Owner>,
}

impl Owners {
    /// Puts together all that is known of a path.
    pub fn found(&mut self, seen: Seen, place: Arc<OpenSource>) -> Found {
        let Seen { path, kind, facts } = seen;
        let entry = Entry {
            kind,
            mode: (facts.mode & 0o7777) as u16,
            owner: self.owner(facts.uid, facts.gid),
            mtime: facts.mtime,
        };
        Found {
            path,
            entry,
            size: facts.size,
            ctime: facts.ctime,
            inode: facts.inode,
            device: facts.device,
            place,
        }
    }

    fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        if let Some(last) = self.last.as_ref().filter(|last| (last.uid, last.gid) == (uid, gid)) {
            return last.clone();
        }
        let user = || uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().to_vec());
        let group = || uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().to_vec());
        let user = self.users.entry(uid).or_insert_with(|| user().unwrap_or_default()).clone();
        let group = self.groups.entry(gid).or_insert_with(|| group().unwrap_or_default()).clone();
        self.last.insert(Owner { uid, gid, user, group }).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_without_name_have_none() {
        let mut owners = Owners::default();
        let unnamed =
            Owner { uid: 3_999_999_999, gid: 0, user: Vec::new(), group: b"root".to_vec() };
        for _ in 0..2 {
            assert_eq!(owners.owner(3_999_999_999, 0), unnamed);
            assert_eq!(owners.owner(0, 3_999_999_999).user, b"root");
        }
    }
}
