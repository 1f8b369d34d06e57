//! `remove-older-than`, `remove-all-but-n-full`, `remove-all-inc-of-but-n-full` and `cleanup`
//! beside both originals, each on a copy of the same collection: what is printed, the exit code,
//! the files that stay in storage and archive directory; and that all go on with what stays.

use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Outcome, Truth, Version, assert_same,
};
use Version::{New, Old, Ours};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// 2026-08-01T12:00:00Z.
const START: i64 = 1_785_585_600;
const HOUR: i64 = 3600;
/// Chains of two sets, three, one, and two.
const ACTIONS: [&str; 8] =
    ["full", "incremental", "full", "incremental", "incremental", "full", "full", "incremental"];

/// A collection that is copied for each program.
struct World {
    env: Env,
    encoding: Encoding,
    truths: BTreeMap<i64, Truth>,
}

impl World {
    /// Makes eight sets, an hour apart, by both originals in turn.
    fn new(encoding: Encoding, options: &[&str]) -> Self {
        let env = encoding.env().zone("Europe/Berlin");
        let mut history = History::new(31, Flavour::Small);
        let (mut truths, mut before) = (BTreeMap::new(), None);
        for (number, action) in (0..).zip(ACTIONS) {
            history.tree.write(before.as_ref(), &env.source());
            let version = if options.is_empty() && number % 2 == 1 { New } else { Old };
            Duplicity::new(&env, version, encoding).backup(action, START + HOUR * number, options);
            let before_it = truths.values().next_back();
            truths.insert(
                START + HOUR * number,
                Truth::of(&history.tree).kept_after(before_it.filter(|_| action != "full")),
            );
            before = Some(history.tree.clone());
            history.edit(5);
        }
        Self { env, encoding, truths }
    }

    /// Returns storage and archive directory of the collection that is copied, or of a copy.
    fn places(&self, version: Option<Version>) -> [PathBuf; 2] {
        match version {
            Some(version) => [self.env.store_of(version), self.env.archive_of(version)],
            None => {
                let mut archives = std::fs::read_dir(self.env.cache().join("duplicity"))
                    .unwrap()
                    .map(|entry| entry.unwrap().path());
                let copies = [Old, New, Ours].map(|version| self.env.archive_of(version));
                [self.env.store(), archives.find(|path| !copies.contains(path)).unwrap()]
            }
        }
    }

    /// Gives each program a copy, without the files that hold one of these words: in storage, in
    /// the archive directory.
    fn copy(&self, lost: &[&str], lost_here: &[&str]) {
        for version in [Old, New, Ours] {
            for ((from, to), lost) in
                self.places(None).iter().zip(self.places(Some(version))).zip([lost, lost_here])
            {
                let _ = std::fs::remove_dir_all(&to);
                Outcome::of(Command::new("cp").arg("-a").arg(from).arg(&to)).success();
                for name in
                    names(&to).iter().filter(|name| lost.iter().any(|word| name.contains(word)))
                {
                    std::fs::remove_file(to.join(name)).unwrap();
                }
            }
        }
    }

    /// Runs a command line on a program's copy.
    fn run(&self, version: Version, words: &[&str]) -> Outcome {
        let mut command = self.env.command(version.checked());
        self.encoding.secrets(&mut command);
        Outcome::of(command.args(words).args(self.encoding.reading()).arg(self.env.url_of(version)))
    }

    /// Returns the names in storage and archive directory of a copy.
    fn left(&self, version: Version) -> [Vec<String>; 2] {
        self.places(Some(version)).map(|place| names(&place))
    }

    /// Runs the same command line with us and an original, and fails unless they say the same, end
    /// alike, and leave the same files.
    #[track_caller]
    fn same(&self, original: Version, words: &[&str]) -> Outcome {
        let [theirs, ours] = [original, Ours].map(|version| self.run(version, words));
        let said =
            |version: Version, outcome: &Outcome| normal(&self.env, version, &outcome.stdout);
        assert_eq!(said(Ours, &ours), said(original, &theirs), "{words:?}: {ours}\n{theirs}");
        assert_eq!((ours.code, &ours.stderr), (theirs.code, &theirs.stderr), "{words:?}");
        assert_eq!(self.left(Ours), self.left(original), "{words:?}: {ours}");
        ours
    }

    /// Restores what is left of our copy, by all, and compares; then each program adds an
    /// increment, and the last one is restored by all.
    fn goes_on(&self, hours: &[i64], what: &str) {
        let last = hours.last().map(|hour| &self.truths[&(START + HOUR * hour)]);
        self.goes_on_from(hours, last, what);
    }

    /// As [`World::goes_on`], when the newest set is none of the world's.
    fn goes_on_from(&self, hours: &[i64], last: Option<&Truth>, what: &str) {
        let restore = |reader: Version, time: i64| {
            let target = self.env.fresh("restored");
            let mut command = self.env.command(reader.checked());
            self.encoding.secrets(&mut command);
            command.args(["restore", "--time", &time.to_string()]).args(self.encoding.reading());
            let outcome = Outcome::of(command.arg(self.env.url_of(Ours)).arg(&target));
            assert_eq!(outcome.code, 0, "{what}: {reader:?} at {time}: {outcome}");
            let found = Truth::record(&target).without_link_times();
            std::fs::remove_dir_all(&target).unwrap();
            found
        };
        for hour in hours {
            let truth = self.truths[&(START + HOUR * hour)].clone().without_link_times();
            for reader in [Old, New, Ours] {
                assert_same(
                    &truth,
                    &restore(reader, START + HOUR * hour),
                    &format!("{what}: {reader:?}, hour {hour}"),
                );
            }
        }
        let source = Truth::record(&self.env.source()).kept_after(last).without_link_times();
        for (number, writer) in (1..).zip([Old, New, Ours]) {
            let time = START + HOUR * (20 + number);
            let mut command = self.env.command(writer.checked());
            self.encoding.secrets(&mut command);
            command
                .args(["incremental", "--current-time", &time.to_string()])
                .args(self.encoding.writing());
            let outcome = Outcome::of(command.arg(self.env.source()).arg(self.env.url_of(Ours)));
            assert_eq!(outcome.code, 0, "{what}: an increment by {writer:?}: {outcome}");
        }
        for reader in [Old, New, Ours] {
            let found = restore(reader, START + HOUR * 23);
            assert_same(&source, &found, &format!("{what}: {reader:?}, the last increment"));
        }
    }
}

fn names(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

/// Returns the lines of an original as 0.8 says them: 3.2.1 does not tell one from several, adds
/// lines, and leaks some. 0.8 says some warnings again when it is done.
fn normal(env: &Env, version: Version, said: &str) -> Vec<String> {
    let is_extra = |line: &&str| {
        line.starts_with("DEBUG:")
            || line.starts_with("Need to use '")
            || *line == "Duplicity backup complete."
    };
    let plural = |line: &str| {
        let line = line
            .replace("WARNING. ", "Warning, ")
            .replace("(s)", "")
            .replace("these file", "this file");
        line.replace("these files", "this file")
            .replace("chains", "chain")
            .replace("times:", "time:")
            .replace("files", "file")
    };
    let archive = env.archive_of(version).display().to_string();
    let mut lines: Vec<String> = Vec::new();
    let mut is_told = false;
    for line in said.lines().filter(|line| !is_extra(line)) {
        let line = plural(&line.replace(&archive, "ARCHIVE"));
        // A block of warnings, and the names below it.
        is_told = match line.starts_with("Warning, ") {
            true => lines.contains(&line),
            false => is_told && (line.starts_with('[') || line.starts_with("duplicity-")),
        };
        if !is_told {
            lines.push(line);
        }
    }
    lines
}

fn at(hour: i64, seconds: i64) -> String {
    (START + HOUR * hour + seconds).to_string()
}

/// All three commands at all borders of times and counts: what is listed, what is said while it is
/// deleted, what stays.
#[test]
fn chains_are_removed_as_the_originals_do() {
    let world = World::new(Encoding::Gzip, &[]);
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = |words: &[&str]| lines.push(words.iter().map(|word| word.to_string()).collect());
    for (hour, seconds) in [(0, 0), (1, 0), (1, 1), (3, 5), (4, 1), (5, 0), (5, 1), (7, 0), (7, 1)]
    {
        line(&["remove-older-than", &at(hour, seconds)]);
        // 0.8.22 deletes signature files of the newest chain when the time lies behind it.
        line(&["remove-older-than", &at(hour, seconds), "--force"]);
    }
    line(&["remove-older-than", "99Y", "--force"]);
    line(&["remove-older-than", "2026-08-01T18:30:00+02:00", "--force", "--dry-run"]);
    line(&["remove-older-than", &at(5, 1), "--force", "-v2"]);
    for count in ["1", "2", "3", "4", "5", "99"] {
        for action in ["remove-all-but-n-full", "remove-all-inc-of-but-n-full"] {
            line(&[action, count]);
            line(&[action, "--force", count]);
        }
    }
    line(&["ro", &at(5, 1), "--force"]);
    line(&["ra", "2", "--force"]);
    line(&["ri", "2", "--force"]);
    let mut kept = BTreeMap::new();
    for words in &lines {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for original in [Old, New] {
            let is_behind = words.contains(&at(7, 1).as_str()) && words.contains(&"--force");
            let has_short_name = words[0].len() == 2;
            if original == Old && (is_behind || has_short_name) {
                continue;
            }
            world.copy(&[], &[]);
            let before = world.left(Ours);
            let outcome = world.same(original, &words).success();
            let changes = words.contains(&"--force") && !words.contains(&"--dry-run");
            assert!(changes || world.left(Ours) == before, "{words:?}: {outcome}");
            kept.insert(world.left(Ours), words.clone());
        }
    }
    // Nothing, one, two or three chains are gone; or the increments of one or two.
    assert_eq!(kept.len(), 6, "{:?}", kept.values());
}

/// What stays can be restored and goes on, encrypted or not, whatever the names look like. No
/// passphrase is asked for.
#[test]
fn what_stays_goes_on() {
    let prefixes: &[&str] =
        &["--file-prefix", "p-", "--file-prefix-manifest", "m-", "--file-prefix-signature", "s-"];
    for (encoding, options, written) in [
        (Encoding::Gzip, &["remove-older-than", &at(5, 0), "--force"][..], &[][..]),
        (Encoding::Symmetric, &["remove-all-but-n-full", "1", "--force"], &[]),
        (Encoding::PublicKey, &["remove-all-inc-of-but-n-full", "1", "--force"], &[]),
        (Encoding::Plain, &["remove-older-than", &at(7, 1), "--force"], &["--short-filenames"]),
        (Encoding::Gzip, &["remove-older-than", &at(5, 1), "--force"], &["--old-filenames"]),
        (Encoding::Gzip, &["remove-all-inc-of-but-n-full", "2", "--force"], prefixes),
    ] {
        let world = World::new(encoding, written);
        world.copy(&[], &[]);
        let is_prefixed = written == prefixes;
        let words = [options, if is_prefixed { prefixes } else { &[] }].concat();
        let original = if options.contains(&at(7, 1).as_str()) { New } else { Old };
        let theirs = world.run(original, &words).success();
        // No key, no passphrase, nobody to ask.
        let ours =
            Outcome::of(world.env.command(Ours.checked()).args(&words).arg(world.env.url_of(Ours)))
                .success();
        assert_eq!(
            normal(&world.env, Ours, &ours.stdout),
            normal(&world.env, original, &theirs.stdout),
            "{encoding:?} {words:?}"
        );
        assert_eq!(world.left(Ours), world.left(original), "{encoding:?} {words:?}");
        if !is_prefixed {
            let hours: &[i64] = match (options[0], options[1]) {
                ("remove-older-than", time) if time == at(5, 0) => &[5, 6, 7],
                ("remove-older-than", time) if time == at(5, 1) => &[6, 7],
                ("remove-all-inc-of-but-n-full", _) => &[0, 2, 5, 6, 7],
                _ => &[6, 7],
            };
            world.goes_on(hours, &format!("{encoding:?} {words:?}"));
        }
    }
}

/// The newest chain stays, with all its files, where the originals would delete some or all of it.
#[test]
fn the_newest_chain_stays_whatever_is_asked() {
    let world = World::new(Encoding::Gzip, &[]);
    let newest: Vec<&str> = vec!["T180000Z"];
    for (lost, what) in [
        (&[][..], "whole"),
        (&["T180000Z.sigtar", "T180000Z.to.20260801T190000Z.sigtar"], "without signatures"),
    ] {
        world.copy(lost, lost);
        let before = world.left(Ours);
        let outcome = world.run(Ours, &["remove-older-than", "now", "--force"]).success();
        let expected = before.map(|names| {
            names
                .into_iter()
                .filter(|name| newest.iter().any(|time| name.contains(time)))
                .collect::<Vec<_>>()
        });
        assert_eq!(world.left(Ours), expected, "{what}: {outcome}");
        assert!(
            outcome.stdout.contains("Current active backup chain is older than specified time."),
            "{what}: {outcome}"
        );
        let outcome = world.run(Ours, &["remove-older-than", "now", "--force"]).success();
        assert!(
            outcome.stdout.ends_with("No old backup sets found, nothing deleted.\n"),
            "{what}: {outcome}"
        );
        // Nor does clean-up take a set that only has lost its signature file.
        let outcome = world.run(Ours, &["cleanup", "--force"]).success();
        assert!(
            outcome.stdout.contains("No extraneous files found, nothing deleted in cleanup."),
            "{what}: {outcome}"
        );
        assert_eq!(world.left(Ours)[0], expected[0], "{what}: {outcome}");
    }
}

/// Incomplete histories: what is old goes as with 0.8.22.
#[test]
fn chains_with_gaps_are_removed_as_the_original_does() {
    let world = World::new(Encoding::Gzip, &[]);
    let words = ["remove-older-than", &at(5, 1), "--force"];
    for (lost, lost_here) in [
        // The archive directory is empty.
        (&[][..], &["duplicity-"][..]),
        // Signatures of a whole chain.
        (
            &["T140000Z.sigtar", "T150000Z.sigtar", "T160000Z.sigtar"],
            &["T140000Z.sigtar", "T150000Z.sigtar", "T160000Z.sigtar"],
        ),
        // Signatures without sets.
        (
            &["full.20260801T120000Z", "inc.20260801T120000Z"],
            &["full.20260801T120000Z", "inc.20260801T120000Z"],
        ),
    ] {
        world.copy(lost, lost_here);
        world.same(Old, &words).success();
    }
    // A set that counts as incomplete stays for clean-up, and so does what builds on it; of their
    // signature files only ours keeps any.
    world.copy(
        &["20260801T140000Z.to.20260801T150000Z.manifest"],
        &["20260801T140000Z.to.20260801T150000Z.manifest"],
    );
    let [theirs, ours] = [Old, Ours].map(|version| world.run(version, &words).success());
    let told = |version: Version, outcome: &Outcome| {
        let lines = normal(&world.env, version, &outcome.stdout).into_iter();
        lines
            .filter(|line| !line.starts_with("Deleting complete signature chain"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(Ours, &ours), told(Old, &theirs));
    let unsigned = |version: Version| {
        world
            .left(version)
            .map(|names| names.into_iter().filter(|name| !name.contains("sig")).collect::<Vec<_>>())
    };
    assert_eq!(unsigned(Ours), unsigned(Old));
    world.run(Ours, &["cleanup", "--force"]).success();
    let newest = |name: &String| name.contains("T180000Z");
    assert!(world.left(Ours).iter().flatten().all(newest), "{:?}", world.left(Ours));
    world.goes_on(&[6, 7], "after a gap");
}

/// Clean-up says and takes what 0.8.22 says and takes; where sets go, their signature files and
/// local copies go with them, which the original leaves.
#[test]
fn clean_up_takes_what_the_original_takes() {
    let world = World::new(Encoding::Gzip, &[]);
    let full_signatures = "duplicity-full-signatures.20260801T140000Z";
    for (lost, lost_here) in [
        (&[][..], &[][..]),
        // To be deleted here, by synchronisation; what the original would fetch only to list it is
        // not fetched: `chain_end`.
        (&["20260801T120000Z"], &[]),
        // Signature files in no chain.
        (&[full_signatures], &[full_signatures]),
        (&[full_signatures], &[]),
    ] {
        for forced in [
            &["cleanup"][..],
            &["cleanup", "--dry-run"],
            &["cleanup", "--dry-run", "--force"],
            &["cleanup", "--force"],
            &["cl", "--force"],
        ] {
            for original in [Old, New] {
                if original == New || forced[0] == "cleanup" {
                    world.copy(lost, lost_here);
                    let outcome = world.same(original, forced).success();
                    let is_clean = outcome.stdout.contains("No extraneous files found");
                    assert_eq!(is_clean, !lost.contains(&full_signatures), "{outcome}");
                }
            }
        }
    }
    for lost in [
        // The full set: its increments are in no chain.
        &["full.20260801T140000Z"][..],
        // A manifest: the set is incomplete, the one on it in no chain.
        &["20260801T140000Z.to.20260801T150000Z.manifest"],
        &["full.20260801T180000Z.manifest"],
    ] {
        for forced in [&["cleanup"][..], &["cleanup", "--force"]] {
            world.copy(lost, lost);
            let before = world.left(Ours);
            let [theirs, ours] = [Old, Ours].map(|version| world.run(version, forced).success());
            let told = |version: Version, outcome: &Outcome| {
                let lines = normal(&world.env, version, &outcome.stdout).into_iter();
                lines.filter(|line| !line.contains("-signatures.")).collect::<Vec<_>>()
            };
            assert_eq!(told(Ours, &ours), told(Old, &theirs), "{lost:?} {forced:?}");
            if forced.len() == 1 {
                assert_eq!(world.left(Ours), before, "{lost:?}: {ours}");
                continue;
            }
            // The original's next synchronisation takes the local copies of manifests.
            world.run(Old, &["cleanup"]).success();
            let unsigned = |version: Version| {
                world.left(version).map(|names| {
                    names
                        .into_iter()
                        .filter(|name| !name.contains("-signatures."))
                        .collect::<Vec<_>>()
                })
            };
            assert_eq!(unsigned(Ours), unsigned(Old), "{lost:?}");
            for original in [Old, New] {
                let again = world.run_on_ours(original, &["cleanup"]).success();
                assert!(
                    again.stdout.contains("No extraneous files found"),
                    "{lost:?}: {original:?}: {again}"
                );
            }
        }
    }
    // The newest chain has lost its last set: an increment on what is left is possible at once.
    world.copy(
        &["20260801T180000Z.to.20260801T190000Z.manifest"],
        &["20260801T180000Z.to.20260801T190000Z.manifest"],
    );
    world.run(Ours, &["cleanup", "--force"]).success();
    world.goes_on(&[0, 1, 2, 3, 4, 5, 6], "the last manifest was lost");
}

impl World {
    /// Runs a command line of another program on our copy.
    fn run_on_ours(&self, version: Version, words: &[&str]) -> Outcome {
        let mut command = self.env.command(version.checked());
        self.encoding.secrets(&mut command);
        Outcome::of(command.args(words).args(self.encoding.reading()).arg(self.env.url_of(Ours)))
    }
}

/// Encrypted collections are cleaned without a passphrase, also when the archive directory is lost.
#[test]
fn clean_up_needs_no_passphrase() {
    let world = World::new(Encoding::Symmetric, &[]);
    for lost_here in [&[][..], &["duplicity-"]] {
        world.copy(&["20260801T140000Z.to.20260801T150000Z.manifest"], lost_here);
        let mut command = world.env.command(Ours.checked());
        let outcome =
            Outcome::of(command.args(["cleanup", "--force"]).arg(world.env.url_of(Ours))).success();
        let stored = &world.left(Ours)[0];
        assert!(!stored.iter().any(|name| name.contains("T150000Z")), "{outcome}");
        assert_eq!(stored.len(), 24 - 6, "{outcome}");
    }
    world.goes_on(&[0, 1, 2, 5, 6, 7], "cleaned without passphrase");
}

/// A backup that was interrupted can be gone on with, as long as nobody forces its removal.
#[test]
fn an_interrupted_backup_goes_only_if_forced() {
    for (writer, action) in
        [(Ours, "incremental"), (Ours, "full"), (Old, "incremental"), (Old, "full")]
    {
        let what = format!("{writer:?} {action}");
        let world = World::new(Encoding::Gzip, &[]);
        world.copy(&[], &[]);
        let whole = world.left(Ours);
        let noise = crate::support::Random::new(5).bytes(4_500_000);
        std::fs::write(world.env.source().join("noise"), noise).unwrap();
        let back_up = |version: Version, hour: i64, options: &[&str]| {
            let mut command = world.env.command(version.checked());
            command
                .args([action, "--volsize", "1", "--no-encryption", "--current-time", &at(hour, 0)])
                .args(options);
            Outcome::of(command.arg(world.env.source()).arg(world.env.url_of(Ours)))
        };
        let failed = back_up(writer, 9, &["--fail-on-volume", "4"]);
        assert_ne!(failed.code, 0, "{what}: {failed}");
        let interrupted = world.left(Ours);
        assert!(
            interrupted[0].len() > whole[0].len() && interrupted[1].len() > whole[1].len(),
            "{what}: {interrupted:?}, {failed}"
        );
        // Nothing is touched by old chains going, nor by clean-up that only looks.
        let listed = world.run(Ours, &["cleanup"]).success();
        assert!(
            listed.stdout.contains("vol1.difftar.gz\n")
                && listed.stdout.contains(".manifest.part\n"),
            "{what}: {listed}"
        );
        world.run(Ours, &["cleanup", "--force", "--dry-run"]).success();
        assert_eq!(world.left(Ours), interrupted, "{what}: {listed}");
        let removed = world.run(Ours, &["remove-older-than", "now", "--force"]).success();
        let is_new = |name: &&String| !whole.iter().flatten().any(|old| old == *name);
        for (left, interrupted) in world.left(Ours).iter().zip(&interrupted) {
            assert!(
                interrupted.iter().filter(is_new).all(|name| left.contains(name)),
                "{what}: {removed}"
            );
        }
        if writer == Ours || action == "full" {
            let outcome = back_up(Ours, 10, &[]).success();
            assert!(outcome.stdout.contains("Restarting after volume"), "{what}: {outcome}");
            let last = world.truths.values().next_back().filter(|_| action != "full");
            world.goes_on_from(&[6, 7], last, &format!("{what}, gone on with"));
            continue;
        }
        let forced = world.run(Ours, &["cleanup", "--force"]).success();
        assert!(world.left(Ours).iter().flatten().all(|name| !is_new(&name)), "{what}: {forced}");
        world.goes_on(&[6, 7], &format!("{what}, removed"));
    }
}

/// Forced clean-up of a session of ours leaves nothing of it, in storage, archive directory, or our
/// own cache; the next backup is a new one.
#[test]
fn forced_clean_up_takes_all_of_an_interrupted_backup() {
    for action in ["incremental", "full"] {
        let world = World::new(Encoding::Gzip, &[]);
        world.copy(&[], &[]);
        let whole = world.left(Ours);
        std::fs::write(
            world.env.source().join("noise"),
            crate::support::Random::new(5).bytes(4_500_000),
        )
        .unwrap();
        let back_up = |hour: i64, options: &[&str]| {
            let mut command = world.env.command(Ours.checked());
            command
                .args([action, "--volsize", "1", "--no-encryption", "--current-time", &at(hour, 0)])
                .args(options);
            Outcome::of(command.arg(world.env.source()).arg(world.env.url_of(Ours)))
        };
        back_up(9, &["--fail-on-volume", "4"]);
        let outcome = world.run(Ours, &["cleanup", "--force"]).success();
        assert_eq!(world.left(Ours), whole, "{action}: {outcome}");
        let caches = std::fs::read_dir(world.env.cache().join("dupfs"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let journals =
            caches.flat_map(|cache| names(&cache)).filter(|name| name.starts_with("session"));
        assert_eq!(journals.collect::<Vec<_>>(), [""; 0], "{action}: {outcome}");
        for original in [Old, New] {
            let again = world.run_on_ours(original, &["cleanup"]).success();
            assert!(
                again.stdout.contains("No extraneous files found"),
                "{action}: {original:?}: {again}"
            );
        }
        let next = back_up(10, &[]).success();
        assert!(
            !next.stdout.contains("Restarting") && !next.stdout.contains("partial"),
            "{action}: {next}"
        );
        let last = world.truths.values().next_back().filter(|_| action != "full");
        world.goes_on_from(&[0, 4, 5, 6, 7], last, action);
    }
}

/// A writer that was killed leaves the beginning of a file under a name that no duplicity looks at:
/// clean-up takes it, whatever has become of its set, and looks at nothing else of that kind.
#[test]
fn beginnings_of_files_go() {
    let world = World::new(Encoding::Gzip, &[]);
    world.copy(&[], &[]);
    let whole = world.left(Ours);
    let [store, _] = world.places(Some(Ours));
    let begun = [
        ".dupfs-duplicity-full.20260801T120000Z.vol1.difftar.gpg.tmp",
        ".dupfs-duplicity-inc.20260802T120000Z.to.20260802T130000Z.vol3.difftar.gz.tmp",
    ];
    begun
        .iter()
        .chain(&[".dupfs-other.tmp"])
        .for_each(|name| std::fs::write(store.join(name), "begun").unwrap());
    let listed = world.run(Ours, &["cleanup"]).success();
    assert!(begun.iter().all(|name| listed.stdout.contains(&format!("{name}\n"))), "{listed}");
    assert!(
        !listed.stdout.contains("other") && listed.stdout.contains("the following files to delete"),
        "{listed}"
    );
    world.run(Ours, &["cleanup", "--force"]).success();
    assert!(store.join(".dupfs-other.tmp").exists());
    std::fs::remove_file(store.join(".dupfs-other.tmp")).unwrap();
    assert_eq!(world.left(Ours), whole);
    let again = world.run(Ours, &["cleanup", "--force"]).success();
    assert!(again.stdout.contains("No extraneous files found"), "{again}");
}

/// Statistics go with their set, as 3.2.1 has it; in the archive directory, too, also when no set
/// is left.
#[test]
fn statistics_go_with_their_set() {
    let world = World::new(Encoding::Gzip, &[]);
    for place in world.places(None) {
        for set in [
            "full.20260801T120000Z",
            "inc.20260801T120000Z.to.20260801T130000Z",
            "full.20260801T180000Z",
        ] {
            std::fs::write(place.join(format!("duplicity-{set}.jsonstat.gz")), "{}").unwrap();
        }
    }
    world.copy(&[], &[]);
    world.same(New, &["remove-older-than", &at(2, 0), "--force"]).success();
    // To 3.2.1 those without a set are a set of their own.
    for place in [New, Ours].iter().flat_map(|version| world.places(Some(*version))) {
        std::fs::write(place.join("duplicity-full.20260801T110000Z.jsonstat.gz"), "{}").unwrap();
    }
    let [theirs, ours] =
        [New, Ours].map(|version| world.run(version, &["cleanup", "--force"]).success());
    assert_eq!(normal(&world.env, Ours, &ours.stdout), normal(&world.env, New, &theirs.stdout));
    assert_eq!(world.left(Ours)[0], world.left(New)[0]);
    let rest = |place: usize| {
        world.left(Ours)[place]
            .iter()
            .filter(|name| name.contains("jsonstat"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (rest(0), rest(1)),
        (vec!["duplicity-full.20260801T180000Z.jsonstat.gz".to_string()], rest(0))
    );
}

/// Rows of removed chains are gone from the catalog at the next use, and a mount or list shows what
/// is left.
#[test]
fn the_catalog_forgets_removed_chains() {
    let world = World::new(Encoding::Gzip, &[]);
    world.copy(&[], &[]);
    let times: Vec<i64> = world.truths.keys().copied().collect();
    times.iter().for_each(|time| {
        drop(world.run(Ours, &["list-current-files", "--time", &time.to_string()]).success())
    });
    let rows = || {
        let cache = std::fs::read_dir(world.env.cache().join("dupfs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let connection = rusqlite::Connection::open(cache.join("catalog.sqlite")).unwrap();
        let count = |table: &str| -> i64 {
            connection
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
                .unwrap()
        };
        ["chains", "sets", "versions"].map(count)
    };
    let before = rows();
    assert_eq!(before[..2], [4, 8]);
    world.run(Ours, &["remove-all-but-n-full", "1", "--force"]).success();
    world.run(Ours, &["list-current-files"]).success();
    let after = rows();
    assert_eq!(after[..2], [1, 2]);
    assert!(after[2] > 0 && after[2] < before[2], "{before:?}, {after:?}");
    let status = world.run(Ours, &["collection-status"]).success();
    assert!(
        status.stdout.contains("Found 0 secondary backup chains.")
            && status.stdout.contains("No orphaned or incomplete"),
        "{status}"
    );
}

/// What cannot be understood, reached or deleted.
#[test]
fn failures_are_told() {
    let world = World::new(Encoding::Gzip, &[]);
    world.copy(&[], &[]);
    let before = world.left(Ours);
    for (words, told) in [
        (&["remove-older-than", "soon", "--force"][..], "Bad time string \"'soon'\""),
        (
            &["remove-all-but-n-full", "x", "--force"],
            "remove-all-but-n-full count must be a whole number, not 'x'",
        ),
        (&["remove-all-but-n-full", "0", "--force"], "remove-all-but-n-full count must be > 0"),
        (
            &["remove-all-inc-of-but-n-full", "0", "--force"],
            "remove-all-inc-of-but-n-full count must be > 0",
        ),
        (&["remove-all-but-n-full", "-1", "--force"], "-1"),
        (&["remove-older-than", "--force"], "required"),
    ] {
        world.run(Ours, words).failure(2, &[told]);
        assert_eq!(world.left(Ours), before, "{words:?}");
    }
    let outcome = world.run(Ours, &["--extra-clean", "cleanup", "--force"]).success();
    assert_eq!(outcome.stdout.matches("--extra-clean has no effect").count(), 1, "{outcome}");
    assert_eq!(world.left(Ours), before);
    for words in [&["cleanup", "--force"][..], &["remove-older-than", "now", "--force"]] {
        let mut command = world.env.command(Ours.checked());
        let file = std::env::current_exe().unwrap();
        Outcome::of(command.args(words).arg(format!("file://{}", file.display())))
            .failure(52, &["cannot list"]);
    }
    // Its disk is not mounted: what the archive directory knows is not taken for outdated.
    let (store, elsewhere) = (world.env.store_of(Ours), world.env.root().join("elsewhere"));
    std::fs::rename(&store, &elsewhere).unwrap();
    for words in [
        &["cleanup", "--force"][..],
        &["remove-older-than", "now", "--force"],
        &["collection-status"],
    ] {
        world.run(Ours, words).failure(52, &["cannot list", "whether its disk is mounted"]);
    }
    std::fs::rename(&elsewhere, &store).unwrap();
    assert_eq!(world.left(Ours), before);
}

/// While another program is at work on the archive directory, nothing is removed.
#[test]
fn one_at_a_time() {
    let world = World::new(Encoding::Gzip, &[]);
    world.copy(&[], &[]);
    let before = world.left(Ours)[0].clone();
    let holder = world.env.hold(&world.env.archive_of(Ours));
    for words in [
        &["cleanup", "--force"][..],
        &["remove-older-than", "now", "--force"],
        &["remove-all-but-n-full", "1", "--force"],
    ] {
        let told = "Another duplicity instance is already running with this archive directory";
        world.run(Ours, words).failure(23, &[told]);
        assert_eq!(world.left(Ours)[0], before, "{words:?}");
    }
    drop(holder);
    world.run(Ours, &["remove-all-but-n-full", "1", "--force"]).success();
    assert_ne!(world.left(Ours)[0], before);
}
