//! `restore` into targets as they are: holes, folders that are read-only, a run that is interrupted or killed.

use crate::support::{Duplicity, Encoding, Env, Node, Random, Tree, Version};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

const TIME: i64 = 1_785_585_600;
const PLAIN: Encoding = Encoding::Plain;

/// Makes a world in which an original has saved a tree.
fn saved(tree: &Tree) -> Env {
    let env = PLAIN.env();
    tree.write(None, &env.source());
    Duplicity::new(&env, Version::Old, PLAIN).full(TIME);
    env
}

/// Long runs of zeros take no room, in files that are whole and in those put together from deltas; with `--no-sparse` they do.
#[test]
fn zeros_become_holes() {
    const ZEROS: usize = 4 << 20;
    let content = |seed| [Random::new(seed).bytes(70_000), vec![0; ZEROS], Random::new(seed + 1).bytes(70_000)].concat();
    let first = Tree::new(100).with("a", Node::file(content(1), 101)).with("b", Node::file(content(2), 102));
    let env = saved(&first);
    let mut edited = content(2);
    edited[ZEROS / 2] = 1;
    let second = first.clone().with("b", Node::file(edited.clone(), 202));
    second.write(Some(&first), &env.source());
    Duplicity::new(&env, Version::New, PLAIN).incremental(TIME + 3600);
    for (option, is_sparse) in [(&[][..], true), (&["--no-sparse"], false)] {
        let target = env.fresh(if is_sparse { "sparse" } else { "full" });
        env.ask_to(PLAIN, &[&["restore"], option].concat(), &target).success();
        for (name, expected) in [("a", content(1)), ("b", edited.clone())] {
            let path = target.join(name);
            assert!(std::fs::read(&path).unwrap() == expected, "{name} {option:?}");
            let stored = std::fs::metadata(&path).unwrap().blocks() * 512;
            assert_eq!(stored < ZEROS as u64 / 2, is_sparse, "{name} {option:?} takes {stored} bytes");
        }
    }
}

/// An ordinary user restores twice over folders that nobody may write to.
#[test]
fn read_only_folders_are_restored_again() {
    let closed = |node: Node| node.mode(0o555).owner(65534, 65534);
    let tree = Tree::new(100)
        .with("closed", closed(Node::directory(101)))
        .with("closed/below", closed(Node::directory(102)))
        .with("closed/below/file", Node::file("content", 103).owner(65534, 65534));
    let env = saved(&tree);
    let script = "for time in 1 2; do dupfs restore --no-encryption --force \"$url\" \"$HOME/out\"; done; cat \"$HOME/out/closed/below/file\"
        stat -c %a \"$HOME/out/closed\" \"$HOME/out/closed/below\"";
    let outcome = env.as_nobody(PLAIN, script).success();
    assert!(outcome.stdout.ends_with("content555\n555\n"), "{outcome}");
}

/// Returns the names in a directory that begin like what a restore keeps there for itself.
fn temporary(target: &Path) -> Vec<String> {
    let names = std::fs::read_dir(target).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(".dupfs-")).collect()
}

/// Starts a restore, sends it a signal as soon as it has begun to write, and returns how it ended.
fn interrupted(env: &Env, target: &Path, signal: Signal) -> ExitStatus {
    let mut command = env.dupfs(PLAIN);
    command.args(["restore", &env.url()]).arg(target).stdout(Stdio::null()).stderr(Stdio::null());
    let mut restore = command.spawn().unwrap();
    let start = Instant::now();
    while temporary(target).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60) && restore.try_wait().unwrap().is_none(), "nothing was begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_process(Pid::from_child(&restore), signal).unwrap();
    restore.wait().unwrap()
}

/// An interrupted restore leaves nothing half-done; what a killed one leaves, the next one removes.
#[test]
fn nothing_is_left_of_an_interrupted_restore() {
    let env = PLAIN.env();
    let content = Random::new(5).bytes(64 << 20);
    Tree::new(100).with("large", Node::file(content.clone(), 101)).write(None, &env.source());
    let full = ["full", "--no-compression", "--volsize", "200", "--current-time", &TIME.to_string()].map(String::from);
    crate::support::Outcome::of(env.dupfs(PLAIN).args(full).arg(env.source()).arg(env.url())).success();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let target = env.fresh(&format!("{signal:?}"));
        assert_eq!(interrupted(&env, &target, signal).code(), Some(4), "{signal:?}");
        assert_eq!(std::fs::read_dir(&target).map_or(0, Iterator::count), 0, "{signal:?}");
    }
    let target = env.fresh("killed");
    assert_eq!(interrupted(&env, &target, Signal::KILL).code(), None);
    assert!(!temporary(&target).is_empty());
    env.ask_to(PLAIN, &["restore", "--force"], &target).success();
    assert_eq!(temporary(&target), [""; 0]);
    assert!(std::fs::read(target.join("large")).unwrap() == content);
}
