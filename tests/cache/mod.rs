//! Our own cache: private, derived, and safe against other processes, sudden death, full disks and rubbish.

use crate::support::{Duplicity, Encoding, Env, Node, Outcome, Tree, Truth, Version, assert_same};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A collection of three sets with a few thousand paths, and what listing it prints.
fn world() -> (Env, Vec<u8>) {
    let env = Env::new();
    let duplicity = Duplicity::new(&env, Version::Old, Encoding::Gzip);
    let mut tree = Tree::new(1000);
    for directory in 0..40 {
        tree = tree.with(format!("d{directory:02}"), Node::directory(1000));
        for file in 0..60 {
            tree = tree.with(format!("d{directory:02}/f{file:02}"), Node::file(format!("{directory} {file}"), 1000 + file));
        }
    }
    tree.write(None, &env.source());
    duplicity.full(1_700_000_000);
    for step in 1..3 {
        let before = tree.clone();
        tree = tree.with(format!("d{step:02}/f00"), Node::file("changed", 5000 + step));
        tree.write(Some(&before), &env.source());
        duplicity.incremental(1_700_000_000 + step * 1000);
    }
    env.clear_caches();
    let listed = list(&env).output().unwrap();
    assert!(listed.status.success() && listed.stdout.len() > 2400 * 26);
    env.clear_caches();
    (env, listed.stdout)
}

fn list(env: &Env) -> Command {
    let mut command = env.dupfs(Encoding::Gzip);
    command.args(["list-current-files", &env.url()]);
    command
}

/// Returns the only file of the catalog.
fn catalog(env: &Env) -> PathBuf {
    let collections = std::fs::read_dir(env.cache().join("dupfs")).unwrap();
    let directories: Vec<_> = collections.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(directories.len(), 1, "{directories:?}");
    directories[0].join("catalog.sqlite")
}

#[test]
fn is_private_and_written_for_this_user_only() {
    let (env, expected) = world();
    assert_eq!(list(&env).output().unwrap().stdout, expected);
    let directory = catalog(&env).parent().unwrap().to_path_buf();
    assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn many_processes_fill_it_at_once() {
    let (env, expected) = world();
    let children: Vec<_> = (0..6).map(|_| list(&env).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == expected, "a listing differs that was made beside others");
    }
}

#[test]
fn survives_being_killed_at_any_moment() {
    let (env, expected) = world();
    for milliseconds in (0..120).step_by(6) {
        let mut child = list(&env).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = list(&env).output().unwrap();
        assert!(output.stdout == expected, "after {milliseconds} ms: {}", String::from_utf8_lossy(&output.stderr));
        if milliseconds % 12 == 0 {
            env.clear_caches();
        }
    }
}

#[test]
fn rubbish_is_thrown_away() {
    let (env, expected) = world();
    for rubbish in [&b""[..], b"no database", &[0; 4096], b"SQLite format 3\0 and then nothing sensible"] {
        assert_eq!(list(&env).output().unwrap().stdout, expected);
        std::fs::write(catalog(&env), rubbish).unwrap();
        assert!(list(&env).output().unwrap().stdout == expected, "{rubbish:?}");
    }
    // Damage inside a sound file: pages of tables and indexes.
    let file = catalog(&env);
    let sound = std::fs::read(&file).unwrap();
    for at in (4096..sound.len()).step_by(sound.len() / 8) {
        let mut broken = sound.clone();
        let end = broken.len().min(at + 600);
        broken[at..end].fill(0xa5);
        std::fs::write(&file, broken).unwrap();
        // What is said about the cache stands before the listing, or the command fails and says so.
        let output = list(&env).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| !line.contains("the catalog"));
        let is_right = lines.eq(std::str::from_utf8(&expected).unwrap().lines());
        assert!(is_right || !output.status.success(), "damage at {at} shows in the listing: {}", &text[..text.len().min(500)]);
        // Whatever came of it, the broken file is gone by now.
        assert!(list(&env).output().unwrap().stdout == expected, "after damage at {at}");
    }
}

#[test]
fn a_full_disk_only_makes_it_slower() {
    let (env, expected) = world();
    let small = env.fresh("small");
    std::fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(&small).status().unwrap();
    assert!(mount.success(), "mounting a small file system needs root");
    let outcome = Outcome::of(list(&env).env("XDG_CACHE_HOME", &small));
    Command::new("umount").arg(&small).status().unwrap();
    let text = outcome.success().stdout;
    let last = expected.split(|&b| b == b'\n').rev().nth(1).unwrap();
    assert!(text.contains("going on without a cache"), "{text}");
    assert!(text.trim_end().ends_with(std::str::from_utf8(last).unwrap()), "{text}");
}

/// The disk fills while the catalog learns of volumes: what is restored must still be all, or be said not to be.
#[test]
fn a_restore_that_fills_the_disk_is_whole() {
    let (env, _) = world();
    let truth = Truth::record(&env.source());
    for size in [100, 250, 350, 450, 550, 700, 900] {
        let small = env.fresh(&format!("small{size}"));
        std::fs::create_dir(&small).unwrap();
        let options = format!("size={size}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&small).status().unwrap();
        assert!(mount.success(), "mounting a small file system needs root");
        let target = env.fresh(&format!("restored{size}"));
        let mut restore = env.dupfs(Encoding::Gzip);
        let outcome = Outcome::of(restore.args(["restore", &env.url()]).arg(&target).env("XDG_CACHE_HOME", &small));
        Command::new("umount").arg(&small).status().unwrap();
        outcome.success();
        assert_same(&truth, &Truth::record(&target), &format!("restored with a cache of {size} KiB"));
    }
}
