//! Random histories whose sets are written by this program, 0.8.22 and 3.2.1, whoever comes: all of
//! them, and the mount, read the truth of every time, and find nothing to complain about.
//!
//! The caches are kept between two sets, or lost: all of them, or those of one program only. Who
//! finds them kept must not notice that somebody else has been at work.

use super::{Version, seeds};
use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Mounted, Outcome, Random, Truth, Writer,
    assert_same,
};
use std::collections::BTreeMap;

use Version::{New, Old};

/// Sets of a history.
const SETS: usize = 5;

/// A played history.
struct Played {
    env: Env,
    encoding: Encoding,
    truths: BTreeMap<i64, Truth>,
    /// Who wrote what, for whoever reads of a failure.
    story: String,
    /// Sets in the newest chain.
    newest: usize,
}

/// What is left of the caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caches {
    Kept,
    AllLost,
    /// Those of the originals, which this program uses, too.
    ArchiveLost,
    /// The catalog.
    OursLost,
}

impl Caches {
    fn lose(self, env: &Env) {
        let lose = |name| drop(std::fs::remove_dir_all(env.cache().join(name)));
        match self {
            Self::Kept => {}
            Self::AllLost => env.clear_caches(),
            Self::ArchiveLost => lose("duplicity"),
            Self::OursLost => lose("dupfs"),
        }
    }
}

/// Plays a history and lets one program after the other save it.
fn play(seed: u64, encoding: Encoding) -> Played {
    let env = encoding.env();
    let mut history = History::new(seed ^ (encoding as u64) << 32, Flavour::Rich);
    // Choices of their own, so that the history is the same whoever writes it.
    let mut random = Random::new(seed.wrapping_mul(31) + encoding as u64);
    let mut played = Played {
        env,
        encoding,
        truths: BTreeMap::new(),
        story: format!("seed {seed}, {encoding:?}:"),
        newest: 0,
    };
    let mut before = None;
    let mut time = 1_700_000_000;
    for number in 0..SETS {
        let env = &played.env;
        history.tree.write(before.as_ref(), &env.source());
        let full = number == 0 || random.chance(12);
        let writer = *random.pick(&Writer::ALL);
        let kept = *random.pick(&[
            Caches::Kept,
            Caches::Kept,
            Caches::AllLost,
            Caches::ArchiveLost,
            Caches::OursLost,
        ]);
        kept.lose(env);
        let action =
            if full { "full" } else { *random.pick(&["incremental", "incremental", "backup"]) };
        let step = format!("\n    {writer:?} {action} at {time}, caches {kept:?}");
        eprintln!("{encoding:?}, seed {seed}: {}", step.trim());
        played.story += &step;
        // 0.8.22 knows no word for it.
        let outcome = match (writer, action) {
            (Writer::Old, "backup") => writer.incremental(env, encoding, time),
            _ => writer.backup(env, encoding, action, time, &[]),
        };
        // 3.2.1 and we do without when a full set is made.
        let lost = matches!(kept, Caches::AllLost | Caches::ArchiveLost)
            && !(full && writer != Writer::Old);
        let notices = outcome.stdout.contains("Synchronizing remote metadata to local cache");
        assert_eq!(notices, lost && number > 0, "{} {outcome}", played.story);
        let below = played.truths.last_key_value().map(|(_, truth)| truth).filter(|_| !full);
        let truth = Truth::record(&env.source()).kept_after(below);
        played.truths.insert(time, truth);
        played.newest = if full { 1 } else { played.newest + 1 };

        before = Some(history.tree.clone());
        let edits = random.below(25);
        history.edit(edits);
        time += 1 + random.below(200_000) as i64;
    }
    played
}

impl Played {
    fn original(&self, version: Version) -> Duplicity<'_> {
        Duplicity::new(&self.env, version, self.encoding)
    }

    /// Lets everybody read every time.
    fn check_readers(&self) {
        let Self { env, encoding, truths, story, .. } = self;
        let mounted = Mounted::new(env, *encoding);
        assert_eq!(
            mounted.snapshots().into_keys().collect::<Vec<_>>(),
            truths.keys().copied().collect::<Vec<_>>(),
            "{story}"
        );
        for (&time, truth) in truths {
            assert_same(truth, &mounted.record(time), &format!("mounted at {time}, {story}"));
        }
        drop(mounted);
        for (&time, truth) in truths {
            let target = env.fresh("restored");
            env.restore(*encoding, time, &target).success();
            assert_same(
                truth,
                &Truth::record(&target),
                &format!("restored by dupfs at {time}, {story}"),
            );
            std::fs::remove_dir_all(&target).unwrap();
            env.prove(*encoding, time).success();
            for version in [Old, New] {
                self.original(version).restore(time, &target);
                let (truth, restored) = (
                    truth.clone().without_link_times(),
                    Truth::record(&target).without_link_times(),
                );
                assert_same(
                    &truth,
                    &restored,
                    &format!("restored by {version:?} at {time}, {story}"),
                );
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }

    /// Lets the originals say what they think of the collection.
    fn check_words(&self) {
        let Self { env, encoding, story, .. } = self;
        let ours = listed(&env.ask(*encoding, &["list-current-files"]).success());
        for version in [Old, New] {
            let status = self.original(version).ask("collection-status", &[]).success();
            assert!(
                status.stdout.contains("No orphaned or incomplete backup sets found."),
                "{version:?}, {story} {status}"
            );
            assert!(
                status.stdout.contains("Found primary backup chain with matching signature chain:"),
                "{story} {status}"
            );
            let newest = format!("Number of contained backup sets: {}\n", self.newest);
            assert!(status.stdout.contains(&newest), "{version:?} not {newest}, {story} {status}");
            for word in ["orphaned signature", "WARNING", "Warning"] {
                assert!(!format!("{status}").contains(word), "{version:?}, {story} {status}");
            }

            let theirs = listed(&self.original(version).ask("list-current-files", &[]).success());
            assert_eq!(ours, theirs, "{version:?}, {story}");

            let mut command = Writer::from(version).command(env);
            encoding.secrets(&mut command);
            command
                .args(["verify", "--compare-data"])
                .args(encoding.reading())
                .arg(env.url())
                .arg(env.source());
            let verified = Outcome::of(&mut command);
            let count = self.truths.values().last().unwrap().0.len();
            let words = format!("Verify complete: {count} files compared, 0 differences found.");
            // 3.2.1 says "file(s)".
            assert!(
                verified.stdout.replace("(s)", "s").contains(&words),
                "{version:?} not '{words}', {story} {verified}"
            );
        }
    }
}

/// Returns the lines of a listing.
fn listed(outcome: &Outcome) -> Vec<String> {
    let is_entry = |line: &&str| {
        line.get(24..25) == Some(" ")
            && line.get(13..14) == Some(":")
            && line.get(16..17) == Some(":")
    };
    let lines: Vec<_> = outcome.stdout.lines().filter(is_entry).map(str::to_string).collect();
    assert!(!lines.is_empty(), "{outcome}");
    lines
}

fn check(encoding: Encoding) {
    for seed in seeds(1) {
        let played = play(seed, encoding);
        if seed % 2 == 0 {
            played.env.clear_caches();
        }
        played.check_readers();
        played.check_words();
    }
}

#[test]
fn plain() {
    check(Encoding::Plain);
}

#[test]
fn gzip() {
    check(Encoding::Gzip);
}

#[test]
fn symmetric() {
    check(Encoding::Symmetric);
}

#[test]
fn public_key() {
    check(Encoding::PublicKey);
}

#[test]
fn hidden_recipient() {
    check(Encoding::Hidden);
}

#[test]
fn signed() {
    check(Encoding::Signed);
}
