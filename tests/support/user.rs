//! Running a script as an ordinary user who may open `/dev/fuse`, as on any desktop; or as root
//! where mounts stay private.

use super::{Encoding, Env, Outcome};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The user `nobody`, who owns nothing.
pub const NOBODY: u32 = 65534;

impl Env {
    /// Prepares `sh -e -c script` as root in mount namespace of its own: what it mounts is gone
    /// when it and its children end.
    ///
    /// `$url` and `$mount` are the world's collection and mountpoint; `dupfs` is on the path.
    pub fn private_script(&self, encoding: Encoding, script: &str) -> Command {
        let mut command = self.command("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "timeout",
            "-k",
            "5",
            "120",
            "sh",
            "-e",
            "-c",
            script,
        ]);
        encoding.secrets(&mut command);
        let programs = self.root().join("bin");
        if !programs.exists() {
            std::fs::create_dir(&programs).unwrap();
            std::fs::copy(env!("CARGO_BIN_EXE_dupfs"), programs.join("dupfs")).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("url", self.url()).env("mount", self.mountpoint());
        command
    }

    /// Runs a script as `nobody`, who owns home, cache and mountpoint, and with `/dev/fuse` open to
    /// everybody.
    pub fn as_nobody(&self, encoding: Encoding, script: &str) -> Outcome {
        std::fs::set_permissions(self.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for place in [self.home(), self.cache(), self.mountpoint()] {
            let chown = Outcome::of(Command::new("chown").args(["-R", "65534:65534"]).arg(place));
            chown.success();
        }
        // Another node over /dev/fuse, for this script alone: the machine's own keeps its rights.
        let outer = "mkdir -p \"$HOME/dev\"; mount -t tmpfs -o mode=755,dev tmpfs \"$HOME/dev\"
            mknod -m 666 \"$HOME/dev/fuse\" c 10 229; mount --bind \"$HOME/dev/fuse\" /dev/fuse
            exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -e -c \"$script\"";
        Outcome::of(self.private_script(encoding, outer).env("script", script))
    }

    /// Reads something as `nobody`, with plain access to the world as it is.
    pub fn nobody_runs(&self, program: &str, arguments: &[&std::ffi::OsStr]) -> Outcome {
        std::fs::set_permissions(self.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.command("setpriv");
        Outcome::of(
            command
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program])
                .args(arguments),
        )
    }
}
