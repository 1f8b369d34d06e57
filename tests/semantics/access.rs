//! Who may do what.

use super::{T1, errno, world};
use crate::support::{Encoding, Mounted, NOBODY, Outcome};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timestamps, UTIME_NOW, XattrFlags,
};
use std::os::unix::fs::PermissionsExt;

/// > Every attempt to write fails with "Read-only file system".
#[test]
fn every_write_is_refused() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let at = mounted.at(T1);
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let (file, new, mode) = (at.join("same"), at.join("new"), Mode::from(0o600));
    let open = |flags| rustix::fs::open(&file, flags, mode).map(drop);
    let attempts = [
        ("create", rustix::fs::open(&new, OFlags::CREATE | OFlags::WRONLY, mode).map(drop)),
        ("open to write", open(OFlags::WRONLY)),
        ("open to append", open(OFlags::RDWR | OFlags::APPEND)),
        ("truncate", open(OFlags::WRONLY | OFlags::TRUNC)),
        ("mkdir", rustix::fs::mkdir(&new, mode)),
        ("mkdir in the root", rustix::fs::mkdir(mounted.point().join("new"), mode)),
        ("mknod", rustix::fs::mknodat(CWD, &new, FileType::Fifo, mode, 0)),
        ("symlink", rustix::fs::symlink("x", &new)),
        ("link", rustix::fs::link(&file, &new)),
        ("unlink", rustix::fs::unlink(&file)),
        ("unlink latest", rustix::fs::unlink(mounted.point().join("latest"))),
        ("rmdir", rustix::fs::rmdir(at.join("dir"))),
        ("rename", rustix::fs::rename(&file, &new)),
        (
            "exchange",
            rustix::fs::renameat_with(CWD, &file, CWD, at.join("gone"), RenameFlags::EXCHANGE),
        ),
        ("chmod", rustix::fs::chmod(&file, mode)),
        ("chown", rustix::fs::chownat(CWD, &file, None, None, AtFlags::empty())),
        ("utimens", rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty())),
        ("setxattr", rustix::fs::setxattr(&file, "user.x", b"1", XattrFlags::empty())),
    ];
    for (operation, result) in attempts {
        assert_eq!(result, Err(rustix::io::Errno::ROFS), "{operation}");
    }
}

/// > The mount is `ro,nosuid,nodev`.
#[test]
fn mount_flags() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line =
        table.lines().find(|line| line.split(' ').nth(4) == mounted.point().to_str()).unwrap();
    let flags: Vec<&str> = line.split(' ').nth(5).unwrap().split(',').collect();
    assert!(["ro", "nosuid", "nodev"].iter().all(|flag| flags.contains(flag)), "{line}");
    assert!(line.contains(" - fuse.dupfs "), "{line}");
}

/// > Only the user who mounted gets in, and may read everything whatever its mode says.
#[test]
fn only_the_mounting_user_gets_in() {
    let (env, _) = world();
    let script = "dupfs mount --no-encryption \"$url\" \"$mount\"; cat \"$mount\"/2026-08-01*/secret; fusermount3 -u \"$mount\"";
    let outcome = env.as_nobody(Encoding::Gzip, script).success();
    assert_eq!(outcome.stdout, "for the owner alone", "{outcome}");

    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    let outcome = env.nobody_runs("ls", &[mounted.point().as_os_str()]);
    assert_ne!(outcome.code, 0, "root's mount is open to others: {outcome}");
    assert_eq!(std::fs::read(mounted.at(T1).join("secret")).unwrap(), b"for the owner alone");
}

/// > With `--allow-other` everybody gets in, and the modes say who may read what.
#[test]
fn others_get_in_under_the_modes() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--allow-other"]);
    std::fs::set_permissions(env.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let at = mounted.at(T1);
    let read = |name: &str| env.nobody_runs("cat", &[at.join(name).as_os_str()]);
    assert_eq!(read("gone").success().stdout, "only in the first");
    let refused = read("secret");
    assert!(
        refused.code != 0 && refused.stderr.contains("Permission denied"),
        "user {NOBODY} read a file of mode 600: {refused}"
    );
    assert_eq!(std::fs::read(at.join("secret")).unwrap(), b"for the owner alone", "root may");
}

/// > An ordinary user can mount as well as root can.
#[test]
fn an_ordinary_user_mounts() {
    let (env, _) = world();
    let script = "dupfs mount --no-encryption \"$url\" \"$mount\"
        cat \"$mount/latest/dir/inner\"; grep -c \" $mount fuse.dupfs ro,nosuid,nodev\" /proc/mounts
        fusermount3 -u \"$mount\"; ls \"$mount\"";
    let outcome = env.as_nobody(Encoding::Gzip, script).success();
    assert_eq!(outcome.stdout, "inner1\n", "{outcome}");
}

/// > A line of type `fuse.dupfs` in `/etc/fstab` mounts as the command does, if `dupfs` lies in
/// > `/usr/bin` or `/usr/local/bin`.
#[test]
fn mount_8_mounts() {
    let (env, _) = world();
    let line = format!(
        "{} {} fuse.dupfs ro,nosuid,nodev,allow_other,noauto,x-systemd.automount 0 0\n",
        env.url(),
        env.mountpoint().display()
    );
    let table = env.root().join("fstab");
    std::fs::write(&table, line).unwrap();
    let script = "mount --bind \"${PATH%%:*}\" /usr/local/bin # for this script alone
        mount -T \"$table\" \"$mount\"; cat \"$mount/latest/dir/inner\"; umount \"$mount\"
        mount -t fuse.dupfs \"$url\" \"$mount\"; cat \"$mount/latest/dir/inner\"; umount \"$mount\"; ls \"$mount\"";
    let outcome =
        Outcome::of(env.private_script(Encoding::Gzip, script).env("table", table)).success();
    assert_eq!(outcome.stdout, "innerinner", "{outcome}");
}

/// Reading is refused where the modes demand it only with `--allow-other`; the errno of a missing
/// name is the plain one.
#[test]
fn a_missing_name_is_missing() {
    let (env, _) = world();
    let mounted = Mounted::new(&env, Encoding::Gzip);
    assert_eq!(errno(std::fs::metadata(mounted.at(T1).join("nothing"))), libc::ENOENT);
    assert_eq!(
        errno(std::fs::metadata(mounted.point().join("1999-01-01T00.00.00+0000"))),
        libc::ENOENT
    );
    assert_eq!(errno(std::fs::read_dir(mounted.at(T1).join("same"))), libc::ENOTDIR);
}
