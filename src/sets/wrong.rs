//! Tests with a database that is wrong, gone, cut, locked or full of others' numbers: every answer
//! must be right, whatever it takes.

use super::testing::{Files, Item, PathState, World, path, time};
use crate::catalog::{self, Chain, VersionKind};
use crate::collection::scan;
use crate::format::Prefixes;
use crate::storage::Storage;
use PathState::{Delta, Directory, File, Gone};
use rusqlite::Connection;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A full set of two volumes and two increments, with what a delta needs: literal "say: ", then 5
/// bytes of the basis.
fn files() -> Arc<Files> {
    let files = Arc::new(Files::default());
    let file = |length: usize| File((0..length).map(|at| (at % 251) as u8).collect());
    let first: &[Item] = &[
        (".", Directory),
        ("a", file(3000)),
        ("b", file(0)),
        ("d", Directory),
        ("d/big", file(40_000)),
    ];
    files.write(0, &[first, &[("d/big", file(30_000)), ("e", file(20_000))]], false);
    let delta = Delta(b"rs\x026\x05say: \x45\x06\x05\x00".to_vec());
    files.write(
        1,
        &[&[(".", Directory), ("a", delta), ("b", Gone), ("f", Directory), ("f/g", file(9))]],
        true,
    );
    files.write(2, &[&[(".", Directory), ("d/big", Gone), ("f/g", file(10))]], false);
    files
}

fn open(files: &Arc<Files>, directory: &Path) -> (World, Arc<Chain>) {
    let world = World::new(files, Some(directory.into()), Default::default());
    let chain = world.chain();
    (world, chain)
}

/// Returns all that a catalog answers, as text: trees, contents, what a new session compares with,
/// seek indexes.
fn answers(world: &World, chain: &Arc<Chain>) -> Vec<String> {
    let sets = &world.sets;
    let mut all = Vec::new();
    for position in 0..chain.sets.len() as u32 {
        let snapshot = sets.snapshot(chain, position).unwrap();
        for number in sets.manifest(chain, position).unwrap().volumes().map(|volume| volume.number)
        {
            sets.fill_volume(chain, position, number).unwrap();
            let key = sets.volume(chain, position, number).unwrap().key;
            let seek_index = sets.seek_indexes().seek_index(key).unwrap().unwrap();
            let point = sets.seek_indexes().seek_point(key, 0).unwrap().unwrap();
            let frames = (
                seek_index.frames,
                seek_index.plain_length,
                seek_index.stored_length,
                seek_index.chunks,
            );
            all.push(format!("{position} {number}: {frames:?} {} {:?}", point.plain, point.state));
        }
        for item in snapshot.walk(sets, &path("")).unwrap() {
            let (path, version) = item.unwrap();
            let found = snapshot.find(sets, &path).unwrap().unwrap();
            assert_eq!((found.id, sets.path(&found).unwrap()), (version.id, path.clone()));
            let before = sets.version_before(&version).unwrap().map(|version| version.id);
            // What volumes have told may be gone by now; then it comes back.
            let parts = || {
                for number in sets
                    .manifest(chain, version.position)
                    .unwrap()
                    .volumes_with(&path)
                    .map(|volume| volume.number)
                {
                    sets.fill_volume(chain, version.position, number).unwrap();
                }
                Some(sets.parts(version.id).unwrap()).filter(|parts| !parts.is_empty()).ok_or(())
            };
            let parts = if version.is_file() {
                sets.catalog.undisturbed(parts).unwrap()
            } else {
                Vec::new()
            };
            if let (VersionKind::Present { size: Some(size), .. }, [(_, part)]) =
                (&version.kind, &parts[..])
            {
                assert_eq!(Some(*size), part.size(), "{path}");
            }
            all.push(format!("{path} {:?} {before:?} {:?} {parts:?}", version.id, version.entry()));
        }
        all.extend(sets.saved_entries(chain, position).unwrap().map(|saved| {
            let saved = saved.unwrap();
            format!("{} {:?} {:?} {}", saved.path, saved.entry, saved.version, saved.position)
        }));
    }
    all
}

#[track_caller]
fn assert_right(found: &[String], expected: &[String], what: &str) {
    let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(differs.is_none() && found.len() == expected.len(), "{what}: {differs:#?}");
}

/// Changes rows as our own program would.
fn write(world: &World, statements: &str) {
    world.sets.catalog.write::<_, catalog::Error>(|rows| rows.execute(statements)).unwrap();
}

fn database(directory: &Path) -> PathBuf {
    directory.join("catalog.sqlite")
}

/// Makes a catalog that knows everything, and returns the answers of a sound one.
fn filled(files: &Arc<Files>, directory: &Path) -> Vec<String> {
    let (world, chain) = open(files, directory);
    answers(&world, &chain);
    answers(&world, &chain)
}

#[test]
fn no_bit_makes_an_answer_wrong() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let expected = filled(&files, directory.path());
    let count: u64 = if std::env::var_os("DUPFS_LONG").is_some() { 20_000 } else { 200 };
    let mut noticed = 0;
    for case in 0..count {
        // In place: another file would be noticed by its inode.
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(database(directory.path()))
            .unwrap();
        let hash = blake3::hash(&case.to_le_bytes());
        let random = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
        let (at, mut byte) = (random / 8 % file.metadata().unwrap().len(), [0]);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1 << (random % 8)], at).unwrap();
        drop(file);
        let (world, chain) = open(&files, directory.path());
        assert_right(&answers(&world, &chain), &expected, &format!("case {case}, byte {at}"));
        let said = world.said.0.lock().clone();
        assert!(
            said.len() <= 1 && said.iter().all(|text| text.contains("filling it anew")),
            "case {case}: {said:?}"
        );
        assert!(!world.sets.catalog.is_in_memory());
        noticed += said.len() as u64;
    }
    assert!(noticed > count / 4, "{noticed} of {count}");
}

#[test]
fn rows_that_another_program_wrote_are_not_believed() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let expected = filled(&files, directory.path());
    for edit in [
        "UPDATE versions SET name = x'7a' WHERE name = x'61'",
        "DELETE FROM versions WHERE name = x'65'",
        "UPDATE versions SET kind = 3, extra = x'2f' WHERE name = x'65'",
        "UPDATE versions SET size = 7",
        "UPDATE sets SET end_version = 4 WHERE position = 0",
        "UPDATE source_stats SET size = 1",
        "DELETE FROM parts",
        "UPDATE volumes SET plain_length = 10",
        "DELETE FROM sets WHERE position = 2",
        "DELETE FROM chains",
        "PRAGMA user_version = 2",
        "DROP TABLE frames",
    ] {
        let connection = Connection::open(database(directory.path())).unwrap();
        connection.execute_batch(edit).unwrap();
        drop(connection);
        let (world, chain) = open(&files, directory.path());
        assert_right(&answers(&world, &chain), &expected, edit);
        drop((world, chain));
        assert_right(&filled(&files, directory.path()), &expected, edit);
    }
}

/// What no check of a page can notice, because our own program wrote it.
#[test]
fn rows_that_make_no_sense_are_replaced() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let expected = filled(&files, directory.path());
    for edit in [
        "UPDATE directories SET parent = id WHERE name = x'64'",
        "UPDATE versions SET extra = directory WHERE name = x'64'",
        "UPDATE versions SET extra = -5 WHERE name = x'66'",
        "UPDATE versions SET kind = 99 WHERE name = x'61'",
        "UPDATE versions SET mode = 'words'",
        "UPDATE versions SET size = -1 WHERE name = x'61'",
        "UPDATE parts SET extents = x'00'",
        "DELETE FROM owners",
        "DELETE FROM directories WHERE name = x'66'",
        "UPDATE sets SET end_version = 1099511627776",
        "UPDATE sets SET first_version = 'one'",
        "DROP TABLE parts",
        "ALTER TABLE versions RENAME COLUMN extra TO other",
    ] {
        let (world, chain) = open(&files, directory.path());
        write(&world, edit);
        drop((world, chain));
        let (world, chain) = open(&files, directory.path());
        let found = answers(&world, &chain);
        let said = world.said.0.lock().clone();
        assert_right(&found, &expected, &format!("{edit}: {said:?}"));
        assert_eq!(said.len(), 1, "{edit}: {said:?}");
        drop((world, chain));
        assert_right(&filled(&files, directory.path()), &expected, edit);
    }
}

/// What is done to the file of a catalog that is open.
type Action = Box<dyn Fn(&Path)>;

#[test]
fn what_happens_to_the_file_meanwhile_is_no_harm() {
    let cut = |suffix: &'static str| {
        move |path: &Path| {
            let name = format!("{}{suffix}", path.display());
            std::fs::File::options().write(true).open(name).unwrap().set_len(0).unwrap();
        }
    };
    let remove: fn(&Path) = |path| std::fs::remove_file(path).unwrap();
    let remove_all: fn(&Path) = |path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let exchange: fn(&Path) = |path| {
        std::fs::copy(path, path.with_extension("copy")).unwrap();
        std::fs::rename(path.with_extension("copy"), path).unwrap();
    };
    let done: [(&str, Action); 7] = [
        ("removed", Box::new(remove)),
        ("removed with its directory", Box::new(remove_all)),
        ("exchanged by a copy", Box::new(exchange)),
        ("cut", Box::new(cut(""))),
        ("log cut", Box::new(cut("-wal"))),
        ("index of the log cut", Box::new(cut("-shm"))),
        (
            "log removed",
            Box::new(|path| std::fs::remove_file(format!("{}-wal", path.display())).unwrap()),
        ),
    ];
    for (name, action) in done {
        let (files, directory) = (files(), tempfile::tempdir().unwrap());
        let directory = directory.path().join("ours");
        let expected = filled(&files, &directory);
        let (world, chain) = open(&files, &directory);
        assert_right(&answers(&world, &chain), &expected, "");
        action(&database(&directory));
        let found: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| answers(&world, &chain))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let said = world.said.0.lock().clone();
        found.iter().for_each(|found| assert_right(found, &expected, name));
        assert!(said.len() <= 1, "{name}: {said:?}");
        drop(world);
        let (world, chain) = open(&files, &directory);
        assert_right(&answers(&world, &chain), &expected, &format!("{name}, afterwards"));
    }
}

#[test]
fn numbers_of_another_process_are_not_taken_for_ours() {
    let (ours, theirs, directory) =
        (files(), Arc::new(Files::default()), tempfile::tempdir().unwrap());
    let directory = directory.path().join("ours");
    let expected = filled(&ours, &directory);
    let (world, chain) = open(&ours, &directory);
    assert_right(&answers(&world, &chain), &expected, "");
    std::fs::remove_dir_all(&directory).unwrap();
    // Another collection would have another directory: this is the same one, as it looked some time
    // later.
    theirs.write(0, &[&[(".", Directory), ("other", File(b"!".to_vec()))]], false);
    let (other, other_chain) = open(&theirs, &directory);
    answers(&other, &other_chain);
    assert_right(&answers(&world, &chain), &expected, "");
    assert!(world.sets.catalog.is_in_memory());
}

#[test]
fn a_lock_is_waited_for_a_moment_only() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let expected = filled(&files, directory.path());
    let (other, _) = open(&files, directory.path());
    other
        .sets
        .catalog
        .write::<_, catalog::Error>(|_| {
            // All is known: nothing has to be written.
            let (world, chain) = open(&files, directory.path());
            assert_right(&answers(&world, &chain), &expected, "");
            assert_eq!(world.said.0.lock()[..], [""; 0]);
            // A new set has to be.
            files.write(3, &[&[("h", File(b"new".to_vec()))]], false);
            let (world, chain) = open(&files, directory.path());
            let plain = World::plain(&files);
            assert_right(&answers(&world, &chain), &answers(&plain, &plain.chain()), "with a new set");
            let said = world.said.0.lock().clone();
            assert_eq!(said, ["another process keeps the catalog locked; going on without a cache, which is slower"]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn nobody_waits_for_somebody_who_waits_for_a_storage() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let (slow, chain) = open(&files, directory.path());
    let busy = files.0.lock();
    std::thread::scope(|scope| {
        let filling = scope.spawn(|| slow.sets.fill(&chain).unwrap());
        // Whoever writes now would fail after the time for which a lock is waited for.
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let connection = Connection::open(database(directory.path())).unwrap();
            connection.busy_timeout(std::time::Duration::ZERO).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        }
        drop(busy);
        assert_eq!(filling.join().unwrap(), 3);
    });
}

/// Names the files of a full set, or of an increment of the set before it, at minutes since some
/// time.
fn put_set(files: &Files, full: bool, minute: i64) {
    let at = |minute: i64| crate::model::BackupTime::from_seconds(1_600_000_000 + minute * 60);
    let (name, signatures) = match full {
        true => (
            format!("duplicity-full.{}", at(minute)),
            format!("duplicity-full-signatures.{}", at(minute)),
        ),
        false => {
            let times = format!("{}.to.{}", at(minute - 1), at(minute));
            (format!("duplicity-inc.{times}"), format!("duplicity-new-signatures.{times}"))
        }
    };
    for name in
        [format!("{name}.manifest"), format!("{name}.vol1.difftar"), format!("{signatures}.sigtar")]
    {
        files.put(name, Vec::new());
    }
}

#[test]
fn there_is_room_for_any_number_of_chains_and_sets() {
    let (files, directory) = (Arc::new(Files::default()), tempfile::tempdir().unwrap());
    (0..3000).for_each(|chain| put_set(&files, true, chain * 2));
    put_set(&files, true, 10_000);
    (1..5000).for_each(|increment| put_set(&files, false, 10_000 + increment));
    let mut numbers = Vec::new();
    for attempt in 0..3 {
        let world = World::new(&files, Some(directory.path().into()), Default::default());
        let collection = scan(&world.storage.list().unwrap(), &Prefixes::default());
        world.storage.take_calls();
        let before = world.sets.catalog.questions();
        let chains = world.sets.set_collection(&collection).unwrap();
        assert_eq!(
            (chains.len(), chains.iter().map(|chain| chain.sets.len()).sum::<usize>()),
            (3001, 8000)
        );
        // What is known costs one question, and no request.
        assert!(attempt == 0 || world.sets.catalog.questions() - before == 1);
        assert!(world.storage.take_calls().is_empty());
        let found: Vec<u64> = chains
            .iter()
            .flat_map(|chain| {
                (0..chain.sets.len() as u32).map(|position| chain.set_number(position))
            })
            .collect();
        let (last, position) = world.sets.catalog.set(*found.last().unwrap()).unwrap();
        assert_eq!((last.number(), position), (chains[3000].number(), 4999));
        assert_eq!(found.iter().collect::<std::collections::HashSet<_>>().len(), 8000);
        assert!(attempt == 0 || numbers == found, "numbers stay");
        numbers = found;
    }
}

#[test]
fn numbers_are_reused_when_there_are_no_more() {
    let (files, directory) = (files(), tempfile::tempdir().unwrap());
    let (world, chain) = open(&files, directory.path());
    assert_eq!((chain.number(), chain.set_number(2)), (1, 3));
    write(&world, "UPDATE sqlite_sequence SET seq = 1 << 40");
    put_set(&files, true, -10);
    let collection = scan(&world.storage.list().unwrap(), &Prefixes::default());
    let chains = world.sets.set_collection(&collection).unwrap();
    assert_eq!(
        chains.iter().map(|chain| (chain.number(), chain.set_number(0))).collect::<Vec<_>>(),
        [(2, 4), (1, 1)]
    );
    assert_eq!(chains[1].sets[0].end(), time(0));
    assert!(!answers(&world, &chains[1]).is_empty());
}
