//! What one cannot change: each attempt ends in EROFS.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::Errno;

use crate::support::{Mounted, listed};

/// Each way to change something, by name.
fn attempts(root: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let (file, directory, new) = (root.join("file"), root.join("bare"), root.join("new"));
    let open = |options: &mut OpenOptions| options.open(&file).map(drop);
    let name = "user.test";
    vec![
        ("create", File::create(&new).map(drop)),
        ("create exclusively", File::create_new(&new).map(drop)),
        ("create over", File::create(&file).map(drop)),
        ("open for writing", open(OpenOptions::new().write(true))),
        ("open for both", open(OpenOptions::new().read(true).write(true))),
        ("open for appending", open(OpenOptions::new().append(true))),
        ("open and truncate", open(OpenOptions::new().write(true).truncate(true))),
        (
            "open unnamed",
            OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(root).map(drop),
        ),
        ("truncate", truncate(&file)),
        ("mkdir", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&file)),
        ("rmdir", fs::remove_dir(&directory)),
        ("symlink", symlink("file", &new)),
        ("link", fs::hard_link(&file, &new)),
        ("rename", fs::rename(&file, &new)),
        ("rename over", fs::rename(&file, root.join("big"))),
        (
            "mknod",
            rustix::fs::mknodat(CWD, &new, FileType::Fifo, Mode::RWXU, 0).map_err(Into::into),
        ),
        ("chmod", fs::set_permissions(&file, fs::Permissions::from_mode(0o777))),
        ("chown", std::os::unix::fs::chown(&file, Some(5), Some(5))),
        ("lchown", std::os::unix::fs::lchown(root.join("link"), Some(5), None)),
        ("utimens", File::open(&file).and_then(|file| file.set_modified(UNIX_EPOCH))),
        (
            "setxattr",
            rustix::fs::setxattr(&file, name, b"x", XattrFlags::empty()).map_err(Into::into),
        ),
        ("removexattr", rustix::fs::removexattr(&file, name).map_err(Into::into)),
    ]
}

fn truncate(file: &Path) -> io::Result<()> {
    let path = CString::new(file.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string that lives until the call is over.
    if unsafe { libc::truncate(path.as_ptr(), 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[test]
fn nothing_can_be_changed() {
    let mounted = Mounted::sample();
    for (what, result) in attempts(mounted.root()) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS), "{what}");
    }
    let line = listed(mounted.root()).unwrap();
    assert!(line.starts_with("dupfs "), "{line}");
    assert!(line.contains(" fuse.dupfs ro,nosuid,nodev,"), "{line}");
}

#[test]
fn nothing_can_be_changed_after_a_remount_either() {
    let mounted = Mounted::sample();
    let remount = rustix::mount::MountFlags::empty();
    rustix::mount::mount_remount(mounted.root(), remount, "").unwrap();
    assert!(listed(mounted.root()).unwrap().contains(" rw,"), "now the requests reach our methods");
    for (what, result) in attempts(mounted.root()) {
        let errno = result.unwrap_err().raw_os_error().unwrap();
        // The library does not know TMPFILE, so the kernel takes it for unsupported.
        let expected = if what == "open unnamed" { libc::EOPNOTSUPP } else { libc::EROFS };
        assert_eq!(errno, expected, "{what}");
    }
}

#[test]
fn there_are_no_extended_attributes() {
    let mounted = Mounted::sample();
    let mut buffer = [0_u8; 10];
    for _ in 0..2 {
        assert_eq!(
            rustix::fs::getxattr(mounted.path("file"), "user.test", &mut buffer),
            Err(Errno::OPNOTSUPP)
        );
        assert_eq!(rustix::fs::listxattr(mounted.path("file"), &mut buffer), Err(Errno::OPNOTSUPP));
    }
    assert_eq!(
        rustix::fs::access(mounted.path("file"), rustix::fs::Access::WRITE_OK),
        Err(Errno::ROFS)
    );
    assert_eq!(rustix::fs::access(mounted.path("file"), rustix::fs::Access::READ_OK), Ok(()));
    File::open(mounted.path("file")).unwrap().sync_all().unwrap();
}
