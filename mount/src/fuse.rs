//! [`Adapter`]: one short method for each kernel request. It unpacks, asks, and answers.
//!
//! The loop's threads work on a few requests at once themselves and hand all others to a pool.

use parking_lot::Mutex;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use crate::Errno;
use crate::handles::Listing;
use crate::pool::Pool;
use crate::requests::{Origin, Refuse};
use crate::shared::Shared;
use crate::tree::{Kind, Lookup, Tree};
use crate::wire::{bare_attr, file_attr};

/// Threads that read requests from the kernel.
pub(crate) const LOOPS: usize = 8;

/// How many of them may work on a request themselves, which saves waking a thread of a pool: half
/// the time of a quick answer. The others hand everything over, and so are never stuck.
const AT_HAND: usize = 4;

/// Threads for questions about names.
const METADATA_THREADS: usize = 32;

/// Threads for opening and reading files.
const DATA_THREADS: usize = 64;

/// The longest read the kernel asks for, and how far it reads ahead where it may.
pub(crate) const LARGEST_READ: u32 = 1 << 20;

/// Reads that may be under way for readers who do not wait, such as read-ahead; far above the
/// kernel's 12, because slow ones hold up all the others once it is reached.
const BACKGROUND: u16 = 256;

/// The longest name, in bytes, as on any file system of Linux; the kernel itself would ask for
/// longer ones.
const LONGEST_NAME: u32 = 255;

/// The longest link target the kernel takes, in bytes.
const LONGEST_TARGET: usize = 4095;

/// What fuser calls.
pub(crate) struct Adapter<T: Tree> {
    shared: Arc<Shared<T>>,
    metadata: Pool,
    data: Pool,
    /// Count of requests that loop threads work on themselves.
    at_hand: AtomicUsize,
    /// Keeps the device open for [`Shared`].
    _device: Arc<OwnedFd>,
}

impl<T: Tree> Adapter<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, device: Arc<OwnedFd>) -> Adapter<T> {
        let (metadata, data) =
            (Pool::new("fuse-names", METADATA_THREADS), Pool::new("fuse-data", DATA_THREADS));
        Adapter { shared, metadata, data, at_hand: AtomicUsize::new(0), _device: device }
    }

    /// Works on a request, here or in a pool, and answers, unless the watchdog was faster. `answer`
    /// must not block.
    fn ask<R: Refuse, A>(
        &self,
        pool: &Pool,
        (request, inode, what): (&Request, INodeNo, &'static str),
        reply: R,
        work: impl FnOnce(&Shared<T>) -> Result<A, i32> + Send + 'static,
        answer: impl FnOnce(&Shared<T>, R, A) + Send + 'static,
    ) {
        let origin =
            Origin { unique: request.unique().0, thread: request.pid(), inode: inode.0, what };
        let slot = self.shared.requests.enter(origin, reply);
        let shared = Arc::clone(&self.shared);
        let job = move || {
            let outcome = slot.is_open().then(|| catch_unwind(AssertUnwindSafe(|| work(&shared))));
            shared.requests.leave(origin.unique);
            match (outcome, slot.take()) {
                (Some(Ok(Ok(result))), Some(reply)) => answer(&shared, reply, result),
                (Some(Ok(Err(errno))), Some(reply)) => reply.refuse(errno),
                (Some(Err(_)), reply) => {
                    (shared.log)(&format!(
                        "{what} of inode {} broke off: a defect of this program",
                        inode.0
                    ));
                    if let Some(reply) = reply {
                        reply.refuse(libc::EIO);
                    }
                }
                (_, None) | (None, _) => (),
            }
        };
        if self.at_hand.fetch_add(1, Ordering::Relaxed) < AT_HAND {
            job();
            self.at_hand.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.at_hand.fetch_sub(1, Ordering::Relaxed);
            pool.submit(job);
        }
    }
}

macro_rules! refuse {
    ($($reply:ty),*) => {$(
        impl Refuse for $reply {
            fn refuse(self, errno: i32) {
                self.error(fuser::Errno::from_i32(errno));
            }
        }
    )*};
}
refuse!(ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyOpen);

impl<T: Tree> Filesystem for Adapter<T> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
        let offered = wanted & config.capabilities();
        // Where a number is too large, the library says which it takes.
        config
            .add_capabilities(offered)
            .or_else(|unknown| config.add_capabilities(offered & !unknown))
            .ok();
        config
            .set_max_readahead(LARGEST_READ)
            .or_else(|largest| config.set_max_readahead(largest))
            .ok();
        config.set_max_write(LARGEST_READ).ok();
        config.set_max_background(BACKGROUND).ok();
        config.set_congestion_threshold(BACKGROUND).ok();
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name.len() > LONGEST_NAME as usize {
            return reply.error(fuser::Errno::ENAMETOOLONG);
        }
        let name = name.as_bytes().to_vec();
        self.ask(
            &self.metadata,
            (request, parent, "lookup"),
            reply,
            move |shared| shared.tree.lookup(parent.0, &name).map_err(|error| error.errno()),
            |_, reply, found| match found {
                Lookup::Found(node) => {
                    reply.entry(&node.ttl, &file_attr(&node.attributes), Generation(0))
                }
                Lookup::Missing { ttl } if ttl.is_zero() => reply.error(fuser::Errno::ENOENT),
                // Number 0 means "nothing there", and may be kept.
                Lookup::Missing { ttl } => {
                    reply.entry(&ttl, &bare_attr(0, Kind::File), Generation(0))
                }
            },
        );
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.ask(
            &self.metadata,
            (request, inode, "getattr"),
            reply,
            move |shared| shared.tree.attributes(inode.0).map_err(|error| error.errno()),
            |_, reply, node| reply.attr(&node.ttl, &file_attr(&node.attributes)),
        );
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        self.ask(
            &self.metadata,
            (request, inode, "readlink"),
            reply,
            move |shared| {
                let target = shared.tree.link_target(inode.0).map_err(|error| error.errno())?;
                if target.len() > LONGEST_TARGET { Err(libc::ENAMETOOLONG) } else { Ok(target) }
            },
            |_, reply, target| reply.data(&target),
        );
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.0 & libc::O_ACCMODE != libc::O_RDONLY || flags.0 & libc::O_TRUNC != 0 {
            return reply.error(fuser::Errno::EROFS);
        }
        self.ask(
            &self.data,
            (request, inode, "open"),
            reply,
            move |shared| shared.tree.open(inode.0).map_err(|error| error.errno()),
            |shared, reply, file| {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(FileHandle(shared.files.insert(file)), flags);
            },
        );
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.ask(
            &self.data,
            (request, inode, "read"),
            reply,
            move |shared| shared.read(handle, offset, size),
            |_, reply, bytes| reply.data(&bytes),
        );
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.files.remove(handle.0);
        reply.ok();
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.ask(
            &self.metadata,
            (request, inode, "opendir"),
            reply,
            move |shared| shared.open_directory(inode.0),
            move |shared, reply, flags| {
                let handle = shared.directories.insert(Mutex::new(Listing::new(inode.0)));
                reply.opened(FileHandle(handle), flags);
            },
        );
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.ask(
            &self.metadata,
            (request, inode, "readdir"),
            reply,
            move |shared| shared.items(handle, offset),
            move |shared, reply, items| shared.list(offset, &items, reply),
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let unique = request.unique().0;
        self.ask(
            &self.metadata,
            (request, inode, "readdirplus"),
            reply,
            move |shared| shared.items(handle, offset),
            move |shared, reply, items| shared.list_plus(unique, offset, &items, reply),
        );
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.shared.directories.remove(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let totals = self.shared.tree.totals();
        let block = 4096;
        reply.statfs(
            totals.bytes.div_ceil(block.into()),
            0,
            0,
            totals.files,
            0,
            block,
            LONGEST_NAME,
            block,
        );
    }

    // After ENOSYS the kernel does not ask again: it answers EOPNOTSUPP to the first two, and
    // success to the others.

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    // Likewise the kernel then seeks and polls by itself.

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::PollNotifier,
        _: fuser::PollEvents,
        _: fuser::PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    // What would change something. On a mount that is `ro` the kernel refuses most of it without
    // asking.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuser::Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(fuser::Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(fuser::Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(fuser::Errno::EROFS);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(fuser::Errno::EROFS);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(fuser::Errno::EROFS);
    }
}
