//! The rules of planning, and what an end at any point leaves.

use super::*;
use crate::collection::{ArchiveDirectory, Collection};
use crate::format::{Content, Encoding, Prefixes, Session, StoredName};
use crate::model::BackupTime;
use crate::monitor::{Level, Monitor, Silent};
use crate::storage::{Call, ErrorKind, Listed, LocalStorage, RecordingStorage, Storage};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A session by start and end; a full one has both equal.
type Times = (i64, i64);

/// Two chains of three sets and one of two, and the newest.
const HISTORY: &[Times] = &[
    (10, 10),
    (10, 11),
    (11, 12),
    (20, 20),
    (20, 21),
    (30, 30),
    (30, 31),
    (31, 32),
    (40, 40),
    (40, 41),
];

fn session((start, end): Times) -> Session {
    let [start, end] = [start, end].map(BackupTime::from_seconds);
    if start == end { Session::Full { time: end } } else { Session::Incremental { start, end } }
}

fn name(times: Times, content: Content, encoding: Encoding, partial: bool) -> String {
    StoredName { session: session(times), content, partial, encoding }.print(&Prefixes::default())
}

/// Returns the stored files of complete sets with two volumes each.
fn stored(sessions: &[Times]) -> Vec<String> {
    let contents = [Content::Volume(1), Content::Volume(2), Content::Signatures, Content::Manifest];
    sessions
        .iter()
        .flat_map(|&times| contents.map(|content| name(times, content, Encoding::Gzip, false)))
        .collect()
}

/// Returns what the archive directory has of them.
fn archived(sessions: &[Times]) -> Vec<String> {
    let kept = [(Content::Signatures, Encoding::Gzip), (Content::Manifest, Encoding::Plain)];
    sessions
        .iter()
        .flat_map(|&times| kept.map(|(content, encoding)| name(times, content, encoding, false)))
        .collect()
}

fn without(names: Vec<String>, gone: &[String]) -> Vec<String> {
    names.into_iter().filter(|name| !gone.contains(name)).collect()
}

fn inventory(stored: &[String], archived: &[String]) -> Inventory {
    let listed = |names: &[String]| {
        names
            .iter()
            .map(|name| Listed { name: name.clone(), size: 9, stamp: 0 })
            .collect::<Vec<_>>()
    };
    Inventory::new(&listed(stored), &listed(archived), &Prefixes::default())
}

fn whole(sessions: &[Times]) -> Inventory {
    inventory(&stored(sessions), &archived(sessions))
}

fn at(seconds: i64) -> BackupTime {
    BackupTime::from_seconds(seconds)
}

fn seconds(times: &[BackupTime]) -> Vec<i64> {
    times.iter().map(|time| time.seconds()).collect()
}

/// Returns the names in one place that a plan deletes, in its order.
fn deleted(steps: &[Step], place: Side) -> Vec<String> {
    let files = steps.iter().flat_map(|step| &step.deletions);
    files.filter(|file| file.place == place).map(|file| file.name.clone()).collect()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn chains_go_that_end_before_the_time() {
    let chain: [&[Times]; 4] = [&HISTORY[..3], &HISTORY[3..5], &HISTORY[5..8], &HISTORY[8..]];
    for (before, ends, needed, is_newest_old) in [
        (5, vec![], vec![], false),
        (11, vec![], vec![10], false),
        (12, vec![], vec![10, 11], false),
        (13, vec![12], vec![], false),
        (21, vec![12], vec![20], false),
        (32, vec![12, 21], vec![30, 31], false),
        (41, vec![12, 21, 32], vec![40], false),
        (42, vec![12, 21, 32], vec![], true),
    ] {
        let outdated = whole(HISTORY).outdated(at(before), Part::Chain);
        assert_eq!(
            (seconds(&outdated.chains), seconds(&outdated.needed)),
            (ends.clone(), needed.clone()),
            "{before}"
        );
        assert_eq!(outdated.is_newest_old, is_newest_old, "{before}");
        let gone = chain[..ends.len()].concat();
        for (place, names) in [(Side::Storage, stored(&gone)), (Side::Archive, archived(&gone))] {
            assert_eq!(sorted(deleted(&outdated.steps, place)), sorted(names), "{before}");
        }
        let increments = whole(HISTORY).outdated(at(before), Part::Increments);
        assert_eq!(increments.chains, outdated.chains, "{before}");
        let gone: Vec<Times> = gone.into_iter().filter(|(start, end)| start != end).collect();
        assert_eq!(
            sorted(deleted(&increments.steps, Side::Storage)),
            sorted(stored(&gone)),
            "{before}"
        );
    }
    assert_eq!(whole(&[]).outdated(at(99), Part::Chain), Outdated::default());
}

#[test]
fn full_backups_are_counted_from_the_newest() {
    let collection = whole(HISTORY).collection;
    for (count, time) in
        [(0, None), (1, Some(40)), (2, Some(30)), (4, Some(10)), (5, None), (usize::MAX, None)]
    {
        assert_eq!(time_of_full(&collection, count).map(BackupTime::seconds), time, "{count}");
    }
    // A full one inside the span of an older chain, which goes on after it.
    let collection = whole(&[(10, 10), (10, 50), (20, 20), (20, 30)]).collection;
    assert_eq!(time_of_full(&collection, 1), Some(at(20)));
}

#[test]
fn a_chain_of_a_full_set_alone_has_no_increments_to_lose() {
    let outdated =
        whole(&[(10, 10), (20, 20), (20, 21), (40, 40)]).outdated(at(40), Part::Increments);
    assert_eq!(seconds(&outdated.chains), [21]);
    let outdated = whole(&[(10, 10), (20, 20), (40, 40)]).outdated(at(40), Part::Increments);
    assert_eq!((outdated.chains, outdated.steps), (vec![], vec![]));
}

#[test]
fn what_is_newer_goes_first() {
    let sessions = [(10, 10), (10, 11), (20, 20), (40, 40)];
    let mut here = archived(&sessions);
    here.push(name((10, 10), Content::Statistics, Encoding::Gzip, false));
    let mut there = stored(&sessions);
    there.push(name((10, 10), Content::Statistics, Encoding::Gzip, false));
    // A second encoding of a volume goes, too.
    there.push(name((10, 11), Content::Volume(1), Encoding::OpenPgp, false));
    let steps = inventory(&there, &here).outdated(at(40), Part::Chain).steps;
    let chains: Vec<_> =
        steps.iter().flat_map(|step| step.chain).map(|it| (it.is_signatures, it.end)).collect();
    let [first, second] = [at(11), at(20)];
    let signatures = [second, second, first, first].map(|end| (true, end));
    assert_eq!(chains, [&signatures[..], &[(false, second), (false, first)]].concat());
    let shorten = |file: &Deletion| {
        let name = StoredName::parse(&file.name, &Prefixes::default()).unwrap();
        let kind = match name.content {
            Content::Volume(number) => number.to_string(),
            Content::Manifest => "m".into(),
            Content::Signatures => "s".into(),
            Content::Statistics => "j".into(),
        };
        format!(
            "{}{}{kind}",
            name.session.end().seconds(),
            if file.place == Side::Storage { "" } else { "here" }
        )
    };
    let order: Vec<_> = steps.iter().flat_map(|step| &step.deletions).map(shorten).collect();
    let expected = "20s 20m 202 201 20heres 20herem 11s 11m 112 111 111 11heres 11herem 10s 10m 10j 102 101 10heres 10herem 10herej";
    assert_eq!(order.join(" "), expected);
}

#[test]
fn signature_files_that_are_needed_stay() {
    let signatures = |times| name(times, Content::Signatures, Encoding::Gzip, false);
    let manifest = |times| name(times, Content::Manifest, Encoding::Gzip, false);
    let history = [(10, 10), (10, 11), (20, 20), (20, 21), (40, 40), (40, 41)];
    // Those of the newest chain end early, since one is missing; so do those of a chain that stays.
    for (gone, before) in [((40, 41), 99), ((20, 21), 21)] {
        let there = without(stored(&history), &[signatures(gone)]);
        let steps = inventory(&there, &[]).outdated(at(before), Part::Chain).steps;
        let expected = if before == 99 { &history[..4] } else { &history[..2] };
        assert_eq!(sorted(deleted(&steps, Side::Storage)), sorted(stored(expected)), "{gone:?}");
    }
    // A full session that was interrupted when all but its manifest was stored, and that ends
    // before the time.
    let history = [(10, 10), (20, 20), (30, 30)];
    let there = without(stored(&history), &[manifest((30, 30))]);
    let steps = inventory(&there, &[]).outdated(at(99), Part::Chain).steps;
    assert_eq!(sorted(deleted(&steps, Side::Storage)), sorted(stored(&history[..1])));
    // Those of sets that are gone long since go with the next chain.
    let there =
        [stored(&[(10, 10), (20, 20)]), vec![signatures((5, 5)), signatures((5, 6))]].concat();
    let steps = inventory(&there, &[]).outdated(at(20), Part::Chain).steps;
    assert_eq!(deleted(&steps, Side::Storage).len(), 6);
    assert_eq!(inventory(&there, &[]).outdated(at(10), Part::Chain).steps, vec![]);
}

#[test]
fn clean_up_takes_what_is_in_no_chain_and_nothing_else() {
    let signatures = |times| name(times, Content::Signatures, Encoding::Gzip, false);
    let manifest = |times| name(times, Content::Manifest, Encoding::Gzip, false);
    let all = stored(HISTORY);
    let cleaned = |there: Vec<String>, here: &[String]| {
        let steps = inventory(&there, here).extraneous();
        (sorted(deleted(&steps, Side::Storage)), sorted(deleted(&steps, Side::Archive)))
    };
    let none: Vec<String> = vec![];
    assert_eq!(cleaned(all.clone(), &archived(HISTORY)), (none.clone(), none.clone()));
    // Not even a set that has lost its signature file, or whose volumes are gone.
    for gone in [
        signatures((40, 41)),
        signatures((40, 40)),
        name((40, 41), Content::Volume(1), Encoding::Gzip, false),
    ] {
        let (there, _) = cleaned(without(all.clone(), std::slice::from_ref(&gone)), &[]);
        let orphan = if gone == signatures((40, 40)) { vec![signatures((40, 41))] } else { vec![] };
        assert_eq!(there, orphan, "{gone}");
    }
    // A set without manifest, and those that build on it.
    let there = without(all.clone(), &[manifest((30, 31))]);
    let (stored_files, here) = cleaned(there.clone(), &archived(HISTORY));
    assert_eq!(stored_files, sorted(without(stored(&HISTORY[6..8]), &[manifest((30, 31))])));
    assert_eq!(here, sorted(archived(&HISTORY[6..8])));
    // A session under way, with its checkpoints.
    let new = (41, 42);
    let there = [all.clone(), vec![name(new, Content::Volume(1), Encoding::Gzip, false)]].concat();
    let parts = [Content::Signatures, Content::Manifest]
        .map(|content| name(new, content, Encoding::Plain, true));
    let here = [archived(HISTORY), parts.to_vec()].concat();
    assert_eq!(
        cleaned(there, &here),
        (vec![name(new, Content::Volume(1), Encoding::Gzip, false)], sorted(parts.to_vec()))
    );
    // Foreign files, checkpoints in storage, statistics of sets that are there.
    let statistics = |times| name(times, Content::Statistics, Encoding::Gzip, false);
    let foreign = [
        "readme".to_string(),
        format!("{}.tmp", all[0]),
        name((50, 50), Content::Manifest, Encoding::Plain, true),
    ];
    let there =
        [all.clone(), foreign.to_vec(), vec![statistics((10, 10)), statistics((9, 9))]].concat();
    assert_eq!(cleaned(there, &[]), (vec![statistics((9, 9))], none.clone()));
    // Two increments on one set: the later one counts, and keeps its signature file.
    let twice = [(4, 4), (4, 5), (4, 6), (5, 6), (6, 7)];
    assert_eq!(cleaned(stored(&twice), &[]), (sorted(stored(&[(4, 5), (5, 6)])), none.clone()));
    // One that was replaced is why a later set is in a chain: where two sets end at 4, (4, 7) would
    // take the place of (4, 5).
    let ambiguous = [(2, 2), (2, 4), (4, 4), (4, 5), (5, 6), (4, 7), (5, 7)];
    let ends = |collection: &Collection| {
        collection.orphaned.iter().map(|set| set.session.end().seconds()).collect::<Vec<_>>()
    };
    assert_eq!(ends(&whole(&ambiguous).collection), [6]);
    assert_eq!(ends(&whole(&[&ambiguous[..4], &ambiguous[5..]].concat()).collection), [5, 7]);
    assert_eq!(cleaned(stored(&ambiguous), &[]).0, none);
    // Signature files in no chain, each where it is.
    let lonely = [signatures((8, 9))];
    assert_eq!(
        cleaned([all.clone(), lonely.to_vec()].concat(), &[]),
        (lonely.to_vec(), none.clone())
    );
    assert_eq!(cleaned(all, &lonely), (none, lonely.to_vec()));
}

/// Returns whether each set that has its manifest has its two volumes, too, and lies in a chain.
fn is_sound(collection: &Collection) -> bool {
    let chained = collection.chains.iter().flat_map(|chain| chain.sets());
    collection.orphaned.is_empty() && chained.into_iter().all(|set| set.volumes.len() == 2)
}

#[test]
fn an_end_at_any_point_leaves_whole_sets_and_what_clean_up_takes() {
    for (before, part) in [
        (40, Part::Chain),
        (99, Part::Chain),
        (25, Part::Chain),
        (40, Part::Increments),
        (99, Part::Increments),
    ] {
        let steps = whole(HISTORY).outdated(at(before), part).steps;
        let files: Vec<Deletion> = steps.into_iter().flat_map(|step| step.deletions).collect();
        assert!(files.len() > 10);
        let planned = |place, files: &[Deletion]| -> Vec<String> {
            files.iter().filter(|file| file.place == place).map(|file| file.name.clone()).collect()
        };
        let left = |files: &[Deletion]| {
            [
                without(stored(HISTORY), &planned(Side::Storage, files)),
                without(archived(HISTORY), &planned(Side::Archive, files)),
            ]
        };
        for count in 0..=files.len() {
            let [mut there, mut here] = left(&files[..count]);
            let interrupted = inventory(&there, &here);
            assert!(is_sound(&interrupted.collection), "{before}, {part:?}: {count} of {files:?}");
            assert!(
                interrupted.collection.orphaned_signatures.is_empty(),
                "{before}, {part:?}: {count}"
            );
            // The same again, then clean-up, then what synchronisation does.
            let mut again = interrupted.outdated(at(before), part).steps;
            again.extend(interrupted.extraneous());
            there = without(there, &deleted(&again, Side::Storage));
            here = without(here, &deleted(&again, Side::Archive));
            let [all_there, all_here] = left(&files);
            assert_eq!(
                sorted(there),
                sorted(all_there),
                "{before}, {part:?}: {count} of {files:?}"
            );
            let spurious: Vec<_> = without(here, &all_here);
            assert!(
                spurious
                    .iter()
                    .all(|name| files[..count].iter().any(|file| same_set(&file.name, name))),
                "{spurious:?}"
            );
        }
    }
}

fn same_set(one: &str, other: &str) -> bool {
    let session = |name: &str| StoredName::parse(name, &Prefixes::default()).unwrap().session;
    session(one) == session(other)
}

/// Hears warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Monitor for Warnings {
    fn message(&self, level: Level, text: &str) {
        if level == Level::Warning {
            self.0.lock().push(text.to_string());
        }
    }
}

#[test]
fn a_file_that_cannot_be_deleted_is_told_and_the_rest_stays_sound() {
    let files = whole(HISTORY)
        .outdated(at(40), Part::Chain)
        .steps
        .into_iter()
        .flat_map(|step| step.deletions);
    let files: Vec<_> = files.filter(|file| file.place == Side::Storage).collect();
    let prefixes = Prefixes::default();
    for stubborn in &files {
        let directory = tempfile::tempdir().unwrap();
        let (store, cache) = (directory.path().join("store"), directory.path().join("cache"));
        for (place, names) in [(&store, stored(HISTORY)), (&cache, archived(HISTORY))] {
            std::fs::create_dir(place).unwrap();
            names.iter().for_each(|name| std::fs::write(place.join(name), "x").unwrap());
        }
        let refused = stubborn.name.clone();
        let local: Arc<dyn Storage> = Arc::new(LocalStorage::new(&store));
        let failing = RecordingStorage::failing(local.clone(), move |call| {
            matches!(call, Call::Delete { names } if names.contains(&refused))
                .then_some(ErrorKind::Other)
        });
        let archive = ArchiveDirectory::lock(&cache).unwrap();
        let look = || Inventory::new(&local.list().unwrap(), &archive.list().unwrap(), &prefixes);
        let warnings = Warnings::default();
        let left =
            delete(&look().outdated(at(40), Part::Chain).steps, &failing, &archive, &warnings);
        let inventory = look();
        assert!(is_sound(&inventory.collection), "{stubborn:?}");
        assert_eq!(warnings.0.lock().len(), 1, "{stubborn:?}");
        let spared = deleted(&inventory.outdated(at(40), Part::Chain).steps, Side::Storage).len();
        match stubborn.content {
            // All that stands behind it in its chain, here and there.
            Content::Manifest => assert!(left > 3 && spared >= 3, "{stubborn:?}: {left}, {spared}"),
            _ => assert_eq!(left, 1, "{stubborn:?}"),
        }
        // When it can be deleted, nothing is left of it.
        delete(&inventory.outdated(at(40), Part::Chain).steps, local.as_ref(), &archive, &Silent);
        delete(&look().extraneous(), local.as_ref(), &archive, &Silent);
        let names: Vec<String> =
            local.list().unwrap().into_iter().map(|listed| listed.name).collect();
        let expected = stored(&HISTORY[8..]);
        let is_signature = stubborn.content == Content::Signatures;
        // A signature file without set that begins a chain of its own goes with the next old chain.
        let rest = without(names, &expected);
        assert!(
            rest.is_empty() || is_signature && rest == [stubborn.name.clone()],
            "{stubborn:?}: {rest:?}"
        );
    }
}

fn any_sessions() -> impl Strategy<Value = BTreeSet<Times>> {
    prop::collection::btree_set(
        (1i64..8, 0i64..4).prop_map(|(start, length)| (start, start + length)),
        1..12,
    )
}

proptest! {
    #[test]
    fn what_stays_stays_whole(sessions in any_sessions(), before in 0i64..14, is_part: bool, lost in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let sessions: Vec<Times> = sessions.into_iter().collect();
        let mut there = stored(&sessions);
        for index in lost {
            there.swap_remove(index.index(there.len()));
        }
        let part = if is_part { Part::Increments } else { Part::Chain };
        let inventory = inventory(&there, &archived(&sessions));
        let steps = inventory.outdated(at(before), part).steps;
        let gone = deleted(&steps, Side::Storage);
        let twice: BTreeSet<&String> = gone.iter().collect();
        prop_assert_eq!(twice.len(), gone.len(), "nothing is planned twice");
        let newest = inventory.collection.chains.len().saturating_sub(1);
        for (position, chain) in inventory.collection.chains.iter().enumerate() {
            let stays = position == newest || chain.end() >= at(before);
            for set in chain.sets().iter().filter(|set| stays || part == Part::Increments && set.session.is_full()) {
                prop_assert!(set.files().all(|file| !gone.contains(&file.listed.name)), "{:?} loses a file", set.session);
            }
        }
        let cleaned = deleted(&inventory.extraneous(), Side::Storage);
        // A manifest alone at the end of the newest chain is of no use.
        let remains: BTreeSet<Session> = inventory.collection.remains_of_newest().map(|set| set.session).collect();
        let complete = inventory.collection.chains.iter().flat_map(|chain| chain.sets());
        let complete = complete.filter(|set| !remains.contains(&set.session));
        for file in complete.flat_map(|set| set.manifest.iter().chain(set.volumes.values())) {
            prop_assert!(!cleaned.contains(&file.listed.name));
        }
        let rest = without(there, &cleaned);
        let clean = super::tests::inventory(&rest, &[]);
        prop_assert!(clean.extraneous().is_empty(), "once is enough: {:?}", clean.extraneous());
        let linked = |collection: &Collection| -> Vec<Vec<_>> {
            let sessions = collection.chains.iter().map(|chain| chain.sets().iter().map(|set| set.session));
            let kept = sessions.map(|sessions| sessions.filter(|session| !remains.contains(session)).collect::<Vec<_>>());
            kept.filter(|sessions| !sessions.is_empty()).collect()
        };
        prop_assert_eq!(linked(&clean.collection), linked(&inventory.collection), "clean-up changes no chain");
    }
}
