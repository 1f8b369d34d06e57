//! [`Shared`]: the tree and what is open of it, and the answers that take more than one question.

use parking_lot::Mutex;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fuser::{FileHandle, FopenFlags, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::Errno;
use crate::handles::{Handles, Listing, Stretch, is_valid_name};
use crate::options::Log;
use crate::requests::Requests;
use crate::tree::{FOREVER, Item, Kind, Tree};
use crate::wire::{Row, bare_attr, encode_row, file_attr, file_type, send_directory_plus};

/// Position of the first item in a listing; `.` and `..` stand before it.
const FIRST_ITEM: u64 = 2;

/// The tree and what is open of it.
pub(crate) struct Shared<T: Tree> {
    pub(crate) tree: T,
    pub(crate) files: Handles<T::File>,
    pub(crate) directories: Handles<Mutex<Listing>>,
    pub(crate) requests: Arc<Requests>,
    /// The device, as long as the session serves it.
    device: Weak<OwnedFd>,
    pub(crate) log: Log,
}

/// Who needs a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Somebody has something open or waits for an answer.
    Busy,
    /// Nobody at the moment.
    Idle,
    /// The kernel has closed the connection.
    Gone,
}

fn is_disconnected(device: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::from_borrowed_fd(device, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now)).is_ok()
        && poll.iter().any(|poll| poll.revents().contains(PollFlags::ERR))
}

impl<T: Tree> Shared<T> {
    pub(crate) fn new(
        tree: T,
        requests: Arc<Requests>,
        device: &Arc<OwnedFd>,
        log: Log,
    ) -> Shared<T> {
        let device = Arc::downgrade(device);
        Shared { tree, files: Handles::new(), directories: Handles::new(), requests, device, log }
    }

    /// Returns whether somebody still needs us.
    pub(crate) fn usage(&self) -> Usage {
        // A session that has ended has closed it.
        if self.device.upgrade().is_none_or(|device| is_disconnected(device.as_fd())) {
            Usage::Gone
        } else if self.requests.is_empty() && self.files.is_empty() && self.directories.is_empty() {
            Usage::Idle
        } else {
            Usage::Busy
        }
    }

    /// Fills the buffer as far as the file goes: the kernel would take a short answer for the end
    /// of the file.
    pub(crate) fn read(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let file = self.files.get(handle.0).ok_or(libc::EBADF)?;
        let mut buffer = vec![0; size as usize];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.checked_add(filled as u64).ok_or(libc::EINVAL)?;
            match self.tree.read(&file, position, rest).map_err(|error| error.errno())? {
                0 => break,
                count => filled += count,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// Opens a directory; its listing stays in the kernel if it never changes.
    pub(crate) fn open_directory(&self, inode: u64) -> Result<FopenFlags, i32> {
        let node = self.tree.attributes(inode).map_err(|error| error.errno())?;
        let lasting = node.ttl >= FOREVER;
        Ok(if lasting {
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::empty()
        })
    }

    /// Returns the items from an offset of a listing on, and the directory's number.
    pub(crate) fn items(&self, handle: FileHandle, offset: u64) -> Result<(u64, Stretch), i32> {
        let listing = self.directories.get(handle.0).ok_or(libc::EBADF)?;
        let mut listing = listing.lock();
        if offset == 0 {
            listing.rewind();
        }
        let stretch = listing
            .from(&self.tree, offset.saturating_sub(FIRST_ITEM))
            .map_err(|error| error.errno())?;
        Ok((listing.directory(), stretch))
    }

    /// Hands rows from an offset on to `add` until it says that there is no room for one.
    fn rows(
        &self,
        offset: u64,
        (directory, items): &(u64, Stretch),
        mut add: impl FnMut(&Row<'_>) -> bool,
    ) {
        // The directory above is not known here; nobody asks a listing for its number.
        for (position, name) in [(0, &b"."[..]), (1, b"..")] {
            let row = Row {
                name,
                inode: *directory,
                kind: Kind::Directory,
                next: position + 1,
                node: None,
            };
            if position >= offset && add(&row) {
                return;
            }
        }
        for (Item { name, inode, kind, node }, next) in
            items.items().iter().zip(items.position + FIRST_ITEM + 1..)
        {
            if !is_valid_name(name) {
                (self.log)(&format!(
                    "cannot show {:?} in inode {directory}: not a file name",
                    OsStr::from_bytes(name)
                ));
            } else if add(&Row { name, inode: *inode, kind: *kind, next, node: node.as_ref() }) {
                return;
            }
        }
    }

    /// Answers READDIR.
    pub(crate) fn list(&self, offset: u64, items: &(u64, Stretch), mut reply: ReplyDirectory) {
        self.rows(offset, items, |row| {
            reply.add(
                INodeNo(row.inode),
                row.next,
                file_type(row.kind),
                OsStr::from_bytes(row.name),
            )
        });
        reply.ok();
    }

    /// Answers READDIRPLUS. The library's reply counts how many rows there is room for; if one of
    /// them has no attributes, it is sent around the library, whose reply is then refused by the
    /// kernel as the second one.
    pub(crate) fn list_plus(
        &self,
        unique: u64,
        offset: u64,
        items: &(u64, Stretch),
        mut reply: ReplyDirectoryPlus,
    ) {
        let (mut body, mut complete) = (Vec::new(), true);
        self.rows(offset, items, |row| {
            let attr = row
                .node
                .map_or_else(|| bare_attr(row.inode, row.kind), |node| file_attr(&node.attributes));
            let ttl = row.node.map_or(Duration::ZERO, |node| node.ttl);
            let name = OsStr::from_bytes(row.name);
            let full = reply.add(INodeNo(row.inode), row.next, name, &ttl, &attr, Generation(0));
            if !full {
                encode_row(&mut body, row);
                // The kernel looks at no attributes of `.` and `..`.
                complete &= row.node.is_some() || row.next <= FIRST_ITEM;
            }
            full
        });
        if complete {
            return reply.ok();
        }
        let sent = self
            .device
            .upgrade()
            .is_some_and(|device| send_directory_plus(device.as_fd(), unique, &body).is_ok());
        if !sent {
            (self.log)(&format!("cannot answer the listing of inode {}", items.0));
        }
        reply.error(fuser::Errno::EIO);
    }
}
