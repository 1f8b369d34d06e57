//! What a session leaves that was killed and gone on with: byte by byte what an uninterrupted one
//! packs, and nothing else.

use super::killer::{Call, Killer, Operation};
use super::{KILLED, NEXT, Outcome, World};
use crate::support::{Encoding, Truth, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// What a death has left, as the next run must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The set is complete.
    All,
    /// Only the manifest is missing.
    AllButManifest,
    /// So many volumes are stored and journaled.
    Volumes(usize),
}

type Files = BTreeMap<String, Vec<u8>>;

/// Reads all files of a directory, and unpacks them: gzip's own head tells the time of the run.
fn files(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).map(|(name, bytes)| (name.clone(), plain(&name, bytes))).collect()
}

fn plain(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    if name.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        // The table behind the tar's end has hashes of what is packed.
        let table = plain.windows(8).rposition(|window| window == b"dupfstoc");
        plain.truncate(table.unwrap_or(plain.len()));
        return plain;
    }
    let is_hash =
        |line: &&[u8]| name.ends_with(".manifest") && line.trim_ascii_start().starts_with(b"Hash");
    bytes
        .split_inclusive(|&b| b == b'\n')
        .filter(|line| !is_hash(line))
        .collect::<Vec<_>>()
        .concat()
}

/// Returns a time as it stands in names.
pub fn stamp(time: i64) -> String {
    chrono::DateTime::from_timestamp(time, 0).unwrap().format("%Y%m%dT%H%M%SZ").to_string()
}

impl World {
    /// Tells what a death has left.
    pub fn left(&self) -> Left {
        let has_manifest = |files: Files| {
            files.keys().any(|name| name.contains(&stamp(KILLED)) && name.ends_with(".manifest"))
        };
        match (has_manifest(files(&self.env.store())), has_manifest(files(&self.archive()))) {
            (true, _) => Left::All,
            (false, true) => Left::AllButManifest,
            (false, false) => Left::Volumes(self.journaled()),
        }
    }

    /// Returns the number of volumes that the journal knows of.
    fn journaled(&self) -> usize {
        let caches = std::fs::read_dir(self.env.cache().join("dupfs")).unwrap();
        let journals = caches
            .flat_map(|entry| files(&entry.unwrap().path()))
            .filter(|(name, _)| name.starts_with("session"));
        let lines = |bytes: Vec<u8>| {
            bytes
                .split_inclusive(|&b| b == b'\n')
                .filter(|line| line.starts_with(b"volume ") && line.ends_with(b"\n"))
                .count()
        };
        journals.map(|(_, bytes)| lines(bytes)).max().unwrap_or(0)
    }
}

/// Chooses calls to die at, and how: the first write into the signature file, and all of them, but
/// of the writes into one volume only the first, one in the middle, and the last.
fn deaths(calls: &[Call]) -> Vec<(u64, Operation<'static>)> {
    let all = std::env::var_os("DUPFS_LONG").is_some();
    let mut chosen = vec![(0, Operation::Kill), (0, Operation::Half)];
    for (index, call) in calls.iter().enumerate() {
        let is_alike = |other: &&Call| other.is_bulk() && other.path == call.path;
        let position = calls[..index].iter().filter(is_alike).count();
        let is_chosen = all
            || !call.is_bulk()
            || [0, 6].contains(&position)
            || !calls.get(index + 1).is_some_and(|next| is_alike(&next));
        if is_chosen {
            chosen.push((call.number, Operation::Kill));
        }
        if is_chosen && call.name == "write" {
            chosen.push((call.number, Operation::Half));
        }
    }
    chosen
}

/// Names a call in messages.
fn name(calls: &[Call], at: u64) -> String {
    let call = at.checked_sub(1).map(|index| &calls[index as usize]);
    call.map_or("write signatures".to_string(), |call| {
        format!("{} {:?}", call.name, call.path.file_name().unwrap())
    })
}

fn play(action: &str) {
    let world = World::new(Encoding::Gzip, Version::Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let calls = Killer::of(&world.env)
        .calls(&world.env.root().join("log"), &mut world.backup(action, KILLED));
    let whole = [files(&world.env.store()), files(&world.archive())];
    for (at, operation) in deaths(&calls) {
        world.bring_back("before");
        world.kill(action, at, operation);
        let left = world.left();
        let what = format!("{action}, {operation:?} at {at}, {}: {left:?}", name(&calls, at));
        let outcome =
            Outcome::of(Killer::of(&world.env).watch(&mut world.backup(action, NEXT))).success();
        let time = match left {
            Left::Volumes(0) => NEXT,
            Left::Volumes(count) => {
                assert!(
                    outcome.stdout.contains(&format!("Restarting after volume {count}, ")),
                    "{what}: {outcome}"
                );
                KILLED
            }
            Left::AllButManifest => {
                assert!(
                    outcome.stdout.contains("of which only the manifest was missing"),
                    "{what}: {outcome}"
                );
                NEXT
            }
            Left::All => NEXT,
        };
        world.check(Version::Ours, time, &source, &what);
        for (place, whole) in [world.env.store(), world.archive()].iter().zip(&whole) {
            let found = files(place);
            let mut expected = whole.clone();
            match left {
                // The next set is there, too.
                Left::All | Left::AllButManifest => expected.extend(
                    found.clone().into_iter().filter(|(name, _)| name.contains(&stamp(NEXT))),
                ),
                // The names differ, and with them what is inside.
                Left::Volumes(0) => {
                    let of_next =
                        found.clone().into_iter().filter(|(name, _)| name.contains(&stamp(NEXT)));
                    let (killed, before): (Files, Files) = whole
                        .clone()
                        .into_iter()
                        .partition(|(name, _)| name.contains(&stamp(KILLED)));
                    expected = before.into_iter().chain(of_next).collect();
                    assert_eq!(
                        expected.len(),
                        whole.len(),
                        "{what}: of {killed:?}",
                        killed = killed.keys()
                    );
                }
                Left::Volumes(_) => {}
            }
            let names = |files: &Files| files.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(&found), names(&expected), "{what}: {place:?}: {outcome}");
            let differ: Vec<_> = expected
                .iter()
                .filter(|(name, bytes)| found[*name] != **bytes)
                .map(|(name, _)| name)
                .collect();
            assert!(
                differ.is_empty(),
                "{what}: not as in a session that nobody killed: {differ:?}"
            );
        }
    }
}

#[test]
fn an_increment_ends_as_if_nothing_had_been() {
    play("incremental");
}

#[test]
fn a_full_backup_ends_as_if_nothing_had_been() {
    play("full");
}

/// All but the manifest was there, and then a volume was lost: nothing can be completed, but gone
/// on with.
#[test]
fn what_cannot_be_completed_is_gone_on_with() {
    for action in ["incremental", "full"] {
        let world = World::new(Encoding::Gzip, Version::Ours);
        let source = Truth::record(&world.env.source()).without_link_times();
        world.keep("before");
        let calls = Killer::of(&world.env)
            .calls(&world.env.root().join("log"), &mut world.backup(action, KILLED));
        let whole = [files(&world.env.store()), files(&world.archive())];
        world.bring_back("before");
        let is_manifest = |call: &&Call| {
            call.name == "open" && call.path.to_string_lossy().ends_with(".manifest.tmp")
        };
        world.kill(action, calls.iter().rfind(is_manifest).unwrap().number, Operation::Kill);
        assert_eq!(world.left(), Left::AllButManifest);
        let second = whole[0]
            .keys()
            .find(|name| name.contains(&stamp(KILLED)) && name.contains(".vol2."))
            .unwrap();
        std::fs::remove_file(world.env.store().join(second)).unwrap();
        let outcome = Outcome::of(&mut world.backup(action, NEXT)).success();
        assert!(outcome.stdout.contains("Restarting after volume 1, "), "{action}: {outcome}");
        world.check(Version::Ours, KILLED, &source, &format!("{action}: {outcome}"));
        assert!(
            [files(&world.env.store()), files(&world.archive())] == whole,
            "{action}: not as in a session that nobody killed"
        );
    }
}

/// The run that goes on is killed, too: what was stored before it is not lost by that.
#[test]
fn who_goes_on_may_be_killed_as_well() {
    for action in ["incremental", "full"] {
        let world = World::new(Encoding::Gzip, Version::Ours);
        let source = Truth::record(&world.env.source()).without_link_times();
        let log = world.env.root().join("log");
        let calls = Killer::of(&world.env).calls(&log, &mut {
            world.keep("before");
            world.backup(action, KILLED)
        });
        world.bring_back("before");
        let is_third =
            |call: &&Call| call.name == "open" && call.path.to_string_lossy().contains(".vol3.");
        world.kill(action, calls.iter().find(is_third).unwrap().number, Operation::Kill);
        assert_eq!(world.left(), Left::Volumes(2));
        world.keep("killed");
        let calls = Killer::of(&world.env).calls(&log, &mut world.backup(action, NEXT));
        for (at, operation) in deaths(&calls) {
            world.bring_back("killed");
            let outcome = Outcome::of(Killer::of(&world.env).at(
                at,
                operation,
                &mut world.backup(action, NEXT),
            ));
            assert_eq!(outcome.code, 137, "{outcome}");
            let left = world.left();
            let what = format!("{action}, {operation:?} at {at}, {}: {left:?}", name(&calls, at));
            let outcome =
                Outcome::of(Killer::of(&world.env).watch(&mut world.backup(action, NEXT + 1)))
                    .success();
            let (time, said) = match left {
                Left::Volumes(count) => {
                    (KILLED, format!("Restarting after volume {}, ", count.max(2)))
                }
                Left::AllButManifest => {
                    (NEXT + 1, "of which only the manifest was missing".to_string())
                }
                Left::All => (NEXT + 1, String::new()),
            };
            assert!(outcome.stdout.contains(&said), "{what}: {outcome}");
            world.check(Version::Ours, time, &source, &what);
        }
    }
}
