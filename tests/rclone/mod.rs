//! Storages behind rclone: both ways with the originals, every way to fail.

use crate::support::{BothWays, Encoding, Env, Outcome, Random, Version, processes};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Makes a configuration with a remote `far`, which leads to the world's store.
fn configured(env: &Env) -> PathBuf {
    let path = env.root().join("rclone.conf");
    let text = format!(
        "[far]\ntype = alias\nremote = {}\n[broken]\ntype = nonsense\n",
        env.store().display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Prepares `dupfs` with that configuration.
fn dupfs(env: &Env) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.env("RCLONE_CONFIG", configured(env)).args(["--num-retries", "1"]);
    command
}

fn run(command: &mut Command, words: &[&str]) -> Outcome {
    Outcome::of(command.args(words))
}

/// Returns the rclone that serves a world's storage.
fn server(env: &Env) -> Option<rustix::process::Pid> {
    // Each world has another temporary folder, which stands in no argument: the environment does.
    let is_of = |process: i32| {
        let variables = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&variables).contains(&*env.home().to_string_lossy())
    };
    let is_server = |words: &str| words.starts_with("rclone serve sftp");
    let found = processes().find(|(process, words)| is_server(words) && is_of(*process));
    found.and_then(|(process, _)| rustix::process::Pid::from_raw(process))
}

#[test]
fn both_ways_with_the_originals() {
    let env = Env::new();
    let config = configured(&env);
    let prepare = |_, command: &mut Command| {
        command.env("RCLONE_CONFIG", &config);
    };
    let both = BothWays { env: &env, url: "rclone://far:/deep/er", prepare: &prepare };
    both.run(&[Version::Old, Version::New]);
    let names = env.store().join("deep/er").read_dir().unwrap();
    let is_hidden = |name: std::ffi::OsString| name.to_string_lossy().starts_with('.');
    assert!(!names.into_iter().any(|entry| is_hidden(entry.unwrap().file_name())));
}

/// What is missing, or wrong, is reported with what can be done, and is not tried again.
#[test]
fn what_is_wrong_with_rclone_is_reported() {
    let env = Env::new();
    std::fs::write(env.source().join("a"), "a").unwrap();
    let ask =
        |url: &str| run(dupfs(&env).args(["--num-retries", "5"]), &["list-current-files", url]);
    ask("rclone://near:/x").failure(50, &["rclone knows no such remote", "'rclone config'"]);
    ask("rclone://broken:/x").failure(50, &["rclone cannot use this remote", "nonsense"]);
    ask("rclone://far:/none").failure(52, &["no such folder"]);
    ask("rclone://").failure(23, &["rclone://remote:/folder"]);
    let secret = ask("rclone://:s3,secret_access_key=hidden:bucket");
    assert!(!secret.to_string().contains("hidden"), "{secret}");
    secret.failure(23, &["list of processes", "secret_access_key=***"]);
    let mut without = dupfs(&env);
    run(without.env("PATH", env.root()), &["list-current-files", "rclone://far:/x"])
        .failure(50, &["cannot run 'rclone'", "install it"]);
    for scheme in ["mega", "jottacloud", "box", "pcloud"] {
        ask(&format!("{scheme}://me:hidden@host/x")).failure(23, &["rclone://remote:/folder"]);
    }
}

/// A full service is told from one that fails, and what there was no room for is taken away.
#[test]
fn a_full_service_is_reported() {
    let env = Env::new();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=512k", "none"]).arg(env.store());
    Outcome::of(&mut mount).success();
    std::fs::write(env.source().join("a"), Random::new(3).bytes(2_000_000)).unwrap();
    let outcome = run(&mut dupfs(&env), &["full", "source", "rclone://far:"]);
    let left = env.store().read_dir().unwrap().count();
    Outcome::of(Command::new("umount").arg(env.store())).success();
    outcome.failure(53, &["no space left on device"]);
    assert_eq!(left, 0);
}

/// rclone hangs: the wait ends. It is killed: the next try begins with another one. What it has
/// stored of a file that was cut is no file of the collection, and `cleanup` takes it away.
#[test]
fn an_rclone_that_hangs_or_dies_does_no_harm() {
    let env = Env::new();
    std::fs::write(env.source().join("a"), vec![0; 60_000_000]).unwrap();
    let begun = |name: &str| {
        let entries = env.store().read_dir().unwrap();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains(name))
    };
    // Sends a signal to rclone as soon as it has begun to store a file.
    let disturbed = |retries: &str, signal: Signal| {
        let mut full = dupfs(&env);
        full.args(["full", "--no-compression", "--timeout", "1", "--backend-retry-delay", "0"]);
        full.args(["--volsize", "60", "--num-retries", retries, "source", "rclone://far:"]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(30);
                while !begun(".dupfs-") {
                    assert!(Instant::now() < end, "nothing was uploaded");
                    std::thread::sleep(Duration::from_millis(1));
                }
                let server = server(&env).expect("no rclone serves");
                rustix::process::kill_process(server, signal).unwrap();
            });
            Outcome::of(&mut full)
        })
    };
    disturbed("1", Signal::STOP).failure(50, &["nothing went or came for 1 seconds"]);
    assert!(server(&env).is_none() && !begun("manifest"));
    assert!(begun(".dupfs-"));
    env.clear_caches();
    run(&mut dupfs(&env), &["cleanup", "--force", "rclone://far:"]).success();
    assert!(!begun(""));
    disturbed("2", Signal::KILL).success();
    assert!(begun("manifest"));
    run(&mut dupfs(&env), &["verify", "--compare-data", "rclone://far:", "source"]).success();
}
