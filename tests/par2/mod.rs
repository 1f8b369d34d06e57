//! Recovery files beside each file: both ways with the originals, damage that they mend, and none of
//! them at hand.

use crate::support::{Env, Mounted, Outcome, Random, Version};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const TIME: i64 = 1_700_000_000;
/// Few blocks, since par2 takes seconds for the usual 2000.
const QUICK: &str = "--par2-options=-b40";

fn url(env: &Env) -> String {
    format!("par2+{}", env.url())
}

/// Prepares a program on unencrypted backups.
fn program(env: &Env, version: Version) -> Command {
    let mut command = env.command(version.checked());
    command.arg("--no-encryption");
    command
}

fn write_source(env: &Env) {
    std::fs::write(env.source().join("a"), Random::new(3).bytes(60_000)).unwrap();
    std::fs::write(env.source().join("b"), "b").unwrap();
}

fn save(env: &Env, version: Version, options: &[&str]) -> Outcome {
    let mut command = program(env, version);
    command.args(["full", QUICK, "--current-time", &TIME.to_string()]).args(options);
    Outcome::of(command.arg("source").arg(url(env)))
}

/// Restores all, and compares it with the source.
#[track_caller]
fn restore(env: &Env, mut command: Command, name: &str) -> Outcome {
    let target = env.fresh(name);
    let outcome = Outcome::of(command.arg("restore").arg(url(env)).arg(&target));
    is_source(&target, env, &outcome.to_string());
    outcome
}

#[track_caller]
fn is_source(place: &Path, env: &Env, said: &str) {
    for file in ["a", "b"] {
        let (found, expected) =
            [place, &env.source()].map(|place| std::fs::read(place.join(file)).ok()).into();
        assert!(found == expected, "{}: {file}: {said}", place.display());
    }
}

/// Returns the names of the stored files, those of recovery files last.
fn names(env: &Env) -> (Vec<String>, Vec<String>) {
    let entries = std::fs::read_dir(env.store()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.partition(|name| !name.ends_with(".par2"))
}

/// Changes a byte in the middle of each file, and keeps what its name says; or cuts its end off.
fn damage(env: &Env, cuts: bool) {
    for name in names(env).0 {
        let file = File::options().read(true).write(true).open(env.store().join(name)).unwrap();
        let length = file.metadata().unwrap().len();
        if cuts {
            file.set_len(length - length / 50 - 1).unwrap();
            continue;
        }
        let mut byte = [0];
        file.read_exact_at(&mut byte, length / 2).unwrap();
        file.write_all_at(&[byte[0] ^ 1], length / 2).unwrap();
    }
}

/// Whoever has made the recovery files, dupfs mends each file by them, for every reader; and the
/// original mends by ours.
#[test]
fn damage_is_mended() {
    for (writer, cuts) in [(Version::Ours, true), (Version::Old, false), (Version::New, false)] {
        let env = Env::new();
        write_source(&env);
        save(&env, writer, &[]).success();
        let (files, recovery) = names(&env);
        assert_eq!((files.len(), recovery.len()), (3, 6), "{recovery:?}");
        if writer == Version::Ours {
            [Version::Old, Version::New].into_iter().for_each(|version| {
                env.clear_caches();
                restore(&env, program(&env, version), &format!("theirs-{version:?}")).success();
            });
        }
        damage(&env, cuts);
        if writer == Version::Ours {
            env.clear_caches();
            let outcome = restore(&env, program(&env, Version::Old), "mended-by-old").success();
            assert!(outcome.stdout.contains("Repair successful"), "{outcome}");
        }
        let ours = || program(&env, Version::Ours);
        env.clear_caches();
        // What is for making recovery files only does not keep them from being used.
        let mut command = ours();
        command.arg(QUICK);
        let outcome = restore(&env, command, "mended").success();
        // A manifest that is not encrypted may have lost what nobody needs.
        for name in files.iter().filter(|name| !name.contains("manifest")) {
            for text in ["File is corrupt. Try to repair", "Repair successful"] {
                assert!(outcome.stdout.contains(&format!("{text} {name}")), "{outcome}");
            }
        }
        env.clear_caches();
        let words = ["list-current-files", &url(&env)];
        assert!(Outcome::of(ours().args(words)).success().stdout.contains(" b\n"));
        env.clear_caches();
        let words = ["verify", "--compare-data", &url(&env), "source"];
        let outcome = Outcome::of(ours().args(words)).success();
        assert!(outcome.stdout.contains(" 0 differences found"), "{outcome}");
        // With what a pass has left in the catalog, and without.
        for _ in 0..2 {
            let mut mount = ours();
            mount.args(["mount", "--foreground", &url(&env)]).arg(env.mountpoint());
            let mounted = Mounted::start(mount, &env.mountpoint());
            is_source(&mounted.at(TIME), &env, &mounted.log());
            drop(mounted);
            env.clear_caches();
        }
    }
}

/// Without recovery files, or without the program, sound files are read as always, and damaged ones
/// fail as always; but nothing is stored without it.
#[test]
fn recovery_that_is_not_there() {
    let env = Env::new();
    write_source(&env);
    save(&env, Version::Ours, &[]).success();
    let without = || {
        let mut command = program(&env, Version::Ours);
        command.env("PATH", env.fresh("no-programs"));
        command
    };
    env.clear_caches();
    restore(&env, without(), "sound").success();
    let outcome = Outcome::of(without().args(["full", QUICK, "source"]).arg(url(&env)));
    outcome.failure(50, &["cannot run par2", "leave par2+ out"]);

    let volume = names(&env).0.into_iter().find(|name| name.contains("vol1.difftar")).unwrap();
    let file = File::options().write(true).open(env.store().join(&volume)).unwrap();
    file.write_all_at(&[0; 100], 30_000).unwrap();
    env.clear_caches();
    let wrong = |mut command: Command, name: &str| {
        let target = env.fresh(name);
        let outcome = Outcome::of(command.arg("restore").arg(url(&env)).arg(&target));
        assert!(!target.join("a").exists());
        outcome.failure(21, &["is damaged"])
    };
    let outcome = wrong(without(), "wrong");
    assert!(outcome.to_string().contains(&format!("install it to repair {volume}")), "{outcome}");
    // One of them alone mends nothing, and neither do those of another file.
    names(&env).1.iter().filter(|name| name.contains("+")).for_each(|name| {
        std::fs::remove_file(env.store().join(name)).unwrap();
    });
    let outcome = wrong(program(&env, Version::Ours), "still");
    assert!(outcome.to_string().contains(&format!("Failed to repair {volume}")), "{outcome}");
    names(&env).1.iter().for_each(|name| std::fs::remove_file(env.store().join(name)).unwrap());
    wrong(program(&env, Version::Ours), "never");
    env.clear_caches();
    let outcome = Outcome::of(program(&env, Version::Ours).arg("collection-status").arg(url(&env)));
    outcome.success();
}

/// As many as asked for, beside each file; deleted with it.
#[test]
fn recovery_files_come_and_go_with_their_files() {
    let env = Env::new();
    write_source(&env);
    let options = ["--par2-redundancy", "30", "--par2-volumes", "2"];
    save(&env, Version::Ours, &options).success();
    let (files, recovery) = names(&env);
    assert_eq!((files.len(), recovery.len()), (3, 9));
    // More than there are blocks: made with one.
    let mut command = program(&env, Version::Ours);
    let time = (TIME + 9).to_string();
    command.args(["full", QUICK, "--current-time", &time, "--par2-volumes", "32000"]);
    let outcome = Outcome::of(command.arg("source").arg(url(&env))).success();
    assert!(outcome.stdout.contains("retrying with -n1"), "{outcome}");
    let mut command = program(&env, Version::Ours);
    let words = ["remove-all-but-n-full", "1", "--force"];
    Outcome::of(command.args(words).arg(url(&env))).success();
    let (files, recovery) = names(&env);
    assert_eq!((files.len(), recovery.len()), (3, 6));
    assert!(recovery.iter().all(|name| name.contains("20231114T221329Z")), "{recovery:?}");
    let status = Outcome::of(program(&env, Version::Ours).arg("collection-status").arg(url(&env)));
    assert!(!status.success().stdout.contains("par2"));
}

/// Around a mirror: the copy of the other store first, and what neither has whole is mended.
#[test]
fn around_a_mirror() {
    let env = Env::new();
    write_source(&env);
    let stores = ["one", "two"].map(
        |name| serde_json::json!({ "url": format!("file://{}", env.root().join(name).display()) }),
    );
    let config = env.root().join("multi.json");
    std::fs::write(&config, serde_json::json!(stores).to_string()).unwrap();
    let url = format!("par2+multi://{}?mode=mirror", config.display());
    let run = |words: &[&str]| Outcome::of(program(&env, Version::Ours).args(words));
    run(&["full", QUICK, "source", &url]).success();
    for (store, words) in
        [("one", "reading the copy in another store"), ("two", "Repair successful")]
    {
        for entry in std::fs::read_dir(env.root().join(store)).unwrap() {
            let path = entry.unwrap().path();
            if !path.to_string_lossy().ends_with(".par2") {
                let file = File::options().write(true).open(path).unwrap();
                let length = file.metadata().unwrap().len();
                file.write_all_at(b"?", length - 40).unwrap();
            }
        }
        env.clear_caches();
        let target = env.fresh(&format!("restored-{store}"));
        let outcome = run(&["restore", &url, target.to_str().unwrap()]).success();
        is_source(&target, &env, &outcome.to_string());
        assert!(outcome.stdout.contains(words), "{outcome}");
    }
}
