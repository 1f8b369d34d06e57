//! `restore` into targets as they are: holes, folders that are read-only, file systems that refuse
//! metadata, a run that is interrupted or killed.

use crate::support::{Duplicity, Encoding, Env, Node, Outcome, Random, Tree, Version};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
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

/// Long runs of zeros take no room, in files that are whole and in those put together from deltas;
/// with `--no-sparse` they do.
#[test]
fn zeros_become_holes() {
    const ZEROS: usize = 4 << 20;
    let content = |seed| {
        [Random::new(seed).bytes(70_000), vec![0; ZEROS], Random::new(seed + 1).bytes(70_000)]
            .concat()
    };
    let first = Tree::new(100)
        .with("a", Node::file(content(1), 101))
        .with("b", Node::file(content(2), 102));
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
            assert_eq!(
                stored < ZEROS as u64 / 2,
                is_sparse,
                "{name} {option:?} takes {stored} bytes"
            );
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

/// Has the kernel refuse system calls with EPERM, as a file system does that has no such thing: all
/// of a number, or those in which the argument at an index holds one of some bits.
fn refuse(command: &mut Command, calls: &[(libc::c_long, Option<(u32, u32)>)]) {
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, answer) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_RET | libc::BPF_K);
    let (equals, holds) =
        (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);
    let (allowed, refused) = (
        line(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    );
    let mut program = Vec::new();
    for (call, bits) in calls {
        program.push(line(load, 0, 0, 0));
        match bits {
            None => program.extend([line(equals, 0, 1, *call as u32), refused]),
            Some((argument, bits)) => program.extend([
                line(equals, 0, 3, *call as u32),
                line(load, 0, 0, 16 + 8 * argument),
                line(holds, 0, 1, *bits),
                refused,
            ]),
        }
    }
    program.push(allowed);
    let install = move || {
        let filter =
            libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: prctl reads what it is given, and keeps nothing of it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const filter,
                    0,
                    0,
                ) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: two system calls, and no memory is taken.
    unsafe { command.pre_exec(install) };
}

/// What a file system like vfat, exFAT or SMB cannot hold costs no content, and is told once for
/// each kind; only what is not there is an error.
#[test]
fn metadata_that_is_refused_costs_no_content() {
    let tree = Tree::new(100)
        .with("d", Node::directory(102).mode(0o1777))
        .with("d/x", Node::file("x", 103).mode(0o640))
        .with("link", Node::symlink("x", 106))
        .with("owned", Node::file("owned", 104).owner(1000, 1000))
        .with("suid", Node::file("suid", 105).mode(0o4755));
    let env = saved(&tree);
    let restored = |name: &str, calls: &[_]| {
        let target = env.fresh(name);
        let mut command = env.dupfs(PLAIN);
        refuse(command.args(["restore", &env.url()]).arg(&target), calls);
        let outcome = Outcome::of(&mut command);
        for (name, content) in [("d/x", "x"), ("owned", "owned"), ("suid", "suid")] {
            assert_eq!(
                std::fs::read_to_string(target.join(name)).unwrap(),
                content,
                "{name}: {outcome}"
            );
        }
        (outcome, move |name: &str| target.join(name).symlink_metadata())
    };
    let mode = |found: std::io::Result<std::fs::Metadata>| found.unwrap().mode() & 0o7777;

    // The special bits alone: a folder of everybody is safe for nobody without them.
    let (outcome, at) = restored("bits", &[(libc::SYS_fchmod, Some((1, 0o7000)))]);
    assert_eq!(["d", "d/x", "suid"].map(|name| mode(at(name))), [0o755, 0o640, 0o755]);
    assert!(
        outcome.clone().success().stdout.contains("the modes of 2 entries could not be set"),
        "{outcome}"
    );

    let calls = [libc::SYS_fchmod, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_utimensat]
        .map(|call| (call, None));
    let (outcome, at) = restored("all", &calls);
    assert_eq!(["d", "d/x", "suid"].map(|name| mode(at(name))), [0o700, 0o600, 0o600]);
    for kind in ["modes", "owners", "times"] {
        assert_eq!(outcome.stdout.matches(&format!("the {kind} of ")).count(), 1, "{outcome}");
    }
    outcome.success();

    let (outcome, at) = restored("links", &[(libc::SYS_symlinkat, None)]);
    assert!(at("link").is_err());
    assert_eq!(mode(at("suid")), 0o4755);
    outcome.failure(
        90,
        &["cannot restore 'link': Operation not permitted", "1 of 6 entries could not be restored"],
    );
}

/// Returns the names in a directory that begin like what a restore keeps there for itself.
fn temporary(target: &Path) -> Vec<String> {
    let names = std::fs::read_dir(target).into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(".dupfs-"))
        .collect()
}

/// Starts a restore, sends it a signal as soon as it has begun to write, and returns how it ended.
fn interrupted(env: &Env, target: &Path, signal: Signal) -> ExitStatus {
    let mut command = env.dupfs(PLAIN);
    command.args(["restore", &env.url()]).arg(target).stdout(Stdio::null()).stderr(Stdio::null());
    let mut restore = command.spawn().unwrap();
    let start = Instant::now();
    while temporary(target).is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(60) && restore.try_wait().unwrap().is_none(),
            "nothing was begun"
        );
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
    let full =
        ["full", "--no-compression", "--volsize", "200", "--current-time", &TIME.to_string()]
            .map(String::from);
    Outcome::of(env.dupfs(PLAIN).args(full).arg(env.source()).arg(env.url())).success();
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
