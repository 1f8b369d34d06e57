//! [`Memory`]: the system's allocator, which ends the process with a sentence where there is no
//! memory left; and how much of it is kept.
//!
//! Rust would abort, which looks like a defect and dumps core. Nothing is lost either way: whatever
//! the program does can be cut off at any moment.

use super::failure::EXCEPTION;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator.
struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

fn had(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        let text = "\nout of memory: give this process more (ulimit -v), or the machine\n";
        // SAFETY: neither call allocates, and the text is as long as it says.
        unsafe {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            libc::_exit(EXCEPTION.into());
        }
    }
    memory
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        had(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        had(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        had(unsafe { System.realloc(memory, layout, size) })
    }
}

/// Keeps the allocator from holding memory back for each thread, and from keeping large blocks that
/// were given back. Measured: a restore of 83,000 files takes 43 MiB instead of 280. A backup takes
/// and gives back the same few blocks of 1 MiB all the time, so it keeps those: that saves a tenth
/// of its processor time.
pub fn bound(is_backup: bool) {
    let (kept, returned) = if is_backup { (4 << 20, 32 << 20) } else { (256 << 10, 128 << 10) };
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers, and no other thread is running yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, kept);
        libc::mallopt(libc::M_TRIM_THRESHOLD, returned);
    }
}
