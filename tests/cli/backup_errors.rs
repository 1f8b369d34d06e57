//! Backups that fail: duplicity's exit codes, what is said, and nothing written. And those that go on with a warning.

use crate::support::{Env, Node, Outcome, Tree, Truth, Version};
use Version::Ours;
use std::os::unix::fs::PermissionsExt;

const TIME: i64 = 1_785_585_600;

/// Makes a world with a source of two files.
fn world() -> Env {
    let env = Env::new();
    let tree =
        Tree::new(5).with("dir", Node::directory(6)).with("dir/inner", Node::file("inner", 7)).with("top", Node::file("top", 8));
    tree.write(None, &env.source());
    env
}

/// The table of what fails before or after anything is there.
#[test]
fn each_failure_has_its_code() {
    let env = world();
    std::fs::write(env.root().join("file"), "").unwrap();
    let list = env.root().join("list");
    std::fs::write(&list, "source/top\n").unwrap();
    let below_file = format!("file://{}/file/below", env.root().display());
    let url = env.url_of(Ours);
    let (list, url) = (list.to_str().unwrap(), &url[..]);
    let time = TIME.to_string();
    for (words, code, said) in [
        (&["full", "source"][..], 2, &["<URL>"][..]),
        (&["full", "--no-such-option", "source", url], 2, &["--no-such-option"]),
        (&["full", "--volsize", "0", "source", url], 2, &["--volsize"]),
        (&["full", "--volsize", "much", "source", url], 2, &["--volsize"]),
        (&["backup", "--full-if-older-than", "soon", "source", url], 2, &["soon"]),
        (&["full", "--exclude-older-than", "soon", "source", url], 2, &["soon"]),
        (&["full", "--exclude", "", "source", url], 2, &["--exclude"]),
        (&["full", "--short-filenames", "--old-filenames", "source", url], 2, &["--old-filenames"]),
        (&["full", "--gpg-options", "--frobnicate", "source", url], 2, &["--frobnicate"]),
        (&["full", "--exclude-filelist", "missing", "source", url], 7, &["Error opening file missing", "No such file"]),
        (&["full", "--archive-dir", "file", "source", url], 9, &["file"]),
        (&["full", "missing", url], 13, &["Backup source directory missing does not exist."]),
        (&["full", "--exclude", "/etc", "source", url], 14, &["cannot match any files in the base directory"]),
        (&["full", "--exclude", "source//top", "source", url], 15, &["Consecutive '/'s found"]),
        (&["full", "--include", "source/top", "source", url], 16, &["the expression is redundant"]),
        (&["full", "--include-filelist", list, "source", url], 16, &["the expression is redundant"]),
        (&["incremental", "--current-time", &time, "source", url], 17, &["Old signatures not found and incremental specified"]),
        (&["full", "source", "gopher://me:secret@host/x"], 23, &["gopher://me:***@host/x"]),
        (&["full", "--exclude-regexp", "(", "source", url], 30, &["Error compiling regular expression (", "parenthesis"]),
        (&["full", "--tempdir", "missing", "source", url], 30, &["missing", "not a folder"]),
        (&["full", "source", &below_file], 52, &["cannot create", "file/below"]),
        (&["full", "--exclude", "source/top", "--filter-literal", "source", url], 71, &["--filter-literal"]),
    ] {
        let outcome = Outcome::of(env.command(Ours.checked()).args(["--no-encryption", "--num-retries", "1"]).args(words));
        assert!(!outcome.stderr.contains("secret") && !outcome.stdout.contains("secret"), "{outcome}");
        let outcome = Outcome { stderr: format!("{words:?}: {}", outcome.stderr), ..outcome };
        outcome.failure(code, said);
        let is_empty = std::fs::read_dir(env.store_of(Ours)).is_ok_and(|mut files| files.next().is_none());
        assert!(!env.store_of(Ours).exists() || is_empty, "{words:?} left something in storage");
    }
}

/// Another host, another folder, a manifest that is not the one known here: nothing is stored, and the way out is said.
#[test]
fn mismatches_with_the_backup_before() {
    let env = world();
    let run = |words: &[&str]| env.type_in(Ours, &[&["--no-encryption"], words].concat());
    run(&["full", "--current-time", &TIME.to_string(), "source"]).success();
    let before = Truth::record(&env.store_of(Ours)).0.len();
    run(&["incremental", "source/dir"])
        .failure(42, &["Current directory: source/dir\nPrevious directory: source\n", "--allow-source-mismatch"]);
    // The same folder in another spelling is no other folder, which duplicity would say.
    run(&["incremental", "--dry-run", env.source().to_str().unwrap()]).success();
    run(&["full", "--dry-run", "source/dir"]).success();

    let name = "duplicity-full.20260801T120000Z.manifest";
    let rewrite = |place: std::path::PathBuf, host: &str| {
        let text = std::fs::read_to_string(place.join(name)).unwrap();
        let rest = text.split_once('\n').unwrap().1.to_string();
        std::fs::write(place.join(name), format!("Hostname {host}\n{rest}")).unwrap();
    };
    rewrite(env.store_of(Ours), "elsewhere.example");
    run(&["incremental", "source"]).failure(5, &["Remote manifest does not match local one."]);
    rewrite(env.archive_of(Ours), "elsewhere.example");
    run(&["incremental", "source"]).failure(3, &["Previous hostname: elsewhere.example", "--allow-source-mismatch"]);
    assert_eq!(Truth::record(&env.store_of(Ours)).0.len(), before);
    rewrite(env.store_of(Ours), "third.example");
    run(&["incremental", "--no-check-remote", "--allow-source-mismatch", "source"]).success();
}

/// One at a time on an archive directory, whoever it is.
#[test]
fn a_lock_is_respected() {
    let env = world();
    let archive = env.archive_of(Ours);
    std::fs::create_dir_all(&archive).unwrap();
    let script = "import fcntl, sys\nf = open(sys.argv[1], 'a')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()";
    let mut holder = env.command("python3");
    holder.args(["-c", script]).arg(archive.join("lockfile"));
    holder.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
    let run = || env.type_in(Ours, &["full", "--no-encryption", "source"]);
    run().failure(23, &["Another duplicity instance is already running with this archive directory", "lockfile"]);
    assert!(!env.store_of(Ours).exists());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    run().success();
    assert!(!archive.join("lockfile").exists());
}

/// Prepares dupfs to be run by `nobody`, who owns caches and a store, and may read the source but for what is closed to him.
fn as_nobody(env: &Env, words: &[&str]) -> Outcome {
    let program = env.root().join("dupfs");
    if !program.exists() {
        std::fs::copy(Ours.checked(), &program).unwrap();
    }
    std::fs::create_dir_all(env.store_of(Ours)).unwrap();
    for place in [env.cache(), env.home(), env.store_of(Ours)] {
        std::os::unix::fs::chown(place, Some(crate::support::NOBODY), Some(crate::support::NOBODY)).unwrap();
    }
    let words: Vec<_> = words.iter().map(|word| std::ffi::OsStr::new(*word)).collect();
    env.nobody_runs(program.to_str().unwrap(), &words)
}

/// What cannot be read is named, counted, and left out; the rest is stored, and the backup counts as made.
#[test]
fn unreadable_entries_are_told() {
    let env = world();
    let close =
        |path: &str, mode: u32| std::fs::set_permissions(env.source().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    close("top", 0o600);
    let url = env.url_of(Ours);
    let run = |words: &[&str]| as_nobody(&env, &[words, &["--no-encryption", "source", &url]].concat()).success().stdout;
    let first = run(&["full", "--current-time", &TIME.to_string()]);
    assert!(first.contains("Error accessing possibly locked file source/top: "), "{first}");
    assert!(first.contains("\nErrors 1\n") && first.contains("\nSourceFiles 3\n"), "{first}");
    assert!(first.ends_with("1 paths could not be read and are not in this backup; each is named above\n"), "{first}");
    close("dir", 0o700);
    let second = run(&["incremental"]);
    assert!(second.contains("locked file source/dir: ") && second.contains("\nErrors 2\n"), "{second}");
    close("dir", 0o755);
    close("top", 0o644);
    let third = run(&["incremental"]);
    assert!(third.contains("\nErrors 0\n") && !third.contains("could not be read"), "{third}");
    let target = env.fresh("target");
    Outcome::of(env.command(Ours.checked()).args(["restore", "--no-encryption", &url]).arg(&target)).success();
    assert_eq!(std::fs::read(target.join("top")).unwrap(), b"top");
    assert_eq!(std::fs::read(target.join("dir/inner")).unwrap(), b"inner");
}

/// Storage or archive directory that must not be written.
#[test]
fn closed_places() {
    let env = world();
    std::fs::create_dir(env.root().join("closed")).unwrap();
    let closed = format!("file://{}/closed", env.root().display());
    let new = format!("{closed}/new");
    let retries = ["--no-encryption", "--num-retries", "2", "--backend-retry-delay", "0"];
    for url in [&closed, &new] {
        as_nobody(&env, &[&["full", "source", url], &retries[..]].concat()).failure(51, &["closed", "Permission denied"]);
    }
    let archive = env.root().join("closed/archive");
    let url = env.url_of(Ours);
    let words = ["full", "--no-encryption", "--archive-dir", archive.to_str().unwrap(), "source", &url];
    as_nobody(&env, &words).failure(9, &["closed/archive", "Permission denied"]);
}

/// Ctrl-C ends with duplicity's code, and the next run goes on.
#[test]
fn an_interrupted_backup_goes_on() {
    let env = world();
    std::fs::write(env.source().join("big"), vec![7; 8 << 20]).unwrap();
    let options = ["--no-encryption", "--no-compression", "--volsize", "1", "--no-print-statistics", "source"];
    env.type_in(Ours, &[&["full", "--fail-on-volume", "3"], &options[..]].concat()).failure(30, &["told to fail on volume 3"]);
    let said = env.type_in(Ours, &[&["full"], &options[..]].concat()).success().stdout;
    assert!(
        said.contains("Last full backup left a partial set, restarting.") && said.contains("Restarting backup at volume 3."),
        "{said}"
    );
}

/// Ctrl-C while a passphrase is asked for.
#[test]
fn ctrl_c_has_a_code_of_its_own() {
    let env = world();
    let mut command = env.command(Ours.checked());
    command.args(["full", "source", &env.url_of(Ours)]);
    // What the terminal makes of Ctrl-C is a signal.
    let script = "import os, pty, signal, sys\npid, fd = pty.fork()\nif pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\nseen = b''\n\
        while not seen.endswith(b'decryption: '): seen += os.read(fd, 4096)\nos.kill(pid, signal.SIGINT)\n\
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let mut python = env.command("python3");
    let outcome = Outcome::of(python.args(["-c", script]).arg(command.get_program()).args(command.get_args()));
    assert_eq!(outcome.code, 4, "{outcome}");
}

/// The help of each command ends with the codes.
#[test]
fn help_ends_with_the_codes() {
    let env = Env::new();
    for command in ["backup", "full", "incremental", "restore"] {
        let said = Outcome::of(env.command(Ours.checked()).args([command, "--help"])).success().stdout;
        let codes = &said[said.find("Exit codes:\n").unwrap_or_else(|| panic!("{said}"))..];
        for line in ["\n   0  done", "\n  17  no signatures", "\n  31  wrong passphrase", "\n  90  "] {
            assert!(codes.contains(line), "{codes}");
        }
        for option in ["--volsize", "--full-if-older-than", "--exclude-if-present", "--jsonstat"] {
            assert!(said.contains(option), "{said}");
        }
    }
}
