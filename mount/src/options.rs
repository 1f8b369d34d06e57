//! [`Options`]: how to mount.

use std::sync::Arc;
use std::time::Duration;

/// Takes what this crate has to say: one line, lower case, without full stop.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// How to mount.
#[derive(Clone)]
pub struct Options {
    /// Shown as the device in `df` and /proc/mounts.
    pub name: String,
    /// Lets all users in; the modes in the tree are then enforced. Otherwise only the mounting user
    /// gets in, and may read all.
    pub allow_other: bool,
    /// Forbids to run programs from the mount.
    pub no_exec: bool,
    /// Longest time from reading a request to its answer; then it ends in an input/output error.
    pub timeout: Duration,
    /// Bytes of address space that the tree needs for its work: where they cannot be had, nothing
    /// is mounted.
    pub memory: usize,
    /// Where to tell about answers that did not come and the like.
    pub log: Log,
}

impl Default for Options {
    /// For the mounting user only, with a timeout of five minutes and without log.
    fn default() -> Options {
        let timeout = Duration::from_secs(300);
        Options {
            name: "dupfs".into(),
            allow_other: false,
            no_exec: false,
            timeout,
            memory: 0,
            log: Arc::new(|_| ()),
        }
    }
}
