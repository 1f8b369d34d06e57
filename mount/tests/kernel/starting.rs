//! What is refused, and how it says so.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use dupfs_mount::{Error, Options, mount};

use crate::memory::Memory;
use crate::support::{Served, USER, device_mode, listed, mountpoint, open_device, require};

#[test]
fn a_tree_without_top_is_not_mounted() {
    require();
    let directory = mountpoint();
    let memory = Memory::new();
    memory.forget_root();
    let error = mount(memory, directory.path(), &Options::default()).err().unwrap();
    assert!(matches!(error, Error::Root(_)));
    assert_eq!(error.to_string(), "cannot read the top directory: error 5");
    assert_eq!(listed(directory.path()), None);
}

#[test]
fn a_name_may_hold_anything() {
    let name = "file:///a b,c\\d,e";
    let mounted = crate::support::Mounted::with(|options| options.name = name.into());
    assert!(listed(mounted.root()).unwrap().starts_with("file:///a\\040b,c\\134d,e /"));
}

#[test]
fn a_full_directory_is_refused() {
    require();
    let directory = mountpoint();
    fs::write(directory.path().join("file"), "").unwrap();
    let error = mount(Memory::new(), directory.path(), &Options::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot mount on \"{}\": it is not empty; give an empty directory",
            directory.path().display()
        )
    );
}

fn refusal(adapt: impl FnOnce(&mut Command)) -> String {
    Served::try_start(adapt).err().expect("it mounted")
}

#[test]
fn a_missing_device_is_named() {
    // A mount namespace of its own with nothing in /dev but the shared memory, where files of tests
    // may lie.
    let message = Served::try_start(|command| {
        let (program, directory) =
            (command.get_program().to_owned(), command.get_args().next().unwrap().to_owned());
        *command = Command::new("unshare");
        let script = "mount -t tmpfs none /mnt && mkdir /mnt/shm && mount --rbind /dev/shm /mnt/shm && mount --move /mnt /dev && exec \"$0\" \"$1\"";
        command.args(["-m", "sh", "-c", script]).arg(program).arg(directory);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    });
    let message = message.err().unwrap();
    assert!(
        message.starts_with(
            "error: cannot mount: /dev/fuse is missing; load the kernel module with: modprobe fuse"
        ),
        "{message}"
    );
}

#[test]
fn a_closed_device_is_named() {
    let _device = device_mode(0o600);
    let message = refusal(|command| {
        command.uid(USER).gid(USER);
    });
    assert!(
        message.starts_with("error: cannot mount: no permission to open /dev/fuse; "),
        "{message}"
    );
}

#[test]
fn a_missing_helper_is_named() {
    let _device = open_device();
    let message = refusal(|command| {
        command.uid(USER).gid(USER).env("PATH", "/nowhere");
    });
    assert!(message.contains("fusermount3 is missing; install the package fuse3"), "{message}");
}

#[test]
fn a_directory_of_somebody_else_is_refused_by_the_helper() {
    let _device = open_device();
    let message = refusal(|command| {
        let directory = command.get_args().next().unwrap().to_owned();
        std::os::unix::fs::chown(directory, Some(0), Some(0)).unwrap();
        command.uid(USER).gid(USER);
    });
    assert!(message.contains("user has no write access to mountpoint"), "{message}");
}

#[test]
fn others_need_the_administrators_word() {
    let _device = open_device();
    let configuration = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if configuration.lines().any(|line| line.trim() == "user_allow_other") {
        // Then it must work.
        drop(Served::start(|command| {
            command.arg("--allow-other").uid(USER).gid(USER);
        }));
        return;
    }
    let message = refusal(|command| {
        command.arg("--allow-other").uid(USER).gid(USER);
    });
    assert!(
        message.contains("must first put the line user_allow_other into /etc/fuse.conf"),
        "{message}"
    );
}
