//! Déjà Dup: the real program, without anybody before its window, and what it asks for when
//! somebody restores.

use super::{calls, client};
use crate::support::{Env, Node, Outcome, Tree, Truth, Version, assert_same};

/// Runs a backup as the program does by itself once a week: a private bus, a screen that nobody
/// sees, settings in a file. It has run before, and there is a collection, so that it asks nothing.
fn back_up(env: &Env, version: Version) -> Outcome {
    let script = "set -e
        gsettings set org.gnome.DejaDup backend local
        gsettings set org.gnome.DejaDup.Local folder \"$PWD/store\"
        gsettings set org.gnome.DejaDup include-list \"['$PWD/source']\"
        gsettings set org.gnome.DejaDup exclude-list \"['$PWD/source/left out']\"
        for key in last-run last-backup; do gsettings set org.gnome.DejaDup $key 2026-01-01T00:00:00Z; done
        exec timeout 100 deja-dup --backup";
    let mut command = client(env, "dbus-run-session", version);
    for directory in ["config", "data", "run"] {
        std::fs::create_dir_all(env.root().join(directory)).unwrap();
    }
    command
        .env("GSETTINGS_BACKEND", "keyfile")
        .env("GSK_RENDERER", "cairo")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("NO_AT_BRIDGE", "1");
    command
        .env("XDG_CONFIG_HOME", env.root().join("config"))
        .env("XDG_DATA_HOME", env.root().join("data"));
    command
        .env("XDG_RUNTIME_DIR", env.root().join("run"))
        .env("DEJA_DUP_DEBUG", "1")
        .env("TMPDIR", env.root());
    Outcome::of(command.args(["--", "xvfb-run", "-a", "sh", "-c", script]))
}

fn tree(edition: i64) -> Tree {
    Tree::new(1_000_000)
        .with("left out", Node::file("never", 1_000_000))
        .with("file", Node::file(format!("edition {edition}"), 1_000_000 + edition))
        .with("dir", Node::directory(1_000_000))
        .with("dir/a 'quoted' name", Node::file(vec![edition as u8; 300_000], 1_000_000 + edition))
}

fn play(env: &Env, first: Version) {
    tree(0).write(None, &env.source());
    let inside = format!("--include={}", env.source().display());
    let left_out = format!("--exclude={}", env.source().join("left out").display());
    let mut begin = client(env, "duplicity", first);
    begin.args(["full", "--no-encryption", &left_out, &inside, "--exclude=**", "/", &env.url()]);
    Outcome::of(begin.env("PASSPHRASE", "")).success();
    calls(env);
    tree(1).write(Some(&tree(0)), &env.source());
    let outcome = back_up(env, Version::Ours).success();
    let calls = calls(env);
    let is = |word: &str| calls.iter().any(|call| call.starts_with(word));
    assert!(is("collection-status ") && is("--include=") && is("restore "), "{calls:?}: {outcome}");
    assert!(calls.iter().any(|call| call.contains("--dry-run")), "{calls:?}: {outcome}");
    assert!(
        !outcome.stdout.contains("DUPLICITY: ERROR")
            && !outcome.stderr.contains("DUPLICITY: ERROR"),
        "{outcome}"
    );
    let names: Vec<_> = std::fs::read_dir(env.store())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        names
            .iter()
            .filter(|name| name.starts_with("duplicity-inc.") && name.contains("manifest"))
            .count(),
        1,
        "{names:?}"
    );
    restore(env);
}

/// Asks as the program does for a folder that is restored to where it was.
fn restore(env: &Env) {
    let inside = env.source().strip_prefix("/").unwrap().display().to_string();
    let archive = env.cache().join("deja-dup");
    for version in [Version::Ours, Version::Old] {
        let target = env.root().join(format!("restored by {version:?}"));
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("file"), "is written over").unwrap();
        let log = env.root().join(format!("log of {version:?}"));
        let mut command = client(env, "duplicity", version);
        command.args([
            "restore",
            &format!("--file-to-restore={inside}"),
            "--do-not-restore-ownership",
            "--force",
        ]);
        // The original would need the bus again.
        let prefix = if version == Version::Ours { "gio+" } else { "" };
        command.arg(format!("{prefix}{}", env.url())).arg(&target);
        command.args([
            "--no-encryption",
            "--verbosity=9",
            "--timeout=120",
            &format!("--archive-dir={}", archive.display()),
        ]);
        command
            .arg(format!("--tempdir={}", env.root().display()))
            .arg(format!("--log-file={}", log.display()));
        Outcome::of(command.env("PASSPHRASE", "")).success();
        let mut expected = tree(1);
        expected.0.remove(&b"left out"[..]);
        assert_same(
            &Truth::of(&expected),
            &Truth::record(&target),
            &format!("restored by {version:?}"),
        );
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("INFO 7 'dir/a \\x27quoted\\x27 name' reg\n"), "{version:?}: {log}");
        assert!(log.lines().any(|line| line.starts_with("INFO 2 1 ")), "{version:?}: {log}");
    }
}

#[test]
fn goes_on_with_its_own_collection() {
    play(&Env::new(), Version::Ours);
}

#[test]
fn goes_on_with_the_collection_of_the_original() {
    play(&Env::new(), Version::Old);
}
