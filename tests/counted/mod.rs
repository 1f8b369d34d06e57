//! Work is counted, not timed: which stored files are read, how often, and how much of them is
//! decoded.

mod reading;
mod removing;
mod saving;

use crate::support::{Encoding, Env, Node, Outcome, Tree, Writer};
use dupfs::accounts::Accounts;
use dupfs::codec::{Codec, Options, PassphraseSource};
use dupfs::collection::{Collection, LocalCopy, scan};
use dupfs::contents::Contents;
use dupfs::format::Prefixes;
use dupfs::history::{HistoryTree, TimeTemplate};
use dupfs::model::{EntryKind, EntryPath};
use dupfs::monitor::Silent;
use dupfs::restore::{RestoreOptions, restore};
use dupfs::sets::{Sets, SetsOptions, Snapshot};
use dupfs::source::{SourceOptions, SourceTree};
use dupfs::storage::{Call, LocalStorage, RecordingStorage, Storage};
use dupfs::verify::{Summary, VerifyOptions, verify};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One run of the program, in this process, with a storage that notes every call.
struct Run {
    storage: Arc<RecordingStorage>,
    collection: Collection,
    codec: Arc<Codec>,
    sets: Arc<Sets>,
}

impl Run {
    /// Opens the world's collection with the catalog in `cache`.
    fn new(env: &Env, cache: &Path) -> Self {
        Self::with_copy(env, cache, None)
    }

    /// The same, with what the archive directory holds.
    fn with_copy(env: &Env, cache: &Path, local_copy: Option<LocalCopy>) -> Self {
        Self::over(env, RecordingStorage::new(local(env)), cache, local_copy)
    }

    /// The same, but for the network between: eight transfers at once are faster than one, and to
    /// read something again costs as much as the first time.
    fn far(env: &Env, cache: &Path) -> Self {
        Self::over(env, RecordingStorage::new(local(env)).far(Duration::ZERO, 8), cache, None)
    }

    /// The same, where nothing can be put into the folder for temporary files.
    fn far_without_room(env: &Env, cache: &Path) -> Self {
        let storage = RecordingStorage::new(local(env)).far(Duration::ZERO, 8);
        Self::with_options(env, storage, cache, None, env.fresh("no such folder"))
    }

    /// The same, over any storage.
    fn over(
        env: &Env,
        storage: RecordingStorage,
        cache: &Path,
        local_copy: Option<LocalCopy>,
    ) -> Self {
        Self::with_options(env, storage, cache, local_copy, std::env::temp_dir())
    }

    fn with_options(
        env: &Env,
        storage: RecordingStorage,
        cache: &Path,
        local_copy: Option<LocalCopy>,
        tempdir: PathBuf,
    ) -> Self {
        let storage = Arc::new(storage);
        let passphrase = PassphraseSource::Fixed(crate::support::PASSPHRASE.to_string().into());
        let gpg_options = vec!["--homedir".into(), env.gnupg().to_str().unwrap().into()];
        let options = Options { passphrase, gpg_options, tempdir, ..Options::default() };
        let codec = Arc::new(Codec::new(options));
        let sets = Arc::new(
            Sets::open(SetsOptions {
                directory: Some(cache.to_path_buf()),
                storage: storage.clone(),
                codec: codec.clone(),
                local_copy,
                monitor: Arc::new(Silent),
            })
            .unwrap(),
        );
        let collection = scan(&storage.list().unwrap(), &Prefixes::default());
        sets.set_collection(&collection).unwrap();
        Self { storage, collection, codec, sets }
    }

    /// Returns the tree at the end of one set of the only chain.
    fn snapshot(&self, position: u32) -> Snapshot {
        self.sets.snapshot(&self.sets.catalog().chains()[0], position).unwrap()
    }

    /// Lists all snapshots, with sizes, as `ls -l` does; returns how many frames were decoded for
    /// it.
    fn walk(&self) -> u64 {
        let contents = Arc::new(Contents::new(self.sets.clone(), self.codec.clone(), 1 << 25));
        let tree =
            HistoryTree::new(contents.clone(), Accounts::new(false), None, TimeTemplate::default());
        for snapshot in tree
            .list(1, None, 100)
            .unwrap()
            .into_iter()
            .filter(|item| item.kind == EntryKind::Directory)
        {
            for item in tree.list(snapshot.inode, None, 100).unwrap() {
                if let Some(found) = tree.look_up(snapshot.inode, &item.name).unwrap() {
                    tree.attributes(found.attributes.inode).unwrap();
                }
            }
        }
        contents.volumes().frames_decoded()
    }

    /// Returns how many bytes of each stored file have been asked for since the last time.
    fn bytes_read(&self) -> BTreeMap<String, u64> {
        let mut bytes = BTreeMap::new();
        for call in self.storage.take_calls() {
            if let Some((name, length)) = received(&call) {
                *bytes.entry(name.to_string()).or_default() += length;
            }
        }
        bytes
    }
}

/// Returns which stored file a call has read, and how many bytes.
fn received(call: &Call) -> Option<(&str, u64)> {
    match call {
        Call::Read { name, length, .. } => Some((name, *length as u64)),
        Call::Received { name, length } => Some((name, *length)),
        _ => None,
    }
}

/// The world's collection.
fn local(env: &Env) -> Arc<LocalStorage> {
    Arc::new(LocalStorage::new(env.store()))
}

/// Bytes that no compressor makes smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Writes a full set and increments of a file of `size` bytes, of which each increment changes 100
/// bytes somewhere, and of some small files; returns the content of the file at each time.
fn history(
    env: &Env,
    writer: Writer,
    encoding: Encoding,
    size: usize,
    increments: usize,
) -> Vec<Vec<u8>> {
    let mut content = noise(size, 0);
    let mut before: Option<Tree> = None;
    let mut contents = Vec::new();
    for number in 0..=increments {
        let time = 1_700_000_000 + number as i64 * 1000;
        if number > 0 {
            let at = (size / (increments + 1)) * number;
            content[at..at + 100].copy_from_slice(&noise(100, number as u64));
        }
        let mut tree = Tree::new(time).with("big", Node::file(content.clone(), time));
        for small in 0..30 {
            tree = tree
                .with(format!("small{small:02}"), Node::file(noise(3000, small), 1_600_000_000));
        }
        tree.write(before.as_ref(), &env.source());
        writer.backup(
            env,
            encoding,
            if number == 0 { "full" } else { "incremental" },
            time,
            &["--volsize", "5"],
        );
        before = Some(tree);
        contents.push(content.clone());
    }
    contents
}

#[test]
fn a_warm_mount_reads_no_signature_file_and_no_volume() {
    let env = Env::new();
    history(&env, Writer::Old, Encoding::Symmetric, 300_000, 2);
    let cache = env.fresh("catalog");
    let cold = Run::new(&env, &cache);
    cold.walk();
    assert_eq!(cold.bytes_read().keys().filter(|name| name.contains("sigtar")).count(), 3);
    drop(cold);
    let warm = Run::new(&env, &cache);
    warm.walk();
    assert_eq!(warm.storage.take_calls(), [Call::List]);
}

#[test]
fn a_small_read_under_twenty_increments_decodes_only_what_it_needs() {
    let env = Env::new();
    let size = 64 << 20;
    let contents = history(&env, Writer::Old, Encoding::Symmetric, size, 20);
    let run = Run::new(&env, &env.fresh("catalog"));
    let reader = Contents::new(run.sets.clone(), run.codec.clone(), 1 << 25);
    let snapshot = run.snapshot(10);
    let big = snapshot.find(&run.sets, &EntryPath::parse(b"big").unwrap()).unwrap().unwrap();
    let file = reader.open(&snapshot.chain, &big).unwrap();
    assert_eq!(file.size(), size as u64);
    run.storage.take_calls();
    let decoded = reader.volumes().frames_decoded();
    let mut buffer = vec![0; 4096];
    let at = size / 2 + 12345;
    assert_eq!(reader.read(&file, at as u64, &mut buffer).unwrap(), 4096);
    assert_eq!(buffer, contents[10][at..at + 4096]);
    assert!(
        reader.volumes().frames_decoded() - decoded <= 2,
        "two frames, should the range lie across their border"
    );
    // A frame of noise is as long stored as plain, and chunks are read whole; each volume opened
    // shows its head, too.
    let bytes: u64 = run.bytes_read().values().sum();
    assert!(bytes < 4 << 20, "{bytes} bytes for 4096");
}

#[test]
fn a_restore_decodes_each_volume_exactly_once() {
    for (writer, encoding) in [
        (Writer::Old, Encoding::Gzip),
        (Writer::Old, Encoding::Symmetric),
        (Writer::Dupfs, Encoding::Gzip),
        (Writer::Dupfs, Encoding::Symmetric),
    ] {
        let env = Env::new();
        let contents = history(&env, writer, encoding, 12 << 20, 3);
        let open: [fn(&Env, &Path) -> Run; 3] = [Run::new, Run::far, Run::far_without_room];
        for (number, open) in open.into_iter().enumerate() {
            let is_once = number == 1;
            let run = open(&env, &env.fresh(&format!("catalog {number}")));
            let snapshot = run.snapshot(3);
            run.storage.take_calls();
            let target = env.fresh(&format!("restored {number}"));
            let accounts = Accounts::new(false);
            let options = RestoreOptions::default();
            let summary =
                restore(&run.sets, &snapshot, &target, &accounts, &Silent, &options).unwrap();
            assert_eq!((summary.delivered, summary.failed), (32, 0));
            assert!(std::fs::read(target.join("big")).unwrap() == contents[3]);
            let read = run.bytes_read();
            let sets = run.collection.chains[0].sets().iter();
            let volumes: Vec<_> = sets.flat_map(|set| set.volumes.values()).collect();
            assert!(volumes.len() > 5, "the full set has several volumes");
            for volume in volumes {
                // Once for the hash, before anything of it is believed, and once to decode it; from
                // far, only once, if there is room for a copy.
                let (size, read) = (volume.listed.size, read[&volume.listed.name]);
                let least = if is_once { size } else { 2 * size };
                assert!(
                    (least..least + (1 << 20)).contains(&read),
                    "{} of {size} bytes: {read} read",
                    volume.listed.name
                );
            }
        }
    }
}

/// Verifies the newest snapshot against the source; returns what was found, and the bytes read of
/// each volume beside its size.
fn verified(env: &Env, cache: &str) -> (Summary, Vec<(String, u64, u64)>) {
    let run = Run::new(env, &env.fresh(cache));
    let snapshot = run.snapshot(run.collection.chains[0].sets().len() as u32 - 1);
    run.storage.take_calls();
    let source = SourceTree::open(&env.source(), &SourceOptions::default()).unwrap();
    let options = VerifyOptions {
        path: EntryPath::root(),
        source,
        selection: None,
        compares: true,
        contents: None,
    };
    let summary = verify(&run.sets, &snapshot, &Accounts::new(false), &Silent, &options).unwrap();
    let calls = run.storage.take_calls();
    assert!(
        calls.iter().all(|call| {
            matches!(
                call,
                Call::Read { .. } | Call::Stream { .. } | Call::Received { .. } | Call::List
            )
        }),
        "something is written: {calls:?}"
    );
    let read = |name: &str| {
        let of_it = |call| received(call).filter(|(read, _)| *read == name);
        calls.iter().filter_map(of_it).map(|(_, length)| length).sum()
    };
    let volumes = run.collection.chains[0].sets().iter().flat_map(|set| set.volumes.values());
    let volumes = volumes
        .map(|volume| (volume.listed.name.clone(), volume.listed.size, read(&volume.listed.name)))
        .collect();
    (summary, volumes)
}

/// Volumes are read once for the hash and once to decode them, all of them: also those whose files
/// are needed no more, and those behind one that is damaged, which is given up after the first
/// time.
#[test]
fn a_verification_reads_each_volume_exactly_once() {
    for (writer, encoding) in [(Writer::Old, Encoding::Gzip), (Writer::Dupfs, Encoding::Symmetric)]
    {
        let env = Env::new();
        history(&env, writer, encoding, 12 << 20, 3);
        // A set of nothing but a folder, then one in which the large file is gone.
        for (time, operation) in [(1_700_010_000, "mkdir empty"), (1_700_020_000, "rm big")] {
            Outcome::of(env.command("sh").current_dir(env.source()).args(["-c", operation]))
                .success();
            writer.backup(&env, encoding, "incremental", time, &[]);
        }
        let (summary, volumes) = verified(&env, "catalog");
        assert_eq!(
            (summary.differences, summary.damaged, summary.files),
            (0, 0, 30),
            "{summary:?}"
        );
        assert_eq!(summary.volumes, volumes.len() as u64);
        assert!(volumes.len() > 7, "{volumes:?}");
        for (name, size, read) in &volumes {
            assert!(
                (2 * size..2 * size + (1 << 20)).contains(read),
                "{name} of {size} bytes: {read} read"
            );
        }
        let bad = env.store().join(&volumes[1].0);
        let mut bytes = std::fs::read(&bad).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&bad, bytes).unwrap();
        let (summary, volumes) = verified(&env, "catalog again");
        assert!(
            summary.cause.is_some() && summary.volumes == volumes.len() as u64 - 1,
            "{summary:?}"
        );
        for (number, (name, size, read)) in volumes.iter().enumerate() {
            let times = if number == 1 { 1 } else { 2 };
            assert!(
                (times * size..times * size + (1 << 20)).contains(read),
                "{name} of {size} bytes: {read} read"
            );
        }
    }
}

/// The bytes at a volume's end in which a table is looked for, and at the beginning of an encrypted
/// one, where its session key is.
const TAIL: u64 = 64 << 10;

#[test]
fn on_a_fresh_machine_tables_are_read_instead_of_volumes() {
    for encoding in [
        Encoding::Plain,
        Encoding::Gzip,
        Encoding::Symmetric,
        Encoding::PublicKey,
        Encoding::Signed,
    ] {
        let env = encoding.env();
        let increments = 3;
        let size = 12 << 20;
        let contents = history(&env, Writer::Dupfs, encoding, size, increments);
        let run = Run::new(&env, &env.fresh("catalog"));
        assert_eq!(run.walk(), 0, "{encoding:?}: frames decoded for a listing with sizes");
        let mut reads: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for call in run.storage.take_calls() {
            if let Call::Read { name, length, .. } = call {
                reads.entry(name).or_default().push(length as u64);
            }
        }
        let is_encrypted = !matches!(encoding, Encoding::Plain | Encoding::Gzip);
        for set in run.collection.chains[0].sets() {
            for volume in set.volumes.values() {
                let (name, size) = (&volume.listed.name, volume.listed.size);
                let asked = reads.get(name).cloned().unwrap_or_default();
                let most = if is_encrypted { 2 } else { 1 };
                assert!(
                    (1..=most).contains(&asked.len()),
                    "{encoding:?}: {name} of {size} bytes is read by {asked:?}"
                );
                assert!(
                    asked.iter().sum::<u64>() <= most as u64 * (TAIL + size / 2048),
                    "{encoding:?}: {name} of {size} bytes is read by {asked:?}"
                );
            }
        }

        // Bytes from the middle of the file, in the middle of the history: a frame, of which a
        // volume of 5 MiB has eight.
        let reader = Contents::new(run.sets.clone(), run.codec.clone(), 1 << 25);
        let snapshot = run.snapshot(1);
        let big = snapshot.find(&run.sets, &EntryPath::parse(b"big").unwrap()).unwrap().unwrap();
        let file = reader.open(&snapshot.chain, &big).unwrap();
        assert_eq!(file.size(), size as u64);
        let mut buffer = vec![0; 4096];
        let at = size / 2 + 12345;
        assert_eq!(reader.read(&file, at as u64, &mut buffer).unwrap(), 4096);
        assert!(buffer == contents[1][at..at + 4096], "{encoding:?}");
        assert!(
            reader.volumes().frames_decoded() <= 2,
            "two frames, should the range lie across their border"
        );
        let read = run.bytes_read();
        let bytes: u64 = read.values().sum();
        assert!(bytes < 2 * (5 << 20) / 8 + 4 * TAIL, "{encoding:?}: {read:?} for 4096 bytes");
        assert!(read.keys().all(|name| name.contains("difftar")), "{read:?}");
    }
}

/// What a session has told the catalog need not be read again.
#[test]
fn a_mount_behind_a_backup_on_the_same_machine_reads_no_signature_file() {
    let env = Env::new();
    history(&env, Writer::Dupfs, Encoding::Symmetric, 300_000, 2);
    let catalogs: Vec<_> = std::fs::read_dir(env.cache().join("dupfs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(catalogs.len(), 1, "{catalogs:?}");
    let copy = LocalCopy::open(&env.archive_of_url(&env.url()), &Prefixes::default()).unwrap();
    let run = Run::with_copy(&env, &catalogs[0], Some(copy));
    run.walk();
    let read = run.bytes_read();
    assert!(!read.keys().any(|name| name.contains("sigtar")), "{read:?}");
}

/// Returns the ranges that were read since the last time.
fn ranges(run: &Run) -> Vec<(String, u64, usize)> {
    let calls = run.storage.take_calls().into_iter();
    calls
        .filter_map(|call| {
            if let Call::Read { name, offset, length } = call {
                Some((name, offset, length))
            } else {
                None
            }
        })
        .collect()
}

/// A frame is fetched by one range, and once, however many want a part of it.
#[test]
fn a_warm_read_is_one_range_and_parallel_ones_share_it() {
    for (writer, encoding) in [
        (Writer::Dupfs, Encoding::Plain),
        (Writer::Dupfs, Encoding::Gzip),
        (Writer::Dupfs, Encoding::Symmetric),
        (Writer::Old, Encoding::Gzip),
        (Writer::Old, Encoding::Symmetric),
    ] {
        let env = encoding.env();
        let content = history(&env, writer, encoding, 9 << 20, 0).remove(0);
        let cache = env.fresh("catalog");
        let open = |run: &Run| {
            let reader = Contents::new(run.sets.clone(), run.codec.clone(), 1 << 25);
            let snapshot = run.snapshot(0);
            let big =
                snapshot.find(&run.sets, &EntryPath::parse(b"big").unwrap()).unwrap().unwrap();
            let file = reader.open(&snapshot.chain, &big).unwrap();
            (reader, file)
        };
        // Whatever is learnt of volumes is known from now on.
        let (reader, file) = open(&Run::new(&env, &cache));
        reader.read(&file, 0, &mut vec![0; 9 << 20]).unwrap();
        let run = Run::new(&env, &cache);
        let (reader, file) = open(&run);
        let read = |at: usize, length: usize| {
            let mut buffer = vec![0; length];
            reader.read(&file, at as u64, &mut buffer).unwrap();
            assert!(
                buffer == content[at..at + length],
                "{writer:?}, {encoding:?}: {length} bytes at {at}"
            );
        };
        run.storage.take_calls();
        read(1_234_567, 4096);
        let asked = ranges(&run);
        assert_eq!(asked.len(), 1, "{writer:?}, {encoding:?}: {asked:?}");
        // In the middle of a frame, whatever the size of frames is; both sides of a border would be
        // two.
        read(3_700_000, 4096);
        let asked = ranges(&run);
        assert!(
            asked.len() == 1 && asked[0].2 <= (1 << 20) + (320 << 10),
            "{writer:?}, {encoding:?}: {asked:?}"
        );
        std::thread::scope(|scope| {
            for number in 0..8 {
                let read = &read;
                scope.spawn(move || read(2_500_000 + number, 100_000));
            }
        });
        let asked = ranges(&run);
        let places: std::collections::BTreeSet<_> =
            asked.iter().map(|(name, offset, _)| (name, offset)).collect();
        assert!(
            asked.len() <= 2 && places.len() == asked.len(),
            "{writer:?}, {encoding:?}: {asked:?}"
        );
    }
}

/// Whatever looks into a volume of duplicity's for the first time reads it by one request, besides
/// the look for a table, which has none.
#[test]
fn a_volume_of_duplicity_is_read_once_as_one_stream() {
    for encoding in [Encoding::Gzip, Encoding::Symmetric] {
        let env = encoding.env();
        let content = history(&env, Writer::Old, encoding, 9 << 20, 0).remove(0);
        let run = Run::new(&env, &env.fresh("catalog"));
        let snapshot = run.snapshot(0);
        let reader = Contents::new(run.sets.clone(), run.codec.clone(), 1 << 25);
        run.storage.take_calls();
        let path = EntryPath::parse(b"big").unwrap();
        let big = snapshot.find(&run.sets, &path).unwrap().unwrap();
        let file = reader.open(&snapshot.chain, &big).unwrap();
        assert_eq!(file.size(), 9 << 20);
        let calls = run.storage.take_calls();
        let volumes = run.collection.chains[0].sets()[0].volumes.values();
        for volume in volumes {
            let (name, size) = (&volume.listed.name, volume.listed.size);
            let of_it = calls.iter().filter_map(received).filter(|(read, _)| read == name);
            let bytes: u64 = of_it.map(|(_, length)| length).sum();
            let is_stream =
                |call: &&Call| matches!(call, Call::Stream { name: read, .. } if read == name);
            assert_eq!(calls.iter().filter(is_stream).count(), 1, "{encoding:?}: {calls:?}");
            assert!((size..size + 2 * TAIL).contains(&bytes), "{encoding:?}: {bytes} of {size}");
        }
        let mut buffer = vec![0; 4096];
        reader.read(&file, 5 << 20, &mut buffer).unwrap();
        assert!(buffer == content[5 << 20..(5 << 20) + 4096]);
    }
}
