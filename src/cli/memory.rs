//! [`Memory`]: the system's allocator, which ends the process with a sentence where there is no
//! memory left.
//!
//! Rust would abort, which looks like a defect and dumps core. Nothing is lost either way: whatever
//! the program does can be cut off at any moment.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator.
struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

/// The exit code for what has no number of its own.
const EXCEPTION: libc::c_int = 30;

fn had(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        let text = "\nout of memory: give this process more (ulimit -v), or the machine\n";
        // SAFETY: neither call allocates, and the text is as long as it says.
        unsafe {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
            libc::_exit(EXCEPTION);
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
