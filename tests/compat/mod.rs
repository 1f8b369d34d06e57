//! Random histories that the real duplicity wrote: at every backup time, the tree seen through
//! `dupfs mount` and through `dupfs restore` equals the recorded truth: content, type, mode, owner,
//! time, link target, device; and every file matches its signature.
//!
//! A failure names its seed; `DUPFS_SEED=n` plays only that one, `DUPFS_LONG=n` plays n seeds
//! instead of a few.

mod bytes;
mod emergency;
mod long_paths;
mod sparse;
mod spellings;
mod written;

use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Mounted, Truth, Version, assert_same,
};
use std::collections::BTreeMap;

use Version::{New, Old};

/// Who writes which set; a capital step is a full set.
type Writers = &'static [(bool, Version)];

const ONLY_OLD: Writers = &[(true, Old), (false, Old), (false, Old), (true, Old), (false, Old)];
const ONLY_NEW: Writers = &[(true, New), (false, New), (false, New), (true, New), (false, New)];
const IN_TURN: Writers =
    &[(true, Old), (false, New), (false, Old), (false, New), (true, New), (false, Old)];

/// A world with a collection, and what each backup time must show.
struct Written {
    env: Env,
    truths: BTreeMap<i64, Truth>,
}

/// Plays a history and lets duplicity save it step by step.
fn write(seed: u64, encoding: Encoding, writers: &[(bool, Version)]) -> Written {
    let env = encoding.env();
    let mut history = History::new(seed, Flavour::Rich);
    let mut before = None;
    let mut truths: BTreeMap<i64, Truth> = BTreeMap::new();
    let mut time = 1_700_000_000;
    for &(full, version) in writers {
        history.tree.write(before.as_ref(), &env.source());
        let live = Truth::record(&env.source());
        assert_same(&Truth::of(&history.tree), &live, "the source tree as written");
        let duplicity = Duplicity::new(&env, version, encoding);
        if full {
            duplicity.full(time)
        } else {
            duplicity.incremental(time)
        };
        let below = truths.last_key_value().map(|(_, truth)| truth).filter(|_| !full);
        truths.insert(time, live.kept_after(below));

        before = Some(history.tree.clone());
        let edits = 1 + history.random.below(25);
        history.edit(edits);
        time += 1 + history.random.below(200_000) as i64;
    }
    Written { env, truths }
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    match (number("DUPFS_SEED"), number("DUPFS_LONG")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(default)).collect(),
    }
}

/// Writes a few histories in one way, and compares what `dupfs` shows of them.
fn compare(count: u64, encoding: Encoding, writers: Writers) {
    for seed in seeds(count) {
        eprintln!("seed {seed}");
        let Written { env, truths } = write(seed, encoding, writers);
        if seed % 2 == 0 {
            // As on another machine: nothing but the collection.
            env.clear_caches();
        }
        let mounted = Mounted::new(&env, encoding);
        assert_eq!(
            mounted.snapshots().into_keys().collect::<Vec<_>>(),
            truths.keys().copied().collect::<Vec<_>>()
        );
        for (&time, truth) in &truths {
            assert_same(
                truth,
                &mounted.record(time),
                &format!("mounted, seed {seed}, {encoding:?}, time {time}"),
            );
        }
        drop(mounted);
        for (&time, truth) in &truths {
            let target = env.fresh(&format!("restored {time}"));
            env.restore(encoding, time, &target).success();
            assert_same(
                truth,
                &Truth::record(&target),
                &format!("restored, seed {seed}, {encoding:?}, time {time}"),
            );
            std::fs::remove_dir_all(&target).unwrap();
            env.prove(encoding, time).success();
        }
    }
}

/// Proves the harness: what the original restores equals the truth that all other tests here
/// compare with.
#[test]
fn the_original_restores_the_recorded_truth() {
    for seed in seeds(1) {
        let Written { env, truths } = write(seed, Encoding::Gzip, IN_TURN);
        for (&time, truth) in &truths {
            for version in [Old, New] {
                let target = env.fresh(&format!("{version:?} {time}"));
                Duplicity::new(&env, version, Encoding::Gzip).restore(time, &target);
                let (truth, restored) = (
                    truth.clone().without_link_times(),
                    Truth::record(&target).without_link_times(),
                );
                assert_same(&truth, &restored, &format!("{version:?} of seed {seed} at {time}"));
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
}

#[test]
fn plain_by_0_8() {
    compare(2, Encoding::Plain, ONLY_OLD);
}

#[test]
fn plain_by_3_2() {
    compare(1, Encoding::Plain, ONLY_NEW);
}

#[test]
fn gzip_by_0_8() {
    compare(3, Encoding::Gzip, ONLY_OLD);
}

#[test]
fn gzip_by_3_2() {
    compare(2, Encoding::Gzip, ONLY_NEW);
}

#[test]
fn gzip_in_turn() {
    compare(3, Encoding::Gzip, IN_TURN);
}

#[test]
fn symmetric_by_0_8() {
    compare(2, Encoding::Symmetric, ONLY_OLD);
}

#[test]
fn symmetric_in_turn() {
    compare(2, Encoding::Symmetric, IN_TURN);
}

#[test]
fn public_key_in_turn() {
    compare(2, Encoding::PublicKey, IN_TURN);
}

#[test]
fn hidden_recipient_in_turn() {
    compare(1, Encoding::Hidden, IN_TURN);
}

#[test]
fn signed_in_turn() {
    compare(2, Encoding::Signed, IN_TURN);
}
