//! Mounts a read-only tree through FUSE.
//!
//! [`mount()`] takes a [`Tree`] and a directory; from then on the kernel's requests become calls of
//! the tree's few methods. This crate knows nothing of backups, and nothing of the FUSE library
//! shows in its doors.
//!
//! ```text
//! kernel ─► fuser's loops ─► fuse (one method a request) ─► pool (threads) ─► Tree
//!                             │                               │
//!                          shared, handles (what is        requests (what is in flight,
//!                          open)                           watchdog)
//! session: mounts, waits, unmounts      mountpoint: mount(2) or fusermount3      guard: cleans up after a crash
//! rehearsal: are there threads, and memory
//! ```
//!
//! # What holds
//! - Nothing can be changed: the mount is `ro,nosuid,nodev`, and where somebody remounts it
//!   writable, each modifying request still ends in `EROFS`.
//! - There is always a loop that does not wait for the tree. Questions about names and reads of
//!   data have separate pools of threads, so that stuck reads leave `ls` alone.
//! - Each request ends: with the tree's answer, with `EIO` after [`Options::timeout`], or with
//!   `EINTR` soon after its process was killed. fuser 0.18 refuses FUSE_INTERRUPT, and the kernel
//!   waits uninterruptibly for a request that a server has read already, so the watchdog looks
//!   itself which processes have a fatal signal pending.
//! - What never changes ([`FOREVER`]) is asked once: entries, attributes, listings, link targets
//!   and pages stay in the kernel.
//! - The server never waits for itself: it touches no path at or below its mountpoint, neither to
//!   see whether the mount answers nor to unmount it, as a process that dies while it waits for its
//!   own answer holds its device open for ever. It mounts nothing before the threads and the memory
//!   for it have been had once (`rehearsal`).
//! - When this process dies, by `kill -9` too, a waiting shell unmounts: no dead directory stays
//!   behind.
//!
//! # Example
//! `examples/memory.rs` mounts a small tree that lies in memory.

#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod errno;
mod error;
mod fuse;
mod guard;
mod handles;
mod mountpoint;
mod options;
mod pool;
mod rehearsal;
mod requests;
mod session;
mod shared;
mod tree;
mod wire;

pub use errno::Errno;
pub use error::Error;
pub use options::{Log, Options};
pub use session::{Caught, Mount, mount};
pub use tree::{Attributes, FOREVER, Item, Kind, Lookup, Node, ROOT, Totals, Tree};
