//! A replication killed at every call that changes a file of the target: what the target shows is
//! whole, and the same command again makes of it what nobody has disturbed.

use super::killer::{Killer, Operation};
use super::{EARLIER, KILLED, NEXT, Outcome, World};
use crate::support::{Encoding, Truth, Version, assert_same};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use Version::{New, Old, Ours};

/// A collection to be replicated, and where it goes.
struct Replication {
    world: World,
    target: PathBuf,
    to: Encoding,
}

impl Replication {
    fn new(from: Encoding, to: Encoding) -> Self {
        let mut world = World::new(from, Old);
        world.save(Ours, "full", KILLED);
        world.save(New, "incremental", NEXT);
        let target = world.env.root().join("replica");
        Self { world, target, to }
    }

    fn url(&self) -> String {
        format!("file://{}", self.target.display())
    }

    fn command(&self) -> Command {
        let mut command = self.world.env.dupfs(self.to);
        command.env("PASSPHRASE", crate::support::PASSPHRASE);
        command.arg("replicate").args(self.to.writing()).args([self.world.env.url(), self.url()]);
        command
    }

    fn killer(&self) -> Killer {
        Killer::of_place(&self.target)
    }

    /// Restores what the target shows; returns the times.
    fn check(&self, reader: Version, what: &str) -> Vec<i64> {
        let status = Outcome::of(self.world.env.dupfs(self.to).args([
            "collection-status",
            "--json",
            &self.url(),
        ]))
        .success();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let sets = status["chains"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|chain| chain["sets"].as_array().unwrap());
        let time = |set: &serde_json::Value| {
            chrono::DateTime::parse_from_rfc3339(set["time"].as_str().unwrap()).unwrap().timestamp()
        };
        let times: Vec<i64> = sets.map(time).collect();
        for time in &times {
            let place = self.world.env.fresh("restored");
            let mut command = self.world.env.command(reader.checked());
            self.to.secrets(&mut command);
            command
                .args(["restore", "--time", &time.to_string()])
                .args(self.to.reading())
                .arg(self.url())
                .arg(&place);
            Outcome::of(&mut command).success();
            let restored = Truth::record(&place).without_link_times();
            assert_same(
                &self.world.truths[time],
                &restored,
                &format!("{reader:?} at {time}, {what}"),
            );
            std::fs::remove_dir_all(&place).unwrap();
        }
        times
    }
}

fn sizes(place: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(place).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect()
}

fn killed_while_replicating(from: Encoding, to: Encoding) {
    let replication = Replication::new(from, to);
    let times = [EARLIER[0], EARLIER[1], KILLED, NEXT];
    let log = replication.world.env.root().join("log");
    let calls = replication.killer().calls(&log, &mut replication.command());
    assert_eq!(replication.check(Ours, "undisturbed"), times);
    let whole = sizes(&replication.target);
    let calls: Vec<_> = calls.iter().filter(|call| !call.is_bulk()).collect();
    assert!(calls.len() > 60, "{calls:?}");
    let all = std::env::var_os("DUPFS_LONG").is_some();
    // Two files are under way at a time, so a call has another number the next time; some are
    // enough.
    for (position, call) in
        calls.iter().enumerate().filter(|(position, _)| all || position % 4 == 0)
    {
        let what = format!("{from:?} to {to:?}, killed at {call:?}");
        std::fs::remove_dir_all(&replication.target).unwrap();
        let killed = Outcome::of(replication.killer().at(
            call.number,
            Operation::Kill,
            &mut replication.command(),
        ));
        assert_eq!(killed.code, 137, "{what}: {killed}");
        if replication.target.exists() {
            let shown = replication.check(Ours, &what);
            assert!(times.starts_with(&shown), "{what}: {shown:?}");
            if position % 32 == 16 {
                replication.check(Old, &what);
            }
        }
        Outcome::of(&mut replication.command()).success();
        let names = |sizes: &BTreeMap<String, u64>| sizes.keys().cloned().collect::<Vec<_>>();
        let again = sizes(&replication.target);
        assert_eq!(names(&again), names(&whole), "{what}");
        assert_eq!(replication.check(Ours, &what), times, "{what}");
    }
    replication.check(Old, "in the end");
    replication.check(New, "in the end");
}

#[test]
fn killed_while_copying() {
    killed_while_replicating(Encoding::Gzip, Encoding::Gzip);
}

#[test]
fn killed_while_encoding_anew() {
    killed_while_replicating(Encoding::Symmetric, Encoding::Gzip);
}

/// No room is left at some call: the code says so, nothing broken is shown, and there is no end
/// that looks like success.
#[test]
fn a_target_without_room() {
    let replication = Replication::new(Encoding::Symmetric, Encoding::Gzip);
    let log = replication.world.env.root().join("log");
    let calls = replication.killer().calls(&log, &mut replication.command());
    let calls: Vec<_> = calls.iter().filter(|call| call.name == "write").collect();
    for call in calls.iter().step_by(calls.len() / 6) {
        std::fs::remove_dir_all(&replication.target).unwrap();
        let outcome = Outcome::of(replication.killer().at(
            call.number,
            Operation::Fail("ENOSPC"),
            &mut replication.command(),
        ));
        outcome.failure(53, &["No space left on device"]);
        replication.check(Ours, &format!("full at {call:?}"));
        Outcome::of(&mut replication.command()).success();
        assert_eq!(replication.check(Ours, "with room again").len(), 4);
    }
}

/// A set whose copy was cut short is begun anew with other keys: nothing of the first attempt
/// stays, which the originals would stumble over.
#[test]
fn going_on_with_other_keys() {
    let mut replication = Replication::new(Encoding::Gzip, Encoding::Gzip);
    let log = replication.world.env.root().join("log");
    let calls = replication.killer().calls(&log, &mut replication.command());
    let is_third = |call: &&super::killer::Call| call.path.to_string_lossy().contains("vol3.");
    let at = calls.iter().rfind(is_third).unwrap().number;
    std::fs::remove_dir_all(&replication.target).unwrap();
    Outcome::of(replication.killer().at(at, Operation::Kill, &mut replication.command()));
    let left = sizes(&replication.target).into_keys().filter(|name| name.contains(".vol")).count();
    assert!(left > 2, "{left}");
    replication.to = Encoding::Symmetric;
    Outcome::of(&mut replication.command()).success();
    let names: Vec<_> = sizes(&replication.target)
        .into_keys()
        .filter(|name| name.starts_with("duplicity-"))
        .collect();
    let volumes: Vec<_> =
        names.iter().map(|name| name.trim_end_matches(".gpg").trim_end_matches(".gz")).collect();
    let distinct: std::collections::BTreeSet<_> = volumes.iter().collect();
    assert_eq!(distinct.len(), volumes.len(), "{names:?}");
    [Ours, Old, New].iter().for_each(|reader| drop(replication.check(*reader, "with other keys")));
}
