//! Storages behind rsync: of a daemon and over ssh, both ways with the originals, every way to fail.

use crate::support::{
    BothWays, Encoding, Env, Mounted, Outcome, Random, Rsyncd, SSH_PASSWORD, Sshd, Version,
    keeps_rates, processes,
};
use rustix::process::Signal;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Prepares `dupfs` with the password of the daemon.
fn dupfs(env: &Env) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.env("FTP_PASSWORD", SSH_PASSWORD).args(["--num-retries", "1"]);
    command
}

fn run(command: &mut Command, words: &[&str]) -> Outcome {
    Outcome::of(command.args(words))
}

#[test]
fn both_ways_with_the_originals_by_a_daemon() {
    let (env, rsyncd) = (Env::new(), Rsyncd::shared());
    let prepare = |version, command: &mut Command| {
        let name = if version == Version::New { "BACKEND_PASSWORD" } else { "FTP_PASSWORD" };
        command.env(name, SSH_PASSWORD).arg("--rsync-options=--bwlimit=100000");
    };
    let url = rsyncd.url("both/deep");
    BothWays { env: &env, url: &url, prepare: &prepare }.run(&[Version::Old, Version::New]);
}

#[test]
fn both_ways_with_the_originals_over_ssh() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, true);
    let prepare = |_, command: &mut Command| {
        command.args(["--ssh-options", &options]);
    };
    let url = sshd.url("rsync", "rsynced/deep");
    BothWays { env: &env, url: &url, prepare: &prepare }.run(&[Version::New]);
    let stored = sshd.home().join("rsynced/deep");
    let absolute = sshd.url("rsync", stored.to_str().unwrap());
    let mut command = dupfs(&env);
    let listed = run(command.args(["--ssh-options", &options]), &["collection-status", &absolute]);
    assert!(listed.success().stdout.contains("Incremental"));
}

/// A password: from the URL, from a variable; never shown. A wrong one ends at once, as does all
/// that cannot be.
#[test]
fn what_is_refused_is_reported() {
    let (env, rsyncd, sshd) = (Env::new(), Rsyncd::shared(), Sshd::shared());
    std::fs::write(env.source().join("a"), "a").unwrap();
    let url = rsyncd.url("by-password");
    let secret = SSH_PASSWORD.replace(' ', "%20");
    let ask = |words: &[&str], password: &str| {
        let mut command = env.dupfs(Encoding::Gzip);
        command.args(["-v9", "--num-retries", "3"]).env("FTP_PASSWORD", password);
        let outcome = run(&mut command, words);
        for secret in [SSH_PASSWORD, &secret] {
            assert!(!outcome.to_string().contains(secret), "{outcome}");
        }
        assert!(!outcome.stderr.contains("Attempt"), "{outcome}");
        outcome
    };
    ask(&["full", "source", &url], SSH_PASSWORD).success();
    let with = url.replace('@', &format!(":{secret}@"));
    ask(&["collection-status", &with], "").success();
    let list = |url: &str, password: &str| ask(&["list-current-files", url], password);
    list(&url, "wrong").failure(51, &["neither the name nor the password", "RSYNC_PASSWORD"]);
    list(&url.replace("kept", "other"), SSH_PASSWORD).failure(52, &["Unknown module"]);
    list(&rsyncd.url("none"), SSH_PASSWORD).failure(52, &["No such file or directory"]);
    list("rsync://h::", "").failure(23, &["no module"]);
    list("rsync:///x", "").failure(23, &["names no host"]);
    // Over ssh, an unknown host is not talked to.
    list(&sshd.url("rsync", "x"), "").failure(51, &["key of the host"]);
    let mut without = dupfs(&env);
    run(without.env("PATH", env.root()), &["list-current-files", &url])
        .failure(50, &["cannot run 'rsync'", "install it"]);

    let mut mount = dupfs(&env);
    mount.args(["mount", "--foreground", "-v9", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let found = mounted.snapshots().into_values().next().unwrap();
    assert_eq!(std::fs::read(found.join("a")).unwrap(), b"a");
    let words: String = processes().map(|(_, words)| words + "\n").collect();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(words.contains("by-password"));
    for text in [table, words, mounted.log()] {
        assert!(!text.contains(SSH_PASSWORD), "{text}");
    }
}

/// Returns the processes that serve a folder of a daemon, or run for `dupfs`.
fn signal(of: &str, signal: Signal) -> usize {
    let found: Vec<_> =
        processes().filter(|(_, words)| words.starts_with("rsync") && words.contains(of)).collect();
    for (process, _) in &found {
        let process = rustix::process::Pid::from_raw(*process).unwrap();
        let _ = rustix::process::kill_process(process, signal);
    }
    found.len()
}

/// A daemon that says nothing ends the wait; a killed rsync is run again; what it has left is taken
/// by `cleanup`; a mount reads a volume by one transfer, and nothing of it stays.
#[test]
fn an_rsync_that_hangs_or_dies_does_no_harm() {
    let (env, rsyncd) = (Env::new(), Rsyncd::shared());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let begun = Instant::now();
    let url = format!("rsync://127.0.0.1:{port}::/kept/x");
    run(dupfs(&env).args(["--timeout", "1"]), &["collection-status", &url]).failure(50, &["rsync"]);
    assert!(begun.elapsed() < Duration::from_secs(20));

    let content = Random::new(7).bytes(8_000_000);
    std::fs::write(env.source().join("a"), &content).unwrap();
    let url = rsyncd.url("killed");
    let place = rsyncd.home().join("killed");
    let slowly = |retries: &str| {
        let mut full = dupfs(&env);
        full.args(["full", "--num-retries", retries, "--backend-retry-delay", "0"]);
        full.args(["--rsync-options", "--bwlimit=8000", "source", &url]);
        full
    };
    let unfinished = || {
        let entries = place.read_dir().into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(30);
            while unfinished() == 0 {
                assert!(Instant::now() < end, "nothing was uploaded");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(signal(&url.replace("::/", "/"), Signal::KILL) > 0);
        });
        Outcome::of(&mut slowly("3")).success();
    });
    // As one leaves it that was killed on the other side.
    let name =
        place.read_dir().unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let volume = name.into_iter().find(|name| name.contains("vol1.difftar")).unwrap();
    std::fs::write(place.join(format!(".{volume}.aB3dE9")), "half").unwrap();
    std::fs::write(place.join(".vimrc.backup"), "foreign").unwrap();
    run(&mut dupfs(&env), &["cleanup", "--force", &url]).success();
    assert_eq!(unfinished(), 1);

    let tempdir = env.fresh("tempdir");
    std::fs::create_dir(&tempdir).unwrap();
    let mut mount = dupfs(&env);
    mount.arg("--tempdir").arg(&tempdir);
    mount.args(["mount", "--foreground", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let file = File::open(mounted.snapshots().into_values().next().unwrap().join("a")).unwrap();
    let is_good_at = |offset: usize| {
        let mut found = [0; 4096];
        file.read_exact_at(&mut found, offset as u64).unwrap();
        assert!(found == content[offset..][..4096], "{offset}");
    };
    is_good_at(0);
    // What was fetched serves on, without the daemon's file.
    std::fs::rename(place.join(&volume), place.join("away")).unwrap();
    is_good_at(4 << 20);
    assert_eq!(tempdir.read_dir().unwrap().count(), 0, "something that was fetched has a name");
}

/// Bytes go and come no faster than the user wants.
#[test]
fn rates_are_kept() {
    let env = Env::new();
    keeps_rates(&env, &Rsyncd::shared().url("rates"), || dupfs(&env));
}
