//! Chains of several passphrases: a file of them opens what it can, and is read by nobody else.

use crate::support::{Env, Mounted, Outcome, Version};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

const TIME: i64 = 1_785_585_600;

/// Makes a world with three chains of one set each, under the passphrases one, two, three; the
/// first is the original's.
fn world() -> Env {
    let env = Env::new();
    for (index, (version, passphrase)) in
        [(Version::Old, "one"), (Version::Ours, "two"), (Version::Ours, "three")].iter().enumerate()
    {
        std::fs::write(env.source().join("name"), passphrase).unwrap();
        let mut command = backup(&env, *version, "full", TIME + index as i64);
        Outcome::of(command.env("PASSPHRASE", passphrase)).success();
    }
    env.clear_caches();
    env
}

fn backup(env: &Env, version: Version, action: &str, time: i64) -> Command {
    let mut command = env.command(version.checked());
    command.args([
        action,
        "--no-print-statistics",
        "--gpg-options",
        "--s2k-count 65536",
        "--current-time",
        &time.to_string(),
    ]);
    command.args(["source", &env.url()]);
    command
}

/// Writes a file of passphrases.
fn file(env: &Env, text: &str, mode: u32) -> PathBuf {
    let path = env.root().join("passphrases");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn ours(env: &Env, file: &std::path::Path, words: &[&str]) -> Command {
    let mut command = env.command(Version::Ours.checked());
    command.args(words).arg("--passphrase-file").arg(file).arg(env.url());
    command
}

/// What no passphrase opens has no folder, and is named once; if it is all there is, nothing is
/// mounted.
#[test]
fn a_mount_shows_what_opens() {
    let env = world();
    for (text, shown, closed) in [
        ("two\nthree\n", &[TIME + 1, TIME + 2][..], &["20260801T120000Z"][..]),
        ("one\n\ntwo", &[TIME, TIME + 1], &["20260801T120002Z"]),
        ("three", &[TIME + 2], &["20260801T120000Z", "20260801T120001Z"]),
        // The catalog knows all of them by now.
        ("one", &[TIME], &["20260801T120001Z", "20260801T120002Z"]),
    ] {
        let mut command =
            ours(&env, &file(&env, text, 0o600), &["mount", "--foreground", "--refresh", "1s"]);
        let mounted = Mounted::start(
            {
                command.arg(env.mountpoint());
                command
            },
            &env.mountpoint(),
        );
        assert_eq!(
            mounted.snapshots().into_keys().collect::<Vec<_>>(),
            shown,
            "{text}: {}",
            mounted.log()
        );
        for folder in mounted.snapshots().values() {
            let name = std::fs::read_to_string(folder.join("name")).unwrap();
            assert!(text.contains(&name), "{name}");
        }
        let log = mounted.log();
        assert_eq!(log.matches("cannot show the backups of").count(), closed.len(), "{log}");
        for time in closed {
            assert!(
                log.contains(&format!("cannot show the backups of {time}: "))
                    && log.contains("wrong passphrase"),
                "{log}"
            );
        }
    }
    let mut command = ours(&env, &file(&env, "four\nfive\n", 0o600), &["mount"]);
    Outcome::of(command.arg(env.mountpoint())).failure(31, &["wrong passphrase"]);
}

#[test]
fn every_action_tries_all() {
    let env = world();
    let all = file(&env, "one\ntwo\nthree\n", 0o600);
    for (index, name) in ["one", "two", "three"].iter().enumerate() {
        let time = (TIME + index as i64).to_string();
        let target = env.fresh("target");
        Outcome::of(ours(&env, &all, &["restore", "--time", &time]).arg(&target)).success();
        assert_eq!(std::fs::read_to_string(target.join("name")).unwrap(), *name);
        std::fs::remove_dir_all(&target).unwrap();
        env.clear_caches();
        let outcome = Outcome::of(
            ours(&env, &all, &["list-current-files", "-v9", "--time", &time])
                .env("PASSPHRASE", "PASS"),
        )
        .success();
        assert!(
            outcome.stdout.ends_with(" name\n") && !outcome.to_string().contains("PASS\n"),
            "{outcome}"
        );
    }
    Outcome::of(ours(&env, &all, &["verify"]).arg("source")).success();

    // No chain comes to have two passphrases: the first line would encrypt, which has not opened
    // the newest backup.
    let with = |action: &str, path: &std::path::Path, time: i64| {
        let mut command = backup(&env, Version::Ours, action, time);
        Outcome::of(command.arg("--passphrase-file").arg(path))
    };
    with("incremental", &all, TIME + 10).failure(2, &["a full backup begins a new chain"]);
    let last_first = file(&env, "three\none\n", 0o600);
    with("incremental", &last_first, TIME + 20).success();
    with("full", &file(&env, "new\nthree\n", 0o600), TIME + 30).success();
    let target = env.fresh("target");
    let mut restore = env.command(Version::Old.checked());
    Outcome::of(restore.args(["restore", &env.url()]).arg(&target).env("PASSPHRASE", "new"))
        .success();
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let env = Env::new();
    for (text, mode, why) in [
        ("one\n", 0o644, "chmod 600"),
        ("one\n", 0o620, "chmod 600"),
        ("", 0o600, "it holds none"),
        ("\n\n", 0o600, "it holds none"),
    ] {
        Outcome::of(&mut ours(&env, &file(&env, text, mode), &["collection-status"]))
            .failure(2, &["passphrases'", why]);
    }
    let fifo = env.root().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    Outcome::of(&mut ours(&env, &fifo, &["collection-status"])).failure(2, &["not a regular file"]);
    Outcome::of(&mut ours(&env, &env.root().join("none"), &["collection-status"]))
        .failure(2, &["No such file"]);
    if rustix::process::geteuid().is_root() {
        let theirs = file(&env, "one\n", 0o600);
        std::os::unix::fs::chown(&theirs, Some(1), None).unwrap();
        Outcome::of(&mut ours(&env, &theirs, &["collection-status"]))
            .failure(2, &["it belongs to the user 1"]);
    }
}
