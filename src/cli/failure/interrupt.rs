//! What becomes of Ctrl-C, SIGTERM and SIGHUP.

use super::exit_code::INTERRUPTED;
use std::sync::atomic::{AtomicU8, Ordering};

/// What becomes of a signal that ends the process.
static ON_INTERRUPT: AtomicU8 = AtomicU8::new(LEAVE);
/// The process ends at once.
const LEAVE: u8 = 0;
/// It ends at once, with the advice to run it again.
const LEAVE_AND_GO_ON: u8 = 1;
/// The signal is kept for [`is_interrupted`].
const KEEP: u8 = 2;
/// One is kept; the next ends the process at once.
const KEPT: u8 = 3;

/// Ends the process by [`INTERRUPTED`] on Ctrl-C, SIGTERM and SIGHUP from now on, unless they are
/// ignored, as by what a script leaves in the background.
pub fn on_interrupt() {
    extern "C" fn handle(_: libc::c_int) {
        let was = ON_INTERRUPT.load(Ordering::Relaxed);
        let text = match was {
            KEEP => "\ninterrupted; what is under way ends first, once more ends at once\n",
            LEAVE_AND_GO_ON => "\ninterrupted; run this again to go on from here\n",
            _ => "\ninterrupted\n",
        };
        // SAFETY: the call is allowed in a signal handler, and the text is as long as it says.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        if was == KEEP {
            return ON_INTERRUPT.store(KEPT, Ordering::Relaxed);
        }
        // SAFETY: allowed in a signal handler, too.
        unsafe { libc::_exit(INTERRUPTED.into()) }
    }
    let handler: extern "C" fn(libc::c_int) = handle;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler does only what a signal handler may.
        unsafe {
            if libc::signal(signal, handler as libc::sighandler_t) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Advises from now on, when interrupted, to run the command again: what is stored so far stays,
/// for the next run to go on from.
pub fn goes_on_when_run_again() {
    ON_INTERRUPT.store(LEAVE_AND_GO_ON, Ordering::Relaxed);
}

/// Lets the work at hand end by itself when interrupted from now on, by [`is_interrupted`]; the
/// second signal ends the process at once.
pub fn keep_interrupts() {
    ON_INTERRUPT.store(KEEP, Ordering::Relaxed);
}

/// Does a work that ends by itself when interrupted, by [`is_interrupted`], and of which the next
/// run goes on.
pub fn keeping_interrupts<T>(work: impl FnOnce() -> T) -> T {
    keep_interrupts();
    let result = work();
    goes_on_when_run_again();
    result
}

/// Returns whether a kept signal has come.
pub fn is_interrupted() -> bool {
    ON_INTERRUPT.load(Ordering::Relaxed) == KEPT
}
