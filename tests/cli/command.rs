//! `dupfs` under the name `duplicity`: the same words do the same, and nonsense is answered by the
//! same words and exit code 2.

use crate::support::{Env, Node, Outcome, PYTHON, Tree, Version};

const PROGRAMS: [Version; 3] = [Version::Old, Version::New, Version::Exchanged];

/// Makes a world with a small source tree.
fn world() -> Env {
    let env = Env::new();
    Tree::new(5)
        .with("dir", Node::directory(6))
        .with("dir/inner", Node::file("inner", 7))
        .write(None, &env.source());
    env
}

/// Runs a program with these words, `URL` standing for its own collection.
fn run(env: &Env, version: Version, line: &str) -> Outcome {
    let words = line.split_whitespace().map(|word| word.replace("URL", &env.url_of(version)));
    Outcome::of(env.command(version.checked()).args(words))
}

/// Returns what is said behind the usage.
fn last_words(outcome: &Outcome) -> String {
    let lines: Vec<_> = outcome.stderr.lines().collect();
    let from = lines.iter().position(|line| {
        line.starts_with("Command line error") || line.starts_with("duplicity: error")
    });
    lines[from.unwrap_or(0)..].join("\n")
}

#[test]
fn nonsense_is_answered_as_by_the_original() {
    let env = world();
    for line in [
        "",
        "c URL",
        "source source",
        "URL URL",
        "verify source URL",
        "full source",
        "verify URL",
        "collection-status",
        "--nonsense source URL",
        "-q source URL",
        "source URL --volsize",
    ] {
        let [original, ours] =
            [Version::Old, Version::Exchanged].map(|version| run(&env, version, line));
        assert_eq!(original.code, 2, "{line}: {original}");
        ours.clone().failure(2, &[]);
        let ours =
            last_words(&ours).replace(&env.url_of(Version::Exchanged), &env.url_of(Version::Old));
        assert_eq!(ours, last_words(&original), "{line}");
    }
    // Told in other words, or taken for something else by one of them.
    for line in [
        "--volsize x source URL",
        "--file x source URL",
        "-v10 source URL",
        "full URL source",
        "restore source URL",
        "source",
    ] {
        run(&env, Version::Exchanged, line).failure(2, &["error: "]);
    }
    assert!(!env.store_of(Version::Exchanged).exists(), "nothing of this is a backup");
}

#[test]
fn actions_are_implied_by_the_order_of_arguments() {
    let env = world();
    let notice = |outcome: &Outcome| {
        outcome.stdout.lines().find(|line| line.starts_with("No valid action")).map(String::from)
    };
    let outcomes = PROGRAMS.map(|version| {
        let saved = run(&env, version, "source --no-encryption URL").success();
        let target = env.fresh(&format!("back-{version:?}"));
        let restored =
            run(&env, version, &format!("--no-encryption URL {}", target.display())).success();
        assert_eq!(std::fs::read(target.join("dir/inner")).unwrap(), b"inner");
        (notice(&saved), notice(&restored))
    });
    assert!(outcomes[1].0.is_some() && outcomes[1].1.is_some());
    assert_eq!(outcomes[2], outcomes[1], "3.x says so, and so do we");
    let ours = run(&env, Version::Ours, "source --no-encryption URL").success();
    assert_eq!(notice(&ours), outcomes[1].0);
}

#[test]
fn actions_go_by_beginnings_and_by_short_names() {
    let env = world();
    for line in [
        "f source URL --no-encryption",
        "inc source URL --no-enc",
        "fb source URL --no-encryption",
        "st URL",
        "ls -t now URL --no-enc",
    ] {
        run(&env, Version::Exchanged, line).success();
    }
    let status = run(&env, Version::Exchanged, "coll URL").success().stdout;
    assert!(status.contains("Found 1 secondary backup chain."), "{status}");
    // 3.x takes full names alone, so that this is a backup; 0.8 would list.
    std::fs::create_dir(env.root().join("list")).unwrap();
    for version in [Version::New, Version::Exchanged] {
        let saved =
            run(&env, version, "list URL --no-encryption --allow-source-mismatch").success();
        assert!(saved.stdout.contains("Backup Statistics"), "{saved}");
    }
}

#[test]
fn versions_are_told_as_wrappers_read_them() {
    let env = Env::new();
    for option in ["--version", "-V"] {
        let told = run(&env, Version::Exchanged, option).success().stdout;
        let original = run(&env, Version::New, option).success().stdout;
        // Without the date behind it, at which Déjà Dup 44 stops.
        let words = original.split_whitespace().take(2).collect::<Vec<_>>();
        assert_eq!(told, format!("{}\n", words.join(" ")));
    }
    assert!(run(&env, Version::Ours, "--version").success().stdout.starts_with("dupfs "));
    for question in [
        "--help",
        "-h",
        "--help-backup",
        "--help-inc",
        "--help-collection-status",
        "--help-urls",
        "restore --help",
    ] {
        let told = run(&env, Version::Exchanged, question).success();
        assert!(!told.stdout.is_empty() && told.stderr.is_empty(), "{question}: {told}");
    }
}

/// Every option that one of the originals names in its own help has a line on the page of options,
/// which is that of the parser.
#[test]
fn every_option_of_the_originals_is_on_the_page() {
    let env = Env::new();
    let options = |text: &str| {
        let names = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .filter(|word| word.starts_with("--"));
        names
            .filter(|name| name.len() > 3)
            .map(String::from)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let mut page = options(include_str!("../../OPTIONS.md"));
    page.extend(["--help", "--version"].map(String::from));
    let mut named = options(&run(&env, Version::Old, "--help").success().stdout);
    named.extend(
        ["--help", "--help-full", "--help-restore"]
            .iter()
            .flat_map(|of| options(&run(&env, Version::New, of).success().stdout)),
    );
    // Words of examples, and of texts that are broken at a hyphen.
    named.retain(|name| {
        !name.starts_with("--help") && name != "--some-option" && !name.ends_with('-')
    });
    assert!(named.len() > 120, "{named:?}");
    let missing: Vec<_> = named.difference(&page).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn options_without_effect_are_told_once_and_those_that_are_missing_refuse() {
    let env = world();
    let saved = run(
        &env,
        Version::Exchanged,
        "--cf-backend pyrax --copy-block 5 --asynchronous-upload --ssh-options -ox full --no-encryption source URL",
    );
    let told: Vec<_> = saved
        .clone()
        .success()
        .stdout
        .lines()
        .filter(|line| line.contains("has no effect"))
        .map(String::from)
        .collect();
    assert_eq!(told.len(), 2, "{saved}");
    assert!(
        told[0].starts_with("--cf-backend has no effect: ")
            && told[1].starts_with("--copy-blocksize"),
        "{told:?}"
    );
    run(&env, Version::Exchanged, "restore --use-gpgsm URL target").failure(33, &["--use-gpgsm"]);
    assert!(!env.root().join("target").exists());
    // What is done by other actions means nothing to this one.
    run(
        &env,
        Version::Exchanged,
        "list-current-files --no-encryption --rename a b --compare-data URL",
    )
    .success();
}

/// Old names of options do what they did, and are told, as by 0.8; nothing of that is an error to
/// programs that follow.
#[test]
fn old_names_are_warned_of() {
    let env = world();
    std::fs::write(env.root().join("list"), "source/dir/inner\n").unwrap();
    std::fs::create_dir(env.store_of(Version::Old)).unwrap();
    for (line, told) in [
        ("--exclude-globbing-filelist list", "--exclude-globbing-filelist is an old name"),
        ("--exclude-globbing=list", "write --exclude-filelist"),
        ("--exclude-filelist-stdin", "write --exclude-filelist=/dev/stdin"),
        ("--short-filenames", "--short-filenames is for names that duplicity only reads since 2.0"),
        ("--old-filenames --time-separator=_", "--time-separator is for names"),
        ("--exclude-filelist list", ""),
    ] {
        let line = format!("full -v5 --no-encryption --dry-run {line} source URL --log-file log");
        let [original, ours] =
            [Version::Old, Version::Exchanged].map(|version| run(&env, version, &line).success());
        let is_told = |outcome: &Outcome, word: &str| format!("{outcome}").contains(word);
        assert_eq!(
            is_told(&original, "is pending deprecation"),
            !told.is_empty(),
            "{line}: {original}"
        );
        assert!(is_told(&ours, told), "{line}: {ours}");
        assert_eq!(is_told(&ours, " 2.0"), !told.is_empty(), "{line}: {ours}");
        let entries = |outcome: &Outcome| {
            outcome
                .stdout
                .lines()
                .filter(|line| line.starts_with("A "))
                .map(String::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(entries(&ours), entries(&original), "{line}");
    }
    let log = std::fs::read_to_string(env.root().join("log")).unwrap();
    assert!(
        log.contains("WARNING 1\n. --short-filenames is for") && !log.contains("ERROR"),
        "{log}"
    );
}

/// Times that are none: the beginning that scripts know, then what is one.
#[test]
fn bad_times_are_told_as_by_both_originals() {
    let env = world();
    std::fs::create_dir(env.store_of(Version::Old)).unwrap();
    for line in [
        "list-current-files --time foo URL",
        "remove-older-than 3x URL",
        "full --full-if-older-than '1D' source URL",
    ] {
        let bad = ["foo", "3x", "'1D'"].into_iter().find(|bad| line.contains(bad)).unwrap();
        for version in PROGRAMS {
            let outcome = run(&env, version, line);
            let expected = format!(
                "Bad time string \"'{}'\"",
                bad.replace('\'', if version == Version::Exchanged { "'" } else { "\\x27" })
            );
            assert!(
                outcome.code != 0 && outcome.stderr.contains(&expected),
                "{version:?} {line}: {outcome}"
            );
        }
    }
    run(&env, Version::Exchanged, "list-current-files --time foo URL")
        .failure(2, &["an interval", "3D", "2002-01-25"]);
}

/// Completions know every option that is not hidden, and the pages are those of the commands.
#[test]
fn papers_are_made_from_the_table() {
    let env = Env::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&env, Version::Ours, &format!("completions {shell}")).success().stdout;
        assert!(
            script.contains("collection-status") && script.contains("exclude-if-present"),
            "{shell}"
        );
    }
    let page = run(&env, Version::Ours, "man").success().stdout;
    assert!(page.contains(".TH dupfs 1") && page.contains("collection\\-status"), "{page}");
    let page = run(&env, Version::Ours, "man restore").success().stdout;
    assert!(page.contains(".TH dupfs-restore 1") && page.contains("numeric\\-owner"), "{page}");
    run(&env, Version::Ours, "man nothing").failure(2, &["nothing"]);
}

/// Services of systemd run without `HOME`; the archive directory is where the original has it all
/// the same.
#[test]
fn the_home_directory_is_known_without_its_variable() {
    let env = world();
    let said = |home: Option<&str>| {
        let mut command = env.command(Version::Exchanged.checked());
        command
            .env_remove("XDG_CACHE_HOME")
            .env_remove("HOME")
            .envs(home.map(|home| ("HOME", home)));
        let said = Outcome::of(command.args(["collection-status", "--name=n", &env.url()]))
            .success()
            .stdout;
        said.lines().find_map(|line| line.strip_prefix("Archive dir: ")).unwrap().to_string()
    };
    let mut python = env.command(PYTHON);
    python.env_remove("HOME").args(["-c", "import os.path; print(os.path.expanduser('~'))"]);
    let home = Outcome::of(&mut python).success().stdout;
    let expected = format!("{}/.cache/duplicity/n", home.trim_end());
    assert_eq!((said(None), said(Some(""))), (expected.clone(), expected));
}

#[test]
fn questions_are_answered_though_nobody_reads() {
    let env = world();
    for question in ["--version", "--help", "--help-urls", "--help-full"] {
        let mut command = env.command("sh");
        command
            .args(["-c", "exec \"$0\" \"$1\" >/dev/full"])
            .arg(Version::Exchanged.checked())
            .arg(question);
        let outcome = Outcome::of(&mut command).success();
        assert_eq!(outcome.stderr, "", "{question}");
    }
}

/// As the output cannot be written, the storage is not to blame.
#[test]
fn an_output_that_is_full_is_told_apart() {
    let env = world();
    run(&env, Version::Exchanged, "full --no-encryption source URL").success();
    for action in
        ["list-current-files", "collection-status", "collection-status --file-changed=dir/inner"]
    {
        let mut command = env.command("sh");
        command.args(["-c", &format!("exec \"$0\" {action} --log-file=log \"$1\" >/dev/full")]);
        command.arg(Version::Exchanged.checked()).arg(env.url_of(Version::Exchanged));
        Outcome::of(&mut command)
            .failure(30, &["cannot write the output: No space left on device"]);
        let log = std::fs::read_to_string(env.root().join("log")).unwrap();
        assert!(log.contains("ERROR 30 Exception\n"), "{action}: {log}");
        std::fs::remove_file(env.root().join("log")).unwrap();
    }
}
