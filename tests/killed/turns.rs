//! Between a death and the next run the source turns into something else: files into folders and
//! back, and the file that is stored in part is left out.

use super::killer::{Killer, Operation};
use super::{AFTERWARDS, EARLIER, KILLED, NEXT, Outcome, World};
use crate::support::{Duplicity, Encoding, Random, Truth, Version};
use std::path::PathBuf;

use Version::{New, Old, Ours};

/// Kills a session at the beginning of each volume but the first, and once behind the last, and
/// says each time where the next run would go on: the path, and whether inside of it.
fn between_volumes(world: &World, action: &str, mut then: impl FnMut(&str, bool)) {
    world.keep("before");
    let calls = Killer::of(&world.env)
        .calls(&world.env.root().join("log"), &mut world.backup(action, KILLED));
    let is_place = |path: &str| {
        path.contains(".vol") && !path.contains(".vol1.") || path.contains("sigtar.gz")
    };
    let places =
        calls.iter().filter(|call| call.name == "open" && is_place(&call.path.to_string_lossy()));
    for at in places.map(|call| call.number) {
        world.bring_back("before");
        world.kill(action, at, Operation::Kill);
        world.keep("killed");
        let said = Outcome::of(&mut world.backup(action, NEXT)).success().stdout;
        let line = said
            .lines()
            .find(|line| line.starts_with("Restarting after"))
            .unwrap_or_else(|| panic!("at {at}: {said}"));
        let (file, block) = line.split_once("file ").unwrap().1.split_once(", block ").unwrap();
        world.bring_back("killed");
        then(file, block != "None");
    }
}

fn copy(from: PathBuf, to: PathBuf) {
    let _ = std::fs::remove_dir_all(&to);
    Outcome::of(std::process::Command::new("cp").arg("-a").arg(from).arg(to)).success();
}

/// Whatever is stored already stays; what lies below a path that is stored as a file, or as gone,
/// is left to the next session.
fn turn(action: &str) {
    let world = World::new(Encoding::Gzip, Ours);
    // Many small files, so that some volumes end between two of them.
    let mut random = Random::new(8);
    let small: Vec<String> = (10..50).map(|number| format!("c/{number}")).collect();
    std::fs::create_dir(world.env.source().join("c")).unwrap();
    small.iter().for_each(|name| {
        std::fs::write(world.env.source().join(name), random.bytes(60_000)).unwrap()
    });
    world.touch(1_600_002_000);
    let mut outside = 0;
    let old = Truth::record(&world.env.source()).without_link_times();
    let (source, saved) = (world.env.source(), world.env.root().join("saved-source"));
    copy(source.clone(), saved.clone());
    between_volumes(&world, action, |last, is_inside| {
        outside += usize::from(!is_inside);
        let what = format!("{action}, border at {last}");
        // Each file becomes a folder, each folder a file.
        for name in
            ["a", "b", "border", "z", "gone"].into_iter().chain(small.iter().map(String::as_str))
        {
            let _ = std::fs::remove_file(source.join(name));
            std::fs::create_dir(source.join(name)).unwrap();
            std::fs::write(source.join(name).join("below"), b"below").unwrap();
        }
        std::fs::remove_dir_all(source.join("d")).unwrap();
        std::fs::write(source.join("d"), b"no folder").unwrap();
        world.touch(1_600_004_000);
        let new = Truth::record(&source).without_link_times();
        let outcome = Outcome::of(&mut world.backup(action, NEXT)).success();
        world.env.prove(world.encoding, NEXT).success();
        for reader in [Ours, Old, New] {
            let target = world.env.fresh("resumed");
            Duplicity::new(&world.env, reader, world.encoding).restore(NEXT, &target);
            let resumed = Truth::record(&target).without_link_times();
            for (path, seen) in &resumed.0 {
                let is_either = [&old, &new].iter().any(|truth| {
                    truth.0.get(path).is_some_and(|known| known.content == seen.content)
                });
                assert!(
                    is_either,
                    "{what}: {reader:?}: '{}' is neither old nor new: {seen:?}; {outcome}",
                    path.escape_ascii()
                );
            }
            std::fs::remove_dir_all(&target).unwrap();
        }
        Outcome::of(&mut world.backup("incremental", AFTERWARDS)).success();
        for reader in [Ours, Old] {
            world.check(reader, AFTERWARDS, &new, &format!("{what}, run twice: {outcome}"));
        }
        world.check(Ours, EARLIER[1], &world.truths[&EARLIER[1]], &what);
        copy(saved.clone(), source.clone());
    });
    assert!(outside > 1, "all volumes end inside files");
}

#[test]
fn an_increment() {
    turn("incremental");
}

#[test]
fn a_full_backup() {
    turn("full");
}

/// The file that is stored in part is excluded when the session goes on, and nothing comes behind
/// it.
#[test]
fn the_file_at_the_border_is_left_out() {
    for action in ["incremental", "full"] {
        let world = World::new(Encoding::Gzip, Ours);
        let mut times = 0;
        between_volumes(&world, action, |last, is_inside| {
            times += usize::from(is_inside);
            let root = world.env.source();
            let behind = std::fs::read_dir(&root)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let excluded: Vec<_> =
                behind.filter(|name| name.as_str() > last).chain([last.to_string()]).collect();
            let mut command = world.backup(action, NEXT);
            command.args(
                excluded.iter().map(|name| format!("--exclude={}", root.join(name).display())),
            );
            let outcome = Outcome::of(&mut command).success();
            let mut expected = Truth::record(&root).without_link_times();
            let is_excluded = |path: &[u8]| {
                excluded.iter().any(|name| {
                    path == name.as_bytes() || path.starts_with(format!("{name}/").as_bytes())
                })
            };
            expected.0.retain(|path, _| !is_excluded(path));
            if is_inside {
                for reader in [Ours, Old] {
                    world.check(
                        reader,
                        NEXT,
                        &expected,
                        &format!("{action}, without {excluded:?}: {outcome}"),
                    );
                }
            }
        });
        assert!(times > 0, "no volume ends inside a file");
    }
}
