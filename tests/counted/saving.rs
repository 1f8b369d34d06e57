//! What a backup asks of the storage.

use super::noise;
use crate::support::Env;
use dupfs::backup::{BackupOptions, Job, Outcome, Target, backup};
use dupfs::codec::{Codec, EncodeOptions, Options};
use dupfs::collection::{ArchiveDirectory, scan};
use dupfs::format::{Encoding, NameForm, Prefixes};
use dupfs::model::BackupTime;
use dupfs::monitor::Silent;
use dupfs::sets::{Sets, SetsOptions};
use dupfs::source::{SourceOptions, SourceTree};
use dupfs::storage::{Call, MemoryStorage, RecordingStorage, Storage};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Saves the source as the program does, behind its own listing; returns all calls. An increment if
/// there is a chain already.
fn save(env: &Env, storage: &Arc<RecordingStorage>, time: i64) -> (Outcome, Vec<Call>) {
    let prefixes = Prefixes::default();
    let listing = storage.list().unwrap();
    let collection = scan(&listing, &prefixes);
    let codec = Arc::new(Codec::new(Options::default()));
    let encode = EncodeOptions { encoding: Encoding::Gzip, ..EncodeOptions::default() };
    let sets = SetsOptions {
        directory: Some(env.root().join("catalog")),
        storage: storage.clone(),
        codec: codec.clone(),
        local_copy: None,
        monitor: Arc::new(Silent),
    };
    let sets = Sets::open(sets).unwrap();
    let chains = sets.set_collection(&collection).unwrap();
    let archive = ArchiveDirectory::lock(&env.root().join("archive")).unwrap();
    let target = Target {
        storage: storage.clone(),
        listing: &listing,
        collection: &collection,
        archive: &archive,
        codec: codec.clone(),
        encoder: codec.encoder(encode.clone()).unwrap(),
        manifest_encoder: Some(
            codec.encoder(EncodeOptions { encoding: Encoding::Plain, ..encode.clone() }).unwrap(),
        ),
        sets: &sets,
    };
    let options = BackupOptions {
        time: BackupTime::from_seconds(time),
        volume_size: 1 << 20,
        max_block_size: None,
        names: NameForm::default(),
        prefixes,
        encode,
        hostname: None,
        source: None,
        list_files: true,
        numeric_owner: false,
        keep_unreadable: false,
        skip_if_no_change: false,
        tempdir: std::env::temp_dir(),
        journal: Some(env.root().join("journal")),
        fail_on_volume: None,
        skip_volume: None,
    };
    let source = SourceTree::open(&env.source(), &SourceOptions::default()).unwrap();
    let job = Job {
        target: &target,
        source: &source,
        selection: None,
        base: chains.last(),
        options: &options,
    };
    let outcome = backup(&job, &Silent).unwrap();
    (outcome, storage.take_calls())
}

/// Returns what kinds of calls came how often, and in which order files were stored.
fn summary(calls: &[Call]) -> (usize, usize, Vec<&str>) {
    let lists = calls.iter().filter(|call| matches!(call, Call::List)).count();
    let reads = calls.iter().filter(|call| matches!(call, Call::Read { .. })).count();
    let puts = calls
        .iter()
        .filter_map(|call| if let Call::Put { name } = call { Some(&name[..]) } else { None });
    (lists, reads, puts.collect())
}

/// A full backup of V volumes: one listing, V + 2 files stored, one look at what was stored before
/// the manifest; an increment without changes as many, and one read of a signature file at most.
#[test]
fn a_backup_lists_twice_and_stores_each_file_once() {
    for concurrency in [1, 4] {
        let env = Env::new();
        (0..6u64).for_each(|number| {
            std::fs::write(env.source().join(format!("file{number}")), noise(1 << 20, number))
                .unwrap()
        });
        // The first volumes are stored when so many are on their way: fewer would wait for ever.
        let together = Barrier::new(concurrency);
        let wait = move |call: &Call| {
            let is_first = |name: &str| {
                let is_volume = |number| name.contains(&format!(".vol{number}."));
                name.contains("-full.") && (1..=concurrency).any(is_volume)
            };
            if matches!(call, Call::Put { name } if is_first(name)) {
                together.wait();
            }
            None
        };
        let memory = Arc::new(MemoryStorage::default());
        let storage = RecordingStorage::failing(memory, wait);
        let storage = Arc::new(storage.far(Duration::ZERO, concurrency));
        let (outcome, calls) = save(&env, &storage, 1_700_000_000);
        assert_eq!(outcome.statistics.errors, 0);
        let row = storage.take_longest_row();
        let all = calls.iter().filter(|call| !matches!(call, Call::Stage { .. })).count();
        assert!(
            if concurrency > 1 { row <= all - (concurrency - 1) } else { row == all },
            "{row} of {all}: {calls:?}"
        );
        let (lists, reads, puts) = summary(&calls);
        let volumes = puts.iter().filter(|name| name.contains(".vol")).count();
        assert!((lists, reads) == (2, 0) && volumes >= 6 && puts.len() == volumes + 2, "{calls:?}");
        assert!(puts.last().unwrap().ends_with(".manifest"), "{puts:?}");
        let check = calls.iter().rposition(|call| matches!(call, Call::List)).unwrap();
        let is_stored = |call: &&Call| matches!(call, Call::Put { .. });
        assert_eq!(
            calls[check..].iter().filter(is_stored).count(),
            1,
            "the manifest is stored when all else is known to be there"
        );

        let (outcome, calls) = save(&env, &storage, 1_700_001_000);
        assert_eq!((outcome.statistics.errors, outcome.statistics.delta_entries), (0, 0));
        let (lists, reads, puts) = summary(&calls);
        assert!(lists == 2 && reads <= 1 && puts.len() == 3, "{calls:?}");
    }
}
