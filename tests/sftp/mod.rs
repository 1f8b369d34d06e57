//! Storages behind SSH: every way in, every way to fail, both ways with the originals.

use crate::support::{
    Encoding, Env, Mounted, Outcome, Random, SSH_PASSWORD, Sshd, Version, keeps_rates, make_key,
    processes,
};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const TIME: i64 = 1_700_000_000;

/// Prepares `dupfs` in a world, for a host.
fn dupfs(env: &Env, options: &str) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.args(["--ssh-options", options]);
    command
}

fn run(command: &mut Command, words: &[&str]) -> Outcome {
    Outcome::of(command.args(words))
}

/// Changes the source: a file that changes, and one that is new.
fn write_source(env: &Env, number: u8) {
    // duplicity takes a file for the same that has the same time in seconds.
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1000 * u64::from(number));
    std::fs::write(env.source().join("a"), vec![number; 100_000 + usize::from(number)]).unwrap();
    std::fs::File::options()
        .write(true)
        .open(env.source().join("a"))
        .and_then(|file| file.set_modified(time))
        .unwrap();
    std::fs::write(env.source().join(format!("of-{number}")), "new").unwrap();
}

/// Fails unless a folder holds what the source does.
#[track_caller]
fn is_source(place: &Path, env: &Env) {
    for file in ["a", "of-1", "of-2"] {
        let (found, expected) =
            [place, &env.source()].map(|place| std::fs::read(place.join(file)).ok()).into();
        assert!(found == expected, "{}: {file}", place.display());
    }
}

/// Restores the newest state, and compares it with the source.
#[track_caller]
fn restore(command: &mut Command, env: &Env, url: &str, name: &str) {
    let target = env.fresh(name);
    run(command, &["restore", url, target.to_str().unwrap()]).success();
    is_source(&target, env);
}

/// Prepares the original, with the same environment and options as `dupfs`.
fn original(env: &Env, version: Version, options: &str) -> Command {
    let mut command = env.command(version.checked());
    command.args(["--no-encryption", "--ssh-options", options]);
    command
}

/// A full backup and an increment of ours: read by both originals, restored, mounted.
#[test]
fn what_dupfs_writes_all_read() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, true);
    let url = sshd.url("sftp", "ours/deep");
    for (number, action) in [(1, "full"), (2, "incremental")] {
        write_source(&env, number);
        let time = (TIME + i64::from(number)).to_string();
        run(&mut dupfs(&env, &options), &[action, "--current-time", &time, "source", &url])
            .success();
    }
    let stored = sshd.home().join("ours/deep");
    let names: Vec<_> =
        stored.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| !name.to_string_lossy().starts_with('.')));
    for (number, version) in [Version::Old, Version::New].into_iter().enumerate() {
        restore(&mut original(&env, version, &options), &env, &url, &format!("theirs-{number}"));
    }
    // All spellings lead to the same folder, and an absolute path too.
    let absolute = sshd.url("ssh", &stored.display().to_string());
    for scheme in ["scp", "fish", "paramiko+sftp", "pexpect+scp", "lftp+sftp"] {
        let listed = run(
            &mut dupfs(&env, &options),
            &["collection-status", "--use-scp", &sshd.url(scheme, "ours/deep")],
        );
        assert!(listed.success().stdout.contains("Incremental"), "{scheme}");
    }
    env.clear_caches();
    restore(&mut dupfs(&env, &options), &env, &absolute, "own");
    let mut mount = dupfs(&env, &options);
    mount.args(["mount", "--foreground", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    is_source(&mounted.at(TIME + 2), &env);
}

/// What each original writes, dupfs lists, restores, verifies, and adds to.
#[test]
fn what_the_originals_write_dupfs_reads() {
    let sshd = Sshd::shared();
    for version in [Version::Old, Version::New] {
        let env = Env::new();
        let options = sshd.introduce(&env, true);
        let url = sshd.url("sftp", &format!("theirs-{version:?}"));
        for (number, action) in [(1, "full"), (2, "incremental")] {
            write_source(&env, number);
            let time = (TIME + i64::from(number)).to_string();
            let words =
                [action, "--allow-source-mismatch", "--current-time", &time, "source", &url];
            run(&mut original(&env, version, &options), &words).success();
        }
        env.clear_caches();
        restore(&mut dupfs(&env, &options), &env, &url, "restored");
        run(&mut dupfs(&env, &options), &["verify", "--compare-data", &url, "source"]).success();
    }
}

/// A password: from the URL, from either variable; never shown. A wrong one, or none, ends at once.
#[test]
fn passwords_are_taken_and_not_shown() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, false);
    write_source(&env, 1);
    let url = sshd.url("sftp", "by-password");
    let secret = SSH_PASSWORD.replace(' ', "%20");
    let with = url.replace('@', &format!(":{secret}@"));
    let says_nothing = |outcome: &Outcome| {
        for secret in [SSH_PASSWORD, &secret] {
            assert!(!outcome.to_string().contains(secret), "{outcome}");
        }
    };
    let ours = |words: &[&str], variable: &str, password: &str| {
        let outcome = run(dupfs(&env, &options).arg("-v9").env(variable, password), words);
        says_nothing(&outcome);
        outcome
    };
    ours(&["full", "source", &url], "FTP_PASSWORD", SSH_PASSWORD).success();
    ours(&["collection-status", &url], "BACKEND_PASSWORD", SSH_PASSWORD).success();
    ours(&["collection-status", &with], "NONE", "").success();
    let words = ["collection-status", "--num-retries", "3", &url];
    let begun = Instant::now();
    for (variable, password) in [("FTP_PASSWORD", "wrong"), ("NONE", "")] {
        let outcome = ours(&words, variable, password);
        let outcome = outcome.failure(51, &["neither the keys nor the password", "FTP_PASSWORD"]);
        assert!(
            !outcome.stderr.contains("Attempt"),
            "what is refused is not tried again: {outcome}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Without a terminal a line of stdin is the answer.
    let mut asked = dupfs(&env, &options);
    asked.args(["--ssh-askpass", "collection-status", &url]);
    let answer = env.root().join("answer");
    std::fs::write(&answer, format!("{SSH_PASSWORD}\n")).unwrap();
    let outcome = Outcome::of(asked.stdin(std::fs::File::open(answer).unwrap())).success();
    assert!(
        outcome.stderr.contains(&format!("Password for '{}@127.0.0.1': ", Sshd::USER)),
        "{outcome}"
    );

    // A mount shows it nowhere, nor does the ssh that it has started.
    let mut mount = dupfs(&env, &options);
    mount.env("FTP_PASSWORD", SSH_PASSWORD);
    mount.args(["mount", "--foreground", "-v9", &url]).arg(env.mountpoint());
    let mounted = Mounted::start(mount, &env.mountpoint());
    let found = mounted.snapshots().into_values().next().unwrap();
    assert_eq!(std::fs::read(found.join("a")).unwrap(), vec![1; 100_001]);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let words: String = processes().map(|(_, words)| words + "\n").collect();
    assert!(words.contains("by-password") && words.contains("ssh "));
    for text in [table, words, mounted.log()] {
        assert!(!text.contains(SSH_PASSWORD), "{text}");
    }
}

/// The same variable opens a locked key.
#[test]
fn a_locked_key_is_unlocked() {
    let (env, sshd) = (Env::new(), Sshd::new());
    make_key(&sshd.key(), "locked away");
    std::fs::copy(sshd.key().with_extension("pub"), sshd.key().with_file_name("authorized"))
        .unwrap();
    let options = sshd.introduce(&env, true);
    let url = sshd.url("sftp", "");
    let words = ["list-current-files", "--num-retries", "1", url.as_str()];
    let open = run(dupfs(&env, &options).env("FTP_PASSWORD", "locked away"), &words);
    assert!(!open.stderr.contains("neither the keys"), "{open}");
    run(&mut dupfs(&env, &options), &words).failure(51, &["neither the keys nor the password"]);
}

/// A password is for the host of the URL: one that is on the way to it does not get it.
#[test]
fn a_jump_host_does_not_get_the_password() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    sshd.introduce(&env, false);
    let config = env.root().join("config");
    let with_jump_by = |key: &str| {
        let text = format!(
            "Host *\n HostName 127.0.0.1\n Port {}\n User {}\n UserKnownHostsFile {}\n IdentitiesOnly yes\n IdentityAgent none\n\
             Host jump\n IdentityFile {key}\nHost target\n ProxyJump jump\n IdentityFile none\n",
            sshd.port(),
            Sshd::USER,
            env.home().join(".ssh/known_hosts").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = dupfs(&env, &format!("-F {}", config.display()));
        command.env("FTP_PASSWORD", SSH_PASSWORD).args(["--num-retries", "1"]);
        run(&mut command, &["collection-status", "sftp://target/jumped"])
    };
    with_jump_by("none").failure(51, &["neither the keys nor the password"]);
    with_jump_by(&sshd.key().display().to_string()).success();
}

/// What a host refuses is an error of its own kind, with duplicity's code.
#[test]
fn refusals_have_duplicitys_codes() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, true);
    write_source(&env, 1);
    let ask = |words: &[&str]| run(dupfs(&env, &options).args(["--num-retries", "1"]), words);
    let root = sshd.url("sftp", "/root/dupfs-x/y");
    ask(&["full", "source", &root]).failure(51, &["permission denied"]);
    ask(&["list-current-files", &sshd.url("sftp", "none")])
        .failure(52, &["no such file or folder"]);
    ask(&["list-current-files", "sftp:///x"]).failure(23, &["names no host"]);
    ask(&["list-current-files", "sftp://u@127.0.0.1:1/x"]).failure(50, &["Connection refused"]);
    let mut strange = dupfs(&env, "-oNonsense=1");
    let words = ["list-current-files", &sshd.url("sftp", "x")];
    run(&mut strange, &words).failure(50, &["ssh does not take its options", "nonsense"]);
}

/// A full disk has no code in the protocol: the room that is left tells.
#[test]
fn a_full_disk_is_told() {
    let env = Env::new();
    let place = env.fresh("small");
    std::fs::create_dir(&place).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(&place);
    Outcome::of(&mut mount).success();
    let path = by_local_server(&env, &env.fresh("requests"));
    std::fs::write(env.source().join("a"), Random::new(3).bytes(2_000_000)).unwrap();
    let mut full = env.dupfs(Encoding::Gzip);
    full.env("PATH", path);
    let outcome = run(&mut full, &["full", "source", "sftp://host/small"]);
    let left = place.read_dir().unwrap().count();
    Outcome::of(Command::new("umount").arg(&place)).success();
    outcome.failure(53, &["no room is left on the server"]);
    assert_eq!(left, 0, "what there was no room for is taken away");
}

/// Makes an `ssh` that leads to a server for the files of a world, which logs its requests; returns
/// the search path on which it is found.
fn by_local_server(env: &Env, log: &Path) -> String {
    let programs = env.fresh("bin");
    std::fs::create_dir(&programs).unwrap();
    let script = format!(
        "#!/bin/sh\ncd '{}'; exec /usr/lib/openssh/sftp-server -e -l DEBUG3 2>>'{}'\n",
        env.root().display(),
        log.display()
    );
    std::fs::write(programs.join("ssh"), script).unwrap();
    std::fs::set_permissions(programs.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", programs.display())
}

/// A host that is not known, or not the one that it was, is not talked to.
#[test]
fn host_keys_are_checked() {
    let (env, mut sshd) = (Env::new(), Sshd::new());
    let options = sshd.options(&env, true);
    let url = sshd.url("sftp", "x");
    let words = ["collection-status", url.as_str()];
    let new = sshd.fingerprint();
    run(&mut dupfs(&env, &options), &words)
        .failure(51, &["is not known here", &new, "logging in once by ssh"]);
    let options = sshd.introduce(&env, true);
    run(&mut dupfs(&env, &options), &words).success();
    sshd.stop();
    sshd.renew_host_key();
    sshd.start();
    assert_ne!(sshd.fingerprint(), new);
    run(&mut dupfs(&env, &options), &words)
        .failure(51, &["another key", &sshd.fingerprint(), "ssh-keygen -R"]);
}

/// Mounts a backup of one large file.
struct Large {
    mounted: Mounted,
    file: File,
    content: Vec<u8>,
}

impl Large {
    /// Saves and mounts with these programs, which know the host.
    fn new(env: &Env, url: &str, program: impl Fn() -> Command) -> Self {
        let content = Random::new(7).bytes(8_000_000);
        std::fs::write(env.source().join("a"), &content).unwrap();
        run(&mut program(), &["full", "source", url]).success();
        let mut mount = program();
        mount.args(["mount", "--foreground", url]).arg(env.mountpoint());
        let mounted = Mounted::start(mount, &env.mountpoint());
        let file = mounted.snapshots().into_values().next().unwrap().join("a");
        let file = File::open(file).unwrap();
        // The kernel asks for what is read, and no more.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        Self { mounted, file, content }
    }

    /// Reads 4 KiB that were not read before.
    #[track_caller]
    fn is_good_at(&self, offset: usize) {
        let mut found = [0; 4096];
        let read = self.file.read_exact_at(&mut found, offset as u64);
        assert!(read.is_ok(), "{read:?}: {}", self.mounted.log());
        assert!(found == self.content[offset..][..4096], "{offset}");
    }
}

/// A read where the table of the volume is known costs one range of one open file; counted by the
/// server itself.
#[test]
fn a_warm_read_is_one_round_trip() {
    let env = Env::new();
    let log = env.fresh("requests");
    let path = by_local_server(&env, &log);
    let large = Large::new(&env, "sftp://host/x", || {
        let mut program = env.dupfs(Encoding::Gzip);
        program.env("PATH", &path);
        program
    });
    large.is_good_at(0);
    let requests = || std::fs::read_to_string(&log).unwrap();
    let before = requests().len();
    large.is_good_at(4 << 20);
    // One range of the storage; a packet holds 255 KiB of it, and all are asked for at once.
    let new = requests().split_off(before);
    let reads = new.lines().filter(|line| line.contains(": read \"")).count();
    assert!((1..=5).contains(&reads), "{new}");
    assert_eq!(new.matches(": sent ").count(), reads, "{new}");
}

/// The child is killed, the server is killed and comes back: the mount goes on with good bytes.
#[test]
fn a_mount_goes_on_when_the_host_is_back() {
    let (env, mut sshd) = (Env::new(), Sshd::new());
    let options = sshd.introduce(&env, true);
    let large = Large::new(&env, &sshd.url("sftp", "x"), || {
        let mut program = dupfs(&env, &options);
        program.args(["--num-retries", "2"]);
        program
    });
    large.is_good_at(0);
    sshd.signal_sessions(Signal::KILL);
    large.is_good_at(2 << 20);
    let ssh = processes().find(|(_, words)| words.contains(&format!("-p {} ", sshd.port())));
    let ssh = ssh.and_then(|(process, _)| rustix::process::Pid::from_raw(process)).unwrap();
    rustix::process::kill_process(ssh, Signal::KILL).unwrap();
    large.is_good_at(4 << 20);
    sshd.stop();
    let away = large.file.read_exact_at(&mut [0; 4096], 6 << 20).unwrap_err();
    assert_eq!(away.raw_os_error(), Some(libc::EIO), "{}", large.mounted.log());
    sshd.start();
    large.is_good_at(6 << 20);
}

/// A server that stands still ends the wait after `--timeout`, with the code of a failed storage.
#[test]
fn a_server_that_hangs_ends_the_wait() {
    let (env, sshd) = (Env::new(), Sshd::new());
    let options = sshd.introduce(&env, true);
    let url = sshd.url("sftp", "x");
    run(&mut dupfs(&env, &options), &["collection-status", &url]).success();
    // Big enough that it is under way for a while.
    std::fs::write(env.source().join("a"), vec![0; 60_000_000]).unwrap();
    let mut full = dupfs(&env, &options);
    full.args(["full", "--no-compression", "--timeout", "1", "--num-retries", "1"]);
    full.args(["source", &url]);
    let stopping = std::thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end {
                let begun = sshd.home().join("x").read_dir().into_iter().flatten().flatten();
                if begun.count() > 0 {
                    sshd.signal_sessions(Signal::STOP);
                    return Instant::now();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            panic!("nothing was uploaded");
        });
        let outcome = Outcome::of(&mut full);
        outcome.failure(50, &["nothing went or came for 1 seconds"]);
        stopper.join().unwrap()
    });
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    sshd.signal_sessions(Signal::KILL);

    // What the upload has left is found, and taken away.
    let left = || sshd.home().join("x").read_dir().unwrap().count();
    assert!(left() > 0);
    env.clear_caches();
    run(&mut dupfs(&env, &options), &["cleanup", "--force", &url]).success();
    assert_eq!(left(), 0);
}

/// Bytes go and come no faster than the user wants, over all transfers together.
#[test]
fn rates_are_kept() {
    let (env, sshd) = (Env::new(), Sshd::shared());
    let options = sshd.introduce(&env, true);
    let url = sshd.url("sftp", "rates");
    keeps_rates(&env, &url, || dupfs(&env, &options));
    run(&mut dupfs(&env, &options), &["full", "--max-upload-rate", "fast", "source", &url])
        .failure(2, &["500"]);
}
