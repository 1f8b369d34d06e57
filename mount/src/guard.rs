//! [`Guard`]: a shell that waits for our death and then removes the mount, so that `kill -9` leaves
//! no dead directory behind.
//!
//! fusermount3 has an option for this (auto_unmount), but only for mounts that let others in. A
//! fork of our own process would be possible before the first thread only, and would hold our
//! memory.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::mountpoint::{MountedAt, escape};

/// Arguments: the mount point, the same as in mountinfo. The first line on standard input is the
/// device as there, once the mount stands; `done` means that all is well; the end without that,
/// that we are dead. The mount may be gone then, or another may stand in its place, perhaps with
/// the same device number; but that one answers.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r line; do
    [ "$line" = done ] && exit
    ours=$line
done
while read -r id parent device root point rest; do
    [ "$point" = "$2" ] && top=$device && what=$rest
done </proc/self/mountinfo
[ "$top" = "${ours-$top}" ] || exit
case $what in *" - fuse.dupfs "*) ;; *) exit ;; esac
stat -f -- "$1" && exit
umount -l -- "$1" || fusermount3 -u -z -- "$1" || fusermount -u -z -- "$1"
"#;

/// The waiting shell.
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts the shell, in a process group of its own, so that Ctrl-C does not reach it: before
    /// the mount stands, so that there is no moment without it.
    ///
    /// # Errors
    /// Where there is no `sh`, or no process to be had.
    pub(crate) fn post(mountpoint: &Path) -> io::Result<Guard> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "dupfs-guard"])
            .arg(mountpoint)
            .arg(OsStr::from_bytes(&escape(mountpoint)));
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Guard(command.spawn()?))
    }

    /// Tells the shell which mount is ours.
    pub(crate) fn watch(&mut self, place: &MountedAt) {
        if let Some(input) = &mut self.0.stdin {
            // As below.
            let _ = input.write_all(format!("{}\n", place.device).as_bytes());
        }
    }

    /// Sends the shell home.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            // A shell that somebody has killed needs no message.
            let _ = input.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}
