//! Every action beside both originals, on the same collections: what is printed on stdout and
//! stderr, the exit code, the files that come and go in storage.
//!
//! `beside.txt` holds what we print for each command line, and in which lines the originals differ.
//! Each of these lines has its reason in [`ON_PURPOSE`]; a line without one fails. The file is
//! written anew by `DUPFS_WRITE_SNAPSHOTS=1 cargo test beside`.

use crate::support::{Encoding, Env, Kind, Node, Outcome, Tree, Version};
use Version::{Exchanged, New, Old};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// 2026-08-01T12:00:00Z.
const START: i64 = 1_785_585_600;

/// What an original does in another way.
struct Reason {
    of: &'static [Version],
    /// What the command line holds; nothing for any.
    words: &'static str,
    /// How a line begins that it alone (`-`), or we alone (`+`), print; nothing for any.
    line: &'static str,
    /// Why ours is as it is. Not printed: it is for whoever wants to change it.
    #[expect(dead_code)]
    why: &'static str,
}

const fn reason(
    of: &'static [Version],
    words: &'static str,
    line: &'static str,
    why: &'static str,
) -> Reason {
    Reason { of, words, line, why }
}

const BOTH: &[Version] = &[Old, New];

/// All that is different on purpose.
///
/// Beyond these: 3.2.1 says `chain(s)` for one and for several, leaks lines `DEBUG: …`, and ends
/// even failures with `Duplicity backup complete.`, which is all set aside.
const ON_PURPOSE: &[Reason] = &[
    // What is understood: the words of either version.
    reason(
        &[Old],
        "",
        "+ No valid action found. Will imply",
        "said by 3.x, so that nobody restores who wanted to save",
    ),
    reason(&[Old], "$ duplicity backup ", "", "an action of 3.x"),
    reason(&[Old], "--path-to-restore docs/ ", "", "an option of 3.x"),
    reason(&[New], "--file-to-restore docs/a ", "", "an option of 0.8, which 3.x renamed"),
    reason(
        &[New],
        "--path-to-restore docs/ ",
        "- ",
        "0.8 strips slashes, which completion in a shell leaves there; 3.x finds nothing",
    ),
    // What is synchronised, and counted.
    reason(
        &[New],
        "$ duplicity full ",
        "+ Local and Remote metadata are synchronized",
        "a full backup synchronises in 0.8, not in 3.x",
    ),
    reason(BOTH, "--dry-run", "- SourceFiles ", "counts folders again that hold files"),
    reason(BOTH, "--dry-run", "+ SourceFiles 7", "the number that the backup itself tells"),
    // One clear line in place of a traceback; exit codes are the same.
    reason(BOTH, "", "- stderr:  duplicity.dup_collections.CollectionsError", "a traceback"),
    reason(BOTH, "", "+ stderr: No backup chains found in 'file://ROOT/store'", "one clear line"),
    reason(BOTH, "--show-changes-in-set 7", "- stderr:  IndexError", "a traceback"),
    reason(BOTH, "--show-changes-in-set 7", "+ stderr: there is no set 7", "one clear line"),
    reason(BOTH, "", "+ stderr: hint: ", "what to do about it"),
    // A folder that is not there.
    reason(BOTH, "URL/no/where", "- stores no", "made only when something is to be stored"),
    reason(
        BOTH,
        "URL/no/where",
        "+ cannot list 'ROOT/store/no/where': No such file",
        "its disk may not be mounted",
    ),
    // Restoring.
    reason(BOTH, "restore --no-encryption URL altered", "- stderr: ", "ours says the way out, too"),
    reason(
        BOTH,
        "restore --no-encryption URL altered",
        "+ stderr: 'altered' exists and is not an empty directory",
        "as above",
    ),
    reason(
        &[Old],
        "--force URL altered",
        "- Error '[Errno 17] File exists",
        "links, fifos and devices are replaced, too",
    ),
    reason(
        &[New],
        "--force URL altered",
        "",
        "3.x ignores --force, by which Déjà Dup restores in place",
    ),
    reason(
        BOTH,
        "restore -v2 --no-encryption --time 1Y",
        "+ No signature chain for the requested time.",
        "not what was asked for: said as by list-current-files",
    ),
    // Verifying.
    reason(BOTH, "verify", "+ Checked the hashes of ", "what was really looked at"),
    // Python's quotes.
    reason(&[New], "--file-changed", "- File: b'docs/a'", "a slip"),
    reason(&[New], "--file-changed", "+ File: docs/a", "as 0.8"),
    reason(
        BOTH,
        "--file-changed",
        "-                 Full         Sat Aug  1 16:00:00 2026                b'New'",
        "a slip",
    ),
    reason(
        BOTH,
        "--file-changed",
        "-          Incremental         Sat Aug  1 17:00:00 2026            b'Changed'",
        "a slip",
    ),
    reason(
        BOTH,
        "--file-changed",
        "+                 Full         Sat Aug  1 16:00:00 2026                   New",
        "without it",
    ),
    reason(
        BOTH,
        "--file-changed",
        "+          Incremental         Sat Aug  1 17:00:00 2026               Changed",
        "without it",
    ),
    // Removing.
    reason(&[New], "remove-", "- Need to use 'remove-", "the last line says so once"),
    reason(BOTH, "cleanup", "- duplicity-new-signatures.", "told twice when it is here and there"),
    // A wrong passphrase: told by us in a line, the same for all actions, and nothing is stored by
    // an incremental backup.
    reason(&[Old], "PASSPHRASE=wrong incremental", "", "0.8 stores a set with another passphrase"),
    reason(
        &[New],
        "PASSPHRASE=wrong incremental",
        "- exit code 1",
        "the code that front-ends ask for the passphrase at",
    ),
    reason(
        BOTH,
        "PASSPHRASE=wrong",
        "- stderr: ",
        "gpg's words; they stand in the machine log, where front-ends look for them",
    ),
    reason(
        BOTH,
        "PASSPHRASE=wrong",
        "+ stderr: cannot decode 'duplicity-inc.",
        "the same in one line",
    ),
];

/// Returns the source at each backup.
fn sources() -> [Tree; 3] {
    let first = Tree::new(100)
        .with("docs", Node::directory(101))
        .with("docs/a", Node::file("a\n".repeat(3000), 102))
        .with("docs/b", Node::file("b\n", 103))
        .with("link", Node::symlink("docs/a", 104))
        .with("pipe", Node::new(Kind::Fifo, 105))
        .with("top", Node::file("top\n", 106));
    let second = first
        .clone()
        .with("docs/a", Node::file("a\n".repeat(3000) + "more\n", 202))
        .with("new", Node::file("new\n", 203));
    let mut third = second.clone().with("top", Node::file("changed\n", 306));
    third.0.remove(&b"docs/b"[..]);
    [first, second, third]
}

/// How the lines begin that programs print of themselves and their machine at -v5.
const MACHINERY: &[&str] = &[
    "================================",
    "Added incremental Backupset",
    "Args:",
    "AsyncScheduler:",
    "Deleting /",
    "dupfs ",
    "duplicity 0.8",
    "duplicity 3.2",
    "Found 1 volumes in manifest",
    "GPG binary",
    "Ignoring incremental Backupset",
    "Import of",
    "Linux ",
    "Main action",
    "Processing local ",
    "Processing remote ",
    "Temp has",
    "Using archive dir",
    "Using backup name",
    "Using temporary directory",
];

/// A collection, from which each program starts.
struct World {
    env: Env,
    encoding: Encoding,
    /// The archive directory.
    archive: PathBuf,
    said: String,
    unexplained: Vec<String>,
    used: BTreeSet<usize>,
}

impl World {
    /// Lets 0.8.22 save the source at these hours; a full backup each time the hour is even.
    fn new(encoding: Encoding, hours: &[i64]) -> Self {
        let env = encoding.env().zone("Europe/Berlin");
        let [first, second, third] = sources();
        let mut before = None;
        for hour in hours {
            let (action, tree) =
                if hour % 2 == 0 { ("full", &first) } else { ("incremental", &second) };
            tree.write(before, &env.source());
            let mut command = env.command(Old.checked());
            encoding.secrets(&mut command);
            command
                .args([action, "--current-time", &(START + 3600 * hour).to_string()])
                .args(encoding.writing());
            Outcome::of(command.args(["source", &env.url()])).success();
            before = Some(tree);
        }
        third.write(before, &env.source());
        let altered =
            third.with("top", Node::file("altered\n", 306)).with("mine", Node::file("mine\n", 1));
        altered.write(None, &env.root().join("altered"));
        let archive = env.archive_of_url(&env.url());
        Self {
            env,
            encoding,
            archive,
            said: String::new(),
            unexplained: Vec::new(),
            used: BTreeSet::new(),
        }
    }

    /// Removes the stored and local files whose names hold this.
    fn without(self, name: &str) -> Self {
        let mut found = Vec::new();
        list(&self.env.store(), &mut found);
        list(&self.env.cache(), &mut found);
        found.retain(|path| path.contains(name));
        assert!(!found.is_empty(), "{name}");
        found.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        self
    }

    /// Keeps this collection as the one that each program starts from.
    fn keep(self) -> Self {
        copy(&self.env.store(), &self.env.root().join("kept-store"));
        copy(&self.env.cache(), &self.env.root().join("kept-cache"));
        copy(&self.env.root().join("altered"), &self.env.root().join("kept-altered"));
        self
    }

    /// Runs a command line with a program from the beginning; returns how it ended, and its lines.
    fn run(&self, version: Version, line: &str) -> (i32, Vec<String>) {
        let env = &self.env;
        copy(&env.root().join("kept-store"), &env.store());
        copy(&env.root().join("kept-cache"), &env.cache());
        copy(&env.root().join("kept-altered"), &env.root().join("altered"));
        let _ = std::fs::remove_dir_all(env.root().join("target"));
        let _ = std::fs::remove_file(env.root().join("target"));
        let before = names(&env.store());
        let mut command = env.command(version.checked());
        self.encoding.secrets(&mut command);
        let (variables, words): (Vec<_>, Vec<_>) =
            line.split(' ').partition(|word| word.starts_with("PASSPHRASE="));
        command.envs(variables.iter().filter_map(|word| word.split_once('=')));
        command.args(words.iter().map(|word| word.replace("URL", &env.url())));
        let outcome = Outcome::of(&mut command);
        let after = names(&env.store());
        let mut lines = self.normal(version, &outcome.stdout, "");
        lines.extend(self.normal(version, &outcome.stderr, "stderr: "));
        lines.extend(before.difference(&after).map(|name| format!("deletes {name}")));
        lines.extend(after.difference(&before).map(|name| format!("stores {name}")));
        (outcome.code, lines)
    }

    /// Returns lines without what no two runs have in common, and without what a program says of
    /// its own works.
    fn normal(&self, version: Version, said: &str, mark: &str) -> Vec<String> {
        let archive = self.archive.to_str().unwrap();
        let said =
            said.replace(archive, "ARCHIVE").replace(self.env.root().to_str().unwrap(), "ROOT");
        // What 0.8.22 answers a bad option with first.
        let said = said.find("duplicity: error:").map_or(&said[..], |error| &said[error..]);
        let mut lines: Vec<String> = Vec::new();
        let mut is_trace = false;
        for line in said.lines() {
            // 3.2.1 leaks the first at any verbosity, and says the second at each end, also of a
            // failure.
            let is_leaked = version == New
                && (line.starts_with("DEBUG:") || line == "Duplicity backup complete.");
            let is_machinery =
                line.starts_with('/') || MACHINERY.iter().any(|start| line.starts_with(start));
            // Of a traceback, the last line, which is indented by one blank only.
            is_trace = line.starts_with("Traceback ") || is_trace && line.starts_with("  ");
            let is_blank = line.is_empty() && !mark.is_empty();
            if is_leaked || is_machinery || is_trace || is_blank {
                continue;
            }
            let line = match line.split(' ').next().unwrap_or_default() {
                name @ ("StartTime" | "EndTime" | "ElapsedTime" | "TotalDestinationSizeChange") => {
                    format!("{name} …")
                }
                _ => line.to_string(),
            };
            lines.push(format!("{mark}{line}").trim_end().to_string());
        }
        lines
    }

    /// Compares the three, and writes down what they say.
    fn beside(&mut self, line: &str) {
        let [old, new, ours] = [Old, New, Exchanged].map(|version| self.run(version, line));
        self.said += &format!("$ duplicity {line}\n");
        ours.1.iter().for_each(|line| {
            self.said += &format!("{}\n", format!("    {}", shown(line)).trim_end())
        });
        self.said += &format!("    exit code {}\n", ours.0);
        for (version, name, theirs) in [(Old, "0.8.22", old), (New, "3.2.1", new)] {
            let blur = |lines: &[String]| {
                lines
                    .iter()
                    .map(|line| if version == New { blurred(line) } else { line.clone() })
                    .collect::<Vec<_>>()
            };
            let mut differences = difference(&theirs.1, &ours.1, &blur(&theirs.1), &blur(&ours.1));
            if theirs.0 != ours.0 {
                differences.push(format!("- exit code {}", theirs.0));
            }
            if !differences.is_empty() {
                self.said += &format!("  {name}:\n");
            }
            for difference in differences {
                self.said += &format!("  {difference}\n");
                let is_reason = |reason: &Reason| {
                    reason.of.contains(&version)
                        && format!("$ duplicity {line}").contains(reason.words)
                        && difference.starts_with(reason.line)
                };
                let reason = ON_PURPOSE.iter().position(is_reason);
                match reason {
                    Some(reason) => drop(self.used.insert(reason)),
                    None => self.unexplained.push(format!("{name}: {line}\n    {difference}")),
                }
            }
        }
        self.said += "\n";
        self.check_verbose(line, &ours.1);
    }

    /// Fails unless -v9 says all that is said by default, in its order, among other things.
    fn check_verbose(&self, line: &str, told: &[String]) {
        if line.contains("-v") {
            return;
        }
        let (_, verbose) = self.run(Exchanged, &format!("{line} -v9"));
        let mut rest = verbose.iter();
        let missing = told.iter().find(|line| !rest.any(|verbose| verbose == *line));
        assert_eq!(missing, None, "{line} -v9: {verbose:#?}");
    }
}

/// Returns a line as the snapshot has it: without the sizes that count folders, which each file
/// system makes as large as it likes.
fn shown(line: &str) -> String {
    match line.split(' ').next().unwrap_or_default() {
        name @ ("SourceFileSize" | "NewFileSize") if !line.ends_with(" 0 (0 bytes)") => {
            format!("{name} …")
        }
        _ => line.to_string(),
    }
}

/// Returns a line without the endings by which 0.8.22 tells one from several, and 3.2.1 does not.
fn blurred(line: &str) -> String {
    let line = line
        .replace("WARNING. ", "Warning, ")
        .replace("(s)", "")
        .replace("these file", "this file");
    let line = line
        .replace("these files", "this file")
        .replace("chains", "chain")
        .replace("times:", "time:");
    line.replace("sets", "set").replace("files", "file").replace("differences", "difference")
}

/// Returns the lines that only they have, with `-`, and that only we have, with `+`: the shortest
/// list, by what is compared.
fn difference(
    theirs: &[String],
    ours: &[String],
    their_keys: &[String],
    our_keys: &[String],
) -> Vec<String> {
    let (rows, columns) = (theirs.len(), ours.len());
    let mut common = vec![vec![0; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = match their_keys[row] == our_keys[column] {
                true => common[row + 1][column + 1] + 1,
                false => common[row + 1][column].max(common[row][column + 1]),
            };
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && their_keys[row] == our_keys[column] {
            (row, column) = (row + 1, column + 1);
        } else if column == columns
            || row < rows && common[row + 1][column] >= common[row][column + 1]
        {
            lines.push(format!("- {}", theirs[row]));
            row += 1;
        } else {
            lines.push(format!("+ {}", ours[column]));
            column += 1;
        }
    }
    lines
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    Outcome::of(Command::new("cp").arg("-a").arg(from).arg(to)).success();
}

fn list(place: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(place).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => list(&entry.path(), found),
            false => found.push(entry.path().to_str().unwrap().to_string()),
        }
    }
}

fn names(place: &Path) -> BTreeSet<String> {
    std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn each_action_is_that_of_the_originals() {
    type Beside = (&'static str, &'static [&'static str], fn() -> World);
    let worlds: [Beside; 4] = [
        ("An empty folder", EMPTY, || World::new(Encoding::Gzip, &[])),
        ("Two chains of two sets each, at 12, 13, 14 and 15 hours UTC", CHAINS, || {
            World::new(Encoding::Gzip, &[0, 1, 2, 3])
        }),
        ("The same, whose oldest full set is lost", LEFTOVERS, || {
            World::new(Encoding::Gzip, &[0, 1, 2, 3])
                .without("full.20260801T120000Z")
                .without("full-signatures.20260801T120000Z")
        }),
        ("A chain of two sets, encrypted with a passphrase", ENCRYPTED, || {
            World::new(Encoding::Symmetric, &[0, 1])
        }),
    ];
    let worlds = std::thread::scope(|scope| {
        let runs = worlds.map(|(title, lines, make)| {
            scope.spawn(move || {
                let mut world = make().keep();
                world.said = format!("=== {title}\n\n");
                lines.iter().for_each(|line| world.beside(line));
                world
            })
        });
        runs.map(|run| run.join().unwrap())
    });
    let said: String = worlds.iter().map(|world| world.said.as_str()).collect();
    let unexplained: Vec<_> =
        worlds.iter().flat_map(|world| &world.unexplained).map(String::as_str).collect();
    assert!(unexplained.is_empty(), "differences without a reason:\n{}", unexplained.join("\n"));
    let unused = (0..ON_PURPOSE.len())
        .filter(|number| !worlds.iter().any(|world| world.used.contains(number)));
    let unused: Vec<_> =
        unused.map(|number| (ON_PURPOSE[number].words, ON_PURPOSE[number].line)).collect();
    assert!(unused.is_empty(), "no difference like this any more: {unused:?}");
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/beside.txt");
    if std::env::var_os("DUPFS_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&snapshot, &said).unwrap();
    }
    let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
    let (known, said) = (lines(&std::fs::read_to_string(&snapshot).unwrap()), lines(&said));
    let changes = difference(&known, &said, &known, &said);
    assert!(
        changes.is_empty(),
        "what is printed has changed, from - to +:\n{}",
        changes.join("\n")
    );
}

const EMPTY: &[&str] = &[
    "source --no-encryption URL --current-time 1785600000",
    "source --no-encryption URL --dry-run",
    "full --no-encryption source URL --current-time 1785600000",
    "incremental --no-encryption source URL",
    "--no-encryption URL target",
    "verify --no-encryption URL source",
    "list-current-files --no-encryption URL",
    "collection-status URL",
    "collection-status --file-changed top URL",
    "remove-older-than 1D URL",
    "remove-all-but-n-full 1 --force URL",
    "remove-all-inc-of-but-n-full 1 URL",
    "cleanup --no-encryption URL",
    // Before the first backup.
    "collection-status --name there URL/no/where",
    "remove-older-than 1D --name there URL/no/where",
    "cleanup --name there --no-encryption --force URL/no/where",
    "full --name there --no-encryption --no-print-statistics source URL/no/where",
];

const CHAINS: &[&str] = &[
    "source --no-encryption URL --current-time 1785600000",
    "backup --no-encryption source URL --current-time 1785600000 --no-print-statistics",
    "full --no-encryption source URL --current-time 1785600000",
    "incremental --no-encryption source URL --current-time 1785600000",
    "incremental --no-encryption source URL --dry-run",
    "incremental --no-encryption source URL --full-if-older-than 1s --no-print-statistics --current-time 1785600000",
    "incremental -v2 --no-encryption source URL --current-time 1785600000",
    "incremental -v5 --no-encryption source URL --current-time 1785600000",
    "--no-encryption URL target",
    "restore --no-encryption --file-to-restore docs/a URL target",
    "restore --no-encryption --path-to-restore docs/ URL target",
    "restore --no-encryption -r nope URL target",
    "restore --no-encryption URL altered",
    "restore --no-encryption --force URL altered",
    "restore --no-encryption --dry-run URL target",
    "restore -v2 --no-encryption --time 1Y URL target",
    "verify --no-encryption URL altered",
    "verify --no-encryption --compare-data URL altered",
    "verify -v2 --no-encryption --compare-data -r top URL altered/top",
    "list-current-files --no-encryption URL",
    "list-current-files -v2 --no-encryption --time 1Y URL",
    "list-current-files -v5 --no-encryption URL",
    "collection-status URL",
    "collection-status -v2 --file-changed docs/a URL",
    "collection-status --show-changes-in-set 0 URL",
    "collection-status --show-changes-in-set 7 URL",
    "remove-older-than 20260801T133000Z URL",
    "remove-older-than 20260801T133000Z --force URL",
    "remove-older-than 20260801T133000Z --time now URL",
    "remove-older-than -v5 20260801T133000Z --force --dry-run URL",
    "remove-all-but-n-full 1 URL",
    "remove-all-but-n-full 1 -v2 --force URL",
    "remove-all-inc-of-but-n-full 1 URL",
    "remove-all-inc-of-but-n-full 1 --force URL",
    "cleanup -v2 --no-encryption --force URL",
];

const LEFTOVERS: &[&str] = &[
    "incremental --no-encryption source URL --no-print-statistics --current-time 1785600000",
    "restore --no-encryption URL target",
    "verify --no-encryption URL source",
    "list-current-files -v2 --no-encryption URL",
    "collection-status URL",
    "remove-older-than 20260801T133000Z --force URL",
    "cleanup --no-encryption URL",
    "cleanup --no-encryption --force --dry-run URL",
    "cleanup --no-encryption --force URL",
];

const ENCRYPTED: &[&str] = &[
    "incremental source URL --no-print-statistics --current-time 1785600000",
    "PASSPHRASE=wrong incremental source URL --no-print-statistics --current-time 1785600000",
    "restore URL target",
    "PASSPHRASE=wrong restore URL target",
    "PASSPHRASE=wrong verify URL source",
    "list-current-files URL",
    "cleanup URL",
];
