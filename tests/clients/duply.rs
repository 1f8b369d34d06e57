//! duply, a shell script with profiles, which looks at exit codes and shows what `duplicity` says.

use super::{calls, client};
use crate::support::{
    Encoding, Env, Keys, Node, Outcome, PASSPHRASE, Tree, Truth, Version, assert_same,
};
use Version::{Old, Ours};
use std::time::Duration;

fn duply(env: &Env, version: Version, words: &str) -> Outcome {
    Outcome::of(client(env, "duply", version).arg("profile").args(words.split(' ')))
}

/// Returns what `duplicity` has said: what stands between duply's own lines about one command, but
/// for what ours adds.
fn said(outcome: &Outcome) -> Vec<&str> {
    let added = ["--- ", "Reading globbing filelist", "Checked the hashes of "];
    let is_extra = |line: &&str| added.iter().any(|begin| line.starts_with(begin));
    let lines =
        outcome.stdout.lines().skip_while(|line| !line.starts_with("--- Start running command"));
    lines.skip(1).filter(|line| !is_extra(line)).collect()
}

/// Fills in a profile as a user does, and shows that a missing one is made.
fn configure(env: &Env, key: &str) {
    let outcome = duply(env, Ours, "create");
    let profile = env.home().join(".duply/profile");
    assert!(profile.join("conf").exists(), "{outcome}");
    let root = env.root().display();
    let lines = [
        format!("{key}\nTARGET='{}'\nSOURCE='{}'", env.url(), env.source().display()),
        format!("TEMP_DIR='{root}'\nARCH_DIR='{root}/archive'\nVERBOSITY=3"),
        "MAX_AGE=1s\nMAX_FULL_BACKUPS=1\nMAX_FULLS_WITH_INCRS=1\nMAX_FULLBKP_AGE=1M".to_string(),
        "DUPL_PARAMS=\"$DUPL_PARAMS --full-if-older-than $MAX_FULLBKP_AGE --volsize 1\""
            .to_string(),
    ];
    std::fs::write(profile.join("conf"), lines.join("\n")).unwrap();
    std::fs::write(profile.join("exclude"), "- **/left-out\n").unwrap();
}

fn tree(edition: usize) -> Tree {
    let mtime = 1_000_000 + edition as i64;
    let tree = Tree::new(1_000_000)
        .with("left-out", Node::file("never", mtime))
        .with("same", Node::file("as ever", 1_000_000))
        .with("dir", Node::directory(1_000_000))
        .with("dir/changing", Node::file(format!("edition {edition} ").repeat(150_000), mtime));
    if edition == 0 {
        tree.with("gone", Node::file("soon", mtime))
    } else {
        tree.with(format!("new-{edition}"), Node::file("new", mtime))
    }
}

fn saved(edition: usize) -> Truth {
    let mut tree = tree(edition);
    tree.0.remove(&b"left-out"[..]);
    Truth::of(&tree)
}

fn play(env: &Env, key: &str) {
    configure(env, key);
    tree(0).write(None, &env.source());
    duply(env, Old, "backup").success();
    calls(env);

    // The exchange.
    tree(1).write(Some(&tree(0)), &env.source());
    duply(env, Ours, "incr").success();
    assert!(calls(env).iter().any(|call| call.contains("incr") && call.contains("--volsize 1")));
    for reading in ["status", "list", "verify --compare-data", "cleanup", "purgeFull"] {
        let [ours, theirs] = [Ours, Old].map(|version| duply(env, version, reading).success());
        assert_eq!(said(&ours), said(&theirs), "{reading}");
    }
    tree(2).write(Some(&tree(1)), &env.source());
    let [ours, theirs] = [Ours, Old].map(|version| duply(env, version, "verify --compare-data"));
    assert_eq!((ours.code, theirs.code), (1, 1), "{ours}");
    assert_eq!(said(&ours), said(&theirs));

    let fetched = env.root().join("fetched");
    duply(env, Ours, &format!("fetch dir/changing {}", fetched.display())).success();
    assert_eq!(std::fs::read(&fetched).unwrap(), "edition 1 ".repeat(150_000).as_bytes());
    let [ours, theirs] = [Ours, Old].map(|version| {
        duply(env, version, &format!("fetch nothing {}", env.root().join("no").display()))
    });
    assert_eq!(ours.code, theirs.code, "{ours}");
    assert!(
        ours.stderr.contains("exit code '19'") && theirs.stderr.contains("exit code '19'"),
        "{ours}"
    );

    // A full backup, then the first chain goes, in two steps.
    duply(env, Ours, "full").success();
    tree(3).write(Some(&tree(2)), &env.source());
    duply(env, Ours, "backup").success();
    // Until what was saved last is as old.
    std::thread::sleep(Duration::from_secs(2));
    let [ours, theirs] = [Ours, Old].map(|version| duply(env, version, "purge").success());
    assert_eq!(said(&ours), said(&theirs));
    duply(env, Ours, "purgeIncr --force").success();
    assert_eq!(count(env, "duplicity-inc.", ".manifest"), 1);
    duply(env, Ours, "purgeFull --force").success();
    assert_eq!(count(env, "duplicity-full.", ".manifest"), 1);
    let orphan = env
        .store()
        .join("duplicity-new-signatures.20200101T000000Z.to.20200102T000000Z.sigtar.gpg");
    std::fs::write(&orphan, "left over").unwrap();
    duply(env, Ours, "cleanup --force").success();
    assert!(!orphan.exists());

    for version in [Ours, Old] {
        let target = env.fresh(&format!("restored by {version:?}"));
        Outcome::of(client(env, "duply", version).args(["profile", "restore"]).arg(&target))
            .success();
        assert_same(&saved(3), &Truth::record(&target), &format!("restored by {version:?}"));
    }
}

/// Counts the files of a kind.
fn count(env: &Env, begin: &str, kind: &str) -> usize {
    let names = std::fs::read_dir(env.store())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(begin) && name.contains(kind)).count()
}

#[test]
fn with_a_passphrase() {
    play(&Env::new(), &format!("GPG_PW='{PASSPHRASE}'"));
}

#[test]
fn with_a_key_that_also_signs() {
    play(&Encoding::PublicKey.env(), &format!("GPG_KEY='{}'\nGPG_PW=''", &Keys::get().rsa[24..]));
}
