//! [`Found`]: what the operating system says of a path.

use super::place::Place;
use crate::model::{Entry, EntryKind, EntryPath, Owner};
use rustix::fs::{self, Access, AtFlags, FileType, Stat};
use rustix::process;
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
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
    pub(super) place: Arc<Place>,
}

/// What a thread has seen of a path: a [`Found`] without the names of its owner.
pub(super) struct Seen {
    pub path: EntryPath,
    pub kind: EntryKind,
    pub facts: Facts,
}

/// What counts of the answer of `stat`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    numbers: (u32, u32),
    size: u64,
    pub mtime: i64,
    ctime: i64,
    pub inode: u64,
    pub device: u64,
}

impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            numbers: (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)),
            size: stat.st_size as u64,
            mtime: stat.st_mtime,
            ctime: stat
                .st_ctime
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
            device: stat.st_dev,
        }
    }
}

impl Facts {
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Returns the type as the format has it; `target` reads a link.
    pub fn kind(
        &self,
        target: impl FnOnce() -> rustix::io::Result<CString>,
    ) -> io::Result<EntryKind> {
        let (major, minor) = self.numbers;
        Ok(match self.file_type() {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::Symlink { target: target()?.into_bytes() },
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Socket | FileType::Unknown => {
                return Err(io::Error::other("its type cannot be saved"));
            }
        })
    }
}

/// Who reads the source.
#[derive(Debug)]
pub(super) struct Reader {
    uid: u32,
    gids: Vec<u32>,
}

impl Reader {
    /// Asks who this process is.
    pub fn this_process() -> Self {
        let mut gids: Vec<u32> =
            process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect();
        gids.push(process::getegid().as_raw());
        Self { uid: process::geteuid().as_raw(), gids }
    }

    /// Returns whether a file or directory may be read; asks the kernel only when the permission
    /// bits say no.
    pub fn may_read(&self, directory: BorrowedFd, name: &[u8], facts: &Facts) -> bool {
        self.may_read_by_bits(facts)
            || fs::accessat(directory, name, Access::READ_OK, AtFlags::empty()).is_ok()
    }

    /// Returns whether the permission bits grant it, which may be more than access lists do:
    /// opening the file will show.
    fn may_read_by_bits(&self, facts: &Facts) -> bool {
        let bit = match self.uid {
            0 => return true,
            uid if uid == facts.uid => 0o400,
            _ if self.gids.contains(&facts.gid) => 0o040,
            _ => 0o004,
        };
        facts.mode & bit != 0
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
    pub fn found(&mut self, seen: Seen, place: Arc<Place>) -> Found {
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
    fn permission_bits_count_for_owner_group_or_others() {
        let directory = tempfile::tempdir().unwrap();
        let facts = Facts::from(fs::stat(directory.path()).unwrap());
        let may_read = |mode, uid, gids: &[u32]| {
            let facts = Facts { mode, uid: 7, gid: 8, ..facts };
            Reader { uid, gids: gids.to_vec() }.may_read_by_bits(&facts)
        };
        assert!(may_read(0o000, 0, &[]));
        assert!(may_read(0o400, 7, &[]) && !may_read(0o077, 7, &[8]));
        assert!(may_read(0o040, 9, &[1, 8]) && !may_read(0o707, 9, &[8]));
        assert!(may_read(0o004, 9, &[1]) && !may_read(0o770, 9, &[1]));
    }

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
