//! Passing is not damage: the storage is away at every single call of a mount's work and of a
//! restore. What is asked meanwhile fails, or is right; when the storage is back, the same process
//! shows all of it, has marked nothing as bad, and no snapshot is gone.

use super::{Base, TIMES, base};
use crate::support::{Encoding, PASSPHRASE, Truth, Writer, assert_same};
use dupfs::accounts::Accounts;
use dupfs::codec::{Codec, Options, PassphraseSource};
use dupfs::collection::scan;
use dupfs::contents::Contents;
use dupfs::format::Prefixes;
use dupfs::history::{HistoryTree, TimeTemplate};
use dupfs::model::{EntryKind, EntryPath};
use dupfs::monitor::Silent;
use dupfs::restore::{RestoreOptions, restore};
use dupfs::sets::{Sets, SetsOptions};
use dupfs::source::{SourceOptions, SourceTree};
use dupfs::storage::{Call, ErrorKind, LocalStorage, RecordingStorage, Storage};
use dupfs::verify::{VerifyOptions, verify};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What may be wrong with a connection, and a folder that is not there for a moment.
const KINDS: [ErrorKind; 5] = [
    ErrorKind::Unreachable,
    ErrorKind::TimedOut,
    ErrorKind::Busy(None),
    ErrorKind::Other,
    ErrorKind::NotFound,
];

/// How many calls in a row find the storage away.
const AWAY: usize = 3;

/// A process that looks at a collection, behind a storage that is away from a call on.
struct Process {
    storage: Arc<RecordingStorage>,
    /// Calls so far, those for the next bytes of a stream included.
    calls: Arc<AtomicUsize>,
    /// The first call that fails.
    pulled: Arc<AtomicUsize>,
    sets: Arc<Sets>,
    tree: HistoryTree,
}

impl Process {
    fn new(base: &Base, kind: ErrorKind) -> Self {
        let (calls, pulled) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
        let (counted, from) = (calls.clone(), pulled.clone());
        let fault = move |call: &Call| {
            let number = counted.fetch_add(1, Relaxed);
            let from = from.load(Relaxed);
            let is_away = number >= from && number - from < AWAY;
            (is_away && !matches!(call, Call::Received { .. })).then_some(kind)
        };
        let local = Arc::new(LocalStorage::new(base.env.store()));
        let storage = Arc::new(RecordingStorage::failing(local, fault));
        let passphrase = PassphraseSource::Fixed(PASSPHRASE.to_string().into());
        let codec = Arc::new(Codec::new(Options { passphrase, ..Options::default() }));
        let sets = Arc::new(
            Sets::open(SetsOptions {
                directory: None,
                storage: storage.clone(),
                codec: codec.clone(),
                local_copy: None,
                monitor: Arc::new(Silent),
            })
            .unwrap(),
        );
        sets.set_collection(&scan(&storage.list().unwrap(), &Prefixes::default())).unwrap();
        let contents = Arc::new(Contents::new(sets.clone(), codec, 1 << 22));
        let tree = HistoryTree::new(contents, Accounts::new(false), None, TimeTemplate::default());
        calls.store(0, Relaxed);
        Self { storage, calls, pulled, sets, tree }
    }

    /// Lists all folders, and reads all files by a few calls each; returns contents by path, and
    /// how many calls of the tree have failed.
    fn walk(&self) -> (BTreeMap<String, blake3::Hash>, usize) {
        let (mut found, mut failures) = (BTreeMap::new(), 0);
        let mut folders = vec![(1, String::new())];
        while let Some((inode, path)) = folders.pop() {
            let Ok(items) = self.tree.list(inode, None, 1000) else {
                failures += 1;
                continue;
            };
            for item in items {
                let path = format!("{path}/{}", item.name.escape_ascii());
                let Ok(Some(looked)) = self.tree.look_up(inode, &item.name) else {
                    failures += 1;
                    continue;
                };
                let inode = looked.attributes.inode;
                match item.kind {
                    EntryKind::Directory => folders.push((inode, path)),
                    EntryKind::File => match self.read(inode) {
                        Some(hash) => drop(found.insert(path, hash)),
                        None => failures += 1,
                    },
                    _ => {}
                }
            }
        }
        (found, failures)
    }

    fn read(&self, inode: u64) -> Option<blake3::Hash> {
        let file = self.tree.open(inode).ok()?;
        let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 17]);
        let mut offset = 0;
        loop {
            let count = self.tree.read(&file, inode, offset, &mut buffer).ok()?;
            hasher.update(&buffer[..count]);
            offset += count as u64;
            if count < buffer.len() {
                return Some(hasher.finalize());
            }
        }
    }
}

/// Returns the first calls, the last ones, and some in between.
fn sampled(count: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |index| *index < 10 || count - index < 3 || index.is_multiple_of(61))
}

#[test]
fn a_mount_shows_all_again_when_the_storage_is_back() {
    for (writer, encoding) in [(Writer::Old, Encoding::Gzip), (Writer::Dupfs, Encoding::Symmetric)]
    {
        let base = base(writer, encoding);
        base.mend();
        let process = Process::new(&base, ErrorKind::Other);
        let (expected, failures) = process.walk();
        let count = process.calls.load(Relaxed);
        assert!(failures == 0 && count > 20, "{failures} failures, {count} calls");
        assert!(expected.len() > 100, "{} files", expected.len());
        for (round, index) in sampled(count).enumerate() {
            let kind = KINDS[round % KINDS.len()];
            let what =
                format!("{writer:?}, {encoding:?}: {kind:?} from call {index} of {count} on");
            let process = Process::new(&base, kind);
            process.pulled.store(index, Relaxed);
            let (found, _) = process.walk();
            assert!(process.calls.load(Relaxed) > index, "{what}: it was never away");
            for (path, hash) in &found {
                assert_eq!(expected.get(path), Some(hash), "{what}: {path} is wrong");
            }
            process.pulled.store(usize::MAX, Relaxed);
            let (again, failures) = process.walk();
            assert_eq!(failures, 0, "{what}: something is still missed");
            assert!(again == expected, "{what}: not all is shown again");
            for chain in process.sets.catalog().chains() {
                assert_eq!(process.sets.usable(&chain), chain.sets.len(), "{what}");
            }
        }
    }
}

#[test]
fn a_restore_fails_or_is_whole_and_the_next_one_is_whole() {
    for (writer, encoding) in [(Writer::Old, Encoding::Gzip), (Writer::Dupfs, Encoding::Symmetric)]
    {
        let base = base(writer, encoding);
        base.mend();
        let truth = &base.truths[&TIMES[2]];
        let restored = |process: &Process, name: &str| {
            let target = base.env.fresh(name);
            let snapshot = process.sets.snapshot(&process.sets.catalog().chains()[0], 2).ok()?;
            let (accounts, options) = (Accounts::new(false), RestoreOptions::default());
            let summary =
                restore(&process.sets, &snapshot, &target, &accounts, &Silent, &options).ok()?;
            (summary.failed == 0).then(|| Truth::record(&target))
        };
        let process = Process::new(&base, ErrorKind::Other);
        assert_same(truth, &restored(&process, "undisturbed").unwrap(), "undisturbed");
        let count = process.calls.load(Relaxed);
        for (round, index) in sampled(count).enumerate() {
            let kind = KINDS[round % KINDS.len()];
            let what =
                format!("{writer:?}, {encoding:?}: {kind:?} from call {index} of {count} on");
            let process = Process::new(&base, kind);
            process.pulled.store(index, Relaxed);
            if let Some(found) = restored(&process, &format!("pulled-{round}")) {
                assert_same(truth, &found, &what);
            }
            process.pulled.store(usize::MAX, Relaxed);
            let again = restored(&process, &format!("again-{round}"));
            assert_same(truth, &again.unwrap_or_else(|| panic!("{what}: it still fails")), &what);
            drop(process.storage.take_calls());
        }
    }
}

/// What a verification could not read is not called damaged; and the next one proves all of it.
#[test]
fn a_verification_calls_nothing_damaged_that_it_could_not_read() {
    let base = base(Writer::Old, Encoding::Gzip);
    base.mend();
    let verified = |process: &Process| {
        let snapshot = process.sets.snapshot(&process.sets.catalog().chains()[0], 2).unwrap();
        let source = SourceTree::open(&base.env.source(), &SourceOptions::default()).unwrap();
        let (path, selection) = (EntryPath::root(), None);
        let options = VerifyOptions { path, source, selection, compares: false, contents: None };
        verify(&process.sets, &snapshot, &Accounts::new(false), &Silent, &options).unwrap()
    };
    let process = Process::new(&base, ErrorKind::Other);
    process.sets.fill(&process.sets.catalog().chains()[0]).unwrap();
    let filled = process.calls.load(Relaxed);
    let sound = verified(&process);
    assert_eq!((sound.damaged, sound.unread), (0, 0));
    let (count, mut hit) = (process.calls.load(Relaxed) - filled, 0);
    for (round, index) in sampled(count).enumerate() {
        let process = Process::new(&base, KINDS[round % KINDS.len()]);
        process.sets.fill(&process.sets.catalog().chains()[0]).unwrap();
        process.pulled.store(process.calls.load(Relaxed) + index, Relaxed);
        let found = verified(&process);
        assert_eq!((found.files, found.damaged), (sound.files, 0), "call {index}");
        assert_eq!(found.cause.is_some(), found.unread > 0, "call {index}");
        hit += u64::from(found.unread > 0);
        process.pulled.store(usize::MAX, Relaxed);
        assert_eq!(verified(&process).unread, 0, "call {index}");
    }
    assert!(hit > 0);
}
