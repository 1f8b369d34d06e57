//! [`Guard`]: a shell that waits for our death and then removes the mount, so that `kill -9` leaves no dead directory behind.
//!
//! fusermount3 has an option for this (auto_unmount), but only for mounts that let others in. A fork of our own process would be
//! possible before the first thread only, and would hold our memory.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::mountpoint::Place;

/// Arguments: the mount point, the same as in mountinfo, the device as there. A line on standard input means that all is well;
/// its end without one, that we are dead. The mount may be gone then, or another may stand in its place, perhaps with the same
/// device number; but that one answers.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
read -r line && exit
while read -r id parent device root point rest; do
    [ "$point" = "$2" ] && top=$device
done </proc/self/mountinfo
[ "$top" = "$3" ] || exit
stat -f -- "$1" && exit
umount -l -- "$1" || fusermount3 -u -z -- "$1" || fusermount -u -z -- "$1"
"#;

/// The waiting shell.
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts the shell, in a process group of its own, so that Ctrl-C does not reach it.
    ///
    /// # Errors
    /// Where there is no `sh`.
    pub(crate) fn post(place: &Place) -> io::Result<Guard> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "dupfs-guard"]).arg(&place.mountpoint).arg(OsStr::from_bytes(&place.listed));
        command.arg(&place.device).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Guard(command.spawn()?))
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
