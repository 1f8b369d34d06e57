//! A storage or a source that fails in the middle of a backup: what is said, and that the next run
//! goes on.

use super::exact::Left;
use super::killer::{Killer, Operation};
use super::{EARLIER, KILLED, NEXT, Outcome, World};
use crate::support::{Duplicity, Encoding, Truth, Version};
use std::path::Path;

use Version::{New, Old, Ours};

/// Makes sure that the next run goes on from what is left, and that all times are right.
fn goes_on(world: &World, source: &Truth, what: &str) {
    world.check_all(&[Ours], what);
    let left = world.left();
    let outcome = Outcome::of(&mut world.backup("incremental", NEXT)).success();
    if let Left::Volumes(count @ 1..) = left {
        assert!(
            outcome.stdout.contains(&format!("Restarting after volume {count}, ")),
            "{what}: {left:?}: {outcome}"
        );
    }
    world.check(Ours, NEXT, source, &format!("{what}: {left:?}: {outcome}"));
}

/// From some call on all calls that change the storage fail: at the beginning, in the middle and at
/// the end of each of its files.
#[test]
fn a_storage_that_fails() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let killer = Killer::of_store(&world.env);
    let calls =
        killer.calls(&world.env.root().join("log"), &mut world.backup("incremental", KILLED));
    let causes = [
        ("ENOSPC", 53, "No space left on device"),
        ("EROFS", 51, "Read-only file system"),
        ("EIO", 50, "Input/output error"),
    ];
    let is_sampled = |index: usize| !calls[index].is_bulk() || index.is_multiple_of(7);
    // What is not there cannot be deleted, and whoever deletes does not mind.
    let is_tried = |index: &usize| {
        calls[*index].name != "unlink" && calls[*index].name != "mkdir" && is_sampled(*index)
    };
    for (round, index) in (0..calls.len()).filter(is_tried).enumerate() {
        let (call, (errno, code, words)) = (&calls[index], causes[round % 3]);
        world.bring_back("before");
        let mut command = world.backup("incremental", KILLED);
        let log = world.env.root().join("machine-log");
        command.arg("--num-retries=1").arg("--log-file").arg(&log);
        let outcome = Outcome::of(killer.at(call.number, Operation::Fail(errno), &mut command));
        let what = format!("{errno} at {} {:?}", call.name, call.path.file_name().unwrap());
        let outcome = outcome
            .failure(code, &["cannot write '", words, &world.env.store().display().to_string()]);
        assert_eq!(outcome.stderr.matches(words).count(), 1, "{what}: {outcome}");
        // What was done, and with what, is read by front-ends.
        let logged = std::fs::read_to_string(&log).unwrap();
        let head = logged.lines().find(|line| line.starts_with("ERROR ")).unwrap();
        assert!(
            head.starts_with(&format!("ERROR {code} put '")) && head.matches('\'').count() == 4,
            "{what}: {head}"
        );
        std::fs::remove_file(&log).unwrap();
        goes_on(&world, &source, &what);
    }
}

/// A disk that is full for real; then there is more room.
#[test]
fn a_full_disk() {
    for (size, encoding) in [
        (600, Encoding::Gzip),
        (1500, Encoding::Gzip),
        (2500, Encoding::Plain),
        (2500, Encoding::Symmetric),
    ] {
        let env = encoding.env();
        let mut random = crate::support::Random::new(3);
        for name in ["a", "b", "c"] {
            std::fs::write(env.source().join(name), random.bytes(1_200_000)).unwrap();
        }
        let source = Truth::record(&env.source()).without_link_times();
        let script = format!(
            "mount -t tmpfs -o size={size}k tmpfs \"$store\"
            run() {{ dupfs full --volsize 1 {} --current-time $1 \"$source\" \"$url\" >\"$home/said\" 2>&1; }}
            code=0; run {KILLED} || code=$?
            cat \"$home/said\"; echo \"exit code $code\"; ls -A \"$store\"
            mount -o remount,size=20m \"$store\"
            run {NEXT}; cat \"$home/said\"; ls -A \"$store\"
            dupfs restore {} \"$url\" \"$home/restored\"",
            encoding.writing().join(" "),
            encoding.reading().join(" "),
        );
        let mut command = env.private_script(encoding, &script);
        command.env("store", env.store()).env("source", env.source()).env("home", env.home());
        let outcome = Outcome::of(&mut command).success();
        let (before, after) = outcome.stdout.split_once("exit code ").unwrap();
        assert!(after.starts_with("53\n"), "{size}: {outcome}");
        assert!(
            before.contains("cannot write '") && before.contains("No space left on device"),
            "{size}: {outcome}"
        );
        assert!(!after.contains(".dupfs-"), "{size}: something unfinished is left: {outcome}");
        let is_resumed = size > 1024;
        assert_eq!(after.contains("Restarting after volume"), is_resumed, "{size}: {outcome}");
        let restored = Truth::record(&env.home().join("restored")).without_link_times();
        crate::support::assert_same(&source, &restored, &format!("{size}: {outcome}"));
    }
}

/// The storage goes away in the middle, or another takes its place: no set is called complete that
/// is not all there.
#[test]
fn a_storage_that_is_exchanged() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let killer = Killer::of_store(&world.env);
    let calls = killer.calls(&world.env.root().join("log"), &mut world.backup("full", KILLED));
    let store = world.env.store().display().to_string();
    let removed = format!("mv '{store}' '{store}-away'");
    let replaced = format!("{removed} && mkdir '{store}'");
    let is_place =
        |path: &Path| ["vol2", "sigtar"].iter().any(|word| path.to_string_lossy().contains(word));
    let places = calls
        .iter()
        .filter(|call| ["open", "rename"].contains(&call.name.as_str()) && is_place(&call.path));
    for call in places {
        for script in [&removed, &replaced] {
            world.bring_back("before");
            let outcome = Outcome::of(killer.at(
                call.number,
                Operation::Run(script),
                &mut world.backup("full", KILLED),
            ));
            let what = format!("{} {:?}: {script}", call.name, call.path.file_name().unwrap());
            // Where another storage has taken its place, nothing may fail before the look for what
            // was stored.
            let is_missed = outcome.stderr.contains(
                ".vol1.difftar.gz was corrupted during upload: it is not in storage any more",
            );
            assert!(!is_missed || script == &replaced, "{what}: {outcome}");
            assert_eq!(outcome.code, if is_missed { 44 } else { 52 }, "{what}: {outcome}");
            // It comes back.
            let _ = std::fs::remove_dir_all(&store);
            std::fs::rename(format!("{store}-away"), &store).unwrap();
            world.check_all(&[Ours], &what);
            let next = Outcome::of(&mut world.backup("full", NEXT)).success();
            world.check(Ours, NEXT, &source, &format!("{what}: {outcome}, then {next}"));
        }
    }
}

/// A volume is shorter in the end than it was stored: the number and the words that front-ends
/// know, and the next run stores it anew.
#[test]
fn a_volume_that_shrinks() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    let killer = Killer::of_store(&world.env);
    world.keep("before");
    let calls =
        killer.calls(&world.env.root().join("before/log"), &mut world.backup("full", KILLED));
    let signatures = calls
        .iter()
        .find(|call| call.name == "open" && call.path.to_string_lossy().contains("sigtar"))
        .unwrap();
    world.bring_back("before");
    let volume = format!("duplicity-full.{}.vol1.difftar.gz", super::exact::stamp(KILLED));
    let script = format!("truncate -s 5 '{}'", world.env.store().join(&volume).display());
    let log = world.env.root().join("before/machine");
    let mut command = world.backup("full", KILLED);
    command.arg("--log-file").arg(&log);
    let outcome = Outcome::of(killer.at(signatures.number, Operation::Run(&script), &mut command));
    let outcome = outcome
        .failure(44, &[&format!("File {volume} was corrupted during upload"), "run this again"]);
    let log = std::fs::read_to_string(log).unwrap();
    let error = log.lines().find(|line| line.starts_with("ERROR")).unwrap();
    assert!(
        error.starts_with(&format!("ERROR 44 '{volume}' ")) && error.ends_with(" 5"),
        "{error}"
    );
    world.check_all(&[Ours], "shrunk");
    let next = Outcome::of(&mut world.backup("full", NEXT)).success();
    world.check(Ours, NEXT, &source, &format!("{outcome}, then {next}"));
}

/// A file that cannot be read, or not to its end, is named and counted; all else is stored. A full
/// set has nothing of it, however much was stored when it failed; an increment has it as it was,
/// and is built on.
#[test]
fn a_source_that_cannot_be_read() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let border = world.env.source().join("border");
    let run = |action: &str, options: &[&str], offset: u64| {
        world.bring_back("before");
        let mut command = world.backup(action, KILLED);
        command.args(options);
        Outcome::of(
            Killer::of(&world.env)
                .watch(&mut command)
                .env("KILLER_EIO", format!("{}@{offset}", border.display())),
        )
    };
    for (action, offset) in [
        ("full", 0),
        ("full", 1000),
        ("full", 1_100_000),
        ("full", 2_699_999),
        ("incremental", 900_000),
        ("incremental", 2_600_000),
    ] {
        let what = format!("{action}, unreadable from {offset} on");
        let outcome = run(action, &[], offset).success();
        let told = "border: Input/output error";
        assert_eq!(outcome.stdout.matches(told).count(), 1, "{what}: {outcome}");
        assert!(
            outcome.stdout.contains("\nErrors 1\n") && !outcome.stdout.contains("RESTART"),
            "{what}: {outcome}"
        );
        let mut expected = source.clone();
        match action {
            "full" => drop(expected.0.remove(&b"border"[..])),
            _ => {
                drop(expected.0.insert(
                    b"border".to_vec(),
                    world.truths[&EARLIER[1]].0[&b"border"[..]].clone(),
                ))
            }
        }
        // The early ones are left out in the same way whoever looks.
        let readers = if offset > 1 << 20 { &[Ours, Old, New][..] } else { &[Ours] };
        readers.iter().for_each(|&reader| {
            world.check(reader, KILLED, &expected, &format!("{what}: {outcome}"))
        });
        // When it can be read, it is saved, by whomever.
        let next = if offset % 2 == 0 { Ours } else { Old };
        Duplicity::new(&world.env, next, world.encoding).backup("incremental", NEXT, &[]);
        world.check(Ours, NEXT, &source, &format!("{what}, then readable again"));
    }
    // Whoever asks for it hears of it by the exit code, when all else is stored.
    let outcome = run("full", &["--fail-on-unreadable"], 2_000_000)
        .failure(91, &["1 paths could not be read", "all else is stored"]);
    let mut expected = source.clone();
    expected.0.remove(&b"border"[..]);
    world.check(Ours, KILLED, &expected, &format!("{outcome}"));
}

/// Many files fail when parts of them are stored: from the first on, each is read through before
/// anything of it is stored, so that no volume is stored again and again.
#[test]
fn many_files_that_cannot_be_read() {
    let env = Encoding::Gzip.env();
    let mut random = crate::support::Random::new(5);
    let bad = env.source().join("bad");
    std::fs::create_dir(&bad).unwrap();
    for number in 0..5 {
        std::fs::write(env.source().join(format!("good-{number}")), random.bytes(700_000)).unwrap();
        std::fs::write(bad.join(number.to_string()), random.bytes(2_300_000)).unwrap();
    }
    let killer = Killer::of_store(&env);
    let log = env.root().join("log");
    let mut command = env.dupfs(Encoding::Gzip);
    command.args(["full", "--volsize", "1", "--no-encryption"]).arg(env.source()).arg(env.url());
    command.env("KILLER_EIO", format!("{}/*@2000000", bad.display()));
    let calls = killer.calls(&log, &mut command);
    let volumes = calls
        .iter()
        .filter(|call| call.name == "rename" && call.path.to_string_lossy().contains(".vol"))
        .count();
    let stored = std::fs::read_dir(env.store())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".vol"));
    let stored = stored.count();
    assert!(stored >= 3 && volumes <= stored + 3, "{volumes} volumes were written for {stored}");
    let target = env.fresh("restored");
    env.ask_to(Encoding::Gzip, &["restore"], &target).success();
    let mut expected = Truth::record(&env.source()).without_link_times();
    expected.0.retain(|path, _| !path.starts_with(b"bad/"));
    crate::support::assert_same(
        &expected,
        &Truth::record(&target).without_link_times(),
        "without the bad ones",
    );
}
