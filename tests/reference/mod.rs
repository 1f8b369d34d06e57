//! Random histories against a reference model: a list of plain maps from path to node, one for each
//! backup, from which [`Truth::kept_after`] predicts every snapshot without looking at a disk.
//!
//! Trees are small and names are few, so that long delta chains, changes of type and paths that
//! come and go meet often. `DUPFS_LONG=n` plays n histories.

use crate::support::{
    Duplicity, Encoding, Env, Flavour, History, Mounted, Tree, Truth, Version, assert_same,
};

const SETS: usize = 12;

/// A history as the model holds it: the whole tree at each backup time, and whether the backup was
/// full.
type Model = Vec<(i64, bool, Tree)>;

/// Thinks up a history, with a full set now and then.
fn think(seed: u64) -> Model {
    let mut history = History::new(seed, Flavour::Small);
    let mut model: Model = Vec::new();
    for number in 0..SETS {
        let time = 1_700_000_000 + 1000 * number as i64;
        model.push((time, number == 0 || history.random.chance(10), history.tree.clone()));
        let edits = history.random.below(12);
        history.edit(edits);
    }
    model
}

/// Lets duplicity save the history.
fn save(env: &Env, seed: u64, model: &Model) {
    let mut before = None;
    for (number, (time, full, tree)) in model.iter().enumerate() {
        tree.write(before, &env.source());
        let version =
            if (seed as usize + number).is_multiple_of(3) { Version::New } else { Version::Old };
        let duplicity = Duplicity::new(env, version, Encoding::Gzip);
        if *full {
            duplicity.full(*time)
        } else {
            duplicity.incremental(*time)
        };
        before = Some(tree);
    }
}

/// Says what each snapshot must hold.
fn predict(model: &Model) -> Vec<(i64, Truth)> {
    let mut predicted: Vec<(i64, Truth)> = Vec::new();
    for (time, full, tree) in model {
        let below = predicted.last().map(|(_, truth)| truth).filter(|_| !full);
        let truth = Truth::of(tree).kept_after(below);
        predicted.push((*time, truth));
    }
    predicted
}

fn play(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let model = think(seed);
        let env = Env::new();
        save(&env, seed, &model);
        let mounted = Mounted::new(&env, Encoding::Gzip);
        for (time, truth) in predict(&model) {
            assert_same(&truth, &mounted.record(time), &format!("history {seed} at {time}"));
        }
    }
}

#[test]
fn every_snapshot_is_what_the_model_says() {
    let count = std::env::var("DUPFS_LONG")
        .map_or(5, |count| count.parse().expect("DUPFS_LONG is a number"));
    play(1000..1000 + count);
}
