//! Ours is killed, a duplicity goes on and fails, ours goes on again: signatures and volumes must
//! still belong together. And a duplicity is killed as we are.

use super::killer::{Call, Killer, Operation};
use super::{AFTERWARDS, EARLIER, KILLED, NEXT, Outcome, World};
use crate::support::{Encoding, Truth, Version};

use Version::{New, Old, Ours};

fn play(action: &str, version: Version, volume: u32) {
    let what = format!("{action}, {version:?} fails at volume {volume}");
    let world = World::new(Encoding::Gzip, Ours);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let calls = Killer::of(&world.env)
        .calls(&world.env.root().join("log"), &mut world.backup(action, KILLED));
    world.bring_back("before");
    let mut opens = calls
        .iter()
        .filter(|call| call.name == "open" && call.path.to_string_lossy().contains(".vol"));
    world.kill(action, opens.next_back().unwrap().number, Operation::Kill);

    let mut duplicity = world.env.command(version.checked());
    duplicity.args([
        action,
        "--volsize",
        "1",
        "--current-time",
        &NEXT.to_string(),
        "--fail-on-volume",
        &volume.to_string(),
    ]);
    duplicity.args(world.encoding.writing()).arg(world.env.source()).arg(world.env.url());
    let failed = Outcome::of(&mut duplicity);
    assert_ne!(failed.code, 0, "{what}: {failed}");

    let outcome = Outcome::of(&mut world.backup("backup", NEXT + 500)).success();
    for reader in [Ours, Old, New] {
        world.check(reader, NEXT + 500, &source, &format!("{what}: {failed}, then {outcome}"));
    }
    world.check(Ours, EARLIER[1], &world.truths[&EARLIER[1]], &what);
    // Everything is touched, so that the signature of everything is used.
    for name in ["a", "b", "border", "d/new", "z"] {
        let path = world.env.source().join(name);
        let mut content = std::fs::read(&path).unwrap();
        content.splice(5000..5000, *b"a few bytes more");
        std::fs::write(path, content).unwrap();
    }
    world.touch(1_600_003_000);
    let changed = Truth::record(&world.env.source()).without_link_times();
    Outcome::of(&mut world.backup("incremental", AFTERWARDS)).success();
    for reader in [Ours, Old] {
        world.check(
            reader,
            AFTERWARDS,
            &changed,
            &format!("{what}, an increment on it: {failed}, then {outcome}"),
        );
    }
}

#[test]
fn a_full_backup_by_0_8() {
    (4..=5).for_each(|volume| play("full", Old, volume));
}

#[test]
fn a_full_backup_by_3_2() {
    (3..=5).for_each(|volume| play("full", New, volume));
}

#[test]
fn an_increment_by_either() {
    play("incremental", Old, 2);
    play("incremental", New, 3);
}

/// Kills a duplicity at some of the calls that change storage and archive directory: `DUPFS_LONG=1`
/// at all of them.
fn kill_theirs(action: &str, version: Version) {
    let world = World::new(Encoding::Gzip, version);
    let source = Truth::record(&world.env.source()).without_link_times();
    world.keep("before");
    let z = std::fs::read(world.env.source().join("z")).unwrap();
    let duplicity = || {
        let mut command = world.env.command(version.checked());
        command.args([action, "--volsize", "1", "--current-time", &KILLED.to_string()]);
        command.args(world.encoding.writing()).arg(world.env.source()).arg(world.env.url());
        command
    };
    let calls = Killer::of(&world.env).calls(&world.env.root().join("log"), &mut duplicity());
    // What matters to others are names that come and go.
    let is_name = |call: &&Call| {
        ["rename", "unlink"].contains(&call.name.as_str())
            || call.name == "open" && call.path.starts_with(world.env.store())
    };
    let named: Vec<_> = calls.iter().filter(is_name).collect();
    assert!(named.len() > 8, "{calls:?}");
    let step = if std::env::var_os("DUPFS_LONG").is_some() { 1 } else { named.len().div_ceil(7) };
    for call in named.iter().rev().step_by(step) {
        world.bring_back("before");
        let killed =
            Outcome::of(Killer::of(&world.env).at(call.number, Operation::Kill, &mut duplicity()));
        assert_eq!(killed.code, 137, "{killed}");
        let what = format!("{action} by {version:?} killed at {} {:?}", call.name, call.path);
        world.check_all(&[Ours], &what);
        let outcome = Outcome::of(&mut world.backup("backup", NEXT)).success();
        for reader in [Ours, Old, New] {
            world.check(reader, NEXT, &source, &format!("{what}: {outcome}"));
        }
        std::fs::write(world.env.source().join("z"), b"short now").unwrap();
        world.touch(1_600_003_000);
        let changed = Truth::record(&world.env.source()).without_link_times();
        Outcome::of(&mut world.backup("incremental", AFTERWARDS)).success();
        world.check(Ours, AFTERWARDS, &changed, &format!("{what}, an increment on it: {outcome}"));
        std::fs::write(world.env.source().join("z"), &z).unwrap();
        world.touch(1_600_002_000);
    }
}

#[test]
fn a_full_backup_of_theirs() {
    [Old, New].into_iter().for_each(|version| kill_theirs("full", version));
}

#[test]
fn an_increment_of_theirs() {
    [Old, New].into_iter().for_each(|version| kill_theirs("incremental", version));
}

/// A duplicity that is killed while it encrypts a manifest leaves the beginning of that in the
/// archive directory, under the name that it has in storage. Whoever goes on must not leave it
/// there: both originals would read it in place of the manifest, and restore nothing.
#[test]
fn a_manifest_on_its_way_to_storage() {
    let world = World::new(Encoding::Symmetric, Old);
    let source = Truth::record(&world.env.source()).without_link_times();
    let mut duplicity = world.env.command(Old.checked());
    world.encoding.secrets(&mut duplicity);
    duplicity.args([
        "full",
        "--volsize",
        "1",
        "--current-time",
        &KILLED.to_string(),
        "--fail-on-volume",
        "3",
    ]);
    let failed = Outcome::of(duplicity.arg(world.env.source()).arg(world.env.url()));
    let names = || {
        std::fs::read_dir(world.archive())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
    };
    let part =
        names().find(|name| name.ends_with(".manifest.part")).unwrap_or_else(|| panic!("{failed}"));
    let left = part.replace(".part", ".gpg");
    std::fs::write(world.archive().join(&left), "").unwrap();

    let outcome = Outcome::of(&mut world.backup("backup", NEXT)).success();
    assert!(outcome.stdout.contains("Restarting after volume"), "{outcome}");
    assert!(names().all(|name| name != left), "{outcome}");
    for reader in [Old, New, Ours] {
        world.check(reader, NEXT, &source, &format!("{failed}, then {outcome}"));
    }
}
