//! [`rehearse`]: what serving a mount takes of threads and memory, had once and given back.
//!
//! A loop that cannot be started, or finds no memory for its buffer, when the mount stands already,
//! leaves nothing but the end of the process. Before, it is an error like any other.

use std::io;
use std::sync::mpsc;
use std::thread::{Builder, scope};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::fuse::LOOPS;

/// What a loop of fuser 0.18 reads requests into: 16 MiB and a page, with its own bookkeeping.
const LOOP_BUFFER: usize = (16 << 20) + (64 << 10);

/// Threads beside the loops: session, watchdog, signals, the first of each pool, and one of whoever
/// mounts.
const OTHERS: usize = 6;

/// Starts all threads of a fresh mount at once, with the memory of the loops and what the tree
/// needs, and lets them end.
///
/// # Errors
/// What the system gives as the reason when one of them cannot be had.
pub(crate) fn rehearse(memory: usize) -> io::Result<()> {
    let _memory = borrow(memory.max(1))?;
    scope(|scope| {
        let (had, results) = mpsc::channel();
        // Dropping the senders lets all threads end.
        let mut all = Vec::new();
        for number in 0..LOOPS + OTHERS {
            let (end, ended) = mpsc::channel::<()>();
            let had = had.clone();
            let size = if number < LOOPS { LOOP_BUFFER } else { 4096 };
            Builder::new().name("fuse-rehearsal".into()).spawn_scoped(scope, move || {
                let memory = borrow(size);
                had.send(memory.as_ref().map(drop).map_err(|error| io::Error::from(*error)))
                    .unwrap_or_default();
                // Never anything but the end.
                let _ = ended.recv();
            })?;
            all.push(end);
        }
        drop(had);
        results.into_iter().take(LOOPS + OTHERS).collect()
    })
}

/// Address space that is given back when dropped.
struct Memory(*mut core::ffi::c_void, usize);

fn borrow(size: usize) -> rustix::io::Result<Memory> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // What is never touched need not be there; only the limit of this process counts.
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that is there.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), size, protection, flags)? };
    Ok(Memory(start, size))
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing points into it.
        let _ = unsafe { munmap(self.0, self.1) };
    }
}
