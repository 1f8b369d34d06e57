//! Volumes of our own: a table of contents tells what is in them before all their bytes are read,
//! and must not make anyone believe a wrong one. Where the table is whole, what else is whole stays
//! readable.

use super::{ACTIONS, Action, Place, TIMES, table};
use crate::support::{Encoding, Mounted, Node, Random, Tree, Truth, Writer};

const TABLE_ACTIONS: [Action; 4] =
    [Action::FlipTable, Action::CutTable, Action::AppendTable, Action::OtherFrames];

fn play(encoding: Encoding, place: Place) {
    table(Writer::Dupfs, encoding, place, &[&ACTIONS[..], &TABLE_ACTIONS].concat());
}

#[test]
fn plain_volume_of_a_full_set() {
    play(Encoding::Plain, Place::FullVolume);
}

#[test]
fn plain_volume_of_an_incremental_set() {
    play(Encoding::Plain, Place::IncrementalVolume);
}

#[test]
fn gzip_volume_of_a_full_set() {
    play(Encoding::Gzip, Place::FullVolume);
}

#[test]
fn gzip_volume_of_an_incremental_set() {
    play(Encoding::Gzip, Place::IncrementalVolume);
}

#[test]
fn symmetric_volume_of_a_full_set() {
    play(Encoding::Symmetric, Place::FullVolume);
}

#[test]
fn symmetric_volume_of_an_incremental_set() {
    play(Encoding::Symmetric, Place::IncrementalVolume);
}

#[test]
fn signature_file() {
    table(Writer::Dupfs, Encoding::Symmetric, Place::SignatureFile, &ACTIONS);
}

#[test]
fn manifest() {
    table(Writer::Dupfs, Encoding::Gzip, Place::Manifest, &ACTIONS);
}

/// Two backups of the same second, of the same names, and with the same secret differ in nothing
/// but what the manifest says of their volumes.
fn a_volume_of_another_collection_is_refused(encoding: Encoding) {
    let env = encoding.env();
    let other = env.fresh("other");
    let names: Vec<String> = (0..4).map(|number| format!("file-{number}")).collect();
    let mut before = None;
    for seed in [1, 2] {
        let _ = std::fs::rename(env.store(), &other);
        env.clear_caches();
        let mut random = Random::new(seed);
        let file = |tree: Tree, name: &String| {
            tree.with(name, Node::file(random.bytes(100_000), 1_000_000))
        };
        let tree = names.iter().fold(Tree::new(1_000_000), file);
        tree.write(before.as_ref(), &env.source());
        Writer::Dupfs.backup(&env, encoding, "full", TIMES[0], &[]);
        before = Some(tree);
    }
    env.clear_caches();
    let is_volume = |name: &String| name.contains("vol1.difftar");
    let mut volumes = std::fs::read_dir(&other)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(is_volume);
    let volume = volumes.next().unwrap();
    assert!(volumes.next().is_none() && env.store().join(&volume).exists());
    std::fs::copy(other.join(&volume), env.store().join(&volume)).unwrap();

    let mounted = Mounted::new(&env, encoding);
    let seen = mounted.record(TIMES[0]);
    for name in &names {
        let errno = seen.unreadable().get(&name.clone().into_bytes()).copied();
        assert_eq!(errno, Some(rustix::io::Errno::IO), "{encoding:?}: {name}: {}", mounted.log());
    }
    assert!(mounted.log().contains(&volume), "{encoding:?}: {}", mounted.log());
    let target = env.fresh("restored");
    env.restore(encoding, TIMES[0], &target).failure(21, &[&volume]);
    assert!(
        names.iter().all(|name| !target.join(name).exists()),
        "{encoding:?}: {:?}",
        Truth::record(&target)
    );
}

#[test]
fn volume_of_another_collection() {
    for encoding in [Encoding::Plain, Encoding::Gzip, Encoding::Symmetric] {
        a_volume_of_another_collection_is_refused(encoding);
    }
}
