//! `backup`, `full` and `incremental` beside the originals: what is printed, what is stored under
//! which name, what a dry run leaves alone.

use crate::support::{Env, Node, Outcome, Tree, Truth, Version, assert_same};
use Version::{New, Old, Ours};
use std::collections::BTreeMap;
use std::path::Path;

const TIME: i64 = 1_785_585_600;
const PLAIN: &str = "--no-encryption";

/// Returns a source as it is first, and as it is then: files changed, gone, new, a directory that
/// has become a file.
fn sources() -> [Tree; 2] {
    let noise: Vec<u8> =
        (0..30_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let mut edited = noise.clone();
    edited[50_000..50_100].fill(7);
    let first = Tree::new(100)
        .with("docs", Node::directory(101))
        .with("docs/grown", Node::file("one\n", 102))
        .with("docs/noise", Node::file(noise, 103))
        .with("empty", Node::file("", 104))
        .with("fifo", Node::new(crate::support::Kind::Fifo, 105))
        .with("gone", Node::directory(106))
        .with("gone/below", Node::file("below", 107))
        .with("link", Node::symlink("docs/grown", 108))
        .with("turns", Node::directory(109))
        .with("ünï 'q'", Node::file("name", 110));
    let mut second = first
        .clone()
        .with("docs/grown", Node::file("one\ntwo\n", 202))
        .with("docs/noise", Node::file(edited, 203));
    second.0.retain(|path, _| !path.starts_with(b"gone"));
    let second = second
        .with("turns", Node::file("turned", 209))
        .with("new", Node::file("new", 210))
        .with("link", Node::symlink("x", 211));
    [first, second]
}

/// Makes a world with the first source.
fn world() -> Env {
    let env = Env::new();
    sources()[0].write(None, &env.source());
    env
}

/// Returns what a program said without what may differ: times, sizes of what is stored, other
/// places, and what 3.2.1 adds or leaks.
fn normal(env: &Env, version: Version, said: &str) -> Vec<String> {
    let digits = |line: &str| {
        line.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect::<String>()
    };
    let moment = |line: &str| {
        let mut words: Vec<_> = digits(line).split_whitespace().map(String::from).collect();
        words
            .iter_mut()
            .filter(|word| word.starts_with('(') || word.len() == 3)
            .for_each(|word| *word = "Day".into());
        words.join(" ")
    };
    let line = |line: &str| match line.split(' ').next().unwrap_or_default() {
        "StartTime" | "EndTime" => moment(line),
        "ElapsedTime" => digits(line),
        "TotalDestinationSizeChange" => "TotalDestinationSizeChange".into(),
        _ => line
            .replace(env.archive_of(version).to_str().unwrap(), "ARCHIVE")
            .replace(&format!("store-{version:?}"), "STORE")
            .replace("b'", "'")
            .replace(['\''], ""),
    };
    let is_extra = |line: &&str| {
        line.starts_with("DEBUG:")
            || *line == "Duplicity backup complete."
            || line.starts_with("No valid action found.")
    };
    said.lines().filter(|line| !is_extra(line)).map(line).collect()
}

/// Runs the same line with two programs, and fails unless they say the same and end alike.
#[track_caller]
fn same(env: &Env, original: Version, words: &[&str]) -> Outcome {
    let theirs = env.type_in(original, words);
    // The implied action has a name with us.
    let has_action = words.iter().any(|word| ["full", "incremental"].contains(word));
    let ours = env.type_in(Ours, &[if has_action { &[][..] } else { &["backup"] }, words].concat());
    let stdout = |version: Version, outcome: &Outcome| {
        let mut lines = normal(env, version, &outcome.stdout);
        // The original counts directories twice when it only looks.
        lines.retain(|line| !words.contains(&"--dry-run") || !line.starts_with("SourceFiles "));
        lines
    };
    assert_eq!(stdout(Ours, &ours), stdout(original, &theirs), "{words:?}: {ours}\n{theirs}");
    assert_eq!(
        normal(env, Ours, &ours.stderr),
        normal(env, original, &theirs.stderr),
        "{words:?}: {ours}\n{theirs}"
    );
    assert_eq!(ours.code, theirs.code, "{words:?}: {ours}\n{theirs}");
    ours
}

/// Returns all files below a place with their contents.
fn files(place: &Path) -> BTreeMap<Vec<u8>, crate::support::Content> {
    Truth::record(place).0.into_iter().map(|(path, seen)| (path, seen.content)).collect()
}

fn names(place: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The words of whole runs, statistics among them, are those of 0.8.22: first run, increments,
/// fulls for a reason, dry runs, lost and stale archive directories, another source.
#[test]
fn runs_say_what_the_original_says() {
    let env = world();
    let quiet = "--no-print-statistics";
    let at = |seconds: i64| (TIME + seconds).to_string();
    let run = |seconds: i64, words: &[&str]| {
        same(&env, Old, &[&[PLAIN, "--current-time", &at(seconds)], words, &["source"]].concat())
    };
    run(0, &["incremental"]).failure(17, &["Old signatures not found"]);
    run(0, &[]).success();
    sources()[1].write(Some(&sources()[0]), &env.source());
    run(5, &["--dry-run"]).success();
    let increment = run(10, &[]).success();
    assert!(
        increment.stdout.contains("\nChangedFiles 2\n")
            && increment.stdout.contains("\nErrors 0\n"),
        "{increment}"
    );
    run(20, &["incremental"]).success();
    run(30, &["full", quiet]).success();
    run(100, &["incremental", quiet, "--full-if-older-than", &at(90)]).success();
    run(110, &[quiet, "--full-if-older-than", &at(90)]).success();
    run(
        120,
        &[
            "full",
            quiet,
            "--dry-run",
            "--allow-source-mismatch",
            "--volsize",
            "25",
            "--asynchronous-upload",
        ],
    )
    .success();

    let archives = [Old, Ours].map(|version| env.archive_of(version));
    for archive in &archives {
        names(archive)
            .iter()
            .filter(|name| name.contains("T1201"))
            .for_each(|name| std::fs::remove_file(archive.join(name)).unwrap());
        std::fs::write(archive.join("duplicity-full.20200101T000000Z.manifest"), "stale").unwrap();
    }
    run(130, &["incremental", quiet, "--dry-run"]).success();
    let synchronised = run(140, &["incremental", quiet]).success();
    assert!(
        synchronised.stdout.contains("to local cache.")
            && synchronised.stdout.contains("(not authoritative at backend).")
    );
    archives.iter().for_each(|archive| std::fs::remove_dir_all(archive).unwrap());
    run(150, &["incremental", quiet]).success();

    let other = ["incremental", quiet, PLAIN, "--current-time", &at(160), "source/docs"];
    same(&env, Old, &other).failure(42, &["--allow-source-mismatch"]);
    same(&env, Old, &[&["--allow-source-mismatch"], &other[..]].concat()).success();
}

/// What 3.x has added is said as 3.2.1 says it.
#[test]
fn later_options_say_what_the_later_original_says() {
    let env = world();
    let run = |seconds: i64, words: &[&str]| {
        let time = (TIME + seconds).to_string();
        same(
            &env,
            New,
            &[words, &[PLAIN, "--no-print-statistics", "--current-time", &time, "source"]].concat(),
        )
        .success()
    };
    run(0, &[]);
    run(10, &["incremental", "--full-if-n-inc", "1"]);
    assert!(
        run(20, &["incremental", "--full-if-n-inc", "1"])
            .stdout
            .contains("Latest chain has too many incrementals")
    );
    let before = files(&env.store_of(Ours));
    assert!(
        run(30, &["incremental", "--skip-if-no-change"])
            .stdout
            .contains("Skipped volume upload, as effectivly nothing has changed")
    );
    assert_eq!(files(&env.store_of(Ours)), before);
    // The later original does not synchronise for a full backup.
    let full = [
        "full",
        "--skip-if-no-change",
        PLAIN,
        "--current-time",
        &(TIME + 40).to_string(),
        "source",
    ];
    [New, Ours].into_iter().for_each(|version| drop(env.type_in(version, &full).success()));
    assert_ne!(files(&env.store_of(Ours)), before);
    sources()[1].write(Some(&sources()[0]), &env.source());
    run(50, &["incremental", "--skip-if-no-change"]);
}

/// Where there is no full backup, it is too old: a line for cron that asks for increments begins
/// with a full one.
#[test]
fn no_full_backup_is_older_than_any_time() {
    for action in [&["incremental"][..], &[]] {
        let env = world();
        let said = |version: Version| {
            let words =
                [action, &["--full-if-older-than", "1M", PLAIN, "--no-print-statistics", "source"]]
                    .concat();
            let said = env.type_in(version, &words).success().stdout;
            let chosen = |line: &&str| {
                ["Last full backup is", "No signatures"].iter().any(|start| line.starts_with(start))
            };
            said.lines().filter(chosen).map(str::to_string).collect::<Vec<_>>()
        };
        for version in [Old, New, Ours] {
            assert_eq!(
                said(version),
                ["Last full backup is too old, forcing full backup"],
                "{version:?} {action:?}"
            );
            assert!(
                names(&env.store_of(version))
                    .iter()
                    .any(|name| name.starts_with("duplicity-full.")),
                "{version:?}"
            );
            assert!(said(version).is_empty(), "{version:?} {action:?}: an increment");
        }
    }
}

/// The statistics of both originals are ours, a full backup and an increment.
#[test]
fn statistics_are_those_of_both_originals() {
    let env = world();
    let block = |version: Version, action: &str, time: i64| {
        let said = env
            .type_in(version, &[action, PLAIN, "--current-time", &time.to_string(), "source"])
            .success()
            .stdout;
        let start = said
            .find("--------------[ Backup Statistics ]--------------\n")
            .unwrap_or_else(|| panic!("{said}"));
        let end = said
            .find("\n-------------------------------------------------\n\n")
            .unwrap_or_else(|| panic!("{said}"));
        let block = &said[start..end];
        let stored = block
            .lines()
            .find_map(|line| line.strip_prefix("TotalDestinationSizeChange "))
            .unwrap();
        assert!(
            stored.split_once(" (").unwrap().0.parse::<u64>().is_ok() && stored.ends_with([')']),
            "{stored}"
        );
        normal(&env, version, block)
    };
    for (number, action) in ["full", "incremental"].into_iter().enumerate() {
        let [ours, old, new] =
            [Ours, Old, New].map(|version| block(version, action, TIME + 10 * number as i64));
        assert_eq!(ours, old, "{action}");
        assert_eq!(ours, new, "{action}");
        assert_eq!(ours.len(), 16, "{ours:?}");
        if action == "full" {
            sources()[1].write(Some(&sources()[0]), &env.source());
        }
    }
}

/// At -v5 each path has its line, and so has what is left out.
#[test]
fn paths_are_told_at_level_info() {
    let env = world();
    let told = |version: Version, words: &[&str]| -> Vec<String> {
        let said =
            env.type_in(version, &[words, &[PLAIN, "-v5", "source"]].concat()).success().stdout;
        let starts = ["A ", "M ", "D ", "Skipping socket ", "Writing ", "Processed volume "];
        said.lines()
            .filter(|line| starts.iter().any(|start| line.starts_with(start)))
            .map(String::from)
            .collect()
    };
    let _socket = std::os::unix::net::UnixListener::bind(env.source().join("socket")).unwrap();
    let first = told(Ours, &["full", "--current-time", &TIME.to_string()]);
    assert_eq!(first, told(Old, &["full", "--current-time", &TIME.to_string()]));
    assert!(first.contains(&"Skipping socket source/socket".to_string()), "{first:?}");
    sources()[1].write(Some(&sources()[0]), &env.source());
    for (number, options) in
        [&["--dry-run"][..], &[], &["--exclude", "source/docs"], &["--copy-links"]]
            .into_iter()
            .enumerate()
    {
        let time = (TIME + 10 * (number as i64 + 1)).to_string();
        let words = [&["incremental", "--current-time", &time], options].concat();
        assert_eq!(told(Ours, &words), told(Old, &words), "{options:?}");
    }
}

/// A dry run leaves collection, archive directory and source as they are, and makes no collection.
#[test]
fn a_dry_run_changes_nothing() {
    let env = world();
    let dry = |words: &[&str]| {
        env.type_in(Ours, &[words, &["--dry-run", PLAIN, "source"]].concat()).success()
    };
    dry(&["full", "--jsonstat", "--progress"]);
    assert!(!env.store_of(Ours).exists());
    assert!(names(&env.archive_of(Ours)).is_empty());
    env.type_in(Ours, &["full", PLAIN, "source"]).success();
    sources()[1].write(Some(&sources()[0]), &env.source());
    for damage in ["none", "stale", "lost"] {
        let archive = env.archive_of(Ours);
        match damage {
            "stale" => {
                std::fs::write(archive.join("duplicity-full.20200101T000000Z.manifest"), "stale")
                    .unwrap()
            }
            "lost" => names(&archive)
                .iter()
                .for_each(|name| std::fs::remove_file(archive.join(name)).unwrap()),
            _ => {}
        }
        let places = [env.store_of(Ours), archive, env.source()];
        let before = places.each_ref().map(|place| files(place));
        for words in [
            &["incremental"][..],
            &["full"],
            &["backup", "--skip-if-no-change"],
            &["backup", "--full-if-older-than", "0s"],
        ] {
            dry(words);
            assert_eq!(places.each_ref().map(|place| files(place)), before, "{damage}, {words:?}");
        }
    }
}

/// Statistics are stored where 3.2.1 looks for them, and hold what it would have written.
#[test]
fn statistics_are_stored_as_json() {
    let env = world();
    let run = |version: Version, action: &str, seconds: i64| {
        let words = [
            action,
            PLAIN,
            "--jsonstat",
            "--no-print-statistics",
            "--current-time",
            &(TIME + seconds).to_string(),
            "source",
        ];
        env.type_in(version, &words).success()
    };
    let said = run(Ours, "full", 0).stdout;
    run(New, "full", 0);
    sources()[1].write(Some(&sources()[0]), &env.source());
    [Ours, New].into_iter().for_each(|version| drop(run(version, "incremental", 10)));
    let stored = |version: Version| names(&env.store_of(version));
    assert_eq!(stored(Ours), stored(New));
    assert_eq!(names(&env.archive_of(Ours)), names(&env.archive_of(New)));
    let printed: serde_json::Value =
        serde_json::from_str(&said[said.find("{\n").unwrap()..]).unwrap();
    let name = "duplicity-full.20260801T120000Z.jsonstat.gz";
    for place in [env.store_of(Ours), env.archive_of(Ours)] {
        let mut text = String::new();
        let mut file =
            flate2::read::MultiGzDecoder::new(std::fs::File::open(place.join(name)).unwrap());
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), printed);
    }
    // The later original reads ours.
    let read = |version: Version, set: &str| {
        let url = env.url_of(version);
        let words = ["collection-status", PLAIN, "--show-changes-in-set", set, "--jsonstat", &url];
        let said = Outcome::of(env.command(New.checked()).args(words)).success().stdout;
        let text = &said[said.find("{\n").unwrap()..=said.rfind('}').unwrap()];
        let mut value: serde_json::Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {said}"));
        let (_, set) = value.as_object_mut().unwrap().iter_mut().next().unwrap();
        let statistics = set["json_stat"].as_object_mut().unwrap();
        let differing = [
            "StartTime",
            "EndTime",
            "ElapsedTime",
            "StartTime_str",
            "EndTime_str",
            "TotalDestinationSizeChange",
        ];
        differing
            .iter()
            .for_each(|key| assert!(statistics.remove(*key).is_some(), "{key} is missing: {said}"));
        let meta = statistics["backup_meta"].as_object_mut().unwrap();
        assert!(meta.remove("target").is_some(), "{said}");
        value
    };
    for set in ["0", "1"] {
        assert_eq!(read(Ours, set), read(New, set));
    }
}

/// Names in short and old form, with prefixes and another separator, are those that 0.8.22 gives;
/// both originals go on from there.
#[test]
fn names_in_every_form() {
    let prefixes = [
        "--file-prefix",
        "G-",
        "--file-prefix-manifest",
        "M-",
        "--file-prefix-archive",
        "A-",
        "--file-prefix-signature",
        "S-",
    ];
    for (options, reading) in [
        (&["--short-filenames"][..], &[][..]),
        (&["--old-filenames"], &[]),
        (&["--old-filenames", "--time-separator", "_"], &["--time-separator", "_"]),
        (&prefixes, &prefixes),
        (&["--no-compression"], &[]),
    ] {
        let env = world().zone("America/St_Johns");
        let run = |version: Version, action: &str, seconds: i64, options: &[&str]| {
            let words = [
                action,
                PLAIN,
                "--no-print-statistics",
                "--current-time",
                &(TIME + seconds).to_string(),
                "source",
            ];
            env.type_in(version, &[&words, options].concat()).success()
        };
        [Ours, Old].into_iter().for_each(|version| drop(run(version, "full", 0, options)));
        sources()[1].write(Some(&sources()[0]), &env.source());
        [Ours, Old].into_iter().for_each(|version| drop(run(version, "incremental", 10, options)));
        assert_eq!(names(&env.store_of(Ours)), names(&env.store_of(Old)), "{options:?}");
        assert_eq!(names(&env.archive_of(Ours)), names(&env.archive_of(Old)), "{options:?}");
        for version in [Old, New, Ours] {
            let target = env.fresh(&format!("{version:?}"));
            let mut restore = env.command(version.checked());
            Outcome::of(
                restore.args(["restore", PLAIN]).args(reading).arg(env.url_of(Ours)).arg(&target),
            )
            .success();
            let expected = Truth::record(&env.source()).without_link_times();
            assert_same(
                &expected,
                &Truth::record(&target).without_link_times(),
                &format!("{options:?} {version:?}"),
            );
        }
        // The original builds on ours.
        let words = [
            "incremental",
            PLAIN,
            "--current-time",
            &(TIME + 20).to_string(),
            "source",
            &env.url_of(Ours),
        ];
        Outcome::of(env.command(Old.checked()).args(words).args(options)).success();
    }
}

/// A single file, a link, `.`, and a slash at the end: each is stored under the name and as the
/// thing that 0.8.22 stores.
#[test]
fn sources_of_every_kind() {
    for (place, source, options) in [
        ("", "source/docs/grown", &[][..]),
        ("", "source/link", &[]),
        ("", "way", &[]),
        ("", "way/", &[]),
        ("", "way", &["--copy-links"]),
        ("", "source/", &["--no-files-changed"]),
        ("", "./source", &[]),
        ("source", ".", &[]),
        ("source/docs", "../docs/", &[]),
    ] {
        let env = world();
        std::os::unix::fs::symlink("source", env.root().join("way")).unwrap();
        let manifest = |version: Version| {
            let words = [
                "full",
                PLAIN,
                "--no-print-statistics",
                "--current-time",
                &TIME.to_string(),
                source,
                &env.url_of(version),
            ];
            let mut command = env.command(version.checked());
            Outcome::of(command.current_dir(env.root().join(place)).args(words).args(options))
                .success();
            let text = std::fs::read_to_string(
                env.store_of(version).join("duplicity-full.20260801T120000Z.manifest"),
            )
            .unwrap();
            text.lines()
                .filter(|line| !line.contains("Hash SHA1"))
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(manifest(Ours), manifest(Old), "{source}");
        let recorded = |version: Version| {
            let target = env.fresh(&format!("{version:?}"));
            let url = env.url_of(Ours);
            Outcome::of(env.command(version.checked()).args(["restore", PLAIN, &url]).arg(&target))
                .success();
            let is_directory = target.is_dir() && !target.is_symlink();
            is_directory
                .then(|| Truth::record(&target).without_link_times())
                .ok_or_else(|| std::fs::read(&target).ok())
        };
        assert_eq!(recorded(Ours), recorded(Old), "{source}");
        let again = [
            "incremental",
            PLAIN,
            "--no-print-statistics",
            "--skip-if-no-change",
            source,
            &env.url_of(Ours),
        ];
        let mut command = env.command(Ours.checked());
        let said =
            Outcome::of(command.current_dir(env.root().join(place)).args(again).args(options))
                .success()
                .stdout;
        assert!(said.contains("nothing has changed"), "{source}: {said}");
    }
}

/// Selection options before the command word count, and keep their order with those behind it.
#[test]
fn selection_options_stand_anywhere() {
    let env = world();
    let told = |words: &[&str]| {
        let said =
            env.type_in(Ours, &[words, &[PLAIN, "-v5", "--dry-run"]].concat()).success().stdout;
        said.lines()
            .filter_map(|line| line.strip_prefix("A "))
            .map(String::from)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        told(&["--include", "source/docs/grown", "full", "--exclude", "source/*", "source"]),
        ". docs docs/grown"
    );
    assert_eq!(
        told(&["--exclude", "source/docs", "--exclude=source/[!el]*", "full", "source"]),
        ". empty link"
    );
    let list = env.root().join("list");
    std::fs::write(
        &list,
        "# what matters\n+ source/docs/grown\n- source/docs\n\n- 'source/none'\n",
    )
    .unwrap();
    let list = list.to_str().unwrap();
    let told = told(&["full", "--include-filelist", list, "--exclude", "source/[!d]*", "source"]);
    assert_eq!(told, ". docs docs/grown");
}

/// Files with holes are as long as they are to everybody, but what is stored of the holes is next
/// to nothing; in a delta, too.
#[test]
fn holes_cost_next_to_nothing() {
    use std::os::unix::fs::FileExt;
    let env = world();
    let path = env.source().join("image");
    let file = std::fs::File::create(&path).unwrap();
    let write = |places: &[u64]| {
        let random = crate::support::Random::new(places[0]).bytes(5000);
        places.iter().for_each(|&place| file.write_all_at(&random, place).unwrap());
    };
    file.set_len(40_000_001).unwrap();
    write(&[3, 1 << 20, 9_999_999]);
    let run = |action: &str, seconds: i64| {
        env.type_in(
            Ours,
            &[action, PLAIN, "--current-time", &(TIME + seconds).to_string(), "source"],
        )
        .success();
        for reader in [Ours, Old] {
            let target = env.fresh("target");
            let mut command = env.command(reader.checked());
            Outcome::of(command.args(["restore", PLAIN, &env.url_of(Ours)]).arg(&target)).success();
            assert!(
                std::fs::read(target.join("image")).unwrap() == std::fs::read(&path).unwrap(),
                "{action} {reader:?}"
            );
            std::fs::remove_dir_all(&target).unwrap();
        }
    };
    run("full", 0);
    let store = env.store_of(Ours);
    let size: u64 =
        names(&store).iter().map(|name| store.join(name).metadata().unwrap().len()).sum();
    assert!(size < 700_000, "{size}");
    file.set_len(50_000_000).unwrap();
    write(&[5, 30_000_000]);
    file.set_modified(
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000),
    )
    .unwrap();
    run("incremental", 10);
}

/// Who saves the place where backups lie is told so, unless it is excluded.
#[test]
fn a_target_inside_the_source_is_warned_of() {
    let env = world();
    let inside = format!("file://{}/docs/backups", env.source().display());
    let archive = env.source().join("archive");
    let run = |options: &[&str]| {
        let mut command = env.command(Ours.checked());
        command
            .args(["full", PLAIN, "--dry-run", "--archive-dir"])
            .arg(&archive)
            .args(options)
            .args(["source", &inside]);
        Outcome::of(&mut command).success().stdout
    };
    std::fs::create_dir(env.source().join("docs/backups")).unwrap();
    let warned = run(&[]);
    assert!(
        warned.contains("lies inside the source")
            && warned.contains("--exclude 'source/docs/backups'"),
        "{warned}"
    );
    assert!(warned.contains("the archive directory"), "{warned}");
    let quiet = run(&["--exclude", "source/docs", "--exclude", "source/archive"]);
    assert!(!quiet.contains("lies inside"), "{quiet}");
}

/// Two backups within a second get two times; a clock that is behind the newest backup is an error.
#[test]
fn times_of_backups_grow() {
    let env = world();
    for _ in 0..3 {
        env.type_in(Ours, &["backup", PLAIN, "source"]).success();
    }
    assert_eq!(
        names(&env.store_of(Ours)).iter().filter(|name| name.ends_with(".manifest")).count(),
        3
    );
    let before = files(&env.store_of(Ours));
    let outcome =
        env.type_in(Ours, &["backup", PLAIN, "--current-time", &TIME.to_string(), "source"]);
    outcome.failure(30, &["check this machine's clock"]);
    assert_eq!(files(&env.store_of(Ours)), before);
}

/// The way is shown in duplicity's lines: one at least, the last of which says that all is done.
#[test]
fn progress_is_shown() {
    let env = world();
    let said = env
        .type_in(
            Ours,
            &[
                "full",
                PLAIN,
                "--no-print-statistics",
                "--progress",
                "--progress-rate",
                "1",
                "source",
            ],
        )
        .success()
        .stdout;
    let last = said.lines().last().unwrap();
    assert!(last.ends_with(&format!("/s] [{}>] 100% ETA 0sec", "=".repeat(40))), "{last}");
    assert!(last.starts_with("117.2KB 00:00:0"), "{last}");
    assert!(!said.contains('\x1b'), "no terminal, no escapes: {said}");
}
