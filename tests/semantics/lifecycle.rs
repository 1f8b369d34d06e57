//! Mounting, new backups, unmounting, slow storage.

use super::{T1, T2, T3, content, errno, world};
use crate::support::{Duplicity, Encoding, Env, Mounted, Outcome, PYTHON, Version, is_mounted};
use rustix::process::Signal;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Waits for something that must happen soon.
#[track_caller]
fn soon(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(30), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// > `dupfs mount` returns when the mount answers, or fails and says why.
#[test]
fn the_command_returns_when_the_mount_answers() {
    let (env, _) = world();
    // `private_script` captures what is printed to its end, so this would hang if the program left
    // behind held on to stdout.
    let script = "dupfs mount --no-encryption \"$url\" \"$mount\"; cat \"$mount/latest/dir/inner\"; fusermount3 -u \"$mount\"";
    let outcome = Outcome::of(&mut env.private_script(Encoding::Gzip, script)).success();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("inner", ""));

    let nowhere = env.root().join("nowhere");
    let mount = |url: &Path| {
        Outcome::of(env.dupfs(Encoding::Gzip).arg("mount").arg(url).arg(env.mountpoint()))
    };
    let outcome = mount(&nowhere);
    assert!(outcome.code != 0 && outcome.stderr.contains("nowhere"), "{outcome}");
    assert!(!is_mounted(&env.mountpoint()));
}

/// > It refuses a mountpoint that is missing, not empty, or inside the collection, and one where
/// > its cache, keys, temporary files and the like lie.
#[test]
fn unfit_mountpoints_are_refused() {
    let (env, _) = world();
    let inside = env.store().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let file = env.root().join("a file");
    std::fs::write(&file, "").unwrap();
    for point in [env.root().join("missing"), env.source(), file, inside, env.store()] {
        for background in [true, false] {
            let mut command = env.dupfs(Encoding::Gzip);
            command
                .args(if background { &["mount"][..] } else { &["mount", "--foreground"] })
                .arg(env.url())
                .arg(&point);
            let outcome = Outcome::of(&mut command);
            assert!(
                outcome.code != 0 && outcome.stderr.contains(point.to_str().unwrap()),
                "{point:?}: {outcome}"
            );
            assert!(
                !outcome.stderr.contains("panicked") && !is_mounted(&point),
                "{point:?}: {outcome}"
            );
        }
    }
}

/// > New backups appear and removed ones go within the `--refresh` interval.
#[test]
fn backups_come_and_go() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1s"]);
    let links = |time| std::fs::metadata(mounted.at(time).join("same")).unwrap().nlink();
    let latest = || mounted.point().join("latest").canonicalize().ok();
    assert_eq!(links(T1), 3);
    let time = T3 + 86_400;
    Duplicity::new(&env, Version::Old, Encoding::Gzip).incremental(time);
    soon("the new backup appears", || mounted.snapshots().len() == 4);
    assert_eq!(mounted.record(time), mounted.record(T3));
    soon("latest moves", || latest() == Some(mounted.at(time)));
    soon("there is one more link", || links(T1) == 4 && links(time) == 4);

    for file in std::fs::read_dir(env.store()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.to_str().unwrap().contains(".to.20260804T") {
            std::fs::remove_file(file).unwrap();
        }
    }
    soon("the removed backup goes", || mounted.snapshots().len() == 3);
    soon("latest moves back", || latest() == Some(mounted.at(T3)));
}

/// > When none is left, the storage is taken to be away: all stay, and what is not cached cannot be
/// > read until it is back.
#[test]
fn backups_stay_while_the_storage_is_empty() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1s"]);
    let (before, away) = (mounted.snapshots(), env.fresh("away"));
    let file = std::fs::File::open(mounted.at(T3).join("changed")).unwrap();
    std::fs::rename(env.store(), &away).unwrap();
    std::fs::create_dir(env.store()).unwrap();
    soon("it is noticed", || mounted.log().contains("holds no backups any more"));
    assert_eq!(mounted.snapshots(), before);
    let mut bytes = vec![0; content(2, "changed").len()];
    assert_eq!(file.read_exact_at(&mut bytes, 0).unwrap_err().raw_os_error(), Some(libc::EIO));
    std::fs::remove_dir(env.store()).unwrap();
    std::fs::rename(&away, env.store()).unwrap();
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == **content(2, "changed"));
}

/// > An open file stays readable as long as the volumes that hold it exist.
#[test]
fn open_files_outlive_their_backup() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1s"]);
    let file = std::fs::File::open(mounted.at(T3).join("changed")).unwrap();
    std::fs::remove_file(
        env.store().join("duplicity-inc.20260802T120000Z.to.20260803T120000Z.manifest"),
    )
    .unwrap();
    soon("the backup goes", || mounted.snapshots().len() == 2);
    let expected = content(2, "changed");
    let mut bytes = vec![0; expected.len()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == **expected);
}

/// > `fusermount3 -u`, SIGINT and SIGTERM unmount.
#[test]
fn three_ways_to_unmount() {
    let (env, _) = world();
    for signal in [Signal::INT, Signal::TERM] {
        let mut mounted = Mounted::new(&env, Encoding::Gzip);
        let status = mounted.end(signal);
        assert!(
            status.success() && !is_mounted(&env.mountpoint()),
            "{signal:?}: {status}: {}",
            mounted.log()
        );
    }
    let mut mounted = Mounted::new(&env, Encoding::Gzip);
    Outcome::of(env.command("fusermount3").arg("-u").arg(env.mountpoint())).success();
    assert!(mounted.wait().success() && !is_mounted(&env.mountpoint()));
}

/// > While something in it is in use, `fusermount3 -u` refuses; a signal, or `fusermount3 -uz`,
/// > detaches it at once, and what is open is served until it is closed.
#[test]
fn a_busy_mount_is_detached() {
    let (env, _) = world();
    let mut mounted = Mounted::new(&env, Encoding::Gzip);
    let directory = std::fs::File::open(mounted.at(T1).join("dir")).unwrap();
    let file = std::fs::File::open(mounted.at(T1).join("same")).unwrap();
    Outcome::of(env.command("fusermount3").arg("-u").arg(env.mountpoint())).failure(1, &["busy"]);
    assert!(is_mounted(&env.mountpoint()));
    mounted.signal(Signal::TERM);
    soon("the mount is detached", || !is_mounted(&env.mountpoint()));
    assert_eq!(std::fs::read_dir(env.mountpoint()).unwrap().count(), 0);
    let expected = content(0, "same");
    let mut bytes = vec![0; expected.len()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == **expected);
    drop((directory, file));
    assert!(mounted.wait().success(), "{}", mounted.log());
}

/// > When the program is killed, its readers get an error and do not hang.
#[test]
fn a_killed_program_hangs_nobody() {
    let (env, _) = world();
    let mut mounted = Mounted::new(&env, Encoding::Gzip);
    let file = mounted.at(T1).join("same");
    let open = std::fs::File::open(&file).unwrap();
    mounted.end(Signal::KILL);
    let other = file.with_file_name("changed");
    let tried = std::thread::spawn(move || {
        [errno(open.read_at(&mut [0; 9000], 200_000)), errno(std::fs::read(other))]
    });
    soon("the reads end", || tried.is_finished());
    for errno in tried.join().unwrap() {
        assert!(
            [libc::EIO, libc::ENOTCONN, libc::ECONNABORTED, libc::ENOENT].contains(&errno),
            "errno {errno}"
        );
    }
}

/// Makes whoever opens the volume of the second backup wait: a lease on a file lets its holder
/// finish first, for up to 45 seconds.
fn block_second_volume(env: &Env) -> Child {
    let hold = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print(flush=True)
signal.pause()";
    let volume =
        env.store().join("duplicity-inc.20260801T120000Z.to.20260802T120000Z.vol1.difftar.gz");
    let mut holder =
        env.command(PYTHON).args(["-c", hold]).arg(volume).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0])
        .expect("the lease is granted");
    holder
}

fn reader(env: &Env, file: &Path) -> Child {
    env.command("cat").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// > A slow read holds up nobody else, can be killed, and ends with an error after `--timeout`.
#[test]
fn a_slow_read_is_contained() {
    let (env, _) = world();
    let mounted = Mounted::with(&env, Encoding::Gzip, &["--refresh", "1h", "--timeout", "6"]);
    let mut holder = block_second_volume(&env);
    let slow = mounted.at(T2).join("changed");
    let mut killed = reader(&env, &slow);
    std::thread::sleep(Duration::from_millis(500));
    assert!(killed.try_wait().unwrap().is_none(), "the slow read was not slow: {}", mounted.log());
    let gone = Instant::now();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(gone.elapsed() < Duration::from_secs(3), "the killed reader took {:?}", gone.elapsed());

    let start = Instant::now();
    let mut waiting = [T2, T3].map(|time| reader(&env, &mounted.at(time).join("changed")));
    std::thread::sleep(Duration::from_millis(500));
    let quick = Instant::now();
    assert!(std::fs::read(mounted.at(T1).join("same")).unwrap() == **content(0, "same"));
    assert!(quick.elapsed() < Duration::from_secs(3), "the others waited {:?}", quick.elapsed());
    soon("the slow reads end", || {
        waiting.iter_mut().all(|child| child.try_wait().unwrap().is_some())
    });
    assert!(waiting.iter_mut().all(|child| !child.wait().unwrap().success()));
    assert!(
        start.elapsed() >= Duration::from_secs(5),
        "ended before the deadline: {}",
        mounted.log()
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
}
