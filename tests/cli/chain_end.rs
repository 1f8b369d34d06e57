//! A newest chain whose end is not whole, and stored metadata that cannot be read: backups go on
//! with what is whole, as the originals do, and clean-up takes what is of no use to anybody.

use crate::support::{Env, Outcome, Truth, Version};
use Version::{New, Old, Ours};
use std::path::Path;
use std::process::Command;

const TIME: i64 = 1_785_585_600;
const LAST: &str = "20260801T121320Z";
const SIGNATURES: &str = "20260801T121320Z.sigtar";
const VOLUMES: &str = "20260801T121320Z.vol";

/// Makes a full set and two increments by an original, of a source that has changed once more
/// since.
fn world() -> Env {
    let env = Env::new();
    for (number, action) in (0..).zip(["full", "incremental", "incremental"]) {
        std::fs::write(env.source().join(format!("file-{number}")), [number; 1000]).unwrap();
        let mut command = env.command(Old.checked());
        command.args([
            action,
            "--no-encryption",
            "--current-time",
            &(TIME + 400 * i64::from(number)).to_string(),
        ]);
        Outcome::of(command.arg(env.source()).arg(env.url())).success();
    }
    std::fs::write(env.source().join("file-3"), [3; 1000]).unwrap();
    env
}

/// Gives a program a copy of the collection without the files that hold one of these words, and no
/// cache.
fn copy(env: &Env, version: Version, lost: &[&str]) {
    let store = env.store_of(version);
    let _ = std::fs::remove_dir_all(&store);
    Outcome::of(Command::new("cp").arg("-a").arg(env.store()).arg(&store)).success();
    for name in names(&store).iter().filter(|name| lost.iter().any(|word| name.contains(word))) {
        std::fs::remove_file(store.join(name)).unwrap();
    }
    env.clear_caches();
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn run(env: &Env, version: Version, action: &str) -> Outcome {
    let mut words = vec![action, "--no-encryption"];
    let (time, source) = ((TIME + 5000).to_string(), env.source());
    if action != "cleanup" {
        words.extend(["--current-time", &time, source.to_str().unwrap()]);
    }
    env.type_in(version, &words)
}

/// The set at the end is discarded by all three, and the next stands on the one before; all that is
/// in the source is in it.
#[test]
fn an_increment_builds_on_the_last_whole_set() {
    let env = world();
    let is_new = |name: &String| name.contains("20260801T132320Z");
    for (lost, readers) in [
        (&[SIGNATURES][..], &[Old, New, Ours][..]),
        (&[SIGNATURES, VOLUMES], &[Old, Ours]),
        (&[VOLUMES], &[Ours]),
    ] {
        let made = readers.iter().map(|&version| {
            copy(&env, version, lost);
            let outcome = run(&env, version, "incremental").success();
            if lost.contains(&SIGNATURES) && version != New {
                let words =
                    "Warning, discarding last backup set, because of missing signature file.";
                assert!(outcome.stdout.contains(words), "{version:?}, {lost:?}: {outcome}");
            }
            names(&env.store_of(version)).into_iter().filter(is_new).collect::<Vec<_>>()
        });
        for made in made.collect::<Vec<_>>() {
            assert!(
                made.len() == 3
                    && made
                        .iter()
                        .all(|name| name.contains("20260801T120640Z.to.20260801T132320Z")),
                "{lost:?}: {made:?}"
            );
        }
        for reader in [Old, Ours] {
            env.clear_caches();
            let target = env.fresh("target");
            let mut command = env.command(reader.checked());
            Outcome::of(
                command.args(["restore", "--no-encryption", &env.url_of(Ours)]).arg(&target),
            )
            .success();
            crate::support::assert_same(
                &Truth::record(&env.source()),
                &Truth::record(&target),
                &format!("{reader:?}, {lost:?}"),
            );
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// A manifest alone goes, as by the originals. A set that lacks only its signature file, which
/// these delete, stays, and can be restored.
#[test]
fn clean_up_takes_what_cannot_be_restored() {
    let env = world();
    copy(&env, Old, &[SIGNATURES, VOLUMES]);
    copy(&env, Ours, &[SIGNATURES, VOLUMES]);
    let told = [Old, Ours].map(|version| run(&env, version, "cleanup").success().stdout);
    for told in told {
        assert!(
            told.contains(&format!(
                "to delete:\nduplicity-inc.20260801T120640Z.to.{LAST}.manifest\nRun"
            )),
            "{told}"
        );
    }
    env.type_in(Ours, &["cleanup", "--no-encryption", "--force"]).success();
    assert!(!names(&env.store_of(Ours)).iter().any(|name| name.contains(LAST)));
    copy(&env, Ours, &[SIGNATURES]);
    let told = env.type_in(Ours, &["cleanup", "--no-encryption", "--force"]).success().stdout;
    assert!(told.contains("No extraneous files found"), "{told}");
    let target = env.fresh("target");
    Outcome::of(
        env.command(Ours.checked())
            .args(["restore", "--no-encryption", &env.url_of(Ours)])
            .arg(&target),
    )
    .success();
    assert!(target.join("file-2").exists());
}

/// Full backups and clean-up need nothing of what is stored, so that nothing of it can keep them
/// from their work.
#[test]
fn metadata_that_is_not_needed_is_not_fetched() {
    let env = world();
    copy(&env, Ours, &[]);
    let store = env.store_of(Ours);
    for name in names(&store).iter().filter(|name| !name.contains(".vol")) {
        std::fs::write(store.join(name), "none").unwrap();
    }
    for words in [
        &["cleanup"][..],
        &["full", "--dry-run", "source"],
        &["backup", "--full-if-older-than", "1s", "source"],
    ] {
        let said = env.type_in(Ours, &[words, &["--no-encryption"]].concat()).success().stdout;
        assert!(
            !said.contains("Copying") && !said.contains("are synchronized"),
            "{words:?}: {said}"
        );
    }
}

/// What an action has no need of may be unreadable: the metadata of other chains for most, all
/// metadata for those that go by names.
#[test]
fn no_action_reads_metadata_that_it_does_not_need() {
    let env = world();
    let mut command = env.command(Old.checked());
    command.args(["full", "--no-encryption", "--current-time", &(TIME + 86_400).to_string()]);
    Outcome::of(command.arg(env.source()).arg(env.url())).success();
    let (source, target, url) = (env.source(), env.root().join("target"), env.url_of(Ours));
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    let (now, yesterday) = ((TIME + 2 * 86_400).to_string(), (TIME + 80_000).to_string());
    let by_names: [&[&str]; 6] = [
        &["full", "--current-time", &now, source, &url],
        &["cleanup", "--force", &url],
        &["collection-status", &url],
        &["remove-older-than", &yesterday, "--force", &url],
        &["remove-all-but-n-full", "1", "--force", &url],
        &["remove-all-inc-of-but-n-full", "1", "--force", &url],
    ];
    let in_one_chain: [&[&str]; 4] = [
        &["incremental", "--current-time", &now, source, &url],
        &["list-current-files", &url],
        &["verify", "--compare-data", &url, source],
        &["restore", &url, target],
    ];
    let actions = by_names
        .iter()
        .map(|words| (words, "2026080"))
        .chain(in_one_chain.iter().map(|words| (words, "20260801")));
    for (words, garbled) in actions {
        copy(&env, Ours, &[]);
        let is_garbled = |name: &&String| {
            (name.contains("sigtar") || name.contains("manifest")) && name.contains(garbled)
        };
        for name in names(&env.store_of(Ours)).iter().filter(is_garbled) {
            std::fs::write(env.store_of(Ours).join(name), "garbage").unwrap();
        }
        Outcome::of(env.command(Ours.checked()).args(*words).arg("--no-encryption")).success();
    }
}
