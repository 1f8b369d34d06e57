//! Unmounting, signals, kill -9.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::memory::BIG;
use crate::support::{Mounted, Process, Served, listed, open_device, within};

#[test]
fn an_unused_mount_goes_at_once() {
    let mounted = Mounted::sample();
    fs::read(mounted.path("file")).unwrap();
    mounted.mount.unmount().unwrap();
    mounted.mount.wait().unwrap();
    assert_eq!(listed(mounted.root()), None);
    assert_eq!(fs::read_dir(mounted.root()).unwrap().count(), 0);
    assert!(mounted.log.lock().unwrap().is_empty());
}

#[test]
fn a_mount_in_use_is_detached_and_read_to_the_end() {
    let mounted = Mounted::sample();
    let mut file = File::open(mounted.path("big")).unwrap();
    file.read_exact(&mut [0; 1000]).unwrap();
    mounted.mount.unmount().unwrap();
    assert_eq!(listed(mounted.root()), None);
    assert_eq!(fs::read_dir(mounted.root()).unwrap().count(), 0, "the place is free");
    assert_eq!(mounted.log.lock().unwrap().len(), 1, "it says so");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            mounted.mount.wait().unwrap();
            ended.store(true, Ordering::SeqCst);
        });
        thread::sleep(Duration::from_millis(500));
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len() as u64, BIG - 1000);
        assert!(!ended.load(Ordering::SeqCst));
        drop(file);
        within(2, "end of the session", || ended.load(Ordering::SeqCst));
    });
}

#[test]
fn the_second_time_nobody_is_waited_for() {
    let mounted = Mounted::sample();
    let file = File::open(mounted.path("big")).unwrap();
    mounted.mount.unmount().unwrap();
    mounted.mount.unmount().unwrap();
    mounted.mount.wait().unwrap();
    assert_eq!(file.read_at(&mut [0; 10], 0).unwrap(), 10);
}

#[test]
fn anybody_may_unmount() {
    let mounted = Mounted::sample();
    rustix::mount::unmount(mounted.root(), rustix::mount::UnmountFlags::empty()).unwrap();
    mounted.mount.wait().unwrap();
    // Another mount in its place is not ours to remove.
    let other = rustix::mount::mount(
        "none",
        mounted.root(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        c"",
    );
    other.unwrap();
    mounted.mount.unmount().unwrap();
    assert!(listed(mounted.root()).unwrap().contains(" tmpfs "));
    rustix::mount::unmount(mounted.root(), rustix::mount::UnmountFlags::empty()).unwrap();
}

#[test]
fn an_aborted_mount_is_cleaned_up() {
    let mounted = Mounted::sample();
    let device = fs::metadata(mounted.root()).unwrap().dev();
    // The control file system of FUSE, where the administrator can cut a connection.
    let control = tempfile::tempdir().unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", control.path(), "fusectl", flags, c"").unwrap();
    let abort = fs::write(control.path().join(device.to_string()).join("abort"), "1");
    rustix::mount::unmount(control.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    abort.unwrap();
    mounted.mount.wait().unwrap();
    within(2, "the mount is gone", || listed(mounted.root()).is_none());
}

#[test]
fn a_stuck_tree_does_not_hold_up_the_end() {
    let mounted = Mounted::sample();
    let mut readers: Vec<Process> = (0..6)
        .map(|_| {
            Process::start(Command::new("cat").arg(mounted.path("stuck")).stderr(Stdio::null()))
        })
        .collect();
    within(10, "six readers wait", || mounted.memory.seen("open") == 6);
    for reader in &mut readers {
        reader.send(Signal::KILL);
        reader.end_within(2);
    }
    rustix::mount::unmount(mounted.root(), rustix::mount::UnmountFlags::empty()).unwrap();
    let start = Instant::now();
    mounted.mount.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn signals_unmount() {
    let device = open_device();
    for start in [|_: &_| Served::start(|_| ()), Served::start_as_user] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut served = start(&device);
            served.process.send(signal);
            assert!(served.process.end_within(5).success());
            assert_eq!(listed(served.root()), None);
        }
    }
}

#[test]
fn a_signal_lets_open_files_finish_and_a_second_does_not() {
    let device = open_device();
    for start in [|_: &_| Served::start(|_| ()), |device: &_| Served::start_as_user(device)] {
        let mut served = start(&device);
        let Ok(file) = File::open(served.path("big")) else {
            // Not even root gets into the mount of a user; he himself is tested below.
            continue;
        };
        served.process.send(Signal::TERM);
        within(2, "detached", || listed(served.root()).is_none());
        assert_eq!(file.read_at(&mut [0; 10], 1 << 20).unwrap(), 10);
        assert!(served.process.0.try_wait().unwrap().is_none());
        served.process.send(Signal::TERM);
        assert!(served.process.end_within(2).success());
    }
}

#[test]
fn a_killed_server_leaves_no_dead_directory() {
    let device = open_device();
    for start in [|_: &_| Served::start(|_| ()), Served::start_as_user] {
        let mut served = start(&device);
        let busy = File::open(served.path("file")).ok();
        served.process.send(Signal::KILL);
        served.process.end_within(2);
        within(2, "the mount is gone", || listed(served.root()).is_none());
        assert_eq!(fs::read_dir(served.root()).unwrap().count(), 0);
        drop(busy);
    }
}
