//! Backups that fail: duplicity's exit codes, what is said, and nothing written. And those that go
//! on with a warning.

use crate::support::{Env, Node, Outcome, Tree, Truth, Version};
use Version::{Old, Ours};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

const TIME: i64 = 1_785_585_600;

/// Makes a world with a source of two files.
fn world() -> Env {
    let env = Env::new();
    let tree = Tree::new(5)
        .with("dir", Node::directory(6))
        .with("dir/inner", Node::file("inner", 7))
        .with("top", Node::file("top", 8));
    tree.write(None, &env.source());
    env
}

/// Options without sense, beyond the classes of failures that all programs share.
#[test]
fn options_without_sense_have_their_codes() {
    let env = world();
    std::fs::write(env.root().join("list"), "source/top\n").unwrap();
    for (words, code, said) in [
        // The originals make volumes of nothing, and never end.
        (&["--volsize", "0"][..], 2, "--volsize"),
        (&["--exclude", ""], 2, "--exclude"),
        (&["--short-filenames", "--old-filenames"], 2, "--old-filenames"),
        (&["--gpg-options", "--frobnicate"], 2, "--frobnicate"),
        (&["--include-filelist", "list"], 16, "the expression is redundant"),
        (&["--exclude", "source/top", "--filter-literal"], 71, "--filter-literal"),
    ] {
        env.type_in(Ours, &[&["full", "--no-encryption"], words, &["source"]].concat())
            .failure(code, &[said]);
        assert!(!env.store_of(Ours).exists(), "{words:?} left something in storage");
    }
}

/// Another host, another folder, a manifest that is not the one known here: nothing is stored, and
/// the way out is said.
#[test]
fn mismatches_with_the_backup_before() {
    let env = world();
    let run = |words: &[&str]| env.type_in(Ours, &[&["--no-encryption"], words].concat());
    run(&["full", "--current-time", &TIME.to_string(), "source"]).success();
    let before = Truth::record(&env.store_of(Ours)).0.len();
    run(&["incremental", "source/dir"]).failure(
        42,
        &["Current directory: source/dir\nPrevious directory: source\n", "--allow-source-mismatch"],
    );
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
    run(&["incremental", "source"])
        .failure(3, &["Previous hostname: elsewhere.example", "--allow-source-mismatch"]);
    assert_eq!(Truth::record(&env.store_of(Ours)).0.len(), before);
    // The same host under its full name, or its short one.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let other = host
        .split_once('.')
        .map_or(format!("{}.example.org", host.trim()), |(short, _)| short.to_string());
    [env.store_of(Ours), env.archive_of(Ours)].into_iter().for_each(|place| rewrite(place, &other));
    run(&["incremental", "--dry-run", "source"]).success();
    rewrite(env.store_of(Ours), "third.example");
    run(&["incremental", "--no-check-remote", "--allow-source-mismatch", "source"]).success();
}

/// One at a time on an archive directory, whoever it is.
#[test]
fn a_lock_is_respected() {
    let env = world();
    let archive = env.archive_of(Ours);
    std::fs::create_dir_all(&archive).unwrap();
    let holder = env.hold(&archive);
    let run = || env.type_in(Ours, &["full", "--no-encryption", "source"]);
    run().failure(
        23,
        &["Another duplicity instance is already running with this archive directory", "lockfile"],
    );
    assert!(!env.store_of(Ours).exists());
    drop(holder);
    run().success();
    assert!(!archive.join("lockfile").exists());
}

/// Prepares dupfs to be run by `nobody`, who owns caches and a store, and may read the source but
/// for what is closed to him.
fn as_nobody(env: &Env, words: &[&str]) -> Outcome {
    let program = env.root().join("dupfs");
    if !program.exists() {
        std::fs::copy(Ours.checked(), &program).unwrap();
    }
    std::fs::create_dir_all(env.store_of(Ours)).unwrap();
    for place in [env.cache(), env.home(), env.store_of(Ours)] {
        std::os::unix::fs::chown(place, Some(crate::support::NOBODY), Some(crate::support::NOBODY))
            .unwrap();
    }
    let words: Vec<_> = words.iter().map(|word| std::ffi::OsStr::new(*word)).collect();
    env.nobody_runs(program.to_str().unwrap(), &words)
}

/// What cannot be read is named, counted, and left out; the rest is stored, and the backup counts
/// as made.
#[test]
fn unreadable_entries_are_told() {
    let env = world();
    let close = |path: &str, mode: u32| {
        std::fs::set_permissions(env.source().join(path), std::fs::Permissions::from_mode(mode))
            .unwrap()
    };
    close("top", 0o600);
    let url = env.url_of(Ours);
    let run = |words: &[&str]| {
        as_nobody(&env, &[words, &["--no-encryption", "source", &url]].concat()).success().stdout
    };
    let first = run(&["full", "--current-time", &TIME.to_string()]);
    assert!(first.contains("Error accessing possibly locked file source/top: "), "{first}");
    assert!(first.contains("\nErrors 1\n") && first.contains("\nSourceFiles 3\n"), "{first}");
    assert!(
        first.ends_with(
            "1 paths could not be read and are not in this backup; each is named above\n"
        ),
        "{first}"
    );
    close("dir", 0o700);
    let second = run(&["incremental"]);
    assert!(
        second.contains("locked file source/dir: ") && second.contains("\nErrors 2\n"),
        "{second}"
    );
    close("dir", 0o755);
    close("top", 0o644);
    let third = run(&["incremental"]);
    assert!(third.contains("\nErrors 0\n") && !third.contains("could not be read"), "{third}");
    let target = env.fresh("target");
    Outcome::of(
        env.command(Ours.checked()).args(["restore", "--no-encryption", &url]).arg(&target),
    )
    .success();
    assert_eq!(std::fs::read(target.join("top")).unwrap(), b"top");
    assert_eq!(std::fs::read(target.join("dir/inner")).unwrap(), b"inner");
}

/// What is closed for once counts as deleted, as by duplicity, with all below it; but who asks for
/// it keeps what the backup before has.
#[test]
fn what_cannot_be_read_may_keep_its_last_content() {
    let env = world();
    let close = |path: &str, mode: u32| {
        std::fs::set_permissions(env.source().join(path), std::fs::Permissions::from_mode(mode))
            .unwrap()
    };
    let url = env.url_of(Ours);
    let run = |words: &[&str]| {
        as_nobody(&env, &[words, &["--no-encryption", "source", &url]].concat()).success().stdout
    };
    let restored = || {
        let target = env.fresh("target");
        Outcome::of(
            env.command(Ours.checked()).args(["restore", "--no-encryption", &url]).arg(&target),
        )
        .success();
        let paths = Truth::record(&target)
            .0
            .into_keys()
            .map(|path| String::from_utf8(path).unwrap())
            .collect::<Vec<_>>();
        std::fs::remove_dir_all(&target).unwrap();
        paths
    };
    let at = |seconds: i64| (TIME + seconds).to_string();
    run(&["full", "--current-time", &at(0)]);
    let all = restored();
    close("dir", 0o700);
    close("top", 0o600);
    std::fs::write(env.source().join("new"), "new").unwrap();
    let kept = run(&["incremental", "--keep-unreadable", "--current-time", &at(10)]);
    assert!(kept.contains("\nErrors 2\n") && kept.contains("\nDeletedFiles 0\n"), "{kept}");
    let with_new = restored();
    assert_eq!(with_new.len(), all.len() + 1, "{with_new:?}");
    // What is really gone is gone.
    std::fs::remove_file(env.source().join("new")).unwrap();
    run(&["incremental", "--keep-unreadable", "--current-time", &at(20)]);
    assert_eq!(restored(), all);
    let lost = run(&["incremental", "--current-time", &at(30)]);
    assert!(lost.contains("\nDeletedFiles 3\n"), "{lost}");
}

/// Files whose size is not that of their content, as in procfs: stored to their end, as by both
/// originals, and verified so.
#[test]
fn files_are_read_to_their_end() {
    let env = Env::new();
    let source = "/proc/sys/fs/inotify";
    for version in [Version::Old, Ours] {
        env.type_in(version, &["full", "--no-encryption", source]).success();
    }
    let expected = std::fs::read(format!("{source}/max_user_watches")).unwrap();
    for version in [Version::Old, Ours] {
        let target = env.fresh("target");
        let run = |words: &[&std::ffi::OsStr]| {
            Outcome::of(
                env.command(Ours.checked())
                    .args(words)
                    .arg("--no-encryption")
                    .arg(env.url_of(version))
                    .arg(if words[0] == "restore" { target.as_os_str() } else { source.as_ref() }),
            )
        };
        run(&["restore".as_ref()]).success();
        assert_eq!(
            std::fs::read(target.join("max_user_watches")).unwrap(),
            expected,
            "{version:?}"
        );
        let verified = run(&["verify".as_ref(), "--compare-data".as_ref()]);
        assert!(
            verified.stdout.contains("Verify complete")
                && !verified.stdout.contains("Data for file"),
            "{verified}"
        );
        std::fs::remove_dir_all(&target).unwrap();
    }
}

/// What this program itself leaves in a source is not saved: mounts of backups, of which nothing is
/// asked, and its cache.
#[test]
fn own_traces_are_left_out() {
    let env = world();
    let mut command = env.command(Ours.checked());
    command.args([
        "full",
        "--no-encryption",
        "--current-time",
        &TIME.to_string(),
        "source",
        &env.url(),
    ]);
    Outcome::of(&mut command).success();
    let point = env.source().join("dir/mounted");
    std::fs::create_dir(&point).unwrap();
    let mut command = env.command(Ours.checked());
    command.args(["mount", "--foreground", "--no-encryption", &env.url()]).arg(&point);
    let mount = crate::support::Mounted::start(command, &point);
    // Nobody serves it any more, so that whoever asks it for anything waits.
    mount.signal(rustix::process::Signal::STOP);
    std::fs::create_dir_all(env.source().join("cache")).unwrap();
    let mut command = env.command("timeout");
    command.args([
        "30",
        Ours.checked().to_str().unwrap(),
        "incremental",
        "--no-encryption",
        "source",
        &env.url(),
    ]);
    command.env("XDG_CACHE_HOME", env.source().join("cache"));
    let outcome = Outcome::of(&mut command);
    mount.signal(rustix::process::Signal::CONT);
    let said = outcome.success().stdout;
    assert!(
        said.contains("Leaving out 'source/dir/mounted': backups are mounted there."),
        "{said}"
    );
    let mut command = env.command(Ours.checked());
    command
        .args(["full", "--no-encryption", "source", &env.url()])
        .env("XDG_CACHE_HOME", env.source().join("cache"));
    let said = Outcome::of(&mut command).success().stdout;
    assert!(
        said.contains("Leaving out 'source/cache/dupfs': it is the cache of this program."),
        "{said}"
    );
    drop(mount);
    let listed = Outcome::of(env.command(Ours.checked()).args([
        "list-current-files",
        "--no-encryption",
        &env.url(),
    ]))
    .success()
    .stdout;
    assert!(
        listed.contains("dir/inner")
            && !listed.contains("mounted/")
            && !listed.contains("cache/dupfs"),
        "{listed}"
    );
    // A link as source is stored as such, which hardly anybody wants.
    std::os::unix::fs::symlink("source", env.root().join("link")).unwrap();
    let said = env.type_in(Ours, &["full", "--no-encryption", "link"]).success().stdout;
    assert!(
        said.contains("the source 'link' is a symbolic link") && said.contains("--copy-links"),
        "{said}"
    );
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
        as_nobody(&env, &[&["full", "source", url], &retries[..]].concat())
            .failure(51, &["closed", "Permission denied"]);
    }
    let archive = env.root().join("closed/archive");
    let url = env.url_of(Ours);
    let words =
        ["full", "--no-encryption", "--archive-dir", archive.to_str().unwrap(), "source", &url];
    as_nobody(&env, &words).failure(9, &["closed/archive", "Permission denied"]);
}

/// Ctrl-C and its like end with duplicity's code; what was being stored is stored or gone, and the
/// next run goes on behind it.
#[test]
fn a_backup_that_is_told_to_end_leaves_no_half_file() {
    let env = world();
    let big = std::fs::File::create(env.source().join("big")).unwrap();
    (0..200u8).for_each(|number| (&big).write_all(&[number; 1 << 20]).unwrap());
    let options = ["--no-encryption", "--no-compression", "--volsize", "1"];
    let stored = || {
        let names = std::fs::read_dir(env.store_of(Ours)).into_iter().flatten();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let volumes = || stored().iter().filter(|name| name.starts_with("duplicity-full.")).count();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let before = volumes();
        let mut command = env.command(Ours.checked());
        command.arg("full").args(options).arg("source").arg(env.url_of(Ours));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut backup = command.spawn().unwrap();
        while volumes() < before + 3 {
            assert!(backup.try_wait().unwrap().is_none(), "{signal:?}: it has ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&backup), signal).unwrap();
        let output = backup.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{signal:?}: {said}");
        assert!(said.contains("interrupted; run this again to go on from here"), "{said}");
        let left = stored();
        assert!(left.iter().all(|name| name.contains(".vol")), "{signal:?}: {left:?}");
        assert!(!left.iter().any(|name| name.starts_with('.')), "{signal:?}: {left:?}");
    }
    let words = [&["full"], &options[..], &["--no-print-statistics", "source"]].concat();
    let said = env.type_in(Ours, &words).success().stdout;
    assert!(said.contains("Restarting backup at volume "), "{said}");
    let url = env.url_of(Ours);
    let verify = ["verify", "--compare-data", "--no-encryption", &url, "source"];
    Outcome::of(env.command(Old.checked()).args(verify)).success();
}

/// A session that has failed is gone on with.
#[test]
fn an_interrupted_backup_goes_on() {
    let env = world();
    std::fs::write(env.source().join("big"), vec![7; 8 << 20]).unwrap();
    let options = [
        "--no-encryption",
        "--no-compression",
        "--volsize",
        "1",
        "--no-print-statistics",
        "source",
    ];
    env.type_in(Ours, &[&["full", "--fail-on-volume", "3"], &options[..]].concat())
        .failure(30, &["told to fail on volume 3"]);
    let said = env.type_in(Ours, &[&["full"], &options[..]].concat()).success().stdout;
    assert!(
        said.contains("Last full backup left a partial set, restarting.")
            && said.contains("Restarting backup at volume 4."),
        "{said}"
    );
}

/// A volume that is not in storage in the end is found before the manifest is stored, and the next
/// run stores it anew.
#[test]
fn a_volume_that_was_not_stored_is_found() {
    let env = world();
    std::fs::write(env.source().join("big"), vec![7; 3 << 20]).unwrap();
    let options = [
        "--no-encryption",
        "--no-compression",
        "--volsize",
        "1",
        "--no-print-statistics",
        "source",
    ];
    let skipped = [&["full", "--skip-volume", "2"], &options[..]].concat();
    env.type_in(Ours, &skipped).failure(44, &["vol2.difftar was corrupted during upload"]);
    env.type_in(Ours, &[&["full"], &options[..]].concat()).success();
    let url = env.url_of(Ours);
    Outcome::of(env.command(Ours.checked()).args([
        "verify",
        "--no-encryption",
        "--compare-data",
        &url,
        "source",
    ]))
    .success();
}

/// The help of each command ends with the codes.
#[test]
fn help_ends_with_the_codes() {
    let env = Env::new();
    for command in ["backup", "full", "incremental", "restore"] {
        let said =
            Outcome::of(env.command(Ours.checked()).args([command, "--help"])).success().stdout;
        let codes = &said[said.find("Exit codes:\n").unwrap_or_else(|| panic!("{said}"))..];
        for line in [
            "\n   0  done",
            "\n  17  no signatures",
            "\n  31  wrong passphrase",
            "\n  90  ",
            "\n  91  ",
        ] {
            assert!(codes.contains(line), "{codes}");
        }
        for option in ["--volsize", "--full-if-older-than", "--exclude-if-present", "--jsonstat"] {
            assert!(said.contains(option), "{said}");
        }
    }
}
