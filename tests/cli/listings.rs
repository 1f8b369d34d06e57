//! `list-current-files` and `collection-status` against the words of duplicity 0.8.22.

use crate::support::{Duplicity, Encoding, Env, Flavour, History, Node, Outcome, Tree, Version};
use serde_json::json;

const START: i64 = 1_785_585_600;

/// Makes a world with two chains, three sets and two, an hour apart; local time has a daylight
/// saving.
fn world(encoding: Encoding, seed: u64) -> Env {
    let env = encoding.env().zone("Europe/Berlin");
    let mut history = History::new(seed, Flavour::Small);
    let mut before = None;
    for number in 0..5 {
        history.tree.write(before.as_ref(), &env.source());
        let action = if number % 3 == 0 { "full" } else { "incremental" };
        Duplicity::new(&env, Version::Old, encoding).backup(action, START + 3600 * number, &[]);
        before = Some(history.tree.clone());
        history.edit(5);
    }
    env
}

/// Fails unless both programs say the same on stdout; what only the original can know of its own
/// works is left out.
#[track_caller]
fn same_words(env: &Env, encoding: Encoding, action: &str, options: &[&str]) {
    let original = Duplicity::new(env, Version::Old, encoding).ask(action, options).success();
    let arguments = [&[action], options].concat();
    let ours = env.ask(encoding, &arguments).success();
    let told = |outcome: &Outcome| {
        let about_works = [
            "Connecting with backend:",
            "Archive dir:",
            "Local and Remote metadata",
            "Synchronizing remote",
            "Copying ",
            "Warning, found",
            "[",
        ];
        let lines = outcome
            .stdout
            .lines()
            .filter(|line| !about_works.iter().any(|start| line.starts_with(start)));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&ours), told(&original), "{action} {options:?}");
}

#[test]
fn files_are_listed_as_the_original_does() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = world(encoding, 21);
        same_words(&env, encoding, "list-current-files", &[]);
        for number in 0..5 {
            same_words(
                &env,
                encoding,
                "list-current-files",
                &["--time", &(START + 3600 * number).to_string()],
            );
        }
        same_words(&env, encoding, "list-current-files", &["--time", "2026-08-01T15:30:00+02:00"]);
        // Without a zone it is what clocks here showed: summer time, which the originals take for
        // winter time.
        let listed = |time: &str| {
            env.ask(encoding, &["list-current-files", "--time", time]).success().stdout
        };
        let [summer, second, third] =
            ["2026-08-01T14:30:00", "2026-08-01T12:30:00Z", "2026-08-01T13:30:00Z"].map(listed);
        assert!(summer == second && summer != third, "{summer}");
        env.clear_caches();
        let all = env.ask(encoding, &["list-current-files"]).success();
        assert_eq!(
            all.stdout,
            env.ask(encoding, &["list-current-files"]).success().stdout,
            "with and without a catalog"
        );
    }
}

#[test]
fn a_time_before_the_first_backup_is_the_first() {
    let env = world(Encoding::Gzip, 22);
    let early = env
        .ask(Encoding::Gzip, &["list-current-files", "--time", &(START - 5).to_string()])
        .success();
    let first =
        env.ask(Encoding::Gzip, &["list-current-files", "--time", &START.to_string()]).success();
    assert!(early.stdout.contains("No signature chain for the requested time."), "{early}");
    // A listing's lines have a blank behind the 24 characters of the time.
    let is_entry = |line: &&str| {
        line.get(24..25) == Some(" ")
            && line.get(19..20) == Some(" ")
            && line.get(13..14) == Some(":")
    };
    let files = |outcome: &Outcome| {
        outcome.stdout.lines().filter(is_entry).map(str::to_string).collect::<Vec<_>>()
    };
    assert!(!files(&first).is_empty());
    assert_eq!(files(&early), files(&first));
}

#[test]
fn the_status_is_told_as_the_original_does() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = world(encoding, 23);
        same_words(&env, encoding, "collection-status", &[]);
    }
    let env = Env::new();
    same_words(&env, Encoding::Gzip, "collection-status", &[]);
}

#[test]
fn the_status_of_incomplete_collections_is_told_as_the_original_does() {
    for gone in [
        "inc.20260801T120000Z.to.20260801T130000Z.manifest",
        "inc.20260801T150000Z.to.20260801T160000Z.manifest",
        "full.20260801T150000Z.",
    ] {
        let env = world(Encoding::Gzip, 24);
        env.clear_caches();
        let files: Vec<_> =
            std::fs::read_dir(env.store()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let matching: Vec<_> =
            files.iter().filter(|file| file.to_str().unwrap().contains(gone)).collect();
        assert!(!matching.is_empty(), "{gone}: {files:?}");
        matching.into_iter().for_each(|file| std::fs::remove_file(file).unwrap());
        same_words(&env, Encoding::Gzip, "collection-status", &[]);
    }
}

/// Tells what sets did to files as both originals do, but for Python's quotes.
#[test]
fn changes_are_told_as_the_originals_do() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = world(encoding, 26);
        let listed = env.ask(encoding, &["list-current-files"]).success().stdout;
        let files: Vec<&str> = listed.lines().skip(2).filter_map(|line| line.get(25..)).collect();
        let mut asked: Vec<Vec<&str>> =
            ["0", "1", "-1", "-2"].map(|number| vec!["--show-changes-in-set", number]).into();
        // Each question takes the originals a second.
        let some = if encoding == Encoding::Gzip { 3 } else { 1 };
        asked.extend(
            files
                .iter()
                .skip(1)
                .take(some)
                .chain(&["no such file"])
                .map(|file| vec!["--file-changed", *file]),
        );
        assert!(files.len() > 3, "{listed}");
        let mut changes = 0;
        for options in &asked {
            let ours =
                env.ask(encoding, &[&["collection-status"], &options[..]].concat()).success();
            for version in [Version::Old, Version::New] {
                // The later one takes a value that begins with a dash only so.
                let joined = options.join("=");
                let original = Duplicity::new(&env, version, encoding)
                    .ask("collection-status", &[&joined])
                    .success();
                assert_eq!(
                    without_quotes(&ours.stdout),
                    without_quotes(&original.stdout),
                    "{version:?} {options:?}"
                );
            }
            changes += ours
                .stdout
                .lines()
                .filter(|line| ["new", "changed"].iter().any(|word| line.ends_with(word)))
                .count();
        }
        assert!(changes > 2, "{changes}");
        for number in ["2", "-3"] {
            let outcome =
                env.ask(encoding, &["collection-status", "--show-changes-in-set", number]);
            outcome.failure(30, &["there is no set", "0 to 1"]);
        }
        // The originals tell of no changes at all where they have no local copy.
        let ask = |options: &[&str]| {
            env.ask(encoding, &[&["collection-status"], options].concat()).success().stdout
        };
        let before: Vec<_> = asked.iter().map(|options| ask(options)).collect();
        env.clear_caches();
        assert_eq!(asked.iter().map(|options| ask(options)).collect::<Vec<_>>(), before);
    }
    let env = Env::new();
    same_words(&env, Encoding::Gzip, "collection-status", &["--show-changes-in-set", "0"]);
}

/// With statistics where there are some; one set, or all of the chain.
#[test]
fn changes_are_told_as_json_as_the_later_original_does() {
    let env = Env::new();
    let mut history = History::new(27, Flavour::Small);
    let mut before = None;
    for (number, options) in [&["--jsonstat"][..], &[], &["--jsonstat"]].into_iter().enumerate() {
        history.tree.write(before.as_ref(), &env.source());
        let action = if number == 0 { "full" } else { "incremental" };
        Duplicity::new(&env, Version::New, Encoding::Gzip).backup(
            action,
            START + 3600 * number as i64,
            options,
        );
        before = Some(history.tree.clone());
        history.edit(5);
    }
    let object = |outcome: Outcome| {
        let (start, end) = (outcome.stdout.find('{').unwrap(), outcome.stdout.rfind('}').unwrap());
        let text = outcome.stdout[start..=end].to_string();
        serde_json::from_str::<serde_json::Value>(&text)
            .unwrap_or_else(|error| panic!("{error}: {outcome}"))
    };
    for number in ["0", "1", "2", "-1"] {
        let option = format!("--show-changes-in-set={number}");
        let ours = object(
            env.ask(Encoding::Gzip, &["collection-status", "--jsonstat", &option]).success(),
        );
        let original = Duplicity::new(&env, Version::New, Encoding::Gzip)
            .ask("collection-status", &["--jsonstat", &option]);
        assert_eq!(ours, object(original.success()), "{number}");
        assert_eq!(ours.as_object().unwrap().len(), if number == "-1" { 3 } else { 1 });
        if number == "2" {
            assert!(
                ours.to_string().contains("\"new\"")
                    && ours.to_string().contains("\"SourceFiles\":"),
                "{ours}"
            );
        }
    }
}

/// Returns lines without `b'…'`, which moves what stands right, and without what is of one version
/// only.
fn without_quotes(said: &str) -> Vec<String> {
    let is_extra =
        |line: &&str| line.starts_with("DEBUG:") || *line == "Duplicity backup complete.";
    let lines = said.lines().filter(|line| !is_extra(line));
    lines
        .map(|line| {
            line.replace("b'", "")
                .replace('\'', "")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// Returns the JSON values on stdout, one or one a line.
fn values(outcome: Outcome) -> Vec<serde_json::Value> {
    let values = serde_json::Deserializer::from_str(&outcome.stdout).into_iter();
    values.map(|value| value.unwrap_or_else(|e| panic!("{e}: {}", outcome.stdout))).collect()
}

#[test]
fn json_says_the_same() {
    let env = world(Encoding::Gzip, 25);
    let listed = values(env.ask(Encoding::Gzip, &["list-current-files", "--json"]).success());
    let listed = if let [serde_json::Value::Array(entries)] = &listed[..] {
        entries.clone()
    } else {
        listed
    };
    let plain = env.ask(Encoding::Gzip, &["list-current-files"]).success().stdout;
    let plain: Vec<_> = plain
        .lines()
        .filter(|line| line.get(24..25) == Some(" ") && !line.starts_with("L"))
        .map(|line| &line[25..])
        .collect();
    assert_eq!(
        listed.iter().map(|entry| entry["path"].as_str().unwrap()).collect::<Vec<_>>(),
        plain
    );

    let status = values(env.ask(Encoding::Gzip, &["collection-status", "--json"]).success());
    let text = serde_json::to_string(&status).unwrap();
    for hour in 12..17 {
        let spellings = [
            format!("20260801T{hour}0000Z"),
            format!("2026-08-01T{hour}:00:00"),
            (START + 3600 * (hour - 12)).to_string(),
        ];
        assert!(
            spellings.iter().any(|time| text.contains(time)),
            "no set of {hour}:00 UTC in {text}"
        );
    }
}

/// What sets did to files, the same as in words.
#[test]
fn json_tells_of_changes() {
    let env = Env::new();
    let first = Tree::new(5).with("a", Node::file("one", 6)).with(b"b \xff", Node::file("same", 6));
    let second = first.clone().with("a", Node::file("two!", 7)).with("new", Node::file("new", 7));
    let duplicity = Duplicity::new(&env, Version::Old, Encoding::Gzip);
    let ask = |options: &[&str]| {
        env.ask(Encoding::Gzip, &[&["collection-status", "--json"], options].concat())
    };
    assert_eq!(values(ask(&["--show-changes-in-set=0"]).success()), [json!(null)]);
    first.write(None, &env.source());
    duplicity.full(START);
    second.write(Some(&first), &env.source());
    duplicity.incremental(START + 3600);
    let sets = [
        json!({ "kind": "full", "time": "2026-08-01T12:00:00Z", "change": "new" }),
        json!({ "kind": "incremental", "time": "2026-08-01T13:00:00Z", "change": "changed" }),
    ];
    assert_eq!(
        values(ask(&["--file-changed", "a"]).success()),
        [json!({ "path": "a", "sets": sets })]
    );
    assert_eq!(
        values(ask(&["--file-changed=/nope/"]).success()),
        [json!({ "path": "nope", "sets": [] })]
    );
    let changes =
        [json!({ "path": "a", "change": "changed" }), json!({ "path": "new", "change": "new" })];
    let newest =
        json!({ "kind": "incremental", "time": "2026-08-01T13:00:00Z", "changes": changes });
    assert_eq!(values(ask(&["--show-changes-in-set=0", "-v9"]).success()), [newest]);
    let oldest = values(ask(&["--show-changes-in-set=-1"]).success());
    assert_eq!(
        oldest[0]["changes"][1],
        json!({ "path": "b \u{fffd}", "path_hex": "6220ff", "change": "new" })
    );
    ask(&["--show-changes-in-set=2"]).failure(30, &["there is no set"]);
}
