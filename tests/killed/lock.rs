//! Who comes while a session runs: the same archive directory is refused at once, another one saves
//! to the same place beside it.

use super::killer::{Killer, Operation};
use super::{KILLED, NEXT, Outcome, World};
use crate::support::{Encoding, Truth, Version};
use std::path::Path;
use std::process::Command;

use Version::{New, Old, Ours};

/// Runs a script in the middle of a session: when the second volume is begun.
fn meanwhile(world: &World, script: &str) -> Outcome {
    world.keep("before");
    let calls = Killer::of_store(&world.env)
        .calls(&world.env.root().join("log"), &mut world.backup("full", KILLED));
    world.bring_back("before");
    let is_place = |path: &Path| path.to_string_lossy().contains(".vol2.");
    let place = calls.iter().find(|call| call.name == "open" && is_place(&call.path)).unwrap();
    Outcome::of(Killer::of_store(&world.env).at(
        place.number,
        Operation::Run(script),
        &mut world.backup("full", KILLED),
    ))
}

/// Prints a command for the shell.
fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}' ", word.to_str().unwrap())).collect()
}

#[test]
fn one_session_at_a_time() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    let said = world.env.root().join("said");
    let mut script = String::new();
    for version in [Ours, Old, New] {
        let mut command = world.backup("full", NEXT);
        if version != Ours {
            command = Command::new(version.checked());
            command.args(["full", "--no-encryption", "--current-time", &NEXT.to_string()]);
            command.arg(world.env.source()).arg(world.env.url());
        }
        let (words, said) = (words(&command), said.display());
        script += &format!(
            "timeout 20 {words} >>'{said}' 2>&1; echo \"{version:?}: exit code $?\" >>'{said}'\n"
        );
    }
    script += ":";
    let outcome = meanwhile(&world, &script).success();
    let said = std::fs::read_to_string(&said).unwrap();
    for version in [Ours, Old, New] {
        assert!(said.contains(&format!("{version:?}: exit code 23\n")), "{said}");
    }
    assert_eq!(
        said.matches("Another duplicity instance is already running with this archive directory")
            .count(),
        3,
        "{said}"
    );
    for reader in [Ours, Old] {
        world.check(reader, KILLED, &source, &format!("others came: {said}, {outcome}"));
    }
    assert!(!world.archive().join("lockfile").exists());
}

/// A lock file that nobody holds means nothing.
#[test]
fn a_lock_file_that_is_left() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    std::fs::write(world.archive().join("lockfile"), "").unwrap();
    Outcome::of(&mut world.backup("incremental", KILLED)).success();
    world.check(Ours, KILLED, &source, "beside a lock file");
    assert!(!world.archive().join("lockfile").exists());
}

/// There is no lock on a storage: two names are two sessions, neither of which touches what is the
/// other's.
#[test]
fn two_names_at_a_time() {
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    let mut other = world.backup("full", NEXT);
    other.args(["--name", "other"]);
    let said = world.env.root().join("said");
    let script = format!("{} >'{}' 2>&1", words(&other), said.display());
    let outcome = meanwhile(&world, &script).success();
    let said = std::fs::read_to_string(&said).unwrap();
    assert!(!outcome.stderr.contains("has failed"), "{said}: {outcome}");
    for time in [KILLED, NEXT] {
        for reader in [Ours, Old] {
            world.check(reader, time, &source, &format!("two at a time: {said}, {outcome}"));
        }
    }
}
