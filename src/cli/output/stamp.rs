//! What each message begins with under `--log-timestamp`: its time and level.

use dupfs::monitor::Level;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether each message begins with its time and level.
static IS_STAMPED: AtomicBool = AtomicBool::new(false);

/// Has each message begin with its time and level from now on (`--log-timestamp`).
pub fn stamp_messages() {
    IS_STAMPED.store(true, Ordering::Relaxed);
}

/// Returns what a message of now begins with: nothing, or the local time and the level, as in 3.x.
pub fn stamp(level: Level) -> String {
    if !IS_STAMPED.load(Ordering::Relaxed) {
        return String::new();
    }
    let level = match level {
        Level::Error => "ERROR",
        Level::Warning => "WARNING",
        Level::Notice => "NOTICE",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    };
    format!("{} {level:6} ", chrono::Local::now().format("%Y-%m-%d %H:%M:%S,%3f"))
}
