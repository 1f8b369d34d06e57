//! What removals and a fresh archive directory ask of the storage.

use dupfs::codec::{Codec, Options};
use dupfs::collection::ArchiveDirectory;
use dupfs::format::Prefixes;
use dupfs::model::BackupTime;
use dupfs::monitor::Silent;
use dupfs::retention::{Inventory, Part, delete};
use dupfs::storage::{ByteSink, Call, MemoryStorage, RecordingStorage, Storage};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Sets in a chain, and volumes in a set.
const SETS: i64 = 6;
const VOLUMES: u32 = 20;

/// Stores the files of chains that begin at these seconds; there is nothing in them.
fn store(storage: &dyn Storage, chains: &[i64]) {
    let at = |seconds| BackupTime::from_seconds(seconds).to_string();
    let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let empty = empty.finish().unwrap();
    let put = |name: String| {
        let mut writer = storage.stage(&name).unwrap();
        writer.write_bytes(&empty).unwrap();
        storage.put(&writer.seal()).unwrap();
    };
    for start in chains {
        for number in 0..SETS {
            let end = at(start + number);
            let (set, signatures) = match number {
                0 => (format!("full.{end}"), format!("full-signatures.{end}")),
                _ => {
                    let times = format!("{}.to.{end}", at(start + number - 1));
                    (format!("inc.{times}"), format!("new-signatures.{times}"))
                }
            };
            put(format!("duplicity-{signatures}.sigtar.gz"));
            put(format!("duplicity-{set}.manifest"));
            (1..=VOLUMES).for_each(|volume| put(format!("duplicity-{set}.vol{volume}.difftar.gz")));
        }
    }
}

/// Three waves: signature files by one request, manifests one after the other, newest first, then
/// all volumes by one request.
#[test]
fn files_are_removed_in_three_waves() {
    let memory = Arc::new(MemoryStorage::default());
    store(memory.as_ref(), &[1000, 2000, 3000]);
    let storage = RecordingStorage::new(memory.clone()).far(Duration::ZERO, 8);
    let directory = tempfile::tempdir().unwrap();
    let archive = ArchiveDirectory::lock(directory.path()).unwrap();
    let inventory =
        Inventory::new(&storage.list().unwrap(), &archive.list().unwrap(), &Prefixes::default());
    let outdated = inventory.outdated(BackupTime::from_seconds(2500), Part::Chain);
    storage.take_calls();
    assert_eq!(delete(&outdated.steps, &storage, &archive, &Silent), 0);
    let calls = storage.take_calls();
    let waves: Vec<&[String]> = calls
        .iter()
        .map(|call| match call {
            Call::Delete { names } => &names[..],
            other => panic!("{other:?}"),
        })
        .collect();
    let (removed, manifests) = (2 * SETS as usize, waves.len() - 2);
    assert_eq!((waves[0].len(), manifests), (removed, removed));
    assert!(waves[0].iter().all(|name| name.contains("sigtar")));
    assert!(waves[1..=manifests].iter().all(|names| names[0].ends_with(".manifest")));
    assert_eq!(waves[manifests + 1].len(), removed * VOLUMES as usize);
    assert_eq!(memory.list().unwrap().len(), SETS as usize * (VOLUMES as usize + 2));
}

/// All manifests and signature files of a collection, as many at once as suit the storage.
#[test]
fn a_fresh_archive_directory_is_filled_at_once() {
    let memory = Arc::new(MemoryStorage::default());
    store(memory.as_ref(), &[1000]);
    let listing = memory.list().unwrap();
    // Whoever fetches one after the other waits for ever.
    let (transfers, files) = (4, 2 * SETS as usize);
    let together = Barrier::new(transfers);
    let wait = move |call: &Call| {
        if matches!(call, Call::Stream { .. }) {
            together.wait();
        }
        None
    };
    let storage = RecordingStorage::failing(memory, wait).far(Duration::ZERO, transfers);
    let storage: Arc<RecordingStorage> = Arc::new(storage);
    let directory = tempfile::tempdir().unwrap();
    let archive = ArchiveDirectory::lock(directory.path()).unwrap();
    let plan = archive.plan(&listing, &Prefixes::default(), None).unwrap();
    assert_eq!(plan.copy.len(), files);
    let far: Arc<dyn Storage> = storage.clone();
    archive.synchronize(&plan, &far, &Codec::new(Options::default()), &Silent).unwrap();
    let streams =
        storage.take_calls().iter().filter(|call| matches!(call, Call::Stream { .. })).count();
    assert_eq!(streams, files, "each is one request");
    let listing = archive.list().unwrap();
    assert_eq!(listing.iter().filter(|file| file.name.starts_with("duplicity-")).count(), files);
}
