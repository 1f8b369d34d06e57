//! [`Error`]: why a mount did not come about or did not end well.

use std::io;
use std::path::PathBuf;

/// Why a mount did not come about or did not end well. Each text says what to do where the user can
/// do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory to mount on is not there.
    #[error("cannot mount on \"{}\": there is no such directory; create it first", .0.display())]
    Missing(PathBuf),
    /// Something else stands where the directory should be.
    #[error("cannot mount on \"{}\": it is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// The directory has content, which a mount would hide.
    #[error("cannot mount on \"{}\": it is not empty; give an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// The server of an earlier mount has died.
    #[error("cannot mount on \"{}\": a dead mount is left there; remove it with: fusermount3 -u \"{}\"", .0.display(), .0.display())]
    Dead(PathBuf),
    /// The directory cannot be examined.
    #[error("cannot mount on \"{}\"", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The kernel has no FUSE.
    #[error(
        "cannot mount: /dev/fuse is missing; load the kernel module with: modprobe fuse (a container must be given the device)"
    )]
    NoDevice,
    /// The device is there, but not for this user.
    #[error(
        "cannot mount: no permission to open /dev/fuse; the administrator must allow it (chmod 666 /dev/fuse)"
    )]
    DeviceDenied,
    /// The device cannot be opened for another reason.
    #[error("cannot open /dev/fuse")]
    Device(#[source] io::Error),
    /// Only root may mount without the helper.
    #[error(
        "cannot mount as an ordinary user: the program fusermount3 is missing; install the package fuse3"
    )]
    NoHelper,
    /// The administrator has not allowed users to let others in.
    #[error(
        "cannot let other users in: the administrator must first put the line user_allow_other into /etc/fuse.conf"
    )]
    OthersDenied,
    /// The kernel or fusermount3 refused; the text is theirs.
    #[error("cannot mount on \"{}\": {message}", .mountpoint.display())]
    Refused {
        /// Where.
        mountpoint: PathBuf,
        /// Why.
        message: String,
    },
    /// The tree cannot even show its top directory.
    #[error("cannot read the top directory: {0}")]
    Root(String),
    /// There are not enough threads, processes, files or memory to serve a mount.
    #[error(
        "cannot mount: too few threads or too little memory to serve it; raise the limits (ulimit -u, -v, -n)"
    )]
    Scarce(#[source] io::Error),
    /// Talking with the kernel failed.
    #[error("cannot go on serving the mount")]
    Session(#[source] io::Error),
    /// Neither unmounting nor detaching worked.
    #[error("cannot unmount \"{}\"", .0.display())]
    Unmount(PathBuf, #[source] io::Error),
    /// No handler for signals could be set.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}
