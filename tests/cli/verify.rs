//! `verify` beside both originals, on the same collections and folders; and what it does that they
//! do not.

use crate::support::{Duplicity, Encoding, Env, Kind, Node, Outcome, Random, Tree, Truth, Version};
use std::path::Path;

const TIME: i64 = 1_785_585_600;

/// Returns the source as it is first, and as it is then.
fn sources() -> [Tree; 2] {
    let noise = Random::new(31).bytes(2_500_000);
    let mut edited = noise.clone();
    edited[1_200_000..1_200_100].fill(7);
    let first = Tree::new(100)
        .with("char", Node::new(Kind::Char(1, 3), 101).mode(0o600))
        .with("docs", Node::directory(102))
        .with("docs/a", Node::file("a\n", 103).owner(33, 34))
        .with("docs/noise", Node::file(noise, 104).mode(0o4711))
        .with("docs/sub", Node::directory(105).mode(0o1777))
        .with("docs/sub/b", Node::file("b", 106))
        .with("empty", Node::file("", 107))
        .with("fifo", Node::new(Kind::Fifo, 108))
        .with("gone", Node::directory(109))
        .with("gone/below", Node::file("below", 110))
        .with("link", Node::symlink("docs/a", 111))
        .with("same", Node::file("same", 112))
        .with("turns", Node::directory(113))
        .with("turns/below", Node::file("turn", 114))
        .with("ünï 'q'", Node::file("name", 115));
    let second = first
        .clone()
        .with("docs/noise", Node::file(edited, 204).mode(0o4711))
        .with("docs/new", Node::file("new", 205));
    [first, second]
}

/// Makes a world with a full set and an increment.
fn world(encoding: Encoding) -> Env {
    let env = encoding.env();
    let [first, second] = sources();
    let duplicity = Duplicity::new(&env, Version::Old, encoding);
    first.write(None, &env.source());
    duplicity.full(TIME);
    second.write(Some(&first), &env.source());
    duplicity.incremental(TIME + 3600);
    env
}

/// Writes a folder in which one thing of each kind differs from the source, and some differ in what
/// nobody compares.
fn altered(env: &Env) {
    let mut noise = match &sources()[1].0[&b"docs/noise"[..]].kind {
        Kind::File(content) => content.to_vec(),
        kind => panic!("{kind:?}"),
    };
    noise[2_000_000] ^= 1;
    let mut tree = sources()[1].clone();
    tree.0.retain(|path, _| !path.starts_with(b"gone") && !path.starts_with(b"turns"));
    let tree = tree
        .with("char", Node::new(Kind::Char(1, 5), 101).mode(0o600))
        .with("docs/a", Node::file("a\n", 103).owner(33, 35))
        .with("docs/new", Node::file("newer", 205))
        .with("docs/noise", Node::file(noise, 204).mode(0o4711))
        .with("docs/sub", Node::directory(105).mode(0o755))
        .with("docs/sub/b", Node::file("", 106))
        .with("empty", Node::file("", 1107))
        .with("fifo", Node::new(Kind::Fifo, 1108))
        .with("link", Node::symlink("elsewhere", 111))
        .with("local", Node::directory(120))
        .with("local/below", Node::file("local", 121))
        .with("same", Node { nanos: 999_999_999, ..Node::file("same", 112) })
        .with("turns", Node::file("turned", 113))
        .with("ünï 'q'", Node::symlink("same", 115));
    tree.write(None, &env.root().join("altered"));
}

/// Returns what was said without what differs on purpose: our line about what was checked, quotes
/// of Python's, and plurals.
fn normal(said: &str) -> Vec<String> {
    let is_extra = |line: &&str| {
        [
            "Local and Remote metadata",
            "Synchronizing remote",
            "Copying ",
            "Checked ",
            "DEBUG:",
            "Duplicity backup complete.",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let plain = |line: &str| {
        let line = line.replace("b'", "'");
        match line.strip_prefix("Difference found: Symlink ") {
            Some(rest) => format!("Difference found: Symlink {}", rest.replace('\'', "")),
            None => line,
        }
    };
    said.lines().filter(|line| !is_extra(line)).map(plain).collect()
}

/// Fails unless all three say the same of a folder and end alike; returns ours.
#[track_caller]
fn same(env: &Env, encoding: Encoding, options: &[&str], folder: &str) -> Outcome {
    let run = |program: &Path| {
        let mut command = env.command(program);
        encoding.secrets(&mut command);
        command.arg("verify").args(encoding.reading()).args(options).arg(env.url()).arg(folder);
        Outcome::of(&mut command)
    };
    let [ours, old, new] =
        [Version::Ours, Version::Old, Version::New].map(|version| run(version.checked()));
    let what = format!("{options:?} {folder}: {ours}\n{old}\n{new}");
    assert_eq!(normal(&ours.stdout), normal(&old.stdout), "{what}");
    let without_plurals = |said: &str| {
        let lines = normal(said).into_iter();
        lines
            .map(|line| {
                line.replace("(s)", "")
                    .replace("files ", "file ")
                    .replace("differences ", "difference ")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(without_plurals(&ours.stdout), without_plurals(&new.stdout), "{what}");
    assert_eq!((ours.code, &ours.stderr), (old.code, &old.stderr), "{what}");
    assert_eq!(ours.code, new.code, "{what}");
    ours
}

/// The last line of stdout.
fn last(outcome: &Outcome) -> &str {
    outcome.stdout.lines().next_back().unwrap_or_default()
}

#[test]
fn each_difference_is_told_as_by_both_originals() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = world(encoding);
        altered(&env);
        let run = |options: &[&str], folder: &str| same(&env, encoding, options, folder);
        let all = run(&["--compare-data"], "altered");
        assert_eq!(
            (all.code, last(&all)),
            (1, "Verify complete: 19 files compared, 16 differences found."),
            "{all}"
        );
        run(&["--compare-data"], "source").success();
        run(&[], "altered").success();
        if encoding == Encoding::Symmetric {
            continue;
        }
        run(&["--compare-data", "--time", &TIME.to_string()], "source");
        run(&["--compare-data", "-r", "docs"], "altered/docs");
        run(&["--compare-data", "-r", "docs/noise"], "altered/docs/noise");
        run(&["--compare-data", "-r", "docs/sub"], "altered/docs/sub/b");
        run(
            &["--compare-data", "--exclude", "altered/docs", "--exclude", "altered/local/below"],
            "altered",
        );
        run(&["--compare-data", "--include", "altered/docs/a", "--exclude", "**"], "altered");
        run(&["--exclude", "altered/docs", "--exclude", "altered/local/below"], "altered")
            .success();
        run(&["--compare-data", "--copy-links"], "source");
        run(&["--compare-data"], "altered/same");
        // A link to nowhere has a name, and when links are followed nothing else.
        let links = env.fresh("links");
        sources()[1].write(None, &links);
        for (name, leads_to) in [("broken", "nowhere"), ("docs/round", "round")] {
            std::os::unix::fs::symlink(leads_to, links.join(name)).unwrap();
        }
        let followed = run(&["--compare-data", "--copy-links"], "links");
        assert_eq!(
            last(&followed),
            "Verify complete: 19 files compared, 3 differences found.",
            "{followed}"
        );
        run(&["--compare-data", "--copy-links", "--exclude", "links/broken"], "links");
        run(
            &[
                "--compare-data",
                "--copy-links",
                "--include",
                "**round",
                "--exclude",
                "links/docs",
                "--exclude",
                "**o*n",
            ],
            "links",
        );
        run(&["--copy-links"], "links").success();
        run(&["--compare-data"], "links");
        std::os::unix::fs::symlink("source", env.root().join("alias")).unwrap();
        run(&["--compare-data"], "alias");
        let _socket = std::os::unix::net::UnixListener::bind(env.source().join("socket")).unwrap();
        run(&["--compare-data"], "source");
    }
}

/// Owners count by number here: by name where this machine knows it, unless told otherwise, as when
/// restoring.
#[test]
fn owners_are_compared_as_they_would_be_restored() {
    let env = Env::new();
    let member = crate::support::Member::file("by name", "x").user(4711, "daemon");
    crate::support::Forge::full(&env, TIME, &[member]);
    env.restore(Encoding::Plain, TIME, &env.root().join("restored")).success();
    same(&env, Encoding::Plain, &["--compare-data"], "restored").success();
    let numeric = same(&env, Encoding::Plain, &["--compare-data", "--numeric-owner"], "restored");
    assert!(
        numeric.stdout.contains("File by name has permissions 1:1 755, expected 4711:4711 755"),
        "{numeric}"
    );
}

/// The format keeps no time before 1970: whoever saves such a file is warned, and what was saved is
/// not different.
#[test]
fn times_before_1970_count_as_1970() {
    let env = Env::new();
    let tree = Tree::new(-1)
        .with("film", Node::file("Buster Keaton", -1_234_567_890))
        .with("now", Node::file("now", 7));
    tree.write(None, &env.source());
    for version in [Version::Old, Version::Ours] {
        let said = env.type_in(version, &["full", "--no-encryption", "source"]).success().stdout;
        for name in [".", "film"] {
            assert!(
                said.contains(&format!("Warning: {name} has negative mtime, treating as 0.\n")),
                "{version:?}: {said}"
            );
        }
        assert!(!said.contains("now has"), "{said}");
        for reader in [Version::Old, Version::New, Version::Ours] {
            let verify =
                ["verify", "--no-encryption", "--compare-data", &env.url_of(version), "source"];
            Outcome::of(env.command(reader.checked()).args(verify)).success();
        }
    }
    let said =
        env.type_in(Version::Ours, &["incremental", "--no-encryption", "source"]).success().stdout;
    assert!(said.contains("ChangedFiles 0\n") && !said.contains("negative"), "{said}");
}

#[test]
fn a_missing_folder_is_refused_as_by_0_8_and_not_made() {
    let env = world(Encoding::Gzip);
    let old = Outcome::of(env.command(Version::Old.checked()).args([
        "verify",
        "--no-encryption",
        &env.url(),
        "nowhere",
    ]));
    let ours = env.ask_to(Encoding::Gzip, &["verify"], Path::new("nowhere"));
    assert_eq!((ours.code, &ours.stderr), (12, &old.stderr), "{ours}\n{old}");
    assert!(!env.root().join("nowhere").exists());
}

/// The originals compare the folder with nothing.
#[test]
fn an_unknown_path_is_an_error() {
    let env = world(Encoding::Gzip);
    env.ask_to(Encoding::Gzip, &["verify", "-r", "docs/nope"], Path::new("source"))
        .failure(19, &["docs/nope"]);
}

/// The count in the last line says nothing of what was looked at; the line before does.
#[test]
fn what_was_really_checked_is_told() {
    let env = world(Encoding::Gzip);
    let checked = |options: &[&str]| {
        let outcome = env
            .ask_to(Encoding::Gzip, &[&["verify"], options].concat(), Path::new("source"))
            .success();
        let lines: Vec<_> = outcome.stdout.lines().collect();
        lines[lines.len() - 2].to_string()
    };
    let volumes = std::fs::read_dir(env.store()).unwrap();
    let volumes = volumes
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("difftar"))
        .count();
    assert!(volumes >= 4, "{volumes}");
    let files = sources()[1].0.values().filter(|node| matches!(node.kind, Kind::File(_))).count();
    let expected =
        format!("Checked the hashes of {volumes} volumes, and put {files} files together; ");
    assert_eq!(
        checked(&[]),
        format!("{expected}nothing was compared with 'source', as --compare-data does.")
    );
    assert_eq!(
        checked(&["--compare-data"]),
        format!("{expected}they were compared with 'source'.")
    );
    let written = Truth::record(&env.source());
    assert_eq!(written, Truth::of(&sources()[1]), "nothing is written");
}

/// A volume that no file of this time needs any more is part of what a later restore of an earlier
/// time needs.
#[test]
fn damage_that_hits_no_file_is_told_too() {
    let env = Env::new();
    let [first, second] = [Tree::new(5).with("a", Node::file("one", 6)), Tree::new(5)];
    let duplicity = Duplicity::new(&env, Version::Old, Encoding::Gzip);
    first.write(None, &env.source());
    duplicity.full(TIME);
    second.write(Some(&first), &env.source());
    duplicity.incremental(TIME + 3600);
    let volume = env.store().join("duplicity-full.20260801T120000Z.vol1.difftar.gz");
    let mut bytes = std::fs::read(&volume).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&volume, bytes).unwrap();
    let outcome = env.ask_to(Encoding::Gzip, &["verify"], Path::new("source"));
    let original = Outcome::of(env.command(Version::Old.checked()).args([
        "verify",
        "--no-encryption",
        &env.url(),
        "source",
    ]));
    assert_eq!(original.code, 21, "{original}");
    assert!(!outcome.stdout.contains("Verify complete"), "{outcome}");
    outcome.failure(21, &["vol1.difftar.gz", "0 of 0 files"]);
}

/// Nothing is read, and the volumes are those of a restore; the originals crash behind them.
#[test]
fn a_dry_run_names_the_volumes() {
    let env = world(Encoding::Gzip);
    let required = |outcome: Outcome| {
        let start = outcome
            .stdout
            .find("Required volumes to restore:\n")
            .unwrap_or_else(|| panic!("{outcome}"));
        outcome.stdout[start..]
            .lines()
            .take_while(|line| line.starts_with(['R', '\t']))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    for options in [&[][..], &["-r", "docs/a"], &["-r", "ünï 'q'"], &["--time", "1785585600"]] {
        let options = [&["verify", "--dry-run"], options].concat();
        let ours = env.ask_to(Encoding::Gzip, &options, Path::new("source")).success();
        let original = Outcome::of(env.command(Version::Old.checked()).args(&options).args([
            "--no-encryption",
            &env.url(),
            "source",
        ]));
        assert_eq!(required(ours), required(original), "{options:?}");
    }
}

#[test]
fn files_are_compared_with_their_signatures() {
    for encoding in [Encoding::Plain, Encoding::Symmetric] {
        let env = world(encoding);
        let files =
            |tree: &Tree| tree.0.values().filter(|node| matches!(node.kind, Kind::File(_))).count();
        for (time, tree) in [TIME, TIME + 3600].iter().zip(sources()) {
            let outcome = env.prove(encoding, *time).success();
            let count = files(&tree);
            let expected = format!(
                "and put {count} files together, {count} of which match their signatures; nothing was compared"
            );
            assert!(outcome.stdout.contains(&expected), "not '{expected}': {outcome}");
        }
        let options = ["verify", "--against-signatures", "--compare-data", "-r", "docs"];
        let part = env.ask_to(encoding, &options, Path::new("source/docs")).success();
        assert!(
            part.stdout.contains(
                "and put 4 files together, 4 of which match their signatures; they were compared"
            ),
            "{part}"
        );
    }
}

/// All hashes are right, and so is every volume, but an increment stands on a full set that it was
/// not made against.
#[test]
fn a_delta_against_something_else_is_found_by_signatures_alone() {
    let [env, other] = [0, 1].map(|number| {
        let env = Env::new();
        let mut noise = Random::new(5).bytes(300_000);
        let tree = |noise: &[u8]| {
            Tree::new(5).with("noise", Node::file(noise, 6)).with("same", Node::file("same", 7))
        };
        noise[200_000] ^= number;
        let first = tree(&noise);
        first.write(None, &env.source());
        let duplicity = Duplicity::new(&env, Version::Old, Encoding::Gzip);
        duplicity.full(TIME);
        noise[100] ^= 1;
        tree(&noise).with("noise", Node::file(noise, 8)).write(Some(&first), &env.source());
        duplicity.incremental(TIME + 3600);
        env
    });
    env.prove(Encoding::Gzip, TIME + 3600).success();
    for name in ["vol1.difftar.gz", "manifest"] {
        let name = format!("duplicity-full.20260801T120000Z.{name}");
        std::fs::copy(other.store().join(&name), env.store().join(&name)).unwrap();
    }
    env.clear_caches();
    for version in [Version::Old, Version::New, Version::Ours] {
        Outcome::of(env.command(version.checked()).args([
            "verify",
            "--no-encryption",
            &env.url(),
            "source",
        ]))
        .success();
    }
    let outcome = env.prove(Encoding::Gzip, TIME + 3600);
    assert!(!outcome.stdout.contains("Verify complete"), "{outcome}");
    let words =
        ["cannot verify 'noise': it does not match the signature", "1 of 2 files are damaged"];
    outcome.failure(90, &words);
    // Of the full set, the copy of the signature file in the archive directory is right.
    env.prove(Encoding::Gzip, TIME).failure(90, &words);
}

/// The stored signature file counts, whatever lies in the archive directory; and without one
/// nothing is proved.
#[test]
fn signatures_that_cannot_be_read_prove_nothing() {
    for (encoding, extension) in [
        (Encoding::Plain, "sigtar"),
        (Encoding::Gzip, "sigtar.gz"),
        (Encoding::Symmetric, "sigtar.gpg"),
    ] {
        let env = world(encoding);
        let stored =
            env.store().join(format!("duplicity-full-signatures.20260801T120000Z.{extension}"));
        let bytes = std::fs::read(&stored).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let cut = bytes[..bytes.len() / 2].to_vec();
        for damage in [None, Some(cut), Some(flipped)] {
            match &damage {
                Some(bytes) => std::fs::write(&stored, bytes).unwrap(),
                None => std::fs::remove_file(&stored).unwrap(),
            }
            env.ask_to(encoding, &["verify"], Path::new("source")).success();
            let outcome = env.prove(encoding, TIME);
            assert!(
                outcome.code == 90 && !outcome.stdout.contains("Verify complete"),
                "{encoding:?}: {outcome}"
            );
            let is_told = outcome.stderr.contains(
                "cannot compare the files of set 20260801T120000Z with their signature file: ",
            );
            // In a plain one only the sums themselves can be wrong.
            let is_named = outcome.stderr.contains("does not match the signature");
            assert!(is_told || is_named && encoding == Encoding::Plain, "{encoding:?}: {outcome}");
        }
    }
}

#[test]
fn a_signature_that_is_wrong_is_told_of_its_file_only() {
    let env = Env::new();
    let members =
        [crate::support::Member::file("empty", ""), crate::support::Member::file("forged", "x")];
    crate::support::Forge::full(&env, TIME, &members);
    env.ask_to(Encoding::Plain, &["verify"], Path::new("source")).success();
    let outcome = env.prove(Encoding::Plain, TIME);
    assert!(!outcome.stderr.contains("'empty'"), "{outcome}");
    outcome.failure(
        90,
        &["cannot verify 'forged': it does not match the signature", "1 of 2 files are damaged"],
    );
}
