//! The machine log beside those of both originals: the same numbers, words and data for the same
//! work.

use crate::support::{Env, Node, Outcome, Tree, Version};

const TIME: i64 = 1_785_585_600;

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    /// Level, code and words.
    head: String,
    data: Vec<String>,
    text: Vec<String>,
}

impl Message {
    fn has_code(&self, code: &str) -> bool {
        self.head.split(' ').nth(1) == Some(code)
    }
}

/// Reads a log; fails if it is not made of messages as the protocol has them.
fn messages(log: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut lines = log.lines();
    while let Some(head) = lines.next() {
        let level = head.split(' ').next().unwrap();
        assert!(
            ["ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"].contains(&level),
            "'{head}' is no head in {log}"
        );
        let body: Vec<_> =
            lines.by_ref().take_while(|line| !line.is_empty()).map(String::from).collect();
        let (text, data) = body.into_iter().partition(|line| line.starts_with(". "));
        messages.push(Message { head: head.into(), data, text });
    }
    messages
}

/// Runs a program with these words, `URL` standing for its own collection; returns how it ended and
/// what it logged.
fn run(env: &Env, version: Version, line: &str) -> (Outcome, Vec<Message>) {
    let log = env.root().join("log");
    let _ = std::fs::remove_file(&log);
    let words = line.split_whitespace().map(|word| word.replace("URL", &env.url_of(version)));
    let outcome =
        Outcome::of(env.command(version.checked()).args(words).args(["--log-file", "log"]));
    (outcome, messages(&std::fs::read_to_string(&log).unwrap_or_default()))
}

/// Returns the messages of these codes without their text.
fn of_codes(messages: &[Message], codes: &[&str]) -> Vec<Message> {
    let of = messages.iter().filter(|message| codes.iter().any(|code| message.has_code(code)));
    of.map(|message| Message { text: Vec::new(), ..message.clone() }).collect()
}

fn world() -> Env {
    let env = Env::new().zone("Europe/Berlin");
    let tree = Tree::new(5)
        .with("dir", Node::directory(6))
        .with("dir/b 'q' é", Node::file("inner", 7))
        .with("top", Node::file("top", 8))
        .with("gone", Node::file("gone", 8));
    tree.write(None, &env.source());
    std::os::unix::net::UnixListener::bind(env.source().join("socket")).unwrap();
    // The originals make a folder that is missing, even to read it.
    for version in [Version::Old, Version::New, Version::Exchanged] {
        std::fs::create_dir(env.store_of(version)).unwrap();
    }
    env
}

/// A backup, its dry run and its increment: each path, the socket, and how much of the source has
/// been met at the end.
#[test]
fn backups_are_followed() {
    let env = world();
    let save = |version, action: &str, time: i64| {
        let line = format!("{action} -v5 --no-encryption --current-time {time} source URL");
        let (outcome, log) = run(&env, version, &line);
        outcome.success();
        let progress = of_codes(&log, &["2"]).pop();
        (of_codes(&log, &["4", "5", "6", "11", "13", "15"]), progress)
    };
    let programs = [Version::Old, Version::Exchanged];
    for action in ["full --dry-run", "full"] {
        let [original, ours] = programs.map(|version| save(version, action, TIME));
        assert_eq!(ours, original, "{action}");
        let volumes = if action == "full" { 2 } else { 0 };
        assert_eq!(ours.0.len(), 6 + volumes, "{ours:?}");
    }
    std::fs::remove_file(env.source().join("gone")).unwrap();
    std::fs::write(env.source().join("top"), "changed").unwrap();
    std::fs::write(env.source().join("…\u{1f600}\\"), "new").unwrap();
    for action in ["incremental --dry-run", "incremental"] {
        let [original, ours] = programs.map(|version| save(version, action, TIME + 100));
        assert_eq!(ours, original, "{action}");
        // The root, too, unless all this is within one second.
        assert!(ours.0.len() >= 4, "{ours:?}");
    }
}

/// What reads tells the same: listing and status at any verbosity, restored paths, and volumes that
/// are done.
#[test]
fn readers_are_followed() {
    let env = world();
    let programs = [Version::Old, Version::New, Version::Exchanged];
    for version in programs {
        for time in [TIME, TIME + 100] {
            let words = if time == TIME { "full" } else { "incremental" };
            run(
                &env,
                version,
                &format!("{words} --no-encryption --current-time {time} source URL"),
            )
            .0
            .success();
        }
    }
    let ask = |line: &str, codes: &[&str]| {
        programs.map(|version| {
            let (outcome, log) =
                run(&env, version, &line.replace("TARGET", &format!("target-{version:?}")));
            outcome.success();
            of_codes(&log, codes)
        })
    };
    for (line, codes) in [
        ("list-current-files --no-encryption -v0 URL", &["10"][..]),
        ("collection-status -v0 URL", &["3"]),
        ("restore --no-encryption -v5 URL TARGET", &["2"]),
    ] {
        let [old, new, ours] = ask(line, codes);
        assert!(!old.is_empty() && old == new, "{line}: {old:?} {new:?}");
        assert_eq!(ours.last(), old.last(), "{line}");
        assert!(codes == ["2"] || ours == old, "{line}: {ours:?}");
    }
    std::fs::remove_dir_all(env.root().join("target-Old")).unwrap();
    std::fs::remove_dir_all(env.root().join("target-New")).unwrap();
    std::fs::remove_dir_all(env.root().join("target-Exchanged")).unwrap();
    let mut restored = ask("restore --no-encryption -v5 URL TARGET", &["7"]);
    restored.iter_mut().for_each(|messages| messages.sort());
    assert_eq!(restored[2], restored[0]);
    let early = ask("list-current-files --no-encryption --time 100 URL", &["11"]);
    assert_eq!((early[2].len(), &early[2]), (1, &early[0]));
}

/// From -v8 on every action tells first what backups there are, to programs and to people; those
/// that ask for it are told again.
#[test]
fn every_action_tells_first_what_there_is() {
    let env = world();
    let programs = [Version::Old, Version::Exchanged];
    for version in programs {
        run(&env, version, &format!("full --no-encryption --current-time {TIME} source URL"))
            .0
            .success();
        run(
            &env,
            version,
            &format!("full --no-encryption --current-time {} source URL", TIME + 100),
        )
        .0
        .success();
    }
    for (number, (line, told)) in [
        ("list-current-files --no-encryption URL", 1),
        ("restore --no-encryption URL TARGET", 1),
        ("verify --no-encryption URL source", 1),
        ("incremental --no-encryption --current-time NEXT source URL", 1),
        ("full --dry-run --no-encryption source URL", 1),
        ("collection-status URL", 2),
        ("collection-status --file-changed top URL", 2),
        ("collection-status --show-changes-in-set 0 URL", 2),
        ("remove-older-than 1000Y URL", 1),
        ("remove-all-but-n-full 1 URL", 1),
        ("cleanup --no-encryption URL", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let at = |verbosity: u8| {
            programs.map(|version| {
                let line =
                    line.replace("TARGET", &format!("target-{number}-{verbosity}-{version:?}"));
                let line = line.replace("NEXT", &(TIME + 1000 - i64::from(verbosity)).to_string());
                let (outcome, log) = run(&env, version, &format!("{line} -v{verbosity}"));
                let at: Vec<usize> =
                    (0..log.len()).filter(|&at| log[at].head.trim_end() == "INFO 3").collect();
                let before = at.first().map(|at| log[at - 1].text.clone());
                let told: Vec<_> = at.into_iter().map(|at| log[at].clone()).map(normal).collect();
                let shown =
                    outcome.success().stdout.matches("\nFound 1 secondary backup chain.\n").count();
                (before, told, shown)
            })
        };
        let [original, ours] = at(8);
        assert_eq!(ours, original, "{line}");
        assert_eq!(ours.1.len(), told, "{line}: {ours:?}");
        let [original, ours] = at(7);
        assert_eq!((&ours.1, ours.2), (&original.1, original.2), "{line}");
    }
}

/// Takes out where the archive directory is, and Python's quotes.
fn normal(message: Message) -> Message {
    let text = message.text.into_iter().filter(|line| !line.starts_with(". Archive dir: "));
    Message {
        text: text.map(|line| line.replace("          b'New'", "             New")).collect(),
        ..message
    }
}

/// Runs a program as somebody who owns nothing.
fn run_as_nobody(env: &Env, version: Version, line: &str) -> (Outcome, Vec<Message>) {
    use std::os::unix::fs::PermissionsExt;
    let place = env.root().join("of nobody");
    let log = place.join("log");
    std::fs::create_dir_all(&place).unwrap();
    let _ = std::fs::remove_file(&log);
    for (path, mode) in [(env.root(), 0o755), (&place, 0o777), (&env.store_of(version), 0o777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // Where it was built nobody else may come.
    let program = match version {
        Version::Old => version.checked().to_path_buf(),
        _ => place.join("bin/dupfs"),
    };
    if !program.exists() {
        std::fs::create_dir(place.join("bin")).unwrap();
        std::fs::copy(version.checked(), &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = env.command("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(program)
        .env("XDG_CACHE_HOME", &place);
    let words = line.split_whitespace().map(|word| word.replace("URL", &env.url_of(version)));
    let outcome = Outcome::of(command.args(words).arg("--log-file").arg(&log));
    (outcome, messages(&std::fs::read_to_string(&log).unwrap_or_default()))
}

fn warnings(log: &[Message]) -> Vec<String> {
    log.iter()
        .map(|message| message.head.clone())
        .filter(|head| head.starts_with("WARNING") && head != "WARNING 1")
        .collect()
}

/// What cannot be asked for, and what cannot be read.
#[test]
fn unreadable_paths_are_followed() {
    use std::os::unix::fs::PermissionsExt;
    let env = world();
    for (path, mode) in [("listed", 0o744), ("closed", 0o700)] {
        let folder = env.source().join(path);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("inside"), "x").unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::set_permissions(env.source().join("top"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    let programs = [Version::Old, Version::Exchanged];
    for action in ["full", "full --dry-run", "verify"] {
        let line =
            if action == "verify" { "verify URL source" } else { &format!("{action} source URL") };
        let [original, ours] = programs.map(|version| {
            let (outcome, log) = run_as_nobody(&env, version, &format!("{line} --no-encryption"));
            outcome.success();
            warnings(&log)
        });
        assert_eq!(ours, original, "{action}");
        assert_eq!(
            ours,
            [
                "WARNING 10 'source/closed'",
                "WARNING 9 'source/listed/inside'",
                "WARNING 10 'source/top'"
            ]
        );
    }
}

/// What cannot be restored, and what is skipped for that: each once.
#[test]
fn skipped_paths_are_followed() {
    let env = world();
    std::fs::create_dir_all(env.source().join("dir/deep")).unwrap();
    std::fs::write(env.source().join("dir/deep/file"), "x").unwrap();
    std::fs::create_dir(env.root().join("closed")).unwrap();
    let [original, ours] = [Version::Old, Version::Exchanged].map(|version| {
        run(&env, version, &format!("full --no-encryption --current-time {TIME} source URL"))
            .0
            .success();
        let (outcome, log) = run_as_nobody(&env, version, "restore --no-encryption URL closed");
        let mut told = warnings(&log);
        told.sort();
        (outcome, told)
    });
    assert_eq!(ours.1, original.1);
    let quoted = r"WARNING 13 'dir/b \x27q\x27 \xe9'".to_string();
    assert!(
        ours.1.contains(&quoted) && ours.1.contains(&"WARNING 13 'dir/deep/file'".to_string()),
        "{ours:?}"
    );
    ours.0.failure(
        90,
        &["Skipping dir/deep because of previous error\n", "7 of 7 entries could not be restored"],
    );
}

/// What verify says of differences is a notice without number, and that there are some is no error.
#[test]
fn differences_are_followed() {
    let env = world();
    let told = [Version::Old, Version::Exchanged].map(|version| {
        run(&env, version, &format!("full --no-encryption --current-time {TIME} source URL"))
            .0
            .success();
        let _ = std::fs::create_dir(env.root().join("empty"));
        // Of the same time as the source, whose socket has just been made.
        Outcome::of(env.command("touch").args(["-r", "source", "empty"])).success();
        let (outcome, log) =
            run(&env, version, "verify --compare-data --no-encryption -v5 URL empty");
        let is_told = |message: &&Message| {
            message.has_code("2") || message.text[0].contains("Difference found")
        };
        let errors = log.iter().filter(|message| message.head.starts_with("ERROR")).count();
        // The originals compare while they read.
        let mut told: Vec<_> = log.iter().filter(is_told).cloned().collect();
        told.sort();
        (outcome.code, told, errors)
    });
    assert_eq!(told[1], told[0]);
    assert_eq!((told[0].0, told[0].1.len()), (1, 5), "{told:?}");
}

/// Failures carry the number that is the exit code, and the words that front-ends know.
#[test]
fn failures_are_followed() {
    let env = world();
    let programs = [Version::Old, Version::Exchanged];
    for (line, code) in [
        ("list-current-files --no-encryption URL", 30),
        ("incremental --no-encryption source URL", 17),
        ("source source", 2),
        ("c URL", 2),
        ("list-current-files bad://x", 23),
        ("full --no-encryption nowhere URL", 13),
        ("full --no-encryption --current-time 1785585600 source URL", 0),
        ("restore --no-encryption -r nope URL target", 19),
        ("restore --no-encryption URL source", 11),
        ("incremental --no-encryption dir URL", 42),
    ] {
        let _ = std::fs::create_dir(env.root().join("dir"));
        let [original, ours] = programs.map(|version| {
            let (outcome, log) = run(&env, version, line);
            assert_eq!(outcome.code, code, "{version:?} {line}: {outcome}");
            log.into_iter()
                .filter(|message| message.head.starts_with("ERROR"))
                .map(|message| message.head)
                .collect::<Vec<_>>()
        });
        assert_eq!(ours, original, "{line}");
    }
}

/// A passphrase that is missing, and one that is wrong, are told as front-ends know them, which
/// then ask for it.
#[test]
fn passphrases_are_followed() {
    let env = world();
    let ended = |version: Version, passphrase: Option<&str>, line: &str| {
        let log = env.root().join("log");
        let _ = std::fs::remove_file(&log);
        let words = line.split(' ').map(|word| word.replace("URL", &env.url_of(version)));
        let mut command = env.command(version.checked());
        let outcome = Outcome::of(
            command
                .envs(passphrase.map(|word| ("PASSPHRASE", word)))
                .args(words)
                .args(["--log-file", "log"]),
        );
        let mut errors = messages(&std::fs::read_to_string(log).unwrap());
        errors.retain(|message| message.head.starts_with("ERROR"));
        let is_wrong = errors
            .iter()
            .flat_map(|error| &error.text)
            .any(|line| line.contains("Bad session key"));
        (outcome.code, errors.into_iter().map(|error| error.head).collect::<Vec<_>>(), is_wrong)
    };
    let programs = [Version::Old, Version::Exchanged];
    let [original, ours] = programs.map(|version| {
        assert_eq!(ended(version, Some("right"), "full source URL").0, 0);
        env.clear_caches();
        ["wrong", ""].map(|word| {
            ended(version, Some(word).filter(|word| !word.is_empty()), "restore URL target")
        })
    });
    assert_eq!(original[0], (31, vec!["ERROR 31 GPGError".into()], true));
    assert_eq!(ours, original);
}

/// Nothing that is no failure is logged as one, each message is one write, and passwords stay out
/// of it.
#[test]
fn the_log_goes_to_a_descriptor_and_tells_no_password() {
    let env = world();
    let shell = format!(
        "exec {} -v9 --gio --file-prefix x list-current-files bad://me:secret@host/x --log-fd 7 7>log 2>/dev/null",
        Version::Exchanged.checked().display()
    );
    let outcome = Outcome::of(env.command("sh").args(["-c", &shell]));
    assert_eq!(outcome.code, 23, "{outcome}");
    let log = std::fs::read_to_string(env.root().join("log")).unwrap();
    assert!(!log.contains("secret") && !outcome.stdout.contains("secret"), "{log}");
    let heads: Vec<_> = messages(&log).into_iter().map(|message| message.head).collect();
    assert_eq!(
        heads.iter().filter(|head| head.starts_with("ERROR")).collect::<Vec<_>>(),
        ["ERROR 23 UnsupportedBackendScheme"]
    );
    assert!(heads.contains(&"WARNING 1".to_string()), "{heads:?}");
    run(&env, Version::Exchanged, "--log-fd 99 collection-status URL")
        .0
        .failure(30, &["descriptor 99"]);
}

#[test]
fn messages_bear_the_time_if_that_is_wanted() {
    let env = world();
    let stamped = |version| {
        let (outcome, _) = run(&env, version, "collection-status --log-timestamp URL");
        // The time itself is of now: digits.
        let digits = |line: &str| {
            line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>()
        };
        outcome.success().stdout.lines().take(3).map(digits).collect::<Vec<_>>()
    };
    assert_eq!(stamped(Version::Exchanged), stamped(Version::New));
}
