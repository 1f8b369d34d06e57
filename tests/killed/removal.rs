//! Old chains are removed, and the program is killed at every file that it deletes: whatever it
//! leaves is whole, or clean-up takes it away, ours and both originals'; and the same command again
//! comes to the same end. And clean-up meets a session that lacks nothing but its manifest.

use super::exact::{Left, stamp};
use super::killer::{Call, Killer, Operation};
use super::{EARLIER, KILLED, NEXT, Outcome, World};
use crate::support::{Duplicity, Encoding, Truth, Version};
use std::path::Path;
use std::process::Command;

use Version::{New, Old, Ours};

fn names(place: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| name != "lockfile").collect();
    names.sort();
    names
}

/// Returns the calls that delete a file of the collection, here or there.
fn deletions(calls: &[Call]) -> Vec<u64> {
    let is_one = |call: &&Call| {
        let name = call.path.file_name().unwrap().to_string_lossy();
        call.name == "unlink" && name.starts_with("duplicity-")
    };
    calls.iter().filter(is_one).map(|call| call.number).collect()
}

impl World {
    /// Prepares a command of ours without further arguments.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.env.dupfs(self.encoding);
        command.args(words).arg(self.env.url());
        command
    }

    /// Returns the times of all sets that we show in a chain.
    fn shown(&self) -> Vec<i64> {
        let status = Outcome::of(&mut self.command(&["collection-status", "--json"])).success();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let sets = status["chains"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|chain| chain["sets"].as_array().unwrap());
        sets.map(|set| {
            chrono::DateTime::parse_from_rfc3339(set["time"].as_str().unwrap()).unwrap().timestamp()
        })
        .collect()
    }
}

/// Makes two chains of two sets, then a third of one.
fn history(encoding: Encoding) -> World {
    let mut world = World::new(encoding, Old);
    world.save(Ours, "full", KILLED);
    world.save(New, "incremental", KILLED + 10);
    world.save(Old, "full", NEXT);
    world
}

fn killed_while_removing(words: &[&str], readable: &[i64]) {
    let world = history(Encoding::Gzip);
    world.keep("before");
    let log = world.env.root().join("log");
    let calls = Killer::of(&world.env).calls(&log, &mut world.command(words));
    let calls = deletions(&calls);
    assert!(calls.len() > 9, "{calls:?}");
    let end = [names(&world.env.store()), names(&world.archive())];
    let shown = world.shown();
    assert_eq!(shown, readable);
    let all = std::env::var_os("DUPFS_LONG").is_some();
    for (position, &at) in calls.iter().enumerate() {
        let what = format!("{words:?} killed at {at}");
        world.bring_back("before");
        let outcome =
            Outcome::of(Killer::of(&world.env).at(at, Operation::Kill, &mut world.command(words)));
        assert_eq!(outcome.code, 137, "{what}: {outcome}");
        world.keep("killed");
        // What is shown is whole, though its signatures may be gone; what is to stay is shown.
        let shown = world.shown();
        assert!(readable.iter().all(|time| shown.contains(time)), "{what}: {shown:?}");
        shown.iter().for_each(|time| {
            world.check_without_signatures(Ours, *time, &world.truths[time], &what)
        });
        // The same command again, then clean-up, and all is as if nobody had been killed.
        Outcome::of(&mut world.command(words)).success();
        let cleaned = Outcome::of(&mut world.command(&["cleanup", "--force"])).success();
        assert_eq!(
            [names(&world.env.store()), names(&world.archive())],
            end,
            "{what}, then again: {cleaned}"
        );
        // Clean-up alone, by each program: what is shown then is whole, and nothing else is left.
        for cleaner in [Ours, Old, New] {
            if cleaner != Ours && !all && position % 5 != 1 {
                continue;
            }
            world.bring_back("killed");
            let cleaned = Duplicity::new(&world.env, cleaner, world.encoding)
                .ask("cleanup", &["--force"])
                .success();
            let again =
                Duplicity::new(&world.env, cleaner, world.encoding).ask("cleanup", &[]).success();
            assert!(
                again.stdout.contains("No extraneous files found"),
                "{what}, then {cleaner:?}: {cleaned}\n{again}"
            );
            let status = Outcome::of(&mut world.command(&["collection-status"])).success();
            assert!(
                status.stdout.contains("No orphaned or incomplete backup sets found."),
                "{what}, then {cleaner:?}: {status}"
            );
            for time in readable.iter().filter(|_| cleaner != Ours) {
                world.check(
                    cleaner,
                    *time,
                    &world.truths[time],
                    &format!("{what}, then {cleaner:?}"),
                );
            }
            world.shown().iter().for_each(|time| {
                world.check_without_signatures(Ours, *time, &world.truths[time], &what)
            });
        }
    }
}

#[test]
fn chains_that_are_removed() {
    killed_while_removing(&["remove-all-but-n-full", "1", "--force"], &[NEXT]);
}

#[test]
fn increments_that_are_removed() {
    killed_while_removing(
        &["remove-all-inc-of-but-n-full", "1", "--force"],
        &[EARLIER[0], KILLED, NEXT],
    );
}

/// The storage refuses from some call on: everything is told, nothing is fatal, and what is left is
/// whole or cleaned up later.
#[test]
fn a_storage_that_refuses() {
    let words = ["remove-all-but-n-full", "1", "--force"];
    let world = history(Encoding::Gzip);
    world.keep("before");
    let calls =
        Killer::of(&world.env).calls(&world.env.root().join("log"), &mut world.command(&words));
    let calls = deletions(&calls);
    for at in calls {
        world.bring_back("before");
        let outcome = Outcome::of(Killer::of(&world.env).at(
            at,
            Operation::Fail("EROFS"),
            &mut world.command(&words),
        ))
        .success();
        let shown = world.shown();
        assert!(shown.contains(&NEXT), "refused from {at} on: {outcome}");
        shown.iter().for_each(|time| {
            world.check_without_signatures(
                Ours,
                *time,
                &world.truths[time],
                &format!("refused from {at} on: {outcome}"),
            )
        });
        let is_told = outcome.stdout.contains("files that should go are still there");
        assert_eq!(
            is_told,
            outcome.stdout.contains("cannot delete"),
            "refused from {at} on: {outcome}"
        );
        let mut left = names(&world.env.store());
        left.retain(|name| !name.contains(&stamp(NEXT)));
        assert!(is_told || left.is_empty(), "refused from {at} on: {left:?}, {outcome}");
    }
}

/// All of a session is stored but its manifest: looking does no harm to it, nor does
/// synchronisation; if forced, all of it goes.
#[test]
fn clean_up_and_a_session_that_lacks_only_its_manifest() {
    for action in ["incremental", "full"] {
        let world = World::new(Encoding::Gzip, Ours);
        let before = [names(&world.env.store()), names(&world.archive())];
        world.keep("before");
        let calls = Killer::of(&world.env)
            .calls(&world.env.root().join("log"), &mut world.backup(action, KILLED));
        let store = world.env.store();
        let is_manifest = |call: &&Call| {
            call.name == "open"
                && call.path.starts_with(&store)
                && call.path.to_string_lossy().contains(".manifest")
        };
        world.bring_back("before");
        world.kill(action, calls.iter().find(is_manifest).unwrap().number, Operation::Kill);
        assert_eq!(world.left(), Left::AllButManifest);
        world.keep("killed");
        let listed = Outcome::of(&mut world.command(&["cleanup"])).success();
        assert!(
            listed.stdout.contains("Run duplicity again with the --force option"),
            "{action}: {listed}"
        );
        let source = Truth::record(&world.env.source()).without_link_times();
        let outcome = Outcome::of(&mut world.backup(action, NEXT)).success();
        assert!(
            outcome.stdout.contains("of which only the manifest was missing"),
            "{action}: {listed}, then {outcome}"
        );
        [Ours, Old, New].iter().for_each(|reader| world.check(*reader, KILLED, &source, action));

        world.bring_back("killed");
        let forced = Outcome::of(&mut world.command(&["cleanup", "--force"])).success();
        assert_eq!(
            [names(&world.env.store()), names(&world.archive())],
            before,
            "{action}: {forced}"
        );
        let outcome = Outcome::of(&mut world.backup(action, NEXT)).success();
        assert!(
            !outcome.stdout.contains("Restarting") && !outcome.stdout.contains("was missing"),
            "{action}: {outcome}"
        );
        [Ours, Old, New].iter().for_each(|reader| world.check(*reader, NEXT, &source, action));
    }
}

/// A duplicity is killed: looking, and removing old chains, leaves it all that it goes on with; if
/// forced, clean-up leaves nothing of it.
#[test]
fn clean_up_and_a_killed_duplicity() {
    for (version, action) in [(Old, "incremental"), (New, "incremental"), (New, "full")] {
        let what = format!("{version:?} {action}");
        let world = World::new(Encoding::Gzip, version);
        let before = [names(&world.env.store()), names(&world.archive())];
        world.keep("before");
        let duplicity = |time: i64| {
            let mut command = world.env.command(version.checked());
            command.args([action, "--volsize", "1", "--current-time", &time.to_string()]);
            command.args(world.encoding.writing()).arg(world.env.source()).arg(world.env.url());
            command
        };
        let calls = Killer::of_store(&world.env)
            .calls(&world.env.root().join("log"), &mut duplicity(KILLED));
        let is_third =
            |call: &&Call| call.name == "open" && call.path.to_string_lossy().contains(".vol3.");
        let at = calls.iter().find(is_third).unwrap().number;
        world.bring_back("before");
        let killed = Outcome::of(Killer::of_store(&world.env).at(
            at,
            Operation::Kill,
            &mut duplicity(KILLED),
        ));
        assert_eq!(killed.code, 137, "{what}: {killed}");
        let left = || [names(&world.env.store()), names(&world.archive())];
        let interrupted = left();
        assert!(
            interrupted[0].len() > before[0].len() && interrupted[1].len() > before[1].len(),
            "{what}: {interrupted:?}"
        );
        world.keep("killed");
        for words in [
            &["cleanup"][..],
            &["cleanup", "--force", "--dry-run"],
            &["remove-older-than", "now", "--force"],
        ] {
            let outcome = Outcome::of(&mut world.command(words)).success();
            assert_eq!(left(), interrupted, "{what}: {words:?}: {outcome}");
        }
        let next = Outcome::of(&mut duplicity(NEXT)).success();
        assert!(next.stdout.contains("left a partial set, restarting."), "{what}: {next}");
        let source = Truth::record(&world.env.source()).without_link_times();
        [Ours, Old, New].iter().for_each(|reader| world.check(*reader, KILLED, &source, &what));

        world.bring_back("killed");
        let forced = Outcome::of(&mut world.command(&["cleanup", "--force"])).success();
        assert_eq!(left(), before, "{what}: {forced}");
        let next = Outcome::of(&mut duplicity(NEXT)).success();
        assert!(!next.stdout.contains("partial set"), "{what}: {next}");
        [Ours, Old, New].iter().for_each(|reader| world.check(*reader, NEXT, &source, &what));
    }
}
