//! `restore` beside the originals: under other names, by selection, in place, by other owners, in
//! words only; and in spite of errors.

use crate::support::{
    Duplicity, Encoding, Env, Forge, Kind, Member, Node, Outcome, Random, Tree, Truth, Version,
    assert_same,
};
use Version::{New, Old, Ours};
use std::os::unix::fs::MetadataExt;

const TIME: i64 = 1_785_585_600;

/// Returns the source as it is first, and as it is then.
fn sources() -> [Tree; 2] {
    let first = Tree::new(100)
        .with("docs", Node::directory(101))
        .with("docs/a", Node::file("a\n", 102))
        .with("docs/noise", Node::file(Random::new(41).bytes(2_500_000), 103))
        .with("docs/sub", Node::directory(104).mode(0o711))
        .with("docs/sub/b.txt", Node::file("b", 105))
        .with("fifo", Node::new(Kind::Fifo, 106))
        .with("gone", Node::directory(107))
        .with("gone/below", Node::file("below", 108))
        .with("link", Node::symlink("docs/a", 109))
        .with("null", Node::new(Kind::Char(1, 3), 110))
        .with("sp ace", Node::file("space", 2_000_000_000))
        .with("top.txt", Node::file("top", 111));
    let second = first
        .clone()
        .with("docs/a", Node::file("a\na\n", 202))
        .with("docs/new", Node::file("new", 203));
    [first, second]
}

/// Makes a world with a full set and an increment.
fn world(encoding: Encoding) -> Env {
    let env = encoding.env();
    let [first, second] = sources();
    let duplicity = Duplicity::new(&env, Old, encoding);
    first.write(None, &env.source());
    duplicity.full(TIME);
    second.write(Some(&first), &env.source());
    duplicity.incremental(TIME + 3600);
    env
}

/// Lets a program restore into a place of its own; returns what it said, and what is there then.
fn restore(env: &Env, version: Version, options: &[&str]) -> (Outcome, Option<Truth>) {
    let target = env.root().join(format!("restored-{version:?}"));
    remove(&target);
    let mut command = env.command(version.checked());
    command.args(["restore", "--no-encryption"]).args(options).arg(env.url()).arg(&target);
    let outcome = Outcome::of(&mut command);
    let is_folder = std::fs::symlink_metadata(&target).is_ok_and(|data| data.is_dir());
    (outcome, is_folder.then(|| Truth::record(&target).without_link_times()))
}

fn remove(target: &std::path::Path) {
    let _ = std::fs::remove_dir_all(target);
    let _ = std::fs::remove_file(target);
}

/// Fails unless we leave the tree that an original leaves, and both end well.
#[track_caller]
fn same(env: &Env, original: Version, options: &[&str]) {
    let (theirs, expected) = restore(env, original, options);
    let (ours, seen) = restore(env, Ours, options);
    assert_eq!((ours.code, theirs.code), (0, 0), "{options:?}: {ours}\n{theirs}");
    let (expected, seen) = (expected.unwrap(), seen.unwrap());
    assert!(expected.0.len() > 1, "{options:?} {theirs}");
    // The time of a folder that no backup has, made on the way to a new name, is that of its
    // making.
    let settled = |truth: Truth| {
        Truth(
            truth
                .0
                .into_iter()
                .map(|(path, mut seen)| {
                    if seen.mtime > TIME && seen.mtime != 2_000_000_000 {
                        seen.mtime = 0;
                    }
                    (path, seen)
                })
                .collect(),
        )
    };
    assert_same(&settled(expected), &settled(seen), &format!("{options:?}"));
}

#[test]
fn renames_are_those_of_both_originals() {
    let env = world(Encoding::Gzip);
    for options in [
        &["--rename", "docs/a", "renamed"][..],
        &["--rename", "docs", "new/deep"],
        &["--rename", "docs/sub", "other", "--rename", "docs", "zz/deep"],
        &["--rename", "docs", "first", "--rename", "docs", "last"],
        &["--rename", "gone/below", "below"],
        &["--rename", "nope", "foo"],
        &["--rename", ".", "foo"],
        &["-r", "docs", "--rename", "a", "b"],
        &["-r", "docs", "--rename", "docs/a", "nothing"],
        &["--time", "1785585600", "--rename", "link", "l", "--rename", "null", "n"],
    ] {
        same(&env, Old, options);
        same(&env, New, options);
    }
    // Two folders in one, which 0.8.22 crashes at.
    same(&env, New, &["--rename", "docs", "gone"]);
    same(&env, New, &["--rename", "docs", ""]);
}

/// The originals write outside the target, and lose files without a word: those of two that come to
/// one name, and those whose new folder is not there yet.
#[test]
fn renames_lead_nowhere_else_and_lose_nothing() {
    let env = world(Encoding::Gzip);
    restore(&env, Ours, &["--rename", "docs", "../evil"]).0.failure(2, &["../evil"]);
    assert!(!env.root().join("evil").exists());
    let (slashes, seen) = restore(&env, Ours, &["--rename", "/docs/", "other/"]);
    slashes.success();
    assert!(seen.unwrap().0.contains_key(&b"other/a"[..]));
    let (late, seen) =
        restore(&env, Ours, &["--rename", "docs/a", "zz/new/a", "--rename", "fifo", "gone/fifo"]);
    late.success();
    let seen = seen.unwrap();
    assert!(["zz/new/a", "gone/fifo"].iter().all(|path| seen.0.contains_key(path.as_bytes())));
    assert_eq!(
        (seen.0[&b"gone"[..]].mtime, seen.0[&b"docs"[..]].mtime),
        (107, 101),
        "folders are finished last"
    );
    let (clash, seen) = restore(&env, Ours, &["--rename", "sp ace", "top.txt"]);
    assert!(
        clash.stderr.contains("cannot restore 'sp ace'")
            ^ clash.stderr.contains("cannot restore 'top.txt'"),
        "{clash}"
    );
    assert_eq!((clash.code, seen.unwrap().0.len()), (90, sources()[1].0.len() - 1));
}

#[test]
fn selections_are_those_of_the_later_original() {
    let env = world(Encoding::Gzip);
    let list = env.fresh("list");
    std::fs::write(&list, "+ docs/a\n- docs/*\n").unwrap();
    for options in [
        &["--exclude", "**sub**"][..],
        &["--exclude", "docs"],
        &["--exclude", "./docs", "--exclude", "*.txt"],
        &["--include", "docs", "--exclude", "**"],
        &["--include", "docs/a", "--exclude", "**"],
        &["--include", "**.txt", "--exclude", "docs"],
        &["--include", "**.txt", "--exclude", "**"],
        &["--exclude-filelist", list.to_str().unwrap()],
        &["--exclude-device-files"],
        &["--exclude-older-than", "1700000000"],
        &["--exclude-regexp", "^docs/s|txt$"],
        &["--filter-literal", "--exclude", "sp ace"],
        &["--filter-ignorecase", "--exclude", "DOCS/SUB"],
        &["--time", "1785585600", "--exclude", "docs/noise", "--rename", "docs/a", "b"],
    ] {
        same(&env, New, options);
    }
    let forced = |options: &[&'static str]| [options, &["--force"]].concat();
    for (options, code) in [
        (forced(&["--exclude", "/docs"]), 14),
        (forced(&["--exclude", "docs/../gone"]), 14),
        (vec!["--exclude", "**"], 20),
    ] {
        let [(theirs, _), (ours, seen)] =
            [New, Ours].map(|version| restore(&env, version, &options));
        assert_eq!((ours.code, theirs.code), (code, code), "{options:?}: {ours}\n{theirs}");
        assert_eq!(ours.stderr.trim_end(), theirs.stderr.trim_end(), "{options:?}");
        assert!(seen.is_none(), "{options:?}: nothing is written");
    }
    // A command line that makes no sense ends with the code of 0.8.22.
    for options in [
        &forced(&["--exclude-if-present", "x"])[..],
        &forced(&["--exclude-other-filesystems"]),
        &["--files-from", list.to_str().unwrap()],
    ] {
        let [(theirs, _), (ours, seen)] =
            [New, Ours].map(|version| restore(&env, version, options));
        assert_eq!((ours.code, theirs.code), (2, 23), "{options:?}: {ours}\n{theirs}");
        let words =
            theirs.stderr.lines().next().unwrap().strip_prefix("CommandLineError: ").unwrap();
        let said = ours.stderr.lines().next().unwrap();
        assert_eq!(said.strip_prefix("error: ").unwrap_or(said), words, "{options:?}");
        assert!(seen.is_none(), "{options:?}: nothing is written");
    }
}

/// Patterns are matched against paths as they are listed, whatever path is chosen; what 3.2.1
/// refuses.
#[test]
fn a_path_and_a_selection_choose_together() {
    let env = world(Encoding::Gzip);
    for (options, expected) in [
        (
            &["-r", "docs", "--exclude", "docs/noise", "--exclude", "docs/sub"][..],
            Some(&["a", "new"][..]),
        ),
        (
            &["-r", "docs", "--include", "docs/sub", "--exclude", "**", "--force"],
            Some(&["sub", "sub/b.txt"]),
        ),
        (&["-r", "docs/sub", "--exclude", "**.txt"], Some(&[])),
        (&["-r", "docs/sub", "--exclude", "docs"], None),
        (&["-r", "top.txt", "--exclude", "**.txt"], None),
        (
            &[
                "-r",
                "docs",
                "--exclude",
                "docs/noise",
                "--exclude",
                "docs/sub",
                "--rename",
                "a",
                "b",
            ],
            Some(&["b", "new"]),
        ),
    ] {
        let (outcome, seen) = restore(&env, Ours, options);
        let names =
            seen.map(|seen| seen.0.into_keys().filter(|name| !name.is_empty()).collect::<Vec<_>>());
        let expected = expected
            .map(|names| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(
            (outcome.code, &names),
            (if expected.is_some() { 0 } else { 20 }, &expected),
            "{options:?}: {outcome}"
        );
    }
    // A file is restored as the target.
    let (outcome, _) = restore(&env, Ours, &["-r", "docs/sub/b.txt", "--exclude", "docs/a"]);
    assert_eq!(
        (outcome.code, std::fs::read(env.root().join("restored-Ours")).unwrap()),
        (0, b"b".to_vec()),
        "{outcome}"
    );
}

/// Scripts and profiles give a restore the options of their backups, by which 0.8.22 restores all,
/// and which 3.2.1 refuses.
#[test]
fn selections_of_backups_are_ignored_as_by_0_8() {
    let env = world(Encoding::Gzip);
    let source = env.source();
    let list = env.fresh("list");
    std::fs::write(&list, format!("- {}/docs\n", source.display())).unwrap();
    for (options, reason) in [
        (&["--include", source.to_str().unwrap(), "--exclude", "**"][..], "is no path in a backup"),
        (&["--exclude-filelist", list.to_str().unwrap()], "is no path in a backup"),
        (
            &["--exclude-if-present", ".nobackup"],
            "--exclude-if-present needs the files that were saved",
        ),
        (
            &["--exclude-other-filesystems", "--exclude", "**/a"],
            "--exclude-other-filesystems needs the files that were saved",
        ),
    ] {
        let [(theirs, expected), (ours, seen)] =
            [Old, Ours].map(|version| restore(&env, version, options));
        assert_eq!((ours.code, theirs.code), (0, 0), "{options:?}: {ours}\n{theirs}");
        let warning = "Command line warning: Selection options --exclude/--include";
        assert!(
            theirs.stdout.contains(warning) && ours.stdout.contains(warning),
            "{options:?}: {ours}\n{theirs}"
        );
        assert!(ours.stdout.contains(reason), "{ours}");
        assert_same(
            &expected.unwrap().without_link_times(),
            &seen.unwrap().without_link_times(),
            &format!("{options:?}"),
        );
    }
}

/// The volumes that 0.8.22 names, and nothing is written or made.
#[test]
fn a_dry_run_names_the_volumes() {
    let env = world(Encoding::Gzip);
    for options in
        [&[][..], &["-r", "docs/a"], &["-r", "top.txt"], &["-r", "docs"], &["--time", "1785585600"]]
    {
        let options = [options, &["--dry-run"]].concat();
        let [(theirs, _), (ours, seen)] =
            [Old, Ours].map(|version| restore(&env, version, &options));
        assert!(ours.stdout.contains("Required volumes to restore:\n\tduplicity-full."), "{ours}");
        assert_eq!(ours, theirs, "{options:?}");
        assert!(seen.is_none(), "{options:?}");
    }
    let source = env.source();
    env.ask_to(Encoding::Gzip, &["restore", "--dry-run"], &source)
        .failure(11, &[source.to_str().unwrap()]);
    env.ask_to(Encoding::Gzip, &["restore", "--dry-run", "-r", "nope"], &env.fresh("x"))
        .failure(19, &["nope"]);
}

/// Over a folder in use: what the backup has is as it was, the rest stays.
#[test]
fn in_place_is_as_0_8_does() {
    let env = world(Encoding::Gzip);
    let places = [Old, Ours].map(|version| {
        let place = env.root().join(format!("place-{version:?}"));
        sources()[0]
            .clone()
            .with("mine", Node::file("mine", 9))
            .with("docs/a", Node::file("spoiled", 7))
            .write(None, &place);
        let mut command = env.command(version.checked());
        let words = ["restore", "--no-encryption", "--force", "--time", "1785589200"];
        Outcome::of(command.args(words).arg(env.url()).arg(&place)).success();
        Truth::record(&place).without_link_times()
    });
    assert!(places[0].0.contains_key(&b"mine"[..]) && places[0].0.contains_key(&b"docs/new"[..]));
    assert_same(&places[0], &places[1], "in place");
}

#[test]
fn owners_are_set_as_both_originals_do() {
    let env = Env::new();
    let files =
        [("by name", 4711, "daemon"), ("by number", 4711, "no-such-name"), ("nameless", 33, "")];
    Forge::full(
        &env,
        TIME,
        &files.map(|(path, number, name)| Member::file(path, "x").user(number, name)),
    );
    let owners = |version, options: &[&str]| {
        let (outcome, truth) = restore(&env, version, options);
        let truth = truth.unwrap_or_else(|| panic!("{outcome}"));
        outcome.success();
        files.map(|(path, ..)| (truth.0[path.as_bytes()].uid, truth.0[path.as_bytes()].gid))
    };
    for (options, expected) in [
        (&[][..], [(1, 1), (4711, 4711), (33, 33)]),
        (&["--numeric-owner"], [(4711, 4711), (4711, 4711), (33, 33)]),
    ] {
        for version in [Old, New, Ours] {
            assert_eq!(owners(version, options), expected, "{version:?} {options:?}");
        }
    }
    let own = [(0, 0); 3];
    assert_eq!(
        [owners(Old, &["--do-not-restore-ownership"]), owners(New, &["--no-restore-ownership"])],
        [own; 2]
    );
    for option in ["--do-not-restore-ownership", "--no-restore-ownership"] {
        assert_eq!(owners(Ours, &[option]), own);
    }
}

/// A file that comes alone replaces an empty folder, as with the originals.
#[test]
fn one_file_under_another_name() {
    let env = world(Encoding::Gzip);
    for version in [Old, New, Ours] {
        let target = env.root().join(format!("one-{version:?}"));
        std::fs::create_dir(&target).unwrap();
        let mut command = env.command(version.checked());
        Outcome::of(
            command
                .args(["restore", "--no-encryption", "-r", "docs/a"])
                .arg(env.url())
                .arg(&target),
        )
        .success();
        assert_eq!(std::fs::read(&target).unwrap(), b"a\na\n", "{version:?}");
    }
}

/// Errors that are to be ignored are told and no failure; no file is wrong for that, and what else
/// is missing still fails.
#[test]
fn errors_are_ignored_on_request_and_nothing_is_wrong() {
    let env = world(Encoding::Gzip);
    let volume = env.store().join("duplicity-full.20260801T120000Z.vol2.difftar.gz");
    let sound = std::fs::read(&volume).unwrap();
    let mut bad = sound.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&volume, &bad).unwrap();
    let [(theirs, _), (ours, seen)] =
        [Old, Ours].map(|version| restore(&env, version, &["--ignore-errors"]));
    let told = "Running in 'ignore errors' mode due to --ignore-errors; please re-consider if this was not intended\n";
    assert!(ours.stdout.starts_with(told) && theirs.stdout.starts_with(told), "{ours}\n{theirs}");
    let ignored = "IGNORED_ERROR: Warning: ignoring error as requested: ";
    assert!(
        ours.stdout.contains(ignored) && format!("{theirs}").contains(ignored),
        "{ours}\n{theirs}"
    );
    assert_eq!((ours.code, theirs.code), (0, 0), "{ours}\n{theirs}");
    let (seen, truth) = (seen.unwrap(), Truth::of(&sources()[1]).without_link_times());
    let missing: Vec<_> = truth.0.keys().filter(|path| !seen.0.contains_key(*path)).collect();
    assert!(missing.contains(&&b"docs/noise".to_vec()) && missing.len() < 4, "{missing:?}");
    for (path, entry) in &seen.0 {
        assert_eq!(entry, &truth.0[path], "'{}'", path.escape_ascii());
    }
    for path in &missing {
        let path = std::str::from_utf8(path).unwrap();
        assert!(ours.stdout.contains(&format!("{ignored}cannot restore '{path}': ")), "{ours}");
    }
    restore(&env, Ours, &[]).0.failure(21, &["docs/noise"]);

    std::fs::remove_file(&volume).unwrap();
    let (theirs, _) = restore(&env, Old, &["--ignore-errors"]);
    assert_eq!(theirs.code, 30, "{theirs}");
    restore(&env, Ours, &["--ignore-errors"]).0.failure(90, &["docs/noise"]);
    std::fs::write(&volume, &sound).unwrap();
    restore(&env, Ours, &["--ignore-errors"]).0.success();
}

/// Restores as a root who is none outside, into a folder of this name.
fn restore_unprivileged(env: &Env, name: &str, options: &[&str]) -> Outcome {
    let mut command = env.command("unshare");
    command.args([
        "--user",
        "--map-root-user",
        Ours.checked().to_str().unwrap(),
        "restore",
        "--no-encryption",
    ]);
    Outcome::of(command.args(options).arg(env.url()).arg(env.root().join(name)))
}

/// Where owners cannot be set that is told once, and no failure; but nobody else's set-user-ID
/// program becomes root's.
#[test]
fn owners_that_cannot_be_set_are_no_failure() {
    let env = Env::new();
    let members = [
        Member::directory("dir").user(4711, "").mode(0o2775),
        Member::file("dir/file", "x").user(4711, ""),
        Member::file("dir/program", "x").user(4711, "").mode(0o6755),
        Member::file("own", "x").mode(0o4755),
    ];
    Forge::full(&env, TIME, &members);
    let outcome = restore_unprivileged(&env, "target", &[]).success();
    let warning = "the owners of 3 entries could not be set, among them that of 'dir/";
    assert_eq!(outcome.stdout.matches(warning).count(), 1, "{outcome}");
    let seen = ["dir", "dir/file", "dir/program", "own"].map(|path| {
        let seen = std::fs::metadata(env.root().join("target").join(path)).unwrap();
        (seen.mode() & 0o7777, seen.uid(), seen.mtime())
    });
    let modes = [0o775, 0o755, 0o755, 0o4755];
    assert_eq!(seen, modes.map(|mode| (mode, 0, 1_000_000_000)), "what can be set is set");
    let verified =
        env.ask_to(Encoding::Gzip, &["verify", "--compare-data"], &env.root().join("target"));
    let difference =
        "Difference found: File dir/file has permissions 0:0 755, expected 4711:4711 755\n";
    assert!(verified.stdout.contains(difference) && verified.code == 1, "{verified}");
    // Nor on request.
    let wanted = env
        .ask_to(Encoding::Gzip, &["restore", "--no-restore-ownership"], &env.fresh("wanted"))
        .success();
    assert!(!wanted.stdout.contains("owners"), "{wanted}");
    let seen = ["dir", "dir/program", "own"].map(|path| {
        let seen = std::fs::metadata(env.root().join("wanted").join(path)).unwrap();
        (seen.mode() & 0o7777, seen.uid())
    });
    assert_eq!(seen, [(0o2775, 0), (0o755, 0), (0o4755, 0)]);
}

/// Rights and times count: here those of a folder that is somebody else's already.
#[test]
fn metadata_that_cannot_be_set_is_ignored_on_request() {
    let env = Env::new();
    Forge::full(
        &env,
        TIME,
        &[Member::directory("dir").user(4711, ""), Member::file("dir/file", "x").user(4711, "")],
    );
    let run = |name: &str, options: &[&str]| {
        let dir = env.fresh(name).join("dir");
        std::fs::create_dir_all(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(4711), Some(4711)).unwrap();
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        let outcome = restore_unprivileged(&env, name, &[&["--force"], options].concat());
        assert_eq!(std::fs::read(dir.join("file")).unwrap(), b"x", "{outcome}");
        outcome
    };
    run("first", &[]).failure(
        90,
        &["cannot set the metadata of directory 'dir': ", "1 of 3 entries could not be restored"],
    );
    let ignoring = run("second", &["--ignore-errors"]).success();
    let text =
        "IGNORED_ERROR: Warning: ignoring error as requested: cannot set the metadata of 'dir': ";
    assert!(ignoring.stdout.contains(text), "{ignoring}");
    let seen = std::fs::metadata(env.root().join("second/dir/file")).unwrap();
    assert_eq!(
        (seen.mode(), seen.uid(), seen.mtime()),
        (0o100755, 0, 1_000_000_000),
        "what can be set is set"
    );
}
