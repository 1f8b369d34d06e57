//! Making and removing the mount itself: by mount(2) where that is allowed, else through
//! fusermount3, as any ordinary user must.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::error::Error;
use crate::options::Options;

/// What the kernel shows behind `fuse.` as the type of the file system.
const SUBTYPE: &str = "dupfs";

/// The set-user-ID program of FUSE 3, and that of FUSE 2, which does the same.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Checks that something can be mounted here.
pub(crate) fn check(mountpoint: &Path) -> Result<(), Error> {
    let unreadable = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOENT) => Error::Missing(mountpoint.into()),
        Some(libc::ENOTCONN) => Error::Dead(mountpoint.into()),
        _ => Error::Unreadable(mountpoint.into(), error),
    };
    if !fs::metadata(mountpoint).map_err(unreadable)?.is_dir() {
        return Err(Error::NotDirectory(mountpoint.into()));
    }
    match fs::read_dir(mountpoint).map_err(unreadable)?.next() {
        None => Ok(()),
        Some(Ok(_)) => Err(Error::NotEmpty(mountpoint.into())),
        Some(Err(error)) => Err(unreadable(error)),
    }
}

/// Mounts on an absolute path without symbolic links, and returns where, and the device on which
/// the kernel asks.
pub(crate) fn attach(mountpoint: &Path, options: &Options) -> Result<(MountedAt, OwnedFd), Error> {
    let device = attach_device(mountpoint, options)?;
    match MountedAt::find(mountpoint) {
        Ok(place) => Ok((place, device)),
        Err(error) => {
            // Without its number the mount cannot be told from another's later, so it must not
            // stand.
            detach_now(mountpoint).map_err(|error| Error::Unmount(mountpoint.into(), error))?;
            Err(Error::Unreadable("/proc/self/mountinfo".into(), error))
        }
    }
}

fn attach_device(mountpoint: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let device =
        OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|error| match error
            .kind()
        {
            ErrorKind::NotFound => Error::NoDevice,
            ErrorKind::PermissionDenied => Error::DeviceDenied,
            _ => Error::Device(error),
        })?;
    match attach_directly(mountpoint, options, &device) {
        Ok(()) => Ok(device.into()),
        Err(Errno::PERM) => attach_by_helper(mountpoint, options),
        Err(error) => Err(refused(mountpoint, io::Error::from(error).to_string())),
    }
}

fn refused(mountpoint: &Path, message: String) -> Error {
    Error::Refused { mountpoint: mountpoint.into(), message }
}

fn attach_directly(mountpoint: &Path, options: &Options, device: &File) -> Result<(), Errno> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let access = if options.allow_other { ",allow_other,default_permissions" } else { "" };
    let data =
        format!("fd={},rootmode=40000,user_id={user},group_id={group}{access}", device.as_raw_fd());
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    let mut flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::NOEXEC, options.no_exec);
    rustix::mount::mount(
        options.name.as_str(),
        mountpoint,
        format!("fuse.{SUBTYPE}"),
        flags,
        data.as_c_str(),
    )
}

/// Lets the helper mount. It sends the device through a socket whose number it finds in its
/// environment: its standard input.
fn attach_by_helper(mountpoint: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let name = options.name.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = format!("ro,nosuid,nodev,fsname={name},subtype={SUBTYPE}");
    list.push_str(if options.allow_other { ",allow_other,default_permissions" } else { "" });
    list.push_str(if options.no_exec { ",noexec" } else { "" });
    let (ours, theirs) = UnixStream::pair().map_err(Error::Session)?;
    let output = run_helper(|command| {
        command.arg("-o").arg(&list).arg("--").arg(mountpoint).env("_FUSE_COMMFD", "0");
        command.stdin(OwnedFd::from(theirs.try_clone()?));
        Ok(())
    });
    drop(theirs);
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::NoHelper,
        _ => refused(mountpoint, format!("cannot run fusermount3: {error}")),
    })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(if message.contains("user_allow_other") {
            Error::OthersDenied
        } else {
            refused(mountpoint, message)
        });
    }
    receive_device(&ours)
        .map_err(|error| refused(mountpoint, format!("fusermount3 sent no device: {error}")))
}

fn run_helper(prepare: impl Fn(&mut Command) -> io::Result<()>) -> io::Result<Output> {
    let mut missing = io::Error::from(ErrorKind::NotFound);
    for helper in HELPERS {
        let mut command = Command::new(helper);
        command.stdin(Stdio::null());
        prepare(&mut command)?;
        match command.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => missing = error,
            result => return result,
        }
    }
    Err(missing)
}

fn receive_device(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut devices) => devices.next(),
            _ => None,
        })
        .ok_or_else(|| ErrorKind::UnexpectedEof.into())
}

/// Where something is mounted, and what: mounts come and go, and another may stand here later.
#[derive(Debug, Clone)]
pub(crate) struct MountedAt {
    /// Absolute path without symbolic links.
    pub(crate) mountpoint: PathBuf,
    /// The same as mountinfo writes it.
    listed: Vec<u8>,
    /// Number of the mounted device, as mountinfo writes it. The kernel gives it to nobody else
    /// while the mount lives, but to the next one soon after.
    pub(crate) device: String,
}

impl MountedAt {
    /// Finds the topmost mount here.
    fn find(mountpoint: &Path) -> io::Result<MountedAt> {
        let listed = escape(mountpoint);
        let device =
            device_at(&fs::read("/proc/self/mountinfo")?, &listed).ok_or(ErrorKind::NotFound)?;
        Ok(MountedAt { mountpoint: mountpoint.into(), listed, device })
    }

    /// Returns whether the topmost mount here still is this one.
    pub(crate) fn is_mounted(&self) -> bool {
        fs::read("/proc/self/mountinfo").is_ok_and(|table| {
            device_at(&table, &self.listed).is_some_and(|top| top == self.device)
        })
    }

    /// Returns whether nobody answers for what is mounted here. To be asked when our connection is
    /// gone only: the server must never ask itself.
    fn is_dead(&self) -> bool {
        rustix::fs::statfs(&self.mountpoint).is_err_and(|error| error == Errno::NOTCONN)
    }

    /// Removes the mount, unless that has been done, and returns whether it was in use and so was
    /// only detached. While our connection lives, nobody else has its device number; once it is
    /// `gone`, only a dead mount can be ours: a living one has come after it.
    ///
    /// # Errors
    /// Where it cannot be detached either.
    pub(crate) fn detach(&self, gone: bool) -> io::Result<bool> {
        if !self.is_mounted() || gone && !self.is_dead() {
            return Ok(false);
        }
        detach_now(&self.mountpoint)
    }

    /// Lets the kernel read ahead as far as the longest request goes. Only root may; others stay
    /// with 128 KiB.
    pub(crate) fn widen_read_ahead(&self, bytes: u32) {
        let _ = fs::write(
            format!("/sys/class/bdi/{}/read_ahead_kb", self.device),
            (bytes / 1024).to_string(),
        );
    }
}

/// Removes the topmost mount here; umount(2) does not look into it.
fn detach_now(mountpoint: &Path) -> io::Result<bool> {
    match rustix::mount::unmount(mountpoint, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(false),
        Err(Errno::BUSY) => {
            rustix::mount::unmount(mountpoint, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
            Ok(true)
        }
        Err(Errno::PERM) => detach_by_helper(mountpoint),
        Err(error) => Err(error.into()),
    }
}

fn detach_by_helper(mountpoint: &Path) -> io::Result<bool> {
    let unmount = |flags: &'static [&'static str]| {
        run_helper(|command| {
            command.args(flags).arg("--").arg(mountpoint);
            Ok(())
        })
    };
    if unmount(&["-u", "-q"])?.status.success() {
        return Ok(false);
    }
    let output = unmount(&["-u", "-z"])?;
    if output.status.success() {
        Ok(true)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Returns the device of the topmost mount on a path. Source: proc_pid_mountinfo(5).
fn device_at(table: &[u8], listed: &[u8]) -> Option<String> {
    let device = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (device, mountpoint) = (fields.nth(2)?, fields.nth(1)?);
        (mountpoint == listed).then(|| String::from_utf8_lossy(device).into_owned())
    };
    table.split(|byte| *byte == b'\n').filter_map(device).next_back()
}

/// Writes a path as mountinfo does. Source: Linux fs/proc_namespace.c, show_mountinfo.
pub(crate) fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            _ => escaped.push(*byte),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let table = b"36 35 98:0 /x /mnt rw master:1 - ext3 /dev/root rw\n40 35 0:55 / /a\\040b ro - fuse.dupfs x ro\n\
            41 35 0:56 / /mnt ro - fuse.dupfs x ro\n";
        assert_eq!(device_at(table, b"/mnt").as_deref(), Some("0:56"), "the topmost");
        assert_eq!(device_at(table, &escape(Path::new("/a b"))).as_deref(), Some("0:55"));
        assert_eq!(device_at(table, b"/x"), None);
    }

    #[test]
    fn unfit_mountpoints_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        assert!(check(directory.path()).is_ok());
        assert!(matches!(check(&file), Err(Error::Missing(_))));
        fs::write(&file, "").unwrap();
        assert!(matches!(check(&file), Err(Error::NotDirectory(_))));
        assert!(matches!(check(directory.path()), Err(Error::NotEmpty(_))));
    }
}
