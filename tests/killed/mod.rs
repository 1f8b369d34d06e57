//! A backup killed at every call that changes a file of the storage, of the archive directory, or
//! of the journal: each earlier time can still be restored by everybody, and the next run goes on
//! from there.
//!
//! The program runs with `killer.c` loaded, which kills it for real (SIGKILL) at call n, for all n;
//! a second time with half of a write's bytes written. Call 0 is the first write into the signature
//! file. The originals are slow, so they look at each distinct state of storage and archive
//! directory once. `DUPFS_LONG=1` kills at every call; without it, at every third of those that
//! only add bytes to a volume.
//!
//! What is left in the end is compared byte by byte in `exact`; `between` has a duplicity go on
//! before us, `turns` a source that turns into something else; `trouble` has full disks and failing
//! storages and sources, `lock` those who come while a session runs.

mod between;
mod exact;
mod killer;
mod lock;
mod removal;
mod replication;
mod trouble;
mod turns;

use self::killer::{Killer, Operation};
use crate::support::{Duplicity, Encoding, Env, Outcome, Random, Truth, Version, assert_same};
use Version::{New, Old, Ours};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

/// Times of the sets that are there before, and of those that come.
const EARLIER: [i64; 2] = [1_700_000_000, 1_700_001_000];
const KILLED: i64 = 1_700_002_000;
const NEXT: i64 = 1_700_003_000;
const AFTERWARDS: i64 = 1_700_004_000;

/// A world with two sets, and a source that has changed since.
struct World {
    env: Env,
    encoding: Encoding,
    truths: BTreeMap<i64, Truth>,
}

impl World {
    fn new(encoding: Encoding, writer: Version) -> Self {
        let env = encoding.env();
        let mut random = Random::new(7);
        let source = env.source();
        std::fs::create_dir(source.join("d")).unwrap();
        for (name, size) in
            [("a", 300_000), ("border", 1_400_000), ("d/file", 5000), ("gone", 100), ("z", 500_000)]
        {
            std::fs::write(source.join(name), random.bytes(size)).unwrap();
        }
        let mut world = Self { env, encoding, truths: BTreeMap::new() };
        world.touch(1_600_000_000);
        world.save(writer, "full", EARLIER[0]);
        std::fs::write(source.join("d/file"), random.bytes(6000)).unwrap();
        world.touch(1_600_001_000);
        world.save(writer, "incremental", EARLIER[1]);
        // What the killed session will find: three volumes of 1 MiB, with deltas, new files and one
        // that is gone.
        let mut border = std::fs::read(source.join("border")).unwrap();
        border.splice(1000..1000, random.bytes(1_300_000));
        std::fs::write(source.join("border"), border).unwrap();
        std::fs::write(source.join("b"), random.bytes(600_000)).unwrap();
        std::fs::write(source.join("d/new"), random.bytes(200_000)).unwrap();
        std::fs::write(source.join("z"), random.bytes(700_000)).unwrap();
        std::fs::remove_file(source.join("gone")).unwrap();
        world.touch(1_600_002_000);
        world
    }

    /// Returns the archive directory that all three programs share.
    fn archive(&self) -> PathBuf {
        std::fs::read_dir(self.env.cache().join("duplicity"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    }

    /// Gives everything in the source a time of its own: only duplicity needs that, which does not
    /// look at sizes.
    fn touch(&self, time: i64) {
        let mut command = Command::new("find");
        command.arg(self.env.source()).args([
            "-exec",
            "touch",
            "-h",
            "-d",
            &format!("@{time}"),
            "{}",
            "+",
        ]);
        Outcome::of(&mut command).success();
    }

    fn save(&mut self, writer: Version, action: &str, time: i64) {
        Duplicity::new(&self.env, writer, self.encoding).backup(action, time, &[]);
        self.truths.insert(time, Truth::record(&self.env.source()).without_link_times());
    }

    /// Prepares a backup by us.
    fn backup(&self, action: &str, time: i64) -> Command {
        let mut command = self.env.dupfs(self.encoding);
        command.args([action, "--volsize", "1", "--current-time", &time.to_string()]);
        if self.encoding == Encoding::Symmetric {
            // Each file has its key derived anew, whoever reads it.
            command.arg("--gpg-options=--s2k-count=65536");
        }
        command.args(self.encoding.writing()).arg(self.env.source()).arg(self.env.url());
        command
    }

    /// Runs a backup to its end and returns the number of calls.
    fn count(&self, action: &str) -> u64 {
        Killer::of(&self.env)
            .calls(&self.env.root().join("log"), &mut self.backup(action, KILLED))
            .len() as u64
    }

    /// Kills a backup at call n.
    fn kill(&self, action: &str, at: u64, operation: Operation) {
        let outcome =
            Outcome::of(Killer::of(&self.env).at(at, operation, &mut self.backup(action, KILLED)));
        assert_eq!(outcome.code, 137, "killed at {at}: {outcome}");
    }

    /// Puts storage and caches aside.
    fn keep(&self, name: &str) {
        let kept = self.env.root().join(name);
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir(&kept).unwrap();
        for place in [self.env.store(), self.env.cache()] {
            Outcome::of(Command::new("cp").arg("-a").arg(place).arg(&kept)).success();
        }
    }

    /// Brings them back.
    fn bring_back(&self, name: &str) {
        let kept = self.env.root().join(name);
        for place in [self.env.store(), self.env.cache()] {
            std::fs::remove_dir_all(&place).unwrap();
            Outcome::of(
                Command::new("cp").arg("-a").arg(kept.join(place.file_name().unwrap())).arg(&place),
            )
            .success();
        }
    }

    /// Tells a state of storage and archive directory from others.
    fn state(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let mut open = vec![self.env.store(), self.env.cache().join("duplicity")];
        let mut files = Vec::new();
        while let Some(path) = open.pop() {
            match path.is_dir() {
                true => open
                    .extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
                false => files.push(path),
            }
        }
        files.sort();
        // No duplicity looks at what is not finished yet.
        let is_seen = |file: &&PathBuf| {
            file.file_name().is_some_and(|name| {
                name != "lockfile" && !name.as_encoded_bytes().starts_with(b".dupfs-")
            })
        };
        for file in files.iter().filter(is_seen) {
            hasher
                .update(file.as_os_str().as_encoded_bytes())
                .update(&std::fs::read(file).unwrap());
        }
        hasher.finalize()
    }

    /// Fails unless a program restores what was saved then; where it is ours, every file has to
    /// match its signature, too.
    #[track_caller]
    fn check(&self, reader: Version, time: i64, truth: &Truth, what: &str) {
        self.check_without_signatures(reader, time, truth, what);
        if reader == Ours {
            self.env.prove(self.encoding, time).success();
        }
    }

    #[track_caller]
    fn check_without_signatures(&self, reader: Version, time: i64, truth: &Truth, what: &str) {
        let target = self.env.fresh("restored");
        Duplicity::new(&self.env, reader, self.encoding).restore(time, &target);
        assert_same(
            truth,
            &Truth::record(&target).without_link_times(),
            &format!("{reader:?} at {time}, {what}"),
        );
        std::fs::remove_dir_all(&target).unwrap();
    }

    #[track_caller]
    fn check_all(&self, readers: &[Version], what: &str) {
        for (&time, truth) in &self.truths {
            readers.iter().for_each(|&reader| self.check(reader, time, truth, what));
        }
    }

    /// Returns the volumes that are listed and those that a manifest of the archive directory tells
    /// of, with what a rewrite would change.
    fn volumes(&self) -> BTreeMap<String, (u64, std::time::SystemTime)> {
        let entries = std::fs::read_dir(self.env.store()).unwrap().map(Result::unwrap);
        let volumes = entries.filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.contains("20231114T224640Z.vol") && name.starts_with("duplicity-")
        });
        volumes
            .map(|entry| {
                use std::os::unix::fs::MetadataExt;
                let data = entry.metadata().unwrap();
                (entry.file_name().into_string().unwrap(), (data.ino(), data.modified().unwrap()))
            })
            .collect()
    }
}

/// Returns the calls to kill at.
fn calls(count: u64) -> Vec<u64> {
    let all = std::env::var("DUPFS_LONG").is_ok();
    (0..=count).filter(|at| all || at % 3 == 1 || *at <= 12 || count - at < 16).collect()
}

/// Kills a backup everywhere. `afterwards` is what is done then, and checks it.
fn kill_everywhere(
    world: &World,
    action: &str,
    half: bool,
    mut afterwards: impl FnMut(&World, u64, bool),
) {
    world.keep("before");
    let count = world.count(action);
    assert!(count > 30, "only {count} calls were seen");
    let mut seen = HashSet::new();
    for at in calls(count) {
        world.bring_back("before");
        world.kill(action, at, if half { Operation::Half } else { Operation::Kill });
        let is_new = seen.insert(world.state());
        afterwards(world, at, is_new);
    }
}

/// After each kill: earlier times for all, then the same command again, and all times for all.
fn goes_on(encoding: Encoding, writer: Version, action: &str, half: bool) {
    let mut world = World::new(encoding, writer);
    let source = Truth::record(&world.env.source()).without_link_times();
    let mut ends = HashSet::new();
    world.truths.retain(|time, _| *time < KILLED);
    // gpg takes its time for each file.
    let mut asked = if encoding == Encoding::Symmetric { 3 } else { usize::MAX };
    kill_everywhere(&world, action, half, |world, at, is_new| {
        let what = format!("{action} killed at {at}");
        let is_new = is_new && asked > 0;
        asked -= usize::from(is_new);
        world.check_all(if is_new { &[Ours, Old, New] } else { &[Ours] }, &what);
        let before = world.volumes();
        let outcome = Outcome::of(&mut world.backup(action, NEXT)).success();
        let goes_on = outcome.stdout.contains("Restarting after volume");
        let is_there = |time: &str| {
            std::fs::read_dir(world.env.store())
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_str().unwrap().contains(time))
        };
        // Either the session that was killed is completed, or a new one is there instead, and
        // nothing of the old.
        let (time, is_old) =
            if is_there("20231114T224640Z") { (KILLED, true) } else { (NEXT, false) };
        assert!(
            is_old || before.len() <= 1,
            "{what}: {} volumes were there, none is kept: {outcome}",
            before.len()
        );
        if goes_on {
            let after = world.volumes();
            let kept = before.iter().filter(|(name, data)| after.get(*name) == Some(data)).count();
            assert!(
                kept + 1 >= before.len(),
                "{what}: of {} volumes {kept} are kept: {outcome}",
                before.len()
            );
        }
        let ours = [Ours];
        let readers: &[Version] =
            if ends.insert(world.state()) && is_new { &[Ours, Old, New] } else { &ours };
        readers.iter().for_each(|&reader| {
            world.check(reader, time, &source, &format!("{what}, then run again: {outcome}"))
        });
    });
}

#[test]
fn an_increment_goes_on() {
    goes_on(Encoding::Gzip, Ours, "incremental", false);
}

#[test]
fn an_increment_on_sets_of_duplicity_goes_on() {
    goes_on(Encoding::Symmetric, Old, "incremental", true);
}

#[test]
fn a_full_backup_goes_on() {
    goes_on(Encoding::Gzip, New, "full", true);
}

/// The source changes between the kill and the next run: what was stored and its signatures belong
/// together, so that all that is built on them later is right.
#[test]
fn changes_in_between_do_no_harm() {
    let world = World::new(Encoding::Gzip, Ours);
    let old = Truth::record(&world.env.source()).without_link_times();
    let source = world.env.source();
    let saved = world.env.root().join("saved-source");
    Outcome::of(Command::new("cp").arg("-a").arg(&source).arg(&saved)).success();
    kill_everywhere(&world, "incremental", false, |world, at, _| {
        let mut random = Random::new(at);
        // Stored already or not, as it comes: edits before, in and behind the file at the border,
        // and new and removed ones.
        for name in ["b", "border", "d/new", "z"] {
            if random.chance(60) {
                let mut content = std::fs::read(source.join(name)).unwrap();
                let place = random.below(content.len());
                content.splice(place..place, random.bytes(5000));
                std::fs::write(source.join(name), content).unwrap();
            }
        }
        std::fs::write(source.join("aa"), random.bytes(100)).unwrap();
        std::fs::write(source.join("zz"), random.bytes(100)).unwrap();
        if random.chance(50) {
            std::fs::remove_file(source.join("d/file")).unwrap();
        }
        let new = Truth::record(&source).without_link_times();
        let first = Outcome::of(&mut world.backup("incremental", NEXT)).success();
        let resumed = world.env.fresh("resumed");
        world.env.restore(world.encoding, NEXT, &resumed).success();
        world.env.prove(world.encoding, NEXT).success();
        for (path, seen) in &Truth::record(&resumed).without_link_times().0 {
            let is_either = [&old, &new]
                .iter()
                .any(|truth| truth.0.get(path).is_some_and(|known| known.content == seen.content));
            assert!(
                is_either,
                "killed at {at}: '{}' is neither old nor new: {seen:?}; {first}",
                path.escape_ascii()
            );
        }
        std::fs::remove_dir_all(&resumed).unwrap();
        Outcome::of(&mut world.backup("incremental", AFTERWARDS)).success();
        for reader in [Ours, Old].iter().take(if at % 5 == 0 { 2 } else { 1 }) {
            world.check(
                *reader,
                AFTERWARDS,
                &new,
                &format!("killed at {at}, changed, run twice: {first}"),
            );
        }
        std::fs::remove_dir_all(&source).unwrap();
        Outcome::of(Command::new("cp").arg("-a").arg(&saved).arg(&source)).success();
    });
}

/// Instead of ours, a duplicity makes the next backup.
#[test]
fn duplicity_goes_on_or_starts_over() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    kill_everywhere(&world, "incremental", false, |world, at, is_new| {
        if !is_new {
            return;
        }
        world.keep("killed");
        for version in [Old, New] {
            world.bring_back("killed");
            let action = if version == Old { None } else { Some("backup") };
            let mut duplicity = world.env.command(version.checked());
            world.encoding.secrets(&mut duplicity);
            duplicity.args(action).args(["--volsize", "1", "--current-time", &NEXT.to_string()]);
            duplicity.args(world.encoding.writing()).arg(world.env.source()).arg(world.env.url());
            let outcome = Outcome::of(&mut duplicity).success();
            for reader in [Ours, version] {
                world.check(
                    reader,
                    NEXT,
                    &source,
                    &format!("killed at {at}, {version:?} ran next: {outcome}"),
                );
            }
        }
    });
}

/// A duplicity is killed, and we make the next backup.
#[test]
fn what_a_killed_duplicity_has_left_is_gone_on_with() {
    for (version, action) in
        [(Old, "full"), (New, "full"), (Old, "incremental"), (New, "incremental")]
    {
        let world = World::new(Encoding::Gzip, version);
        let source = Truth::record(&world.env.source()).without_link_times();
        let mut duplicity = world.env.command(version.checked());
        duplicity.args([
            action,
            "--volsize",
            "1",
            "--current-time",
            &KILLED.to_string(),
            "--fail-on-volume",
            "3",
        ]);
        duplicity.args(world.encoding.writing()).arg(world.env.source()).arg(world.env.url());
        let failed = Outcome::of(&mut duplicity);
        assert_ne!(failed.code, 0, "{failed}");
        let archive = std::fs::read_dir(world.env.cache().join("duplicity"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let names = std::fs::read_dir(archive)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let has_checkpoint = names.filter(|name| name.ends_with(".manifest.part")).count() > 0;
        assert!(has_checkpoint || version == New, "{failed}");
        let outcome = Outcome::of(&mut world.backup("backup", NEXT)).success();
        assert_eq!(
            outcome.stdout.contains("Restarting after volume"),
            has_checkpoint && action == "full",
            "{version:?}, {action}: {outcome}"
        );
        for reader in [Ours, Old, New] {
            world.check(
                reader,
                NEXT,
                &source,
                &format!("{version:?} {action} failed: {failed}, then: {outcome}"),
            );
        }
        // The signatures made of its volumes must be right: an increment is built on them.
        std::fs::write(world.env.source().join("z"), b"short now").unwrap();
        let changed = Truth::record(&world.env.source()).without_link_times();
        Outcome::of(&mut world.backup("incremental", AFTERWARDS)).success();
        for reader in [Ours, Old] {
            world.check(reader, AFTERWARDS, &changed, "an increment on it");
        }
    }
}
