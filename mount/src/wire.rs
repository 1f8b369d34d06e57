//! Our plain types in the kernel's words, and the one answer that the FUSE library cannot give.
//!
//! In an answer to READDIRPLUS an entry without attributes has node number 0 in its first part but
//! its true inode number in the directory entry behind it. fuser 0.18 writes the same number to
//! both places (and a directory entry with number 0 is skipped by the C library), so [`encode_row`]
//! and [`send_directory_plus`] build such answers.
//! Source: Linux include/uapi/linux/fuse.h, fs/fuse/readdir.c (fuse_direntplus_link).

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use crate::tree::{Attributes, Kind, Node};

/// What `stat` gives as the best size of a read.
const BLOCK_SIZE: u32 = 4096;

/// One row of a directory listing.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    /// Its name.
    pub(crate) name: &'a [u8],
    /// Its inode number.
    pub(crate) inode: u64,
    /// What it is.
    pub(crate) kind: Kind,
    /// Where the listing goes on behind it.
    pub(crate) next: u64,
    /// Its attributes, if they are known.
    pub(crate) node: Option<&'a Node>,
}

pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

fn type_bits(kind: Kind) -> u32 {
    match kind {
        Kind::Directory => libc::S_IFDIR,
        Kind::File => libc::S_IFREG,
        Kind::Symlink => libc::S_IFLNK,
        Kind::Fifo => libc::S_IFIFO,
        Kind::CharDevice => libc::S_IFCHR,
        Kind::BlockDevice => libc::S_IFBLK,
    }
}

/// Packs a device number: twelve bits of major, twenty of minor. Source: Linux
/// include/linux/kdev_t.h, new_encode_dev.
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

pub(crate) fn file_attr(attributes: &Attributes) -> FileAttr {
    let time = time(attributes.mtime);
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes.kind),
        perm: attributes.mode & 0o7777,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: device_number(attributes.rdev),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Stands in where the library wants attributes and the kernel looks at number and kind only.
pub(crate) fn bare_attr(inode: u64, kind: Kind) -> FileAttr {
    let (mode, nlink, uid, gid, size, blocks, mtime, rdev) = (0, 1, 0, 0, 0, 0, 0, (0, 0));
    file_attr(&Attributes { inode, kind, mode, nlink, uid, gid, size, blocks, mtime, rdev })
}

/// Answers a READDIRPLUS request with encoded rows, on the device it was read from.
///
/// # Errors
/// Where the kernel does not take the answer.
pub(crate) fn send_directory_plus(
    device: BorrowedFd<'_>,
    unique: u64,
    rows: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(16 + rows.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut header = Vec::with_capacity(16);
    header.extend(length.to_ne_bytes());
    header.extend(0_i32.to_ne_bytes()); // no error
    header.extend(unique.to_ne_bytes());
    // The kernel takes an answer whole or not at all.
    rustix::io::writev(device, &[IoSlice::new(&header), IoSlice::new(rows)])?;
    Ok(())
}

/// Appends a struct fuse_direntplus: fuse_entry_out (128 bytes), fuse_dirent (24), name, padding to
/// 8.
pub(crate) fn encode_row(body: &mut Vec<u8>, row: &Row<'_>) {
    match row.node {
        Some(node) => encode_node(body, node),
        None => body.extend([0; 128]),
    }
    body.extend(row.inode.to_ne_bytes());
    body.extend(row.next.to_ne_bytes());
    body.extend(u32::try_from(row.name.len()).unwrap_or(0).to_ne_bytes());
    body.extend((type_bits(row.kind) >> 12).to_ne_bytes());
    body.extend(row.name);
    body.resize(body.len().next_multiple_of(8), 0);
}

/// Appends a struct fuse_entry_out.
fn encode_node(body: &mut Vec<u8>, Node { attributes, ttl }: &Node) {
    let mtime = attributes.mtime.cast_unsigned();
    let generation = 0;
    let longs = [attributes.inode, generation, ttl.as_secs(), ttl.as_secs()];
    body.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
    body.extend([ttl.subsec_nanos(); 2].iter().flat_map(|word| word.to_ne_bytes()));
    let longs = [attributes.inode, attributes.size, attributes.blocks, mtime, mtime, mtime];
    body.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
    let mode = type_bits(attributes.kind) | u32::from(attributes.mode & 0o7777);
    let rdev = device_number(attributes.rdev);
    let nanoseconds = 0;
    let words = [
        nanoseconds,
        nanoseconds,
        nanoseconds,
        mode,
        attributes.nlink,
        attributes.uid,
        attributes.gid,
    ];
    body.extend(words.iter().chain(&[rdev, BLOCK_SIZE, 0]).flat_map(|word| word.to_ne_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_as_the_c_library_packs_them() {
        for (major, minor) in [(0, 0), (8, 1), (1, 255), (1, 256), (259, 65_536), (4095, 0xf_ffff)]
        {
            let packed = device_number((major, minor));
            // makedev's low 32 bits agree with the kernel's packing for these ranges.
            assert_eq!(u64::from(packed), libc::makedev(major, minor) & 0xffff_ffff);
        }
    }

    #[test]
    fn every_second_has_a_time() {
        for seconds in [0, 1, -1, i64::from(u32::MAX) + 1, -(1 << 40), i64::MAX, i64::MIN] {
            let expected = match time(seconds).duration_since(UNIX_EPOCH) {
                Ok(after) => i128::from(after.as_secs()),
                Err(before) => -i128::from(before.duration().as_secs()),
            };
            assert_eq!(expected, i128::from(seconds));
        }
    }

    #[test]
    fn rows_have_the_sizes_the_kernel_counts_with() {
        let node = Node {
            attributes: Attributes {
                inode: 5,
                kind: Kind::File,
                mode: 0o644,
                nlink: 1,
                uid: 0,
                gid: 0,
                size: 9,
                blocks: 8,
                mtime: -1,
                rdev: (0, 0),
            },
            ttl: Duration::from_secs(1),
        };
        for (name, length) in [(&b"12345678"[..], 160), (b"123456789", 168), (b"1", 160)] {
            for node in [None, Some(&node)] {
                let mut body = Vec::new();
                encode_row(&mut body, &Row { name, inode: 5, kind: Kind::File, next: 3, node });
                assert_eq!(body.len(), length);
                assert_eq!(body[..8], (if node.is_some() { 5_u64 } else { 0 }).to_ne_bytes());
                assert_eq!(body[128..136], 5_u64.to_ne_bytes());
            }
        }
    }
}
