//! The server never waits for itself: what it touches lies neither at its mountpoint nor beyond it.

use crate::support::{Duplicity, Encoding, Env, Node, Outcome, Tree, Version, is_mounted};
use std::os::unix::fs::symlink;
use std::process::Command;

/// A word of the message, what is typed, and variables.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Makes a world with one backup.
fn world(encoding: Encoding) -> Env {
    let env = encoding.env();
    Tree::new(100).with("file", Node::file("content", 101)).write(None, &env.source());
    Duplicity::new(&env, Version::Old, encoding).full(super::START);
    env.clear_caches();
    env
}

/// Unmounts what should not be there, or no longer, whatever it waits for.
struct Freed<'a>(&'a Env);

impl Drop for Freed<'_> {
    fn drop(&mut self) {
        if is_mounted(&self.0.mountpoint()) {
            Outcome::of(Command::new("umount").arg("-l").arg(self.0.mountpoint()));
        }
    }
}

#[test]
fn what_leads_to_or_through_the_mountpoint_is_refused() {
    let env = world(Encoding::Plain);
    let _freed = Freed(&env);
    symlink("mount/../store", env.root().join("link to store")).unwrap();
    symlink("../mount/new", env.root().join("home/link")).unwrap();
    let through = format!("file://{}/mount/../store", env.root().display());
    let (url, mount) = (env.url(), env.mountpoint().to_str().unwrap().to_owned());
    let cases: &[Case] = &[
        ("the collection", &[&through, "mount"], &[]),
        ("the collection", &["link to store", "mount"], &[]),
        ("XDG_CACHE_HOME", &[&url, &mount], &[("XDG_CACHE_HOME", &mount)]),
        ("--archive-dir", &["--archive-dir", "home/link/deep", &url, "mount/../mount"], &[]),
        ("--tempdir", &["--tempdir=mount", &url, "mount"], &[]),
        ("TMPDIR", &[&url, "mount"], &[("TMPDIR", "mount")]),
        ("GNUPGHOME", &[&url, "mount"], &[("GNUPGHOME", &mount)]),
        (
            "--homedir",
            &["--gpg-options=--homedir=home/link", &url, "mount"],
            &[("GNUPGHOME", "/nonexistent")],
        ),
        ("--gpg-binary", &["--gpg-binary", "mount/../gpg", &url, "mount"], &[]),
        (
            "--encrypt-secret-keyring",
            &["--encrypt-secret-keyring", "home/link", &url, "mount"],
            &[],
        ),
        ("--log-file", &["--log-file", "mount/../log", &url, "mount"], &[]),
        ("PATH", &[&url, "mount"], &[("PATH", &format!("/usr/bin:/bin:{mount}/latest/bin"))]),
    ];
    let refused = |why: &str, words: &[&str], variables: &[(&str, &str)]| {
        let mut command = env.dupfs(Encoding::Plain);
        command.arg("mount").args(words).envs(variables.iter().copied());
        Outcome::of(&mut command).failure(
            2,
            &["cannot mount on", why, "lies there or leads through it", "choose another folder"],
        );
        assert!(
            !is_mounted(&env.mountpoint())
                && std::fs::read_dir(env.mountpoint()).unwrap().next().is_none(),
            "{why}"
        );
    };
    cases.iter().for_each(|(why, words, variables)| refused(why, words, variables));

    let inside = Outcome::of(
        env.dupfs(Encoding::Plain).args(["mount", &url, "."]).current_dir(env.mountpoint()),
    );
    inside.failure(2, &["it is the current directory", "change to another"]);
    // A volume may have been moved, and linked: here to where only the mount itself could show it.
    symlink(env.mountpoint().join("latest/volume"), env.store().join("linked volume")).unwrap();
    refused("the collection, '", &[&url, "mount"], &[]);
    std::fs::remove_file(env.store().join("linked volume")).unwrap();

    // The same folder in another place.
    let bound = env.fresh("bound");
    std::fs::create_dir(&bound).unwrap();
    Outcome::of(Command::new("mount").arg("--bind").arg(env.root()).arg(&bound)).success();
    let cache = bound.join("mount/cache");
    refused("XDG_CACHE_HOME", &[&url, "mount"], &[("XDG_CACHE_HOME", cache.to_str().unwrap())]);
    Outcome::of(Command::new("umount").arg(&bound)).success();
}

/// A server in the background reads keys and copies where it was told to, from where it was called.
#[test]
fn relative_paths_hold_in_the_background() {
    let env = world(Encoding::PublicKey);
    let _freed = Freed(&env);
    std::fs::create_dir(env.fresh("here")).unwrap();
    let mut command = env.dupfs(Encoding::PublicKey);
    command.args([
        "mount",
        "--archive-dir",
        "here",
        "--name",
        ".",
        "--tempdir",
        "here",
        "store",
        "mount",
    ]);
    command.env("GNUPGHOME", "home/.gnupg").env("TMPDIR", "here");
    let outcome = Outcome::of(&mut command).success();
    let read = Outcome::of(
        env.command("timeout").arg("60").arg("cat").arg(env.mountpoint().join("latest/file")),
    );
    assert_eq!(read.success().stdout, "content", "{outcome}");
}
