//! The exit code of each class of failure, by both originals and by us; and whatever fails says why
//! in a line, and stores nothing.

use crate::support::{Env, Node, Outcome, PASSPHRASE, PYTHON, Random, Tree, Version};
use Version::{Exchanged, New, Old};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const TIME: i64 = 1_785_585_600;

/// What each program finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// A source, and no folder for backups.
    Nothing,
    /// An empty folder.
    Empty,
    /// A full backup, by 0.8.22.
    Saved,
    /// The same, with one byte of the volume changed.
    Damaged,
    /// The same, without the volume.
    Lost,
    /// A backup that is encrypted by a passphrase, and the archive directory.
    Encrypted,
    /// The same without archive directory.
    Uncached,
    /// A backup while another program is at work on it.
    Locked,
    /// A backup, and a folder `small` on a device of its own of 64 KiB.
    Small,
    /// A backup, and nobody who reads the output.
    Unread,
}

/// A failure: what is given, the command line, exit codes of 0.8.22, 3.2.1 and ours, a part of what
/// we say, and why our code is neither's, if so.
type Class = (Given, &'static str, [i32; 3], &'static str, &'static str);

use Given::{Damaged, Empty, Encrypted, Locked, Lost, Nothing, Saved, Small, Uncached, Unread};

const CLASSES: &[Class] = &[
    // The command line. 2 is the code of 0.8; front-ends only ask whether it is 0.
    (Nothing, "", [2, 23, 2], "Expected 2 args, got 0", ""),
    (Nothing, "full source", [2, 23, 2], "Expected 2 args, got 1", ""),
    (Nothing, "full URL target", [2, 23, 2], "full option cannot be used", ""),
    (
        Nothing,
        "full --no-such-option source URL",
        [2, 23, 2],
        "no such option: --no-such-option",
        "",
    ),
    (Nothing, "full --volsize much source URL", [2, 23, 2], "--volsize", ""),
    (Nothing, "full --metadata-sync-mode some source URL", [2, 23, 2], "--metadata-sync-mode", ""),
    (Saved, "list-current-files --time soon URL", [2, 23, 2], "soon", ""),
    (Nothing, "backup --full-if-older-than soon source URL", [2, 23, 2], "soon", ""),
    (Nothing, "full --exclude-older-than soon source URL", [2, 23, 2], "soon", ""),
    (
        Saved,
        "remove-older-than soon URL",
        [30, 23, 2],
        "soon",
        "a bad time is a bad command line, as in an option",
    ),
    (
        Saved,
        "remove-all-but-n-full x URL",
        [30, 23, 2],
        "whole number, not 'x'",
        "so is a bad number",
    ),
    (Saved, "remove-all-but-n-full 0 URL", [2, 30, 2], "count must be > 0", ""),
    // Places.
    (Nothing, "full source gopher://me:secret@host/x", [23, 23, 23], "gopher://me:***@host/x", ""),
    (
        Nothing,
        "full --no-encryption missing URL",
        [13, 23, 13],
        "Backup source directory missing does not exist.",
        "",
    ),
    (
        Saved,
        "verify --no-encryption URL missing",
        [12, 0, 12],
        "Verify directory missing does not exist",
        "",
    ),
    (Nothing, "full --archive-dir file source URL", [9, 23, 9], "file", ""),
    (Nothing, "full --no-encryption --tempdir missing source URL", [30, 30, 30], "missing", ""),
    (
        Nothing,
        "full --no-encryption --num-retries 1 source file://ROOT/file/below",
        [50, 50, 52],
        "file/below",
        "there is no such folder",
    ),
    (
        Nothing,
        "list-current-files --no-encryption URL",
        [30, 30, 52],
        "No such file",
        "nor is it made, as by both, only to be read",
    ),
    (
        Small,
        "full --no-encryption --tempdir small source URL",
        [35, 35, 0],
        "",
        "nothing large is put there",
    ),
    (
        Small,
        "full --no-encryption --num-retries 1 source file://ROOT/small/store",
        [53, 50, 53],
        "No space left",
        "",
    ),
    // Selections.
    (
        Nothing,
        "full --no-encryption --exclude-filelist missing source URL",
        [7, 23, 7],
        "Error opening file missing",
        "",
    ),
    (
        Nothing,
        "full --no-encryption --exclude-filelist latin source URL",
        [30, 30, 30],
        "latin",
        "",
    ),
    (
        Nothing,
        "full --no-encryption --exclude-regexp ( source URL",
        [30, 30, 30],
        "Error compiling regular expression (",
        "",
    ),
    (
        Nothing,
        "full --no-encryption --exclude /etc source URL",
        [14, 14, 14],
        "cannot match any files",
        "",
    ),
    (
        Nothing,
        "full --no-encryption --exclude source//top source URL",
        [15, 15, 15],
        "Consecutive '/'s found",
        "",
    ),
    (
        Nothing,
        "full --no-encryption --include source/top source URL",
        [16, 16, 16],
        "the expression is redundant",
        "",
    ),
    // Collections.
    (Empty, "restore --no-encryption URL target", [30, 30, 30], "No backup chains found", ""),
    (Empty, "verify --no-encryption URL source", [30, 30, 30], "No backup chains found", ""),
    (Empty, "list-current-files --no-encryption URL", [30, 30, 30], "No backup chains found", ""),
    (Empty, "incremental --no-encryption source URL", [17, 17, 17], "Old signatures not found", ""),
    (
        Saved,
        "incremental --no-encryption other URL",
        [42, 42, 42],
        "Backup source directory has changed.",
        "",
    ),
    (Saved, "restore --no-encryption --time 1Y URL target", [0, 0, 0], "", ""),
    (
        Saved,
        "restore --no-encryption -r nope URL target",
        [19, 19, 19],
        "nope not found in archive",
        "",
    ),
    (Saved, "restore --no-encryption URL source", [11, 11, 11], "'source' exists", ""),
    (
        Locked,
        "full --no-encryption source URL",
        [23, 23, 23],
        "Another duplicity instance is already running",
        "",
    ),
    (
        Locked,
        "cleanup --no-encryption URL",
        [23, 23, 23],
        "Another duplicity instance is already running",
        "",
    ),
    // What is stored.
    (Damaged, "restore --no-encryption --num-retries 1 URL target", [21, 21, 21], "noise", ""),
    (
        Damaged,
        "verify --no-encryption --num-retries 1 URL source",
        [21, 21, 21],
        "Verify incomplete",
        "",
    ),
    (
        Lost,
        "restore --no-encryption --num-retries 1 URL target",
        [30, 1, 90],
        "noise",
        "what is there is restored",
    ),
    (
        Lost,
        "verify --no-encryption --num-retries 1 URL source",
        [30, 1, 90],
        "Verify incomplete",
        "no crash",
    ),
    // What is restored.
    (
        Saved,
        "restore --no-encryption URL file/target",
        [0, 23, 90],
        "file/target",
        "nothing is restored, which is no success",
    ),
    (
        Saved,
        "restore --no-encryption --force URL other",
        [30, 11, 90],
        "cannot restore 'top'",
        "not all is restored",
    ),
    (Small, "restore --no-encryption URL small/target", [30, 30, 30], "No space left", ""),
    (
        Unread,
        "list-current-files --no-encryption URL",
        [120, 120, 0],
        "",
        "whoever closes the pipe has read enough",
    ),
    // Passphrases.
    (Encrypted, "PASSPHRASE=wrong restore URL target", [31, 31, 31], "wrong passphrase", ""),
    (Encrypted, "PASSPHRASE=wrong verify URL source", [31, 31, 31], "wrong passphrase", ""),
    (Uncached, "PASSPHRASE=wrong list-current-files URL", [31, 31, 31], "wrong passphrase", ""),
    (
        Encrypted,
        "PASSPHRASE=wrong incremental source URL",
        [0, 1, 31],
        "wrong passphrase",
        "front-ends ask again at 31",
    ),
    (Encrypted, "restore URL target", [30, 30, 30], "set PASSPHRASE", ""),
    (Encrypted, "incremental source URL", [30, 30, 30], "set PASSPHRASE", ""),
    (Uncached, "list-current-files URL", [30, 30, 30], "set PASSPHRASE", ""),
];

/// The collections that are copied for each program, by whether they are encrypted.
struct World {
    env: Env,
}

impl World {
    fn new() -> Self {
        let env = Env::new();
        let source = Tree::new(5)
            .with("noise", Node::file(Random::new(3).bytes(200_000), 6))
            .with("top", Node::file("top", 7));
        source.write(None, &env.source());
        for folder in ["other/top/below", "small"] {
            std::fs::create_dir_all(env.root().join(folder)).unwrap();
        }
        std::fs::write(env.root().join("file"), "").unwrap();
        std::fs::write(env.root().join("latin"), b"\xe4\n").unwrap();
        let world = Self { env };
        for kind in ["plain", "encrypted"] {
            let mut command = world.env.command(Old.checked());
            command.env("PASSPHRASE", PASSPHRASE).args([
                "full",
                "--current-time",
                &TIME.to_string(),
                "source",
            ]);
            command.args((kind == "plain").then_some("--no-encryption"));
            Outcome::of(command.arg(format!("file://{}/{kind}", world.env.root().display())))
                .success();
        }
        world
    }

    /// Gives a program its collection.
    fn give(&self, version: Version, given: Given) {
        let env = &self.env;
        let (store, archive) = (env.store_of(version), env.archive_of(version));
        let made = ["target", "missing", "cache/dupfs"].map(|name| env.root().join(name));
        made.iter()
            .chain([&store, &archive])
            .for_each(|place| drop(std::fs::remove_dir_all(place)));
        let kind = match given {
            Nothing => return,
            Empty => return std::fs::create_dir(store).unwrap(),
            Encrypted | Uncached => "encrypted",
            _ => "plain",
        };
        let copy = |from: &Path, to: &Path| {
            drop(Outcome::of(Command::new("cp").arg("-a").arg(from).arg(to)).success())
        };
        copy(&env.root().join(kind), &store);
        if given != Uncached {
            copy(&env.archive_of_url(&format!("file://{}/{kind}", env.root().display())), &archive);
        }
        let volume = store.join("duplicity-full.20260801T120000Z.vol1.difftar.gz");
        match given {
            Damaged => {
                let mut bytes = std::fs::read(&volume).unwrap();
                bytes[100_000] ^= 1;
                std::fs::write(volume, bytes).unwrap();
            }
            Lost => std::fs::remove_file(volume).unwrap(),
            _ => {}
        }
    }

    /// Runs a command line where nobody is to be asked.
    fn run(&self, version: Version, given: Given, line: &str) -> Outcome {
        let env = &self.env;
        let mut command = env.command("setsid");
        command.arg("--wait");
        match given {
            Small => {
                let script = "mount -t tmpfs -o size=64k tmpfs small && exec \"$@\"";
                command.args([
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    script,
                    "sh",
                ]);
            }
            Unread => drop(command.args([
                "bash",
                "-c",
                "{ sleep 0.1; exec \"$@\"; } | true; exit ${PIPESTATUS[0]}",
                "bash",
            ])),
            _ => {}
        }
        command.arg(version.checked());
        for word in line.split_whitespace() {
            match word.strip_prefix("PASSPHRASE=") {
                Some(passphrase) => command.env("PASSPHRASE", passphrase),
                None => command.arg(
                    word.replace("URL", &env.url_of(version))
                        .replace("ROOT", env.root().to_str().unwrap()),
                ),
            };
        }
        let _lock = (given == Locked).then(|| env.hold(&env.archive_of(version)));
        Outcome::of(&mut command)
    }
}

fn names(place: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(place)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default()
}

#[test]
fn each_class_has_the_code_of_the_originals() {
    let world = World::new();
    let mut wrong = Vec::new();
    for (given, line, codes, said, why) in CLASSES {
        for (version, code) in [Old, New, Exchanged].into_iter().zip(codes) {
            world.give(version, *given);
            let before = names(&world.env.store_of(version));
            let outcome = world.run(version, *given, line);
            if outcome.code != *code {
                wrong.push(format!("{version:?} {given:?} '{line}': not {code} but {outcome}"));
            }
            if version != Exchanged {
                continue;
            }
            let is_clear = *code == 0 && outcome.stderr.is_empty()
                || *code != 0
                    && outcome.stderr.contains(said)
                    && !outcome.stderr.contains("panicked");
            if !is_clear || outcome.stderr.contains("secret") {
                wrong.push(format!("'{line}' does not say '{said}': {outcome}"));
            }
            if *code != 0 && names(&world.env.store_of(version)) != before {
                wrong.push(format!("'{line}' stored or deleted something: {outcome}"));
            }
        }
        assert!(
            codes[..2].contains(&codes[2]) == why.is_empty(),
            "'{line}': say why the code is neither's"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Ctrl-C while a passphrase is asked for ends the program, unless whoever started it ignores
/// Ctrl-C, as scripts do for what they leave in the background.
#[test]
fn ctrl_c_has_a_code_of_its_own() {
    let world = World::new();
    // What the terminal makes of Ctrl-C is a signal. Who is not ended by it gets its passphrase,
    // twice.
    let script = "import os, pty, signal, sys\npid, fd = pty.fork()\n\
        if pid == 0:\n  signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))\n  os.execvp(sys.argv[2], sys.argv[2:])\nseen = b''\n\
        while not seen.endswith(b'decryption: '): seen += os.read(fd, 4096)\nos.kill(pid, signal.SIGINT)\n\
        try:\n  for prompt in range(2):\n    os.write(fd, b'correct horse\\n')\n    while not seen.endswith(b'confirm: '): seen += os.read(fd, 4096)\n  \
        while os.read(fd, 4096): pass\n\
        except OSError: pass\n\
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    for (disposition, code) in [("SIG_DFL", 4), ("SIG_IGN", 0)] {
        for version in [Old, New, Exchanged] {
            let mut python = world.env.command(PYTHON);
            python.args(["-c", script, disposition]).arg(version.checked()).args([
                "full",
                "source",
                &world.env.url_of(version),
            ]);
            let outcome = Outcome::of(&mut python);
            assert_eq!(outcome.code, code, "{version:?} {disposition}: {outcome}");
        }
    }
}

/// Front-ends ask for the passphrase themselves when they read this, and whoever has none is told
/// which variable to set; also where there is no stdin at all, at which the originals stumble.
#[test]
fn nobody_to_ask_for_a_passphrase_is_told_in_the_log() {
    let world = World::new();
    for (given, line) in [
        (Encrypted, "restore URL target --log-file log"),
        (Uncached, "list-current-files URL --log-file log"),
        (Encrypted, "full source URL --log-file log"),
        (Encrypted, "incremental source URL --log-file log"),
    ] {
        let log = world.env.root().join("log");
        for version in [Old, New, Exchanged] {
            let _ = std::fs::remove_file(&log);
            world.give(version, given);
            let outcome = world.run(version, given, line);
            let said = std::fs::read_to_string(&log).unwrap();
            assert!(
                outcome.code == 30 && said.contains("ERROR 30 EOFError\n"),
                "{version:?} {line}: {outcome}{said}"
            );
            // The error is all that is said to nobody.
            assert!(
                version != Exchanged || !outcome.stderr.contains("GnuPG passphrase"),
                "{line}: {outcome}"
            );
        }
        world.give(Exchanged, given);
        let mut closed = world.env.command("setsid");
        closed.args(["--wait", "sh", "-c", "exec \"$@\" <&-", "sh"]).arg(Exchanged.checked());
        closed.args(line.split(' ').map(|word| word.replace("URL", &world.env.url_of(Exchanged))));
        Outcome::of(&mut closed).failure(30, &["set PASSPHRASE"]);
    }
}
