//! Both ways: histories in which each set is written by a random one of `dupfs` and both versions of duplicity, on top of whatever the
//! others have written, and every reader gives the truth at every time.

use super::{Written, seeds, write};
use crate::support::{Duplicity, Encoding, Mounted, Random, Truth, Version, assert_same};
use Version::{New, Old, Ours};

/// Returns who writes which set; two of three by us.
fn writers(seed: u64) -> Vec<(bool, Version)> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut writers = vec![(true, *random.pick(&[Ours, Ours, Old, New]))];
    for _ in 0..5 {
        writers.push((random.chance(20), *random.pick(&[Ours, Ours, Ours, Ours, Old, New])));
    }
    writers
}

fn both_ways(count: u64, encoding: Encoding) {
    for seed in seeds(count) {
        let writers = writers(seed);
        eprintln!("seed {seed}: {writers:?}");
        let Written { env, truths } = write(seed, encoding, &writers);
        let what = |who: &str, time: i64| format!("{who}, seed {seed}, {encoding:?}, time {time}, by {writers:?}");
        if seed % 2 == 0 {
            // As on another machine: nothing but the collection.
            env.clear_caches();
        }
        let mounted = Mounted::new(&env, encoding);
        assert_eq!(mounted.snapshots().into_keys().collect::<Vec<_>>(), truths.keys().copied().collect::<Vec<_>>());
        for (&time, truth) in &truths {
            assert_same(truth, &mounted.record(time), &what("mounted", time));
        }
        drop(mounted);
        for (&time, truth) in &truths {
            for version in [Ours, Old, New] {
                let target = env.fresh(&format!("{version:?} {time}"));
                Duplicity::new(&env, version, encoding).restore(time, &target);
                let (truth, restored) = (truth.clone().without_link_times(), Truth::record(&target).without_link_times());
                assert_same(&truth, &restored, &what(&format!("{version:?}"), time));
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
        for version in [Old, New] {
            let status = Duplicity::new(&env, version, encoding).ask("collection-status", &[]).success();
            assert!(status.stdout.contains("Found primary backup chain with matching signature chain"), "{status}");
            assert!(status.stdout.contains("No orphaned or incomplete backup sets found."), "{status}");
            let listed = Duplicity::new(&env, version, encoding).ask("list-current-files", &[]).success();
            let ours = Duplicity::new(&env, Ours, encoding).ask("list-current-files", &[]).success();
            let paths = |text: &str| {
                text.lines().filter(|line| line.len() > 25 && &line[13..14] == ":").map(String::from).collect::<Vec<_>>()
            };
            assert_eq!(paths(&listed.stdout), paths(&ours.stdout), "{version:?}");
        }
    }
}

#[test]
fn plain() {
    both_ways(1, Encoding::Plain);
}

#[test]
fn gzip() {
    both_ways(3, Encoding::Gzip);
}

#[test]
fn symmetric() {
    both_ways(2, Encoding::Symmetric);
}

#[test]
fn public_key() {
    both_ways(1, Encoding::PublicKey);
}

#[test]
fn hidden_recipient() {
    both_ways(1, Encoding::Hidden);
}

#[test]
fn signed() {
    both_ways(1, Encoding::Signed);
}
