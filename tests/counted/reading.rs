//! What reading costs behind a network: how many requests have to wait for each other, and how many
//! there are.

use super::{Run, local, noise};
use crate::support::{Encoding, Env, Node, Tree, Writer};
use dupfs::accounts::Accounts;
use dupfs::contents::{Contents, File};
use dupfs::model::EntryPath;
use dupfs::monitor::Silent;
use dupfs::restore::{RestoreOptions, restore};
use dupfs::storage::{Call, RecordingStorage};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

/// How long a request takes, so that those at the same time overlap.
const DELAY: Duration = Duration::from_millis(20);
/// Requests at once.
const TRANSFERS: usize = 8;

/// Opens the world's collection as one behind a network; forgets what that cost.
fn far(env: &Env, cache: &Path) -> Run {
    let storage = RecordingStorage::new(local(env)).far(DELAY, TRANSFERS);
    let run = Run::over(env, storage, cache, None);
    costs(&run);
    run
}

/// Returns how many requests had to wait for each other since the last time, and all of them.
fn costs(run: &Run) -> (usize, Vec<Call>) {
    let is_request = |call: &Call| !matches!(call, Call::Received { .. });
    let calls = run.storage.take_calls().into_iter().filter(is_request).collect();
    (run.storage.take_longest_row(), calls)
}

/// Opens a file of the newest snapshot.
fn open(run: &Run, reader: &Contents, path: &str) -> File {
    let chain = run.sets.catalog().chains().remove(0);
    let snapshot = run.snapshot(chain.sets.len() as u32 - 1);
    let path = EntryPath::parse(path.as_bytes()).unwrap();
    let version = snapshot.find(&run.sets, &path).unwrap().unwrap();
    reader.open(&chain, &version).unwrap()
}

fn reader(run: &Run) -> Contents {
    Contents::new(run.sets.clone(), run.codec.clone(), 32 << 20)
}

/// Saves one state after the other, a second apart, each as a map of names to contents.
fn save(env: &Env, encoding: Encoding, states: &[Vec<(&str, Vec<u8>)>], options: &[&str]) {
    let mut before: Option<Tree> = None;
    for (number, files) in states.iter().enumerate() {
        let time = 1_700_000_000 + number as i64 * 1000;
        let tree = files.iter().fold(Tree::new(time), |tree, (name, content)| {
            tree.with(*name, Node::file(content.clone(), time))
        });
        tree.write(before.as_ref(), &env.source());
        let action = if number == 0 { "full" } else { "incremental" };
        Writer::Dupfs.backup(env, encoding, action, time, options);
        before = Some(tree);
    }
}

/// States of a file of 100,000 bytes of which each but the first has one other block, out of six.
fn blocks(increments: usize) -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let mut content = noise(100_000, 0);
    let mut states = vec![vec![("file", content.clone())]];
    for number in 1..=increments {
        let at = 51_200 + number % 6 * 512 + 100;
        content[at..at + 10].copy_from_slice(&noise(10, number as u64));
        states.push(vec![("file", content.clone())]);
    }
    states
}

#[test]
fn a_warm_read_fetches_from_all_volumes_at_once() {
    let env = Env::new();
    let states = blocks(20);
    save(&env, Encoding::Gzip, &states, &[]);
    let cache = env.fresh("catalog");
    let run = Run::new(&env, &cache);
    open(&run, &reader(&run), "file");
    drop(run);
    let run = far(&env, &cache);
    let reader = reader(&run);
    let file = open(&run, &reader, "file");
    assert_eq!(costs(&run), (0, Vec::new()), "it is known where everything lies");
    let mut buffer = vec![0; 4096];
    assert_eq!(reader.read(&file, 51_000, &mut buffer).unwrap(), 4096);
    assert!(buffer == states.last().unwrap()[0].1[51_000..55_096]);
    let (row, calls) = costs(&run);
    assert!(row == 1 && calls.len() == 7, "{row}: {calls:?}");
}

#[test]
fn sequential_reads_fetch_ever_more_and_random_ones_do_not() {
    let env = Env::new();
    let big = noise(20 << 20, 0);
    let names: Vec<String> = (0..200).map(|number| format!("small{number:03}")).collect();
    let mut files = vec![("big", big.clone())];
    files.extend(names.iter().zip(1..).map(|(name, seed)| (&name[..], noise(60_000, seed))));
    save(&env, Encoding::Gzip, &[files], &["--volsize", "64"]);
    let cache = env.fresh("catalog");
    let run = Run::new(&env, &cache);
    open(&run, &reader(&run), "big");
    let read = |reader: &Contents, file: &File, at: usize, length: usize| {
        let mut buffer = vec![0; length];
        let count = reader.read(file, at as u64, &mut buffer).unwrap();
        buffer.truncate(count);
        buffer
    };

    // In sequence, as the kernel asks for it.
    let in_order = reader(&run);
    let file = open(&run, &in_order, "big");
    costs(&run);
    for at in (0..big.len()).step_by(128 << 10) {
        assert!(read(&in_order, &file, at, 128 << 10) == big[at..at + (128 << 10)], "at {at}");
    }
    let (_, calls) = costs(&run);
    assert!(calls.len() <= 20 / 8 + 4, "{calls:?}");

    // File by file, in the order of the volume.
    let by_files = reader(&run);
    for (name, seed) in names.iter().zip(1..) {
        let file = open(&run, &by_files, name);
        assert!(read(&by_files, &file, 0, 128 << 10) == noise(60_000, seed), "{name}");
    }
    let (_, calls) = costs(&run);
    assert!(calls.len() <= 12 / 8 + 4, "{calls:?}");

    // Anywhere.
    let anywhere = reader(&run);
    let file = open(&run, &anywhere, "big");
    let mut longest = 0;
    for number in 0..50usize {
        let at = number * number * 7_654_321 % (big.len() - 4096);
        assert!(read(&anywhere, &file, at, 4096) == big[at..at + 4096], "at {at}");
        let (_, calls) = costs(&run);
        assert!(calls.len() <= 1, "at {at}: {calls:?}");
        let lengths = calls.iter().map(|call| match call {
            Call::Read { length, .. } => *length,
            _ => 0,
        });
        longest = longest.max(lengths.sum());
    }
    assert!(longest < 3 << 20, "two frames, should the range lie across their border: {longest}");
}

/// Returns how many bytes were asked for.
fn bytes(calls: &[Call]) -> u64 {
    let length =
        |call: &Call| if let Call::Read { length, .. } = call { *length as u64 } else { 0 };
    calls.iter().map(length).sum()
}

#[test]
fn a_read_on_a_fresh_machine_takes_few_round_trips_whatever_the_depth() {
    for (encoding, depth) in [(Encoding::Gzip, 3), (Encoding::Gzip, 12), (Encoding::Symmetric, 1)] {
        let env = Env::new();
        let states = blocks(depth);
        save(&env, encoding, &states, &[]);
        let cache = env.fresh("catalog");
        let run = far(&env, &cache);
        run.snapshot(depth as u32);
        costs(&run);
        let reads = |run: &Run| {
            let reader = reader(run);
            let file = open(run, &reader, "file");
            let mut buffer = vec![0; 4096];
            assert_eq!(reader.read(&file, 51_000, &mut buffer).unwrap(), 4096);
            assert!(buffer == states.last().unwrap()[0].1[51_000..55_096]);
            let (row, calls) = costs(run);
            assert!(
                row <= 4 && bytes(&calls) <= 2 << 20,
                "{encoding:?}, {depth}: {row}: {calls:?}"
            );
            assert!(calls.len() <= 3 * (depth + 1), "{encoding:?}, {depth}: {calls:?}");
        };
        reads(&run);
        drop(run);
        if depth > 3 {
            continue; // there are more manifests than transfers
        }
        // The tree is known from another time, and nothing else.
        let cache = env.fresh("another catalog");
        Run::new(&env, &cache).snapshot(depth as u32);
        reads(&far(&env, &cache));
    }
}

/// The table of contents and, where it is encrypted, the head, at the same time.
#[test]
fn the_first_look_at_a_volume_is_one_round_trip() {
    for (encoding, requests) in [(Encoding::Gzip, 1), (Encoding::Symmetric, 2)] {
        let env = Env::new();
        save(&env, encoding, &[vec![("file", noise(900_000, 1))]], &[]);
        let run = far(&env, &env.fresh("catalog"));
        let snapshot = run.snapshot(0);
        let path = EntryPath::parse(b"file").unwrap();
        let version = snapshot.find(&run.sets, &path).unwrap().unwrap();
        costs(&run);
        let reader = reader(&run);
        assert_eq!(reader.size(&snapshot.chain, &version).unwrap(), 900_000);
        let (row, calls) = costs(&run);
        assert!((row, calls.len()) == (1, requests), "{encoding:?}: {row}: {calls:?}");
        let file = reader.open(&snapshot.chain, &version).unwrap();
        assert_eq!(costs(&run), (0, Vec::new()));
        reader.read(&file, 0, &mut vec![0; 4096]).unwrap();
        let (row, calls) = costs(&run);
        assert!((row, calls.len()) == (1, 1), "{encoding:?}: {row}: {calls:?}");
    }
}

/// A set with a file larger than volumes, and increments of a small one behind it.
#[test]
fn one_small_file_is_restored_by_its_extents() {
    for (encoding, depth) in [(Encoding::Gzip, 2), (Encoding::Symmetric, 0)] {
        let env = Env::new();
        let mut states = blocks(depth);
        for state in &mut states {
            state.insert(0, ("big", noise(5_000_000, 7)));
            state.push(("other", noise(300_000, 8)));
        }
        save(&env, encoding, &states, &[]);
        let run = far(&env, &env.fresh("catalog"));
        let snapshot = run.snapshot(depth as u32);
        let chain = &run.sets.catalog().chains()[0];
        let path = EntryPath::parse(b"file").unwrap();
        let mut concerned = Vec::new();
        for position in 0..=depth as u32 {
            for volume in run.sets.manifest(chain, position).unwrap().volumes_below(&path) {
                let source = run.sets.volume(chain, position, volume.number).unwrap();
                concerned.push(source.file.listed().name.clone());
            }
        }
        costs(&run);
        let (target, accounts) = (env.fresh("restored"), Accounts::new(false));
        let target = target.join("file");
        let options = RestoreOptions { path, ..RestoreOptions::default() };
        let summary = restore(&run.sets, &snapshot, &target, &accounts, &Silent, &options).unwrap();
        assert_eq!((summary.delivered, summary.failed), (1, 0));
        assert!(std::fs::read(&target).unwrap() == states.last().unwrap()[1].1);
        let (row, calls) = costs(&run);
        assert!(row <= 4, "{encoding:?}: {row}: {calls:?}");
        for call in &calls {
            let Call::Read { name, .. } = call else { panic!("{encoding:?}: {call:?}") };
            assert!(concerned.contains(name), "{encoding:?}: {call:?}");
        }
        // Each is looked at once, and no more of it is read than holds the file.
        assert!(calls.len() <= 4 * concerned.len(), "{encoding:?}: {calls:?}");
    }
}

/// Returns a storage behind a network that calls a closure at the first request for each signature
/// file.
fn at_signature_files(
    env: &Env,
    first: impl Fn(&str, usize) + Send + Sync + 'static,
) -> RecordingStorage {
    let seen = Mutex::new(HashSet::new());
    let fault = move |call: &Call| {
        if let Call::Read { name, .. } | Call::Stream { name, .. } = call
            && name.contains("sigtar")
        {
            let mut seen = seen.lock().unwrap();
            let (is_new, number) = (seen.insert(name.clone()), seen.len());
            drop(seen);
            if is_new {
                first(name, number);
            }
        }
        None
    };
    RecordingStorage::failing(local(env), fault).far(Duration::ZERO, TRANSFERS)
}

#[test]
fn signature_files_are_read_side_by_side() {
    let env = Env::new();
    save(&env, Encoding::Gzip, &blocks(8), &[]);
    // The first ones come when so many are under way: fewer would wait for ever.
    let together = Barrier::new(TRANSFERS);
    let storage = at_signature_files(&env, move |_, number| {
        if number <= TRANSFERS {
            together.wait();
        }
    });
    let run = Run::over(&env, storage, &env.fresh("catalog"), None);
    assert_eq!(run.sets.fill(&run.sets.catalog().chains()[0]).unwrap(), 9);
    let (_, calls) = costs(&run);
    assert!(calls.len() <= 1 + 9 * 2, "a list, manifests and signature files: {calls:?}");
}

/// Whoever needs the tree of one set waits for no later one.
#[test]
fn a_snapshot_waits_for_its_own_sets_only() {
    let env = Env::new();
    save(&env, Encoding::Gzip, &blocks(3), &[]);
    let (is_there, may_go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (arrive, wait) = (is_there.clone(), may_go_on.clone());
    let storage = at_signature_files(&env, move |name, _| {
        if name.contains(".20231114T224640Z.to.") {
            arrive.wait();
            wait.wait();
        }
    });
    let run = Run::over(&env, storage, &env.fresh("catalog"), None);
    std::thread::scope(|scope| {
        let all = scope.spawn(|| run.sets.fill(&run.sets.catalog().chains()[0]).unwrap());
        is_there.wait();
        let snapshot = run.snapshot(1);
        assert!(snapshot.root(&run.sets).unwrap().is_some());
        may_go_on.wait();
        assert_eq!(all.join().unwrap(), 4);
    });
    // Nor are they read for it.
    let run = Run::new(&env, &env.fresh("another catalog"));
    run.snapshot(1);
    let read = run.bytes_read();
    assert_eq!(read.keys().filter(|name| name.contains("sigtar")).count(), 2, "{read:?}");
}

/// Damage in what is only read ahead is for whoever needs it, and a storage that is away is asked
/// again.
#[test]
fn what_is_read_ahead_fails_nobody_else() {
    let env = Env::new();
    let content = noise(6 << 20, 3);
    save(&env, Encoding::Gzip, &[vec![("file", content.clone())]], &["--volsize", "16"]);
    let run = Run::new(&env, &env.fresh("catalog"));
    let reader = reader(&run);
    let file = open(&run, &reader, "file");
    let volume = env.store().join("duplicity-full.20231114T221320Z.vol1.difftar.gz");
    let mut bytes = std::fs::read(&volume).unwrap();
    bytes[(2 << 20) + (600 << 10)] ^= 1;
    std::fs::write(&volume, &bytes).unwrap();
    let read = |at: usize| {
        let mut buffer = vec![0; 4096];
        let result = reader.read(&file, at as u64, &mut buffer);
        result.map(|_| assert!(buffer == content[at..at + 4096], "at {at}"))
    };
    for at in [0, 1 << 20, (1 << 20) + 500_000, 3 << 20, 4 << 20] {
        read(at).unwrap();
    }
    let damaged = 5 << 19;
    assert!(read(damaged).unwrap_err().to_string().contains("hash"));
    bytes[(2 << 20) + (600 << 10)] ^= 1;
    std::fs::write(&volume, &bytes).unwrap();
    read(damaged).unwrap();
}

/// A first pass cuts a volume of ours in another way than its table does. When the catalog that knew
/// it by passes is gone, and filled anew by tables, what a reader has kept is still right.
#[test]
fn a_catalog_that_is_filled_anew_mixes_no_frames() {
    let env = Env::new();
    let big = noise(70 << 20, 0);
    // More volumes than are kept open.
    save(&env, Encoding::Gzip, &[vec![("big", big.clone())]], &["--volsize", "2"]);
    let cache = env.fresh("catalog");
    let run = Run::new(&env, &cache);
    let snapshot = run.snapshot(0);
    let volumes = run.sets.manifest(&snapshot.chain, 0).unwrap().volumes().len();
    assert!(volumes > 33, "{volumes}");
    let (target, accounts) = (env.fresh("restored"), Accounts::new(false));
    let options = RestoreOptions::default();
    restore(&run.sets, &snapshot, &target, &accounts, &Silent, &options).unwrap();
    let reader = Contents::new(run.sets.clone(), run.codec.clone(), 256 << 20);
    let file = open(&run, &reader, "big");
    let read = |at: usize| {
        let mut buffer = vec![0; 100_000];
        assert_eq!(reader.read(&file, at as u64, &mut buffer).unwrap(), buffer.len(), "at {at}");
        assert!(buffer == big[at..at + buffer.len()], "at {at}");
    };
    let places = || (0..300usize).map(|number| number * 7_654_321 % (big.len() - 100_000));
    places().step_by(2).for_each(read);
    std::fs::remove_dir_all(&cache).unwrap();
    // Whoever opens it anew has the catalog filled by tables.
    let other = Contents::new(run.sets.clone(), run.codec.clone(), 1 << 20);
    open(&run, &other, "big");
    places().for_each(read);
}
