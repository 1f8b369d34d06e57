//! [`Facts`]: what the operating system states of a path, and whether it may be read.

use crate::model::{EntryKind, EntryPath};
use rustix::fs::{self, Access, AtFlags, FileType, Stat};
use rustix::process;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

/// What a thread has seen of a path: a [`Found`](super::Found) without the names of its owner.
pub(super) struct Seen {
    pub path: EntryPath,
    pub kind: EntryKind,
    pub facts: Facts,
}

/// What counts of the answer of `stat`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    numbers: (u32, u32),
    pub size: u64,
    pub mtime: i64,
    pub ctime: i64,
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
}
